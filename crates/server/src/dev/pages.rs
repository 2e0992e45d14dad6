//! What `fireside dev` answers: its page, and tokens for whoever asks from this machine.
//!
//! A page of another site must not get one. It is refused by its `Origin`; if it sends none (a script or an image), by
//! `Sec-Fetch-Site`; and if it reached us under a name of its own, whose address was changed to ours (DNS rebinding), by `Host`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::carrier::handshake::{Origins, is_loopback_host};
use crate::http::router::Fallback;
use crate::keys::{self, Minted, MintedCap};

/// How long a token is good for: short enough to see a page refresh one.
const TOKEN_LIFETIME_S: u64 = 3_600;
/// Everything that a token can allow.
const RIGHTS: [&str; 6] = ["subscribe", "publish", "history", "presence", "ai.start", "ai.cancel.any"];

/// The first page of a developer, for a server at `address`.
pub(super) fn page(address: &str) -> String {
    include_str!("page.html").replace("{address}", address)
}

/// Answers every request that is neither a carrier's nor the API's.
pub(super) fn pages(page: String, token_secret: String) -> Fallback {
    let page = Bytes::from(page);
    std::sync::Arc::new(move |request| {
        let answer = answer(&request, &page, token_secret.as_bytes());
        Box::pin(async move { answer })
    })
}

fn answer(request: &Request<Bytes>, page: &Bytes, secret: &[u8]) -> Response<Bytes> {
    let text = |status, text: &'static str| {
        respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
    };
    if let Err(why) = is_from_here(request) {
        return text(StatusCode::FORBIDDEN, why);
    }
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => respond(StatusCode::OK, "text/html; charset=utf-8", page.clone()),
        (&Method::GET, "/dev/token") => match token(request.uri(), secret) {
            Ok(token) => respond(StatusCode::OK, "text/plain; charset=utf-8", token.into()),
            Err(why) => text(StatusCode::BAD_REQUEST, why),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there is nothing here: GET / is a page, GET /dev/token?user=anna a token\n",
        ),
    };
    // The origin was judged above: it is one of this machine.
    if let Some(origin) = request.headers().get(ORIGIN) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
}

/// # Errors
/// The request came by a page of another site: what to say.
fn is_from_here(request: &Request<Bytes>) -> Result<(), &'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let host = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next());
    if !matches!(host, (Some(host), None) if is_loopback_host(host)) {
        return Err("fireside dev answers to localhost, 127.0.0.1 and [::1] only\n");
    }
    if headers.get_all(ORIGIN).iter().any(|origin| !Origins::LOOPBACK.allow(origin.as_bytes())) {
        return Err(
            "pages of another origin get nothing here: serve yours from http://localhost, any port\n",
        );
    }
    let is_navigation = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    let is_foreign = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if is_foreign && !is_navigation && !headers.contains_key(ORIGIN) {
        return Err("another site may link to this, but not load it\n");
    }
    Ok(())
}

fn token(uri: &Uri, secret: &[u8]) -> Result<String, &'static str> {
    const USAGE: &str =
        "name the user: /dev/token?user=anna (letters, digits and -._~, at most 64; others as %xx)\n";
    let query = uri.query().unwrap_or("");
    let user = query.split('&').find_map(|pair| pair.strip_prefix("user=")).and_then(percent_decoded);
    let Some(user) = user.filter(|user| (1..=64).contains(&user.len()) && !user.contains(char::is_control))
    else {
        return Err(USAGE);
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let cap = MintedCap {
        channels: vec!["dev:*".to_owned()],
        allow: RIGHTS.map(str::to_owned).into(),
        ..MintedCap::default()
    };
    let claims = Minted {
        sub: user,
        iat: now_s,
        exp: now_s + TOKEN_LIFETIME_S,
        aud: None,
        info: None,
        caps: vec![cap],
    };
    keys::mint(&claims, secret).map_err(|_| "the token cannot be signed\n")
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    for (name, value) in [("cross-origin-resource-policy", "same-origin"), ("x-frame-options", "DENY")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use fireside_node::ports::Keys;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn ask(path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut request = Request::builder().uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:8000");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&request.body(Bytes::new()).unwrap(), &Bytes::from_static(b"page"), SECRET)
    }

    #[test]
    fn a_token_is_for_the_asking_and_good_in_dev() {
        let response = ask("/dev/token?user=an%6ea", &[]);
        assert_eq!(response.status(), 200);
        let token = std::str::from_utf8(response.body()).unwrap();
        let claims = keys::TokenKeys::new(Some(SECRET), []).claims(token).unwrap();
        assert_eq!((claims.user.as_str(), &*claims.caps[0].channels[0]), ("anna", "dev:*"));
        for query in ["", "?user=", "?user=%0a", "?user=%f", "?user=%ff", "?name=anna"] {
            assert_eq!(ask(&format!("/dev/token{query}"), &[]).status(), 400, "{query}");
        }
    }

    #[test]
    fn a7_pages_of_this_machine_may_read_a_token_and_no_others() {
        for origin in
            ["http://localhost:5173", "http://127.0.0.1:3000", "https://[::1]:8443", "http://localhost"]
        {
            let response = ask("/dev/token?user=anna", &[("origin", origin)]);
            assert_eq!(response.status(), 200, "{origin}");
            assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], origin);
            assert_eq!(response.headers()[VARY], "Origin");
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "file://",
            "http://192.168.1.2",
        ] {
            let response = ask("/dev/token?user=anna", &[("origin", origin)]);
            assert_eq!(response.status(), 403, "{origin}");
            assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origin}");
        }
        let own_and_evil = [("origin", "http://localhost"), ("origin", "https://evil.example")];
        assert_eq!(ask("/dev/token?user=anna", &own_and_evil).status(), 403);
    }

    #[test]
    fn a_name_that_was_rebound_to_this_machine_gets_nothing() {
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8000",
            "",
            "192.168.1.2:8000",
        ] {
            for path in ["/", "/dev/token?user=anna"] {
                assert_eq!(ask(path, &[("host", host)]).status(), 403, "{host}");
            }
        }
        assert_eq!(ask("/", &[("host", "localhost:8000"), ("host", "evil.example")]).status(), 403);
        assert_eq!(ask("/", &[("host", "localhost:8000")]).status(), 200);
        assert_eq!(ask("/", &[("host", "[::1]:8000")]).status(), 200);
    }

    #[test]
    fn another_site_may_link_to_the_page_but_not_load_from_it() {
        let script = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        assert_eq!(ask("/dev/token?user=anna", &script).status(), 403);
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(ask("/", &link).status(), 200);
    }
}
