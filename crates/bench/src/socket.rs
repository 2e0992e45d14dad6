//! The client's end of a WebSocket, as cheap as it can be: what it costs is not measured, but it shares the machine.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections from one loopback address: beyond, ports run out, so the next address is used.
const PER_SOURCE: u32 = 10_000;
/// Bytes read at once, by all connections in turn; no frame may be longer.
const SCRATCH_BYTES: usize = 1024 * 1024;
/// A client masks (RFC 6455 §5.3). A fixed mask costs the server the same, and there is no proxy on loopback to protect.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// One connection.
pub struct Socket {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come yet.
    rest: Vec<u8>,
}

impl Socket {
    /// A connection that speaks frames from its first byte: to the write loop.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn plain(to: SocketAddr, index: u32) -> Result<Socket> {
        let socket = TcpSocket::new_v4()?;
        let source = u8::try_from(index / PER_SOURCE).context("too many connections")?;
        socket.bind((Ipv4Addr::new(127, 0, 0, 1 + source), 0).into())?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Socket { stream, rest: Vec::new() })
    }

    /// A WebSocket.
    ///
    /// # Errors
    /// There is no connection, or the server refuses the handshake.
    pub async fn open(to: SocketAddr, index: u32) -> Result<Socket> {
        let mut socket = Socket::plain(to, index).await?;
        let head = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            ensure!(answer.len() < 4096, "the answer to the handshake does not end");
            // Byte by byte: what follows belongs to the first frame.
            answer.push(socket.stream.read_u8().await.context("in the handshake")?);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 101"), "refused: {}", String::from_utf8_lossy(&answer));
        Ok(socket)
    }

    /// Sends messages, each in a frame, with one write.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send<'a>(&mut self, messages: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let mut frames = Vec::new();
        for message in messages {
            write_masked(message, &mut frames);
        }
        Ok(self.stream.write_all(&frames).await?)
    }

    /// Waits for bytes, reads once, and lends the payload of every frame that is whole to `take`. May be dropped while it waits.
    ///
    /// # Errors
    /// The connection is gone, the server sent something else than text, or what `take` says.
    pub async fn receive(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        loop {
            self.stream.readable().await?;
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let kept = self.rest.len();
                scratch[..kept].copy_from_slice(&self.rest);
                let len = match self.stream.try_read(&mut scratch[kept..]) {
                    Ok(0) => bail!("the server closed the connection"),
                    Ok(len) => kept + len,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error.into()),
                };
                self.rest.clear();
                let used = each_frame(&scratch[..len], &mut take)?;
                self.rest.extend_from_slice(&scratch[used..len]);
                Ok(true)
            })?;
            if read {
                return Ok(());
            }
        }
    }
}

/// The header of a server's text frame.
pub fn write_header(len: usize, out: &mut Vec<u8>) {
    out.push(0x81);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..=125), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

fn write_masked(message: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    write_header(message.len(), out);
    out[at + 1] |= 0x80;
    out.extend(MASK);
    out.extend(message.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Lends every whole frame's payload; answers how many bytes they were.
fn each_frame(bytes: &[u8], take: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<usize> {
    let mut at = 0;
    loop {
        let [first, second, more @ ..] = &bytes[at..] else { return Ok(at) };
        let (header, len) = match (second, more) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize)
            }
            (126 | 127, _) => return Ok(at),
            (len @ ..=125, _) => (2, usize::from(*len)),
            _ => bail!("the server masks"),
        };
        ensure!(len < SCRATCH_BYTES - 16, "a frame of {len} bytes");
        let Some(payload) = bytes[at + header..].get(..len) else { return Ok(at) };
        match first {
            0x81 => take(payload)?,
            0x88 => {
                bail!("closed by the server: {}", String::from_utf8_lossy(payload.get(2..).unwrap_or(b"")))
            }
            other => bail!("an unexpected frame begins with {other:#x}"),
        }
        at += header + len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_found_however_they_are_cut() {
        let lengths = [0, 1, 125, 126, 65_535, 65_536];
        let mut bytes = Vec::new();
        for len in lengths {
            write_header(len, &mut bytes);
            bytes.extend(std::iter::repeat_n(b'x', len));
        }
        for cut in [0, 1, 2, 3, 4, 130, 131, 258, 259, 260, bytes.len() - 1, bytes.len()] {
            let mut found = Vec::new();
            let mut take = |payload: &[u8]| {
                found.push(payload.len());
                Ok(())
            };
            let used = each_frame(&bytes[..cut], &mut take).unwrap();
            each_frame(&bytes[used..], &mut take).unwrap();
            assert_eq!(found, lengths, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_text_frame_is_an_error() {
        let fails = |bytes: &[u8]| each_frame(bytes, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(fails(&[0x88, 5, 0x0c, 0x1c, b'b', b'y', b'e']).contains("bye"));
        assert!(fails(&[0x82, 0]).contains("0x82"));
        assert!(fails(&[0x81, 0x81, 0, 0, 0, 0, 0]).contains("masks"));
    }

    #[test]
    fn a_masked_frame_unmasks_to_the_message() {
        let mut frame = Vec::new();
        write_masked(b"hello", &mut frame);
        assert_eq!(frame[..6], [0x81, 0x85, MASK[0], MASK[1], MASK[2], MASK[3]]);
        let plain: Vec<u8> = frame[6..].iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m).collect();
        assert_eq!(plain, b"hello");
    }
}
