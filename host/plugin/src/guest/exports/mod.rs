//! The calls of the contract, whichever version a component was made for: in the vocabulary of the
//! broker on this side, in the generated types of that version on the other.
//!
//! One file for each version. What an older version does not have is answered here as the contract
//! says it is where a plugin does not export it.

mod v0_1;
mod v0_2;

use super::{
    answer::PlainDecision,
    description::{AttachmentPoint, Description, InterceptorDescription, Opened},
    instance::Refused,
    lower::PlainMessage,
    state::GuestState,
    verdict::Verdicts,
};
use crate::contract::{ContractVersion, Exported};
use leveret_broker::exchange::{Binding, BindingId};
use leveret_model::{Name, Reads, Table, Value};
use wasmtime::{Store, component::InstancePre};

/// What an exchange is opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'a> {
    /// The exchange's name.
    pub(crate) name: &'a Name,
    /// The virtual host.
    pub(crate) vhost: &'a Name,
    /// The type that is opened: the declared one, an inner one, or one in front.
    pub(crate) type_name: &'a Name,
    /// The arguments for that type.
    pub(crate) arguments: &'a Table,
    /// The type that it is put in front of.
    pub(crate) in_front_of: Option<&'a Name>,
}

/// What an interceptor is opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attaching<'a> {
    /// Its name.
    pub(crate) interceptor: &'a str,
    /// Where on a message's way.
    pub(crate) point: AttachmentPoint,
    /// The virtual host.
    pub(crate) vhost: &'a Name,
    /// The arguments by the operator.
    pub(crate) arguments: &'a Table,
}

/// Where the exports of a component are; made once for it.
pub(crate) enum Indices {
    V0_1(v0_1::Indices),
    V0_2(Box<v0_2::Indices>),
}

/// The exports of an instance.
pub(crate) enum Exports {
    V0_1(v0_1::Exports),
    V0_2(Box<v0_2::Exports>),
}

type Context<'a> = &'a mut Store<GuestState>;

impl Indices {
    /// Finds the exports of a component that keeps the contract.
    pub(crate) fn new(pre: &InstancePre<GuestState>, exported: &Exported) -> wasmtime::Result<Self> {
        Ok(match exported.version {
            ContractVersion::V0_1 => Self::V0_1(v0_1::Indices::new(pre, exported)?),
            ContractVersion::V0_2 => Self::V0_2(Box::new(v0_2::Indices::new(pre, exported)?)),
        })
    }

    /// The exports of this instance.
    pub(crate) fn load(
        &self,
        store: Context<'_>,
        instance: &wasmtime::component::Instance,
    ) -> wasmtime::Result<Exports> {
        Ok(match self {
            Self::V0_1(indices) => Exports::V0_1(indices.load(store, instance)?),
            Self::V0_2(indices) => Exports::V0_2(Box::new(indices.load(store, instance)?)),
        })
    }
}

/// A call may fail in two ways: the guest traps (outer error), or its answer breaks the contract or
/// refuses (inner).
pub(super) type Called<T, E> = wasmtime::Result<Result<T, E>>;

impl Exports {
    /// Whether it takes many messages in one call.
    pub(super) fn has_batch(&self) -> bool {
        match self {
            Self::V0_1(exports) => exports.has_batch(),
            Self::V0_2(exports) => exports.has_batch(),
        }
    }

    /// Whether it says which messages bindings can concern.
    pub(super) fn has_marks(&self) -> bool {
        match self {
            Self::V0_1(_) => false,
            Self::V0_2(exports) => exports.has_marks(),
        }
    }

    pub(super) fn describe(&self, store: Context<'_>) -> Called<Description, String> {
        match self {
            Self::V0_1(exports) => exports.describe(store),
            Self::V0_2(exports) => exports.describe(store),
        }
    }

    pub(super) fn open(&self, store: Context<'_>, id: u32, opening: Opening<'_>) -> Called<Opened, Refused> {
        match self {
            Self::V0_1(exports) => exports.open(store, id, opening),
            Self::V0_2(exports) => exports.open(store, id, opening),
        }
    }

    pub(super) fn close(&self, store: Context<'_>, id: u32) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(exports) => exports.close(store, id),
            Self::V0_2(exports) => exports.close(store, id),
        }
    }

    pub(super) fn bind(&self, store: Context<'_>, id: u32, bindings: &[&Binding]) -> Called<Reads, Refused> {
        match self {
            Self::V0_1(exports) => exports.bind(store, id, bindings),
            Self::V0_2(exports) => exports.bind(store, id, bindings),
        }
    }

    pub(super) fn unbind(&self, store: Context<'_>, id: u32, ids: &[BindingId]) -> Called<Reads, String> {
        let ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        match self {
            Self::V0_1(exports) => exports.unbind(store, id, &ids),
            Self::V0_2(exports) => exports.unbind(store, id, &ids),
        }
    }

    pub(super) fn route(
        &self,
        store: Context<'_>,
        id: u32,
        message: &PlainMessage<'_>,
    ) -> wasmtime::Result<PlainDecision> {
        match self {
            Self::V0_1(exports) => exports.route(store, id, message),
            Self::V0_2(exports) => exports.route(store, id, message),
        }
    }

    /// The words of the answers to a batch.
    pub(super) fn route_batch(
        &self,
        store: Context<'_>,
        id: u32,
        messages: &[u8],
    ) -> wasmtime::Result<Vec<u64>> {
        match self {
            Self::V0_1(exports) => exports.route_batch(store, id, messages),
            Self::V0_2(exports) => exports.route_batch(store, id, messages),
        }
    }

    /// What messages have that these bindings concern, in the same order.
    pub(super) fn marks(
        &self,
        store: Context<'_>,
        id: u32,
        bindings: &[&Binding],
    ) -> wasmtime::Result<Vec<Vec<u8>>> {
        match self {
            Self::V0_1(_) => Ok(Vec::new()),
            Self::V0_2(exports) => exports.marks(store, id, bindings),
        }
    }

    /// The stored messages for a new binding.
    pub(super) fn bound(&self, store: Context<'_>, id: u32, binding: &Binding) -> wasmtime::Result<Vec<u64>> {
        match self {
            Self::V0_1(_) => Ok(Vec::new()),
            Self::V0_2(exports) => exports.bound(store, id, binding),
        }
    }

    pub(super) fn unbound(&self, store: Context<'_>, id: u32, binding: &Binding) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(_) => Ok(()),
            Self::V0_2(exports) => exports.unbound(store, id, binding),
        }
    }

    pub(super) fn timer(&self, store: Context<'_>, id: u32, name: &[u8]) -> wasmtime::Result<()> {
        match self {
            Self::V0_1(_) => Ok(()),
            Self::V0_2(exports) => exports.timer(store, id, name),
        }
    }

    /// What operators see of an exchange.
    pub(super) fn info(&self, store: Context<'_>, id: u32) -> Called<Vec<(Name, Value)>, String> {
        match self {
            Self::V0_1(_) => Ok(Ok(Vec::new())),
            Self::V0_2(exports) => exports.info(store, id),
        }
    }

    /// `None` where the plugin wants the exchange opened anew instead.
    pub(super) fn reconfigure(
        &self,
        store: Context<'_>,
        id: u32,
        arguments: &Table,
    ) -> Called<Option<Opened>, Refused> {
        match self {
            Self::V0_1(_) => Ok(Ok(None)),
            Self::V0_2(exports) => exports.reconfigure(store, id, arguments),
        }
    }

    /// `None` where the plugin does not migrate.
    pub(super) fn migrate(&self, store: Context<'_>, id: u32, from: &str) -> Called<Option<()>, String> {
        match self {
            Self::V0_1(_) => Ok(Ok(None)),
            Self::V0_2(exports) => exports.migrate(store, id, from),
        }
    }

    pub(super) fn describe_interceptors(
        &self,
        store: Context<'_>,
    ) -> Called<Option<(String, Vec<InterceptorDescription>)>, String> {
        match self {
            Self::V0_1(_) => Ok(Ok(None)),
            Self::V0_2(exports) => exports.describe_interceptors(store),
        }
    }

    pub(super) fn attach(
        &self,
        store: Context<'_>,
        id: u32,
        attaching: Attaching<'_>,
    ) -> Called<Reads, Refused> {
        match self {
            Self::V0_1(_) => Ok(Err(Refused::ByPlugin(String::from("it is no interceptor")))),
            Self::V0_2(exports) => exports.attach(store, id, attaching),
        }
    }

    /// Whether it takes many messages to intercept in one call.
    pub(super) fn has_intercept_batch(&self) -> bool {
        match self {
            Self::V0_1(_) => false,
            Self::V0_2(exports) => exports.has_intercept_batch(),
        }
    }

    pub(super) fn intercept(
        &self,
        store: Context<'_>,
        id: u32,
        message: &PlainMessage<'_>,
    ) -> Called<Verdicts, String> {
        match self {
            Self::V0_1(_) => Ok(Err(String::from("it is no interceptor"))),
            Self::V0_2(exports) => exports.intercept(store, id, message),
        }
    }

    /// The bytes of the verdicts on a batch.
    pub(super) fn intercept_batch(
        &self,
        store: Context<'_>,
        id: u32,
        messages: &[u8],
    ) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::V0_1(_) => Ok(Vec::new()),
            Self::V0_2(exports) => exports.intercept_batch(store, id, messages),
        }
    }
}
