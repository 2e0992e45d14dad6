//! The production log and link pass the suites that every log and link must pass.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, mpsc};

use fireside_core::Durability;
use fireside_node::conformance::{self, Peer, Rig};
use fireside_node::ports::{Link, Soon};
use fireside_server::front::{Front, FrontRules, Links, PeerInfo, Rewound};
use fireside_server::log::Logs;
use fireside_wire::centrifuge_json::CentrifugeJson;
use fireside_wire::centrifuge_protobuf::CentrifugeProtobuf;
use futures_util::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn the_embedded_log_is_a_log_in_every_degree() {
    for durability in [Durability::Fsync, Durability::Os, Durability::Memory] {
        let runtime = runtime();
        let directory = tempfile::tempdir().unwrap();
        let lives = Cell::new(0);
        let fresh = || {
            lives.set(lives.get() + 1);
            Logs::open(&directory.path().join(lives.get().to_string())).unwrap().port()
        };
        conformance::log(&|task| runtime.block_on(task), &fresh, durability);
    }
}

#[test]
fn a_websocket_is_a_link() {
    let runtime = runtime();
    let (links, opened) = mpsc::channel::<Link>();
    let reception = Links {
        json: (Arc::new(CentrifugeJson), "websocket/centrifuge-json"),
        protobuf: (Arc::new(CentrifugeProtobuf), "websocket/centrifuge-protobuf"),
        on_link: move |link, _: PeerInfo| links.send(link).unwrap(),
        on_other: |_: Rewound, _| panic!("nobody speaks HTTP here"),
    };
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("ws://{}/connection/websocket", listener.local_addr().unwrap());
    runtime.spawn(Front::new(FrontRules::production(), reception).serve(listener));
    let fresh = || {
        let (socket, _) = runtime.block_on(tokio_tungstenite::connect_async(&url)).unwrap();
        let link = opened.recv().unwrap();
        Rig { link, peer: Box::new(Client(Arc::new(Mutex::new((Some(socket), VecDeque::new()))))) }
    };
    conformance::sink(&|task| runtime.block_on(task), &fresh);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client that reads, and what came in one frame with what was taken last.
struct Client(Arc<Mutex<(Option<Socket>, VecDeque<u64>)>>);

impl Peer for Client {
    fn take(&mut self) -> Soon<Option<u64>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (socket, waiting) = &mut *client.lock().await;
            while waiting.is_empty() {
                match socket.as_mut()?.next().await?.ok()? {
                    Message::Text(text) => waiting.extend(text.lines().map(offset)),
                    Message::Close(_) => return None,
                    _ => {}
                }
            }
            waiting.pop_front()
        })
    }

    fn leave(&mut self) {
        self.0.try_lock().unwrap().0 = None;
    }
}

/// The offset of a publication, 0 for any other message.
fn offset(line: &str) -> u64 {
    let message: serde_json::Value = serde_json::from_str(line).unwrap();
    message.pointer("/push/pub/offset").and_then(serde_json::Value::as_u64).unwrap_or(0)
}
