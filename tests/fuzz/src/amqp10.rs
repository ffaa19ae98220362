//! The checks of AMQP 1.0, and the inputs that its encoders make. As in `checks`, each check takes any bytes.

use leveret_amqp10::composite::{Composite, Fields, Symbols};
use leveret_amqp10::connection::{self, Attached, Connection, ConnectionConfig, Outgoing};
use leveret_amqp10::frame::{
    self, AMQP, ProtocolId, SASL, put_frame, put_performative, put_sasl, put_transfer,
};
use leveret_amqp10::management;
use leveret_amqp10::message::{
    AnnotationChange, Body, Edit, Edits, Layout, Message, Scanner, patch_annotations,
};
use leveret_amqp10::messaging::{Accepted, Header, MessageId, Modified, Properties, Source, Target};
use leveret_amqp10::performatives::{
    Attach, Begin, Close, DeliveryTag, Detach, Disposition, End, Error, Flow, Open, Role, Transfer,
};
use leveret_amqp10::sasl::{self, Event, Mechanism, PROOF_BYTES, Sasl};
use leveret_amqp10::security::{Code, Init, Response};
use leveret_amqp10::transactions::{Coordinator, TransactionalState};
use leveret_amqp10::types::{
    FREE_ELEMENTS_MAX, ListBuilder, MapBuilder, Reader, Symbol, Timestamp, Uuid, write,
};
use leveret_amqp10::{Condition, DecodeError, Performative, SaslFrame, Value, descriptor};
use std::sync::Arc;

/// The largest frame in these checks, in bytes; small, so that its bound is met.
const FRAME_BYTES_MAX: u32 = 512;
const X_OPT: Symbol<'static> = Symbol::from_static("x-opt-a");

/// Values, one behind the other: each has no more parts than bytes, and is the same after it was written again, which
/// never takes more bytes.
pub fn values(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let before = reader.rest();
        let Ok(value) = reader.value() else { return };
        let took = before.len() - reader.rest().len();
        assert_eq!(Reader::new(before).span(), Ok(&before[..took]));
        count(value, &mut (took + FREE_ELEMENTS_MAX), true);
        let mut ours = Vec::new();
        write::put(&mut ours, value);
        assert!(ours.len() <= took);
        // Compared as bytes: a number that is none is not equal to itself.
        let mut again = Vec::new();
        write::put(&mut again, Reader::new(&ours).value().expect("what was written is read"));
        assert_eq!(again, ours);
    }
}

/// Elements of an array share their descriptors, which lie there once.
fn count(value: Value<'_>, left: &mut usize, with_descriptors: bool) {
    *left = left.checked_sub(1).expect("no more values than bytes");
    match value {
        Value::List(list) => list.iter().for_each(|value| count(value, left, true)),
        Value::Map(map) => map.iter().for_each(|(key, value)| {
            count(key, left, true);
            count(value, left, true);
        }),
        Value::Array(array) => {
            for (number, value) in array.iter().enumerate() {
                count(value, left, number == 0);
            }
        }
        Value::Described(described) => {
            if with_descriptors {
                count(described.descriptor(), left, true);
            } else {
                *left += 1;
            }
            count(described.value(), left, with_descriptors);
        }
        _ => {}
    }
}

/// A stream, as a peer reads it: each frame takes at least its header and no more than was agreed, and what it says is
/// the same after it was written again. The first byte says of which type they are.
pub fn frames(bytes: &[u8]) {
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    let kind = if kind & 1 == 0 { AMQP } else { SASL };
    while let Ok(Some(found)) = frame::split(rest, kind, FRAME_BYTES_MAX) {
        assert!((frame::HEADER_BYTES..=FRAME_BYTES_MAX as usize).contains(&found.length_bytes));
        rest = &rest[found.length_bytes..];
        if kind == SASL {
            if let Ok(said) = SaslFrame::from_body(found.body) {
                comes_back(
                    |out| said.encode(out),
                    |body, out| SaslFrame::from_body(body).map(|said| said.encode(out)),
                );
            }
        } else if let Ok((performative, payload)) = Performative::from_body(found.body) {
            assert!(payload.is_empty() || matches!(performative, Performative::Transfer(_)));
            comes_back(
                |out| performative.encode(out),
                |body, out| Performative::from_body(body).map(|(performative, _)| performative.encode(out)),
            );
        }
    }
    assert!(rest.len() < FRAME_BYTES_MAX as usize || frame::split(rest, kind, FRAME_BYTES_MAX).is_err());
}

fn comes_back(
    write: impl Fn(&mut Vec<u8>),
    write_again: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), DecodeError>,
) {
    let (mut ours, mut again) = (Vec::new(), Vec::new());
    write(&mut ours);
    write_again(&ours, &mut again).expect("what was written is read");
    assert_eq!(again, ours);
}

/// A message, the first byte saying in which pieces it comes: its sections are found where they lie, however it is cut,
/// and splicing leaves its bare message.
pub fn message(bytes: &[u8]) {
    let Some((piece_bytes, bytes)) = bytes.split_first() else { return };
    managed(bytes);
    let whole = Layout::of(bytes);
    let mut scanner = Scanner::default();
    let fed = bytes.chunks(1 + usize::from(*piece_bytes)).try_for_each(|piece| scanner.feed(piece));
    assert_eq!(fed.and_then(|()| scanner.finish()), whole);
    let Ok(layout) = whole else { return };
    assert_eq!(layout.bytes, bytes.len());
    let Ok(message) = Message::new(bytes) else { return };
    assert_eq!(message.splice(&Edits::default()).concat(), bytes);
    match message.body() {
        Body::None => assert!(layout.body.is_none()),
        Body::Data(data) => {
            let sections = layout.body.map_or(0, |body| body.sections);
            assert_eq!(data.data().count(), sections as usize);
        }
        Body::Sequence(lists) => lists.lists().for_each(drop),
        Body::Value(value) => drop(Reader::new(value).value()),
    }
    let mut section = Vec::new();
    let change = AnnotationChange { name: X_OPT, value: Some(7_u32.into()) };
    let old = message.message_annotations();
    patch_annotations(&mut section, descriptor::MESSAGE_ANNOTATIONS, old, &[change]);
    let edits = Edits { message_annotations: Edit::Put(&section), ..Edits::default() };
    let spliced = message.splice(&edits).concat();
    let spliced = Message::new(&spliced).expect("what was spliced is a message");
    assert_eq!(spliced.bare(), message.bare());
    assert_eq!(spliced.message_annotations().get(X_OPT.as_str()), Some(7_u32.into()));
}

/// Whatever message it is, management has an answer.
fn managed(message: &[u8]) {
    let Ok(call) = management::Call::read(message, "/") else { return };
    let response = match &call.request {
        Ok(_) => management::Response::Done,
        Err(refused) => management::Response::Refused(refused),
    };
    let mut out = Vec::new();
    response.encode(call.id, &mut out);
    let answer = Message::new(&out).expect("an answer is a message");
    assert_eq!(answer.properties().correlation_id, call.id);
}

/// What a client says to log in, the first byte saying in which pieces: the same comes of it, whole or in pieces.
pub fn sasl(bytes: &[u8]) {
    let Some((piece_bytes, bytes)) = bytes.split_first() else { return };
    assert_eq!(play(bytes.chunks(1 + usize::from(*piece_bytes))), play([bytes].into_iter()));
}

/// Events, output, and whether somebody is let in.
fn play<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> (Vec<String>, Vec<u8>, bool) {
    let offered = [Mechanism::Plain, Mechanism::Anonymous, Mechanism::External, Mechanism::ScramSha256];
    let mut sasl = Sasl::new(offered.into());
    let (mut events, mut unread) = (Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        let mut at = 0;
        while !sasl.is_over() {
            let (took, event) = match sasl.next(&unread[at..]) {
                Ok((took, Some(event))) => (took, event),
                Ok((took, None)) => {
                    at += took;
                    break;
                }
                Err(error) => {
                    events.push(format!("{error}"));
                    return (events, std::mem::take(sasl.output()), false);
                }
            };
            at += took;
            events.push(format!("{event:?}"));
            match event {
                Event::Login { password: b"wrong", .. } => sasl.refused(Code::Auth),
                Event::Login { .. } => sasl.authenticated(),
                Event::Salt { .. } => sasl.challenge(b"a nonce", b"salt", 4096),
                Event::Proof { proof, .. } => sasl.verified(&proof),
                Event::Failed => {}
            }
        }
        unread.drain(..at);
        assert!(sasl.is_over() || unread.len() < sasl::FRAME_BYTES_MAX as usize);
    }
    let succeeded = sasl.has_succeeded();
    (events, std::mem::take(sasl.output()), succeeded)
}

/// What a client sends, the first byte saying whether the handshake goes before, and the second in which pieces: the
/// same events and answers come of it, whole or in pieces, and each answer is a frame that a client takes.
pub fn connection(bytes: &[u8]) {
    let Some(([after_handshake, piece_bytes], stream)) = bytes.split_first_chunk::<2>() else { return };
    let mut sent = Vec::new();
    if after_handshake & 1 == 1 {
        put_handshake(&mut sent);
    }
    sent.extend_from_slice(stream);
    assert_eq!(converse(sent.chunks(1 + usize::from(*piece_bytes))), converse([&sent[..]].into_iter()));
}

/// Events and output of a connection whose caller lets everybody in, attaches every link, gives credit, and sends.
fn converse<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> (Vec<String>, Vec<u8>) {
    let config = ConnectionConfig {
        frame_bytes_max: FRAME_BYTES_MAX,
        incoming_window: 4,
        message_bytes_max: 800,
        mechanisms: Arc::new([Mechanism::Plain]),
        ..ConnectionConfig::default()
    };
    let mut connection = Connection::new(Arc::new(config));
    let (mut events, mut unread) = (Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let (took, event) = connection.next(&unread[at..]);
            at += took;
            let Some(event) = event else { break };
            events.push(format!("{event:?}"));
            answer(&mut connection, &event);
        }
        unread.drain(..at);
        assert!(unread.len() < sasl::FRAME_BYTES_MAX as usize);
    }
    let output = std::mem::take(connection.output());
    let mut rest = output.as_slice();
    while !rest.is_empty() {
        let kind = if let Some(after) = rest.strip_prefix(b"AMQP") {
            rest = &after[4..];
            continue;
        } else {
            rest[5]
        };
        let whole = frame::split(rest, kind, FRAME_BYTES_MAX).expect("frames").expect("whole frames");
        rest = &rest[whole.length_bytes..];
        if kind == AMQP {
            Performative::from_body(whole.body).expect("what we say makes sense");
        }
    }
    (events, output)
}

fn answer(connection: &mut Connection, event: &connection::Event<'_>) {
    use connection::Event;
    match event {
        Event::Sasl(_) => connection.sasl().expect("somebody logs in").authenticated(),
        Event::Open(_) => connection.opened(),
        Event::Attach { channel, attach } => {
            // What the client asked for may not fit our frames when it is said once more.
            let target = attach.target.map(|_| Target::default().into());
            let attached = Attached { source: Some(Source::default()), target, ..Attached::as_asked(attach) };
            let attached = Attached { unsettled: None, properties: None, ..attached };
            connection.attached(*channel, attach.handle, &attached);
            connection.grant(*channel, attach.handle, 2);
        }
        Event::Credit { channel, handle, drain, echo, .. } => {
            let message: &[&[u8]] = &[&[b'm'; 300], &[b'n'; 400]];
            let tag = DeliveryTag::new(b"tag").expect("a tag");
            let delivery = Outgoing { tag, message_format: 0, settled: true, message };
            let _ = connection.deliver(*channel, *handle, &delivery);
            if *drain {
                connection.drained(*channel, *handle, None);
            }
            if *echo {
                connection.tell(*channel, *handle, Some(1));
            }
        }
        _ => {}
    }
}

/// A client's words up to open.
fn put_handshake(out: &mut Vec<u8>) {
    out.extend(ProtocolId::Sasl.header());
    out.extend(plain(b"\0guest\0guest"));
}

/// Target, name and bytes of each input.
#[must_use]
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    vec![
        ("values10", "every-type".into(), every_type()),
        ("values10", "arrays".into(), arrays()),
        ("frames10", "performatives".into(), [&[0], conversation().as_slice()].concat()),
        ("frames10", "sasl".into(), [&[1], login().as_slice()].concat()),
        ("message10", "data".into(), [&[6], every_section().as_slice()].concat()),
        ("message10", "value".into(), [&[0], value_section().as_slice()].concat()),
        ("message10", "request".into(), [&[3], request().as_slice()].concat()),
        ("sasl10", "plain".into(), [&[9], plain(b"\0guest\0guest").as_slice()].concat()),
        ("sasl10", "refused".into(), [&[200], plain(b"\0guest\0wrong").as_slice()].concat()),
        ("connection10", "conversation".into(), [&[1, 30], conversation().as_slice()].concat()),
        ("connection10", "transfers".into(), [&[1, 255], transfers().as_slice()].concat()),
        (
            "connection10",
            "handshake".into(),
            [&[0, 2], ProtocolId::Sasl.header().as_slice(), &plain(b"\0u\0p")].concat(),
        ),
        ("sasl10", "scram".into(), [&[0], login().as_slice()].concat()),
    ]
}

fn every_type() -> Vec<u8> {
    let mut list = ListBuilder::new();
    list.push(Value::Null).push(true).push(1_u8).push(2_u16).push(0_u32).push(3_u32).push(400_u32);
    list.push(0_u64).push(5_u64).push(600_u64).push(-1_i8).push(-2_i16).push(-3_i32).push(-400_i32);
    list.push(-5_i64)
        .push(-600_i64)
        .push(0.5_f32)
        .push(0.25_f64)
        .push('c')
        .push(Timestamp(7))
        .push(Uuid([8; 16]));
    list.push(Value::Decimal32([9; 4])).push(Value::Decimal64([9; 8])).push(Value::Decimal128([9; 16]));
    list.push(&b"bytes"[..]).push("text").push(X_OPT);
    let mut map = MapBuilder::new();
    map.push("list", list.view()).push(X_OPT, false);
    let mut out = Vec::new();
    write::put(&mut out, map.view());
    // In encodings that we do not choose.
    out.extend(b"\x56\x01\x70\0\0\0\0\x80\0\0\0\0\0\0\0\x01\xd0\0\0\0\x05\0\0\0\x01\x45\xb1\0\0\0\x01a");
    out
}

fn arrays() -> Vec<u8> {
    let mut out = Vec::new();
    let numbers = [1_u32, 300].map(Value::from);
    let described = b"\0\x53\x75\xa0\x01a";
    let described = Reader::new(described).value().expect("a value");
    let put = |out: &mut Vec<u8>, elements: &[Value<'_>]| {
        write::put_array(out, elements.iter().copied()).expect("of one type");
    };
    put(&mut out, &numbers);
    put(&mut out, &[Value::Null; 5]);
    put(&mut out, &[described, described]);
    let mut inner = Vec::new();
    put(&mut inner, &numbers);
    let inner = Reader::new(&inner).value().expect("a value");
    put(&mut out, &[inner, inner]);
    out
}

fn conversation() -> Vec<u8> {
    let mut map = MapBuilder::new();
    map.push(X_OPT, "value");
    let properties = Fields::new(map.view());
    let mut out = Vec::new();
    let open = Open {
        container_id: "seed",
        hostname: Some("vhost:/"),
        idle_time_out: Some(30_000),
        desired_capabilities: Symbols::Slice(&[X_OPT]),
        properties,
        ..Open::default()
    };
    put_performative(&mut out, 0, &open);
    put_performative(&mut out, 0, &Begin { incoming_window: 400, outgoing_window: 400, ..Begin::default() });
    let source = Source {
        address: Some("/queues/q"),
        filter: properties,
        default_outcome: Some(Modified { delivery_failed: Some(true), ..Modified::default() }.into()),
        ..Source::default()
    };
    let receiver = Attach {
        name: "receiver",
        role: Role::Receiver,
        source: Some(source),
        target: Some(Target::default().into()),
        ..Attach::default()
    };
    put_performative(&mut out, 0, &receiver);
    let coordinator = Some(Coordinator::default().into());
    put_performative(
        &mut out,
        0,
        &Attach { name: "tx", handle: 1, target: coordinator, ..Attach::default() },
    );
    put_performative(&mut out, 0, &Flow { handle: Some(0), link_credit: Some(100), ..Flow::default() });
    let transfer = Transfer {
        delivery_id: Some(0),
        delivery_tag: DeliveryTag::new(b"0"),
        message_format: Some(0),
        ..Transfer::default()
    };
    put_transfer(&mut out, 0, &transfer, &[&[b'x'; 700]], FRAME_BYTES_MAX);
    let state = TransactionalState { txn_id: b"tx", outcome: Some(Accepted {}.into()) };
    put_performative(
        &mut out,
        0,
        &Disposition { last: Some(3), state: Some(state.into()), ..Disposition::default() },
    );
    out.extend(frame::EMPTY_FRAME);
    put_performative(&mut out, 0, &Close { error: Some(Error::new(Condition::ConnectionForced, "bye")) });
    out
}

/// A session with a link each way, whose windows and credits are met.
fn transfers() -> Vec<u8> {
    let mut out = Vec::new();
    put_performative(&mut out, 0, &Open { container_id: "seed", ..Open::default() });
    put_performative(&mut out, 1, &Begin { incoming_window: 1, outgoing_window: 9, ..Begin::default() });
    put_performative(&mut out, 1, &Attach { name: "in", role: Role::Receiver, ..Attach::default() });
    let sender = Attach { name: "out", handle: 1, initial_delivery_count: Some(7), ..Attach::default() };
    put_performative(&mut out, 1, &sender);
    let credit = Flow { handle: Some(0), link_credit: Some(3), incoming_window: 1, ..Flow::default() };
    put_performative(&mut out, 1, &credit);
    for delivery_id in 0..2 {
        let delivery_tag = DeliveryTag::new(b"tag");
        let transfer =
            Transfer { handle: 1, delivery_id: Some(delivery_id), delivery_tag, ..Transfer::default() };
        put_transfer(&mut out, 1, &transfer, &[&[b'x'; 600]], FRAME_BYTES_MAX);
    }
    put_performative(&mut out, 1, &Flow { incoming_window: 9, drain: true, next_outgoing_id: 4, ..credit });
    put_performative(&mut out, 1, &Detach { handle: 1, closed: true, error: None });
    put_performative(&mut out, 1, &End::default());
    out
}

fn plain(response: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mechanism = Symbol::from_static("PLAIN");
    put_sasl(&mut out, &Init { mechanism, initial_response: Some(response), hostname: Some("host") });
    out.extend(ProtocolId::Amqp.header());
    out
}

/// The two frames of a client that speaks SCRAM to [`play`].
fn login() -> Vec<u8> {
    let mut out = Vec::new();
    let mechanism = Symbol::from_static("SCRAM-SHA-256");
    put_sasl(&mut out, &Init { mechanism, initial_response: Some(b"n,,n=u,r=abc"), hostname: None });
    // The nonce of `play`, and a proof of zeros.
    let response = format!("c=biws,r=abcYSBub25jZQ==,p={}=", "A".repeat(PROOF_BYTES.div_ceil(3) * 4 - 1));
    put_frame(&mut out, SASL, 0, |out| Response { response: response.as_bytes() }.encode(out));
    out
}

fn every_section() -> Vec<u8> {
    let mut annotations = MapBuilder::new();
    annotations.push(X_OPT, 1_u32).push(Symbol::from_static("x-opt-b"), "b");
    let mut application = MapBuilder::new();
    application.push("key", 7_i64);
    let mut out = Vec::new();
    Header { durable: Some(true), priority: Some(4), ..Header::default() }.encode(&mut out);
    put_section(&mut out, descriptor::DELIVERY_ANNOTATIONS, annotations.view());
    put_section(&mut out, descriptor::MESSAGE_ANNOTATIONS, annotations.view());
    Properties { to: Some("/queues/q"), group_sequence: Some(3), ..Properties::default() }.encode(&mut out);
    put_section(&mut out, descriptor::APPLICATION_PROPERTIES, application.view());
    put_section(&mut out, descriptor::DATA, &b"one"[..]);
    put_section(&mut out, descriptor::DATA, &b"two"[..]);
    put_section(&mut out, descriptor::FOOTER, annotations.view());
    out
}

fn put_section<'a>(out: &mut Vec<u8>, descriptor: u64, content: impl Into<Value<'a>>) {
    write::put_descriptor(out, descriptor);
    write::put(out, content);
}

/// What a client says to management.
fn request() -> Vec<u8> {
    let mut out = Vec::new();
    let properties = Properties {
        message_id: Some(MessageId::Ulong(7)),
        to: Some("/queues/my%20queue"),
        subject: Some("PUT"),
        reply_to: Some("$me"),
        ..Properties::default()
    };
    properties.encode(&mut out);
    let (mut body, mut arguments) = (MapBuilder::new(), MapBuilder::new());
    arguments.push("x-max-length", 7_u64);
    body.push("durable", true).push("arguments", arguments.view());
    write::put_descriptor(&mut out, descriptor::AMQP_VALUE);
    write::put(&mut out, body.view());
    out
}

fn value_section() -> Vec<u8> {
    let mut out = Vec::new();
    // A described value of a described value.
    out.extend(b"\0\x53\x77\0\xa1\x01x\0\x53\x31\x45");
    out
}
