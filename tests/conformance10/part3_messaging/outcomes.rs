//! What outcomes say besides, and what becomes of messages that get none.

use super::*;

/// 2.7.3, max-message-size: a message that is too large for one receiver is there for others.
#[test]
fn a_message_that_is_too_large_for_one_is_for_others() {
    with_bystander(|broker| {
        for arguments in [&[][..], QUORUM] {
            let mut both = Both::new(broker, arguments);
            both.accepted(&message(&[b'x'; 500]));
            let address = queue_address(&both.queue);
            let mut small = Peer::begun(broker);
            small.attach(0, &Attach { max_message_size: Some(400), ..receiver(0, "r", source(&address)) });
            small.say(0, &credit(0, 0, 1));
            let condition = loop {
                match small.frame().read().0 {
                    Performative::Detach(it) => break it.error.unwrap().condition.to_string(),
                    // Whether the link is active.
                    Performative::Flow(_) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(condition, "amqp:link:message-size-exceeded");
            let (id, came) = both.receive();
            assert!(came.len() > 500);
            both.settle(id, Accepted {});
        }
    });
}
