//! An answer as it is kept: in three words, with the bindings that it names, so that it can be
//! brought up to date when bindings come and go.

use leveret_broker::{
    exchange::{BindingId, RouteSet},
    port::{Answer, Hold, Layer},
};
use std::{rc::Rc, sync::Arc};

/// An answer and what it follows from.
#[derive(Clone)]
pub(crate) enum Kept {
    /// To no binding.
    Nowhere,
    /// To one binding.
    One(BindingId, RouteSet),
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

impl Kept {
    /// The answer itself.
    #[inline]
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Self::Nowhere => Answer::Deliver(RouteSet::default()),
            Self::One(_, routes) => Answer::Deliver(routes.clone()),
            Self::Many(many) => Answer::Deliver(many.routes.clone()),
            Self::Drop(reason, by) => Answer::Drop(reason.as_deref().cloned(), *by),
            Self::Reject(reason, by) => Answer::Reject(Arc::clone(reason), *by),
            Self::Hold(delay_ms, resume) => Answer::Hold(Hold { delay_ms: *delay_ms, resume: *resume }),
        }
    }

    /// The bindings it names, if it delivers.
    pub(crate) fn ids(&self) -> Option<&[BindingId]> {
        match self {
            Self::Nowhere => Some(&[]),
            Self::One(id, _) => Some(std::slice::from_ref(id)),
            Self::Many(many) => Some(&many.ids),
            Self::Drop(..) | Self::Reject(..) | Self::Hold(..) => None,
        }
    }
}

const _: () = assert!(size_of::<Kept>() == 24);
