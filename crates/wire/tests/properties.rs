//! What holds for every input: nothing panics, bodies survive, and an independent decoder reads what was meant.

mod strategies;

use fireside_core::batch::ProposalId;
use fireside_core::event::Start;
use fireside_core::limits::FRAME_COMMANDS_MAX;
use fireside_core::{Batch, Command, Disconnect, Epoch, Event, Kind, Record, Reply, Request};
use fireside_wire::Protocol;
use fireside_wire::centrifuge_json::CentrifugeJson;
use proptest::prelude::*;
use serde_json::{Value, json};
use strategies::{channel, event, json_value, page};

fn decode(frame: &[u8]) -> Result<Vec<Request>, Disconnect> {
    let mut out = Vec::new();
    CentrifugeJson.decode(frame, &mut out).map(|()| out)
}

fn encoded(event: &Event) -> Value {
    let mut out = Vec::new();
    CentrifugeJson.event(event, &mut out);
    assert!(!out.contains(&b'\n') && !out.contains(&b'\r'), "one message is one line");
    serde_json::from_slice(&out).expect("a message is JSON")
}

// ------------------------------------------------------------------------------------------------------- the protocol's rules

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    let deep = format!(r#"{{"id":1,"later":{}}}"#, "[".repeat(100_000));
    for frame in [
        "",
        "\n",
        " ",
        "{}\n\n",
        "{}\n\n{}",
        "{}{}",
        "[]",
        "[1]",
        "null",
        "1",
        r#"{"id":1}"#,
        r#"{"id":1,"unknown":{}}"#,
        r#"{"id":1,"publish":null}"#,
        r#"{"id":1,"publish":["chat:1",1]}"#,
        r#"{"id":1,"publish":5}"#,
        r#"{"id":-1,"publish":{"channel":"a","data":1}}"#,
        r#"{"id":4294967296,"publish":{"channel":"a","data":1}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":NaN}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":1}"#,
        r#"{"id":1,"publish":{"channel":"\ud800","data":1}}"#,
        r#"{"id":1,"id":2,"publish":{"channel":"a","data":1}}"#,
        r#"{"id":1,"publish":{"channel":"a","channel":"b","data":1}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":1},"publish":{"channel":"b","data":1}}"#,
        r#"{"id":1,"connect":{"subs":{"a":{},"a":{}}}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","offset":-1}}"#,
        r#"{"send":{"data":"\ud800"}}"#,
        deep.as_str(),
    ] {
        assert_eq!(decode(frame.as_bytes()), Err(Disconnect::BAD_REQUEST), "{frame:.80}");
    }
    assert_eq!(decode(b"{\"id\":1,\"rpc\":{\"method\":\"\xff\"}}"), Err(Disconnect::BAD_REQUEST));
}

#[test]
fn commands_without_a_number_are_pongs_unless_they_are_sends() {
    for frame in ["{}", "{ }\r", r#"{"id":0}"#, r#"{"id":null}"#, r#"{"publish":{"channel":"a","data":1}}"#] {
        assert_eq!(decode(frame.as_bytes()), Ok(vec![Request { id: 0, command: Command::Pong }]), "{frame}");
    }
}

#[test]
fn the_first_request_that_is_there_wins() {
    let frame =
        br#"{"publish":{"channel":"p","data":1},"id":1,"connect":null,"unsubscribe":{"channel":"u"}}"#;
    let command = Command::Unsubscribe { channel: "u".into() };
    assert_eq!(decode(frame), Ok(vec![Request { id: 1, command }]));
}

#[test]
fn a_frame_holds_many_commands_and_not_too_many() {
    let frame = |n: usize| vec!["{}"; n].join("\n").into_bytes();
    assert_eq!(decode(&frame(FRAME_COMMANDS_MAX)).unwrap().len(), FRAME_COMMANDS_MAX);
    assert_eq!(decode(&frame(FRAME_COMMANDS_MAX + 1)), Err(Disconnect::BAD_REQUEST));
    assert_eq!(decode(b"{}\n{\"id\":1,\"ping\":{}}\n").unwrap().len(), 2, "one line break at the end");
}

#[test]
fn c1_a_hostile_body_is_refused_and_the_session_lives() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let digits = "1".repeat(1_000_000);
    for body in [deep.as_str(), "1e400", digits.as_str(), r#""\udfff""#, r#"{"a":{"b":1,"b":2}}"#] {
        let frame = format!(r#"{{"id":5,"publish":{{"channel":"a","data":{body}}}}}"#);
        let requests = decode(frame.as_bytes()).unwrap();
        assert!(
            matches!(requests[..], [Request { id: 5, command: Command::Malformed { .. } }]),
            "{body:.40}: {requests:.200?}"
        );
    }
}

#[test]
fn a_long_name_of_the_client_is_cut_between_characters() {
    let frame =
        format!(r#"{{"id":1,"connect":{{"name":"{}","version":"{}"}}}}"#, "é".repeat(20), "x".repeat(100));
    let Command::Connect(connect) = decode(frame.as_bytes()).unwrap().remove(0).command else { panic!() };
    assert_eq!((connect.name.as_str(), connect.version.len()), ("éééééééé", 64));
}

// --------------------------------------------------------------------------------------------------------------- the properties

/// Every field outside of embedded data is more than its zero value, except where SDKs read it unasked.
fn has_no_zero_values(value: &Value, path: &str) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                if ["data", "conn_info", "message", "tags", "reason", "num_clients", "num_users"]
                    .contains(&name.as_str())
                {
                    continue;
                }
                let zero = [json!(0), json!(""), json!(false), json!([]), Value::Null].contains(value);
                assert!(!zero, "{path} is written though it is {value}");
                has_no_zero_values(value, &path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| has_no_zero_values(item, path)),
        _ => {}
    }
}

/// What a client makes of a publication, set against the record.
fn reads_as(publication: &Value, record: &Record) {
    let erased = record.kind == Kind::Tombstone;
    let body: Value = if erased { Value::Null } else { serde_json::from_slice(&record.body).unwrap() };
    assert_eq!(publication["data"], body);
    assert_eq!(publication.get("offset").map_or(0, |offset| offset.as_u64().unwrap()), record.offset);
    let info = publication.get("info");
    assert_eq!(info.is_some(), record.author.is_some());
    if let (Some(info), Some(author)) = (info, &record.author) {
        assert_eq!(info.get("user").map_or("", |user| user.as_str().unwrap()), &*author.user);
        assert_eq!(info.get("client").map_or("", |client| client.as_str().unwrap()), &*author.client);
    }
    let tag = |name: &str| publication.get("tags").and_then(|tags| tags.get(name)).and_then(Value::as_str);
    for (name, value) in record.tags.iter().filter(|(name, _)| &**name != "fireside") {
        assert_eq!(tag(name), Some(&**value));
    }
    let ours = if erased { Some("tombstone") } else { record.kind.is_run().then_some("run") };
    assert_eq!(tag("fireside"), ours);
}

proptest! {
    #[test]
    fn no_frame_panics(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&frame);
    }

    #[test]
    fn no_frame_that_looks_like_json_panics(frame in r#"([{}\[\]:,"\\]|id|connect|publish|data|subs|null|1|-|e|\\ud800|\n| ){0,40}"#) {
        let _ = decode(frame.as_bytes());
    }

    #[test]
    fn no_cut_or_changed_command_panics(cut in 0usize..200, at in 0usize..200, byte in any::<u8>()) {
        let mut frame = br#"{"id":1,"connect":{"subs":{"a":{"recover":true,"offset":9,"epoch":"7"}},"data":{"a":[1,"\ud83d\ude00"]}}}
{"id":2,"rpc":{"method":"fireside.publish","data":{"channel":"a","data":{"b":null},"key":"k"}}}"#.to_vec();
        frame.truncate(cut);
        if let Some(place) = frame.get_mut(at) {
            *place = byte;
        }
        let _ = decode(&frame);
    }

    #[test]
    fn any_body_arrives_as_it_was_sent(value in json_value(), name in channel()) {
        let frame = json!({"id": 7, "publish": {"channel": name.as_str(), "data": value}}).to_string();
        let requests = decode(frame.as_bytes()).unwrap();
        let [Request { id: 7, command: Command::Publish(publish) }] = &requests[..] else { panic!("{requests:?}") };
        prop_assert_eq!(std::str::from_utf8(&publish.body).unwrap(), value.to_string(), "the text is kept");

        let record = Record {
            offset: 3, time_ms: 1, kind: Kind::Plain, author: None, key: None, conflate: None, tags: Vec::new(),
            body: publish.body.clone(),
        };
        let batch = Batch::new(name.clone(), Epoch(7), ProposalId(1), ProposalId(0), vec![record]);
        let mut out = Vec::new();
        CentrifugeJson.records(&batch, 0, &mut out);
        prop_assert!(!out.contains(&b'\n'));
        let push: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&push, &json!({"push": {"channel": name.as_str(), "pub": {"data": value, "offset": 3}}}));
    }

    #[test]
    fn a_batch_is_one_line_a_record(records in page(), after in 0u64..5, name in channel()) {
        prop_assume!(!records.is_empty());
        let batch = Batch::new(name.clone(), Epoch(9), ProposalId(1), ProposalId(0), records);
        let mut out = Vec::new();
        CentrifugeJson.records(&batch, after, &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.split('\n').filter(|line| !line.is_empty()).collect();
        prop_assert_eq!(lines.len(), batch.after(after).len());
        for (line, record) in lines.iter().zip(batch.after(after)) {
            let message: Value = serde_json::from_str(line).unwrap();
            has_no_zero_values(&message, "");
            prop_assert_eq!(&message["push"]["channel"], name.as_str());
            let publication = &message["push"]["pub"];
            reads_as(publication, record);
            let epoch = publication.get("epoch").and_then(Value::as_str);
            prop_assert_eq!(epoch, (record.offset == 1).then_some("9"));
        }
    }

    #[test]
    fn an_independent_decoder_reads_what_was_meant(event in event()) {
        let message = encoded(&event);
        has_no_zero_values(&message, "");
        match &event {
            Event::Ping => prop_assert_eq!(message, json!({})),
            Event::Reply { id, reply } => {
                prop_assert_eq!(&message["id"], *id);
                prop_assert_eq!(message.as_object().unwrap().len(), 2, "a number and one answer");
                answers(&message, reply);
            }
            Event::Joined { channel, who } => {
                prop_assert_eq!(&message["push"]["channel"], channel.as_str());
                let user = message["push"]["join"]["info"].get("user").and_then(Value::as_str).unwrap_or("");
                prop_assert_eq!(user, &*who.user);
            }
            Event::Missed { channel, entries } => {
                let data = &message["push"]["message"]["data"];
                prop_assert_eq!(&data["type"], "fireside.missed");
                prop_assert_eq!(&data["channel"], channel.as_str());
                prop_assert_eq!(&data["entries"], *entries);
            }
            Event::Left { .. } => prop_assert!(message["push"]["leave"]["info"].is_object()),
            Event::Subscribed { start, .. } => {
                let subscribe = &message["push"]["subscribe"];
                prop_assert!(subscribe.is_object() && subscribe.get("publications").is_none());
                prop_assert_eq!(subscribe.get("recoverable").is_some(), start.recoverable);
            }
            Event::Unsubscribed { why, .. } => prop_assert_eq!(&message["push"]["unsubscribe"]["code"], why.code),
        }
    }
}

fn answers(message: &Value, reply: &Reply) {
    match reply {
        Reply::Refused(refusal) => {
            let error = &message["error"];
            assert_eq!(error["code"], refusal.code.number());
            let text = error["message"].as_str().unwrap();
            match (refusal.retry_after_ms, &refusal.detail) {
                (None, None) => assert_eq!(text, refusal.message),
                (None, Some(detail)) => assert_eq!(text, detail),
                (Some(ms), _) => {
                    let machine: Value = serde_json::from_str(text).unwrap();
                    assert_eq!(
                        (&machine["message"], &machine["retry_after_ms"]),
                        (&json!(refusal.message), &json!(ms))
                    );
                }
            }
        }
        Reply::Subscribed(start) => starts(&message["subscribe"], start),
        Reply::Connected(connected) => {
            let (channel, start) = &connected.subs[0];
            starts(&message["connect"]["subs"][channel.as_str()], start);
            assert_eq!(message["connect"]["expires"], true);
            assert_eq!(message["connect"]["ttl"], 1, "never expires without ttl");
        }
        Reply::History(page) => {
            let read =
                message["history"].get("publications").map_or(0, |list| list.as_array().unwrap().len());
            assert_eq!(read, page.records.len());
        }
        _ => {}
    }
}

fn starts(subscribe: &Value, start: &Start) {
    let text = |name: &str| subscribe.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let number = |name: &str| subscribe.get(name).and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(text("epoch"), start.position.map_or(String::new(), |p| p.epoch.to_string()));
    assert_eq!(number("offset"), start.position.map_or(0, |p| p.offset));
    assert_eq!(subscribe.get("recovered").is_some(), start.recovered);
    let none = Vec::new();
    let publications = subscribe.get("publications").map_or(&none, |list| list.as_array().unwrap());
    assert_eq!(publications.len(), start.page.len());
    for (publication, record) in publications.iter().zip(&start.page) {
        reads_as(publication, record);
    }
}
