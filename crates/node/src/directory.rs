//! Which channels are awake here. Whoever needs a channel finds it, or wakes it; a quiet one falls asleep.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fireside_core::{ChannelName, Code, Namespace, Refusal};

use crate::channel::Channel;
use crate::{Node, lock};

const SHARDS: usize = 64;

type Shard = Mutex<BTreeMap<ChannelName, Arc<Channel>>>;

pub(crate) struct Directory {
    shards: Box<[Shard]>,
    awake: AtomicUsize,
    awake_max: usize,
}

impl Directory {
    pub(crate) fn new(awake_max: usize) -> Self {
        Directory {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            awake: AtomicUsize::new(0),
            awake_max,
        }
    }

    /// The channel, awake or waking.
    ///
    /// # Errors
    /// 111: it sleeps, and as many as may be are awake. What the server itself must write (reserved channels, logs of runs) is woken always:
    /// there are never more of these than runs.
    pub(crate) fn get(
        &self,
        node: &Arc<Node>,
        name: &ChannelName,
        policy: &Arc<Namespace>,
    ) -> Result<Arc<Channel>, Refusal> {
        let mut shard = lock(self.shard(name));
        let known = shard.get(name);
        if let Some(channel) = known.filter(|channel| !channel.has_failed()) {
            return Ok(channel.clone());
        }
        if known.is_none() {
            let is_ours = name.is_reserved() || name.run().is_some();
            if !is_ours && self.awake.load(Ordering::Relaxed) >= self.awake_max {
                return Err(Refusal::because(
                    Code::TooManyRequests,
                    "too many channels are awake on this server",
                ));
            }
            self.awake.fetch_add(1, Ordering::Relaxed);
        }
        let channel = Channel::new(node, name.clone(), policy.clone());
        shard.insert(name.clone(), channel.clone());
        drop(shard);
        channel.begin_to_wake(node);
        Ok(channel)
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
                self.awake.fetch_sub(1, Ordering::Relaxed);
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
