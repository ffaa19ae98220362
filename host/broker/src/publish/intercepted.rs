//! Publishing where interceptors are attached: each run of one exchange goes past them before the
//! exchange is asked.
//!
//! What they drop counts as dropped by a type, what they reject as rejected by one; what goes on is
//! routed, enqueued, held and returned as they left it. What they do besides is committed once the
//! run is in its queues, or undone with what was not accepted. A publish that is an error of its
//! channel is one whatever they say: the exchange is looked up first.

use super::{Batch, Publish, Published, Publisher, further, is_same};
use crate::{
    exchange::{Exchange, RouteSet},
    intercept::{Interception, Standing},
    later::Emitting,
    origin::{Origin, Sender},
    port::{Answer, Effects, Fate, Layer, Router, Site, Wake},
    store,
    vhost::Vhost,
};
use alloc::{boxed::Box, collections::VecDeque, string::ToString, sync::Arc, vec::Vec};
use leveret_model::{MessageView, Refusal};

/// A run of messages to one exchange.
#[derive(Clone, Copy)]
struct Run<'a, 'b> {
    vhost: &'a Arc<Vhost>,
    /// None is the default exchange.
    exchange: Option<&'a Arc<Exchange>>,
    messages: &'a [Publish<'b>],
    /// Of messages of the broker itself.
    origins: Option<&'a [Origin]>,
    waker: &'a Arc<dyn Wake>,
}

/// How far a run came.
struct Dealt {
    count: usize,
    /// An exchange or an interceptor answers later.
    waits: bool,
}

impl Publisher {
    /// [`Self::publish`] past interceptors.
    pub(super) fn publish_intercepted(
        &mut self,
        vhost: &Arc<Vhost>,
        router: &mut dyn Router,
        batch: &[Publish<'_>],
        outcomes: &mut Vec<Published>,
        waker: &Arc<dyn Wake>,
    ) -> usize {
        let mut done = 0;
        while let Some(first) = batch.get(done) {
            let name = first.message.exchange;
            let rest = batch.get(done..).unwrap_or_default();
            let length = rest.iter().take_while(|publish| is_same(publish.message.exchange, name)).count();
            let messages = rest.get(..length).unwrap_or_default();
            let exchange = match name.is_empty() {
                true => None,
                false => {
                    let known = |exchange: &Exchange| !exchange.is_deleted();
                    self.exchanges.get(name, known, || vhost.exchange(name)).cloned()
                }
            };
            if !name.is_empty() && exchange.as_ref().is_none_or(|exchange| exchange.spec.internal) {
                let before = outcomes.len();
                let router = &mut *router;
                let mut refused =
                    Batch { vhost, router, messages, sender: None, outcomes, before, earlier: None, waker };
                done += self.publish_to(&mut refused, name, 0, length);
                continue;
            }
            let run = Run { vhost, exchange: exchange.as_ref(), messages, origins: None, waker };
            let dealt = self.publish_run(router, run, outcomes);
            done += dealt.count;
            if dealt.waits {
                break;
            }
        }
        self.scratch.refused.clear();
        done
    }

    /// Publishes what exchange types emitted, past interceptors, and otherwise as
    /// [`Self::publish_own`] does.
    pub(crate) fn publish_emitted(
        &mut self,
        vhost: &Arc<Vhost>,
        router: &mut dyn Router,
        exchange: &Arc<Exchange>,
        (messages, origins): (&[Publish<'_>], &mut Vec<Origin>),
        outcomes: &mut Vec<Published>,
        waker: &Arc<dyn Wake>,
    ) -> usize {
        if !vhost.intercepts.publish {
            let to = (exchange, Layer::FRONT);
            return self.publish_own(vhost, router, to, (messages, origins), outcomes, waker);
        }
        self.begin(vhost);
        let exchange = Some(exchange).filter(|exchange| !exchange.spec.name.is_empty());
        let mut done = 0;
        while done < messages.len() {
            let messages = messages.get(done..).unwrap_or_default();
            let origins = Some(origins.get(done..).unwrap_or_default());
            let run = Run { vhost, exchange, messages, origins, waker };
            let dealt = self.publish_run(router, run, outcomes);
            done += dealt.count;
            if dealt.waits {
                break;
            }
        }
        done
    }

    /// Asks the interceptors about a run, then the exchange about what they let pass.
    fn publish_run(
        &mut self,
        router: &mut dyn Router,
        run: Run<'_, '_>,
        outcomes: &mut Vec<Published>,
    ) -> Dealt {
        let mut interception = core::mem::take(&mut self.interception);
        let views: Vec<MessageView<'_>> = run.messages.iter().map(|publish| publish.message).collect();
        let exchange = run.exchange.map_or(&[][..], |exchange| &exchange.spec.name);
        let site = Site::Publish { vhost: run.vhost.name(), exchange };
        let ruled = interception.ask(router, site, &views, run.waker);
        let refused_before = self.scratch.refused.len();
        let mut effects: Vec<_> = (0..ruled).map(|place| interception.take_effects(place)).collect();
        let (places, mut given, waits) = self.route_passing(router, run, &interception, &mut effects);
        let count = places.get(given.len()).copied().unwrap_or(ruled);
        let mut given = given.drain(..);
        let mut refused = self.scratch.refused.get(..refused_before).unwrap_or_default().to_vec();
        for (place, publish) in run.messages.iter().enumerate().take(count) {
            let earlier = refused.iter().find(|(channel, _)| *channel == publish.channel);
            let outcome = match (interception.standing(place), earlier) {
                (Standing::Passes | Standing::Unroutable, _) => given.next().unwrap_or(Published::Unroutable),
                (_, Some((_, refusal))) => Published::Refused(refusal.clone()),
                (Standing::Dropped, None) => {
                    let effects = effects.get_mut(place).map(core::mem::take).unwrap_or_default();
                    keep_of_dropped(&interception, run, (place, router.now_ms()), effects)
                }
                (Standing::Rejected(reason), None) => Published::Rejected(reason),
                (Standing::Unavailable(reason), None) => Published::Unavailable(reason),
            };
            if let Published::Refused(refusal) = &outcome
                && run.origins.is_none()
            {
                refused.push((publish.channel, refusal.clone()));
            }
            outcomes.push(outcome);
        }
        interception.clear();
        self.interception = interception;
        Dealt { count, waits: waits || ruled == 0 }
    }

    /// Routes and enqueues what passes, and commits what interceptors did for it. Gives the places in the run
    /// of what was to be routed, the outcomes of the first of them, and whether an exchange answers later for
    /// the rest.
    fn route_passing(
        &mut self,
        router: &mut dyn Router,
        run: Run<'_, '_>,
        interception: &Interception,
        effects: &mut [Vec<Box<dyn Effects>>],
    ) -> (Vec<usize>, Vec<Published>, bool) {
        let (mut places, mut messages, mut without_bindings) = (Vec::new(), Vec::new(), Vec::new());
        let mut earlier = VecDeque::new();
        for ((place, publish), effects) in run.messages.iter().enumerate().zip(effects) {
            let unroutable = match interception.standing(place) {
                Standing::Passes => false,
                Standing::Unroutable => true,
                Standing::Dropped | Standing::Rejected(_) | Standing::Unavailable(_) => continue,
            };
            let index = places.len() as u32;
            earlier.extend(core::mem::take(effects).into_iter().map(|effects| (index, effects)));
            places.push(place);
            without_bindings.push(unroutable);
            messages.push(Publish { message: interception.view(place, &publish.message), ..*publish });
        }
        let more = further::changed(&messages, &places, run.messages);
        for (message, more) in messages.iter_mut().zip(&more) {
            if let Some(more) = more {
                message.more_keys = more.as_deref();
            }
        }
        let mut origins: Option<Vec<Origin>> = run
            .origins
            .map(|of| places.iter().map(|place| of.get(*place).copied().unwrap_or_default()).collect());
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut batch = Batch {
            vhost: run.vhost,
            router,
            messages: &messages,
            sender: origins.as_mut().map(|origins| origins as &mut dyn Sender),
            outcomes: &mut outcomes,
            before: 0,
            earlier: Some(&mut earlier),
            waker: run.waker,
        };
        let mut done = 0;
        while let Some(unroutable) = without_bindings.get(done) {
            let alike = without_bindings.iter().skip(done).take_while(|other| *other == unroutable).count();
            let dealt = match (run.exchange, unroutable) {
                (None, false) => self.publish_to_default(&mut batch, done, alike),
                (Some(exchange), false) => {
                    self.scratch.route(&mut batch, (exchange, Layer::FRONT), done, alike)
                }
                (exchange, true) => self.publish_to_nowhere(&mut batch, exchange, done, alike),
            };
            done += dealt;
            if dealt < alike {
                break;
            }
        }
        let waits = done < places.len();
        self.scratch.enqueue(&mut batch);
        self.scratch.wait_for_earlier(&batch);
        (places, outcomes, waits)
    }

    /// Publishes as if no binding matched. Returns how many were dealt with.
    fn publish_to_nowhere(
        &mut self,
        batch: &mut Batch<'_, '_>,
        exchange: Option<&Arc<Exchange>>,
        start: usize,
        count: usize,
    ) -> usize {
        for (index, publish) in batch.messages.iter().enumerate().skip(start).take(count) {
            if let Some(refusal) = self.scratch.refusal(publish) {
                self.scratch.refuse(batch, publish.channel, refusal);
                continue;
            }
            let nowhere = Answer::Deliver(RouteSet::default());
            let outcome = match exchange {
                Some(exchange) => self.scratch.walk(batch, (exchange, Layer::FRONT), (nowhere, None), index),
                None => Some(Published::Unroutable),
            };
            match outcome {
                None => return index - start,
                Some(Published::Refused(refusal)) => {
                    let refusal: Refusal = refusal;
                    self.scratch.refuse(batch, publish.channel, refusal);
                }
                Some(outcome) => batch.outcomes.push(outcome),
            }
        }
        count
    }
}

/// Keeps what the interceptors did for a message that they dropped. Gives its outcome.
fn keep_of_dropped(
    interception: &Interception,
    run: Run<'_, '_>,
    (place, now_ms): (usize, u64),
    effects: Vec<Box<dyn Effects>>,
) -> Published {
    let Some(publish) = run.messages.get(place).filter(|_| !effects.is_empty()) else {
        return Published::Dropped;
    };
    let view = interception.view(place, &publish.message);
    let mut deeds = Vec::new();
    let origin = run.origins.and_then(|origins| origins.get(place)).copied().unwrap_or_default();
    let room = run.vhost.room_for((origin, Fate::Dropped), effects.iter().map(|effects| &**effects));
    let mut emitting = match room {
        Ok(room) => room.unwrap_or_else(|| Emitting::new(origin, 0)),
        Err(why) => return Published::Full(why.into()),
    };
    let kept = store::keep(&*run.vhost.store, effects, (Fate::Dropped, &view), &mut deeds);
    run.vhost.perform_with(&mut deeds, &mut emitting, now_ms);
    run.vhost.later.give_back_unused(emitting);
    match kept {
        Ok(()) => Published::Dropped,
        Err(failure) => Published::Unavailable(Arc::from(failure.to_string())),
    }
}
