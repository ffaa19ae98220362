//! `key-value`: values by key, counters.

use super::{Context, draft::Op};
use crate::{
    bindings::v0_2::leveret::routing::key_value::{Error, Host, Space as WitSpace},
    state::{DraftId, ENTRY_BYTES, Space, Sum, ValueError},
};
use std::sync::Arc;

/// The most values in one scan.
const SCAN_VALUES_MAX: u32 = 1_000;
/// How often caches are asked to make room for one value: the longest takes as much as some hundred of the shortest.
const ROOM_TRIES_MAX: usize = 512;
type Answer<T> = wasmtime::Result<Result<T, Error>>;

fn space(space: WitSpace) -> Space {
    match space {
        WitSpace::Memory => Space::Memory,
        WitSpace::Durable => Space::Durable,
    }
}

impl From<ValueError> for Error {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::InDoubt => Self::InDoubt,
            ValueError::Quota => Self::Quota,
            ValueError::TooLarge => Self::TooLarge,
        }
    }
}

impl Context {
    /// Notes whether the call met a key in doubt.
    fn noted<T, E: Into<Error>>(&mut self, answer: Result<T, E>) -> Result<T, Error> {
        let answer = answer.map_err(Into::into);
        self.in_doubt |= matches!(answer, Err(Error::InDoubt));
        answer
    }

    fn read(&mut self, from: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let now_ms = self.now_ms();
        let draft = self.draft.as_ref().map(|draft| draft.id());
        let cell = self.cell().ok_or(Error::NotHere)?;
        let value = cell.values(from).lock().get(draft, key, now_ms);
        let value = self.noted(value.map_err(ValueError::from))?;
        Ok(value.map(|bytes| bytes.to_vec()))
    }

    /// Writes where what is there is as wanted; looked at and written under one lock, for other instances
    /// work on the same values. Gives whether it was.
    fn write(
        &mut self,
        to: Space,
        key: &[u8],
        value: Option<&[u8]>,
        ttl_ms: Option<u64>,
        is_wanted: impl Fn(Option<&[u8]>) -> bool,
    ) -> Result<bool, Error> {
        let now_ms = self.now_ms();
        let end_ms = ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
        let usage = self.account.state().clone();
        let draft = self.draft_with_room().ok_or(Error::NotHere)?;
        let draft: DraftId = draft.map_err(|_too_much| Error::Quota)?.id();
        let cell = self.cell().ok_or(Error::NotHere)?;
        let try_to_write = || {
            let mut values = cell.values(to).lock();
            match values.get(Some(draft), key, now_ms) {
                Ok(before) if !is_wanted(before.as_deref()) => Ok(false),
                Ok(_) => values.write(draft, key, value, (end_ms, now_ms), &usage).map(|()| true),
                Err(in_doubt) => Err(ValueError::from(in_doubt)),
            }
        };
        let mut written = try_to_write();
        for _ in 0..ROOM_TRIES_MAX {
            if written != Err(ValueError::Quota) || !usage.shrink_a_cache() {
                break;
            }
            written = try_to_write();
        }
        if written == Err(ValueError::Quota) {
            self.account.state_is_full(now_ms);
        }
        let written = self.noted(written)?;
        if written && let Some(draft) = self.draft() {
            draft.push(Op::Value { space: to, key: key.into() });
        }
        Ok(written)
    }
}

impl Host for Context {
    fn get(&mut self, from: WitSpace, key: Vec<u8>) -> Answer<Option<Vec<u8>>> {
        Ok(self.read(space(from), &key))
    }

    fn put(&mut self, to: WitSpace, key: Vec<u8>, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<()> {
        Ok(self.write(space(to), &key, Some(&value), ttl_ms, |_| true).map(drop))
    }

    fn delete(&mut self, from: WitSpace, key: Vec<u8>) -> Answer<bool> {
        Ok(self.write(space(from), &key, None, None, |before| before.is_some()))
    }

    fn compare_and_swap(
        &mut self,
        of: WitSpace,
        key: Vec<u8>,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        let is_wanted = |before: Option<&[u8]>| before == expected.as_deref();
        Ok(self.write(space(of), &key, value.as_deref(), ttl_ms, is_wanted))
    }

    fn add(&mut self, to: WitSpace, key: Vec<u8>, more: i64, ttl_ms: Option<u64>) -> Answer<i64> {
        let to = space(to);
        let now_ms = self.now_ms();
        let end_ms = ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
        let usage = self.account.state().clone();
        if more != 0 {
            match self.draft_with_room() {
                Some(Ok(_)) => {}
                Some(Err(_too_much)) => return Ok(Err(Error::Quota)),
                None => return Ok(Err(Error::NotHere)),
            }
        }
        let Some(cell) = self.cell() else {
            return Ok(Err(Error::NotHere));
        };
        let sum = cell.values(to).lock().add(&key, more, end_ms, now_ms, &usage);
        if sum == Err(ValueError::Quota) {
            self.account.state_is_full(now_ms);
        }
        let sum = self.noted(sum);
        if more != 0
            && let Ok(Sum { counter, .. }) = sum
            && let Some(draft) = self.draft()
        {
            draft.push(Op::Added { space: to, key: key.into(), more, counter, end_ms });
        }
        Ok(sum.map(|sum| sum.sum))
    }

    fn scan(
        &mut self,
        of: WitSpace,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: u32,
    ) -> Answer<Vec<(Vec<u8>, Vec<u8>)>> {
        let now_ms = self.now_ms();
        let Some(cell) = self.cell().cloned() else {
            return Ok(Err(Error::NotHere));
        };
        let count_max = limit.min(SCAN_VALUES_MAX) as usize;
        let (mut found, mut after) = (Vec::new(), after.map(Arc::from));
        self.in_pieces(|_| {
            let values = cell.values(space(of)).lock();
            after = values.scan(&prefix, after.as_deref(), count_max, now_ms, &mut found);
            after.is_none().then_some(())
        })?;
        Ok(Ok(found))
    }

    fn set_capacity(&mut self, of: WitSpace, entries: u64) -> wasmtime::Result<()> {
        let Some(cell) = self.cell().cloned() else {
            return Ok(());
        };
        self.account.state().has_cache(&cell);
        self.in_pieces(|_| cell.values(space(of)).lock().set_capacity(entries).then_some(()))
    }

    fn len(&mut self, of: WitSpace) -> wasmtime::Result<u64> {
        let now_ms = self.now_ms();
        let Some(cell) = self.cell().cloned() else {
            return Ok(0);
        };
        let len = self.in_pieces(|_| cell.values(space(of)).lock().len(now_ms))?;
        Ok(len as u64)
    }

    fn quota(&mut self, key_bytes: u32, value_bytes: u32) -> wasmtime::Result<u64> {
        let bytes = u64::from(key_bytes) + u64::from(value_bytes) + ENTRY_BYTES;
        Ok(self.account.state().entries_of(bytes))
    }
}
