//! Random work, random crashes, on a disk that loses and tears what was not synced, against a model of what was promised.

mod disk;

use std::collections::BTreeMap;
use std::sync::Arc;

use disk::*;
use fireside_core::{Batch, Checkpoint, Durability, Epoch, ProposalId, Record};
use fireside_store::{Entry, Options, Outcome, Span, Start, Store};
use proptest::prelude::*;

/// What the model knows of a channel in its present epoch.
#[derive(Clone, Debug, Default)]
struct Channel {
    epoch: Epoch,
    /// All records ever accepted in this epoch's lineage: offset n at n - 1.
    bodies: Vec<String>,
    /// How many of them were acknowledged, or shown.
    promised: usize,
    /// Written by the last checkpoint that was accepted.
    oldest: u64,
    /// Written, perhaps not durable: then an older one may come back.
    oldest_durable: u64,
    erased: Vec<u64>,
    forgotten_below: Epoch,
    proposals: Vec<ProposalId>,
}

#[derive(Clone, Debug)]
enum Step {
    Append { channel: usize, records: usize, size: usize },
    Sync,
    Checkpoint { channel: usize, keep: u64 },
    Erase { channel: usize, back: u64 },
    Forget { channel: usize },
    Sleep { channel: usize },
    Maintain,
    Purge,
    Mark,
    Kill,
    PowerCut { seed: u64 },
    Close,
    Look { channel: usize },
}

const CHANNELS: [(&str, Durability); 4] = [
    ("f:1", Durability::Fsync),
    ("f:2", Durability::Fsync),
    ("o:1", Durability::Os),
    ("f:3", Durability::Fsync),
];

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..CHANNELS.len();
    prop_oneof![
        8 => (channel.clone(), 1usize..4, 1usize..900)
            .prop_map(|(channel, records, size)| Step::Append { channel, records, size }),
        4 => Just(Step::Sync),
        2 => (channel.clone(), 0u64..6).prop_map(|(channel, keep)| Step::Checkpoint { channel, keep }),
        1 => (channel.clone(), 0u64..4).prop_map(|(channel, back)| Step::Erase { channel, back }),
        1 => channel.clone().prop_map(|channel| Step::Forget { channel }),
        1 => channel.clone().prop_map(|channel| Step::Sleep { channel }),
        4 => Just(Step::Maintain),
        1 => Just(Step::Purge),
        1 => Just(Step::Mark),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
        1 => Just(Step::Close),
        3 => channel.prop_map(|channel| Step::Look { channel }),
    ]
}

struct World {
    disk: TestDisk,
    store: Option<Store>,
    lives: u128,
    boot: u64,
    now_ms: u64,
    channels: Vec<Channel>,
    proposals: u128,
    /// Epochs that a channel ever had; none may return after a change.
    ended: BTreeMap<usize, Vec<Epoch>>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            disk: TestDisk::new(),
            store: None,
            lives: 0,
            boot: 0,
            now_ms: 1_000,
            channels: vec![Channel::default(); CHANNELS.len()],
            proposals: 0,
            ended: BTreeMap::new(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.lives += 1;
        self.now_ms += 10;
        let options =
            Options { segment_bytes: 4096, cache_bytes: 16 << 10, copy_bytes: 2048, ..Options::default() };
        let start = Start { life: self.lives, boot_id: format!("boot-{}", self.boot), now_ms: self.now_ms };
        let (store, report) = Store::open(Arc::new(self.disk.clone()), options, start).unwrap();
        assert!(report.damage.is_empty(), "nothing durable was touched: {:?}", report.damage);
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Wakes a channel and compares all of it with the model. What is seen is promised from then on.
    fn look(&mut self, at: usize, crashed: bool) {
        let (text, degree) = CHANNELS[at];
        let woken = self.store().wake(&name(text), degree).unwrap();
        let mut model = self.channels[at].clone();
        let exists = woken.checkpoint.is_some() || !woken.tail.is_empty();
        let epoch = woken.tail.last().map(|b| b.epoch).or(woken.checkpoint.as_ref().map(|c| c.epoch));
        let epoch = epoch.unwrap_or(woken.generation);
        let newest =
            woken.tail.last().map(|b| b.last()).or(woken.checkpoint.as_ref().map(|c| c.newest)).unwrap_or(0);
        if epoch != model.epoch {
            assert!(epoch > model.epoch, "epochs go up");
            let ended = self.ended.entry(at).or_default();
            assert!(!ended.contains(&epoch));
            ended.push(model.epoch);
            let reason = model.forgotten_below >= model.epoch
                || model.bodies.is_empty()
                || (crashed && degree == Durability::Os);
            assert!(reason, "{text}: a new epoch {epoch} after {} without a reason", model.epoch);
            if !exists {
                model = Channel { epoch, forgotten_below: model.forgotten_below, ..Channel::default() };
            }
            model.epoch = epoch;
            model.bodies.truncate(newest as usize);
            model.proposals.truncate(newest as usize);
            model.promised = newest as usize;
        } else {
            assert!(newest as usize >= model.promised, "{text}: {newest} < {} promised", model.promised);
            if crashed {
                model.bodies.truncate(newest as usize);
                model.proposals.truncate(newest as usize);
            }
            model.promised = newest as usize;
        }
        assert!(newest as usize <= model.bodies.len(), "{text}: more than was ever written");
        let oldest = woken.checkpoint.as_ref().map_or(1, |c| c.oldest.max(1));
        assert!(oldest <= model.oldest.max(1), "{text}: trimmed by itself");
        assert!(oldest >= model.oldest_durable, "{text}: a durable checkpoint is gone");
        self.read(at, &model, oldest, newest);
        if crashed {
            (model.oldest, model.oldest_durable) = (oldest, oldest);
        }
        self.channels[at] = model;
    }

    fn read(&self, at: usize, model: &Channel, oldest: u64, newest: u64) {
        let (text, degree) = CHANNELS[at];
        let mut next = oldest;
        while next <= newest {
            let span =
                Span { epoch: model.epoch, after: next - 1, until: newest, records_max: 4, bytes_max: 2000 };
            let page = self.store().read(&name(text), degree, span).unwrap();
            assert!(!page.is_empty(), "{text}: {span:?}");
            for batch in page {
                for record in batch.after(next - 1) {
                    assert_eq!(record.offset, next, "dense");
                    let body = std::str::from_utf8(&record.body).unwrap();
                    let (is, was) = (body.trim_matches('"'), &model.bodies[next as usize - 1]);
                    if model.erased.contains(&next) {
                        assert_eq!(is, "null");
                    } else if is != "null" {
                        assert_eq!(is, was);
                    }
                    next += 1;
                }
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append { channel, records, size } => self.append(channel, records, size),
            Step::Sync => self.sync(),
            Step::Checkpoint { channel, keep } => self.checkpoint(channel, keep),
            Step::Erase { channel, back } => {
                self.sync();
                self.look(channel, false);
                let (text, degree) = CHANNELS[channel];
                let model = &mut self.channels[channel];
                let offset = (model.bodies.len() as u64).saturating_sub(back);
                if offset >= model.oldest.max(1) {
                    let entry = Entry::Erase { channel: name(text), epoch: model.epoch, offset, degree };
                    let done = self.store.as_ref().unwrap().commit(&[entry]).unwrap();
                    assert_eq!(done.outcomes, [Outcome::Accepted]);
                    model.erased.push(offset);
                    self.sync();
                }
            }
            Step::Forget { channel } => {
                self.sync();
                self.look(channel, false);
                let (text, degree) = CHANNELS[channel];
                let entry = Entry::Forget { channel: name(text), degree };
                assert_eq!(self.store().commit(&[entry]).unwrap().outcomes, [Outcome::Accepted]);
                self.sync();
                let model = &mut self.channels[channel];
                if !model.bodies.is_empty() {
                    let epoch = model.epoch;
                    *model = Channel { epoch, forgotten_below: epoch, ..Channel::default() };
                }
                self.look(channel, false);
            }
            Step::Sleep { channel } => self.store().slept(&name(CHANNELS[channel].0)),
            Step::Maintain => {
                for _ in 0..5 {
                    self.store().maintain().unwrap();
                }
            }
            Step::Purge => self.store().purge().unwrap(),
            Step::Mark => {
                self.store().mark().unwrap();
            }
            Step::Kill => {
                self.store = None;
                self.open();
                self.look_at_all(false);
            }
            Step::PowerCut { seed } => {
                self.store = None;
                self.boot += 1;
                self.disk.cut_power(&mut Seed(seed));
                self.open();
                self.look_at_all(true);
            }
            Step::Close => {
                self.sync();
                self.store().close().unwrap();
                self.store = None;
                self.boot += 1;
                self.open();
                self.look_at_all(false);
            }
            Step::Look { channel } => self.look(channel, false),
        }
    }

    fn look_at_all(&mut self, crashed: bool) {
        let report = self.store().check().unwrap();
        assert!(report.is_sound() && report.torn.is_none(), "{report:?}");
        for channel in 0..CHANNELS.len() {
            self.look(channel, crashed);
        }
    }

    /// As a node does: what is not answered yet is not followed by another append.
    fn append(&mut self, at: usize, records: usize, size: usize) {
        let (text, degree) = CHANNELS[at];
        if self.channels[at].bodies.len() > self.channels[at].promised && degree == Durability::Fsync {
            self.sync();
        }
        self.look(at, false);
        self.proposals += 1;
        let model = &mut self.channels[at];
        let first = model.bodies.len() as u64 + 1;
        let bodies: Vec<String> =
            (0..records).map(|n| format!("{}.{n}:{:x<size$}", self.proposals, "")).collect();
        let list: Vec<Record> = bodies.iter().zip(first..).map(|(b, o)| record(o, b)).collect();
        let previous = model.proposals.last().copied().unwrap_or_default();
        let proposal = ProposalId(self.proposals);
        let batch = Batch::new(name(text), model.epoch, proposal, previous, list);
        let done = self.store.as_ref().unwrap().commit(&[Entry::Batch { batch, degree }]).unwrap();
        assert_eq!(done.outcomes, [Outcome::Accepted]);
        model.bodies.extend(bodies);
        model.proposals.extend(std::iter::repeat_n(proposal, records));
        if degree == Durability::Os {
            model.promised = model.bodies.len();
        }
    }

    fn sync(&mut self) {
        self.store().sync().unwrap();
        for channel in &mut self.channels {
            channel.promised = channel.bodies.len();
            channel.oldest_durable = channel.oldest;
        }
    }

    fn checkpoint(&mut self, at: usize, keep: u64) {
        self.sync();
        self.look(at, false);
        let (text, degree) = CHANNELS[at];
        let model = &mut self.channels[at];
        let newest = model.bodies.len() as u64;
        if newest == 0 {
            return;
        }
        let oldest = (newest + 1).saturating_sub(keep).max(model.oldest).max(1);
        let checkpoint = Checkpoint {
            epoch: model.epoch,
            oldest,
            newest,
            time_ms: 1,
            proposal: *model.proposals.last().unwrap(),
            ..Checkpoint::default()
        };
        let entry = Entry::Checkpoint { channel: name(text), checkpoint: Arc::new(checkpoint), degree };
        let done = self.store.as_ref().unwrap().commit(&[entry]).unwrap();
        assert_eq!(done.outcomes, [Outcome::Accepted]);
        model.oldest = oldest;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i1_i3_what_was_promised_is_kept_over_any_crash(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::PowerCut { seed: 1 });
    }
}
