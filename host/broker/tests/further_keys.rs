//! Messages with further routing keys.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, Gate, exchange, message, name, with_alternate, with_dead_letters};
use leveret_amqp091::{form::HIDING, more_keys::shown, properties::MessageProperties};
use leveret_broker::{BindTo, Publish, Published, port::Wake};
use leveret_model::{MessageView, Table, Value};
use std::{collections::HashSet, sync::Arc};

fn keys(keys: &[&str]) -> Value {
    Value::List(keys.iter().map(|key| Value::Text((*key).into())).collect())
}

fn headers(fields: &[(&str, Value)]) -> Vec<u8> {
    let headers: Table = fields.iter().map(|(field, value)| (name(field), value.clone())).collect();
    MessageProperties { headers: Some(headers), ..MessageProperties::default() }.encode()
}

/// Publishes a message with the keys that its headers name.
fn send(c: &mut Connection, to: (&str, &str), fields: &[(&str, Value)], body: &str) -> Published {
    let properties = headers(fields);
    let message = MessageView { properties: &properties, ..message(to.0, to.1, body.as_bytes()) };
    let more = message.more_keys().unwrap();
    let batch = [Publish { channel: 1, message, mandatory: false, more_keys: more.as_deref() }];
    let (mut outcomes, waker): (_, Arc<dyn Wake>) = (Vec::new(), c.bell.clone());
    c.publisher.publish(&c.vhost, &mut c.router, &batch, &mut outcomes, &waker);
    outcomes.pop().unwrap()
}

/// The properties of a message as receivers see them.
fn seen(message: &MessageView<'_>) -> Vec<u8> {
    let hides = message.form.protocol() == HIDING.protocol();
    if hides { shown(message.properties) } else { message.properties.to_vec() }
}

/// Key and headers of what is got from a queue, which has one message.
fn only(c: &mut Connection, queue: &str) -> (String, Vec<u8>) {
    let mut got = Vec::new();
    let mut get = |c: &mut Connection| {
        c.client
            .get(1, queue.as_bytes(), true, &mut c.router, &mut |message| {
                let key = String::from_utf8(message.message.routing_key.to_vec()).unwrap();
                got.push((key, seen(&message.message)));
            })
            .unwrap()
    };
    while get(c) {}
    assert_eq!(got.len(), 1, "{queue}");
    got.pop().unwrap()
}

fn with_queues(type_name: &str, queues: &[&str]) -> Connection {
    let mut c = Connection::first();
    c.exchange(exchange("x", type_name));
    for queue in queues {
        c.queue(queue);
        c.bind("x", BindTo::Queue(queue.as_bytes()), queue);
    }
    c
}

#[test]
fn each_key_leads_to_its_queues_and_hidden_ones_are_not_shown() {
    for to in ["", "x"] {
        let mut c = with_queues("direct", &["a", "b", "c", "d"]);
        let fields = [("CC", keys(&["b", "nobody"])), ("BCC", keys(&["c"])), ("h", Value::Integer(1))];
        assert_eq!(send(&mut c, (to, "a"), &fields, "1"), Published::Routed);
        let shown = headers(&[("CC", keys(&["b", "nobody"])), ("h", Value::Integer(1))]);
        for queue in ["a", "b", "c"] {
            assert_eq!(only(&mut c, queue), (String::from("a"), shown.clone()), "{to:?} {queue}");
        }
        assert_eq!(c.receivers(&["d"]), HashSet::new());
        // Without a destination for the first key.
        assert_eq!(send(&mut c, (to, "nobody"), &[("BCC", keys(&["d"]))], "2"), Published::Routed);
        assert_eq!(c.receivers(&["a", "b", "c", "d"]), ["d"].into());
        assert_eq!(send(&mut c, (to, "nobody"), &[("CC", keys(&["none"]))], "3"), Published::Unroutable);
    }
}

#[test]
fn a_queue_that_several_keys_lead_to_gets_one_copy() {
    for to in ["", "x"] {
        let mut c = with_queues("direct", &["a", "b"]);
        if to == "x" {
            c.bind("x", BindTo::Queue(b"a"), "b");
        }
        assert_eq!(send(&mut c, (to, "a"), &[("CC", keys(&["a", "b", "b", "a"]))], "1"), Published::Routed);
        assert_eq!(c.receivers(&["a", "b"]), ["a", "b"].into());
    }
}

#[test]
fn keys_go_on_through_bindings_between_exchanges() {
    let mut c = with_queues("direct", &["a"]);
    c.exchange(exchange("y", "direct"));
    c.bind("x", BindTo::Exchange(b"y"), "to-y");
    for queue in ["far", "near"] {
        c.queue(queue);
        c.bind("y", BindTo::Queue(queue.as_bytes()), queue);
    }
    let fields = [("CC", keys(&["to-y", "far"]))];
    assert_eq!(send(&mut c, ("x", "a"), &fields, "1"), Published::Routed);
    assert_eq!(c.receivers(&["a", "far", "near"]), ["a", "far"].into());
}

#[test]
fn the_alternate_exchange_is_for_what_no_key_leads_anywhere() {
    let mut c = Connection::first();
    c.exchange(with_alternate("x", "direct", "else"));
    c.exchange(exchange("else", "direct"));
    for (source, queue, key) in [("x", "a", "a"), ("else", "b", "b"), ("else", "z", "z")] {
        c.queue(queue);
        c.bind(source, BindTo::Queue(queue.as_bytes()), key);
    }
    assert_eq!(send(&mut c, ("x", "z"), &[("CC", keys(&["a"]))], "1"), Published::Routed);
    assert_eq!(c.receivers(&["a", "b", "z"]), ["a"].into());
    assert_eq!(send(&mut c, ("x", "z"), &[("CC", keys(&["b"]))], "2"), Published::Routed);
    assert_eq!(c.receivers(&["a", "b", "z"]), ["b", "z"].into());
    // An empty name is none, and not the default exchange.
    c.exchange(with_alternate("w", "direct", ""));
    assert_eq!(send(&mut c, ("w", "z"), &[("CC", keys(&["b"]))], "3"), Published::Unroutable);
    assert_eq!(c.receivers(&["a", "b", "z"]), HashSet::new());
}

#[test]
fn a_type_in_front_decides_once_for_all_keys() {
    let mut c = with_queues("dedup+direct", &["a", "b"]);
    for expected in [Published::Routed, Published::Dropped] {
        assert_eq!(send(&mut c, ("x", "a"), &[("CC", keys(&["b"]))], "1"), expected);
    }
    assert_eq!(c.receivers(&["a", "b"]), ["a", "b"].into());
}

#[test]
fn a_message_that_is_held_keeps_its_keys() {
    let mut c = with_queues("hold+direct", &["a", "b", "c"]);
    let fields = [("delay", Value::Integer(50)), ("BCC", keys(&["c"])), ("CC", keys(&["b"]))];
    assert_eq!(send(&mut c, ("x", "a"), &fields, "1"), Published::Routed);
    assert_eq!(c.receivers(&["a", "b", "c"]), HashSet::new());
    c.pass(50);
    let shown = headers(&[("delay", Value::Integer(50)), ("CC", keys(&["b"]))]);
    for queue in ["a", "b", "c"] {
        assert_eq!(only(&mut c, queue), (String::from("a"), shown.clone()), "{queue}");
    }
}

#[test]
fn a_key_that_is_not_accepted_takes_the_message_with_it() {
    let mut c = with_queues("direct", &["a"]);
    c.exchange(exchange("y", "direct"));
    c.bind("x", BindTo::Exchange(b"y"), "y");
    c.router.gate("y", Some(Gate::Reject));
    let sent = send(&mut c, ("x", "a"), &[("CC", keys(&["y"]))], "1");
    assert_eq!(sent, Published::Rejected(Arc::from("not now")));
    assert_eq!(c.receivers(&["a"]), HashSet::new());
}

#[test]
fn a_dead_letter_goes_by_its_keys_unless_its_queue_has_one() {
    for (own_key, expected) in [(None, ["a", "b"].as_slice()), (Some("c"), &["c"])] {
        let mut c = with_queues("direct", &["a", "b", "c"]);
        c.vhost.declare_queue(with_dead_letters("dying", "x", own_key), c.id).unwrap();
        let fields = [("CC", keys(&["b", "dying"]))];
        assert_eq!(send(&mut c, ("", "a"), &fields, "1"), Published::Routed);
        assert_eq!(c.receivers(&["a", "b", "c"]), ["a", "b"].into());
        c.reject("dying");
        for queue in expected {
            let (key, properties) = only(&mut c, queue);
            assert_eq!(key, own_key.unwrap_or("a"));
            let view = MessageView { properties: &properties, ..message("", "", b"") };
            assert_eq!(view.header(&name("CC")), Some(keys(&["b", "dying"])));
            let Some(Value::List(deaths)) = view.header(&name("x-death")) else { panic!("no history") };
            let Some(Value::Map(death)) = deaths.first() else { panic!("no death") };
            let went_by = death.iter().find(|(field, _)| field.as_text() == Some("routing-keys"));
            assert_eq!(went_by.unwrap().1, keys(&["a", "b", "dying"]));
        }
        assert_eq!(c.receivers(&["a", "b", "c"]), HashSet::new());
    }
}

/// As RabbitMQ: nobody sees these keys, not even in its history, but they count as the others do, death for death.
#[test]
fn a_dead_letter_goes_by_hidden_keys_too_until_a_queue_has_a_key_of_its_own() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "direct"));
    let queues = ["a", "b", "hidden"];
    for (queue, own_key) in [("first", None), ("second", None), ("third", Some("a")), ("fourth", None)] {
        c.vhost.declare_queue(with_dead_letters(queue, "x", own_key), c.id).unwrap();
    }
    for queue in queues {
        c.queue(queue);
        c.bind("x", BindTo::Queue(queue.as_bytes()), queue);
    }
    let fields = [("CC", keys(&["b"])), ("BCC", keys(&["hidden", "first"]))];
    let told = headers(&[("CC", keys(&["b"]))]);
    assert_eq!(send(&mut c, ("", "a"), &fields, "1"), Published::Routed);
    for queue in queues {
        assert_eq!(only(&mut c, queue).1, told);
    }
    // Each takes the letters of the one before.
    for (dies, next, expected) in [
        ("first", Some("second"), queues.as_slice()),
        ("second", Some("third"), &queues),
        ("third", Some("fourth"), &["a"]),
        ("fourth", None, &["a"]),
    ] {
        if let Some(next) = next {
            c.bind("x", BindTo::Queue(next.as_bytes()), "a");
        }
        c.reject(dies);
        if let Some(next) = next {
            c.unbind("x", BindTo::Queue(next.as_bytes()), "a");
        }
        for queue in expected {
            let (key, properties) = only(&mut c, queue);
            assert_eq!(key, "a");
            let view = MessageView { properties: &properties, ..message("", "", b"") };
            assert_eq!(view.header(&name("BCC")), None, "{dies}");
            assert!(!String::from_utf8_lossy(&properties).contains("hidden"), "{dies}");
        }
        assert_eq!(c.receivers(&queues), HashSet::new(), "{dies}");
    }
}

/// Though that key is the one it had, and it dies again where nothing tells the two apart but what it lost.
#[test]
fn further_keys_end_where_the_key_of_a_queue_is_the_own_one_too() {
    let mut c = with_queues("direct", &["b", "dead"]);
    c.vhost.declare_queue(with_dead_letters("first", "x", Some("first")), c.id).unwrap();
    c.vhost.declare_queue(with_dead_letters("second", "x", None), c.id).unwrap();
    c.bind("x", BindTo::Queue(b"second"), "first");
    assert_eq!(send(&mut c, ("", "first"), &[("CC", keys(&["b"]))], "1"), Published::Routed);
    only(&mut c, "b");
    for queue in ["first", "second"] {
        c.reject(queue);
        c.bind("x", BindTo::Queue(b"dead"), "first");
    }
    assert_eq!(c.receivers(&["b"]), HashSet::new());
    let (_, properties) = only(&mut c, "dead");
    let view = MessageView { properties: &properties, ..message("", "", b"") };
    assert_eq!(view.header(&name("CC")), None);
}

/// As RabbitMQ: a letter that went on by a key of a queue's goes by its own keys no more, and has no others in its history.
#[test]
fn further_keys_end_where_a_queue_has_a_key_for_its_letters() {
    let mut c = with_queues("direct", &["a", "b", "dead"]);
    c.vhost.declare_queue(with_dead_letters("first", "x", Some("second")), c.id).unwrap();
    c.vhost.declare_queue(with_dead_letters("second", "x", None), c.id).unwrap();
    c.bind("x", BindTo::Queue(b"second"), "second");
    assert_eq!(send(&mut c, ("", "first"), &[("CC", keys(&["b"]))], "1"), Published::Routed);
    only(&mut c, "b");
    for queue in ["first", "second"] {
        c.reject(queue);
        c.bind("x", BindTo::Queue(b"dead"), "second");
    }
    assert_eq!(c.receivers(&["a", "b"]), HashSet::new());
    let (_, properties) = only(&mut c, "dead");
    let view = MessageView { properties: &properties, ..message("", "", b"") };
    assert_eq!(view.header(&name("CC")), Some(keys(&["b"])), "it stays");
    let Some(Value::List(deaths)) = view.header(&name("x-death")) else { panic!("no history") };
    let went_by = deaths.iter().map(|death| {
        let Value::Map(death) = death else { panic!("no death") };
        death.iter().find(|(field, _)| field.as_text() == Some("routing-keys")).unwrap().1.clone()
    });
    assert_eq!(went_by.collect::<Vec<_>>(), [keys(&["second"]), keys(&["first", "b"])]);
}

#[test]
fn it_is_told_where_a_message_with_further_keys_would_go() {
    for to in ["", "x"] {
        let mut c = with_queues("direct", &["a", "b", "c"]);
        let properties = headers(&[("CC", keys(&["b"])), ("BCC", keys(&["a", "none"]))]);
        let message = MessageView { properties: &properties, ..message(to, "nobody", b"1") };
        let told = c.vhost.explain(&mut c.router, &message, false);
        let queues: HashSet<_> = told.queues.into_iter().collect();
        assert_eq!((queues, told.outcome), ([name("a"), name("b")].into(), Some(Published::Routed)));
        let properties = headers(&[("CC", Value::Integer(1))]);
        let message = MessageView { properties: &properties, ..message };
        let told = c.vhost.explain(&mut c.router, &message, false);
        assert!(matches!(told.outcome, Some(Published::Refused(_))), "{:?}", told.outcome);
    }
}

#[test]
fn receivers_of_other_messages_of_the_batch_see_all_their_headers() {
    let mut c = with_queues("direct", &["a", "b"]);
    let (hiding, plain) = (headers(&[("BCC", keys(&["b"]))]), headers(&[("h", Value::Integer(1))]));
    let to = message("x", "a", b"1");
    let hiding = MessageView { properties: &hiding, ..to };
    let more = hiding.more_keys().unwrap();
    let of = |message, more_keys| Publish { channel: 1, message, mandatory: false, more_keys };
    let batch = [of(hiding, more.as_deref()), of(MessageView { properties: &plain, ..to }, None)];
    let (mut outcomes, waker): (_, Arc<dyn Wake>) = (Vec::new(), c.bell.clone());
    c.publisher.publish(&c.vhost, &mut c.router, &batch, &mut outcomes, &waker);
    let mut found = Vec::new();
    while c.client.get(1, b"a", true, &mut c.router, &mut |got| found.push(seen(&got.message))).unwrap() {}
    assert_eq!(found, [headers(&[]), plain]);
    assert_eq!(c.drain_bodies("b"), ["1"]);
}
