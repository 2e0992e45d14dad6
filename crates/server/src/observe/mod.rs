//! Readers of facts: what an operator can count and read. None of them sees a body or a token, because no fact bears one.

pub mod logs;
pub mod metrics;

use std::sync::Arc;

use fireside_core::{Fact, Facts};

/// Several readers of the same facts.
pub struct Fan(Vec<Arc<dyn Facts>>);

impl Fan {
    /// Every fact is said to all of `readers`, in this order.
    pub fn new(readers: Vec<Arc<dyn Facts>>) -> Self {
        Fan(readers)
    }
}

impl Facts for Fan {
    fn say(&self, fact: Fact) {
        let Some((last, others)) = self.0.split_last() else { return };
        for reader in others {
            reader.say(fact.clone());
        }
        last.say(fact);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn everybody_hears_every_fact() {
        #[derive(Default)]
        struct Heard(Mutex<u32>);
        impl Facts for Heard {
            fn say(&self, _: Fact) {
                *self.0.lock().unwrap() += 1;
            }
        }
        let readers: Vec<Arc<Heard>> = (0..3).map(|_| Arc::default()).collect();
        let fan = Fan::new(readers.iter().map(|reader| reader.clone() as Arc<dyn Facts>).collect());
        fan.say(Fact::Duplicate);
        fan.say(Fact::Detached);
        assert!(readers.iter().all(|reader| *reader.0.lock().unwrap() == 2));
        Fan::new(Vec::new()).say(Fact::Duplicate);
    }
}
