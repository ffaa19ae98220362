//! What a user may do: each operation without a permission, in RabbitMQ's words.

use crate::{
    broker_with,
    client::{
        Call, Client, NONE, bind, bind_exchange, consume, declare_exchange, declare_queue, delete_exchange,
        delete_queue, get, header_of_keys, purge, unbind, user_id,
    },
};
use leveret_testkit::{
    Broker, ScratchDirectory,
    wire::{Arguments, id},
};

/// A broker with `u`, who may do what `permissions` say, and with an administrator who made an exchange `ex`, `ex2`, a
/// topic exchange `tx` and a queue `q`.
fn world(permissions: &str) -> (Broker, ScratchDirectory, Client) {
    let (broker, configuration) = broker_with(&format!(
        "[users.admin]\npassword = \"a\"\n[users.admin.permissions.\"/\"]\n\
         configure = \".*\"\nwrite = \".*\"\nread = \".*\"\n[users.u]\npassword = \"p\"\n{permissions}"
    ));
    let mut admin = Client::open(broker.address(), "admin", "a");
    for (name, kind) in [("ex", "direct"), ("ex2", "direct"), ("tx", "topic")] {
        admin.does(declare_exchange(name, kind, false, &[]));
    }
    admin.does(Call(
        id::QUEUE_DECLARE,
        Arguments::new().short(0).short_string("q").bits(&[false; 5]).empty_table(),
        id::QUEUE_DECLARE_OK,
    ));
    let user = Client::open(broker.address(), "u", "p");
    (broker, configuration, user)
}

fn may(configure: &str, write: &str, read: &str) -> String {
    format!(
        "[users.u.permissions.\"/\"]\nconfigure = \"{configure}\"\nwrite = \"{write}\"\nread = \"{read}\"\n"
    )
}

#[test]
fn who_may_do_nothing_is_told_what_it_lacks() {
    let (_broker, _configuration, mut u) = world(&may("", "", ""));
    u.is_denied(declare_queue("x", false, &[]), "configure access to queue 'x'");
    u.is_denied(declare_queue("q", false, &[]), "configure access to queue 'q'");
    u.is_denied(declare_queue("q", true, &[]), "configure access to queue 'q'");
    u.is_denied(declare_queue("missing", true, &[]), "configure access to queue 'missing'");
    u.is_denied(declare_exchange("ex", "direct", true, &[]), "configure access to exchange 'ex'");
    u.is_denied(declare_exchange("x", "direct", false, &[]), "configure access to exchange 'x'");
    u.is_denied(delete_exchange("ex"), "configure access to exchange 'ex'");
    u.is_denied(delete_exchange("missing"), "configure access to exchange 'missing'");
    u.is_denied(delete_queue("q"), "configure access to queue 'q'");
    u.is_denied(delete_queue("missing"), "configure access to queue 'missing'");
    u.is_denied(purge("q"), "read access to queue 'q'");
    u.is_denied(bind("q", "ex", "k"), "write access to queue 'q'");
    u.is_denied(bind("q", "", "k"), "write access to queue 'q'");
    u.is_denied(unbind("q", "ex", "k"), "write access to queue 'q'");
    u.is_denied(bind_exchange("ex2", "ex", "k"), "write access to exchange 'ex2'");
    u.is_denied(get("q"), "read access to queue 'q'");
    u.is_denied(consume("q"), "read access to queue 'q'");
    for (exchange, shown) in [("ex", "ex"), ("", "amq.default"), ("nosuch", "nosuch")] {
        let closed = u.publish_is_refused(exchange, "k", NONE, 403);
        let text =
            format!("ACCESS_REFUSED - write access to exchange '{shown}' in vhost '/' refused for user 'u'");
        assert_eq!(closed.text, text);
    }
}

#[test]
fn what_nobody_may_do_is_told_before_permissions() {
    let (_broker, _configuration, mut u) = world(&may("", "", ""));
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    u.is_refused(declare_exchange("", "direct", false, &[]), 403, default);
    let unknown = "PRECONDITION_FAILED - unknown exchange type 'nosuch'";
    u.is_refused(declare_exchange("x", "nosuch", false, &[]), 406, unknown);
    let system = "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    u.is_refused(delete_exchange("amq.direct"), 403, system);
}

#[test]
fn one_permission_is_enough_to_look_and_two_are_needed_to_bind() {
    let (_broker, _configuration, mut u) = world(&may("", "^(q|ex2)$", ""));
    u.does(declare_queue("q", true, &[]));
    u.is_denied(bind("q", "ex", "k"), "read access to exchange 'ex'");
    u.is_denied(bind_exchange("ex2", "ex", "k"), "read access to exchange 'ex'");
    u.is_denied(unbind("q", "ex", "k"), "read access to exchange 'ex'");
    u.is_denied(consume("q"), "read access to queue 'q'");
}

#[test]
fn server_named_queues_are_judged_by_names_of_their_kind() {
    let (_broker, _configuration, mut u) = world(&may("^amq\\\\.gen", "", ""));
    u.does(declare_queue("", false, &[]));
    u.is_denied(declare_queue("x", false, &[]), "configure access to queue 'x'");
    // Line breaks are taken out of a name before it is judged.
    u.is_denied(declare_queue("x\r\ny", false, &[]), "configure access to queue 'xy'");
}

#[test]
fn dead_letter_and_alternate_exchanges_are_written_to_by_who_declares() {
    let (_broker, _configuration, mut u) = world(&may(".*", "^q", "^(q|x)"));
    let dead = |exchange| [("x-dead-letter-exchange", exchange)];
    u.is_denied(declare_queue("q2", false, &dead("ex")), "write access to exchange 'ex'");
    u.is_denied(declare_queue("q2", false, &dead("")), "write access to exchange 'amq.default'");
    u.is_denied(declare_queue("other", false, &dead("q")), "read access to queue 'other'");
    u.does(declare_queue("q2", false, &dead("q-exchange")));
    // A name that is no text is one too.
    let no_text = Arguments::new().short_string("x-dead-letter-exchange").octet(b'S').long_string(b"e\xff");
    let declare = Arguments::new().short(0).short_string("q3").bits(&[false, false, true, false, false]);
    let declare = Call(id::QUEUE_DECLARE, declare.long_string(no_text.into_bytes()), id::QUEUE_DECLARE_OK);
    u.is_denied(declare, "write access to exchange 'e\u{fffd}'");
    let alternate = |exchange| [("alternate-exchange", exchange)];
    u.is_denied(declare_exchange("x", "direct", false, &alternate("ex")), "write access to exchange 'ex'");
    u.is_denied(
        declare_exchange("other", "direct", false, &alternate("q")),
        "read access to exchange 'other'",
    );
    u.does(declare_exchange("x", "direct", false, &alternate("q")));
}

#[test]
fn a_user_publishes_in_its_own_name_unless_it_is_an_impersonator() {
    let (_broker, _configuration, mut u) = world(&may("", ".*", ""));
    let closed = u.publish_is_refused("ex", "k", &user_id("v"), 406);
    assert_eq!(
        closed.text,
        "PRECONDITION_FAILED - user_id property set to 'v' but authenticated user was 'u'"
    );
    u.publishes("ex", "k", &user_id("u"));
    // The exchange comes first.
    u.publish_is_refused("missing", "k", &user_id("v"), 404);
    let closed = u.publish_is_refused("amq.rabbitmq.trace", "k", &user_id("v"), 403);
    let internal = "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'";
    assert_eq!(closed.text, internal);
    let tagged = format!("tags = [\"impersonator\"]\n{}", may("", ".*", ""));
    let (_broker, _configuration, mut u) = world(&tagged);
    u.publishes("ex", "k", &user_id("v"));
}

#[test]
fn topics_have_permissions_of_their_own() {
    let topics =
        "[users.u.topic-permissions.\"/\".tx]\nwrite = \"^(a|{username}\\\\.{vhost})\"\nread = \"^b\"\n";
    let (_broker, _configuration, mut u) = world(&format!("{}{topics}", may(".*", ".*", ".*")));
    for key in ["a", "u./"] {
        u.publishes("tx", key, NONE);
    }
    u.publishes("amq.topic", "z", NONE);
    let refused = |closed: leveret_testkit::wire::Closed, key| {
        let text = format!(
            "ACCESS_REFUSED - write access to topic '{key}' in exchange 'tx' in vhost '/' refused for user 'u'"
        );
        assert_eq!(closed.text, text);
    };
    refused(u.publish_is_refused("tx", "z", NONE, 403), "z");
    refused(u.publish_is_refused("tx", "v./", NONE, 403), "v./");
    for header in ["CC", "BCC"] {
        refused(u.publish_is_refused("tx", "a", &header_of_keys(header, "z"), 403), "z");
        u.publishes("tx", "a", &header_of_keys(header, "a2"));
    }
    u.does(bind("q", "tx", "b"));
    u.does(bind("q", "amq.topic", "z"));
    let read = "read access to topic 'z' in exchange 'tx'";
    u.is_denied(bind("q", "tx", "z"), read);
    u.is_denied(unbind("q", "tx", "z"), read);
    u.is_denied(bind_exchange("ex", "tx", "z"), read);
}

#[test]
fn what_was_published_before_a_refusal_is_there() {
    let (_broker, _configuration, mut u) = world(&may("", "^amq.default$", "^q$"));
    // In one write: they are one batch.
    use leveret_testkit::wire::{Arguments, body_bytes, header_bytes, id, method_bytes};
    let publish = |exchange: &str| {
        let mut frames = method_bytes(1, id::BASIC_PUBLISH, Arguments::publish(exchange, "q"));
        frames.extend(header_bytes(1, 60, 1));
        frames.extend(body_bytes(1, b"x"));
        frames
    };
    u.connection.send(&[publish(""), publish(""), publish("ex"), publish("")].concat());
    u.connection.expect_channel_close(1, 403);
    u.connection.open_channel(1);
    u.connection.send_method(1, id::QUEUE_DECLARE, declare_queue("q", true, &[]).1);
    let mut declared = u.connection.expect_method(1, id::QUEUE_DECLARE_OK);
    assert_eq!((declared.short_string(), declared.long()), ("q".to_owned(), 2));
}
