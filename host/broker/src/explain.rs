//! Where a message would go, and why: a publish that is only told.
//!
//! *In and out:* a message goes the way of a publish ([`Vhost::explain`]), past what is attached on
//! publish and through the same walk. Each interceptor is asked by [`Router::explain_interceptor`], each
//! exchange by [`Router::explain`]. Out comes every question with its answer, and what a publish would
//! have been told.
//!
//! *Invariants:* nothing is enqueued, held, counted or remembered, and what types did while they were
//! asked is undone. The next publish may go another way: types may change their minds.

use crate::{
    exchange::{Binding, RouteSet},
    intercept::{self, Interception},
    port::{Answer, Intercepted, Layer, Router, Ruling, Site, Wake},
    publish::{Published, published},
    vhost::Vhost,
    walk::{Asking, Walk, Walked},
};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use leveret_model::{MessageView, MoreKeys, Name, OwnedMessage, Patch, Refusal};

/// Where a message would go, and why.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// The interceptors that were asked on publish, in order.
    pub intercepted: Vec<AskedInterceptor>,
    /// What they made of the message, if they changed it: that is what the exchanges were asked about.
    pub went_on_as: Option<OwnedMessage>,
    /// The questions that exchanges were asked, in order.
    pub steps: Vec<Step>,
    /// The queues that would get it, each once.
    pub queues: Vec<Name>,
    /// The exchanges that would hold it, and for how long, in milliseconds.
    pub holds: Vec<(Name, u64)>,
    /// The queues that what is held would go to if its time were now, each once.
    pub due_queues: Vec<Name>,
    /// What a publish would be told; `None` if it would have to wait for a type's answer.
    pub outcome: Option<Published>,
}

/// An exchange that was asked.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub exchange: Name,
    /// The type of its chain at which the question began.
    pub from: Layer,
    /// It was asked as if the time of a held message had come, to see whether there is a destination.
    pub when_due: bool,
    /// Its types, those in front first, as far as they were asked. Empty for the default exchange, and
    /// where the router does not tell.
    pub asked: Vec<Asked>,
    /// It had no destination, so this alternate exchange of it was turned to, be it there or not.
    pub alternate: Option<Name>,
}

/// A type of an exchange that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its place in the exchange's chain.
    pub layer: Layer,
    /// Its name.
    pub type_name: Name,
    /// It stands in for the type at this place, which could not answer.
    pub stands_in: bool,
    /// Who answered; `None` if nobody serves the type.
    pub plugin: Option<AskedPlugin>,
    /// The answer was remembered: the plugin was not called.
    pub remembered: bool,
    /// What it said.
    pub said: Said,
    /// What it wants the broker to do besides, should the message be accepted.
    pub effects: Vec<Wanted>,
    /// What the operator wants to become of messages where it cannot answer, in words.
    pub on_failure: String,
}

/// What a type wants the broker to do for a message, beside its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A message into this queue.
    Enqueue(Name),
    /// A message to that exchange with that routing key.
    Publish(Name, Name),
    /// The message is kept for destinations that are bound later.
    Keep,
    /// So many values are written or deleted, or counters added to.
    Write(usize),
    /// A timer of that name is set.
    SetTimer(Name),
}

/// An interceptor that was asked.
#[derive(Clone, Debug, Default)]
pub struct AskedInterceptor {
    /// Its name; empty where the router does not tell.
    pub interceptor: String,
    /// Who answered; `None` if nobody provides it.
    pub plugin: Option<AskedPlugin>,
    /// Why it could not be asked, or failed; the ruling is then what the operator wants.
    pub failed: Option<String>,
    /// What became of the message there.
    pub said: SaidInterceptor,
}

/// What became of a message at an interceptor.
#[derive(Clone, Debug, Default)]
pub enum SaidInterceptor {
    /// It goes on as it is.
    #[default]
    Pass,
    /// It goes on changed.
    Patch(Patch),
    /// It goes nowhere, on purpose.
    Drop,
    /// It is not accepted.
    Reject(Arc<str>),
    /// It goes on as if no binding matched.
    Unroutable,
    /// The answer comes later.
    Later,
}

/// The version of a plugin that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedPlugin {
    /// The plugin's name.
    pub name: String,
    /// Its version, as it says itself.
    pub version: String,
    /// The first bytes of the digest of its code, in hexadecimal digits.
    pub digest: String,
    /// Whoever publishes is answered from memory, once the same was asked before.
    pub pure: bool,
    /// Why this version of the plugin.
    pub standing: Standing,
}

/// Why a message is asked of one version of a plugin and not of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It serves the type.
    #[default]
    Serving,
    /// It is tried with a share of routing keys, and the message's key is one of them.
    Canary,
    /// The exchange is to stay on it.
    Pinned,
}

/// What a type said of a message.
#[derive(Clone, Debug)]
pub enum Said {
    /// To these bindings.
    Deliver {
        /// Each once.
        bindings: Vec<Arc<Binding>>,
        /// How many ids it named that are no bindings.
        dead_ids: usize,
    },
    /// Nowhere, on purpose.
    Drop(Option<Arc<str>>),
    /// Not accepted.
    Reject(Arc<str>),
    /// As the type behind it decides.
    Delegate,
    /// As the type behind it decides in so many milliseconds.
    Hold(u64),
    /// It cannot be asked, or failed.
    Failed(Box<Refusal>),
    /// It answers later.
    Later,
}

/// There is nobody to wake: what would have to wait is told as that.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

impl Vhost {
    /// Where a message would go if it were published now, and why. The exchange is the message's own.
    #[must_use]
    pub fn explain(
        &self,
        router: &mut dyn Router,
        message: &MessageView<'_>,
        mandatory: bool,
    ) -> Explanation {
        let mut told = Explanation::default();
        let exchange = self.exchange(message.exchange);
        if let Err(refusal) = self.check_publish(message) {
            told.outcome = Some(Published::Refused(refusal));
            return told;
        }
        let (waker, mut interception) = (Arc::new(Nobody) as Arc<dyn Wake>, Interception::default());
        let mut nowhere = false;
        if self.intercepts.publish {
            match told.explain_interceptors(self, router, message, &mut interception, &waker) {
                Ok(unroutable) => nowhere = unroutable,
                Err(outcome) => {
                    told.outcome = outcome;
                    return told;
                }
            }
        }
        let message = &interception.view(0, message);
        // What an interceptor made of them may be none.
        let more_keys = message.more_keys().unwrap_or_default();
        let more_keys = more_keys.as_deref();
        let exchange = match exchange {
            Some(exchange) if !message.exchange.is_empty() => exchange,
            _ if nowhere => {
                told.outcome = Some(Published::Unroutable);
                return told;
            }
            _ => {
                told.explain_default(self, message, more_keys);
                return told;
            }
        };
        let mut walk = Walk::default();
        let notes = Some(&mut told.steps);
        let mut asking = Asking { vhost: self, router, message, more_keys, mandatory, waker: &waker, notes };
        let answer = match nowhere {
            true => Some(Answer::Deliver(RouteSet::default())),
            false => walk.put_question(&mut asking, &exchange, Layer::FRONT),
        };
        let walked = match answer {
            Some(answer) => walk.run(&mut asking, (&exchange, Layer::FRONT), answer, None),
            None => Walked::Pending,
        };
        if let Walked::Routed = walked {
            told.queues = walk.queues().iter().map(|queue| queue.name().clone()).collect();
            let holds = walk.holds().iter();
            told.holds = holds.map(|by| (by.exchange.spec.name.clone(), by.hold.delay_ms)).collect();
            for queue in walk.due_queues() {
                if !told.due_queues.contains(queue.name()) {
                    told.due_queues.push(queue.name().clone());
                }
            }
        }
        told.outcome = published(walked);
        told
    }
}

impl Explanation {
    /// Shows the message to what is attached on publish. Gives whether it goes on as if no binding
    /// matched.
    ///
    /// # Errors
    /// It does not go on: what a publish would be told, `None` if an answer comes later.
    fn explain_interceptors(
        &mut self,
        vhost: &Vhost,
        router: &mut dyn Router,
        message: &MessageView<'_>,
        interception: &mut Interception,
        waker: &Arc<dyn Wake>,
    ) -> Result<bool, Option<Published>> {
        let site = Site::Publish { vhost: vhost.name(), exchange: message.exchange };
        self.intercepted = interception.explain(router, site, message, waker);
        if matches!(self.intercepted.last(), Some(AskedInterceptor { said: SaidInterceptor::Later, .. })) {
            return Err(None);
        }
        let changed = |asked: &AskedInterceptor| matches!(asked.said, SaidInterceptor::Patch(_));
        if self.intercepted.iter().any(changed) {
            self.went_on_as = Some(OwnedMessage::from_view(&interception.view(0, message)));
        }
        match interception.standing(0) {
            intercept::Standing::Passes => Ok(false),
            intercept::Standing::Unroutable => Ok(true),
            intercept::Standing::Dropped => Err(Some(Published::Dropped)),
            intercept::Standing::Rejected(reason) => Err(Some(Published::Rejected(reason))),
            intercept::Standing::Unavailable(reason) => Err(Some(Published::Unavailable(reason))),
        }
    }

    /// The default exchange asks no type.
    fn explain_default(&mut self, vhost: &Vhost, message: &MessageView<'_>, more: Option<&MoreKeys>) {
        self.steps.push(Step::of(Name::EMPTY, Layer::FRONT, false, Vec::new()));
        let mut walk = Walk::default();
        walk.found_by_name(vhost, message.routing_key, more);
        self.queues = walk.queues().iter().map(|queue| queue.name().clone()).collect();
        let is_routed = !self.queues.is_empty();
        self.outcome = Some(if is_routed { Published::Routed } else { Published::Unroutable });
    }
}

impl From<&Ruling> for SaidInterceptor {
    fn from(ruling: &Ruling) -> Self {
        match ruling {
            Ruling::Unroutable => Self::Unroutable,
            Ruling::Unavailable(reason) => Self::Reject(reason.clone()),
            Ruling::Said(Intercepted::Continue, _) => Self::Pass,
            Ruling::Said(Intercepted::Patch(patch), _) => Self::Patch(patch.clone()),
            Ruling::Said(Intercepted::Drop, _) => Self::Drop,
            Ruling::Said(Intercepted::Reject(reason), _) => Self::Reject(reason.clone()),
        }
    }
}

impl Step {
    pub(crate) fn of(exchange: Name, from: Layer, when_due: bool, asked: Vec<Asked>) -> Self {
        Self { exchange, from, when_due, asked, alternate: None }
    }
}
