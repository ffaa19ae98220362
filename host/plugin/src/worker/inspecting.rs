//! What the types of an exchange show operators (`exchange-type-info`).
//!
//! An instance that fails at it is lost, and its failure is noted; no message meets it.

use super::{Worker, chain::layers, homes::NotServed, refusal, version_of};
use crate::replica::About;
use leveret_broker::{exchange::Exchange, port::Layer};
use leveret_model::{Name, Value};
use std::sync::Arc;

/// What one type of an exchange shows.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerInfo {
    /// Its place among the exchange's types; 0 is in front.
    pub layer: Layer,
    /// Its name.
    pub type_name: Name,
    /// The plugin that was asked, and its version; `None` if nothing serves the type.
    pub plugin: Option<(String, String)>,
    /// What it shows, at most 64 fields; none where the plugin has nothing to show. Or why it shows
    /// nothing, for people to read.
    pub shown: Result<Vec<(Name, Value)>, String>,
}

impl Worker {
    /// Asks each type of an exchange what it shows operators, those in front first. Takes as long as it
    /// takes to make an instance that knows the exchange: not for a worker that serves clients.
    pub fn info(&mut self, exchange: &Arc<Exchange>) -> Vec<LayerInfo> {
        let mut shown = Vec::with_capacity(exchange.types().len());
        for (layer, spec) in layers(exchange) {
            let (plugin, fields) = match version_of(&self.registry, exchange, &spec.type_name) {
                Err(refusal) => (None, Err(refusal.to_string())),
                Ok(version) => {
                    let about = About { exchange, layer, on_hand: None };
                    let fields = self.homes.inspect(&version, about, |replica| replica.info(about));
                    let told = |not_served| match not_served {
                        NotServed::Failed(what) => what,
                        other => refusal(exchange, other).to_string(),
                    };
                    let plugin = (version.code.plugin.clone(), version.description.version.clone());
                    (Some(plugin), fields.map_err(told))
                }
            };
            self.homes.give_back();
            shown.push(LayerInfo { layer, type_name: spec.type_name.clone(), plugin, shown: fields });
        }
        shown
    }
}
