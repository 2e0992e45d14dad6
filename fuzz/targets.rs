//! What is fuzzed: each takes any bytes and panics only if something is wrong. Run by `cargo fuzz`, and over the corpora by a test of the
//! server.

#[path = "store.rs"]
mod damaged;

use fireside_core::Command;
use fireside_core::hook::Hook;
use fireside_core::limits::FRAME_COMMANDS_MAX;
use fireside_server::carrier::frame::{Decoder, Item, MessageLimits};
use fireside_server::front::{FrontRules, Opened, opened};
use fireside_wire::Protocol;
use fireside_wire::centrifuge_json::CentrifugeJson;
use fireside_wire::centrifuge_protobuf::CentrifugeProtobuf;

/// WebSocket frames. The first byte says whether deflate was negotiated and in pieces of which size the rest arrives; however it is cut, it
/// means the same.
pub fn frames(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else { return };
    let deflate = how & 1 == 1;
    let whole = decoded(stream, deflate, stream.len().max(1));
    let cut = decoded(stream, deflate, 1 + usize::from(how >> 1));
    assert_eq!(whole, cut, "the cuts of a stream changed what it says");
}

/// What a decoder makes of a stream that arrives in pieces: items in words, and the close code of the fault that ended it.
fn decoded(stream: &[u8], deflate: bool, piece: usize) -> (Vec<String>, Option<u16>) {
    let limits = MessageLimits { bytes_max: 4 * 1024, fragments_max: 8, ..MessageLimits::PRODUCTION };
    let mut decoder = Decoder::new(deflate);
    let mut items = Vec::new();
    for chunk in stream.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut at = 0;
        while at < chunk.len() {
            match decoder.next(&mut chunk[at..], &limits, || 0) {
                Err(fault) => return (items, Some(fault.code)),
                Ok((used, item)) => {
                    assert!(used > 0 || item.is_some(), "the decoder stands still");
                    if let Some(Item::Message { payload, .. }) = &item {
                        assert!(payload.len() <= limits.bytes_max, "a message above its bound");
                    }
                    items.extend(item.map(|item| format!("{item:?}")));
                    at += used;
                }
            }
        }
    }
    (items, None)
}

/// One frame of commands, in both encodings of the protocol, and the answer of a hook.
pub fn commands(data: &[u8]) {
    let protocols: [&dyn Protocol; 2] = [&CentrifugeJson, &CentrifugeProtobuf];
    for protocol in protocols {
        let mut out = Vec::new();
        let _ = protocol.decode(data, &mut out);
        assert!(out.len() <= FRAME_COMMANDS_MAX, "more commands than a frame may hold");
        for request in &out {
            if let Command::Publish(publish) = &request.command
                && protocol.is_text()
            {
                let body = std::str::from_utf8(&publish.body).expect("a JSON body is text");
                assert!(!body.contains('\n'), "a body would break the lines of a frame");
            }
        }
    }
    for hook in [Hook::Connect, Hook::Subscribe, Hook::Publish] {
        let _ = fireside_wire::hook::answer(hook, data);
    }
}

/// Files of the store: see [`damaged::store`].
pub fn store(data: &[u8]) {
    damaged::store(data);
}

/// The head of a connection's first request. The first byte says after how many bytes the door looked for the first time.
pub fn head(data: &[u8]) {
    let Some((&cut, read)) = data.split_first() else { return };
    let rules = FrontRules::production();
    let whole = opened(read, 0, &rules);
    match &whole {
        Opened::Other(given) => assert_eq!(given, read, "bytes were lost on the way to HTTP"),
        Opened::Socket(response, early) => {
            assert!(read.ends_with(early), "bytes were lost on the way to the socket");
            let response = std::str::from_utf8(response).expect("a head is text");
            assert_eq!(response.matches("\r\n\r\n").count(), 1, "what is offered does not end the answer");
        }
        Opened::More | Opened::Refused(_) => {}
    }
    let cut = usize::from(cut).min(read.len());
    if cut > 0 {
        let first = opened(&read[..cut], 0, &rules);
        let then = if first == Opened::More { opened(read, cut, &rules) } else { first.clone() };
        let same = match (&whole, &then) {
            // A head that ended within the first piece: what is behind it is read by whoever gets the connection.
            (Opened::Other(_), Opened::Other(_)) => true,
            (Opened::Socket(a, _), Opened::Socket(b, _)) => a == b,
            (a, b) => a == b,
        };
        assert!(same, "the cuts of a head changed what it says: {whole:?}, {then:?}");
    }
}

/// A call of the HTTP API: the method, a line feed, the body.
pub fn api(data: &[u8]) {
    let at = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let Ok(method) = std::str::from_utf8(&data[..at]) else { return };
    let _ = fireside_wire::api::decode(method, data.get(at + 1..).unwrap_or_default());
}
