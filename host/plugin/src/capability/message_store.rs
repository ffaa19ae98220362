//! `message-store`: messages kept by key.

use super::{Context, draft::Op};
use crate::bindings::v0_2::leveret::routing::message_store::{Error, Host};
use std::sync::Arc;

/// The most messages in one answer.
pub(crate) const MESSAGES_MAX: u32 = 100_000;
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 1_024;
/// The most steps of the search for a pattern: words of keys that are looked at. About 5 ms.
const STEPS_MAX: usize = 1_000_000;

impl Host for Context {
    fn keep(&mut self, key: Vec<u8>, newest: u32) -> wasmtime::Result<Result<(), Error>> {
        let usage = self.account.state().clone();
        let (Some(message), Some(cell)) = (self.on_hand().map(Arc::clone), self.cell().cloned()) else {
            return Ok(Err(Error::NotHere));
        };
        let draft = match self.draft_with_room() {
            Some(Ok(draft)) if key.len() <= KEY_BYTES_MAX => draft,
            Some(_) => return Ok(Err(Error::Quota)),
            None => return Ok(Err(Error::NotHere)),
        };
        let kept = cell.messages().lock().keep(draft.id(), &key, message, &usage);
        Ok(match kept {
            Ok(id) => {
                draft.push(Op::Kept { id, newest: newest as usize });
                Ok(())
            }
            Err(_full) => Err(Error::Quota),
        })
    }

    fn forget(&mut self, key: Vec<u8>) -> wasmtime::Result<Result<u32, Error>> {
        self.takes_long();
        let Some(cell) = self.cell().cloned() else {
            return Ok(Err(Error::NotHere));
        };
        let draft = match self.draft_with_room() {
            Some(Ok(draft)) => draft,
            Some(Err(_too_much)) => return Ok(Err(Error::Quota)),
            None => return Ok(Err(Error::NotHere)),
        };
        let ids = cell.messages().lock().settled_of(&key);
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        draft.push(Op::Forget { ids });
        Ok(Ok(count))
    }

    fn of_key(&mut self, key: Vec<u8>, limit: u32) -> wasmtime::Result<Vec<u64>> {
        let count_max = limit.min(MESSAGES_MAX) as usize;
        self.takes_long();
        Ok(self.cell().map(|cell| cell.messages().lock().of_key(&key, count_max)).unwrap_or_default())
    }

    fn matching(&mut self, pattern: Vec<u8>, limit: u32) -> wasmtime::Result<Vec<u64>> {
        let count_max = limit.min(MESSAGES_MAX) as usize;
        self.takes_long();
        let Some(cell) = self.cell() else {
            return Ok(Vec::new());
        };
        let found = cell.messages().lock().matching(&pattern, count_max, STEPS_MAX);
        found.ok_or_else(|| {
            wasmtime::Error::msg(format!("the search for a pattern takes more than {STEPS_MAX} steps"))
        })
    }

    fn len(&mut self) -> wasmtime::Result<u64> {
        Ok(self.cell().map_or(0, |cell| cell.messages().lock().len() as u64))
    }
}
