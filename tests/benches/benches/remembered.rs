//! How much memory a process has for remembered answers, beside what they are charged for: 40 exchanges on two
//! workers, each asked about more keys than its memory of answers has room for.
//!
//! ```text
//! cargo bench -p leveret-benches --bench remembered
//! ```
//!
//! Once with the total that a virtual host has by default, once with room for all that 40 exchanges may have on
//! two workers. Resident memory is read from `/proc/self/status` before the first key and when all are told of;
//! messages are routed and put into no queue, so what grows is the memory of answers and what comes with it: the
//! exchanges' entries, an allocator's slack. A process for each case, so that neither has the other's leftovers.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a measurement that fails panics, and prints")]

use leveret_benches::{Numbers, Publisher, World, messages};
use leveret_model::{MessageView, Name, Table};
use leveret_plugin::{
    HostConfig,
    policy::{Policies, PolicyRules, TotalRules, VhostRules},
};
use std::{process::Command, sync::Arc};

const EXCHANGES: usize = 40;
const WORKERS: usize = 2;
/// Patterns of each exchange.
const BINDINGS: usize = 100;
/// Keys of some twenty bytes: more than there is room for.
const KEYS: usize = 150_000;
const CHUNK: usize = 64;
/// More than so much more than is charged is a defect: what is charged is all that grows with the answers.
const FACTOR_MAX: f64 = 1.25;
const BESIDE_BYTES_MAX: u64 = 16 << 20;

/// What this process has in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line about it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// All keys, in an order that is another for each exchange.
fn keys() -> Vec<MessageView<'static>> {
    let properties = leveret_amqp091::properties::NONE.to_vec();
    let mut numbers = Numbers::new();
    let keys = (0..KEYS).map(|number| format!("orders.{}.{number:08}", numbers.below(BINDINGS)));
    messages(keys.map(|key| (key, properties.clone())))
}

fn measure(total_mib: Option<u64>) {
    let totals = TotalRules { remembered_mib: total_mib, ..TotalRules::default() };
    let vhost = VhostRules { totals, ..VhostRules::default() };
    let rules = PolicyRules {
        vhosts: [(Name::from_static("/"), vhost)].into_iter().collect(),
        remembered_mib: total_mib,
        ..PolicyRules::default()
    };
    let policies = Arc::new(Policies::new(rules).expect("rules"));
    let world = World::of(HostConfig { workers: WORKERS, policies, ..HostConfig::default() });
    let keys = keys();
    let mut worker = world.host.worker(0);
    for exchange in 0..EXCHANGES {
        let name = format!("x{exchange}");
        world.declare(&mut worker, &name, "topic");
        for number in 0..BINDINGS {
            let bound = world.bind(&mut worker, &name, number, &format!("orders.{number}.*"), Table::new());
            bound.expect("the binding is taken");
        }
    }
    let workers = [worker].into_iter().chain((1..WORKERS).map(|number| world.host.worker(number)));
    let mut publishers: Vec<Publisher> =
        workers.map(|worker| Publisher::new(&world, worker, world.exchange("x0"))).collect();
    // Instances, and a first entry each.
    let tell = |publishers: &mut Vec<Publisher>, keys: &[MessageView<'_>]| {
        for exchange in 0..EXCHANGES {
            for publisher in &mut *publishers {
                publisher.turn_to(world.exchange(&format!("x{exchange}")));
                for chunk in keys.chunks(CHUNK) {
                    std::hint::black_box(publisher.route(chunk));
                }
            }
        }
    };
    tell(&mut publishers, keys.get(..CHUNK).expect("so many"));
    let (before, charged_before) = (resident(), world.remembered().0);
    // The second time a key is taken that was left out the first time.
    for _ in 0..2 {
        tell(&mut publishers, &keys);
    }
    let grown = resident().saturating_sub(before);
    let (charged, most) = world.remembered();
    let more = charged - charged_before;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{EXCHANGES} exchanges on {WORKERS} workers, total {:>4.0} MiB: charged {:>6.1} MiB, resident {:>6.1} MiB more \
         ({:.2} of what is charged)",
        mib(most),
        mib(charged),
        mib(grown),
        grown as f64 / more as f64
    );
    assert!(charged <= most, "more is remembered than may be");
    let allowed = (more as f64 * FACTOR_MAX) as u64 + BESIDE_BYTES_MAX;
    assert!(grown <= allowed, "{grown} bytes more are resident, {allowed} may be");
}

fn main() {
    const CASE: &str = "LEVERET_REMEMBERED_MIB";
    if let Ok(case) = std::env::var(CASE) {
        return measure(case.parse().ok());
    }
    for total_mib in ["default", "1024"] {
        let program = std::env::current_exe().expect("this program");
        let status = Command::new(program).env(CASE, total_mib).status().expect("it starts");
        assert!(status.success(), "the case {total_mib} failed");
    }
}
