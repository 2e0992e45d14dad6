//! The HTTP API's calls, on this node.

use std::sync::Arc;
use std::time::Instant;

use fireside_core::Refusal;
use fireside_core::command::{History, Publish};
use fireside_core::gate::Principal;
use fireside_node::Node;
use fireside_node::ports::Soon;
use fireside_wire::api::{ApiCall, ApiReply, NodeInfo, RunCall, RunReply};

use crate::http::api::NodeApi;

/// Channels that one `channels` call lists at most.
const CHANNELS_MAX: usize = 10_000;

/// One node, as its HTTP API sees it.
pub struct OneNode {
    node: Arc<Node>,
    started: Instant,
}

impl OneNode {
    /// The API of `node`.
    pub fn new(node: Arc<Node>) -> Self {
        OneNode { node, started: Instant::now() }
    }

    fn info(&self) -> NodeInfo {
        let info = self.node.info();
        NodeInfo {
            uid: info.id.to_string(),
            name: "fireside".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clients: info.sessions as u32,
            users: info.users as u32,
            subs: info.subscriptions as u32,
            channels: info.channels as u32,
            uptime_s: self.started.elapsed().as_secs(),
        }
    }
}

impl NodeApi for OneNode {
    fn call(&self, key_id: Arc<str>, call: ApiCall) -> Soon<ApiReply> {
        let (node, info) = (self.node.clone(), matches!(call, ApiCall::Info).then(|| self.info()));
        Box::pin(async move {
            let who = Principal::backend(&key_id);
            match info {
                Some(info) => ApiReply::Info(vec![info]),
                None => perform(&node, &who, call).await.unwrap_or_else(ApiReply::Refused),
            }
        })
    }
}

async fn perform(node: &Arc<Node>, who: &Arc<Principal>, call: ApiCall) -> Result<ApiReply, Refusal> {
    Ok(match call {
        ApiCall::Publish(publish) => published(node, who, publish).await?,
        ApiCall::History(asked) => history(node, who, asked).await?,
        ApiCall::Presence { channel } => ApiReply::Presence(node.presence(who, &channel)?),
        ApiCall::PresenceStats { channel } => {
            let (clients, users) = node.presence_stats(who, &channel)?;
            ApiReply::PresenceStats { clients, users }
        }
        ApiCall::Disconnect { user, client, whitelist, why } => {
            node.disconnect(&user, client.as_deref(), &whitelist, &why);
            ApiReply::Done
        }
        ApiCall::Unsubscribe { user, client, channel } => {
            node.unsubscribe(&user, client.as_deref(), &channel)?;
            ApiReply::Done
        }
        ApiCall::Channels { pattern } => {
            let here = node.channels(&pattern, CHANNELS_MAX);
            ApiReply::Channels(here.into_iter().map(|here| (here.channel, here.clients)).collect())
        }
        ApiCall::Run(call) => ApiReply::Run(run(node, who, call).await?),
        ApiCall::Info => ApiReply::Done,
    })
}

async fn run(node: &Arc<Node>, who: &Arc<Principal>, call: RunCall) -> Result<RunReply, Refusal> {
    Ok(match call {
        RunCall::Start(asked) => RunReply::Begun(node.run_start(who, asked).await?),
        RunCall::Append(asked) => RunReply::Appended(node.run_append(who, asked).await?),
        RunCall::End(asked) => RunReply::Ended(node.run_end(who, asked).await?),
        RunCall::Get(asked) => RunReply::State(Box::new(node.run_get(who, asked).await?)),
        RunCall::Cancel { asked, by } => RunReply::Cancelled(node.run_cancel(who, asked, &by).await?),
    })
}

async fn published(node: &Arc<Node>, who: &Arc<Principal>, publish: Publish) -> Result<ApiReply, Refusal> {
    let placed = node.publish(who, publish).await?;
    Ok(ApiReply::Published { position: placed.position, duplicate: placed.duplicate })
}

async fn history(node: &Arc<Node>, who: &Arc<Principal>, asked: History) -> Result<ApiReply, Refusal> {
    Ok(ApiReply::History(Box::new(node.history(who, asked).await?)))
}
