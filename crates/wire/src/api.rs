//! The shapes of the HTTP API.
