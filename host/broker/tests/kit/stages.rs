//! Exchange types made of stages, named with `+` between them; the last is `direct` or `fanout`.
//!
//! - `dedup` drops a body that was routed before; one in doubt has to wait.
//! - `hold` holds a message whose properties, or whose header `delay`, are a number of milliseconds.
//! - `emit` emits a copy to the exchange named by the argument `emit-to`, or as many as the argument `copies` says.
//! - `store` keeps what was routed for new bindings.
//! - `timer` sets a timer, named by the routing key, to the milliseconds in the properties; `stop`
//!   in them cancels it.
//! - `divert` puts a copy into the queue named by the argument `divert-to`.

use super::native::Native;
use leveret_broker::{
    Vhost,
    exchange::{Exchange, ExchangeId},
    port::{Answer, Deed, Effective, Effects, Fate, Hold, Layer, Wake, Want},
    store::Change,
};
use leveret_model::{MessageView, Name, OwnedMessage};
use std::{
    collections::{HashMap, HashSet},
    fmt, mem,
    sync::{Arc, Mutex},
};

/// What types with a memory share between the routers of one test, and what they noted.
#[derive(Default)]
pub struct Memory {
    pub now_ms: u64,
    pub seen: HashSet<(ExchangeId, Vec<u8>)>,
    pub in_doubt: HashSet<(ExchangeId, Vec<u8>)>,
    pub stored: HashMap<ExchangeId, Vec<Arc<OwnedMessage>>>,
    /// Whom to wake when something is no longer in doubt.
    pub waiting: Vec<Arc<dyn Wake>>,
    /// Body, fate, and how many messages the watched queue had then.
    pub committed: Vec<(String, Fate, u64)>,
    pub undone: Vec<String>,
    pub watched: Option<(Arc<Vhost>, &'static str)>,
    /// A queue in which nothing is unsettled when effects are committed.
    pub settled: Option<(Arc<Vhost>, &'static str)>,
    pub fired: Vec<String>,
    /// What types were told of room that there is not.
    pub no_room: Vec<String>,
    pub failed_timers: u32,
    /// `+` and `-` with the destination of bindings made and gone.
    pub changes: Vec<String>,
}

impl Memory {
    /// Wakes all who wait.
    pub fn wake(&mut self) {
        for waker in mem::take(&mut self.waiting) {
            waker.wake();
        }
    }
}

pub fn is_chain(type_name: &[u8]) -> bool {
    let mut stages = type_name.split(|byte| *byte == b'+').peekable();
    let mut count = 0;
    while let Some(stage) = stages.next() {
        count += 1;
        let known: &[&[u8]] = if stages.peek().is_none() {
            &[b"direct", b"fanout"]
        } else {
            &[b"dedup", b"hold", b"emit", b"store", b"timer", b"divert"]
        };
        if !known.contains(&stage) {
            return false;
        }
    }
    count > 1
}

enum Act {
    Seen,
    Store,
    Deed(Deed),
}

struct Acts {
    memory: Arc<Mutex<Memory>>,
    exchange: ExchangeId,
    plugin: Arc<str>,
    body: Vec<u8>,
    acts: Vec<Act>,
}

impl fmt::Debug for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acts", self.acts.len())
    }
}

impl Effects for Acts {
    fn wants(&self, _: Fate, each: &mut dyn FnMut(Want<'_>)) {
        let plugin = &self.plugin;
        for act in &self.acts {
            match act {
                Act::Deed(Deed::Emit { message, .. }) => {
                    each(Want::Emit { plugin, message_bytes: message.len_bytes() });
                }
                Act::Deed(Deed::Enqueue { queue, message }) => {
                    each(Want::Enqueue { plugin, queue, body_bytes: message.body.len() });
                }
                _ => {}
            }
        }
    }

    fn no_room(&self, plugin: &str, why: &str) {
        if *self.plugin == *plugin {
            self.memory.lock().unwrap().no_room.push(why.into());
        }
    }

    fn record(&self, fate: Fate, group: &mut Vec<Change>) {
        let seen = self.acts.iter().filter(|act| fate == Fate::Routed && matches!(act, Act::Seen));
        let body = || String::from_utf8(self.body.clone()).unwrap();
        group.extend(seen.map(|_| super::disk::set(body())));
    }

    fn commit(mut self: Box<Self>, fate: Fate, message: &MessageView<'_>, deeds: &mut Vec<Deed>) {
        assert_eq!(message.body, self.body);
        let memory = self.memory.clone();
        let mut memory = memory.lock().unwrap();
        let ready = memory.watched.as_ref().map_or(0, |(vhost, queue)| {
            vhost.queue(queue.as_bytes()).map_or(0, |queue| queue.status().messages)
        });
        if let Some((vhost, queue)) = &memory.settled {
            assert_eq!(vhost.queue(queue.as_bytes()).unwrap().unsettled(), 0);
        }
        memory.committed.push((String::from_utf8(self.body.clone()).unwrap(), fate, ready));
        for act in mem::take(&mut self.acts) {
            match act {
                Act::Seen => {
                    let key = (self.exchange, self.body.clone());
                    assert!(memory.in_doubt.remove(&key));
                    if fate == Fate::Routed {
                        assert!(memory.seen.insert(key));
                    }
                    memory.wake();
                }
                Act::Store => {
                    let message = Arc::new(OwnedMessage::from_view(message));
                    memory.stored.entry(self.exchange).or_default().push(message);
                }
                Act::Deed(deed) => deeds.push(deed),
            }
        }
    }
}

impl Drop for Acts {
    fn drop(&mut self) {
        if self.acts.is_empty() {
            return;
        }
        let mut memory = self.memory.lock().unwrap();
        memory.undone.push(String::from_utf8(self.body.clone()).unwrap());
        if self.acts.iter().any(|act| matches!(act, Act::Seen)) {
            assert!(memory.in_doubt.remove(&(self.exchange, self.body.clone())));
            memory.wake();
        }
    }
}

impl Native {
    /// The answer of the stages from one on; none while the message is in doubt.
    pub(super) fn ask_stages(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        message: &MessageView<'_>,
    ) -> Option<Answer> {
        let argument = |name: &[u8]| {
            let value = exchange.spec.arguments.get(name).and_then(|value| value.as_text());
            value.map(|text| Name::new(text.as_bytes()).unwrap()).unwrap_or_default()
        };
        let copy = || OwnedMessage::from_view(message);
        // Each exchange is a plugin's of its name.
        let plugin: Arc<str> = Arc::from(exchange.spec.name.to_text());
        let properties = message.properties.strip_prefix(super::PERSISTENT).unwrap_or(message.properties);
        let properties = std::str::from_utf8(properties).unwrap_or_default();
        let mut acts = Acts {
            memory: self.memory.clone(),
            exchange: exchange.id,
            plugin: plugin.clone(),
            body: message.body.to_vec(),
            acts: Vec::new(),
        };
        let mut answer = Answer::OPEN;
        let type_name = exchange.spec.type_name.to_text();
        for (place, stage) in type_name.split('+').enumerate().skip(usize::from(layer.0)) {
            match (stage, properties) {
                ("dedup", _) => {
                    let key = (exchange.id, message.body.to_vec());
                    let mut memory = self.memory.lock().unwrap();
                    if memory.seen.contains(&key) {
                        answer = Answer::Drop(Some(Arc::from("duplicate")), Layer(place as u8));
                        break;
                    }
                    if !memory.in_doubt.insert(key) {
                        return None;
                    }
                    acts.acts.push(Act::Seen);
                }
                ("hold", delay) => {
                    let header = message.header(&Name::from_static("delay"));
                    let header = header.and_then(|delay| u64::try_from(delay.as_integer()?).ok());
                    if let Some(delay_ms) = header.or(delay.parse().ok()) {
                        answer = Answer::Hold(Hold { delay_ms, resume: Layer(place as u8 + 1) });
                        break;
                    }
                }
                ("store", _) => acts.acts.push(Act::Store),
                ("emit", _) => {
                    let copies = argument(b"copies").to_text().parse().unwrap_or(1);
                    acts.acts.extend((0..copies).map(|_| {
                        let (exchange, message) = (argument(b"emit-to"), copy());
                        Act::Deed(Deed::Emit { exchange, message, plugin: plugin.clone() })
                    }));
                }
                ("divert", _) => {
                    let (queue, message) = (argument(b"divert-to"), copy());
                    acts.acts.push(Act::Deed(Deed::Enqueue { queue, message }));
                }
                ("timer", due) => {
                    let (name, layer) = (Name::new(message.routing_key).unwrap(), Layer(place as u8));
                    acts.acts.push(Act::Deed(match due.parse() {
                        Ok(due_ms) => Deed::SetTimer { exchange: exchange.clone(), layer, name, due_ms },
                        Err(_) => Deed::CancelTimer { exchange: exchange.id, layer, name },
                    }));
                }
                (last, _) => answer = Answer::Deliver(self.deliver(exchange, message, last == "fanout")),
            }
        }
        if acts.acts.is_empty() {
            return Some(answer);
        }
        Some(Answer::Effective(Box::new(Effective { answer, effects: Box::new(acts) })))
    }
}
