//! Calls about messages: made where the answer is wanted, or cut off there and made in the slow lane.
//! `hurried` says that others wait for the thread.

use super::home::Home;
use crate::{
    attachment::Attachment,
    capability::Outcome,
    guest::{Decisions, GuestFailure, Verdicts, thread_cpu_time},
    pace::INLINE_CALL_MAX,
    replica::{About, Replica},
    version::Version,
};
use leveret_model::OwnedMessage;
use std::{sync::Arc, time::Duration};

/// How many calls are measured before only some are.
const MEASURED_FIRST: u64 = 16;
/// Of calls about few messages, and of those about many, one in so many is measured: the clock of CPU time is
/// a system call.
const MEASURED_EVERY: (u64, u64) = (64, 4);
/// And of calls about few messages of a plugin that takes less than this for one. A call that takes much longer
/// than all before is noticed at the next measurement, and those that follow are measured as above.
const QUICK: Duration = Duration::from_micros(5);
const MEASURED_EVERY_QUICK: u64 = 512;
/// How many messages are many.
const MANY_MESSAGES: usize = 16;

impl Home {
    /// Asks where messages go; see [`Replica::route`]. After a failure the replica is lost.
    pub(crate) fn route(
        &mut self,
        version: &Version,
        about: About<'_>,
        projections: &[u8],
        count: usize,
        within: Option<Duration>,
    ) -> Result<(Decisions, Outcome), GuestFailure> {
        let Some(replica) = &mut self.replica else {
            return Err(GuestFailure::Answer(String::from("the instance is gone")));
        };
        let decided = replica.route(about, projections, count, within);
        self.called(version, decided)
    }

    /// Asks where messages go, on a worker: if that takes long the call is cut off, and the plugin is asked in
    /// the slow lane from then on.
    pub(crate) fn route_inline(
        &mut self,
        version: &Version,
        about: About<'_>,
        projections: &[u8],
        count: usize,
        hurried: bool,
    ) -> Result<(Decisions, Outcome), GuestFailure> {
        self.inline(count, hurried, |home, within| home.route(version, about, projections, count, within))
    }

    /// The same for [`Self::intercept`].
    pub(crate) fn intercept_inline(
        &mut self,
        version: &Version,
        attachment: &Attachment,
        on_hand: Option<&Arc<OwnedMessage>>,
        projections: &[u8],
        count: usize,
        hurried: bool,
    ) -> Result<(Verdicts, Outcome), GuestFailure> {
        self.inline(count, hurried, |home, within| {
            home.intercept(version, attachment, on_hand, projections, count, within)
        })
    }

    fn inline<R>(
        &mut self,
        count: usize,
        hurried: bool,
        call: impl FnOnce(&mut Self, Option<Duration>) -> Result<R, GuestFailure>,
    ) -> Result<R, GuestFailure> {
        self.calls += 1;
        let began = self.is_measured(count).then(thread_cpu_time);
        let call_max =
            self.account.as_ref().map_or(INLINE_CALL_MAX, |account| account.pace().times().call_max);
        let answer = call(self, hurried.then_some(call_max));
        let Some(account) = &self.account else { return answer };
        match &answer {
            Ok(_) => {
                let seen = self.replica.as_ref().map(Replica::cpu_used).filter(|seen| !seen.is_zero());
                let took = began.map(|began| thread_cpu_time().saturating_sub(began)).or(seen);
                if let Some(took) = took {
                    account.pace().took(count, took);
                }
            }
            Err(GuestFailure::CutOff(_)) => account.pace().was_cut_off(),
            Err(_) => account.pace().failed(),
        }
        answer
    }

    /// Whether the call that begins, about so many messages, is one to measure.
    fn is_measured(&self, count: usize) -> bool {
        if self.calls <= MEASURED_FIRST {
            return true;
        }
        if count >= MANY_MESSAGES {
            return self.calls.is_multiple_of(MEASURED_EVERY.1);
        }
        if !self.calls.is_multiple_of(MEASURED_EVERY.0) {
            return false;
        }
        let cost = self.account.as_ref().and_then(|account| account.pace().cost());
        self.calls.is_multiple_of(MEASURED_EVERY_QUICK) || cost.is_none_or(|cost| cost >= QUICK)
    }

    /// Notes how a call about messages ended.
    fn called<R>(&mut self, version: &Version, answer: Result<R, GuestFailure>) -> Result<R, GuestFailure> {
        match answer {
            Ok(answer) => {
                self.succeeded();
                Ok(answer)
            }
            Err(failure @ GuestFailure::CutOff(_)) => {
                // It is asked again elsewhere, and may do nothing wrong.
                (self.replica, self.lost) = (None, true);
                Err(failure)
            }
            Err(failure) => {
                self.failed(version, Some(&failure), failure.to_string(), Duration::ZERO);
                Err(failure)
            }
        }
    }

    /// Asks an interceptor for verdicts; see [`Replica::intercept`]. After a failure the replica is
    /// lost.
    pub(crate) fn intercept(
        &mut self,
        version: &Version,
        attachment: &Attachment,
        on_hand: Option<&Arc<OwnedMessage>>,
        projections: &[u8],
        count: usize,
        within: Option<Duration>,
    ) -> Result<(Verdicts, Outcome), GuestFailure> {
        let Some(replica) = &mut self.replica else {
            return Err(GuestFailure::Answer(String::from("the instance is gone")));
        };
        let verdicts = replica.intercept(attachment, on_hand, projections, count, within);
        self.called(version, verdicts)
    }
}
