//! Who publishes with confirms, up to a window of them at a time.

use super::{BACKLOG_MAX, World, table, text};
use crate::model::{BARRIER, DUE, Message, UNIQUE, WORK, body, now_ms};
use futures_util::future::BoxFuture;
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions, types::AMQPValue};
use leveret_store::disk::sim::Dice;
use std::{collections::VecDeque, sync::atomic::Ordering};

/// A message and how it is sent.
pub(super) struct Plan {
    exchange: &'static str,
    key: &'static str,
    header: Option<(&'static str, AMQPValue)>,
    message: Message,
}

pub(super) struct Publishing {
    world: World,
    channel: Channel,
    number: u32,
    dice: Dice,
    window: usize,
}

type Confirm = BoxFuture<'static, lapin::Result<Confirmation>>;

impl Publishing {
    pub(super) fn new(world: &World, channel: Channel, number: u32, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let window = [1, 8, 64][dice.below(3) as usize];
        Self { world: world.clone(), channel, number, dice, window }
    }

    /// Publishes until the connection ends; hears all confirms that came.
    pub(super) async fn run(mut self) {
        let mut sent: VecDeque<(u64, Confirm)> = VecDeque::new();
        let mut is_open = true;
        while is_open {
            let moved = self.world.moved.notified();
            if self.world.over.load(Ordering::Relaxed) {
                break;
            }
            if self.world.model.lock().backlog() > BACKLOG_MAX {
                moved.await;
                continue;
            }
            let plan = plan(&mut self.dice, self.number);
            match send(&self.world, &self.channel, plan).await {
                Some(confirm) => sent.push_back(confirm),
                None => is_open = false,
            }
            while is_open && sent.len() >= self.window {
                is_open = hear(&self.world, &mut sent).await;
            }
        }
        while !sent.is_empty() {
            hear(&self.world, &mut sent).await;
        }
    }
}

/// Takes the next confirm; false if none came.
async fn hear(world: &World, sent: &mut VecDeque<(u64, Confirm)>) -> bool {
    let Some((id, confirm)) = sent.pop_front() else { return true };
    match confirm.await {
        Ok(Confirmation::Ack(_)) => world.model.lock().confirmed(id),
        Ok(_) => world.model.lock().refused(),
        Err(_) => return false,
    }
    world.moved.notify_waiters();
    true
}

/// Publishes a message; `None` where the connection is gone.
pub(super) async fn send(world: &World, channel: &Channel, plan: Plan) -> Option<(u64, Confirm)> {
    let Plan { exchange, key, header, message } = plan;
    let (bytes, persistent) = (message.bytes, message.persistent);
    let id = world.model.lock().publish(message);
    let mut properties = BasicProperties::default()
        .with_message_id(id.to_string().into())
        .with_delivery_mode(if persistent { 2 } else { 1 });
    if let Some((name, value)) = header {
        properties = properties.with_headers(table(&[(name, value)]));
    }
    let (options, body) = (BasicPublishOptions::default(), body(id, bytes));
    let confirm =
        channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await.ok()?;
    Some((id, Box::pin(confirm)))
}

/// What a consumer publishes to know that its acks are safe.
pub(super) fn barrier(publisher: u32) -> Plan {
    let message =
        Message { publisher, bytes: 1, persistent: true, targets: vec![BARRIER], due_ms: None, unique: None };
    Plan { exchange: "direct", key: "barrier", header: None, message }
}

fn plan(dice: &mut Dice, publisher: u32) -> Plan {
    let (mut due_ms, mut unique, mut header) = (None, None, None);
    let mut persistent = !dice.chance(150);
    let (exchange, key, targets) = match dice.below(12) {
        0 => ("direct", "d0", vec![0]),
        1 => ("direct", "d1", vec![1]),
        2..=4 => ("direct", "work", vec![WORK]),
        5 | 6 => ("fan", "any", vec![2, 3, 4]),
        7 => ("topic", "a.b", vec![5]),
        8 => ("topic", "a.z", vec![5, 6]),
        9 => ("topic", "b.z", vec![6]),
        10 => {
            let value = dice.below(2_000);
            (unique, persistent) = (Some(value), true);
            header = Some(("x-deduplication-header", text(&value.to_string())));
            ("unique", "k", vec![UNIQUE])
        }
        _ => {
            let delay_ms = 1 + dice.below(3_000);
            due_ms = Some(now_ms() + delay_ms);
            persistent = true;
            header = Some(("x-delay", AMQPValue::LongInt(delay_ms as i32)));
            ("later", "k", vec![DUE])
        }
    };
    let bytes = match dice.below(100) {
        0..20 => 1,
        20..60 => dice.below(100),
        60..85 => dice.below(4 << 10),
        85..96 => dice.below(40 << 10),
        _ => dice.below(300 << 10),
    } as usize;
    let message = Message { publisher, bytes, persistent, targets, due_ms, unique };
    Plan { exchange, key, header, message }
}
