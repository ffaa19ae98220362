//! `key-value` and `message-store`: what they keep, for how long, and how much of it.

use crate::*;

#[test]
fn values_are_written_with_the_message_and_read_by_the_next() {
    on_obeys(async |peer| {
        let queue = peer.queue("").await;
        for space in ["memory", "durable"] {
            assert_eq!(peer.ask(&format!("get {space} k")), "None");
            // The call sees its own write, and where the broker only explains nothing is left of it.
            assert_eq!(peer.ask(&format!("put {space} k 0;get {space} k")), "Some(\"0\")");
            assert_eq!(peer.ask(&format!("get {space} k")), "None");
            peer.tell(&format!("put {space} k 1")).await;
            assert_eq!(peer.ask(&format!("get {space} k")), "Some(\"1\")");
            assert_eq!(peer.ask(&format!("len {space}")), "1", "spaces are apart");
        }
        peer.tell("delete memory k").await;
        assert_eq!(
            (peer.ask("get memory k"), peer.ask("get durable k")),
            ("None".into(), "Some(\"1\")".into())
        );
        // What is not accepted leaves nothing.
        for commands in ["put memory k 2;reject no", "put memory k 2;trap"] {
            assert!(peer.publish(commands, "").await.is_nack());
            assert_eq!(peer.ask("get memory k"), "None", "{commands}");
        }
        // A message that is dropped on purpose is accepted.
        assert!(peer.publish("put memory k 3;drop done", "").await.is_ack());
        assert_eq!(peer.ask("get memory k"), "Some(\"3\")");
        assert_eq!(peer.ask("opened"), "not-here", "no effects while it opens");
        assert_eq!(peer.drain(&queue).await.len(), 3);
    });
}

#[test]
fn what_an_unroutable_message_leaves_is_a_matter_of_the_plugin() {
    on_obeys(async |peer| {
        let returned = peer.publish("put memory a 1;keep a 1", "").await;
        assert!(returned.take_message().is_some(), "nobody is bound");
        assert_eq!(peer.ask("get memory a"), "None");
        assert_eq!(peer.ask("of a 9"), "1", "messages are kept all the same");
        assert!(peer.publish("anyway;put memory a 1", "").await.take_message().is_some());
        assert_eq!(peer.ask("get memory a"), "Some(\"1\")");
    });
}

#[test]
fn compare_and_swap_counters_and_scans() {
    on_obeys(async |peer| {
        peer.queue("").await;
        peer.tell("swap memory lock - mine").await;
        assert_eq!(peer.ask("swap memory lock - other"), "false");
        assert_eq!(peer.ask("swap memory lock other more"), "false");
        peer.tell("swap memory lock mine yours").await;
        assert_eq!(peer.ask("get memory lock"), "Some(\"yours\")");
        peer.tell("swap memory lock yours -").await;
        assert_eq!(peer.ask("get memory lock"), "None");

        peer.tell("add memory n 5").await;
        peer.tell("add memory n -2").await;
        assert!(peer.publish("add memory n 100;reject no", "").await.is_nack());
        assert_eq!(peer.ask("sum memory n"), "3", "what is not accepted is subtracted again");
        assert_eq!(peer.ask("get memory n"), "None", "counters are apart from values");

        peer.tell("put memory a/2 x;put memory a/1 x;put memory b/1 x;put memory a/3 x").await;
        assert_eq!(peer.ask("scan memory a/ - 10"), "[\"a/1\", \"a/2\", \"a/3\"]");
        assert_eq!(peer.ask("scan memory a/ a/1 1"), "[\"a/2\"]");
        assert_eq!(peer.ask("scan memory c/ - 10"), "[]");
    });
}

#[test]
fn a_value_goes_when_its_time_is_over_and_the_oldest_make_room() {
    on_obeys(async |peer| {
        peer.queue("").await;
        let begin = Instant::now();
        peer.tell("put memory short x 60").await;
        peer.tell("put memory long x 3600000").await;
        until("the time is over", || peer.ask("get memory short") == "None");
        // Times are whole milliseconds: the one that had begun counts.
        assert!(begin.elapsed().as_millis() >= 59, "gone before its time");
        assert_eq!(peer.ask("get memory long"), "Some(\"x\")");
        assert_eq!(peer.ask("len memory"), "1");
        peer.tell("capacity memory 3").await;
        for key in ["a", "b", "c"] {
            peer.tell(&format!("put memory {key} x")).await;
        }
        assert_eq!(peer.ask("scan memory - - 10").replace("\"-\"", ""), "[]", "no key begins so");
        assert_eq!((peer.ask("len memory"), peer.ask("get memory long")), ("3".into(), "None".into()));
    });
}

#[test]
fn the_quota_is_for_both_and_what_is_not_accepted_gives_it_back() {
    // A call fills a whole MiB here, which takes an unoptimised broker on a busy machine longer than 10 ms.
    let configuration = format!("{}state-mib = 1\ncpu-per-call-ms = 1000\n", all_granted());
    let (broker, _kept) = start(&configuration, &[]);
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker, "/", "x-obeys").await;
        peer.queue("").await;
        assert_eq!(peer.ask("fill memory 2 65537"), "too-large");
        assert_eq!(peer.ask("fill memory 20 65536"), "quota");
        assert!(peer.publish("fill durable 20 65536", "").await.is_nack());
        assert_eq!(peer.seen("x-obeys")["state_bytes"], 0, "nothing is left of it");
        peer.tell("fill memory 8 65536").await;
        let taken = peer.seen("x-obeys")["state_bytes"].as_u64().unwrap();
        assert!((8 * 65_536..1 << 20).contains(&taken), "{taken}");
        assert_eq!(peer.ask("fill durable 8 65536"), "quota", "the spaces share it");
        // With the exchange its values go.
        peer.channel.exchange_delete(peer.exchange.clone(), Default::default()).await.unwrap();
        assert_eq!(peer.seen("x-obeys")["state_bytes"], 0);
    });
}

#[test]
fn messages_are_kept_in_rings_by_key_and_given_to_bindings() {
    on_obeys(async |peer| {
        let queue = peer.queue("").await;
        for (key, body) in [("a.x", "1"), ("a.x", "2"), ("a.x", "3"), ("a.y", "4"), ("b", "5")] {
            assert!(peer.publish(&format!("keep {key} 2"), body).await.is_ack());
        }
        assert!(peer.publish("keep b 2;reject no", "6").await.is_nack());
        assert_eq!(peer.drain(&queue).await, ["1", "2", "3", "4", "5"]);
        assert_eq!(
            (peer.ask("kept"), peer.ask("of a.x 9"), peer.ask("of a.x 1")),
            ("4".into(), "2".into(), "1".into())
        );
        assert_eq!((peer.ask("matching a.*"), peer.ask("matching #")), ("3".into(), "4".into()));
        let (of, like) = (peer.queue("of a.x").await, peer.queue("like a.*").await);
        assert_eq!(peer.drain(&of).await, ["2", "3"]);
        assert_eq!(peer.drain(&like).await, ["2", "3", "4"]);
        peer.tell("forget a.x").await;
        assert_eq!((peer.ask("kept"), peer.ask("matching a.*")), ("2".into(), "1".into()));
    });
}
