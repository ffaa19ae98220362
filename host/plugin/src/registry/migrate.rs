//! The state of exchanges on its way from one version of a plugin to the next, and back.
//!
//! *Forward.* A version that exports `exchange-type-migrate` is called for each exchange that has state
//! which another version of the plugin wrote, on a copy. Meanwhile nobody works on what is copied: its gate
//! is closed first, calls that are inside leave with their effects committed or undone, and messages to that
//! exchange wait outside (their channels wait, as for a slow plugin) until the swap is done or refused. So no
//! write comes between copy and swap, and none is lost; the price is a pause of those exchanges alone,
//! [`MIGRATION_MAX`] at the longest. Exchanges without state, and versions that do not migrate, have no
//! pause.
//!
//! *Back.* What was copied from is kept, of up to two versions before, and is put back when somebody goes to the
//! version that left it, or to one that shares its state (`forms.rs`); what was written since is discarded, and the
//! report says how much. An exchange that had no state then has none again. Where neither is so, the version is
//! refused: nothing is discarded for want of something to put back. What versions left is in the store where the state is, and is dropped
//! when its version is not kept any more.

use super::{
    LoadError, Registry, Stage, StateChange,
    forms::Forms,
    kept::PluginKey,
    replay::{Replayed, Replicas},
};
use crate::{
    artifact::Digest,
    builder::Place,
    guest::Refused,
    scope::Scope,
    state::{Cell, Older, Owner, Usage, Writer, going_back},
    version::Version,
};
use hashbrown::HashMap;
use leveret_broker::{exchange::Exchange, port::Layer, store::Change};
use leveret_model::Name;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long exchanges wait for their state to be migrated; a version that takes longer is refused. What
/// has more state than fits can migrate values when it reads them.
pub const MIGRATION_MAX: Duration = Duration::from_secs(2);

/// Where a version comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is offered.
    Forward,
    /// Somebody went back to it.
    Back,
}

/// State that takes the place of other state with a swap. Dropped before it is finished, everything is as
/// it was.
#[must_use]
pub(super) struct Handover {
    /// What is told of it.
    pub(super) told: StateChange,
    moves: Vec<Move>,
    /// The same for the store.
    in_store: Vec<Change>,
    /// Those that nobody works on until this is finished, with those that stay.
    closed: Vec<Arc<Cell>>,
}

struct Move {
    owner: Owner,
    vhost: Name,
    from: Arc<Cell>,
    to: Arc<Cell>,
    before: Before,
}

/// What becomes of the state that was there before.
enum Before {
    /// It is kept as what that version left.
    Kept(Writer),
    /// It is discarded for what that older version left.
    Discarded(Digest),
}

impl Move {
    /// What the store is told.
    fn in_store(&self, by: &Writer) -> Vec<Change> {
        let Some(holder) = self.from.holder() else { return Vec::new() };
        match &self.before {
            Before::Kept(writer) => self.to.snapshot_beside(holder, by, writer),
            Before::Discarded(left_by) => going_back(holder, *left_by, by),
        }
    }
}

/// A type of an exchange with its state, and who writes it or did last.
struct Stateful<'a> {
    place: &'a (Arc<Exchange>, Layer),
    owner: Owner,
    cell: Arc<Cell>,
    writer: Writer,
}

impl Handover {
    fn nothing() -> Self {
        Self { told: StateChange::default(), moves: Vec::new(), in_store: Vec::new(), closed: Vec::new() }
    }

    /// Keeps everybody out of a state until this is finished.
    fn close(&mut self, exchange: &Exchange, cell: &Arc<Cell>, until: Instant) -> Result<(), String> {
        self.closed.push(cell.clone());
        if cell.close(until) {
            return Ok(());
        }
        Err(about(
            exchange,
            &format!("is asked about messages for more than {} ms", MIGRATION_MAX.as_millis()),
        ))
    }

    fn replace(&mut self, exchange: &Exchange, stateful: &Stateful<'_>, to: Arc<Cell>, before: Before) {
        // Opened with the rest: until then it may be found, and not be worked on.
        to.close(Instant::now());
        self.moves.push(Move {
            owner: stateful.owner,
            vhost: exchange.vhost.clone(),
            from: stateful.cell.clone(),
            to,
            before,
        });
    }

    /// Puts what an older version left in the place of a state.
    fn discard(
        &mut self,
        it: Stateful<'_>,
        (left_by, left): (Digest, Cell),
        until: Instant,
    ) -> Result<(), String> {
        let exchange = &it.place.0;
        self.close(exchange, &it.cell, until)?;
        let (entries, bytes) = it.cell.size();
        self.told.discarded_entries += entries;
        self.told.discarded_bytes += bytes;
        self.replace(exchange, &it, Arc::new(left), Before::Discarded(left_by));
        Ok(())
    }

    /// The swap is done: whoever waits looks up what serves.
    pub(super) fn finish(self) {
        self.moves.iter().for_each(|it| it.to.reopen());
        self.moves.iter().for_each(|it| it.from.retire());
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let moved = |cell: &Arc<Cell>| self.moves.iter().any(|it| Arc::ptr_eq(&it.from, cell));
        for cell in &self.closed {
            // What moved is retired if this was finished.
            if !moved(cell) || cell.is_closed() {
                cell.reopen();
            }
        }
    }
}

impl Registry {
    /// Prepares the state for a version that is to take these exchanges over, and keeps everybody out of it
    /// until the swap.
    pub(super) fn prepare_state(
        &self,
        version: &Arc<Version>,
        old: Option<&Version>,
        replayed: &mut Replayed,
        way: Way,
    ) -> Result<Handover, LoadError> {
        let prepared = match way {
            Way::Forward => self.migrate_all(version, replayed),
            Way::Back => self.restore(version, old, replayed),
        };
        let mut handover = prepared.map_err(LoadError::at(Stage::Migrate))?;
        let writer = Writer::of(version);
        handover.in_store = handover.moves.iter().flat_map(|it| it.in_store(&writer)).collect();
        Ok(handover)
    }

    /// Puts the state into its places, in the store first. Whoever finds it waits until the handover is
    /// finished.
    ///
    /// # Errors
    /// The store does not take it: nothing has changed.
    pub(super) fn hand_over_state(
        &self,
        handover: &Handover,
        old: Option<&Version>,
        version: &Arc<Version>,
        places: &[(Arc<Exchange>, Layer)],
    ) -> Result<(), LoadError> {
        let cells = &self.services.cells;
        if !handover.in_store.is_empty() {
            let written = cells.store().append(&handover.in_store);
            written.map_err(|failure| LoadError::at(Stage::Migrate)(failure.to_string()))?;
        }
        for Move { owner, vhost, from, to, before } in &handover.moves {
            let account = self.services.accounts.of_instance(version, vhost);
            match before {
                Before::Kept(writer) => {
                    from.charge_to(account.state_kept());
                    let (writer, vhost, cell) = (writer.clone(), vhost.clone(), from.clone());
                    cells.keep_older(*owner, Older { writer, vhost, cell });
                }
                Before::Discarded(left_by) => cells.forget_older_from(*owner, *left_by),
            }
            to.charge_to(account.state());
            to.takes_place_of(from, version.code.digest);
            // One of its instances that is made just now must not write what the new version does not read.
            to.bar(old.map(|old| old.id));
            cells.replace(*owner, to.clone());
        }
        for (exchange, layer) in places {
            let account = self.services.accounts.of_instance(version, &exchange.vhost);
            exchange.charge_held(*layer, account.held());
            if let Some(cell) = cells.find(Owner::Exchange(exchange.id, *layer)) {
                cell.set_writer(version);
            }
        }
        Ok(())
    }

    /// Has a version that serves other exchanges take over the state of these.
    pub(super) fn take_over(
        &self,
        version: &Arc<Version>,
        old: &Version,
        replayed: &mut Replayed,
        publish: impl FnOnce(),
    ) -> Result<(), LoadError> {
        let handover = self.prepare_state(version, Some(old), replayed, Way::Forward)?;
        self.hand_over_state(&handover, Some(old), version, &replayed.places)?;
        publish();
        handover.finish();
        Ok(())
    }

    /// Whether what an exchange has of the plugin of a version is in the form of other versions than the one of these
    /// bytes.
    pub(super) fn is_of_other_form(&self, exchange: &Exchange, serving: &Version, digest: Digest) -> bool {
        let (forms, cells) = (self.forms_with(serving), &self.services.cells);
        let layers = (0..exchange.types().len()).map(|layer| Layer(layer as u8));
        let mut owners = layers.map(|layer| Owner::Exchange(exchange.id, layer));
        owners.any(|owner| {
            let writer = cells.find(owner).filter(|cell| !cell.is_empty()).and_then(|cell| cell.writer());
            let writer = writer.filter(|writer| writer.plugin == serving.code.plugin);
            match writer.and_then(|writer| forms.same(digest, writer.digest)) {
                Some(same) => !same,
                None => cells.older(owner, |other| other == digest).is_some(),
            }
        })
    }

    /// Drops what versions of a plugin left that nobody can go back to any more.
    pub(super) fn forget_left_by_forgotten(&self, plugin: &str) {
        let Some(kept) = &self.kept else { return };
        let name = std::ffi::OsStr::new(plugin);
        let versions = |scope: &Scope| {
            let key = PluginKey { scope, name };
            let digests: Vec<Digest> = kept.history(key).versions.iter().map(|kept| kept.digest).collect();
            (digests, kept.forms(key))
        };
        // What a version left that is not kept may be read by one that is.
        let reads = |(digests, forms): &(Vec<Digest>, Forms), digest| {
            digests.iter().any(|kept| forms.same(*kept, digest) == Some(true))
        };
        let global = versions(&Scope::Global);
        let mut own = HashMap::new();
        self.services.cells.forget_older_of(plugin, |vhost, digest| {
            let own = own.entry(vhost.clone()).or_insert_with(|| versions(&Scope::Vhost(vhost.clone())));
            reads(&global, digest) || reads(own, digest)
        });
    }

    /// Has a version migrate what other versions of its plugin wrote; with nothing else if it does not migrate, and
    /// then it must be what it finds.
    fn migrate_all(&self, version: &Arc<Version>, replayed: &mut Replayed) -> Result<Handover, String> {
        let Replayed { places, replicas, .. } = replayed;
        let is_older =
            |writer: &Writer| writer.plugin == version.code.plugin && writer.digest != version.code.digest;
        let stateful = self.with_writer(places).filter(|it| is_older(&it.writer) && !it.cell.is_empty());
        let stateful: Vec<Stateful<'_>> = stateful.collect();
        let (mut handover, until) = (Handover::nothing(), Instant::now() + MIGRATION_MAX);
        if version.code.exported.migrate {
            migrate(version, &stateful, replicas, (&mut handover, until))?;
            return Ok(handover);
        }
        if stateful.is_empty() {
            return Ok(handover);
        }
        let forms = self.forms_with(version);
        let strange = |it: &&Stateful<'_>| forms.same(version.code.digest, it.writer.digest) == Some(false);
        stateful.iter().find(strange).map_or(Ok(handover), |it| Err(unread(it, version, "")))
    }

    /// Gives what these exchanges have the form of a version that somebody goes to: what was left in that form where
    /// there is any, nothing where they began after it, and what it migrates itself where it came later.
    fn restore(
        &self,
        version: &Arc<Version>,
        old: Option<&Version>,
        replayed: &mut Replayed,
    ) -> Result<Handover, String> {
        let Replayed { places, replicas, .. } = replayed;
        let (digest, cells) = (version.code.digest, &self.services.cells);
        let (mut handover, until) = (Handover::nothing(), Instant::now() + MIGRATION_MAX);
        let forms = self.forms_with(version);
        let mut to_migrate = Vec::new();
        for it in self.with_writer(places).filter(|it| it.writer.digest != digest) {
            let same = forms.same(digest, it.writer.digest);
            if same == Some(true) {
                continue;
            }
            let left = cells.older(it.owner, |other| forms.same(digest, other) == Some(true));
            let oldest = cells.oldest(it.owner);
            let began_after = match same {
                Some(_) => forms.descends(oldest.unwrap_or(it.writer.digest), digest),
                // Only what the version before wrote in a form of its own is known to be of another.
                None => {
                    let began_with_the_newer = old
                        .is_some_and(|old| old.code.exported.migrate && old.code.digest == it.writer.digest);
                    if left.is_none() && !began_with_the_newer {
                        continue;
                    }
                    oldest.is_none()
                }
            };
            match left {
                Some((by, left)) => {
                    let to = left.fork(&Arc::new(Usage::unlimited()));
                    handover.discard(it, (by, to), until)?;
                    handover.told.restored += 1;
                }
                None if it.cell.is_empty() => {}
                None if began_after => {
                    handover.discard(it, (digest, Cell::default()), until)?;
                    handover.told.emptied += 1;
                }
                None if version.code.exported.migrate && forms.descends(digest, it.writer.digest) => {
                    to_migrate.push(it);
                }
                None => {
                    let kept = ", and what was left in a form that it reads is not kept: go to a version between them \
                                first, or delete the exchange";
                    return Err(unread(&it, version, kept));
                }
            }
        }
        migrate(version, &to_migrate, replicas, (&mut handover, until))?;
        Ok(handover)
    }

    /// The types of these exchanges that some version writes for, or did.
    fn with_writer<'a>(&self, places: &'a [(Arc<Exchange>, Layer)]) -> impl Iterator<Item = Stateful<'a>> {
        places.iter().filter_map(|place| {
            let owner = Owner::Exchange(place.0.id, place.1);
            let cell = self.services.cells.find(owner)?;
            let writer = cell.writer()?;
            Some(Stateful { place, owner, cell, writer })
        })
    }
}

/// Has a version migrate these states, each on a copy that nobody else works on.
fn migrate(
    version: &Arc<Version>,
    stateful: &[Stateful<'_>],
    replicas: &mut Replicas,
    (handover, until): (&mut Handover, Instant),
) -> Result<(), String> {
    for Stateful { place, cell, .. } in stateful {
        handover.close(&place.0, cell, until)?;
    }
    // The copies of a virtual host have its limits together.
    let mut usages: HashMap<&Name, Arc<Usage>> = HashMap::new();
    for it in stateful {
        let (exchange, layer) = it.place;
        if Instant::now() >= until {
            let what = format!("waits for its migration for more than {} ms", MIGRATION_MAX.as_millis());
            return Err(about(exchange, &what));
        }
        let limits = &version.policy(&exchange.vhost).limits;
        let usage = usages
            .entry(&exchange.vhost)
            .or_insert_with(|| Arc::new(Usage::new(limits.state_bytes_max, limits.state_entries_max)));
        let copy = Arc::new(it.cell.fork(usage));
        let place = Place::of(version, &exchange.vhost);
        let replica = replicas.first_mut().and_then(|all| all.iter_mut().find(|(at, _)| *at == place));
        let Some((_, replica)) = replica else { continue };
        let from = &it.writer.version;
        match replica.migrate(exchange, *layer, &copy, from) {
            Ok(true) => {
                handover.told.migrated += 1;
                handover.replace(exchange, it, copy, Before::Kept(it.writer.clone()));
            }
            Ok(false) => {}
            Err(Refused::ByPlugin(text)) => {
                return Err(about(exchange, &format!("is not migrated from version {from}: {text}")));
            }
            Err(Refused::Failed(failure)) => {
                let what = format!("is not migrated from version {from}: the plugin {failure}");
                return Err(about(exchange, &what));
            }
        }
    }
    Ok(())
}

/// That a version would not read what an exchange has.
fn unread(it: &Stateful<'_>, version: &Version, more: &str) -> String {
    let (wrote, to) = (&it.writer.version, &version.description.version);
    about(
        &it.place.0,
        &format!("has state in the form of version {wrote}, which version {to} does not read{more}"),
    )
}

fn about(exchange: &Exchange, what: &str) -> String {
    format!("exchange '{}' in vhost '{}' {what}", exchange.spec.name, exchange.vhost)
}
