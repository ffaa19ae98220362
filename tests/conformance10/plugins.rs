//! What plugins decide of messages of AMQP 1.0, and what they make of them: as of those of 0-9-1, in the words of this
//! protocol. What a sender may have signed, the bare message, stays as it is (section 3.2) unless the operator grants
//! more.

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    part4_transactions::Transacting,
    peer::{awaited, credit, receiver, sender, source, target},
    queue_address,
};
use leveret_amqp10::{
    Performative, Value,
    composite::ApplicationMap,
    message::Message,
    messaging::{DeliveryState, Rejected},
    performatives::{Disposition, Role},
};
use leveret_testkit::{
    Broker, ScratchDirectory, guests,
    wire::{Arguments, id},
};

/// A footer with something in it that only its sender can make.
const FOOTER: &[u8] = b"\x00\x53\x78\xc1\x0c\x02\xa3\x03sig\xa1\x04mine";
/// The application property `k` of the value `v`.
const APPLICATION: &[u8] = b"\x00\x53\x74\xc1\x07\x02\xa1\x01k\xa1\x01v";

pub(crate) fn start(tables: &str, guests: &[&str]) -> (Broker, ScratchDirectory) {
    let kept = ScratchDirectory::new("plugins10");
    let file = kept.path().join("leveret.toml");
    std::fs::write(&file, tables).unwrap();
    let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--config").argument(file);
    let builder = guests.iter().fold(builder, |builder, guest| builder.plugin(guests::component(guest)));
    (builder.start(), kept)
}

/// A message as a sender may have signed it.
fn signed() -> Vec<u8> {
    [APPLICATION, &message(b"body"), FOOTER].concat()
}

/// A client that sends to one address after the other.
struct Sender {
    peer: Peer,
    sent: u32,
}

impl Sender {
    fn new(broker: &Broker) -> Self {
        Self { peer: Peer::begun(broker), sent: 0 }
    }

    /// Sends a message; what became of it, in words.
    fn send(&mut self, exchange: &str, key: &str, message: &[u8]) -> String {
        let (id, key) = (self.sent, key.replace(' ', "%20"));
        self.sent += 1;
        let address = format!("/exchanges/{exchange}/{key}");
        self.peer.attach(0, &sender(id, &format!("to {id}"), target(&address)));
        self.peer.transfer(0, &transfer(id, id, &id.to_be_bytes()), message);
        awaited!(self.peer, Disposition, it => match it.state.expect("a state") {
            DeliveryState::Accepted(_) => "accepted".to_owned(),
            DeliveryState::Released(_) => "released".to_owned(),
            DeliveryState::Rejected(rejected) => {
                let error = rejected.error.expect("an error");
                format!("{}: {}", error.condition, error.description.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        })
    }
}

/// A client that gets messages of one queue.
struct Receiver {
    peer: Peer,
    received: u32,
}

impl Receiver {
    fn new(broker: &Broker, queue: &str) -> Self {
        let mut peer = Peer::begun(broker);
        let address = queue_address(queue);
        peer.attach(0, &receiver(0, "from", source(&address)));
        Self { peer, received: 0 }
    }

    /// The number of the next message, and the message.
    fn next(&mut self) -> (u32, Vec<u8>) {
        self.peer.say(0, &credit(0, self.received, 1));
        self.received += 1;
        loop {
            let came = self.peer.frame();
            if let (Performative::Transfer(it), payload) = came.read() {
                return (it.delivery_id.unwrap(), payload.to_vec());
            }
        }
    }

    fn reject(&mut self, id: u32) {
        let state = Some(Rejected { error: None }.into());
        let role = Role::Receiver;
        self.peer.say(0, &Disposition { role, first: id, settled: true, state, ..Disposition::default() });
    }
}

pub(crate) fn annotation(message: &[u8], name: &str) -> Option<String> {
    match Message::new(message).unwrap().message_annotations().get(name)? {
        Value::String(text) => Some(text.to_owned()),
        other => panic!("{other:?}"),
    }
}

fn of_application(message: &[u8], name: &str) -> Option<String> {
    let application: ApplicationMap<'_> = Message::new(message).unwrap().application_properties();
    match application.get(name)? {
        Value::String(text) => Some(text.to_owned()),
        other => panic!("{other:?}"),
    }
}

/// That what the sender may have signed came as it was sent.
fn is_as_signed(message: &[u8]) -> bool {
    let sent = signed();
    Message::new(message).unwrap().bare() == Message::new(&sent).unwrap().bare() && message.ends_with(FOOTER)
}

/// What a type decides becomes an outcome; a rejection says why.
#[test]
fn what_a_type_decides_is_told_as_an_outcome() {
    let grants = "grants = [\"clock\", \"random\", \"log\", \"metric\", \"key-value\", \"message-store\", \"hold\", \
                  \"timer\", \"enqueue\", \"emit\", \"queue-info\", \"publisher\"]";
    let (broker, _kept) = start(&format!("[plugins.obeys]\n{grants}\n"), &["obeys"]);
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let exchange = other.slow_exchange("x-obeys", 0, &queue, "");
    let (mut sender, mut receiver) = (Sender::new(&broker), Receiver::new(&broker, &queue));
    for (key, outcome) in [
        ("plain", "accepted"),
        ("drop why", "accepted"),
        ("reject because", "because"),
        ("trap", "asked to"),
        ("once a", "accepted"),
        ("once a", "accepted"),
        ("hold 1", "accepted"),
    ] {
        let became = sender.send(&exchange, key, &signed());
        assert!(became.contains(outcome), "{key}: {became}");
        let rejected = !["accepted", "released"].contains(&outcome);
        assert!(!rejected || became.starts_with("amqp:precondition-failed"), "{key}: {became}");
    }
    // To nobody: there is no queue for it.
    assert_eq!(sender.send("amq.direct", "nobody", &signed()), "released");
    // What was accepted and not dropped is there, each once, the held one last.
    let keys: Vec<_> = (0..3).map(|_| annotation(&receiver.next().1, "x-routing-key").unwrap()).collect();
    assert_eq!(keys, ["plain", "once a", "hold 1"]);
    // Who published is told as it is in the management API.
    let who = other.slow_exchange("x-who", 0, &queue, "");
    assert_eq!(sender.send(&who, "", &signed()), "accepted");
    let connections = told(&broker, "connections");
    let connections: Vec<_> = connections.as_array().unwrap().iter().collect();
    let seen = told(&broker, "plugins/x-who/vhosts/%2F");
    let reason = seen["drops"][0]["reason"].as_str().unwrap();
    let (publisher, connection) = reason.split_once(" on ").unwrap();
    assert_eq!(publisher, "guest by amqp-1-0");
    let named = connections.iter().filter(|told| told["name"] == connection).count();
    assert_eq!(named, 1, "{connection} is none of {connections:?}");
    assert_eq!(other.ready(&queue), 0);
}

/// What is discharged as failed leaves nothing of what a type did for it; what is committed does.
#[test]
fn what_is_rolled_back_was_not_seen_by_a_type() {
    let (broker, _kept) = start("[plugins.once]\ngrants = [\"key-value\"]\n", &["once"]);
    let mut transacting = Transacting::new(&broker, &[]);
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let exchange = other.slow_exchange("x-once", 0, &queue, "");
    let address = format!("/exchanges/{exchange}/a");
    transacting.peer.attach(0, &sender(3, "to the type", target(&address)));
    for (fail, ready) in [(true, 0), (true, 0), (false, 1), (false, 1)] {
        let txn = transacting.declare();
        transacting.send_on(3, &txn, b"once");
        assert_eq!(transacting.discharge(&txn, fail), None);
        assert_eq!(other.ready(&queue), ready, "{fail}");
    }
}

fn told(broker: &Broker, path: &str) -> serde_json::Value {
    let url = format!("http://{}/api/{path}", broker.http_address());
    let told = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").call().unwrap();
    serde_json::from_slice(&told.into_body().read_to_vec().unwrap()).unwrap()
}

/// What `append` is attached with.
pub(crate) fn append(point: &str, at: &str, header: &str, more: &str) -> String {
    format!(
        "[[intercept]]\ninterceptor = \"append\"\npoint = \"{point}\"\norder = 1\n{at}\n{more}\n\
         arguments = {{ header = \"{header}\", value = \"%\" }}\n"
    )
}

pub(crate) fn bind(other: &mut Other, queue: &str, exchange: &str, key: &str) {
    let bind = Arguments::new().short(0).short_string(queue).short_string(exchange).short_string(key);
    other.0.send_method(1, id::QUEUE_BIND, bind.bits(&[false]).empty_table());
    other.0.expect_method(1, id::QUEUE_BIND_OK);
}

/// Publishes four bytes without properties, by 0-9-1.
fn publish(other: &mut Other, exchange: &str, key: &str) {
    other.0.send_method(1, id::BASIC_PUBLISH, Arguments::publish(exchange, key));
    other.0.send_frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0]);
    other.0.send_frame(3, 1, b"body");
}

/// Annotations are changed by any interceptor, at every point, and the bare message and the footer stay as they were.
#[test]
fn interceptors_change_annotations_at_every_point() {
    let by_key = "[[intercept]]\ninterceptor = \"by-key\"\npoint = \"publish\"\norder = 5\n";
    let tables = [
        append("publish", "exchange = \"amq.topic\"", "x-published", ""),
        append("deliver", "queue = \"queue-*\"", "x-delivered", ""),
        append("dead-letter", "", "x-died", ""),
        by_key.to_owned(),
    ];
    let (broker, _kept) = start(&tables.concat(), &["interceptors_v1"]);
    let mut other = Other::new(&broker);
    let dead = other.queue(&[]);
    bind(&mut other, &dead, "amq.fanout", "k");
    let queue = other.queue(&[("x-dead-letter-exchange", "amq.fanout")]);
    bind(&mut other, &queue, "amq.topic", "k");
    let mut sender = Sender::new(&broker);
    assert_eq!(sender.send("amq.topic", "k", &signed()), "accepted");
    for (key, outcome) in [("drop", "accepted"), ("reject", "precondition-failed"), ("trap", "asked to")] {
        let became = sender.send("amq.topic", key, &signed());
        assert!(became.contains(outcome), "{key}: {became}");
    }
    let mut receiver = Receiver::new(&broker, &queue);
    let (id, came) = receiver.next();
    assert!(is_as_signed(&came), "{came:?}");
    for (name, value) in [("x-published", Some("1")), ("x-delivered", Some("1")), ("x-died", None)] {
        assert_eq!(annotation(&came, name).as_deref(), value, "{name}");
    }
    receiver.reject(id);
    let (_, letter) = Receiver::new(&broker, &dead).next();
    assert!(is_as_signed(&letter), "{letter:?}");
    for (name, value) in [("x-published", "1"), ("x-delivered", "1"), ("x-died", "1")] {
        assert_eq!(annotation(&letter, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(other.ready(&queue), 0);
}

/// Interceptors see the same fields of a message as of one of 0-9-1 (`tests/interceptors/seen.rs`), at every point.
#[test]
fn interceptors_see_the_same_as_of_0_9_1() {
    let tell = |point: &str| {
        format!(
            "[[intercept]]\ninterceptor = \"tell\"\npoint = \"{point}\"\norder = 1\n\
             arguments = {{ header = \"x-{point}\" }}\n"
        )
    };
    let tables = ["publish", "deliver", "dead-letter"].map(tell).concat();
    let tables = format!("[plugins.tells]\ngrants = [\"publisher\"]\n{tables}");
    let (broker, _kept) = start(&tables, &["tells"]);
    let mut other = Other::new(&broker);
    let dead = other.queue(&[]);
    bind(&mut other, &dead, "amq.fanout", "");
    let queue = other.queue(&[("x-dead-letter-exchange", "amq.fanout")]);
    bind(&mut other, &queue, "amq.topic", "k");
    // A content type, the header `h`, four bytes.
    let properties = b"\x00\x53\x73\xc0\x0f\x07\x40\x40\x40\x40\x40\x40\xa3\x06text/x";
    let application = b"\x00\x53\x74\xc1\x07\x02\xa1\x01h\xa1\x01v";
    let sent = [&properties[..], application, &message(b"body")].concat();
    assert_eq!(Sender::new(&broker).send("amq.topic", "k", &sent), "accepted");
    let mut receiver = Receiver::new(&broker, &queue);
    let (id, came) = receiver.next();
    let published = "k amq.topic   guest/amqp-1-0 text/x v body";
    assert_eq!(annotation(&came, "x-publish").as_deref(), Some(published));
    let delivered = format!("k amq.topic {queue}   text/x v body");
    assert_eq!(annotation(&came, "x-deliver"), Some(delivered));
    receiver.reject(id);
    let (_, letter) = Receiver::new(&broker, &dead).next();
    let died = format!("k amq.fanout {queue} rejected  text/x v body");
    assert_eq!(annotation(&letter, "x-dead-letter"), Some(died));
}

/// To change the bare message needs the grant, whatever is changed of it; the failure policy says what becomes of the
/// message without. Messages of 0-9-1 have no such part.
#[test]
fn the_bare_message_is_changed_with_the_grant_alone() {
    for grants in ["", "[plugins.interceptors_v1]\ngrants = [\"modify-body\"]\n"] {
        let tables = [
            grants.to_owned(),
            append("publish", "exchange = \"amq.topic\"", "signed", ""),
            append("publish", "exchange = \"amq.direct\"", "signed", "on-failure = \"bypass\""),
        ];
        let (broker, _kept) = start(&tables.concat(), &["interceptors_v1"]);
        let mut other = Other::new(&broker);
        let queue = other.queue(&[]);
        for exchange in ["amq.topic", "amq.direct"] {
            bind(&mut other, &queue, exchange, "k");
        }
        let (mut sender, mut receiver) = (Sender::new(&broker), Receiver::new(&broker, &queue));
        let became = sender.send("amq.topic", "k", &signed());
        let rejected = became.starts_with("amq") && became.contains("modify-body");
        assert_eq!((rejected, became == "accepted"), (grants.is_empty(), !grants.is_empty()), "{became}");
        assert_eq!(sender.send("amq.direct", "k", &signed()), "accepted");
        if !rejected {
            let (_, came) = receiver.next();
            assert_eq!(of_application(&came, "signed").as_deref(), Some("1"));
            assert_eq!(of_application(&came, "k").as_deref(), Some("v"));
            assert!(
                !came.windows(FOOTER.len()).any(|bytes| bytes == FOOTER),
                "the footer is of another message"
            );
        }
        let (_, came) = receiver.next();
        assert_eq!(
            (is_as_signed(&came), of_application(&came, "signed")),
            match rejected {
                true => (true, None),
                false => (false, Some("1".to_owned())),
            }
        );
        let seen = told(&broker, "plugins-interceptors");
        assert_eq!(seen.to_string().contains("modify-body"), rejected, "{seen}");
        // From 0-9-1.
        for exchange in ["amq.topic", "amq.direct"] {
            publish(&mut other, exchange, "k");
            let (_, came) = receiver.next();
            assert_eq!(of_application(&came, "signed").as_deref(), Some("1"), "{exchange}");
        }
        // The verdict is remembered, and what may be done with it is looked at each time.
        for _ in 0..3 {
            assert_eq!(sender.send("amq.topic", "k", &signed()).contains("modify-body"), rejected);
        }
    }
}

/// What a message of this protocol cannot have (an application property is no list) meets the failure policy too, though
/// one of 0-9-1 can have it.
#[test]
fn what_a_message_cannot_have_meets_the_failure_policy() {
    let list = |exchange: &str, policy: &str| {
        format!(
            "[[intercept]]\ninterceptor = \"evil\"\npoint = \"publish\"\norder = 1\nexchange = \"{exchange}\"\n\
             on-failure = \"{policy}\"\narguments = {{ how = \"list\" }}\n"
        )
    };
    let tables = format!(
        "[plugins.evil_interceptor]\ngrants = [\"modify-body\"]\n{}{}{}",
        list("amq.topic", "bypass"),
        list("amq.direct", "reject"),
        list("amq.fanout", "unroutable")
    );
    let (broker, _kept) = start(&tables, &["evil_interceptor"]);
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    for exchange in ["amq.topic", "amq.direct", "amq.fanout"] {
        bind(&mut other, &queue, exchange, "evil");
    }
    let (mut sender, mut receiver) = (Sender::new(&broker), Receiver::new(&broker, &queue));
    assert_eq!(sender.send("amq.topic", "evil", &signed()), "accepted");
    assert!(is_as_signed(&receiver.next().1));
    let became = sender.send("amq.direct", "evil", &signed());
    assert!(became.contains("no list") && became.contains("the interceptor 'evil'"), "{became}");
    assert_eq!(sender.send("amq.fanout", "evil", &signed()), "released");
    let seen = told(&broker, "plugins-interceptors").to_string();
    assert!(seen.contains("no list") && seen.contains("\"bad_answers\":3"), "{seen}");
    // From 0-9-1 it goes through.
    for exchange in ["amq.topic", "amq.direct", "amq.fanout"] {
        publish(&mut other, exchange, "evil");
        receiver.next();
    }
    assert_eq!(other.ready(&queue), 0);
}
