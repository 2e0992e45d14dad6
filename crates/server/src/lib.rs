//! Where a node lives: the production host.

pub mod carrier;
pub mod cli;
pub mod commands;
pub mod config;
pub mod front;
pub mod keys;
pub mod schema;
