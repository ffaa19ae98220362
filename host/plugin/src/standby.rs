//! The exchange type that stands in for one whose plugin cannot answer, where the operator chose that
//! (`on-failure = { fallback = "direct" }`).
//!
//! It is one of the core types: these come with the broker, are there for every virtual host, cannot be
//! switched off, and leave no decision to another type. So nothing stands in for what stands in, and no
//! chain of fallbacks can go round.
//!
//! A core type that stands in has a place beside the chain of an exchange's types, with the bindings of
//! the exchange and the arguments of the type it stands in for. That place is a [`Layer`] with a number
//! of its own, so instances, memories and audits treat it as they treat every other.

use crate::scope::CORE_TYPES;
use leveret_broker::{
    exchange::{Exchange, Settings, TypeSpec},
    port::Layer,
};
use leveret_model::Name;
use std::borrow::Cow;

/// Set in the number of a place beside the chain.
const STANDBY: u8 = 0x80;
/// The bits of the layer beside which it is. There are at most [`TYPES_MAX`](crate::worker::TYPES_MAX).
const LAYER_BITS: u32 = 3;

/// The place of a core type that stands in for the type at a layer. `None` for a type that cannot, and
/// beside a place of this kind.
pub(crate) fn beside(layer: Layer, core_type: &[u8]) -> Option<Layer> {
    let core = (0_u8..).zip(CORE_TYPES).find(|(_, name)| name.as_bytes() == core_type)?.0;
    (layer.0 < 1 << LAYER_BITS).then_some(Layer(STANDBY | core << LAYER_BITS | layer.0))
}

/// The places beside a layer.
pub(crate) fn all_beside(layer: Layer) -> impl Iterator<Item = Layer> {
    CORE_TYPES.into_iter().filter_map(move |core_type| beside(layer, core_type.as_bytes()))
}

/// The type of an exchange at a layer, or at a place beside one.
pub(crate) fn spec_at(exchange: &Exchange, layer: Layer) -> Option<Cow<'_, TypeSpec>> {
    if layer.0 & STANDBY == 0 {
        return exchange.types().get(usize::from(layer.0)).map(Cow::Borrowed);
    }
    let core_type = CORE_TYPES.get(usize::from((layer.0 & !STANDBY) >> LAYER_BITS))?;
    let beside = exchange.types().get(usize::from(layer.0 & ((1 << LAYER_BITS) - 1)))?;
    Some(Cow::Owned(TypeSpec {
        type_name: Name::from_static(core_type),
        arguments: beside.arguments.clone(),
        in_front_of: None,
    }))
}

/// The same with these arguments of the exchange.
pub(crate) fn spec_with(settings: &Settings, exchange: &Exchange, layer: Layer) -> Option<TypeSpec> {
    let mut spec = spec_at(exchange, layer)?.into_owned();
    let base = if layer.0 & STANDBY == 0 { layer } else { Layer(layer.0 & ((1 << LAYER_BITS) - 1)) };
    spec.arguments = settings.spec(exchange.types(), base)?.arguments;
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::TYPES_MAX;
    use std::collections::HashSet;

    #[test]
    fn each_place_is_its_own_and_beside_its_layer() {
        let mut places = HashSet::new();
        for layer in (0..TYPES_MAX as u8).map(Layer) {
            assert!(places.insert(layer));
            for place in all_beside(layer) {
                assert!(places.insert(place), "{place:?}");
                assert_eq!(beside(place, b"direct"), None, "nothing stands in for what stands in");
            }
        }
        assert_eq!(places.len(), TYPES_MAX * (1 + CORE_TYPES.len()));
        assert_eq!(beside(Layer(0), b"x-other"), None);
    }
}
