//! The management node: "HTTP over AMQP" and "Using the AMQP link pair", as RabbitMQ 4 has them.

use super::{
    Other, Peer,
    peer::{awaited, credit, open, receiver, sender, source, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    Performative, Value,
    composite::{Composite, Fields},
    descriptor,
    message::{Body, Message},
    messaging::{MessageId, Properties, Source, Target, TerminusDurability, TerminusExpiryPolicy},
    performatives::{Attach, Detach, End, Flow, Open, SenderSettleMode, Transfer},
    transactions::AnyTarget,
    types::{ListBuilder, MapBuilder, Reader, Symbol, write},
};
use leveret_testkit::{Broker, unique_name};

/// A client with the pair of links.
pub(crate) struct Managing {
    peer: Peer,
    sent: u32,
}

/// Attaches the links of a pair: those to the node and from it.
fn attach_pair(peer: &mut Peer, (to, from): (u32, u32), name: &str) {
    let mut paired = MapBuilder::new();
    paired.push(Symbol::from_static("paired"), true);
    let properties = Fields::new(paired.view());
    let settled = SenderSettleMode::Settled;
    let to = sender(to, name, target("/management"));
    peer.attach(0, &Attach { properties, snd_settle_mode: settled, ..to });
    let from = receiver(from, name, source("/management"));
    peer.attach(0, &Attach { properties, snd_settle_mode: settled, ..from });
}

/// A response: its status, and its body, encoded.
struct Answer {
    status: String,
    body: Vec<u8>,
}

impl Answer {
    fn value(&self) -> Value<'_> {
        Reader::new(&self.body).value().unwrap()
    }

    fn map(&self) -> leveret_amqp10::types::Map<'_> {
        match self.value() {
            Value::Map(map) => map,
            other => panic!("no map: {other:?}"),
        }
    }

    fn field(&self, name: &str) -> Value<'_> {
        self.map().get(&Value::String(name)).unwrap_or_else(|| panic!("no {name}"))
    }
}

/// The body of a request: a map with these fields.
pub(crate) fn map(fill: impl FnOnce(&mut MapBuilder)) -> Vec<u8> {
    let mut map = MapBuilder::new();
    fill(&mut map);
    let mut out = Vec::new();
    write::put(&mut out, map.view());
    out
}

const NOTHING: &[u8] = &[0x40];

impl Managing {
    pub(crate) fn new(broker: &Broker) -> Self {
        let mut peer = Peer::begun(broker);
        attach_pair(&mut peer, (0, 1), "pair");
        peer.say(0, &credit(1, 0, 100));
        Self { peer, sent: 0 }
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) {
        self.ask_on(0, method, path, body);
    }

    fn ask_on(&mut self, handle: u32, method: &str, path: &str, body: &[u8]) {
        let id = self.sent;
        self.sent += 1;
        let properties = Properties {
            message_id: Some(MessageId::Ulong(id.into())),
            to: Some(path),
            subject: Some(method),
            reply_to: Some("$me"),
            ..Properties::default()
        };
        let mut message = Vec::new();
        properties.encode(&mut message);
        write::put_descriptor(&mut message, descriptor::AMQP_VALUE);
        message.extend_from_slice(body);
        let tag = id.to_be_bytes();
        let transfer = Transfer { settled: Some(true), ..super::part2_transport::transfer(handle, id, &tag) };
        self.peer.transfer(0, &transfer, &message);
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.ask(method, path, body);
        let id = u64::from(self.sent - 1);
        loop {
            let came = self.peer.frame();
            let payload = match came.read() {
                (leveret_amqp10::Performative::Transfer(_), payload) => payload,
                // Credit.
                (leveret_amqp10::Performative::Flow(_), _) => continue,
                (other, _) => panic!("{other:?}"),
            };
            let response = Message::new(payload).unwrap();
            assert_eq!(response.properties().correlation_id, Some(MessageId::Ulong(id)));
            assert_eq!(response.application_properties().get("http:response"), Some(Value::String("1.1")));
            let Body::Value(body) = response.body() else { panic!("no value") };
            return Answer { status: response.properties().subject.unwrap().to_owned(), body: body.to_vec() };
        }
    }

    pub(crate) fn status(&mut self, method: &str, path: &str, body: &[u8]) -> String {
        self.request(method, path, body).status
    }
}

#[test]
fn queues_are_declared_read_purged_and_deleted() {
    with_bystander(|broker| {
        let mut managing = Managing::new(broker);
        let name = unique_name("a b");
        let path = queue_address(&name.replace(' ', "%20"));
        assert_eq!(managing.status("GET", &path, NOTHING), "404");
        let quorum = map(|fields| {
            let mut arguments = MapBuilder::new();
            arguments.push("x-queue-type", "quorum").push(Symbol::from_static("x-max-length"), 10u32);
            fields.push("durable", true).push("arguments", arguments.view());
        });
        assert_eq!(managing.status("PUT", &path, &quorum), "201");
        let answer = managing.request("PUT", &path, &quorum);
        assert_eq!(answer.status, "200");
        assert_eq!(answer.field("name"), Value::String(&name));
        let answer = managing.request("GET", &path, NOTHING);
        assert_eq!(answer.status, "200");
        for (field, value) in [
            ("vhost", Value::String("/")),
            ("durable", Value::Boolean(true)),
            ("auto_delete", Value::Boolean(false)),
            ("exclusive", Value::Boolean(false)),
            ("type", Value::String("quorum")),
            ("message_count", Value::Ulong(0)),
            ("consumer_count", Value::Uint(0)),
        ] {
            assert_eq!(answer.field(field), value, "{field}");
        }
        assert!(matches!(answer.field("replicas"), Value::Array(_)));
        let Value::Map(arguments) = answer.field("arguments") else { panic!("no arguments") };
        assert_eq!(arguments.get(&Value::String("x-max-length")), Some(Value::Long(10)));
        assert_eq!(managing.status("PUT", &path, &map(|_| ())), "409", "another type");
        assert_eq!(managing.status("PUT", "/queues/amq.own", &map(|_| ())), "403");
        assert_eq!(
            managing.status(
                "PUT",
                "/queues/new",
                &map(|fields| {
                    fields.push("odd", 1u8);
                })
            ),
            "400"
        );
        assert_eq!(managing.status("PUT", "/queues/line%0Abreak", &map(|_| ())), "400");
        let messages = format!("{path}/messages");
        let purged = managing.request("DELETE", &messages, NOTHING);
        assert_eq!((purged.status.as_str(), purged.field("message_count")), ("200", Value::Ulong(0)));
        let deleted = managing.request("DELETE", &path, NOTHING);
        assert_eq!((deleted.status.as_str(), deleted.field("message_count")), ("200", Value::Ulong(0)));
        assert_eq!(managing.status("DELETE", &path, NOTHING), "200", "though there is none");
        assert_eq!(managing.status("DELETE", &messages, NOTHING), "404");
        assert_eq!(managing.status("PATCH", &path, NOTHING), "405");
        assert_eq!(managing.status("GET", "/streams/none", NOTHING), "404");
    });
}

/// An exclusive queue goes with its connection and is told as durable all the same if it was declared so, as in RabbitMQ.
#[test]
fn an_exclusive_queue_is_told_as_it_was_declared() {
    with_bystander(|broker| {
        let mut managing = Managing::new(broker);
        let path = queue_address(&unique_name("queue"));
        for status in ["201", "200"] {
            let told = managing.request("PUT", &path, &map(|fields| _ = fields.push("exclusive", true)));
            let flags = ["durable", "exclusive"].map(|flag| told.field(flag));
            assert_eq!((told.status.as_str(), flags), (status, [Value::Boolean(true); 2]));
        }
        let mut other = Managing::new(broker);
        assert_eq!(other.status("GET", &path, NOTHING), "400");
        drop(managing);
        while other.status("GET", &path, NOTHING) != "404" {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_queue_tells_its_type_among_its_arguments_and_bad_ones_are_told_apart() {
    with_bystander(|broker| {
        let mut managing = Managing::new(broker);
        let path = queue_address(&unique_name("queue"));
        let declared = managing.request("PUT", &path, &map(|_| ()));
        assert_eq!(declared.status, "201");
        let Value::Map(arguments) = declared.field("arguments") else { panic!("no arguments") };
        assert_eq!(arguments.get(&Value::String("x-queue-type")), Some(Value::String("classic")));
        let as_told = map(|fields| {
            fields.push("arguments", arguments);
        });
        assert_eq!(managing.status("PUT", &path, &as_told), "200");
        let exclusive = |exclusive: bool| {
            map(|fields| {
                fields.push("exclusive", exclusive);
            })
        };
        assert_eq!(managing.status("PUT", &path, &exclusive(true)), "400", "exclusive differs");
        assert_eq!(managing.status("DELETE", &path, NOTHING), "200");
        let of = |argument: &str, value: Value<'_>, exclusive: bool| {
            map(|fields| {
                let mut arguments = MapBuilder::new();
                arguments.push(argument, value);
                fields.push("exclusive", exclusive).push("arguments", arguments.view());
            })
        };
        for (argument, value, exclusive, status) in [
            ("x-max-length", Value::Long(-1), false, "409"),
            ("x-max-length", Value::String("many"), false, "409"),
            ("x-queue-type", Value::String("quorum"), true, "400"),
        ] {
            let body = of(argument, value, exclusive);
            assert_eq!(managing.status("PUT", &path, &body), status, "{argument} {value:?}");
        }
        assert_eq!(managing.status("GET", &path, NOTHING), "404");
    });
}

#[test]
fn exchanges_are_declared_and_deleted_and_bound() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let (queue, exchange) = (other.queue(&[]), unique_name("exchange"));
        let path = format!("/exchanges/{exchange}");
        let mut managing = Managing::new(broker);
        let topic = map(|fields| {
            fields.push("type", "topic");
        });
        assert_eq!(managing.status("PUT", &path, &topic), "204");
        assert_eq!(managing.status("PUT", &path, &topic), "204");
        assert_eq!(managing.status("PUT", &path, &map(|_| ())), "409");
        assert_eq!(managing.status("DELETE", "/exchanges/amq.topic", NOTHING), "403");
        let bind = |arguments: &MapBuilder| {
            map(|fields| {
                fields.push("source", exchange.as_str()).push("destination_queue", queue.as_str());
                fields.push("binding_key", "a.#").push("arguments", arguments.view());
            })
        };
        let mut arguments = MapBuilder::new();
        arguments.push("own", 5i64);
        assert_eq!(managing.status("POST", "/bindings", &bind(&MapBuilder::new())), "204");
        assert_eq!(managing.status("POST", "/bindings", &bind(&arguments)), "204");
        let place = format!("/bindings?src={exchange}&dstq={queue}&key=a.%23");
        let found = managing.request("GET", &place, NOTHING);
        let Value::List(list) = found.value() else { panic!("no list") };
        let mut locations = Vec::new();
        for binding in list.iter() {
            let Value::Map(binding) = binding else { panic!("no map") };
            assert_eq!(binding.get(&Value::String("binding_key")), Some(Value::String("a.#")));
            locations.push(binding.get(&Value::String("location")).unwrap().as_str().unwrap().to_owned());
        }
        assert_eq!(locations.len(), 2);
        for location in locations {
            assert_eq!(managing.status("DELETE", &location, NOTHING), "204");
            assert_eq!(managing.status("DELETE", &location, NOTHING), "204", "though it is gone");
        }
        let mut none = Vec::new();
        write::put(&mut none, ListBuilder::new().view());
        assert_eq!(managing.request("GET", &place, NOTHING).body, none);
        let nowhere = map(|fields| {
            fields.push("source", "nowhere").push("destination_queue", queue.as_str());
        });
        assert_eq!(managing.status("POST", "/bindings", &nowhere), "400", "no binding key");
        let nowhere = map(|fields| {
            fields.push("source", "nowhere").push("destination_queue", queue.as_str());
            fields.push("binding_key", "k");
        });
        assert_eq!(managing.status("POST", "/bindings", &nowhere), "400", "no such exchange");
        let direct = map(|_| ());
        assert_eq!(managing.status("PUT", "/exchanges/amq.direct", &direct), "204", "it is as that");
        assert_eq!(managing.status("PUT", "/exchanges/amq.own", &direct), "403");
        assert_eq!(managing.status("DELETE", &path, NOTHING), "204");
        assert_eq!(managing.status("DELETE", &path, NOTHING), "204", "though it is gone");
    });
}

#[test]
fn a_token_is_taken_and_what_is_no_message_ends_the_session() {
    with_bystander(|broker| {
        let mut managing = Managing::new(broker);
        let mut token = Vec::new();
        write::put(&mut token, &b"ey.token"[..]);
        assert_eq!(managing.status("PUT", "/auth/tokens", &token), "204");
        let transfer = Transfer { settled: Some(true), ..super::part2_transport::transfer(0, 1, b"t") };
        managing.peer.transfer(0, &transfer, &[0x41]);
        awaited!(managing.peer, End, it => {
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:invalid-field");
        });
    });
}

/// 3.5.5, 3.5.6: nothing is kept of a link of the node, and that is told, whatever it asks for.
#[test]
fn a_link_of_the_node_is_not_resumed() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let mut paired = MapBuilder::new();
        paired.push(Symbol::from_static("paired"), true);
        let properties = Fields::new(paired.view());
        let (durable, expiry_policy) = (TerminusDurability::UnsettledState, TerminusExpiryPolicy::Never);
        let nothing = (TerminusDurability::None, TerminusExpiryPolicy::LinkDetach, 0);
        let asked = Target { durable, expiry_policy, timeout: 9, ..target("/management") };
        peer.say(0, &Attach { properties, ..sender(0, "pair", asked) });
        awaited!(peer, Attach, it => match it.target {
            Some(AnyTarget::Node(told)) => {
                assert_eq!((told.durable, told.expiry_policy, told.timeout), nothing);
            }
            other => panic!("{other:?}"),
        });
        awaited!(peer, Flow);
        let asked = Source { durable, expiry_policy, timeout: 9, ..source("/management") };
        let snd_settle_mode = SenderSettleMode::Settled;
        peer.say(0, &Attach { properties, snd_settle_mode, ..receiver(1, "pair", asked) });
        awaited!(peer, Attach, it => {
            let told = it.source.unwrap();
            assert_eq!((told.durable, told.expiry_policy, told.timeout), nothing);
        });
    });
}

#[test]
fn a_half_open_pair_and_links_that_are_of_no_pair_are_refused() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        assert_eq!(peer.refused(0, &sender(0, "alone", target("/management"))), "amqp:invalid-field");
        let mut paired = MapBuilder::new();
        paired.push(Symbol::from_static("paired"), true);
        let properties = Fields::new(paired.view());
        peer.attach(0, &Attach { properties, ..sender(1, "half", target("/management")) });
        let transfer = Transfer { settled: Some(true), ..super::part2_transport::transfer(1, 0, b"t") };
        peer.transfer(0, &transfer, &super::part2_transport::message(b"m"));
        awaited!(peer, End, it => {
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:precondition-failed");
        });
    });
}

#[test]
fn requests_are_answered_in_their_order_as_there_is_credit() {
    with_bystander(|broker| {
        let mut managing = Managing::new(broker);
        for _ in 0..6 {
            managing.ask("GET", "/queues/none", NOTHING);
        }
        for id in 0..6 {
            let came = managing.peer.frame();
            let (leveret_amqp10::Performative::Transfer(_), payload) = came.read() else { continue };
            let response = Message::new(payload).unwrap();
            let Some(MessageId::Ulong(answered)) = response.properties().correlation_id else {
                panic!("no id")
            };
            assert!(answered <= id);
        }
    });
}

/// The state of a link, when all that was sent before was looked at.
fn credit_left(peer: &mut Peer, sent: u32) -> u32 {
    let flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 1000,
        next_outgoing_id: sent,
        handle: Some(0),
        echo: true,
        ..Flow::default()
    };
    peer.say(0, &flow);
    awaited!(peer, Flow, it => it.link_credit.unwrap())
}

/// As many requests may come as were answered.
#[test]
fn credit_for_requests_is_renewed_when_they_are_answered() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        attach_pair(&mut peer, (0, 1), "pair");
        let mut managing = Managing { peer, sent: 0 };
        for _ in 0..8 {
            managing.ask("GET", "/queues/none", NOTHING);
        }
        assert_eq!(credit_left(&mut managing.peer, 8), 0);
        managing.peer.say(0, &credit(1, 0, 8));
        let (mut answers, mut renewed) = (0, 0);
        while answers < 8 || renewed < 5 {
            let came = managing.peer.frame();
            match came.read().0 {
                Performative::Transfer(_) => answers += 1,
                Performative::Flow(it) => renewed = it.link_credit.unwrap(),
                other => panic!("{other:?}"),
            }
            assert!(renewed <= answers, "{renewed} after {answers} answers");
        }
    });
}

/// A client that takes no responses has its session ended before they are too many.
#[test]
fn responses_that_nobody_takes_are_bounded() {
    with_bystander(|broker| {
        let queue = Other::new(broker).queue(&[("x-own", &"a".repeat(100_000))]);
        let mut peer = Peer::begun(broker);
        attach_pair(&mut peer, (0, 1), "one");
        attach_pair(&mut peer, (2, 3), "another");
        let mut managing = Managing { peer, sent: 0 };
        for _ in 0..8 {
            managing.ask_on(0, "GET", &queue_address(&queue), NOTHING);
            managing.ask_on(2, "GET", &queue_address(&queue), NOTHING);
        }
        awaited!(managing.peer, End, it => {
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:precondition-failed");
        });
    });
}

/// Who asks the same channel and handles gets answers to their own requests.
#[test]
fn responses_do_not_reach_the_next_session_or_link() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        attach_pair(&mut peer, (0, 1), "pair");
        let mut managing = Managing { peer, sent: 0 };
        managing.ask("GET", "/queues/of-the-link", NOTHING);
        credit_left(&mut managing.peer, 1);
        managing.peer.say(0, &Detach { handle: 1, closed: true, error: None });
        awaited!(managing.peer, Detach);
        let mut paired = MapBuilder::new();
        paired.push(Symbol::from_static("paired"), true);
        let properties = Fields::new(paired.view());
        let snd_settle_mode = SenderSettleMode::Settled;
        let from = receiver(1, "pair", source("/management"));
        managing.peer.attach(0, &Attach { properties, snd_settle_mode, ..from });
        managing.peer.say(0, &credit(1, 0, 100));
        assert_eq!(managing.status("GET", "/queues/none", NOTHING), "404");
        managing.peer.say(0, &credit(1, 1, 0));
        managing.ask("GET", "/queues/of-the-session", NOTHING);
        credit_left(&mut managing.peer, 3);
        managing.peer.say(0, &End::default());
        awaited!(managing.peer, End);
        managing.peer.say(0, &super::peer::begin());
        awaited!(managing.peer, Begin);
        attach_pair(&mut managing.peer, (0, 1), "pair");
        managing.peer.say(0, &credit(1, 0, 100));
        assert_eq!(managing.status("GET", "/queues/none", NOTHING), "404");
    });
}

/// 2.7.1: connections are listed with their clients' containers, by which RabbitMQ's clients find their own.
#[test]
fn connections_are_listed_with_their_containers() {
    with_bystander(|broker| {
        let _other = Other::new(broker);
        let url = format!("http://{}/api/connections", broker.http_address());
        let told = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").call().unwrap();
        let told: Vec<serde_json::Value> =
            serde_json::from_slice(&told.into_body().read_to_vec().unwrap()).unwrap();
        for connection in &told {
            let container = (connection["protocol"] == "AMQP 1-0").then_some("peer");
            assert_eq!(connection.get("container_id").and_then(|id| id.as_str()), container, "{connection}");
        }
        assert_eq!(told.len(), 2);
    });
}

/// 2.8.16: whoever is closed by the HTTP API is told so in words that RabbitMQ's clients look for.
#[test]
fn a_connection_that_somebody_closes_is_told_so() {
    with_bystander(|broker| {
        let mut victim = Peer::logged_in(broker);
        victim.say(0, &Open { container_id: "victim", ..open() });
        awaited!(victim, Open);
        let url = format!("http://{}/api/connections", broker.http_address());
        let (name, guest) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
        let told = ureq::get(&url).header(name, guest).call().unwrap();
        let told: Vec<serde_json::Value> =
            serde_json::from_slice(&told.into_body().read_to_vec().unwrap()).unwrap();
        let its = told.iter().find(|connection| connection["container_id"] == "victim").unwrap();
        let its = its["name"].as_str().unwrap().replace(' ', "%20").replace('>', "%3E");
        ureq::delete(format!("{url}/{its}")).header(name, guest).call().unwrap();
        awaited!(victim, Close, it => {
            let error = it.error.unwrap();
            assert_eq!(error.condition.as_str(), "amqp:connection:forced");
            let words = "Connection forced: \"Closed via management plugin\"";
            assert_eq!(error.description, Some(words));
        });
    });
}
