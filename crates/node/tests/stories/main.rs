//! Stories of one node, each told step by step: what a client sees whatever the log, the link or another client does in between.

mod channels;
mod erase;
mod hooks;
mod host;
mod produced;
mod runs;
mod sessions;
