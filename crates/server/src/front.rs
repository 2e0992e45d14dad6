//! The front door: accepts connections, reads the first head, and decides whose the connection is.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fireside_core::limits::HANDSHAKE_MS_MAX;
use fireside_node::ports::Link;
use fireside_wire::Protocol;
use httparse::{Error as HeadError, Header, Status};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::carrier::duplex::{Place, Places, Plain};
use crate::carrier::handshake::{Answer, HandshakeRules, HttpRefusal, Spoken, answer, only, values};
use crate::carrier::link;
use crate::carrier::websocket::{self, Receiver, Sender, SocketLimits};

/// Header lines of one head.
const HEADERS_MAX: usize = 64;
/// Bytes of a peer's own description that are kept.
const USER_AGENT_BYTES_MAX: usize = 256;
/// Bytes that are read and forgotten after a refusal.
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// Connections above the limit that are told so at once; further ones are dropped in silence.
const REFUSALS_MAX: usize = 64;
/// What the prior-knowledge form of HTTP/2 begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// What holds at the door.
#[derive(Clone, Debug)]
pub struct FrontRules {
    /// The path of the WebSocket carrier.
    pub websocket_path: &'static str,
    /// Who may open a WebSocket, and how.
    pub handshake: HandshakeRules,
    /// What an open WebSocket may cost.
    pub socket: &'static SocketLimits,
    /// Connections at once, of all kinds.
    pub connections_max: usize,
    /// Bytes of the first head.
    pub head_bytes_max: usize,
    /// Time for the first head to arrive, in ms.
    pub head_ms_max: u64,
    /// Bytes that the kernel holds for a reader that does not read; it doubles the number.
    pub send_buffer_bytes: usize,
}

impl FrontRules {
    /// What a server on the internet grants, to pages of nobody yet.
    pub fn production() -> Self {
        FrontRules {
            websocket_path: "/connection/websocket",
            handshake: HandshakeRules::default(),
            socket: &SocketLimits::PRODUCTION,
            connections_max: 20_000,
            head_bytes_max: 16 * 1024,
            head_ms_max: HANDSHAKE_MS_MAX,
            // Two of the largest segments must fit, and behind a proxy of the same machine those are 64 KiB: with room for one, each waits
            // for the delayed acknowledgement of the one before it, 40 ms.
            send_buffer_bytes: 64 * 1024,
        }
    }
}

/// What is known of a peer from its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Where its packets come from.
    pub addr: SocketAddr,
    /// Its origin; `None` if it is no browser.
    pub origin: Option<Box<str>>,
    /// What it calls itself, cut to 256 bytes.
    pub user_agent: Option<Box<str>>,
    /// The query of its request, never logged: it may bear a secret.
    pub query: Option<Box<str>>,
}

/// Where accepted connections go. Both methods return at once: what lasts is a task of its own.
pub trait Reception: Send + Sync + 'static {
    /// A WebSocket is open, and this is spoken on it.
    fn on_socket(&self, socket: (Receiver<Plain>, Sender<Plain>), spoken: Spoken, peer: PeerInfo);
    /// Somebody speaks HTTP to us. The bytes already read come first again.
    fn on_other(&self, connection: Rewound, addr: SocketAddr);
}

/// A reception that makes links of sockets.
pub struct Links<L, O> {
    /// What [`Spoken::Json`] is, and the name of carrier and protocol for facts: `websocket/centrifuge-json`.
    pub json: (Arc<dyn Protocol>, &'static str),
    /// What [`Spoken::Protobuf`] is, likewise.
    pub protobuf: (Arc<dyn Protocol>, &'static str),
    /// Takes a link; spawns its session.
    pub on_link: L,
    /// Takes a connection that is not ours; spawns its service.
    pub on_other: O,
}

impl<L, O> Reception for Links<L, O>
where
    L: Fn(Link, PeerInfo) + Send + Sync + 'static,
    O: Fn(Rewound, SocketAddr) + Send + Sync + 'static,
{
    fn on_socket(&self, socket: (Receiver<Plain>, Sender<Plain>), spoken: Spoken, peer: PeerInfo) {
        let (protocol, kind) = match spoken {
            Spoken::Json => &self.json,
            Spoken::Protobuf => &self.protobuf,
        };
        (self.on_link)(link::link(socket, Arc::clone(protocol), kind), peer);
    }

    fn on_other(&self, connection: Rewound, addr: SocketAddr) {
        (self.on_other)(connection, addr);
    }
}

/// What happened at the door, for metrics.
#[derive(Debug, Default)]
pub struct FrontCounts {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because all places were taken.
    pub crowded_out: AtomicU64,
    /// Connections whose head did not arrive in time.
    pub too_slow: AtomicU64,
    /// Heads that were malformed, too large or a handshake we refuse.
    pub refused: AtomicU64,
    /// WebSockets opened.
    pub sockets: AtomicU64,
    /// Connections handed to the HTTP side.
    pub others: AtomicU64,
}

/// The front door of one listener.
pub struct Front<R> {
    rules: FrontRules,
    reception: R,
    places: Places,
    refusals: Places,
    counts: Arc<FrontCounts>,
}

impl FrontCounts {
    /// The counts in Prometheus's text format, version 0.0.4.
    pub fn render(&self) -> String {
        let counts = [
            ("accepted", "Connections accepted", &self.accepted),
            ("crowded_out", "Connections refused because all places were taken", &self.crowded_out),
            ("too_slow", "Connections whose first head did not arrive in time", &self.too_slow),
            ("refused", "Malformed or too large heads, and handshakes that were refused", &self.refused),
            ("websockets", "WebSockets opened", &self.sockets),
            ("http", "Connections handed to the HTTP side", &self.others),
        ];
        let family = |(name, help, count): (&str, &str, &AtomicU64)| {
            let (name, count) = (format!("fireside_door_{name}_total"), count.load(Ordering::Relaxed));
            format!("# HELP {name} {help}.\n# TYPE {name} counter\n{name} {count}\n")
        };
        counts.into_iter().map(family).collect()
    }
}

impl<R: Reception> Front<R> {
    /// A door that is not open yet.
    pub fn new(rules: FrontRules, reception: R) -> Arc<Self> {
        Front::counted(rules, reception, Arc::default())
    }

    /// The same, whose counts somebody watches.
    pub fn counted(rules: FrontRules, reception: R, counts: Arc<FrontCounts>) -> Arc<Self> {
        let places = Places::new(rules.connections_max);
        let refusals = Places::new(REFUSALS_MAX);
        Arc::new(Front { rules, reception, places, refusals, counts })
    }

    /// What happened so far.
    pub fn counts(&self) -> &FrontCounts {
        &self.counts
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.places.taken()
    }

    /// Accepts connections until the future is dropped; those accepted live on.
    ///
    /// # Errors
    /// The listener cannot be prepared. Once it accepts, it does not end by itself.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        // Accepted connections inherit it. It bounds what a reader that does not read costs the kernel.
        SockRef::from(&listener).set_send_buffer_size(self.rules.send_buffer_bytes)?;
        loop {
            match listener.accept().await {
                Ok((stream, addr)) => self.admit(stream, addr),
                // The peer gave up before we came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of files or memory: the connection stays in the backlog, and asking at once again would spin.
                    tracing::error!(%error, open = self.places.taken(), "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, addr: SocketAddr) {
        add(&self.counts.accepted);
        let Some(place) = self.places.take() else {
            self.crowd_out(stream);
            return;
        };
        // A platform that refuses this is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let door = Arc::clone(self);
        tokio::spawn(async move { door.greet(Plain::new(stream, place), addr).await });
    }

    fn crowd_out(self: &Arc<Self>, stream: TcpStream) {
        let before = self.counts.crowded_out.fetch_add(1, Ordering::Relaxed);
        if before.is_power_of_two() || before == 0 {
            tracing::warn!(max = self.rules.connections_max, refused = before + 1, "too many connections");
        }
        let Some(place) = self.refusals.take() else { return };
        tokio::spawn(async move {
            let crowded = HttpRefusal {
                status: "503 Service Unavailable",
                headers: RETRY_AFTER[before as usize % RETRY_AFTER.len()],
                message: "too many connections",
            };
            refuse(Plain::new(stream, place), &crowded).await;
        });
    }

    /// Reads the head, and gives the connection to whom it belongs. Ends there: what lasts is a task of its own.
    async fn greet(self: Arc<Self>, connection: Plain, addr: SocketAddr) {
        let deadline = Duration::from_millis(self.rules.head_ms_max);
        let read = tokio::time::timeout(deadline, read_head(connection.stream(), &self.rules)).await;
        let Ok(read) = read else {
            add(&self.counts.too_slow);
            tracing::debug!(%addr, "no request in time");
            return;
        };
        let verdict = match read {
            Ok(Some(head)) => judge(head, &self.rules, addr),
            Ok(None) => return,
            Err(refusal) => Verdict::Refuse(refusal),
        };
        match verdict {
            Verdict::Refuse(refusal) => {
                add(&self.counts.refused);
                tracing::debug!(%addr, status = refusal.status, reason = refusal.message, "request refused");
                refuse(connection, &refusal).await;
            }
            Verdict::Other(read) => {
                add(&self.counts.others);
                self.reception.on_other(Rewound::new(read, connection), addr);
            }
            Verdict::Socket(opening) => {
                let Opening { response, deflate, spoken, early, peer } = *opening;
                let written = tokio::time::timeout(deadline, write_all(connection.stream(), &response)).await;
                if matches!(written, Ok(Ok(()))) {
                    add(&self.counts.sockets);
                    let socket = websocket::open(connection, self.rules.socket, deflate, early);
                    self.reception.on_socket(socket, spoken, peer);
                }
            }
        }
    }
}

/// What the door does with the bytes that a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The head is not whole yet: it reads on.
    More,
    /// It answers this and closes.
    Refused(HttpRefusal),
    /// It gives the connection to whoever serves HTTP, with all bytes that were read.
    Other(Vec<u8>),
    /// It opens a WebSocket: the answer, and the bytes behind the head.
    Socket(Vec<u8>, Vec<u8>),
}

/// Reads a head as the door does, of whose bytes `seen` were looked at before: what is fuzzed.
pub fn opened(read: &[u8], seen: usize, rules: &FrontRules) -> Opened {
    let len = match head_end(read, seen) {
        Ok(Some(len)) => len,
        Ok(None) => return Opened::More,
        Err(refusal) => return Opened::Refused(refusal),
    };
    match judge(Head { read: read.to_vec(), len }, rules, SocketAddr::from(([0; 4], 0))) {
        Verdict::Refuse(refusal) => Opened::Refused(refusal),
        Verdict::Other(read) => Opened::Other(read),
        Verdict::Socket(opening) => Opened::Socket(opening.response, opening.early),
    }
}

/// Whose connection it is. Not async: its arrays must not live in a task.
fn judge(head: Head, rules: &FrontRules, addr: SocketAddr) -> Verdict {
    let Head { mut read, len } = head;
    if read.starts_with(HTTP2_PREFACE) {
        return Verdict::Other(read);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(&read[..len]) {
        Ok(Status::Complete(parsed)) if parsed == len => {}
        Err(HeadError::TooManyHeaders) => return Verdict::Refuse(TOO_LARGE),
        _ => return Verdict::Refuse(MALFORMED),
    }
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    if let Some(refusal) = smuggling(request.headers) {
        return Verdict::Refuse(refusal);
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let ours = method == "GET"
        && path == rules.websocket_path
        && request.version == Some(1)
        && !has_body(request.headers);
    if !ours {
        return Verdict::Other(read);
    }
    match answer(target, request.headers, &rules.handshake) {
        Answer::NotAsked => Verdict::Other(read),
        Answer::Refused(refusal) => Verdict::Refuse(refusal),
        Answer::Accepted { response, deflate, spoken } => {
            let peer = peer_info(addr, target, request.headers);
            let early = read.split_off(len);
            Verdict::Socket(Box::new(Opening { response, deflate, spoken, early, peer }))
        }
    }
}

enum Verdict {
    Refuse(HttpRefusal),
    Other(Vec<u8>),
    Socket(Box<Opening>),
}

struct Opening {
    response: Vec<u8>,
    deflate: bool,
    spoken: Spoken,
    /// What the client sent behind its head without waiting.
    early: Vec<u8>,
    peer: PeerInfo,
}

/// What was read up to the end of a head, and perhaps beyond it.
struct Head {
    read: Vec<u8>,
    len: usize,
}

const MALFORMED: HttpRefusal = HttpRefusal::new("400 Bad Request", "malformed request");
/// Spread, so that those who were refused together do not come back together.
const RETRY_AFTER: [&str; 6] = [
    "Retry-After: 3\r\n",
    "Retry-After: 7\r\n",
    "Retry-After: 4\r\n",
    "Retry-After: 9\r\n",
    "Retry-After: 5\r\n",
    "Retry-After: 11\r\n",
];
const TOO_LARGE: HttpRefusal =
    HttpRefusal::new("431 Request Header Fields Too Large", "too many or too long header lines");

/// Reads until a head is whole; `None` if the peer left before. Every byte is looked at once.
async fn read_head(stream: &TcpStream, rules: &FrontRules) -> Result<Option<Head>, HttpRefusal> {
    let mut read = Vec::new();
    loop {
        // Nothing is kept for a connection that says nothing.
        if stream.readable().await.is_err() {
            return Ok(None);
        }
        let seen = read.len();
        if !read_more(stream, &mut read, rules.head_bytes_max) {
            return Ok(None);
        }
        if let Some(len) = head_end(&read, seen)? {
            return Ok(Some(Head { read, len }));
        }
        if read.len() >= rules.head_bytes_max {
            return Err(TOO_LARGE);
        }
    }
}

/// Reads what is there, up to `max` bytes in all; false at the end.
fn read_more(stream: &TcpStream, read: &mut Vec<u8>, max: usize) -> bool {
    const STEP_BYTES: usize = 2 * 1024;
    let seen = read.len();
    read.resize((seen + STEP_BYTES).min(max), 0);
    let result = stream.try_read(&mut read[seen..]);
    read.truncate(seen + result.as_ref().copied().unwrap_or(0));
    match result {
        Ok(len) => len > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Where the head ends, once it does. Looks at the bytes from `seen` on. A line that ends without CR is refused at once: proxies
/// before us may have cut the stream elsewhere (RFC 9112 §2.2).
fn head_end(read: &[u8], seen: usize) -> Result<Option<usize>, HttpRefusal> {
    if seen == 0 && read.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        return Err(MALFORMED);
    }
    for (at, &byte) in read.iter().enumerate().skip(seen) {
        match byte {
            b'\n' if !read[..at].ends_with(b"\r") => return Err(MALFORMED),
            b'\n' if read[..at].ends_with(b"\r\n\r") => return Ok(Some(at + 1)),
            0 => return Err(MALFORMED),
            _ => {}
        }
    }
    Ok(None)
}

/// A head that two servers could understand differently (RFC 9112 §6.3).
fn smuggling(headers: &[Header<'_>]) -> Option<HttpRefusal> {
    let lengths = values(headers, "content-length").count();
    let encodings = values(headers, "transfer-encoding").count();
    let length_is_odd = || only(headers, "content-length").is_some_and(|value| !is_length(value));
    let encoding_is_odd = || {
        only(headers, "transfer-encoding")
            .is_some_and(|value| !value.trim_ascii().eq_ignore_ascii_case(b"chunked"))
    };
    (lengths + encodings > 1 || length_is_odd() || encoding_is_odd()).then_some(MALFORMED)
}

fn is_length(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit)
}

fn has_body(headers: &[Header<'_>]) -> bool {
    values(headers, "transfer-encoding").next().is_some()
        || values(headers, "content-length").any(|value| value.iter().any(|&byte| byte != b'0'))
}

fn peer_info(addr: SocketAddr, target: &str, headers: &[Header<'_>]) -> PeerInfo {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let user_agent = values(headers, "user-agent").next().map(|value| {
        let mut text = text(value);
        text.truncate(text.floor_char_boundary(USER_AGENT_BYTES_MAX));
        text.into_boxed_str()
    });
    PeerInfo {
        addr,
        origin: only(headers, "origin").map(|value| text(value).into()),
        user_agent,
        query: target.split_once('?').map(|(_, query)| query.into()),
    }
}

/// Says no, and closes in a way that lets it be heard.
async fn refuse(connection: Plain, refusal: &HttpRefusal) {
    use crate::carrier::duplex::Duplex;
    let heard = async {
        write_all(connection.stream(), &refusal.response()).await?;
        connection.end();
        let mut drained = 0;
        let mut scratch = [0; 512];
        while drained < DRAIN_BYTES_MAX {
            connection.stream().readable().await?;
            match connection.stream().try_read(&mut scratch) {
                Ok(0) => break,
                Ok(len) => drained += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        io::Result::Ok(())
    };
    // Whether it was heard or not, the connection ends here.
    let _ = tokio::time::timeout(Duration::from_secs(2), heard).await;
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A connection whose first bytes come again.
pub struct Rewound {
    read: Vec<u8>,
    read_at: usize,
    stream: TcpStream,
    place: Place,
}

impl Rewound {
    fn new(read: Vec<u8>, connection: Plain) -> Self {
        let (stream, place) = connection.into_parts();
        Rewound { read, read_at: 0, stream, place }
    }

    /// What is still to come again, and the connection.
    pub fn into_parts(mut self) -> (Vec<u8>, Plain) {
        (self.read.split_off(self.read_at), Plain::new(self.stream, self.place))
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let again = &self.read[self.read_at..];
        let len = again.len().min(into.remaining());
        into.put_slice(&again[..len]);
        self.read_at += len;
        if self.read_at == self.read.len() {
            self.read = Vec::new();
            self.read_at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
