//! Dead letters (RabbitMQ's extension): which bytes a rejected message carries, and where it goes.

use super::with_bystander;
use leveret_testkit::unique_name;
use leveret_testkit::wire::{
    Arguments, FRAME_END, HEADER, RawConnection, Reader, body_bytes, frame_bytes, id,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Flags of the properties that the tests send: headers, expiration, message-id.
const SENT: u16 = 1 << 13 | 1 << 8 | 1 << 7;

/// What basic.deliver brought: delivery tag, exchange, key, properties with their flags, body.
struct Delivered {
    tag: u64,
    redelivered: bool,
    exchange: String,
    key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl Delivered {
    /// The eight octets behind a field's name and type, wherever it first comes.
    fn number(&self, field: &[u8]) -> u64 {
        let bytes = &self.properties;
        let at = bytes.windows(field.len()).position(|window| window == field);
        Reader::new(&bytes[at.expect("the field is there") + field.len()..]).long_long()
    }

    /// How often it died in the last queue, for the last reason.
    fn count(&self) -> u64 {
        self.number(b"\x05countl")
    }
}

/// Frames on channel 1 of a connection.
trait DeadLetters {
    fn declare_with(&mut self, arguments: &[(&str, &str)]) -> String;
    fn publish(&mut self, key: &str, properties: Arguments, body: &[u8]);
    fn consume(&mut self, queue: &str);
    fn delivered(&mut self) -> Delivered;
    fn refuse(&mut self, tag: u64, multiple: bool);
}

impl DeadLetters for RawConnection {
    /// Declares an exclusive queue named by the server.
    fn declare_with(&mut self, arguments: &[(&str, &str)]) -> String {
        let declare = Arguments::new().short(0).short_string("").bits(&[false, false, true]).table(arguments);
        self.send_method(1, id::QUEUE_DECLARE, declare);
        self.expect_method(1, id::QUEUE_DECLARE_OK).short_string()
    }

    /// Publishes to the default exchange. `properties` begin with the flags.
    fn publish(&mut self, key: &str, properties: Arguments, body: &[u8]) {
        self.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", key));
        let header = Arguments::new().short(60).short(0).long_long(body.len() as u64);
        let header = header.raw(&properties.into_bytes()).into_bytes();
        self.send(&frame_bytes(HEADER, 1, &header, FRAME_END));
        self.send(&body_bytes(1, body));
    }

    /// Starts a consumer that acknowledges.
    fn consume(&mut self, queue: &str) {
        let consume = Arguments::new().short(0).short_string(queue).short_string(queue);
        self.send_method(1, id::BASIC_CONSUME, consume.octet(0).empty_table());
        self.expect_method(1, id::BASIC_CONSUME_OK);
    }

    fn delivered(&mut self) -> Delivered {
        let mut deliver = self.expect_method(1, id::BASIC_DELIVER);
        deliver.short_string();
        let (tag, redelivered) = (deliver.long_long(), deliver.octet() != 0);
        let (exchange, key) = (deliver.short_string(), deliver.short_string());
        let properties = self.expect_frame().payload[12..].to_vec();
        let body = self.expect_frame().payload;
        Delivered { tag, redelivered, exchange, key, properties, body }
    }

    /// basic.nack without requeue.
    fn refuse(&mut self, tag: u64, multiple: bool) {
        self.send_method(1, id::BASIC_NACK, Arguments::new().long_long(tag).bits(&[multiple, false]));
    }
}

fn bare() -> Arguments {
    Arguments::new().short(0)
}

/// What a name and a long string are as a field.
fn string(name: &str, value: &str) -> Arguments {
    Arguments::new().short_string(name).octet(b'S').long_string(value)
}

/// The history stands behind the headers of the message; expiration is taken away and told of; all
/// other properties stay.
#[test]
fn the_headers_of_a_rejected_message() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let dead = connection.declare_queue(1);
        let work =
            connection.declare_with(&[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", &dead)]);
        let mine = Arguments::new().short_string("k").octet(b'I').long(5).into_bytes();
        let sent = Arguments::new().short(SENT).long_string(&mine).short_string("60000").short_string("m");
        connection.publish(&work, sent, b"body");
        connection.consume(&dead);
        connection.consume(&work);
        let tag = connection.delivered().tag;
        connection.send_method(1, id::BASIC_REJECT, Arguments::new().long_long(tag).octet(0));
        let letter = connection.delivered();
        assert_eq!((letter.exchange.as_str(), letter.key.as_str()), ("", dead.as_str()));
        assert_eq!(letter.body, b"body");
        assert!(letter.redelivered);

        let died = letter.number(b"\x04timeT");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(now.abs_diff(died) <= 60, "it died at {died}, and now is {now}");
        let key = Arguments::new().octet(b'S').long_string(&work).into_bytes();
        let entry = string("original-expiration", "60000")
            .short_string("count")
            .octet(b'l')
            .long_long(1)
            .raw(&string("reason", "rejected").into_bytes())
            .raw(&string("queue", &work).into_bytes())
            .short_string("time")
            .octet(b'T')
            .long_long(died)
            .raw(&string("exchange", "").into_bytes())
            .short_string("routing-keys")
            .octet(b'A')
            .long_string(key);
        let entries = Arguments::new().octet(b'F').long_string(entry.into_bytes()).into_bytes();
        let headers = Arguments::new().raw(&mine).short_string("x-death").octet(b'A').long_string(entries);
        let headers = ["first", "last"].iter().fold(headers, |headers, which| {
            let of = |what: &str, value: &str| string(&format!("x-{which}-death-{what}"), value).into_bytes();
            headers.raw(&of("exchange", "")).raw(&of("queue", &work)).raw(&of("reason", "rejected"))
        });
        let expected = Arguments::new().short(1 << 13 | 1 << 7).long_string(headers.into_bytes());
        assert_eq!(letter.properties, expected.short_string("m").into_bytes());
    });
}

/// Rejected one by one and many at once: each goes when it is rejected.
#[test]
fn the_order_of_rejections() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let dead = connection.declare_queue(1);
        let work =
            connection.declare_with(&[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", &dead)]);
        connection.consume(&work);
        let tags = [b"1", b"2", b"3"].map(|body| {
            connection.publish(&work, bare(), body);
            connection.delivered().tag
        });
        connection.consume(&dead);
        connection.refuse(tags[2], false);
        connection.refuse(tags[1], true);
        let bodies = [(); 3].map(|()| connection.delivered().body);
        assert_eq!(bodies, [b"3", b"1", b"2"]);
    });
}

/// With the default exchange and no key of its own a queue gets back what is rejected, each time.
#[test]
fn a_circle_of_rejections() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let work = connection.declare_with(&[("x-dead-letter-exchange", "")]);
        connection.consume(&work);
        connection.publish(&work, bare(), b"round");
        let first = connection.delivered();
        assert!(!first.redelivered);
        let mut tag = first.tag;
        for count in 1..=5 {
            connection.refuse(tag, false);
            let letter = connection.delivered();
            assert_eq!((letter.count(), &letter.body[..]), (count, &b"round"[..]));
            // What is given up with a nack has not failed, as RabbitMQ says too.
            assert!(!letter.redelivered);
            tag = letter.tag;
        }
    });
}

/// The exchange need not be there: then the message is gone, and the channel does not notice.
#[test]
fn an_absent_exchange() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let absent = unique_name("later");
        let work = connection.declare_with(&[("x-dead-letter-exchange", &absent)]);
        let dead = connection.declare_queue(1);
        connection.consume(&work);
        connection.publish(&work, bare(), b"first");
        let tag = connection.delivered().tag;
        connection.refuse(tag, false);
        // What is answered behind it comes after it; RabbitMQ takes the message out meanwhile.
        connection.publish(&work, bare(), b"second");
        let tag = connection.delivered().tag;
        let declare = Arguments::new().short(0).short_string(&absent).short_string("fanout");
        connection.send_method(1, id::EXCHANGE_DECLARE, declare.bits(&[false, false, true]).empty_table());
        connection.expect_method(1, id::EXCHANGE_DECLARE_OK);
        let bind = Arguments::new().short(0).short_string(&dead).short_string(&absent).short_string("");
        connection.send_method(1, id::QUEUE_BIND, bind.octet(0).empty_table());
        connection.expect_method(1, id::QUEUE_BIND_OK);
        connection.consume(&dead);
        connection.refuse(tag, false);
        let letter = connection.delivered();
        assert_eq!((&letter.body[..], letter.exchange), (&b"second"[..], absent));
        assert_eq!(letter.key, work);
    });
}

/// queue.declare with a key and no exchange: 406.
#[test]
fn a_key_without_an_exchange() {
    with_bystander(|broker| {
        let mut connection = RawConnection::open_with_channel(broker.address());
        let name = unique_name("refused");
        let declare = Arguments::new().short(0).short_string(&name).bits(&[false, false, true]);
        let declare = declare.table(&[("x-dead-letter-routing-key", "key")]);
        connection.send_method(1, id::QUEUE_DECLARE, declare);
        let closed = connection.expect_channel_close(1, 406);
        assert_eq!(
            closed.text,
            format!(
                "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue '{name}' in vhost '/': \
                 routing_key_but_no_dlx_defined"
            )
        );
        assert_eq!(closed.method, id::QUEUE_DECLARE);
    });
}
