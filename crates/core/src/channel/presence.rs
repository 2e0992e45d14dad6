//! Who is in a channel. A member is a session; users are counted apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits;
use crate::record::Author;

/// The members of one channel on this node.
#[derive(Debug, Default)]
pub struct Presence {
    members: BTreeMap<Arc<str>, Arc<Author>>,
    /// Sessions per user.
    users: BTreeMap<Arc<str>, u32>,
}

impl Presence {
    /// Somebody came. False if the session was here already.
    pub fn join(&mut self, who: &Arc<Author>) -> bool {
        let is_new = self.members.insert(who.client.clone(), who.clone()).is_none();
        if is_new {
            *self.users.entry(who.user.clone()).or_default() += 1;
        }
        is_new
    }

    /// Somebody left. `None` if the session was not here.
    pub fn leave(&mut self, client: &str) -> Option<Arc<Author>> {
        let who = self.members.remove(client)?;
        if let Some(sessions) = self.users.get_mut(&who.user) {
            *sessions -= 1;
            if *sessions == 0 {
                self.users.remove(&who.user);
            }
        }
        Some(who)
    }

    /// Those who are here, bounded by [`limits::PRESENCE_MAX`].
    pub fn members(&self) -> Vec<Arc<Author>> {
        self.members.values().take(limits::PRESENCE_MAX).cloned().collect()
    }

    /// How many sessions.
    pub fn clients(&self) -> u32 {
        self.members.len() as u32
    }

    /// How many users.
    pub fn users(&self) -> u32 {
        self.users.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: &str, client: &str) -> Arc<Author> {
        Arc::new(Author { user: user.into(), client: client.into(), ..Author::default() })
    }

    #[test]
    fn two_sessions_of_one_user_are_one_user() {
        let mut presence = Presence::default();
        assert!(presence.join(&who("anna", "1")));
        assert!(presence.join(&who("anna", "2")));
        assert!(!presence.join(&who("anna", "2")));
        assert_eq!((presence.clients(), presence.users()), (2, 1));
        assert!(presence.leave("1").is_some());
        assert!(presence.leave("1").is_none());
        assert_eq!((presence.clients(), presence.users()), (1, 1));
        presence.leave("2");
        assert_eq!((presence.clients(), presence.users()), (0, 0));
    }
}
