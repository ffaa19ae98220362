//! What counts as a failed delivery when a link is attached again.

use super::*;
use leveret_amqp10::message::Message;

/// 3.2.1: what somebody had whose connection was lost, and who knows of nothing, is a failed delivery in any queue.
#[test]
fn what_a_receiver_had_that_knows_nothing_counts_as_failed() {
    with_bystander(|broker| {
        let mut other = Other::new(broker);
        for arguments in [&[][..], &[("x-queue-type", "quorum")]] {
            let queue = other.queue(arguments);
            let address = queue_address(&queue);
            fill(broker, &queue, &["m"]);
            for failed in 0..3 {
                let mut peer = Peer::begun(broker);
                assert_eq!(attach(&mut peer, &receiver(0, "r", never(&address))), (None, false));
                peer.say(0, &credit(0, 0, 5));
                let told = loop {
                    let came = peer.frame();
                    match came.read() {
                        (Performative::Transfer(_), payload) => {
                            let header = Message::new(payload).unwrap().header();
                            break (header.first_acquirer, header.delivery_count);
                        }
                        // That the link is the active one, of a quorum queue.
                        (Performative::Flow(_), _) => {}
                        (other, _) => panic!("{other:?}"),
                    }
                };
                assert_eq!(told, (Some(failed == 0), Some(failed)), "{arguments:?}");
            }
        }
    });
}
