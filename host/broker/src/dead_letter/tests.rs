//! Dead letters that no client rejected: what may go round, and what must not.

use super::*;
use crate::{
    BindTo, ConnectionId, QueueSpec,
    exchange::Exchange,
    memory::MemoryAccount,
    port::{
        Answer,
        fixed::{FixedTypes, to_all},
    },
    publish::Publish,
    queue::{DeadLetterCounts, MessageRef, Progress},
};
use DeathReason::{DeliveryLimit, Expired, MaxLength, Rejected};
use leveret_amqp091::{FORM, patch::PROPERTIES_BYTES_MAX};
use leveret_model::{MessageView, Name, Table, Value};

/// All exchanges but the default one are fanouts; about that no router is asked.
struct Fanouts;

impl FixedTypes for Fanouts {
    fn answer(
        &mut self,
        exchange: &Arc<Exchange>,
        _: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
    ) {
        answers.extend(messages.map(|_| to_all(exchange)));
    }
    fn now_ms(&self) -> u64 {
        1
    }
}

struct Unwoken;

impl Wake for Unwoken {
    fn wake(&self) {}
}

struct World {
    vhost: Arc<Vhost>,
    dead: DeadLetters,
}

impl World {
    /// Queues, each with the key that its dead letters get at the default exchange.
    fn with(queues: &[(&'static str, &'static str)]) -> Self {
        Self::behind("", queues)
    }

    fn behind(exchange: &str, queues: &[(&'static str, &'static str)]) -> Self {
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::new(Name::from_static("/"), memory, &mut Fanouts).unwrap();
        for (name, to) in queues {
            let text = |text: &str| Value::Text(text.into());
            let arguments: Table = [
                (Name::from_static("x-dead-letter-exchange"), text(exchange)),
                (Name::from_static("x-dead-letter-routing-key"), text(to)),
            ]
            .into_iter()
            .collect();
            let spec = QueueSpec { name: Name::from_static(name), arguments, ..QueueSpec::default() };
            vhost.declare_queue(spec, ConnectionId(1)).unwrap();
        }
        Self { vhost, dead: DeadLetters::default() }
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.vhost.queue(name.as_bytes()).unwrap()
    }

    fn publish(&self, queue: &str) {
        self.publish_with(queue, &[0, 0]);
    }

    fn publish_with(&self, queue: &str, properties: &[u8]) {
        let (exchange, routing_key, body) = (&b""[..], queue.as_bytes(), &b"body"[..]);
        let message = MessageView { exchange, routing_key, form: FORM, properties, body, publisher: None };
        assert!(self.queue(queue).enqueue(
            (&[Publish { channel: 1, message, mandatory: false, more_keys: None }], 0),
            None,
            &[0],
            &[],
            &mut crate::queue::Notes::default()
        ));
    }

    /// The first message of a queue dies there.
    fn die(&mut self, queue: &str, reason: DeathReason) {
        self.die_and_stay(queue, reason);
        assert_eq!(self.dead.len(), 0);
    }

    /// The same, where it may stay.
    fn die_and_stay(&mut self, queue: &str, reason: DeathReason) {
        let queue = self.queue(queue);
        let mut taken: Option<MessageRef> = None;
        assert!(
            queue.get((false, 0), &mut Progress::default(), |_, message| taken = Some(message)),
            "it is in {queue:?}"
        );
        self.dead.push(&queue, taken.unwrap(), reason);
        let waker: Arc<dyn Wake> = Arc::new(Unwoken);
        self.dead.send(&self.vhost, &mut Fanouts, &waker);
    }

    /// Takes the first message of a queue: its properties.
    fn take(&self, queue: &str) -> Vec<u8> {
        let mut properties = Vec::new();
        assert!(self.queue(queue).get((true, 0), &mut Progress::default(), |got, _| {
            properties.extend_from_slice(got.message.properties)
        }));
        properties
    }

    fn counts(&self, queue: &str) -> DeadLetterCounts {
        self.queue(queue).dead_lettering().unwrap().counts()
    }
}

#[test]
fn a_queue_does_not_get_back_what_died_there_by_itself() {
    for reason in [Expired, MaxLength, DeliveryLimit] {
        let mut world = World::with(&[("self", "self")]);
        world.publish("self");
        world.die("self", reason);
        assert_eq!(world.counts("self"), DeadLetterCounts { cycles: 1, ..Default::default() });
        assert_eq!(world.queue("self").status().messages, 0);
        assert_eq!(world.vhost.memory().bytes(), 0);
    }
}

#[test]
fn a_cycle_over_several_queues_ends_where_it_would_close() {
    let mut world = World::with(&[("a", "b"), ("b", "c"), ("c", "b")]);
    world.publish("a");
    world.die("a", Expired);
    world.die("b", MaxLength);
    world.die("c", Expired);
    assert_eq!(world.counts("c").cycles, 1);
    assert_eq!(world.queue("b").status().messages, 0);
}

#[test]
fn of_the_queues_that_are_found_those_that_would_close_a_cycle_are_left_out() {
    let mut world = World::behind("amq.fanout", &[("a", ""), ("b", "")]);
    let bind = |vhost: &Arc<Vhost>, queue: &str| {
        let to = BindTo::Queue(queue.as_bytes());
        vhost.bind(&mut Fanouts, b"amq.fanout", to, b"", Table::new(), ConnectionId(1)).unwrap();
    };
    bind(&world.vhost, "a");
    world.publish("a");
    world.publish("a");
    world.die("a", Expired);
    assert_eq!(world.counts("a"), DeadLetterCounts { cycles: 1, ..Default::default() });
    bind(&world.vhost, "b");
    world.die("a", Expired);
    assert_eq!(world.counts("a"), DeadLetterCounts { cycles: 1, routed: 1, ..Default::default() });
    assert_eq!(["a", "b"].map(|queue| world.queue(queue).status().messages), [0, 1]);
    world.die("b", Expired);
    assert_eq!(world.counts("b"), DeadLetterCounts { cycles: 1, ..Default::default() });
    assert_eq!(world.vhost.memory().bytes(), 0);
}

#[test]
fn one_rejection_in_the_circle_keeps_it_going() {
    let mut world = World::with(&[("a", "b"), ("b", "c"), ("c", "a")]);
    world.publish("a");
    for _ in 0..5 {
        world.die("a", Rejected);
        world.die("b", Expired);
        world.die("c", Expired);
    }
    assert_eq!(world.queue("a").status().messages, 1);
    assert_eq!(world.counts("c"), DeadLetterCounts { routed: 5, ..Default::default() });
}

#[test]
fn a_history_that_a_publisher_made_up_closes_no_cycle() {
    let mut world = World::with(&[("a", "b"), ("b", "a")]);
    world.publish("a");
    world.die("a", Expired);
    let waker: Arc<dyn Wake> = Arc::new(Unwoken);
    // What died in `a` is published to `b` again by a client, with its headers.
    let mut properties = Vec::new();
    let b = world.queue("b");
    assert!(b.get((true, 0), &mut Progress::default(), |got, _| {
        properties.extend_from_slice(got.message.properties)
    }));
    let (exchange, routing_key, body) = (&b""[..], &b"b"[..], &b"body"[..]);
    let message =
        MessageView { exchange, routing_key, form: FORM, properties: &properties, body, publisher: None };
    assert!(b.enqueue(
        (&[Publish { channel: 1, message, mandatory: false, more_keys: None }], 0),
        None,
        &[0],
        &[],
        &mut crate::queue::Notes::default()
    ));
    let mut taken = None;
    b.get((false, 0), &mut Progress::default(), |_, message| taken = Some(message));
    world.dead.push(&b, taken.unwrap(), Expired);
    world.dead.send(&world.vhost, &mut Fanouts, &waker);
    assert_eq!(world.queue("a").status().messages, 1);
}

#[test]
fn a_queue_is_visited_once_however_often_it_asks() {
    let mut world = World::with(&[]);
    let arguments = [("x-expires", 1000), ("x-message-ttl", 50)];
    let arguments =
        arguments.map(|(name, value)| (Name::from_static(name), Value::Integer(value))).into_iter().collect();
    let spec = QueueSpec { name: Name::from_static("q"), arguments, ..QueueSpec::default() };
    world.vhost.declare_queue(spec, ConnectionId(1)).unwrap();
    for _ in 0..100 {
        world.publish("q");
        world.queue("q").get((true, 1), &mut Progress::default(), |_, _| ());
        world.vhost.run_deaths(1, &mut Fanouts, &mut world.dead);
        assert_eq!(world.vhost.deaths.visits(), 1);
    }
    world.vhost.delete_queue(&mut Fanouts, b"q", false, false, ConnectionId(1)).unwrap();
    world.vhost.run_deaths(5000, &mut Fanouts, &mut world.dead);
    assert_eq!(world.vhost.deaths.visits(), 0);
}

/// Properties with one header, which lack so many bytes of the most that they may have.
fn lacking(bytes: usize) -> Vec<u8> {
    let value = vec![b'a'; PROPERTIES_BYTES_MAX - bytes - 13];
    let lengths = [value.len() + 7, value.len()].map(|length| (length as u32).to_be_bytes());
    [b"\x20\0", &lengths[0][..], b"\x01kS", &lengths[1], &value].concat()
}

fn header(properties: &[u8], name: &'static str) -> Option<Value> {
    MessageView { exchange: b"", routing_key: b"", form: FORM, properties, body: b"", publisher: None }
        .header(&Name::from_static(name))
}

#[test]
fn what_does_not_fit_of_a_history_is_left_out() {
    let mut world = World::with(&[("a", "b"), ("b", "a")]);
    let mut told = Vec::new();
    for lacks in (0..500).step_by(10).chain([131_000]) {
        world.publish_with("a", &lacking(lacks));
        world.die("a", Expired);
        let properties = world.take("b");
        assert!(properties.len() <= PROPERTIES_BYTES_MAX);
        assert!(header(&properties, "k").is_some());
        let has = |name| header(&properties, name).is_some();
        told.push(["x-last-death-queue", "x-first-death-queue", "x-death"].map(has));
    }
    let shortened = told.iter().filter(|has| **has != [true; 3]).count();
    assert_eq!(world.vhost.later_counters().histories_shortened, shortened as u64);
    told.dedup();
    assert_eq!(told, [[false; 3], [true, true, false], [true; 3]], "more with more room");
    // As long as it came, which is more than is written.
    let mut longest = lacking(0);
    longest.splice(0..2, [0x20, 0x80]);
    longest.extend(b"\x07message");
    world.publish_with("a", &longest);
    world.die("a", Expired);
    assert_eq!(world.take("b"), longest);
    assert_eq!(world.vhost.memory().bytes(), 0);
}

#[test]
fn the_oldest_deaths_are_left_out_first_and_what_may_go_in_a_circle_without_them_is_set_aside() {
    for (reason, stuck) in [(Expired, 1), (Rejected, 0)] {
        let mut world = World::with(&[("a", "b"), ("b", "c"), ("c", "a")]);
        world.publish_with("a", &lacking(330));
        world.die("a", Expired);
        world.die("b", Expired);
        assert_eq!(world.vhost.later_counters().histories_shortened, 1);
        world.die_and_stay("c", reason);
        assert_eq!((world.counts("c").stuck, world.dead.len() as u64), (stuck, stuck));
        assert_eq!(world.vhost.later_counters().letters_stuck, stuck);
        assert_eq!(world.queue("a").status().messages, 1 - stuck);
        if stuck == 0 {
            let properties = world.take("a");
            let Some(Value::List(deaths)) = header(&properties, "x-death") else { panic!("no x-death") };
            assert_eq!(deaths.len(), 1);
            assert_eq!(header(&properties, "x-first-death-queue"), Some(Value::string(b"a")));
            assert_eq!(header(&properties, "x-last-death-queue"), Some(Value::string(b"c")));
        }
    }
}
