//! `x-obeys`: a fanout that does with every capability what the routing key says. Commands stand one behind the
//! other with `;` between, their words with spaces between. One that asks rejects the message with what it
//! found out; where the broker only explains, that is all that comes of it.
//!
//! `x-who`: drops every message, and says as the reason who published it.

use leveret_sdk::{key_value::Space, *};
use std::time::Duration;

struct Obeys {
    bindings: Vec<BindingId>,
    /// What became of an effect in `open`, where none is possible.
    opened: String,
}

impl ExchangeType for Obeys {
    fn describe() -> Description {
        Description::new("x-obeys", "Does what the routing key says")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        let opened = told(Space::Memory.put("opened", "yes"));
        Ok(Self { bindings: Vec::new(), opened })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn inner(&self) -> Option<InnerType> {
        Some(InnerType::new("fanout"))
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
        for command in key.split(';') {
            let words: Vec<&str> = command.split(' ').collect();
            if let Some(decision) = self.obey(&words) {
                return decision;
            }
        }
        Decision::Delegate
    }
}

fn space(word: &str) -> Space {
    if word == "durable" { Space::Durable } else { Space::Memory }
}

/// What became of an effect is seen by what is there afterwards.
fn ignore<T>(_: T) {}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_default()
}

fn optional(word: &str) -> Option<&[u8]> {
    (word != "-").then_some(word.as_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn say(what: impl std::fmt::Debug) -> Option<Decision> {
    Some(Decision::Reject(format!("{what:?}").into()))
}

/// A value, or the name of the error.
fn told(answer: Result<impl std::fmt::Debug, key_value::Error>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.name().to_owned(),
    }
}

fn tell(answer: Result<impl std::fmt::Debug, key_value::Error>) -> Option<Decision> {
    Some(Decision::Reject(told(answer).into()))
}

impl Obeys {
    /// A decision, if the command is one; else the next command is looked at.
    fn obey(&self, words: &[&str]) -> Option<Decision> {
        match words {
            ["drop", reason] => return Some(Decision::Drop(String::from(*reason).into())),
            ["reject", reason] => return Some(Decision::Reject(String::from(*reason).into())),
            ["trap"] => panic!("asked to"),
            ["hold", ms] => return Some(Decision::Hold(Duration::from_millis(number(ms)))),
            ["opened"] => return Some(Decision::Reject(self.opened.clone().into())),
            ["now"] => return say((clock::now(), clock::now())),
            ["random"] => return say((random::next(), random::next())),
            ["bytes", count] => return say(random::bytes(number(count) as u32).len()),
            ["queue"] => {
                let status = self.bindings.first().and_then(|id| queue_info::of_binding(*id));
                return say(status.map(|status| (status.ready, status.consumers)));
            }
            ["log", count, length] => {
                let line = "z".repeat(number(length) as usize);
                (0..number(count)).for_each(|_| log::info!("{line}"));
            }
            ["escape"] => log::warning!("red \u{1b}[31m\nand a line"),
            ["metrics", count] => {
                (0..number(count)).for_each(|number| metric::count(&format!("m{number}"), 1));
            }
            ["count", name, more] => metric::count(name, number(more)),
            ["gauge", name, value] => metric::gauge(name, number(value) as f64),
            _ => return self.obey_about_values(words),
        }
        None
    }

    fn obey_about_values(&self, words: &[&str]) -> Option<Decision> {
        match words {
            ["anyway"] => effects::keep_if_unroutable(),
            ["once", key] => match Space::Memory.put_if_absent(key, "seen", None) {
                Ok(true) => {}
                Ok(false) => return Some(Decision::Drop("duplicate".into())),
                Err(error) => return Some(error.into()),
            },
            ["put", to, key, value] => ignore(space(to).put(key, value)),
            ["put", to, key, value, ttl] => {
                ignore(space(to).put_for(key, value, Duration::from_millis(number(ttl))));
            }
            ["get", of, key] => return tell(space(of).get(key).map(|value| value.map(|value| text(&value)))),
            ["delete", of, key] => ignore(space(of).delete(key)),
            ["swap", of, key, expected, value] => {
                let swapped = space(of).compare_and_swap(key, optional(expected), optional(value), None);
                if swapped != Ok(true) {
                    return tell(swapped);
                }
            }
            ["add", to, key, more] => ignore(space(to).add(key, more.parse().unwrap_or_default(), None)),
            ["sum", of, key] => return tell(space(of).sum(key)),
            ["scan", of, prefix, after, limit] => {
                let found = space(of).scan(prefix, optional(after), number(limit) as u32);
                return tell(found.map(|pairs| pairs.iter().map(|(key, _)| text(key)).collect::<Vec<_>>()));
            }
            ["len", of] => return say(space(of).count()),
            ["capacity", of, entries] => space(of).set_capacity(number(entries)),
            ["fill", to, count, bytes] => {
                let value = vec![0; number(bytes) as usize];
                for number in 0..number(count) {
                    if let Err(error) = space(to).put(format!("fill{number}"), &value) {
                        return tell(Err::<(), _>(error));
                    }
                }
            }
            _ => return self.obey_about_messages(words),
        }
        None
    }

    fn obey_about_messages(&self, words: &[&str]) -> Option<Decision> {
        let made = || OutgoingMessage::new("made").header("by", "x-obeys");
        match words {
            ["keep", key, newest] => ignore(message_store::keep(key, number(newest) as u32)),
            ["forget", key] => ignore(message_store::forget(key)),
            ["kept"] => return say(message_store::count()),
            ["of", key, limit] => return say(message_store::of_key(key, number(limit) as u32).len()),
            ["matching", pattern] => return say(message_store::matching(pattern, u32::MAX).len()),
            ["holds"] => {
                let keys = holds::first(1_000).into_iter().map(|held| text(&held.routing_key));
                return say((holds::count(), keys.collect::<Vec<_>>()));
            }
            ["cancel"] => holds::first(1).into_iter().for_each(|held| holds::cancel(held.id)),
            ["timer", name, ms] => timers::set(name, Duration::from_millis(number(ms))),
            ["timers", count, ms] => (0..number(count))
                .for_each(|name| timers::set(format!("none{name}"), Duration::from_millis(number(ms)))),
            ["untimer", name] => timers::cancel(name),
            ["enqueue", queue] => enqueue::enqueue(queue, &made()),
            ["copy", queue] => enqueue::enqueue_copy(queue),
            ["emit", exchange, key] => emit::publish(exchange, key, &made()),
            ["emit-copy", exchange, key] => emit::publish_copy(exchange, key),
            // To an exchange that does the same again.
            ["echo", exchange] => emit::publish_copy(exchange, format!("echo {exchange}")),
            _ => {}
        }
        None
    }
}

impl Events for Obeys {
    /// A binding of the key `of KEY` gets what is kept under that key, one of `like PATTERN` what is kept under
    /// all keys that match.
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        match text(&binding.routing_key).split_once(' ') {
            Some(("of", key)) => message_store::of_key(key, u32::MAX),
            Some(("like", pattern)) => message_store::matching(pattern, u32::MAX),
            _ => Vec::new(),
        }
    }

    fn unbound(&mut self, _: &Binding) {}
}

impl Timers for Obeys {
    /// Puts a message into the queue of the timer's name; `bad` traps.
    fn timer(&mut self, name: &[u8]) {
        assert_ne!(name, b"bad", "asked to");
        enqueue::enqueue(name, &OutgoingMessage::new("fired"));
    }
}

struct Who;

impl ExchangeType for Who {
    fn describe() -> Description {
        Description::new("x-who", "Drops every message, and says who published it")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn reads(&self) -> Reads {
        Reads::nothing().publisher()
    }

    fn bind(&mut self, _: Binding) -> Result<(), Refusal> {
        Ok(())
    }

    fn unbind(&mut self, _: BindingId) {}

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        Decision::Drop(match message.publisher() {
            Some(publisher) if !publisher.user.is_empty() => {
                format!("{} by {} on {}", publisher.user, publisher.protocol, publisher.connection).into()
            }
            _ => "nobody".into(),
        })
    }
}

export!(Obeys: Events + Timers, Who);
