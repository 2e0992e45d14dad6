//! The opening handshake of a WebSocket over HTTP/1.1 (RFC 6455 §4.2, RFC 7692 §7.1): whether a head asks for one, and the answer.

use httparse::Header;
use sha1::{Digest, Sha1};

/// Subprotocols that a client may offer.
const SUBPROTOCOLS_MAX: usize = 8;
/// Extensions that a client may offer; further ones are not looked at.
const EXTENSIONS_MAX: usize = 8;
/// RFC 6455 §1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Which pages of the web may connect. A client without an Origin is no browser and is not asked here.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Serialised origins (`https://app.example.org`), compared byte by byte.
    pub exact: Vec<String>,
    /// Also any page served from this machine: for development only.
    pub loopback: bool,
}

impl Origins {
    /// Pages of this machine, from any port.
    pub const LOOPBACK: Origins = Origins { exact: Vec::new(), loopback: true };

    /// True if a page of this origin may connect. `null` never may.
    pub fn allow(&self, origin: &[u8]) -> bool {
        if origin == b"null" {
            return false;
        }
        self.exact.iter().any(|exact| exact.as_bytes() == origin) || self.loopback && is_loopback(origin)
    }
}

/// What the server grants in a handshake.
#[derive(Clone, Debug, Default)]
pub struct HandshakeRules {
    /// Which pages may connect.
    pub origins: Origins,
    /// Whether permessage-deflate is negotiated.
    pub deflate: bool,
}

/// What a client wants to speak over its WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// The Centrifuge client protocol in JSON.
    #[default]
    Json,
    /// The same in Protobuf.
    Protobuf,
}

/// The answer to a handshake.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not a WebSocket handshake at all.
    NotAsked,
    /// Yes.
    Accepted {
        /// The response, whole.
        response: Vec<u8>,
        /// permessage-deflate was negotiated.
        deflate: bool,
        /// What is spoken.
        spoken: Spoken,
    },
    /// No.
    Refused(HttpRefusal),
}

/// A response that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    /// Status and reason.
    pub status: &'static str,
    /// Header lines, each with its end.
    pub headers: &'static str,
    /// One sentence.
    pub message: &'static str,
}

impl HttpRefusal {
    /// A refusal without further headers.
    pub const fn new(status: &'static str, message: &'static str) -> Self {
        HttpRefusal { status, headers: "", message }
    }

    /// The bytes of the response.
    pub fn response(&self) -> Vec<u8> {
        let HttpRefusal { status, headers, message } = self;
        let length = message.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{message}\n"
        )
        .into_bytes()
    }
}

/// Answers the head of a GET request without a body. `target` is the path with its query.
pub fn answer(target: &str, headers: &[Header<'_>], rules: &HandshakeRules) -> Answer {
    if !has_token(headers, "connection", "upgrade") || !has_token(headers, "upgrade", "websocket") {
        return Answer::NotAsked;
    }
    match accepted(target, headers, rules) {
        Ok(accepted) => accepted,
        Err(refusal) => Answer::Refused(refusal),
    }
}

fn accepted(target: &str, headers: &[Header<'_>], rules: &HandshakeRules) -> Result<Answer, HttpRefusal> {
    let bad = |message| HttpRefusal::new("400 Bad Request", message);
    if only(headers, "host").is_none() {
        return Err(bad("exactly one Host is needed"));
    }
    if only(headers, "sec-websocket-version") != Some(b"13") {
        return Err(HttpRefusal {
            status: "426 Upgrade Required",
            headers: "Sec-WebSocket-Version: 13\r\n",
            message: "this server speaks WebSocket version 13 only",
        });
    }
    let Some(key) = only(headers, "sec-websocket-key").filter(|key| is_key(key)) else {
        return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64"));
    };
    let mut origins = values(headers, "origin");
    if let Some(origin) = origins.next()
        && (origins.next().is_some() || !rules.origins.allow(origin))
    {
        return Err(HttpRefusal::new("403 Forbidden", "this origin may not connect"));
    }
    let named = subprotocol(headers)?;
    let deflate = rules.deflate && offers_deflate(headers);
    let mut response = Vec::with_capacity(256);
    response.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    response.extend_from_slice(&accept(key));
    response.extend_from_slice(b"\r\n");
    match named {
        Some(Spoken::Json) => response.extend_from_slice(b"Sec-WebSocket-Protocol: centrifuge-json\r\n"),
        Some(Spoken::Protobuf) => {
            response.extend_from_slice(b"Sec-WebSocket-Protocol: centrifuge-protobuf\r\n");
        }
        None => {}
    }
    if deflate {
        response.extend_from_slice(
            b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
        );
    }
    response.extend_from_slice(b"\r\n");
    let spoken = named.unwrap_or_else(|| spoken_by_query(target));
    Ok(Answer::Accepted { response, deflate, spoken })
}

/// The first subprotocol offered that is ours, to be named in the answer. What else is offered is never repeated: it may be a secret.
fn subprotocol(headers: &[Header<'_>]) -> Result<Option<Spoken>, HttpRefusal> {
    let mut named = None;
    for (at, name) in list(headers, "sec-websocket-protocol").enumerate() {
        if at == SUBPROTOCOLS_MAX {
            return Err(HttpRefusal::new("400 Bad Request", "too many subprotocols"));
        }
        let ours = match name {
            b"centrifuge-json" => Some(Spoken::Json),
            b"centrifuge-protobuf" => Some(Spoken::Protobuf),
            _ => None,
        };
        named = named.or(ours);
    }
    Ok(named)
}

/// What the query asks for: the way of clients that cannot name a subprotocol.
fn spoken_by_query(target: &str) -> Spoken {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    match query.split('&').any(|pair| matches!(pair, "format=protobuf" | "cf_protocol=protobuf")) {
        true => Spoken::Protobuf,
        false => Spoken::Json,
    }
}

/// True if an offer of permessage-deflate can be met: any window up to 32 KiB of the client's, and ours as large.
fn offers_deflate(headers: &[Header<'_>]) -> bool {
    list(headers, "sec-websocket-extensions").take(EXTENSIONS_MAX).any(|offer| {
        let mut parts = offer.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        if parts.next() != Some(b"permessage-deflate") {
            return false;
        }
        let mut seen = [false; 4];
        parts.all(|parameter| {
            let (name, value) = match parameter.iter().position(|&byte| byte == b'=') {
                Some(at) => (parameter[..at].trim_ascii(), Some(parameter[at + 1..].trim_ascii())),
                None => (parameter, None),
            };
            let bits = value.map(|value| value.strip_prefix(b"\"").unwrap_or(value));
            let bits = bits.map(|value| value.strip_suffix(b"\"").unwrap_or(value));
            let (which, fine) = match name {
                b"server_no_context_takeover" => (0, value.is_none()),
                b"client_no_context_takeover" => (1, value.is_none()),
                b"server_max_window_bits" => (2, bits == Some(b"15")),
                b"client_max_window_bits" => (
                    3,
                    bits.is_none_or(|bits| {
                        matches!(bits, b"8" | b"9" | b"10" | b"11" | b"12" | b"13" | b"14" | b"15")
                    }),
                ),
                _ => return false,
            };
            fine && !std::mem::replace(&mut seen[which], true)
        })
    })
}

/// The values of a header, in order.
pub fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The value of a header that occurs once.
pub fn only<'h>(headers: &'h [Header<'h>], name: &'h str) -> Option<&'h [u8]> {
    let mut values = values(headers, name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// The members of a header that is a list, over all its lines.
fn list<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    list(headers, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// True for `http(s)://localhost`, `127.x.y.z` and `[::1]`, with any port and nothing else.
fn is_loopback(origin: &[u8]) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let Some(rest) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
        return false;
    };
    is_loopback_host(rest)
}

/// True for the same hosts as they stand in a `Host` header: a page that reached us by another name came by DNS rebinding.
pub fn is_loopback_host(host: &str) -> bool {
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_is_fine =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let host_is_fine = host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    port_is_fine && host_is_fine
}

/// True for 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
    base64_of_20(&digest.into())
}

/// Base64 of a SHA-1 digest: six groups of three bytes and one of two.
fn base64_of_20(bytes: &[u8; 20]) -> [u8; 28] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; 28];
    for (group, quad) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let [a, b, c] = [group[0], group[1], group.get(2).copied().unwrap_or(0)].map(u32::from);
        let bits = a << 16 | b << 8 | c;
        for (at, sextet) in quad.iter_mut().enumerate().take(group.len() + 1) {
            *sextet = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(extra: &[(&str, &str)]) -> Answer {
        ask_with(
            extra,
            &HandshakeRules {
                origins: Origins { exact: vec!["https://app.example.com".into()], loopback: false },
                deflate: true,
            },
        )
    }

    fn ask_with(extra: &[(&str, &str)], rules: &HandshakeRules) -> Answer {
        let basic = [
            ("Host", "example.com"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let given = |name: &str| extra.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let headers: Vec<Header<'_>> = basic
            .iter()
            .filter(|(name, _)| !given(name))
            .chain(extra)
            .map(|&(name, value)| Header { name, value: value.as_bytes() })
            .collect();
        answer("/connection/websocket", &headers, rules)
    }

    fn text(answer: Answer) -> String {
        match answer {
            Answer::Accepted { response, .. } => String::from_utf8(response).unwrap(),
            Answer::Refused(refusal) => String::from_utf8(refusal.response()).unwrap(),
            Answer::NotAsked => "not asked".into(),
        }
    }

    #[test]
    fn the_sample_of_the_standard_is_accepted() {
        let answer = text(ask(&[]));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(!answer.contains("Sec-WebSocket-Protocol"), "{answer}");
    }

    #[test]
    fn a3_subprotocols_are_few_and_read_in_one_pass() {
        assert!(
            text(ask(&[("Sec-WebSocket-Protocol", "x, centrifuge-json")]))
                .contains("Protocol: centrifuge-json\r\n")
        );
        let secret = text(ask(&[("Sec-WebSocket-Protocol", "bearer.secret")]));
        assert!(secret.starts_with("HTTP/1.1 101 ") && !secret.contains("secret"), "{secret}");
        assert!(text(ask(&[("Sec-WebSocket-Protocol", "a,b,c,d,e,f,g,h")])).starts_with("HTTP/1.1 101 "));
        assert!(text(ask(&[("Sec-WebSocket-Protocol", "a,b,c,d,e,f,g,h,i")])).starts_with("HTTP/1.1 400 "));
        let hostile = format!("a{}b", " ".repeat(15_000));
        assert!(text(ask(&[("Sec-WebSocket-Protocol", &hostile)])).starts_with("HTTP/1.1 101 "));
    }

    #[test]
    fn the_first_subprotocol_of_ours_decides_and_without_one_the_query() {
        let spoken = |target: &str, offer: &str| {
            let headers = [("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "websocket")];
            let more = [("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")];
            let offered = [("Sec-WebSocket-Protocol", offer)];
            let all = headers.iter().chain(&more).chain(&offered);
            let headers: Vec<_> =
                all.map(|&(name, value)| Header { name, value: value.as_bytes() }).collect();
            match answer(target, &headers, &HandshakeRules::default()) {
                Answer::Accepted { response, spoken, .. } => (spoken, String::from_utf8(response).unwrap()),
                other => panic!("{other:?}"),
            }
        };
        let (chosen, response) = spoken("/", "x, centrifuge-protobuf, centrifuge-json");
        assert_eq!(chosen, Spoken::Protobuf);
        assert!(response.contains("\r\nSec-WebSocket-Protocol: centrifuge-protobuf\r\n"), "{response}");
        assert_eq!(spoken("/?format=protobuf", "centrifuge-json").0, Spoken::Json);
        for query in ["format=protobuf", "a=b&cf_protocol=protobuf"] {
            let (chosen, response) = spoken(&format!("/?{query}"), "x");
            assert_eq!(chosen, Spoken::Protobuf, "{query}");
            assert!(!response.contains("Sec-WebSocket-Protocol"), "{response}");
        }
        assert_eq!(spoken("/?format=json", "x").0, Spoken::Json);
    }

    #[test]
    fn a4_another_version_is_told_which_one_we_speak() {
        for version in ["8", "1337", "13, 8", ""] {
            let answer = text(ask(&[("Sec-WebSocket-Version", version)]));
            assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
            assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
    }

    #[test]
    fn a7_an_origin_is_allowed_exactly_or_not_at_all() {
        assert!(text(ask(&[("Origin", "https://app.example.com")])).starts_with("HTTP/1.1 101 "));
        for origin in [
            "null",
            "",
            "https://app.example.com.evil.com",
            "https://evilapp.example.com",
            "https://APP.example.com",
            "HTTPS://app.example.com",
            "https://app.example.com:443",
            "https://app.example.com:8443",
            "https://app.example.com.",
            "https://app.example.com/",
            "http://app.example.com",
            "https://xn--app-example-com.evil",
            "example.com",
            "http://localhost",
        ] {
            assert!(text(ask(&[("Origin", origin)])).starts_with("HTTP/1.1 403 "), "{origin}");
        }
        let twice = [("Origin", "https://app.example.com"), ("Origin", "https://app.example.com")];
        assert!(text(ask(&twice)).starts_with("HTTP/1.1 403 "));
    }

    #[test]
    fn a7_loopback_pages_are_those_of_this_machine_only() {
        let rules = HandshakeRules { origins: Origins { exact: Vec::new(), loopback: true }, deflate: false };
        for origin in [
            "http://localhost",
            "http://localhost:5173",
            "http://127.0.0.1:8000",
            "https://[::1]:1",
            "http://[::1]",
        ] {
            assert!(text(ask_with(&[("Origin", origin)], &rules)).starts_with("HTTP/1.1 101 "), "{origin}");
        }
        for origin in [
            "null",
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://localhost:evil.com",
            "http://localhost:99999",
            "http://evil@localhost",
            "file://localhost",
            "http://10.0.0.1",
        ] {
            assert!(text(ask_with(&[("Origin", origin)], &rules)).starts_with("HTTP/1.1 403 "), "{origin}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_left_to_others() {
        assert_eq!(ask(&[("Upgrade", "h2c")]), Answer::NotAsked);
        assert_eq!(ask(&[("Connection", "keep-alive")]), Answer::NotAsked);
    }

    #[test]
    fn a_key_of_another_size_is_refused() {
        for key in [
            "",
            "c2hvcnQ=",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ==x",
            "dGhlIHNhbXBsZSBub25j\u{e9}===",
        ] {
            assert!(text(ask(&[("Sec-WebSocket-Key", key)])).starts_with("HTTP/1.1 400 "), "{key}");
        }
    }

    #[test]
    fn b4_deflate_is_negotiated_without_context_and_with_sane_windows_only() {
        let deflate = |offer| {
            matches!(ask(&[("Sec-WebSocket-Extensions", offer)]), Answer::Accepted { deflate: true, .. })
        };
        assert!(deflate("permessage-deflate"));
        assert!(deflate("permessage-deflate; client_max_window_bits"));
        assert!(deflate("permessage-deflate; client_max_window_bits=\"10\"; server_no_context_takeover"));
        assert!(deflate("permessage-deflate; server_max_window_bits=9, permessage-deflate"));
        for offer in [
            "x-webkit-deflate-frame",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; client_max_window_bits=1000",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; unknown",
        ] {
            assert!(!deflate(offer), "{offer}");
        }
        let off = ask_with(&[("Sec-WebSocket-Extensions", "permessage-deflate")], &HandshakeRules::default());
        assert!(matches!(off, Answer::Accepted { deflate: false, .. }));
    }
}
