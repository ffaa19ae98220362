//! Messages on their way past interceptors: what is left of them, and as what they go on.
//!
//! *Not here:* what is attached where and who is asked (the port's business), and what a drop or a
//! rejection means at each point (`publish.rs`, `client/intercepted.rs`, `dead_letter/letters.rs`).
//!
//! *In:* a run of messages that are at one place. *Out:* for each whether it goes on, and its view
//! with all changes made. Changed properties lie in one arena for the whole run; what no
//! interceptor touches is not copied.
//!
//! *Invariants:* each attachment is asked once about each message that the ones before let pass. If
//! one answers for fewer messages than it was asked about, the rest of the run is not there: its
//! effects are dropped, and it is to be asked again from the first attachment on. What changes cannot be made of a
//! message, or may not, is as if the attachment had not answered: the port says what becomes of it.

use crate::{
    explain::{AskedInterceptor, SaidInterceptor},
    port::{Doubt, Effects, ExplainedInterceptor, Intercepted, Routed, Router, Ruling, Site, Wake},
};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::ops::Range;
use leveret_model::{MessageView, Patch, PatchError};

/// The reason for a message about which an attachment said nothing.
const NO_RULING: &str = "the interceptor gave no answer";

/// What the attachments let become of a message.
#[derive(Clone, Debug, Default)]
pub(crate) enum Standing {
    /// It goes on.
    #[default]
    Passes,
    /// It goes on, as if no binding matched.
    Unroutable,
    /// It goes nowhere, on purpose.
    Dropped,
    /// It is not accepted.
    Rejected(Arc<str>),
    /// It is not accepted, because an interceptor cannot be asked now.
    Unavailable(Arc<str>),
}

/// A message of a run.
#[derive(Default)]
struct Passed {
    standing: Standing,
    /// Has the routing key.
    routing_key: Option<Patch>,
    /// In the arena.
    properties: Option<Range<usize>>,
    /// Has the body.
    body: Option<Patch>,
    effects: Vec<Box<dyn Effects>>,
}

/// An attachment, and whether what it says counts or is only told.
#[derive(Clone, Copy)]
struct At<'a> {
    site: Site<'a>,
    attachment: usize,
    counts: bool,
}

/// Runs of messages past interceptors. Kept for its space.
#[derive(Default)]
pub(crate) struct Interception {
    run: Vec<Passed>,
    arena: Vec<u8>,
    /// What is appended to the arena next.
    patching: Vec<u8>,
    rulings: Vec<Ruling>,
}

impl Interception {
    /// Asks what is attached at a place about messages; returns for how many of them it is known
    /// what they go on as. None: the answer is pending.
    pub(crate) fn ask(
        &mut self,
        router: &mut dyn Router,
        site: Site<'_>,
        messages: &[MessageView<'_>],
        waker: &Arc<dyn Wake>,
    ) -> usize {
        self.clear();
        self.run.resize_with(messages.len(), Passed::default);
        for attachment in 0..router.attachments(site) {
            let mut rulings = core::mem::take(&mut self.rulings);
            let asked: Vec<(usize, MessageView<'_>)> = self.passing(messages).collect();
            if asked.is_empty() {
                break;
            }
            let mut views = asked.iter().map(|(_, view)| view);
            let routed = router.intercept(site, attachment, &mut views, &mut rulings, waker);
            let places: Vec<usize> = asked.iter().map(|(place, _)| *place).collect();
            let answered = match routed {
                Routed::Ready => places.len(),
                Routed::Cut => rulings.len().clamp(1, places.len()),
                Routed::Pending => 0,
            };
            let mut given = rulings.drain(..);
            let at = At { site, attachment, counts: true };
            for place in places.iter().take(answered) {
                let unanswered = || Ruling::Said(Intercepted::Reject(Arc::from(NO_RULING)), None);
                let ruling = given.next().unwrap_or_else(unanswered);
                let (ruling, _) = self.change(router, at, (*place, messages), ruling);
                self.rule(*place, ruling);
            }
            drop(given);
            self.rulings = rulings;
            if let Some(first) = places.get(answered) {
                // Those that went by before the first that was not answered can go on.
                self.run.truncate(*first);
            }
            if self.run.is_empty() {
                break;
            }
        }
        self.run.len()
    }

    /// Asks what is attached at a place about one message, to tell people. What it stands at, and its view,
    /// are those of place 0.
    pub(crate) fn explain(
        &mut self,
        router: &mut dyn Router,
        site: Site<'_>,
        message: &MessageView<'_>,
        waker: &Arc<dyn Wake>,
    ) -> Vec<AskedInterceptor> {
        self.clear();
        self.run.push(Passed::default());
        let (messages, mut all) = (core::slice::from_ref(message), Vec::new());
        for attachment in 0..router.attachments(site) {
            if !matches!(self.standing(0), Standing::Passes) {
                break;
            }
            let view = self.view(0, message);
            let ExplainedInterceptor { mut asked, ruling } =
                router.explain_interceptor(site, attachment, &view, waker);
            let Some(ruling) = ruling else {
                asked.said = SaidInterceptor::Later;
                all.push(asked);
                break;
            };
            let at = At { site, attachment, counts: false };
            let (ruling, why_not) = self.change(router, at, (0, messages), ruling);
            asked.failed = why_not.map(|why| String::from(&*why)).or(asked.failed);
            asked.said = SaidInterceptor::from(&ruling);
            self.rule(0, ruling);
            all.push(asked);
        }
        if let Some(passed) = self.run.first_mut() {
            passed.effects.clear();
        }
        all
    }

    /// Forgets the run; effects that are still here are undone.
    pub(crate) fn clear(&mut self) {
        self.run.clear();
        self.arena.clear();
        self.rulings.clear();
    }

    /// What becomes of a message of the run.
    pub(crate) fn standing(&self, place: usize) -> Standing {
        self.run.get(place).map(|passed| passed.standing.clone()).unwrap_or_default()
    }

    /// A message of the run as it goes on.
    pub(crate) fn view<'a>(&'a self, place: usize, message: &MessageView<'a>) -> MessageView<'a> {
        let mut view = *message;
        let Some(passed) = self.run.get(place) else { return view };
        if let Some(key) = passed.routing_key.as_ref().and_then(Patch::routing_key) {
            view.routing_key = key;
        }
        if let Some(body) = passed.body.as_ref().and_then(Patch::body) {
            (view.form, view.body) = (message.near_form(), body);
        }
        if let Some(properties) = &passed.properties {
            view.properties = self.arena.get(properties.clone()).unwrap_or_default();
        }
        view
    }

    /// Whether a message of the run has the body it came with.
    pub(crate) fn keeps_body(&self, place: usize) -> bool {
        self.run.get(place).is_none_or(|passed| passed.body.is_none())
    }

    /// Takes what the interceptors want to do for a message, in the order in which they were asked.
    pub(crate) fn take_effects(&mut self, place: usize) -> Vec<Box<dyn Effects>> {
        self.run.get_mut(place).map(|passed| core::mem::take(&mut passed.effects)).unwrap_or_default()
    }

    fn passing<'a>(
        &'a self,
        messages: &'a [MessageView<'a>],
    ) -> impl Iterator<Item = (usize, MessageView<'a>)> {
        let all = self.run.iter().zip(messages).enumerate();
        all.filter(|(_, (passed, _))| matches!(passed.standing, Standing::Passes))
            .map(|(place, (_, message))| (place, self.view(place, message)))
    }

    /// Makes the changes that a ruling is about. Gives the ruling; where they are not made, another, and why.
    fn change(
        &mut self,
        router: &mut dyn Router,
        At { site, attachment, counts }: At<'_>,
        (place, messages): (usize, &[MessageView<'_>]),
        ruling: Ruling,
    ) -> (Ruling, Option<Arc<str>>) {
        let (Ruling::Said(Intercepted::Patch(patch), _), Some(message)) = (&ruling, messages.get(place))
        else {
            return (ruling, None);
        };
        let view = self.view(place, message);
        let mut object = |doubt| router.object((site, attachment), doubt, counts);
        let is_signed = view.form.touches_signed(view.properties, patch);
        let mut instead = if is_signed { object(Doubt::Signed) } else { None };
        if instead.is_none()
            && let Err(error) = self.patch(place, message, patch)
        {
            instead = object(Doubt::Impossible(&error));
        }
        match instead {
            Some((instead, why)) => (instead, Some(why)),
            None => (ruling, None),
        }
    }

    fn rule(&mut self, place: usize, ruling: Ruling) {
        let (said, effects) = match ruling {
            Ruling::Said(said, effects) => (said, effects),
            Ruling::Unroutable => return self.stand(place, Standing::Unroutable),
            Ruling::Unavailable(reason) => {
                self.stand(place, Standing::Unavailable(reason));
                return self.undo(place);
            }
        };
        match said {
            Intercepted::Continue | Intercepted::Patch(_) => {}
            Intercepted::Drop => self.stand(place, Standing::Dropped),
            Intercepted::Reject(reason) => self.stand(place, Standing::Rejected(reason)),
        }
        if let Some(passed) = self.run.get_mut(place) {
            passed.effects.extend(effects);
        }
        if matches!(self.standing(place), Standing::Rejected(_)) {
            self.undo(place);
        }
    }

    /// What was done for a message that is not accepted did not happen.
    fn undo(&mut self, place: usize) {
        if let Some(passed) = self.run.get_mut(place) {
            passed.effects.clear();
        }
    }

    fn stand(&mut self, place: usize, standing: Standing) {
        if let Some(passed) = self.run.get_mut(place) {
            passed.standing = standing;
        }
    }

    /// Makes an attachment's changes: all of them, or none.
    fn patch(&mut self, place: usize, message: &MessageView<'_>, patch: &Patch) -> Result<(), PatchError> {
        let mut properties = None;
        let is_framed = patch.body().is_some() && message.form.frames_body();
        if !patch.keeps_properties() || is_framed {
            let mut patching = core::mem::take(&mut self.patching);
            patching.clear();
            let view = self.view(place, message);
            let patched = view.form.patch(view.properties, patch, &mut patching);
            if let Err(error) = patched {
                self.patching = patching;
                return Err(error);
            }
            let start = self.arena.len();
            self.arena.extend_from_slice(&patching);
            properties = Some(start..self.arena.len());
            self.patching = patching;
        }
        if let Some(passed) = self.run.get_mut(place) {
            passed.properties = properties.or(passed.properties.take());
            if patch.routing_key().is_some() {
                passed.routing_key = Some(patch.clone());
            }
            if patch.body().is_some() {
                passed.body = Some(patch.clone());
            }
        }
        Ok(())
    }
}
