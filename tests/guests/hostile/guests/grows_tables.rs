//! Grows its table for the routing key `grow` until it gets no more of it, and traps then.
//!
//! There are no words for that in Rust. [`grow_table`] holds the place: whoever wants this guest writes the
//! instructions where [`MARK`] is put on the stack (`tests/hostile/tables.rs`).

use std::hint::black_box;

/// Ten bytes long as it is written in code, and nowhere else there.
const MARK: u64 = 0x8ace_0246_8ace_1357;
/// How many elements it wants at a time.
const MORE: u32 = 1_000;

/// Grows the table by so many elements; gives how many there were, or `u32::MAX` if it does not grow.
#[inline(never)]
fn grow_table(elements: u32) -> u32 {
    elements ^ black_box(MARK) as u32
}

leveret_guests_hostile::misbehaving!("x-grows-tables", route(message, to) {
    if message.routing_key() == b"grow" {
        while grow_table(black_box(MORE)) != u32::MAX {}
        panic!("there is no more");
    }
});

leveret_sdk::export!(Guest);
