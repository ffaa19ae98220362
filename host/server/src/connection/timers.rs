//! Heartbeats (AMQP 0-9-1 section 4.2.7), and the time limits of the handshake and of closing.

use std::{future::Future, pin::Pin, task::Context, time::Duration};
use tokio::time::{Instant, Sleep};

/// How long a client may take from the first byte to connection.open.
pub(super) const HANDSHAKE_SECONDS_MAX: u64 = 10;

/// How long a client may take to answer connection.close.
pub(super) const CLOSING_SECONDS_MAX: u64 = 5;

/// How far a connection is, as its timers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before connection.open.
    Handshake,
    /// Open.
    Open,
    /// connection.close was sent.
    Closing,
}

/// What a timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// Nothing.
    Nothing,
    /// Nothing was written for half an interval.
    SendHeartbeat,
    /// Nothing was read for two intervals.
    PeerSilent,
    /// The handshake is not over in time.
    HandshakeTooSlow,
    /// The client did not answer connection.close in time.
    ClosingTooSlow,
}

/// One timer for a connection: the handshake's first, then every half heartbeat interval, then
/// that of closing.
pub(super) struct Timers {
    sleep: Pin<Box<Sleep>>,
    /// Something came since the last tick.
    read: bool,
    /// Something went since the last tick.
    wrote: bool,
    /// Ticks in a row in which nothing came.
    silent_ticks: u32,
    stage: Stage,
}

impl Timers {
    /// Timers of a connection that begins now.
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(Duration::from_secs(HANDSHAKE_SECONDS_MAX))),
            read: false,
            wrote: false,
            silent_ticks: 0,
            stage: Stage::Handshake,
        }
    }

    /// So many bytes came.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.read |= bytes > 0;
    }

    /// Something was written.
    pub(super) fn note_write(&mut self) {
        self.wrote = true;
    }

    /// Whether the connection came to another stage: then [`Self::poll`] is to be called at once.
    pub(super) fn is_new(&self, stage: Stage) -> bool {
        stage != self.stage
    }

    /// What is due; registers for the next time. `heartbeat_seconds` is the negotiated interval, 0
    /// for none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stage: Stage, heartbeat_seconds: u16) -> Tick {
        if self.is_new(stage) {
            self.stage = stage;
            match stage {
                Stage::Handshake | Stage::Open => self.again(heartbeat_seconds),
                Stage::Closing => {
                    self.sleep.as_mut().reset(Instant::now() + Duration::from_secs(CLOSING_SECONDS_MAX))
                }
            }
        }
        if self.sleep.as_mut().poll(cx).is_pending() {
            return Tick::Nothing;
        }
        match self.stage {
            Stage::Handshake => return Tick::HandshakeTooSlow,
            Stage::Closing => return Tick::ClosingTooSlow,
            Stage::Open => {}
        }
        self.again(heartbeat_seconds);
        // Registers the new deadline; it is in the future.
        let _pending = self.sleep.as_mut().poll(cx);
        if heartbeat_seconds == 0 {
            return Tick::Nothing;
        }
        let (read, wrote) = (std::mem::take(&mut self.read), std::mem::take(&mut self.wrote));
        self.silent_ticks = if read { 0 } else { self.silent_ticks + 1 };
        // Two intervals are four ticks; a tick may fall just before a heartbeat comes, so one more.
        if self.silent_ticks > 4 {
            Tick::PeerSilent
        } else if wrote {
            Tick::Nothing
        } else {
            Tick::SendHeartbeat
        }
    }

    fn again(&mut self, heartbeat_seconds: u16) {
        /// How often to look where there are no heartbeats: never, in effect.
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        let half = Duration::from_millis(u64::from(heartbeat_seconds) * 500);
        let wait = if heartbeat_seconds == 0 { NEVER } else { half };
        self.sleep.as_mut().reset(Instant::now() + wait);
    }
}
