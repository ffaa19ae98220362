//! What things that are merely there cost a broker in memory: makes many, looks at its process, takes them away again.

use super::{
    Interrupt, Protocol, Say, Target, amqp10,
    amqp091::{Link, put_message},
    publisher::{Inlet, Told},
    topology::run_name,
    usage::Usage,
    wire::Patience,
};
use anyhow::{Context, bail};
use clap::ValueEnum;
use leveret_amqp10::form::address;
use leveret_amqp091::Method;
use leveret_model::Table;
use serde::Serialize;
use std::{fmt, time::Duration};

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Connections, each with a channel; of AMQP 1.0 each with a session and a link each way
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
    /// How much CPU time it took the broker to make one, in microseconds.
    pub cpu_us_each: f64,
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
        write!(f, "\n{:<22} {:>12.0} bytes, {:.2} µs of CPU time", "each", self.bytes_each, self.cpu_us_each)
    }
}

/// Runs it. `live` gets a line for each step, and `say` what came out, before anything is removed.
///
/// # Errors
/// If the broker cannot be reached or refuses something, its process is not to be seen, or it is interrupted. What was
/// made is removed then too.
pub fn run(
    plan: &Plan,
    interrupt: &Interrupt,
    live: &mut dyn FnMut(&str),
    say: &mut Say<'_, Report>,
) -> anyhow::Result<()> {
    let link = Link::open(&plan.target, &Patience::until(interrupt))?;
    let queue = format!("{}.idle", run_name()?);
    let measured = measure(plan, (link, &queue), interrupt, live);
    let result = measured.and_then(|(report, held, link)| {
        say(&report)?;
        held.into_iter().try_for_each(Connection::close)?;
        link.close()
    });
    live("taking away");
    super::with_removed(result, remove(plan, &queue, &Patience::in_spite_of(interrupt)), interrupt)
}

/// Gives what came out when all is there, and the connections that are there then; the rest is to be removed too.
fn measure(
    plan: &Plan,
    (mut link, queue): (Link, &str),
    interrupt: &Interrupt,
    live: &mut dyn FnMut(&str),
) -> anyhow::Result<(Report, Vec<Connection>, Link)> {
    let used = || {
        let usage = Usage::of(plan.broker_process);
        usage.with_context(|| format!("no process {} here", plan.broker_process))
    };
    let at_rest = || {
        interrupt.sleep_unless(plan.settle, || false);
        interrupt.check()?;
        used()
    };
    // What the first of its kind costs is not each one's.
    declare(&mut link, queue)?;
    live("before");
    let before = at_rest()?;
    live("making");
    let held = make(plan, (&mut link, queue), interrupt)?;
    let made = used()?;
    live("there");
    let after = at_rest()?;
    let (before_bytes, after_bytes) = (before.memory_bytes, after.memory_bytes);
    let bytes_each = (after_bytes as f64 - before_bytes as f64) / plan.count as f64;
    let cpu_us_each = made.cpu_seconds_since(&before) * 1e6 / plan.count as f64;
    let report = Report { before_bytes, after_bytes, count: plan.count, bytes_each, cpu_us_each };
    Ok((report, held, link))
}

/// Removes what is there of it.
fn remove(plan: &Plan, queue: &str, patience: &Patience) -> anyhow::Result<()> {
    let mut link = Link::open(&plan.target, patience)?;
    if plan.what == What::Queues {
        for number in 0..plan.count {
            link.put(&deleted(&format!("{queue}.{number}"), true))?;
        }
        link.wait_for_all()?;
    }
    link.call(deleted(queue, false))?;
    link.close()
}

/// One that stays.
enum Connection {
    Amqp091(Link),
    Amqp10(amqp10::Link),
}

impl Connection {
    fn open(plan: &Plan, queue: &str, patience: &Patience) -> anyhow::Result<Self> {
        if plan.target.protocol == Protocol::Amqp091 {
            return Ok(Self::Amqp091(Link::open(&plan.target, patience)?));
        }
        let mut link = amqp10::Link::open(&plan.target, patience)?;
        let address = address::of_queue(queue.as_bytes());
        link.send_to(Some(&address), false)?;
        link.receive_from(&address, false)?;
        Ok(Self::Amqp10(link))
    }

    fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Amqp091(link) => link.close(),
            Self::Amqp10(link) => link.close(),
        }
    }
}

/// Makes them; gives the connections that are to stay.
fn make(
    plan: &Plan,
    (link, queue): (&mut Link, &str),
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Connection>> {
    match plan.what {
        What::Connections => {
            let patience = Patience::until(interrupt);
            let open = |_| Connection::open(plan, queue, &patience);
            return (0..plan.count).map(open).collect();
        }
        What::Queues => {
            for number in 0..plan.count {
                interrupt.check()?;
                link.put(&declared(&format!("{queue}.{number}"), true))?;
            }
            link.wait_for_all()?;
        }
        What::Bindings => {
            for number in 0..plan.count {
                interrupt.check()?;
                link.put(&Method::QueueBind {
                    queue: queue.as_bytes(),
                    exchange: b"amq.topic",
                    routing_key: format!("idle.{number}.*").as_bytes(),
                    nowait: true,
                    arguments: Table::new(),
                })?;
            }
            link.wait_for_all()?;
        }
        What::Messages => publish(plan, (link, queue), interrupt)?,
    }
    Ok(Vec::new())
}

fn publish(plan: &Plan, (link, queue): (&mut Link, &str), interrupt: &Interrupt) -> anyhow::Result<()> {
    /// Messages of one write.
    const TOGETHER: u64 = 100;
    let body = vec![b'x'; plan.body_bytes];
    link.confirm_select()?;
    let (mut sent, mut told) = (0, Told::default());
    let mut chunk = Vec::new();
    while sent < plan.count {
        interrupt.check()?;
        chunk.clear();
        let count = TOGETHER.min(plan.count - sent);
        (0..count).for_each(|_| put_message(&mut chunk, queue.as_bytes(), &body, link.frame_bytes_max));
        link.write(&chunk)?;
        sent += count;
        // All but one write are confirmed: so many are under way at most.
        while told.settled + TOGETHER < sent || (sent == plan.count && told.settled < sent) {
            interrupt.check()?;
            link.hear(&mut told)?;
            if told.refused > 0 {
                bail!("the broker refused messages");
            }
        }
    }
    Ok(())
}

fn declare(link: &mut Link, queue: &str) -> anyhow::Result<()> {
    link.call(declared(queue, false))
}

fn declared(queue: &str, nowait: bool) -> Method<'_> {
    Method::QueueDeclare {
        queue: queue.as_bytes(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait,
        arguments: Table::new(),
    }
}

fn deleted(queue: &str, nowait: bool) -> Method<'_> {
    Method::QueueDelete { queue: queue.as_bytes(), if_unused: false, if_empty: false, nowait }
}
