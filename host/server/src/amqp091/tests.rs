//! When requests are answered that concern something durable: the store is one that is slow, or fails.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../broker/tests/kit/disk.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests that use the rest")]
mod disk;

use super::*;
use crate::store::DiskStore;
use disk::Disk;
use leveret_plugin::{Host, HostConfig, Worker};
use leveret_testkit::{
    ScratchDirectory,
    wire::{
        Arguments, FRAME_END, HEADER, HEARTBEAT, METHOD, PROTOCOL_HEADER, Reader, Tune, body_bytes,
        frame_bytes, header_bytes, id, method_bytes,
    },
};
use std::net::Ipv4Addr;

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

/// A client with the channels 1 and 2 in a virtual host that is kept on a disk.
struct Client {
    disk: Arc<Disk>,
    vhost: Arc<Vhost>,
    router: Worker,
    connection: Connection,
    /// Of the store that nothing here is written to.
    _folder: ScratchDirectory,
}

fn ends() -> super::Ends {
    let end = |port| std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    super::Ends { peer: end(1), local: end(5672), with_tls: false, tls: None }
}

/// A login of a client that wants to know when a consumer ends.
fn start_ok() -> Arguments {
    let capability =
        Arguments::new().short_string("consumer_cancel_notify").octet(b't').octet(1).into_bytes();
    let capabilities =
        Arguments::new().short_string("capabilities").octet(b'F').long_string(capability).into_bytes();
    let properties = Arguments::new().long_string(capabilities).into_bytes();
    let login = Arguments::new().raw(&properties).short_string("PLAIN");
    login.long_string(b"\0guest\0guest").short_string("en_US")
}

impl Client {
    fn connect() -> Self {
        Self::connect_with(1 << 30)
    }

    /// Publishers are held back while messages take so many bytes.
    fn connect_with(watermark_bytes: u64) -> Self {
        let disk = Disk::new();
        let host = Host::new(HostConfig { store: disk.clone(), ..HostConfig::default() }).unwrap();
        let mut router = host.worker(0);
        let memory = Arc::new(leveret_broker::MemoryAccount::new(watermark_bytes));
        let vhost = Vhost::kept_in(disk.clone(), name("/"), memory.clone(), &mut router).unwrap();
        let folder = ScratchDirectory::new("amqp091");
        let store = DiskStore::open(folder.path()).unwrap();
        let mut shared = Shared::for_tests(host, &vhost, store);
        shared.memory = memory;
        let shared = Arc::new(shared);
        let connection = Connection::new(1, ends(), shared, Arc::default());
        let mut client = Self { disk, vhost, router, connection, _folder: folder };
        let tune = Tune { channel_max: 10, frame_max_bytes: 131_072, heartbeat_seconds: 0 };
        let hello = [
            PROTOCOL_HEADER.to_vec(),
            method_bytes(0, id::CONNECTION_START_OK, start_ok()),
            method_bytes(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune)),
            method_bytes(0, id::CONNECTION_OPEN, Arguments::open("/")),
            method_bytes(1, id::CHANNEL_OPEN, Arguments::new().short_string("")),
            method_bytes(2, id::CHANNEL_OPEN, Arguments::new().short_string("")),
        ];
        for part in hello {
            client.send(&[part]);
        }
        let answers = client.answers();
        assert_eq!(answers.last(), Some(&(2, id::CHANNEL_OPEN_OK)), "{answers:?}");
        client
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        let bytes = frames.concat();
        assert_eq!(self.connection.handle_bytes(&bytes, usize::MAX, &mut self.router), bytes.len());
    }

    /// What of it was not used.
    fn offer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let used = self.connection.handle_bytes(bytes, usize::MAX, &mut self.router);
        bytes[used..].to_vec()
    }

    /// The methods that were answered since the last time, with their channels.
    fn answers(&mut self) -> Vec<(u16, id::MethodId)> {
        let bytes = std::mem::take(self.connection.output());
        let (mut rest, mut answers) = (&bytes[..], Vec::new());
        while let [kind, a, b, c, d, e, f, more @ ..] = rest {
            assert_eq!(*kind, METHOD);
            let (payload, more) = more.split_at(u32::from_be_bytes([*c, *d, *e, *f]) as usize);
            let mut reader = Reader::new(payload);
            answers.push((u16::from_be_bytes([*a, *b]), (reader.short(), reader.short())));
            if answers.last().unwrap().1 == id::CHANNEL_CLOSE {
                let (code, text) = (reader.short(), reader.short_string());
                assert_eq!((code, &text[..]), (406, NOT_KEPT));
            }
            rest = &more[1..];
        }
        answers
    }

    fn wake(&mut self) -> Vec<(u16, id::MethodId)> {
        self.connection.woken(&mut self.router);
        self.answers()
    }

    /// Waits for the slow lane.
    fn wait(&mut self) -> Vec<(u16, id::MethodId)> {
        loop {
            let answers = self.wake();
            if !answers.is_empty() {
                return answers;
            }
            std::thread::yield_now();
        }
    }
}

const NOT_KEPT: &str =
    "PRECONDITION_FAILED - cannot keep what was changed in vhost '/': the store: the disk does not answer";

fn exchange(channel: u16, exchange: &str, type_name: &str, durable: bool, nowait: bool) -> Vec<u8> {
    let arguments = Arguments::new().short(0).short_string(exchange).short_string(type_name);
    let arguments = arguments.bits(&[false, durable, false, false, nowait]).empty_table();
    method_bytes(channel, id::EXCHANGE_DECLARE, arguments)
}

fn queue(channel: u16, queue: &str, durable: bool) -> Vec<u8> {
    let arguments = Arguments::new().short(0).short_string(queue);
    let arguments = arguments.bits(&[false, durable, false, false, false]).empty_table();
    method_bytes(channel, id::QUEUE_DECLARE, arguments)
}

fn bind(channel: u16, queue: &str, exchange: &str) -> Vec<u8> {
    let arguments = Arguments::new().short(0).short_string(queue).short_string(exchange).short_string("k");
    method_bytes(channel, id::QUEUE_BIND, arguments.bits(&[false]).empty_table())
}

fn unbind(channel: u16, queue: &str, exchange: &str) -> Vec<u8> {
    let arguments = Arguments::new().short(0).short_string(queue).short_string(exchange).short_string("k");
    method_bytes(channel, id::QUEUE_UNBIND, arguments.empty_table())
}

fn delete(channel: u16, exchange: &str) -> Vec<u8> {
    let arguments = Arguments::new().short(0).short_string(exchange).bits(&[false, false]);
    method_bytes(channel, id::EXCHANGE_DELETE, arguments)
}

/// A persistent message for a queue.
fn publish(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    // Class, weight, length, the flag of the delivery mode, and that.
    let header = Arguments::new().short(60).short(0).long_long(body.len() as u64).short(1 << 12).octet(2);
    [
        method_bytes(channel, id::BASIC_PUBLISH, Arguments::publish("", queue)),
        frame_bytes(HEADER, channel, &header.into_bytes(), FRAME_END),
        body_bytes(channel, body),
    ]
    .concat()
}

#[test]
fn a_purge_is_answered_when_it_is_safe() {
    let purge = method_bytes(1, id::QUEUE_PURGE, Arguments::new().short(0).short_string("q").bits(&[false]));
    let mut client = Client::connect();
    client.send(&[queue(1, "q", true), publish(1, "q", b"x")]);
    client.answers();
    client.disk.is_slow(true);
    client.send(&[purge.clone(), exchange(2, "y", "fanout", false, false)]);
    assert_eq!(client.answers(), [(2, id::EXCHANGE_DECLARE_OK)]);
    assert_eq!((client.wake(), client.vhost.queue(b"q").unwrap().counts().ready), (vec![], 0));
    client.disk.is_slow(false);
    assert_eq!(client.wake(), [(1, id::QUEUE_PURGE_OK)]);
    client.disk.is_slow(true);
    client.send(&[purge]);
    assert_eq!(client.answers(), [], "somebody else may have emptied it just now");
    client.disk.is_slow(false);
    assert_eq!(client.wake(), [(1, id::QUEUE_PURGE_OK)]);
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_full_disk_refuses_is_counted_in_the_log_where_no_confirm_tells() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut client = Client::connect();
        client.send(&[queue(1, "q", true)]);
        client.disk.is_full(true);
        client.send(&[publish(1, "q", b"1"), publish(1, "q", b"2"), publish(2, "q", b"3")]);
        client.send(&[publish(1, "q", b"4"), publish(1, "t", b"5")]);
        client.disk.is_full(false);
        client.send(&[publish(1, "q", b"6")]);
        assert_eq!(client.vhost.queue(b"q").unwrap().counts().ready, 1);
        client.connection.end(&mut client.router);
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lost =
        |line: &&str| line.contains("are lost") && line.contains("WARN") && line.contains("no space left");
    let counts: Vec<u64> = log
        .lines()
        .filter(lost)
        .map(|line| {
            line.split_once(" messages that 127.0.0.1")
                .unwrap()
                .0
                .rsplit(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 4, "{log}");
    assert!(counts.len() < 4, "not a line for each: {log}");
}

#[test]
fn each_change_of_something_durable_is_answered_when_it_is_safe() {
    let mut client = Client::connect();
    let changes = [
        (exchange(1, "x", "direct", true, false), id::EXCHANGE_DECLARE_OK),
        (queue(1, "q", true), id::QUEUE_DECLARE_OK),
        (bind(1, "q", "x"), id::QUEUE_BIND_OK),
        (unbind(1, "q", "x"), id::QUEUE_UNBIND_OK),
        (delete(1, "x"), id::EXCHANGE_DELETE_OK),
    ];
    for (change, answer) in changes {
        client.disk.is_slow(true);
        client.send(&[change]);
        assert_eq!(client.disk.changes().len(), 1, "it is made and written at once");
        assert_eq!(client.answers(), []);
        assert_eq!(client.wake(), []);
        client.disk.is_slow(false);
        assert_eq!(client.wake(), [(1, answer)]);
    }
}

#[test]
fn what_comes_behind_waits_and_nothing_else_does() {
    let mut client = Client::connect();
    client.disk.is_slow(true);
    client.send(&[
        exchange(1, "x", "direct", true, false),
        queue(1, "t", false),
        exchange(2, "y", "fanout", false, false),
    ]);
    assert_eq!(client.answers(), [(2, id::EXCHANGE_DECLARE_OK)]);
    assert!(client.vhost.exchange(b"x").is_some() && client.vhost.queue(b"t").is_none());
    // The same from elsewhere is not answered before it is safe either.
    client.send(&[exchange(2, "x", "direct", true, false)]);
    assert_eq!(client.wake(), []);
    client.disk.is_slow(false);
    let mut answers = client.wake();
    answers.sort_unstable();
    assert_eq!(
        answers,
        [(1, id::EXCHANGE_DECLARE_OK), (1, id::QUEUE_DECLARE_OK), (2, id::EXCHANGE_DECLARE_OK)]
    );
}

#[test]
fn with_nowait_nothing_waits() {
    let mut client = Client::connect();
    client.disk.is_slow(true);
    client.send(&[exchange(1, "x", "direct", true, true), queue(1, "t", false), bind(1, "t", "x")]);
    assert_eq!(client.answers(), [(1, id::QUEUE_DECLARE_OK), (1, id::QUEUE_BIND_OK)]);
}

#[test]
fn a_change_that_is_not_safe_in_the_end_closes_its_channel() {
    let mut client = Client::connect();
    client.disk.is_slow(true);
    client.send(&[queue(1, "q", true), queue(1, "t", false)]);
    assert_eq!(client.answers(), []);
    client.disk.give_up();
    assert_eq!(client.wake(), [(1, id::CHANNEL_CLOSE)]);
    client.send(&[exchange(2, "y", "fanout", false, false)]);
    assert_eq!(client.answers(), [(2, id::EXCHANGE_DECLARE_OK)]);
    assert!(client.vhost.queue(b"t").is_none());
}

#[test]
fn who_deletes_a_queue_is_answered_before_its_consumers_end() {
    let mut client = Client::connect();
    let consume = |channel, tag| {
        let arguments = Arguments::new().short(0).short_string("q").short_string(tag);
        method_bytes(channel, id::BASIC_CONSUME, arguments.bits(&[false; 4]).empty_table())
    };
    client.send(&[queue(1, "q", true), consume(1, "of 1"), consume(2, "of 2")]);
    client.answers();
    client.disk.is_slow(true);
    let delete = Arguments::new().short(0).short_string("q").bits(&[false; 3]);
    client.send(&[method_bytes(1, id::QUEUE_DELETE, delete)]);
    assert_eq!(client.wake(), [(2, id::BASIC_CANCEL)], "that channel waits for nothing");
    client.disk.is_slow(false);
    assert_eq!(client.wait(), [(1, id::QUEUE_DELETE_OK), (1, id::BASIC_CANCEL)]);
}

#[test]
fn what_the_slow_lane_does_is_answered_when_it_is_safe() {
    let mut client = Client::connect();
    client.send(&[queue(1, "q", true)]);
    client.answers();
    for change in
        [exchange(1, "x", "x-lvc", true, false), bind(1, "q", "x"), unbind(1, "q", "x"), delete(1, "x")]
    {
        client.disk.is_slow(true);
        client.disk.changes();
        client.send(&[change]);
        while client.disk.changes().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(client.wake(), []);
        client.disk.is_slow(false);
        assert_eq!(client.wait().len(), 1);
    }
    // What is not durable waits for the lane alone.
    client.disk.is_slow(true);
    client.send(&[exchange(1, "t", "x-lvc", false, false)]);
    assert_eq!(client.wait(), [(1, id::EXCHANGE_DECLARE_OK)]);
}

#[test]
fn a_blocked_connection_that_is_closed_is_read_to_its_end() {
    let mut client = Client::connect_with(1);
    client.send(&[queue(1, "q", false), publish(1, "q", b"x")]);
    assert_eq!(client.connection.reading(), Reading::Open);
    assert!(client.connection.holds_back());
    assert_eq!(client.answers(), [(1, id::QUEUE_DECLARE_OK)]);
    client.send(&[publish(1, "q", b"z")]);
    client.connection.stop(&mut client.router);
    assert_eq!(client.answers(), [(0, id::CONNECTION_CLOSE)]);
    assert_eq!(client.connection.reading(), Reading::Open);
    client.send(&[publish(1, "q", b"y"), method_bytes(0, id::CONNECTION_CLOSE_OK, Arguments::new())]);
    assert!(client.connection.is_closed());
    assert_eq!(
        client.vhost.queue(b"q").unwrap().counts().ready,
        1,
        "what came behind the close is not taken"
    );
}

/// The beginning of a message: its method, its header and a part of its body.
fn begin(channel: u16, queue: &str, body_bytes_all: u64, part: &[u8]) -> Vec<u8> {
    [
        method_bytes(channel, id::BASIC_PUBLISH, Arguments::publish("", queue)),
        header_bytes(channel, 60, body_bytes_all),
        body_bytes(channel, part),
    ]
    .concat()
}

/// Frames of which nothing comes may lie between those of a message, and the message waits all the same.
#[test]
fn what_is_behind_a_heartbeat_is_held_back_too() {
    const MUCH: usize = 120_000;
    let heartbeat = || frame_bytes(HEARTBEAT, 0, b"", FRAME_END);
    let mut client = Client::connect_with(100_000);
    client.send(&[queue(1, "q", false), publish(1, "q", &[b'x'; MUCH]), begin(1, "q", 3, b"a")]);
    assert_eq!(client.answers(), [(1, id::QUEUE_DECLARE_OK)]);
    assert_eq!(client.connection.reading(), Reading::Open);
    assert!(client.connection.holds_back());
    client.send(&[body_bytes(1, b"b")]);
    client.send(&[heartbeat(), body_bytes(1, b"c")]);
    client.send(&[heartbeat(), publish(1, "q", b"d")]);
    assert_eq!(client.answers(), []);
    assert_eq!(client.vhost.queue(b"q").unwrap().counts().ready, 1);
    let purge = Arguments::new().short(0).short_string("q").bits(&[false]);
    client.send(&[method_bytes(2, id::QUEUE_PURGE, purge)]);
    assert_eq!(client.wake(), [(2, id::QUEUE_PURGE_OK)]);
    assert_eq!(client.vhost.queue(b"q").unwrap().counts().ready, 2);
    let get = || method_bytes(2, id::BASIC_GET, Arguments::new().short(0).short_string("q").bits(&[true]));
    for body in [b"abc".as_slice(), b"d"] {
        client.send(&[get()]);
        let got = std::mem::take(client.connection.output());
        assert!(got.ends_with(&body_bytes(2, body)), "{got:?}");
    }
}

/// On a channel that waits for an answer there is a publish, what the client settled behind it, and a close of the channel
/// or of the connection. Then it is known that the publish is held back: it is dropped, and what was settled counts,
/// unless that was in a transaction.
#[test]
fn what_was_settled_behind_what_is_held_back_counts_before_the_close() {
    let ack = || method_bytes(1, id::BASIC_ACK, Arguments::new().long_long(1).bits(&[false]));
    let begins = || method_bytes(1, id::TX_SELECT, Arguments::new());
    let close = |channel, method| {
        let arguments = Arguments::new().short(200).short_string("bye").short(0).short(0);
        method_bytes(channel, method, arguments)
    };
    let closes = [
        (close(1, id::CHANNEL_CLOSE), (1, id::CHANNEL_CLOSE_OK)),
        (close(0, id::CONNECTION_CLOSE), (0, id::CONNECTION_CLOSE_OK)),
    ];
    for (close, answer) in closes {
        let cases = [
            (vec![publish(1, "q", b"y"), ack()], 0, 0),
            // The ack is whole, and the close comes, when it is known already.
            (vec![publish(1, "q", b"y"), ack()], close.len() + 1, 0),
            (vec![publish(1, "q", b"y"), begins(), ack()], 0, 1),
        ];
        for (frames, behind_bytes, ready) in cases {
            let mut client = Client::connect_with(1);
            client.send(&[queue(1, "q", false), publish(1, "q", b"x")]);
            let get = Arguments::new().short(0).short_string("q").bits(&[false]);
            client.send(&[method_bytes(1, id::BASIC_GET, get)]);
            client.connection.output().clear();
            assert_eq!(client.connection.reading(), Reading::Open);
            assert!(client.connection.holds_back());
            client.disk.is_slow(true);
            client.send(&[queue(1, "d", true)]);
            let mut bytes = [frames.concat(), close.clone()].concat();
            let behind = bytes.split_off(bytes.len() - behind_bytes);
            let mut left = client.offer(&bytes);
            client.disk.is_slow(false);
            client.connection.wake.take();
            let mut answers = client.wake();
            // As its task does.
            while client.connection.has_waited() {
                answers.extend(client.wake());
            }
            let mut is_given = client.connection.wake.take() || !behind.is_empty();
            left.extend(behind);
            while !left.is_empty() {
                assert!(is_given, "nobody gives the rest");
                left = client.offer(&left);
                is_given = client.connection.wake.take();
                answers.extend(client.answers());
            }
            assert_eq!(answers, [(1, id::QUEUE_DECLARE_OK), answer]);
            let counts = client.vhost.queue(b"q").unwrap().counts();
            assert_eq!((counts.ready, counts.unsettled), (ready, 0), "{answer:?} {behind_bytes}");
        }
    }
}
