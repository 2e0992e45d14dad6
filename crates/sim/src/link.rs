//! A client's link: a bounded socket buffer with a reader of any speed behind it, writes that take only a part, and a network that goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use fireside_core::{Disconnect, Outgoing, Request};
use fireside_node::ports::{Link, LinkClosed, Sent, Sink, Source};
use fireside_wire::Protocol;
use fireside_wire::centrifuge_json::CentrifugeJson;

use crate::lock;
use crate::seed::Seed;
use crate::told::{self, Told};
use crate::trace::Trace;

/// Both ends of one link.
pub struct Pipe {
    flow: Mutex<Flow>,
    /// Bytes travel, not values.
    wire: bool,
    capacity: usize,
    /// In how many of 100 cases the sink says that it is full without being so.
    balks: u64,
    seed: Seed,
    trace: Trace,
}

#[derive(Default)]
struct Flow {
    up: VecDeque<Up>,
    up_waker: Option<Waker>,
    down: VecDeque<Down>,
    down_waker: Option<Waker>,
    /// Bytes in the socket's buffer.
    buffered: usize,
    /// Bytes of the last entry that did not fit into it yet.
    rest: usize,
    writable: Option<Waker>,
    /// The network or the process is gone.
    cut: bool,
    closed: Option<u16>,
    left: bool,
}

enum Up {
    Plain(Request),
    Frame(Vec<u8>),
}

struct Down {
    what: What,
    bytes: usize,
}

enum What {
    Plain(Option<Told>),
    Messages(Vec<u8>),
}

/// What a client's end brings.
pub enum Brought {
    /// Something it is told.
    Told(Vec<Told>),
    /// The link is over, and why if that was said.
    Over(Option<u16>),
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Pipe {
    /// A new link and its client's end.
    pub fn new(wire: bool, capacity: usize, balks: u64, seed: Seed, trace: Trace) -> Arc<Pipe> {
        Arc::new(Pipe { flow: Mutex::default(), wire, capacity, balks, seed, trace })
    }

    /// The node's end.
    pub fn link(self: &Arc<Self>) -> Link {
        let source = PipeSource { pipe: self.clone(), requests: VecDeque::new() };
        Link { source: Box::new(source), sink: Arc::new(PipeSink(self.clone())), kind: "sim" }
    }

    // ------------------------------------------------------------------------------------------------ the client's end

    /// Sends a request.
    pub fn send(&self, request: Request) {
        let waker = {
            let mut flow = lock(&self.flow);
            flow.up.push_back(match self.wire {
                true => Up::Frame(told::frame(&request)),
                false => Up::Plain(request),
            });
            flow.up_waker.take()
        };
        wake(waker);
    }

    /// The next thing that arrived whole.
    pub fn poll_brought(&self, cx: &mut Context<'_>) -> Poll<Brought> {
        let (brought, waker) = {
            let mut flow = lock(&self.flow);
            let whole = flow.down.len() - usize::from(flow.rest > 0 && !flow.down.is_empty());
            if whole == 0 {
                if flow.cut {
                    return Poll::Ready(Brought::Over(None));
                }
                if flow.rest > 0 {
                    // It reads the begin of a long entry, which makes room for more of it.
                    flow.buffered = 0;
                } else if let Some(code) = flow.closed {
                    return Poll::Ready(Brought::Over(Some(code)));
                }
                flow.down_waker = Some(cx.waker().clone());
                (None, flow.writable.take())
            } else {
                let down = flow.down.pop_front();
                flow.buffered = flow.buffered.saturating_sub(down.as_ref().map_or(0, |down| down.bytes));
                (down, flow.writable.take())
            }
        };
        wake(waker);
        match brought {
            Some(down) => Poll::Ready(self.read(down)),
            None => Poll::Pending,
        }
    }

    fn read(&self, down: Down) -> Brought {
        match down.what {
            What::Plain(told) => Brought::Told(told.into_iter().collect()),
            What::Messages(bytes) => {
                let messages = bytes.split(|byte| *byte == b'\n');
                let read = messages.map(|message| {
                    told::read(message).unwrap_or_else(|why| {
                        panic!("a message is not JSON: {why}: {}", String::from_utf8_lossy(message))
                    })
                });
                Brought::Told(read.collect())
            }
        }
    }

    /// The client goes.
    pub fn leave(&self) {
        let wakers = {
            let mut flow = lock(&self.flow);
            flow.left = true;
            [flow.up_waker.take(), flow.writable.take()]
        };
        wakers.into_iter().for_each(wake);
    }

    /// The network or the server's process goes; what is under way may still arrive or not.
    pub fn cut(&self) {
        let wakers = {
            let mut flow = lock(&self.flow);
            if self.seed.chance(50) {
                flow.down.clear();
            } else if flow.rest > 0 {
                flow.down.pop_back();
            }
            (flow.cut, flow.rest) = (true, 0);
            [flow.up_waker.take(), flow.writable.take(), flow.down_waker.take()]
        };
        wakers.into_iter().for_each(wake);
    }

    // -------------------------------------------------------------------------------------------------- the node's end

    fn encode(&self, entry: &Outgoing) -> Down {
        if !self.wire {
            let bytes = match entry {
                Outgoing::Event(_) => 128,
                Outgoing::Records { batch, after, .. } => {
                    batch.after(*after).iter().map(fireside_core::Record::cost).sum()
                }
            };
            return Down { what: What::Plain(told::plainly(entry)), bytes };
        }
        let messages = match entry {
            Outgoing::Event(event) => {
                let mut out = Vec::new();
                CentrifugeJson.event(event, &mut out);
                out
            }
            Outgoing::Records { batch, after, .. } if *after < batch.first() || batch.first() == 0 => {
                let shared = batch.encoded(CentrifugeJson.slot(), |batch| {
                    let mut out = Vec::new();
                    CentrifugeJson.records(batch, 0, &mut out);
                    out.into()
                });
                shared.to_vec()
            }
            Outgoing::Records { batch, after, .. } => {
                let mut out = Vec::new();
                CentrifugeJson.records(batch, *after, &mut out);
                out
            }
        };
        Down { bytes: messages.len(), what: What::Messages(messages) }
    }
}

struct PipeSink(Arc<Pipe>);

impl Sink for PipeSink {
    fn try_send(&self, entry: &Outgoing, _more: bool) -> Sent {
        let pipe = &*self.0;
        let mut flow = lock(&pipe.flow);
        if flow.cut || flow.left || flow.closed.is_some() {
            return Sent::Closed;
        }
        let free = pipe.capacity.saturating_sub(flow.buffered);
        if flow.rest > 0 || free == 0 {
            pipe.trace.count("full sinks");
            return Sent::Full;
        }
        if pipe.seed.chance(pipe.balks) {
            pipe.trace.count("full sinks");
            return Sent::Full;
        }
        let down = pipe.encode(entry);
        let fits = down.bytes.min(free);
        flow.buffered += fits;
        flow.rest = down.bytes - fits;
        let is_partial = flow.rest > 0;
        flow.down.push_back(down);
        let waker = flow.down_waker.take();
        drop(flow);
        wake(waker);
        if is_partial {
            pipe.trace.count("partial writes");
            return Sent::Partial;
        }
        Sent::Sent
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        let pipe = &*self.0;
        let (ready, waker) = {
            let mut flow = lock(&pipe.flow);
            if flow.cut || flow.left || flow.closed.is_some() {
                return Poll::Ready(Err(LinkClosed));
            }
            let more = flow.rest.min(pipe.capacity.saturating_sub(flow.buffered));
            flow.rest -= more;
            flow.buffered += more;
            let ready = flow.rest == 0 && flow.buffered < pipe.capacity;
            if !ready {
                flow.writable = Some(cx.waker().clone());
            }
            (ready, if more > 0 { flow.down_waker.take() } else { None })
        };
        wake(waker);
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn close(&self, why: &Disconnect) {
        let wakers = {
            let mut flow = lock(&self.0.flow);
            if flow.rest > 0 {
                // What was begun cannot be finished, and nothing can follow it.
                flow.down.pop_back();
                flow.rest = 0;
            }
            flow.closed.get_or_insert(why.code);
            [flow.down_waker.take(), flow.writable.take()]
        };
        wakers.into_iter().for_each(wake);
    }
}

struct PipeSource {
    pipe: Arc<Pipe>,
    requests: VecDeque<Request>,
}

impl Source for PipeSource {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Request, Disconnect>>> {
        loop {
            if let Some(request) = self.requests.pop_front() {
                return Poll::Ready(Some(Ok(request)));
            }
            let mut flow = lock(&self.pipe.flow);
            match flow.up.pop_front() {
                Some(Up::Plain(request)) => return Poll::Ready(Some(Ok(request))),
                Some(Up::Frame(frame)) => {
                    drop(flow);
                    let mut requests = Vec::new();
                    if let Err(why) = CentrifugeJson.decode(&frame, &mut requests) {
                        return Poll::Ready(Some(Err(why)));
                    }
                    self.requests.extend(requests);
                }
                None if flow.left || flow.cut => return Poll::Ready(None),
                None => {
                    flow.up_waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}
