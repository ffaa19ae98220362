//! Version 0.1.0 of the contract: exchange types, plain and in batches, without capabilities.

use super::{Called, Context, Opening};
use crate::{
    bindings::{
        types_0_1 as types,
        v0_1::exports::leveret::routing::{exchange_type as wit, exchange_type_batch as wit_batch},
    },
    contract::Exported,
    guest::{
        GuestState,
        answer::{self, PlainDecision},
        description::{Description, Opened, PROVIDED_MAX, TypeDescription},
        instance::Refused,
        lower::{self, PlainMessage},
    },
};
use leveret_broker::exchange::Binding;
use leveret_model::{BodyReading, Reads};
use wasmtime::component::InstancePre;

/// Where the exports are.
pub(crate) struct Indices {
    plain: wit::GuestIndices,
    batch: Option<wit_batch::GuestIndices>,
}

/// The exports.
pub(crate) struct Exports {
    plain: wit::Guest,
    batch: Option<wit_batch::Guest>,
}

impl Indices {
    pub(super) fn new(pre: &InstancePre<GuestState>, exported: &Exported) -> wasmtime::Result<Self> {
        Ok(Self {
            plain: wit::GuestIndices::new(pre)?,
            batch: if exported.batch { Some(wit_batch::GuestIndices::new(pre)?) } else { None },
        })
    }

    pub(super) fn load(
        &self,
        store: Context<'_>,
        instance: &wasmtime::component::Instance,
    ) -> wasmtime::Result<Exports> {
        Ok(Exports {
            plain: self.plain.load(&mut *store, instance)?,
            batch: match &self.batch {
                Some(indices) => Some(indices.load(store, instance)?),
                None => None,
            },
        })
    }
}

impl Exports {
    pub(super) fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    pub(super) fn describe(&self, store: Context<'_>) -> Called<Description, String> {
        let description = self.plain.call_describe(store)?;
        if description.exchange_types.len() > PROVIDED_MAX {
            return Ok(Err(format!("it describes more than {PROVIDED_MAX} exchange types")));
        }
        let types = description.exchange_types.into_iter().map(|described| TypeDescription {
            name: described.name,
            summary: answer::shown(&described.summary),
            pure: described.pure,
            independent_bindings: described.independent_bindings,
            ..TypeDescription::default()
        });
        let version = answer::shown(&description.version);
        Ok(Ok(Description { version, types: types.collect(), interceptors: Vec::new() }))
    }

    pub(super) fn open(&self, store: Context<'_>, id: u32, opening: Opening<'_>) -> Called<Opened, Refused> {
        let type_name = opening.type_name.to_text();
        let encoded = lower::encoded(opening.arguments.iter());
        let arguments = lower::fields(opening.arguments.iter(), &mut encoded.iter());
        let declaration =
            wit::Declaration { name: opening.name, exchange_type: &type_name, arguments: &arguments };
        let reads = answered(self.plain.call_open(store, id, declaration)?);
        Ok(reads.map(|reads| Opened { reads, inner: None, bindings: true }))
    }

    pub(super) fn close(&self, store: Context<'_>, id: u32) -> wasmtime::Result<()> {
        self.plain.call_close(store, id)
    }

    pub(super) fn bind(&self, store: Context<'_>, id: u32, bindings: &[&Binding]) -> Called<Reads, Refused> {
        let encoded = lower::encoded_in_bindings(bindings);
        let mut next = encoded.iter();
        let arguments: Vec<_> =
            bindings.iter().map(|binding| lower::fields(binding.arguments.iter(), &mut next)).collect();
        let lowered: Vec<_> = bindings
            .iter()
            .zip(&arguments)
            .map(|(binding, arguments)| types::Binding {
                id: binding.id.0,
                routing_key: &binding.routing_key,
                arguments,
            })
            .collect();
        Ok(answered(self.plain.call_bind(store, id, &lowered)?))
    }

    pub(super) fn unbind(&self, store: Context<'_>, id: u32, ids: &[u64]) -> Called<Reads, String> {
        Ok(checked_reads(self.plain.call_unbind(store, id, ids)?))
    }

    pub(super) fn route(
        &self,
        store: Context<'_>,
        id: u32,
        message: &PlainMessage<'_>,
    ) -> wasmtime::Result<PlainDecision> {
        let message = types::Message {
            routing_key: message.routing_key,
            headers: &message.headers,
            properties: &message.properties,
            body: message.body,
        };
        Ok(match self.plain.call_route(store, id, message)? {
            types::Decision::Deliver(ids) => PlainDecision::Deliver(ids),
            types::Decision::Drop => PlainDecision::Drop(String::new()),
            types::Decision::Reject(reason) => PlainDecision::Reject(reason),
        })
    }

    pub(super) fn route_batch(
        &self,
        store: Context<'_>,
        id: u32,
        messages: &[u8],
    ) -> wasmtime::Result<Vec<u64>> {
        match &self.batch {
            Some(batch) => batch.call_route_batch(store, id, messages),
            None => Ok(Vec::new()),
        }
    }
}

fn answered(answer: Result<types::Reads, String>) -> Result<Reads, Refused> {
    match answer {
        Ok(reads) => checked_reads(reads).map_err(Refused::nonsense),
        Err(text) => Err(Refused::ByPlugin(answer::shown(&text))),
    }
}

fn checked_reads(reads: types::Reads) -> Result<Reads, String> {
    Ok(Reads {
        routing_key: reads.routing_key,
        headers: answer::headers(reads.headers)?,
        properties: answer::properties(&reads.properties)?,
        body: reads.body_limit.map(|bytes_max| BodyReading { bytes_max, rejects_above: false }),
        ..Reads::default()
    })
}
