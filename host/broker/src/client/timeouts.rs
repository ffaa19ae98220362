//! Deliveries that are not settled in time: each goes back to its queue, and its consumer and its channel stay.
//!
//! *In:* how long a delivery may take, said by the consumer (`x-consumer-timeout`), else by its quorum queue or the
//! queue's policy, else for all quorum queues ([`Client::set_consumer_timeout_ms`]). *Out:* what took longer is ready
//! again, as if it had been given back, and others get it. What a policy says now holds for what was delivered before, from when that was:
//! connections are woken and look again when it changes.
//!
//! A consumer that let a delivery time out is given nothing more until it settles that one, which has no other effect
//! then: somebody else has the message. So a worker that hangs takes nothing with it, and one that is only slow goes on.
//!
//! *Cost.* No delivery has a timer. A channel notes now and then which delivery came when ([`Mark`]), sixteen times in
//! the shortest time that counts there, so a delivery has up to a sixteenth more. The connection looks when the first
//! may be over.

use super::{
    Client,
    channel::{Channel, Holder},
    unacked::Entry,
};
use crate::queue::{MessageRef, Progress, Queue, QueueKind};
use alloc::{collections::VecDeque, vec::Vec};
use leveret_model::{Name, Refusal, Table};

/// How long a delivery of a quorum queue may take if nothing else is said, in milliseconds.
pub const CONSUMER_TIMEOUT_MS: u64 = 30 * 60 * 1000;
/// How many marks there are at most in the shortest time that counts.
const MARKS_PER_TIMEOUT: u64 = 16;
/// With more marks two and two become one; an even number.
const MARKS_MAX: usize = 1024;
/// Marks are no further apart than this, in milliseconds.
const GRAIN_MS_MAX: u64 = 60_000;
/// As long as a delivery may take where nothing says how long, but a policy may yet.
const FOR_EVER_MS: u64 = u64::MAX;

/// Deliveries from one on came by that time, those of the next mark excepted.
struct Mark {
    tag: u64,
    until_ms: u64,
}

/// When the deliveries of a channel came.
#[derive(Default)]
pub(super) struct Marks {
    marks: VecDeque<Mark>,
    /// The shortest time that one of them may take.
    shortest_ms: u64,
}

/// A delivery that was not settled in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// Its channel.
    pub channel: u16,
    /// Its number there.
    pub delivery_tag: u64,
    /// Its consumer; empty if it was got.
    pub consumer_tag: Name,
    /// Where it is again.
    pub queue: Name,
    /// How long it might take, in milliseconds.
    pub timeout_ms: u64,
}

impl Marks {
    /// A delivery comes that may take so long. Gives when it may be over.
    pub(super) fn note(&mut self, tag: u64, now_ms: u64, timeout_ms: u64) -> u64 {
        if self.marks.is_empty() || timeout_ms < self.shortest_ms {
            self.shortest_ms = timeout_ms;
        }
        let grain_ms = (self.shortest_ms / MARKS_PER_TIMEOUT).clamp(1, GRAIN_MS_MAX);
        let until_ms = now_ms.saturating_add(grain_ms);
        // One that lies further ahead is of a longer time, or of a clock that was set back.
        if self.marks.back().is_none_or(|last| last.until_ms <= now_ms || last.until_ms > until_ms) {
            self.marks.push_back(Mark { tag, until_ms });
            self.thin();
        }
        until_ms.saturating_add(timeout_ms)
    }

    /// Makes one mark of two where there are many, so that no delivery is thought to have come earlier than it did.
    fn thin(&mut self) {
        if self.marks.len() <= MARKS_MAX {
            return;
        }
        let marks = core::mem::take(&mut self.marks);
        let mut tag = None;
        for (at, mark) in marks.into_iter().enumerate() {
            let first = *tag.get_or_insert(mark.tag);
            if at % 2 == 1 || at == MARKS_MAX {
                self.marks.push_back(Mark { tag: first, until_ms: mark.until_ms });
                tag = None;
            }
        }
    }

    /// By when a delivery came, and the place of its mark. Looks from a place on.
    fn came_by(&self, tag: u64, from: usize) -> Option<(u64, usize)> {
        let mut at = from;
        while self.marks.get(at + 1).is_some_and(|next| next.tag <= tag) {
            at += 1;
        }
        self.marks.get(at).map(|mark| (mark.until_ms, at))
    }

    /// For each mark, the earliest time of it and of those behind it.
    fn earliest_ms(&self) -> Vec<u64> {
        let mut earliest: Vec<u64> = self.marks.iter().map(|mark| mark.until_ms).collect();
        let mut least = u64::MAX;
        for ms in earliest.iter_mut().rev() {
            least = least.min(*ms);
            *ms = least;
        }
        earliest
    }

    /// Forgets what is not needed for deliveries from that one on.
    fn forget_before(&mut self, tag: Option<u64>) {
        let Some(tag) = tag else { return self.marks.clear() };
        while self.marks.get(1).is_some_and(|next| next.tag <= tag) {
            self.marks.pop_front();
        }
    }
}

/// What is overdue on a channel of one holder.
struct Overdue {
    holder: u32,
    timeout_ms: u64,
    tags: Vec<u64>,
    messages: Vec<MessageRef>,
}

impl Channel {
    /// Notes how long deliveries of each holder may take now. Gives it by their places, of those that have any.
    fn timeouts(&mut self, usual_ms: Option<u64>) -> Vec<Option<u64>> {
        let of_holder = |holder: &mut Holder| {
            let consumer = holder.consumer.as_ref();
            let own_ms = consumer.and_then(|consumer| consumer.timeout_ms);
            let acknowledges = consumer.is_none_or(|consumer| !consumer.no_ack);
            holder.timeout_ms = time_of((&holder.queue, own_ms), usual_ms).filter(|_| acknowledges);
            holder.timeout_ms.filter(|timeout_ms| holder.outstanding > 0 && *timeout_ms < FOR_EVER_MS)
        };
        self.holders.iter_mut().map(|holder| holder.as_mut().and_then(of_holder)).collect()
    }

    /// The first delivery that may be overdue one day: also what is settled when a transaction is committed, which may be
    /// rolled back.
    fn first_tag(&self) -> Option<u64> {
        let noted = self.settlements.iter().flatten().map(|(entry, _)| entry.tag);
        self.unacked.first_tag().into_iter().chain(noted).min()
    }

    /// Notes what is overdue. Gives it by holders, and when to look again.
    fn take_overdue(&mut self, now_ms: u64, usual_ms: Option<u64>) -> (Vec<Overdue>, Option<u64>) {
        let timeouts = self.timeouts(usual_ms);
        let shortest_ms = timeouts.iter().flatten().min().copied();
        let (mut found, mut next_ms, mut at): (Vec<Overdue>, Option<u64>, usize) = (Vec::new(), None, 0);
        let Some(shortest_ms) = shortest_ms else {
            self.marks.forget_before(self.first_tag());
            return (found, None);
        };
        let earliest_ms = self.marks.earliest_ms();
        for entry in self.unacked.outstanding_mut() {
            let Some((came_ms, place)) = self.marks.came_by(entry.tag, at) else { break };
            at = place;
            let first_ms = earliest_ms.get(at).map_or(0, |ms| ms.saturating_add(shortest_ms));
            if first_ms > now_ms {
                // None of those that are left can be over.
                next_ms = next_ms.into_iter().chain([first_ms]).min();
                break;
            }
            let Some(timeout_ms) = timeouts.get(entry.place() as usize).copied().flatten() else { continue };
            let due_ms = came_ms.saturating_add(timeout_ms);
            if due_ms > now_ms {
                next_ms = next_ms.into_iter().chain([due_ms]).min();
                continue;
            }
            let holder = entry.place();
            let of_holder = match found.iter_mut().position(|overdue| overdue.holder == holder) {
                Some(known) => found.get_mut(known),
                None => {
                    let (tags, messages) = (Vec::new(), Vec::new());
                    found.push(Overdue { holder, timeout_ms, tags, messages });
                    found.last_mut()
                }
            };
            if let Some(overdue) = of_holder {
                overdue.tags.push(entry.tag);
                overdue.messages.push(entry.message);
            }
            entry.set_late();
        }
        self.marks.forget_before(self.first_tag());
        (found, next_ms)
    }

    /// Puts what is overdue back to its queues. Gives when to look again.
    fn requeue_overdue(
        &mut self,
        (now_ms, usual_ms): (u64, Option<u64>),
        number: u16,
        progress: &mut Progress,
        told: &mut Vec<TimedOut>,
    ) -> Option<u64> {
        let (found, next_ms) = self.take_overdue(now_ms, usual_ms);
        for Overdue { holder, timeout_ms, tags, messages } in found {
            let Some(holder) = self.holder_mut(holder) else { continue };
            let (consumer, queue) = (holder.consumer.as_ref(), holder.queue.clone());
            let consumer_tag = consumer.map(|consumer| consumer.tag.clone()).unwrap_or_default();
            let key = consumer.map(|consumer| consumer.key);
            queue.time_out(&messages, key, progress);
            told.extend(tags.into_iter().map(|delivery_tag| TimedOut {
                channel: number,
                delivery_tag,
                consumer_tag: consumer_tag.clone(),
                queue: queue.name().clone(),
                timeout_ms,
            }));
        }
        next_ms
    }

    /// A delivery that timed out is settled after all: its consumer may have others again.
    pub(super) fn settle_late(&mut self, entry: Entry) {
        let Some(holder) = self.holder_mut(entry.place()) else { return };
        let (queue, key) = (holder.queue.clone(), holder.consumer.as_ref().map(|consumer| consumer.key));
        if let Some(key) = key {
            self.credit.release(1);
            queue.is_back(key);
        }
        self.traffic.given_back.add(1);
        self.let_go(entry.place());
    }
}

impl Client {
    /// How long deliveries of quorum queues may take where nothing else is said, in milliseconds; `None` is for ever.
    /// [`CONSUMER_TIMEOUT_MS`] before it is said.
    pub fn set_consumer_timeout_ms(&mut self, timeout_ms: Option<u64>) {
        self.consumer_timeout_ms = timeout_ms;
    }

    /// When to call [`Self::requeue_overdue`], in milliseconds since 1970, by [`crate::port::Router::now_ms`]; `None`
    /// while there is nothing that may be overdue.
    #[must_use]
    pub fn overdue_ms(&self) -> Option<u64> {
        if self.vhost.rule.timeouts() != self.timeouts {
            return Some(0);
        }
        self.overdue_ms.filter(|due_ms| *due_ms < FOR_EVER_MS)
    }

    /// Puts back into their queues what was delivered and not settled in time, and tells what that is. Whoever settles
    /// it later is not told that it is unknown.
    pub fn requeue_overdue(&mut self, now_ms: u64) -> Vec<TimedOut> {
        let mut told = Vec::new();
        if self.overdue_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return told;
        }
        // Before the queues are asked: what changes then is found the next time.
        self.timeouts = self.vhost.rule.timeouts();
        self.tell_accepted();
        let usual_ms = self.consumer_timeout_ms;
        let (channels, progress) = (&mut self.channels, &mut self.progress);
        let next_ms = channels.iter_mut().filter_map(|(number, channel)| {
            channel.requeue_overdue((now_ms, usual_ms), *number, progress, &mut told)
        });
        self.overdue_ms = next_ms.min();
        self.tell_store();
        told
    }

    /// Something was delivered that may be overdue then.
    pub(super) fn note_due(&mut self, due_ms: Option<u64>) {
        self.overdue_ms = self.overdue_ms.into_iter().chain(due_ms).min();
    }
}

/// How long a delivery of a queue may take to a consumer that says this itself, in milliseconds, where 0 is for ever.
/// `None` is for ever, whatever policies will say.
pub(super) fn time_of((queue, own_ms): (&Queue, Option<u64>), usual_ms: Option<u64>) -> Option<u64> {
    if own_ms.is_some() || queue.kind() != QueueKind::Quorum {
        return own_ms.filter(|timeout_ms| *timeout_ms > 0);
    }
    let timeout_ms = queue.consumer_timeout_ms().or(usual_ms).filter(|timeout_ms| *timeout_ms > 0);
    Some(timeout_ms.unwrap_or(FOR_EVER_MS))
}

/// What a consumer says of how long a delivery may take.
pub(super) fn timeout_of(arguments: &Table, (queue, vhost): (&Name, &Name)) -> Result<Option<u64>, Refusal> {
    const ARGUMENT: &str = "x-consumer-timeout";
    let Some(value) = arguments.get(ARGUMENT.as_bytes()) else { return Ok(None) };
    let why = match value.as_integer() {
        None => alloc::format!("\"expected integer, got {}\"", value.class()),
        Some(number) => match u64::try_from(number) {
            Ok(timeout_ms) => return Ok(Some(timeout_ms)),
            Err(_) => alloc::format!("{{value_negative,{number}}}"),
        },
    };
    let text = alloc::format!("invalid arg '{ARGUMENT}' for queue '{queue}' in vhost '{vhost}': {why}");
    Err(Refusal::InvalidArgument { text })
}
