//! Transcripts, byte for byte: what clients send is decoded, and what they are told is built here and compared.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::batch::ProposalId;
use fireside_core::command::{CancelRun, Connect, History, Publish, StartRun, Subscribe};
use fireside_core::event::{Connected, Page, Start};
use fireside_core::{
    Author, Batch, ChannelName, Claimed, Code, Command, Disconnect, Epoch, Event, FilterNode, Kind, Position,
    Record, Refusal, Reply, Request, Unsubscribed,
};
use fireside_wire::Protocol;
use fireside_wire::centrifuge_json::CentrifugeJson;

/// One transcript and how far the test has come in it.
struct Transcript {
    file: &'static str,
    lines: Vec<(usize, &'static str)>,
    next: usize,
}

impl Transcript {
    /// Lines that begin with `>` or `<`; the others are prose.
    fn of(file: &'static str, text: &'static str) -> Self {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.starts_with(['<', '>'])).collect();
        Transcript { file, lines, next: 0 }
    }

    fn line(&mut self, prefix: &str) -> &'static str {
        let (number, line) = *self.lines.get(self.next).unwrap_or_else(|| panic!("{} is over", self.file));
        self.next += 1;
        line.strip_prefix(prefix)
            .unwrap_or_else(|| panic!("{}:{number} begins with {prefix}: {line}", self.file))
    }

    /// The next line is a client's and means this.
    fn client(&mut self, id: u32, command: Command) {
        let line = self.line("> ");
        let mut out = Vec::new();
        CentrifugeJson.decode(line.as_bytes(), &mut out).unwrap();
        assert_eq!(out, [Request { id, command }], "{line}");
    }

    /// The next lines are what the server writes there, message by message.
    fn server(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        for message in String::from_utf8(out).unwrap().split('\n') {
            assert_eq!(message, self.line("< ").replace("VERSION", env!("CARGO_PKG_VERSION")));
        }
    }

    fn event(&mut self, event: Event) {
        self.server(|out| CentrifugeJson.event(&event, out));
    }

    fn reply(&mut self, id: u32, reply: Reply) {
        self.event(Event::Reply { id, reply });
    }

    fn refused(&mut self, id: u32, refusal: impl Into<Refusal>) {
        self.reply(id, Reply::Refused(refusal.into()));
    }

    fn records(&mut self, batch: &Batch, after: u64) {
        self.server(|out| CentrifugeJson.records(batch, after, out));
    }

    fn disconnect(&mut self, why: &Disconnect) {
        self.server(|out| CentrifugeJson.disconnect(why, out));
    }

    fn end(self) {
        assert_eq!(self.next, self.lines.len(), "{} has lines that nobody compared", self.file);
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn at(offset: u64) -> Position {
    Position::new(Epoch(7), offset)
}

fn claim(epoch: Epoch, offset: u64) -> Option<Claimed> {
    Some(Claimed { epoch: Some(epoch), offset })
}

fn anna() -> Arc<Author> {
    Arc::new(Author {
        user: "42".into(),
        client: "c-1".into(),
        info: Some(r#"{"name":"Anna"}"#.into()),
        sub_info: None,
    })
}

fn seven() -> Arc<Author> {
    Arc::new(Author { user: "7".into(), client: "c-7".into(), ..Author::default() })
}

fn record(offset: u64, body: &'static str) -> Record {
    Record {
        offset,
        time_ms: 1_700_000_000_000,
        kind: Kind::Plain,
        author: None,
        key: None,
        conflate: None,
        tags: Vec::new(),
        body: body.into(),
    }
}

fn by_anna(offset: u64, body: &'static str) -> Record {
    Record { author: Some(anna()), ..record(offset, body) }
}

fn batch(name: &str, records: Vec<Record>) -> Arc<Batch> {
    Batch::new(channel(name), Epoch(7), ProposalId(1), ProposalId(0), records)
}

fn subscribe(name: &str) -> Subscribe {
    Subscribe { channel: name.into(), ..Subscribe::default() }
}

fn publish(name: &str, body: &'static str) -> Publish {
    Publish { channel: name.into(), body: body.into(), ..Publish::default() }
}

fn live(offset: u64) -> Start {
    Start { recoverable: true, positioned: true, position: Some(at(offset)), ..Start::default() }
}

fn connected(client: &str) -> Connected {
    Connected { client: client.into(), ttl_s: None, subs: Vec::new(), ping_s: 25, pong: true, data: None }
}

#[test]
fn connect() {
    let mut t = Transcript::of("connect.txt", include_str!("golden/connect.txt"));
    t.client(1, Command::Connect(Connect { token: "t1".into(), name: "js".into(), ..Connect::default() }));
    let subs = vec![(channel("#42"), live(0))];
    t.reply(1, Reply::Connected(Box::new(Connected { ttl_s: Some(3600), subs, ..connected("c-1") })));
    t.event(Event::Ping);
    t.client(0, Command::Pong);
    t.client(2, Command::Refresh { token: "t2".into() });
    t.reply(2, Reply::Refreshed { client: "c-1".into(), ttl_s: Some(60) });
    t.client(3, Command::SubRefresh { channel: "chat:1".into(), token: "t3".into() });
    t.reply(3, Reply::SubRefreshed { ttl_s: Some(30) });
    t.client(4, Command::Unsupported);
    t.refused(4, Code::NotAvailable);

    let data = Bytes::from_static(br#"{"lang":"de"}"#);
    t.client(1, Command::Connect(Connect { data, version: "1.2.3".into(), ..Connect::default() }));
    let data = Some(Bytes::from_static(br#"{"motd":"hello"}"#));
    t.reply(1, Reply::Connected(Box::new(Connected { data, ..connected("c-2") })));

    let subs = vec![
        ("#42".to_owned(), Claimed { epoch: Some(Epoch(7)), offset: 1 }),
        ("news".to_owned(), Claimed { epoch: Some(Epoch::FOREIGN), offset: 0 }),
    ];
    t.client(1, Command::Connect(Connect { token: "t1".into(), subs, ..Connect::default() }));
    let page = vec![record(2, r#"{"n":2}"#)];
    let subs = vec![(channel("#42"), Start { was_recovering: true, recovered: true, page, ..live(1) })];
    t.reply(1, Reply::Connected(Box::new(Connected { subs, ..connected("c-3") })));

    t.client(1, Command::Connect(Connect { token: "t0".into(), ..Connect::default() }));
    t.refused(1, Code::TokenExpired);
    t.end();
}

#[test]
fn subscribing() {
    let mut t = Transcript::of("subscribe.txt", include_str!("golden/subscribe.txt"));
    t.client(1, Command::Subscribe(subscribe("live:1")));
    t.reply(1, Reply::Subscribed(Box::default()));

    t.client(
        2,
        Command::Subscribe(Subscribe {
            positioned: true,
            recoverable: true,
            join_leave: true,
            token: "st".into(),
            ..subscribe("chat:1")
        }),
    );
    t.reply(2, Reply::Subscribed(Box::new(live(0))));
    t.records(&batch("chat:1", vec![by_anna(1, r#"{"n":1}"#)]), 0);

    t.client(
        3,
        Command::Subscribe(Subscribe {
            recover: claim(Epoch(7), 8),
            reject_unrecovered: true,
            patches: true,
            ..subscribe("chat:1")
        }),
    );
    let page = vec![record(9, r#"{"a":1}"#)];
    let start = Start { was_recovering: true, recovered: true, page, oldest: 3, ..live(8) };
    t.reply(3, Reply::Subscribed(Box::new(start)));
    let tagged = Record { tags: vec![("k".into(), "v".into())], ..by_anna(10, r#""text""#) };
    t.records(&batch("chat:1", vec![tagged]), 9);

    t.client(4, Command::Subscribe(Subscribe { recover: claim(Epoch::FOREIGN, 8), ..subscribe("chat:1") }));
    t.reply(4, Reply::Subscribed(Box::new(Start { was_recovering: true, oldest: 3, ..live(10) })));

    let beginning = Some(Claimed { epoch: None, offset: 0 });
    t.client(5, Command::Subscribe(Subscribe { recover: beginning, ..subscribe("chat:1") }));
    t.refused(5, Code::UnrecoverablePosition);

    t.client(6, Command::Subscribe(Subscribe { unsupported: true, ..subscribe("map:1") }));
    t.refused(6, Code::NotAvailable);
    let (key, cmp, val) = ("k".into(), "eq".into(), "v".into());
    let filter = Some(Box::new(FilterNode { key, cmp, val, ..FilterNode::default() }));
    t.client(7, Command::Subscribe(Subscribe { filter, ..subscribe("chat:1") }));
    t.refused(7, Code::NotAvailable);

    t.client(8, Command::Unsubscribe { channel: "chat:1".into() });
    t.reply(8, Reply::Unsubscribed);
    t.end();
}

#[test]
fn pushes() {
    let mut t = Transcript::of("push.txt", include_str!("golden/push.txt"));
    let chat = channel("chat:1");
    t.event(Event::Joined { channel: chat.clone(), who: seven() });
    t.event(Event::Left { channel: chat.clone(), who: seven() });
    t.event(Event::Unsubscribed { channel: chat.clone(), why: Unsubscribed::INSUFFICIENT_STATE });
    t.event(Event::Unsubscribed { channel: chat.clone(), why: Unsubscribed::BY_SERVER });
    t.event(Event::Missed { channel: chat, entries: 12 });
    let start = Start { position: Some(Position::new(Epoch(9), 3)), ..live(0) };
    t.event(Event::Subscribed { channel: channel("news"), start });
    t.event(Event::Subscribed { channel: channel("live:1"), start: Start::default() });
    t.disconnect(&Disconnect::SHUTDOWN);
    t.disconnect(&Disconnect::INVALID_TOKEN);

    let erased = Record { kind: Kind::Tombstone, tags: vec![("k".into(), "v".into())], ..record(4, "") };
    let run = Record { kind: Kind::RunStart, ..record(3, r#"{"type":"run.start"}"#) };
    let three = batch("story:1", vec![by_anna(2, r#"{"type":"paragraph"}"#), run, erased]);
    t.records(&three, 0);
    t.records(&three, 3);

    let forged = Record { tags: vec![("fireside".into(), "run".into())], ..record(0, r#"{"typing":true}"#) };
    t.records(&batch("live:1", vec![forged]), 0);
    t.end();
}

#[test]
fn calls() {
    let mut t = Transcript::of("calls.txt", include_str!("golden/calls.txt"));
    t.client(1, Command::Publish(publish("chat:1", r#"{"x":1}"#)));
    t.reply(1, Reply::Published);
    let malformed = |t: &mut Transcript, id, why: &'static str| {
        t.client(id, Command::Malformed { why });
        t.refused(id, Refusal::because(Code::BadRequest, why));
    };
    malformed(&mut t, 2, "data is missing");
    t.client(3, Command::Publish(publish("chat:1", "null")));
    let faults = r#"[{"path":"","keyword":"type","message":"null is not an object"}]"#;
    t.refused(3, Refusal::because(Code::BadRequest, "the body breaks the schema").with_detail(faults.into()));
    t.client(4, Command::Unsupported);
    t.refused(4, Code::NotAvailable);
    malformed(&mut t, 5, "the body has an object with the same name twice");
    t.client(6, Command::Publish(publish("chat:1", "2")));
    t.refused(6, Refusal::new(Code::TooManyRequests).retry_after(120));
    t.client(7, Command::Publish(publish("chat:1", "3")));
    t.refused(7, Code::Internal);
    t.client(8, Command::Publish(publish("chat:1", "4")));
    t.refused(8, Code::StoreFull);

    t.client(10, Command::Presence { channel: "chat:1".into() });
    t.reply(10, Reply::Presence(vec![anna(), seven()]));
    t.client(11, Command::Presence { channel: "chat:2".into() });
    t.reply(11, Reply::Presence(Vec::new()));
    t.client(12, Command::PresenceStats { channel: "chat:1".into() });
    t.reply(12, Reply::PresenceStats { clients: 2, users: 1 });
    t.client(13, Command::PresenceStats { channel: "chat:2".into() });
    t.reply(13, Reply::PresenceStats { clients: 0, users: 0 });

    let history = History { channel: "chat:1".into(), ..History::default() };
    t.client(20, Command::History(History { limit: 10, since: claim(Epoch(7), 5), ..history.clone() }));
    let records = vec![record(6, r#"{"n":6}"#), record(7, r#"{"n":7}"#)];
    t.reply(20, Reply::History(Box::new(Page { records, newest: at(10) })));
    t.client(21, Command::History(history.clone()));
    t.reply(21, Reply::History(Box::new(Page { records: Vec::new(), newest: at(10) })));
    let since = claim(Epoch::FOREIGN, 5);
    t.client(22, Command::History(History { limit: -1, since, reverse: true, ..history }));
    t.refused(22, Code::UnrecoverablePosition);

    t.client(30, Command::Rpc { method: "m".into(), data: "{}".into() });
    t.refused(30, Code::NotAvailable);
    t.client(31, Command::Rpc { method: "time".into(), data: Bytes::new() });
    t.reply(31, Reply::Rpc(r#"{"now":1}"#.into()));
    let once = Publish { key: Some("k".into()), ..publish("chat:1", r#"{"x":1}"#) };
    t.client(32, Command::PublishRpc(Publish { expected: claim(Epoch(7), 9), ..once.clone() }));
    t.reply(32, Reply::PublishedAt { position: Some(at(10)), duplicate: false });
    t.client(33, Command::PublishRpc(Publish { body: r#"{"x":2}"#.into(), ..once }));
    t.refused(33, Code::Conflict);
    let input = r#"{"text":"go on"}"#.into();
    t.client(34, Command::StartRun(StartRun { channel: "story:1".into(), key: "k".into(), input }));
    t.reply(34, Reply::RunStarted { run: "r1".into(), channel: channel("story:1/run/r1"), epoch: Epoch(3) });
    let run = Some("r1".to_owned());
    t.client(
        35,
        Command::CancelRun(CancelRun { channel: "story:1".into(), run, key: None, reason: "enough".into() }),
    );
    t.reply(35, Reply::RunCancelled { status: "cancelled" });
    malformed(&mut t, 36, "either run or key names what to cancel");

    t.client(0, Command::Send { data: r#"{"hello":"there"}"#.into() });
    t.client(40, Command::Unsupported);
    t.refused(40, Code::NotAvailable);
    t.end();
}
