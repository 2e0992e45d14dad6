//! Publishes that are acknowledged only when they are on disk: how many a second, beside a bare segment writer on the same disk.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::report::{Figure, Report};
use crate::segment_writer::SegmentWriter;
use crate::server::{Binary, Server};
use crate::session::{Session, is_refusal, number_after};
use crate::{Scale, say};

/// Connections, each with a channel of its own, and publishes in flight on each.
const LOADS: [(u32, u64); 3] = [(1, 1), (8, 8), (16, 32)];
/// Turns that the server and the bare writer take in a run.
const SLICES: u32 = 10;
/// Bytes of text in a body.
const TEXT_BYTES: usize = 100;

/// Measures and reports.
///
/// # Errors
/// An acknowledged record is missing, one that was not is there, or a process failed.
pub async fn measure(binary: &Binary, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut acknowledged = 0;
    for (connections, in_flight) in LOADS {
        let all = u64::from(connections) * in_flight;
        let over = match connections {
            1 => "1 connection and channel".to_owned(),
            n => format!("{n} connections and channels"),
        };
        let name = format!("Durable publishes, {all} in flight, {over}");
        let mut figure = Figure::new(&name, "acknowledged per second").beside("segment writer");
        for run in 0..scale.runs {
            say(&format!("durable publishes, {all} in flight, run {} of {}", run + 1, scale.runs));
            let measured = one_run(binary, scale, connections, in_flight).await?;
            acknowledged += measured.acknowledged;
            figure.pair(measured.per_second, measured.bare_per_second);
            figure.note_mean("records per group", measured.records_per_group);
        }
        report.extend([figure]);
    }
    report.checked(format!("{acknowledged} acknowledged durable publishes: the log holds exactly these, each with the offset it was told"));
    Ok(())
}

struct Measured {
    acknowledged: u64,
    per_second: f64,
    bare_per_second: f64,
    records_per_group: f64,
}

/// A server's whole life. It and the bare writer take turns, because a disk that others use too may be ten times as fast a second later.
async fn one_run(binary: &Binary, scale: &Scale, connections: u32, in_flight: u64) -> Result<Measured> {
    let slice = Duration::from_millis(scale.durable_ms) / SLICES;
    let server = Server::start(binary)?;
    let mut publishers = Vec::new();
    for index in 0..connections {
        let session = Session::connect(server.address, index, &server.token).await?;
        publishers.push(Publisher { session, channel: format!("durable:{index}"), sent: 0, acknowledged: 0 });
    }
    // The channels wake and the log makes its first segments, which is not measured; how large groups become is seen here.
    publishers = publish_all(publishers, in_flight, slice).await?;
    let warm = server.log(binary)?;
    let scratch = binary.scratch()?;
    let mut bare = SegmentWriter::create(scratch.path(), warm.bytes / warm.groups.max(1))?;

    let mut took = Duration::ZERO;
    for _ in 0..SLICES {
        let begin = Instant::now();
        publishers = publish_all(publishers, in_flight, slice).await?;
        took += begin.elapsed();
        bare.write(slice)?;
    }
    let log = server.log(binary)?;
    let mut acknowledged = 0;
    for publisher in &mut publishers {
        publisher.verify().await?;
        acknowledged += publisher.acknowledged;
    }
    ensure!(log.records == acknowledged, "{} records in the log, {acknowledged} acknowledged", log.records);
    server.stop()?;

    let records = (log.records - warm.records) as f64;
    let records_per_group = records / (log.groups - warm.groups).max(1) as f64;
    Ok(Measured {
        acknowledged,
        per_second: records / took.as_secs_f64(),
        bare_per_second: bare.per_second() * records_per_group,
        records_per_group,
    })
}

async fn publish_all(
    publishers: Vec<Publisher>,
    in_flight: u64,
    patience: Duration,
) -> Result<Vec<Publisher>> {
    let end = Instant::now() + patience;
    let publish = |mut publisher: Publisher| {
        tokio::spawn(async move { publisher.publish(in_flight, end).await.map(|()| publisher) })
    };
    let tasks: Vec<_> = publishers.into_iter().map(publish).collect();
    let mut publishers = Vec::new();
    for task in tasks {
        publishers.push(task.await??);
    }
    Ok(publishers)
}

struct Publisher {
    session: Session,
    channel: String,
    sent: u64,
    acknowledged: u64,
}

impl Publisher {
    /// Keeps `in_flight` publishes under way until `end`; ends when all are acknowledged.
    async fn publish(&mut self, in_flight: u64, end: Instant) -> Result<()> {
        let mut goes_on = true;
        loop {
            if goes_on {
                let next = self.acknowledged + in_flight;
                let commands: Vec<String> =
                    (self.sent + 1..=next).map(|n| publish_command(&self.channel, n)).collect();
                self.session.socket.send(commands.iter().map(String::as_bytes)).await?;
                self.sent = next;
            }
            if self.acknowledged == self.sent {
                return Ok(());
            }
            let acknowledged = &mut self.acknowledged;
            let replies = self.session.socket.receive(|payload| {
                for reply in payload.split(|byte| *byte == b'\n') {
                    *acknowledged += 1;
                    let is_new = reply.ends_with(br#""duplicate":false}}}"#);
                    let offset = number_after(reply, br#""offset""#);
                    // One publisher, one channel: acknowledgements come in the order of the records.
                    ensure!(
                        is_new && !is_refusal(reply) && offset == Some(*acknowledged),
                        "publish {acknowledged} was answered {}",
                        String::from_utf8_lossy(reply)
                    );
                }
                Ok(())
            });
            let patience = Duration::from_secs(60);
            tokio::time::timeout(patience, replies)
                .await
                .with_context(|| format!("no reply in {patience:?}"))??;
            goes_on = Instant::now() < end;
        }
    }

    /// The channel ends where the acknowledgements did.
    async fn verify(&mut self) -> Result<()> {
        let history = format!(r#""history":{{"channel":"{}"}}"#, self.channel);
        let reply = self.session.call(&history).await?;
        let newest = number_after(reply.as_bytes(), br#""offset""#);
        ensure!(
            newest == Some(self.acknowledged),
            "{} acknowledged, history says {reply}",
            self.acknowledged
        );
        Ok(())
    }
}

fn publish_command(channel: &str, n: u64) -> String {
    let text = "x".repeat(TEXT_BYTES);
    let id = n + 1_000;
    format!(
        r#"{{"id":{id},"rpc":{{"method":"fireside.publish","data":{{"channel":"{channel}","key":"bench-{n}","data":{{"text":"{text}"}}}}}}}}"#
    )
}
