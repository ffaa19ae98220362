//! On publish: what is routed and seen, what publishers are told, reload, plugins that are missing.

use super::*;
use lapin::options::BasicPublishOptions;
use leveret_testkit::wire::{Arguments, BODY, HEADER, RawConnection, frame_bytes, id};
use std::cell::Cell;

const MANDATORY: BasicPublishOptions = BasicPublishOptions { mandatory: true, immediate: false };

#[test]
fn the_key_says_what_becomes_of_a_message() {
    let tables = format!("[plugins.interceptors]\ngrants = [\"modify-body\"]\n{}", by_key("publish", ""));
    on(&Intercepting::with(&tables), async |_, channel| {
        let (exchange, queue) =
            exchange(channel, "keys", &["plain", "moved", "body", "drop", "reject"]).await;
        let publish = async |key: &str| publish(channel, &exchange, key, b"body", true).await.unwrap();
        for key in ["plain", "move", "body"] {
            let confirm = publish(key).await;
            assert!(confirm.is_ack() && confirm.take_message().is_none(), "{key}");
        }
        let got = get(channel, &queue, true).await.unwrap();
        assert_eq!((got.routing_key.as_str(), &*got.data), ("plain", &b"body"[..]));
        let got = get(channel, &queue, true).await.unwrap();
        assert_eq!((got.routing_key.as_str(), got.exchange.as_str()), ("moved", "keys"));
        let got = get(channel, &queue, true).await.unwrap();
        assert_eq!((got.routing_key.as_str(), &*got.data), ("body", &b"replaced"[..]));

        // Dropped: confirmed and not returned. Rejected, or failed: a negative confirm.
        let dropped = publish("drop").await;
        assert!(dropped.is_ack() && dropped.take_message().is_none());
        for key in ["reject", "trap"] {
            let confirm = publish(key).await;
            assert!(confirm.is_nack() && confirm.take_message().is_none(), "{key}");
        }
        // Not routed after it was let pass: returned.
        let returned = publish("elsewhere").await;
        assert!(returned.is_ack() && returned.take_message().is_some());
        assert!(get(channel, &queue, true).await.is_none());
    });
}

/// In one batch, with others around, each message meets its own fate; also on the default exchange.
#[test]
fn fates_in_a_batch_do_not_mix() {
    on(&Intercepting::with(&by_key("publish", "")), async |_, channel| {
        let (exchange, queue) = exchange(channel, "batch", &["plain", "moved"]).await;
        let moved = super::queue(channel, "moved").await;
        let keys = ["plain", "drop", "reject", "move", "trap", "plain", "elsewhere", "move"];
        for exchange in [exchange, ShortString::from("")] {
            let mut confirms = Vec::new();
            for key in keys {
                let body = key.as_bytes();
                let properties = BasicProperties::default();
                let sent = channel.basic_publish(exchange.clone(), key.into(), MANDATORY, body, properties);
                confirms.push(sent.await.unwrap());
            }
            let mut returned = 0;
            for (key, confirm) in keys.iter().zip(confirms) {
                let confirm = confirm.await.unwrap();
                assert_eq!(confirm.is_nack(), matches!(*key, "reject" | "trap"), "{key}");
                returned += usize::from(confirm.take_message().is_some());
            }
            // The client does not say which ones where several are confirmed at once.
            assert!(returned >= 1, "what nobody gets is returned");
        }
        assert_eq!(drain(channel, &queue).await, [&b"plain"[..], b"move", b"plain", b"move"]);
        assert_eq!(drain(channel, &moved).await, [b"move", b"move"]);
    });
}

#[test]
fn two_are_asked_in_their_order_where_they_are_attached() {
    let tables = [
        append("publish", 20, "exchange = \"orders.*\"", "x-trace", "b"),
        append("publish", 10, "", "x-trace", "a"),
        append("publish", 30, "vhost = \"/\"\nexchange = \"*.eu\"", "x-trace", "%"),
    ];
    on(&Intercepting::with(&tables.concat()), async |_, channel| {
        for (name, trace) in
            [("orders.eu", "-ab1"), ("orders.us", "-ab"), ("bills.eu", "-a1"), ("bills", "-a")]
        {
            let (exchange, queue) = exchange(channel, name, &["k"]).await;
            let properties = headers(&[("x-trace", "-"), ("other", "stays")]);
            let confirm = publish_with(channel, &exchange, "k", b"x", MANDATORY, properties).await.unwrap();
            assert!(confirm.is_ack());
            let got = get(channel, &queue, true).await.unwrap();
            assert_eq!(header(&got.properties, "x-trace").as_deref(), Some(trace), "{name}");
            assert_eq!(header(&got.properties, "other").as_deref(), Some("stays"));
        }
    });
}

/// A header is added; all that the client said beside it comes out as it went in, byte for byte.
#[test]
fn what_is_not_changed_stays_byte_for_byte() {
    let table = |fields: &[u8]| [&(fields.len() as u32).to_be_bytes()[..], fields].concat();
    // A header of each kind, the keys not sorted, one twice; then all properties behind the headers.
    let mut fields = Vec::new();
    fields.extend(b"\x01zS\x00\x00\x00\x02zz\x01at\x01\x01is\xff\xfe\x01bb\xff\x01aI\xff\xff\xff\xff");
    fields.extend(b"\x01dD\x02\x00\x00\x00\x07\x01fd\x3f\xf0\x00\x00\x00\x00\x00\x00\x01vV");
    let before = b"\x05plain\x04gzip";
    let after = b"\x02\x09\x01c\x01r\x0599999\x01m\x00\x00\x00\x00\x00\x00\x00\x05\x01t\x05guest\x01a";
    let properties = |fields: &[u8]| [&b"\xff\xf8"[..], before, &table(fields), after].concat();
    let stamped = [&fields[..], b"\x07x-stampS\x00\x00\x00\x04seen"].concat();

    let intercepting = Intercepting::with(&append("publish", 1, "", "x-stamp", "seen"));
    let mut client = RawConnection::open_with_channel(intercepting.broker.address());
    let queue = client.declare_queue(1);
    let mut sent = leveret_testkit::wire::method_bytes(1, id::BASIC_PUBLISH, Arguments::publish("", &queue));
    let content = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4][..], &properties(&fields)].concat();
    sent.extend(frame_bytes(HEADER, 1, &content, leveret_testkit::wire::FRAME_END));
    sent.extend(frame_bytes(BODY, 1, b"body", leveret_testkit::wire::FRAME_END));
    client.send(&sent);
    client.send_method(1, id::BASIC_GET, Arguments::new().short(0).short_string(&queue).bits(&[true]));
    client.expect_method(1, id::BASIC_GET_OK);
    let header = client.expect_frame();
    let expected = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4][..], &properties(&stamped)].concat();
    assert_eq!(header.payload, expected);
    assert_eq!(client.expect_frame().payload, b"body");
}

#[test]
fn without_its_plugin_it_fails_closed_unless_told_otherwise() {
    let tables = [
        by_key("publish", "exchange = \"closed\""),
        by_key("publish", "exchange = \"open\"\non-failure = \"bypass\""),
        by_key("publish", "exchange = \"nowhere\"\non-failure = \"unroutable\""),
    ];
    let intercepting = Intercepting::without_plugin(&tables.concat());
    on(&intercepting, async |_, channel| {
        let (closed, _) = exchange(channel, "closed", &["k"]).await;
        let (open, _) = exchange(channel, "open", &["k", "reject"]).await;
        let (nowhere, _) = exchange(channel, "nowhere", &["k"]).await;
        let (beside, _) = exchange(channel, "beside", &["k"]).await;
        let publish = async |exchange, key| publish(channel, exchange, key, b"x", true).await.unwrap();
        for round in 0..2 {
            assert!(publish(&closed, "k").await.is_nack(), "round {round}");
            assert!(publish(&open, "reject").await.is_ack());
            assert!(publish(&beside, "k").await.is_ack());
            let returned = publish(&nowhere, "k").await;
            assert!(returned.is_ack() && returned.take_message().is_some());

            intercepting.serve("interceptors_v1", "interceptors");
            assert!(publish(&closed, "k").await.is_ack());
            assert!(publish(&open, "reject").await.is_nack());
            assert!(publish(&nowhere, "k").await.take_message().is_none());
            // A trap meets the same policy, and only the message that caused it.
            assert!(publish(&closed, "trap").await.is_nack());
            assert!(publish(&nowhere, "trap").await.take_message().is_some());
            assert!(publish(&closed, "k").await.is_ack());
            intercepting.remove("interceptors");
        }
    });
}

/// Another body needs a grant.
#[test]
fn without_the_grant_a_body_stays() {
    on(&Intercepting::with(&by_key("publish", "")), async |_, channel| {
        let (exchange, queue) = exchange(channel, "bodies", &["body"]).await;
        assert!(publish(channel, &exchange, "body", b"x", true).await.unwrap().is_nack());
        assert!(get(channel, &queue, true).await.is_none());
    });
}

#[test]
fn state_outlives_instances_and_only_what_was_accepted_is_remembered() {
    let tables = "[plugins.once]\ngrants = [\"key-value\"]\n\
                  [[intercept]]\ninterceptor = \"once\"\npoint = \"publish\"\norder = 1\nexchange = \"once\"\n";
    let tables = format!("{tables}{}", by_key("publish", "exchange = \"once\""));
    let intercepting = Intercepting::with(&tables);
    intercepting.serve("interceptor_once", "once");
    on(&intercepting, async |_, channel| {
        let (exchange, queue) = exchange(channel, "once", &["a", "b", "reject"]).await;
        let publish = async |key| publish(channel, &exchange, key, key.as_bytes(), false).await.unwrap();
        for key in ["a", "a", "b", "a"] {
            assert!(publish(key).await.is_ack());
        }
        // `once` let it pass, the one behind rejected it: the second copy is no duplicate.
        assert!(publish("reject").await.is_nack());
        assert!(publish("reject").await.is_nack());
        assert_eq!(drain(channel, &queue).await, [b"a", b"b"]);
    });
}

/// Attachments that the new version does not take keep the old one serving.
#[test]
fn a_version_that_does_not_take_an_attachment_is_refused() {
    let intercepting = Intercepting::with(&append("publish", 1, "", "x-v", "%"));
    let line = intercepting.put("interceptor_once", "interceptors", log_lines::PLUGIN_REFUSED);
    assert!(line.contains("swap") && line.contains("append"), "{line}");
    on(&intercepting, async |_, channel| {
        let (exchange, queue) = exchange(channel, "v", &["k"]).await;
        assert!(publish(channel, &exchange, "k", b"x", true).await.unwrap().is_ack());
        let got = get(channel, &queue, true).await.unwrap();
        assert_eq!(header(&got.properties, "x-v").as_deref(), Some("1"));
    });
    // What it is attached with is not accepted: no version serves it, and messages meet the policy.
    let intercepting = Intercepting::without_plugin(&append("publish", 1, "", "x-v", ""));
    let line = intercepting.put("interceptors_v1", "interceptors", log_lines::PLUGIN_REFUSED);
    assert!(line.contains("replay") && line.contains("must not be empty"), "{line}");
}

/// Publishes without a pause while version 1 is replaced by version 2: each message is stamped by one
/// of them, the first ones by version 1, the last ones by version 2, and none is lost or rejected.
#[test]
fn replaced_under_load() {
    let intercepting = Intercepting::with(&append("publish", 1, "", "x-v", "%"));
    on(&intercepting, async |_, channel| {
        let (exchange, queue) = exchange(channel, "load", &["k"]).await;
        let (replaced, number) = (Cell::new(false), Cell::new(0_u32));
        let (mut after, mut versions) = (0, Vec::new());
        while after < 300 {
            let mut confirms = Vec::new();
            for _ in 0..50 {
                let body = number.get().to_be_bytes();
                let properties = BasicProperties::default();
                let sent = channel.basic_publish(exchange.clone(), "k".into(), MANDATORY, &body, properties);
                confirms.push(sent.await.unwrap());
                number.set(number.get() + 1);
                after += u32::from(replaced.get());
            }
            if number.get() == 500 {
                // While a burst is on its way.
                intercepting.serve("interceptors_v2", "interceptors");
                replaced.set(true);
            }
            for confirm in confirms {
                let confirm = confirm.await.unwrap();
                assert!(confirm.is_ack() && confirm.take_message().is_none());
            }
        }
        while let Some(got) = get(channel, &queue, true).await {
            assert_eq!(got.data, (versions.len() as u32).to_be_bytes());
            versions.push(header(&got.properties, "x-v").unwrap());
        }
        assert_eq!(versions.len() as u32, number.get());
        assert!(versions.is_sorted() && versions[0] == "1" && versions[versions.len() - 1] == "2");
    });
}

#[test]
fn what_is_attached_everywhere_holds_in_a_virtual_host_from_its_first_moment() {
    let intercepting = Intercepting::with(&by_key("publish", ""));
    let broker = &intercepting.broker;
    let url = format!("http://{}/api/vhosts/late", broker.http_address());
    let ask = |method: &str| {
        let request = ureq::http::Request::builder().method(method).uri(&url);
        let request = request.header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
        let request = request.header("content-type", "application/json").body("{}").unwrap();
        ureq::run(request).unwrap().status().as_u16()
    };
    // Made anew, it is as the first time.
    for _ in 0..2 {
        assert_eq!(ask("PUT"), 201);
        on_broker(broker, async |broker| {
            let url = broker.amqp_url().replace("%2f", "late");
            let connection = Connection::connect(&url, Default::default()).await.unwrap();
            let channel = confirming(&connection).await;
            let (exchange, queue) = exchange(&channel, "keys", &["plain", "reject"]).await;
            for (key, accepted) in [("plain", true), ("reject", false)] {
                let confirm = publish(&channel, &exchange, key, b"body", true).await.unwrap();
                assert_eq!(confirm.is_ack(), accepted, "{key}");
            }
            assert_eq!(drain(&channel, &queue).await.len(), 1);
            connection.close(200, "".into()).await.unwrap();
        });
        assert_eq!(ask("DELETE"), 204);
    }
}
