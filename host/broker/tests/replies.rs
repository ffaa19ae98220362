//! Replies straight to the channel that asked.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, name};
use leveret_broker::{BindTo, ConsumeSpec, Published, QueueSpec, REPLY_TO};
use leveret_model::{Name, Refusal, Table, Value};
use std::sync::Arc;

fn consumer(tag: &str) -> ConsumeSpec {
    ConsumeSpec {
        queue: Name::new(REPLY_TO).unwrap(),
        tag: name(tag),
        no_ack: true,
        ..ConsumeSpec::default()
    }
}

fn text_of(refusal: Refusal) -> String {
    assert!(matches!(refusal, Refusal::InvalidArgument { .. }), "{refusal:?}");
    refusal.to_string()
}

/// A connection that waits for replies on channel 1, and the queue that they go to.
fn asking() -> (Connection, String) {
    let mut c = Connection::first();
    c.client.consume(1, consumer("replies")).unwrap();
    let queue = c.client.reply_queue(1).unwrap().to_text();
    (c, queue)
}

#[test]
fn replies_of_another_connection_come_to_the_channel() {
    let (mut c, queue) = asking();
    let mut other = c.sibling();
    for body in ["1", "2"] {
        assert_eq!(other.publish("", &queue, body), Published::Routed);
    }
    let deliveries = c.deliveries();
    let of = |delivery: &kit::Delivered| {
        let tag = (delivery.channel, delivery.tag, delivery.consumer.clone());
        (tag, delivery.exchange.clone(), delivery.key.clone(), delivery.redelivered)
    };
    let expected = |tag| ((1, tag, String::from("replies")), String::new(), queue.clone(), false);
    assert_eq!(deliveries.iter().map(of).collect::<Vec<_>>(), [expected(1), expected(2)]);
}

#[test]
fn a_channel_has_one_consumer_of_replies_and_cannot_acknowledge() {
    let (mut c, queue) = asking();
    for tag in ["more", "replies"] {
        assert_eq!(text_of(c.client.consume(1, consumer(tag)).unwrap_err()), "reply consumer already set");
    }
    c.queue("q");
    c.consume("q", "used", true);
    assert!(c.client.cancel(1, b"replies", &mut c.router));
    let in_use = c.client.consume(1, consumer("used"));
    assert_eq!(in_use, Err(Refusal::ConsumerTagInUse { tag: name("used") }));
    c.client.consume(1, consumer("replies")).unwrap();
    let acknowledging = ConsumeSpec { no_ack: false, ..consumer("acks") };
    let refused = c.client.consume(2, acknowledging).unwrap_err();
    assert_eq!(text_of(refused), "reply consumer cannot acknowledge");
    // Another channel has its own; and so has this one with the next consumer.
    c.client.consume(2, consumer("replies")).unwrap();
    assert_ne!(c.client.reply_queue(2).unwrap().to_text(), queue);
    assert!(c.client.cancel(1, b"replies", &mut c.router));
    assert_eq!(c.client.reply_queue(1), None);
    c.client.consume(1, consumer("replies")).unwrap();
    assert_ne!(c.client.reply_queue(1).unwrap().to_text(), queue);
}

#[test]
fn a_consumer_that_is_refused_leaves_no_queue_behind() {
    let mut c = Connection::first();
    // Each queue has the account that it charges.
    let before = Arc::strong_count(c.vhost.memory());
    let arguments: Table = [(name("x-consumer-timeout"), Value::Integer(-1))].into_iter().collect();
    let refused = c.client.consume(1, ConsumeSpec { arguments, ..consumer("replies") }).unwrap_err();
    let why = "invalid arg 'x-consumer-timeout' for queue 'amq.rabbitmq.reply-to' in vhost '/': {value_negative,-1}";
    assert_eq!(Arc::strong_count(c.vhost.memory()), before);
    assert_eq!((text_of(refused), c.client.reply_queue(1)), (String::from(why), None));
    c.client.consume(1, consumer("replies")).unwrap();
    assert_eq!(Arc::strong_count(c.vhost.memory()), before + 1, "one that is there does");
}

#[test]
fn the_queue_is_there_for_publishers_alone_and_as_long_as_its_consumer() {
    let (mut c, queue) = asking();
    let (named, by) = (queue.as_bytes(), c.id);
    let status = c.vhost.check_replies(named).unwrap().unwrap();
    assert_eq!((status.name, status.messages, status.consumers), (name(&queue), 0, 1));
    assert_eq!(c.vhost.check_replies(REPLY_TO).unwrap().unwrap().consumers, 1);
    assert_eq!(c.vhost.check_replies(b"q"), Ok(None));
    assert!(c.vhost.queues().is_empty());
    assert_eq!(c.vhost.queue_count(), 0);

    let bound = c.vhost.bind(&mut c.router, b"amq.direct", BindTo::Queue(named), b"", Table::new(), by);
    assert_eq!(bound.map(drop), Err(Refusal::NotBindable));
    let to = BindTo::Queue(named);
    let unbound = c.vhost.unbind(&mut c.router, b"amq.direct", to, b"", Table::new(), by);
    assert_eq!(unbound, Err(Refusal::NotBindable));
    let got = c.client.get(1, named, true, &mut c.router, &mut |_| panic!("got"));
    assert!(matches!(got, Err(Refusal::NotImplemented { .. })), "{got:?}");
    let other = ConsumeSpec { queue: name(&queue), ..consumer("other") };
    let refused = text_of(c.client.consume(2, other).unwrap_err());
    assert_eq!(refused, format!("only creator channel may consume from queue '{queue}' in vhost '/'"));
    let declared = c.vhost.declare_queue(QueueSpec { name: name(&queue), ..QueueSpec::default() }, by);
    assert!(matches!(declared, Err(Refusal::ReservedName { .. })), "{declared:?}");
    assert_eq!(c.publish("", &queue, "reply"), Published::Routed);
    assert_eq!(c.vhost.purge_queue(named, by), Ok(0));
    assert_eq!(c.vhost.delete_queue(&mut c.router, named, false, false, by), Ok(0));
    assert_eq!(c.bodies(), ["reply"]);
}

#[test]
fn replies_to_who_is_gone_are_dropped() {
    type End = fn(&mut Connection);
    let ends: [End; 3] = [
        |c| assert!(c.client.cancel(1, b"replies", &mut c.router)),
        |c| c.client.close_channel(1, &mut c.router),
        |c| c.client.close(&mut c.router),
    ];
    for end in ends {
        let (mut c, queue) = asking();
        let mut other = c.sibling();
        assert_eq!(other.publish("", &queue, "in time"), Published::Routed);
        end(&mut c);
        assert_eq!(other.publish("", &queue, "late"), Published::Dropped);
        assert!(matches!(c.vhost.check_replies(queue.as_bytes()), Err(Refusal::NotFound { .. })));
        assert!(c.vhost.queue(queue.as_bytes()).is_none());
        for never in ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.bogus"] {
            assert_eq!(other.publish("", never, "never"), Published::Unroutable);
        }
    }
}
