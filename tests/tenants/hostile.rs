//! A tenant whose plugin loops: its own messages are refused, and its neighbour loses none.

use super::session::*;
use super::{Tenants, on};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};

/// How many patterns of a core type there are, each of which matches.
const PATTERNS_BITS: u32 = 14;
/// How many messages a neighbour publishes in a burst.
const BURST: u32 = 100;
/// How many bursts.
const BURSTS: u32 = 20;

/// Publishes messages that loop until told to stop. Gives how many were refused.
async fn attack(
    channel: &Channel,
    exchange: &lapin::types::ShortString,
    done: &std::cell::Cell<bool>,
) -> u32 {
    let mut refused = 0;
    while !done.get() {
        let confirmation = publish(channel, exchange, "loop", b"x", false).await.unwrap();
        assert!(confirmation.is_nack(), "a message that loops was accepted");
        refused += 1;
    }
    refused
}

/// Publishes to its own exchange, with a plugin of its own; every message must be acknowledged.
async fn live_on(channel: &Channel, exchange: &lapin::types::ShortString, key: impl Fn(u32) -> String) {
    for burst in 0..BURSTS {
        let mut confirms = Vec::new();
        for number in 0..BURST {
            let number = burst * BURST + number;
            let body = number.to_be_bytes();
            let key = key(number).into();
            let (options, properties) = (Default::default(), BasicProperties::default());
            let published = channel.basic_publish(exchange.clone(), key, options, &body, properties);
            confirms.push(published.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack(), "the neighbour's message was refused");
        }
    }
}

#[test]
fn a_plugin_that_loops_for_one_tenant_refuses_nothing_of_another() {
    // One worker, so that both are served by the same thread; and the same file for both, so that they
    // share all that is shared at all.
    let tenants = Tenants::with("workers = 1\n");
    tenants.serve("", "loops");
    on(&tenants, async |tenants| {
        let (a, b) = (tenants.connect("a").await, tenants.connect("b").await);
        let (attacker, neighbour) = (confirming(&a).await, confirming(&b).await);
        let (theirs, ours) =
            (own_exchange(&attacker, "x-loops").await, own_exchange(&neighbour, "x-loops").await);
        let (their_queue, our_queue) = (own_queue(&attacker).await, own_queue(&neighbour).await);
        bind(&attacker, &their_queue, &theirs, "loop", FieldTable::default()).await;
        bind(&neighbour, &our_queue, &ours, "good", FieldTable::default()).await;
        let done = std::cell::Cell::new(false);
        let living = async {
            live_on(&neighbour, &ours, |_| String::from("good")).await;
            done.set(true);
        };
        let attacking = attack(&attacker, &theirs, &done);
        let (refused, ()) = futures_util::future::join(attacking, living).await;
        assert!(refused > 0, "there was no attack");
        assert!(drain(&attacker, &their_queue).await.is_empty());
        let wanted: Vec<Vec<u8>> = (0..BURST * BURSTS).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(drain(&neighbour, &our_queue).await, wanted, "each once and in order");
        let log = tenants.broker.log();
        let failed = log.lines().filter(|line| line.contains("the plugin failed")).collect::<Vec<_>>();
        assert!(!failed.is_empty() && failed.iter().all(|line| line.contains("vhost=a")), "{failed:?}");
    });
}

#[test]
fn bindings_that_are_too_much_for_a_core_type_refuse_nothing_of_another_tenant() {
    let tenants = Tenants::with("workers = 1\n");
    on(&tenants, async |tenants| {
        let (a, b) = (tenants.connect("a").await, tenants.connect("b").await);
        let (attacker, neighbour) = (confirming(&a).await, confirming(&b).await);
        let (theirs, ours) =
            (own_exchange(&attacker, "topic").await, own_exchange(&neighbour, "topic").await);
        let (their_queue, our_queue) = (own_queue(&attacker).await, own_queue(&neighbour).await);
        // All of them match each message, on ever other ways through the patterns.
        for pattern in 0..1_u32 << PATTERNS_BITS {
            let word = |bit: u32| if pattern >> bit & 1 == 0 { "a." } else { "*." };
            let key: String = (0..PATTERNS_BITS).map(word).collect();
            let options = lapin::options::QueueBindOptions { nowait: true };
            let key = lapin::types::ShortString::from(key + "#");
            let bound =
                attacker.queue_bind(their_queue.clone(), theirs.clone(), key, options, FieldTable::default());
            bound.await.unwrap();
        }
        bind(&neighbour, &our_queue, &ours, "good.#", FieldTable::default()).await;
        // So many at once that they are more than a call may take.
        let attack = async |burst: u32| {
            let mut confirms = Vec::new();
            for number in 0..BURST {
                let key = format!("{}{burst}.{number}", "a.".repeat(PATTERNS_BITS as usize));
                let (options, properties) = (Default::default(), BasicProperties::default());
                let published = attacker.basic_publish(theirs.clone(), key.into(), options, b"x", properties);
                confirms.push(published.await.unwrap());
            }
            for confirm in confirms {
                confirm.await.unwrap();
            }
        };
        attack(0).await;
        let done = std::cell::Cell::new(false);
        let living = async {
            // Each key is another one, so nothing is remembered and the type is asked.
            live_on(&neighbour, &ours, |number| format!("good.{number}")).await;
            done.set(true);
        };
        let attacking = async {
            let mut burst = 1;
            while !done.get() {
                attack(burst).await;
                burst += 1;
            }
        };
        futures_util::future::join(attacking, living).await;
        let wanted: Vec<Vec<u8>> = (0..BURST * BURSTS).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(drain(&neighbour, &our_queue).await, wanted, "each once and in order");
    });
}
