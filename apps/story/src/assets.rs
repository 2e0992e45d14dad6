//! The page and its files, as they were built, with the headers that keep them what they are.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};

struct Asset {
    name: &'static str,
    kind: &'static str,
    etag: &'static str,
    bytes: &'static [u8],
}

include!("../web/dist/assets.rs");

/// Nothing but the page's own files and its own server: no inline script or style, no frame, no form that leaves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The page for `/` and `/story/{id}`, a file for `/assets/{name}`, else "not found".
pub(crate) fn serve(request: &Request<Bytes>) -> Response<Bytes> {
    let path = request.uri().path();
    if let Some(name) = path.strip_prefix("/assets/") {
        return match ASSETS.iter().find(|asset| asset.name == name) {
            // A file's name has a hash of what is in it, so it never changes.
            Some(asset) => file(request, asset, "public, max-age=31536000, immutable"),
            None => plain(StatusCode::NOT_FOUND, "There is no such file.\n"),
        };
    }
    if path == "/" || is_story(path) {
        return file(request, &PAGE, "no-cache");
    }
    plain(StatusCode::NOT_FOUND, "There is no such page.\n")
}

fn is_story(path: &str) -> bool {
    path.strip_prefix("/story/").is_some_and(|id| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    })
}

fn file(request: &Request<Bytes>, asset: &Asset, caching: &'static str) -> Response<Bytes> {
    let known = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == asset.etag);
    let mut response = if known {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Bytes::from_static(asset.bytes))
    };
    let headers = response.headers_mut();
    guard(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

/// A plain sentence with a status.
pub(crate) fn plain(status: StatusCode, sentence: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(sentence.as_bytes()));
    *response.status_mut() = status;
    guard(response.headers_mut());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The headers that every answer bears. No referrer: the address of a story is nobody else's business.
pub(crate) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
