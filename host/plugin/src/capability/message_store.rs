//! `message-store`: messages kept by key.

use super::{Context, draft::Op};
use crate::bindings::v0_2::leveret::routing::message_store::{Error, Host};
use std::sync::Arc;

/// The most messages in one answer.
const MESSAGES_MAX: u32 = 100_000;

impl Host for Context {
    fn keep(&mut self, key: Vec<u8>, newest: u32) -> wasmtime::Result<Result<(), Error>> {
        let usage = self.account.state().clone();
        let (Some(message), Some(cell)) = (self.on_hand().map(Arc::clone), self.cell().cloned()) else {
            return Ok(Err(Error::NotHere));
        };
        let Some(draft) = self.draft() else {
            return Ok(Err(Error::NotHere));
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
        let Some(cell) = self.cell().cloned() else {
            return Ok(Err(Error::NotHere));
        };
        let Some(draft) = self.draft() else {
            return Ok(Err(Error::NotHere));
        };
        let ids = cell.messages().lock().settled_of(&key);
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        draft.push(Op::Forget { ids });
        Ok(Ok(count))
    }

    fn of_key(&mut self, key: Vec<u8>, limit: u32) -> wasmtime::Result<Vec<u64>> {
        let count_max = limit.min(MESSAGES_MAX) as usize;
        Ok(self.cell().map(|cell| cell.messages().lock().of_key(&key, count_max)).unwrap_or_default())
    }

    fn matching(&mut self, pattern: Vec<u8>, limit: u32) -> wasmtime::Result<Vec<u64>> {
        let count_max = limit.min(MESSAGES_MAX) as usize;
        Ok(self.cell().map(|cell| cell.messages().lock().matching(&pattern, count_max)).unwrap_or_default())
    }

    fn len(&mut self) -> wasmtime::Result<u64> {
        Ok(self.cell().map_or(0, |cell| cell.messages().lock().len() as u64))
    }
}
