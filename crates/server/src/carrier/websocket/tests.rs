use super::super::duplex::scripted::{Peer, Scripted};
use super::*;

static LIMITS: SocketLimits =
    SocketLimits { message: MessageLimits::PRODUCTION, controls_max: 10, close_ms_max: 50 };

fn opened(room: usize) -> (Peer, Receiver<Scripted>, Sender<Scripted>) {
    let (peer, duplex) = Peer::new(room);
    let (receiver, sender) = open(duplex, &LIMITS, false, Vec::new());
    (peer, receiver, sender)
}

/// A client's frame under a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

async fn next(receiver: &mut Receiver<Scripted>) -> Option<Result<Vec<u8>, Fault>> {
    poll_fn(|cx| receiver.poll_message(cx, |_, payload| payload.to_vec())).await
}

/// Polls once, as a task that is woken for something else does.
fn poll_once(receiver: &mut Receiver<Scripted>) -> Poll<Option<Result<Vec<u8>, Fault>>> {
    receiver.poll_message(&mut Context::from_waker(Waker::noop()), |_, payload| payload.to_vec())
}

fn ready_once(sender: &Sender<Scripted>) -> Poll<Result<(), LinkClosed>> {
    sender.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// Lets the other tasks of this thread run until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn messages_come_one_by_one_and_nothing_is_kept_behind_the_last() {
    let (peer, mut receiver, _sender) = opened(1000);
    peer.send(&[frame(0x81, b"one"), frame(0x89, b"!"), frame(0x82, b"two"), frame(0x81, b"three")].concat());
    assert_eq!(next(&mut receiver).await, Some(Ok(b"one".into())));
    assert!(peer.take().is_empty(), "what is behind the message is read later");
    assert_eq!(next(&mut receiver).await, Some(Ok(b"two".into())));
    assert_eq!(peer.take(), b"\x8a\x01!");
    assert_eq!(next(&mut receiver).await, Some(Ok(b"three".into())));
    assert!(poll_once(&mut receiver).is_pending());
    assert_eq!(receiver.rest.capacity(), 0);
    assert!(!receiver.decoder.is_amid());
    peer.end();
    assert_eq!(next(&mut receiver).await, None);
    assert_eq!(next(&mut receiver).await, None, "and it stays so");
}

#[tokio::test]
async fn what_came_right_behind_the_handshake_counts() {
    let (peer, duplex) = Peer::new(1000);
    let early = [frame(0x81, b"early"), frame(0x81, b"bird")[..3].to_vec()].concat();
    let (mut receiver, _sender) = open(duplex, &LIMITS, false, early);
    assert_eq!(next(&mut receiver).await, Some(Ok(b"early".into())));
    peer.send(&frame(0x81, b"bird")[3..]);
    assert_eq!(next(&mut receiver).await, Some(Ok(b"bird".into())));
}

#[tokio::test]
async fn what_is_corked_goes_out_in_one_write() {
    let (peer, _receiver, sender) = opened(1000);
    assert_eq!(sender.send_own(b"a", true), Sent::Sent);
    assert_eq!(sender.send_shared(&Bytes::from_static(b"b"), true), Sent::Sent);
    assert_eq!(peer.writes(), 0);
    assert_eq!(sender.send_own(b"c", false), Sent::Sent);
    assert_eq!((peer.writes(), peer.take()), (1, b"abc".into()));
    assert_eq!(sender.shared.lock().queue.capacity(), 0, "nothing is kept");
    // A caller that promised more and did not come is caught up with by `poll_ready`.
    assert_eq!(sender.send_own(b"d", true), Sent::Sent);
    assert_eq!(ready_once(&sender), Poll::Ready(Ok(())));
    assert_eq!(peer.take(), b"d");
}

#[tokio::test]
async fn a_long_cork_is_written_by_itself() {
    let (peer, _receiver, sender) = opened(10 << 20);
    for _ in 0..SLICES_MAX {
        assert_eq!(sender.send_own(b"x", true), Sent::Sent);
    }
    assert_eq!((peer.writes(), peer.take().len()), (1, SLICES_MAX));
    let big = Bytes::from(vec![7; CORK_BYTES_MAX]);
    assert_eq!(sender.send_shared(&big, true), Sent::Sent);
    assert_eq!(sender.send_shared(&big, true), Sent::Sent);
    assert_eq!(peer.take().len(), 2 * CORK_BYTES_MAX);
}

#[tokio::test]
async fn the_rest_of_a_partial_write_goes_out_before_anything_else() {
    let (peer, _receiver, sender) = opened(3);
    assert_eq!(sender.send_own(b"hello", false), Sent::Partial);
    assert_eq!(sender.send_own(b"more", false), Sent::Full);
    assert!(ready_once(&sender).is_pending());
    peer.make_room(1);
    assert!(ready_once(&sender).is_pending());
    peer.make_room(100);
    assert_eq!(
        sender.send_own(b"more", false),
        Sent::Full,
        "whoever fans out does not try a full socket again"
    );
    assert_eq!(ready_once(&sender), Poll::Ready(Ok(())));
    assert_eq!(sender.send_own(b" world", false), Sent::Sent);
    assert_eq!(peer.take(), b"hello world");
}

#[tokio::test]
async fn an_entry_of_which_nothing_was_written_goes_back_to_the_outbox() {
    let (peer, _receiver, sender) = opened(0);
    assert_eq!(sender.send_own(b"alone", false), Sent::Full);
    assert!(ready_once(&sender).is_pending(), "a full socket is waited for, not asked again and again");
    peer.make_room(2);
    assert_eq!(ready_once(&sender), Poll::Ready(Ok(())));
    assert_eq!(sender.send_own(b"abc", true), Sent::Sent);
    assert_eq!(sender.send_own(b"def", false), Sent::Full, "abc was begun, def was not");
    peer.make_room(100);
    assert_eq!(ready_once(&sender), Poll::Ready(Ok(())));
    assert_eq!(sender.send_own(b"def", false), Sent::Sent);
    assert_eq!(peer.take(), b"abcdef");
}

#[tokio::test]
async fn b6_while_the_socket_is_full_only_the_latest_ping_is_answered_and_never_inside_a_frame() {
    let (peer, mut receiver, sender) = opened(2);
    assert_eq!(sender.send_own(b"frame", false), Sent::Partial);
    for ping in [b"1", b"2", b"3"] {
        peer.send(&frame(0x89, ping));
        assert!(poll_once(&mut receiver).is_pending());
    }
    assert_eq!(sender.shared.lock().queue.len(), 1);
    peer.make_room(100);
    // Nobody waits in `poll_ready`: the receiving task sees to its own pong.
    assert!(poll_once(&mut receiver).is_pending());
    assert_eq!(peer.take(), b"frame\x8a\x013");
    assert_eq!(sender.send_own(b"next", false), Sent::Sent);
}

#[tokio::test]
async fn b6_a_flood_of_pings_or_unasked_pongs_ends_the_connection() {
    for opcode in [0x89, 0x8a] {
        let (peer, mut receiver, _sender) = opened(10_000);
        peer.send(&frame(opcode, b"").repeat(100));
        let fault = next(&mut receiver).await.unwrap().unwrap_err();
        assert_eq!(fault.code, 1008);
        let told = peer.take();
        assert!(
            told.windows(4).any(|bytes| bytes == [0x88, 2 + fault.reason.len() as u8, 3, 0xf0]),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn b6_a_close_that_is_never_answered_is_forced() {
    let (peer, mut receiver, sender) = opened(1000);
    sender.close(3008, "slow");
    sender.close(3000, "again");
    assert_eq!(next(&mut receiver).await, None, "the session hears of it at once");
    assert_eq!(sender.send_own(b"late", false), Sent::Closed);
    assert_eq!(ready_once(&sender), Poll::Ready(Err(LinkClosed)));
    until(|| peer.is_ended()).await;
    assert_eq!(peer.take(), b"\x88\x06\x0b\xc0slow");
    until(|| peer.is_aborted()).await;
}

#[tokio::test]
async fn a_close_is_heard_behind_what_waits_and_the_connection_ends_with_the_peer() {
    let (peer, duplex) = Peer::new(3);
    static PATIENT: SocketLimits = SocketLimits { close_ms_max: 600_000, ..LIMITS };
    let (mut receiver, sender) = open(duplex, &PATIENT, false, Vec::new());
    assert_eq!(sender.send_own(b"frame", false), Sent::Partial);
    let waiting = tokio::spawn(async move { next(&mut receiver).await });
    tokio::task::yield_now().await;
    sender.close(3001, "shutdown");
    assert_eq!(waiting.await.unwrap(), None, "a task that waits is woken");
    peer.make_room(1000);
    until(|| peer.is_ended()).await;
    assert_eq!(peer.take(), b"frame\x88\x0a\x0b\xb9shutdown");
    peer.send(&frame(0x88, b"\x0b\xb9"));
    assert!(!peer.is_aborted());
    peer.end();
    until(|| peer.is_aborted()).await;
}

#[tokio::test]
async fn the_peers_close_is_answered_with_its_own_code() {
    let (peer, mut receiver, sender) = opened(1000);
    peer.send(&frame(0x88, b"\x03\xe9going"));
    assert_eq!(next(&mut receiver).await, None);
    assert_eq!(peer.take(), b"\x88\x02\x03\xe9");
    assert_eq!(sender.send_own(b"x", false), Sent::Closed);
    peer.end();
    until(|| peer.is_aborted()).await;
}

#[tokio::test]
async fn b1_a_fault_is_told_as_a_close_code() {
    let (peer, mut receiver, _sender) = opened(1000);
    peer.send(&[frame(0x81, b"fine"), frame(0x83, b"odd"), frame(0x81, b"never")].concat());
    assert_eq!(next(&mut receiver).await, Some(Ok(b"fine".into())));
    assert_eq!(next(&mut receiver).await.unwrap().unwrap_err().code, 1002);
    assert_eq!(next(&mut receiver).await, None);
    assert_eq!(peer.take()[2..4], 1002u16.to_be_bytes());
}

#[tokio::test]
async fn b7_a_reader_that_never_reads_costs_one_cork_at_most() {
    let (_peer, _receiver, sender) = opened(0);
    let record = Bytes::from(vec![1; 10_000]);
    let mut taken = 0;
    for at in 0..10_000 {
        if sender.send_shared(&record, at % 7 != 6) == Sent::Sent {
            taken += 1;
        }
    }
    assert!(sender.shared.lock().bytes <= CORK_BYTES_MAX + record.len());
    assert!(taken < SLICES_MAX);
}

#[test]
fn an_idle_connection_is_small() {
    use super::super::duplex::Plain;
    assert!(size_of::<Receiver<Plain>>() <= 64, "{}", size_of::<Receiver<Plain>>());
    assert!(size_of::<Shared<Plain>>() <= 192, "{}", size_of::<Shared<Plain>>());
}
