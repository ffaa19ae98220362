//! A type that misbehaves when it is asked which messages a new binding can concern: the binding is there, messages that
//! were remembered and new ones are routed, and the operator sees what happened.

use super::{asking::get as told_of, *};

/// What it does, and the counter of failures that shows it.
const WAYS: [(&str, Option<&str>); 5] = [
    ("trap", Some("traps")),
    ("loop", Some("cpu_limit")),
    ("memory", Some("memory_limit")),
    ("recurse", Some("traps")),
    // A mark may be what it likes: no message has this one.
    ("large", None),
];

#[test]
fn when_it_is_asked_for_the_mark_of_a_binding() {
    WAYS.iter().for_each(|(way, counter)| asked_for_a_mark(way, *counter));
}

fn asked_for_a_mark(way: &str, counter: Option<&str>) {
    let component = guests::component("misbehaves_in_marks");
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).plugin(component);
    // What is remembered is remembered by a worker.
    let broker = broker.argument("--workers").argument("1").start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let seen = || told_of(broker, "plugins/x-misbehaves-in-marks/vhosts/%2F");
        let exchange = own_exchange(&channel, "x-misbehaves-in-marks").await;
        let (queue, other) = (own_queue(&channel).await, own_queue(&channel).await);
        for source in [&exchange, &"amq.topic".into()] {
            bind(&channel, &queue, source, "good", FieldTable::default()).await;
        }
        while seen()["calls"]["remembered"] == 0 {
            publish(&channel, &exchange, "good", b"before", true).await.unwrap();
        }
        drain(&channel, &queue).await;
        bind(&channel, &other, &exchange, way, FieldTable::default()).await;
        for (source, key, queue) in
            [(&exchange, "good", &queue), (&exchange, way, &other), (&"amq.topic".into(), "good", &queue)]
        {
            let confirm = publish(&channel, source, key, b"x", true).await.unwrap();
            assert!(confirm.is_ack() && confirm.take_message().is_none(), "{way}: {key}");
            assert_eq!(drain(&channel, queue).await, [b"x"], "{way}: {key}");
        }
        let told = seen();
        assert_eq!(told["purity_withdrawn"], false, "{way}: {told}");
        // What takes long on a worker is cut off there, whatever it would have come to.
        let is_seen = |counter: &str| told["failures"][counter] == 1 || told["state"] == "slow";
        assert!(counter.is_none_or(is_seen), "{way}: {told}");
        let is_served = told["state"] == "serving" || told["state"] == "slow";
        assert!(counter.is_some() || is_served, "{way}: {told}");
    });
}
