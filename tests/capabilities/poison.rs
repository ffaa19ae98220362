//! Messages on which a plugin fails each time: nobody is asked about them for ever, wherever they wait.

use crate::*;
use lapin::options::{BasicRejectOptions, QueueDeclareOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel};
use std::fs;

/// Ten tries take some eleven seconds instead of fifty. Pauses are still longer than a plugin that traps is set
/// aside for, so each try is a call.
const RETRY: &str = "retry-max-ms = 2000";

async fn exchange(channel: &Channel, name: &str, kind: &str, arguments: FieldTable) -> ShortString {
    declare(channel, &name.into(), kind, arguments).await.unwrap();
    name.into()
}

/// A held message whose type traps when its time comes, and one behind it. The queue they lead to.
async fn hold(peer: &Peer<'_>) -> ShortString {
    let delayed = texts(&[("x-delayed-type", "x-traps-in-route")]);
    let held = exchange(&peer.channel, "held", "x-delayed-message", delayed).await;
    let queue = own_queue(&peer.channel).await;
    bind(&peer.channel, &queue, &held, "good", FieldTable::default()).await;
    for key in ["trap", "good"] {
        let mut headers = FieldTable::default();
        headers.insert("x-delay".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default().with_headers(headers);
        let sent = publish_with(&peer.channel, &held, key, b"held", Default::default(), properties).await;
        assert!(sent.unwrap().is_ack());
    }
    queue
}

/// A dead letter whose exchange's type traps.
async fn die(peer: &Peer<'_>) {
    exchange(&peer.channel, "traps", "x-traps-in-route", FieldTable::default()).await;
    let arguments = texts(&[("x-dead-letter-exchange", "traps"), ("x-dead-letter-routing-key", "trap")]);
    let dying = ShortString::from("dying");
    peer.channel.queue_declare(dying.clone(), QueueDeclareOptions::default(), arguments).await.unwrap();
    assert!(publish(&peer.channel, &"".into(), "dying", b"letter", true).await.unwrap().is_ack());
    let letter = get(&peer.channel, &dying, false).await.unwrap();
    peer.channel.basic_reject(letter.delivery_tag, BasicRejectOptions { requeue: false }).await.unwrap();
}

/// All at the same time, for the pauses between tries are long: a held message, a dead letter, an emitted
/// message and a timer whose type traps each time. Each in a virtual host of its own, so that none waits for
/// a plugin that was set aside for another.
#[test]
fn what_waits_in_the_broker_is_set_aside_or_given_up() {
    let configuration = format!("{RETRY}\nvhosts = [\"held\", \"dead\", \"emitted\"]\n{}", all_granted());
    let (broker, _kept) = start(&configuration, &["traps_in_route"]);
    on_broker(&broker, async |broker| {
        let held = Peer::connect(broker, "held", "x-obeys").await;
        let dead = Peer::connect(broker, "dead", "x-obeys").await;
        let emitted = Peer::connect(broker, "emitted", "x-obeys").await;
        let queue = hold(&held).await;
        die(&dead).await;
        emitted.queue("").await;
        exchange(&emitted.channel, "traps", "x-traps-in-route", FieldTable::default()).await;
        emitted.tell("emit traps trap;timer bad 1").await;
        for told in [
            "set aside 1 held message of exchange 'held' that it refused 10 times",
            "set aside 1 dead letter of queue 'dying', refused 10 times",
            "dropped 1 message emitted to 'traps' and never accepted",
            "gave up 1 timer of exchange",
        ] {
            let line = broker.wait_for_log(told, EVENT_WAIT_MAX);
            assert!(line.contains("trapped"), "{line}");
        }
        let traps = |peer: &Peer<'_>, kind| peer.seen(kind)["failures"]["traps"].as_u64().unwrap();
        // Ten calls each; of what comes in a batch with others one more. Where the plugin is set aside for longer
        // than the first pauses, an emitted message has tries without a call, and so has a timer.
        assert!((10..=11).contains(&traps(&held, "x-traps-in-route")));
        assert_eq!(traps(&dead, "x-traps-in-route"), 10);
        assert!((1..=10).contains(&traps(&emitted, "x-traps-in-route")));
        assert!((1..=10).contains(&traps(&emitted, "x-obeys")));
        // What could go on did, and what is set aside is seen and can be cancelled.
        assert_eq!(held.drain(&queue).await, ["held"]);
        let listed = http(broker, "GET", "holds/held/held", None);
        assert_eq!(listed["count"], 1, "{listed}");
        assert!(listed["holds"][0]["stuck"].as_str().unwrap().contains("trapped"), "{listed}");
        assert_eq!(held.seen("x-delayed-message")["held_stuck"], 1);
        assert_eq!(http(broker, "GET", "queues/dead/dying", None)["dead_letters_set_aside"], 1);
        let path = format!("holds/held/held/{}", listed["holds"][0]["id"]);
        assert_eq!(http(broker, "DELETE", &path, None)["cancelled"], 1);
        assert_eq!(http(broker, "GET", "holds/held/held", None)["count"], 0);
    });
}

/// The same file put there once more would refuse it as before; another version is a reason to try as often as
/// at first, and that is told.
#[test]
fn what_is_set_aside_is_tried_again_by_another_version_and_not_by_the_same_once_more() {
    const SET_ASIDE: &str = "set aside 1 held message of exchange 'held'";
    const AGAIN: &str = "tries 1 held message of exchange 'held' again";
    let (broker, _kept) = start(&format!("{RETRY}\n{}", all_granted()), &["traps_in_route"]);
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker, "/", "x-obeys").await;
        let queue = hold(&peer).await;
        broker.wait_for_log(SET_ASIDE, EVENT_WAIT_MAX);
        let (file, mut component) = (
            broker.plugins_directory().join("traps_in_route.wasm"),
            fs::read(guests::component("traps_in_route")).unwrap(),
        );
        let deploy = |component: &[u8]| {
            let (lines, aside) = (broker.log_length(), broker.aside().join("written-aside"));
            fs::write(&aside, component).unwrap();
            fs::rename(aside, &file).unwrap();
            broker.wait_for_log_after(lines, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
        };
        let lines = broker.log_length();
        fs::remove_file(&file).unwrap();
        broker.wait_for_log_after(lines, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
        deploy(&component);
        let traps = || peer.seen("x-traps-in-route")["failures"]["traps"].as_u64().unwrap();
        let before = traps();
        // An empty custom section makes it another file.
        component.extend([0, 2, 1, b'p']);
        let lines = broker.log_length();
        deploy(&component);
        broker.wait_for_log_after(lines, AGAIN, EVENT_WAIT_MAX);
        broker.wait_for_log_after(lines, SET_ASIDE, EVENT_WAIT_MAX);
        assert_eq!(traps() - before, 10, "as often as at first");
        assert_eq!(broker.log().matches(AGAIN).count(), 1, "{}", broker.log());
        let listed = http(broker, "GET", "holds/%2F/held", None);
        assert_eq!((&listed["count"], &listed["holds"][0]["tries"]), (&1.into(), &10.into()), "{listed}");
        assert_eq!(peer.drain(&queue).await, ["held"], "the one that could go on");
    });
}

/// In a batch, by a plugin that is asked about many at once: the one that traps is asked about twice.
#[test]
fn of_a_batch_the_poison_is_asked_about_once_more_and_alone() {
    let (broker, _kept) = start(&all_granted(), &["traps_in_route"]);
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker, "/", "x-traps-in-route").await;
        let queue = peer.queue("good").await;
        let mut confirms = Vec::new();
        for number in 0..200_u32 {
            let key = if number == 90 { "trap".to_owned() } else { format!("k{number}") };
            let (options, properties) = Default::default();
            let sent =
                peer.channel.basic_publish(peer.exchange.clone(), key.into(), options, b"x", properties);
            confirms.push(sent.await.unwrap());
        }
        let mut refused = 0;
        for confirm in confirms {
            refused += u32::from(confirm.await.unwrap().is_nack());
        }
        assert_eq!(refused, 1);
        let traps = peer.seen("x-traps-in-route")["failures"]["traps"].as_u64().unwrap();
        assert!((1..=2).contains(&traps), "{traps}");
        assert!(peer.drain(&queue).await.is_empty());
    });
}

/// On deliver, at the head of a queue: it meets the policy of its attachment, and what is behind it goes on.
#[test]
fn an_interceptor_on_deliver_that_traps_does_not_hold_up_its_queue() {
    for (policy, delivered) in
        [("reject", &["good"][..]), ("bypass", &["poison", "good"]), ("dead-letter", &["good"])]
    {
        let tables = format!(
            "{}[[intercept]]\ninterceptor = \"by-key\"\npoint = \"deliver\"\norder = 1\non-failure = \"{policy}\"\n\
             queue = \"work\"\n",
            all_granted()
        );
        let (broker, _kept) = start(&tables, &["interceptors_v1"]);
        on_broker(&broker, async |broker| {
            let channel = confirming(&connect(broker).await).await;
            let dead = own_queue(&channel).await;
            let arguments =
                texts(&[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", dead.as_str())]);
            let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
            let work: ShortString = "work".into();
            channel.queue_declare(work.clone(), options, arguments).await.unwrap();
            bind(&channel, &work, &"amq.fanout".into(), "", FieldTable::default()).await;
            for (key, body) in [("trap", "poison"), ("k", "good")] {
                assert!(
                    publish(&channel, &"amq.fanout".into(), key, body.as_bytes(), true)
                        .await
                        .unwrap()
                        .is_ack()
                );
            }
            let mut came = Vec::new();
            while came.last().is_none_or(|body| body != "good") {
                if let Some(delivery) = get(&channel, &work, true).await {
                    came.push(String::from_utf8(delivery.data).unwrap());
                }
            }
            assert_eq!(came, delivered, "{policy}");
            let died = drain(&channel, &dead).await;
            assert_eq!(died.len(), usize::from(policy != "bypass"), "{policy}");
        });
    }
}
