//! Part 5: SASL.

use super::{Peer, with_bystander};
use leveret_amqp10::{
    frame::{self, ProtocolId},
    security::{Init, SaslFrame},
    types::Symbol,
};
use leveret_testkit::Broker;

pub(crate) fn mechanisms(peer: &mut Peer) -> Vec<String> {
    peer.send(&ProtocolId::Sasl.header());
    assert_eq!(peer.take(8), ProtocolId::Sasl.header());
    peer.sasl(|frame| match frame {
        SaslFrame::Mechanisms(offered) => {
            offered.sasl_server_mechanisms.iter().map(|it| it.to_string()).collect()
        }
        other => panic!("{other:?}"),
    })
}

/// The code of a login.
fn login(peer: &mut Peer, mechanism: &'static str) -> u8 {
    let init = Init { mechanism: Symbol::from_static(mechanism), ..Init::default() };
    let mut out = Vec::new();
    frame::put_sasl(&mut out, &init);
    peer.send(&out);
    peer.sasl(|frame| match frame {
        SaslFrame::Outcome(outcome) => outcome.code as u8,
        other => panic!("{other:?}"),
    })
}

/// 5.3.3.6: a wrong password, no such user; then the socket is closed.
#[test]
fn a_login_that_is_wrong_has_the_outcome_auth() {
    with_bystander(|broker| {
        for response in [&b"\0guest\0wrong"[..], b"\0nobody\0guest", b"nonsense", b"other\0guest\0guest"] {
            let mut peer = Peer::connect(broker.address());
            assert_eq!(peer.log_in(response), 1);
            peer.expect_end();
        }
        let mut peer = Peer::connect(broker.address());
        assert!(!mechanisms(&mut peer).contains(&"ANONYMOUS".to_owned()));
        assert_eq!(login(&mut peer, "ANONYMOUS"), 1);
    });
}

/// 5.3.3.1: ANONYMOUS where the configuration has a user for it.
#[test]
fn anonymous_is_offered_where_there_is_a_user_for_it() {
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--anonymous-user=guest").start();
    let mut peer = Peer::connect(broker.address());
    assert!(mechanisms(&mut peer).contains(&"ANONYMOUS".to_owned()));
    assert_eq!(login(&mut peer, "ANONYMOUS"), 0);
}
