//! While a function of a stranger's type is stuck, on a broker with one worker: whoever shares that worker
//! goes on.

use super::everywhere::{Evil, declare, exchange};
use super::session::*;
use lapin::options::ExchangeDeleteOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use leveret_testkit::wire::{Arguments, RawConnection, id};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, unique_name};
use std::cell::RefCell;
use std::fs;
use std::time::Instant;

/// How much CPU time a call may take: much more than what the neighbour does takes the worker.
const LIMITS: &str = "cpu-per-call-ms = 1000";
const NEIGHBOURS_ROUNDS: u32 = 5;

/// A neighbour on the same worker publishes and gets, declares and binds.
async fn neighbour(connection: &Connection) {
    let channel = confirming(connection).await;
    let (topic, queue) = (ShortString::from("amq.topic"), own_queue(&channel).await);
    for number in 0..NEIGHBOURS_ROUNDS {
        let key = format!("neighbour.{number}");
        bind(&channel, &queue, &topic, &key, FieldTable::default()).await;
        assert!(publish(&channel, &topic, &key, b"x", true).await.unwrap().is_ack());
        assert_eq!(drain(&channel, &queue).await, [b"x"]);
    }
    channel.close(200, "".into()).await.unwrap();
}

fn cut_off(evil: &Evil) -> u64 {
    evil.seen()["failures"]["cpu_limit"].as_u64().unwrap()
}

/// While a call is stuck the neighbour has all that it wants; only then the call is cut off.
async fn goes_on_meanwhile(evil: &Evil, other: &Connection, function: &str) {
    neighbour(other).await;
    assert_eq!(cut_off(evil), 0, "the neighbour waited for {function}");
    let begin = Instant::now();
    while cut_off(evil) == 0 {
        assert!(begin.elapsed() < EVENT_WAIT_MAX, "{function} was never cut off");
        tokio::task::yield_now().await;
    }
}

fn binding(queue: &str, exchange: &str) -> Arguments {
    Arguments::new().short(0).short_string(queue).short_string(exchange).short_string("evil")
}

/// A queue that other connections may bind.
async fn shared_queue(channel: &Channel) -> String {
    let name = unique_name("queue");
    let (options, arguments) = Default::default();
    channel.queue_declare(name.as_str().into(), options, arguments).await.unwrap();
    name
}

fn stuck(function: &str, test: impl AsyncFnOnce(&Evil, &Connection, &Connection)) {
    let evil = Evil::with_arguments(LIMITS, "", &["--workers", "1"]);
    on_broker(&evil.broker, async |broker| {
        let (connection, other) = (connect(broker).await, connect(broker).await);
        test(&evil, &connection, &other).await;
        neighbour(&connection).await;
        assert!(cut_off(&evil) > 0, "{function}");
    });
}

#[test]
fn in_open() {
    stuck("open", async |evil, _, other| {
        let mut raw = RawConnection::open_with_channel(evil.broker.address());
        let name = unique_name("evil");
        let arguments = Arguments::new().short(0).short_string(&name).short_string("x-evil").octet(0);
        raw.send_method(1, id::EXCHANGE_DECLARE, arguments.table(&[("x-evil", "open loop")]));
        goes_on_meanwhile(evil, other, "open").await;
        let closed = raw.expect_channel_close(1, 406);
        assert!(closed.text.contains("ms of CPU"), "{closed:?}");
    });
}

#[test]
fn in_bind() {
    stuck("bind", async |evil, connection, other| {
        let channel = confirming(connection).await;
        let exchange = declare(&channel, "bind loop").await.unwrap();
        let queue = shared_queue(&channel).await;
        let mut raw = RawConnection::open_with_channel(evil.broker.address());
        let bind = binding(&queue, exchange.as_str()).octet(0).empty_table();
        raw.send_method(1, id::QUEUE_BIND, bind);
        goes_on_meanwhile(evil, other, "bind").await;
        let closed = raw.expect_channel_close(1, 406);
        assert!(closed.text.contains("ms of CPU"), "{closed:?}");
    });
}

#[test]
fn in_bound_and_what_the_channel_sent_comes_behind() {
    stuck("bound", async |evil, connection, other| {
        let channel = confirming(connection).await;
        let exchange = declare(&channel, "bound loop").await.unwrap();
        let queue = shared_queue(&channel).await;
        let mut raw = RawConnection::open_with_channel(evil.broker.address());
        raw.send_method(1, id::QUEUE_BIND, binding(&queue, exchange.as_str()).octet(0).empty_table());
        let unbind = binding(&queue, exchange.as_str()).empty_table();
        raw.send_method(1, id::QUEUE_UNBIND, unbind);
        goes_on_meanwhile(evil, other, "bound").await;
        // The binding stays, whatever the type does when it is told, until it is taken away.
        raw.expect_method(1, id::QUEUE_BIND_OK);
        raw.expect_method(1, id::QUEUE_UNBIND_OK);
    });
}

#[test]
fn in_unbind_unbound_and_close() {
    for function in ["unbind", "unbound", "close"] {
        stuck(function, async |evil, connection, other| {
            let channel = confirming(connection).await;
            let (exchange, queue) = exchange(&channel, &format!("{function} loop")).await;
            bind(&channel, &queue, &exchange, "evil", FieldTable::default()).await;
            let end = async {
                if function == "close" {
                    channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await.unwrap();
                } else {
                    let table = FieldTable::default();
                    channel.queue_unbind(queue, exchange, "evil".into(), table).await.unwrap();
                }
            };
            futures_util::future::join(end, goes_on_meanwhile(evil, other, function)).await;
        });
    }
}

#[test]
fn when_a_connection_ends() {
    stuck("unbound", async |evil, connection, other| {
        let channel = confirming(connection).await;
        let exchange = declare(&channel, "unbound loop").await.unwrap();
        let ends = connect(&evil.broker).await;
        let owner = confirming(&ends).await;
        let queue = own_queue(&owner).await;
        bind(&owner, &queue, &exchange, "evil", FieldTable::default()).await;
        // Answered at once: nobody waits until the type is told of the queue that went.
        ends.close(200, "".into()).await.unwrap();
        goes_on_meanwhile(evil, other, "unbound").await;
    });
}

#[test]
fn in_a_timer() {
    stuck("timer", async |evil, connection, other| {
        let channel = confirming(connection).await;
        let (exchange, queue) = exchange(&channel, "timer loop; route timer").await;
        bind(&channel, &queue, &exchange, "evil", FieldTable::default()).await;
        assert!(publish(&channel, &exchange, "evil", b"x", true).await.unwrap().is_ack());
        goes_on_meanwhile(evil, other, "timer").await;
    });
}

/// A worker's own instance is told what changed when it is asked again: where that is stuck, it is cut off, and
/// the message is answered beside.
#[test]
fn a_worker_is_not_held_up_by_telling_its_instance_of_changes() {
    stuck("unbind", async |evil, connection, other| {
        let channel = confirming(connection).await;
        let (exchange, queue) = exchange(&channel, "unbind loop").await;
        bind(&channel, &queue, &exchange, "evil", FieldTable::default()).await;
        // The worker has an instance that knows both bindings.
        assert!(publish(&channel, &exchange, "good", b"before", true).await.unwrap().is_ack());
        let table = FieldTable::default();
        channel.queue_unbind(queue.clone(), exchange.clone(), "evil".into(), table).await.unwrap();
        let told = cut_off(evil);
        // It is set aside for a while for the time that telling it took.
        while !publish(&channel, &exchange, "good", b"after", true).await.unwrap().is_ack() {}
        neighbour(other).await;
        assert_eq!(cut_off(evil), told, "nobody let it go on as long as it may");
        assert_eq!(evil.seen()["state"], "slow");
        assert_eq!(drain(&channel, &queue).await, [b"before".to_vec(), b"after".to_vec()]);
    });
}

/// What comes of two things that are begun in that order.
async fn order_of(first: impl Future<Output = ()>, second: impl Future<Output = ()>) -> Vec<&'static str> {
    let events = RefCell::new(Vec::new());
    let first = async {
        first.await;
        events.borrow_mut().push("first");
    };
    let second = async {
        second.await;
        events.borrow_mut().push("second");
    };
    futures_util::future::join(first, second).await;
    events.into_inner()
}

/// The first instance of a type on a worker is made beside it.
#[test]
fn a_slow_start_holds_up_its_publisher_alone() {
    let configuration = ScratchDirectory::new("starts-slowly");
    let file = configuration.path().join("leveret.toml");
    fs::write(&file, "[plugins.starts_slowly]\ncpu-start-ms = 1000\n").unwrap();
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--config").argument(file);
    let broker =
        broker.argument("--workers").argument("1").plugin(guests::component("starts_slowly")).start();
    on_broker(&broker, async |broker| {
        let (connection, other) = (connect(broker).await, connect(broker).await);
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-starts-slowly").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
        let publisher = async {
            assert!(publish(&channel, &exchange, "", b"x", true).await.unwrap().is_ack());
        };
        assert_eq!(order_of(publisher, neighbour(&other)).await, ["second", "first"]);
        assert_eq!(drain(&channel, &queue).await, [b"x"]);
    });
}

/// So is an interceptor attached.
#[test]
fn an_interceptor_that_is_attached_slowly_holds_up_its_publisher_alone() {
    let tables = "[plugins.evil_interceptor]\ncpu-per-call-ms = 1000\n[[intercept]]\ninterceptor = \"evil\"\n\
                  point = \"publish\"\norder = 1\nexchange = \"watched\"\narguments = { how = \"slow trap\" }\n";
    let evil = Evil::with_arguments("", tables, &["--workers", "1"]);
    on_broker(&evil.broker, async |broker| {
        let (connection, other) = (connect(broker).await, connect(broker).await);
        let channel = confirming(&connection).await;
        declare_exchange(&channel, &"watched".into(), "direct").await.unwrap();
        // The instance that came with the file is lost.
        assert!(publish(&channel, &"watched".into(), "evil", b"x", false).await.unwrap().is_nack());
        let publisher = async {
            assert!(publish(&channel, &"watched".into(), "k", b"x", false).await.unwrap().is_ack());
        };
        assert_eq!(order_of(publisher, neighbour(&other)).await, ["second", "first"]);
    });
}
