//! Part 2, section 2.4: connections.

use super::{
    hex,
    peer::{Peer, begin, config, login, open, put, receiver, sender},
};
use crate::{
    Condition, Performative,
    composite::Symbols,
    connection::{Connection, ConnectionConfig, Event},
    frame::{EMPTY_FRAME, ProtocolId},
    messaging::Source,
    performatives::{Attach, Begin, Close, End, Flow, Open},
    types::Symbol,
};
use alloc::{string::String, sync::Arc, vec, vec::Vec};

/// What comes of the words of a client after its login.
fn after_login(words: &[u8]) -> (Vec<String>, Vec<String>, Peer) {
    let mut peer = Peer::new(config());
    peer.give(&[login(), words.to_vec()].concat());
    let (events, said) = (peer.events(), peer.said());
    (events, said, peer)
}

// 2.2 Version negotiation, 5.3.2 SASL negotiation

#[test]
fn nothing_but_sasl_is_spoken_first() {
    for header in
        [ProtocolId::Amqp.header(), ProtocolId::Tls.header(), *b"AMQP\x00\x00\x09\x01", *b"GET / HT"]
    {
        let mut connection = Connection::new(Arc::new(config()));
        assert_eq!(connection.next(&header[..7]), (0, None));
        assert_eq!(connection.next(&header), (8, Some(Event::Closed)));
        assert_eq!(*connection.output(), ProtocolId::Sasl.header());
        assert!(connection.is_closed());
        assert_eq!(connection.next(&header), (8, None), "it is over");
    }
}

#[test]
fn after_the_login_amqp_is_spoken() {
    let mut peer = Peer::new(config());
    peer.give(&login());
    assert_eq!(peer.events(), ["login"]);
    let output = core::mem::take(peer.connection.output());
    assert!(output.starts_with(&ProtocolId::Sasl.header()) && output.ends_with(&ProtocolId::Amqp.header()));
    assert!(peer.connection.sasl().is_none());
    let mut words = login();
    words.truncate(words.len() - 8);
    words.extend(ProtocolId::Sasl.header());
    let mut peer = Peer::new(config());
    peer.give(&words);
    assert_eq!(peer.events(), ["login", "closed"]);
    assert!(peer.connection.output().ends_with(&ProtocolId::Amqp.header()));
}

#[test]
fn a_login_that_fails_or_makes_no_sense_ends_in_silence() {
    let mut connection = Connection::new(Arc::new(ConnectionConfig::default()));
    let words = login();
    let (took, event) = connection.next(&words);
    assert_eq!(event, Some(Event::Closed), "ANONYMOUS is not offered");
    assert!(took < words.len() && connection.is_closed());
    assert!(connection.output().ends_with(&hex("00000010 02 01 0000 00 53 44 c0 03 01 50 01")));
    let mut connection = Connection::new(Arc::new(config()));
    let words = [&ProtocolId::Sasl.header()[..], &EMPTY_FRAME].concat();
    assert_eq!(connection.next(&words).1, Some(Event::Closed));
}

// 2.4.1 Opening a connection

#[test]
fn open_is_answered_with_open() {
    let config = ConnectionConfig {
        capabilities: vec![Symbol::from_static("ANONYMOUS-RELAY")],
        properties: vec![(Symbol::from_static("product"), String::from("Leveret"))],
        ..config()
    };
    let mut peer = Peer::new(config);
    let words = Open { max_frame_size: 900, channel_max: 2, idle_time_out: Some(8000), ..open() };
    peer.give(&[login(), put(0, &words)].concat());
    assert_eq!(peer.events(), ["login", "open client"]);
    peer.frames(|channel, performative, _| {
        let Performative::Open(open) = performative else { panic!("{performative:?}") };
        assert_eq!((channel, open.container_id), (0, "leveret"));
        assert_eq!((open.max_frame_size, open.channel_max, open.idle_time_out), (1024, 3, Some(30_000)));
        let relay = [Symbol::from_static("ANONYMOUS-RELAY")];
        assert_eq!(open.offered_capabilities, Symbols::Slice(&relay));
        assert_eq!(open.properties.unwrap().get("product"), Some("Leveret".into()));
    });
    assert_eq!(peer.connection.frame_bytes_max(), 900);
    assert_eq!(peer.connection.remote_idle_time_out_ms(), 8000);
}

#[test]
fn an_open_that_cannot_be_is_answered_with_open_and_close() {
    let refused = |open: &Open<'_>, condition: &str| {
        let (_, said, mut peer) = after_login(&put(0, open));
        assert_eq!(said, ["open", &alloc::format!("close {condition}")]);
        assert!(peer.connection.is_closing());
        peer.say(0, &Close::default());
        assert!(peer.connection.is_closed());
    };
    refused(&Open { max_frame_size: 511, ..open() }, "amqp:frame-size-too-small");
    refused(&Open { idle_time_out: Some(999), ..open() }, "amqp:not-allowed");
    refused(&Open { hostname: Some("nowhere"), ..open() }, "amqp:not-found");
    for good in [Open { max_frame_size: 512, ..open() }, Open { idle_time_out: Some(0), ..open() }] {
        assert_eq!(after_login(&put(0, &good)).1, ["open"]);
    }
    let (events, said, _) = after_login(&put(0, &begin()));
    assert_eq!(
        (events, said),
        (vec!["login".into(), "closed".into()], vec!["open".into(), "close amqp:not-allowed".into()])
    );
}

// 2.4.2 Pipelined open

#[test]
fn a_client_need_not_wait_for_answers() {
    let source = Some(Source { address: Some("/queues/q"), ..Source::default() });
    let words = [
        put(0, &open()),
        put(0, &begin()),
        put(0, &Attach { source, ..receiver(0, "in") }),
        put(0, &Flow { handle: Some(0), link_credit: Some(10), ..Flow::default() }),
        put(0, &Close::default()),
    ]
    .concat();
    let expected = ["login", "open client", "began 0", "attach 0/0 in", "credit 0/0 10", "closed"];
    let (events, said, peer) = after_login(&words);
    assert_eq!(events, expected);
    assert_eq!(said, ["open", "begin 0 window 10", "attach 0/0 in", "close"]);
    assert!(peer.connection.is_closed());
}

#[test]
fn events_and_answers_do_not_depend_on_how_the_stream_is_cut() {
    let words = [
        login(),
        put(0, &open()),
        EMPTY_FRAME.to_vec(),
        put(2, &begin()),
        put(2, &sender(5, "out")),
        put(2, &receiver(6, "nothing")),
        put(2, &End::default()),
        put(9, &begin()),
        put(0, &Close::default()),
    ]
    .concat();
    let play = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut peer = Peer::new(config());
        pieces.for_each(|piece| {
            peer.give(piece);
        });
        (peer.events(), core::mem::take(peer.connection.output()))
    };
    let whole = play(&mut [&words[..]].into_iter());
    assert_eq!(whole.0.len(), 7, "{:?}", whole.0);
    for piece_bytes in 1..100 {
        assert_eq!(play(&mut words.chunks(piece_bytes)), whole, "{piece_bytes}");
    }
}

// 2.4.3 Closing a connection, 2.4.6 Connection states

#[test]
fn a_close_is_answered_and_ends_everything_once() {
    let mut peer = Peer::begun();
    peer.give(&[put(0, &Close::default()), put(1, &begin())].concat());
    assert_eq!(peer.events(), ["closed"]);
    assert_eq!(peer.said(), ["close"]);
    peer.connection.close(Condition::ConnectionForced, "bye");
    assert_eq!((peer.events().len(), peer.said().len()), (0, 0));
}

#[test]
fn after_a_close_of_ours_everything_but_theirs_is_dropped() {
    let mut peer = Peer::begun();
    peer.connection.close(Condition::ConnectionForced, "bye");
    peer.say(1, &sender(1, "late")).say(0, &open()).give(&hex("0000000c 02 00 0000 ffffffff"));
    assert_eq!(peer.events(), ["closed"]);
    assert_eq!(peer.said(), ["close amqp:connection:forced"]);
    assert!(peer.connection.is_closing() && !peer.connection.is_closed());
    peer.connection.put_empty_frame();
    assert!(peer.connection.output().is_empty());
    peer.say(0, &Close::default());
    assert!(peer.connection.is_closed());
    assert_eq!((peer.events().len(), peer.said().len()), (0, 0));
}

// 2.4.4 Simultaneous close is the case above. 2.4.5 Idle timeout

#[test]
fn empty_frames_are_signs_of_life() {
    let mut peer = Peer::opened();
    peer.give(&EMPTY_FRAME).give(&hex("00000008 02 00 0102"));
    assert_eq!((peer.events().len(), peer.said().len()), (0, 0));
    peer.connection.put_empty_frame();
    assert_eq!(*peer.connection.output(), EMPTY_FRAME);
}

// 2.8.16 Connection errors

#[test]
fn what_is_no_frame_or_no_performative_closes_the_connection() {
    let too_large = [hex("00000401 02 00 0000"), vec![0; 1017]].concat();
    // The condition, and whether the frames after it cannot be found any more.
    let framing = ("amqp:connection:framing-error", true);
    let cases = [
        (hex("00000007"), framing),
        (too_large, framing),
        (hex("00000008 01 00 0000"), framing),
        (hex("00000008 02 01 0000"), framing),
        (hex("00000009 02 00 0000 40"), ("amqp:decode-error", false)),
        (hex("0000000c 02 00 0000 00 53 11 45"), ("amqp:decode-error", false)),
        (hex("0000000d 02 00 0000 00 53 18 45 40"), ("amqp:decode-error", false)),
        (hex("0000000c 02 00 0000 00 53 24 45"), ("amqp:decode-error", false)),
        (put(0, &open()), ("amqp:illegal-state", false)),
        (put(1, &End::default()), ("amqp:connection:framing-error", false)),
        (put(1, &sender(0, "out")), ("amqp:connection:framing-error", false)),
        (put(4, &begin()), ("amqp:connection:framing-error", false)),
        (put(1, &Begin { remote_channel: Some(0), ..begin() }), ("amqp:not-allowed", false)),
    ];
    for (bytes, (condition, is_lost)) in cases {
        let mut peer = Peer::opened();
        peer.give(&bytes);
        assert_eq!(peer.events(), ["closed"], "{bytes:?}");
        assert_eq!(peer.said(), [alloc::format!("close {condition}")], "{bytes:?}");
        assert!(peer.connection.is_closing());
        peer.say(0, &Close::default());
        assert_eq!(peer.connection.is_closed(), !is_lost, "{bytes:?}");
    }
}
