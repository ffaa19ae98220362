//! The clients of the broker under load: who publishes, who consumes, who declares and deletes.
//!
//! Each has a connection of its own and works until that ends. What they do follows from the seed.

mod consumer;
mod publisher;
pub(crate) mod topology;

use crate::{
    model::{DUE, Got, Model, QUEUES, UNIQUE, now_ms},
    session,
};
use lapin::{
    Channel, Connection, ExchangeKind,
    message::Delivery,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use leveret_store::disk::sim::Dice;
use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::Notify, task::JoinHandle};
use topology::Changes;

/// Who publishes at the same time.
const PUBLISHERS: u32 = 4;
/// So many messages may wait before publishers pause.
pub(crate) const BACKLOG_MAX: i64 = 700;

/// What all clients share.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) changes: Arc<Mutex<Changes>>,
    /// Something happened.
    pub(crate) moved: Arc<Notify>,
    /// The broker was ended: who waits for it to do something need not.
    over: Arc<AtomicBool>,
}

/// Named values.
fn table(fields: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The arguments of a queue's declaration.
fn queue_arguments(queue: &str) -> FieldTable {
    match queue {
        "work" => table(&[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))]),
        _ => FieldTable::default(),
    }
}

/// The exchanges and their types and arguments.
fn exchanges() -> [(&'static str, &'static str, FieldTable); 5] {
    [
        ("direct", "direct", FieldTable::default()),
        ("fan", "fanout", FieldTable::default()),
        ("topic", "topic", FieldTable::default()),
        (
            "unique",
            "x-message-deduplication",
            table(&[
                ("x-cache-size", AMQPValue::LongInt(80_000)),
                ("x-cache-persistence", text("disk")),
                ("x-inner-type", text("direct")),
            ]),
        ),
        ("later", "x-delayed-message", table(&[("x-delayed-type", text("direct"))])),
    ]
}

/// Declares all that the load is about, or, in a later life, asks whether it is there as it was declared.
pub(crate) async fn declare(broker: &Broker, passive: bool) {
    let connection = session::connect(broker).await;
    let channel = session::confirming(&connection).await;
    for (name, kind, arguments) in exchanges() {
        let kind = ExchangeKind::Custom(kind.into());
        // Where it is there, the arguments must be the same.
        for passive in [passive, false] {
            let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
            let declared = channel.exchange_declare(name.into(), kind.clone(), options, arguments.clone());
            declared.await.unwrap_or_else(|error| panic!("exchange {name}: {error}"));
        }
    }
    for name in QUEUES {
        for passive in [passive, false] {
            let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
            let declared = channel.queue_declare(name.into(), options, queue_arguments(name));
            declared.await.unwrap_or_else(|error| panic!("queue {name}: {error}"));
        }
    }
    if !passive {
        bind_all(&channel).await;
    }
    connection.close(200, "done".into()).await.unwrap();
}

async fn bind_all(channel: &Channel) {
    let bindings = [
        ("d0", "direct", "d0"),
        ("d1", "direct", "d1"),
        ("work", "direct", "work"),
        ("barrier", "direct", "barrier"),
        ("f0", "fan", ""),
        ("f1", "fan", ""),
        ("f2", "fan", ""),
        ("t0", "topic", "a.*"),
        ("t1", "topic", "#.z"),
        (QUEUES[UNIQUE], "unique", "k"),
        (QUEUES[DUE], "later", "k"),
    ];
    for (queue, exchange, key) in bindings {
        session::bind(channel, &queue.into(), &exchange.into(), key, FieldTable::default()).await;
    }
}

/// All that is in the queues, which get it back.
pub(crate) async fn look(broker: &Broker) -> lapin::Result<Vec<Vec<Got>>> {
    let connection = session::connect(broker).await;
    let channel = connection.create_channel().await?;
    let mut queues = Vec::new();
    for queue in QUEUES {
        let mut messages = Vec::new();
        while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
            messages.push(got_of(&got.delivery));
        }
        queues.push(messages);
    }
    channel.close(200, "looked".into()).await?;
    connection.close(200, "done".into()).await?;
    Ok(queues)
}

fn got_of(delivery: &Delivery) -> Got {
    let id = delivery.properties.message_id().as_ref().map_or("", |id| id.as_str());
    Got {
        id: id.parse().unwrap_or(0),
        redelivered: delivery.redelivered,
        body: delivery.data.clone(),
        at_ms: now_ms(),
    }
}

/// The clients of one life.
pub(crate) struct Clients {
    /// Some queue has no consumer: what waits there makes publishers pause in the end, and then nothing happens.
    pub(crate) may_come_to_rest: bool,
    tasks: Vec<JoinHandle<()>>,
    _connections: Vec<Connection>,
}

impl Clients {
    /// Everybody begins to work.
    pub(crate) async fn start(world: &World, broker: &Broker, dice: &mut Dice) -> Self {
        world.over.store(false, Ordering::Relaxed);
        let (mut tasks, mut connections) = (Vec::new(), Vec::new());
        // Some queues have two consumers, some lives leave some without any, unless much waits.
        let consumers = [1, 1, 1, 2, if world.model.lock().backlog() > BACKLOG_MAX / 2 { 1 } else { 0 }];
        let mut may_come_to_rest = false;
        for queue in 0..QUEUES.len() {
            let consumers = consumers[dice.below(5) as usize];
            may_come_to_rest |= consumers == 0;
            for _ in 0..consumers {
                let connection = session::connect(broker).await;
                let channel = session::confirming(&connection).await;
                let consumer = consumer::Consuming::new(world, channel, queue, dice.next_u64());
                tasks.push(tokio::spawn(consumer.run()));
                connections.push(connection);
            }
        }
        for number in 0..PUBLISHERS {
            let connection = session::connect(broker).await;
            let channel = session::confirming(&connection).await;
            let publisher = publisher::Publishing::new(world, channel, number, dice.next_u64());
            tasks.push(tokio::spawn(publisher.run()));
            connections.push(connection);
        }
        let connection = session::connect(broker).await;
        tasks.push(tokio::spawn(topology::work(world.clone(), connection, dice.next_u64())));
        Self { may_come_to_rest, tasks, _connections: connections }
    }

    /// Waits until everybody knows that the broker is gone.
    pub(crate) async fn ended(self, world: &World) {
        world.over.store(true, Ordering::Relaxed);
        world.moved.notify_waiters();
        for task in self.tasks {
            let ended = tokio::time::timeout(EVENT_WAIT_MAX, task).await;
            ended.expect("a client does not notice that the broker is gone").unwrap();
        }
    }
}

/// Acks all that comes until nothing is owed any more.
pub(crate) async fn drain(world: &World, broker: &Broker) -> lapin::Result<()> {
    let connection = session::connect(broker).await;
    let mut tasks = Vec::new();
    for queue in 0..QUEUES.len() {
        let channel = connection.create_channel().await?;
        tasks.push(tokio::spawn(consumer::ack_all(world.clone(), channel, queue)));
    }
    loop {
        let moved = world.moved.notified();
        let owed = world.model.lock().owed();
        if owed.is_empty() {
            break;
        }
        if tokio::time::timeout(EVENT_WAIT_MAX, moved).await.is_err() {
            let owed: Vec<_> = owed.iter().take(10).collect();
            panic!("nothing comes any more, and these are owed: {owed:?}");
        }
    }
    // What was acked is settled once the close is answered.
    connection.close(200, "drained".into()).await?;
    for task in tasks {
        task.await.unwrap();
    }
    Ok(())
}
