//! Part 2, sections 2.2 and 2.3: protocol headers and frames.

use super::hex;
use crate::{
    composite::Composite as _,
    condition::Condition,
    frame::{
        AMQP, EMPTY_FRAME, FRAME_BYTES_MIN, Frame, FrameError, ProtocolId, SASL, put_frame, put_performative,
        put_sasl, put_transfer, split,
    },
    messaging::Accepted,
    performatives::{Close, DeliveryTag, Performative, ReceiverSettleMode, Transfer},
    security::{Code, Outcome},
};
use alloc::{vec, vec::Vec};

// 2.2 Version negotiation

#[test]
fn a_protocol_header_is_one_of_three() {
    assert_eq!(ProtocolId::Amqp.header(), *b"AMQP\x00\x01\x00\x00");
    assert_eq!(ProtocolId::Tls.header(), *b"AMQP\x02\x01\x00\x00");
    assert_eq!(ProtocolId::Sasl.header(), *b"AMQP\x03\x01\x00\x00");
    for id in [ProtocolId::Amqp, ProtocolId::Tls, ProtocolId::Sasl] {
        assert_eq!(ProtocolId::of(id.header()), Some(id));
    }
    for other in [*b"AMQP\x00\x00\x09\x01", *b"AMQP\x01\x01\x00\x00", *b"AMQP\x00\x01\x00\x01", *b"GET / HT"]
    {
        assert_eq!(ProtocolId::of(other), None, "{other:?}");
    }
}

// 2.3.1 Frame layout

#[test]
fn a_frame_has_a_header_an_extended_header_and_a_body() {
    let bytes = hex("0000000c 02 00 0102 deadbeef  0000");
    let frame = Frame { kind: AMQP, channel: 0x0102, body: &bytes[8..12], length_bytes: 12 };
    assert_eq!(split(&bytes, AMQP, FRAME_BYTES_MIN), Ok(Some(frame)));
    let bytes = hex("00000011 04 01 0000 0011223344556677 ff");
    let frame = Frame { kind: SASL, channel: 0, body: &[0xff], length_bytes: 17 };
    assert_eq!(split(&bytes, SASL, FRAME_BYTES_MIN), Ok(Some(frame)));
    let frame = Frame { kind: AMQP, channel: 0, body: &[], length_bytes: 8 };
    assert_eq!(split(&EMPTY_FRAME, AMQP, FRAME_BYTES_MIN), Ok(Some(frame)));
}

#[test]
fn a_frame_that_is_not_all_there_is_waited_for() {
    let bytes = hex("00000011 04 01 0000 0011223344556677 ff");
    for end in 0..bytes.len() {
        assert_eq!(split(&bytes[..end], SASL, FRAME_BYTES_MIN), Ok(None), "{end}");
    }
}

#[test]
fn what_is_no_frame_is_known_by_its_header() {
    let cases = [
        ("00000007", FrameError::Size(7)),
        ("00000000", FrameError::Size(0)),
        ("00000201", FrameError::TooLarge { bytes: 513, bytes_max: 512 }),
        ("ffffffff", FrameError::TooLarge { bytes: u32::MAX, bytes_max: 512 }),
        ("00000008 01 00 0000", FrameError::Doff(1)),
        ("00000008 00 00 0000", FrameError::Doff(0)),
        ("0000000b 03 00 0000", FrameError::Doff(3)),
        ("00000200 ff 00 0000", FrameError::Doff(255)),
        ("00000008 02 01 0000", FrameError::Kind(1)),
        ("00000008 02 02 0000", FrameError::Kind(2)),
    ];
    for (bytes, error) in cases {
        let bytes = hex(bytes);
        assert_eq!(split(&bytes, AMQP, FRAME_BYTES_MIN), Err(error), "{bytes:?}");
        assert_eq!(error.condition(), Condition::FramingError);
    }
    assert!(split(&hex("00000200 02 00 0000"), AMQP, FRAME_BYTES_MIN).is_ok(), "the largest is taken");
}

#[test]
fn frames_are_found_wherever_the_chunks_are_cut() {
    let mut stream = Vec::new();
    stream.extend_from_slice(&EMPTY_FRAME);
    put_performative(&mut stream, 7, &Close::default());
    put_frame(&mut stream, AMQP, 8, |out| out.extend_from_slice(&[9; 100]));
    let expected = vec![(0, vec![]), (7, hex("00 53 18 45")), (8, vec![9; 100])];
    for chunk_bytes in 1..stream.len() {
        let (mut unread, mut found): (Vec<u8>, Vec<(u16, Vec<u8>)>) = Default::default();
        for chunk in stream.chunks(chunk_bytes) {
            unread.extend_from_slice(chunk);
            while let Some(frame) = split(&unread, AMQP, FRAME_BYTES_MIN).unwrap() {
                found.push((frame.channel, frame.body.to_vec()));
                let took = frame.length_bytes;
                unread.drain(..took);
            }
        }
        assert_eq!(found, expected, "{chunk_bytes}");
        assert!(unread.is_empty());
    }
}

#[test]
fn frames_are_written_with_their_size() {
    let mut out = vec![0xee];
    put_performative(&mut out, 258, &Close::default());
    put_sasl(&mut out, &Outcome { code: Code::Auth, additional_data: None });
    assert_eq!(out, hex("ee 0000000c 02 00 0102 00 53 18 45  00000010 02 01 0000 00 53 44 c0 03 01 50 01"));
}

// 2.6.14 Transferring a message

#[test]
fn a_message_is_split_into_as_many_transfers_as_it_needs() {
    let payload: Vec<u8> = (0..2000).map(|number| (number % 251) as u8).collect();
    for (bytes, frame_bytes_max, more) in [
        (0, 512, false),
        (400, 512, false),
        (500, 512, false),
        (2000, 512, false),
        (2000, 512, true),
        (480, 512, true),
    ] {
        let transfer = Transfer {
            handle: 3,
            delivery_id: Some(9),
            delivery_tag: DeliveryTag::new(b"tag"),
            message_format: Some(0),
            settled: Some(true),
            more,
            ..Transfer::default()
        };
        let mut out = Vec::new();
        // In pieces that end anywhere.
        let (one, other) = payload[..bytes].split_at(bytes / 3);
        let transfers = put_transfer(&mut out, 5, &transfer, &[one, &[], other], frame_bytes_max);
        let (mut rest, mut joined, mut count) = (&out[..], Vec::new(), 0);
        while let Some(frame) = split(rest, AMQP, frame_bytes_max).unwrap() {
            rest = &rest[frame.length_bytes..];
            let (performative, part) = Performative::from_body(frame.body).unwrap();
            joined.extend_from_slice(part);
            let is_last = rest.is_empty();
            let mut expected =
                if count == 0 { transfer } else { Transfer { handle: 3, ..Transfer::default() } };
            expected.more = more || !is_last;
            assert_eq!((frame.channel, performative), (5, Performative::Transfer(expected)), "{bytes}");
            // All but the last are full.
            assert!(is_last || frame.length_bytes == frame_bytes_max as usize, "{}", frame.length_bytes);
            count += 1;
        }
        assert_eq!((rest, &joined[..], count), (&[][..], &payload[..bytes], transfers), "{bytes}");
        assert!(transfers > 0);
    }
}

#[test]
fn a_delivery_in_one_transfer_is_written_as_its_fields_are() {
    let (numbers, longest) = ([0, 1, 255, 256, u32::MAX], [7; 32]);
    let mut cases = Vec::new();
    for (at, handle) in numbers.into_iter().enumerate() {
        for delivery_id in numbers {
            for message_format in [Some(numbers[(at + 1) % 5]), Some(0), None] {
                for tag in [Some(&b""[..]), Some(b"t"), Some(&longest), None] {
                    for settled in [Some(false), Some(true), None] {
                        cases.push(Transfer {
                            handle,
                            delivery_id: Some(delivery_id),
                            delivery_tag: tag.and_then(DeliveryTag::new),
                            message_format,
                            settled,
                            ..Transfer::default()
                        });
                    }
                }
            }
        }
    }
    let plain = cases[0];
    cases.extend([
        Transfer { delivery_id: None, ..plain },
        Transfer { batchable: true, ..plain },
        Transfer { resume: true, ..plain },
        Transfer { aborted: true, ..plain },
        Transfer { more: true, ..plain },
        Transfer { state: Some(Accepted {}.into()), ..plain },
        Transfer { rcv_settle_mode: Some(ReceiverSettleMode::Second), ..plain },
    ]);
    for transfer in &cases {
        let (mut fields, mut out) = (Vec::new(), hex("ee"));
        put_frame(&mut fields, AMQP, 258, |out| {
            transfer.encode(out);
            out.extend_from_slice(b"message");
        });
        assert_eq!(put_transfer(&mut out, 258, transfer, &[b"mess", b"", b"age"], 512), 1);
        assert_eq!((out[0], &out[1..]), (0xee, &fields[..]), "{transfer:?}");
    }
}
