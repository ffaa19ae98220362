//! Part 2, 2.7.5, rcv-settle-mode: when a receiver settles what a transfer says of itself.

use super::{
    Other, Peer,
    part2_transport::{message, transfer},
    peer::{awaited, sender, target},
    queue_address, with_bystander,
};
use leveret_amqp10::{
    messaging::{Accepted, DeliveryState},
    performatives::{
        Attach, Detach, Disposition,
        ReceiverSettleMode::{self, First, Second},
        Role, SenderSettleMode, Transfer,
    },
};

/// What a delivery says counts, in whichever of its transfers that is; else what its link says.
#[test]
fn a_delivery_says_when_it_is_to_be_settled() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let attach = Attach { rcv_settle_mode: Second, ..sender(0, "s", target(&address)) };
        peer.attach(0, &attach);
        let of_first = [Some(First), None, Some(Second), None];
        let of_last = [None, Some(First), None, None];
        let settled_at_once = [true, true, false, false];
        for (id, expected) in (0..).zip(settled_at_once) {
            let [first, last] = [of_first, of_last].map(|modes| modes[id as usize]);
            let message = message(b"in two parts");
            let (front, rest) = message.split_at(5);
            let tag = [id as u8];
            let begins = Transfer { more: true, rcv_settle_mode: first, ..transfer(0, id, &tag) };
            peer.transfer(0, &begins, front);
            peer.transfer(0, &Transfer { handle: 0, rcv_settle_mode: last, ..Transfer::default() }, rest);
            awaited!(peer, Disposition, it => {
                assert!(matches!(it.state, Some(DeliveryState::Accepted(_))), "{it:?}");
                assert_eq!((it.first, it.settled), (id, expected), "{first:?} {last:?}");
            });
            let state = Some(Accepted {}.into());
            peer.say(
                0,
                &Disposition {
                    role: Role::Sender,
                    first: id,
                    settled: true,
                    state,
                    ..Disposition::default()
                },
            );
        }
        assert_eq!(other.ready(&queue), 4);
    });
}

/// Where a link's receiver settles first, a delivery that is to be settled second is an error, but where it is settled.
#[test]
fn a_delivery_is_not_settled_second_where_its_link_settles_first() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        let queue = other.queue(&[]);
        let address = queue_address(&queue);
        let mut peer = Peer::begun(broker);
        let second: Option<ReceiverSettleMode> = Some(Second);
        for parts in [1, 2] {
            peer.attach(0, &sender(0, "s", target(&address)));
            let message = message(b"m");
            let of = Transfer { rcv_settle_mode: second, ..transfer(0, parts, b"t") };
            if parts == 1 {
                peer.transfer(0, &of, &message);
            } else {
                peer.transfer(0, &Transfer { more: true, ..of }, &message[..4]);
                peer.transfer(0, &Transfer { handle: 0, ..Transfer::default() }, &message[4..]);
            }
            awaited!(peer, Detach, it => {
                assert_eq!((it.handle, it.closed), (0, true));
                assert_eq!(it.error.unwrap().condition.as_str(), "amqp:invalid-field");
            });
            peer.say(0, &Detach { handle: 0, closed: true, error: None });
        }
        let settling =
            Attach { snd_settle_mode: SenderSettleMode::Settled, ..sender(0, "s", target(&address)) };
        peer.attach(0, &settling);
        let settled = Transfer { settled: Some(true), rcv_settle_mode: second, ..transfer(0, 3, b"t") };
        peer.transfer(0, &settled, &message(b"m"));
        peer.expect_alive();
        assert_eq!(other.ready(&queue), 1);
    });
}
