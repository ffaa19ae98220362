//! AMQP 1.0: logins over TLS, and what each permission is asked for.

use crate::{
    asking::put,
    broker_with,
    peer::{Peer, awaited, begin, credit, receiver, sender, source, target},
    tls::{World, connect, sign},
};
use leveret_amqp10::{
    Performative,
    composite::{Composite, Fields},
    descriptor,
    messaging::{DeliveryState, MessageId, Properties, Rejected, Source, Target},
    performatives::{Attach, DeliveryTag, End, Error, SenderSettleMode, Transfer},
    types::{MapBuilder, Symbol, write},
};
use leveret_testkit::{Broker, ScratchDirectory};
use serde_json::json;

/// What a login over TLS comes to; `None` where there is no TLS.
fn login(world: &World, address: std::net::SocketAddr, user: Option<&str>, how: (&'static str, &[u8])) -> u8 {
    let shown = user.map(|user| sign(&world.authority, user));
    let mut peer = Peer::over(connect(world, address, shown.as_ref()));
    let code = peer.log_in_by(how.0, how.1);
    if code == 0 {
        peer.open();
        peer.begin();
    }
    code
}

/// Part 5, 5.2 and 5.3.3: TLS on a port of its own, and EXTERNAL for who shows a certificate.
#[test]
fn logins_over_tls_are_by_password_or_by_certificate() {
    let world = World::new();
    let (_broker, address) = world.broker("tls-clients = \"optional\"");
    let (accepted, refused) = (0, 1);
    assert_eq!(login(&world, address, None, ("PLAIN", b"\0guest\0guest")), accepted);
    assert_eq!(login(&world, address, None, ("PLAIN", b"\0guest\0wrong")), refused);
    assert_eq!(login(&world, address, None, ("EXTERNAL", b"")), refused, "without a certificate");
    assert_eq!(login(&world, address, Some("alice"), ("EXTERNAL", b"")), accepted);
    assert_eq!(login(&world, address, Some("alice"), ("EXTERNAL", b"alice")), accepted);
    assert_eq!(login(&world, address, Some("alice"), ("EXTERNAL", b"guest")), refused, "as somebody else");
    assert_eq!(login(&world, address, Some("nobody"), ("EXTERNAL", b"")), refused);
    assert_eq!(login(&world, address, Some("alice"), ("PLAIN", b"\0guest\0guest")), accepted);
}

/// A broker with a user who may do what these say, and with an exchange `ex`, a topic exchange `tx` and a queue `q`.
fn world(configure: &str, write: &str, read: &str, more: &str) -> (Broker, ScratchDirectory) {
    let (broker, configuration) = broker_with(&format!(
        "[users.guest]\npassword = \"guest\"\n[users.guest.permissions.\"/\"]\n\
         configure = \".*\"\nwrite = \".*\"\nread = \".*\"\n[users.u]\npassword = \"p\"\n{more}\
         [users.u.permissions.\"/\"]\nconfigure = \"{configure}\"\nwrite = \"{write}\"\nread = \"{read}\"\n"
    ));
    let mut admin = Peer::begun(&broker);
    pair(&mut admin);
    assert_eq!(ask(&mut admin, 0, "PUT", "/queues/q", |_| ()), Ok("201".to_owned()));
    for (id, name, kind) in [(1, "ex", "direct"), (2, "tx", "topic")] {
        let path = format!("/exchanges/{name}");
        let done = ask(&mut admin, id, "PUT", &path, |fields| {
            fields.push("type", kind);
        });
        assert_eq!(done, Ok("204".to_owned()));
    }
    (broker, configuration)
}

fn user(broker: &Broker) -> Peer {
    let mut peer = Peer::connect(broker.address());
    assert_eq!(peer.log_in(b"\0u\0p"), 0);
    peer.open();
    peer.begin();
    peer
}

/// The links to the management node and from it.
fn pair(peer: &mut Peer) {
    let mut paired = MapBuilder::new();
    paired.push(Symbol::from_static("paired"), true);
    let properties = Fields::new(paired.view());
    let snd_settle_mode = SenderSettleMode::Settled;
    let to = sender(0, "pair", target("/management"));
    peer.attach(0, &Attach { properties, snd_settle_mode, ..to });
    let from = receiver(1, "pair", source("/management"));
    peer.attach(0, &Attach { properties, snd_settle_mode, ..from });
    peer.say(0, &credit(1, 0, 100));
}

fn transfer(handle: u32, id: u32) -> Transfer<'static> {
    Transfer { handle, delivery_id: Some(id), delivery_tag: DeliveryTag::new(b"t"), ..Transfer::default() }
}

/// Condition and description.
fn told(error: Option<Error<'_>>) -> (String, String) {
    let error = error.expect("an error");
    (error.condition.to_string(), error.description.unwrap_or_default().to_owned())
}

/// The status of a request, or with which error the session ended.
fn ask(
    peer: &mut Peer,
    id: u32,
    method: &str,
    path: &str,
    fill: impl FnOnce(&mut MapBuilder),
) -> Result<String, (String, String)> {
    let mut body = Vec::new();
    let mut fields = MapBuilder::new();
    fill(&mut fields);
    if method == "GET" || method == "DELETE" {
        body.push(0x40);
    } else {
        write::put(&mut body, fields.view());
    }
    request(peer, id, (method, path), &body)
}

/// The same with a body.
fn request(
    peer: &mut Peer,
    id: u32,
    (method, path): (&str, &str),
    body: &[u8],
) -> Result<String, (String, String)> {
    let mut message = Vec::new();
    let properties = Properties {
        message_id: Some(MessageId::Ulong(id.into())),
        to: Some(path),
        subject: Some(method),
        reply_to: Some("$me"),
        ..Properties::default()
    };
    properties.encode(&mut message);
    write::put_descriptor(&mut message, descriptor::AMQP_VALUE);
    message.extend_from_slice(body);
    peer.transfer(0, &Transfer { settled: Some(true), ..transfer(0, id) }, &message);
    loop {
        let came = peer.frame();
        match came.read() {
            (Performative::Transfer(_), payload) => {
                let response = leveret_amqp10::message::Message::new(payload).unwrap();
                return Ok(response.properties().subject.unwrap().to_owned());
            }
            (Performative::End(it), _) => return Err(told(it.error)),
            (Performative::Flow(_), _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// With which error a session ended. Credit may come before.
fn ended(peer: &mut Peer) -> (String, String) {
    loop {
        match peer.frame().read().0 {
            Performative::End(it) => return told(it.error),
            Performative::Flow(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// With which error the session ends when a link is attached.
fn ends_session(broker: &Broker, attach: &Attach<'_>) -> (String, String) {
    let mut peer = user(broker);
    peer.say(0, attach);
    awaited!(peer, End, it => told(it.error))
}

fn denied(what: &str) -> (String, String) {
    let text = format!("{what} in vhost '/' refused for user 'u'");
    ("amqp:unauthorized-access".to_owned(), text)
}

/// Links and requests of a user without any permission: each ends the session, with what it lacks.
#[test]
fn who_may_do_nothing_is_told_what_it_lacks() {
    let (broker, _configuration) = world("", "", "", "");
    for (address, lacks) in [
        ("/queues/q", "write access to exchange 'amq.default'"),
        ("/exchanges/ex/k", "write access to exchange 'ex'"),
        ("/exchanges/missing", "write access to exchange 'missing'"),
    ] {
        assert_eq!(ends_session(&broker, &sender(0, "s", target(address))), denied(lacks));
    }
    let from = receiver(0, "r", source("/queues/q"));
    assert_eq!(ends_session(&broker, &from), denied("read access to queue 'q'"));
    let made = Source { dynamic: true, ..Source::default() };
    let (condition, text) = ends_session(&broker, &receiver(0, "r", made));
    assert_eq!(condition, "amqp:unauthorized-access");
    assert!(text.starts_with("configure access to queue 'amq."), "{text}");
    type Fill = fn(&mut MapBuilder);
    let bind: Fill = |fields| {
        fields.push("source", "ex").push("destination_queue", "q").push("binding_key", "k");
    };
    for (method, path, fill, lacks) in [
        ("GET", "/queues/q", (|_| ()) as Fill, "configure access to queue 'q'"),
        ("PUT", "/queues/new", |_| (), "configure access to queue 'new'"),
        ("DELETE", "/queues/q", |_| (), "configure access to queue 'q'"),
        ("DELETE", "/queues/q/messages", |_| (), "read access to queue 'q'"),
        ("PUT", "/exchanges/new", |_| (), "configure access to exchange 'new'"),
        ("DELETE", "/exchanges/ex", |_| (), "configure access to exchange 'ex'"),
        ("POST", "/bindings", bind, "write access to queue 'q'"),
        ("DELETE", "/bindings/src=ex;dstq=q;key=k;args=", |_| (), "write access to queue 'q'"),
        ("GET", "/bindings?src=ex&dstq=q&key=k", |_| (), "configure access to queue 'q'"),
    ] {
        let mut peer = user(&broker);
        pair(&mut peer);
        assert_eq!(ask(&mut peer, 0, method, path, fill), Err(denied(lacks)), "{method} {path}");
    }
}

/// Sends a message; the error with which it is rejected.
fn rejection(peer: &mut Peer, id: u32, message: &[u8]) -> Option<(String, String)> {
    peer.transfer(0, &transfer(0, id), message);
    awaited!(peer, Disposition, it => {
        assert_eq!(it.first, id);
        match it.state {
            Some(DeliveryState::Rejected(Rejected { error })) => Some(told(error)),
            Some(DeliveryState::Accepted(_) | DeliveryState::Released(_)) => None,
            other => panic!("{other:?}"),
        }
    })
}

fn with_properties(properties: &Properties<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    properties.encode(&mut message);
    message.extend_from_slice(b"\x00\x53\x75\xa0\x01m");
    message
}

/// Where each message says where it goes, each is looked at; topics have permissions of their own. The session of one that
/// is denied ends, as in RabbitMQ.
#[test]
fn each_message_is_looked_at() {
    let topics = "[users.u.topic-permissions.\"/\".tx]\nwrite = \"^a\"\nread = \"^b\"\n";
    let (broker, _configuration) = world("", "^tx$", "", topics);
    for (address, why) in [
        ("/exchanges/tx/z", "write access to topic 'z' in exchange 'tx'"),
        ("/exchanges/ex/k", "write access to exchange 'ex'"),
        ("/queues/q", "write access to exchange 'amq.default'"),
    ] {
        let mut peer = user(&broker);
        peer.attach(0, &sender(0, "anywhere", Target::default()));
        let to = |to| with_properties(&Properties { to: Some(to), ..Properties::default() });
        assert_eq!(rejection(&mut peer, 0, &to("/exchanges/tx/a")), None);
        peer.transfer(0, &transfer(0, 1), &to(address));
        assert_eq!(ended(&mut peer), denied(why));
        peer.expect_alive();
    }
    let mut peer = user(&broker);
    peer.attach(0, &sender(0, "one", target("/exchanges/tx/z")));
    peer.transfer(0, &transfer(0, 0), &with_properties(&Properties::default()));
    assert_eq!(ended(&mut peer), denied("write access to topic 'z' in exchange 'tx'"));
}

/// 3.2.4: the user-id of a message is its sender's.
#[test]
fn a_user_sends_in_its_own_name_unless_it_is_an_impersonator() {
    let with_id =
        |user: &'static [u8]| with_properties(&Properties { user_id: Some(user), ..Properties::default() });
    for (tags, is_impersonator) in [("", false), ("tags = [\"impersonator\"]\n", true)] {
        let (broker, _configuration) = world("", ".*", "", tags);
        let mut peer = user(&broker);
        peer.attach(0, &sender(0, "s", target("/queues/q")));
        assert_eq!(rejection(&mut peer, 0, &with_id(b"u")), None);
        let refused = rejection(&mut peer, 1, &with_id(b"v"));
        let text = "user_id property set to 'v' but authenticated user was 'u'";
        let expected = ("amqp:unauthorized-access".to_owned(), text.to_owned());
        assert_eq!(refused, (!is_impersonator).then_some(expected));
        assert_eq!(rejection(&mut peer, 2, &with_id(b"u")), None, "the link goes on");
    }
}

/// A permission that is taken counts for the next message on a link that was attached before, as for a publish of the other
/// protocol, and one that is given likewise.
#[test]
fn what_is_taken_from_a_user_counts_for_links_that_are_there() {
    let (broker, _configuration) = broker_with("");
    let may_write = |write: &str| {
        let permissions = json!({ "configure": ".*", "write": write, "read": ".*" });
        assert!((201..=204).contains(&put(&broker, "permissions/%2F/u", &permissions).0));
    };
    put(&broker, "users/u", &json!({ "password": "p", "tags": "" }));
    may_write(".*");
    let mut peer = user(&broker);
    peer.attach(0, &sender(0, "fixed", target("/exchanges/amq.fanout")));
    let message = with_properties(&Properties::default());
    assert_eq!(rejection(&mut peer, 0, &message), None);
    may_write("^amq\\.direct$");
    peer.transfer(0, &transfer(0, 1), &message);
    assert_eq!(ended(&mut peer), denied("write access to exchange 'amq.fanout'"));
    may_write("^amq\\.");
    peer.say(0, &End::default());
    peer.begin();
    peer.attach(0, &sender(0, "fixed", target("/exchanges/amq.fanout")));
    assert_eq!(rejection(&mut peer, 0, &message), None);
}

/// Where a client renews its token, sessions end with links that its user may have no more, as in RabbitMQ; others go on.
#[test]
fn a_token_that_is_renewed_ends_the_sessions_of_what_is_denied() {
    let (broker, _configuration) = broker_with("");
    let may = |write: &str, read: &str| {
        let permissions = json!({ "configure": ".*", "write": write, "read": read });
        assert!((201..=204).contains(&put(&broker, "permissions/%2F/u", &permissions).0));
    };
    put(&broker, "users/u", &json!({ "password": "p", "tags": "" }));
    may(".*", ".*");
    let mut peer = user(&broker);
    pair(&mut peer);
    assert_eq!(ask(&mut peer, 0, "PUT", "/queues/q", |_| ()), Ok("201".to_owned()));
    for channel in [1, 2] {
        peer.say(channel, &begin());
        awaited!(peer, Begin);
    }
    peer.attach(1, &receiver(0, "r", source("/queues/q")));
    peer.attach(2, &sender(0, "s", target("/exchanges/amq.direct")));
    let mut token = Vec::new();
    write::put(&mut token, &b"p"[..]);
    let renew = |peer: &mut Peer, id| {
        assert_eq!(request(peer, id, ("PUT", "/auth/tokens"), &token), Ok("204".to_owned()));
    };
    renew(&mut peer, 1);
    may(".*", "^$");
    renew(&mut peer, 2);
    assert_eq!(ended(&mut peer), denied("read access to queue 'q'"));
    may("^$", ".*");
    renew(&mut peer, 3);
    assert_eq!(ended(&mut peer), denied("write access to exchange 'amq.direct'"));
    renew(&mut peer, 4);
    assert_eq!(ask(&mut peer, 5, "GET", "/queues/q", |_| ()), Ok("200".to_owned()));
}
