//! A router with native types.

use super::{
    attached::{self, Attached},
    name, stages,
    stages::Memory,
};
use leveret_broker::{
    DeathReason, ExchangeSpec,
    exchange::{Binding, BindingId, Exchange, ExchangeId, Generation, RouteSet, TypeSpec},
    port::{Answer, Deed, Due, Fired, Intercepted, Layer, Points, Routed, Router, Ruling, Site, Wake},
};
use leveret_model::{MessageView, Name, OwnedMessage, Refusal};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

type Memo = HashMap<ExchangeId, (Generation, HashMap<Vec<u8>, RouteSet>)>;

/// How an exchange answers instead of what its type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Pending,
    Park,
    Reject,
    Trap,
    SetAside,
}

/// Native `direct`, `fanout` and `topic` (where nothing but direct matching is tested), types that
/// answer as their name says: `drop`, `reject`, `trap`, `park`, `later` (pending until told), and
/// chains of stages such as `dedup+hold+direct` (`stages.rs`).
#[derive(Default)]
pub struct Native {
    memo: Memo,
    pub closed: Vec<Name>,
    /// The exchanges that were there again after a restart.
    pub restored: Vec<Name>,
    pub route_calls: usize,
    pub answer_now: bool,
    pub refuse_binding: bool,
    /// What is said of dead letters; none is as it would be without an interceptor.
    pub interception: Option<Intercepted>,
    /// The dead letters that were shown: from which queue, why, and to which exchange.
    pub intercepted: Vec<(String, DeathReason, String)>,
    /// By exchange.
    pub gates: HashMap<Name, Gate>,
    pub memory: Arc<Mutex<Memory>>,
    /// Called once, when the next question is answered.
    pub after_route: Option<Box<dyn FnOnce()>>,
    /// Called once, when the next binding is gone.
    pub after_unbound: Option<Box<dyn FnOnce()>>,
    /// Called once, when the next interceptor is asked.
    pub before_intercept: Option<Box<dyn FnOnce()>>,
    pub plugins_generation: u64,
    /// Interceptors, in their order.
    pub attached: Vec<Attached>,
}

impl Native {
    pub fn gate(&mut self, exchange: &str, gate: Option<Gate>) {
        match gate {
            Some(gate) => self.gates.insert(name(exchange), gate),
            None => self.gates.remove(exchange.as_bytes()),
        };
    }

    pub(super) fn deliver(
        &mut self,
        exchange: &Arc<Exchange>,
        message: &MessageView<'_>,
        fanout: bool,
    ) -> RouteSet {
        let generation = exchange.generation();
        let entry = self.memo.entry(exchange.id).or_insert_with(|| (generation, HashMap::new()));
        if entry.0 != generation {
            *entry = (generation, HashMap::new());
        }
        let key = if fanout { &[] } else { message.routing_key };
        if let Some(set) = entry.1.get(key) {
            return set.clone();
        }
        let (_, bindings) = exchange.all_bindings();
        let ids: Vec<BindingId> = bindings
            .iter()
            .filter(|binding| fanout || binding.routing_key.as_bytes() == key)
            .map(|binding| binding.id)
            .collect();
        let (set, _) = exchange.resolve(&mut ids.into_iter());
        entry.1.insert(key.to_vec(), set.clone());
        set
    }
}

fn parked(exchange: &Exchange) -> Answer {
    Answer::Failed(Box::new(Refusal::Parked {
        exchange: exchange.spec.name.clone(),
        vhost: exchange.vhost.clone(),
        type_name: exchange.spec.type_name.clone(),
        why: String::from("gone"),
    }))
}

fn trapped(exchange: &Exchange) -> Answer {
    Answer::Failed(Box::new(Refusal::PluginFailed {
        exchange: exchange.spec.name.clone(),
        vhost: exchange.vhost.clone(),
        what: String::from("trap"),
    }))
}

fn unavailable(exchange: &Exchange) -> Answer {
    Answer::Failed(Box::new(Refusal::PluginUnavailable {
        exchange: exchange.spec.name.clone(),
        vhost: exchange.vhost.clone(),
        why: String::from("set aside"),
    }))
}

impl Router for Native {
    fn check_type(&mut self, _: &Name, type_name: &Name, _: &Name) -> Result<(), Refusal> {
        const TYPES: [&[u8]; 9] =
            [b"direct", b"fanout", b"topic", b"headers", b"drop", b"reject", b"trap", b"park", b"later"];
        if TYPES.contains(&type_name.as_bytes()) || stages::is_chain(type_name) {
            Ok(())
        } else {
            Err(Refusal::UnknownExchangeType { type_name: type_name.clone() })
        }
    }

    fn open(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        let ExchangeSpec { type_name, arguments, .. } = exchange.spec.clone();
        exchange.set_types(vec![TypeSpec { type_name, arguments, in_front_of: None }]);
        Ok(())
    }

    fn restored(&mut self, exchange: &Arc<Exchange>) {
        self.restored.push(exchange.spec.name.clone());
    }

    fn bind(&mut self, exchange: &Arc<Exchange>, candidate: &Binding) -> Result<(), Refusal> {
        assert!(
            exchange.find(&candidate.destination, &candidate.routing_key, &candidate.arguments).is_none()
        );
        if !self.refuse_binding {
            return Ok(());
        }
        let (exchange, vhost) = (exchange.spec.name.clone(), exchange.vhost.clone());
        Err(Refusal::PluginRefused { exchange, vhost, text: String::from("no") })
    }

    fn bound(
        &mut self,
        exchange: &Arc<Exchange>,
        binding: &Arc<Binding>,
        _: &mut Vec<Deed>,
    ) -> Vec<Arc<OwnedMessage>> {
        let destination = &binding.destination;
        assert!(exchange.find(destination, &binding.routing_key, &binding.arguments).is_some(), "committed");
        let mut memory = self.memory.lock().unwrap();
        memory.changes.push(format!("+{}", destination.name()));
        memory.stored.get(&exchange.id).cloned().unwrap_or_default()
    }

    fn unbound(&mut self, _: &Arc<Exchange>, binding: &Arc<Binding>, _: &mut Vec<Deed>) {
        self.memory.lock().unwrap().changes.push(format!("-{}", binding.destination.name()));
        if let Some(after) = self.after_unbound.take() {
            after();
        }
    }

    fn route(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        self.route_calls += 1;
        let gate = self.gates.get(&exchange.spec.name).copied();
        for message in messages {
            let type_name = exchange.spec.type_name.as_bytes();
            answers.push(match type_name {
                _ if gate == Some(Gate::Pending) => {
                    self.memory.lock().unwrap().waiting.push(waker.clone());
                    return if answers.is_empty() { Routed::Pending } else { Routed::Cut };
                }
                _ if gate == Some(Gate::Park) => parked(exchange),
                _ if gate == Some(Gate::Trap) => trapped(exchange),
                _ if gate == Some(Gate::SetAside) => unavailable(exchange),
                _ if gate == Some(Gate::Reject) => Answer::Reject(Arc::from("not now"), layer),
                b"drop" => Answer::Drop(None, layer),
                b"reject" => Answer::Reject(Arc::from("not today"), layer),
                b"trap" => trapped(exchange),
                b"park" => parked(exchange),
                b"later" if !self.answer_now => return Routed::Pending,
                _ if stages::is_chain(type_name) => {
                    let Some(answer) = self.ask_stages(exchange, layer, message) else {
                        if answers.is_empty() {
                            self.memory.lock().unwrap().waiting.push(waker.clone());
                            return Routed::Pending;
                        }
                        return Routed::Cut;
                    };
                    answer
                }
                _ => Answer::Deliver(self.deliver(exchange, message, type_name == b"fanout")),
            });
        }
        if let Some(after) = self.after_route.take() {
            after();
        }
        Routed::Ready
    }

    /// Of a chain the last alone reads it.
    fn reads_key_from(&mut self, exchange: &Exchange, from: Layer) -> Option<Layer> {
        let stages = exchange.spec.type_name.as_bytes().split(|byte| *byte == b'+');
        Some(Layer(stages.count() as u8 - 1).max(from))
    }

    fn timer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        Due { name, .. }: Due<'_>,
        waker: &Arc<dyn Wake>,
        deeds: &mut Vec<Deed>,
    ) -> Fired {
        let mut memory = self.memory.lock().unwrap();
        match self.gates.get(&exchange.spec.name) {
            Some(Gate::Pending) => {
                memory.waiting.push(waker.clone());
                return Fired::Pending;
            }
            Some(Gate::Park | Gate::SetAside) => return Fired::Unavailable,
            Some(Gate::Trap | Gate::Reject) => {
                memory.failed_timers += 1;
                return Fired::Failed(Arc::from("trap"));
            }
            None => {}
        }
        let now_ms = memory.now_ms;
        memory.fired.push(format!("{name}@{now_ms}"));
        // A timer of this name goes on for ever.
        if name.as_bytes() == b"tick" {
            let (exchange, due_ms) = (exchange.clone(), now_ms + 10);
            deeds.push(Deed::SetTimer { exchange, layer, name: name.clone(), due_ms });
        }
        // Nor does this one ever wait.
        if name.as_bytes() == b"again" {
            let (exchange, due_ms) = (exchange.clone(), now_ms);
            deeds.push(Deed::SetTimer { exchange, layer, name: name.clone(), due_ms });
        }
        Fired::Done
    }

    fn intercepts(&self, _: &Name) -> Points {
        Points { dead_letter: true, ..attached::points(&self.attached) }
    }

    fn attachments(&mut self, site: Site<'_>) -> usize {
        let plain = usize::from(matches!(site, Site::DeadLetter { .. }));
        self.attached.iter().filter(|attached| attached.is_at(site)).count() + plain
    }

    fn intercept(
        &mut self,
        site: Site<'_>,
        attachment: usize,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        let attached = self.attached.iter().filter(|attached| attached.is_at(site)).nth(attachment);
        if let (None, Site::DeadLetter { queue, reason, .. }) = (attached, site) {
            for message in messages {
                let [from, to] = [queue, message.exchange].map(|n| String::from_utf8_lossy(n).into_owned());
                self.intercepted.push((from, reason, to));
                let said = self.interception.clone().unwrap_or(Intercepted::Continue);
                rulings.push(Ruling::Said(said, None));
            }
            return Routed::Ready;
        }
        if let Some(before) = self.before_intercept.take() {
            before();
        }
        attached.unwrap().ask(messages, rulings, waker)
    }

    fn plugins_generation(&self, _vhost: &Name) -> u64 {
        self.plugins_generation
    }

    fn now_ms(&self) -> u64 {
        self.memory.lock().unwrap().now_ms
    }

    fn closed(&mut self, exchange: &Exchange) {
        self.memo.remove(&exchange.id);
        self.closed.push(exchange.spec.name.clone());
    }
}
