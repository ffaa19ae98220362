//! 3.5.3 and 3.5.8: a source gives what its filters match. The filters are those of "AMQP Filter Expressions Version 1.0"
//! and the selector of Apache's registry; unlike in RabbitMQ they hold for queues of every type.

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, credit, receiver, sender, source, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    Performative, Value,
    composite::{Composite, Fields},
    descriptor,
    message::{Body, Message},
    messaging::{Accepted, Header, Properties, Released, Source},
    performatives::{Attach, Detach, Disposition, Flow, Role},
    types::{MapBuilder, Reader, Symbol, write},
};
use leveret_testkit::{
    Broker,
    wire::{self, Arguments, id},
};

const KINDS: [&[(&str, &str)]; 2] = [&[], &[("x-queue-type", "quorum")]];

fn symbol(text: &str) -> Symbol<'_> {
    Symbol::new(text).unwrap()
}

/// A described value, encoded.
fn described<'a>(descriptor: impl Into<Value<'a>>, value: impl Into<Value<'a>>) -> Vec<u8> {
    let mut out = vec![0];
    write::put(&mut out, descriptor);
    write::put(&mut out, value);
    out
}

fn sql(text: &str) -> Vec<u8> {
    described(symbol("amqp:sql-filter"), text)
}

fn selector(text: &str) -> Vec<u8> {
    described(0x468c_0000_0004_u64, text)
}

/// A filter-set of filters by their names.
fn set(filters: &[(&str, &[u8])]) -> MapBuilder {
    let mut map = MapBuilder::new();
    for (name, filter) in filters {
        map.push(symbol(name), Reader::new(filter).value().unwrap());
    }
    map
}

fn encoded<'a>(composite: &impl Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    composite.encode(&mut out);
    out
}

/// A message with a subject, a number and a colour, which is its body too.
fn coloured(number: i32, colour: &str) -> Vec<u8> {
    let mut application = Vec::new();
    write::put_descriptor(&mut application, descriptor::APPLICATION_PROPERTIES);
    let mut map = MapBuilder::new();
    map.push("number", number).push("colour", colour);
    write::put(&mut application, map.view());
    let header = Header { durable: Some(true), priority: Some(3), ..Header::default() };
    let properties = Properties { subject: Some(colour), ..Properties::default() };
    [encoded(&header), encoded(&properties), application, message(format!("{colour}{number}").as_bytes())]
        .concat()
}

/// A queue, somebody who sends there by handle 0, and by whom links from it are attached.
struct World {
    peer: Peer,
    other: Other,
    queue: String,
    sent: u32,
}

/// A link from the queue, which counts what came.
struct Link {
    handle: u32,
    received: u32,
}

impl World {
    fn new(broker: &Broker, arguments: &[(&str, &str)]) -> Self {
        let mut other = Other::new(broker);
        let queue = other.queue(arguments);
        let mut peer = Peer::begun(broker);
        peer.attach(0, &sender(0, "s", target(&queue_address(&queue))));
        Self { peer, other, queue, sent: 0 }
    }

    fn send(&mut self, colours: &[&str]) {
        for colour in colours {
            let id = self.sent;
            self.sent += 1;
            self.peer.transfer(0, &transfer(0, id, &id.to_be_bytes()), &coloured(id as i32, colour));
            self.told(id);
        }
    }

    /// Waits for the outcome of what was sent.
    fn told(&mut self, id: u32) {
        loop {
            match self.peer.frame().read().0 {
                Performative::Disposition(it) => {
                    return assert_eq!((it.role, it.first), (Role::Receiver, id));
                }
                // The window and the credit are renewed now and then.
                Performative::Flow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Attaches a link with these filters; gives it, and the names of those in force.
    fn receive(&mut self, handle: u32, filters: &[(&str, &[u8])]) -> (Link, Vec<String>) {
        let (address, map) = (queue_address(&self.queue), set(filters));
        let source = Source { filter: Fields::new(map.view()), ..source(&address) };
        self.peer.say(0, &receiver(handle, &format!("r{handle}"), source));
        let in_force = awaited!(self.peer, Attach, it => {
            for capability in ["AMQP_FILTEX_PROP_V1_0", "AMQP_FILTEX_SQL_V1_0", "APACHE.ORG:SELECTOR"] {
                assert!(it.offered_capabilities.contains(capability));
            }
            let told = it.source.expect("a source").filter;
            let same = |(name, value): (Value<'_>, Value<'_>)| {
                let name = name.as_symbol().unwrap().as_str().to_owned();
                let asked = map.view().get(&Value::Symbol(symbol(&name)));
                assert_eq!(asked, Some(value), "as it came");
                name
            };
            told.map(|told| told.map().iter().map(same).collect()).unwrap_or_default()
        });
        (Link { handle, received: 0 }, in_force)
    }

    /// Tries to attach a link with these filters: the condition, and the text.
    fn refused(&mut self, filters: &[(&str, &[u8])]) -> (String, String) {
        let (address, map) = (queue_address(&self.queue), set(filters));
        let source = Source { filter: Fields::new(map.view()), ..source(&address) };
        let attach = Attach { ..receiver(9, "refused", source) };
        self.peer.say(0, &attach);
        awaited!(self.peer, Attach, it => assert!(it.source.is_none(), "{it:?}"));
        let why = awaited!(self.peer, Detach, it => {
            let error = it.error.expect("an error");
            (error.condition.to_string(), error.description.unwrap_or_default().to_owned())
        });
        self.peer.say(0, &Detach { handle: 9, closed: true, error: None });
        why
    }

    /// Gives a link credit for one more than `count`, takes so many, and ends the credit: that tells that there was nothing
    /// more. The bodies.
    fn take(&mut self, link: &mut Link, count: u32) -> Vec<String> {
        let flow = credit(link.handle, link.received, count + 1);
        self.peer.say(0, &Flow { drain: true, ..flow });
        let mut bodies = Vec::new();
        loop {
            let came = self.peer.frame();
            match came.read() {
                (Performative::Transfer(it), payload) => {
                    assert_eq!(it.handle, link.handle);
                    bodies.push(body(payload));
                    link.received += 1;
                }
                // Whether the link is active.
                (Performative::Flow(it), _) if it.properties.is_some() => {}
                (Performative::Flow(it), _) => {
                    assert_eq!((it.handle, it.link_credit, it.drain), (Some(link.handle), Some(0), true));
                    // What was not used counts as used.
                    link.received = it.delivery_count.unwrap();
                    return bodies;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn detach(&mut self, link: &Link) {
        self.peer.say(0, &Detach { handle: link.handle, closed: true, error: None });
        awaited!(self.peer, Detach);
    }

    fn settle_all<'a>(&mut self, state: impl Into<leveret_amqp10::messaging::DeliveryState<'a>>) {
        let disposition = Disposition {
            role: Role::Receiver,
            first: 0,
            last: Some(1000),
            settled: true,
            state: Some(state.into()),
            ..Disposition::default()
        };
        self.peer.say(0, &disposition);
    }
}

fn body(payload: &[u8]) -> String {
    match Message::new(payload).unwrap().body() {
        Body::Data(data) => data.data().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Each kind of filter, on queues of each type: what matches comes, in order, and the rest stays.
#[test]
fn what_matches_comes_and_the_rest_stays() {
    with_bystander(|broker| {
        let mut red = MapBuilder::new();
        red.push("colour", "&p:re");
        let mut subject = MapBuilder::new();
        subject.push(symbol("subject"), "red");
        let filters = [
            sql("colour = 'red' AND number < 100"),
            sql("p.subject LIKE 'r%' AND h.priority = 3"),
            selector("colour IN ('red', 'green') AND JMSType = 'red' AND JMSPriority < 4"),
            described(0x174_u64, red.view()),
            described(symbol("amqp:properties-filter"), subject.view()),
        ];
        for arguments in KINDS {
            for filter in &filters {
                let mut world = World::new(broker, arguments);
                world.send(&["blue", "red", "blue", "red"]);
                let (mut link, in_force) = world.receive(1, &[("f", filter)]);
                assert_eq!(in_force, ["f"]);
                assert_eq!(world.take(&mut link, 2), ["red1", "red3"]);
                world.send(&["blue", "red"]);
                assert_eq!(world.take(&mut link, 1), ["red5"]);
                world.settle_all(Accepted {});
                world.detach(&link);
                let (mut link, in_force) = world.receive(2, &[]);
                assert!(in_force.is_empty());
                assert_eq!(world.take(&mut link, 3), ["blue0", "blue2", "blue4"]);
            }
        }
    });
}

/// All filters of a source must match.
#[test]
fn several_filters_of_a_source_hold_together() {
    with_bystander(|broker| {
        let mut world = World::new(broker, &[]);
        world.send(&["red", "red", "blue", "red"]);
        let filters = [("one", sql("colour = 'red'")), ("two", selector("number > 0"))];
        let filters: Vec<_> = filters.iter().map(|(name, filter)| (*name, filter.as_slice())).collect();
        let (mut link, in_force) = world.receive(1, &filters);
        assert_eq!(in_force, ["one", "two"]);
        assert_eq!(world.take(&mut link, 2), ["red1", "red3"]);
    });
}

/// A filter that is not known is left out of the answer, for the client to look at; one that makes no sense refuses the
/// link, and says where.
#[test]
fn what_is_unknown_is_left_out_and_what_is_wrong_is_refused() {
    with_bystander(|broker| {
        let mut world = World::new(broker, &[]);
        world.send(&["red", "blue"]);
        let unknown = described(symbol("rabbitmq:stream-offset-spec"), "first");
        let (mut link, in_force) =
            world.receive(1, &[("offset", &unknown), ("sql", &sql("colour = 'blue'"))]);
        assert_eq!(in_force, ["sql"]);
        assert_eq!(world.take(&mut link, 1), ["blue1"]);
        let (link, in_force) = world.receive(2, &[("offset", &unknown)]);
        assert!(in_force.is_empty());
        world.detach(&link);
        let mut no_property = MapBuilder::new();
        no_property.push(symbol("colour"), "red");
        for (filter, text) in [
            (sql("colour = = 'red'"), "the filter 'f': at character 10: expected "),
            (selector("JMSPriority >"), "the filter 'f': at character 14: "),
            (sql("x.y = 1"), "the filter 'f': at character 1: there is no section x"),
            (described(0x120_u64, 7_i32), "the filter 'f': a filter with that descriptor is a string"),
            (described(0x173_u64, no_property.view()), "messages have no property 'colour'"),
        ] {
            let (condition, why) = world.refused(&[("f", &filter)]);
            assert_eq!(condition, "amqp:invalid-field", "{why}");
            assert!(why.contains(text), "{why}");
        }
        let mut plain = Vec::new();
        write::put(&mut plain, "colour = 'red'");
        let (condition, why) = world.refused(&[("f", &plain)]);
        assert_eq!((condition.as_str(), why.contains("has a descriptor")), ("amqp:invalid-field", true));
    });
}

/// Two receivers with filters of their own share a queue; one that comes later gets what both left.
#[test]
fn two_share_a_queue_by_their_filters() {
    with_bystander(|broker| {
        for arguments in KINDS {
            let mut world = World::new(broker, arguments);
            let (mut red, _) = world.receive(1, &[("f", &sql("colour = 'red'"))]);
            let (mut blue, _) = world.receive(2, &[("f", &selector("colour = 'blue'"))]);
            world.send(&["green", "blue", "red", "blue", "red", "green"]);
            assert_eq!(world.take(&mut red, 2), ["red2", "red4"]);
            assert_eq!(world.take(&mut blue, 2), ["blue1", "blue3"]);
            let (mut rest, _) = world.receive(3, &[]);
            assert_eq!(world.take(&mut rest, 2), ["green0", "green5"]);
        }
    });
}

/// What is released comes again to whom it matches, in its place.
#[test]
fn what_is_released_is_judged_again() {
    with_bystander(|broker| {
        for arguments in KINDS {
            let mut world = World::new(broker, arguments);
            world.send(&["blue", "red", "blue", "red"]);
            let (mut link, _) = world.receive(1, &[("f", &sql("colour = 'red'"))]);
            assert_eq!(world.take(&mut link, 2), ["red1", "red3"]);
            world.settle_all(Released {});
            assert_eq!(world.take(&mut link, 2), ["red1", "red3"]);
            // What a link has when it is detached goes back too.
            world.detach(&link);
            let (mut link, _) = world.receive(2, &[("f", &sql("colour = 'red' AND NOT h.first_acquirer"))]);
            assert_eq!(world.take(&mut link, 2), ["red1", "red3"]);
            world.settle_all(Accepted {});
            world.peer.expect_alive();
            assert_eq!(world.other.ready(&world.queue), 2);
        }
    });
}

/// Messages of the other protocol are judged as what they would be here; its consumers get what is at the head.
#[test]
fn messages_of_the_other_protocol_are_judged_too() {
    with_bystander(|broker| {
        let mut world = World::new(broker, &[]);
        for (colour, body) in [("blue", "first"), ("red", "second")] {
            let other = &mut world.other.0;
            other.send_method(1, id::BASIC_PUBLISH, Arguments::publish("", &world.queue));
            // With headers, delivery-mode and priority.
            let head = Arguments::new().short(60).short(0).long_long(body.len() as u64).short(0x3800);
            let head = head.table(&[("colour", colour)]).octet(2).octet(7);
            other.send_frame(wire::HEADER, 1, &head.into_bytes());
            other.send_frame(wire::BODY, 1, body.as_bytes());
        }
        assert_eq!(world.other.ready(&world.queue), 2);
        let (mut link, _) = world.receive(1, &[("f", &sql("colour = 'red' AND h.priority = 7"))]);
        assert_eq!(world.take(&mut link, 1), ["second"]);
        let get = Arguments::new().short(0).short_string(&world.queue).octet(1);
        world.other.0.send_method(1, id::BASIC_GET, get);
        world.other.0.expect_method(1, id::BASIC_GET_OK);
    });
}

/// A backlog is on disk after a restart: it is read to be judged, and what does not match is there after that.
#[test]
fn a_backlog_on_disk_is_judged_after_a_restart() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let mut world = World::new(&broker, &[]);
    let colours: Vec<_> = (0..500).map(|number| if number % 100 == 7 { "red" } else { "blue" }).collect();
    world.send(&colours);
    let queue = world.queue.clone();
    drop(world);
    let broker = broker.stop_for_a_while().start();
    let (other, peer) = (Other::new(&broker), Peer::begun(&broker));
    let mut world = World { peer, other, queue, sent: 0 };
    let (mut link, _) = world.receive(1, &[("f", &selector("colour = 'red'"))]);
    assert_eq!(world.take(&mut link, 5), ["red7", "red107", "red207", "red307", "red407"]);
    world.settle_all(Accepted {});
    world.peer.expect_alive();
    assert_eq!(world.other.ready(&world.queue), 495);
    let (mut link, _) = world.receive(2, &[("f", &sql("number >= 498"))]);
    assert_eq!(world.take(&mut link, 2), ["blue498", "blue499"]);
}

/// The HTTP API tells the filters of a consumer among its arguments.
#[test]
fn listings_tell_the_filters_of_a_link() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let mut world = World::new(&broker, &[]);
    let colour = sql("colour = 'red'");
    let mut fields = MapBuilder::new();
    fields.push(symbol("subject"), "red");
    let fields = described(symbol("amqp:properties-filter"), Value::Map(fields.view()));
    let filters = set(&[("x-priority", &colour), ("p", &fields)]);
    let with_filter = Source { filter: Fields::new(filters.view()), ..source("") };
    let address = queue_address(&world.queue);
    world.peer.attach(0, &receiver(1, "r", Source { address: Some(&address), ..with_filter }));
    let url = format!("http://{}/api/consumers", broker.http_address());
    let told = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").call().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.into_body().read_to_vec().unwrap()).unwrap();
    let expected =
        serde_json::json!({ "filter": { "x-priority": "colour = 'red'", "p": { "subject": "red" } } });
    assert_eq!(told[0]["arguments"], expected);
}
