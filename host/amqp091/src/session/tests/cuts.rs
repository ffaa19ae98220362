//! The events do not depend on how a stream is cut, and no bytes make a session panic.

use super::*;
use proptest::prelude::*;

/// A bit of everything that a client does right, and a refusal.
fn long_script() -> Script {
    let properties = [b"\x20\0".as_slice(), b"\0\0\0\x09\x01xS\0\0\0\x02hi"].concat();
    Script::channel()
        .method(2, &Method::ChannelOpen {})
        .method(1, &Method::ConfirmSelect { nowait: false })
        .publish(1, b"whole", b"hello", 100)
        .publish(1, b"empty", b"", 100)
        .publish(2, b"pieces", &[b'p'; 40], 9)
        .frame(frame::HEARTBEAT, 0, b"")
        .publish_method(1, b"mixed")
        .header(1, 4, &properties)
        .body(1, b"ab")
        .publish(2, b"between", b"hello", 100)
        .body(1, b"")
        .body(1, b"cd")
        .publish(2, b"nope", b"refused", 100)
        .publish(2, b"nope", b"dropped", 3)
        .method(2, &Method::ChannelCloseOk {})
        .method(1, &Method::BasicAck { delivery_tag: 3, multiple: true })
        .method(1, &close_of_client())
        .method(1, &Method::BasicAck { delivery_tag: 4, multiple: true })
        .method(0, &connection_close_of_client())
}

/// Streams that end in an error, each of another kind.
fn failing_scripts() -> Vec<Script> {
    let content = || Script::channel().publish_method(1, b"a").header(1, 6, b"\0\0");
    vec![
        content().frame_ending(frame::BODY, 1, b"abcdef", 0).publish(1, b"a", b"x", 100),
        content().body(1, b"abcdefg").method(0, &Method::ConnectionCloseOk {}),
        Script::channel().publish(1, b"a", &[0; 101], 8000).method(1, &Method::ChannelCloseOk {}),
        Script::channel().publish(1, b"a", &[0; 101], 13).publish(1, b"a", b"x", 100),
        Script::channel().publish_method(1, b"a").header(1, 1, b"\x80\0\x05x").body(1, b"x"),
        Script::channel().frame(9, 1, b"abc").method(0, &connection_close_of_client()),
        Script::channel().body(1, b"stray").method(0, &Method::ConnectionCloseOk {}),
        Script::channel().raw(b"\x01\0\0\xff\xff\xff\xff").body(1, b"stray"),
        Script::channel().publish(1, b"nope", b"x", 100).body(1, b"stray").method(1, &Method::ChannelOpen {}),
    ]
}

#[test]
fn a_stream_cut_anywhere_gives_the_same() {
    let mut scripts = failing_scripts();
    scripts.push(long_script());
    for script in scripts {
        let bytes = &script.0;
        let whole = play_whole(bytes);
        for at in 0..bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(play([front, back]), whole, "cut at {at}");
        }
        assert_eq!(play(bytes.chunks(1)), whole);
    }
}

#[test]
fn the_long_script_ends_well() {
    let played = long_script().play();
    assert!(played.closed);
    assert_eq!(played.closes().len(), 1, "the refusal");
    let publishes = played.events.iter().filter(|event| event.starts_with("Publish")).count();
    assert_eq!(publishes, 6);
}

/// Cuts `bytes` into pieces of the given lengths, over and over.
fn pieces<'b>(bytes: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

proptest! {
    #[test]
    fn random_cuts_give_the_same(lengths in prop::collection::vec(1usize..60, 1..20)) {
        let script = long_script();
        prop_assert_eq!(play(pieces(&script.0, &lengths)), play_whole(&script.0));
    }

    #[test]
    fn random_bytes_give_the_same_however_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec(1usize..30, 1..8),
        after_handshake in any::<bool>(),
    ) {
        let script = if after_handshake { Script::channel() } else { Script::default() }.raw(&bytes);
        prop_assert_eq!(play(pieces(&script.0, &lengths)), play_whole(&script.0));
    }

    #[test]
    fn changed_bytes_give_the_same_however_cut(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        lengths in prop::collection::vec(1usize..60, 1..8),
    ) {
        let mut bytes = long_script().0;
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        prop_assert_eq!(play(pieces(&bytes, &lengths)), play_whole(&bytes));
    }

    #[test]
    fn frames_of_random_content_give_the_same_however_cut(
        frames in prop::collection::vec(
            (0u8..10, 0u16..3, prop::collection::vec(any::<u8>(), 0..40)), 0..12,
        ),
        lengths in prop::collection::vec(1usize..60, 1..8),
    ) {
        let script = frames
            .iter()
            .fold(Script::channel(), |script, (kind, channel, payload)| script.frame(*kind, *channel, payload));
        prop_assert_eq!(play(pieces(&script.0, &lengths)), play_whole(&script.0));
    }

    #[test]
    fn properties_that_were_checked_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = Vec::new();
        crate::form::FORM.put_headers(&bytes, &leveret_model::HeaderSelection::All, &mut out);
        crate::form::FORM.put_property(&bytes, leveret_model::Property::AppId, &mut out);
        if crate::properties::check(&bytes).is_ok() {
            let flags = u16::from_be_bytes([bytes[0], bytes[1]]);
            let app_id = crate::properties::Properties::new(&bytes).string(leveret_model::Property::AppId);
            prop_assert_eq!(app_id.is_some(), flags & 8 != 0);
        }
    }
}
