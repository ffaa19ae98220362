//! Native interceptors.

use leveret_broker::{
    port::{Deed, Effects, Fate, Intercepted, Points, Routed, Ruling, Site, Wake},
    store::Change,
};
use leveret_model::MessageView;
use std::sync::{Arc, Mutex};

/// Where one is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Publish(&'static str),
    Deliver(&'static str),
    DeadLetter(&'static str),
}

/// What it does with a message.
pub type Judge = fn(&MessageView<'_>) -> Intercepted;

/// An attachment. `fates` notes what became of each message that it let pass or dropped.
#[derive(Clone)]
pub struct Attached {
    pub at: At,
    pub judge: Judge,
    pub fates: Arc<Mutex<Vec<(String, Fate)>>>,
    /// Answers so many messages of a batch, and says then that the rest is to be asked again.
    pub cut_after: Option<usize>,
    pub pending: bool,
    /// Cannot be asked, and the operator wants messages to be unroutable.
    pub broken: bool,
}

impl Attached {
    pub fn new(at: At, judge: Judge) -> Self {
        Self { at, judge, fates: Arc::default(), cut_after: None, pending: false, broken: false }
    }

    pub fn is_at(&self, site: Site<'_>) -> bool {
        match (self.at, site) {
            (At::Publish(name), Site::Publish { exchange, .. }) => name.as_bytes() == exchange,
            (At::Deliver(name), Site::Deliver { queue, .. })
            | (At::DeadLetter(name), Site::DeadLetter { queue, .. }) => name.as_bytes() == queue,
            _ => false,
        }
    }

    pub fn ask(
        &self,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        _: &Arc<dyn Wake>,
    ) -> Routed {
        if self.pending {
            return Routed::Pending;
        }
        for (count, message) in messages.enumerate() {
            if self.cut_after == Some(count) {
                return Routed::Cut;
            }
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            let effects: Box<dyn Effects> = Box::new(Noted { body, fates: self.fates.clone() });
            rulings.push(match self.broken {
                true => Ruling::Unroutable,
                false => Ruling::Said((self.judge)(message), Some(effects)),
            });
        }
        Routed::Ready
    }
}

/// The points of these.
pub fn points(all: &[Attached]) -> Points {
    Points {
        publish: all.iter().any(|attached| matches!(attached.at, At::Publish(_))),
        deliver: all.iter().any(|attached| matches!(attached.at, At::Deliver(_))),
        dead_letter: all.iter().any(|attached| matches!(attached.at, At::DeadLetter(_))),
    }
}

#[derive(Debug)]
struct Noted {
    body: String,
    fates: Arc<Mutex<Vec<(String, Fate)>>>,
}

impl Effects for Noted {
    fn record(&self, _: Fate, group: &mut Vec<Change>) {
        group.push(super::disk::set(format!("noted {}", self.body)));
    }

    fn commit(self: Box<Self>, fate: Fate, _: &MessageView<'_>, _: &mut Vec<Deed>) {
        self.fates.lock().unwrap().push((self.body, fate));
    }
}
