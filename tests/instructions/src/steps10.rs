//! The steps of AMQP 1.0, as those of `steps`.

use crate::{
    allocations,
    steps::{BATCH, ROUNDS},
    world10::{World, accepted, transfers},
};
use std::process::ExitCode;

/// What is put on the broker.
struct Load {
    name: &'static str,
    body_bytes: usize,
    /// Both links settle when they send.
    settled: bool,
}

const LOADS: [Load; 3] = [
    Load { name: "10-16-settled", body_bytes: 16, settled: true },
    Load { name: "10-1024-settled", body_bytes: 1024, settled: true },
    Load { name: "10-16-unsettled", body_bytes: 16, settled: false },
];

/// The loads by name, and the steps that each has.
pub fn loads() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    LOADS.iter().map(|load| {
        let steps: &[&str] = match load.settled {
            true => &["transfer_in", "transfer_out"],
            false => &["transfer_in", "transfer_out", "disposition"],
        };
        (load.name, steps)
    })
}

#[inline(never)]
fn counted_transfer_in(world: &mut World, bytes: &[u8]) -> usize {
    world.receive(bytes)
}

#[inline(never)]
fn counted_transfer_out(world: &mut World) -> usize {
    world.deliver()
}

#[inline(never)]
fn counted_disposition(world: &mut World, bytes: &[u8]) -> usize {
    world.settle(bytes)
}

/// Puts one load on a broker of its own, and says how many allocations a message took. `None` if there is no such load.
pub fn run(name: &str) -> Option<ExitCode> {
    let load = LOADS.iter().find(|load| load.name == name)?;
    let mut world = World::new(load.settled);
    let mut made = 0;
    for round in 0..2 * ROUNDS {
        let counted = round >= ROUNDS;
        let first = (round * BATCH) as u32;
        let bytes = transfers(first, BATCH, load.body_bytes, load.settled);
        let answer = accepted(first, BATCH);
        let before = allocations::count();
        let routed = if counted { counted_transfer_in(&mut world, &bytes) } else { world.receive(&bytes) };
        assert_eq!(routed, BATCH, "all go to the queue");
        let out = if counted { counted_transfer_out(&mut world) } else { world.deliver() };
        assert!(out > BATCH * load.body_bytes, "all are delivered");
        if !load.settled {
            let settled =
                if counted { counted_disposition(&mut world, &answer) } else { world.settle(&answer) };
            assert_eq!(settled, BATCH, "all are settled");
        }
        if counted {
            made += allocations::count() - before;
        }
        world.give_credit();
    }
    println!("allocations {made}");
    Some(ExitCode::SUCCESS)
}
