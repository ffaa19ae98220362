//! Other arguments for an exchange in use: its types are asked before they are committed.
//!
//! Two fresh instances of each type are asked, beside those that serve: one that opens the exchange with the
//! new arguments, as every instance that is made from then on will, and, where the plugin can be told of
//! arguments, one that has the exchange as it is and is told. What either refuses changes nothing anywhere.
//! Once committed they are a generation of the exchange, so each instance that serves follows before it
//! is asked about the next message (`replica/reconfigure.rs`).

use super::{Worker, chain::layers, homes::NotServed, refusal, version_of};
use crate::{
    guest::{Refused, check_arguments},
    replica::Replica,
    version::{Version, VersionId},
};
use leveret_broker::{
    exchange::{Exchange, ExchangeId, Settings, is_own},
    port::Layer,
};
use leveret_model::{Name, Refusal};
use std::sync::Arc;

/// Instances that took arguments which are not committed yet.
#[derive(Default)]
pub(super) struct Trial {
    /// Of which exchange, and the number of the arguments.
    of: Option<(ExchangeId, u64)>,
    asked: Vec<Asked>,
}

struct Asked {
    layer: Layer,
    version: VersionId,
    /// Opened with the new arguments.
    opened: Replica,
    /// Told of them.
    told: Replica,
}

impl Worker {
    /// [`Router::reconfigure`](leveret_broker::port::Router::reconfigure).
    pub(super) fn try_settings(
        &mut self,
        exchange: &Arc<Exchange>,
        settings: &Arc<Settings>,
    ) -> Result<(), Refusal> {
        let of = Some((exchange.id, settings.number));
        let again = self.trial.of == of;
        let mut trial = std::mem::take(&mut self.trial);
        if !again {
            trial.asked.clear();
            self.check_stages(exchange, settings)?;
        }
        for (layer, spec) in layers(exchange).filter(|(layer, _)| is_own(exchange.types(), *layer)) {
            let version = version_of(&self.registry, exchange, &spec.type_name)?;
            self.try_layer(exchange, layer, (&version, &spec.type_name), settings, &mut trial)?;
        }
        if !again {
            // The second time is the last one.
            trial.of = of;
            self.trial = trial;
        }
        Ok(())
    }

    fn try_layer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        (version, type_name): (&Arc<Version>, &Name),
        settings: &Arc<Settings>,
        trial: &mut Trial,
    ) -> Result<(), Refusal> {
        let refused = |refused: Refused| {
            refusal(
                exchange,
                match refused {
                    Refused::ByPlugin(text) => NotServed::Refused(text),
                    Refused::Failed(failure) => NotServed::Failed(failure.to_string()),
                },
            )
        };
        if let Some(described) = version.describes(type_name) {
            let checked = check_arguments(&settings.own_arguments(), &described.arguments);
            checked.map_err(|text| refused(Refused::ByPlugin(text)))?;
        }
        let is_this = |asked: &Asked| asked.layer == layer && asked.version == version.id;
        let place = match trial.asked.iter().position(is_this) {
            Some(place) => place,
            None => {
                let fresh = || self.homes.to_try(version, &exchange.vhost).map_err(|f| refused(f.into()));
                let (opened, told) = (fresh()?, fresh()?);
                trial.asked.push(Asked { layer, version: version.id, opened, told });
                trial.asked.len() - 1
            }
        };
        if let Some(asked) = trial.asked.get_mut(place) {
            asked.opened.try_opened_with(exchange, layer, settings).map_err(refused)?;
            asked.told.try_told_of(exchange, layer, settings).map_err(refused)?;
        }
        Ok(())
    }

    /// An exchange keeps its types.
    fn check_stages(&self, exchange: &Exchange, settings: &Settings) -> Result<(), Refusal> {
        let mut wanted = self.registry.stages_for(&exchange.vhost, &settings.arguments);
        wanted.retain(|name| *name != exchange.spec.type_name);
        let in_front = layers(exchange).filter(|(_, spec)| spec.in_front_of.is_some());
        let there: Vec<Name> = in_front.map(|(_, spec)| spec.type_name.clone()).collect();
        if wanted == there {
            return Ok(());
        }
        let names = |types: &[Name]| match types {
            [] => String::from("none"),
            types => types.iter().map(Name::to_text).collect::<Vec<_>>().join(", "),
        };
        let text = format!(
            "an exchange keeps the types in front of its own ({}), and these arguments ask for {}; delete it and \
             declare it anew",
            names(&there),
            names(&wanted)
        );
        Err(refusal(exchange, NotServed::Refused(text)))
    }
}
