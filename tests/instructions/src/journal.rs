//! The store under a broker, on a real disk: what a batch of persistent messages costs whoever hands it over (`append`), and
//! the store's own threads, which write it, note where each message is, and say that it is safe (`commit`).
//!
//! A batch is handed over when the one before it is safe, so each is written by itself, however busy the machine is. System
//! calls are in no count.

use crate::steps::{BATCH, ROUNDS};
use leveret_store::{Config, Done, Failed, Group, QueueId, Range, Store, Sync, disk::real::RealDisk};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

/// The loads by name, with the bytes of a body.
const LOADS: [(&str, usize); 2] = [("16-persistent", 16), ("1024-persistent", 1024)];
/// What a broker writes of a message beside its body: exchange, routing key, properties.
const HEAD: &[u8] = b"\x00\x04work\x90\x00\x18application/octet-stream\x02";
const QUEUE: QueueId = QueueId(1);

/// The loads by name, and the steps that each has.
pub fn loads() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    LOADS.iter().map(|(name, _)| (*name, &["append", "commit"][..]))
}

/// The functions that a step is, if they are those of the store's threads, and not one here. They are counted from the first
/// round on.
pub fn functions(step: &str) -> Option<&'static [&'static str]> {
    (step == "commit").then_some(&["*Core*write_step*", "*Core*sync_end*"])
}

/// Is told what is safe.
struct Told(Sender<(u64, Result<(), Failed>)>);

impl Done for Told {
    fn done(&self, token: u64, outcome: Result<(), Failed>) {
        // Nobody listens any more when the store is closed.
        let _ = self.0.send((token, outcome));
    }
}

struct World {
    store: Store,
    folder: PathBuf,
    group: Group,
    body: Vec<u8>,
    /// The number of the next message.
    next: u64,
    told: Arc<dyn Done>,
    safe: Receiver<(u64, Result<(), Failed>)>,
}

impl World {
    fn new(body_bytes: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("leveret-instructions-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the store");
        let disk = Arc::new(RealDisk::open(&folder).expect("a disk"));
        let (store, report) = Store::open(disk, Config::default()).expect("a store");
        assert!(report.is_sound(), "{report:?}");
        let (tell, safe) = channel();
        let told: Arc<dyn Done> = Arc::new(Told(tell));
        let mut world = Self {
            store,
            folder,
            group: Group::default(),
            body: vec![b'x'; body_bytes],
            next: 1,
            told,
            safe,
        };
        world.group.create(QUEUE);
        world.hand_over();
        world.wait();
        world
    }

    fn hand_over(&mut self) {
        let waiter = Some((&self.told, self.next));
        self.store.submit(&mut self.group, Sync::Always, waiter).expect("the group is taken");
        self.group.clear();
    }

    /// Until what was handed over last is safe.
    fn wait(&self) {
        let told = self.safe.recv().expect("the store tells");
        assert_eq!(told, (self.next, Ok(())), "what was handed over is safe");
    }

    /// A batch of messages to the queue.
    fn append(&mut self) {
        for _ in 0..BATCH {
            self.group.enqueue(&[HEAD, &self.body], false, &[(QUEUE, self.next)]);
            self.next += 1;
        }
        self.hand_over();
    }

    /// They were consumed.
    fn ack(&mut self) {
        let first = self.next - BATCH as u64;
        self.group.ack(QUEUE, &[Range { first, count: BATCH as u32 }]);
        self.hand_over();
        self.wait();
    }
}

#[inline(never)]
fn counted_append(world: &mut World) {
    world.append();
}

/// Runs one load. `None` if there is no such load.
pub fn run(name: &str) -> Option<ExitCode> {
    let (_, body_bytes) = LOADS.iter().find(|(load, _)| *load == name)?;
    let mut world = World::new(*body_bytes);
    for round in 0..2 * ROUNDS {
        if round >= ROUNDS {
            counted_append(&mut world)
        } else {
            world.append()
        }
        world.wait();
        world.ack();
    }
    world.store.close();
    std::fs::remove_dir_all(&world.folder).expect("the folder goes");
    Some(ExitCode::SUCCESS)
}
