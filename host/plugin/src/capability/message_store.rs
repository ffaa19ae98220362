//! `message-store`: messages kept by key.

use super::{Context, draft::Op};
use crate::{
    bindings::v0_2::leveret::routing::message_store::{Error, Host},
    state::{MESSAGE_BYTES, Search},
};
use std::sync::Arc;

/// The most messages in one answer.
pub(crate) const MESSAGES_MAX: u32 = 100_000;
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 1_024;
/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_024;
/// How many steps of the search for a pattern are done at a time: words of keys that are looked at.
const STEPS_PER_PIECE: usize = 10_000;

impl Host for Context {
    fn keep(&mut self, key: Vec<u8>, newest: u32) -> wasmtime::Result<Result<(), Error>> {
        let (usage, now_ms) = (self.account.state().clone(), self.now_ms());
        let (Some(message), Some(cell)) = (self.on_hand().map(Arc::clone), self.cell().cloned()) else {
            return Ok(Err(Error::NotHere));
        };
        if message.view().far().is_some() {
            // It is not to be kept in memory, and the file is its queues'.
            return Ok(Err(Error::Quota));
        }
        let draft = match self.draft_with_room() {
            Some(Ok(draft)) if key.len() <= KEY_BYTES_MAX => draft,
            Some(_) => return Ok(Err(Error::Quota)),
            None => return Ok(Err(Error::NotHere)),
        };
        // What its publisher gave it to live; a text that is no number was refused at publish.
        let ttl_ms = message.view().ttl_ms().ok().flatten();
        let end_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
        let kept = cell.messages().lock().keep(draft.id(), &key, message, (end_ms, now_ms), &usage);
        Ok(match kept {
            Ok(id) => {
                draft.push(Op::Kept { id, newest: newest as usize });
                Ok(())
            }
            Err(_full) => {
                self.account.state_is_full(now_ms);
                Err(Error::Quota)
            }
        })
    }

    fn forget(&mut self, key: Vec<u8>) -> wasmtime::Result<Result<u32, Error>> {
        let Some(cell) = self.cell().cloned() else {
            return Ok(Err(Error::NotHere));
        };
        let draft = match self.draft_with_room() {
            Some(Ok(draft)) => draft,
            Some(Err(_too_much)) => return Ok(Err(Error::Quota)),
            None => return Ok(Err(Error::NotHere)),
        };
        let (count, up_to) = cell.messages().lock().settled_of(&key);
        draft.push(Op::Forget { key: key.into(), up_to });
        Ok(Ok(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    fn of_key(&mut self, key: Vec<u8>, limit: u32) -> wasmtime::Result<Vec<u64>> {
        let count_max = limit.min(MESSAGES_MAX) as usize;
        self.deadline.counts_from_here();
        let now_ms = self.now_ms();
        Ok(self.cell().map(|cell| cell.messages().lock().of_key(&key, count_max, now_ms)).unwrap_or_default())
    }

    fn matching(&mut self, pattern: Vec<u8>, limit: u32) -> wasmtime::Result<Vec<u64>> {
        let count_max = limit.min(MESSAGES_MAX) as usize;
        let Some(cell) = self.cell().cloned() else {
            return Ok(Vec::new());
        };
        if pattern.len() > PATTERN_BYTES_MAX {
            let what =
                format!("a pattern of {} bytes; at most {PATTERN_BYTES_MAX} are searched for", pattern.len());
            return Err(wasmtime::Error::msg(what));
        }
        let mut search = Search::new(&pattern, count_max, self.now_ms());
        self.in_pieces(|_| cell.messages().lock().matching(&mut search, STEPS_PER_PIECE))
    }

    fn quota(&mut self) -> wasmtime::Result<u64> {
        Ok(self.account.state().entries_of(MESSAGE_BYTES))
    }

    fn len(&mut self) -> wasmtime::Result<u64> {
        Ok(self.cell().map_or(0, |cell| cell.messages().lock().len() as u64))
    }
}
