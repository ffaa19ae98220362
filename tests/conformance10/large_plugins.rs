//! Large messages past plugins: these see all of them but the body, and what they make of them comes with it.

use super::{
    Other,
    large::{BODY_BYTES, body, durable, outcome, receive, receiver_from, send, send_but, sender_to, settle},
    plugins::{annotation, append, bind, start},
};
use leveret_amqp10::{form::Kept, message::Message, messaging::Rejected};
use leveret_testkit::unique_name;

/// That this is the message, but for its header and annotations.
fn is(came: &[u8], sent: &[u8]) -> bool {
    Message::new(came).unwrap().bare() == Message::new(sent).unwrap().bare()
}

#[test]
fn interceptors_change_what_stands_in_front_of_the_body() {
    let tables = [
        append("publish", "exchange = \"amq.topic\"", "x-published", ""),
        append("deliver", "queue = \"queue-*\"", "x-delivered", ""),
        append("dead-letter", "", "x-died", ""),
        "[[intercept]]\ninterceptor = \"tell\"\npoint = \"publish\"\norder = 9\n\
         arguments = { header = \"x-told\" }\n"
            .to_owned(),
        "[[intercept]]\ninterceptor = \"by-key\"\npoint = \"publish\"\norder = 10\n".to_owned(),
        "[plugins.tells]\ngrants = [\"publisher\"]\n[plugins.interceptors_v1]\ngrants = [\"modify-body\"]\n"
            .to_owned(),
    ];
    let (broker, _kept) = start(&tables.concat(), &["interceptors_v1", "tells"]);
    let mut other = Other::new(&broker);
    let dead = other.queue(&[]);
    bind(&mut other, &dead, "amq.fanout", "");
    let queue = other.queue(&[("x-dead-letter-exchange", "amq.fanout")]);
    for key in ["k", "body"] {
        bind(&mut other, &queue, "amq.topic", key);
    }
    let sent = durable(true, &body(3, BODY_BYTES));
    send(&mut sender_to(&broker, "/exchanges/amq.topic/k"), 0, 0, &sent);
    let mut receiver = receiver_from(&broker, &queue);
    let (id, came) = receive(&mut receiver, 0);
    assert!(is(&came, &sent));
    for (name, value) in [("x-published", Some("1")), ("x-delivered", Some("1")), ("x-died", None)] {
        assert_eq!(annotation(&came, name).as_deref(), value, "{name}");
    }
    let told = "k amq.topic   guest/amqp-1-0 None None none";
    assert_eq!(annotation(&came, "x-told").as_deref(), Some(told));
    settle(&mut receiver, id, Rejected { error: None });
    let (_, letter) = receive(&mut receiver_from(&broker, &dead), 0);
    assert!(is(&letter, &sent));
    for (name, value) in [("x-published", "1"), ("x-delivered", "1"), ("x-died", "1")] {
        assert_eq!(annotation(&letter, name).as_deref(), Some(value), "{name}");
    }
    // Another body takes the place of the file's.
    send(&mut sender_to(&broker, "/exchanges/amq.topic/body"), 0, 0, &sent);
    let (_, came) = receive(&mut receiver, 0);
    assert_eq!(Kept::of(&came).unwrap().body(&came), b"replaced");
}

#[test]
fn types_hold_copy_and_refuse_them_and_keep_none() {
    let grants = "grants = [\"message-store\", \"hold\", \"timer\", \"enqueue\", \"emit\", \"clock\", \"random\", \"log\", \
                  \"metric\", \"key-value\", \"queue-info\"]";
    let (broker, _kept) = start(&format!("[plugins.obeys]\n{grants}\n"), &["obeys"]);
    let mut other = Other::new(&broker);
    let (queue, victim) = (other.queue(&[]), other.queue(&[]));
    let exchange = other.slow_exchange("x-obeys", 0, &queue, &unique_name("key"));
    let mut receiver = receiver_from(&broker, &queue);
    for (key, seed) in [("hold 1", 3), (&*format!("copy {victim}"), 5), ("keep k 1", 7)] {
        let address = format!("/exchanges/{exchange}/{}", key.replace(' ', "%20"));
        let sent = durable(true, &body(seed, BODY_BYTES));
        send(&mut sender_to(&broker, &address), 0, 0, &sent);
        assert!(is(&receive(&mut receiver, 0).1, &sent), "{key}");
        if key.starts_with("copy") {
            assert!(is(&receive(&mut receiver_from(&broker, &victim), 0).1, &sent), "{key}");
        }
    }
    // Nothing is kept of one that is not in memory; a type that rejects says why.
    for (key, why) in [("kept", "0"), ("reject no", "no"), ("trap", "asked to")] {
        let address = format!("/exchanges/{exchange}/{}", key.replace(' ', "%20"));
        let mut sender = sender_to(&broker, &address);
        send_but(&mut sender, 0, 0, &durable(true, &body(9, BODY_BYTES)), 0);
        outcome(&mut sender, |_, state| {
            let state = format!("{state:?}");
            assert!(state.contains("Rejected") && state.contains(why), "{key}: {state}");
        });
    }
    assert_eq!(other.ready(&queue), 0);
}
