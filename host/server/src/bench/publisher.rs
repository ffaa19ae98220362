//! One connection that publishes.

use super::{
    Counters, KeyOrder, Plan,
    keys::Numbers,
    link::{CHANNEL, Confirms, FRAME_BYTES_MAX, Link},
    topology::{self, Names},
};
use hdrhistogram::Histogram;
use leveret_amqp091::{Method, client::put_publish, frame, properties::MessageProperties};
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

/// What is sent, message after message.
struct Messages<'a> {
    plan: &'a Plan,
    names: &'a Names,
    numbers: Numbers,
    /// For each key what goes before the body, if keys come again.
    heads: Vec<Box<[u8]>>,
    /// The frames of the body.
    body: Vec<u8>,
    /// Whether the body has room for a time.
    is_stamped: bool,
    /// Used again for each key that is new.
    key: String,
}

impl<'a> Messages<'a> {
    fn new(plan: &'a Plan, names: &'a Names, index: usize) -> anyhow::Result<Self> {
        let numbers = Numbers::new(plan.key_order, plan.keys, index, plan.publishers)?;
        let mut body = Vec::new();
        frame::put_body(&mut body, CHANNEL, &vec![b'x'; plan.body_bytes], FRAME_BYTES_MAX);
        // The body frame is last when the body fits one frame: its content ends before the end octet.
        let is_stamped = plan.body_bytes >= 8 && plan.body_bytes + 8 <= FRAME_BYTES_MAX as usize;
        let mut messages =
            Self { plan, names, numbers, heads: Vec::new(), body, is_stamped, key: String::new() };
        if plan.key_order != KeyOrder::New {
            messages.heads = (0..plan.keys as u64).map(|number| messages.head(number)).collect();
        }
        Ok(messages)
    }

    /// What goes before the body with key number `number`.
    fn head(&mut self, number: u64) -> Box<[u8]> {
        self.names.put_key(self.plan, number, &mut self.key);
        let exchange = self.names.exchange.as_bytes();
        let mut head = Vec::new();
        let publish = Method::BasicPublish {
            exchange,
            routing_key: self.key.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        frame::put_method(&mut head, CHANNEL, &publish);
        let properties = properties(self.plan, &self.key);
        frame::put_header(&mut head, CHANNEL, &properties, self.plan.body_bytes as u64);
        head.into()
    }

    /// Appends the next message, with that time in it.
    #[inline]
    fn put(&mut self, chunk: &mut Vec<u8>, stamp: u64) {
        let number = self.numbers.next();
        match self.heads.get(number as usize) {
            Some(head) => chunk.extend_from_slice(head),
            None => {
                let head = self.head(number);
                chunk.extend_from_slice(&head);
            }
        }
        chunk.extend_from_slice(&self.body);
        if self.is_stamped {
            let at = chunk.len() - 1 - self.plan.body_bytes;
            chunk[at..at + 8].copy_from_slice(&stamp.to_le_bytes());
        }
    }
}

/// Appends a transient message to that queue, with nothing in it but its body.
pub(super) fn put_message(chunk: &mut Vec<u8>, queue: &[u8], body: &[u8]) {
    let properties = MessageProperties { delivery_mode: Some(1), ..MessageProperties::default() }.encode();
    put_publish(chunk, CHANNEL, b"", queue, &properties, body, FRAME_BYTES_MAX);
}

/// The properties of a message with that key: how durable it is, and headers where the exchange looks at them.
fn properties(plan: &Plan, key: &str) -> Vec<u8> {
    let delivery_mode = Some(if plan.persistent { 2 } else { 1 });
    let headers = topology::message_headers(plan, key);
    MessageProperties { delivery_mode, headers, ..MessageProperties::default() }.encode()
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
    let prepared = prepare(plan).and_then(|link| Ok((link, Messages::new(plan, names, index)?)));
    ready.wait();
    let (mut link, mut messages) = prepared?;
    let flow = Flow { plan, counters, epoch, began: Instant::now(), confirmed: AtomicU64::new(0) };
    let latencies = match plan.rate_per_second.filter(|_| plan.confirm_window.is_some()) {
        None => flow.publish(&mut link, &mut messages)?,
        // Confirms are read as they come, whether it is time to publish or not.
        Some(rate) => {
            let mut reader = link.beside()?;
            std::thread::scope(|scope| {
                let reading = scope.spawn(|| flow.read_confirms(&mut reader, rate));
                let published = flow.publish(&mut link, &mut messages);
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
    fn publish(&self, link: &mut Link, messages: &mut Messages<'_>) -> anyhow::Result<Histogram<u64>> {
        let (plan, counters) = (self.plan, self.counters);
        let mut latencies = super::latency_histogram()?;
        let (mut chunk, mut stamps) = (Vec::with_capacity(WRITE_BYTES * 2), VecDeque::new());
        let mut sent = 0_u64;
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
            let now = self.epoch.elapsed().as_nanos() as u64;
            let mut count = 0;
            chunk.clear();
            while count < count_max && chunk.len() < WRITE_BYTES {
                // What is late was due before: its time began then.
                let from = plan.rate_per_second.map_or(now, |rate| self.due_after_epoch(sent + count, rate));
                messages.put(&mut chunk, from);
                count += 1;
            }
            if !link.write_unless(&chunk, &counters.stop)? {
                break;
            }
            sent += count;
            if plan.confirm_window.is_some() && plan.rate_per_second.is_none() {
                stamps.push_back((sent, now));
            }
            counters.published.fetch_add(count, Ordering::Relaxed);
        }
        Ok(latencies)
    }

    /// When a message is due, in nanoseconds of the clock that consumers look at.
    fn due_after_epoch(&self, message: u64, rate: u64) -> u64 {
        (self.began.saturating_duration_since(self.epoch) + due_at(message, rate)).as_nanos() as u64
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
        let confirmed = (confirms.up_to - before).saturating_sub(confirms.refused);
        self.counters.confirmed.fetch_add(confirmed, Ordering::Relaxed);
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
    let mut link = Link::open(&plan.target)?;
    if plan.confirm_window.is_some() {
        link.confirm_select()?;
    }
    Ok(link)
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
