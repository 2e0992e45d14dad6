//! The story room.
