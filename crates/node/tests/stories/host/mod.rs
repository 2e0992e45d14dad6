//! A small deterministic world for one node: tasks polled by hand, a log in memory whose answers can be held back or scripted, links
//! whose sinks take as much as a test says.

mod backend;
mod client;
mod log;
mod provider;
mod tasks;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fireside_core::gate::{Claims, Gate, Rules};
use fireside_core::namespace::{Namespaces, Retention, RunPolicy};
use fireside_core::{Durability, Fact, Facts, Namespace};
use fireside_node::ports::{Keys, Provider, Solo, TokenFault};
use fireside_node::{Node, Parts, Settings};

pub use backend::Desk;
pub use client::{Client, Shown};
pub use log::{MemoryLog, Outcome};
pub use provider::Script;
pub use tasks::Tasks;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node and all that it needs.
pub struct World {
    pub tasks: Arc<Tasks>,
    pub log: Arc<MemoryLog>,
    pub model: Arc<Script>,
    pub backend: Arc<Desk>,
    pub facts: Arc<Heard>,
    pub node: Arc<Node>,
}

/// Every fact, in its debug form.
#[derive(Default)]
pub struct Heard(Mutex<Vec<String>>);

impl Facts for Heard {
    fn say(&self, fact: Fact) {
        lock(&self.0).push(format!("{fact:?}"));
    }
}

impl Heard {
    /// How many facts begin so.
    pub fn count(&self, begins: &str) -> usize {
        lock(&self.0).iter().filter(|fact| fact.starts_with(begins)).count()
    }
}

/// A token is `user` or `user|channel,channel`: the channels are followed from the connect on.
struct PlainKeys;

impl Keys for PlainKeys {
    fn claims(&self, token: &str) -> Result<Claims, TokenFault> {
        let (user, channels) = token.split_once('|').unwrap_or((token, ""));
        let channels = channels.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Claims { user: user.to_owned(), channels, ..Claims::default() })
    }
}

/// `story:…` has history, presence and runs; `live:…` has neither history nor runs.
pub fn namespaces() -> Vec<Namespace> {
    let story = Namespace {
        history: Some(Retention { records: 100_000, bytes: u64::MAX, age_ms: u64::MAX }),
        durability: Durability::Os,
        presence: true,
        join_leave: true,
        join_leave_push: true,
        recover: true,
        run: Some(RunPolicy::default()),
        ..Namespace::closed("story")
    };
    let live = Namespace { join_leave: true, join_leave_push: true, ..Namespace::closed("live") };
    vec![story, live]
}

impl World {
    pub fn new() -> World {
        World::with(namespaces(), Settings::default())
    }

    pub fn with(spaces: Vec<Namespace>, settings: Settings) -> World {
        World::on(Arc::new(MemoryLog::default()), spaces, settings)
    }

    /// A node on a log that may bear what an earlier life left.
    pub fn on(log: Arc<MemoryLog>, spaces: Vec<Namespace>, settings: Settings) -> World {
        let rules = Rules { commands_per_second: 1_000_000, commands_burst: 1_000_000, ..Rules::default() };
        World::ruled(log, spaces, settings, rules)
    }

    /// The same, with a quota that counts.
    pub fn ruled(log: Arc<MemoryLog>, spaces: Vec<Namespace>, settings: Settings, rules: Rules) -> World {
        let rules = Rules { insecure: true, exp_required: false, ..rules };
        let tasks = Arc::new(Tasks::default());
        let model = Arc::new(Script::default());
        let facts = Arc::new(Heard::default());
        let backend = Arc::new(Desk::default());
        let provider: Arc<dyn Provider> = model.clone();
        let node = Node::new(Parts {
            gate: Gate::new(Namespaces::new(spaces.into_iter().map(Arc::new).collect()), rules),
            host: tasks.clone(),
            log: log.clone(),
            bus: Arc::new(Solo),
            keys: Arc::new(PlainKeys),
            backend: backend.clone(),
            providers: BTreeMap::from([(Arc::from("default"), provider)]),
            facts: facts.clone(),
            settings,
        });
        let world = World { tasks, log, model, backend, facts, node };
        let started = world.node.clone();
        world.tasks.add(async move { started.start().await });
        world.run();
        world
    }

    /// Runs until nothing is ready.
    pub fn run(&self) {
        self.tasks.run();
    }

    /// Lets time pass, running whatever becomes due.
    pub fn pass_ms(&self, ms: u64) {
        self.tasks.pass_ms(ms);
    }

    /// The same, running only its own task: what that spawns is left to the test.
    pub fn client_but(&self, token: &str) -> Client {
        let mut client = self.link();
        client.connect(token);
        self.tasks.poll(client.task);
        client
    }

    /// A link that nobody has spoken on yet.
    pub fn link(&self) -> Client {
        Client::new(self)
    }

    /// A client that has connected with this token.
    pub fn client(&self, token: &str) -> Client {
        let mut client = self.link();
        client.connect(token);
        self.run();
        client
    }
}
