//! Publishers, consumers, crashes and a failing disk, by a seed; and somebody who knows every confirm.
//!
//! `LEVERET_STORE_SEED=7` runs one seed, `LEVERET_STORE_SEEDS=10000` that many, `LEVERET_STORE_FROM=5000` those from
//! there on.

mod model;
mod world;

use world::World;

/// Seeds that once found something.
const FOUND: [u64; 5] = [122, 183, 224, 881, 4632];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_was_confirmed_survives_whatever_the_disk_does() {
    if let Some(seed) = number("LEVERET_STORE_SEED") {
        let seen = World::new(seed).run();
        eprintln!("seed {seed}: {seen:?}");
        return;
    }
    let mut total = world::Seen::default();
    let from = number("LEVERET_STORE_FROM").unwrap_or_default();
    let seeds = from..from + number("LEVERET_STORE_SEEDS").unwrap_or(1000);
    for seed in FOUND.into_iter().chain(seeds) {
        // Told by the test's output if it fails.
        eprintln!("LEVERET_STORE_SEED={seed}");
        total.add(World::new(seed).run());
    }
    eprintln!("{total:?}");
    // All that it is about did happen.
    let of_all = [total.confirmed, total.crashes, total.closes, total.rescues, total.moved];
    let of_space = [total.refused_full, total.early, total.extents, total.recycled];
    assert!(of_all.into_iter().chain(of_space).all(|count| count > 0), "{total:?}");
}
