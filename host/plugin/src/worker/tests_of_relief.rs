//! What becomes of remembered answers where there is no room for all: who gives, and who does not.

use crate::{
    HostConfig,
    policy::{Policies, PolicyRules, TotalRules},
    testing::World,
};
use leveret_model::{Name, Table};
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// A world in which so much is remembered, in MiB: of these virtual hosts, and of all.
fn world(workers: usize, vhosts: &[(&'static str, u64)], all: Option<u64>) -> World {
    let mut rules = PolicyRules { remembered_mib: all, ..PolicyRules::default() };
    for (vhost, mib) in vhosts {
        let totals = TotalRules { remembered_mib: Some(*mib), ..TotalRules::default() };
        rules.vhosts.entry(Name::from_static(vhost)).or_default().totals = totals;
    }
    let policies = Arc::new(Policies::new(rules).unwrap());
    World::of(HostConfig { workers, policies, ..HostConfig::default() })
}

/// Declares exchanges of a core type.
fn declare(world: &mut World, exchanges: &[&str]) {
    for exchange in exchanges {
        world.declare_with(0, exchange, "direct", Table::new()).unwrap();
    }
}

/// Publishes so many keys to an exchange, a batch at a time, and once more, the last ones first; gives how many
/// of the second round were remembered.
fn publish(world: &mut World, worker: usize, exchange: &str, keys: usize) -> u64 {
    let keys: Vec<String> = (0..keys).map(|key| format!("{key:04}.a.key.of.some.length.{key}")).collect();
    let mut remembered = 0;
    let mut batches: Vec<Vec<&str>> =
        keys.chunks(256).map(|batch| batch.iter().map(String::as_str).collect()).collect();
    for _ in 0..2 {
        let before = world.workers[worker].counters().remembered;
        for batch in &batches {
            world.route(worker, exchange, batch);
        }
        batches.reverse();
        remembered = world.workers[worker].counters().remembered - before;
    }
    remembered
}

/// What is remembered in a virtual host, in bytes.
fn remembered(world: &World, vhost: &'static str) -> usize {
    world.host.together(&Name::from_static(vhost)).remembered_bytes as usize
}

fn tend(world: &mut World, times: usize) {
    for _ in 0..times {
        world.workers.iter_mut().for_each(crate::Worker::tend);
    }
}

#[test]
fn many_exchanges_stay_within_the_virtual_hosts_total_and_what_is_idle_goes_first() {
    const KEYS: usize = 8_000;
    let mut world = world(2, &[("/", 1)], None);
    let names: Vec<String> = (0..10).map(|number| format!("x{number}")).collect();
    for name in &names {
        declare(&mut world, &[name]);
    }
    for (number, name) in names.iter().enumerate() {
        publish(&mut world, number % 2, name, KEYS);
        assert!(remembered(&world, "/") <= MIB, "{}", remembered(&world, "/"));
        tend(&mut world, 3);
    }
    // Those that nobody uses any more made room, on the other worker too.
    publish(&mut world, 0, "x0", KEYS);
    tend(&mut world, 1);
    let hits = publish(&mut world, 0, "x0", KEYS);
    assert!(hits as usize > KEYS / 2, "{hits} of {KEYS}");
    assert!(remembered(&world, "/") <= MIB);
}

#[test]
fn exchanges_that_are_all_busy_come_to_have_equally_much_and_small_ones_all() {
    const KEYS: usize = 8_000;
    let mut world = world(1, &[("/", 1)], None);
    declare(&mut world, &["first", "small"]);
    world.declare_with(0, "second", "topic", Table::new()).unwrap();
    publish(&mut world, 0, "first", KEYS);
    for _ in 0..8 {
        publish(&mut world, 0, "second", KEYS);
        publish(&mut world, 0, "first", KEYS);
        publish(&mut world, 0, "small", 50);
        tend(&mut world, 1);
    }
    assert_eq!(publish(&mut world, 0, "small", 50), 50);
    let [first, second] = ["direct", "topic"].map(|type_name| {
        let seen = world.host.registry().type_in(&Name::from_static("/"), type_name.as_bytes()).unwrap();
        seen.used.remembered_bytes
    });
    assert!(first.min(second) * 3 > first.max(second) && first + second > MIB as u64 / 2, "{first} {second}");
}

#[test]
fn a_virtual_hosts_need_takes_nothing_from_another_but_by_the_brokers_total() {
    const KEYS: usize = 14_000;
    let mut world = world(1, &[("/", 1), ("b", 8)], None);
    declare(&mut world, &["x"]);
    world.enter("b");
    declare(&mut world, &["x"]);
    publish(&mut world, 0, "x", 500);
    let had = remembered(&world, "b");
    tend(&mut world, 5);
    world.enter("/");
    for _ in 0..3 {
        publish(&mut world, 0, "x", KEYS);
        tend(&mut world, 1);
    }
    assert!(remembered(&world, "/") <= MIB && remembered(&world, "/") > MIB / 2);
    assert_eq!(remembered(&world, "b"), had, "idle as it is");
}

#[test]
fn of_the_brokers_total_the_virtual_host_gives_that_has_more() {
    const KEYS: usize = 14_000;
    let mut world = world(1, &[("/", 8), ("b", 8)], Some(2));
    for vhost in ["/", "b"] {
        world.enter(vhost);
        declare(&mut world, &["x"]);
    }
    world.enter("/");
    publish(&mut world, 0, "x", KEYS);
    let large = remembered(&world, "/");
    assert!(large > MIB && large <= 2 * MIB, "{large}");
    for _ in 0..12 {
        world.enter("b");
        publish(&mut world, 0, "x", KEYS);
        world.enter("/");
        publish(&mut world, 0, "x", KEYS);
        tend(&mut world, 1);
        assert!(remembered(&world, "/") + remembered(&world, "b") <= 2 * MIB);
    }
    let (a, b) = (remembered(&world, "/"), remembered(&world, "b"));
    assert!(a.min(b) * 2 > a.max(b), "{a} and {b}");
}
