//! An attachment asked about one message, to be told: which plugin, what it said. Nothing is remembered or
//! counted for it, and what the guest did is undone.

use super::{LENGTH_BYTES, NotReady, Worker, failed, place_of, said, seats::Seat, too_long, waits};
use crate::{attachment::Attachment, capability::Outcome, version::Version, worker::explain::asked_plugin};
use leveret_broker::{
    explain::{AskedInterceptor, Standing},
    port::{ExplainedInterceptor, Intercepted, Ruling, Site},
};
use leveret_model::{Form, MessageView, OwnedMessage};
use std::sync::Arc;

/// What became of the question: a ruling, or why there is none.
enum Told {
    Ruling(Ruling),
    Failed(Arc<str>),
    Later,
}

impl Worker {
    /// Asks the attachment of that number at a place.
    pub(in crate::worker) fn explain_attachment(
        &mut self,
        site: Site<'_>,
        number: usize,
        message: &MessageView<'_>,
    ) -> ExplainedInterceptor {
        let seat = self.interceptors.chain(site).get(number).copied();
        let Some((attachment, seat)) = seat.and_then(|at| self.interceptors.seat(at)) else {
            let ruling = Some(Ruling::Said(Intercepted::Continue, None));
            return ExplainedInterceptor { asked: AskedInterceptor::default(), ruling };
        };
        let mut asked = AskedInterceptor {
            interceptor: attachment.rule.interceptor.clone(),
            ..AskedInterceptor::default()
        };
        let told = match seat.stand_ready(&attachment, &self.registry, &mut self.homes, None) {
            Ok(version) => {
                asked.plugin = Some(asked_plugin(&version, seat.pure, Standing::Serving));
                self.ask_attachment(site, number, (&attachment, &version), message)
            }
            Err(NotReady::NotYet) => Told::Later,
            Err(_) if seat.is_vacant() && waits(&attachment) => Told::Later,
            Err(NotReady::Cannot(why)) => Told::Failed(why),
        };
        let ruling = match told {
            Told::Ruling(ruling) => Some(ruling),
            Told::Later => None,
            Told::Failed(why) => {
                asked.failed = Some(String::from(&*why));
                Some(failed(&attachment, &why))
            }
        };
        ExplainedInterceptor { asked, ruling }
    }

    fn ask_attachment(
        &mut self,
        site: Site<'_>,
        number: usize,
        (attachment, version): (&Arc<Attachment>, &Arc<Version>),
        message: &MessageView<'_>,
    ) -> Told {
        let at = self.interceptors.chain(site).get(number).copied().unwrap_or(usize::MAX);
        let Some(seat) = self.interceptors.seat_there(at) else { return Told::Later };
        if seat.reads.rejects_body(message.readable_bytes()) {
            let bytes_max = seat.reads.body.map_or(0, |body| body.bytes_max);
            return Told::Ruling(too_long(attachment, bytes_max, message));
        }
        let mut question = vec![0; LENGTH_BYTES];
        message.project_at(&seat.reads, place_of(site), &mut question);
        let projection = question.get(LENGTH_BYTES..).unwrap_or_default();
        if let Some(verdict) = seat.memo.peek(projection).filter(|_| seat.pure) {
            return Told::Ruling(Ruling::Said(said(verdict), None));
        }
        let length = u32::try_from(projection.len()).unwrap_or(u32::MAX);
        if let Some(place) = question.get_mut(..LENGTH_BYTES) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        let home = match self.homes.attached(version, attachment, None) {
            Ok(home) => home,
            Err(not_served) => return Told::Failed(seat.not_served(not_served)),
        };
        let reads = home.replica_there().and_then(|replica| replica.attached_reads(attachment.id));
        if reads != Some(&seat.reads) {
            // A fresh instance reads something else.
            seat.forget();
            return Told::Later;
        }
        let on_hand = version.code.takes_messages().then(|| Arc::new(OwnedMessage::from_view(message)));
        let judged = home.intercept(version, attachment, on_hand.as_ref(), &question, 1, None);
        // Dropped with the outcome, the draft of effects is undone.
        match judged {
            Ok((_, Outcome { in_doubt: Some(_), .. })) => Told::Later,
            Ok((verdicts, _)) => seat.told(verdicts.first(), self.services.form.map(|form| form as _)),
            Err(failure) => Told::Failed(failure.to_string().into()),
        }
    }
}

impl Seat {
    fn told(&self, verdict: Option<&crate::guest::Verdict>, form: Option<&dyn Form>) -> Told {
        match verdict {
            None => Told::Failed(Arc::from("it gave no verdict")),
            Some(verdict) => match self.fault_of(verdict, form) {
                Some(fault) => Told::Failed(Arc::from(fault.why())),
                None => Told::Ruling(Ruling::Said(said(verdict), None)),
            },
        }
    }
}
