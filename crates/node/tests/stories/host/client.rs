//! One client: what it sends, and what its sink was handed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fireside_core::command::{Command, Connect, History, Publish, StartRun, Subscribe};
use fireside_core::position::Claimed;
use fireside_core::{Disconnect, Event, Outgoing, Reply, Request};
use fireside_node::ports::{Link, LinkClosed, Sent, Sink, Source};

use super::{World, lock};

pub struct Client {
    pub task: u64,
    shared: Arc<Shared>,
    tasks: Arc<super::Tasks>,
    next: u32,
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    closed: bool,
    reader: Option<Waker>,
    got: Vec<Outgoing>,
    /// Entries that the sink still takes; `None`: any number.
    room: Option<usize>,
    /// So often is the sink still not ready, whatever its room, and wakes nobody.
    unready: usize,
    writer: Option<Waker>,
    why: Option<Disconnect>,
}

/// What a client was shown, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Connected,
    Subscribed(u32),
    Refused(u32, u16),
    Reply(u32),
    Record(String, u64, String),
    Joined(String),
    Left(String),
    Unsubscribed(String, u16),
    Ping,
}

struct LinkSource(Arc<Shared>);
struct LinkSink(Arc<Shared>);

impl Source for LinkSource {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Request, Disconnect>>> {
        let mut state = lock(&self.0.0);
        match state.requests.pop_front() {
            Some(request) => Poll::Ready(Some(Ok(request))),
            None if state.closed => Poll::Ready(None),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink for LinkSink {
    fn try_send(&self, entry: &Outgoing, _: bool) -> Sent {
        let mut state = lock(&self.0.0);
        match &mut state.room {
            Some(0) => return Sent::Full,
            Some(room) => *room -= 1,
            None => {}
        }
        state.got.push(entry.clone());
        Sent::Sent
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        let mut state = lock(&self.0.0);
        if state.unready > 0 {
            state.unready -= 1;
            return Poll::Pending;
        }
        if state.room == Some(0) {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn close(&self, why: &Disconnect) {
        lock(&self.0.0).why = Some(why.clone());
    }
}

impl Client {
    pub(super) fn new(world: &World) -> Client {
        let shared = Arc::new(Shared::default());
        let link = Link {
            source: Box::new(LinkSource(shared.clone())),
            sink: Arc::new(LinkSink(shared.clone())),
            kind: "test",
        };
        let task = world.tasks.add(world.node.serve(link));
        Client { task, shared, tasks: world.tasks.clone(), next: 0 }
    }

    pub fn send(&mut self, command: Command) -> u32 {
        self.next += 1;
        self.push(Request { id: self.next, command });
        self.next
    }

    fn push(&self, request: Request) {
        let mut state = lock(&self.shared.0);
        state.requests.push_back(request);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub fn connect(&mut self, token: &str) -> u32 {
        self.send(Command::Connect(Connect { token: token.to_owned(), ..Connect::default() }))
    }

    pub fn subscribe(&mut self, channel: &str, recover: Option<Claimed>) -> u32 {
        self.send(Command::Subscribe(Subscribe {
            channel: channel.to_owned(),
            recover,
            ..Subscribe::default()
        }))
    }

    pub fn publish(&mut self, channel: &str, body: &str, key: Option<&str>) -> u32 {
        self.send(Command::PublishRpc(Publish {
            channel: channel.to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            key: key.map(str::to_owned),
            ..Publish::default()
        }))
    }

    pub fn history(&mut self, channel: &str) -> u32 {
        self.send(Command::History(History { channel: channel.to_owned(), limit: -1, ..History::default() }))
    }

    pub fn start_run(&mut self, channel: &str, key: &str) -> u32 {
        let (channel, key) = (channel.to_owned(), key.to_owned());
        self.send(Command::StartRun(StartRun { channel, key, input: Bytes::new() }))
    }

    pub fn pong(&self) {
        self.push(Request { id: 0, command: Command::Pong });
    }

    /// The client goes.
    pub fn leave(&self) {
        let mut state = lock(&self.shared.0);
        state.closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The host drops the session's task.
    pub fn kill(&self) {
        self.tasks.kill(self.task);
    }

    /// From now on the sink takes so many entries.
    pub fn room(&self, room: Option<usize>) {
        let mut state = lock(&self.shared.0);
        state.room = room;
        let writer = state.writer.take().filter(|_| room != Some(0));
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The sink is not ready for so many polls, then it is, and wakes nobody.
    pub fn unready(&self, polls: usize) {
        lock(&self.shared.0).unready = polls;
    }

    /// Requests that the node has not taken yet.
    pub fn unread(&self) -> usize {
        lock(&self.shared.0).requests.len()
    }

    /// The code it was closed with.
    pub fn closed(&self) -> Option<u16> {
        lock(&self.shared.0).why.as_ref().map(|why| why.code)
    }

    /// Everything the sink was handed.
    pub fn got(&self) -> Vec<Outgoing> {
        lock(&self.shared.0).got.clone()
    }

    /// The same in short.
    pub fn shown(&self) -> Vec<Shown> {
        self.got().iter().flat_map(short).collect()
    }

    /// The offsets it was shown of a channel.
    pub fn offsets(&self, of: &str) -> Vec<u64> {
        let offset = |shown| match shown {
            Shown::Record(channel, offset, _) if channel == of => Some(offset),
            _ => None,
        };
        self.shown().into_iter().filter_map(offset).collect()
    }

    /// The answer to a command.
    pub fn reply(&self, asked: u32) -> Option<Reply> {
        self.got().iter().find_map(|entry| match entry {
            Outgoing::Event(event) => match &**event {
                Event::Reply { id, reply } if *id == asked => Some(reply.clone()),
                _ => None,
            },
            Outgoing::Records { .. } => None,
        })
    }
}

fn short(entry: &Outgoing) -> Vec<Shown> {
    let event = match entry {
        Outgoing::Records { batch, after, .. } => {
            let of = batch.channel.as_str();
            let record = |record: &fireside_core::Record| {
                Shown::Record(
                    of.to_owned(),
                    record.offset,
                    String::from_utf8_lossy(&record.body).into_owned(),
                )
            };
            return batch.after(*after).iter().map(record).collect();
        }
        Outgoing::Event(event) => event,
    };
    vec![match &**event {
        Event::Reply { reply: Reply::Connected(_), .. } => Shown::Connected,
        Event::Reply { id, reply: Reply::Subscribed(_) } => Shown::Subscribed(*id),
        Event::Reply { id, reply: Reply::Refused(refusal) } => Shown::Refused(*id, refusal.code.number()),
        Event::Reply { id, .. } => Shown::Reply(*id),
        Event::Joined { who, .. } => Shown::Joined(who.user.to_string()),
        Event::Left { who, .. } => Shown::Left(who.user.to_string()),
        Event::Unsubscribed { channel, why } => Shown::Unsubscribed(channel.as_str().to_owned(), why.code),
        Event::Subscribed { .. } => unreachable!("nothing opens subscriptions later yet"),
        Event::Missed { .. } => unreachable!("nobody here floods a channel without history"),
        Event::Ping => Shown::Ping,
    }]
}
