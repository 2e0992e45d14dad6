//! What a client may ask of its session: each command passes the gate, then touches channels.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::command::{Command, Connect, History, Publish, Subscribe};
use fireside_core::event::{Connected, Page, Start};
use fireside_core::gate::{Admitted, Denial, Entry, Follow, Question, SeePresence, Ticket, Verdict, Write};
use fireside_core::outbox::SubId;
use fireside_core::position::{Claimed, Position};
use fireside_core::{Author, Code, Disconnect, Event, Fact, Refusal, Reply, Request, Unsubscribed, limits};

use crate::channel::{Asker, Channel, Placed};
use crate::ports::Soon;
use crate::session::{Session, SubOptions};
use crate::{Node, follow, hooks, lock, run};

/// Performs a command: at once, or as work that the next command waits for.
///
/// # Errors
/// The command closes the session.
pub(crate) fn perform(
    node: &Arc<Node>,
    session: &Arc<Session>,
    request: Request,
) -> Result<Option<Soon<()>>, Disconnect> {
    let Request { id, command } = request;
    match command {
        Command::Connect(connect) => return connect_now(node, session, id, connect),
        Command::Publish(asked) => {
            return Ok(publish(node, session, Publishing { id, positioned: false }, asked));
        }
        Command::PublishRpc(asked) => {
            return Ok(publish(node, session, Publishing { id, positioned: true }, asked));
        }
        Command::Unsubscribe { channel } => unsubscribe(node, session, id, &channel),
        Command::Refresh { token } => refresh(node, session, id, &token)?,
        Command::Send { .. } => return Err(Disconnect::NOT_AVAILABLE),
        Command::Malformed { why } => {
            let bad = || Refusal::because(Code::BadRequest, why);
            let refused = session.ask(node, None, |_| Err::<(), _>(bad()));
            session.refuse(node, "rpc", id, refused.err().unwrap_or_else(bad));
        }
        Command::SubRefresh { channel, token } => sub_refresh(node, session, id, &channel, &token)?,
        Command::Unsupported => {
            let passed = session.ask(node, None, |caller| node.gate.pass(caller));
            let refusal = passed.err().unwrap_or(Refusal::new(Code::NotAvailable));
            session.refuse(node, "rpc", id, refusal);
        }
        Command::Pong => {}
        command => return Ok(Some(Box::pin(later(node.clone(), session.clone(), id, command)))),
    }
    Ok(None)
}

/// Commands that may have to wait: for a channel to wake, for its log, for the session's own publishes.
async fn later(node: Arc<Node>, session: Arc<Session>, id: u32, command: Command) {
    let (op, done) = match command {
        Command::Subscribe(asked) => ("subscribe", subscribe(&node, &session, id, asked).await),
        Command::Presence { channel } => ("presence", presence(&node, &session, id, &channel, false).await),
        Command::PresenceStats { channel } => {
            ("presence", presence(&node, &session, id, &channel, true).await)
        }
        Command::History(asked) => ("history", history(&node, &session, id, asked).await),
        Command::Rpc { method, data } => ("rpc", rpc(&node, &session, id, method, data).await),
        Command::StartRun(asked) => ("ai.start", run::start(&node, &session, id, asked).await),
        Command::CancelRun(asked) => ("ai.cancel", run::cancel(&node, &session, id, asked).await),
        _ => return,
    };
    if let Err(refusal) = done {
        session.refuse(&node, op, id, refusal);
    }
}

// ------------------------------------------------------------------------------------------------------------- connect

fn connect_now(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    connect: Connect,
) -> Result<Option<Soon<()>>, Disconnect> {
    let claims = match connect.token.is_empty() {
        true => None,
        false => {
            Some(node.keys.claims(&connect.token).map_err(|_| refused(node, Disconnect::INVALID_TOKEN))?)
        }
    };
    let verdict = node.gate.connect(&connect, claims, &session.client, node.host.now_ms());
    let entry = match verdict {
        Ok(Verdict::Passed(entry)) => entry,
        Ok(Verdict::Ask(question)) => {
            let (node, session) = (node.clone(), session.clone());
            return Ok(Some(Box::pin(async move {
                let answer = hooks::ask(&node, &session, question.asked()).await;
                let entry = node.gate.answer_connect(*question, answer, node.host.now_ms());
                let entered = match entry {
                    Ok(entry) => enter(&node, &session, id, connect, entry),
                    Err(denial) => turned_away(&node, &session, id, denial).map(|()| None),
                };
                match entered {
                    Ok(Some(rest)) => rest.await,
                    Ok(None) => {}
                    Err(why) => session.close(why),
                }
            })));
        }
        Err(denial) => return turned_away(node, session, id, denial).map(|()| None),
    };
    enter(node, session, id, connect, entry)
}

/// Nobody comes in: the reply says why, or the link is closed.
fn turned_away(node: &Node, session: &Session, id: u32, denial: Denial) -> Result<(), Disconnect> {
    match hooks::refusal(node, denial) {
        Ok(refusal) => {
            session.refused();
            session.refuse(node, "connect", id, refusal);
            Ok(())
        }
        Err(why) => Err(refused(node, why)),
    }
}

/// The session begins.
fn enter(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    connect: Connect,
    entry: Entry,
) -> Result<Option<Soon<()>>, Disconnect> {
    let Entry { principal, data } = entry;
    session.open(principal.clone());
    node.say(Fact::Connected { user: principal.user().clone(), client: session.client.clone() });
    let granted = node.gate.granted(&principal);
    if granted.is_empty() {
        connected(node, session, id, Vec::new(), data);
        return Ok(None);
    }
    if granted.len() > node.gate.rules().subscriptions_max {
        return Err(Disconnect::CHANNEL_LIMIT);
    }
    let (node, session) = (node.clone(), session.clone());
    Ok(Some(Box::pin(async move {
        let Some((opened, starts)) = granted_subs(&node, &session, &connect, granted).await else { return };
        connected(&node, &session, id, starts, data);
        for (channel, sub) in opened {
            follow::attach(&node, &session, sub);
            came(&node, &session, &channel, sub, None);
        }
    })))
}

fn refused(node: &Node, why: Disconnect) -> Disconnect {
    node.say(Fact::Refused { op: "connect", code: Code::Unauthorized, user: Arc::from("") });
    why
}

/// Server-side subscriptions start before the reply that tells of them, and follow after it. `None`: the session is over.
async fn granted_subs(
    node: &Arc<Node>,
    session: &Arc<Session>,
    connect: &Connect,
    granted: Vec<Admitted<Follow>>,
) -> Option<(Vec<(Arc<Channel>, SubId)>, Vec<(fireside_core::ChannelName, Start)>)> {
    let (mut opened, mut starts) = (Vec::new(), Vec::new());
    for admitted in granted {
        let name = admitted.channel();
        let claimed = connect.subs.iter().find(|(known, _)| known == name.as_str()).map(|(_, at)| *at);
        let started = match awake(node, name, admitted.policy()).await {
            Ok(channel) => follow::start(node, &channel, claimed).await.map(|start| (channel, start)),
            Err(refusal) => Err(refusal),
        };
        let Ok((channel, (start, from))) = started else {
            session.close(Disconnect::SERVER_ERROR);
            return None;
        };
        let options =
            SubOptions { join_leave: channel.policy.join_leave, by_server: true, ..SubOptions::default() };
        let sub = session.add_sub(node, &channel, from, options).ok()??;
        starts.push((channel.name.clone(), start));
        opened.push((channel, sub));
    }
    Some((opened, starts))
}

fn connected(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    subs: Vec<(fireside_core::ChannelName, Start)>,
    data: Option<Bytes>,
) {
    let ttl_s = ttl_s(node, session);
    let connected = Connected {
        client: session.client.clone(),
        ttl_s,
        subs,
        ping_s: (node.settings.ping_ms / 1000) as u32,
        pong: true,
        data,
    };
    session.tell_in_order(Event::Reply { id, reply: Reply::Connected(Box::new(connected)) });
    // The first ping comes after half to all of the interval, so that many who came together do not pong together.
    let half = node.settings.ping_ms / 2;
    let wait_ms = half + (node.host.random() % u128::from(half.max(1))) as u64;
    session.begin_pings(node, wait_ms);
}

/// Whole seconds until the token is over, at least 1. Whoever came in without one has none to refresh.
fn ttl_s(node: &Node, session: &Session) -> Option<u32> {
    let expires_ms = session.principal().filter(|who| who.has_token())?.expires_ms()?;
    Some(seconds_until(node, expires_ms))
}

fn seconds_until(node: &Node, end_ms: u64) -> u32 {
    let left_ms = end_ms.saturating_sub(node.host.now_ms());
    u32::try_from(left_ms / 1000).unwrap_or(u32::MAX).max(1)
}

fn refresh(node: &Arc<Node>, session: &Arc<Session>, id: u32, token: &str) -> Result<(), Disconnect> {
    if let Err(refusal) = session.ask(node, None, |caller| node.gate.pass_refresh(caller)) {
        session.refuse(node, "refresh", id, refusal);
        return Ok(());
    }
    let claims = node.keys.claims(token).map_err(|_| Disconnect::INVALID_TOKEN)?;
    let Some(who) = session.principal() else { return Err(Disconnect::BAD_REQUEST) };
    let principal = match node.gate.refresh(&who, claims, node.host.now_ms()) {
        Ok(principal) => principal,
        Err(denial) => {
            session.refuse(node, "refresh", id, hooks::refusal(node, denial)?);
            return Ok(());
        }
    };
    session.replace_principal(principal.clone());
    session.look_again(node);
    // The newer token may allow less: what it no longer allows ends now, queued records included.
    for channel in session.subscriptions_by_right() {
        if !node.gate.may_follow(&principal, &channel) && session.remove_sub(node, &channel).is_some() {
            session.tell_in_order(Event::Unsubscribed { channel, why: Unsubscribed::EXPIRED });
        }
    }
    session.reply(id, Reply::Refreshed { client: session.client.clone(), ttl_s: ttl_s(node, session) });
    Ok(())
}

// ------------------------------------------------------------------------------------------------------------- publish

/// Which reply a publish gets.
#[derive(Clone, Copy)]
struct Publishing {
    id: u32,
    /// It wants the position (rpc), not the protocol's empty result.
    positioned: bool,
}

/// Proposes the record at once; or asks its backend, and meanwhile the session's next command waits, so that its order stays.
fn publish(node: &Arc<Node>, session: &Arc<Session>, reply: Publishing, asked: Publish) -> Option<Soon<()>> {
    let name = asked.channel.clone();
    let question = match session.ask(node, Some(&name), |caller| node.gate.publish(caller, asked)) {
        Ok(Verdict::Passed(write)) => {
            propose(node, session, reply, write);
            return None;
        }
        Ok(Verdict::Ask(question)) => question,
        Err(refusal) => {
            session.refuse(node, "publish", reply.id, refusal);
            return None;
        }
    };
    let (node, session) = (node.clone(), session.clone());
    Some(Box::pin(async move {
        if let Some(known) = known(&node, &session, &question).await {
            session.publish_begins(question.channel());
            session.published(&node, question.channel(), reply.id, reply.positioned, known);
            return session.flush();
        }
        let answer = hooks::ask(&node, &session, question.asked()).await;
        match node.gate.answer_publish(*question, answer, node.host.now_ms()) {
            Ok(write) => propose(&node, &session, reply, write),
            Err(denial) => hooks::deny(&node, &session, "publish", reply.id, denial),
        }
    }))
}

/// A record that is there already is answered without asking: whoever repeats a publish whose answer was lost must not hear that
/// it is not allowed any more.
async fn known(
    node: &Arc<Node>,
    session: &Arc<Session>,
    question: &Question<Admitted<Write>>,
) -> Option<Result<Placed, Refusal>> {
    let key = question.key()?;
    session.published_all(question.channel()).await;
    let channel = match awake(node, question.channel(), question.policy()).await {
        Ok(channel) => channel,
        Err(refusal) => return Some(Err(refusal)),
    };
    let known = lock(&channel.state).core()?.publish_known(key, node.host.now_ms())?;
    Some(known.map(|position| {
        node.say(Fact::Duplicate);
        Placed { position: Some(position), duplicate: true, run: None }
    }))
}

fn propose(node: &Arc<Node>, session: &Arc<Session>, reply: Publishing, write: Admitted<Write>) {
    let Publishing { id, positioned } = reply;
    let channel = match node.directory.get(node, write.channel(), write.policy()) {
        Ok(channel) => channel,
        Err(refusal) => return session.refuse(node, "publish", id, refusal),
    };
    session.publish_begins(write.channel());
    let asker = Asker::Session { session: session.clone(), id, positioned };
    if channel.propose(node, write, asker) {
        session.drive_later(&channel);
    }
}

// ----------------------------------------------------------------------------------------------------------- subscribe

async fn subscribe(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    asked: Subscribe,
) -> Result<(), Refusal> {
    let name = asked.channel.clone();
    let ticket = match ticket(node, session, &name, &asked.token) {
        Ok(ticket) => ticket,
        Err(denial) => {
            let refused = hooks::refuse(node, session, denial);
            return session.ask(node, None, |_| refused);
        }
    };
    let verdict =
        session.ask(node, Some(&name), |caller| node.gate.subscribe(caller, asked, ticket.as_ref()))?;
    let admitted = match verdict {
        Verdict::Passed(admitted) => admitted,
        Verdict::Ask(question) => {
            let answer = hooks::ask(node, session, question.asked()).await;
            match node.gate.answer_subscribe(*question, answer, node.host.now_ms()) {
                Ok(admitted) => admitted,
                Err(denial) => return hooks::refuse(node, session, denial),
            }
        }
    };
    if session.follows(admitted.channel()) {
        return Err(Code::AlreadySubscribed.into());
    }
    if session.subscriptions().len() >= node.gate.rules().subscriptions_max {
        return Err(Code::LimitExceeded.into());
    }
    session.published_all(admitted.channel()).await;
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let Follow { asked, filter, data, info, expires_ms, by_token } = admitted.command();
    let (mut start, from) = follow::start(node, &channel, asked.recover).await?;
    if let Some(filter) = filter {
        start.page.retain(|record| filter.wants(record));
    }
    let patches = asked.patches && channel.policy.patches && start.position.is_some();
    let ttl_s = expires_ms.filter(|_| *by_token).map(|end| seconds_until(node, end));
    let start = Start { data: data.clone(), patches, ttl_s, ..start };
    if channel.name.run().is_some() && lock(&channel.state).has_no_records() {
        return Err(Refusal::because(Code::UnknownChannel, "there is no such run, or its log is gone"));
    }
    if asked.reject_unrecovered && start.was_recovering && !start.recovered {
        return Err(Code::UnrecoverablePosition.into());
    }
    let policy = &channel.policy;
    let join_leave = policy.join_leave && (policy.join_leave_push || asked.join_leave);
    let patches_from = start.position.filter(|_| start.patches).map(|position| position.offset);
    let options = SubOptions {
        filter: filter.clone(),
        patches_from,
        join_leave,
        expires_ms: *expires_ms,
        by_token: *by_token,
        ..SubOptions::default()
    };
    let Some(sub) = session.add_sub(node, &channel, from, options)? else { return Ok(()) };
    session.tell_in_order(Event::Reply { id, reply: Reply::Subscribed(Box::new(start)) });
    if expires_ms.is_some() {
        session.look_again(node);
    }
    follow::attach(node, session, sub);
    came(node, session, &channel, sub, info.clone());
    Ok(())
}

/// What the subscription token opens that a session shows for a channel, if it shows one.
fn ticket(node: &Node, session: &Session, channel: &str, token: &str) -> Result<Option<Ticket>, Denial> {
    if token.is_empty() {
        return Ok(None);
    }
    let who = session.principal().ok_or(Denial::Refused(Code::Unauthorized.into()))?;
    node.gate.ticket(&who, channel, node.keys.claims(token).ok(), node.host.now_ms()).map(Some)
}

/// A newer token prolongs a subscription.
fn sub_refresh(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    channel: &str,
    token: &str,
) -> Result<(), Disconnect> {
    let passed = session.ask(node, None, |caller| node.gate.pass(caller));
    let judged = passed.map_err(Denial::Refused).and_then(|()| ticket(node, session, channel, token));
    let refusal = match judged {
        Ok(Some(ticket)) if session.renew_sub(node, ticket.channel(), ticket.expires_ms()) => {
            let ttl_s = ticket.expires_ms().map(|end| seconds_until(node, end));
            session.reply(id, Reply::SubRefreshed { ttl_s });
            return Ok(());
        }
        Ok(Some(_)) => {
            Refusal::because(Code::PermissionDenied, "this channel is not followed by its own token")
        }
        Ok(None) => Refusal::because(Code::BadRequest, "token is missing"),
        Err(denial) => hooks::refusal(node, denial)?,
    };
    session.refuse(node, "sub_refresh", id, refusal);
    Ok(())
}

/// A backend makes this session follow a channel: told first, then its records follow.
pub(crate) async fn place(
    node: &Arc<Node>,
    session: &Arc<Session>,
    admitted: &Admitted<Follow>,
) -> Result<(), Refusal> {
    if session.follows(admitted.channel()) {
        return Ok(());
    }
    if session.subscriptions().len() >= node.gate.rules().subscriptions_max {
        return Err(Code::LimitExceeded.into());
    }
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let (mut start, mut from) = follow::start(node, &channel, admitted.command().asked.recover).await?;
    // The push has no room for a first page: all of it follows as ordinary records.
    start.page.clear();
    from = start.position.filter(|_| start.recovered).unwrap_or(from);
    start.data = admitted.command().data.clone();
    let options = SubOptions {
        join_leave: channel.policy.join_leave,
        by_server: true,
        kept: true,
        ..SubOptions::default()
    };
    // It may have come by itself meanwhile, or be over.
    let Ok(Some(sub)) = session.add_sub(node, &channel, from, options) else { return Ok(()) };
    session.tell_in_order(Event::Subscribed { channel: channel.name.clone(), start });
    follow::attach(node, session, sub);
    came(node, session, &channel, sub, None);
    Ok(())
}

/// A member came: added first, then everybody who asked for it is told, the member too.
fn came(
    node: &Arc<Node>,
    session: &Arc<Session>,
    channel: &Arc<Channel>,
    sub: SubId,
    sub_info: Option<Bytes>,
) {
    let Some(who) = session.principal().map(|principal| principal.member().clone()) else { return };
    let who = if sub_info.is_some() { Arc::new(Author { sub_info, ..(*who).clone() }) } else { who };
    let policy = &channel.policy;
    let is_new = (policy.presence || policy.join_leave) && {
        let mut state = lock(&channel.state);
        // A subscription that ended already has left already. One that ends from here on leaves after this lock.
        session.has(sub) && state.presence.join(&who)
    };
    if is_new && policy.join_leave {
        channel.tell_passing(node, Event::Joined { channel: channel.name.clone(), who });
    }
}

fn unsubscribe(node: &Arc<Node>, session: &Arc<Session>, id: u32, channel: &str) {
    if let Err(refusal) = session.ask(node, None, |caller| node.gate.pass(caller)) {
        return session.refuse(node, "unsubscribe", id, refusal);
    }
    if let Ok(name) = fireside_core::ChannelName::parse(channel) {
        session.remove_sub(node, &name);
    }
    session.tell_in_order(Event::Reply { id, reply: Reply::Unsubscribed });
}

// ----------------------------------------------------------------------------------------------------------------- rpc

/// A method that is not ours is its backend's.
async fn rpc(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    method: String,
    data: Bytes,
) -> Result<(), Refusal> {
    let question = session.ask(node, None, |caller| node.gate.rpc(caller, method, data))?;
    let answer = hooks::ask(node, session, question.asked()).await;
    match node.gate.answer_rpc(question, answer) {
        Ok(result) => session.reply(id, Reply::Rpc(result)),
        Err(denial) => return hooks::refuse(node, session, denial),
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------- read

async fn presence(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    channel: &str,
    numbers: bool,
) -> Result<(), Refusal> {
    let admitted = session.ask(node, Some(channel), |caller| node.gate.presence(caller, channel))?;
    session.reply(id, presence_of(node, &admitted, numbers));
    Ok(())
}

/// Who is there. A channel that sleeps has nobody in it, and need not wake to say so.
pub(crate) fn presence_of(node: &Arc<Node>, admitted: &Admitted<SeePresence>, numbers: bool) -> Reply {
    let channel = node.directory.find(admitted.channel());
    let state = channel.as_ref().map(|channel| lock(&channel.state));
    match numbers {
        true => Reply::PresenceStats {
            clients: state.as_ref().map_or(0, |state| state.presence.clients()),
            users: state.as_ref().map_or(0, |state| state.presence.users()),
        },
        false => Reply::Presence(state.map(|state| state.presence.members()).unwrap_or_default()),
    }
}

async fn history(node: &Arc<Node>, session: &Arc<Session>, id: u32, asked: History) -> Result<(), Refusal> {
    let name = asked.channel.clone();
    let admitted = session.ask(node, Some(&name), |caller| node.gate.history(caller, asked))?;
    session.published_all(admitted.channel()).await;
    let page = history_of(node, &admitted).await?;
    session.reply(id, Reply::History(Box::new(page)));
    Ok(())
}

/// One page of what was, in either direction.
pub(crate) async fn history_of(node: &Arc<Node>, admitted: &Admitted<History>) -> Result<Page, Refusal> {
    let asked = admitted.command();
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let (newest, oldest, shown_since_ms, since) = {
        let mut state = lock(&channel.state);
        let now_ms = node.host.now_ms();
        let Some(core) = state.core_mut() else { return Err(Code::Internal.into()) };
        core.trim(now_ms);
        let since = asked.since.map(|claimed| judge(core, claimed, asked.reverse)).transpose()?;
        (core.newest(), core.oldest(), core.shown_since_ms(now_ms), since)
    };
    let limit = match asked.limit {
        0 => return Ok(Page { records: Vec::new(), newest }),
        n if n < 0 => limits::PAGE_RECORDS_MAX,
        n => (n as usize).min(limits::PAGE_RECORDS_MAX),
    };
    let mut records = match asked.reverse {
        false => {
            let from = Position::new(newest.epoch, since.unwrap_or(oldest - 1).max(oldest - 1));
            follow::records(node, &channel, from, newest.offset, limit).await?
        }
        true => {
            let last = since.map_or(newest.offset, |offset| offset.saturating_sub(1)).min(newest.offset);
            backwards(node, &channel, Position::new(newest.epoch, last), oldest, limit).await?
        }
    };
    records.retain(|record| record.time_ms >= shown_since_ms);
    Ok(Page { records, newest })
}

/// Reading back may begin at any offset of this epoch; reading on, only where nothing is missing.
fn judge(core: &fireside_core::channel::Channel, claimed: Claimed, reverse: bool) -> Result<u64, Refusal> {
    use fireside_core::channel::Standing;
    match core.standing(claimed) {
        Standing::Readable(position) => Ok(position.offset),
        Standing::Gone if reverse && claimed.epoch == Some(core.newest().epoch) => Ok(claimed.offset),
        Standing::Gone => Err(Code::UnrecoverablePosition.into()),
    }
}

/// Newest first, read in short stretches so that the byte bound cuts the far end and not the near one.
pub(crate) async fn backwards(
    node: &Arc<Node>,
    channel: &Channel,
    last: Position,
    oldest: u64,
    limit: usize,
) -> Result<Vec<fireside_core::Record>, Refusal> {
    const STRETCH: u64 = 32;
    let (mut all, mut bytes, mut until) = (Vec::new(), 0, last.offset);
    while until >= oldest && all.len() < limit && bytes < limits::PAGE_BYTES_MAX {
        let after = until.saturating_sub(STRETCH).max(oldest - 1);
        let from = Position::new(last.epoch, after);
        let mut stretch = Vec::new();
        while stretch.last().map_or(after, |record: &fireside_core::Record| record.offset) < until {
            let reached = stretch
                .last()
                .map_or(from, |record: &fireside_core::Record| Position::new(last.epoch, record.offset));
            let more = follow::records(node, channel, reached, until, STRETCH as usize).await?;
            if more.is_empty() {
                return Err(Code::Internal.into());
            }
            stretch.extend(more);
        }
        for record in stretch.into_iter().rev() {
            bytes += record.cost();
            if all.len() == limit || (bytes > limits::PAGE_BYTES_MAX && !all.is_empty()) {
                return Ok(all);
            }
            all.push(record);
        }
        until = after;
    }
    Ok(all)
}

/// The channel, awake.
pub(crate) async fn awake(
    node: &Arc<Node>,
    name: &fireside_core::ChannelName,
    policy: &Arc<fireside_core::Namespace>,
) -> Result<Arc<Channel>, Refusal> {
    let channel = node.directory.get(node, name, policy)?;
    channel.awake().await?;
    Ok(channel)
}
