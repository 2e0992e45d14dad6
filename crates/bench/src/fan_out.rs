//! One publisher, many readers: what a delivery costs the server, beside what a bare write loop spends on the same bytes.

use anyhow::{Context, Result, ensure};

use crate::audience::{Audience, Check};
use crate::report::{Figure, Report};
use crate::server::{Binary, Server};
use crate::session::{Session, is_refusal};
use crate::write_loop::WriteLoop;
use crate::{Scale, say};

/// Bytes of a record's body.
const BODY_BYTES: usize = 128;
/// Publishes in flight where there are many.
const MANY: u64 = 64;
/// How far a publisher of many may be ahead of what everybody has, in windows: without history nothing else holds it back, and a
/// publisher that nobody can follow would measure how records are dropped.
const WINDOWS_AHEAD: u64 = 4;
/// What is hoped for: at most this much of the write loop.
const EXPECTED: &str = "≤ 1.5 ×";

/// Measures all of it and reports.
///
/// # Errors
/// A reader did not get everything, or a process failed.
pub async fn measure(binary: &Binary, scale: &Scale, report: &mut Report) -> Result<()> {
    let server = Server::start(binary)?;
    let mut memory = Stage::set(&server, "memory:fan-out", Check::Offsets, scale.readers).await?;
    let mut live = Stage::set(&server, "live:fan-out", Check::Numbers, scale.readers).await?;
    let mut bare = WriteLoop::start(scale.readers).await?;

    let named = |kind: &str, in_flight| {
        let name = format!("Fan-out 1 → {}, {kind}, {in_flight} in flight", scale.readers);
        Figure::new(&name, "µs CPU per delivery").beside("write loop").expected(EXPECTED)
    };
    let mut figures =
        [named("memory", 1), named("ephemeral", 1), named("memory", MANY), named("ephemeral", MANY)];
    for run in 0..scale.runs {
        for (at, count, count_live, in_flight) in
            [(0, scale.singles, scale.singles, 1), (2, scale.bursts, scale.bursts_live, MANY)]
        {
            say(&format!("fan-out, {in_flight} in flight, run {} of {}", run + 1, scale.runs));
            let (count, count_live) = (u64::from(count), u64::from(count_live));
            // Before the loop repeats a record, there must be one; the warm-up is not measured.
            memory.publish(count / 10 + 1, in_flight).await?;
            live.publish(count_live / 10 + 1, in_flight).await?;
            bare.repeat(&memory.record()?, in_flight)?;
            bare.run(1).await?;
            // Who goes first has the warmer caches or the colder ones: they take turns.
            let loop_first = run % 2 == 1;
            let mut loop_us = 0.0;
            if loop_first {
                loop_us = cost_of_loop(&mut bare, count, in_flight).await?;
            }
            let ours = memory.cost(count, in_flight).await?;
            let ephemeral = live.cost(count_live, in_flight).await?;
            if !loop_first {
                loop_us = cost_of_loop(&mut bare, count, in_flight).await?;
            }
            figures[at].pair(ours.us, loop_us);
            figures[at].note_mean("records per write", ours.records_per_write);
            figures[at + 1].pair(ephemeral.us, loop_us);
            figures[at + 1].note_mean("records per write", ephemeral.records_per_write);
        }
    }
    let deliveries = (memory.sent + live.sent) * u64::from(scale.readers);
    report.checked(format!(
        "{deliveries} deliveries to {} subscribers of either channel: every one came once, in order, and the last offset of everybody is {}",
        scale.readers, memory.sent
    ));
    report.extend(figures);
    server.stop()
}

async fn cost_of_loop(bare: &mut WriteLoop, count: u64, records_per_write: u64) -> Result<f64> {
    let before = bare.process.cpu_us()?;
    bare.run(count / records_per_write).await?;
    let spent = bare.process.cpu_us()? - before;
    Ok(spent as f64 / (count / records_per_write * records_per_write * bare.audience.readers()) as f64)
}

/// A channel with its publisher and its readers.
struct Stage<'a> {
    server: &'a Server,
    channel: &'static str,
    publisher: Session,
    audience: Audience,
    sent: u64,
}

struct Cost {
    us: f64,
    records_per_write: f64,
}

impl<'a> Stage<'a> {
    async fn set(server: &'a Server, channel: &'static str, check: Check, readers: u32) -> Result<Stage<'a>> {
        let mut sockets = Vec::new();
        for index in 0..readers {
            let session = Session::subscriber(server.address, index, &server.token, channel).await;
            sockets.push(session.with_context(|| format!("subscriber {index} of {channel}"))?.socket);
        }
        let publisher = Session::connect(server.address, 0, &server.token).await?;
        Ok(Stage { server, channel, publisher, audience: Audience::listen(sockets, check), sent: 0 })
    }

    /// One record, as a reader got it.
    fn record(&self) -> Result<Vec<u8>> {
        let sample = self.audience.sample();
        Ok(sample.split(|byte| *byte == b'\n').next_back().context("no record came")?.to_owned())
    }

    async fn cost(&mut self, count: u64, in_flight: u64) -> Result<Cost> {
        let (before, frames) = (self.server.process.cpu_us()?, self.audience.frames());
        self.publish(count, in_flight).await?;
        let spent = self.server.process.cpu_us()? - before;
        let deliveries = (count * self.audience.readers()) as f64;
        Ok(Cost {
            us: spent as f64 / deliveries,
            records_per_write: deliveries / (self.audience.frames() - frames) as f64,
        })
    }

    /// Publishes `count` records with at most `in_flight` not acknowledged. A single one goes out when everybody has the one before, as in the
    /// write loop. Ends when everybody has all.
    async fn publish(&mut self, count: u64, in_flight: u64) -> Result<()> {
        let Stage { channel, publisher, audience, sent, .. } = self;
        let begin = *sent;
        let ahead = if in_flight == 1 { 1 } else { in_flight * WINDOWS_AHEAD };
        let mut acknowledged = begin;
        loop {
            let heard = audience.heard();
            let may = (begin + count).min(acknowledged + in_flight);
            let next = may.min(heard + ahead);
            // Held back by its readers, it goes on when they have made room for all that it may send: record by record, as the last of them
            // catches up, it would fill the server with scraps and measure itself (the silly window of RFC 813).
            if *sent < next && (next == may || in_flight == 1) {
                let commands: Vec<String> = (*sent + 1..=next).map(|n| publish_command(channel, n)).collect();
                publisher.socket.send(commands.iter().map(String::as_bytes)).await?;
                *sent = next;
            }
            if acknowledged.min(heard) == begin + count {
                return audience.all_heard(*sent).await;
            }
            let acknowledge = publisher.socket.receive(|payload| {
                for reply in payload.split(|byte| *byte == b'\n') {
                    ensure!(!is_refusal(reply), "refused: {}", String::from_utf8_lossy(reply));
                    acknowledged += 1;
                }
                Ok(())
            });
            let something = async {
                tokio::select! {
                    heard = audience.progress() => heard,
                    replied = acknowledge => replied,
                }
            };
            let patience = std::time::Duration::from_secs(60);
            let waited = tokio::time::timeout(patience, something).await;
            waited.with_context(|| format!("{heard} records of {channel} and no more in {patience:?}"))??;
        }
    }
}

fn publish_command(channel: &str, n: u64) -> String {
    let text = "x".repeat(BODY_BYTES - r#"{"n":"00000000","text":""}"#.len());
    let id = n + 1;
    format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{{"n":"{n:08}","text":"{text}"}}}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_the_report_says() {
        let command = publish_command("a", 12_345);
        let body = command.split_once(r#""data":"#).unwrap().1.strip_suffix("}}").unwrap();
        assert_eq!(body.len(), BODY_BYTES, "{body}");
    }
}
