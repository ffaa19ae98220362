//! What the engines are given to do.

use crate::engines::Place;

/// How acks come.
#[derive(Clone, Copy)]
enum Acks {
    /// In order, a window later.
    InOrder,
    /// Ten windows later, each window in a mixed order.
    OutOfOrder,
    Never,
}

/// Some work.
pub struct Scenario {
    pub name: &'static str,
    pub queues: u32,
    messages: u64,
    acks: Acks,
}

impl Scenario {
    pub fn all(messages: u64, backlog: u64) -> [Self; 4] {
        let of = |name, queues, messages, acks| Self { name, queues, messages, acks };
        [
            of("one queue, acks in order", 1, messages, Acks::InOrder),
            of("1,000 queues, acks in order", 1000, messages, Acks::InOrder),
            of("one queue, acks out of order", 1, messages, Acks::OutOfOrder),
            of("a backlog: one queue, no acks", 1, backlog, Acks::Never),
        ]
    }

    /// What is published, and for each window of it what is acked with it.
    pub fn work(&self, window: usize) -> (Vec<Place>, Vec<Vec<Place>>) {
        let queues = u64::from(self.queues);
        let publishes: Vec<Place> =
            (0..self.messages).map(|at| ((at % queues) as u32, at / queues)).collect();
        let late = match self.acks {
            Acks::InOrder => 1,
            Acks::OutOfOrder => 10,
            Acks::Never => usize::MAX,
        };
        let windows: Vec<&[Place]> = publishes.chunks(window).collect();
        let acks = (0..windows.len()).map(|at| {
            let mut acked: Vec<Place> = at
                .checked_sub(late)
                .and_then(|at| windows.get(at))
                .map_or(Vec::new(), |acked| acked.to_vec());
            if matches!(self.acks, Acks::OutOfOrder) {
                // Any order that is none, the same each time.
                acked.sort_by_key(|(_, place)| place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            acked
        });
        let acks = acks.collect();
        (publishes, acks)
    }
}
