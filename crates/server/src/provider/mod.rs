//! What writes for a run: a client for OpenAI-compatible endpoints, and the built-in narrator that needs no key and no model.

pub mod narrator;
pub mod openai;
pub mod sse;

pub use narrator::Narrator;
pub use openai::{OpenAi, OpenAiSettings, ProviderSetupFault};
