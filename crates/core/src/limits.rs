//! Every bound of the server, by name. What a client can grow stops here; `fireside check` shows the effective values.

/// Bytes of a channel's name (the Centrifuge protocol's own bound).
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;
/// Bytes of a user's id (`sub`).
pub const USER_BYTES_MAX: usize = 255;
/// Bytes of a publish key.
pub const KEY_BYTES_MAX: usize = 128;
/// Bytes of a conflation key.
pub const CONFLATE_BYTES_MAX: usize = 64;
/// Bytes of a token.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a token's `info`.
pub const INFO_BYTES_MAX: usize = 2 * 1024;
/// Bytes of the `meta` that a token, or a backend's answer, has for later questions.
pub const META_BYTES_MAX: usize = 2 * 1024;
/// Capabilities in one token.
pub const CAPS_MAX: usize = 64;
/// Names or patterns in one capability.
pub const CAP_NAMES_MAX: usize = 128;
/// Tags of one record, and bytes of each name and value.
pub const TAGS_MAX: usize = 16;
/// Bytes of a tag's name or value.
pub const TAG_BYTES_MAX: usize = 128;
/// Nodes of one tag filter, and how deep they nest.
pub const FILTER_NODES_MAX: usize = 64;
/// How deep the nodes of a tag filter nest.
pub const FILTER_DEPTH_MAX: usize = 8;
/// Values of one comparison in a tag filter.
pub const FILTER_VALUES_MAX: usize = 64;
/// Nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 32;
/// Commands in one frame.
pub const FRAME_COMMANDS_MAX: usize = 256;
/// Records in one page of history or recovery.
pub const PAGE_RECORDS_MAX: usize = 300;
/// Bytes of one page of history or recovery; a page holds at least one record.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Batches kept in memory for readers that are a little behind, per channel.
pub const RING_BATCHES_MAX: usize = 64;
/// Bytes of those batches, per channel.
pub const RING_BYTES_MAX: usize = 256 * 1024;
/// Records in one batch.
pub const BATCH_RECORDS_MAX: usize = 512;
/// Publishes that wait for their turn in one channel; more are refused as temporary.
pub const WAITING_PUBLISHES_MAX: usize = 16 * 1024;
/// Bytes of those publishes.
pub const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Publishes of one session that are not answered yet.
pub const SESSION_PENDING_MAX: usize = 4 * 1024;
/// Readers in one shard: an ordered queue drained by one task.
pub const SHARD_READERS_MAX: usize = 512;
/// Writes after which a draining shard yields.
pub const SHARD_WRITES_PER_TURN: usize = 64;
/// Keys that a channel remembers, whatever its records' retention.
pub const DEDUP_KEYS_MAX: usize = 10_000;
/// How long a key is remembered, in ms.
pub const DEDUP_WINDOW_MS: u64 = 24 * 60 * 60 * 1000;
/// Runs that may be open in one channel.
pub const OPEN_RUNS_MAX: usize = 16;
/// Text of one run in bytes, unless the namespace says otherwise.
pub const RUN_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Changes to a run's text in one call.
pub const RUN_CHANGES_MAX: usize = 256;
/// Bytes of the name of what writes a run.
pub const RUN_MODEL_BYTES_MAX: usize = 128;
/// Bytes of a sentence on why a run ended.
pub const RUN_REASON_BYTES_MAX: usize = 512;
/// How long a run whose backend says nothing stays open, in ms, unless the namespace says otherwise.
pub const RUN_LEASE_MS: u64 = 10_000;
/// How long a cancel waits for its start, in ms.
pub const EARLY_CANCEL_MS: u64 = 60_000;
/// Cancels that wait for their start, on one node.
pub const EARLY_CANCELS_MAX: usize = 1024;
/// Bytes of an `ai.start` input.
pub const RUN_INPUT_BYTES_MAX: usize = 16 * 1024;
/// The first records' worth of prompt that the server assembles by itself.
pub const RUN_PROMPT_RECORDS_MAX: usize = 64;
/// Bytes of that prompt.
pub const RUN_PROMPT_BYTES_MAX: usize = 32 * 1024;
/// Messages of a prompt that a backend assembles.
pub const PROMPT_MESSAGES_MAX: usize = 256;
/// Bytes of their texts.
pub const PROMPT_BYTES_MAX: usize = 96 * 1024;
/// Events (replies, pings, ends of subscriptions) that wait for one session before it is closed as slow.
pub const CONTROL_ENTRIES_MAX: usize = 8 * 1024;
/// Bytes of replies that wait for one session before no more commands are read from it.
pub const REPLIES_BYTES_MAX: usize = 256 * 1024;
/// Records after which an awake channel writes a checkpoint.
pub const CHECKPOINT_RECORDS: u64 = 4096;
/// How long a channel without readers and work stays awake, in ms.
pub const QUIET_MS: u64 = 5_000;
/// Channels of one API broadcast, and calls of one API batch.
pub const API_MANY_MAX: usize = 1_000;
/// Channels awake on one node: those with readers, and those that were asked for in the last [`QUIET_MS`].
pub const CHANNELS_AWAKE_MAX: usize = 250_000;
/// Presence entries returned by one call.
pub const PRESENCE_MAX: usize = 10_000;
/// Sessions on one node, unless configured.
pub const SESSIONS_MAX: usize = 18_000;
/// How long a connection may take until it is a session, in ms.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// How much the clocks of whoever issues tokens and ours may differ, in ms: commands pass that long after a token's end.
pub const EXPIRED_SKEW_MS: u64 = 1_000;
/// How long a session whose token is over may live until its refresh comes, in ms.
pub const EXPIRED_GRACE_MS: u64 = 25_000;
/// Places of a channel's log that retention by bytes and age knows.
pub const MARKS_MAX: usize = 256;
/// Bytes of a key that an anonymous producer must choose at random: 128 bits in base64.
pub const ANONYMOUS_KEY_BYTES_MIN: usize = 22;
/// Commands in a row that come too fast; at so many the session is closed (3013).
pub const OVERRUNS_MAX: u32 = 1_000;
/// Bytes of a backend's answer to a question; for a publish, whose answer may bear a body, that much more than twice the largest body.
pub const HOOK_ANSWER_BYTES_MAX: usize = 128 * 1024;
/// Bytes of the `data` that a backend puts into a reply (connect, subscribe, rpc).
pub const HOOK_DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a refusal's message that a backend gives.
pub const HOOK_MESSAGE_BYTES_MAX: usize = 512;
/// Bytes of the name of an rpc method.
pub const METHOD_BYTES_MAX: usize = 128;
/// How long before the end of a session or subscription its backend is asked whether it may go on, in ms.
pub const REFRESH_AHEAD_MS: u64 = 10_000;
/// The least time between two such questions about the same one, in ms.
pub const REFRESH_PAUSE_MS: u64 = 5_000;
