//! Who declares, binds, unbinds and deletes durable things, and what must be there for that after a start.

use super::World;
use crate::session;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ErrorKind, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{FieldTable, ShortString},
};
use leveret_store::disk::sim::Dice;
use leveret_testkit::Broker;
use std::collections::BTreeMap;

/// How many queues, exchanges, and keys of bindings between each two.
const EACH: u64 = 3;

/// Something that is declared and deleted. A binding is queue, exchange, key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Queue(u64),
    Exchange(u64),
    Binding(u64, u64, u64),
}

/// What is known of a thing; `None` where a request was not answered.
type Known = Option<bool>;

/// What the answers said.
#[derive(Default)]
pub(crate) struct Changes {
    things: BTreeMap<Thing, Known>,
    /// How many persistent messages are in a queue for certain; `None` where that is not known.
    messages: BTreeMap<u64, Option<u32>>,
    /// How many requests were answered.
    pub(crate) answered: u64,
}

impl Changes {
    fn is(&self, thing: Thing) -> Known {
        self.things.get(&thing).copied().unwrap_or(Some(false))
    }

    /// A change is asked for: nothing is known of it, nor of the bindings that go with it.
    fn asks(&mut self, thing: Thing) {
        self.things.insert(thing, None);
        self.of(thing, |known| *known = known.filter(|is| !is));
    }

    fn answers(&mut self, thing: Thing, is: bool) {
        self.answered += 1;
        self.things.insert(thing, Some(is));
        if let (Thing::Queue(queue), false) = (thing, is) {
            self.messages.insert(queue, Some(0));
        }
        if !is {
            self.of(thing, |known| *known = Some(false));
        }
    }

    /// The bindings of a queue or exchange.
    fn of(&mut self, thing: Thing, change: impl Fn(&mut Known)) {
        for (binding, known) in &mut self.things {
            match (*binding, thing) {
                (Thing::Binding(queue, ..), Thing::Queue(of)) if queue == of => change(known),
                (Thing::Binding(_, exchange, _), Thing::Exchange(of)) if exchange == of => change(known),
                _ => {}
            }
        }
    }
}

fn queue_name(queue: u64) -> ShortString {
    format!("changing-queue-{queue}").into()
}

fn exchange_name(exchange: u64) -> ShortString {
    format!("changing-exchange-{exchange}").into()
}

fn key(queue: u64, key: u64) -> ShortString {
    format!("{queue}.{key}").into()
}

/// Changes things until the connection ends.
pub(crate) async fn work(world: World, connection: Connection, seed: u64) {
    let mut dice = Dice::new(seed);
    let Ok(channel) = connection.create_channel().await else { return };
    if channel.confirm_select(ConfirmSelectOptions::default()).await.is_err() {
        return;
    }
    while change(&world, &channel, &mut dice).await.is_ok() {
        world.moved.notify_waiters();
    }
}

async fn change(world: &World, channel: &Channel, dice: &mut Dice) -> lapin::Result<()> {
    let (queue, exchange) = (dice.below(EACH), dice.below(EACH));
    let binding = Thing::Binding(queue, exchange, dice.below(EACH));
    let (thing, is) = match dice.below(16) {
        0..3 => (Thing::Queue(queue), true),
        3 => (Thing::Queue(queue), false),
        4..7 => (Thing::Exchange(exchange), true),
        7 => (Thing::Exchange(exchange), false),
        8..11 => (binding, true),
        11..13 => (binding, false),
        _ => return fill(world, channel, queue).await,
    };
    let changes = &world.changes;
    let ends = [Thing::Queue(queue), Thing::Exchange(exchange)];
    if thing == binding && ends.iter().any(|end| changes.lock().is(*end) != Some(true)) {
        return Ok(());
    }
    if is || thing == binding {
        changes.lock().things.insert(thing, None);
    } else {
        changes.lock().asks(thing);
    }
    if let (Thing::Queue(queue), false) = (thing, is) {
        changes.lock().messages.insert(queue, None);
    }
    ask(channel, thing, is).await?;
    changes.lock().answers(thing, is);
    Ok(())
}

async fn ask(channel: &Channel, thing: Thing, is: bool) -> lapin::Result<()> {
    let none = FieldTable::default();
    match (thing, is) {
        (Thing::Queue(queue), true) => {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue_name(queue), options, none).await.map(drop)
        }
        (Thing::Queue(queue), false) => {
            channel.queue_delete(queue_name(queue), QueueDeleteOptions::default()).await.map(drop)
        }
        (Thing::Exchange(exchange), true) => {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(exchange_name(exchange), ExchangeKind::Topic, options, none).await
        }
        (Thing::Exchange(exchange), false) => {
            channel.exchange_delete(exchange_name(exchange), ExchangeDeleteOptions::default()).await
        }
        (Thing::Binding(queue, exchange, number), true) => {
            let (queue, key) = (queue_name(queue), key(queue, number));
            let options = QueueBindOptions::default();
            channel.queue_bind(queue, exchange_name(exchange), key, options, none).await
        }
        (Thing::Binding(queue, exchange, number), false) => {
            let (queue, key) = (queue_name(queue), key(queue, number));
            channel.queue_unbind(queue, exchange_name(exchange), key, none).await
        }
    }
}

/// Publishes a persistent message to a queue, or takes all out of it.
async fn fill(world: &World, channel: &Channel, queue: u64) -> lapin::Result<()> {
    if world.changes.lock().is(Thing::Queue(queue)) != Some(true) {
        return Ok(());
    }
    let before = world.changes.lock().messages.insert(queue, None).unwrap_or(Some(0));
    let name = queue_name(queue);
    let after = if before.is_none_or(|count| count > 4) {
        channel.queue_purge(name, QueuePurgeOptions::default()).await?;
        // Like an ack, it rides on what is written next.
        send(channel, "".into(), queue_name(queue), true).await?;
        Some(1)
    } else {
        send(channel, "".into(), name, true).await?;
        before.map(|count| count + 1)
    };
    let mut changes = world.changes.lock();
    changes.messages.insert(queue, after);
    changes.answered += 1;
    Ok(())
}

/// Publishes; gives whether it was routed.
async fn send(
    channel: &Channel,
    exchange: ShortString,
    key: ShortString,
    persistent: bool,
) -> lapin::Result<bool> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(if persistent { 2 } else { 1 });
    match channel.basic_publish(exchange, key, options, b"changing", properties).await?.await? {
        Confirmation::Ack(returned) => Ok(returned.is_none()),
        other => panic!("a confirm wanted, not {other:?}"),
    }
}

/// After a start: all that was answered is so. What was not answered is known from here on.
pub(crate) async fn judge(world: &World, broker: &Broker) -> lapin::Result<()> {
    let connection = session::connect(broker).await;
    for number in 0..EACH {
        let messages = queue_messages(&connection, number).await?;
        judge_one(world, Thing::Queue(number), messages.is_some());
        let known = world.changes.lock().messages.insert(number, messages).unwrap_or(Some(0));
        if let (Some(known), Some(found)) = (known, messages)
            && known != found
        {
            let what = format!("changing queue {number} has {found} messages instead of {known}");
            world.model.lock().violate(what);
        }
        let is = exchange_is(&connection, number).await?;
        judge_one(world, Thing::Exchange(number), is);
    }
    let channel = session::confirming(&connection).await;
    for (queue, exchange, number) in all_bindings() {
        let ends = [Thing::Queue(queue), Thing::Exchange(exchange)];
        let binding = Thing::Binding(queue, exchange, number);
        let is = match ends.iter().all(|end| world.changes.lock().is(*end) == Some(true)) {
            true => send(&channel, exchange_name(exchange), key(queue, number), false).await?,
            false => false,
        };
        judge_one(world, binding, is);
    }
    connection.close(200, "judged".into()).await
}

fn all_bindings() -> impl Iterator<Item = (u64, u64, u64)> {
    (0..EACH * EACH * EACH).map(|at| (at % EACH, at / EACH % EACH, at / EACH / EACH))
}

fn judge_one(world: &World, thing: Thing, is: bool) {
    let known = world.changes.lock().is(thing);
    if known.is_some_and(|known| known != is) {
        world
            .model
            .lock()
            .violate(format!("{thing:?}: the answer said {known:?}, after the start it is {is}"));
    }
    world.changes.lock().things.insert(thing, Some(is));
}

/// How many messages a queue has; `None` if it is not there.
async fn queue_messages(connection: &Connection, queue: u64) -> lapin::Result<Option<u32>> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue_name(queue), options, FieldTable::default()).await;
    is_found(found).map(|found| found.map(|queue| queue.message_count()))
}

async fn exchange_is(connection: &Connection, exchange: u64) -> lapin::Result<bool> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let (name, none) = (exchange_name(exchange), FieldTable::default());
    let found = channel.exchange_declare(name, ExchangeKind::Topic, options, none).await;
    is_found(found).map(|found| found.is_some())
}

fn is_found<T>(found: lapin::Result<T>) -> lapin::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(refused) if refused.get_id() == 404 => Ok(None),
            _ => Err(error),
        },
    }
}
