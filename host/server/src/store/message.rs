//! Messages as the store has them: [`leveret_store::Payload`], with what its fields for the caller mean here.
//!
//! - *Form:* 1 is AMQP 0-9-1, 2 is AMQP 1.0, 3 is AMQP 0-9-1 with a header that receivers do not see
//!   (`leveret_amqp091::form::HIDING`). A number is never used for another form.
//! - *Flags:* 1 says that the message's headers tell of a death, and the broker wrote them; 2 that the note of a message
//!   that a plugin keeps begins with the time when it expires; 4 that the body is far (`leveret_model::far`): in the
//!   payload is what stands for it, and the file is read in windows; 8 that a message of a page is where its queue is, too.
//! - *A message in a queue* has the time when it came; 0 where an earlier version wrote it.
//! - *A held message* has the time when it is due, and as its note: u8 version, name of the exchange that holds it
//!   (u8 length, bytes), u8 the type from which on it is asked, u8 how many emissions led to it.
//! - *A message that a plugin keeps* has its number among those instead of the time, and as its note: u64 LE when it
//!   expires, with flag 2; its key.

use super::codec::{Malformed, Take, TakeMore, VERSION, put_name};
use leveret_amqp10::form::{FORM, large::FAR as FAR_FORM};
use leveret_broker::{
    port::Layer,
    store::{HeldAs, Stored},
};
use leveret_model::{Form, MessageView};
use leveret_store::{Item, Payload};

/// Every form and its number.
static FORMS: &[(u8, &dyn Form)] =
    &[(1, leveret_amqp091::form::FORM), (2, leveret_amqp10::form::FORM), (3, leveret_amqp091::form::HIDING)];

/// The broker wrote headers that tell of a death.
pub(super) const DEAD_LETTERED: u8 = 1;

/// The note begins with the time when the message expires.
const EXPIRES: u8 = 2;

/// The body is read in windows.
pub(super) const FAR: u8 = 4;

/// Of a page: it is where its queue is, too.
pub(super) const ELSEWHERE: u8 = 8;

/// Whether the body of a payload is read in windows.
pub(super) fn is_far(payload: &[u8]) -> bool {
    Payload::decode(payload).is_ok_and(|payload| payload.flags & FAR != 0)
}

/// The note of a message that a plugin keeps under a key, and its flags.
pub(super) fn kept_note(key: &[u8], end_ms: Option<u64>) -> (Vec<u8>, u8) {
    match end_ms {
        Some(end_ms) => ([&end_ms.to_le_bytes(), key].concat(), EXPIRES),
        None => (key.to_vec(), 0),
    }
}

/// The key of a message that a plugin keeps, and when it expires.
pub(super) fn kept<'a>(payload: &Payload<'a>) -> (&'a [u8], Option<u64>) {
    match payload.note.split_first_chunk() {
        Some((end_ms, key)) if payload.flags & EXPIRES != 0 => (key, Some(u64::from_le_bytes(*end_ms))),
        _ => (payload.note, None),
    }
}

/// The number of a form; `None` for one that cannot be kept.
pub(super) fn number_of(form: &dyn Form) -> Option<u8> {
    number_of_protocol(form.protocol())
}

/// The same by its protocol.
pub(super) fn number_of_protocol(protocol: &str) -> Option<u8> {
    FORMS.iter().find(|(_, known)| known.protocol() == protocol).map(|(number, _)| *number)
}

/// The protocol of a form's number.
pub(super) fn protocol_of(number: u8) -> Option<&'static str> {
    form_of(number).map(Form::protocol)
}

/// The form of a number.
pub(super) fn form_of(number: u8) -> Option<&'static dyn Form> {
    FORMS.iter().find(|(known, _)| *known == number).map(|(_, form)| *form)
}

/// The form of messages whose properties have that one and whose body is far; there is one of AMQP 1.0 alone.
fn far_of(form: &'static dyn Form) -> &'static dyn Form {
    if form.protocol() == FORM.protocol() { FAR_FORM } else { form }
}

/// Appends the note of a held message.
pub(super) fn put_held(out: &mut Vec<u8>, held: &HeldAs<'_>) {
    out.push(VERSION);
    put_name(out, held.exchange);
    out.extend_from_slice(&[held.resume.0, held.hops]);
}

/// Hands a message to `each` as the broker knows it.
pub(super) fn hand_over(item: &Item<'_>, each: &mut dyn FnMut(Stored<'_>)) {
    let mut stored = Stored {
        sequence: item.sequence,
        message: None,
        is_later: item.is_later,
        redelivered: item.redelivered,
        deliveries: item.deliveries,
        dead_lettered: false,
        came_ms: 0,
        held: None,
        is_kept: false,
    };
    let payload = item.payload.and_then(|payload| Payload::decode(payload).ok());
    let known = payload.and_then(|payload| Some((payload, form_of(payload.form)?)));
    let Some((payload, form)) = known else { return each(stored) };
    stored.message = Some(view(&payload, form, item.body));
    stored.dead_lettered = payload.flags & DEAD_LETTERED != 0;
    stored.is_kept = payload.flags & ELSEWHERE != 0;
    if payload.note.is_empty() {
        stored.came_ms = payload.at_ms;
        return each(stored);
    }
    let read = || {
        let mut take = Take(payload.note);
        take.version()?;
        let read = (take.name()?, Layer(take.u8()?), take.u8()?);
        take.end()?;
        Ok(read)
    };
    match read() {
        Ok((exchange, resume, hops)) => {
            stored.held = Some(HeldAs { due_ms: payload.at_ms, exchange: &exchange, resume, hops });
            each(stored);
        }
        // Without it nobody knows where the message goes on.
        Err(Malformed) => each(Stored { message: None, ..stored }),
    }
}

/// The message of a payload.
pub(super) fn view<'a>(
    payload: &Payload<'a>,
    form: &'static dyn Form,
    body: Option<&'a [u8]>,
) -> MessageView<'a> {
    let Payload { exchange, routing_key, properties, .. } = *payload;
    let form = if payload.flags & FAR != 0 { far_of(form) } else { form };
    MessageView {
        exchange,
        routing_key,
        form,
        properties,
        body: body.unwrap_or(payload.body),
        publisher: None,
    }
}
