//! Prints what the hot paths cost: ns per decoded publish, per encoded publication and per publication of a batch of 64.

#![expect(
    clippy::disallowed_methods,
    reason = "an example is a world of its own: it measures with the clock"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use fireside_core::batch::ProposalId;
use fireside_core::{Author, Batch, ChannelName, Epoch, Kind, Record};
use fireside_wire::Protocol;
use fireside_wire::centrifuge_json::CentrifugeJson;

const BODY: &str = r#"{"type":"paragraph","id":"p-81723","text":"The lamp went out, and for a while nobody in the room said a word.","n":17}"#;

fn main() {
    let publish = format!(r#"{{"id":7,"publish":{{"channel":"story:42","data":{BODY}}}}}"#);
    let rpc = format!(
        r#"{{"id":7,"rpc":{{"method":"fireside.publish","data":{{"channel":"story:42","key":"k-1","data":{BODY}}}}}}}"#
    );
    let (one, many) = (batch(1), batch(64));
    let mut requests = Vec::new();
    let mut out = Vec::new();

    for (name, frame) in [
        ("decode a publish", &publish),
        ("decode a fireside.publish", &rpc),
        ("decode a pong", &"{}".to_owned()),
    ] {
        let ns = per_turn(200_000, || {
            requests.clear();
            CentrifugeJson.decode(black_box(frame.as_bytes()), &mut requests).expect("a valid frame");
            black_box(&requests);
        });
        println!("{name}: {ns:.0} ns, {} bytes", frame.len());
    }
    for (name, batch) in [("encode a publication", &one), ("encode a publication in a batch of 64", &many)] {
        let ns = per_turn(200_000 / batch.records.len(), || {
            out.clear();
            CentrifugeJson.records(black_box(batch), 0, &mut out);
            black_box(&out);
        });
        println!(
            "{name}: {:.0} ns, {} bytes",
            ns / batch.records.len() as f64,
            out.len() / batch.records.len()
        );
    }
}

/// The best of five rounds, so that a busy neighbour is left out.
fn per_turn(turns: usize, mut turn: impl FnMut()) -> f64 {
    let round = |turn: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..turns).for_each(|_| turn());
        start.elapsed().as_nanos() as f64 / turns as f64
    };
    (0..5).map(|_| round(&mut turn)).fold(f64::INFINITY, f64::min)
}

fn batch(records: u64) -> Arc<Batch> {
    let author = Arc::new(Author {
        user: "anna-4711".into(),
        client: "6f1d2c1e-8f0e-4c52-a3b5-0d3f7f0f9f10".into(),
        info: Some(r#"{"name":"Anna","color":"teal"}"#.into()),
        sub_info: None,
    });
    let record = |offset| Record {
        offset,
        time_ms: 1_700_000_000_000,
        kind: Kind::Plain,
        author: Some(author.clone()),
        key: None,
        conflate: None,
        tags: Vec::new(),
        body: BODY.into(),
    };
    let channel = ChannelName::parse("story:42").expect("a valid name");
    Batch::new(channel, Epoch(7), ProposalId(1), ProposalId(0), (100..100 + records).map(record).collect())
}
