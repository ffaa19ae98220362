//! Many messages at once: what is handed out and settled one after another lies side by side in a segment, which is
//! then looked up once.

use super::{
    consumers::ConsumerKey,
    lanes::{Lane, Lanes},
    record::{self, APART, KEPT, SETTLED, TAKEN},
    slab::{MessageRef, Segment, Store, Stored},
    state::State,
};
use crate::store::Ranges;

/// What handing out a run came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    /// How many messages.
    pub(super) count: u32,
    /// How long the records of those are that were settled.
    pub(super) settled_bytes: usize,
}

impl Store {
    /// Gives what comes next in the segment of the cursor to `give`, at most `most` messages, until that takes one not;
    /// with `settle` they are forgotten at once. A run ends before whatever is not plainly a record of that segment:
    /// that is for [`Self::take`].
    pub(super) fn take_run(
        &mut self,
        most: u32,
        settle: bool,
        mut give: impl FnMut(MessageRef, Stored<'_>) -> bool,
    ) -> Run {
        let mut run = Run::default();
        let Some(index) = self.position(self.cursor.segment) else { return run };
        let Self { segments, forms, cursor, lane, .. } = self;
        let Some(segment) = segments.get_mut(index) else { return run };
        while run.count < most
            && let Some(header) = record::header(&segment.bytes, cursor.offset)
            && header.flags & (SETTLED | TAKEN | APART) == 0
            && let Some(fields) = record::fields(&segment.bytes, cursor.offset, header)
            && let Some(form) = forms.get(usize::from(header.form))
        {
            let offset = cursor.offset;
            let message = MessageRef {
                sequence: cursor.sequence,
                segment: segment.first,
                offset: offset as u32,
                lane: *lane,
            };
            if !give(message, Stored::of((header, fields), *form, None)) {
                break;
            }
            if settle {
                record::set_flags(&mut segment.bytes, offset, SETTLED);
                run.settled_bytes += header.length;
            }
            cursor.sequence += 1;
            cursor.offset += header.length;
            run.count += 1;
        }
        if run.count > 0 {
            self.untaken -= run.count as usize;
            self.leave_segment(index);
            if settle {
                self.count_settled(index, run.count as usize, run.settled_bytes);
            }
        }
        run
    }

    /// Forgets messages of one segment that were taken; `kept` is called with the numbers of those of which the store
    /// on disk is to learn it. Returns the length of their records.
    pub(super) fn settle_run(
        &mut self,
        messages: impl Iterator<Item = MessageRef> + Clone,
        mut kept: impl FnMut(u64),
    ) -> usize {
        let Some(first) = messages.clone().next() else { return 0 };
        let at = if self.has_strays() { None } else { self.position(first.segment) };
        let Some(index) = at else {
            // They were moved, or any of them may have been.
            return messages
                .map(|message| {
                    let settled = self.settle(message);
                    if settled.kept {
                        kept(message.sequence);
                    }
                    settled.bytes
                })
                .sum();
        };
        let Self { segments, apart, .. } = self;
        let Some(segment) = segments.get_mut(index) else { return 0 };
        let (mut count, mut bytes) = (0, 0);
        for message in messages {
            let Some((flags, length)) = mark_settled(segment, message.offset as usize) else { continue };
            if flags & APART != 0 {
                apart.remove(message.sequence);
            }
            if flags & KEPT != 0 {
                kept(message.sequence);
            }
            count += 1;
            bytes += length;
        }
        self.count_settled(index, count, bytes);
        bytes
    }
}

/// Marks a record as settled. Gives what its flags were and how long it is; `None` if it was settled before.
#[inline]
pub(super) fn mark_settled(segment: &mut Segment, offset: usize) -> Option<(u8, usize)> {
    let header = record::header(&segment.bytes, offset).filter(|header| header.flags & SETTLED == 0)?;
    record::set_flags(&mut segment.bytes, offset, SETTLED);
    Some((header.flags, header.length))
}

impl Lane {
    fn take_run(
        &mut self,
        most: u32,
        settle: bool,
        mut give: impl FnMut(MessageRef, Stored<'_>) -> bool,
    ) -> Run {
        let Self { store, settled, delivered, .. } = self;
        let noted = if settle { settled } else { delivered };
        store.take_run(most, settle, |message, stored| {
            let kept = stored.kept;
            let taken = give(message, stored);
            if taken && kept {
                Ranges::push(noted, message.sequence);
            }
            taken
        })
    }
}

impl Lanes {
    /// [`Store::take_run`] of what comes next; nothing where that is not simply the next of the only lane.
    pub(super) fn take_run(
        &mut self,
        most: u32,
        settle: bool,
        give: impl FnMut(MessageRef, Stored<'_>) -> bool,
    ) -> Run {
        if self.is_plain() { self.base_mut().take_run(most, settle, give) } else { Run::default() }
    }

    /// Messages of one segment of one lane are done with. Returns the length of their records.
    fn settle_run(&mut self, messages: &[(MessageRef, Option<ConsumerKey>)]) -> usize {
        let Some((first, _)) = messages.first() else { return 0 };
        let Lane { store, settled, .. } = self.lane_mut(first.lane);
        store.settle_run(messages.iter().map(|(message, _)| *message), |sequence| {
            Ranges::push(settled, sequence);
        })
    }
}

impl State {
    /// Hands out a run of messages of which nothing is to be asked before; 0 if the next one is to be looked at by
    /// itself.
    pub(super) fn hand_out_run(&mut self, most: u32, no_ack: bool, taker: &mut impl super::Taker) -> u32 {
        if self.ageing.has_timed || self.tries.has_any() || self.settings.max_length_bytes.is_some() {
            return 0;
        }
        let settle = no_ack && !taker.settles();
        let run = self.lanes.take_run(most, settle, |message, stored| {
            let room = taker.has_room();
            if room {
                taker.take(message, stored.redelivered, stored.message);
            }
            room
        });
        self.released(run.settled_bytes);
        run.count
    }

    /// Messages that were handed out are done with.
    pub(super) fn accept(&mut self, messages: &[(MessageRef, Option<ConsumerKey>)]) {
        let alike = |a: &(MessageRef, _), b: &(MessageRef, _)| {
            (a.0.segment, a.0.lane, a.1) == (b.0.segment, b.0.lane, b.1)
        };
        for run in messages.chunk_by(alike) {
            if self.tries.has_any() {
                let added = run.iter().map(|(message, _)| self.tries.forget(*message)).sum();
                self.released(added);
            }
            let bytes = self.lanes.settle_run(run);
            self.released(bytes);
            self.let_go(run.first().and_then(|(_, key)| *key), run.len() as u32);
        }
    }
}
