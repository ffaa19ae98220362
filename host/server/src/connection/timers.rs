//! Heartbeats (AMQP 0-9-1 section 4.2.7), and the time limits of the handshake and of closing.

use std::{future::Future, pin::Pin, task::Context, time::Duration};
use tokio::time::{Instant, Sleep};

/// How long a client may take from the first byte to connection.open.
pub(super) const HANDSHAKE_SECONDS_MAX: u64 = 10;

/// How long a client may take to answer connection.close, or to close the socket after close-ok.
pub(super) const CLOSING_SECONDS_MAX: u64 = 5;

/// How far a connection is, as its timers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before connection.open.
    Handshake,
    /// Open.
    Open,
    /// connection.close was sent, or answered.
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
    /// The client did not answer connection.close in time, or not close the socket.
    ClosingTooSlow,
}

/// One timer for a connection: the handshake's first, then every half heartbeat interval, then
/// that of closing.
pub(super) struct Timers {
    sleep: Pin<Box<Sleep>>,
    traffic: Traffic,
    stage: Stage,
}

/// What came and went since the last tick, of which there is one every half interval.
#[derive(Debug, Default)]
struct Traffic {
    /// Something came.
    read: bool,
    /// Something went, but for a heartbeat.
    wrote: bool,
    /// A heartbeat is about to be written.
    beats: bool,
    /// Ticks in a row in which nothing came.
    silent_ticks: u32,
}

impl Traffic {
    /// Something was written. A heartbeat does not put off the next: some clients give up when they hear nothing for
    /// an interval, and RabbitMQ sends one each half.
    fn note_write(&mut self) {
        self.wrote |= !std::mem::take(&mut self.beats);
    }

    /// What is due; the next half interval begins.
    fn tick(&mut self) -> Tick {
        let (read, wrote) = (std::mem::take(&mut self.read), std::mem::take(&mut self.wrote));
        self.silent_ticks = if read { 0 } else { self.silent_ticks + 1 };
        // Two intervals are four ticks; a tick may fall just before a heartbeat comes, so one more.
        if self.silent_ticks > 4 {
            Tick::PeerSilent
        } else if wrote {
            Tick::Nothing
        } else {
            self.beats = true;
            Tick::SendHeartbeat
        }
    }
}

impl Timers {
    /// Timers of a connection that begins now.
    pub(super) fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(Duration::from_secs(HANDSHAKE_SECONDS_MAX))),
            traffic: Traffic::default(),
            stage: Stage::Handshake,
        }
    }

    /// So many bytes came.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.traffic.read |= bytes > 0;
    }

    /// Something was written.
    pub(super) fn note_write(&mut self) {
        self.traffic.note_write();
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
        self.traffic.tick()
    }

    fn again(&mut self, heartbeat_seconds: u16) {
        /// How often to look where there are no heartbeats: never, in effect.
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        let half = Duration::from_millis(u64::from(heartbeat_seconds) * 500);
        let wait = if heartbeat_seconds == 0 { NEVER } else { half };
        self.sleep.as_mut().reset(Instant::now() + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_go_each_half_interval_in_which_nothing_else_did() {
        let mut traffic = Traffic::default();
        for _ in 0..3 {
            traffic.read = true;
            assert_eq!(traffic.tick(), Tick::SendHeartbeat);
            traffic.note_write();
        }
        traffic.read = true;
        traffic.note_write();
        assert_eq!(traffic.tick(), Tick::Nothing);
        traffic.read = true;
        assert_eq!(traffic.tick(), Tick::SendHeartbeat);
    }

    #[test]
    fn a_peer_is_silent_when_nothing_came_for_two_intervals_and_a_tick() {
        let mut traffic = Traffic { read: true, ..Traffic::default() };
        let told: Vec<Tick> = (0..6).map(|_| traffic.tick()).collect();
        assert_eq!(told[..5], [Tick::SendHeartbeat; 5]);
        assert_eq!(told[5], Tick::PeerSilent);
    }
}
