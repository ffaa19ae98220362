//! What a store has and what is wrong with it, for people, while no broker uses it. Nothing is changed.

use super::{
    FOLDER, message,
    report::{UNKNOWN_ADVICE, advice, cannot_open, left_out},
    spaces::HOLDERS,
    state, topology,
};
use crate::data_folder::DataFolder;
use anyhow::{Context, anyhow, bail};
use leveret_broker::store::Topology;
use leveret_plugin::Digest;
use leveret_store::{Payload, QueueId, Reader, Report, Store, disk::real::RealDisk};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// How much is read at once where all messages are read, in bytes.
const READ_BYTES: usize = 4 << 20;
/// How many problems are told one by one.
const PROBLEMS_MAX: usize = 1000;

/// A store that no broker uses, for as long as this is there.
pub struct StoreLook {
    store: Store,
    report: Report,
    _data_folder: DataFolder,
}

/// What a store has.
#[derive(Debug, Serialize)]
pub struct StoreStat {
    /// The broker that used it last closed it.
    pub clean: bool,
    /// Messages; one in several queues counts once.
    pub messages: u64,
    /// Their bytes, beside bodies that are files of their own.
    pub live_bytes: u64,
    /// The bytes of the journal's files.
    pub segment_bytes: u64,
    /// Values, of what virtual hosts consist of and what exchange types keep.
    pub values: u64,
    /// The virtual hosts.
    pub vhosts: Vec<VhostStat>,
    /// What exchange types keep.
    pub kept: Vec<KeptStat>,
    /// Queues of messages that nothing refers to.
    pub unnamed: Vec<QueueStat>,
    /// How many problems a start would find; `check` tells them and looks for more.
    pub problems: u64,
}

/// A virtual host.
#[derive(Debug, Serialize)]
pub struct VhostStat {
    /// Its name.
    pub name: String,
    /// How many durable exchanges were declared.
    pub exchanges: u64,
    /// How many bindings between what is durable.
    pub bindings: u64,
    /// How many messages are held.
    pub held: u64,
    /// Its durable queues.
    pub queues: Vec<QueueStat>,
}

/// A queue.
#[derive(Debug, Serialize)]
pub struct QueueStat {
    /// Its name.
    pub name: String,
    /// Its number in the store.
    pub id: u64,
    /// How many messages it has.
    pub messages: u64,
    /// The number of the first.
    pub first: u64,
    /// The number of the next that comes.
    pub next: u64,
}

/// What a type of an exchange keeps.
#[derive(Debug, Serialize)]
pub struct KeptStat {
    /// The virtual host.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Which of its types, from 0.
    pub layer: u8,
    /// The version that left it when another one migrated it, by SHA-256 of its bytes; none for what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_by: Option<String>,
    /// Values and counters.
    pub values: u64,
    /// Messages.
    pub messages: u64,
}

/// What is wrong with a store.
#[derive(Debug, Serialize)]
pub struct StoreCheck {
    /// Whether nothing is.
    pub sound: bool,
    /// How many messages were read, in each queue that has them.
    pub messages_read: u64,
    /// How many problems there are.
    pub problem_count: u64,
    /// The first thousand of them.
    pub problems: Vec<ProblemTold>,
}

/// A problem.
#[derive(Debug, Serialize)]
pub struct ProblemTold {
    /// What is wrong.
    pub what: String,
    /// What follows, and what to do.
    pub advice: String,
}

impl StoreCheck {
    fn tell(&mut self, what: String, advice: &str) {
        self.sound = false;
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(ProblemTold { what, advice: advice.to_owned() });
        }
    }
}

impl StoreLook {
    /// Looks into the store of a data folder.
    ///
    /// # Errors
    /// There is none, a broker uses it, or it cannot be read at all.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        if !folder.is_dir() {
            bail!("there is no store in {}; --data-dir names another data folder", data_dir.display());
        }
        let data_folder =
            DataFolder::take(data_dir).context("a store can only be looked into while no broker uses it")?;
        let whole = || format!("the store in {}", folder.display());
        let disk = RealDisk::open(&folder).map_err(|error| anyhow!("{error}")).with_context(whole)?;
        let looked = Store::look_into(Arc::new(disk));
        let (store, report) = looked.map_err(|error| anyhow!(cannot_open(&error))).with_context(whole)?;
        Ok(Self { store, report, _data_folder: data_folder })
    }

    /// What it has.
    #[must_use]
    pub fn stat(&self) -> StoreStat {
        let stat = self.store.stat();
        let mut unnamed: BTreeMap<u64, QueueStat> =
            self.store.queues().into_iter().map(|(id, ..)| (id.0, self.queue(id.0, String::new()))).collect();
        let vhosts =
            topology::vhosts(&self.store).iter().map(|name| self.vhost(name, &mut unnamed)).collect();
        let mut kept = Vec::new();
        state::each_holder(&self.store, &mut |holder, places| {
            let now = places.now.map(|place| (None, place));
            let left = places.left.into_iter().map(|left| (Some(Digest(left.digest).to_hex()), left.place));
            for (left_by, state::Place { space, queue }) in now.into_iter().chain(left) {
                let queue = queue.and_then(|queue| unnamed.remove(&queue.0));
                let messages = queue.map_or(0, |queue| queue.messages);
                let (vhost, exchange) = (holder.vhost.to_text(), holder.exchange.to_text());
                let mut values = 0;
                self.store.values_with(space, b"", |_, _, _| values += 1);
                kept.push(KeptStat { vhost, exchange, layer: holder.layer.0, left_by, values, messages });
            }
        });
        StoreStat {
            clean: self.report.clean,
            messages: stat.messages,
            live_bytes: stat.live_bytes,
            segment_bytes: stat.segment_bytes,
            values: self.report.values,
            vhosts,
            kept,
            unnamed: unnamed.into_values().collect(),
            problems: self.report.problem_count,
        }
    }

    fn queue(&self, id: u64, name: String) -> QueueStat {
        let leveret_store::QueueStat { messages, first, next } =
            self.store.queue(QueueId(id)).unwrap_or_default();
        QueueStat { name, id, messages, first, next }
    }

    fn vhost(&self, name: &leveret_model::Name, unnamed: &mut BTreeMap<u64, QueueStat>) -> VhostStat {
        let mut stat =
            VhostStat { name: name.to_text(), exchanges: 0, bindings: 0, held: 0, queues: Vec::new() };
        let mut each = |part: Topology<'_>| match part {
            Topology::Exchange(_) => stat.exchanges += 1,
            Topology::Binding(_) => stat.bindings += 1,
            Topology::Queue(id, spec) => {
                unnamed.remove(&id.0);
                stat.queues.push(self.queue(id.0, spec.name.to_text()));
            }
            Topology::Holds(id) => stat.held += unnamed.remove(&id.0).map_or(0, |queue| queue.messages),
        };
        topology::read(&self.store, name, &mut each, &mut |_| {});
        stat
    }

    /// Reads all of it.
    #[must_use]
    pub fn check(&self) -> StoreCheck {
        let mut check = StoreCheck { sound: true, messages_read: 0, problem_count: 0, problems: Vec::new() };
        for problem in &self.report.problems {
            check.tell(problem.to_string(), advice(problem));
        }
        let more = self.report.problem_count - self.report.problems.len() as u64;
        check.problem_count += more;
        for (queue, messages) in &self.report.unknown {
            check.tell(left_out(*queue, *messages), UNKNOWN_ADVICE);
        }
        let mut names = BTreeMap::new();
        for vhost in topology::vhosts(&self.store) {
            let mut each = |part: Topology<'_>| match part {
                Topology::Queue(id, spec) => {
                    names.insert(id.0, format!("queue '{}' of virtual host '{vhost}'", spec.name));
                }
                Topology::Holds(id) => {
                    names.insert(id.0, format!("what virtual host '{vhost}' holds"));
                }
                Topology::Exchange(_) | Topology::Binding(_) => {}
            };
            topology::read(&self.store, &vhost, &mut each, &mut |what| {
                check.tell(format!("{what} cannot be read"), "it is left out at a start; declare it again");
            });
        }
        let mut holders = 0;
        state::each_holder(&self.store, &mut |holder, places| {
            holders += 1;
            let name =
                format!("what exchange '{}' of virtual host '{}' keeps", holder.exchange, holder.vhost);
            let queues = places.all().filter_map(|place| place.queue);
            names.extend(queues.map(|queue| (queue.0, name.clone())));
        });
        let mut known = 0;
        self.store.values_with(HOLDERS, b"", |_, _, _| known += 1);
        for _ in holders..known {
            let advice = "the type begins anew for that exchange";
            check.tell("where a type of an exchange keeps what it does cannot be read".to_owned(), advice);
        }
        for (queue, messages, _) in self.store.queues() {
            match names.get(&queue.0) {
                Some(name) => self.read_all(queue, name, &mut check),
                None if messages > 0 => {
                    let what = format!("nothing says whose the {messages} messages of queue {} are", queue.0);
                    check.tell(what, "nobody gets them; check the disk, and keep a copy of the folder");
                }
                None => {}
            }
        }
        check
    }

    fn read_all(&self, queue: QueueId, name: &str, check: &mut StoreCheck) {
        let (mut reader, mut next) = (Reader::default(), Some(0));
        while let Some(from) = next {
            next = self.store.read(&mut reader, (queue, from), READ_BYTES, &mut |item| {
                let payload = item.payload.and_then(|payload| Payload::decode(payload).ok());
                if payload.is_some_and(|payload| message::form_of(payload.form).is_some()) {
                    check.messages_read += 1;
                } else {
                    let what = format!("message {} of {name} cannot be read", item.sequence);
                    check.tell(what, "it is left out; check the disk, and publish it again");
                }
            });
        }
    }
}
