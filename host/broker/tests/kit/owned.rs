//! What a disk keeps of what it was told by reference.

use leveret_broker::{
    ExchangeSpec,
    exchange::TypeSpec,
    port::Layer,
    store::{BindingSpec, KeptId},
};
use leveret_model::{Name, Table};

#[derive(Clone)]
pub(super) struct OwnedHold {
    pub(super) due_ms: u64,
    pub(super) exchange: Name,
    pub(super) resume: Layer,
    pub(super) hops: u8,
}

pub(super) struct OwnedExchange {
    pub(super) id: KeptId,
    pub(super) spec: ExchangeSpec,
    pub(super) arguments: Table,
    pub(super) types: Vec<TypeSpec>,
}

#[derive(Clone, PartialEq)]
pub(super) struct OwnedBinding {
    pub(super) source: Name,
    pub(super) to_queue: bool,
    pub(super) destination: Name,
    pub(super) routing_key: Name,
    pub(super) arguments: Table,
}

impl OwnedBinding {
    pub(super) fn of(spec: BindingSpec<'_>) -> Self {
        Self {
            source: spec.source.clone(),
            to_queue: spec.to_queue,
            destination: spec.destination.clone(),
            routing_key: spec.routing_key.clone(),
            arguments: spec.arguments.clone(),
        }
    }

    pub(super) fn spec(&self) -> BindingSpec<'_> {
        let Self { source, to_queue, destination, routing_key, arguments } = self;
        BindingSpec { source, to_queue: *to_queue, destination, routing_key, arguments }
    }
}
