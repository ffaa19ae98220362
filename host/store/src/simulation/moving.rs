//! What is copied forward, and what is not.

use super::{sync_once, world};
use crate::{Config, Group, QueueId, Range, Sync, disk::sim::SimDisk, journal::Core, keeper::Keeper, store};
use std::sync::Arc;

const QUEUE: QueueId = QueueId(1);
/// How many messages come in a round: about a fifth of a segment.
const ROUND: u64 = 12;

/// A store with a queue, that of a publisher and a consumer.
struct Flow {
    core: Arc<Core>,
    keeper: Keeper,
    next: u64,
    now_ms: u64,
}

impl Flow {
    fn new(checkpoint_bytes: u64) -> Self {
        Self::with(Config { checkpoint_bytes, ..world::config() })
    }

    fn with(config: Config) -> Self {
        let (core, keeper, _) = store::open(Arc::new(SimDisk::new(1)), config).unwrap();
        let mut flow = Self { core, keeper, next: 0, now_ms: 0 };
        let mut group = Group::default();
        group.create(QUEUE);
        flow.submit(&mut group);
        flow
    }

    fn submit(&mut self, group: &mut Group) {
        self.core.submit(group, Sync::Always, None, self.now_ms).unwrap();
        for _ in 0..50 {
            self.now_ms += 20;
            let did = self.core.write_step(self.now_ms) | sync_once(&self.core, self.now_ms);
            if !(self.core.keep_in_order(&mut self.keeper, self.now_ms) | did) {
                break;
            }
        }
    }

    /// Messages come, and those go that came so many before, but for one in `stays`.
    fn round(&mut self, lag: u64, stays: u64) {
        let mut group = Group::default();
        self.of_round(&mut group, lag, stays);
        self.submit(&mut group);
    }

    fn of_round(&mut self, group: &mut Group, lag: u64, stays: u64) {
        for _ in 0..ROUND {
            group.enqueue(&[&[7; 1000]], false, &[(QUEUE, self.next)]);
            let gone = self.next.checked_sub(lag).filter(|gone| gone % stays > 0);
            gone.iter().for_each(|gone| group.ack(QUEUE, &[Range { first: *gone, count: 1 }]));
            self.next += 1;
        }
    }
}

/// What would be dead a moment later is not copied, however much lies in segments that are mostly dead.
#[test]
fn a_queue_that_is_drained_has_nothing_copied() {
    let segment = world::config().segment_bytes;
    let mut flow = Flow::new(8 * segment);
    let mut most = 0;
    for _ in 0..1000 {
        flow.round(100, u64::MAX);
        most = most.max(store::stat(&flow.core).segment_bytes / segment);
    }
    let stat = store::stat(&flow.core);
    assert!(stat.moved_bytes == 0 && stat.checkpoint_bytes > 0, "{stat:?}");
    // What starts read, as much again that is free, and the rest.
    assert!(most < 48, "{most} segments");
}

/// One in a hundred stays in each segment, so each is to be copied once.
#[test]
fn what_stays_for_long_is_copied_so_that_the_rest_can_go() {
    let mut flow = Flow::new(world::config().checkpoint_bytes);
    for _ in 0..1000 {
        flow.round(100, 100);
    }
    let stat = store::stat(&flow.core);
    let (live, segment) = (stat.live_bytes, world::config().segment_bytes);
    assert!(stat.messages > 200 && stat.moved_bytes > 0, "{stat:?}");
    assert!(stat.moved_bytes < 4 * live, "{stat:?}");
    // Twice what is live, what starts read, and as much again that is free.
    assert!(
        stat.segment_bytes < 2 * live + 40 * segment,
        "{} segments: {stat:?}",
        stat.segment_bytes / segment
    );
}

/// Nothing is written while there is something to copy.
#[test]
fn what_is_copied_leaves_most_of_the_room_to_what_comes() {
    let config = Config { own_segment_bytes: 8 * 1024, batch_bytes: 8 * 1024, ..world::config() };
    let (mut flow, mut most, room) = (Flow::with(config.clone()), 0, config.pending_bytes_max);
    for _ in 0..300 {
        let mut group = Group::default();
        flow.of_round(&mut group, 100, 5);
        flow.core.submit(&mut group, Sync::Always, None, flow.now_ms).unwrap();
        let mut did = true;
        while did {
            flow.now_ms += 20;
            did = flow.core.write_step(flow.now_ms) | sync_once(&flow.core, flow.now_ms);
            while flow.core.keep_in_order(&mut flow.keeper, flow.now_ms) {
                did = true;
            }
            let inbox = flow.core.inbox.lock();
            most = most.max(inbox.waiting_bytes());
            let may = inbox.room((room * 5 / 8, true), flow.core.growth_bytes_max(), &config);
            assert_eq!(may, Ok(()), "{} of {room} bytes are copied", inbox.waiting_bytes());
        }
    }
    assert!(most > 0, "nothing was copied");
}
