//! What a thread of the lane does for one question.

use super::{Answered, End, Part, Question, SLICE, Said, Subject, Unanswered};
use crate::{
    capability::Outcome,
    guest::{GuestFailure, thread_cpu_time},
    replica::About,
    worker::{Home, Homes, NotServed},
};
use leveret_broker::exchange::Generation;
use leveret_model::Reads;
use std::{sync::Arc, time::Duration};

/// Puts a question to the guest, in as many calls as it takes, until a turn's time is used up.
pub(super) fn run(homes: &mut Homes, question: &Question) -> Answered {
    let mut answered = Answered {
        generation: question.generation,
        parts: Vec::new(),
        end: End::Turn,
        singly: question.singly,
    };
    match ready(homes, question) {
        Ok(Known::Same(generation)) => answered.generation = generation,
        Ok(Known::Other(generation, reads)) => {
            (answered.generation, answered.end) = (generation, End::Outdated(reads));
            return answered;
        }
        Err(not_served) => {
            answered.fail(question.count(), not_served);
            return answered;
        }
    }
    let pace = homes.pace_of(&question.version, &question.vhost);
    let was_slow = pace.is_slow();
    let (mut asked, mut spent) = (0, Duration::ZERO);
    let mut singly_before = question.singly;
    while matches!(answered.end, End::Turn) && asked < question.count() && spent < SLICE {
        let home = match home(homes, question, answered.generation) {
            Ok(Some(home)) => home,
            // Made anew at a later generation.
            Ok(None) => {
                answered.end = End::Outdated(None);
                break;
            }
            Err(not_served) => {
                answered.fail(question.count() - asked, not_served);
                break;
            }
        };
        let together = calls_max(home, question).min(pace.messages_in(SLICE)).min(question.count() - asked);
        let count = if asked < singly_before { 1 } else { together };
        let began = thread_cpu_time();
        let said = call(home, question, asked, count);
        let took = thread_cpu_time().saturating_sub(began);
        spent += took;
        match said {
            Ok((_, Outcome { in_doubt: Some(cell), .. })) => {
                answered.end = End::InDoubt(cell);
            }
            Ok((said, outcome)) => {
                pace.took(count, took);
                answered.parts.push(Part { count, took, said: Ok((said, outcome.draft)) });
                asked += count;
            }
            Err(_) if count > 1 => singly_before = asked + count,
            Err(failure) => {
                let said = Err(Unanswered::Failed(failure.to_string()));
                pace.failed();
                if let Some((left, why)) = home.set_aside() {
                    pace.set_aside(question.version.id, left, why);
                }
                answered.parts.push(Part { count: 1, took, said });
                asked += 1;
            }
        }
    }
    answered.singly = singly_before.saturating_sub(asked);
    if was_slow && !pace.is_slow() {
        // From now on workers ask it.
        homes.discard(question.version.id);
    }
    answered
}

impl Answered {
    fn fail(&mut self, count: usize, not_served: NotServed) {
        let said = Err(Unanswered::NotServed(not_served));
        self.parts.push(Part { count, took: Duration::ZERO, said });
    }
}

/// What an instance knows of what it is asked about.
enum Known {
    /// It reads what was projected, at that generation.
    Same(Generation),
    /// It reads something else; this, if it is there.
    Other(Generation, Option<Arc<Reads>>),
}

/// Makes an instance ready.
fn ready(homes: &mut Homes, question: &Question) -> Result<Known, NotServed> {
    let (version, reads) = (&question.version, &question.reads);
    match &question.subject {
        Subject::Exchange(exchange, layer) => {
            let replica = homes.served(version, exchange, *layer, None)?;
            Ok(match replica.knows(exchange.id, *layer) {
                Some((generation, known)) if known == reads => Known::Same(generation),
                Some((generation, known)) => Known::Other(generation, Some(known.clone())),
                None => Known::Other(question.generation, None),
            })
        }
        Subject::Attachment(attachment) => {
            let replica = homes.attached(version, attachment, None)?.replica_there();
            Ok(match replica.and_then(|replica| replica.attached_reads(attachment.id)) {
                Some(known) if known == reads => Known::Same(question.generation),
                known => Known::Other(question.generation, known.cloned()),
            })
        }
    }
}

/// The instance, made anew if it was lost.
fn home<'h>(
    homes: &'h mut Homes,
    question: &Question,
    generation: Generation,
) -> Result<Option<&'h mut Home>, NotServed> {
    match &question.subject {
        Subject::Exchange(exchange, layer) => {
            let home = homes.at(&question.version, exchange, *layer, generation)?;
            Ok(Some(home).filter(|home| home.knows(exchange.id, *layer, generation)))
        }
        Subject::Attachment(attachment) => homes.attached(&question.version, attachment, None).map(Some),
    }
}

/// How many messages to ask about in one call.
fn calls_max(home: &Home, question: &Question) -> usize {
    match &question.subject {
        Subject::Exchange(..) => home.messages_per_call_max(),
        Subject::Attachment(_) => home.replica_there().map_or(1, |replica| replica.verdicts_per_call_max()),
    }
}

fn call(
    home: &mut Home,
    question: &Question,
    first: usize,
    count: usize,
) -> Result<(Said, Outcome), GuestFailure> {
    let (version, bytes) = (&question.version, question.projections(first, count));
    let on_hand = question.on_hand.get(first);
    match &question.subject {
        Subject::Exchange(exchange, layer) => {
            let about = About { exchange, layer: *layer, on_hand };
            let (decisions, outcome) = home.route(version, about, bytes, count, None)?;
            Ok((Said::Decisions(decisions), outcome))
        }
        Subject::Attachment(attachment) => {
            let (verdicts, outcome) = home.intercept(version, attachment, on_hand, bytes, count, None)?;
            Ok((Said::Verdicts(verdicts), outcome))
        }
    }
}
