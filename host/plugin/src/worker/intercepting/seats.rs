//! What a worker keeps of each attachment, and which attachments a message meets.

use super::{
    super::homes::{Homes, NotServed},
    PATCH_BYTES_MAX, Scratch, bytes_without_body, said,
};
use crate::{
    account::Account,
    attachment::{Attachment, Attachments},
    guest::{AttachmentPoint, Verdict},
    memo::{Memo, Shrink},
    pace::Pace,
    policy::Capability,
    registry::Registry,
    version::Version,
    worker::REFUSED_FOR,
};
use hashbrown::HashMap;
use leveret_broker::port::{Points, Ruling, Site, Wake};
use leveret_model::{Form, Name, Reads};
use std::{ops::Range, rc::Rc, sync::Arc, time::Instant};

/// For how many exchanges or queues of a virtual host it is noted at a point what they meet.
const CHAINS_MAX: usize = 4_096;

/// The attachments as one worker sees them.
pub(in crate::worker) struct Interceptors {
    attachments: Arc<Attachments>,
    memo_bytes_max: usize,
    /// By the numbers of the attachments; made when first asked.
    seats: Vec<Option<Seat>>,
    chains: Vec<Chains>,
    /// `chains` are those of this state of the attachments.
    generation: u64,
}

/// What names meet at a point of a virtual host.
struct Chains {
    vhost: Name,
    point: AttachmentPoint,
    by_name: HashMap<Name, Rc<[usize]>, foldhash::fast::RandomState>,
}

/// Why an attachment is not asked.
pub(super) enum NotReady {
    /// Whoever waits is woken when it can be.
    NotYet,
    /// It cannot be, for this reason.
    Cannot(Arc<str>),
}

/// Why a verdict cannot be taken, for people to read.
pub(super) enum Fault {
    /// For want of a grant: as if the plugin could not be asked, whatever the message.
    NotGranted(&'static str),
    /// It makes no sense: as if the plugin had failed on the message.
    Wrong(String),
}

impl Fault {
    pub(super) fn why(&self) -> &str {
        match self {
            Self::NotGranted(why) => why,
            Self::Wrong(why) => why,
        }
    }
}

impl From<Arc<str>> for NotReady {
    fn from(why: Arc<str>) -> Self {
        Self::Cannot(why)
    }
}

/// What a worker keeps of an attachment.
pub(super) struct Seat {
    /// The version that is asked, or why there is none.
    version: Result<Arc<Version>, Arc<str>>,
    /// `version` is that of this state of the registry; `None` where it is to be looked up.
    generation: Option<u64>,
    pub(super) reads: Arc<Reads>,
    /// Verdicts are remembered.
    pub(super) pure: bool,
    may_modify_body: bool,
    /// `reads` is of this version.
    known: bool,
    pub(super) memo: Memo<Verdict>,
    /// Of that version.
    account: Option<Arc<Account>>,
    /// The plugin refused the attachment: why, and until when that holds.
    refused: Option<(Arc<str>, Instant)>,
    pub(super) scratch: Scratch,
}

impl Interceptors {
    pub(in crate::worker) fn new(attachments: &Arc<Attachments>, memo_bytes_max: usize) -> Self {
        let generation = attachments.generation();
        let (seats, chains) = (Vec::new(), Vec::new());
        Self { attachments: attachments.clone(), memo_bytes_max, seats, chains, generation }
    }

    /// A virtual host begins: at which points anything is attached there.
    pub(in crate::worker) fn points(&self, vhost: &Name) -> Points {
        self.attachments.vhost_begins(vhost);
        Points {
            publish: self.attachments.any(vhost, AttachmentPoint::Publish),
            deliver: self.attachments.any(vhost, AttachmentPoint::Deliver),
            dead_letter: self.attachments.any(vhost, AttachmentPoint::DeadLetter),
        }
    }

    /// A virtual host is gone.
    pub(in crate::worker) fn vhost_ends(&self, vhost: &Name) {
        self.attachments.vhost_ends(vhost);
    }

    /// What a message meets at a place.
    pub(in crate::worker) fn chain(&mut self, site: Site<'_>) -> Rc<[usize]> {
        match site {
            Site::Publish { vhost, exchange } => self.chain_at(vhost, AttachmentPoint::Publish, exchange),
            Site::Deliver { vhost, queue } => self.chain_at(vhost, AttachmentPoint::Deliver, queue),
            Site::DeadLetter { vhost, queue, .. } => self.chain_at(vhost, AttachmentPoint::DeadLetter, queue),
        }
    }

    fn chain_at(&mut self, vhost: &Name, point: AttachmentPoint, name: &[u8]) -> Rc<[usize]> {
        let generation = self.attachments.generation();
        if self.generation != generation {
            self.generation = generation;
            self.chains.clear();
            let there = |at: &usize| self.attachments.get(*at).is_some();
            for gone in (0..self.seats.len()).filter(|at| !there(at)) {
                self.seats.get_mut(gone).and_then(Option::take);
            }
        }
        let known = self.chains.iter().position(|chains| chains.point == point && chains.vhost == *vhost);
        let known = known.unwrap_or_else(|| {
            self.chains.push(Chains { vhost: vhost.clone(), point, by_name: HashMap::default() });
            self.chains.len() - 1
        });
        let Some(chains) = self.chains.get_mut(known) else { return Rc::default() };
        if let Some(chain) = chains.by_name.get(name) {
            return chain.clone();
        }
        let chain: Rc<[usize]> = self.attachments.chain(vhost, point, name).into();
        if chains.by_name.len() >= CHAINS_MAX {
            chains.by_name.clear();
        }
        if let Ok(name) = Name::new(name) {
            chains.by_name.insert(name, chain.clone());
        }
        chain
    }

    /// An attachment and what is kept of it.
    pub(super) fn seat(&mut self, at: usize) -> Option<(Arc<Attachment>, &mut Seat)> {
        let attachment = self.attachments.get(at)?;
        if self.seats.len() <= at {
            self.seats.resize_with(at + 1, || None);
        }
        let bytes_max = self.memo_bytes_max;
        let seat = self.seats.get_mut(at)?;
        let seat = seat.get_or_insert_with(|| Seat::new(bytes_max));
        Some((attachment, seat))
    }

    /// All that is remembered.
    pub(in crate::worker) fn each_memo(&mut self, call: &mut dyn FnMut(&mut dyn Shrink)) {
        self.seats.iter_mut().flatten().for_each(|seat| call(&mut seat.memo));
    }

    /// What is kept of an attachment that was asked before.
    pub(super) fn seat_there(&mut self, at: usize) -> Option<&mut Seat> {
        self.seats.get_mut(at)?.as_mut()
    }
}

impl Seat {
    fn new(memo_bytes_max: usize) -> Self {
        Self {
            version: Err(Arc::from("it was not asked yet")),
            generation: None,
            reads: Arc::default(),
            pure: false,
            may_modify_body: false,
            known: false,
            memo: Memo::new(memo_bytes_max),
            account: None,
            refused: None,
            scratch: Scratch::default(),
        }
    }

    /// How fast its plugin is; `None` while none provides it.
    pub(super) fn pace(&self) -> Option<&Arc<Pace>> {
        self.version.as_ref().ok().and(self.account.as_deref()).map(Account::pace)
    }

    /// Whether it is asked in the lane: its plugin is slow, or has one instance for all threads.
    pub(super) fn is_slow(&self) -> bool {
        self.pace().is_some_and(|pace| pace.is_slow())
            || self.version.as_ref().is_ok_and(|version| version.single_writer)
    }

    /// The state of the registry that it follows.
    pub(super) fn generation(&self) -> u64 {
        self.generation.unwrap_or_default()
    }

    /// Whether there is no plugin to ask.
    pub(super) fn is_vacant(&self) -> bool {
        self.version.is_err()
    }

    /// Whether its plugin has that grant.
    pub(super) fn may_modify_body(&self) -> bool {
        self.may_modify_body
    }

    /// Why a verdict cannot be taken. `form` is that of messages.
    pub(super) fn fault_of(&self, verdict: &Verdict, form: Option<&dyn Form>) -> Option<Fault> {
        let Verdict::Patch(patch) = verdict else { return None };
        if patch.body().is_some() && !self.may_modify_body {
            return Some(Fault::NotGranted("it sets the body and needs the grant 'modify-body'"));
        }
        if bytes_without_body(patch) > PATCH_BYTES_MAX {
            return Some(Fault::Wrong("its changes have more than 1 MiB".into()));
        }
        let form = form.filter(|_| !patch.properties().is_empty())?;
        let patched = form.patch(form.empty(), patch, &mut Vec::new());
        patched.err().map(|error| Fault::Wrong(error.to_string()))
    }

    /// Its plugin gave a verdict that cannot be taken.
    pub(super) fn count_fault(&self, attachment: &Attachment, fault: &Fault) {
        if let Some(account) = &self.account {
            account.bad_answer(format_args!("the interceptor {}", attachment.rule), fault.why());
        }
    }

    /// The interceptor's verdict on one more message.
    pub(super) fn count(&self, verdict: &Verdict) {
        match (verdict, &self.account) {
            (Verdict::Drop(reason), Some(account)) => account.count_drop(reason.as_ref()),
            (Verdict::Reject(reason), Some(account)) => account.count_rejection(reason),
            _ => {}
        }
    }

    /// What is remembered for a message that was laid out at a place, which is given up then.
    pub(super) fn remembered(&mut self, place: &Range<usize>) -> Option<Ruling> {
        let verdict = self.memo.find(self.scratch.projection(place)).cloned()?;
        self.count(&verdict);
        self.scratch.projections.truncate(place.start);
        Some(Ruling::Said(said(&verdict), None))
    }

    /// A line in the log for a verdict that was just given and rejects, if there were not too many.
    pub(super) fn log_rejection(&self, attachment: &Attachment, verdict: &Verdict) {
        if let (Verdict::Reject(reason), Some(account)) = (verdict, &self.account) {
            account.log_rejection(format_args!("the interceptor {}", attachment.rule), reason);
        }
    }

    /// Forgets everything that followed from an instance.
    pub(super) fn forget(&mut self) {
        self.memo.forget();
        self.known = false;
    }

    /// This is what it reads.
    pub(super) fn learn(&mut self, version: &Version, attachment: &Attachment, reads: Arc<Reads>) {
        self.memo.forget();
        self.reads = reads;
        let grants = version.policy(&attachment.vhost).grants;
        self.may_modify_body = grants.contains(Capability::ModifyBody);
        self.known = true;
    }

    /// Finds the version to ask, and what it reads. With a waker, an instance is made beside the worker, and of a
    /// plugin that is asked in the lane there is none here: it is taken to read nothing until the lane says
    /// otherwise.
    ///
    /// # Errors
    /// Why it cannot be asked; or not yet, and the waker is called.
    pub(super) fn stand_ready(
        &mut self,
        attachment: &Attachment,
        registry: &Registry,
        homes: &mut Homes,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<Arc<Version>, NotReady> {
        // The generation is read before the version: a swap publishes in the other order.
        let generation = registry.interceptors_generation();
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.look_up(attachment, registry, homes);
        }
        let version = self.version.clone()?;
        if let Some((why, until)) = &self.refused {
            if Instant::now() < *until {
                return Err(NotReady::Cannot(why.clone()));
            }
            self.refused = None;
        }
        if self.known {
            return Ok(version);
        }
        if waker.is_some() && self.is_slow() {
            self.learn(&version, attachment, Arc::default());
            return Ok(version);
        }
        let home = match homes.attached(&version, attachment, waker) {
            Ok(home) => home,
            Err(NotServed::Pending) => return Err(NotReady::NotYet),
            Err(not_served) => return Err(NotReady::Cannot(self.not_served(not_served))),
        };
        let replica = home.replica_there();
        let reads = replica.and_then(|replica| replica.attached_reads(attachment.id)).cloned();
        let reads = reads.ok_or_else(|| NotReady::Cannot(Arc::from("the instance is gone")))?;
        self.learn(&version, attachment, reads);
        Ok(version)
    }

    /// Why the plugin cannot be asked; remembered for a while if it refused the attachment.
    pub(super) fn not_served(&mut self, not_served: NotServed) -> Arc<str> {
        match not_served {
            NotServed::Refused(text) => {
                let why: Arc<str> = text.into();
                self.refused = Some((why.clone(), Instant::now() + REFUSED_FOR));
                why
            }
            NotServed::Failed(what) => what.into(),
            NotServed::Pending => Arc::from("it is not ready yet"),
        }
    }

    fn look_up(&mut self, attachment: &Attachment, registry: &Registry, homes: &mut Homes) {
        let found = registry.interceptor(attachment).map_err(Arc::<str>::from);
        let before = self.version.as_ref().ok().map(|version| version.id);
        if let Err(why) = &found {
            tracing::warn!(target: "leveret::plugin", "{} waits: {why}", attachment.rule);
        }
        if let (Ok(version), Some(before)) = (&found, before)
            && version.id == before
        {
            return;
        }
        if let Some(before) = before.filter(|before| !registry.serves(*before)) {
            homes.discard(before);
        }
        self.refused = None;
        self.forget();
        if let Ok(version) = &found {
            let described = version.describes_interceptor(&attachment.rule.interceptor);
            self.pure =
                described.is_some_and(|described| described.pure) && !version.code.exported.has_effects;
            let account = registry.account_of(version, &attachment.vhost);
            self.memo.charge_to(account.remembered());
            self.account = Some(account);
        }
        self.version = found;
    }
}
