//! What waits: for an exchange type that takes long, with what its client sends behind it in the same write; for memory.

use super::{
    Other, Peer,
    large::{BODY_BYTES, FRAME_BYTES, body, durable, receive, send_but},
    management::{Managing, map},
    part2_transport::{message, transfer},
    part4_transactions::{Transacting, request},
    peer::{awaited, credit, receiver, sender, source, target},
    queue_address,
};
use leveret_amqp10::{
    Performative,
    composite::Composite,
    frame::{self, AMQP},
    messaging::{Accepted, DeliveryState},
    performatives::{Close, Detach, Disposition, End, Flow, Role, Transfer},
    transactions::Discharge,
};
use leveret_testkit::{Broker, guests, unique_name};

/// So often goes the guest round for a message: long enough that it is asked elsewhere.
const ROUNDS: i64 = 2_000_000;
/// What is published at once.
const MESSAGES: u32 = 20;

fn broker() -> Broker {
    Broker::builder(env!("CARGO_BIN_EXE_leveret")).plugin(guests::component("takes_its_time")).start()
}

/// The address of a slow exchange that leads to a queue.
fn slow(broker: &Broker, other: &mut Other, queue: &str) -> String {
    let exchange = other.slow_exchange("x-takes-its-time", ROUNDS, queue, "slow");
    let address = format!("/exchanges/{exchange}/slow");
    let mut peer = Peer::begun(broker);
    peer.attach(0, &sender(0, "first", target(&address)));
    let mut sent = 0;
    while !is_slow(broker) {
        peer.transfer(0, &transfer(0, sent, b"t"), &message(b"first"));
        sent += 1;
        while !matches!(peer.frame().read().0, Performative::Disposition(_)) {}
    }
    address
}

/// Whether the broker has found out.
fn is_slow(broker: &Broker) -> bool {
    let url = format!("http://{}/api/plugins/x-takes-its-time/vhosts/%2F", broker.http_address());
    let told = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").call().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.into_body().read_to_vec().unwrap()).unwrap();
    told["state"] == "slow"
}

/// Frames that are sent in one write.
#[derive(Default)]
struct Together(Vec<u8>);

impl Together {
    fn transfer(&mut self, transfer: &Transfer<'_>, payload: &[u8]) -> &mut Self {
        frame::put_frame(&mut self.0, AMQP, 0, |out| {
            transfer.encode(out);
            out.extend_from_slice(payload);
        });
        self
    }

    fn say<'a>(&mut self, performative: &impl Composite<'a>) -> &mut Self {
        frame::put_performative(&mut self.0, 0, performative);
        self
    }
}

/// Reads outcomes of so many deliveries, all accepted, and nothing else but flows.
fn expect_accepted(peer: &mut Peer, count: u32) {
    let mut accepted = 0;
    while accepted < count {
        let came = peer.frame();
        match came.read().0 {
            Performative::Disposition(it) => {
                assert!(matches!(it.state, Some(DeliveryState::Accepted(_))), "{it:?}");
                accepted += it.last.unwrap_or(it.first) - it.first + 1;
            }
            Performative::Flow(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The bodies of so many messages of a queue.
fn bodies(broker: &Broker, queue: &str, count: u32) -> Vec<Vec<u8>> {
    let mut peer = Peer::begun(broker);
    let address = queue_address(queue);
    peer.attach(0, &receiver(0, "reader", source(&address)));
    peer.say(0, &credit(0, 0, count));
    let mut bodies = Vec::new();
    for _ in 0..count {
        let came = peer.frame();
        bodies.push(came.read().1.to_vec());
    }
    bodies
}

/// 2.4.3, 2.5.4, 2.6.6: what was sent before a link, a session or the connection ends is dealt with and answered first.
#[test]
fn an_end_waits_for_the_outcomes_of_what_was_sent_before() {
    let broker = broker();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    let address = slow(&broker, &mut other, &queue);
    let before = other.ready(&queue);
    for (round, ending) in ["detach", "end", "close"].into_iter().enumerate() {
        let mut peer = Peer::begun(&broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        let mut together = Together::default();
        for id in 0..MESSAGES {
            together.transfer(&transfer(0, id, &id.to_be_bytes()), &message(b"m"));
        }
        match ending {
            "detach" => together.say(&Detach { handle: 0, closed: true, error: None }),
            "end" => together.say(&End::default()),
            _ => together.say(&Close::default()),
        };
        peer.send(&together.0);
        expect_accepted(&mut peer, MESSAGES);
        match ending {
            "detach" => awaited!(peer, Detach),
            "end" => awaited!(peer, End),
            _ => awaited!(peer, Close),
        }
        assert_eq!(other.ready(&queue), before + MESSAGES * (round as u32 + 1), "{ending}");
    }
}

/// 4.3: discharges and what is sent among them are done in their order.
#[test]
fn discharges_are_done_in_their_order_while_a_type_is_asked() {
    let broker = broker();
    let mut client = Transacting::new(&broker, &[]);
    let queue = client.other.queue(&[]);
    let address = slow(&broker, &mut client.other, &queue);
    let before = client.other.ready(&queue);
    client.peer.attach(0, &sender(3, "slow", target(&address)));
    let address = queue_address(&queue);
    client.peer.attach(0, &sender(4, "direct", target(&address)));
    let (first, second) = (client.declare(), client.declare());
    client.send_on(3, &first, b"2");
    client.send_on(3, &first, b"3");
    client.send_on(3, &second, b"4");
    let id = client.sent;
    let mut together = Together::default();
    let discharge = |txn_id| request(&Discharge { txn_id, fail: None });
    together
        .transfer(&transfer(3, id, b"1"), &message(b"1"))
        .transfer(&transfer(0, id + 1, b"first"), &discharge(&first))
        .transfer(&transfer(0, id + 2, b"second"), &discharge(&second))
        .transfer(&transfer(4, id + 3, b"5"), &message(b"5"));
    client.peer.send(&together.0);
    expect_accepted(&mut client.peer, 4);
    let bodies = bodies(&broker, &queue, before + 5);
    let ends: Vec<_> = bodies[before as usize..].iter().map(|body| body[body.len() - 1]).collect();
    assert_eq!(ends, *b"12345");
}

/// 2.6.7: while memory is short nobody has credit, also who sends nothing at the moment; what was under way is taken all
/// the same, and whoever receives goes on.
#[test]
fn who_sends_waits_while_memory_is_short() {
    const HALF: u32 = 500;
    let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--memory-mib=64");
    let broker = builder.argument("--memory-paging-percent=100").start();
    let queue = Other::new(&broker).queue(&[]);
    let address = queue_address(&queue);
    let [mut peer, mut idle] = [(); 2].map(|()| {
        let mut peer = Peer::begun(&broker);
        peer.attach(0, &sender(0, "s", target(&address)));
        peer
    });
    // Half of the credit is more than there may be.
    let whole = message(&[b'x'; 140 * 1024]);
    let (front, rest) = whole.split_at(100 * 1024);
    let mut accepted = 0;
    for id in 0..HALF {
        peer.transfer(0, &Transfer { more: true, ..transfer(0, id, b"t") }, front);
        peer.transfer(0, &Transfer { handle: 0, ..Transfer::default() }, rest);
    }
    let mut told = 0;
    while accepted < HALF {
        match peer.frame().read().0 {
            Performative::Disposition(it) => accepted += it.last.unwrap_or(it.first) - it.first + 1,
            Performative::Flow(it) if it.handle.is_none() => {}
            Performative::Flow(it) => {
                assert_eq!(it.link_credit, Some(0), "credit is renewed");
                told += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, 1);
    awaited!(idle, Flow, it => assert_eq!((it.handle, it.link_credit), (Some(0), Some(0))));
    peer.say(0, &Flow { handle: Some(0), echo: true, next_outgoing_id: 2 * HALF, ..credit(0, 0, 0) });
    awaited!(peer, Flow, it => assert_eq!(it.link_credit, Some(0)));
    let mut reader = Peer::begun(&broker);
    reader.attach(0, &receiver(0, "r", source(&address)));
    reader.say(0, &credit(0, 0, HALF));
    for _ in 0..HALF {
        // The last transfer of a delivery says nothing else than that.
        while matches!(reader.frame().read().0, Performative::Transfer(it) if it.more) {}
    }
    let all = Disposition {
        role: Role::Receiver,
        first: 0,
        last: Some(HALF - 1),
        settled: true,
        state: Some(Accepted {}.into()),
        ..Disposition::default()
    };
    reader.say(0, &all);
    for peer in [&mut peer, &mut idle] {
        awaited!(peer, Flow, it => assert!(it.link_credit > Some(HALF), "{it:?}"));
    }
}

/// 2.6.12: a large message, which goes to a file first, neither passes those that came before it on its connection nor is
/// passed by those behind it.
#[test]
fn large_messages_and_small_ones_keep_their_order_while_a_type_is_asked() {
    let broker = broker();
    let mut client = Transacting::new(&broker, &[]);
    let queue = client.other.queue(&[]);
    let address = slow(&broker, &mut client.other, &queue);
    let before = client.other.ready(&queue);
    client.peer.attach(0, &sender(3, "slow", target(&address)));
    let address = queue_address(&queue);
    client.peer.attach(0, &sender(4, "direct", target(&address)));
    client.peer.attach(0, &sender(5, "large", target(&address)));
    let transaction = client.declare();
    let large = durable(false, &body(3, BODY_BYTES));
    let id = client.sent;
    send_but(&mut client.peer, 5, id, &large, 1);
    let last = large.chunks(FRAME_BYTES).last().unwrap();
    let mut together = Together::default();
    together
        .transfer(&transfer(3, id + 1, b"1"), &message(b"1"))
        .transfer(&transfer(0, id + 2, b"end"), &request(&Discharge { txn_id: &transaction, fail: None }))
        .transfer(&transfer(4, id + 3, b"2"), &message(b"2"))
        .transfer(&Transfer { handle: 5, ..Transfer::default() }, last)
        .transfer(&transfer(4, id + 4, b"4"), &message(b"4"))
        .transfer(&transfer(5, id + 5, b"5"), &message(b"5"));
    client.peer.send(&together.0);
    expect_accepted(&mut client.peer, 6);
    let mut peer = Peer::begun(&broker);
    peer.attach(0, &receiver(0, "reader", source(&address)));
    peer.say(0, &credit(0, 0, before + 5));
    let ends: Vec<_> = (0..before + 5).map(|_| receive(&mut peer, 0).1.pop().unwrap()).collect();
    assert_eq!(ends[before as usize..], [b'1', b'2', *large.last().unwrap(), b'4', b'5']);
}

/// A queue that was to be exclusive to a connection does not stay if it is made when the connection is gone.
#[test]
fn an_exclusive_queue_that_is_made_too_late_does_not_stay() {
    let broker = broker();
    let mut other = Other::new(&broker);
    let queue = other.queue(&[]);
    // What is asked for in the virtual host waits behind these.
    let address = slow(&broker, &mut other, &queue);
    let mut busy = Peer::begun(&broker);
    busy.attach(0, &sender(0, "s", target(&address)));
    let (mut together, mut sent) = (Together::default(), 0);
    while sent < 10 * MESSAGES {
        together.transfer(&transfer(0, sent, b"t"), &message(b"m"));
        sent += 1;
    }
    let mut managing = Managing::new(&broker);
    let name = unique_name("late");
    busy.send(&together.0);
    let exclusive = map(|fields| {
        fields.push("exclusive", true);
    });
    managing.ask("PUT", &queue_address(&name), &exclusive);
    drop(managing);
    // In the order in which they were asked for.
    let mut managing = Managing::new(&broker);
    assert_eq!(managing.status("GET", &queue_address(&name), &[0x40]), "404");
    expect_accepted(&mut busy, sent);
}
