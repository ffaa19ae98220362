//! What a store has and what is wrong with it, for people, while no broker uses it. Nothing is changed.

use super::{
    FOLDER, message,
    report::{UNKNOWN_ADVICE, advice, cannot_open, left_out, lost, refusal_advice},
    spaces::HOLDERS,
    state, topology,
};
use crate::data_folder::DataFolder;
use anyhow::{Context, anyhow, bail};
use leveret_broker::{
    QueueSettings,
    store::{KeptId, Topology},
};
use leveret_plugin::Digest;
use leveret_store::{
    Config, Damaged, Payload, QueueId, Store,
    disk::real::RealDisk,
    inspect::{CheckpointSeen, Look},
};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// How many problems are told one by one.
const PROBLEMS_MAX: usize = 1000;

/// A store that no broker uses, for as long as this is there.
pub struct StoreLook {
    look: Look,
    disk: Arc<RealDisk>,
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
    /// The bytes of those bodies.
    pub extent_bytes: u64,
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
    /// The checkpoints, the oldest first.
    pub checkpoints: Vec<CheckpointStat>,
    /// Files that are damaged and were set aside; nothing needs them.
    pub set_aside: Vec<String>,
    /// Why a start would not serve; none if it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// How many problems a start would find; `check` tells them and looks for more.
    pub problems: u64,
}

/// A checkpoint.
#[derive(Debug, Serialize)]
pub struct CheckpointStat {
    /// Its file.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The batch up to which it has all.
    pub batch: u64,
    /// Whether all of it can be read.
    pub readable: bool,
    /// Whether it is the one that a start reads.
    pub used: bool,
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
    /// Why a start would not serve; none if it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What is lost; none if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
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
            DataFolder::look(data_dir).context("a store can only be looked into while no broker uses it")?;
        let whole = || format!("the store in {}", folder.display());
        let disk = RealDisk::open(&folder).map_err(|error| anyhow!("{error}")).with_context(whole)?;
        let disk = Arc::new(disk);
        let look =
            Look::open(disk.clone()).map_err(|error| anyhow!(cannot_open(&error))).with_context(whole)?;
        Ok(Self { look, disk, _data_folder: data_folder })
    }

    fn store(&self) -> &Store {
        self.look.store()
    }

    /// Goes on with what is left of a store that does not serve, so that a start does: what cannot be read is set
    /// aside, and what was found is written down as all that there is. Gives what was lost and which files were set
    /// aside; `None` if the store serves, and nothing is changed.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn salvage(self) -> anyhow::Result<Option<(Option<String>, Vec<String>)>> {
        if self.look.report().verdict.refusal.is_none() {
            return Ok(None);
        }
        let Self { look, disk, _data_folder } = self;
        drop(look);
        let (store, report) =
            Store::salvage(disk, Config::default()).map_err(|error| anyhow!(cannot_open(&error)))?;
        store.close();
        Ok(Some((lost(&report.verdict), report.set_aside)))
    }

    /// What it has.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn stat(&self) -> anyhow::Result<StoreStat> {
        let (stat, report) = (self.store().stat(), self.look.report());
        let seen = self.look.inspect().map_err(|error| anyhow!(cannot_open(&error)))?;
        let mut unnamed: BTreeMap<u64, QueueStat> = self
            .store()
            .queues()
            .into_iter()
            .map(|(id, ..)| (id.0, self.queue(id.0, String::new())))
            .collect();
        let vhosts =
            topology::vhosts(self.store()).iter().map(|name| self.vhost(name, &mut unnamed)).collect();
        state::each_pending(self.store(), |queue| drop(unnamed.remove(&queue.0)));
        let mut kept = Vec::new();
        state::each_holder(self.store(), &mut |holder, places| {
            let now = places.now.map(|place| (None, place));
            let left = places.left.into_iter().map(|left| (Some(Digest(left.digest).to_hex()), left.place));
            for (left_by, state::Place { space, queue }) in now.into_iter().chain(left) {
                let queue = queue.and_then(|queue| unnamed.remove(&queue.0));
                let messages = queue.map_or(0, |queue| queue.messages);
                let (vhost, exchange) = (holder.vhost.to_text(), holder.exchange.to_text());
                let mut values = 0;
                self.store().values_with(space, b"", |_, _, _| values += 1);
                kept.push(KeptStat { vhost, exchange, layer: holder.layer.0, left_by, values, messages });
            }
        });
        Ok(StoreStat {
            clean: report.clean,
            messages: stat.messages,
            live_bytes: stat.live_bytes,
            extent_bytes: stat.extent_bytes,
            segment_bytes: stat.segment_bytes,
            values: report.values,
            vhosts,
            kept,
            unnamed: unnamed.into_values().collect(),
            checkpoints: seen.checkpoints.into_iter().map(checkpoint).collect(),
            set_aside: report.set_aside.clone(),
            refusal: self.refusal(),
            problems: report.problem_count,
        })
    }

    /// Why a start would not serve, and what to do.
    fn refusal(&self) -> Option<String> {
        let refusal = self.look.report().verdict.refusal.as_ref()?;
        Some(format!("{refusal}. {}", refusal_advice(refusal)))
    }

    fn queue(&self, id: u64, name: String) -> QueueStat {
        let leveret_store::QueueStat { messages, first, next } =
            self.store().queue(QueueId(id)).unwrap_or_default();
        QueueStat { name, id, messages, first, next }
    }

    fn vhost(&self, name: &leveret_model::Name, unnamed: &mut BTreeMap<u64, QueueStat>) -> VhostStat {
        let mut stat =
            VhostStat { name: name.to_text(), exchanges: 0, bindings: 0, held: 0, queues: Vec::new() };
        let mut each = |part: Topology<'_>| match part {
            Topology::Exchange(_) => stat.exchanges += 1,
            Topology::Binding(_) => stat.bindings += 1,
            Topology::Lane(_) => {}
            Topology::Queue(id, spec) => {
                unnamed.remove(&id.0);
                let mut queue = self.queue(id.0, spec.name.to_text());
                if QueueSettings::of(&spec.arguments).max_priority.is_some() {
                    let lanes = (1..=u8::MAX).filter_map(|lane| unnamed.remove(&id.lane(lane).0));
                    queue.messages += lanes.map(|lane| lane.messages).sum::<u64>();
                }
                stat.queues.push(queue);
            }
            Topology::Holds(id) => stat.held += unnamed.remove(&id.0).map_or(0, |queue| queue.messages),
        };
        topology::read(self.store(), name, &mut each, &mut |_| {});
        stat
    }

    /// Reads all of it.
    #[must_use]
    pub fn check(&self) -> StoreCheck {
        let report = self.look.report();
        let mut check = StoreCheck {
            sound: true,
            refusal: self.refusal(),
            lost: lost(&report.verdict),
            messages_read: 0,
            problem_count: 0,
            problems: Vec::new(),
        };
        for problem in &report.problems {
            check.tell(problem.to_string(), advice(problem, &report.verdict));
        }
        check.problem_count += report.problem_count - report.problems.len() as u64;
        for (queue, messages) in &report.unknown {
            check.tell(left_out(*queue, *messages), UNKNOWN_ADVICE);
        }
        let names = self.names(&mut check);
        for (queue, messages, _) in self.store().queues() {
            if messages > 0 && !names.contains_key(&KeptId(queue.0).queue().0) {
                let what = format!("nothing says whose the {messages} messages of queue {} are", queue.0);
                check.tell(what, "nobody gets them; check the disk, and keep a copy of the folder");
            }
        }
        self.read_all(&names, &mut check);
        check
    }

    /// What the queues of the store are, by their numbers.
    fn names(&self, check: &mut StoreCheck) -> BTreeMap<u64, String> {
        let mut names = BTreeMap::new();
        for vhost in topology::vhosts(self.store()) {
            let mut each = |part: Topology<'_>| match part {
                Topology::Queue(id, spec) => {
                    names.insert(id.0, format!("queue '{}' of virtual host '{vhost}'", spec.name));
                }
                Topology::Holds(id) => {
                    names.insert(id.0, format!("what virtual host '{vhost}' holds"));
                }
                Topology::Exchange(_) | Topology::Binding(_) | Topology::Lane(_) => {}
            };
            topology::read(self.store(), &vhost, &mut each, &mut |what| {
                check.tell(format!("{what} cannot be read"), "it is left out at a start; declare it again");
            });
        }
        state::each_pending(self.store(), |queue| {
            names.insert(queue.0, "what the next start deletes".to_owned());
        });
        let mut holders = 0;
        state::each_holder(self.store(), &mut |holder, places| {
            holders += 1;
            let name =
                format!("what exchange '{}' of virtual host '{}' keeps", holder.exchange, holder.vhost);
            let queues = places.all().filter_map(|place| place.queue);
            names.extend(queues.map(|queue| (queue.0, name.clone())));
        });
        let mut known = 0;
        self.store().values_with(HOLDERS, b"", |_, _, _| known += 1);
        for _ in holders..known {
            let advice = "the type begins anew for that exchange";
            check.tell("where a type of an exchange keeps what it does cannot be read".to_owned(), advice);
        }
        names
    }

    /// Reads every message.
    fn read_all(&self, names: &BTreeMap<u64, String>, check: &mut StoreCheck) {
        const ADVICE: &str = "it is left out; check the disk, and publish it again";
        let name = |queue: QueueId| {
            names.get(&KeptId(queue.0).queue().0).cloned().unwrap_or(format!("queue {}", queue.0))
        };
        let (mut read, mut strange) = (0, Vec::new());
        let checked = self.look.check(|queue, item| {
            let Some(payload) = item.payload else { return };
            let payload = Payload::decode(payload).ok();
            if payload.is_some_and(|payload| message::form_of(payload.form).is_some()) {
                read += 1;
            } else {
                strange.push((queue, item.sequence));
            }
        });
        check.messages_read = read;
        for Damaged { queue, sequence, file, offset, bytes } in &checked.damaged {
            let place = format!("the {bytes} bytes at {offset} of {file} are damaged");
            check.tell(format!("message {sequence} of {} cannot be read: {place}", name(*queue)), ADVICE);
        }
        check.problem_count += checked.damaged_count - checked.damaged.len() as u64;
        for (queue, sequence) in strange {
            check.tell(format!("message {sequence} of {} is none that is known", name(queue)), ADVICE);
        }
    }
}

fn checkpoint(seen: CheckpointSeen) -> CheckpointStat {
    let CheckpointSeen { file, bytes, batch, is_used, is_readable } = seen;
    CheckpointStat { file, bytes, batch, readable: is_readable, used: is_used }
}
