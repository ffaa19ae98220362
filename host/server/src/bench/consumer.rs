//! One connection that consumes, of either protocol.

use super::{Counters, Measured, Plan, Protocol, amqp10, amqp091, topology::Names, wire::Wire};
use std::sync::{Barrier, atomic::Ordering};

/// How many bytes one read takes at most.
const READ_BYTES: usize = 256 * 1024;

/// What a protocol does with deliveries.
pub(super) trait Receiver {
    /// Looks at the frames in what was read, without decoding them whole.
    ///
    /// # Errors
    /// If the broker ended something.
    fn scan(&mut self, bytes: &[u8], pass: &mut Pass) -> anyhow::Result<()>;

    /// Appends what the broker is to be told after that: acknowledgements, credit.
    fn answer(&mut self, out: &mut Vec<u8>);

    /// Where it reads and writes.
    fn wire(&mut self) -> &mut Wire;
}

/// What one pass over the read bytes found.
#[derive(Default)]
pub(super) struct Pass {
    /// Deliveries.
    pub(super) deliveries: u64,
    /// The times in their bodies, and how many in a row have it.
    stamps: Vec<(u64, u64)>,
    /// Bytes of whole frames.
    pub(super) used: usize,
}

impl Pass {
    /// A body has that time.
    #[inline]
    pub(super) fn stamp(&mut self, body: &[u8]) {
        let Some(stamp) = body.first_chunk() else { return };
        let stamp = u64::from_le_bytes(*stamp);
        match self.stamps.last_mut() {
            Some((last, count)) if *last == stamp => *count += 1,
            _ => self.stamps.push((stamp, 1)),
        }
    }
}

/// Consumes until it is to stop. Gives how long deliveries took, and when those were sent that came.
pub(super) fn run(
    plan: &Plan,
    names: &Names,
    index: usize,
    counters: &Counters,
    ready: &Barrier,
) -> anyhow::Result<Measured> {
    let queue = &names.queues[index % names.queues.len()];
    let run = || match plan.target.protocol {
        Protocol::Amqp091 => {
            let prepared = amqp091::consumer(plan, queue, &counters.patience());
            ready.wait();
            consume(counters, prepared?)
        }
        Protocol::Amqp10 => {
            let prepared = amqp10::consumer(plan, queue, &counters.patience());
            ready.wait();
            consume(counters, prepared?)
        }
    };
    run().inspect_err(|_| counters.stop())
}

fn consume(counters: &Counters, mut receiver: impl Receiver) -> anyhow::Result<Measured> {
    let mut measured = Measured::new()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let (mut pass, mut answer) = (Pass::default(), Vec::new());
    while !counters.stop.load(Ordering::Relaxed) {
        let Some(count) = receiver.wire().read_unless(&mut buffer[filled..], &counters.stop)? else {
            break;
        };
        filled += count;
        pass = Pass { stamps: std::mem::take(&mut pass.stamps), ..Pass::default() };
        pass.stamps.clear();
        receiver.scan(&buffer[..filled], &mut pass)?;
        buffer.copy_within(pass.used..filled, 0);
        filled -= pass.used;
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        counters.consumed.fetch_add(pass.deliveries, Ordering::Relaxed);
        if counters.ended().is_some() {
            // They were outstanding.
            break;
        }
        let now = counters.now();
        let records = counters.records(now);
        // What is no time of this run is somebody else's.
        for (stamp, count) in pass.stamps.iter().filter(|(stamp, _)| *stamp <= now) {
            measured.stamps.add(*stamp, *count);
            if records {
                measured.latencies.record(now.saturating_sub(*stamp), *count);
            }
        }
        answer.clear();
        receiver.answer(&mut answer);
        receiver.wire().write_unless(&answer, &counters.stop)?;
        receiver.wire().keep_alive(&counters.stop)?;
    }
    receiver.wire().drop_socket();
    Ok(measured)
}
