//! The one task of a session.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use fireside_core::outbox::Outbox;
use fireside_core::{Disconnect, Fact, Request, limits};

use super::{Phase, Session};
use crate::ports::{Link, Soon, Source};
use crate::{Node, follow, lock};

/// The one task of a session: polls its source, and drains what a full sink left.
pub struct Driver {
    node: Arc<Node>,
    session: Arc<Session>,
    source: Box<dyn Source>,
    /// The command under way; the next one waits for it.
    work: Option<Soon<()>>,
    /// A detached subscription reading the log.
    reading: Option<Soon<()>>,
    /// No command is taken until replies are read or publishes are answered.
    gated: bool,
    over: bool,
}

/// Requests handled in one turn of the task.
const REQUESTS_PER_TURN: usize = 64;

impl Driver {
    pub(crate) fn new(node: Arc<Node>, link: Link) -> Self {
        let session = Session::new(&node, link.kind, link.sink);
        let now_ms = node.host.monotonic_ms();
        match node.sessions.add(&session, now_ms + limits::HANDSHAKE_MS_MAX) {
            Some(slot) => session.slot.store(slot, Ordering::Relaxed),
            None => session.close(Disconnect::CONNECTION_LIMIT),
        }
        Driver { node, session, source: link.source, work: None, reading: None, gated: false, over: false }
    }

    /// Writes what waits for the link.
    fn poll_write(&self, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        loop {
            {
                let mut inner = lock(&self.session.inner);
                if !inner.sink_waits {
                    inner.drain(&*self.session.sink);
                    if !inner.sink_waits {
                        return Ok(());
                    }
                }
            }
            match self.session.sink.poll_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {
                    let mut inner = lock(&self.session.inner);
                    inner.sink_waits = false;
                    // It takes what we send: a busy link is not a dead one, however late its pong.
                    inner.heard = true;
                }
                Poll::Ready(Err(_)) => return Err(Disconnect::WRITE_ERROR),
            }
        }
    }

    /// Reads on for a subscription that fell behind.
    fn poll_reading(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(reading) = &mut self.reading {
                if reading.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.reading = None;
            }
            let Some(sub) = self.session.next_detached() else { return };
            self.reading = Some(Box::pin(follow::catch_up(self.node.clone(), self.session.clone(), sub)));
        }
    }

    /// Takes requests, one at a time.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        for _ in 0..REQUESTS_PER_TURN {
            if let Some(work) = &mut self.work {
                if work.as_mut().poll(cx).is_pending() {
                    lock(&self.session.inner).deaf = true;
                    return Ok(());
                }
                self.work = None;
            }
            self.gated = !self.may_ask();
            if self.gated {
                return Ok(());
            }
            match self.source.poll_request(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(Disconnect::CLOSED),
                Poll::Ready(Some(Err(why))) => return Err(why),
                Poll::Ready(Some(Ok(request))) => self.take(request)?,
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Not while it owes us the reading of its replies, or we owe it too many.
    fn may_ask(&self) -> bool {
        let mut inner = lock(&self.session.inner);
        let pending = inner.pending.iter().map(|(_, count)| *count as usize).sum::<usize>();
        let (replies, bytes) = inner.outbox.events();
        inner.deaf = pending >= limits::SESSION_PENDING_MAX;
        pending + replies < limits::SESSION_PENDING_MAX && bytes < limits::REPLIES_BYTES_MAX
    }

    fn take(&mut self, request: Request) -> Result<(), Disconnect> {
        use fireside_core::Command;
        let phase = {
            let mut inner = lock(&self.session.inner);
            inner.heard = true;
            inner.phase
        };
        let is_connect = matches!(request.command, Command::Connect(_));
        match (phase, &request.command) {
            (Phase::Open, Command::Pong) if !self.session.ponged(&self.node) => Err(Disconnect::BAD_REQUEST),
            (Phase::Open, Command::Pong) => Ok(()),
            (Phase::Open, _) if is_connect => Err(Disconnect::BAD_REQUEST),
            (Phase::New, _) if !is_connect => Err(Disconnect::BAD_REQUEST),
            (Phase::Refused | Phase::Closed, _) => Err(Disconnect::BAD_REQUEST),
            _ => {
                self.work = crate::commands::perform(&self.node, &self.session, request)?;
                Ok(())
            }
        }
    }

    fn end(&mut self, why: Disconnect) {
        self.over = true;
        self.work = None;
        self.reading = None;
        let (subs, was_open) = {
            let mut inner = lock(&self.session.inner);
            // The socket first: cleaning up may take its time. Under the lock, as everything that the sink is asked.
            self.session.sink.close(&why);
            let was_open = inner.phase == Phase::Open;
            inner.phase = Phase::Closed;
            inner.waker = None;
            inner.pending = Vec::new();
            inner.outbox = Outbox::new(0);
            (std::mem::take(&mut inner.subs), was_open)
        };
        self.node.sessions.remove(self.session.slot());
        for sub in &subs {
            self.session.let_go(&self.node, sub);
        }
        if was_open {
            self.node.say(Fact::Disconnected { client: self.session.client.clone(), code: why.code });
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(());
        }
        {
            let mut inner = lock(&this.session.inner);
            if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inner.waker = Some(cx.waker().clone());
            }
        }
        let mut ended = this.poll_write(cx).err();
        // A session that is to end takes no more commands.
        ended = ended.or_else(|| lock(&this.session.inner).closing.clone());
        if ended.is_none() {
            ended = this.poll_requests(cx).err();
            // A frame of publishes is one batch, not a first record and the rest of them.
            this.session.drive_now(&this.node);
            this.poll_reading(cx);
        }
        // What the commands just asked for goes out before we sleep, and a reason to close is seen at once.
        ended = ended.or_else(|| this.poll_write(cx).err());
        ended = ended.or_else(|| lock(&this.session.inner).closing.clone());
        if let Some(why) = ended {
            this.end(why);
            return Poll::Ready(());
        }
        // What was just written may have made room for what waited above.
        let may_read = this.reading.is_none() && lock(&this.session.inner).detached().is_some();
        if may_read || (this.work.is_none() && this.gated && this.may_ask()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    /// A session whose task is dropped in mid-life (the host shuts down) leaves nothing behind.
    fn drop(&mut self) {
        if !self.over {
            self.end(Disconnect::SHUTDOWN);
        }
    }
}
