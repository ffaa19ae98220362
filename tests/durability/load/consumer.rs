//! Who consumes with manual acks: one by one or many at once, in order or not, giving back or rejecting now and then.

use super::{World, got_of, publisher};
use crate::model::{Order, WORK};
use futures_util::StreamExt as _;
use lapin::{
    Channel, Confirmation, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions},
    types::{FieldTable, ShortString},
};
use leveret_store::disk::sim::Dice;

/// How many messages a consumer has at most.
const PREFETCH: u16 = 40;
/// The publishers' numbers of consumers begin here.
const PUBLISHERS_FROM: u32 = 1_000;

pub(super) struct Consuming {
    world: World,
    channel: Channel,
    queue: usize,
    dice: Dice,
    /// What it has: tag and number, in the order in which they came.
    has: Vec<(u64, u64)>,
    /// What was acked and is not known to be safe.
    acked: Vec<(usize, u64)>,
    publisher: u32,
}

async fn consume(channel: &Channel, queue: usize) -> lapin::Result<Consumer> {
    let queue = ShortString::from(crate::model::QUEUES[queue]);
    channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
}

impl Consuming {
    pub(super) fn new(world: &World, channel: Channel, queue: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let publisher = PUBLISHERS_FROM + dice.below(1 << 30) as u32;
        Self { world: world.clone(), channel, queue, dice, has: Vec::new(), acked: Vec::new(), publisher }
    }

    /// Consumes until the connection ends.
    pub(super) async fn run(mut self) {
        // What fails is the connection.
        let _ = self.work().await;
    }

    async fn work(&mut self) -> lapin::Result<()> {
        self.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut consumer = consume(&self.channel, self.queue).await?;
        let mut order = Order::default();
        let mut patience = 1;
        while let Some(delivery) = consumer.next().await {
            self.take(&mut order, &delivery?);
            if self.has.len() >= patience {
                self.settle().await?;
                patience = 1 + self.dice.below(15) as usize;
            }
            if self.acked.len() > 30 {
                self.make_sure().await?;
            }
        }
        Ok(())
    }

    fn take(&mut self, order: &mut Order, delivery: &Delivery) {
        let got = got_of(delivery);
        self.has.push((delivery.delivery_tag, got.id));
        self.world.model.lock().delivered(order, self.queue, &got);
        self.world.moved.notify_waiters();
    }

    async fn settle(&mut self) -> lapin::Result<()> {
        match self.dice.below(if self.queue == WORK { 14 } else { 10 }) {
            0..4 => self.ack_many().await?,
            4 => {
                let at = self.dice.below(self.has.len() as u64) as usize;
                let (tag, id) = self.has.remove(at);
                self.world.model.lock().requeues(self.queue, id);
                self.channel.basic_nack(tag, BasicNackOptions { requeue: true, multiple: false }).await?;
            }
            5..10 => {
                while !self.has.is_empty() {
                    let at = self.dice.below(self.has.len() as u64) as usize;
                    let (tag, id) = self.has.remove(at);
                    self.note_ack(id);
                    self.channel.basic_ack(tag, BasicAckOptions { multiple: false }).await?;
                }
            }
            _ => {
                for (tag, id) in std::mem::take(&mut self.has) {
                    self.world.model.lock().rejects(id);
                    self.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await?;
                }
            }
        }
        self.world.moved.notify_waiters();
        Ok(())
    }

    /// One ack for all up to one of those that it has.
    async fn ack_many(&mut self) -> lapin::Result<()> {
        let upto = 1 + self.dice.below(self.has.len() as u64) as usize;
        let acked: Vec<_> = self.has.drain(..upto).collect();
        acked.iter().for_each(|(_, id)| self.note_ack(*id));
        match acked.last() {
            Some((tag, _)) => self.channel.basic_ack(*tag, BasicAckOptions { multiple: true }).await,
            None => Ok(()),
        }
    }

    fn note_ack(&mut self, id: u64) {
        self.world.model.lock().acks(self.queue, id);
        self.acked.push((self.queue, id));
    }

    /// Publishes on the same channel: once that is confirmed, the acks before it are safe too.
    async fn make_sure(&mut self) -> lapin::Result<()> {
        let plan = publisher::barrier(self.publisher);
        let Some((id, confirm)) = publisher::send(&self.world, &self.channel, plan).await else {
            return Ok(());
        };
        if let Confirmation::Ack(_) = confirm.await? {
            let mut model = self.world.model.lock();
            model.confirmed(id);
            model.safe(&self.acked);
            self.acked.clear();
        }
        Ok(())
    }
}

/// Acks each message of a queue, until the connection is closed.
pub(super) async fn ack_all(world: World, channel: Channel, queue: usize) {
    let Ok(mut consumer) = consume(&channel, queue).await else { return };
    let mut order = Order::default();
    while let Some(Ok(delivery)) = consumer.next().await {
        {
            let mut model = world.model.lock();
            let got = got_of(&delivery);
            model.delivered(&mut order, queue, &got);
            model.acks(queue, got.id);
        }
        if channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await.is_err() {
            return;
        }
        world.moved.notify_waiters();
    }
}
