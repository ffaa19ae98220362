//! Part 3, section 3.2: the format of messages.

use super::{decode, encoded, hex};
use crate::{
    composite::Annotations,
    condition::Condition,
    descriptor,
    message::{
        AnnotationChange, Body, Edit, Edits, Layout, Message, Scanner, Section, Span, patch_annotations,
    },
    messaging::{Header, Properties},
    types::{DecodeError, ListBuilder, MapBuilder, Symbol, Value, write},
};
use alloc::{vec, vec::Vec};

const X_A: Symbol<'static> = Symbol::from_static("x-a");
const X_B: Symbol<'static> = Symbol::from_static("x-b");
const X_C: Symbol<'static> = Symbol::from_static("x-c");

fn section<'a>(descriptor: u64, content: impl Into<Value<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    write::put_descriptor(&mut out, descriptor);
    write::put(&mut out, content);
    out
}

fn annotations(descriptor: u64, pairs: &[(Symbol<'_>, u32)]) -> Vec<u8> {
    let mut map = MapBuilder::new();
    for (key, value) in pairs {
        map.push(*key, *value);
    }
    section(descriptor, map.view())
}

/// One of each section that a message with data may have.
fn sections() -> Vec<Vec<u8>> {
    let mut application = MapBuilder::new();
    application.push("key", "value");
    vec![
        encoded(&Header { durable: Some(true), ..Header::default() }),
        annotations(descriptor::DELIVERY_ANNOTATIONS, &[(X_A, 1)]),
        annotations(descriptor::MESSAGE_ANNOTATIONS, &[(X_A, 2), (X_B, 3)]),
        encoded(&Properties { to: Some("/queues/q"), ..Properties::default() }),
        section(descriptor::APPLICATION_PROPERTIES, application.view()),
        section(descriptor::DATA, &b"one"[..]),
        section(descriptor::DATA, &[b'x'; 300][..]),
        annotations(descriptor::FOOTER, &[(X_C, 4)]),
    ]
}

/// Where each of them lies when they are put one behind the other.
fn spans(sections: &[Vec<u8>]) -> Vec<Span> {
    let mut at = 0;
    sections
        .iter()
        .map(|section| {
            let start = at;
            at += section.len();
            Span { start, end: at }
        })
        .collect()
}

fn scan(pieces: &[&[u8]]) -> Result<Layout, DecodeError> {
    let mut scanner = Scanner::default();
    pieces.iter().try_for_each(|piece| scanner.feed(piece))?;
    scanner.finish()
}

#[test]
fn sections_are_found_where_they_lie() {
    let sections = sections();
    let message = sections.concat();
    let at = spans(&sections);
    let layout = Layout::of(&message).unwrap();
    assert_eq!(layout.header, Some(at[0]));
    assert_eq!(layout.delivery_annotations, Some(at[1]));
    assert_eq!(layout.message_annotations, Some(at[2]));
    assert_eq!(layout.properties, Some(at[3]));
    assert_eq!(layout.application_properties, Some(at[4]));
    let body = layout.body.unwrap();
    assert_eq!((body.kind, body.sections), (Section::Data, 2));
    assert_eq!(body.span, Span { start: at[5].start, end: at[6].end });
    assert_eq!(layout.footer, Some(at[7]));
    assert_eq!(layout.bare(), Span { start: at[3].start, end: at[6].end });
    assert_eq!(layout.bytes, message.len());
}

#[test]
fn sections_are_found_in_several_transfers_wherever_they_are_cut() {
    let message = sections().concat();
    let whole = Layout::of(&message).unwrap();
    for piece_bytes in 1..60 {
        let pieces: Vec<&[u8]> = message.chunks(piece_bytes).collect();
        assert_eq!(scan(&pieces), Ok(whole), "{piece_bytes}");
    }
    for cut in 0..message.len() {
        assert_eq!(scan(&[&message[..cut], &[], &message[cut..]]), Ok(whole), "{cut}");
    }
}

#[test]
fn a_message_that_is_cut_short_within_a_section_is_refused() {
    let sections = sections();
    let message = sections.concat();
    let ends: Vec<usize> = spans(&sections).iter().map(|span| span.end).collect();
    for end in 0..message.len() {
        let is_end = end == 0 || ends.contains(&end);
        let expected = if is_end { Ok(end) } else { Err(DecodeError::Truncated) };
        assert_eq!(Layout::of(&message[..end]).map(|layout| layout.bytes), expected, "{end}");
    }
}

#[test]
fn a_message_says_what_its_sections_say() {
    let message = sections().concat();
    let message = Message::new(&message).unwrap();
    assert_eq!(message.header().durable, Some(true));
    assert_eq!(message.delivery_annotations().get("x-a"), Some(1_u32.into()));
    assert_eq!(message.message_annotations().get("x-b"), Some(3_u32.into()));
    assert_eq!(message.properties().to, Some("/queues/q"));
    assert_eq!(message.application_properties().get("key"), Some("value".into()));
    assert_eq!(message.footer().get("x-c"), Some(4_u32.into()));
    let Body::Data(data) = message.body() else { panic!("no data") };
    assert_eq!(data.data().collect::<Vec<_>>(), [&b"one"[..], &[b'x'; 300]]);
}

#[test]
fn a_message_may_be_a_body_alone() {
    let bytes = section(descriptor::AMQP_VALUE, "text");
    let message = Message::new(&bytes).unwrap();
    assert_eq!((message.header(), message.properties()), (Header::default(), Properties::default()));
    assert!(message.application_properties().map().is_empty() && message.footer().map().is_empty());
    assert_eq!(message.body(), Body::Value(&hex("a1 04 74657874")));
    assert_eq!(message.bare(), bytes);
    let bytes = encoded(&Header::default());
    let message = Message::new(&bytes).unwrap();
    assert_eq!((message.body(), message.bare()), (Body::None, &[][..]));
}

// 3.2.6 Data, 3.2.7 AMQP sequence, 3.2.8 AMQP value

#[test]
fn a_body_is_of_one_kind() {
    let data = section(descriptor::DATA, &b""[..]);
    let sequence = section(descriptor::AMQP_SEQUENCE, ListBuilder::new().push(1_u32).view());
    let value = section(descriptor::AMQP_VALUE, Value::Null);
    let kind = |sections: &[&Vec<u8>]| {
        let message: Vec<u8> = sections.iter().flat_map(|section| section.iter().copied()).collect();
        Layout::of(&message).map(|layout| layout.body.map(|body| (body.kind, body.sections)))
    };
    assert_eq!(kind(&[&data, &data, &data]), Ok(Some((Section::Data, 3))));
    assert_eq!(kind(&[&sequence, &sequence]), Ok(Some((Section::AmqpSequence, 2))));
    assert_eq!(kind(&[&value]), Ok(Some((Section::AmqpValue, 1))));
    let refused = [
        ([&value, &value], "amqp-value"),
        ([&data, &value], "amqp-value"),
        ([&value, &data], "data"),
        ([&sequence, &data], "data"),
        ([&data, &sequence], "amqp-sequence"),
        ([&value, &sequence], "amqp-sequence"),
    ];
    for (sections, name) in refused {
        assert_eq!(kind(&sections), Err(DecodeError::SectionOrder(name)), "{name}");
    }
    let two = [&sequence[..], &sequence[..]].concat();
    let Body::Sequence(lists) = Message::new(&two).unwrap().body() else { panic!("no sequences") };
    let lists: Vec<_> = lists.lists().map(|list| list.map(|list| list.iter().collect::<Vec<_>>())).collect();
    assert_eq!(lists, [Ok(vec![1_u32.into()]), Ok(vec![1_u32.into()])]);
    // What is in a list is looked at when it is asked for.
    let wrong = hex("00 53 76 c0 02 02 40  00 53 76 45");
    let Body::Sequence(lists) = Message::new(&wrong).unwrap().body() else { panic!("no sequences") };
    assert_eq!(lists.lists().collect::<Vec<_>>(), [Err(DecodeError::Count)]);
}

#[test]
fn a_value_may_be_described_and_its_end_is_found() {
    let footer = annotations(descriptor::FOOTER, &[(X_A, 1)]);
    for value in
        ["40", "00 53 31 45", "00 a1 01 78 00 00 53 01 53 02 b0 00000003 010203", "f0 00000005 00000000 40"]
    {
        let message = [hex("00 53 77"), hex(value), footer.clone()].concat();
        let layout = Layout::of(&message).unwrap();
        let body = layout.body.unwrap().span;
        assert_eq!(body.of(&message), [hex("00 53 77"), hex(value)].concat(), "{value}");
        assert_eq!(layout.footer.unwrap().of(&message), footer);
        let pieces: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(scan(&pieces), Ok(layout));
    }
}

// 3.2: the order of sections

#[test]
fn sections_come_once_and_in_their_order() {
    let sections = sections();
    for (first, one) in sections.iter().enumerate() {
        for (second, other) in sections.iter().enumerate() {
            let expected =
                first < second || (first == 6 && second == 5) || (first == second && (5..7).contains(&first));
            let layout = Layout::of(&[&one[..], other].concat());
            assert_eq!(layout.is_ok(), expected, "{first} {second}");
            if let Err(error) = layout {
                assert!(matches!(error, DecodeError::SectionOrder(_)), "{error:?}");
                assert_eq!(error.condition(), Condition::DecodeError);
            }
        }
    }
}

#[test]
fn what_is_no_section_is_refused() {
    let cases = [
        ("40", DecodeError::NotDescribed),
        ("a0 01 00", DecodeError::NotDescribed),
        ("00 53 79 40", DecodeError::Descriptor(0x79)),
        ("00 53 10 45", DecodeError::Descriptor(0x10)),
        ("00 a3 01 78 40", DecodeError::Descriptor(0)),
        ("00 40 40", DecodeError::Descriptor(0)),
        ("00 53 70 c1 01 00", DecodeError::Content("header")),
        ("00 53 71 45", DecodeError::Content("delivery-annotations")),
        ("00 53 72 40", DecodeError::Content("message-annotations")),
        ("00 53 73 c1 01 00", DecodeError::Content("properties")),
        ("00 53 74 c0 01 00", DecodeError::Content("application-properties")),
        ("00 53 75 a1 00", DecodeError::Content("data")),
        ("00 53 75 00 53 75 a0 00", DecodeError::Content("data")),
        ("00 53 76 c1 01 00", DecodeError::Content("amqp-sequence")),
        ("00 53 77 01", DecodeError::UnknownCode(1)),
        ("00 53 78 45", DecodeError::Content("footer")),
    ];
    for (bytes, error) in cases {
        assert_eq!(Layout::of(&hex(bytes)), Err(error), "{bytes}");
    }
    // A descriptor that does not end is not waited for.
    let long = [hex("00 b3 ffffffff"), vec![b'x'; 40]].concat();
    assert_eq!(Layout::of(&long), Err(DecodeError::Descriptor(0)));
    assert_eq!(Layout::of(&[0; 100]), Err(DecodeError::Descriptor(0)));
}

#[test]
fn what_is_in_a_section_is_checked() {
    let mut strings = MapBuilder::new();
    strings.push("key", 1_u32);
    let key = DecodeError::Content("a key or a value of a section");
    let cases = [
        (section(descriptor::HEADER, ListBuilder::new().push(1_u32).view()), None),
        (section(descriptor::PROPERTIES, ListBuilder::new().push(true).view()), None),
        (section(descriptor::DELIVERY_ANNOTATIONS, strings.view()), Some(key)),
        (section(descriptor::MESSAGE_ANNOTATIONS, strings.view()), Some(key)),
        (section(descriptor::FOOTER, strings.view()), Some(key)),
        (annotations(descriptor::APPLICATION_PROPERTIES, &[(X_A, 1)]), Some(key)),
        (hex("00 53 72 c1 03 02 40 50"), Some(DecodeError::Count)),
        (hex("00 53 72 c1 02 01 40"), Some(DecodeError::OddMap)),
    ];
    for (bytes, error) in cases {
        let found = Message::new(&bytes).err();
        assert!(found.is_some() && (error.is_none() || found == error), "{bytes:?}: {found:?}");
    }
}

#[test]
fn descriptors_of_sections_may_be_names() {
    for (code, name) in descriptor::ALL.iter().filter(|(code, _)| *code >= descriptor::HEADER) {
        let content = match *code {
            descriptor::HEADER | descriptor::PROPERTIES | descriptor::AMQP_SEQUENCE => hex("45"),
            descriptor::DATA => hex("a0 00"),
            descriptor::AMQP_VALUE => hex("40"),
            _ => hex("c1 01 00"),
        };
        for symbol in [
            [&[0, 0xa3][..], &[name.len() as u8]].concat(),
            [&[0, 0xb3, 0, 0, 0][..], &[name.len() as u8]].concat(),
        ] {
            let bytes = [&symbol[..], name.as_bytes(), &content].concat();
            let pieces: Vec<&[u8]> = bytes.chunks(3).collect();
            assert_eq!(scan(&pieces), Layout::of(&bytes));
            assert!(Message::new(&bytes).is_ok(), "{name}");
        }
        let long = [&[0, 0x80, 0, 0, 0, 0, 0, 0, 0][..], &[*code as u8], &content].concat();
        assert!(Message::new(&long).is_ok(), "{name}");
    }
}

// Section 3.2: intermediaries leave the bare message alone

#[test]
fn splicing_leaves_the_bare_message_byte_for_byte() {
    // Encodings that we would not choose.
    let properties = hex("00 80 0000000000000073 d0 0000000a 00000002 40 b0 00000000");
    let data = hex("00 a3 10 616d71703a646174613a62696e617279 b0 00000001 07");
    let bare = [properties, data].concat();
    let message = [encoded(&Header::default()), bare.clone()].concat();
    let message = Message::new(&message).unwrap();
    let header = encoded(&Header { delivery_count: Some(1), ..Header::default() });
    let added = annotations(descriptor::MESSAGE_ANNOTATIONS, &[(X_A, 1)]);
    let edits =
        Edits { header: Edit::Put(&header), message_annotations: Edit::Put(&added), ..Edits::default() };
    let pieces = message.splice(&edits);
    assert_eq!(pieces, [&header[..], &[], &added, &bare, &[]]);
    let spliced = pieces.concat();
    let spliced = Message::new(&spliced).unwrap();
    assert_eq!(spliced.bare(), bare);
    assert_eq!(spliced.header().delivery_count, Some(1));
    assert_eq!(message.splice(&Edits::default()).concat(), [encoded(&Header::default()), bare].concat());
    let whole = sections().concat();
    let message = Message::new(&whole).unwrap();
    let none = Edit::Put(&[]);
    let edits = Edits { header: none, delivery_annotations: none, message_annotations: none, footer: none };
    assert_eq!(message.splice(&edits).concat(), message.bare());
    assert_eq!(message.splice(&Edits::default()).concat(), whole);
}

#[test]
fn annotations_that_are_not_named_stay_byte_for_byte() {
    // Three of them, the first in encodings that we would not choose, and one name twice.
    let content = hex("b3 00000003 782d61 70 00000001  a3 03 782d62 43  53 01 41  a3 03 782d62 52 09");
    let bytes = [&[0, 0x53, 0x72, 0xc1, u8::try_from(content.len() + 1).unwrap(), 8][..], &content].concat();
    let message = Message::new(&bytes).unwrap();
    let patched = |changes: &[AnnotationChange<'_>]| {
        let mut out = vec![0xee];
        let old = message.message_annotations();
        patch_annotations(&mut out, descriptor::MESSAGE_ANNOTATIONS, old, changes);
        out.split_off(1)
    };
    let set = |name, value: u32| AnnotationChange { name, value: Some(value.into()) };
    let remove = |name| AnnotationChange { name, value: None };
    assert_eq!(patched(&[]), bytes);
    assert_eq!(patched(&[remove(X_C)]), bytes);
    let expected = "b3 00000003 782d61 70 00000001  a3 03 782d62 52 07  53 01 41  a3 03 782d63 43";
    let expected = hex(expected);
    let head = [0, 0x53, 0x72, 0xc1, u8::try_from(expected.len() + 1).unwrap(), 8];
    assert_eq!(patched(&[set(X_C, 0), set(X_B, 7)]), [&head[..], &expected].concat());
    let expected = hex("00 53 72 c1 04 02 53 01 41");
    assert_eq!(patched(&[remove(X_A), remove(X_B)]), expected);
    // With none left there is no section.
    let mut out = Vec::new();
    let one = annotations(descriptor::MESSAGE_ANNOTATIONS, &[(X_A, 1)]);
    let one = Message::new(&one).unwrap();
    patch_annotations(&mut out, descriptor::MESSAGE_ANNOTATIONS, one.message_annotations(), &[remove(X_A)]);
    assert_eq!(out, []);
    patch_annotations(&mut out, descriptor::FOOTER, Annotations::EMPTY, &[set(X_A, 1)]);
    assert_eq!(out, annotations(descriptor::FOOTER, &[(X_A, 1)]));
}

#[test]
fn a_span_beyond_the_message_is_nothing() {
    assert_eq!(Span { start: 3, end: 9 }.of(b"short"), b"");
    assert_eq!(Span { start: 1, end: 3 }.of(b"short"), b"ho");
    assert!(Span { start: 3, end: 3 }.is_empty());
    assert_eq!(decode::<Header>(&hex("00 53 70 45")), Ok(Header::default()));
}
