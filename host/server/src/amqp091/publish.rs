//! Publishes: from a read's worth of basic.publish to enqueued messages, returns and confirms
//! (AMQP 0-9-1 section 1.8.3.7; confirms are RabbitMQ's extension).

use super::{Connection, confirms::Run, replies::REPLY_TO_FLAG};
use crate::traffic::count_publish;
use leveret_amqp091::{Publish, Session, form::FORM};
use leveret_broker::{
    NoRoom, Published,
    port::{Router, Wake},
};
use leveret_model::{MessageView, MoreKeys, PublisherIdentity, Refusal};
use std::{
    borrow::Cow,
    cmp::Reverse,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How many publishes the broker gets at once.
pub(super) const BATCH_MAX: usize = 1024;
/// With more dead letters of its own a connection publishes more slowly.
const LETTERS_WAITING_MAX: usize = 4096;
/// How often a connection logs at most how many of its messages are lost.
const LOST_LOGGED_EVERY: Duration = Duration::from_secs(1);
/// basic.publish, as close methods name it.
pub(super) const BASIC_PUBLISH: (u16, u16) = (60, 40);

/// What is kept between batches.
#[derive(Default)]
pub(super) struct Publishing {
    outcomes: Vec<Published>,
    /// How many came in one batch of late: as many are expected in the next.
    batch_length: usize,
    published: bool,
    /// Consumers of what was published last are behind.
    pub(super) slowed: bool,
    /// The connection ever published something that is to be written.
    pub(super) writes: bool,
    lost: Lost,
}

/// Messages that were not accepted and of which no confirm tells.
#[derive(Default)]
struct Lost {
    count: u64,
    why: Option<Arc<str>>,
    /// When some were logged last.
    logged: Option<Instant>,
}

impl Lost {
    fn add(&mut self, why: &Arc<str>) {
        self.count += 1;
        self.why = Some(why.clone());
    }

    /// Logs how many there are, unless some were logged a moment ago.
    fn log(&mut self, peer: IpAddr) {
        if self.count > 0 && self.logged.is_none_or(|at| at.elapsed() >= LOST_LOGGED_EVERY) {
            self.logged = Some(Instant::now());
            self.log_now(peer);
        }
    }

    fn log_now(&mut self, peer: IpAddr) {
        if let Some(why) = self.why.take() {
            tracing::warn!(
                "{} messages that {peer} published without confirms are lost, because they were not accepted: {why}",
                self.count
            );
            self.count = 0;
        }
    }
}

impl Publishing {
    /// Whether to publish more slowly; from now on not, until the next batch says so.
    pub(super) fn release(&mut self) {
        self.slowed = false;
    }

    /// Whether to publish more slowly.
    pub(super) fn is_slowed(&self) -> bool {
        self.slowed
    }

    /// Room for the publishes of a read.
    pub(super) fn batch<'b>(&self) -> Vec<Publish<'b>> {
        Vec::with_capacity(self.batch_length)
    }

    /// Whether the connection ever published something that is to be written.
    pub(super) fn writes(&self) -> bool {
        self.writes
    }

    /// Whether the connection ever published.
    pub(super) fn has_published(&self) -> bool {
        self.published
    }
}

impl Connection {
    /// Hands a batch to the broker, each channel's by itself: what waits is to hold up its own channel
    /// alone.
    pub(super) fn publish(&mut self, mut batch: Vec<Publish<'_>>, router: &mut dyn Router) {
        self.publishing.slowed = false;
        // It falls slowly: one short read says little of the next.
        self.publishing.batch_length = batch.len().max(self.publishing.batch_length / 2);
        let Some(first) = batch.first().map(|publish| publish.channel) else { return };
        if batch.iter().all(|publish| publish.channel == first) {
            return self.publish_on(first, batch, router);
        }
        // From the end, so that taking one channel's moves nobody else's.
        batch.sort_by_key(|publish| Reverse(publish.channel));
        while let Some(number) = batch.last().map(|publish| publish.channel) {
            let start = batch.partition_point(|publish| publish.channel > number);
            let of_channel = batch.split_off(start);
            self.publish_on(number, of_channel, router);
        }
    }

    /// Hands a channel's publishes to the broker and answers for what it dealt with; the rest waits.
    fn publish_on(&mut self, number: u16, mut batch: Vec<Publish<'_>>, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        self.publishing.published = true;
        let Some(channel) = open.channel(number) else { return };
        let (wake, channel_confirms) = (channel.wake.clone(), channel.confirm_next.is_some());
        let in_transaction = channel.transaction.is_some();
        if self.held.is_answer_due(number) {
            return self.held.add(number, &wake, batch.drain(..).map(into_owned));
        }
        let mut denied = open.first_denied(&batch);
        // What few messages have is looked for only where one of the batch may have it.
        let flags = batch.iter().fold(0, |all, publish| all | publish.properties.first().unwrap_or(&0));
        if flags & REPLY_TO_FLAG != 0
            && let Some(earlier) = open.address_replies(number, &mut batch)
        {
            denied = denied.filter(|(at, _)| *at <= earlier.0).or(Some(earlier));
        }
        let mut more = Vec::new();
        if leveret_amqp091::more_keys::may_have(&[flags]) {
            (more, denied) = more_keys(&batch, denied);
        }
        let allowed = denied.as_ref().map_or(batch.len(), |(at, _)| *at);
        if let Some((0, denied)) = denied {
            // What the channel sent behind it is not looked at, as after any error.
            return self.session.refuse(number, &denied, BASIC_PUBLISH);
        }
        if in_transaction {
            batch.truncate(allowed);
            self.publish_in_transaction(number, batch, router);
            if let Some((_, denied)) = denied {
                self.session.refuse(number, &denied, BASIC_PUBLISH);
            }
            return;
        }
        let waker: Arc<dyn Wake> = wake.clone();
        let views = views_of(&batch[..allowed], &open.identity, &more);
        let mut outcomes = std::mem::take(&mut self.publishing.outcomes);
        outcomes.clear();
        let confirms = channel_confirms.then(|| self.confirms.next());
        if let Some((waiter, token)) = &confirms {
            open.publisher.confirm_to(waiter, *token);
        }
        let done = open.publisher.publish(&open.vhost, router, &views, &mut outcomes, &waker);
        drop(views);
        open.client.bury(&mut open.publisher, router);
        self.publishing.slowed |=
            open.publisher.is_behind() || open.client.dead_letters_waiting() > LETTERS_WAITING_MAX;
        self.publishing.writes |= open.publisher.take_writes();
        if confirms.is_some() {
            self.confirms.expect(open.publisher.groups());
        }
        let done = done.min(allowed);
        open.place.about().traffic.count_bodies(batch[..done].iter().map(|publish| publish.body.len()));
        if let Some(channel) = open.channels.get_mut(number) {
            channel.traffic.routed.add(open.publisher.take_routed());
        }
        let token = confirms.map_or(0, |(_, token)| token);
        self.answer(token, &batch[..done], &mut outcomes);
        self.publishing.outcomes = outcomes;
        if let Some((at, denied)) = denied
            && at == done
        {
            self.session.refuse(number, &denied, BASIC_PUBLISH);
        } else if done < batch.len() {
            self.held.add(number, &wake, batch.drain(done..).map(into_owned));
        }
    }

    /// Tries again what waited on channels that were woken, and answers what they waited for.
    pub(super) fn retry_publishes(&mut self, router: &mut dyn Router) {
        if !self.held.any() {
            return;
        }
        self.publishing.slowed = false;
        for number in self.held.take_woken() {
            self.finish_change(number);
            let batch = self.held.take_publishes(number);
            if !batch.is_empty() {
                self.publish_on(number, batch, router);
            }
            self.held.forget_if_done(number);
        }
    }

    /// Returns and confirms for publishes that were dealt with, in order. Confirms wait for the batch of that
    /// token to be safe.
    fn answer(&mut self, token: u64, batch: &[Publish<'_>], outcomes: &mut Vec<Published>) {
        if outcomes.iter().all(|outcome| matches!(outcome, Published::Routed | Published::Dropped)) {
            outcomes.clear();
            return self.accept(token, batch);
        }
        // Runs of one channel whose publishes all ended alike are confirmed together.
        let mut run: Option<Run> = None;
        for (publish, outcome) in batch.iter().zip(outcomes.drain(..)) {
            let Some(open) = &mut self.open else { return };
            let Some(channel) = open.channel(publish.channel) else {
                continue;
            };
            let sequence = channel.confirm_next.as_mut().map(|next| {
                *next += 1;
                *next - 1
            });
            count_publish(&channel.traffic, publish.mandatory, &outcome, sequence.is_some());
            let accepted = match outcome {
                Published::Routed | Published::Dropped => true,
                Published::Unroutable => {
                    if publish.mandatory {
                        return_unroutable(&mut self.session, publish.channel, &view(publish, &open.identity));
                    }
                    true
                }
                Published::Rejected(reason)
                | Published::Unavailable(reason)
                | Published::Full(NoRoom { why: reason, .. }) => {
                    if sequence.is_none() {
                        self.publishing.lost.add(&reason);
                    }
                    tracing::debug!(
                        "publish to '{}' rejected: {reason}",
                        String::from_utf8_lossy(&publish.exchange)
                    );
                    false
                }
                Published::Refused(refusal) => {
                    self.put_confirms(&mut run);
                    self.session.refuse(publish.channel, &refusal, BASIC_PUBLISH);
                    continue;
                }
            };
            let Some(sequence) = sequence else { continue };
            match &mut run {
                Some(run) if run.channel == publish.channel && run.accepted == accepted => {
                    run.numbers.1 = sequence;
                }
                _ => {
                    self.put_confirms(&mut run);
                    let (channel, numbers) = (publish.channel, (sequence, sequence));
                    run = Some(Run { channel, token, numbers, accepted });
                }
            }
        }
        self.put_confirms(&mut run);
        self.publishing.lost.log(self.peer);
    }

    /// Answers for publishes of one channel that went well: most do.
    fn accept(&mut self, token: u64, batch: &[Publish<'_>]) {
        let (Some(open), Some(first)) = (&mut self.open, batch.first()) else { return };
        let Some(channel) = open.channel(first.channel) else { return };
        let traffic = &channel.traffic;
        traffic.publish.add(batch.len() as u64);
        let run = channel.confirm_next.as_mut().map(|next| {
            traffic.publish_confirm.add(batch.len() as u64);
            traffic.confirm.add(batch.len() as u64);
            let begin = *next;
            *next += batch.len() as u64;
            Run { channel: first.channel, token, numbers: (begin, *next - 1), accepted: true }
        });
        if let Some(run) = run {
            self.confirms.put(run, &mut self.session);
        }
        self.publishing.lost.log(self.peer);
    }

    /// Logs what is lost and was not logged yet: nothing more is published.
    pub(super) fn end_publishing(&mut self) {
        self.publishing.lost.log_now(self.peer);
    }

    fn put_confirms(&mut self, run: &mut Option<Run>) {
        if let Some(run) = run.take() {
            self.confirms.put(run, &mut self.session);
        }
    }
}

/// Gives a message back to its publisher, as a receiver would have seen it.
pub(super) fn return_unroutable(session: &mut Session, channel: u16, message: &MessageView<'_>) {
    let more = message.more_keys().unwrap_or_default();
    let shown = more.filter(|more| more.hides).map(|_| leveret_amqp091::more_keys::shown(message.properties));
    let message = MessageView { properties: shown.as_deref().unwrap_or(message.properties), ..*message };
    session.return_message(channel, 312, "NO_ROUTE", &message);
}

/// Further routing keys of publishes of a batch, by their places in it.
pub(super) type KeysByPlace = Vec<(usize, Box<MoreKeys>)>;
/// The first publish of a batch that is refused before the broker is asked, and why.
pub(super) type Denied = Option<(usize, Refusal)>;

/// The further routing keys of those publishes that have any, up to the first that is denied. One whose headers
/// should name some and do not is denied too.
pub(super) fn more_keys(batch: &[Publish<'_>], denied: Denied) -> (KeysByPlace, Denied) {
    let mut found = Vec::new();
    let end = denied.as_ref().map_or(batch.len(), |(at, _)| *at);
    for (at, publish) in batch.iter().enumerate().take(end) {
        if !leveret_amqp091::more_keys::may_have(&publish.properties) {
            continue;
        }
        match FORM.more_keys(&publish.properties) {
            Ok(more) => found.extend(more.map(|more| (at, more))),
            Err(text) => return (found, Some((at, Refusal::InvalidArgument { text }))),
        }
    }
    (found, denied)
}

/// Publishes in the broker's words.
pub(super) fn views_of<'a>(
    batch: &'a [Publish<'_>],
    identity: &'a PublisherIdentity,
    more: &'a [(usize, Box<MoreKeys>)],
) -> Vec<leveret_broker::Publish<'a>> {
    let for_broker = |publish: &'a Publish<'_>| {
        let (channel, mandatory) = (publish.channel, publish.mandatory);
        leveret_broker::Publish { channel, message: view(publish, identity), mandatory, more_keys: None }
    };
    let mut views: Vec<_> = batch.iter().map(for_broker).collect();
    for (at, more) in more {
        if let Some(view) = views.get_mut(*at) {
            view.more_keys = Some(more);
        }
    }
    views
}

/// The message of a publish, in the broker's words.
pub(super) fn view<'a>(publish: &'a Publish<'_>, identity: &'a PublisherIdentity) -> MessageView<'a> {
    MessageView {
        exchange: &publish.exchange,
        routing_key: &publish.routing_key,
        form: FORM,
        properties: &publish.properties,
        body: &publish.body,
        publisher: Some(identity),
    }
}

pub(super) fn into_owned(publish: Publish<'_>) -> Publish<'static> {
    Publish {
        channel: publish.channel,
        mandatory: publish.mandatory,
        exchange: Cow::Owned(publish.exchange.into_owned()),
        routing_key: Cow::Owned(publish.routing_key.into_owned()),
        properties: Cow::Owned(publish.properties.into_owned()),
        body: Cow::Owned(publish.body.into_owned()),
    }
}
