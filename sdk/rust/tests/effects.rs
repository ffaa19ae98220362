//! Effects in the test kit take place as the contract says: with the message, or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use leveret_sdk::{
    Arguments, Binding, BindingId, Decision, Declaration, Description, ExchangeType, Kind, Message,
    OutgoingMessage, Reads, Refusal, Targets, Timers, clock, effects, emit, enqueue, holds,
    key_value::{Error, Space},
    log, message_store, metric, queue_info,
    queue_info::QueueStatus,
    random,
    testkit::{Exchange, Host, Routed, TestMessage},
    timers,
};
use std::time::Duration;

/// Does what the first word of the routing key says with the second; delivers to its only binding.
#[derive(Default)]
struct Obedient(Option<BindingId>);

impl ExchangeType for Obedient {
    fn describe() -> Description {
        Description::new("x-obedient", "Does as it is told").argument("x-any", Kind::Any, "nothing")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Space::Memory.set_capacity(3);
        match Space::Memory.put("opened", "") {
            Err(Error::NotHere) => Ok(Self::default()),
            other => Err(Refusal::new(format!("an effect in open: {other:?}"))),
        }
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0 = Some(binding.id);
        Ok(())
    }

    fn unbind(&mut self, _: BindingId) {
        self.0 = None;
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        self.obey(message, to).unwrap_or_else(Decision::from)
    }
}

impl Obedient {
    fn obey(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Result<Decision, Error> {
        let key = std::str::from_utf8(message.routing_key()).unwrap();
        let (what, with) = key.split_once(' ').unwrap_or((key, ""));
        let minute = Some(Duration::from_secs(60));
        match what {
            "once" if !Space::Memory.put_if_absent(with, "", minute)? => {
                return Ok(Decision::Drop("duplicate".into()));
            }
            "put" => Space::Durable.put(with, key)?,
            "put-and-reject" => {
                Space::Durable.put(with, key)?;
                assert_eq!(Space::Durable.get(with), Ok(Some(key.into())), "a call sees its own effects");
                return Ok(Decision::Reject("as told".into()));
            }
            "delete" if !Space::Durable.delete(with)? => return Ok(Decision::Drop("nothing there".into())),
            "count" => drop(Space::Memory.add(with, 1, minute)?),
            "count-anyway" => {
                effects::keep_if_unroutable();
                Space::Memory.add(with, 1, minute)?;
            }
            "keep" => message_store::keep(with, 2).unwrap(),
            "hold" => return Ok(Decision::Hold(Duration::from_millis(250))),
            "release" => holds::first(1).into_iter().for_each(|held| holds::cancel(held.id)),
            "timer" => timers::set(with, Duration::from_secs(1)),
            "copy" => {
                enqueue::enqueue_copy(with);
                emit::publish_copy(with, "copied");
                let made = OutgoingMessage::new("made").header("by", "obedient");
                enqueue::enqueue(with, &made);
                emit::publish(with, "made", &made);
            }
            "longest" => {
                let ready = self.0.and_then(queue_info::of_binding).unwrap_or_default().ready;
                return Ok(Decision::Reject(format!("{ready} ready").into()));
            }
            _ => {}
        }
        to.extend(self.0);
        Ok(Decision::Deliver)
    }
}

impl Timers for Obedient {
    fn timer(&mut self, name: &[u8]) {
        log::info!("{} at {}", String::from_utf8_lossy(name), clock::now());
        metric::count("timers", 1);
        if name == b"again" {
            timers::set("last", Duration::ZERO);
        }
    }
}

fn bound() -> (Exchange<Obedient>, Routed) {
    let mut exchange = Exchange::<Obedient>::open(Arguments::new()).unwrap();
    let id = exchange.bind("", Arguments::new()).unwrap();
    (exchange, Routed::to([id]))
}

#[test]
fn what_a_rejected_message_wrote_was_never_written() {
    let (mut exchange, delivered) = bound();
    assert_eq!(exchange.route("put-and-reject a"), Routed::reject("as told"));
    assert_eq!(exchange.host().value(Space::Durable, "a"), None);
    assert_eq!(exchange.route("put a"), delivered);
    assert_eq!(exchange.host().value(Space::Durable, "a"), Some(b"put a".to_vec()));
    assert_eq!(exchange.route("delete a"), delivered);
    assert_eq!(exchange.route("delete a"), Routed::drop("nothing there"));
}

#[test]
fn of_an_unroutable_message_only_what_it_kept_stays() {
    let mut exchange = Exchange::<Obedient>::open(Arguments::new()).unwrap();
    for told in ["put a", "count a", "keep a", "count-anyway b"] {
        assert_eq!(exchange.route(told), Routed::unroutable());
    }
    let host = exchange.host();
    assert_eq!(host.value(Space::Durable, "a"), None);
    assert_eq!((host.sum(Space::Memory, "a"), host.sum(Space::Memory, "b")), (0, 1));
    assert_eq!(host.kept("a"), [TestMessage::new("keep a")]);
}

#[test]
fn a_key_of_an_undecided_message_is_in_doubt() {
    let (mut exchange, delivered) = bound();
    let (routed, first) = exchange.route_undecided(&TestMessage::new("once id"));
    assert_eq!(routed, delivered);
    assert_eq!(exchange.route("once id"), Routed::InDoubt);
    assert_eq!(exchange.route("once other"), delivered);
    first.reject();
    let (routed, second) = exchange.route_undecided(&TestMessage::new("once id"));
    assert_eq!(routed, delivered, "the first was rejected, so this is no duplicate");
    second.accept();
    assert_eq!(exchange.route("once id"), Routed::drop("duplicate"));
    exchange.host().advance(Duration::from_secs(61));
    assert_eq!(exchange.route("once id"), delivered, "after its time to live");
}

#[test]
fn sums_include_what_is_undecided_and_lose_what_is_rejected() {
    let (mut exchange, delivered) = bound();
    let (routed, undecided) = exchange.route_undecided(&TestMessage::new("count a"));
    assert_eq!((routed, exchange.route("count a")), (delivered.clone(), delivered));
    assert_eq!(exchange.host().sum(Space::Memory, "a"), 1);
    undecided.accept();
    assert_eq!(exchange.host().sum(Space::Memory, "a"), 2);
}

#[test]
fn what_was_written_first_goes_first() {
    let (mut exchange, delivered) = bound();
    for id in ["1", "2", "3", "4"] {
        assert_eq!(exchange.route(format!("once {id}")), delivered);
    }
    let there = |id| exchange.host().value(Space::Memory, id).is_some();
    assert_eq!(["1", "2", "3", "4"].map(there), [false, true, true, true]);
}

#[test]
fn another_instance_finds_what_was_written() {
    let (mut exchange, delivered) = bound();
    assert_eq!(exchange.route("once id"), delivered);
    exchange.restart().unwrap();
    assert_eq!(exchange.route("once id"), Routed::drop("duplicate"));
    assert_eq!(exchange.route("once other"), delivered);
    exchange.host().set_full(true);
    assert_eq!(exchange.route("put a"), Routed::reject("the plugin's values take too much memory"));
}

#[test]
fn messages_are_held_until_they_are_due_or_cancelled() {
    let (mut exchange, delivered) = bound();
    assert_eq!(exchange.route("hold a"), Routed::Hold(Duration::from_millis(250)));
    exchange.host().advance(Duration::from_millis(1));
    assert_eq!(exchange.route("hold b"), Routed::Hold(Duration::from_millis(250)));
    assert_eq!(exchange.route("release"), delivered);
    assert_eq!(exchange.host().held().len(), 1);
    assert_eq!(exchange.host().release_held(), []);
    exchange.host().advance(Duration::from_millis(250));
    assert_eq!(exchange.host().release_held(), [TestMessage::new("hold b")]);
}

#[test]
fn timers_are_called_when_they_are_due() {
    let (mut exchange, delivered) = bound();
    exchange.host().set_clock(1000);
    assert_eq!(exchange.route("timer again"), delivered);
    assert_eq!((exchange.fire_timers(), exchange.host().timers()), (0, vec![(b"again".to_vec(), 2000)]));
    exchange.host().advance(Duration::from_secs(1));
    assert_eq!(exchange.fire_timers(), 2);
    let line = |text: &str| (log::Level::Info, text.to_owned());
    assert_eq!(exchange.host().log_lines(), [line("again at 2000"), line("last at 2000")]);
    assert_eq!(exchange.host().counter("timers"), 2);
}

#[test]
fn messages_leave_for_queues_and_exchanges() {
    let (mut exchange, delivered) = bound();
    let message = TestMessage::new("copy there").body("text");
    assert_eq!(exchange.route_message(&message), delivered);
    let made = |key: &str| TestMessage::new(key).header("by", "obedient").body("made");
    let at = |message: TestMessage| (b"there".to_vec(), message);
    assert_eq!(exchange.host().take_enqueued(), [at(message.clone()), at(made("there"))]);
    assert_eq!(exchange.host().take_published(), [at(message.routing_key("copied")), at(made("made"))]);
    assert_eq!(exchange.host().take_published(), []);
}

#[test]
fn queues_are_as_long_as_the_test_says() {
    let (mut exchange, _) = bound();
    assert_eq!(exchange.route("longest"), Routed::reject("0 ready"));
    exchange.host().set_queue(BindingId(1), QueueStatus { ready: 7, consumers: 0 });
    assert_eq!(exchange.route("longest"), Routed::reject("7 ready"));
}

#[test]
#[should_panic(expected = "route them one by one")]
fn a_plugin_with_effects_gets_one_message_a_call() {
    let (mut exchange, _) = bound();
    exchange.route_all(&[TestMessage::new("once 1"), TestMessage::new("once 2")]);
}

#[test]
fn outside_of_an_exchange_effects_take_place_at_once() {
    Space::Memory.put_for("k", "v", Duration::from_millis(5)).unwrap();
    assert_eq!(Space::Memory.compare_and_swap("k", Some(b"v"), Some(b"w"), None), Ok(true));
    assert_eq!(Space::Memory.scan("", None, 10), Ok(vec![(b"k".to_vec(), b"w".to_vec())]));
    assert_eq!(Space::Memory.scan("", Some(b"k"), 10), Ok(vec![]));
    assert_eq!((Space::Memory.count(), Space::Durable.count()), (1, 0));
    assert_eq!(Space::Memory.put("k".repeat(1025), ""), Err(Error::TooLarge));
    assert_eq!(message_store::keep("k", 1), Err(message_store::Error::NotHere));
    Host::of_this_thread().seed_random(7);
    let first = (random::next(), random::bytes(9), random::below(10));
    Host::of_this_thread().seed_random(7);
    assert_eq!((random::next(), random::bytes(9), random::below(10)), first);
    assert!(first.2 < 10 && first.1.len() == 9);
}
