//! From the protocol header to open-ok.

use super::*;

fn answer_to(bytes: &[u8]) -> Played {
    play_whole(bytes)
}

#[test]
fn both_headers_of_this_version_get_connection_start() {
    for header in [frame::PROTOCOL_HEADER, frame::PROTOCOL_HEADER_0_9] {
        let played = answer_to(&header);
        let start = methods(&played.output, |_, method| match method {
            Method::ConnectionStart {
                version_major,
                version_minor,
                server_properties,
                mechanisms,
                locales,
            } => {
                assert_eq!((version_major, version_minor), (0, 9));
                assert_eq!((mechanisms, locales), (b"PLAIN AMQPLAIN".as_slice(), b"en_US".as_slice()));
                Some(server_properties)
            }
            _ => None,
        });
        let names: Vec<_> = start[0].iter().map(|(name, _)| name.to_text()).collect();
        let expected =
            ["capabilities", "cluster_name", "copyright", "information", "platform", "product", "version"];
        assert_eq!(names, expected);
        let Some(Value::Map(capabilities)) = start[0].get(b"capabilities") else { panic!("no capabilities") };
        assert_eq!(capabilities.len(), 9);
        assert!(capabilities.iter().all(|(_, value)| *value == Value::Boolean(true)));
        assert!(!played.closed);
    }
}

#[test]
fn every_other_header_gets_ours_and_the_end() {
    let others: [&[u8]; 7] = [
        b"AMQP\x00\x00\x09\x00",
        b"AMQP\x00\x00\x0a\x01",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x01\x01\x08\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ];
    for other in others {
        let played = answer_to(other);
        assert_eq!(played.output, frame::PROTOCOL_HEADER, "{other:?}");
        assert!(played.closed);
        assert_eq!(played.events, ["Closed"]);
    }
    assert_eq!(answer_to(b"AMQP\0\0\x09"), Played::default());
}

#[test]
fn what_was_negotiated_holds() {
    let mut session = Session::new(config());
    let script = Script::connected();
    let mut at = 0;
    loop {
        let (took, event) = session.next(&script.0[at..]);
        at += took;
        match event {
            Some(Event::Login(login)) => {
                assert_eq!((login.user, login.password), (b"guest".as_slice(), b"secret".as_slice()));
                assert_eq!(login.mechanism, Mechanism::Plain);
                assert!(!format!("{login:?}").contains("secret"));
                // Nothing is read until the answer.
                assert_eq!(session.next(&script.0[at..]), (0, None));
                session.put_heartbeat();
                session.authenticated();
            }
            Some(Event::Open { vhost }) => {
                assert_eq!(vhost.as_bytes(), b"/");
                assert_eq!(session.next(&script.0[at..]), (0, None));
                session.opened();
            }
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    assert_eq!(session.frame_bytes_max(), 8192);
    assert_eq!(session.channel_max(), 10);
    assert_eq!(session.heartbeat_seconds(), 7);
    assert_eq!(session.client().product, "script");
    assert!(session.client().consumer_cancel_notify && session.client().authentication_failure_close);
    assert!(!session.client().connection_blocked);
    let sent = methods(session.output(), |_, method| Some(method.info().name));
    assert_eq!(sent, ["connection.start", "connection.tune", "connection.open-ok"]);
    session.output().clear();
    session.put_heartbeat();
    assert_eq!(*session.output(), frame::HEARTBEAT_FRAME);
}

fn start_ok(mechanism: &[u8], response: &[u8], close_wanted: bool) -> Script {
    let capabilities =
        vec![(Value::Text("authentication_failure_close".into()), Value::Boolean(close_wanted))];
    let client_properties =
        [(Name::from_static("capabilities"), Value::Map(capabilities))].into_iter().collect();
    let start_ok = Method::ConnectionStartOk { client_properties, mechanism, response, locale: b"en_US" };
    Script::default().raw(&frame::PROTOCOL_HEADER).method(0, &start_ok)
}

#[test]
fn amqplain_is_a_table_without_its_length() {
    let response = b"\x05LOGINS\0\0\0\x02me\x08PASSWORDS\0\0\0\x02pw";
    let played = start_ok(b"AMQPLAIN", response, true).play();
    assert_eq!(played.events, ["Login(Login { mechanism: AmqPlain, user: \"me\", .. })"]);
}

#[test]
fn a_login_that_makes_no_sense_is_refused() {
    let bad: [(&[u8], &[u8]); 6] = [
        (b"PLAIN", b"guest"),
        (b"PLAIN", b"id\0guest\0guest"),
        (b"PLAIN", b"\0guest\0gu\0est"),
        (b"AMQPLAIN", b"\x05LOGINS\0\0\0\x02me"),
        (b"AMQPLAIN", b"\x09"),
        (b"FOO", b""),
    ];
    for (mechanism, response) in bad {
        let played = start_ok(mechanism, response, true).play();
        let text = format!(
            "ACCESS_REFUSED - Login was refused using authentication mechanism {}. For details see the broker logfile.",
            String::from_utf8_lossy(mechanism)
        );
        assert_eq!(played.closes(), [(0, 403, text, (0, 0))]);
        assert!(played.closing);
        let silent = start_ok(mechanism, response, false).play();
        assert_eq!(silent.closes(), []);
        assert!(silent.closed);
        assert_eq!(silent.events, ["Closed"]);
    }
}

#[test]
fn before_the_login_an_error_ends_in_silence() {
    let start = || Script::default().raw(&frame::PROTOCOL_HEADER);
    let bad = [
        start().method(0, &connection_close_of_client()),
        start().method(1, &Method::ChannelOpen {}),
        start().frame(frame::HEADER, 0, b"abc"),
        start().frame_ending(frame::METHOD, 0, b"\0\x0a\0\x0b", 0),
        start().frame(frame::METHOD, 0, b"\0\x0a\0\x63"),
        start().frame(frame::METHOD, 0, &[0; 9000]),
    ];
    for script in bad {
        let played = script.play();
        assert_eq!(methods(&played.output, |_, method| Some(method.info().name)), ["connection.start"]);
        assert!(played.closed);
        assert_eq!(played.events, ["Closed"]);
    }
}

#[test]
fn negotiation_has_limits() {
    let tuned = |channel_max, frame_max| {
        let login = start_ok(b"PLAIN", b"\0guest\0guest", false);
        login.method(0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat: 0 }).play()
    };
    let refused = [
        (0, 8192, "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        (2048, 8192, "channel_max = 2048 is higher than the maximum allowed value (2047)"),
        (1, 0, "frame_max = 0 is higher than the maximum allowed value (131072)"),
        (1, 8191, "frame_max = 8191 is lower than the minimum allowed value (8192)"),
        (1, 131_073, "frame_max = 131073 is higher than the maximum allowed value (131072)"),
    ];
    for (channel_max, frame_max, text) in refused {
        let played = tuned(channel_max, frame_max);
        assert_eq!(played.closes(), [(0, 530, format!("NOT_ALLOWED - negotiated {text}"), (10, 30))]);
        assert!(played.closing);
    }
    assert_eq!(tuned(2047, 131_072).closes(), []);
}

#[test]
fn a_virtual_host_may_be_refused() {
    let mut session = Session::new(config());
    let script = Script::connected();
    let mut at = 0;
    loop {
        let (took, event) = session.next(&script.0[at..]);
        at += took;
        match event {
            Some(Event::Login(_)) => session.authenticated(),
            Some(Event::Open { vhost }) => session.open_refused(&Refusal::VhostNotFound { vhost }),
            Some(event) => assert_eq!(event, Event::Closed),
            None => break,
        }
    }
    let played = Played { output: core::mem::take(session.output()), ..Played::default() };
    assert_eq!(played.closes(), [(0, 530, String::from("NOT_ALLOWED - vhost / not found"), (10, 40))]);
}
