//! Where rejected messages go.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, exchange, message, name, queue, text, with_alternate, with_dead_letters};
use leveret_amqp091::properties::MessageProperties;
use leveret_broker::{
    BACK_OFF_MS_FIRST, BACK_OFF_MS_MAX, BindTo, DeadLetterCounts, DeathReason, ExchangeSpec, Published,
    QueueSpec, REFUSALS_MAX, Settle, port::Intercepted,
};
use leveret_model::{Change, MessageView, Name, Patch, Property, Refusal, Table, Value};

const NOW_MS: u64 = 1_700_000_000_000;

/// A message as `basic.get` gives it.
#[derive(Debug)]
struct Letter {
    exchange: String,
    key: String,
    body: Vec<u8>,
    properties: Vec<u8>,
    redelivered: bool,
}

impl Letter {
    fn view(&self) -> MessageView<'_> {
        MessageView { properties: &self.properties, ..message("", "", b"") }
    }

    fn header(&self, header: &str) -> Option<Value> {
        self.view().header(&name(header))
    }

    /// Queue, reason and count of each death.
    fn deaths(&self) -> Vec<(String, String, i64)> {
        let Some(Value::List(entries)) = self.header("x-death") else { return Vec::new() };
        let death = |entry: &Value| {
            let Value::Map(entry) = entry else { panic!("{entry:?}") };
            let get = |key: &str| {
                entry.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value).unwrap()
            };
            let text = |key| String::from(get(key).as_text().unwrap());
            (text("queue"), text("reason"), get("count").as_integer().unwrap())
        };
        entries.iter().map(death).collect()
    }
}

/// What the tests here do with a connection.
trait Rejecting {
    fn declare(&mut self, spec: QueueSpec);
    fn letter(&mut self, queue: &str) -> Option<Letter>;
    fn reject(&mut self, queue: &str);
    fn send(&mut self, now_ms: u64);
    fn counts(&self, queue: &str) -> DeadLetterCounts;
}

impl Rejecting for Connection {
    fn declare(&mut self, spec: QueueSpec) {
        self.vhost.declare_queue(spec, self.id).unwrap();
    }

    fn letter(&mut self, queue: &str) -> Option<Letter> {
        let mut letter = None;
        let any = self.client.get(1, queue.as_bytes(), true, &mut self.router, &mut |got| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            letter = Some(Letter {
                exchange: text(got.message.exchange),
                key: text(got.message.routing_key),
                body: got.message.body.to_vec(),
                properties: got.message.properties.to_vec(),
                redelivered: got.redelivered,
            });
        });
        assert_eq!(any, Ok(letter.is_some()));
        letter
    }

    /// Gets a message, rejects it, and sends what that made a dead letter.
    fn reject(&mut self, queue: &str) {
        let (tag, ..) = self.get(queue).unwrap();
        self.client.settle(1, tag, false, Settle::Rejected).unwrap();
        self.send(NOW_MS);
    }

    fn send(&mut self, now_ms: u64) {
        self.router.memory.lock().unwrap().now_ms = now_ms;
        self.client.dead_letter(&mut self.router);
    }

    fn counts(&self, queue: &str) -> DeadLetterCounts {
        self.vhost.queue(queue.as_bytes()).unwrap().dead_lettering().unwrap().counts()
    }
}

/// A queue `work` whose dead letters go through `dlx` to the queue `dead`.
fn work_and_dead() -> Connection {
    let mut connection = Connection::first();
    connection.exchange(exchange("dlx", "fanout"));
    connection.queue("dead");
    connection.bind("dlx", BindTo::Queue(b"dead"), "");
    connection.declare(with_dead_letters("work", "dlx", None));
    connection
}

#[test]
fn without_a_dead_letter_exchange_what_is_rejected_is_gone() {
    let mut connection = Connection::first();
    connection.queue("work");
    connection.publish("", "work", "one");
    connection.reject("work");
    assert!(!connection.client.has_dead_letters());
    assert_eq!(connection.vhost.memory().bytes(), 0);
}

/// As RabbitMQ: what its consumer gives up with a nack was no failure.
#[test]
fn a_letter_comes_as_redelivered_if_somebody_failed_on_it() {
    let mut connection = work_and_dead();
    let requeue = Settle::Requeue { failed: true };
    for (before, last, expected) in [
        (None, Settle::Rejected, true),
        (None, Settle::Discarded, false),
        (Some(requeue), Settle::Discarded, true),
    ] {
        connection.publish("", "work", "one");
        for outcome in before.into_iter().chain([last]) {
            let (tag, ..) = connection.get("work").unwrap();
            connection.client.settle(1, tag, false, outcome).unwrap();
        }
        connection.send(NOW_MS);
        assert_eq!(connection.letter("dead").unwrap().redelivered, expected, "{before:?} {last:?}");
    }
}

#[test]
fn a_rejected_message_goes_on_with_its_history() {
    let mut connection = work_and_dead();
    connection.publish("", "work", "one");
    connection.reject("work");
    let letter = connection.letter("dead").unwrap();
    assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("dlx", "work"));
    assert_eq!((&letter.body[..], letter.redelivered), (&b"one"[..], true));
    assert_eq!(letter.deaths(), [("work".into(), "rejected".into(), 1)]);
    let Some(Value::List(entries)) = letter.header("x-death") else { panic!() };
    let Value::Map(entry) = &entries[0] else { panic!() };
    let time = entry.iter().find(|(key, _)| key.as_text() == Some("time"));
    assert_eq!(time.unwrap().1, Value::Timestamp(NOW_MS as i64));
    let first = letter.header("x-first-death-exchange");
    assert_eq!(first, Some(Value::Text(String::new())), "the default exchange");
    assert_eq!(letter.header("x-last-death-queue"), Some(Value::Text("work".into())));
    assert_eq!(connection.counts("work"), DeadLetterCounts { routed: 1, ..Default::default() });
    let work = connection.vhost.queue(b"work").unwrap();
    assert_eq!((work.status().messages, work.unsettled()), (0, 0));
    assert_eq!(connection.vhost.memory().bytes(), 0);
}

#[test]
fn a_key_of_the_queue_replaces_the_messages_own() {
    let mut connection = Connection::first();
    connection.queue("dead");
    connection.declare(with_dead_letters("work", "", Some("dead")));
    connection.publish("amq.fanout", "key", "lost");
    connection.bind("amq.fanout", BindTo::Queue(b"work"), "");
    connection.publish("amq.fanout", "key", "one");
    connection.reject("work");
    let letter = connection.letter("dead").unwrap();
    assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("", "dead"));
    assert_eq!(letter.header("x-first-death-exchange"), Some(Value::Text("amq.fanout".into())));
}

#[test]
fn order_is_that_of_the_rejections() {
    let mut connection = work_and_dead();
    for body in ["1", "2", "3", "4"] {
        connection.publish("", "work", body);
    }
    for _ in 0..4 {
        connection.get("work");
    }
    connection.client.settle(1, 3, false, Settle::Rejected).unwrap();
    connection.client.settle(1, 4, true, Settle::Rejected).unwrap();
    connection.send(NOW_MS);
    let bodies: Vec<String> = connection.drain("dead").into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(bodies, ["3", "1", "2", "4"]);
}

#[test]
fn a_message_lies_in_its_queue_until_it_is_where_it_should_go() {
    let mut connection = work_and_dead();
    connection.publish("", "work", "one");
    let (tag, ..) = connection.get("work").unwrap();
    connection.client.settle(1, tag, false, Settle::Rejected).unwrap();
    assert!(connection.client.has_dead_letters());
    assert_eq!(connection.client.unacknowledged(1), 0);
    assert_eq!(connection.vhost.queue(b"work").unwrap().unsettled(), 1);
    assert_eq!(connection.ready("dead"), 0);
    connection.send(NOW_MS);
    assert!(!connection.client.has_dead_letters());
    assert_eq!(connection.vhost.queue(b"work").unwrap().unsettled(), 0);
    assert_eq!(connection.ready("dead"), 1);
}

#[test]
fn rejecting_gives_credit_back() {
    let mut connection = work_and_dead();
    connection.client.qos(1, 1, false);
    connection.consume("work", "tag", false);
    connection.publish("", "work", "one");
    connection.publish("", "work", "two");
    assert_eq!(connection.bodies(), ["one"]);
    connection.client.settle(1, 1, false, Settle::Rejected).unwrap();
    assert_eq!(connection.bodies(), ["two"], "before the dead letter was sent");
}

#[test]
fn what_has_nowhere_to_go_is_gone() {
    let mut connection = Connection::first();
    connection.declare(with_dead_letters("missing", "not-there", None));
    connection.exchange(exchange("unbound", "fanout"));
    connection.declare(with_dead_letters("unbound", "unbound", None));
    connection.exchange(exchange("dropping", "drop"));
    connection.declare(with_dead_letters("dropping", "dropping", None));
    for queue in ["missing", "unbound", "dropping"] {
        connection.publish("", queue, "one");
        connection.reject(queue);
        assert_eq!((connection.ready(queue), connection.client.dead_letters_waiting()), (0, 0));
    }
    let unroutable = DeadLetterCounts { unroutable: 1, ..Default::default() };
    assert_eq!(connection.counts("missing"), unroutable);
    assert_eq!(connection.counts("unbound"), unroutable);
    assert_eq!(connection.counts("dropping"), DeadLetterCounts { dropped: 1, ..Default::default() });
    assert_eq!(connection.vhost.memory().bytes(), 0);
    connection.exchange(exchange("not-there", "fanout"));
    connection.queue("dead");
    connection.bind("not-there", BindTo::Queue(b"dead"), "");
    connection.publish("", "missing", "two");
    connection.reject("missing");
    assert_eq!(connection.drain("dead").len(), 1, "the exchange was declared later");
}

#[test]
fn the_walk_is_that_of_a_publish() {
    let mut connection = Connection::first();
    connection.exchange(exchange("alternate", "fanout"));
    connection.exchange(with_alternate("dlx", "direct", "alternate"));
    connection.exchange(exchange("next", "fanout"));
    for queue in ["by-alternate", "by-next"] {
        connection.queue(queue);
    }
    connection.bind("alternate", BindTo::Queue(b"by-alternate"), "");
    connection.bind("dlx", BindTo::Exchange(b"next"), "work");
    connection.bind("next", BindTo::Queue(b"by-next"), "");
    connection.declare(with_dead_letters("work", "dlx", None));
    connection.declare(with_dead_letters("other", "dlx", None));
    for queue in ["work", "other"] {
        connection.publish("", queue, "one");
        connection.reject(queue);
    }
    assert_eq!(connection.drain("by-next")[0].1, "work");
    assert_eq!(connection.drain("by-alternate")[0], ("dlx".into(), "other".into(), "one".into()));
}

#[test]
fn a_message_goes_round_as_long_as_clients_reject_it() {
    let mut connection = Connection::first();
    connection.declare(with_dead_letters("a", "", Some("b")));
    connection.declare(with_dead_letters("b", "", Some("a")));
    connection.declare(with_dead_letters("self", "", None));
    connection.publish("", "a", "one");
    for _ in 0..3 {
        connection.reject("a");
        connection.reject("b");
    }
    let rejected = |queue: &str, count| (String::from(queue), String::from("rejected"), count);
    let letter = connection.letter("a").unwrap();
    assert_eq!(letter.deaths(), [rejected("b", 3), rejected("a", 3)]);
    connection.publish("", "self", "one");
    connection.reject("self");
    connection.reject("self");
    assert_eq!(connection.letter("self").unwrap().deaths(), [rejected("self", 2)]);
}

#[test]
fn the_expiration_goes_and_a_forged_history_does_not_count() {
    let mut connection = work_and_dead();
    let forged = Value::List(vec![Value::Map(vec![(Value::Text("count".into()), Value::Integer(9))])]);
    let headers: Table = [(name("x-death"), forged), (name("kept"), Value::Integer(1))].into_iter().collect();
    let properties = MessageProperties {
        headers: Some(headers),
        expiration: Some(b"5000"),
        message_id: Some(b"id"),
        ..MessageProperties::default()
    }
    .encode();
    connection.publish_all(&[MessageView { properties: &properties, ..message("", "work", b"one") }]);
    connection.reject("work");
    let letter = connection.letter("dead").unwrap();
    assert_eq!(letter.deaths(), [("work".into(), "rejected".into(), 1)]);
    assert_eq!(letter.header("kept"), Some(Value::Integer(1)));
    assert_eq!(letter.view().property(Property::Expiration), None);
    assert_eq!(letter.view().property(Property::MessageId), Some(Value::Text("id".into())));
}

#[test]
fn a_refused_letter_stays_and_comes_again_after_a_while() {
    for type_name in ["reject", "trap", "park"] {
        let mut connection = Connection::first();
        connection.exchange(exchange("dlx", type_name));
        connection.declare(with_dead_letters("work", "dlx", None));
        connection.publish("", "work", "one");
        connection.reject("work");
        let refused = |refused| DeadLetterCounts { refused, ..Default::default() };
        assert_eq!(connection.counts("work"), refused(1));
        assert_eq!((connection.ready("work"), connection.client.dead_letters_waiting()), (0, 1));
        assert!(!connection.client.has_dead_letters());
        let mut due_ms = connection.client.dead_letters_due_ms().unwrap();
        assert_eq!(due_ms, NOW_MS + BACK_OFF_MS_FIRST);
        connection.send(due_ms - 1);
        assert_eq!(connection.counts("work"), refused(1), "not due yet");
        let tries_max = if type_name == "park" { 19 } else { u64::from(REFUSALS_MAX) - 1 };
        for tries in 2..=tries_max {
            connection.send(due_ms);
            assert_eq!(connection.counts("work"), refused(tries));
            let next_ms = connection.client.dead_letters_due_ms().unwrap();
            assert_eq!(next_ms - due_ms, (BACK_OFF_MS_FIRST << (tries - 1)).min(BACK_OFF_MS_MAX));
            due_ms = next_ms;
        }
        connection.router.intercepted.clear();
        connection.send(NOW_MS - 1000);
        assert_eq!(connection.router.intercepted.len(), 1, "a clock that was set back");
        // Another type behind the exchange's name: now it goes through.
        connection.vhost.delete_exchange(&mut connection.router, b"dlx", false).unwrap();
        connection.exchange(exchange("dlx", "fanout"));
        connection.queue("dead");
        connection.bind("dlx", BindTo::Queue(b"dead"), "");
        connection.send(NOW_MS + BACK_OFF_MS_MAX);
        assert_eq!(connection.letter("dead").unwrap().deaths(), [("work".into(), "rejected".into(), 1)]);
        assert_eq!(connection.client.dead_letters_waiting(), 0);
        assert_eq!(connection.vhost.memory().bytes(), 0);
    }
}

#[test]
fn a_refused_letter_does_not_hold_up_others() {
    let mut connection = Connection::first();
    connection.exchange(exchange("no", "reject"));
    connection.queue("dead");
    connection.declare(with_dead_letters("refused", "no", None));
    connection.declare(with_dead_letters("work", "", Some("dead")));
    for queue in ["refused", "work"] {
        connection.publish("", queue, "one");
        connection.get(queue);
    }
    connection.client.settle(1, 0, true, Settle::Rejected).unwrap();
    connection.send(NOW_MS);
    assert_eq!((connection.ready("dead"), connection.client.dead_letters_waiting()), (1, 1));
}

#[test]
fn a_pending_answer_is_asked_for_again_and_order_is_kept() {
    let mut connection = Connection::first();
    connection.exchange(exchange("first", "fanout"));
    connection.exchange(exchange("dlx", "later"));
    connection.queue("dead");
    connection.bind("first", BindTo::Exchange(b"dlx"), "");
    connection.bind("dlx", BindTo::Queue(b"dead"), "work");
    connection.bind("dlx", BindTo::Queue(b"dead"), "walk");
    connection.declare(with_dead_letters("work", "dlx", None));
    connection.declare(with_dead_letters("walk", "first", None));
    for (queue, body) in [("work", "1"), ("work", "2"), ("walk", "3"), ("work", "4")] {
        connection.publish("", queue, body);
        connection.get(queue);
        connection.client.settle(1, 0, true, Settle::Rejected).unwrap();
        connection.send(NOW_MS);
        assert!(!connection.client.has_dead_letters(), "not before a wake");
    }
    assert_eq!((connection.client.dead_letters_waiting(), connection.ready("dead")), (4, 0));
    let asked = connection.router.route_calls;
    connection.send(NOW_MS);
    assert_eq!(connection.router.route_calls, asked + 1, "what is behind is not asked about");
    assert_eq!(connection.client.dead_letters_due_ms(), None, "it is the waker that says when");
    connection.router.answer_now = true;
    connection.send(NOW_MS);
    let bodies: Vec<String> = connection.drain("dead").into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(bodies, ["1", "2", "3", "4"]);
    assert_eq!(connection.client.dead_letters_waiting(), 0);
}

#[test]
fn when_the_connection_ends_its_dead_letters_go_back() {
    for type_name in ["reject", "later"] {
        let mut connection = Connection::first();
        connection.exchange(exchange("dlx", type_name));
        connection.declare(with_dead_letters("work", "dlx", None));
        let mut other = Connection::to(&connection.vhost);
        connection.publish("", "work", "one");
        connection.publish("", "work", "two");
        connection.reject("work");
        assert_eq!(connection.ready("work"), 1);
        drop(connection);
        let letter = other.letter("work").unwrap();
        assert_eq!((&letter.body[..], letter.redelivered), (&b"one"[..], true), "at the front again");
        assert!(letter.deaths().is_empty());
        assert_eq!(other.drain("work").len(), 1);
        assert_eq!(other.vhost.memory().bytes(), 0);
    }
}

#[test]
fn a_deleted_queue_takes_its_dead_letters_with_it() {
    let mut connection = Connection::first();
    connection.exchange(exchange("dlx", "later"));
    connection.declare(with_dead_letters("work", "dlx", None));
    connection.publish("", "work", "one");
    connection.reject("work");
    connection.vhost.delete_queue(&mut connection.router, b"work", false, false, connection.id).unwrap();
    connection.send(NOW_MS);
    assert_eq!(connection.client.dead_letters_waiting(), 0);
    assert_eq!(connection.vhost.memory().bytes(), 0);
}

#[test]
fn an_interceptor_may_change_drop_or_reject_a_letter() {
    let mut connection = work_and_dead();
    connection.queue("elsewhere");
    connection.declare(with_dead_letters("default", "", Some("dead")));
    let patch: Patch = [
        Change::SetHeader { name: name("added"), value: Value::Boolean(true) },
        Change::SetRoutingKey(name("elsewhere")),
        Change::SetBody(b"other".to_vec().into()),
    ]
    .into_iter()
    .collect();
    connection.router.interception = Some(Intercepted::Patch(patch));
    connection.publish("", "default", "one");
    connection.reject("default");
    let letter = connection.letter("elsewhere").unwrap();
    assert_eq!((&letter.body[..], letter.header("added")), (&b"other"[..], Some(Value::Boolean(true))));
    assert_eq!(letter.deaths(), [("default".into(), "rejected".into(), 1)]);
    let shown = [(String::from("default"), DeathReason::Rejected, String::new())];
    assert_eq!(connection.router.intercepted, shown);

    connection.router.interception = Some(Intercepted::Drop);
    connection.publish("", "work", "one");
    connection.reject("work");
    assert_eq!(connection.counts("work"), DeadLetterCounts { dropped: 1, ..Default::default() });

    let misfit = [Change::SetProperty { property: Property::Priority, value: Value::Void }];
    let refusals = [Intercepted::Reject("no".into()), Intercepted::Patch(misfit.into_iter().collect())];
    for (refused, interception) in refusals.into_iter().enumerate() {
        connection.router.interception = Some(interception);
        connection.publish("", "work", "one");
        connection.reject("work");
        let counts = DeadLetterCounts { dropped: 1, refused: refused as u64 + 1, ..Default::default() };
        assert_eq!(connection.counts("work"), counts);
    }
    assert_eq!(connection.ready("dead"), 0);
    connection.router.interception = None;
    connection.send(NOW_MS + BACK_OFF_MS_FIRST);
    assert_eq!(connection.drain("dead").len(), 2);
}

#[test]
fn many_and_large_letters_lose_nothing() {
    let mut connection = work_and_dead();
    connection.queue("copy");
    connection.bind("dlx", BindTo::Queue(b"copy"), "");
    let bodies: Vec<Vec<u8>> = (0..1000_usize)
        .map(|i| {
            let length = if i % 50 == 0 { 40_000 } else { i * 7 };
            (0..length).map(|at| (at + i) as u8).collect()
        })
        .collect();
    let messages: Vec<_> = bodies.iter().map(|body| message("", "work", body)).collect();
    connection.publish_all(&messages);
    connection.consume("work", "tag", false);
    assert_eq!(connection.deliveries().len(), bodies.len());
    connection.client.settle(1, 0, true, Settle::Rejected).unwrap();
    connection.send(NOW_MS);
    for queue in ["dead", "copy"] {
        for body in &bodies {
            assert_eq!(&connection.letter(queue).unwrap().body, body);
        }
        assert!(connection.letter(queue).is_none());
    }
    assert_eq!(connection.vhost.memory().bytes(), 0);
}

#[test]
fn names_in_arguments_need_not_be_text() {
    let mut connection = Connection::first();
    let bytes = Name::new(b"\xff\xfe").unwrap();
    let long_string = || Value::string(&bytes);
    connection.exchange(ExchangeSpec { name: bytes.clone(), ..exchange("", "direct") });
    connection.queue("dead");
    connection
        .vhost
        .bind(&mut connection.router, &bytes, BindTo::Queue(b"dead"), &bytes, Table::new(), connection.id)
        .unwrap();
    let arguments = [("x-dead-letter-exchange", long_string()), ("x-dead-letter-routing-key", long_string())];
    let arguments: Table = arguments.map(|(argument, value)| (name(argument), value)).into_iter().collect();
    let spec = || QueueSpec { arguments: arguments.clone(), ..queue("q") };
    for _ in 0..2 {
        connection.vhost.declare_queue(spec(), connection.id).unwrap();
    }
    connection.publish("", "q", "1");
    let (tag, ..) = connection.get("q").unwrap();
    connection.client.settle(1, tag, false, Settle::Rejected).unwrap();
    connection.send(NOW_MS);
    assert_eq!(connection.get("dead").unwrap().2, "1");
    // As an alternate exchange, likewise.
    let arguments = [(name("alternate-exchange"), long_string())].into_iter().collect();
    connection.exchange(ExchangeSpec { arguments, ..exchange("x", "direct") });
    assert_eq!(connection.publish("x", "nobody", "2"), Published::Unroutable);
    connection
        .vhost
        .bind(&mut connection.router, &bytes, BindTo::Queue(b"dead"), b"nobody", Table::new(), connection.id)
        .unwrap();
    assert_eq!(connection.publish("x", "nobody", "2"), Published::Routed);
    for (argument, why) in [
        ("x-max-length", "\"expected integer, got longstr\""),
        ("x-overflow", "invalid_overflow"),
        ("x-single-active-consumer", "{unacceptable_type,longstr}"),
    ] {
        let arguments = [(name(argument), long_string())].into_iter().collect();
        let refused = connection.vhost.declare_queue(QueueSpec { arguments, ..queue("r") }, connection.id);
        let text = format!("invalid arg '{argument}' for queue 'r' in vhost '/': {why}");
        assert_eq!(refused.unwrap_err(), Refusal::InvalidArgument { text });
    }
}

#[test]
fn arguments_are_checked_in_rabbitmqs_words() {
    let connection = Connection::first();
    let refused = |arguments: Table| {
        let spec = QueueSpec { arguments, ..queue("q") };
        match connection.vhost.declare_queue(spec, connection.id) {
            Err(Refusal::InvalidArgument { text }) => text,
            other => panic!("{other:?}"),
        }
    };
    let one = |argument: &str, value: Value| [(name(argument), value)].into_iter().collect::<Table>();
    const EXCHANGE: &str = "x-dead-letter-exchange";
    const KEY: &str = "x-dead-letter-routing-key";
    for (value, type_name) in [
        (Value::Integer(1), "signedint"),
        (Value::Integer(1 << 40), "long"),
        (Value::Boolean(true), "bool"),
        (Value::Void, "void"),
        (Value::List(vec![]), "array"),
        (Value::Binary(b"bytes"[..].into()), "binary"),
    ] {
        assert_eq!(
            refused(one(EXCHANGE, value.clone())),
            format!("invalid type '{type_name}' for arg '{EXCHANGE}' in queue 'q' in vhost '/'")
        );
        let mut both = text(EXCHANGE, "x");
        both.push(name(KEY), value);
        assert_eq!(
            refused(both),
            format!("invalid arg '{KEY}' for queue 'q' in vhost '/': {{unacceptable_type,{type_name}}}")
        );
    }
    assert_eq!(
        refused(text(KEY, "key")),
        format!("invalid arg '{KEY}' for queue 'q' in vhost '/': routing_key_but_no_dlx_defined")
    );
    let long = "x".repeat(Name::BYTES_MAX + 1);
    assert!(refused(text(EXCHANGE, &long)).ends_with("longer than 255 bytes"));
    let mut both = text(EXCHANGE, "x");
    both.push(name(KEY), Value::Text(long));
    assert!(refused(both).ends_with("longer than 255 bytes"));
    assert!(connection.vhost.queue(b"q").is_none());
}
