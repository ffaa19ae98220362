//! Each thing that a client may do wrong, with RabbitMQ's code and text for it.

use super::*;

/// The connection is closed with this, and nothing else is.
fn hard(script: Script, code: u16, text: &str, on: (u16, u16)) {
    let played = script.play();
    assert_eq!(played.closes(), [(0, code, String::from(text), on)]);
    assert_eq!(played.events.last().map(String::as_str), Some("Closed"));
    assert!(played.closing);
}

#[test]
fn frames_that_break_the_rules_of_frames() {
    let connected = Script::connected;
    let text = "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame";
    hard(connected().frame(9, 0, b"abc"), 501, text, (0, 0));
    hard(connected().frame(9, 1, b"abc"), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 8, all octets = <<\"abc\">>: unknown_frame";
    hard(connected().frame(frame::HEARTBEAT, 0, b"abc"), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame";
    hard(Script::channel().frame(frame::METHOD, 1, b""), 501, text, (0, 0));
    hard(connected().frame(frame::METHOD, 0, b""), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 1, all octets = <<0,10,0,50>>: {invalid_frame_end_marker,0}";
    hard(connected().frame_ending(frame::METHOD, 0, b"\0\x0a\0\x32", 0), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 3, all octets = <<\"abc\">>: {invalid_frame_end_marker,65}";
    let content = || Script::channel().publish_method(1, b"a").header(1, 6, b"\0\0");
    hard(content().frame_ending(frame::BODY, 1, b"abc", 65), 501, text, (0, 0));
    hard(content().body(1, b"xyz").frame_ending(frame::BODY, 1, b"abc", 65), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}";
    hard(connected().raw(b"\x01\0\0\0\0\x20\x01"), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4294967295,8184}";
    hard(content().raw(b"\x03\0\x01\xff\xff\xff\xff"), 501, text, (0, 0));
}

#[test]
fn frames_where_they_do_not_belong() {
    let text = "UNEXPECTED_FRAME - type 8, all octets = <<>>";
    hard(Script::channel().frame(frame::HEARTBEAT, 1, b""), 505, text, (0, 0));
    let text = "UNEXPECTED_FRAME - type 3, all octets = <<\"a\">>";
    hard(Script::connected().body(0, b"a"), 505, text, (0, 0));
    let text = "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,0,0,0>>";
    hard(Script::connected().header(0, 0, b"\0\0"), 505, text, (0, 0));
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    for script in [Script::connected(), Script::channel()] {
        hard(script.clone().header(1, 0, b"\0\0"), 505, text, (0, 0));
        hard(script.body(1, b"x"), 505, text, (0, 0));
    }
    let empty = Script::channel().publish_method(1, b"a").header(1, 0, b"\0\0");
    hard(empty.body(1, b""), 505, text, (0, 0));
}

#[test]
fn content_out_of_order() {
    let publish = || Script::channel().publish_method(1, b"a");
    let text =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    hard(publish().method(1, &Method::TxSelect {}), 505, text, (60, 40));
    hard(publish().body(1, b"x"), 505, text, (60, 40));
    let weight = b"\0\x3c\0\x07\0\0\0\0\0\0\0\0\0\0";
    hard(publish().frame(frame::HEADER, 1, weight), 505, text, (60, 40));
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead";
    let class = b"\0\x32\0\0\0\0\0\0\0\0\0\0\0\0";
    hard(publish().frame(frame::HEADER, 1, class), 505, text, (60, 40));
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let header = || publish().header(1, 3, b"\0\0");
    hard(header().header(1, 3, b"\0\0"), 505, text, (60, 40));
    hard(header().method(1, &close_of_client()), 505, text, (60, 40));
    let text = "FRAME_ERROR - content body frame exceeds remaining content size";
    hard(header().body(1, b"xxxx"), 501, text, (60, 40));
    hard(header().body(1, b"xx").body(1, b"xx"), 501, text, (60, 40));
}

#[test]
fn content_that_makes_no_sense() {
    let publish = || Script::channel().publish_method(1, b"a");
    let text = "FRAME_ERROR - type 2, all octets = <<0,60,0,0,0,0,0,2>>: unknown_frame";
    hard(publish().frame(frame::HEADER, 1, b"\0\x3c\0\0\0\0\0\x02"), 501, text, (0, 0));
    let text = "SYNTAX_ERROR - cannot decode content properties";
    hard(publish().header(1, 0, b"\x80\0\x20text/plain"), 502, text, (60, 40));
    hard(publish().header(1, 0, b"\x20\0\0\0\0\x03\x01aQ"), 502, text, (60, 40));
    let text = "FRAME_ERROR - content body size 9223372036854775808 exceeds maximum allowed size 536870912";
    hard(publish().header(1, 1 << 63, b"\0\0"), 501, text, (60, 40));
    let immediate =
        Method::BasicPublish { exchange: b"", routing_key: b"", mandatory: false, immediate: true };
    hard(Script::channel().method(1, &immediate), 540, "NOT_IMPLEMENTED - immediate=true", (60, 40));
}

#[test]
fn a_body_above_the_limit_closes_the_channel_alone() {
    let body = [b'x'; BODY_MAX as usize + 1];
    for body_frame in [8000, 30] {
        let played =
            Script::channel().publish(1, b"a", &body, body_frame).publish(1, b"a", b"x", 8000).play();
        let text =
            String::from("PRECONDITION_FAILED - message size 101 is larger than configured max size 100");
        assert_eq!(played.closes(), [(1, 406, text, (60, 40))]);
        assert_eq!(played.events[2..], ["ChannelOpened(1)", "ChannelClosed(1)"]);
    }
    let played = Script::channel().publish(1, b"a", &body[1..], 8000).play();
    assert_eq!(played.closes(), []);
}

#[test]
fn bodies_under_way_are_bounded_for_the_connection() {
    const BODY: u64 = 200 * 1024 * 1024;
    let config = Arc::new(SessionConfig { message_body_bytes_max: BODY, ..SessionConfig::default() });
    let under_way = |channels: u16| {
        (1..=channels).fold(Script::connected(), |script, channel| {
            let script = script.method(channel, &Method::ChannelOpen {});
            script.publish_method(channel, b"a").header(channel, BODY, b"\0\0")
        })
    };
    assert_eq!(play_with(config.clone(), [&under_way(2).0[..]]).closes(), []);
    let text = "RESOURCE_ERROR - 629145600 bytes of bodies are under way at once; the most is 536870912";
    let closes = play_with(config, [&under_way(3).0[..]]).closes();
    assert_eq!(closes, [(0, 506, String::from(text), (60, 40))]);
}

#[test]
fn channels_are_opened_once_and_first() {
    let text = "CHANNEL_ERROR - second 'channel.open' seen";
    hard(Script::channel().method(1, &Method::ChannelOpen {}), 504, text, (20, 10));
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    hard(Script::connected().method(1, &Method::TxSelect {}), 504, text, (90, 10));
    hard(Script::connected().method(1, &close_of_client()), 504, text, (20, 40));
    hard(Script::connected().method(1, &Method::ChannelCloseOk {}), 504, text, (20, 41));
    let ack = Method::BasicAck { delivery_tag: 1, multiple: false };
    hard(Script::connected().method(1, &ack), 504, text, (60, 80));
    let closed = || Script::channel().method(1, &close_of_client());
    assert_eq!(closed().method(1, &ack).play().closes(), []);
    hard(closed().method(1, &Method::TxSelect {}), 504, text, (90, 10));
}

/// Channels are counted, and may have any numbers.
#[test]
fn so_many_channels_may_be_open_at_once_as_were_agreed_on() {
    let numbers = [65_535, 1, 2_047, 2_048, 11, 3, 40_000, 4, 5, 6];
    let opened = || {
        numbers
            .iter()
            .fold(Script::connected(), |script, number| script.method(*number, &Method::ChannelOpen {}))
    };
    assert_eq!(opened().play().closes(), []);
    let text = "NOT_ALLOWED - number of channels opened (10) has reached the negotiated channel_max (10)";
    hard(opened().method(7, &Method::ChannelOpen {}), 530, text, (0, 0));
    // One that is closed, by whichever side, makes room for another.
    let closed = opened().method(65_535, &close_of_client()).method(7, &Method::ChannelOpen {});
    assert_eq!(closed.play().closes(), []);
    let ack = Method::BasicAck { delivery_tag: 1, multiple: false };
    assert_eq!(opened().method(40_000, &close_of_client()).method(40_000, &ack).play().closes(), []);
    // And what is kept of those that were open once has an end.
    let many = (3_000..=u16::MAX).fold(Script::connected(), |script, number| {
        script.method(number, &Method::ChannelOpen {}).method(number, &close_of_client())
    });
    assert_eq!(many.method(u16::MAX, &Method::ChannelOpen {}).play().closes(), []);
}

#[test]
fn methods_that_are_unknown_or_not_for_clients() {
    let unknown = "NOT_IMPLEMENTED - unimplemented method";
    let text = "COMMAND_INVALID - unimplemented method";
    let channel = Script::channel;
    hard(channel().frame(frame::METHOD, 1, b"\0\x3c\0\x63"), 540, unknown, (60, 99));
    hard(channel().frame(frame::METHOD, 1, b"\0\x63\0\x0a"), 540, unknown, (99, 10));
    hard(channel().frame(frame::METHOD, 0, b"\0\x0a\0\x63"), 540, unknown, (10, 99));
    hard(channel().method(1, &connection_close_of_client()), 503, text, (10, 50));
    hard(channel().method(1, &Method::ChannelOpenOk {}), 503, text, (20, 11));
    hard(channel().method(1, &Method::ChannelFlowOk { active: true }), 503, text, (20, 21));
    hard(channel().method(1, &Method::ChannelCloseOk {}), 503, text, (20, 41));
    hard(channel().method(1, &Method::QueueUnbindOk {}), 503, text, (50, 51));
    hard(channel().method(1, &Method::BasicGetEmpty {}), 503, text, (60, 72));
    let text = "NOT_IMPLEMENTED - active=false";
    hard(channel().method(1, &Method::ChannelFlow { active: false }), 540, text, (20, 20));
    let text = "FRAME_ERROR - cannot decode <<0,0,255,97,98,99>>";
    hard(channel().frame(frame::METHOD, 1, b"\0\x32\0\x0a\0\0\xffabc"), 501, text, (50, 10));
}

#[test]
fn methods_on_channel_0() {
    let text = "CHANNEL_ERROR - unexpected method in connection state running";
    let connected = Script::connected;
    hard(connected().method(0, &Method::ChannelOpen {}), 504, text, (20, 10));
    hard(connected().method(0, &Method::TxSelect {}), 504, text, (90, 10));
    hard(connected().method(0, &Method::ConnectionOpen { virtual_host: b"/" }), 504, text, (10, 40));
    hard(connected().method(0, &Method::ConnectionCloseOk {}), 504, text, (10, 51));
    let publish =
        Method::BasicPublish { exchange: b"", routing_key: b"", mandatory: false, immediate: false };
    hard(connected().method(0, &publish), 504, text, (60, 40));
}

#[test]
fn before_open_only_open_is_expected() {
    let mut tuned = Script::default();
    client::put_protocol_header(&mut tuned.0);
    client::put_start_ok(&mut tuned.0, b"guest", b"guest", Table::new());
    let text = "CHANNEL_ERROR - unexpected method in connection state tuning";
    hard(tuned.clone().method(0, &Method::ConnectionOpen { virtual_host: b"/" }), 504, text, (10, 40));
    let tune_ok = Method::ConnectionTuneOk { channel_max: 1, frame_max: 8192, heartbeat: 0 };
    let tuned = tuned.method(0, &tune_ok);
    let text = "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>";
    hard(tuned.clone().method(1, &Method::ChannelOpen {}), 505, text, (0, 0));
    let text = "CHANNEL_ERROR - unexpected method in connection state opening";
    hard(tuned.clone().method(0, &tune_ok), 504, text, (10, 31));
    let played = tuned.method(0, &connection_close_of_client()).play();
    assert!(played.closed && played.closes().is_empty());
}

#[test]
fn after_a_hard_error_only_close_and_close_ok_count() {
    let failed = Script::channel()
        .publish_method(1, b"a")
        .header(1, 3, b"\0\0")
        .frame_ending(frame::BODY, 1, b"abc", 0)
        .method(2, &Method::ChannelOpen {})
        .frame(9, 9, b"no frame at all")
        .publish(1, b"a", b"x", 100)
        .method(0, &connection_close_of_client());
    let played = failed.play();
    assert_eq!(played.closes().len(), 1);
    assert_eq!(played.replies()[1..], [(0, "connection.close"), (0, "connection.close-ok")]);
    assert!(played.closing && !played.closed);
    let played = failed.method(0, &Method::ConnectionCloseOk {}).raw(b"anything").play();
    assert!(played.closed && !played.closing);

    // After a frame too large the next one cannot be found: nothing is.
    let lost = Script::channel().raw(b"\x01\0\0\xff\xff\xff\xff").method(0, &Method::ConnectionCloseOk {});
    assert!(lost.play().closing);
}
