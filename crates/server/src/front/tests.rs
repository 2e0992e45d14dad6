use std::sync::Mutex;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::carrier::handshake::Origins;

/// Keeps what came; sockets are dropped, other connections are answered with what they sent.
#[derive(Default)]
struct Guests {
    peers: Mutex<Vec<PeerInfo>>,
}

impl Reception for Arc<Guests> {
    fn on_socket(&self, (mut receiver, sender): (Receiver<Plain>, Sender<Plain>), _: Spoken, peer: PeerInfo) {
        self.peers.lock().unwrap().push(peer);
        tokio::spawn(async move {
            let mut frames = Vec::new();
            loop {
                let message = std::future::poll_fn(|cx| {
                    receiver.poll_message(cx, |kind, payload| {
                        frames.clear();
                        crate::carrier::frame::write_message(&mut frames, kind, payload, false);
                    })
                });
                if !matches!(message.await, Some(Ok(()))) {
                    return;
                }
                while sender.send_own(&frames, false) == fireside_node::ports::Sent::Full {
                    if std::future::poll_fn(|cx| sender.poll_ready(cx)).await.is_err() {
                        return;
                    }
                }
            }
        });
    }

    fn on_other(&self, mut connection: Rewound, _: SocketAddr) {
        tokio::spawn(async move {
            let mut read = [0; 4096];
            while let Ok(len @ 1..) = connection.read(&mut read).await {
                if connection.write_all(&read[..len]).await.is_err() {
                    return;
                }
            }
        });
    }
}

struct House {
    addr: SocketAddr,
    front: Arc<Front<Arc<Guests>>>,
    guests: Arc<Guests>,
}

async fn open(change: impl FnOnce(&mut FrontRules)) -> House {
    let mut rules = FrontRules::production();
    rules.handshake.origins = Origins { exact: vec!["https://app.example.com".into()], loopback: false };
    change(&mut rules);
    let guests = Arc::new(Guests::default());
    let front = Front::new(rules, Arc::clone(&guests));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(Arc::clone(&front).serve(listener));
    House { addr, front, guests }
}

const HANDSHAKE: &str = "GET /connection/websocket?a=b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends bytes and reads to the end.
async fn ask(house: &House, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(house.addr).await.unwrap();
    // It may be refused, and closed, before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_websocket_opens_and_what_is_known_of_its_peer_is_told() {
    let house = open(|_| ()).await;
    let mut stream = TcpStream::connect(house.addr).await.unwrap();
    let head =
        format!("{HANDSHAKE}Origin: https://app.example.com\r\nUser-Agent: {}\r\n\r\n", "u".repeat(300));
    // Byte by byte, and with the first frame right behind it.
    for byte in head.as_bytes() {
        stream.write_all(std::slice::from_ref(byte)).await.unwrap();
    }
    stream.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\x81\x02hi") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let peer = house.guests.peers.lock().unwrap().pop().unwrap();
    assert_eq!(peer.addr, stream.local_addr().unwrap());
    assert_eq!(peer.origin.as_deref(), Some("https://app.example.com"));
    assert_eq!(peer.user_agent.map(|text| text.len()), Some(USER_AGENT_BYTES_MAX));
    assert_eq!(peer.query.as_deref(), Some("a=b"));
}

#[tokio::test]
async fn what_is_not_ours_goes_on_byte_for_byte() {
    let house = open(|_| ()).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
        "GET /connection/websocket HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /connection/websocket HTTP/1.0\r\nHost: x\r\n\r\n".to_owned(),
        format!("{HANDSHAKE}Content-Length: 4\r\n\r\nbody"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(house.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut again = String::new();
        stream.read_to_string(&mut again).await.unwrap();
        assert_eq!(again, request);
    }
    assert!(house.guests.peers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a1_who_does_not_finish_a_head_in_time_is_closed() {
    let house = open(|rules| rules.head_ms_max = 100).await;
    for begun in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let begin = Instant::now();
        assert_eq!(ask(&house, begun.as_bytes()).await, "");
        assert!(begin.elapsed() >= Duration::from_millis(100), "not before its time");
    }
    assert_eq!(house.front.counts().too_slow.load(Ordering::Relaxed), 2);
    let mut trickle = TcpStream::connect(house.addr).await.unwrap();
    let mut closed = false;
    for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat_n(&b'y', 1000)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if trickle.write_all(std::slice::from_ref(byte)).await.is_err() {
            closed = true;
            break;
        }
    }
    assert!(closed, "a byte now and then does not win time");
}

#[tokio::test]
async fn a2_a_head_without_end_is_refused_at_its_limit() {
    let house = open(|_| ()).await;
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
    assert!(ask(&house, many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    assert!(ask(&house, long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let fits = format!("GET / HTTP/1.1\r\n{}X: {}\r\n\r\n", "X: y\r\n".repeat(63), "y".repeat(10_000));
    let mut stream = TcpStream::connect(house.addr).await.unwrap();
    stream.write_all(fits.as_bytes()).await.unwrap();
    let mut again = vec![0; fits.len()];
    stream.read_exact(&mut again).await.unwrap();
    assert_eq!(again, fits.as_bytes());
}

#[tokio::test]
async fn a4_after_a_refused_version_no_byte_is_read_as_anything() {
    let house = open(|_| ()).await;
    let smuggled = "GET /api/secret HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = HANDSHAKE.replace("Version: 13", "Version: 777");
    let answer = ask(&house, format!("{head}\r\n{smuggled}").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 426 ") && answer.contains("Sec-WebSocket-Version: 13\r\n"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert_eq!(house.front.counts().others.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a5_a_head_that_could_be_read_in_two_ways_is_refused() {
    let house = open(|_| ()).await;
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "Content-Length: 4, 4\r\n\r\n",
        "Content-Length: +4\r\n\r\n",
        "Content-Length: 0x4\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        "X: a\r\n folded\r\n\r\n",
        "X: a\nY: b\r\n\r\n",
        "X: a\0b\r\n\r\n",
        "X: a\rb\r\n\r\n",
        ": nameless\r\n\r\n",
        "no colon\r\n\r\n",
    ] {
        let answer =
            ask(&house, format!("POST /api/publish HTTP/1.1\r\nHost: x\r\n{headers}abcd").as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close\r\n"),
            "{headers:?}: {answer}"
        );
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\n\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
    ] {
        assert!(ask(&house, bytes).await.starts_with("HTTP/1.1 400 "), "{bytes:?}");
    }
    assert_eq!(house.front.counts().others.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a7_a_foreign_page_is_refused_before_the_upgrade_and_a_program_is_not() {
    let house = open(|_| ()).await;
    for origin in ["null", "https://app.example.com.evil.com", "https://APP.example.com"] {
        let answer = ask(&house, format!("{HANDSHAKE}Origin: {origin}\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    assert_eq!(house.front.counts().sockets.load(Ordering::Relaxed), 0);
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}/connection/websocket", house.addr)).await.unwrap();
    socket.close(None).await.unwrap();
    assert_eq!(house.front.counts().sockets.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn who_finds_no_place_is_told_so_and_a_place_becomes_free_again() {
    let house = open(|rules| rules.connections_max = 2).await;
    let guests =
        [TcpStream::connect(house.addr).await.unwrap(), TcpStream::connect(house.addr).await.unwrap()];
    while house.front.connections() < 2 {
        tokio::task::yield_now().await;
    }
    let answer = ask(&house, format!("{HANDSHAKE}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
    drop(guests);
    while house.front.connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.front.counts().crowded_out.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_greets_a_connection_is_not_what_stays_with_it() {
    let house = open(|_| ()).await;
    let stream = TcpStream::connect(house.addr).await.unwrap();
    let place = Places::new(1).take().unwrap();
    let greeting = Arc::clone(&house.front).greet(Plain::new(stream, place), house.addr);
    assert!(size_of_val(&greeting) <= 1536, "{}", size_of_val(&greeting));
    // All that stays is the two halves: the socket's task owns them, and nothing of the greeting.
    assert!(size_of::<(Receiver<Plain>, Sender<Plain>)>() <= 72);
}

mod a12 {
    //! Junk at the door.

    use proptest::prelude::*;

    use super::*;

    fn verdict(front: &Front<Arc<Guests>>, bytes: &[u8], step: usize) -> String {
        let mut seen = 0;
        while seen < bytes.len() {
            let len = (seen + step).min(bytes.len());
            match head_end(&bytes[..len], seen) {
                Err(refusal) => return refusal.status.into(),
                Ok(Some(len)) => {
                    let head = Head { read: bytes.to_vec(), len };
                    return match judge(head, &front.rules, "127.0.0.1:1".parse().unwrap()) {
                        Verdict::Refuse(refusal) => refusal.status.into(),
                        Verdict::Other(read) => {
                            assert_eq!(read, bytes);
                            "other".into()
                        }
                        Verdict::Socket(opening) => {
                            assert_eq!(opening.early, bytes[len..]);
                            "socket".into()
                        }
                    };
                }
                Ok(None) => seen = len,
            }
        }
        "more".into()
    }

    fn door() -> Arc<Front<Arc<Guests>>> {
        Front::new(FrontRules::production(), Arc::default())
    }

    proptest! {
        #[test]
        fn a12_any_bytes_at_all_get_a_verdict_however_they_arrive(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            step in 1usize..20,
        ) {
            prop_assert_eq!(verdict(&door(), &bytes, step), verdict(&door(), &bytes, 1));
        }

        #[test]
        fn a12_a_damaged_handshake_gets_a_verdict_however_it_arrives(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            step in 1usize..40,
        ) {
            let mut bytes = format!("{HANDSHAKE}\r\nearly").into_bytes();
            let whole = damage.is_empty();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let by_step = verdict(&door(), &bytes, step);
            prop_assert_eq!(&by_step, &verdict(&door(), &bytes, 1));
            prop_assert!(!whole || by_step == "socket", "{}", by_step);
        }
    }
}

mod differential {
    //! The same conversation as an independent implementation understands it.

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::{Error, Message, protocol::CloseFrame};

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            "\\PC{0,200}".prop_map(|text| Message::Text(text.into())),
            prop::collection::vec(any::<u8>(), 0..70_000).prop_map(|bytes| Message::Binary(bytes.into())),
            prop::collection::vec(any::<u8>(), 0..=125).prop_map(|bytes| Message::Ping(bytes.into())),
        ]
    }

    fn echoed(message: &Message) -> Message {
        match message {
            Message::Ping(payload) => Message::Pong(payload.clone()),
            other => other.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn tungstenite_gets_back_what_it_sent(messages in prop::collection::vec(message(), 0..12), code in 3000u16..5000) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let house = runtime.block_on(open(|_| ()));
            let stream = std::net::TcpStream::connect(house.addr).unwrap();
            let url = format!("ws://{}/connection/websocket", house.addr);
            let (mut socket, _) = tokio_tungstenite::tungstenite::client(url, stream).unwrap();
            for message in &messages {
                socket.send(message.clone()).unwrap();
                prop_assert_eq!(socket.read().unwrap(), echoed(message));
            }
            let close = CloseFrame { code: code.into(), reason: "done".into() };
            socket.close(Some(close)).unwrap();
            let answer = socket.read().unwrap();
            let Message::Close(Some(close)) = answer else { panic!("{answer:?}") };
            prop_assert_eq!(u16::from(close.code), code);
            prop_assert!(matches!(socket.read(), Err(Error::ConnectionClosed)), "and the connection ends");
        }
    }
}
