//! Pages: where memory is short, messages that are nowhere else are written to the store and let go.
//!
//! *What:* what nobody has taken of whole segments, transient messages in any queue, and persistent ones among them. A
//! page is written without a sync, and is gone with the process. *When:* from some part of the memory for messages on
//! ([`crate::MemoryAccount::paging_from`]), beyond what a queue keeps in memory in any case; and of all queues while
//! publishers are held back (`relief.rs`). A segment is let go once its page can be read. What was read of a page can be
//! let go again without being written; a page is dropped when nothing of it is left, read or not.
//!
//! *Out of turn:* what is taken out of a segment that has a page stays in the page, and whoever lets the segment go notes
//! that it is no part of the hole ([`super::load::Hole`]). The same goes for a segment that is in the store where its queue
//! is: what was settled may be there for a moment more, and what is handed out is.
//!
//! Where the store takes nothing, since the disk is full or nearly behind, messages stay in memory, and the memory's limit
//! holds: pages are to hold up nobody who publishes what is persistent, so they are made a few at a time.

use super::{
    Queue,
    ahead::records,
    keeping::Keeping,
    lanes::Lanes,
    record::{self, APART},
    slab::{self, Segment, Stored},
    state::{IN_MEMORY_BYTES_MAX, IN_MEMORY_BYTES_MIN, State},
};
use crate::{
    memory::MemoryAccount,
    store::{KeptId, Noted, Paged, Ranges, Store},
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::Range;

/// How much of pages is made in one go, about, in bytes: the next goes on.
const PAGED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A segment with more bytes, large bodies and all, is not made a page: it would have a segment of the store of its own,
/// which needs room at once, and be copied under the queue's lock. It stays, and those behind it are looked at.
const PAGE_BYTES_MAX: usize = 18 * 1024 * 1024;

/// Where messages of a lane are that are not in memory.
pub(super) struct Outside<'a> {
    /// Those that outlive the process.
    pub(super) keeping: Option<&'a Keeping>,
    /// Those in pages.
    pub(super) pager: Option<&'a Arc<dyn Store>>,
    /// The pages that are made.
    pub(super) pages: Paging,
}

/// What of pages may be made in one go, under the queue's lock, and was.
#[derive(Clone, Copy, Default)]
pub(super) struct Paging {
    /// So many bytes more; no more where it is 0.
    bytes: usize,
    has_paged: bool,
}

impl Paging {
    /// Of none yet, if there may be any.
    pub(super) fn new(may_page: bool) -> Self {
        Self { bytes: if may_page { PAGED_BYTES_MAX } else { 0 }, has_paged: false }
    }

    /// Whether any page was made.
    pub(super) fn has_paged(self) -> bool {
        self.has_paged
    }

    /// A page of so many bytes was made, or was not taken.
    fn count(&mut self, bytes: usize, was_taken: bool) {
        // Where one is not taken others are not either.
        self.bytes = if was_taken { self.bytes.saturating_sub(bytes) } else { 0 };
        self.has_paged |= was_taken;
    }
}

impl Outside<'_> {
    /// Where the messages of a hole are read.
    pub(super) fn source(&self, page: Option<KeptId>) -> Option<(&dyn Store, KeptId)> {
        match page {
            Some(page) => Some((&**self.pager?, page)),
            None => self.keeping.map(|keeping| (&*keeping.store, keeping.id)),
        }
    }
}

impl Queue {
    /// Whether any of its messages may be out of memory.
    pub(crate) fn can_relieve(&self) -> bool {
        self.can_relieve
    }

    /// Memory is short: keeps no more of its messages there than it has to.
    pub(crate) fn relieve(&self) {
        self.state.lock().relieve_all(&self.account);
    }
}

/// Where all of a segment is that nobody has taken.
pub(super) struct Place {
    /// The numbers that it stands for.
    pub(super) numbers: Range<u64>,
    /// The page that has it; `None` if it is where the queue is.
    pub(super) page: Option<KeptId>,
    /// Numbers among them, in order, of what may be read there too: it was taken out of turn.
    pub(super) taken: Vec<Ranges>,
}

/// The pages of a lane, each with how many segments and holes it is the page of.
#[derive(Default)]
pub(super) struct Pages {
    uses: BTreeMap<KeptId, u32>,
    /// Not needed any more.
    done: Vec<KeptId>,
}

impl Pages {
    /// A segment or a hole has that page.
    pub(super) fn hold(&mut self, page: Option<KeptId>) {
        if let Some(page) = page {
            *self.uses.entry(page).or_default() += 1;
        }
    }

    /// A segment or a hole that has that page is gone.
    #[inline]
    pub(super) fn release(&mut self, page: Option<KeptId>) {
        if let Some(page) = page {
            self.release_one(page);
        }
    }

    #[cold]
    fn release_one(&mut self, page: KeptId) {
        if let Some(uses) = self.uses.get_mut(&page) {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&page);
                self.done.push(page);
            }
        }
    }

    /// All of them are gone.
    pub(super) fn release_all(&mut self) {
        if !self.uses.is_empty() {
            self.done.extend(core::mem::take(&mut self.uses).into_keys());
        }
    }
}

impl slab::Store {
    /// Where all of a segment can be read again that nobody has taken, if it can. What cannot may become a page.
    pub(super) fn place_outside(
        &mut self,
        at: usize,
        numbers: Range<u64>,
        outside: &mut Outside<'_>,
    ) -> Option<Place> {
        let segment = self.segments.get(at).filter(|segment| segment.live > 0)?;
        let (page, taken) = (segment.page, Vec::new());
        let bytes = segment.bytes.len() + segment.apart_bytes;
        let pager = outside.pager.filter(|_| outside.pages.bytes > 0 && bytes <= PAGE_BYTES_MAX);
        if page.is_none() && segment.kept == 0 && pager.is_none() {
            // There is no need to look at what nobody has taken.
            return None;
        }
        let untaken = if self.is_mixed { untaken_of(segment) } else { Vec::new() };
        if self.is_mixed && untaken.is_empty() {
            return Some(Place { numbers, page, taken });
        }
        if page.is_some() || self.is_kept_whole(segment) {
            let (store, id) = outside.source(page)?;
            if !self.is_mixed {
                let is_there = store.count(id, numbers.clone()) == segment.live as u64;
                return is_there.then_some(Place { numbers, page, taken });
            }
            // What was taken and settled may not be known there yet: so it is not enough to count all.
            let range = |range: &Ranges| range.first..range.first + u64::from(range.count);
            let is_there = |part: &Ranges| store.count(id, range(part)) == u64::from(part.count);
            let numbers = segment.first..segment.next;
            let taken = between(&numbers, &untaken);
            return untaken.iter().all(is_there).then_some(Place { numbers, page, taken });
        }
        if let Some(pager) = pager {
            let page = self.write_page(segment, &**pager);
            outside.pages.count(bytes, page.is_some());
            self.segments.get_mut(at)?.page = page;
            self.pages.hold(page);
        }
        None
    }

    /// Nothing is added to a segment that has a page, though it is the last one now.
    pub(super) fn close_last(&mut self) {
        if let Some(last) = self.segments.back_mut().filter(|last| last.page.is_some()) {
            self.held_bytes -= last.bytes.capacity();
            last.bytes.shrink_to_fit();
            self.held_bytes += last.bytes.capacity();
        }
    }

    fn write_page(&self, segment: &Segment, pager: &dyn Store) -> Option<KeptId> {
        let untaken = records(segment).filter(|(.., header)| header.is_untaken());
        let mut messages = untaken.filter_map(|(offset, sequence, header)| {
            let fields = record::fields(&segment.bytes, offset, header)?;
            let apart = if header.flags & APART == 0 { None } else { self.apart.get(sequence) };
            let form = *self.forms.get(usize::from(header.form))?;
            let stored = Stored::of((header, fields), form, apart);
            let Stored { message, redelivered, dead_lettered, kept, came_ms, .. } = stored;
            let noted = Noted { dead_lettered, came_ms: came_ms.unwrap_or(0) };
            Some(Paged { sequence, message, noted, redelivered, is_kept: kept })
        });
        pager.page(&mut messages)
    }
}

/// The numbers of a segment that nobody has taken.
fn untaken_of(segment: &Segment) -> Vec<Ranges> {
    let mut ranges = Vec::new();
    let untaken = records(segment).filter(|(.., header)| header.is_untaken());
    untaken.for_each(|(_, sequence, _)| Ranges::push(&mut ranges, sequence));
    ranges
}

/// The numbers that are in none of some ranges, which are in order.
fn between(numbers: &Range<u64>, ranges: &[Ranges]) -> Vec<Ranges> {
    let (mut others, mut first) = (Vec::new(), numbers.start);
    for range in ranges.iter().chain([&Ranges { first: numbers.end, count: 0 }]) {
        if let Ok(count @ 1..) = u32::try_from(range.first - first) {
            others.push(Ranges { first, count });
        }
        first = range.first + u64::from(range.count);
    }
    others
}

impl Lanes {
    /// Takes the pages that are not needed any more. Whether there are others.
    pub(super) fn take_done_pages(&mut self, done: &mut Vec<KeptId>) -> bool {
        let mut has_any = false;
        for pages in self.all_mut().map(|lane| &mut lane.store.pages) {
            done.append(&mut pages.done);
            has_any |= !pages.uses.is_empty();
        }
        has_any
    }
}

impl State {
    /// Lets go of messages that can be read again, if too many are in memory.
    pub(super) fn relieve(&mut self) {
        let Some(account) = &self.account else { return };
        let pages = account.pages();
        if !pages && !self.is_kept {
            return;
        }
        let is_short = pages || account.bytes() > account.watermark_bytes() / 2;
        let most = if is_short { IN_MEMORY_BYTES_MIN } else { IN_MEMORY_BYTES_MAX };
        if self.lanes.in_memory_bytes() > most && self.lanes.take_grown() {
            self.evict(most / 2, pages);
        }
    }

    /// Lets go of all messages that can be read again but those that come next, whoever may want them.
    pub(super) fn relieve_all(&mut self, account: &MemoryAccount) {
        if self.account.is_some() {
            self.evict(0, account.may_page());
            account.release(core::mem::take(&mut self.released_bytes));
        }
    }

    fn evict(&mut self, keep_bytes: usize, pages: bool) {
        let pages = pages && self.pager.as_ref().is_some_and(|pager| pager.takes_pages());
        let walks = self.walks();
        let (freed, paged) = self.lanes.evict(keep_bytes, &walks, self.pager.as_ref(), pages);
        self.released_bytes += freed;
        self.has_pages |= paged;
    }

    /// Drops the pages that are not needed any more.
    #[cold]
    pub(super) fn drop_pages(&mut self) {
        let mut done = Vec::new();
        self.has_pages = self.lanes.take_done_pages(&mut done);
        if let Some(pager) = self.pager.as_ref().filter(|_| !done.is_empty()) {
            pager.drop_pages(&done);
        }
    }
}
