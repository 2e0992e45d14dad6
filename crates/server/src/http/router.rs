//! The public listener's requests that are not a carrier's: `/api/{method}` to the API, the rest to the app's pages, if there are any.

use std::sync::Arc;

use bytes::Bytes;
use fireside_node::ports::Soon;
use http::{Request, Response, StatusCode};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::api::Api;
use super::{HttpLimits, body_of, plain, serve};

/// Answers what is neither a carrier nor the API: the story room in the demo.
pub type Fallback = Arc<dyn Fn(Request<Bytes>) -> Soon<Response<Bytes>> + Send + Sync>;

/// Bytes of a body that the fallback is given.
pub const FALLBACK_BODY_BYTES_MAX: usize = 64 * 1024;

/// Everything that is served by request and answer on the public listener.
pub struct Router {
    api: Api,
    fallback: Option<Fallback>,
    limits: HttpLimits,
}

impl Router {
    /// Routes to `api`, and what is not its own to `fallback`, or to 404.
    pub fn new(api: Api, fallback: Option<Fallback>, limits: HttpLimits) -> Self {
        Router { api, fallback, limits }
    }

    /// Serves one connection to its end. Once `stopping` is true (or its sender is gone), it is closed after the answer under way.
    pub async fn serve_connection<I>(self: Arc<Self>, io: I, stopping: watch::Receiver<bool>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve(io, self.limits, stopping, |request| self.answer(request)).await;
    }

    async fn answer<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        if let Some(method) = head.uri.path().strip_prefix("/api/") {
            return self.api.answer(method, &head, body, &self.limits).await;
        }
        let Some(fallback) = &self.fallback else {
            return plain(StatusCode::NOT_FOUND, "there is nothing here\n");
        };
        let bytes_max = FALLBACK_BODY_BYTES_MAX.min(self.limits.body_bytes_max);
        match body_of(body, bytes_max, &self.limits).await {
            Ok(body) => fallback(Request::from_parts(head, body)).await,
            Err(response) => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use fireside_core::{Code, Fact, Facts, Refusal};
    use fireside_wire::api::{ApiCall, ApiReply};
    use tokio::io::AsyncWriteExt;
    use tokio::sync::Notify;

    use super::super::api::{ApiKeys, NodeApi};
    use super::super::client::Client;
    use super::*;

    /// A node that answers every call with the same, and remembers who called.
    struct Answers {
        reply: ApiReply,
        calls: Mutex<Vec<(Arc<str>, ApiCall)>>,
    }

    impl NodeApi for Answers {
        fn call(&self, key_id: Arc<str>, call: ApiCall) -> Soon<ApiReply> {
            self.calls.lock().unwrap().push((key_id, call));
            let reply = self.reply.clone();
            Box::pin(async move { reply })
        }
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Facts for Heard {
        fn say(&self, fact: Fact) {
            self.0.lock().unwrap().push(format!("{fact:?}"));
        }
    }

    struct World {
        node: Arc<Answers>,
        heard: Arc<Heard>,
        router: Arc<Router>,
        stop: watch::Sender<bool>,
    }

    impl World {
        fn new(reply: ApiReply, limits: HttpLimits, fallback: Option<Fallback>) -> World {
            let node = Arc::new(Answers { reply, calls: Mutex::default() });
            let heard = Arc::new(Heard::default());
            let api = Api::new(node.clone(), ApiKeys::new([("backend", &b"a-key"[..])]), heard.clone());
            World {
                node,
                heard,
                router: Arc::new(Router::new(api, fallback, limits)),
                stop: watch::Sender::new(false),
            }
        }

        fn done() -> World {
            World::new(ApiReply::Done, HttpLimits::default(), None)
        }

        fn connect(&self) -> Client {
            let (near, far) = tokio::io::duplex(256 * 1024);
            tokio::spawn(self.router.clone().serve_connection(far, self.stop.subscribe()));
            Client::new(near)
        }
    }

    fn post(path: &str, headers: &str, body: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    }

    const KEY: &str = "x-api-key: a-key\r\n";

    #[tokio::test]
    async fn a_backend_calls_twice_on_one_connection() {
        let world = World::done();
        let mut client = world.connect();
        let answer = client.ask(&post("/api/info", KEY, "")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"result":{}}"#));
        assert!(
            answer.head.contains("content-type: application/json") && answer.head.contains("no-store"),
            "{}",
            answer.head
        );
        let answer =
            client.ask(&post("/api/presence", "authorization: apikey a-key\r\n", r#"{"channel":"a"}"#)).await;
        assert_eq!(answer.status, 200);
        let backend: Arc<str> = "backend".into();
        let expected =
            [(backend.clone(), ApiCall::Info), (backend, ApiCall::Presence { channel: "a".into() })];
        assert_eq!(*world.node.calls.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn without_a_known_key_nothing_is_asked() {
        let world = World::done();
        for headers in ["", "x-api-key: another\r\n", "x-api-key: \r\n", "authorization: Bearer a-key\r\n"] {
            for path in ["/api/info", "/api/info?api_key=a-key", "/api/no_such_method"] {
                let mut client = world.connect();
                let answer = client.ask(&post(path, headers, "{}")).await;
                let expected = r#"{"error":{"code":101,"message":"unauthorized","temporary":false}}"#;
                assert_eq!((answer.status, answer.body.as_str()), (401, expected));
                assert!(client.answer().await.is_none(), "the connection ends");
            }
        }
        assert!(world.node.calls.lock().unwrap().is_empty());
        let heard = world.heard.0.lock().unwrap();
        assert_eq!(heard.len(), 12);
        assert!(heard[0].contains("Unauthorized") && !heard.concat().contains("a-key"), "{heard:?}");
    }

    #[tokio::test]
    async fn a_browser_is_refused_even_with_a_key() {
        let world = World::done();
        let answer = world
            .connect()
            .ask(&post("/api/info", &format!("{KEY}origin: http://127.0.0.1:8000\r\n"), ""))
            .await;
        assert_eq!(answer.status, 403);
        assert!(world.node.calls.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_unless_its_status_is_asked_for() {
        let refusal = Refusal::new(Code::Conflict);
        let world = World::new(ApiReply::Refused(refusal), HttpLimits::default(), None);
        let mut client = world.connect();
        let answer = client.ask(&post("/api/info", KEY, "")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with(r#"{"error":{"code":409,"#), "{}", answer.body);
        let transport = format!("{KEY}x-centrifugo-error-mode: transport\r\n");
        assert_eq!(client.ask(&post("/api/info", &transport, "")).await.status, 409);
        assert_eq!(client.ask(&post("/api/publish", &transport, "[]")).await.status, 400);
        assert_eq!(client.ask(&post("/api/no_such_method", KEY, "")).await.status, 404);
        assert_eq!(client.ask(&format!("GET /api/info HTTP/1.1\r\nhost: a\r\n{KEY}\r\n")).await.status, 405);
    }

    #[tokio::test]
    async fn i8_a_body_is_bounded_announced_or_not() {
        let world =
            World::new(ApiReply::Done, HttpLimits { body_bytes_max: 16, ..HttpLimits::default() }, None);
        let fits = post("/api/info", KEY, &format!("{{{}}}", " ".repeat(14)));
        assert_eq!(world.connect().ask(&fits).await.status, 200);
        let announced = format!("POST /api/info HTTP/1.1\r\nhost: a\r\n{KEY}content-length: 17\r\n\r\n");
        assert_eq!(world.connect().ask(&announced).await.status, 413);
        let chunk = " ".repeat(16);
        let chunked = format!(
            "POST /api/info HTTP/1.1\r\nhost: a\r\n{KEY}transfer-encoding: chunked\r\n\r\n10\r\n{chunk}\r\n10\r\n{chunk}\r\n"
        );
        assert_eq!(world.connect().ask(&chunked).await.status, 413);
        assert_eq!(world.node.calls.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn slow_heads_and_bodies_are_not_waited_for() {
        let short = Duration::from_millis(20);
        let limits = HttpLimits { head_timeout: short, body_timeout: short, ..HttpLimits::default() };
        let world = World::new(ApiReply::Done, limits, None);
        let mut client = world.connect();
        client.send("POST /api/info HT").await;
        assert!(client.answer().await.is_none(), "a head that never ends");
        assert!(world.connect().answer().await.is_none(), "no request at all");
        let mut client = world.connect();
        let begun = format!("POST /api/info HTTP/1.1\r\nhost: a\r\n{KEY}content-length: 9\r\n\r\n{{");
        assert_eq!(client.ask(&begun).await.status, 408);
        assert!(client.answer().await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_the_api_goes_to_the_pages_or_nowhere() {
        let get = "GET /story/1?a=b HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(World::done().connect().ask(get).await.status, 404);

        let pages: Fallback = Arc::new(|request| {
            let said = format!("{} {} {:?}", request.method(), request.uri(), request.body());
            Box::pin(async move { Response::new(Bytes::from(said)) })
        });
        let world = World::new(ApiReply::Done, HttpLimits::default(), Some(pages));
        let mut client = world.connect();
        assert_eq!(client.ask(get).await.body, r#"GET /story/1?a=b b"""#);
        assert_eq!(
            client.ask(&post("/story-api/x", "origin: http://a\r\n", "hello")).await.body,
            r#"POST /story-api/x b"hello""#
        );
        assert_eq!(client.ask(&post("/api/info", KEY, "")).await.body, r#"{"result":{}}"#);
        let long =
            format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", FALLBACK_BODY_BYTES_MAX + 1);
        assert_eq!(client.ask(&long).await.status, 413);
    }

    #[tokio::test]
    async fn a_stop_lets_the_answer_under_way_go_out() {
        let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let pages: Fallback = {
            let (asked, go_on) = (asked.clone(), go_on.clone());
            Arc::new(move |_| {
                let (asked, go_on) = (asked.clone(), go_on.clone());
                Box::pin(async move {
                    asked.notify_one();
                    go_on.notified().await;
                    Response::new(Bytes::from_static(b"done"))
                })
            })
        };
        let world = World::new(ApiReply::Done, HttpLimits::default(), Some(pages));
        let (mut idle, mut busy) = (world.connect(), world.connect());
        busy.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        asked.notified().await;
        world.stop.send_replace(true);
        assert!(idle.answer().await.is_none(), "an idle connection is closed at once");
        go_on.notify_one();
        assert_eq!(busy.answer().await.unwrap().body, "done");
        assert!(busy.answer().await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_http_is_turned_away() {
        let world = World::done();
        for bytes in [
            "\0\0\0\0\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
            "POST /api/info HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ] {
            let mut client = world.connect();
            client.0.write_all(bytes.as_bytes()).await.unwrap();
            assert!(client.answer().await.is_none_or(|answer| answer.status == 400), "{bytes:?}");
        }
        let mut client = world.connect();
        let headers: String = (0..super::super::HEADERS_MAX).map(|n| format!("h{n}: v\r\n")).collect();
        assert_eq!(client.ask(&format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await.status, 431);
    }
}
