//! What the fan-out is compared with: a process that only writes given bytes to every socket. It is told what to do on its standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::audience::{Audience, Check};
use crate::process::Process;
use crate::socket::{Socket, write_header};

/// The process, and everybody who listens to it.
pub struct WriteLoop {
    child: Child,
    orders: ChildStdin,
    /// Its process.
    pub process: Process,
    /// Who listens.
    pub audience: Audience,
    written: u64,
    records_per_write: u64,
}

impl WriteLoop {
    /// Starts it, with that many sockets.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(readers: u32) -> Result<WriteLoop> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("write-loop")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = child.stdin.take().context("no pipe")?;
        let mut answers = BufReader::new(child.stdout.take().context("no pipe")?);
        writeln!(orders, "{readers}")?;
        let mut address = String::new();
        answers.read_line(&mut address)?;
        let address: SocketAddr =
            address.trim().parse().context("the write loop does not say where it is")?;
        let mut sockets = Vec::new();
        for index in 0..readers {
            sockets.push(Socket::plain(address, index).await?);
        }
        let process = Process(child.id());
        let audience = Audience::listen(sockets, Check::Count);
        Ok(WriteLoop { child, orders, process, audience, written: 0, records_per_write: 0 })
    }

    /// From now on it writes a frame with `records` copies of `record`.
    ///
    /// # Errors
    /// It is gone.
    pub fn repeat(&mut self, record: &[u8], records: u64) -> Result<()> {
        let mut payload = Vec::new();
        for n in 0..records {
            if n > 0 {
                payload.push(b'\n');
            }
            payload.extend_from_slice(record);
        }
        let mut frame = Vec::new();
        write_header(payload.len(), &mut frame);
        frame.extend(payload);
        self.records_per_write = records;
        writeln!(self.orders, "frame {}", frame.len())?;
        Ok(self.orders.write_all(&frame)?)
    }

    /// Writes to everybody, `rounds` times; each round waits until everybody has the one before.
    ///
    /// # Errors
    /// A listener did not get everything.
    pub async fn run(&mut self, rounds: u64) -> Result<()> {
        for _ in 0..rounds {
            self.orders.write_all(b"go\n")?;
            self.written += self.records_per_write;
            self.audience.all_heard(self.written).await?;
        }
        Ok(())
    }
}

impl Drop for WriteLoop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself.
///
/// # Errors
/// It cannot listen or write.
pub fn serve() -> Result<()> {
    let mut orders = BufReader::new(std::io::stdin());
    let mut line = String::new();
    orders.read_line(&mut line)?;
    let readers: usize = line.trim().parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    let mut sockets = Vec::with_capacity(readers);
    for _ in 0..readers {
        let (socket, from) = listener.accept()?;
        ensure!(from.ip().is_loopback(), "a connection from {from}");
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let mut frame = Vec::new();
    loop {
        line.clear();
        orders.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some(("frame", len)) => {
                frame = vec![0; len.parse()?];
                orders.read_exact(&mut frame)?;
            }
            None if line == "go\n" => {
                for socket in &mut sockets {
                    socket.write_all(&frame)?;
                }
            }
            None if line.is_empty() => return Ok(()),
            _ => bail!("what is {line:?}?"),
        }
    }
}
