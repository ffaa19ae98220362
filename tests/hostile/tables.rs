//! A table that grows without end: the guest gets so much and no more, its publisher is refused, the operator
//! is told why, and the neighbours notice nothing.

use crate::{asking::get, session::*, still_routes};
use lapin::types::FieldTable;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests};
use std::{fs, path::PathBuf};

/// What holds the place in the guest's code: `i64.const` of that.
const MARK: u64 = 0x8ace_0246_8ace_1357;
/// In its place: grow table 0 by the function's argument and return what that gives. Something lies on the
/// stack, and what follows is never reached.
const GROW: [u8; 11] = [
    0x1a, // drop
    0xd0, 0x70, // ref.null func
    0x20, 0x00, // local.get 0
    0xfc, 0x0f, 0x00, // table.grow 0
    0x0f, // return
    0x01, 0x01, // nop
];

/// `i64.const`, as it is encoded: signed, seven bits a byte.
fn constant(value: i64) -> Vec<u8> {
    let (mut code, mut rest) = (vec![0x42], value);
    loop {
        let (bits, sign) = ((rest & 0x7f) as u8, rest & 0x40 != 0);
        rest >>= 7;
        if (rest == 0 && !sign) || (rest == -1 && sign) {
            code.push(bits);
            return code;
        }
        code.push(bits | 0x80);
    }
}

/// The guest, with the instructions that Rust has no words for.
fn guest(scratch: &ScratchDirectory) -> PathBuf {
    let mut component = fs::read(guests::component("grows_tables")).unwrap();
    let mark = constant(MARK.cast_signed());
    assert_eq!(mark.len(), GROW.len());
    let places: Vec<usize> = component
        .windows(mark.len())
        .enumerate()
        .filter_map(|(place, bytes)| (bytes == mark).then_some(place))
        .collect();
    let [place] = places[..] else { panic!("the mark is there {} times", places.len()) };
    component[place..place + GROW.len()].copy_from_slice(&GROW);
    let file = scratch.path().join("grows_tables.wasm");
    fs::write(&file, component).unwrap();
    file
}

#[test]
fn a_table_that_grows_without_end() {
    const TIMES: u64 = 3;
    const LIMIT: &str = "200000 elements in its tables";
    let scratch = ScratchDirectory::new("tables");
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).plugin(guest(&scratch)).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-grows-tables").await;
        let queue = own_queue(&channel).await;
        for key in ["grow", "good"] {
            bind(&channel, &queue, &exchange, key, FieldTable::default()).await;
        }
        bind(&channel, &queue, &"amq.topic".into(), "good.*", FieldTable::default()).await;
        still_routes(&channel, &exchange, &queue).await;
        let seen = || get(broker, "plugins/x-grows-tables/vhosts/%2F");
        let calm = seen()["memory_bytes"].as_u64().unwrap();
        for _ in 0..TIMES {
            let confirm = publish(&channel, &exchange, "grow", b"bad", true).await.unwrap();
            assert!(confirm.is_nack(), "{confirm:?}");
            assert!(drain(&channel, &queue).await.is_empty(), "a refused message was routed");
            still_routes(&channel, &exchange, &queue).await;
        }
        let told = seen();
        assert_eq!(told["failures"]["memory_limit"], TIMES, "{told}");
        assert!(told["failures"]["last_error"].as_str().unwrap().contains(LIMIT), "{told}");
        assert_eq!(told["limits_hit"]["memory"], TIMES, "{told}");
        // What its table took went with the instance.
        assert!(told["memory_bytes"].as_u64().unwrap() < 2 * calm, "{calm}: {told}");
        let line = broker.wait_for_log(LIMIT, EVENT_WAIT_MAX);
        assert!(line.contains("WARN") && line.contains("plugin=\"grows_tables\""), "{line}");
    });
}
