//! Large messages of AMQP 1.0, several at once: what the broker holds of them is a few MiB for each link.

use super::{BINARY, MIB, resident_bytes};
use crate::peer::{Peer, awaited, begin, credit, receiver, sender, source, target};
use leveret_amqp10::{
    Performative,
    composite::Composite,
    messaging::{Accepted, Header},
    performatives::{Disposition, Flow, Role, Transfer},
};
use leveret_testkit::Broker;
use leveret_testkit::wire::{Arguments, RawConnection, id};

/// On so many links at once there are messages of that size.
const LINKS: u32 = 4;
const BODY_BYTES: usize = 32 * 1024 * 1024;
const FRAME_BYTES: usize = 128 * 1024 - 64;

/// From now on the peak is that of what comes. Gives what is resident now, in bytes.
fn forget_peak(broker: &Broker) -> u64 {
    std::fs::write(format!("/proc/{}/clear_refs", broker.pid()), "5").expect("it is our process");
    resident_bytes(broker)
}

/// The most that was resident of the broker's memory, in bytes.
fn peak_bytes(broker: &Broker) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// What is at a place of the body of a link's message.
fn content(link: u32, at: usize) -> u8 {
    (at / 4093) as u8 ^ (at as u8).wrapping_mul(3) ^ link as u8
}

/// What stands in front of the body.
fn head() -> Vec<u8> {
    let mut out = Vec::new();
    Header { durable: Some(true), ..Header::default() }.encode(&mut out);
    out.extend_from_slice(&[0x00, 0x53, 0x75, 0xb0]);
    out.extend_from_slice(&(BODY_BYTES as u32).to_be_bytes());
    out
}

fn address(link: u32) -> String {
    format!("/queues/large-{link}")
}

/// Sends the messages, a frame of each in turn.
fn send_all(broker: &Broker) {
    let mut peer = Peer::begun(broker);
    for link in 0..LINKS {
        peer.attach(0, &sender(link, &format!("s{link}"), target(&address(link))));
    }
    let message = |link| {
        let body = (0..BODY_BYTES).map(move |at| content(link, at));
        head().into_iter().chain(body).collect::<Vec<u8>>()
    };
    let messages: Vec<Vec<u8>> = (0..LINKS).map(message).collect();
    let mut frames: Vec<_> = messages.iter().map(|message| message.chunks(FRAME_BYTES).peekable()).collect();
    let mut is_first = true;
    while frames.iter_mut().any(|frames| frames.peek().is_some()) {
        for (link, frames) in (0_u32..).zip(&mut frames) {
            let Some(bytes) = frames.next() else { continue };
            let tag = link.to_be_bytes();
            let of = Transfer { handle: link, more: frames.peek().is_some(), ..Transfer::default() };
            let of = Transfer {
                delivery_id: is_first.then_some(link),
                delivery_tag: is_first
                    .then(|| leveret_amqp10::performatives::DeliveryTag::new(&tag))
                    .flatten(),
                ..of
            };
            peer.transfer(0, &of, bytes);
        }
        is_first = false;
    }
    let mut told = 0;
    while told < LINKS {
        told += u32::from(matches!(peer.frame().read().0, Performative::Disposition(_)));
    }
}

/// Reads all messages, looks at each byte, and settles them.
fn receive_all(peer: &mut Peer) {
    let mut came = vec![(None, 0_usize); LINKS as usize];
    let (mut left, mut transfers) = (LINKS, 0_u32);
    while left > 0 {
        let frame = peer.frame();
        let (Performative::Transfer(it), payload) = frame.read() else { continue };
        transfers += 1;
        let (number, seen) = &mut came[it.handle as usize];
        *number = number.or(it.delivery_id);
        *seen += check(it.handle, *seen, payload);
        if transfers % 100 == 0 {
            let window = Flow { next_incoming_id: Some(transfers), incoming_window: 1000, ..Flow::default() };
            peer.say(0, &window);
        }
        if !it.more {
            left -= 1;
            let state = Some(Accepted {}.into());
            let first = number.expect("a number");
            peer.say(
                0,
                &Disposition { role: Role::Receiver, first, settled: true, state, ..Disposition::default() },
            );
        }
    }
    assert!(came.iter().all(|(_, seen)| *seen == BODY_BYTES), "{came:?}");
}

/// How much of a payload is body: the first one is a head alone.
fn check(link: u32, seen: usize, payload: &[u8]) -> usize {
    if seen == 0 && payload.first() == Some(&0) && payload.len() < 1000 {
        return 0;
    }
    let is_same = payload.iter().enumerate().all(|(at, byte)| *byte == content(link, seen + at));
    assert!(is_same, "link {link} from {seen} on");
    payload.len()
}

#[test]
fn large_messages_on_several_links_cost_a_few_mib_each() {
    let broker = Broker::builder(BINARY).http_listen("none").start();
    let mut other = RawConnection::open_with_channel(broker.address());
    for link in 0..LINKS {
        let durable = [false, true, false, false, false];
        let declare = Arguments::new().short(0).short_string(format!("large-{link}")).bits(&durable);
        other.send_method(1, id::QUEUE_DECLARE, declare.empty_table());
        other.expect_method(1, id::QUEUE_DECLARE_OK);
    }
    let before = forget_peak(&broker);
    let mut from = Peer::opened(&broker);
    from.say(0, &leveret_amqp10::performatives::Begin { incoming_window: 1000, ..begin() });
    awaited!(from, Begin);
    for link in 0..LINKS {
        from.attach(0, &receiver(link, &format!("r{link}"), source(&address(link))));
        from.say(0, &Flow { incoming_window: 1000, ..credit(link, 0, 10) });
    }
    std::thread::scope(|scope| {
        scope.spawn(|| send_all(&broker));
        receive_all(&mut from);
    });
    let more = peak_bytes(&broker).saturating_sub(before);
    println!(
        "{LINKS} links with messages of {} MiB: {} MiB more at the most",
        BODY_BYTES as u64 / MIB,
        more / MIB
    );
    // 1 MiB and what waits for the disk, for each link; output buffers, and what the allocator keeps.
    let bound = u64::from(LINKS) * 6 * MIB + 16 * MIB;
    assert!(more <= bound, "{more} bytes more, not {bound}");
}
