//! The neighbour's connections and the attacker's, each with a thread.

use super::{Attack, declare_exchange, open};
use leveret_testkit::wire::{Arguments, METHOD, RawConnection, body_bytes, header_bytes, id, method_bytes};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Both workers get as many connections: they are given out in turn.
const WORKERS: usize = 2;
/// How often messages are written.
const PACE: Duration = Duration::from_micros(500);
/// How long a read waits before it is looked whether all is over.
const READ_MAX: Duration = Duration::from_millis(100);
/// How many bytes are read at once.
const READ_BYTES: usize = 256 * 1024;
/// The frame type of a body.
const BODY: u8 = 3;

/// A message that came: when it was written, since the epoch, and how late it was.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) late: Duration,
}

/// Publishers and consumers of a virtual host, as many on each worker.
pub(super) struct Neighbour {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<Vec<Sample>>>,
}

impl Neighbour {
    /// So many messages a second in all.
    pub(super) fn start(address: SocketAddr, rate: u64, epoch: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut queues = Vec::new();
        let consumers = (0..WORKERS).map(|number| {
            let mut connection = open(address, "neighbour");
            let queue = connection.declare_queue(1);
            let key = format!("key.{number}");
            let bind = Arguments::new().short(0).short_string(&queue).short_string("amq.topic");
            connection.send_method(1, id::QUEUE_BIND, bind.short_string(&key).octet(0).empty_table());
            connection.expect_method(1, id::QUEUE_BIND_OK);
            queues.push(key);
            let consume = Arguments::new().short(0).short_string(&queue).short_string("").octet(0b10);
            connection.send_method(1, id::BASIC_CONSUME, consume.empty_table());
            connection.expect_method(1, id::BASIC_CONSUME_OK);
            let (stream, stop) = (connection.into_stream(), stop.clone());
            std::thread::spawn(move || consume_until(stream, &stop, epoch))
        });
        let consumers = consumers.collect();
        let publishers = queues.into_iter().map(|key| {
            let (stream, stop) = (open(address, "neighbour").into_stream(), stop.clone());
            let stamp = move || u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            std::thread::spawn(move || {
                publish_until(stream, &stop, ("amq.topic", &key), rate / WORKERS as u64, stamp);
            })
        });
        let publishers = publishers.collect();
        Self { stop, publishers, consumers }
    }

    /// What came, by connection, in order.
    pub(super) fn stop(self) -> Vec<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.publishers.into_iter().for_each(|thread| thread.join().expect("a publisher"));
        self.consumers.into_iter().map(|thread| thread.join().expect("a consumer")).collect()
    }
}

/// Connections to a plugin's exchange, one on each worker, and what they do there.
pub(super) struct Attacker {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    confirmed: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Attacker {
    /// Begins.
    pub(super) fn start(address: SocketAddr, kind: &str, attack: Attack, rounds: Option<i64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (confirmed, refused) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let exchange = format!("attacked-{}", rounds.unwrap_or_default());
        let mut threads = Vec::new();
        for _ in 0..WORKERS {
            let mut connection = open(address, "/");
            declare_exchange(&mut connection, &exchange, kind, rounds);
            connection.send_method(1, id::CONFIRM_SELECT, Arguments::new().octet(0));
            connection.expect_method(1, id::CONFIRM_SELECT_OK);
            let exchange = exchange.clone();
            let (stop_reading, stop) = (stop.clone(), stop.clone());
            let (confirmed, refused) = (confirmed.clone(), refused.clone());
            let (key, rate) = match attack {
                Attack::Publish(key, rate) => (key, rate / WORKERS as u64),
                // Once sets them all; they go on by themselves.
                Attack::Timers => ("timers", 1),
                Attack::Bind => {
                    let bind = move || bind_until(connection, &stop, &exchange, &confirmed);
                    threads.push(std::thread::spawn(bind));
                    continue;
                }
            };
            let stream = connection.into_stream();
            let reading = stream.try_clone().expect("a second handle");
            threads.push(std::thread::spawn(move || {
                publish_until(stream, &stop, (&exchange, key), rate, || 0);
            }));
            threads.push(std::thread::spawn(move || {
                count_confirms(reading, &stop_reading, &confirmed, &refused);
            }));
        }
        Self { stop, threads, confirmed, refused }
    }

    /// How many messages were confirmed or bindings made, and how many messages refused.
    pub(super) fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a thread of the attacker"));
        (self.confirmed.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// Binds a queue with one slow key after the other, and unbinds the one before.
fn bind_until(mut connection: RawConnection, stop: &AtomicBool, exchange: &str, made: &AtomicU64) {
    let queue = connection.declare_queue(1);
    let about = |number: u64| {
        let key = format!("slow.{number}");
        Arguments::new().short(0).short_string(&queue).short_string(exchange).short_string(key)
    };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        connection.send_method(1, id::QUEUE_BIND, about(number).octet(0).empty_table());
        connection.expect_method(1, id::QUEUE_BIND_OK);
        made.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = number.checked_sub(1) {
            connection.send_method(1, id::QUEUE_UNBIND, about(before).empty_table());
            connection.expect_method(1, id::QUEUE_UNBIND_OK);
        }
    }
}

/// Publishes at that rate; each body is what `stamp` says when it is written. Stops where the broker takes no
/// more.
fn publish_until(
    mut stream: TcpStream,
    stop: &AtomicBool,
    (exchange, key): (&str, &str),
    rate: u64,
    stamp: impl Fn() -> u64,
) {
    stream.set_write_timeout(Some(READ_MAX)).expect("a limit on writes");
    let mut head = method_bytes(1, id::BASIC_PUBLISH, Arguments::publish(exchange, key));
    head.extend(header_bytes(1, 60, 8));
    let (began, mut sent) = (Instant::now(), 0_u64);
    let mut bytes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        if due <= sent {
            std::thread::sleep(PACE);
            continue;
        }
        bytes.clear();
        for _ in sent..due {
            bytes.extend_from_slice(&head);
            bytes.extend(body_bytes(1, &stamp().to_be_bytes()));
        }
        sent = due;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && !stop.load(Ordering::Relaxed) {
            match stream.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if is_timeout(&error) => {}
                Err(error) => panic!("the broker closed a connection: {error}"),
            }
        }
    }
}

/// Reads frames until told to stop, and hands out type and payload of each.
fn read_until(mut stream: TcpStream, stop: &AtomicBool, mut frame: impl FnMut(u8, &[u8])) {
    stream.set_read_timeout(Some(READ_MAX)).expect("a limit on reads");
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    while !stop.load(Ordering::Relaxed) {
        match stream.read(buffer.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => panic!("the broker closed a connection"),
            Ok(count) => filled += count,
            Err(error) if is_timeout(&error) => continue,
            Err(error) => panic!("the broker closed a connection: {error}"),
        }
        let mut used = 0;
        while let Some((&[kind, _, _, s0, s1, s2, s3], rest)) =
            buffer.get(used..filled).and_then(|bytes| bytes.split_first_chunk::<7>())
        {
            let length = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
            let Some(payload) = rest.get(..length).filter(|_| rest.len() > length) else { break };
            frame(kind, payload);
            used += 8 + length;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

fn consume_until(stream: TcpStream, stop: &AtomicBool, epoch: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    read_until(stream, stop, |kind, payload| {
        if kind == BODY
            && let Some(stamp) = payload.first_chunk()
        {
            let at = Duration::from_nanos(u64::from_be_bytes(*stamp));
            samples.push(Sample { at, late: epoch.elapsed().saturating_sub(at) });
        }
    });
    samples
}

fn count_confirms(stream: TcpStream, stop: &AtomicBool, confirmed: &AtomicU64, refused: &AtomicU64) {
    let mut up_to = 0;
    read_until(stream, stop, |kind, payload| {
        let Some((&[0, 60, 0, method], rest)) = payload.split_first_chunk::<4>() else { return };
        let Some(tag) = rest.first_chunk().map(|tag| u64::from_be_bytes(*tag)).filter(|_| kind == METHOD)
        else {
            return;
        };
        let counted = if method == 80 { confirmed } else { refused };
        counted.fetch_add(tag.saturating_sub(up_to), Ordering::Relaxed);
        up_to = up_to.max(tag);
    });
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
