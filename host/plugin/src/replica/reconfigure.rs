//! An exchange whose arguments changed: the instance is told (`exchange-type-reconfigure`), or the exchange
//! is opened anew.

use super::{Replica, Seat, begin_setup, check_reads};
use crate::{
    capability::unix_ms,
    guest::{InnerType, Opened, Refused},
    standby::spec_with,
    state::{Cell, Usage},
};
use leveret_broker::{
    exchange::{Exchange, Settings},
    port::Layer,
    store::StoreFailure,
};
use leveret_model::Table;
use std::sync::Arc;

/// How an instance took other arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// It knows them, and the bindings as before.
    Them,
    /// The exchange was opened anew, with all bindings of now.
    Anew,
}

impl Replica {
    /// From now on it works on copies of the state, which go with it. For an instance that knows of no
    /// exchange yet.
    pub(crate) fn only_try(mut self) -> Self {
        self.tries = true;
        self
    }

    /// The state of a type of an exchange, where the plugin imports anything.
    pub(super) fn cell_of(
        &self,
        exchange: &Exchange,
        layer: Layer,
    ) -> Result<Option<Arc<Cell>>, StoreFailure> {
        if !self.version.code.has_capabilities() {
            return Ok(None);
        }
        let account = self.services.accounts.of_instance(&self.version, &exchange.vhost);
        let cell = self.services.cells.of_exchange(exchange, layer, (unix_ms(), &account))?;
        if !self.version.on_trial {
            cell.begin_writing(&self.version);
        }
        Ok(Some(if self.tries { Arc::new(cell.fork(&Arc::new(Usage::unlimited()))) } else { cell }))
    }

    /// Whether an exchange would be opened anew because of other arguments.
    pub(super) fn opens_anew(&self, seat: &Seat, exchange: &Exchange, layer: Layer) -> bool {
        let settings = exchange.settings();
        !self.version.code.exported.reconfigure
            && settings.number != seat.settings.number
            && arguments(&settings, exchange, layer) != arguments(&seat.settings, exchange, layer)
    }

    /// Opens an exchange with arguments that it does not have yet, and tells all bindings; where that is
    /// done already, tells what changed since.
    pub(crate) fn try_opened_with(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        settings: &Arc<Settings>,
    ) -> Result<(), Refused> {
        match self.seats.get(&(exchange.id, layer)).map(|seat| seat.generation) {
            None => self.open_and_replay(exchange, layer, Some(settings)),
            Some(generation) => match exchange.changes_since(generation) {
                Ok(changes) => self.tell_changes(exchange, layer, changes),
                Err(_lagging) => {
                    self.close_seat((exchange.id, layer))?;
                    self.open_and_replay(exchange, layer, Some(settings))
                }
            },
        }
    }

    /// Opens an exchange as it is now and tells it of arguments that it does not have yet; where that is
    /// done already, tells what changed since. Nothing where the plugin wants it opened anew instead.
    pub(crate) fn try_told_of(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        settings: &Arc<Settings>,
    ) -> Result<(), Refused> {
        if !self.version.code.exported.reconfigure {
            return Ok(());
        }
        match self.seats.get(&(exchange.id, layer)).map(|seat| seat.generation) {
            None => {
                self.open_and_replay(exchange, layer, None)?;
                self.tell_settings(exchange, layer, settings).map(drop)
            }
            Some(generation) => match exchange.changes_since(generation) {
                Ok(changes) => self.tell_changes(exchange, layer, changes),
                Err(_lagging) => {
                    self.close_seat((exchange.id, layer))?;
                    self.open_and_replay(exchange, layer, None)?;
                    self.tell_settings(exchange, layer, settings).map(drop)
                }
            },
        }
    }

    /// Brings a seat to these arguments. An instance that does not take what another one took before they
    /// were committed is no reason to stay behind: the exchange is opened anew.
    pub(super) fn take_settings(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        settings: &Arc<Settings>,
    ) -> Result<Took, Refused> {
        let key = (exchange.id, layer);
        if self.seats.get(&key).is_none_or(|seat| seat.settings.number == settings.number) {
            return Ok(Took::Them);
        }
        match self.tell_settings(exchange, layer, settings) {
            Ok(true) => return Ok(Took::Them),
            Ok(false) => {}
            Err(Refused::Failed(failure)) => return Err(Refused::Failed(failure)),
            Err(Refused::ByPlugin(text)) => tracing::warn!(
                target: "leveret::plugin",
                plugin = self.version.code.plugin, vhost = %exchange.vhost, exchange = %exchange.spec.name,
                "an instance refuses arguments that another one took, and opens the exchange anew: {text}"
            ),
        }
        self.close_seat(key)?;
        self.open_and_replay(exchange, layer, None)?;
        Ok(Took::Anew)
    }

    /// Tells the instance of other arguments. False if the exchange is to be opened anew instead.
    fn tell_settings(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        settings: &Arc<Settings>,
    ) -> Result<bool, Refused> {
        let Some(seat) = self.seats.get_mut(&(exchange.id, layer)) else { return Ok(false) };
        let new = arguments(settings, exchange, layer);
        if new == arguments(&seat.settings, exchange, layer) {
            // Others changed, which this type is not given.
            seat.settings = settings.clone();
            return Ok(true);
        }
        begin_setup(&mut self.instance, seat, layer);
        let Some(opened) = self.instance.reconfigure(seat.guest_id, &new)? else {
            return Ok(false);
        };
        let Opened { reads, inner, bindings } = opened;
        check_reads(&reads, seat.grants)?;
        same_inner(exchange, layer, inner.as_ref())?;
        if bindings != seat.bindings {
            return Ok(false);
        }
        seat.reads = Arc::new(reads);
        seat.settings = settings.clone();
        Ok(true)
    }
}

/// The arguments that a type of an exchange is opened with.
fn arguments(settings: &Settings, exchange: &Exchange, layer: Layer) -> Table {
    spec_with(settings, exchange, layer).map(|spec| spec.arguments).unwrap_or_default()
}

/// Whether a type wants the inner type that the exchange was declared with.
pub(super) fn same_inner(
    exchange: &Exchange,
    layer: Layer,
    inner: Option<&InnerType>,
) -> Result<(), Refused> {
    let types = exchange.types();
    let in_front = types.get(usize::from(layer.0)).is_some_and(|spec| spec.in_front_of.is_some());
    let behind = types.get(usize::from(layer.0) + 1).filter(|_| !in_front);
    let is_same = match (inner, behind) {
        (None, None) => true,
        (Some(inner), Some(spec)) => inner.type_name == spec.type_name && inner.arguments == spec.arguments,
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    Err(Refused::ByPlugin(String::from("it wants another inner type than the exchange was declared with")))
}
