//! Declaring exchanges: equivalence and names.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, exchange, name, queue, with_alternate};
use leveret_broker::ExchangeSpec;
use leveret_model::Refusal;

#[test]
fn redeclaring_an_exchange_says_what_differs() {
    let mut c = Connection::first();
    c.exchange(with_alternate("x", "direct", "a"));
    c.exchange(with_alternate("x", "direct", "a"));
    let declare =
        |c: &mut Connection, spec| c.vhost.declare_exchange(&mut c.router, spec).unwrap_err().to_string();
    let base = "for exchange 'x' in vhost '/'";
    let spec = with_alternate("x", "direct", "a");
    assert_eq!(
        declare(&mut c, with_alternate("x", "fanout", "a")),
        format!("inequivalent arg 'type' {base}: received 'fanout' but current is 'direct'")
    );
    assert_eq!(
        declare(&mut c, ExchangeSpec { durable: true, ..spec.clone() }),
        format!("inequivalent arg 'durable' {base}: received 'true' but current is 'false'")
    );
    assert_eq!(
        declare(&mut c, ExchangeSpec { auto_delete: true, ..spec.clone() }),
        format!("inequivalent arg 'auto_delete' {base}: received 'true' but current is 'false'")
    );
    assert_eq!(
        declare(&mut c, ExchangeSpec { internal: true, ..spec }),
        format!("inequivalent arg 'internal' {base}: received 'true' but current is 'false'")
    );
    assert_eq!(
        declare(&mut c, exchange("x", "direct")),
        format!(
            "inequivalent arg 'alternate-exchange' {base}: received none but current is the value 'a' of type \
             'longstr'"
        )
    );
    assert_eq!(declare(&mut c, exchange("x", "nix")), "unknown exchange type 'nix'");
    assert_eq!(
        declare(&mut c, exchange("amq.mine", "direct")),
        "exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    );
    c.exchange(ExchangeSpec { durable: true, ..exchange("amq.direct", "direct") });
    let protected = c.vhost.delete_exchange(&mut c.router, b"amq.direct", false);
    assert!(matches!(protected, Err(Refusal::Protected { .. })));
}

#[test]
fn a_name_is_declared_without_line_breaks() {
    let mut c = Connection::first();
    c.exchange(exchange("x\r\ny", "direct"));
    assert!(c.vhost.check_exchange(b"xy").is_ok());
    let status = c.vhost.declare_queue(queue("a\nb"), c.id).unwrap();
    assert_eq!(status.name, name("ab"));
}
