//! One connection that publishes.

use super::{
    Counters, Plan,
    link::{CHANNEL, Confirms, FRAME_BYTES_MAX, Link},
    topology::Names,
};
use hdrhistogram::Histogram;
use leveret_amqp091::client::put_publish;
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How many bytes go in one write, about.
const WRITE_BYTES: usize = 64 * 1024;

/// A message ready to be sent, for one routing key.
struct Template {
    bytes: Vec<u8>,
    /// Where the time goes, if the body has room for it.
    stamp_at: Option<usize>,
}

/// What the publishing side and the one that reads confirms share.
struct Flow<'a> {
    plan: &'a Plan,
    counters: &'a Counters,
    epoch: Instant,
    /// When the first message is due.
    began: Instant,
    confirmed: AtomicU64,
}

/// Publishes until it is to stop. Gives how long confirms took.
pub(super) fn run(
    plan: &Plan,
    names: &Names,
    index: usize,
    counters: &Counters,
    ready: &Barrier,
    epoch: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let link = prepare(plan);
    ready.wait();
    let mut link = link?;
    let templates: Vec<Template> = names.keys.iter().map(|key| template(plan, names, key)).collect();
    let first = index % templates.len();
    let flow = Flow { plan, counters, epoch, began: Instant::now(), confirmed: AtomicU64::new(0) };
    let latencies = match plan.rate_per_second.filter(|_| plan.confirm_window.is_some()) {
        None => flow.publish(&mut link, &templates, first)?,
        // Confirms are read as they come, whether it is time to publish or not.
        Some(rate) => {
            let mut reader = link.beside()?;
            std::thread::scope(|scope| {
                let reading = scope.spawn(|| flow.read_confirms(&mut reader, rate));
                let published = flow.publish(&mut link, &templates, first);
                if published.is_err() {
                    counters.stop.store(true, Ordering::Relaxed);
                }
                let read = reading.join().map_err(|_| anyhow::anyhow!("a reader of confirms panicked"))?;
                published.and(read)
            })?
        }
    };
    // Half a message may have gone out when the broker was not reading; then there is no clean end.
    link.drop_socket();
    Ok(latencies)
}

impl Flow<'_> {
    fn publish(
        &self,
        link: &mut Link,
        templates: &[Template],
        first: usize,
    ) -> anyhow::Result<Histogram<u64>> {
        let (plan, counters) = (self.plan, self.counters);
        let mut latencies = super::latency_histogram()?;
        let (mut chunk, mut stamps) = (Vec::with_capacity(WRITE_BYTES * 2), VecDeque::new());
        let (mut next, mut sent) = (first, 0_u64);
        while !counters.stop.load(Ordering::Relaxed) {
            let confirmed = self.confirmed.load(Ordering::Relaxed);
            let allowed =
                plan.confirm_window.map_or(u64::MAX, |window| window.saturating_sub(sent - confirmed));
            if allowed == 0 && plan.rate_per_second.is_none() {
                let confirms = self.take(link.read_confirms(confirmed)?, confirmed);
                self.record_sent(&mut latencies, &mut stamps, confirmed..confirms);
                continue;
            }
            let due = plan.rate_per_second.map_or(u64::MAX, |rate| due_by(self.began.elapsed(), rate));
            let count_max = allowed.min(due.saturating_sub(sent));
            if count_max == 0 {
                sleep_until_next_tick(self.began);
                continue;
            }
            let stamp = self.epoch.elapsed().as_nanos() as u64;
            let mut count = 0;
            chunk.clear();
            while count < count_max && chunk.len() < WRITE_BYTES {
                let template = &templates[next];
                next = if next + 1 == templates.len() { 0 } else { next + 1 };
                let at = chunk.len();
                chunk.extend_from_slice(&template.bytes);
                if let Some(stamp_at) = template.stamp_at {
                    chunk[at + stamp_at..at + stamp_at + 8].copy_from_slice(&stamp.to_le_bytes());
                }
                count += 1;
            }
            if !link.write_unless(&chunk, &counters.stop)? {
                break;
            }
            sent += count;
            if plan.confirm_window.is_some() && plan.rate_per_second.is_none() {
                stamps.push_back((sent, stamp));
            }
            counters.published.fetch_add(count, Ordering::Relaxed);
        }
        Ok(latencies)
    }

    /// Reads confirms until it is to stop. Each message is timed from when it was due.
    fn read_confirms(&self, link: &mut Link, rate: u64) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = super::latency_histogram()?;
        while !self.counters.stop.load(Ordering::Relaxed) {
            let confirmed = self.confirmed.load(Ordering::Relaxed);
            let up_to = self.take(link.read_confirms(confirmed)?, confirmed);
            let now = self.began.elapsed();
            if self.counters.measuring.load(Ordering::Relaxed) {
                for message in confirmed..up_to {
                    latencies.saturating_record(now.saturating_sub(due_at(message, rate)).as_nanos() as u64);
                }
            }
        }
        Ok(latencies)
    }

    /// Counts confirms; gives up to which message all are.
    fn take(&self, confirms: Confirms, before: u64) -> u64 {
        self.counters.refused.fetch_add(confirms.refused, Ordering::Relaxed);
        self.counters.confirmed.fetch_add(confirms.up_to - before, Ordering::Relaxed);
        self.confirmed.store(confirms.up_to, Ordering::Relaxed);
        confirms.up_to
    }

    /// Times messages that are confirmed now from when they were sent.
    fn record_sent(
        &self,
        latencies: &mut Histogram<u64>,
        stamps: &mut VecDeque<(u64, u64)>,
        mut confirmed: Range<u64>,
    ) {
        let now = self.epoch.elapsed().as_nanos() as u64;
        while let Some((end, stamp)) = stamps.front().copied().filter(|_| !confirmed.is_empty()) {
            let count = end.min(confirmed.end) - confirmed.start;
            if self.counters.measuring.load(Ordering::Relaxed) {
                latencies.saturating_record_n(now.saturating_sub(stamp), count);
            }
            confirmed.start += count;
            if confirmed.start == end {
                stamps.pop_front();
            }
        }
    }
}

/// How many messages are due after that time: a burst each millisecond.
fn due_by(elapsed: Duration, rate: u64) -> u64 {
    (elapsed.as_millis() * u128::from(rate) / 1000) as u64
}

/// When a message is due, counted from 0.
fn due_at(message: u64, rate: u64) -> Duration {
    Duration::from_millis(((message + 1) * 1000).div_ceil(rate))
}

fn sleep_until_next_tick(began: Instant) {
    let elapsed = began.elapsed();
    std::thread::sleep(Duration::from_millis(elapsed.as_millis() as u64 + 1).saturating_sub(elapsed));
}

fn prepare(plan: &Plan) -> anyhow::Result<Link> {
    let mut link = Link::open(plan)?;
    if plan.confirm_window.is_some() {
        link.confirm_select()?;
    }
    Ok(link)
}

fn template(plan: &Plan, names: &Names, key: &str) -> Template {
    let delivery_mode = if plan.persistent { 2 } else { 1 };
    let body = vec![b'x'; plan.body_bytes];
    let mut bytes = Vec::new();
    // content-type is left out; delivery-mode is the one property (bit 12 of the flags).
    let properties = [0x10, 0x00, delivery_mode];
    let (exchange, key) = (names.exchange.as_bytes(), key.as_bytes());
    put_publish(&mut bytes, CHANNEL, exchange, key, &properties, &body, FRAME_BYTES_MAX);
    // The body frame is last when the body fits one frame: its content ends before the end octet.
    let fits = plan.body_bytes >= 8 && plan.body_bytes + 8 <= FRAME_BYTES_MAX as usize;
    let stamp_at = fits.then(|| bytes.len() - 1 - plan.body_bytes);
    Template { bytes, stamp_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_with_the_burst_that_it_goes_with() {
        for rate in [1, 3, 999, 1000, 1001, 250_000] {
            for message in [0, 1, 2, 998, 999, 1000, 123_456] {
                let due = due_at(message, rate);
                assert!(due_by(due, rate) > message, "{message} at {rate}");
                assert!(due_by(due - Duration::from_millis(1), rate) <= message, "{message} at {rate}");
            }
        }
    }
}
