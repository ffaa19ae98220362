//! What a client did against the protocol, and how far its consequences go (sections 2.4.4, 2.5.4 and 2.6.5).

use crate::{condition::Condition, frame::FrameError, types::DecodeError};
use alloc::string::{String, ToString};

/// What ends because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything.
    Connection,
    /// A session.
    Session(u16),
    /// A link.
    Link(u16, u32),
}

/// An error that the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) scope: Scope,
    pub(super) condition: Condition,
    pub(super) description: String,
}

impl Failure {
    pub(super) fn connection(condition: Condition, description: impl Into<String>) -> Self {
        Self { scope: Scope::Connection, condition, description: description.into() }
    }

    pub(super) fn session(channel: u16, condition: Condition, description: impl Into<String>) -> Self {
        Self { scope: Scope::Session(channel), condition, description: description.into() }
    }

    pub(super) fn link(
        channel: u16,
        handle: u32,
        condition: Condition,
        description: impl Into<String>,
    ) -> Self {
        Self { scope: Scope::Link(channel, handle), condition, description: description.into() }
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Self::connection(error.condition(), error.to_string())
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::connection(error.condition(), error.to_string())
    }
}
