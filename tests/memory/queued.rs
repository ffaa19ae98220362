//! What queued small messages cost: a million in one queue, in memory and where memory has no room for them.

use super::{BINARY, assert_within, declare, resident_bytes};
use leveret_testkit::{
    Broker,
    wire::{
        Arguments, METHOD, RawConnection, Reader, id, method_bytes, publish_bytes, publish_persistent_bytes,
    },
};

const COUNT: u64 = 1_000_000;
const BODY: &[u8] = b"0123456789";

/// A client with confirms that publishes to a durable queue of its own.
struct Publisher {
    connection: RawConnection,
    confirmed: u64,
    thousand: Vec<u8>,
}

impl Publisher {
    /// Of messages of ten bytes, persistent or not.
    fn open(broker: &Broker, is_persistent: bool) -> Self {
        let mut connection = RawConnection::open_with_channel(broker.address());
        connection.send(&method_bytes(1, id::QUEUE_DECLARE, declare("q", true)));
        connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().bits(&[false]));
        connection.expect_method(1, id::CONFIRM_SELECT_OK);
        let message = if is_persistent { publish_persistent_bytes } else { publish_bytes }(1, "q", BODY);
        Self { connection, confirmed: 0, thousand: message.repeat(1000) }
    }

    /// Publishes so many, in thousands, and waits for their confirms.
    fn publish(&mut self, count: u64) {
        let Self { connection, confirmed, thousand } = self;
        let (mut listening, all) = (connection.other_half(), *confirmed + count);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..count / 1000).for_each(|_| connection.send(thousand)));
            while *confirmed < all {
                let frame = listening.expect_frame();
                let mut reader = Reader::new(&frame.payload);
                assert_eq!(
                    (frame.kind, (reader.short(), reader.short())),
                    (METHOD, id::BASIC_ACK),
                    "{frame:?}"
                );
                *confirmed = reader.long_long();
            }
        });
    }

    /// How many messages are in the queue.
    fn ready(&mut self) -> u64 {
        let passive = Arguments::new().short(0).short_string("q").bits(&[true]).empty_table();
        self.connection.send_method(1, id::QUEUE_DECLARE, passive);
        let mut declared = self.connection.expect_method(1, id::QUEUE_DECLARE_OK);
        declared.short_string();
        u64::from(declared.long())
    }
}

#[test]
fn a_million_small_messages_at_64_bytes_each() {
    for is_persistent in [false, true] {
        let broker = Broker::builder(BINARY).http_listen("none").start();
        let before = resident_bytes(&broker);
        let mut publisher = Publisher::open(&broker, is_persistent);
        publisher.publish(COUNT);
        assert_eq!(publisher.ready(), COUNT);
        let what = if is_persistent { "persistent messages" } else { "transient messages" };
        assert_within(what, &broker, before, COUNT, before + COUNT * 64);
    }
}

/// That all are confirmed shows that they went to disk: memory alone would have room for a quarter of them.
#[test]
fn where_memory_is_short_a_million_small_messages_more_cost_40_bytes_each() {
    for is_persistent in [false, true] {
        let broker = Broker::builder(BINARY).argument("--memory-mib=16").http_listen("none").start();
        let mut publisher = Publisher::open(&broker, is_persistent);
        // What messages may take in memory, and most of the store's buffers, is there from now on.
        publisher.publish(COUNT);
        let before = resident_bytes(&broker);
        publisher.publish(COUNT);
        assert_eq!(publisher.ready(), 2 * COUNT);
        let what = if is_persistent { "persistent messages more" } else { "transient messages more" };
        assert_within(what, &broker, before, COUNT, before + COUNT * 40);
    }
}
