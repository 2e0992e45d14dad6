//! An echo server over the production front door and codec, for conformance suites and for measuring what an idle connection costs.
//!
//! `cargo run --release --example echo -- --port 9001 [--production]`: without `--production` only the limits of size and
//! rate are raised, and permessage-deflate is on.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, ready};

use fireside_node::ports::Sent;
use fireside_server::carrier::duplex::Plain;
use fireside_server::carrier::frame::{Kind, MessageLimits, write_message};
use fireside_server::carrier::handshake::{HandshakeRules, Origins, Spoken};
use fireside_server::carrier::websocket::{Receiver, Sender, SocketLimits};
use fireside_server::front::{Front, FrontRules, PeerInfo, Reception, Rewound};
use tokio::net::TcpListener;

/// The suites send messages of 16 MiB, cut into 65,536 frames.
static RAISED: SocketLimits = SocketLimits {
    message: MessageLimits {
        bytes_max: 64 * 1024 * 1024,
        fragments_max: 1 << 20,
        ms_max: 600_000,
        inflate_ratio_max: 2_000,
    },
    controls_max: u32::MAX,
    close_ms_max: SocketLimits::PRODUCTION.close_ms_max,
};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let production = arguments.iter().any(|argument| argument == "--production");
    let port =
        arguments.iter().position(|argument| argument == "--port").and_then(|at| arguments.get(at + 1));
    let port: u16 = port.map_or(Ok(9001), |port| port.parse()).map_err(std::io::Error::other)?;
    let rules = FrontRules {
        websocket_path: "/",
        handshake: HandshakeRules {
            origins: Origins { exact: Vec::new(), loopback: true },
            deflate: !production,
        },
        socket: if production { &SocketLimits::PRODUCTION } else { &RAISED },
        ..FrontRules::production()
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        println!("echo on ws://{}", listener.local_addr()?);
        Front::new(rules, Echoes).serve(listener).await
    })
}

struct Echoes;

impl Reception for Echoes {
    fn on_socket(&self, (receiver, sender): (Receiver<Plain>, Sender<Plain>), _: Spoken, _: PeerInfo) {
        let mut echo = Echo { receiver, sender, waiting: VecDeque::new() };
        tokio::spawn(poll_fn(move |cx| echo.poll(cx)));
    }

    fn on_other(&self, _: Rewound, addr: SocketAddr) {
        println!("{addr} asks for something else");
    }
}

/// Sends every message back before it takes the next.
struct Echo {
    receiver: Receiver<Plain>,
    sender: Sender<Plain>,
    waiting: VecDeque<Vec<u8>>,
}

impl Echo {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Some(frames) = self.waiting.front() {
                match self.sender.send_own(frames, false) {
                    Sent::Sent => drop(self.waiting.pop_front()),
                    Sent::Closed => return Poll::Ready(()),
                    sent => {
                        if sent == Sent::Partial {
                            self.waiting.pop_front();
                        }
                        if ready!(self.sender.poll_ready(cx)).is_err() {
                            return Poll::Ready(());
                        }
                    }
                }
            }
            self.waiting = VecDeque::new();
            let deflate = self.sender.deflate();
            let message = ready!(self.receiver.poll_message(cx, |kind: Kind, payload| {
                let mut frames = Vec::with_capacity(payload.len() + 16);
                write_message(&mut frames, kind, payload, deflate);
                frames
            }));
            match message {
                Some(Ok(frames)) => self.waiting.push_back(frames),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }
}
