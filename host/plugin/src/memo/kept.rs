//! An answer as it is kept: in three words, with the bindings that it names, so that it can be
//! brought up to date when bindings come and go.

use leveret_broker::{
    exchange::{BindingId, RouteSet},
    port::{Answer, Hold, Layer},
};
use std::{ops::Deref, rc::Rc, sync::Arc};

/// What several bindings take that are none, in bytes.
const MANY_BYTES: usize = 48;

/// An answer and what it follows from.
#[derive(Clone)]
pub(crate) enum Kept {
    /// To no binding.
    Nowhere,
    /// To one binding.
    One(BindingId, RouteSet),
    /// To two whose ids are short. Pairs are what most differ by: they take no memory of their own.
    Two(u32, u32, RouteSet),
    /// To several.
    Many(Rc<Many>),
    /// Nowhere, on purpose, as the type at that layer says.
    Drop(Option<Rc<Arc<str>>>, Layer),
    /// Not accepted, as the type at that layer says.
    Reject(Rc<Arc<str>>, Layer),
    /// Later, or at once, as the types from that layer on decide.
    Hold(u64, Layer),
}

/// Several bindings and where they lead.
pub(crate) struct Many {
    pub(crate) ids: Box<[BindingId]>,
    pub(crate) routes: RouteSet,
}

/// The ids of bindings.
pub(crate) enum Ids<'a> {
    /// As they lie there.
    These(&'a [BindingId]),
    /// Made of their short form.
    Two([BindingId; 2]),
}

impl Default for Ids<'_> {
    fn default() -> Self {
        Self::These(&[])
    }
}

impl Deref for Ids<'_> {
    type Target = [BindingId];

    #[inline]
    fn deref(&self) -> &[BindingId] {
        match self {
            Self::These(ids) => ids,
            Self::Two(ids) => ids,
        }
    }
}

impl Kept {
    /// To these bindings, more than one, and what that takes but for the routes, in bytes.
    pub(crate) fn several(ids: &[BindingId], routes: RouteSet) -> (Self, usize) {
        if let [a, b] = ids
            && let (Ok(a), Ok(b)) = (u32::try_from(a.0), u32::try_from(b.0))
        {
            return (Self::Two(a, b, routes), 0);
        }
        (Self::Many(Rc::new(Many { ids: ids.into(), routes })), MANY_BYTES + size_of_val(ids))
    }

    /// The answer itself.
    #[inline]
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Self::Nowhere => Answer::Deliver(RouteSet::default()),
            Self::One(_, routes) | Self::Two(_, _, routes) => Answer::Deliver(routes.clone()),
            Self::Many(many) => Answer::Deliver(many.routes.clone()),
            Self::Drop(reason, by) => Answer::Drop(reason.as_deref().cloned(), *by),
            Self::Reject(reason, by) => Answer::Reject(Arc::clone(reason), *by),
            Self::Hold(delay_ms, resume) => Answer::Hold(Hold { delay_ms: *delay_ms, resume: *resume }),
        }
    }

    /// The bindings it names, if it delivers.
    pub(crate) fn ids(&self) -> Option<Ids<'_>> {
        match self {
            Self::Nowhere => Some(Ids::default()),
            Self::One(id, _) => Some(Ids::These(std::slice::from_ref(id))),
            Self::Two(a, b, _) => Some(Ids::Two([a, b].map(|id| BindingId(u64::from(*id))))),
            Self::Many(many) => Some(Ids::These(&many.ids)),
            Self::Drop(..) | Self::Reject(..) | Self::Hold(..) => None,
        }
    }
}

const _: () = assert!(size_of::<Kept>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bindings_take_no_memory_while_their_ids_are_short() {
        let long = 1 << 32 | 7;
        for (ids, takes) in [(&[1, 2][..], false), (&[1, long], true), (&[long, 1], true), (&[1, 2, 3], true)]
        {
            let ids: Vec<_> = ids.iter().copied().map(BindingId).collect();
            let (kept, bytes) = Kept::several(&ids, RouteSet::default());
            assert_eq!(kept.ids().as_deref(), Some(&*ids));
            assert_eq!(bytes > 0, takes, "{ids:?}");
        }
    }
}
