//! Where a holder has what it has, and the value that says so (`spaces.rs`).

use crate::store::codec::{self, Malformed, Take, TakeMore, put_name};
use leveret_broker::{
    port::Layer,
    store::{KeptId, StateHolder},
};
use leveret_store::{QueueId, Space};

/// Where a holder's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Place {
    pub(in crate::store) space: Space,
    /// Its messages, if it ever had one.
    pub(in crate::store) queue: Option<QueueId>,
}

/// What a version left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Left {
    /// SHA-256 of the version's bytes.
    pub(in crate::store) digest: [u8; 32],
    pub(in crate::store) place: Place,
}

/// Everything that a holder has in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Places {
    /// What counts.
    pub(in crate::store) now: Option<Place>,
    /// What was put aside, the latest last.
    pub(in crate::store) left: Vec<Left>,
}

impl Places {
    pub(in crate::store) fn is_nothing(&self) -> bool {
        self.now.is_none() && self.left.is_empty()
    }

    /// All of them.
    pub(in crate::store) fn all(&self) -> impl Iterator<Item = Place> {
        self.now.into_iter().chain(self.left.iter().map(|left| left.place))
    }
}

pub(super) fn holder_key(holder: &StateHolder) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    put_name(&mut key, &holder.vhost);
    put_name(&mut key, &holder.exchange);
    key.push(holder.layer.0);
    // Exchanges had none before version 2 of their values.
    if holder.number.0 != 0 {
        key.extend_from_slice(&holder.number.0.to_be_bytes());
    }
    key
}

/// Reads both.
pub(super) fn take_holder(key: &[u8], value: &[u8]) -> Result<(StateHolder, Places), Malformed> {
    let mut key = Take(key);
    let mut holder = take_holder_key(&mut key)?;
    // Exchanges had no number before version 2 of their values.
    holder.number = KeptId(if key.0.is_empty() { 0 } else { key.u64_sorted()? });
    let mut value = Take(value);
    let has_left = value.is_version_2()?;
    let now = Some(take_place(&mut value)?).filter(|place| place.space.0 != 0);
    let mut left = Vec::new();
    for _ in 0..if has_left { value.u8()? } else { 0 } {
        let digest = value.bytes(32)?.try_into().map_err(|_| Malformed)?;
        let place = take_place(&mut value)?;
        left.push(Left { digest, place });
    }
    Ok((holder, Places { now, left }))
}

/// Takes whose it is, but for the number.
pub(super) fn take_holder_key(key: &mut Take<'_>) -> Result<StateHolder, Malformed> {
    let (vhost, exchange, layer) = (key.name()?, key.name()?, Layer(key.u8()?));
    Ok(StateHolder { vhost, exchange, number: KeptId(0), layer })
}

fn take_place(value: &mut Take<'_>) -> Result<Place, Malformed> {
    let (space, queue) = (Space(value.u64()?), value.u64()?);
    Ok(Place { space, queue: Some(QueueId(queue)).filter(|queue| queue.0 != 0) })
}

fn put_place(value: &mut Vec<u8>, place: Option<Place>) {
    let (space, queue) = place.map_or((0, None), |place| (place.space.0, place.queue));
    value.extend_from_slice(&space.to_le_bytes());
    value.extend_from_slice(&queue.map_or(0, |queue| queue.0).to_le_bytes());
}

pub(super) fn holder_value(Places { now, left }: &Places) -> Vec<u8> {
    let mut value = vec![if left.is_empty() { codec::VERSION } else { codec::VERSION_2 }];
    put_place(&mut value, *now);
    if !left.is_empty() {
        let left = left.get(..usize::from(u8::MAX)).unwrap_or(left);
        value.push(left.len() as u8);
        for Left { digest, place } in left {
            value.extend_from_slice(digest);
            put_place(&mut value, Some(*place));
        }
    }
    value
}
