//! The types of an exchange: opened one behind the other when it is declared, then told of bindings
//! and timers.
//!
//! In front are those that the exchange's arguments ask for, then the declared type, then the inner
//! types that each type asks for. What they are is noted in the exchange and does not change.

use super::{
    Worker,
    asking::{Again, Asked},
    homes::NotServed,
    refusal, version_of,
};
use crate::{
    capability::Outcome,
    guest::{GuestFailure, check_arguments},
    registry::MIGRATION_MAX,
    replica::{About, Replica},
};
use leveret_broker::{
    exchange::{Binding, Exchange, TypeSpec},
    port::{Answer, Deed, Due, Effective, Effects, Fate, Fired, Layer, Wake, Want},
    store::{Change, StateChange, StoreFailure},
};
use leveret_model::{MessageView, Name, OwnedMessage, Refusal, Table};
use std::sync::Arc;

/// The most types of an exchange.
pub const TYPES_MAX: usize = 8;
/// How often an event is told again whose type's state was being handed from one version to the next.
const TELLINGS_MAX: usize = 3;

impl Worker {
    /// Opens a new exchange with all its types.
    pub(super) fn open_chain(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        let mut types = self.types_asked_for(exchange);
        let mut layer = 0;
        while let Some(spec) = types.get(layer).cloned() {
            // Known to the registry first, so that a version swapped in meanwhile is asked too.
            if !types.iter().take(layer).any(|earlier| earlier.type_name == spec.type_name) {
                self.registry.register(exchange, &spec.type_name);
            }
            if let Some((type_name, arguments)) = self.open_layer(exchange, Layer(layer as u8), &spec)? {
                types.push(TypeSpec { type_name, arguments, in_front_of: None });
            }
            layer += 1;
            if types.len() > TYPES_MAX {
                let text = format!("more than {TYPES_MAX} types one behind the other");
                return Err(refusal(exchange, NotServed::Refused(text)));
            }
        }
        exchange.set_types(types);
        Ok(())
    }

    /// The types that the declaration names: those in front, then the declared one.
    fn types_asked_for(&self, exchange: &Exchange) -> Vec<TypeSpec> {
        let spec = &exchange.spec;
        let own = spec.arguments.iter().filter(|(name, _)| name.as_bytes() != b"alternate-exchange");
        let arguments: Table = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut names = self.registry.stages_of(exchange);
        names.retain(|name| *name != spec.type_name);
        names.push(spec.type_name.clone());
        let behind = names.iter().skip(1).cloned().map(Some).chain([None]);
        let specs = names.iter().zip(behind).map(|(type_name, in_front_of)| TypeSpec {
            type_name: type_name.clone(),
            arguments: arguments.clone(),
            in_front_of,
        });
        specs.collect()
    }

    fn open_layer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        spec: &TypeSpec,
    ) -> Result<Option<(Name, Table)>, Refusal> {
        let version = version_of(&self.registry, exchange, &spec.type_name)?;
        if let Some(described) = version.describes(&spec.type_name) {
            let checked = check_arguments(&spec.arguments, &described.arguments);
            checked.map_err(|text| refusal(exchange, NotServed::Refused(text)))?;
        }
        self.homes.open(&version, exchange, layer, spec).map_err(|not| refusal(exchange, not))
    }

    /// Asks all types whether they take a binding.
    pub(super) fn bind_chain(
        &mut self,
        exchange: &Arc<Exchange>,
        candidate: &Binding,
    ) -> Result<(), Refusal> {
        for (layer, spec) in layers(exchange) {
            let version = version_of(&self.registry, exchange, &spec.type_name)?;
            if let Some(described) = version.describes(&spec.type_name) {
                let checked = check_arguments(&candidate.arguments, &described.binding_arguments);
                checked.map_err(|text| refusal(exchange, NotServed::Refused(text)))?;
            }
            self.homes.bind(&version, exchange, layer, candidate).map_err(|not| refusal(exchange, not))?;
        }
        Ok(())
    }

    /// Tells the types that want to know of a new binding; gives the stored messages for it.
    pub(super) fn bound_chain(
        &mut self,
        exchange: &Arc<Exchange>,
        binding: &Binding,
        deeds: &mut Vec<Deed>,
    ) -> Vec<Arc<OwnedMessage>> {
        let mut stored = Vec::new();
        for (layer, _) in layers(exchange) {
            let about = About { exchange, layer, on_hand: None };
            let told = self.tell(about, |replica| replica.bound(about, binding));
            if let Some((messages, outcome)) = told {
                stored.extend(messages);
                self.take_place_or_warn(exchange, outcome, deeds);
            }
        }
        stored
    }

    /// Tells the types that want to know of a binding that is gone.
    pub(super) fn unbound_chain(
        &mut self,
        exchange: &Arc<Exchange>,
        binding: &Binding,
        deeds: &mut Vec<Deed>,
    ) {
        for (layer, _) in layers(exchange) {
            let about = About { exchange, layer, on_hand: None };
            let told = self.tell(about, |replica| Ok(((), replica.unbound(about, binding)?)));
            if let Some(((), outcome)) = told {
                self.take_place_or_warn(exchange, outcome, deeds);
            }
        }
    }

    /// Tells a type of something, if its plugin wants to know of bindings. While its state is handed from one
    /// version to the next this waits, and tells the one that has it then.
    fn tell<R>(
        &mut self,
        about: About<'_>,
        tell: impl Fn(&mut Replica) -> Result<(R, Outcome), GuestFailure>,
    ) -> Option<(R, Outcome)> {
        let spec = about.exchange.types().get(usize::from(about.layer.0))?;
        for _ in 0..TELLINGS_MAX {
            let version = version_of(&self.registry, about.exchange, &spec.type_name).ok()?;
            if !version.code.exported.events {
                return None;
            }
            match self.homes.event(&version, about, None, &tell) {
                Ok((_, Outcome { in_doubt: Some(cell), not_called: true, .. })) => {
                    cell.wait_while_closed(MIGRATION_MAX);
                }
                told => return told.ok(),
            }
        }
        None
    }

    /// Tells a type that its timer is due.
    pub(super) fn timer_due(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        due: Due<'_>,
        waker: &Arc<dyn Wake>,
        deeds: &mut Vec<Deed>,
    ) -> Fired {
        let Some(spec) = exchange.types().get(usize::from(layer.0)) else {
            return Fired::Done;
        };
        // While its plugin is missing the timer waits: the housekeeper asks again after a while.
        let Ok(version) = version_of(&self.registry, exchange, &spec.type_name) else {
            return Fired::Unavailable;
        };
        let about = About { exchange, layer, on_hand: None };
        let mut called = false;
        let told = self.homes.event(&version, about, Some(waker), |replica| {
            called = true;
            replica.timer(about, due.name)
        });
        match told {
            Ok(Outcome { in_doubt: Some(cell), not_called: true, .. }) => {
                cell.wake_when_settled(waker);
                Fired::Pending
            }
            Ok(outcome) => match self.take_place_of_timer((exchange, layer), due, outcome, deeds) {
                Ok(()) => Fired::Done,
                Err(failure) => Fired::Failed(failure.to_string().into()),
            },
            Err(NotServed::Failed(why)) if called => Fired::Failed(why.into()),
            Err(NotServed::Pending) => Fired::Pending,
            Err(_) => Fired::Unavailable,
        }
    }

    /// Asks the types from that layer on: each about the messages that the one before delegates.
    pub(super) fn ask_chain(
        &mut self,
        exchange: &Arc<Exchange>,
        first: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        let messages: Vec<&MessageView<'_>> = messages.collect();
        let before = answers.len();
        let mut asked = self.ask_layer(exchange, first, &mut messages.iter().copied(), answers, waker)?;
        for layer in (first.0 + 1..).take(exchange.types().len()).map(Layer) {
            let given = answers.get(before..).unwrap_or_default();
            let delegated: Vec<usize> =
                given.iter().enumerate().filter(|(_, a)| goes_on_at(a, layer)).map(|(at, _)| at).collect();
            if delegated.is_empty() {
                continue;
            }
            let mut some = delegated.iter().filter_map(|at| messages.get(*at).copied());
            let mut inner = Vec::with_capacity(delegated.len());
            let answered = match self.ask_layer(exchange, layer, &mut some, &mut inner, waker) {
                Ok(Asked::All) => delegated.len(),
                Ok(Asked::Some) => inner.len(),
                Err(Again) => 0,
            };
            if let Some(open) = delegated.get(answered) {
                // What comes before the first that has to wait can be dealt with.
                if *open == 0 {
                    return Err(Again);
                }
                answers.truncate(before + open);
                asked = Asked::Some;
            }
            for (at, answer) in delegated.into_iter().zip(inner) {
                if let Some(place) = answers.get_mut(before + at) {
                    *place = behind(std::mem::replace(place, Answer::OPEN), answer);
                }
            }
        }
        Ok(asked)
    }
}

/// The types of an exchange with their numbers.
pub(super) fn layers(exchange: &Exchange) -> impl Iterator<Item = (Layer, &TypeSpec)> {
    (0..).map(Layer).zip(exchange.types())
}

/// Whether the type at that layer decides now.
fn goes_on_at(answer: &Answer, layer: Layer) -> bool {
    match answer {
        Answer::Hold(hold) => hold.delay_ms == 0 && hold.resume == layer,
        Answer::Effective(effective) => goes_on_at(&effective.answer, layer),
        _ => false,
    }
}

/// The answer of a type behind another, with the effects of both.
fn behind(outer: Answer, inner: Answer) -> Answer {
    let Answer::Effective(outer) = outer else {
        return inner;
    };
    Answer::Effective(Box::new(match inner {
        Answer::Effective(inner) => {
            Effective { answer: inner.answer, effects: Box::new(Both(outer.effects, inner.effects)) }
        }
        answer => Effective { answer, effects: outer.effects },
    }))
}

/// The effects of two types on behalf of one message.
#[derive(Debug)]
struct Both(Box<dyn Effects>, Box<dyn Effects>);

impl Effects for Both {
    fn wants(&self, fate: Fate, each: &mut dyn FnMut(Want<'_>)) {
        self.0.wants(fate, each);
        self.1.wants(fate, each);
    }

    fn no_room(&self, plugin: &str, why: &str) {
        self.0.no_room(plugin, why);
        self.1.no_room(plugin, why);
    }

    fn record(&self, fate: Fate, group: &mut Vec<Change>) {
        self.0.record(fate, group);
        self.1.record(fate, group);
    }

    fn commit(self: Box<Self>, fate: Fate, message: &MessageView<'_>, deeds: &mut Vec<Deed>) {
        self.0.commit(fate, message, deeds);
        self.1.commit(fate, message, deeds);
    }
}

impl Worker {
    /// Makes the effects of a call last that was about no message.
    ///
    /// # Errors
    /// What is to outlive the process cannot be written: they are undone.
    fn take_place(&self, outcome: Outcome, deeds: &mut Vec<Deed>) -> Result<(), StoreFailure> {
        self.take_place_with(Vec::new(), outcome, deeds)
    }

    /// The same for a timer, which fired with that.
    fn take_place_of_timer(
        &self,
        (exchange, layer): (&Exchange, Layer),
        due: Due<'_>,
        outcome: Outcome,
        deeds: &mut Vec<Deed>,
    ) -> Result<(), StoreFailure> {
        let fired = || StateChange::EndTimer { name: due.name.clone(), due_ms: Some(due.due_ms) };
        let fired = exchange.state_holder(layer).map(|holder| Change { holder, change: fired() });
        self.take_place_with(fired.into_iter().collect(), outcome, deeds)
    }

    fn take_place_with(
        &self,
        mut group: Vec<Change>,
        outcome: Outcome,
        deeds: &mut Vec<Deed>,
    ) -> Result<(), StoreFailure> {
        outcome.draft.iter().for_each(|draft| draft.changes(Fate::Routed, &mut group));
        if !group.is_empty() {
            self.services.cells.store().append(&group)?;
        }
        outcome.draft.into_iter().for_each(|draft| draft.settle(Fate::Routed, deeds));
        Ok(())
    }

    /// The same where nobody can be told that it failed but people.
    fn take_place_or_warn(&self, exchange: &Exchange, outcome: Outcome, deeds: &mut Vec<Deed>) {
        if let Err(failure) = self.take_place(outcome, deeds) {
            tracing::warn!(
                target: "leveret::plugin", vhost = %exchange.vhost, exchange = %exchange.spec.name,
                "what the exchange's type did because of a binding is undone: {failure}"
            );
        }
    }
}
