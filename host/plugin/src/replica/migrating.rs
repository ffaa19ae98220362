//! The state of an exchange while it is handed from one version to the next.

use super::{About, Replica, Seat, SeatKey};
use crate::{
    capability::Purpose,
    guest::Refused,
    services::Services,
    state::{Cell, Inside, Owner, Shut},
    version::VersionId,
};
use leveret_broker::{exchange::Exchange, port::Fate, port::Layer};
use std::sync::Arc;

impl Seat {
    /// Enters its state, if it has one. An error is the state that cannot be entered now.
    pub(super) fn enter(
        &mut self,
        key: SeatKey,
        version: VersionId,
        services: &Services,
    ) -> Result<Option<(Arc<Cell>, Inside)>, Arc<Cell>> {
        let Some(cell) = &mut self.cell else { return Ok(None) };
        let entered = match cell.enter(version) {
            Err(Shut::Retired) => {
                *cell = services.cells.of(Owner::Exchange(key.0, key.1));
                cell.enter(version)
            }
            entered => entered,
        };
        match entered {
            Ok(inside) => Ok(Some((cell.clone(), inside))),
            Err(Shut::ForNow | Shut::Retired) => Err(cell.clone()),
        }
    }
}

impl Replica {
    /// Enters the state of a seat; see [`Seat::enter`].
    pub(super) fn enter(&mut self, key: SeatKey) -> Result<Option<(Arc<Cell>, Inside)>, Arc<Cell>> {
        let Some(seat) = self.seats.get_mut(&key) else { return Ok(None) };
        seat.enter(key, self.version.id, &self.services)
    }

    /// Has the guest take over what another version left for an exchange that it knows, on a copy. Gives
    /// false where it does not migrate.
    pub(crate) fn migrate(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        copy: &Arc<Cell>,
        from_version: &str,
    ) -> Result<bool, Refused> {
        let Some(seat) = self.seats.get(&(exchange.id, layer)) else { return Ok(false) };
        let about = About { exchange, layer, on_hand: None };
        self.instance.begin_call(Some(about.call(copy, Purpose::Migrate, None)));
        let migrated = self.instance.migrate(seat.guest_id, from_version);
        let outcome = self.instance.end_call();
        let migrated = migrated?;
        if let Some(draft) = outcome.draft {
            // What it may do here asks nothing of the broker.
            draft.settle(Fate::Routed, &mut Vec::new());
        }
        Ok(migrated.is_some())
    }
}
