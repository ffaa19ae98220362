//! The arguments of an exchange as they are now: those of its declaration until an operator changes them.
//!
//! A change is a generation like a change of bindings. It changes neither which types the exchange has nor
//! what types behind the declared one were opened with; whoever commits it has asked them.

use super::{Binding, Change, Exchange, Generation, TypeSpec};
use crate::{policy::Policy, port::Layer};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::{Name, Table};

/// The argument that the host handles itself.
pub(crate) const ALTERNATE_EXCHANGE: &[u8] = b"alternate-exchange";

/// The arguments of an exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Numbers them within the exchange: 0 is its declaration.
    pub number: u64,
    /// All of them, `alternate-exchange` included.
    pub arguments: Table,
    alternate: Option<Name>,
}

/// What an operator changes of an exchange's arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArgumentsChange {
    /// Arguments that are added, or get another value.
    pub set: Table,
    /// Arguments that go.
    pub unset: Vec<Name>,
}

/// An exchange as a new instance has to be told of it.
#[derive(Debug)]
pub struct Snapshot {
    /// All bindings.
    pub bindings: Vec<Arc<Binding>>,
    /// The arguments.
    pub settings: Arc<Settings>,
    /// The generation of both.
    pub generation: Generation,
}

impl Settings {
    pub(super) fn declared(arguments: &Table) -> Self {
        Self { number: 0, arguments: arguments.clone(), alternate: alternate(arguments) }
    }

    /// These after a change.
    pub(crate) fn after(&self, change: &ArgumentsChange) -> Self {
        let stays = |name: &Name| !change.unset.contains(name) && change.set.get(name.as_bytes()).is_none();
        let kept = self.arguments.iter().filter(|(name, _)| stays(name));
        let arguments: Table =
            kept.chain(change.set.iter()).map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { number: self.number + 1, alternate: alternate(&arguments), arguments }
    }

    /// One of the types of an exchange with the arguments that it has now. Those in front and the declared
    /// one have the exchange's own; those behind have what the type before them gave them.
    #[must_use]
    pub fn spec(&self, types: &[TypeSpec], layer: Layer) -> Option<TypeSpec> {
        let mut spec = types.get(usize::from(layer.0))?.clone();
        if is_own(types, layer) {
            spec.arguments = self.own_arguments();
        }
        Some(spec)
    }

    /// The arguments for types: all but those that the host handles itself.
    #[must_use]
    pub fn own_arguments(&self) -> Table {
        let own = self.arguments.iter().filter(|(name, _)| name.as_bytes() != ALTERNATE_EXCHANGE);
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Whether the type at that layer is opened with the exchange's own arguments: it is the declared one, or
/// in front of it.
#[must_use]
pub fn is_own(types: &[TypeSpec], layer: Layer) -> bool {
    let declared = types.iter().position(|spec| spec.in_front_of.is_none()).unwrap_or_default();
    usize::from(layer.0) <= declared
}

fn alternate(arguments: &Table) -> Option<Name> {
    Name::new(arguments.get(ALTERNATE_EXCHANGE)?.as_string()?).ok()
}

impl Exchange {
    /// The same with other arguments than it was declared with, before anybody has it.
    pub(crate) fn with_arguments(mut self, arguments: Table) -> Self {
        let bindings = self.bindings.get_mut();
        if bindings.settings.arguments != arguments {
            bindings.settings = Arc::new(Settings { number: 1, ..Settings::declared(&arguments) });
        }
        self
    }

    /// Makes the next generation because the plugin behind the type changed: everything derived
    /// from an older one is derived again.
    pub fn type_changed(&self) {
        let mut bindings = self.bindings.write();
        bindings.type_changes += 1;
        self.changed(&mut bindings, Change::Type);
    }

    /// Numbers the states of its bindings and arguments, whoever answers for them.
    #[must_use]
    pub fn own_generation(&self) -> u64 {
        let bindings = self.bindings.read();
        self.generation().0 - bindings.type_changes
    }

    /// The exchange that gets what this one cannot route. Its argument says so, else its policy.
    #[must_use]
    pub fn alternate(&self) -> Option<Name> {
        let bindings = self.bindings.read();
        let by_policy = || bindings.policy.as_ref().and_then(|policy| policy.alternate());
        bindings.settings.alternate.as_ref().or_else(by_policy).cloned()
    }

    /// The policy that applies to it.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.bindings.read().policy.clone()
    }

    /// Another policy applies to it. What its types decided stays: they are not asked where unroutable messages go.
    pub(crate) fn set_policy(&self, policy: Option<Arc<Policy>>) {
        self.bindings.write().policy = policy;
    }

    /// Its arguments as they are now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.bindings.read().settings.clone()
    }

    /// All that a new instance has to be told.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let bindings = self.bindings.read();
        Snapshot {
            bindings: bindings.slots.iter().filter_map(|slot| slot.binding.clone()).collect(),
            settings: bindings.settings.clone(),
            generation: self.generation(),
        }
    }

    /// Makes other arguments its own. The vhost's lock for changes is held.
    pub(crate) fn set_settings(&self, settings: Settings) {
        let mut bindings = self.bindings.write();
        bindings.settings = Arc::new(settings);
        self.changed(&mut bindings, Change::Settings);
    }
}
