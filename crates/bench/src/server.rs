//! The server that is measured: a process of its own, on loopback, with a scratch data directory that goes with it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::Process;
use crate::say;

/// The magic number of a file system in memory (statfs(2)).
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// How long a server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// The system chooses.
const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// Long enough for HS256; of no use to anybody but this run.
const SECRET: &str = "a secret of the bench, thirty-two bytes or more";

/// Channels by what they promise. Limits on clients are raised, because here one client stands for many; a ping in the middle of a
/// measurement would be measured, so there is none.
const NAMESPACES: &str = r#"
[session]
ping = "1h"
commands_per_second = 100_000
commands_burst = 100_000

[namespace.memory]
history = { records = 1000, bytes = "1 MiB", age = "1d" }
durability = "memory"
recover = true
allow = { subscribe = "user", publish = "user", history = "user" }

[namespace.live]
allow = { subscribe = "user", publish = "user" }

[namespace.durable]
history = { records = 1_000_000, bytes = "1 GiB", age = "1d" }
durability = "fsync"
recover = true
allow = { subscribe = "user", publish = "user", history = "user" }
"#;

/// The program, and where its data go.
pub struct Binary {
    program: PathBuf,
    data: PathBuf,
}

impl Binary {
    /// The one that was asked for, or the one beside this program, built anew where cargo runs us.
    ///
    /// # Errors
    /// There is none, or it cannot be built.
    pub fn find(program: Option<PathBuf>, data: Option<PathBuf>) -> Result<Binary> {
        let program = match program {
            Some(program) => program.canonicalize().with_context(|| program.display().to_string())?,
            None => beside_us()?,
        };
        let data = match data {
            Some(data) => data,
            None => program.parent().context("the server has no directory")?.to_owned(),
        };
        let fs_type = rustix::fs::statfs(&data).with_context(|| data.display().to_string())?.f_type;
        #[allow(clippy::unnecessary_cast, reason = "its type differs between platforms")]
        let in_memory = fs_type as i64 == TMPFS_MAGIC;
        ensure!(
            !in_memory,
            "{} is in memory, where a sync means nothing: name a disk with --data",
            data.display()
        );
        Ok(Binary { program, data })
    }

    /// A directory that ends with the value.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(&self.data)?)
    }

    fn command(&self, directory: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--config").arg(directory.join("fireside.toml")).current_dir(directory);
        // What the environment of whoever measures says must not change what is measured.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FIRESIDE_") {
                command.env_remove(name);
            }
        }
        command
    }
}

fn beside_us() -> Result<PathBuf> {
    let us = std::env::current_exe()?;
    let directory = us.parent().context("this program has no directory")?;
    let program = directory.join("fireside");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        say(&format!("building the server ({profile})"));
        let built = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--package",
                "fireside-server",
                "--bin",
                "fireside",
                "--profile",
                profile,
            ])
            .arg("--target-dir")
            .arg(directory.parent().context("no target directory")?)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()?;
        ensure!(built.success(), "the server does not build");
    }
    ensure!(program.exists(), "there is no server at {}: name one with --server", program.display());
    Ok(program)
}

/// A server that runs. It is killed when the value is dropped.
pub struct Server {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    /// A token that is good for everything above.
    pub token: String,
    /// Its process.
    pub process: Process,
    directory: TempDir,
}

impl Server {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; its output says why.
    pub fn start(binary: &Binary) -> Result<Server> {
        let directory = binary.scratch()?;
        let at = directory.path();
        let [address, internal] = free_addresses()?;
        fs::write(at.join("token"), SECRET)?;
        let config = format!(
            "[server]\nlisten = \"{address}\"\ninternal_listen = \"{internal}\"\n[data]\ndir = \"data\"\n\
             [token]\nhmac_secret_file = \"token\"\n{NAMESPACES}"
        );
        fs::write(at.join("fireside.toml"), config)?;
        let minted = binary.command(at, &["token", "--user", "bench", "--ttl", "12h"]).output()?;
        ensure!(minted.status.success(), "no token: {}", String::from_utf8_lossy(&minted.stderr));
        let token = String::from_utf8(minted.stdout)?.trim().to_owned();

        let log = fs::File::create(at.join("output"))?;
        let child = binary
            .command(at, &["serve"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| binary.program.display().to_string())?;
        let process = Process(child.id());
        let mut server = Server { child, address, token, process, directory };
        server.await_ready(internal)?;
        Ok(server)
    }

    fn await_ready(&mut self, internal: SocketAddr) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_ready(internal) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}: {}", self.output());
            }
            ensure!(Instant::now() < end, "the server is not ready: {}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It does not end, or says that it failed.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}: {}", self.output());
                return Ok(());
            }
            ensure!(Instant::now() < end, "the server does not stop: {}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What its log holds, also while it runs.
    ///
    /// # Errors
    /// `fireside log stat` fails, or says something else than it did.
    pub fn log(&self, binary: &Binary) -> Result<LogSize> {
        let said = binary.command(self.directory.path(), &["log", "stat"]).output()?;
        ensure!(said.status.success(), "log stat: {}", String::from_utf8_lossy(&said.stderr));
        LogSize::parse(&String::from_utf8(said.stdout)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSize {
    /// Records in it.
    pub records: u64,
    /// Commit groups, each written at once.
    pub groups: u64,
    /// Bytes of them, to two digits or more.
    pub bytes: u64,
}

impl LogSize {
    fn parse(said: &str) -> Result<LogSize> {
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).with_context(|| format!("log stat says nothing about {name}: {said}"))
        };
        let (number, unit) = value("in use")?.split_once(' ').context("log stat: a size without a unit")?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            other => bail!("log stat: an odd unit {other}"),
        };
        Ok(LogSize {
            records: value("records")?.parse()?,
            groups: value("groups")?.parse()?,
            bytes: number.parse::<u64>()? << shift,
        })
    }
}

fn is_ready(internal: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut connection = TcpStream::connect(internal)?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

fn free_addresses() -> Result<[SocketAddr; 2]> {
    // Both are held until both are known: else they may be the same.
    let (one, other) = (TcpListener::bind(ANY_PORT)?, TcpListener::bind(ANY_PORT)?);
    Ok([one.local_addr()?, other.local_addr()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_log_stat_says_is_understood() {
        let said = "channels              8\nrecords               6400\ngroups                101\nin use                812 KiB\n";
        assert_eq!(LogSize::parse(said).unwrap(), LogSize { records: 6400, groups: 101, bytes: 812 << 10 });
        assert!(LogSize::parse("records 1\n").is_err());
    }
}
