//! Requests and answers: the HTTP API for backends, the app's own pages, and the internal listener.

pub mod api;
pub mod internal;
pub mod router;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// Headers of one request at most.
const HEADERS_MAX: usize = 64;
/// Bytes of a request's head, and of the buffer it is read into.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// After this a connection is closed at its next answer. It also bounds how long a client can hold one by not reading: hyper has no
/// limit of its own for that.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(10 * 60);

/// How long and how much a client may send.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Until a request's head is there, counted from the connection's beginning or the last answer.
    pub head_timeout: Duration,
    /// Until a request's body is there.
    pub body_timeout: Duration,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// How long requests under way may go on once the server stops.
    pub grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            body_bytes_max: 1024 * 1024,
            grace: Duration::from_secs(5),
        }
    }
}

/// Serves one connection until it ends, until `stopping` turns true (or its sender is gone), or until it has lived long enough.
async fn serve<I, F, A>(io: I, limits: HttpLimits, mut stopping: watch::Receiver<bool>, answer: F)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Bytes>>,
{
    let service = service_fn(|request| {
        let response = answer(request);
        async move { Ok::<_, Infallible>(response.await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    // The connection first: an answer that is ready goes out before anything is stopped. Its errors are the client's: it went away,
    // was too slow, or does not speak HTTP.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = tokio::time::sleep(CONNECTION_LIFE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(limits.grace, connection).await;
}

/// The whole body, or the answer to one that is too long, too slow or cut off.
async fn body_of<B>(body: B, bytes_max: usize, limits: &HttpLimits) -> Result<Bytes, Response<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A length that is announced is refused before a byte of it is taken.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(last(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")));
    }
    match tokio::time::timeout(limits.body_timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(why)) if why.is::<LengthLimitError>() => {
            Err(last(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")))
        }
        Ok(Err(_)) => Err(last(plain(StatusCode::BAD_REQUEST, "the body is cut off\n"))),
        Err(_) => Err(last(plain(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n"))),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    of_kind(status, "text/plain; charset=utf-8", text.into())
}

fn of_kind(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer after which the connection is of no use: the rest of a body may still be on its way.
fn last(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod client {
    //! What a test needs of an HTTP client: it writes bytes as they are given, and reads answers.

    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    pub struct Client(pub DuplexStream, Vec<u8>);

    pub struct Answer {
        pub status: u16,
        pub head: String,
        pub body: String,
    }

    impl Client {
        pub fn new(io: DuplexStream) -> Self {
            Client(io, Vec::new())
        }

        pub async fn send(&mut self, request: &str) {
            self.0.write_all(request.as_bytes()).await.unwrap();
        }

        /// The next answer; `None` once the server has closed.
        pub async fn answer(&mut self) -> Option<Answer> {
            loop {
                let text = String::from_utf8_lossy(&self.1).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.to_ascii_lowercase();
                    let length = length
                        .split("content-length: ")
                        .nth(1)
                        .map_or("0", |rest| rest.lines().next().unwrap());
                    let length: usize = length.parse().unwrap();
                    if body.len() >= length {
                        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                        let answer = Answer {
                            status,
                            head: head.to_ascii_lowercase(),
                            body: body[..length].to_owned(),
                        };
                        self.1.drain(..head.len() + 4 + length);
                        return Some(answer);
                    }
                }
                // Only a test that has gone wrong waits so long; then it fails instead of hanging.
                let read = tokio::time::timeout(Duration::from_secs(30), self.0.read_buf(&mut self.1)).await;
                if read.expect("an answer or an end").unwrap_or(0) == 0 {
                    assert!(self.1.is_empty(), "cut off: {text}");
                    return None;
                }
            }
        }

        pub async fn ask(&mut self, request: &str) -> Answer {
            self.send(request).await;
            self.answer().await.expect("an answer")
        }
    }
}
