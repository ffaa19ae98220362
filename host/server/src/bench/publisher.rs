//! One connection that publishes.

use super::{
    Counters, Plan,
    link::{CHANNEL, FRAME_BYTES_MAX, Link},
    topology::Names,
};
use leveret_amqp091::client::put_publish;
use std::{
    sync::{Barrier, atomic::Ordering},
    time::{Duration, Instant},
};

/// How many bytes go in one write, about.
const WRITE_BYTES: usize = 64 * 1024;
/// With a rate, how often messages are written.
const PACE: Duration = Duration::from_millis(1);

/// A message ready to be sent, for one routing key.
struct Template {
    bytes: Vec<u8>,
    /// Where the time goes, if the body has room for it.
    stamp_at: Option<usize>,
}

pub(super) fn run(
    plan: &Plan,
    names: &Names,
    index: usize,
    counters: &Counters,
    ready: &Barrier,
    epoch: Instant,
) -> anyhow::Result<()> {
    let link = prepare(plan);
    ready.wait();
    let mut link = link?;
    let templates: Vec<Template> = names.keys.iter().map(|key| template(plan, names, key)).collect();
    let mut next = index % templates.len();
    let mut chunk = Vec::with_capacity(WRITE_BYTES * 2);
    let mut sent = 0_u64;
    let mut confirmed = 0_u64;
    let began = Instant::now();
    while !counters.stop.load(Ordering::Relaxed) {
        let mut allowed = u64::MAX;
        if let Some(window) = plan.confirm_window {
            if sent - confirmed >= window {
                let confirms = link.read_confirms(confirmed)?;
                counters.refused.fetch_add(confirms.refused, Ordering::Relaxed);
                counters.confirmed.fetch_add(confirms.up_to - confirmed, Ordering::Relaxed);
                confirmed = confirms.up_to;
                continue;
            }
            allowed = window - (sent - confirmed);
        }
        if let Some(rate) = plan.rate_per_second {
            let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
            if due <= sent {
                std::thread::sleep(PACE);
                continue;
            }
            allowed = allowed.min(due - sent);
        }
        let stamp = (epoch.elapsed().as_nanos() as u64).to_le_bytes();
        let mut count = 0;
        chunk.clear();
        while count < allowed && chunk.len() < WRITE_BYTES {
            let template = &templates[next];
            next = if next + 1 == templates.len() { 0 } else { next + 1 };
            let at = chunk.len();
            chunk.extend_from_slice(&template.bytes);
            if let Some(stamp_at) = template.stamp_at {
                chunk[at + stamp_at..at + stamp_at + stamp.len()].copy_from_slice(&stamp);
            }
            count += 1;
        }
        if !link.write_unless(&chunk, &counters.stop)? {
            break;
        }
        sent += count;
        counters.published.fetch_add(count, Ordering::Relaxed);
    }
    // Half a message may have gone out when the broker was not reading; then there is no clean end.
    link.drop_socket();
    Ok(())
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
