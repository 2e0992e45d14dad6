//! The simulated log and link pass the suites that every log and link must pass.

use std::sync::Arc;

use fireside_core::Durability;
use fireside_node::conformance::{self, Peer, Rig};
use fireside_node::ports::{Log, Soon};
use fireside_store::{Options, Start, Store};

use crate::disk::Medium;
use crate::executor::Executor;
use crate::link::{Brought, Pipe};
use crate::log::{Parts, SimLog};
use crate::seed::Seed;
use crate::told::Told;
use crate::trace::Trace;

fn executor(seed: u64) -> Executor {
    Executor::new(Seed::new(seed, 1), Trace::new(false))
}

fn run_on(executor: &Executor) -> impl Fn(Soon<()>) {
    let executor = executor.clone();
    move |task| executor.run(task, executor.now_ms() + 600_000).expect("it comes to its end")
}

fn log(executor: &Executor, seed: u64) -> Arc<dyn Log> {
    let trace = Trace::new(false);
    let medium = Medium::new(Seed::new(seed, 2), trace.clone());
    let start = Start { life: 1, boot_id: "boot".to_owned(), now_ms: 1_000_000 };
    let options = Options { segment_bytes: 64 << 10, cache_bytes: 0, ..Options::default() };
    let (store, _) = Store::open(medium.mount(1), options, start).expect("an empty disk opens");
    let parts = Parts {
        store: Arc::new(store),
        executor: executor.clone(),
        seed: Seed::new(seed, 3),
        trace,
        dies: Box::new(|| panic!("the process has no reason to die")),
        died: Box::new(|| false),
        now_ms: 1_000_000,
    };
    SimLog::start(parts, 1)
}

#[test]
fn the_simulated_log_is_a_log_in_every_degree() {
    for seed in 0..10 {
        for durability in [Durability::Fsync, Durability::Os, Durability::Memory] {
            let executor = executor(seed);
            conformance::log(&run_on(&executor), &|| log(&executor, seed), durability);
            executor.clear();
        }
    }
}

struct End(Arc<Pipe>);

impl Peer for End {
    fn take(&mut self) -> Soon<Option<u64>> {
        let pipe = self.0.clone();
        Box::pin(async move {
            match std::future::poll_fn(|cx| pipe.poll_brought(cx)).await {
                Brought::Over(_) => None,
                Brought::Told(told) => match told.into_iter().next() {
                    Some(Told::Records(_, _, records)) => records.first().map(|record| record.offset),
                    _ => Some(0),
                },
            }
        })
    }

    fn leave(&mut self) {
        self.0.leave();
    }
}

#[test]
fn the_simulated_link_is_a_link_with_bytes_and_without() {
    for seed in 0..10 {
        for wire in [false, true] {
            for capacity in [500, 20_000] {
                let executor = executor(seed);
                let rig = || {
                    let pipe = Pipe::new(wire, capacity, 20, Seed::new(seed, 2), Trace::new(false));
                    Rig { link: pipe.link(), peer: Box::new(End(pipe)) }
                };
                conformance::sink(&run_on(&executor), &rig);
            }
        }
    }
}
