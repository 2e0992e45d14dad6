//! The Protobuf form says what the JSON form says. Its messages are read and written here by an independent codec (prost), from the fields as
//! `client.proto` of the protocol numbers them.

mod proto;
mod strategies;

use std::sync::Arc;

use fireside_core::batch::ProposalId;
use fireside_core::event::Start;
use fireside_core::limits::FRAME_COMMANDS_MAX;
use fireside_core::{Batch, ChannelName, Command, Disconnect, Epoch, Event, Kind, Record, Reply, Request};
use fireside_wire::Protocol;
use fireside_wire::centrifuge_json::CentrifugeJson;
use fireside_wire::centrifuge_protobuf::CentrifugeProtobuf;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use strategies::{channel, event, json_value, page};

fn decoded(protocol: impl Protocol, frame: &[u8]) -> Result<Vec<Request>, Disconnect> {
    let mut out = Vec::new();
    protocol.decode(frame, &mut out).map(|()| out)
}

/// The messages of a frame, as the independent codec reads them, in the protocol's own JSON.
fn read(mut frame: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while !frame.is_empty() {
        let reply = proto::Reply::decode_length_delimited(&mut frame).expect("a message of the protocol");
        messages.push(plain(serde_json::to_value(reply).unwrap()));
    }
    messages
}

fn read_json(text: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(text).unwrap();
    if value["presence"] == json!({"presence": {}}) {
        // Protobuf has no empty maps.
        value["presence"] = json!({});
    }
    plain(value)
}

/// Without the zero values that the JSON form shows where SDKs read them unasked. Bodies stay as they are.
fn plain(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let kept = map.into_iter().filter_map(|(name, value)| match (name.as_str(), value) {
        ("data" | "conn_info", value) => Some((name, value)),
        (_, Value::Array(items)) => Some((name, items.into_iter().map(plain).collect())),
        (_, value) if [json!(0), json!(""), json!(false), Value::Null].contains(&value) => None,
        (_, value) => Some((name, plain(value))),
    });
    Value::Object(kept.collect())
}

fn spoken(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    CentrifugeProtobuf.event(event, &mut out);
    out
}

/// Records from offset 1 whose bodies are much alike, one of them perhaps erased.
fn patchable() -> impl Strategy<Value = Vec<Record>> {
    let erased = prop_oneof![6 => Just(Kind::Plain), 1 => Just(Kind::Tombstone)];
    prop::collection::vec((page(), "[é🔥a-c]{0,3}", any::<bool>(), erased), 1..6).prop_map(|drawn| {
        let record =
            |(offset, (page, text, is_long, kind)): (u64, (Vec<Record>, String, bool, Kind))| Record {
                offset,
                time_ms: 1,
                kind,
                author: page.first().and_then(|record| record.author.clone()),
                key: None,
                conflate: None,
                tags: Vec::new(),
                body: format!(
                    r#"{{"long":"{}{text}","text":"{text}"}}"#,
                    if is_long { "🔥 é ".repeat(20) } else { String::new() }
                )
                .into(),
            };
        (1..).zip(drawn).map(record).collect()
    })
}

fn body_of(record: &Record) -> Vec<u8> {
    if record.kind == Kind::Tombstone { b"null".to_vec() } else { record.body.to_vec() }
}

fn batch_of(records: &[Record]) -> Arc<Batch> {
    let name = ChannelName::parse("a").unwrap();
    Batch::new(name, Epoch(9), ProposalId(1), ProposalId(0), records.to_vec())
}

/// Publications as (data, is a patch).
fn json_publications(frame: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut all = Vec::new();
    for line in frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).unwrap();
        let page = message["subscribe"]["publications"].as_array().cloned().unwrap_or_default();
        for publication in page.into_iter().chain(message.pointer("/push/pub").cloned()) {
            let text = publication["data"].as_str().expect("data is a text, patch or not");
            all.push((text.into(), publication["delta"] == true));
        }
    }
    all
}

fn proto_publications(mut frame: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut all = Vec::new();
    while !frame.is_empty() {
        let reply = proto::Reply::decode_length_delimited(&mut frame).unwrap();
        let page = reply.subscribe.map(|subscribe| subscribe.publications).unwrap_or_default();
        let pushed = reply.push.and_then(|push| push.r#pub);
        all.extend(page.into_iter().chain(pushed).map(|publication| (publication.data, publication.delta)));
    }
    all
}

/// What an SDK makes of publications: a patch builds on the one before it.
fn read_patches(publications: Vec<(Vec<u8>, bool)>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for (data, is_patch) in publications {
        let body = match all.last() {
            Some(base) if is_patch => {
                fossil_delta::apply(base, data).expect("a patch of what the reader has")
            }
            _ => {
                assert!(!is_patch, "the first is whole");
                data
            }
        };
        all.push(body);
    }
    all
}

#[test]
fn golden_bytes() {
    assert_eq!(spoken(&Event::Ping), [0]);
    // An empty result is there: field 8, length 0.
    assert_eq!(spoken(&Event::Reply { id: 3, reply: Reply::Published }), [4, 0x08, 3, 0x42, 0]);
    assert_eq!(spoken(&Event::Reply { id: 300, reply: Reply::Unsubscribed }), [5, 0x08, 0xac, 0x02, 0x3a, 0]);
    let mut out = Vec::new();
    CentrifugeProtobuf.disconnect(&Disconnect::SHUTDOWN, &mut out);
    let push = [&[0x5a, 15, 0x08, 0xb9, 0x17, 0x12, 8][..], b"shutdown", &[0x18, 1]].concat();
    assert_eq!(out, [&[19, 0x22, 17][..], &push].concat());

    let command = [&[0x08, 1, 0x3a, 9, 0x0a, 4][..], b"news", &[0x12, 1], b"7"].concat();
    let frame = [&[command.len() as u8][..], &command, &[0]].concat();
    let requests = decoded(CentrifugeProtobuf, &frame).unwrap();
    let [Request { id: 1, command: Command::Publish(publish) }, Request { id: 0, command: Command::Pong }] =
        &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert_eq!((publish.channel.as_str(), &publish.body[..]), ("news", &b"7"[..]));
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    for frame in [
        &[][..],
        // A length without its message, and one that no message can have.
        &[1],
        &[0xff; 12],
        // A number alone, a number of 64 bits, a request that is no message, a text that is none.
        &[2, 0x08, 1],
        &[7, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[4, 0x08, 1, 0x20, 1],
        &[7, 0x08, 1, 0x3a, 3, 0x0a, 1, 0xff],
        // A send whose body nobody could be told is none.
        &[6, 0x62, 4, 0x0a, 2, b'{', b'{'],
    ] {
        assert_eq!(decoded(CentrifugeProtobuf, frame), Err(Disconnect::BAD_REQUEST), "{frame:?}");
    }
    let frame = |n: usize| vec![0; n];
    assert_eq!(decoded(CentrifugeProtobuf, &frame(FRAME_COMMANDS_MAX)).unwrap().len(), FRAME_COMMANDS_MAX);
    assert_eq!(decoded(CentrifugeProtobuf, &frame(FRAME_COMMANDS_MAX + 1)), Err(Disconnect::BAD_REQUEST));
}

#[test]
fn c1_bytes_that_are_no_json_are_refused_and_the_session_lives() {
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    for data in
        [&b"\xff\xfe"[..], b"{", b"{} {}", b"nul", b"\"\\ud800\"", b"{\"a\":1,\"a\":1}", b"\x00", &deep, b""]
    {
        let publish =
            proto::PublishRequest { channel: "a".into(), data: data.to_vec(), ..Default::default() };
        let rpc = proto::RpcRequest { method: "fireside.publish".into(), data: data.to_vec() };
        for command in [
            proto::Command { id: 5, publish: Some(publish), ..Default::default() },
            proto::Command { id: 5, rpc: Some(rpc), ..Default::default() },
        ] {
            let requests = decoded(CentrifugeProtobuf, &command.encode_length_delimited_to_vec()).unwrap();
            assert!(
                matches!(requests[..], [Request { id: 5, command: Command::Malformed { .. } }]),
                "{requests:.200?}"
            );
        }
    }
}

#[test]
fn a_long_payload_is_cut_between_messages() {
    let messages: Vec<Vec<u8>> = (0..4_u32)
        .map(|id| spoken(&Event::Reply { id: 1 + 100 * id, reply: Reply::Rpc(vec![b'1'; 200].into()) }))
        .collect();
    let payload = messages.concat();
    let first = messages[0].len();
    assert_eq!(CentrifugeProtobuf.cut(&payload, 0), Some((first, first)));
    assert_eq!(CentrifugeProtobuf.cut(&payload, first - 1), Some((first, first)));
    let second = first + messages[1].len();
    assert_eq!(CentrifugeProtobuf.cut(&payload, first), Some((second, second)));
    assert_eq!(CentrifugeProtobuf.cut(&payload, payload.len() - 1), None);
    assert_eq!(CentrifugeJson.cut(b"{}\n{}\n{}", 3), Some((5, 6)));
    assert_eq!(CentrifugeJson.cut(b"{}\n{}", 3), None);
}

proptest! {
    #[test]
    fn no_frame_panics(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(CentrifugeProtobuf, &frame);
        let _ = CentrifugeProtobuf.cut(&frame, 10);
    }

    #[test]
    fn no_cut_or_changed_command_panics(command in proto::command(), cut in 0usize..200, at in 0usize..200, byte in any::<u8>()) {
        let mut frame = command.encode_length_delimited_to_vec();
        frame.truncate(cut);
        if let Some(place) = frame.get_mut(at) {
            *place = byte;
        }
        let _ = decoded(CentrifugeProtobuf, &frame);
    }

    #[test]
    fn both_forms_ask_the_same(commands in prop::collection::vec(proto::command(), 1..4)) {
        let lines: Vec<String> = commands.iter().map(|command| serde_json::to_string(command).unwrap()).collect();
        let frame: Vec<u8> = commands.iter().flat_map(|command| command.encode_length_delimited_to_vec()).collect();
        let asked = decoded(CentrifugeProtobuf, &frame);
        prop_assert!(asked.is_ok());
        prop_assert_eq!(asked, decoded(CentrifugeJson, lines.join("\n").as_bytes()));
    }

    #[test]
    fn both_forms_tell_the_same(event in event()) {
        let mut json = Vec::new();
        CentrifugeJson.event(&event, &mut json);
        prop_assert_eq!(read(&spoken(&event)), [read_json(&json)]);
    }

    #[test]
    fn both_forms_tell_the_same_records(records in page(), after in 0u64..5, name in channel(), long in 0usize..3) {
        prop_assume!(!records.is_empty());
        let mut records = records;
        records[0].body = format!("\"{}\"", "x".repeat([0, 200, 20_000][long])).into();
        let batch = Batch::new(name, Epoch(9), ProposalId(1), ProposalId(0), records);
        let (mut json, mut proto) = (Vec::new(), Vec::new());
        CentrifugeJson.records(&batch, after, &mut json);
        CentrifugeProtobuf.records(&batch, after, &mut proto);
        let lines = json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        prop_assert_eq!(read(&proto), lines.map(read_json).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_of_patches_reads_the_bodies(records in patchable(), cut in 0u64..6, after in 0u64..6, from in 0u64..6) {
        let newest = records.len() as u64;
        let after = after.min(newest);
        let from = from.min(after);
        // Two batches that follow each other, cut anywhere.
        let cut = cut.clamp(1, newest);
        let (first, second) = records.split_at(cut as usize);
        let batches: Vec<_> = [first, second].into_iter().filter(|part| !part.is_empty()).map(batch_of).collect();
        batches.windows(2).for_each(|pair| pair[1].follows(&pair[0]));

        let start = Start { patches: true, page: records[from as usize..after as usize].to_vec(), ..Start::default() };
        let told = Event::Reply { id: 1, reply: Reply::Subscribed(Box::new(start)) };
        let (mut json, mut proto) = (Vec::new(), spoken(&told));
        CentrifugeJson.event(&told, &mut json);
        for batch in &batches {
            json.push(b'\n');
            CentrifugeJson.patched(batch, after, from, &mut json);
            CentrifugeProtobuf.patched(batch, after, from, &mut proto);
        }
        let bodies: Vec<_> = records[from as usize..].iter().map(body_of).collect();
        prop_assert_eq!(read_patches(json_publications(&json)), bodies.clone());
        prop_assert_eq!(read_patches(proto_publications(&proto)), bodies);
    }

    #[test]
    fn any_body_arrives_as_it_was_sent(value in json_value()) {
        let publish = proto::PublishRequest { channel: "a".into(), data: value.to_string().into_bytes(), ..Default::default() };
        let command = proto::Command { id: 7, publish: Some(publish), ..Default::default() };
        let requests = decoded(CentrifugeProtobuf, &command.encode_length_delimited_to_vec()).unwrap();
        let [Request { id: 7, command: Command::Publish(publish) }] = &requests[..] else { panic!("{requests:?}") };
        prop_assert_eq!(std::str::from_utf8(&publish.body).unwrap(), value.to_string());
    }
}
