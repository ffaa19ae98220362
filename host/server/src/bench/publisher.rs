//! One connection that publishes, of either protocol.

use super::{
    Counters, Measured, Plan, Protocol, amqp10, amqp091,
    pace::{Next, Pace, bursts, due_at, due_by, offset},
    topology::Names,
    wire::{BLOCK_MAX, Wire},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{Barrier, atomic::Ordering},
    thread::Thread,
    time::{Duration, Instant},
};

/// How many bytes go in one write, about.
pub(super) const WRITE_BYTES: usize = 64 * 1024;

/// The half of a connection that sends messages.
pub(super) trait Outlet: Send {
    /// Appends the next message, with that time in it.
    fn put(&mut self, chunk: &mut Vec<u8>, stamp: u64);

    /// Whether the body has room for a time.
    fn is_stamped(&self) -> bool;

    /// How many messages the broker takes now, when so many were sent and it has told that.
    fn room(&self, sent: u64, told: &Told) -> u64;

    /// Where it writes.
    fn wire(&mut self) -> &mut Wire;
}

/// The half of a connection that hears what the broker says of them.
pub(super) trait Inlet: Send {
    /// Waits a moment for something, and notes it; says whether something came.
    ///
    /// # Errors
    /// If the broker ended something.
    fn hear(&mut self, told: &mut Told) -> anyhow::Result<bool>;
}

/// What the broker has told, since the connection began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// What became of so many messages, in whatever order it told. Where it is asked how long that took, they are taken
    /// for the first ones.
    pub(super) settled: u64,
    /// Of these it refused so many.
    pub(super) refused: u64,
    /// So many messages it takes in all (AMQP 1.0: the link's credit).
    pub(super) deliveries_max: u64,
    /// So many transfers it takes in all (AMQP 1.0: the session's window).
    pub(super) transfers_max: u64,
}

impl Default for Told {
    fn default() -> Self {
        Self { settled: 0, refused: 0, deliveries_max: u64::MAX, transfers_max: u64::MAX }
    }
}

/// What is known of a publisher's messages.
struct Flow<'a> {
    plan: &'a Plan,
    counters: &'a Counters,
    /// When the first message is due, in nanoseconds of the counters' clock.
    began: u64,
    told: Mutex<Told>,
}

/// Publishes until it is to stop. Gives how long confirms took, and when messages were sent.
pub(super) fn run(
    plan: &Plan,
    names: &Names,
    index: usize,
    counters: &Counters,
    ready: &Barrier,
) -> anyhow::Result<Measured> {
    let run = || match plan.target.protocol {
        Protocol::Amqp091 => {
            let prepared = amqp091::publisher(plan, names, index, &counters.patience());
            ready.wait();
            let (outlet, inlet) = prepared?;
            publish((plan, index), counters, outlet, inlet, Told::default())
        }
        Protocol::Amqp10 => {
            let prepared = amqp10::publisher(plan, names, index, &counters.patience());
            ready.wait();
            let (outlet, inlet, told) = prepared?;
            publish((plan, index), counters, outlet, inlet, told)
        }
    };
    run().inspect_err(|_| counters.stop())
}

fn publish<I: Inlet>(
    (plan, index): (&Plan, usize),
    counters: &Counters,
    mut outlet: impl Outlet,
    mut inlet: I,
    told: Told,
) -> anyhow::Result<Measured> {
    let later = plan.rate_per_second.map_or(0, |rate| offset(rate, index, plan.publishers));
    let flow = Flow { plan, counters, began: counters.now() + later, told: Mutex::new(told) };
    // Who neither waits for confirms nor for credit would never hear that the broker ended something.
    let waits = plan.confirm_window.is_some() || plan.target.protocol == Protocol::Amqp10;
    let measured = if plan.rate_per_second.is_some() || !waits {
        // What the broker says is heard as it comes, whether it is time to publish or not.
        let publisher = std::thread::current();
        std::thread::scope(|scope| {
            let hearing = scope.spawn(|| {
                let heard = flow.hear(&mut inlet, &publisher).inspect_err(|_| counters.stop());
                publisher.unpark();
                heard
            });
            let published = flow.publish(&mut outlet, None::<&mut I>).inspect_err(|_| counters.stop());
            // What the broker said says more than that nothing can be written any more.
            let heard = hearing.join().map_err(|_| anyhow::anyhow!("a reader of confirms panicked"))??;
            let mut measured = published?;
            measured.add(&heard)?;
            anyhow::Ok(measured)
        })?
    } else {
        let published = flow.publish(&mut outlet, Some(&mut inlet));
        published.map_err(|error| last_words(&mut inlet, &mut { told }).err().unwrap_or(error))?
    };
    // Half a message may have gone out when the broker was not reading; then there is no clean end.
    outlet.wire().drop_socket();
    Ok(measured)
}

/// Hears what the broker said before it ended the connection.
///
/// # Errors
/// If it said that it ended something, and why.
fn last_words(inlet: &mut impl Inlet, told: &mut Told) -> anyhow::Result<()> {
    const WORDS_MAX: Duration = Duration::from_secs(1);
    let began = Instant::now();
    while began.elapsed() < WORDS_MAX && inlet.hear(told)? {}
    Ok(())
}

impl Flow<'_> {
    /// Sends messages until it is to stop. Without an inlet, another thread hears what the broker says.
    fn publish<I: Inlet>(
        &self,
        outlet: &mut impl Outlet,
        mut inlet: Option<&mut I>,
    ) -> anyhow::Result<Measured> {
        let (plan, counters) = (self.plan, self.counters);
        let pace = Pace { rate_per_second: plan.rate_per_second };
        let mut measured = Measured { is_stamped: outlet.is_stamped(), ..Measured::new()? };
        let (mut chunk, mut unconfirmed) = (Vec::with_capacity(WRITE_BYTES * 2), VecDeque::new());
        let mut sent = 0_u64;
        while !counters.stop.load(Ordering::Relaxed) {
            let told = *self.told.lock();
            let window = plan
                .confirm_window
                .map_or(u64::MAX, |window| window.saturating_sub(sent.saturating_sub(told.settled)));
            match pace.next(self.elapsed(), sent, window.min(outlet.room(sent, &told))) {
                Next::Sleep(pause) => std::thread::sleep(pause),
                Next::Hear => {
                    match &mut inlet {
                        Some(inlet) => self.hear_of_sent(*inlet, &mut unconfirmed, &mut measured)?,
                        // Whoever hears something wakes this thread.
                        None => std::thread::park_timeout(BLOCK_MAX),
                    }
                    outlet.wire().keep_alive(&counters.stop)?;
                }
                Next::Send(count_max) => {
                    let now = counters.now();
                    chunk.clear();
                    let count = self.fill(&mut chunk, outlet, (sent, count_max, now), &mut measured);
                    sent += count;
                    if plan.confirm_window.is_some() && plan.rate_per_second.is_none() {
                        unconfirmed.push_back((sent, now));
                    }
                    if !outlet.wire().write_unless(&chunk, &counters.stop)? {
                        break;
                    }
                    counters.published.fetch_add(count, Ordering::Relaxed);
                }
            }
        }
        self.finish(sent, &unconfirmed, outlet.is_stamped(), &mut measured);
        Ok(measured)
    }

    /// Appends messages from number `sent` on, at most `count_max` and as many as go in one write; how many.
    fn fill(
        &self,
        chunk: &mut Vec<u8>,
        outlet: &mut impl Outlet,
        (sent, count_max, now): (u64, u64, u64),
        measured: &mut Measured,
    ) -> u64 {
        let is_stamped = outlet.is_stamped();
        let mut count = 0;
        while count < count_max && chunk.len() < WRITE_BYTES {
            // What is late was due before: its time began then.
            let from = self.plan.rate_per_second.map_or(now, |rate| self.due(sent + count, rate));
            outlet.put(chunk, from);
            if is_stamped && self.plan.rate_per_second.is_some() {
                measured.stamps.add(from, 1);
            }
            count += 1;
        }
        if is_stamped && self.plan.rate_per_second.is_none() {
            measured.stamps.add(now, count);
        }
        count
    }

    /// What is outstanding when the measuring has ended: what was due and could not be sent, and what was sent and not
    /// confirmed.
    fn finish(
        &self,
        sent: u64,
        unconfirmed: &VecDeque<(u64, u64)>,
        is_stamped: bool,
        measured: &mut Measured,
    ) {
        let Some(end) = self.counters.ended() else { return };
        if let Some(rate) = self.plan.rate_per_second.filter(|_| is_stamped) {
            for (due, count) in bursts(sent, self.due_at_end(end, rate), rate) {
                measured.stamps.add(self.began + due.as_nanos() as u64, count);
            }
        }
        let mut settled = self.told.lock().settled;
        for (last, stamp) in unconfirmed {
            let count = last.saturating_sub(settled);
            if let Some(waited) = end.checked_sub(*stamp).filter(|_| count > 0) {
                measured.latencies.record(waited, count);
                measured.outstanding += count;
            }
            settled = settled.max(*last);
        }
    }

    /// How long ago the first message was due.
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.counters.now().saturating_sub(self.began))
    }

    /// When a message is due, in nanoseconds of the clock that consumers look at.
    fn due(&self, message: u64, rate: u64) -> u64 {
        self.began + due_at(message, rate).as_nanos() as u64
    }

    /// How many were due when the measuring ended.
    fn due_at_end(&self, end: u64, rate: u64) -> u64 {
        due_by(Duration::from_nanos(end.saturating_sub(self.began)), rate)
    }

    /// Hears what the broker says until it is to stop. Each message is timed from when it was due.
    fn hear(&self, inlet: &mut impl Inlet, publisher: &Thread) -> anyhow::Result<Measured> {
        let rate = self.plan.rate_per_second;
        let mut measured = Measured::new()?;
        let mut told = *self.told.lock();
        while !self.counters.stop.load(Ordering::Relaxed) {
            let before = told;
            inlet.hear(&mut told)?;
            if self.counters.ended().is_some() {
                // It was outstanding.
                told = before;
                break;
            }
            let now = self.counters.now();
            if let Some(rate) = rate.filter(|_| self.counters.records(now)) {
                for (due, count) in bursts(before.settled, told.settled, rate) {
                    let due = self.began + due.as_nanos() as u64;
                    measured.latencies.record(now.saturating_sub(due), count);
                }
            }
            self.note(&before, &told);
            publisher.unpark();
        }
        let ended = self.counters.ended();
        if ended.is_none() {
            last_words(inlet, &mut told)?;
        }
        if let Some((end, rate)) = ended.zip(rate).filter(|_| self.plan.confirm_window.is_some()) {
            for (due, count) in bursts(told.settled, self.due_at_end(end, rate), rate) {
                let due = self.began + due.as_nanos() as u64;
                measured.latencies.record(end.saturating_sub(due), count);
                measured.outstanding += count;
            }
        }
        Ok(measured)
    }

    /// Hears what the broker says once. Each message is timed from when it was sent.
    fn hear_of_sent(
        &self,
        inlet: &mut impl Inlet,
        unconfirmed: &mut VecDeque<(u64, u64)>,
        measured: &mut Measured,
    ) -> anyhow::Result<()> {
        let before = *self.told.lock();
        let mut told = before;
        inlet.hear(&mut told)?;
        if self.counters.ended().is_some() {
            return Ok(());
        }
        let now = self.counters.now();
        let records = self.counters.records(now);
        let mut first = before.settled;
        while let Some((last, stamp)) = unconfirmed.front().copied().filter(|_| first < told.settled) {
            let count = last.min(told.settled) - first;
            if records {
                measured.latencies.record(now.saturating_sub(stamp), count);
            }
            first += count;
            if first == last {
                unconfirmed.pop_front();
            }
        }
        self.note(&before, &told);
        Ok(())
    }

    /// Counts what the broker has told since.
    fn note(&self, before: &Told, told: &Told) {
        let refused = told.refused - before.refused;
        self.counters.refused.fetch_add(refused, Ordering::Relaxed);
        let confirmed = (told.settled - before.settled).saturating_sub(refused);
        self.counters.confirmed.fetch_add(confirmed, Ordering::Relaxed);
        *self.told.lock() = *told;
    }
}
