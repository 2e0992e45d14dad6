//! Which channels are awake here. Whoever needs a channel finds it, or wakes it; a quiet one falls asleep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fireside_core::{ChannelName, Namespace};

use crate::channel::Channel;
use crate::{Node, lock};

const SHARDS: usize = 64;

type Shard = Mutex<BTreeMap<ChannelName, Arc<Channel>>>;

pub(crate) struct Directory {
    shards: Box<[Shard]>,
}

impl Default for Directory {
    fn default() -> Self {
        Directory { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl Directory {
    /// The channel, awake or waking.
    pub(crate) fn get(&self, node: &Arc<Node>, name: &ChannelName, policy: &Arc<Namespace>) -> Arc<Channel> {
        let mut shard = lock(self.shard(name));
        if let Some(channel) = shard.get(name)
            && !channel.has_failed()
        {
            return channel.clone();
        }
        let channel = Channel::new(node, name.clone(), policy.clone());
        shard.insert(name.clone(), channel.clone());
        drop(shard);
        channel.begin_to_wake(node);
        channel
    }

    /// The channel if it is awake here already.
    pub(crate) fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        lock(self.shard(name)).get(name).cloned()
    }

    /// All awake channels.
    pub(crate) fn all(&self) -> Vec<Arc<Channel>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Lets quiet channels fall asleep: first they write down what they know, then, still quiet, they go.
    pub(crate) fn sweep(&self, node: &Arc<Node>) {
        let now_ms = node.host.monotonic_ms();
        let mut to_save = Vec::new();
        for shard in &self.shards {
            lock(shard).retain(|_, channel| {
                // Only this map holds it, and under the map's lock nobody else can come to.
                if Arc::strong_count(channel) > 1 || !channel.is_quiet(now_ms) {
                    return true;
                }
                if channel.has_unsaved() {
                    to_save.push(channel.clone());
                    return true;
                }
                channel.fall_asleep(node);
                false
            });
        }
        for channel in to_save {
            channel.begin_to_save(node);
        }
    }

    /// Every channel writes down what it knows, so that the next life wakes it without reading its tail.
    pub(crate) async fn save_all(&self, node: &Arc<Node>) {
        for channel in self.all() {
            // What cannot be saved now is read from the log's tail by the next life; the fault was said.
            let _ = channel.save(node).await;
        }
    }

    fn shard(&self, name: &ChannelName) -> &Shard {
        // FNV-1a: names are bounded, and a flood of colliding ones costs a deeper tree, nothing more.
        let hash = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}
