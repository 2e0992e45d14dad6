//! How a world ends: what was begun is finished, everybody reaches the tail, and the log is read back.

use std::sync::Arc;

use fireside_core::command::History;
use fireside_core::event::Page;
use fireside_core::gate::Principal;
use fireside_core::{ChannelName, Claimed, Durability};
use fireside_store::{Span, Start, Store};

use super::{Phase, World};
use crate::check::Kept;
use crate::lock;
use crate::plan::rules_of;
use crate::told::At;

/// How long everything may take to come to rest once faults end, in ms of virtual time.
pub const PATIENCE_MS: u64 = 180_000;

impl World {
    pub(super) async fn end(self: &Arc<Self>) {
        self.settle().await;
        let mut kept = Vec::new();
        for channel in self.plan.channels() {
            if rules_of(&channel).durability == Durability::Memory
                && let Some(one) = self.through_the_node(&channel).await
            {
                kept.push(one);
            }
        }
        *lock(&self.phase) = Phase::Over;
        if self.seed.chance(50) {
            self.cut_power();
        } else if !self.shut_down().await {
            self.check.break_off("I13 live: the server could not be shut down in order".to_owned());
        }
        self.kill();
        self.read_back(&mut kept);
        self.check.close(&kept, &self.given);
        self.trace.note("end", "", kept.len() as u64);
    }

    /// I13 live: waits until every command is answered and every reader is at the tail.
    async fn settle(self: &Arc<Self>) {
        let until_ms = self.executor.now_ms() + PATIENCE_MS;
        loop {
            let unsettled = self.unsettled().await;
            let Some(why) = unsettled else { return };
            if self.executor.now_ms() > until_ms {
                return self.check.break_off(format!("I13 live: {why}"));
            }
            self.executor.sleep_ms(250).await;
        }
    }

    /// Why it is not over yet.
    async fn unsettled(self: &Arc<Self>) -> Option<String> {
        if self.node().is_none() {
            return Some("the server does not listen".to_owned());
        }
        let restless = lock(&self.restless).clone();
        if let Some((client, why)) = restless.into_iter().next() {
            return Some(format!("client {client}: {why}"));
        }
        let follows = lock(&self.follows).clone();
        for (reader, channel) in follows {
            let Some(newest) = self.newest(&channel).await else {
                return Some(format!("nobody says where {channel} ends"));
            };
            let at = self.check.position(&(reader, channel.clone()));
            if newest != (0, 0) && at != Some(newest) {
                return Some(format!("client {reader} is at {at:?} of {channel}, which ends at {newest:?}"));
            }
        }
        None
    }

    async fn page(self: &Arc<Self>, channel: &str, limit: i32, since: Option<At>) -> Option<Page> {
        let (group, node) = self.node()?;
        let since = since.map(|at| Claimed { epoch: Some(fireside_core::Epoch(at.0)), offset: at.1 });
        let asked = History { channel: channel.to_owned(), limit, since, reverse: false };
        let read = async move { node.history(&Principal::backend("sim"), asked).await.ok() };
        self.within(group, Box::pin(read)).await.flatten()
    }

    async fn newest(self: &Arc<Self>, channel: &str) -> Option<At> {
        if channel.starts_with("e:") {
            return Some((0, 0));
        }
        let page = self.page(channel, 0, None).await?;
        Some((page.newest.epoch.0, page.newest.offset))
    }

    /// A channel as the node shows it, page by page.
    async fn through_the_node(self: &Arc<Self>, channel: &str) -> Option<Kept> {
        let mut kept =
            Kept { channel: channel.to_owned(), epoch: 0, oldest: 1, newest: 0, records: Vec::new() };
        loop {
            let since = kept.records.last().map(|record| (kept.epoch, record.offset));
            let page = self.page(channel, -1, since).await?;
            (kept.epoch, kept.newest) = (page.newest.epoch.0, page.newest.offset);
            if page.records.is_empty() {
                return Some(kept);
            }
            if kept.records.is_empty() {
                kept.oldest = page.records[0].offset;
            }
            kept.records.extend(page.records);
        }
    }

    /// The log as the next process will find it, and as nobody can have prepared it.
    fn read_back(&self, kept: &mut Vec<Kept>) {
        let disk = self.medium.mount(u64::MAX);
        let boot_id = format!("boot-{}", lock(&self.boot));
        let start = Start { life: self.seed.wide(), boot_id, now_ms: self.unix_ms() };
        let store = match Store::open(disk.clone(), self.plan.store.clone(), start) {
            Ok((store, report)) => {
                if let Some(damage) = report.damage.first() {
                    self.check.break_off(format!("I3 true ack: the log ends damaged: {damage}"));
                }
                store
            }
            Err(fault) => {
                return self.check.break_off(format!("I3 true ack: the log cannot be opened: {fault}"));
            }
        };
        let mut channels: Vec<String> = self
            .plan
            .channels()
            .into_iter()
            .filter(|name| rules_of(name).durability != Durability::Memory)
            .collect();
        channels.retain(|name| !name.starts_with("e:"));
        for channel in channels {
            match read_channel(&store, &channel) {
                Ok(one) => kept.push(one),
                Err(why) => self.check.break_off(format!("I3 true ack: {channel} cannot be read: {why}")),
            }
        }
        match fireside_store::check(&*disk) {
            Ok(report) if report.is_sound() => {}
            Ok(report) => {
                let fault = &report.faults[0];
                self.check.break_off(format!("I1 dense: the store's own check says: {fault}"));
            }
            Err(fault) => self.check.break_off(format!("I3 true ack: the store cannot be checked: {fault}")),
        }
    }
}

fn read_channel(store: &Store, name: &str) -> Result<Kept, String> {
    let channel = ChannelName::parse(name).map_err(|fault| fault.to_string())?;
    let degree = rules_of(name).durability;
    let woken = store.wake(&channel, degree).map_err(|fault| fault.to_string())?;
    let base =
        woken.checkpoint.as_ref().map_or((woken.generation, 1, 0), |c| (c.epoch, c.oldest.max(1), c.newest));
    let (epoch, newest) = woken.tail.last().map_or((base.0, base.2), |batch| (batch.epoch, batch.last()));
    let mut kept =
        Kept { channel: name.to_owned(), epoch: epoch.0, oldest: base.1, newest, records: Vec::new() };
    let mut after = kept.oldest - 1;
    while after < newest {
        let span = Span { epoch, after, until: newest, records_max: 100, bytes_max: 64 * 1024 };
        let page = store.read(&channel, degree, span).map_err(|fault| format!("{fault:?} after {after}"))?;
        if page.is_empty() {
            return Err(format!("an empty page after {after} of {newest}"));
        }
        for batch in page {
            kept.records.extend(batch.after(after).iter().cloned());
            after = after.max(batch.last());
        }
    }
    Ok(kept)
}
