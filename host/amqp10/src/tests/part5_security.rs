//! Part 5: security layers.

use super::{described, hex, is};
use crate::{
    composite::Symbols,
    descriptor,
    security::{Challenge, Code, Init, Mechanisms, Outcome, Response, SaslFrame},
    types::{DecodeError, ListBuilder, Symbol},
};

const PLAIN: Symbol<'static> = Symbol::from_static("PLAIN");

// 5.3.3 Security frame bodies

#[test]
fn frames_of_sasl_come_back() {
    let mechanisms = Mechanisms { sasl_server_mechanisms: Symbols::Slice(&[PLAIN]) };
    is(&mechanisms, &hex("00 53 40 c0 0b 01 e0 08 01 a3 05 504c41494e"));
    let init = Init { mechanism: PLAIN, initial_response: Some(b"\0u\0p"), hostname: Some("h") };
    is(&init, &hex("00 53 41 c0 11 03 a3 05 504c41494e a0 04 00750070 a1 01 68"));
    is(&Challenge { challenge: b"c" }, &hex("00 53 42 c0 04 01 a0 01 63"));
    is(&Response { response: b"" }, &hex("00 53 43 c0 03 01 a0 00"));
    is(&Outcome { code: Code::Ok, additional_data: Some(b"v") }, &hex("00 53 44 c0 06 02 50 00 a0 01 76"));
    let bytes = hex("00 53 40 c0 08 01 a3 05 504c41494e");
    assert_eq!(SaslFrame::from_body(&bytes), Ok(mechanisms.into()), "one without an array");
}

#[test]
fn frames_of_sasl_that_make_no_sense_are_refused() {
    let missing = |composite, field| DecodeError::Missing { composite, field };
    let cases = [
        (descriptor::SASL_MECHANISMS, missing("amqp:sasl-mechanisms:list", "sasl_server_mechanisms")),
        (descriptor::SASL_INIT, missing("amqp:sasl-init:list", "mechanism")),
        (descriptor::SASL_CHALLENGE, missing("amqp:sasl-challenge:list", "challenge")),
        (descriptor::SASL_RESPONSE, missing("amqp:sasl-response:list", "response")),
        (descriptor::SASL_OUTCOME, missing("amqp:sasl-outcome:list", "code")),
        (descriptor::OPEN, DecodeError::Descriptor(descriptor::OPEN)),
    ];
    for (descriptor, error) in cases {
        assert_eq!(SaslFrame::from_body(&described(descriptor, &ListBuilder::new())), Err(error));
    }
    assert_eq!(SaslFrame::from_body(&[]), Err(DecodeError::Truncated), "an empty frame");
    let trailing = DecodeError::Trailing("amqp:sasl-response:list");
    assert_eq!(SaslFrame::from_body(&hex("00 53 43 c0 03 01 a0 00 40")), Err(trailing));
    // 5.3.3.5
    let bytes = described(descriptor::SASL_OUTCOME, ListBuilder::new().push(5_u8));
    let error = DecodeError::FieldValue { composite: "amqp:sasl-outcome:list", field: "code" };
    assert_eq!(SaslFrame::from_body(&bytes), Err(error));
}
