use std::future::poll_fn;

use bytes::Bytes;
use fireside_core::record::Kind as RecordKind;
use fireside_core::{ChannelName, Command, Epoch, Event, ProposalId, Record};

use super::super::duplex::scripted::{Peer, Scripted};
use super::super::frame::MessageLimits;
use super::super::websocket::{SocketLimits, open};
use super::*;

static LIMITS: SocketLimits =
    SocketLimits { message: MessageLimits::PRODUCTION, controls_max: 10, close_ms_max: 50 };

/// A protocol of lines: a number asks for a pong of that number, anything else breaks the protocol.
struct Lines;

impl Protocol for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn slot(&self) -> usize {
        0
    }

    fn is_text(&self) -> bool {
        true
    }

    fn decode(&self, frame: &[u8], out: &mut Vec<Request>) -> Result<(), Disconnect> {
        for line in std::str::from_utf8(frame).map_err(|_| Disconnect::BAD_REQUEST)?.lines() {
            out.push(Request {
                id: line.parse().map_err(|_| Disconnect::BAD_REQUEST)?,
                command: Command::Pong,
            });
        }
        Ok(())
    }

    fn event(&self, _: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event");
    }

    fn records(&self, batch: &Batch, after: u64, out: &mut Vec<u8>) {
        let bodies: Vec<&[u8]> = batch.after(after).iter().map(|record| &record.body[..]).collect();
        out.extend(bodies.join(self.separator()));
    }

    fn patched(&self, _: &Batch, after: u64, from: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("patched after {after} from {from}").as_bytes());
    }

    fn disconnect(&self, _: &Disconnect, _: &mut Vec<u8>) {}

    fn separator(&self) -> &'static [u8] {
        b"\n"
    }
}

fn linked() -> (Peer, Link) {
    linked_with(false)
}

fn linked_with(deflate: bool) -> (Peer, Link) {
    let (peer, duplex): (Peer, Scripted) = Peer::new(100 << 20);
    (peer, link(open(duplex, &LIMITS, deflate, Vec::new()), Arc::new(Lines), "websocket/lines"))
}

fn batch(first: u64, bodies: &[&str]) -> Arc<Batch> {
    let record = |(at, body): (usize, &&str)| Record {
        offset: if first == 0 { 0 } else { first + at as u64 },
        time_ms: 0,
        kind: RecordKind::Plain,
        author: None,
        key: None,
        conflate: None,
        tags: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    let records = bodies.iter().enumerate().map(record).collect();
    let channel = ChannelName::parse("story:42").unwrap();
    Batch::new(channel, Epoch(1), ProposalId(1), ProposalId(0), records)
}

fn records(batch: &Arc<Batch>, after: u64) -> Outgoing {
    Outgoing::Records { batch: Arc::clone(batch), after, patches_from: None }
}

/// A client's text frame under a mask of zeros.
fn text(payload: &[u8]) -> Vec<u8> {
    [&[0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

async fn next(link: &mut Link) -> Option<Result<u32, Disconnect>> {
    let request = poll_fn(|cx| link.source.poll_request(cx)).await;
    request.map(|request| request.map(|request| request.id))
}

#[tokio::test]
async fn requests_come_one_by_one_whatever_frames_they_came_in() {
    let (peer, mut link) = linked();
    peer.send(&[text(b"1\n2\n3"), text(b""), text(b"4")].concat());
    for id in 1..=4 {
        assert_eq!(next(&mut link).await, Some(Ok(id)));
    }
    peer.end();
    assert_eq!(next(&mut link).await, None);
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_carries_out_nothing() {
    let (peer, mut link) = linked();
    peer.send(&[text(b"1"), text(b"2\n3\nnonsense")].concat());
    assert_eq!(next(&mut link).await, Some(Ok(1)));
    assert_eq!(next(&mut link).await, Some(Err(Disconnect::BAD_REQUEST)));
    link.sink.close(&Disconnect::BAD_REQUEST);
    assert_eq!(next(&mut link).await, None);
    assert_eq!(peer.take(), b"\x88\x0d\x0d\xadbad request");
}

#[tokio::test]
async fn b1_a_broken_frame_is_a_disconnect_with_its_own_code() {
    let (peer, mut link) = linked();
    peer.send(b"\x81\x00");
    assert_eq!(next(&mut link).await.unwrap().unwrap_err().code, 1002);
    assert_eq!(link.sink.try_send(&Outgoing::Event(Arc::new(Event::Ping)), false), Sent::Closed);
}

#[tokio::test]
async fn a_whole_batch_is_encoded_once_for_all_who_share_a_variant() {
    let batch = batch(5, &["one", "two"]);
    let (peers, links): (Vec<Peer>, Vec<Link>) = (0..3).map(|_| linked()).unzip();
    for link in &links {
        assert_eq!(link.sink.try_send(&records(&batch, 4), false), Sent::Sent);
    }
    for peer in &peers {
        assert_eq!(peer.take(), b"\x81\x07one\ntwo");
    }
    // Nobody encodes it again: the slot is taken.
    let slot = websocket_slot(0, Frames::Plain);
    assert_eq!(batch.encoded(slot, |_| unreachable!("already there")).as_ref(), b"\x81\x07one\ntwo");
}

#[tokio::test]
async fn a_cut_batch_is_this_readers_own_and_a_channel_without_history_knows_no_cut() {
    let (peer, link) = linked();
    assert_eq!(link.sink.try_send(&records(&batch(5, &["one", "two"]), 5), false), Sent::Sent);
    assert_eq!(peer.take(), b"\x81\x03two");
    assert_eq!(link.sink.try_send(&records(&batch(0, &["x", "y"]), 0), false), Sent::Sent);
    assert_eq!(peer.take(), b"\x81\x03x\ny");
}

#[tokio::test]
async fn events_and_batches_keep_their_order_in_one_write() {
    let (peer, link) = linked();
    let event = Outgoing::Event(Arc::new(Event::Ping));
    assert_eq!(link.sink.try_send(&event, true), Sent::Sent);
    assert_eq!(link.sink.try_send(&records(&batch(1, &["a"]), 0), true), Sent::Sent);
    assert_eq!(link.sink.try_send(&event, false), Sent::Sent);
    assert_eq!((peer.writes(), peer.take()), (1, b"\x81\x05event\x81\x01a\x81\x05event".into()));
}

#[tokio::test]
async fn a_very_long_batch_goes_out_in_frames_that_clients_take() {
    let body = "x".repeat(60_000);
    let (peer, link) = linked();
    let batch = batch(1, &[body.as_str(); 20]);
    assert_eq!(link.sink.try_send(&records(&batch, 0), false), Sent::Sent);
    let told = peer.take();
    let (mut rest, mut lines) = (told.as_slice(), 0);
    while !rest.is_empty() {
        assert_eq!(rest[..2], [0x81, 127]);
        let len = u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize;
        assert!(len <= FRAME_BYTES_SOFT + body.len());
        let frame = &rest[10..10 + len];
        assert!(frame.split(|&byte| byte == b'\n').all(|line| line == body.as_bytes()));
        lines += frame.split(|&byte| byte == b'\n').count();
        rest = &rest[10 + len..];
    }
    assert_eq!(lines, 20);
}

#[tokio::test]
async fn b5_compressed_and_plain_readers_share_nothing() {
    let body = "once upon a time ".repeat(40);
    let batch = batch(1, &[&body]);
    let ((plain_peer, plain), (deflate_peer, deflate)) = (linked(), linked_with(true));
    for link in [&plain, &deflate] {
        assert_eq!(link.sink.try_send(&records(&batch, 0), false), Sent::Sent);
    }
    let (plain, deflated) = (plain_peer.take(), deflate_peer.take());
    assert_eq!((plain[0], deflated[0]), (0x81, 0xc1));
    assert!(deflated.len() < plain.len() / 4);
}

#[test]
fn readers_of_patches_share_bytes_where_they_stand_at_one_place() {
    let sent = |after: u64, patches_from: Option<u64>, batch: &Arc<Batch>| {
        let (peer, link) = linked();
        let entry = Outgoing::Records { batch: Arc::clone(batch), after, patches_from };
        assert_eq!(link.sink.try_send(&entry, false), Sent::Sent);
        String::from_utf8_lossy(&peer.take()[2..]).into_owned()
    };
    let batch = batch(5, &["five", "six"]);
    assert_eq!(sent(4, Some(0), &batch), "patched after 4 from 0");
    assert_eq!(sent(4, Some(2), &batch), "patched after 4 from 0", "it has record 4, as the one before");
    assert_eq!(sent(4, Some(4), &batch), "patched after 4 from 4", "it begins with this batch");
    assert_eq!(sent(4, None, &batch), "five\nsix");
    assert_eq!(sent(5, Some(4), &batch), "patched after 5 from 4", "a cut batch is its own");
}
