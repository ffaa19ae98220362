//! What is not granted is denied, by virtual host, and the reason says what is missing.

use crate::*;

/// One virtual host for each capability, where that is all that is missing, and one where nothing is.
#[test]
fn what_is_granted_in_one_virtual_host_is_denied_in_another() {
    let mut configuration =
        format!("vhosts = [\"all\"{}]\n", ALL.map(|grant| format!(", \"no-{grant}\"")).concat());
    configuration += &format!("[vhost.all.plugins.obeys]\n{}", grants_without("none"));
    for grant in ALL {
        configuration += &format!("[vhost.no-{grant}.plugins.obeys]\n{}", grants_without(grant));
    }
    let (broker, _kept) = start(&configuration, &[]);
    on_broker(&broker, async |broker| {
        let all = Peer::connect(broker, "all", "x-obeys").await;
        let queue = all.queue("").await;
        for grant in ALL {
            let vhost = format!("no-{grant}");
            let named = format!("needs the grant '{grant}'");
            let url = format!("amqp://guest:guest@{}/{vhost}", broker.address());
            let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
            let channel = confirming(&connection).await;
            // To know who published is no import: only the type that reads it is refused.
            let kind = if grant == "publisher" { "x-who" } else { "x-obeys" };
            let declared = declare(&channel, &"refused".into(), kind, FieldTable::default()).await;
            let (code, text) = refusal(&declared.unwrap_err());
            assert!(code == 406 && text.contains(&named), "{grant}: {code} {text}");
            if grant == "publisher" {
                Peer::connect(broker, &vhost, "x-obeys").await;
                continue;
            }
            let seen = http(broker, "GET", &format!("plugins/x-obeys/vhosts/{vhost}"), None);
            assert_eq!(seen["state"], "parked", "{grant}: {seen}");
            assert!(seen["reason"].as_str().unwrap().contains(&named), "{grant}: {seen}");
        }
        all.tell("put memory k 1").await;
        assert_eq!(all.drain(&queue).await.len(), 1, "where all is granted it serves");
    });
}

/// Without a word nothing is granted.
#[test]
fn nothing_is_granted_unless_somebody_says_so() {
    let (broker, _kept) = start("", &[]);
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let declared = declare(&channel, &"refused".into(), "x-obeys", FieldTable::default()).await;
        let (code, text) = refusal(&declared.unwrap_err());
        assert!(code == 406 && text.contains("needs the grant '"), "{code} {text}");
        assert!(text.contains("exchange 'refused'"), "{text}");
    });
}

/// To hold and to delegate are no imports, so it shows in use that a plugin may not: that message is refused, the
/// log says why, and the next one is routed. With the right, the same decisions are taken.
#[test]
fn decisions_without_the_right_to_them_are_refused() {
    let none_behind = "it leaves the decision to a type behind it, and there is none";
    let granted = "[plugins.decides]\ngrants = [\"hold\"]\n";
    for (configuration, is_inner_there, key, refused) in [
        ("", true, "hold", Some("it needs the grant 'hold'")),
        (granted, false, "hold", Some(none_behind)),
        ("", false, "delegate", Some(none_behind)),
        (granted, true, "hold", None),
        ("", true, "delegate", None),
    ] {
        let (broker, _kept) = start(configuration, &["decides"]);
        on_broker(&broker, async |broker| {
            let connection = connect(broker).await;
            let channel = confirming(&connection).await;
            let mut arguments = FieldTable::default();
            arguments.insert("x-behind".into(), AMQPValue::Boolean(is_inner_there));
            let exchange = ShortString::from("decides");
            declare(&channel, &exchange, "x-decides", arguments).await.unwrap();
            let queue = own_queue(&channel).await;
            bind(&channel, &queue, &exchange, "", FieldTable::default()).await;

            let confirmation = publish(&channel, &exchange, key, b"decided", true).await.unwrap();
            if let Some(reason) = refused {
                assert!(confirmation.is_nack(), "{key}: {confirmation:?}");
                let line = broker.wait_for_log(reason, EVENT_WAIT_MAX);
                assert!(line.contains("decides"), "the line names the plugin: {line}");
            } else {
                assert!(confirmation.is_ack(), "{key}: {confirmation:?}");
                assert_eq!(next(&channel, &queue).await.data, b"decided");
            }
            assert!(publish(&channel, &exchange, "other", b"other", true).await.unwrap().is_ack());
            assert_eq!(drain(&channel, &queue).await, [b"other"], "after {key}");
        });
    }
}
