//! The exchange type `x-message-deduplication`: drops a message whose header `x-deduplication-header` has a
//! value that came before.
//!
//! Arguments and headers are those of RabbitMQ's plugin of this name. As an exchange type it requires
//! `x-cache-size`, and routes like `fanout` unless `x-inner-type` names another type, which gets all arguments
//! that this one does not know. In front of an exchange of any type it is a stage, asked for with
//! `x-message-deduplication`, as in LavinMQ; there every argument has a default, and `x-deduplication-header`
//! may name another header. With `x-duplicates` = `unroutable`, which is ours, duplicates go to the alternate
//! exchange if there is one. `settings.rs` has the arguments.
//!
//! *Not here:* the values seen, which are the broker's: it makes room for new ones, lets them end, and shares
//! them between instances; routing.
//!
//! *In and out:* reads two headers; answers drop or delegate. A message without the header passes.
//!
//! *Invariants:* a value counts as seen when its message is accepted, and not before: one that was rejected
//! or had no queue leaves no trace. While that is open, the next message of the same value waits, so of several
//! at once exactly one passes. A message is never dropped because something failed; it is rejected then, and
//! its publisher can send it again.

mod settings;
#[cfg(test)]
mod tests;

use leveret_sdk::{
    Arguments, Decision, Declaration, Description, ExchangeType, Info, InnerType, Kind, Message, Reads,
    Refusal, Targets, Value, key_value::Error,
};
use settings::{
    CACHE_PERSISTENCE, CACHE_SIZE, CACHE_TTL, DUPLICATES, HEADER, INNER_TYPE, Settings, positive,
};
use std::time::Duration;

/// What messages are counted by that are dropped.
const DUPLICATE: &str = "duplicate";
/// By this argument an exchange of another type has it in front.
const STAGE: &str = "x-message-deduplication";
/// By custom, stages that drop come before those that delay.
const STAGE_ORDER: u32 = 100;

/// An exchange that drops duplicates.
#[derive(Debug)]
pub struct Deduplication {
    settings: Settings,
    /// None where it is put in front of another type.
    inner: Option<InnerType>,
    /// Scratch.
    key: Vec<u8>,
}

impl ExchangeType for Deduplication {
    fn describe() -> Description {
        Description::new("x-message-deduplication", "Drops messages whose x-deduplication-header came before")
            // Numbers may be texts too, and are required of the type but not of the stage: `open` checks them.
            .argument(CACHE_SIZE, Kind::Any, "how many values are remembered (required but of a stage)")
            .argument(CACHE_TTL, Kind::Any, "for how many milliseconds a value is remembered")
            .argument(CACHE_PERSISTENCE, Kind::Text, "where values are remembered: memory or disk")
            .argument(HEADER, Kind::Text, "the header whose value is compared")
            .argument(DUPLICATES, Kind::Text, "what becomes of duplicates: drop (unless given) or unroutable")
            .argument(INNER_TYPE, Kind::Text, "the type that decides where messages go: fanout unless given")
            .argument(STAGE, Kind::Boolean, "whether it stands in front of the type of an exchange")
            .stage(STAGE, STAGE_ORDER)
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        let is_stage = declaration.in_front_of.is_some();
        let settings = Settings::read(&declaration.arguments, is_stage)?;
        settings.space.set_capacity(settings.cache_size);
        let inner = if is_stage { None } else { Some(settings::inner(&declaration.arguments)?) };
        Ok(Self { settings, inner, key: Vec::new() })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().header(&*self.settings.header).header(CACHE_TTL)
    }

    fn inner(&self) -> Option<InnerType> {
        self.inner.clone()
    }

    fn wants_bindings(&self) -> bool {
        false
    }

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        let value = match message.header(&self.settings.header) {
            None | Some(Value::Void) => return Decision::Delegate,
            Some(value) => value,
        };
        // With its class, so that 1 and "1" are two.
        self.key.clear();
        value.put_flat(&mut self.key);
        let time_to_live = message.header(CACHE_TTL).and_then(positive).map(Duration::from_millis);
        match self.remember(time_to_live.or(self.settings.time_to_live)) {
            Ok(true) => Decision::Delegate,
            // To no binding: to the alternate exchange, or back to a publisher who wants that.
            Ok(false) if self.settings.unroutable => Decision::Deliver,
            Ok(false) => Decision::Drop(DUPLICATE.into()),
            Err(Error::TooLarge) => {
                Decision::Reject("the value to compare is longer than 1,019 bytes".into())
            }
            Err(error) => error.into(),
        }
    }
}

impl Deduplication {
    /// Remembers the key; false if it is remembered already.
    fn remember(&self, time_to_live: Option<Duration>) -> Result<bool, Error> {
        let space = self.settings.space;
        // Where there is less memory than the cache may take it is full all the same, and the oldest go: one,
        // or as many as may be needed where the new value is longer.
        for fewer in [1, 8, 64] {
            match space.put_if_absent(&self.key, "", time_to_live) {
                Err(Error::Quota) => {}
                done => return done,
            }
            space.set_capacity(space.count().saturating_sub(fewer));
            space.set_capacity(self.settings.cache_size);
        }
        space.put_if_absent(&self.key, "", time_to_live)
    }
}

impl Info for Deduplication {
    fn info(&self) -> Arguments {
        Arguments::new().with("entries", self.settings.space.count()).with("size", self.settings.cache_size)
    }
}

leveret_sdk::export!(Deduplication: Info);
