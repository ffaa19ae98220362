//! The steps that are counted. Each has a function of its own that is never inlined: callgrind counts from where it
//! begins to where it ends.

use crate::allocations;
use leveret_instructions::world::{World, acks, publishes};
use std::process::ExitCode;

/// How many messages come in one read.
pub const BATCH: usize = 512;
/// How many reads are counted, after as many that are not.
pub const ROUNDS: usize = 40;

/// What is put on the broker.
struct Load {
    name: &'static str,
    body_bytes: usize,
    properties: &'static [u8],
    no_ack: bool,
}

/// Without properties; and as most clients publish, with a content type and a delivery mode.
const LOADS: [Load; 4] = [
    Load { name: "16-auto", body_bytes: 16, properties: &[0, 0], no_ack: true },
    Load { name: "1024-auto", body_bytes: 1024, properties: &[0, 0], no_ack: true },
    Load { name: "16-ack", body_bytes: 16, properties: &[0, 0], no_ack: false },
    Load {
        name: "16-properties",
        body_bytes: 16,
        properties: b"\x90\x00\x18application/octet-stream\x01",
        no_ack: true,
    },
];

/// The loads by name, and the steps that each has.
pub fn loads() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let of_amqp091 = LOADS.iter().map(|load| {
        let steps: &[&str] =
            if load.no_ack { &["receive", "deliver"] } else { &["receive", "deliver", "acknowledge"] };
        (load.name, steps)
    });
    let others = crate::steps10::loads().chain(crate::growth::loads()).chain(crate::journal::loads());
    of_amqp091.chain(others)
}

#[inline(never)]
fn counted_receive(world: &mut World, bytes: &[u8]) -> usize {
    world.receive(bytes)
}

#[inline(never)]
fn counted_deliver(world: &mut World) -> usize {
    world.deliver()
}

#[inline(never)]
fn counted_acknowledge(world: &mut World, bytes: &[u8]) -> usize {
    world.acknowledge(bytes)
}

/// Puts one load on a broker of its own, and says how many allocations a message took. `None` if there is no such load.
pub fn run(name: &str) -> Option<ExitCode> {
    let load = LOADS.iter().find(|load| load.name == name)?;
    let mut world = World::new(load.no_ack);
    let bytes = publishes(BATCH, load.body_bytes, load.properties);
    let mut tag = 1;
    let mut made = 0;
    for round in 0..2 * ROUNDS {
        let counted = round >= ROUNDS;
        let answers = acks(tag..tag + BATCH as u64);
        let before = allocations::count();
        let routed = if counted { counted_receive(&mut world, &bytes) } else { world.receive(&bytes) };
        assert_eq!(routed, BATCH, "all go to the queue");
        let out = if counted { counted_deliver(&mut world) } else { world.deliver() };
        assert!(out > BATCH * load.body_bytes, "all are delivered");
        if !load.no_ack {
            let settled =
                if counted { counted_acknowledge(&mut world, &answers) } else { world.acknowledge(&answers) };
            assert_eq!(settled, BATCH, "all are settled");
            tag += BATCH as u64;
        }
        if counted {
            made += allocations::count() - before;
        }
    }
    println!("allocations {made}");
    Some(ExitCode::SUCCESS)
}
