//! Where a node lives: the production host.

pub mod backend;
pub mod carrier;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod dev;
pub mod front;
pub mod host;
pub mod http;
pub mod kept;
pub mod keys;
pub mod log;
pub mod node_api;
pub mod observe;
pub mod provider;
pub mod run;
pub mod schema;
