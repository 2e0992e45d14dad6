//! The HTTP API's calls, on this node.

use std::sync::Arc;
use std::time::Instant;

use fireside_core::command::Publish;
use fireside_core::gate::Principal;
use fireside_core::{Code, Disconnect, Refusal};
use fireside_node::Node;
use fireside_node::channel::Placed;
use fireside_node::ports::Soon;
use fireside_wire::api::{ApiCall, ApiReply, Batch, Change, NodeInfo, RunCall, RunReply, SessionsCall};

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
        let who = Principal::backend(&key_id);
        Backend { node: self.node.clone(), who, info: self.info() }.answer(call)
    }
}

/// One call, and those in it.
#[derive(Clone)]
struct Backend {
    node: Arc<Node>,
    who: Arc<Principal>,
    info: NodeInfo,
}

impl Backend {
    /// Boxed, because a call may be a batch of calls.
    fn answer(self, call: ApiCall) -> Soon<ApiReply> {
        Box::pin(async move { self.perform(call).await.unwrap_or_else(ApiReply::Refused) })
    }

    async fn perform(&self, call: ApiCall) -> Result<ApiReply, Refusal> {
        let Backend { node, who, info } = self;
        Ok(match call {
            ApiCall::Publish(publish) => self.publish(publish).await?,
            ApiCall::Broadcast(records) => self.broadcast(records).await,
            ApiCall::History(asked) => ApiReply::History(Box::new(node.history(who, asked).await?)),
            ApiCall::HistoryRemove { channel } => {
                node.remove_history(who, &channel).await?;
                ApiReply::Done
            }
            ApiCall::Erase(asked) => placed(node.erase(who, asked).await?),
            ApiCall::Compact => {
                node.compact().await?;
                ApiReply::Done
            }
            ApiCall::Presence { channel } => ApiReply::Presence(node.presence(who, &channel)?),
            ApiCall::PresenceStats { channel } => {
                let (clients, users) = node.presence_stats(who, &channel)?;
                ApiReply::PresenceStats { clients, users }
            }
            ApiCall::Sessions(call) => self.sessions(call).await?,
            ApiCall::Run(call) => ApiReply::Run(self.run(call).await?),
            ApiCall::Channels { pattern } => {
                let here = node.channels(&pattern, CHANNELS_MAX);
                ApiReply::Channels(here.into_iter().map(|here| (here.channel, here.clients)).collect())
            }
            ApiCall::Info => ApiReply::Info(vec![info.clone()]),
            ApiCall::Batch(batch) => self.batch(batch).await,
        })
    }

    async fn publish(&self, publish: Publish) -> Result<ApiReply, Refusal> {
        Ok(placed(self.node.publish(&self.who, publish).await?))
    }

    /// To all channels at once: each has a log of its own.
    async fn broadcast(&self, records: Vec<Publish>) -> ApiReply {
        let each = records.into_iter().map(|record| {
            let backend = self.clone();
            async move { backend.publish(record).await.unwrap_or_else(ApiReply::Refused) }
        });
        ApiReply::Broadcast(together(each).await)
    }

    async fn sessions(&self, call: SessionsCall) -> Result<ApiReply, Refusal> {
        let Backend { node, who, .. } = self;
        let SessionsCall { user, client, change } = call;
        let client = client.as_deref();
        match change {
            Change::Disconnect { whitelist, why } => drop(node.disconnect(&user, client, &whitelist, &why)),
            Change::Expire => drop(node.disconnect(&user, client, &[], &Disconnect::EXPIRED)),
            Change::Refresh { expires_s } => drop(node.refresh(&user, client, expires_s)?),
            Change::Unsubscribe { channel } => drop(node.unsubscribe(&user, client, &channel)?),
            Change::Subscribe { channel, recover, data } => {
                node.subscribe(who, (&user, client), &channel, recover, data).await?;
            }
        }
        Ok(ApiReply::Done)
    }

    async fn run(&self, call: RunCall) -> Result<RunReply, Refusal> {
        let Backend { node, who, .. } = self;
        Ok(match call {
            RunCall::Start(asked) => RunReply::Begun(node.run_start(who, asked).await?),
            RunCall::Append(asked) => RunReply::Appended(node.run_append(who, asked).await?),
            RunCall::End(asked) => RunReply::Ended(node.run_end(who, asked).await?),
            RunCall::Get(asked) => RunReply::State(Box::new(node.run_get(who, asked).await?)),
            RunCall::Cancel { asked, by } => RunReply::Cancelled(node.run_cancel(who, asked, &by).await?),
        })
    }

    async fn batch(&self, batch: Batch) -> ApiReply {
        let (methods, calls): (Vec<_>, Vec<_>) = batch.calls.into_iter().unzip();
        let each = calls.into_iter().map(|call| match call {
            Ok(call) => self.clone().answer(call),
            Err(refusal) => Box::pin(async { ApiReply::Refused(refusal) }),
        });
        let replies = match batch.parallel {
            true => together(each).await,
            false => {
                let mut replies = Vec::new();
                for answer in each {
                    replies.push(answer.await);
                }
                replies
            }
        };
        ApiReply::Batch(methods.into_iter().zip(replies).collect())
    }
}

/// Answers in the order asked for, whichever comes first.
async fn together(
    each: impl Iterator<Item = impl Future<Output = ApiReply> + Send + 'static>,
) -> Vec<ApiReply> {
    let tasks: Vec<_> = each.map(tokio::spawn).collect();
    let mut replies = Vec::new();
    for task in tasks {
        // A task that panicked has said so.
        replies.push(task.await.unwrap_or_else(|_| ApiReply::Refused(Code::Internal.into())));
    }
    replies
}

fn placed(placed: Placed) -> ApiReply {
    ApiReply::Published { position: placed.position, duplicate: placed.duplicate }
}
