//! One connection that consumes: counts deliveries frame by frame without decoding them whole.
//!
//! ```text
//! frame: type u8 | channel u16 | length u32 | payload | 0xce
//! basic.deliver payload: class 60 u16 | method 60 u16 | tag length u8, tag | delivery-tag u64 | …
//! ```

use super::{AckMode, Counters, Plan, link::Link, topology::Names};
use anyhow::bail;
use hdrhistogram::Histogram;
use std::{
    sync::{Barrier, atomic::Ordering},
    time::Instant,
};

/// How many bytes one read takes at most.
const READ_BYTES: usize = 256 * 1024;
const FRAME_METHOD: u8 = 1;
const FRAME_BODY: u8 = 3;
const BASIC_DELIVER: [u8; 4] = [0, 60, 0, 60];
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
const CONNECTION_CLOSE: [u8; 4] = [0, 10, 0, 50];

/// What one pass over the read bytes found.
#[derive(Default)]
struct Pass {
    deliveries: u64,
    last_tag: u64,
    /// The publish time in the last body seen.
    stamps: Vec<u64>,
    used: usize,
}

pub(super) fn run(
    plan: &Plan,
    names: &Names,
    index: usize,
    counters: &Counters,
    ready: &Barrier,
    epoch: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let queue = &names.queues[index % names.queues.len()];
    let link = prepare(plan, queue);
    ready.wait();
    let mut link = link?;
    let mut latencies = super::latency_histogram()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let mut unacked = 0;
    let mut pass = Pass::default();
    while !counters.stop.load(Ordering::Relaxed) {
        let Some(count) = link.read_unless(&mut buffer[filled..], &counters.stop)? else {
            break;
        };
        filled += count;
        scan(&buffer[..filled], plan.body_bytes, &mut pass)?;
        buffer.copy_within(pass.used..filled, 0);
        filled -= pass.used;
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        counters.consumed.fetch_add(pass.deliveries, Ordering::Relaxed);
        if counters.measuring.load(Ordering::Relaxed) {
            let now = epoch.elapsed().as_nanos() as u64;
            for stamp in &pass.stamps {
                latencies.saturating_record(now.saturating_sub(*stamp));
            }
        }
        if let AckMode::Every(each) = plan.ack {
            unacked += pass.deliveries;
            link.ack(&mut unacked, each, pass.last_tag)?;
        }
    }
    link.drop_socket();
    Ok(latencies)
}

fn prepare(plan: &Plan, queue: &str) -> anyhow::Result<Link> {
    let mut link = Link::open(&plan.target)?;
    let no_ack = plan.ack == AckMode::Auto;
    if !no_ack && plan.prefetch > 0 {
        link.qos(plan.prefetch)?;
    }
    link.consume(queue, no_ack)?;
    Ok(link)
}

fn scan(bytes: &[u8], body_bytes: usize, pass: &mut Pass) -> anyhow::Result<()> {
    *pass = Pass { stamps: std::mem::take(&mut pass.stamps), last_tag: pass.last_tag, ..Pass::default() };
    pass.stamps.clear();
    while let Some((header, rest)) = bytes[pass.used..].split_first_chunk::<7>() {
        let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        if rest.len() == length {
            break;
        }
        match header[0] {
            FRAME_METHOD => match payload.get(..4) {
                Some(id) if id == BASIC_DELIVER => {
                    let tag_bytes = payload.get(4).map_or(0, |length| usize::from(*length));
                    if let Some(tag) = payload.get(5 + tag_bytes..).and_then(|rest| rest.first_chunk()) {
                        pass.last_tag = u64::from_be_bytes(*tag);
                    }
                    pass.deliveries += 1;
                }
                Some(id) if id == CHANNEL_CLOSE || id == CONNECTION_CLOSE => {
                    bail!("the broker closed a consumer: {}", String::from_utf8_lossy(&payload[4..]));
                }
                _ => {}
            },
            FRAME_BODY if length == body_bytes => {
                if let Some(stamp) = payload.first_chunk() {
                    pass.stamps.push(u64::from_le_bytes(*stamp));
                }
            }
            _ => {}
        }
        pass.used += header.len() + length + 1;
    }
    Ok(())
}
