//! Sessions driven by bytes.
//!
//! [`play`] is a caller in small: it lets everybody in, answers nothing else, and refuses what is
//! published to the exchange `nope`.

mod codes;
mod cuts;
mod handshake;

use super::*;
use crate::client::{self, Incoming};
use crate::frame::{OVERHEAD_BYTES, put_method};
use alloc::vec;
use leveret_model::{Name, Table, Value, refusal::Resource};

const BODY_MAX: u64 = 100;

fn config() -> Arc<SessionConfig> {
    Arc::new(SessionConfig { message_body_bytes_max: BODY_MAX, ..SessionConfig::default() })
}

/// What came of some bytes.
#[derive(Debug, Default, PartialEq)]
struct Played {
    /// The events as `Debug` shows them, which is the same for what is borrowed and what is owned.
    events: Vec<String>,
    output: Vec<u8>,
    closing: bool,
    closed: bool,
}

impl Played {
    /// The methods of channel and connection closes: channel, code, text, class, method.
    fn closes(&self) -> Vec<(u16, u16, String, (u16, u16))> {
        methods(&self.output, |channel, method| match method {
            Method::ConnectionClose { reply_code, reply_text, class_id, method_id }
            | Method::ChannelClose { reply_code, reply_text, class_id, method_id } => {
                let text = String::from_utf8(reply_text.to_vec()).unwrap();
                Some((channel, reply_code, text, (class_id, method_id)))
            }
            _ => None,
        })
    }

    /// The names of the methods sent after connection.open-ok, with their channels.
    fn replies(&self) -> Vec<(u16, &'static str)> {
        let all = methods(&self.output, |channel, method| Some((channel, method.info().name)));
        let open_ok = all.iter().position(|(_, name)| *name == "connection.open-ok").unwrap();
        all[open_ok + 1..].to_vec()
    }
}

fn methods<T>(output: &[u8], mut pick: impl FnMut(u16, Method<'_>) -> Option<T>) -> Vec<T> {
    let mut at = 0;
    let mut picked = Vec::new();
    while let Some((took, incoming)) = client::next_frame(&output[at..], 131_072).unwrap() {
        if let Incoming::Method { channel, method } = incoming {
            picked.extend(pick(channel, method));
        }
        at += took;
    }
    assert_eq!(at, output.len(), "whole frames");
    picked
}

fn no_exchange(name: &[u8]) -> Refusal {
    let (name, vhost) = (Name::new(name).unwrap(), Name::from_static("/"));
    Refusal::NotFound { resource: Resource::Exchange, name, vhost }
}

/// Gives the pieces one after another, with what was not taken in front of the next.
fn play<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Played {
    play_with(config(), pieces)
}

fn play_with<'p>(config: Arc<SessionConfig>, pieces: impl IntoIterator<Item = &'p [u8]>) -> Played {
    let mut session = Session::new(config);
    let mut played = Played::default();
    let mut unread = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let (took, event) = session.next(&unread[at..]);
            at += took;
            let Some(event) = event else { break };
            played.events.push(format!("{event:?}"));
            match event {
                Event::Login(_) => session.authenticated(),
                Event::Open { .. } => session.opened(),
                Event::ChannelOpened(channel) => session.channel_opened(channel),
                Event::Publish(publish) if *publish.exchange == *b"nope" => {
                    session.refuse(publish.channel, &no_exchange(&publish.exchange), (60, 40));
                }
                _ => {}
            }
        }
        unread.drain(..at);
        let whole_frame = session.frame_bytes_max() as usize + OVERHEAD_BYTES;
        assert!(unread.len() < whole_frame, "{} bytes were left", unread.len());
    }
    played.output = core::mem::take(session.output());
    (played.closing, played.closed) = (session.is_closing(), session.is_closed());
    played
}

fn play_whole(bytes: &[u8]) -> Played {
    play([bytes])
}

/// What a client sends, frame by frame.
#[derive(Clone, Default)]
struct Script(Vec<u8>);

impl Script {
    /// The handshake, up to connection.open.
    fn connected() -> Self {
        let capabilities = Value::Map(vec![
            (Value::Text("authentication_failure_close".into()), Value::Boolean(true)),
            (Value::Text("consumer_cancel_notify".into()), Value::Boolean(true)),
        ]);
        let properties = [
            (Name::from_static("product"), Value::Text("script".into())),
            (Name::from_static("capabilities"), capabilities),
        ];
        let mut script = Self::default();
        client::put_protocol_header(&mut script.0);
        client::put_start_ok(&mut script.0, b"guest", b"secret", properties.into_iter().collect());
        script
            .method(0, &Method::ConnectionTuneOk { channel_max: 10, frame_max: 8192, heartbeat: 7 })
            .method(0, &Method::ConnectionOpen { virtual_host: b"/" })
    }

    /// Connected, with channel 1 open.
    fn channel() -> Self {
        Self::connected().method(1, &Method::ChannelOpen {})
    }

    fn method(mut self, channel: u16, method: &Method<'_>) -> Self {
        put_method(&mut self.0, channel, method);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn frame(self, kind: u8, channel: u16, payload: &[u8]) -> Self {
        self.frame_ending(kind, channel, payload, frame::END)
    }

    fn frame_ending(mut self, kind: u8, channel: u16, payload: &[u8], end: u8) -> Self {
        self.0.push(kind);
        self.0.extend_from_slice(&channel.to_be_bytes());
        self.0.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        self.0.extend_from_slice(payload);
        self.0.push(end);
        self
    }

    fn publish_method(self, channel: u16, exchange: &[u8]) -> Self {
        let method =
            Method::BasicPublish { exchange, routing_key: b"key", mandatory: true, immediate: false };
        self.method(channel, &method)
    }

    fn header(self, channel: u16, body_bytes: u64, properties: &[u8]) -> Self {
        let payload = [b"\0\x3c\0\0", body_bytes.to_be_bytes().as_slice(), properties].concat();
        self.frame(frame::HEADER, channel, &payload)
    }

    fn body(self, channel: u16, body: &[u8]) -> Self {
        self.frame(frame::BODY, channel, body)
    }

    /// A publish in body frames of at most `body_frame` bytes.
    fn publish(mut self, channel: u16, exchange: &[u8], body: &[u8], body_frame: u32) -> Self {
        client::put_publish(&mut self.0, channel, exchange, b"key", b"\x10\0\x02", body, body_frame + 8);
        self
    }

    fn play(&self) -> Played {
        play_whole(&self.0)
    }
}

fn close_of_client() -> Method<'static> {
    Method::ChannelClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 }
}

fn connection_close_of_client() -> Method<'static> {
    Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 }
}

#[test]
fn a_whole_publish_is_borrowed_and_a_cut_one_is_the_same() {
    let script = Script::channel().publish(1, b"ex", b"hello", 100);
    let mut session = Session::new(config());
    let mut at = 0;
    let mut borrowed = None;
    loop {
        let (took, event) = session.next(&script.0[at..]);
        at += took;
        match event {
            Some(Event::Login(_)) => session.authenticated(),
            Some(Event::Open { .. }) => session.opened(),
            Some(Event::ChannelOpened(channel)) => session.channel_opened(channel),
            Some(Event::Publish(publish)) => borrowed = Some(publish),
            Some(_) => {}
            None => break,
        }
    }
    assert_eq!(at, script.0.len());
    let publish = borrowed.unwrap();
    assert!(matches!(
        (&publish.exchange, &publish.routing_key, &publish.properties, &publish.body),
        (
            alloc::borrow::Cow::Borrowed(b"ex"),
            alloc::borrow::Cow::Borrowed(b"key"),
            alloc::borrow::Cow::Borrowed(b"\x10\0\x02"),
            alloc::borrow::Cow::Borrowed(b"hello")
        )
    ));
    let whole = script.play();
    let two_frames = Script::channel().publish(1, b"ex", b"hello", 3).play();
    assert_eq!(whole.events, two_frames.events);
}

#[test]
fn requests_come_through_and_replies_go_out() {
    let mut session = Session::new(config());
    let declare = Method::QueueDeclare {
        queue: b"q",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Table::new(),
    };
    let script = Script::channel().method(1, &declare);
    let mut at = 0;
    let mut requests = Vec::new();
    loop {
        let (took, event) = session.next(&script.0[at..]);
        at += took;
        match event {
            Some(Event::Login(_)) => session.authenticated(),
            Some(Event::Open { .. }) => session.opened(),
            Some(Event::ChannelOpened(channel)) => session.channel_opened(channel),
            Some(Event::Request { channel, method }) => requests.push((channel, method)),
            Some(_) => {}
            None => break,
        }
    }
    assert_eq!(requests, [(1, declare)]);
    session.output().clear();
    let reply = || Method::QueueDeclareOk { queue: b"q", message_count: 0, consumer_count: 0 };
    session.reply(1, reply());
    session.reply(2, reply());
    session.reply(0, Method::ConnectionBlocked { reason: b"low on memory" });
    let sent = methods(session.output(), |channel, method| Some((channel, method.info().name)));
    assert_eq!(sent, [(1, "queue.declare-ok"), (0, "connection.blocked")]);

    session.output().clear();
    let message = MessageView {
        exchange: b"",
        routing_key: b"q",
        form: crate::form::FORM,
        properties: crate::properties::NONE,
        body: b"x",
        publisher: None,
    };
    session.deliver(1, b"tag", 1, false, &message);
    session.get_ok(1, 2, true, 0, &message);
    session.return_message(1, 312, "NO_ROUTE", &message);
    session.ack(1, 7, true);
    session.nack(1, 8, false);
    session.deliver(3, b"tag", 1, false, &message);
    let sent = methods(session.output(), |channel, method| Some((channel, method.info().name)));
    assert_eq!(
        sent,
        [(1, "basic.deliver"), (1, "basic.get-ok"), (1, "basic.return"), (1, "basic.ack"), (1, "basic.nack"),]
    );

    session.output().clear();
    session
        .close_connection(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'");
    assert_eq!(session.next(&[]), (0, Some(Event::Closed)));
    assert!(session.is_closing() && !session.is_closed());
    session.deliver(1, b"tag", 1, false, &message);
    session.reply(1, reply());
    session.put_heartbeat();
    session.close_connection(320, "again");
    let sent = methods(session.output(), |channel, method| Some((channel, method.info().name)));
    assert_eq!(sent, [(0, "connection.close")]);
}

#[test]
fn what_concerns_the_connection_alone_is_answered_here() {
    let realm = Method::AccessRequest {
        realm: b"/data",
        exclusive: false,
        passive: true,
        active: true,
        write: true,
        read: true,
    };
    let played = Script::channel()
        .frame(frame::HEARTBEAT, 0, b"")
        .method(1, &Method::ChannelFlow { active: true })
        .method(1, &realm)
        .method(1, &Method::BasicCancelOk { consumer_tag: b"t" })
        .method(0, &Method::ConnectionUpdateSecret { new_secret: b"s", reason: b"r" })
        .method(1, &close_of_client())
        .method(1, &Method::BasicAck { delivery_tag: 1, multiple: false })
        .method(1, &Method::ChannelOpen {})
        .method(0, &connection_close_of_client())
        .raw(b"anything")
        .play();
    let replies = [
        (1, "channel.open-ok"),
        (1, "channel.flow-ok"),
        (1, "access.request-ok"),
        (0, "connection.update-secret-ok"),
        (1, "channel.close-ok"),
        (1, "channel.open-ok"),
        (0, "connection.close-ok"),
    ];
    assert_eq!(played.replies(), replies);
    let events = ["ChannelOpened(1)", "ChannelClosed(1)", "ChannelOpened(1)", "Closed"];
    assert_eq!(played.events[2..], events);
    assert!(played.closed);
}

#[test]
fn content_of_several_channels_may_be_interleaved() {
    let played = Script::channel()
        .method(2, &Method::ChannelOpen {})
        .publish_method(1, b"a")
        .publish_method(2, b"b")
        .header(1, 2, b"\0\0")
        .header(2, 2, b"\0\0")
        .body(2, b"")
        .body(2, b"22")
        .frame(frame::HEARTBEAT, 0, b"")
        .body(1, b"1")
        .body(1, b"1")
        .play();
    assert_eq!(played.closes(), []);
    assert_eq!(played.events.len(), 6);
    assert!(played.events[4].contains("channel: 2") && played.events[4].contains("body: [50, 50]"));
    assert!(played.events[5].contains("channel: 1") && played.events[5].contains("body: [49, 49]"));
}

#[test]
fn after_a_refusal_the_channel_drops_everything_until_close_ok() {
    let refused = Script::channel().publish(1, b"nope", b"x", 100).publish(1, b"nope", b"x", 100);
    let played = refused
        .clone()
        .method(1, &Method::BasicAck { delivery_tag: 1, multiple: false })
        .publish_method(1, b"a")
        .body(1, b"stray")
        .method(1, &close_of_client())
        .method(1, &Method::ChannelCloseOk {})
        .method(1, &Method::ChannelOpen {})
        .play();
    let text = String::from("NOT_FOUND - no exchange 'nope' in vhost '/'");
    assert_eq!(played.closes(), [(1, 404, text, (60, 40))]);
    let replies =
        [(1, "channel.open-ok"), (1, "channel.close"), (1, "channel.close-ok"), (1, "channel.open-ok")];
    assert_eq!(played.replies(), replies);
    assert_eq!(played.events[4..], ["ChannelClosed(1)", "ChannelOpened(1)"]);

    let reopened = refused.method(1, &Method::ChannelOpen {}).play();
    assert_eq!(reopened.closes()[1].1, 504);
}

#[test]
fn a_batch_ends_where_anything_but_a_publish_begins() {
    let mut session = Session::new(config());
    let script = Script::channel();
    let mut at = 0;
    loop {
        let (took, event) = session.next(&script.0[at..]);
        at += took;
        match event {
            Some(Event::Login(_)) => session.authenticated(),
            Some(Event::Open { .. }) => session.opened(),
            Some(Event::ChannelOpened(channel)) => session.channel_opened(channel),
            Some(_) => {}
            None => break,
        }
    }
    let publish = Script::default().publish(1, b"ex", b"hello", 3).0;
    assert!(session.continues_publish(&publish));
    assert!(!session.continues_publish(&publish[..10]));
    assert!(!session.continues_publish(&Script::default().publish(2, b"ex", b"hello", 3).0));
    assert!(!session.continues_publish(&Script::default().method(1, &close_of_client()).0));
    assert!(!session.continues_publish(&frame::HEARTBEAT_FRAME));
    session.refuse(1, &no_exchange(b"nope"), (60, 40));
    assert!(!session.continues_publish(&publish));
}
