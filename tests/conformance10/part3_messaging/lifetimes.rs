//! Lifetime policies of nodes that are made on demand (sections 3.5.10 to 3.5.13).

use super::*;
use leveret_amqp10::{composite::Field, messaging::LifetimePolicy, types::Reader};
use leveret_testkit::EVENT_WAIT_MAX;
use std::time::Instant;

/// What a node is asked to be like.
fn living(policy: &[u8]) -> MapBuilder {
    let mut properties = MapBuilder::new();
    properties.push(Symbol::from_static("lifetime-policy"), Reader::new(policy).value().unwrap());
    properties
}

/// A client with a link to a node (handle 0) that it had made with a lifetime policy, and the node's address.
fn maker(broker: &Broker, policy: LifetimePolicy) -> (Peer, String) {
    let mut peer = Peer::begun(broker);
    let mut encoded = Vec::new();
    policy.put(&mut encoded);
    let properties = living(&encoded);
    let dynamic_node_properties = Fields::new(properties.view());
    peer.say(0, &sender(0, "maker", Target { dynamic: true, dynamic_node_properties, ..Target::default() }));
    let address = awaited!(peer, Attach, it => match it.target {
        Some(AnyTarget::Node(target)) => {
            let told = target.dynamic_node_properties.unwrap().get("lifetime-policy").unwrap();
            assert_eq!(LifetimePolicy::from_value(told), Ok(policy));
            target.address.unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    });
    awaited!(peer, Flow);
    (peer, address)
}

fn send(peer: &mut Peer) {
    peer.transfer(0, &transfer(0, 0, b"t"), &message(b"m"));
    awaited!(peer, Disposition, it => assert!(matches!(it.state, Some(DeliveryState::Accepted(_)))));
}

fn detach(peer: &mut Peer, handle: u32) {
    peer.say(0, &Detach { handle, closed: true, error: None });
    awaited!(peer, Detach);
}

/// Whether there is a node, by a link to it that goes again.
fn is_there(broker: &Broker, address: &str) -> bool {
    let mut peer = Peer::begun(broker);
    peer.say(0, &sender(7, "looks", target(address)));
    let is_there = awaited!(peer, Attach, it => it.target.is_some());
    match is_there {
        true => {
            awaited!(peer, Flow);
            detach(&mut peer, 7);
        }
        false => awaited!(peer, Detach, it => {
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:not-found");
        }),
    }
    is_there
}

fn until_gone(broker: &Broker, address: &str) {
    let begun = Instant::now();
    while is_there(broker, address) {
        assert!(begun.elapsed() < EVENT_WAIT_MAX, "{address} is there");
        std::thread::yield_now();
    }
}

/// Takes the message, which is all there is.
fn take(peer: &mut Peer) {
    peer.say(0, &credit(0, 0, 1));
    awaited!(peer, Transfer);
    let accepted = Disposition { role: Role::Receiver, settled: true, ..Disposition::default() };
    peer.say(0, &Disposition { state: Some(Accepted {}.into()), ..accepted });
}

/// 3.5.11: a node that goes with the last link to it or from it, of whichever connection, and whatever is in it.
#[test]
fn a_node_goes_with_the_last_link() {
    with_bystander(|broker| {
        let (mut peer, address) = maker(broker, LifetimePolicy::DeleteOnNoLinks);
        let mut other = Peer::begun(broker);
        other.attach(0, &receiver(0, "r", source(&address)));
        send(&mut peer);
        detach(&mut peer, 0);
        assert!(is_there(broker, &address));
        detach(&mut other, 0);
        assert!(!is_there(broker, &address));
        // With a session and a connection too.
        let (mut peer, address) = maker(broker, LifetimePolicy::DeleteOnNoLinks);
        peer.say(0, &End::default());
        awaited!(peer, End);
        assert!(!is_there(broker, &address));
        let (peer, address) = maker(broker, LifetimePolicy::DeleteOnNoLinks);
        drop(peer);
        until_gone(broker, &address);
    });
}

/// 3.5.12: one that goes when the link that made it is gone and there is no message, whoever is attached.
#[test]
fn a_node_goes_with_its_last_message() {
    with_bystander(|broker| {
        let (mut peer, address) = maker(broker, LifetimePolicy::DeleteOnNoMessages);
        assert!(is_there(broker, &address), "there is the link that made it");
        send(&mut peer);
        detach(&mut peer, 0);
        let mut other = Peer::begun(broker);
        other.attach(0, &receiver(0, "r", source(&address)));
        take(&mut other);
        awaited!(other, Detach, it => {
            assert_eq!(it.error.unwrap().condition.as_str(), "amqp:resource-deleted");
        });
        assert!(!is_there(broker, &address));
        // Empty from the beginning, it goes with its maker.
        let (mut peer, address) = maker(broker, LifetimePolicy::DeleteOnNoMessages);
        detach(&mut peer, 0);
        until_gone(broker, &address);
    });
}

/// 3.5.13: one that goes when there is neither a link nor a message.
#[test]
fn a_node_goes_with_the_last_of_links_and_messages() {
    with_bystander(|broker| {
        let (mut peer, address) = maker(broker, LifetimePolicy::DeleteOnNoLinksOrMessages);
        send(&mut peer);
        detach(&mut peer, 0);
        assert!(is_there(broker, &address), "there is a message");
        let mut other = Peer::begun(broker);
        other.attach(0, &receiver(0, "r", source(&address)));
        take(&mut other);
        other.expect_alive();
        assert!(is_there(broker, &address), "there is a link");
        detach(&mut other, 0);
        until_gone(broker, &address);
    });
}

/// 3.5.3: a lifetime that is none is refused.
#[test]
fn a_lifetime_that_is_none_is_refused() {
    with_bystander(|broker| {
        let mut peer = Peer::begun(broker);
        let mut properties = MapBuilder::new();
        properties.push(Symbol::from_static("lifetime-policy"), "for ever");
        let dynamic_node_properties = Fields::new(properties.view());
        let wanted = Target { dynamic: true, dynamic_node_properties, ..Target::default() };
        assert_eq!(peer.refused(0, &sender(0, "s", wanted)), "amqp:invalid-field");
    });
}
