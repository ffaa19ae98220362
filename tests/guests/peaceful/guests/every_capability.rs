//! `x-every-capability`: delegates to direct, and does with the rest of the message's routing key what its
//! first word says; it can everything that a plugin can. It exports every interface of an exchange type.
//!
//! | key | what it does |
//! |---|---|
//! | `once ID` | drops the second message of an ID |
//! | `count NAME` | counts |
//! | `keep KEY` | keeps the message |
//! | `hold MS` | holds the message |
//! | `release` | cancels what is held |
//! | `timer NAME` | sets a timer for in 10 ms, which logs the name and counts it |
//! | `enqueue QUEUE` | puts a message, and a copy of this one, into a queue |
//! | `emit EXCHANGE` | publishes a message, and a copy of this one, with the routing key `emitted` |
//! | `random` | rejects with a random number |
//! | `queue` | rejects with the length of the queue of its first binding |

use leveret_sdk::{key_value::Space, *};
use std::time::Duration;

struct Every {
    bindings: Vec<BindingId>,
}

impl ExchangeType for Every {
    fn describe() -> Description {
        Description::new("x-every-capability", "Can everything that a plugin can")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Space::Durable.set_capacity(1000);
        Ok(Self { bindings: Vec::new() })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn inner(&self) -> Option<InnerType> {
        Some(InnerType::new("direct"))
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.push(binding.id);
        self.bindings.sort();
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.retain(|bound| *bound != id);
    }

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        let key = String::from_utf8_lossy(message.routing_key());
        let (what, with) = key.split_once(' ').unwrap_or((&key, ""));
        self.obey(what, with).unwrap_or_else(Decision::from)
    }
}

impl Every {
    fn obey(&self, what: &str, with: &str) -> Result<Decision, key_value::Error> {
        let made = OutgoingMessage::new("made").header("by", "x-every-capability");
        match what {
            "once" if !Space::Durable.put_if_absent(with, "", None)? => {
                return Ok(Decision::Drop("duplicate".into()));
            }
            "count" => {
                effects::keep_if_unroutable();
                metric::gauge(with, Space::Memory.add(with, 1, None)? as f64);
            }
            "keep" => drop(message_store::keep(with, 1)),
            "hold" => return Ok(Decision::Hold(Duration::from_millis(with.parse().unwrap_or(0)))),
            "release" => holds::first(1000).into_iter().for_each(|held| holds::cancel(held.id)),
            "timer" => timers::set(with, Duration::from_millis(10)),
            "enqueue" => {
                enqueue::enqueue(with, &made);
                enqueue::enqueue_copy(with);
            }
            "emit" => {
                emit::publish(with, "emitted", &made);
                emit::publish_copy(with, "emitted");
            }
            "random" => return Ok(Decision::Reject(random::next().to_string().into())),
            "queue" => {
                let status = self.bindings.first().and_then(|id| queue_info::of_binding(*id));
                let ready = status.unwrap_or_default().ready;
                return Ok(Decision::Reject(format!("{ready} ready").into()));
            }
            _ => {}
        }
        Ok(Decision::Delegate)
    }
}

impl Events for Every {
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        message_store::of_key(&binding.routing_key, u32::MAX)
    }

    fn unbound(&mut self, binding: &Binding) {
        let _ = message_store::forget(&binding.routing_key);
    }
}

impl Timers for Every {
    fn timer(&mut self, name: &[u8]) {
        log::info!("timer {} at {}", String::from_utf8_lossy(name), clock::now());
        metric::count("timers", 1);
    }
}

impl Info for Every {
    fn info(&self) -> Arguments {
        let info = Arguments::new().with("bindings", self.bindings.len() as u64);
        info.with("held", holds::count()).with("kept", message_store::count())
    }
}

impl Reconfigure for Every {
    fn reconfigure(&mut self, arguments: &Arguments) -> Result<(), Refusal> {
        match arguments.optional::<&str>("x-refuse")? {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }
}

impl Marks for Every {
    fn mark(&self, _: &Binding) -> Mark {
        Mark::none()
    }
}

impl Migrate for Every {
    fn migrate(&mut self, from_version: &str) -> Result<(), String> {
        Space::Durable.put("migrated from", from_version).map_err(|error| error.to_string())
    }
}

export!(Every: Marks + Events + Timers + Info + Reconfigure + Migrate);
