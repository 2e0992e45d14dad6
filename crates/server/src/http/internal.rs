//! The internal listener: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::{HttpLimits, of_kind, plain, serve};

/// Connections at a time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether clients should be sent here.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

const READY: u8 = 1;
const STOPPING: u8 = 2;

impl Readiness {
    /// The server is up. It does not undo [`Readiness::stop`].
    pub fn ready(&self) {
        self.0.fetch_max(READY, Ordering::AcqRel);
    }

    /// The server is going away.
    pub fn stop(&self) {
        self.0.fetch_max(STOPPING, Ordering::AcqRel);
    }

    /// True between the two.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == READY
    }
}

/// What the internal listener tells.
pub struct Internal {
    /// Whether clients should be sent here.
    pub readiness: Arc<Readiness>,
    /// The metrics in Prometheus's text format, version 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Internal {
    /// Accepts and serves until `stopping` is true. It should be the last to stop, so that `/readyz` says no before the rest goes.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = async {
                let place = room.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            let (socket, place) = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                accepted = accepted => accepted,
            };
            let Ok((socket, _)) = socket else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (internal, stopping) = (self.clone(), stopping.clone());
            tokio::spawn(async move {
                let answer = |request| std::future::ready(internal.answer(&request));
                serve(socket, HttpLimits::default(), stopping, answer).await;
                drop(place);
            });
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Bytes> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here\n");
        }
        match request.uri().path() {
            "/metrics" => {
                of_kind(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (self.metrics)().into())
            }
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" if self.readiness.is_ready() => plain(StatusCode::OK, "ready\n"),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            _ => plain(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_life_of_a_server_as_its_keeper_sees_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Arc::new(Readiness::default());
        let internal = Internal { readiness: readiness.clone(), metrics: Arc::new(|| "a 1\n".into()) };
        let stop = watch::Sender::new(false);
        let served = tokio::spawn(Arc::new(internal).serve(listener, stop.subscribe()));
        let get = async |path: &str| {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answer
        };
        assert!(get("/readyz").await.starts_with("HTTP/1.1 503 "));
        assert!(get("/healthz").await.starts_with("HTTP/1.1 200 "));
        readiness.ready();
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200 "));
        let metrics = get("/metrics").await;
        assert!(
            metrics.contains("text/plain; version=0.0.4") && metrics.ends_with("\r\n\r\na 1\n"),
            "{metrics}"
        );
        assert!(get("/").await.starts_with("HTTP/1.1 404 "));
        readiness.stop();
        readiness.ready();
        assert!(get("/readyz").await.starts_with("HTTP/1.1 503 "), "ready never comes after stop");
        stop.send_replace(true);
        served.await.unwrap();
    }
}
