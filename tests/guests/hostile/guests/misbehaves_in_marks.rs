//! Asked for the mark of a binding, it does what the binding's key says: `trap`, `loop`, `memory`, `recurse`, or `large`, a
//! mark of a mebibyte.

use leveret_sdk::{Binding, Mark, Marks};
use std::hint::black_box;

leveret_guests_hostile::misbehaving!("x-misbehaves-in-marks", route(message, to) {});

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    room.iter().sum::<u64>().wrapping_add(deeper(depth.wrapping_add(1))) ^ depth
}

impl Marks for Guest {
    fn mark(&self, binding: &Binding) -> Mark {
        match binding.routing_key.as_slice() {
            b"trap" => panic!("asked to trap"),
            b"loop" => loop {
                black_box(());
            },
            b"memory" => {
                let mut hoard = Vec::new();
                loop {
                    // Untouched: the limit of memory is to come before that of time.
                    hoard.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
                }
            }
            b"recurse" => {
                black_box(deeper(1));
                Mark::routing_key(b"")
            }
            b"large" => Mark::in_routing_key(&vec![b'x'; 1 << 20]),
            key => Mark::routing_key(key),
        }
    }
}

leveret_sdk::export!(Guest: Marks);
