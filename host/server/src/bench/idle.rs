//! What things that are merely there cost a broker in memory: makes many, looks at its process, takes them away again.

use super::{Target, counting::Usage, link::Link, publisher::put_message};
use anyhow::{Context, bail};
use clap::ValueEnum;
use leveret_amqp091::Method;
use leveret_model::Table;
use serde::Serialize;
use std::{fmt, sync::atomic::AtomicBool, time::Duration};

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Connections, each with a channel
    Connections,
    /// Durable queues, empty
    Queues,
    /// Bindings of one queue to a topic exchange
    Bindings,
    /// Transient messages in one queue
    Messages,
}

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub target: Target,
    /// Its process; one on this machine.
    pub broker_process: u32,
    /// What is there.
    pub what: What,
    /// How many.
    pub count: u64,
    /// Bytes of a message's body.
    pub body_bytes: usize,
    /// How long the broker has to come to rest, before and after.
    pub settle: Duration,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Memory of the broker's process before, in bytes.
    pub before_bytes: u64,
    /// And when all were there.
    pub after_bytes: u64,
    /// How many there were.
    pub count: u64,
    /// How much of it is each one's; less than nothing if the broker gave memory back meanwhile.
    pub bytes_each: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (before, after) = (mebibytes(self.before_bytes), mebibytes(self.after_bytes));
        write!(
            f,
            "{:<22} {before:.1} MiB before, {after:.1} MiB with {}",
            "memory of the broker", self.count
        )?;
        write!(f, "\n{:<22} {:>12.0} bytes", "each", self.bytes_each)
    }
}

/// Runs it. `live` gets a line for each step.
///
/// # Errors
/// If the broker cannot be reached or refuses something, or its process is not to be seen.
pub fn run(plan: &Plan, live: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let memory = || {
        std::thread::sleep(plan.settle);
        let usage = Usage::of(plan.broker_process);
        usage
            .map(|usage| usage.memory_bytes)
            .with_context(|| format!("no process {} here", plan.broker_process))
    };
    let mut link = Link::open(&plan.target)?;
    let queue = format!("bench.{}.idle", std::process::id());
    // What the first of its kind costs is not each one's.
    declare(&mut link, &queue)?;
    live("before");
    let before_bytes = memory()?;
    live("making");
    let held = make(plan, &mut link, &queue)?;
    live("there");
    let after_bytes = memory();
    live("taking away");
    for link in held {
        link.close()?;
    }
    if plan.what == What::Queues {
        (0..plan.count).try_for_each(|number| delete(&mut link, &format!("{queue}.{number}")))?;
    }
    delete(&mut link, &queue)?;
    link.close()?;
    let after_bytes = after_bytes?;
    let bytes_each = (after_bytes as f64 - before_bytes as f64) / plan.count as f64;
    Ok(Report { before_bytes, after_bytes, count: plan.count, bytes_each })
}

/// Makes them; gives the connections that are to stay.
fn make(plan: &Plan, link: &mut Link, queue: &str) -> anyhow::Result<Vec<Link>> {
    match plan.what {
        What::Connections => return (0..plan.count).map(|_| Link::open(&plan.target)).collect(),
        What::Queues => {
            (0..plan.count).try_for_each(|number| declare(link, &format!("{queue}.{number}")))?;
        }
        What::Bindings => (0..plan.count).try_for_each(|number| {
            link.call(Method::QueueBind {
                queue: queue.as_bytes(),
                exchange: b"amq.topic",
                routing_key: format!("idle.{number}.*").as_bytes(),
                nowait: false,
                arguments: Table::new(),
            })
        })?,
        What::Messages => publish(plan, link, queue)?,
    }
    Ok(Vec::new())
}

fn publish(plan: &Plan, link: &mut Link, queue: &str) -> anyhow::Result<()> {
    /// Messages of one write.
    const TOGETHER: u64 = 100;
    let body = vec![b'x'; plan.body_bytes];
    link.confirm_select()?;
    let (mut sent, mut confirmed) = (0, 0);
    let mut chunk = Vec::new();
    while sent < plan.count {
        chunk.clear();
        let count = TOGETHER.min(plan.count - sent);
        (0..count).for_each(|_| put_message(&mut chunk, queue.as_bytes(), &body));
        link.write_unless(&chunk, &AtomicBool::new(false))?;
        sent += count;
        // All but one write are confirmed: so many are under way at most.
        while confirmed + TOGETHER < sent || (sent == plan.count && confirmed < sent) {
            let confirms = link.read_confirms(confirmed)?;
            if confirms.refused > 0 {
                bail!("the broker refused messages");
            }
            confirmed = confirms.up_to;
        }
    }
    Ok(())
}

fn declare(link: &mut Link, queue: &str) -> anyhow::Result<()> {
    link.call(Method::QueueDeclare {
        queue: queue.as_bytes(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Table::new(),
    })
}

fn delete(link: &mut Link, queue: &str) -> anyhow::Result<()> {
    let queue = queue.as_bytes();
    link.call(Method::QueueDelete { queue, if_unused: false, if_empty: false, nowait: false })
}
