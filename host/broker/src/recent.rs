//! What a connection published to of late, by name: a look-up without a lock.

use alloc::sync::Arc;
use hashbrown::HashMap;
use leveret_model::Name;

/// How many names one connection remembers; beyond that it forgets them all and begins anew.
const NAMES_MAX: usize = 64;

pub(crate) struct Recent<T> {
    last: Option<(Name, Arc<T>)>,
    by_name: HashMap<Name, Arc<T>, foldhash::fast::RandomState>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { last: None, by_name: HashMap::default() }
    }
}

impl<T> Recent<T> {
    /// The thing of a name: the one remembered, if it is still valid, or the one found.
    pub(crate) fn get(
        &mut self,
        name: &[u8],
        is_valid: impl Fn(&T) -> bool,
        find: impl FnOnce() -> Option<Arc<T>>,
    ) -> Option<&Arc<T>> {
        let is_last = matches!(&self.last, Some((last, thing)) if last.as_bytes() == name && is_valid(thing));
        if !is_last {
            self.last = Some(self.look_up(name, is_valid, find)?);
        }
        self.last.as_ref().map(|(_, thing)| thing)
    }

    fn look_up(
        &mut self,
        name: &[u8],
        is_valid: impl Fn(&T) -> bool,
        find: impl FnOnce() -> Option<Arc<T>>,
    ) -> Option<(Name, Arc<T>)> {
        if let Some((name, thing)) = self.by_name.get_key_value(name)
            && is_valid(thing)
        {
            return Some((name.clone(), thing.clone()));
        }
        self.by_name.remove(name);
        let thing = find()?;
        let name = Name::new(name).ok()?;
        if self.by_name.len() >= NAMES_MAX {
            self.by_name.clear();
        }
        self.by_name.insert(name.clone(), thing.clone());
        Some((name, thing))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn finds_once_while_valid_and_stays_within_its_bound() {
        let mut recent = Recent::default();
        let found = Cell::new(0);
        let mut get = |name: u32, valid: bool| {
            let find = || {
                found.set(found.get() + 1);
                (name != 999).then(|| Arc::new(name))
            };
            recent.get(&name.to_le_bytes(), |_| valid, find).map(|thing| **thing)
        };
        assert_eq!((get(1, true), get(1, true), found.get()), (Some(1), Some(1), 1));
        assert_eq!((get(2, true), get(1, true), found.get()), (Some(2), Some(1), 2));
        assert_eq!((get(1, false), found.get()), (Some(1), 3), "not valid: found again");
        assert_eq!((get(999, true), found.get()), (None, 4), "what is not there is not remembered");
        assert_eq!((get(999, true), found.get()), (None, 5));
        for name in 1000..2000 {
            assert_eq!(get(name, true), Some(name));
        }
        assert!(recent.by_name.len() <= NAMES_MAX);
    }
}
