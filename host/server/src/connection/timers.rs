//! Heartbeats (AMQP 0-9-1 section 4.2.7, AMQP 1.0 section 2.4.5), and the time limits of the handshake and of closing.

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
    /// Half an interval is over: a heartbeat is to go.
    SendHeartbeat,
    /// Nothing was read for two intervals.
    PeerSilent,
    /// The handshake is not over in time.
    HandshakeTooSlow,
    /// The client did not answer connection.close in time, or not close the socket.
    ClosingTooSlow,
}

/// How often to look at what came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beats {
    /// How long a tick is; `None` if nobody wants signs of life.
    tick: Option<Duration>,
    /// In how many ticks in a row nothing may come.
    silent_ticks_max: u32,
    /// Whether the client wants something in each tick.
    sends: bool,
}

impl Beats {
    /// For a negotiated heartbeat, in seconds; 0 is none.
    pub(super) fn of_heartbeat(seconds: u16) -> Self {
        let half = Duration::from_millis(u64::from(seconds) * 500);
        // Two intervals are four ticks; a tick may fall just before a heartbeat comes, so one more.
        Self { tick: (seconds > 0).then_some(half), silent_ticks_max: 4, sends: true }
    }

    /// For a client that gives up after so much silence, and is given up after so much, in milliseconds; 0 is never.
    pub(super) fn of_time_outs(theirs_ms: u32, ours_ms: u32) -> Self {
        // Theirs is to be undercut; of ours a quarter is how much too late a client is given up.
        let parts = [theirs_ms / 2, ours_ms / 4].into_iter().zip([theirs_ms, ours_ms]);
        let tick_ms = parts.filter(|(_, time_out_ms)| *time_out_ms > 0).map(|(part_ms, _)| part_ms).min();
        let silent_ticks_max = match tick_ms {
            Some(tick_ms) if ours_ms > 0 => ours_ms.div_ceil(tick_ms.max(1)),
            _ => u32::MAX - 1,
        };
        let tick = tick_ms.map(|ms| Duration::from_millis(ms.max(1).into()));
        Self { tick, silent_ticks_max, sends: theirs_ms > 0 }
    }
}

/// One timer for a connection: the handshake's first, then every half heartbeat interval, then
/// that of closing.
pub(super) struct Timers {
    sleep: Pin<Box<Sleep>>,
    traffic: Traffic,
    stage: Stage,
}

/// What came since the last tick, of which there is one every half interval.
#[derive(Debug, Default)]
struct Traffic {
    /// Something came.
    read: bool,
    /// Ticks in a row in which nothing came.
    silent_ticks: u32,
}

impl Traffic {
    /// What is due; the next half interval begins. Whatever else was written, a heartbeat goes: some clients give up
    /// when they hear nothing for an interval (RabbitMQ's Java client on Netty), and what was written right after the
    /// last tick is nearly that long ago at the next but one.
    fn tick(&mut self, beats: Beats) -> Tick {
        let read = std::mem::take(&mut self.read);
        self.silent_ticks = if read { 0 } else { self.silent_ticks.saturating_add(1) };
        if self.silent_ticks > beats.silent_ticks_max {
            Tick::PeerSilent
        } else if beats.sends {
            Tick::SendHeartbeat
        } else {
            Tick::Nothing
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

    /// Whether the connection came to another stage: then [`Self::poll`] is to be called at once.
    pub(super) fn is_new(&self, stage: Stage) -> bool {
        stage != self.stage
    }

    /// What is due; registers for the next time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stage: Stage, beats: Beats) -> Tick {
        if self.is_new(stage) {
            self.stage = stage;
            match stage {
                Stage::Handshake | Stage::Open => self.again(beats),
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
        self.again(beats);
        // Registers the new deadline; it is in the future.
        let _pending = self.sleep.as_mut().poll(cx);
        if beats.tick.is_none() {
            return Tick::Nothing;
        }
        self.traffic.tick(beats)
    }

    fn again(&mut self, beats: Beats) {
        /// How often to look where there are no heartbeats: never, in effect.
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        self.sleep.as_mut().reset(Instant::now() + beats.tick.unwrap_or(NEVER));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEATS: Beats = Beats { tick: Some(Duration::from_secs(1)), silent_ticks_max: 4, sends: true };

    #[test]
    fn time_outs_of_both_sides_are_kept() {
        let beats = |theirs_ms, ours_ms| {
            let Beats { tick, silent_ticks_max, sends } = Beats::of_time_outs(theirs_ms, ours_ms);
            (tick.map(|tick| tick.as_millis()), silent_ticks_max, sends)
        };
        assert_eq!(beats(10_000, 60_000), (Some(5000), 12, true));
        assert_eq!(beats(0, 60_000), (Some(15_000), 4, false));
        assert_eq!(beats(240_000, 60_000), (Some(15_000), 4, true));
        assert_eq!(beats(1000, 0).0, Some(500));
        assert_eq!(beats(0, 0).0, None);
        assert_eq!(Beats::of_heartbeat(0).tick, None);
        let mut traffic = Traffic { read: true, ..Traffic::default() };
        let asked = Beats { sends: false, silent_ticks_max: 2, ..BEATS };
        let told: Vec<Tick> = (0..4).map(|_| traffic.tick(asked)).collect();
        assert_eq!(told, [Tick::Nothing, Tick::Nothing, Tick::Nothing, Tick::PeerSilent]);
    }

    #[test]
    fn a_heartbeat_goes_each_half_interval() {
        let mut traffic = Traffic::default();
        for _ in 0..3 {
            traffic.read = true;
            assert_eq!(traffic.tick(BEATS), Tick::SendHeartbeat);
        }
    }

    #[test]
    fn a_peer_is_silent_when_nothing_came_for_two_intervals_and_a_tick() {
        let mut traffic = Traffic { read: true, ..Traffic::default() };
        let told: Vec<Tick> = (0..6).map(|_| traffic.tick(BEATS)).collect();
        assert_eq!(told[..5], [Tick::SendHeartbeat; 5]);
        assert_eq!(told[5], Tick::PeerSilent);
    }
}
