//! Kills under load.

use crate::{
    BINARY,
    load::{self, BACKLOG_MAX, Clients, World, topology},
    model::End,
    session,
};
use leveret_store::disk::sim::Dice;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, broker::Stopped};
use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often the broker is ended in the short version.
pub(crate) const KILLS: u32 = 24;
/// Goes on for so many seconds.
const SECONDS_VARIABLE: &str = "LEVERET_DURABILITY_SECONDS";
/// Makes the choices of an earlier run.
const SEED_VARIABLE: &str = "LEVERET_DURABILITY_SEED";

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Some queues need not be on disk before a confirm: what is written outlives the process all the same.
fn configuration() -> (PathBuf, ScratchDirectory) {
    let directory = ScratchDirectory::new("durability");
    let file = directory.path().join("leveret.toml");
    let rule = |queues: &str, sync: &str| format!("[[durability]]\nqueues = {queues:?}\nsync = {sync:?}\n");
    let rules = [rule("d1", "never"), rule("f1", "interval:20ms"), rule("t1", "interval:20ms")];
    std::fs::write(&file, rules.concat()).unwrap();
    (file, directory)
}

/// One data folder and all its lives.
struct Run {
    world: World,
    dice: Dice,
    seed: u64,
    end: End,
    kills: u32,
}

#[test]
fn what_was_answered_is_so_whenever_the_broker_is_killed() {
    let of_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = number_in(SEED_VARIABLE).unwrap_or_else(|| u64::from(of_clock()));
    let seconds = number_in(SECONDS_VARIABLE).map(Duration::from_secs);
    let until = seconds.map(|seconds| Instant::now() + seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut run = Run { world: World::default(), dice: Dice::new(seed), seed, end: End::Killed, kills: 0 };
    let all = async {
        eprintln!("{SEED_VARIABLE}={seed}");
        let (configuration, _directory) = configuration();
        let mut broker = Broker::builder(BINARY).argument("--config").argument(configuration).start();
        load::declare(&broker, false).await;
        while until.map_or(run.kills < KILLS, |until| Instant::now() < until || run.kills < KILLS) {
            broker = run.live(broker).await.start();
            broker = run.begin(broker).await;
        }
        run.finish(broker).await;
    };
    let limit = session::TEST_MAX + seconds.unwrap_or_default();
    let ended = runtime.block_on(async { tokio::time::timeout(limit, all).await });
    assert!(ended.is_ok(), "something that was to come never came; seed {seed}");
}

impl Run {
    /// A life under load. Gives the data folder that is left.
    async fn live(&mut self, broker: Broker) -> Stopped {
        let clients = Clients::start(&self.world, &broker, &mut self.dice).await;
        let events = [10, 100, 400, 1200][self.dice.below(4) as usize];
        let events = 1 + self.dice.below(events);
        let changes = self.world.changes.lock().answered + self.dice.below(20);
        self.wait_for(events, changes, clients.may_come_to_rest).await;
        self.end = if self.dice.chance(128) { End::Stopped } else { End::Killed };
        self.world.model.lock().stopping = self.end == End::Stopped;
        let stopped = match self.end {
            End::Killed => broker.kill_for_a_while(),
            End::Stopped => broker.stop_for_a_while(),
        };
        self.kills += 1;
        clients.ended(&self.world).await;
        self.judge();
        stopped
    }

    /// Waits until there were so many confirms and deliveries in this life, and so many changes in all; or, where
    /// that may be, until so much waits that nobody publishes any more.
    async fn wait_for(&self, events: u64, changes: u64, may_come_to_rest: bool) {
        let happened = async {
            loop {
                let moved = self.world.moved.notified();
                let answered = self.world.changes.lock().answered;
                let (there_were, waits) = {
                    let model = self.world.model.lock();
                    (model.events, model.backlog())
                };
                let is_at_rest = may_come_to_rest && waits > BACKLOG_MAX;
                if is_at_rest || (there_were >= events && answered >= changes) {
                    return;
                }
                moved.await;
            }
        };
        // Over all of it: some clients may go on when others have come to a stop.
        if tokio::time::timeout(EVENT_WAIT_MAX, happened).await.is_err() {
            let model = self.world.model.lock();
            let (were, waits) = (model.events, model.backlog());
            let answered = self.world.changes.lock().answered;
            panic!(
                "{were} of {events} events, {answered} of {changes} changes, {waits} messages wait, and some \
                 client has come to a stop; seed {}",
                self.seed
            );
        }
    }

    /// Looks at all that is there after a start, which is at times not the last one.
    async fn begin(&mut self, mut broker: Broker) -> Broker {
        while self.dice.chance(100) {
            broker = broker.kill_for_a_while().start();
            (self.end, self.kills) = (End::Killed, self.kills + 1);
        }
        self.world.model.lock().begin();
        load::declare(&broker, true).await;
        topology::judge(&self.world, &broker).await.unwrap();
        let queues = load::look(&broker).await.unwrap();
        self.world.model.lock().found(self.end, &queues);
        self.judge();
        broker
    }

    fn judge(&self) {
        let model = self.world.model.lock();
        let (seed, count) = (self.seed, model.violations.len());
        let first = model.violations.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
        assert_eq!(count, 0, "{SEED_VARIABLE}={seed}, {count} violations, the first:\n{first}");
    }

    /// All that is owed comes, and nothing is there after that.
    async fn finish(&mut self, broker: Broker) {
        load::drain(&self.world, &broker).await.unwrap();
        self.judge();
        let broker = broker.stop_for_a_while().start();
        self.world.model.lock().begin();
        let left = load::look(&broker).await.unwrap();
        self.judge();
        let model = self.world.model.lock();
        let left =
            left.iter().enumerate().flat_map(|(queue, all)| all.iter().map(move |got| (queue, got.id)));
        let left: Vec<_> = left.filter(|(queue, id)| !model.may_be_held_yet(*queue, *id)).collect();
        assert!(left.is_empty(), "seed {}: acked before a clean stop, and there again: {left:?}", self.seed);
        eprintln!("{} kills, {:?}, {} changes", self.kills, model.tally, self.world.changes.lock().answered);
        let tally = model.tally;
        assert_eq!(tally.refused, 0, "negative confirms");
        for (what, count) in [
            ("confirms", tally.confirmed),
            ("acks", tally.acked),
            ("safe acks", tally.safe_acks),
            ("rejects", tally.rejected),
            ("requeues", tally.requeued),
            ("duplicates", tally.duplicates),
            ("found", tally.found),
            ("changes", self.world.changes.lock().answered),
        ] {
            assert!(count > 0, "there were no {what}: this run shows nothing");
        }
    }
}
