//! Bindings and versions that change while questions are in the slow lane: no answer is of before the
//! change, and no message is lost.

use crate::*;
use leveret_testkit::log_lines;
use std::collections::BTreeSet;

/// One connection publishes all the time to a slow exchange; others bind. What is published after bind-ok
/// reaches the new queue too, and nothing is lost of what came before.
#[test]
fn what_is_published_after_bind_ok_sees_the_binding() {
    const BEFORE: u32 = 60;
    const ROUNDS_OF_BINDS: u32 = 8;
    on_broker(&broker_with(&["takes_its_time"]), async |broker| {
        let (_connection, channel, exchange, first) = publishing(broker, "x-takes-its-time", "slow").await;
        let other = connect(broker).await;
        let binder = confirming(&other).await;
        let (mut confirms, mut sent, mut queues) = (Vec::new(), 0_u32, Vec::new());
        for _ in 0..ROUNDS_OF_BINDS {
            for _ in 0..BEFORE {
                confirms.push(send(&channel, &exchange, "slow", &sent.to_be_bytes()).await);
                sent += 1;
            }
            // Answers to those are on their way now.
            let queue = own_queue(&binder).await;
            bind(&binder, &queue, &exchange, "slow", FieldTable::default()).await;
            let number = sent;
            let confirm = send(&binder, &exchange, "slow", &number.to_be_bytes()).await;
            sent += 1;
            assert!(confirm.await.unwrap().is_ack());
            queues.push((number, queue));
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        let numbers = async |queue: &ShortString| -> BTreeSet<Vec<u8>> {
            drain(&binder, queue).await.into_iter().collect()
        };
        let all: BTreeSet<Vec<u8>> = drain(&channel, &first).await.into_iter().collect();
        assert_eq!(all.len() as u32, sent, "lost");
        for (number, queue) in queues {
            let arrived = numbers(&queue).await;
            // What the binder published after bind-ok, and everything of a later round.
            for number in (number..sent).filter(|n| (n + 1) % (BEFORE + 1) == 0 || *n > number + BEFORE) {
                assert!(arrived.contains(number.to_be_bytes().as_slice()), "{number} missed its binding");
            }
        }
    });
}

/// The plugin's file is replaced again and again while its messages are in the lane: each is confirmed and
/// arrives once, in order.
#[test]
fn a_reload_meanwhile_loses_nothing() {
    const RELOADS: u32 = 5;
    const EACH: u32 = 60;
    on_broker(&broker_with(&["takes_its_time"]), async |broker| {
        let (_connection, channel, exchange, queue) = publishing(broker, "x-takes-its-time", "slow").await;
        let mut component = fs::read(guests::component("takes_its_time")).unwrap();
        let (mut confirms, mut sent) = (Vec::new(), 0_u32);
        for _ in 0..RELOADS {
            for _ in 0..EACH {
                confirms.push(send(&channel, &exchange, "slow", &sent.to_be_bytes()).await);
                sent += 1;
            }
            // An empty custom section makes it another file of the same code.
            component.extend([0, 2, 1, b'p']);
            let lines = broker.log_length();
            let aside = broker.aside().join("takes_its_time.wasm");
            fs::write(&aside, &component).unwrap();
            fs::rename(aside, broker.plugins_directory().join("takes_its_time.wasm")).unwrap();
            broker.wait_for_log_after(lines, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        let arrived = drain(&channel, &queue).await;
        assert!(arrived.into_iter().eq((0..sent).map(|number| number.to_be_bytes().to_vec())));
    });
}

/// Many bind at once to a type that has one instance for all, while others publish to it: each is answered
/// that it is bound, though the instance is busy all the time.
#[test]
fn many_bind_at_once_to_a_type_with_one_instance() {
    const BINDERS: usize = 12;
    const EACH: usize = 4;
    const MESSAGES: u32 = 200;
    on_broker(&broker_with(&["in_turn"]), async |broker| {
        let (_connection, channel, exchange, _queue) = publishing(broker, "x-in-turn", "").await;
        let mut confirms = Vec::new();
        for number in 0..MESSAGES {
            confirms.push(send(&channel, &exchange, "slow", &number.to_be_bytes()).await);
        }
        let binders = (0..BINDERS).map(async |_| {
            let connection = connect(broker).await;
            let channel = confirming(&connection).await;
            let queue = own_queue(&channel).await;
            for number in 0..EACH {
                bind(&channel, &queue, &exchange, &number.to_string(), FieldTable::default()).await;
            }
            connection
        });
        let bound = futures_util::future::join_all(binders).await;
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
        assert_eq!(bound.len(), BINDERS);
    });
}
