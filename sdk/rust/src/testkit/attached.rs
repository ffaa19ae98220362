//! An attached interceptor, and what becomes of messages.

use super::{
    Host, TestMessage, Undecided,
    state::{CallKind, Effect, Outcome},
    undeclared::Watch,
};
use crate::{
    Arguments, Attachment, Interceptor, Point, Reads, Refusal, component::interceptor::Attached as Open,
    patch::Changes, value::Bytes,
};

/// An interceptor attached in a test.
///
/// ```
/// # use leveret_sdk::{Attachment, Interceptor, InterceptorDescription, Message, Patch, Reads, Refusal, Verdict};
/// # struct Stamp;
/// # impl Interceptor for Stamp {
/// #     fn describe() -> InterceptorDescription { InterceptorDescription::new("stamp", "Stamps", Point::Publish) }
/// #     fn open(_: &Attachment) -> Result<Self, Refusal> { Ok(Self) }
/// #     fn reads(&self) -> Reads { Reads::nothing() }
/// #     fn intercept(&mut self, _: &Message<'_>) -> Verdict { Patch::new().set_header("stamp", true).into() }
/// # }
/// use leveret_sdk::{Arguments, Point, testkit::{Attached, Judged, TestMessage}};
///
/// let mut stamp = Attached::<Stamp>::open(Point::Publish, Arguments::new())?;
/// let stamped = TestMessage::new("key").header("stamp", true);
/// assert_eq!(stamp.intercept(&TestMessage::new("key")), Judged::Pass(stamped));
/// # Ok::<(), Refusal>(())
/// ```
pub struct Attached<T> {
    open: Open<T>,
    host: Host,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a box would be in the way of tests")]
pub enum Judged {
    /// It goes on, with the changes of the verdict made.
    Pass(TestMessage),
    /// Nowhere, on purpose.
    Drop(String),
    /// Not accepted, for this reason.
    Reject(String),
    /// The verdict is thrown away, for the call met a key that is in doubt; the broker asks again later.
    InDoubt,
}

impl<T: Interceptor> Attached<T> {
    /// Attaches it in the virtual host `/` with these arguments.
    ///
    /// # Errors
    /// The interceptor's refusal.
    pub fn open(point: Point, arguments: Arguments) -> Result<Self, Refusal> {
        let attachment = Attachment { point, vhost: b"/".to_vec(), arguments };
        let host = Host::new();
        let open = host.call_and_commit(CallKind::WithoutEffects, || Open::new(&attachment))?;
        Ok(Self { open, host })
    }

    /// What it reads.
    pub fn reads(&self) -> &Reads {
        &self.open.reads
    }

    /// The struct itself.
    pub fn interceptor(&self) -> &T {
        &self.open.interceptor
    }

    /// What its capabilities reach.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Shows it a message, and makes the changes it says. Effects take place unless it rejects.
    pub fn intercept(&mut self, message: &TestMessage) -> Judged {
        let (judged, effects) = self.ask(message);
        self.host.with(|state| state.commit(&effects));
        judged
    }

    /// Shows it a message, and leaves open whether the broker accepts that.
    pub fn intercept_undecided(&mut self, message: &TestMessage) -> (Judged, Undecided) {
        let (judged, effects) = self.ask(message);
        (judged, Undecided::new(&self.host, effects))
    }

    /// Shows it messages in one call, which a plugin without effects gets.
    pub fn intercept_all(&mut self, messages: &[TestMessage]) -> Vec<Judged> {
        let (mut batch, mut asked) = (Vec::new(), Vec::new());
        for message in messages.iter().filter(|message| message.too_long_for(&self.open.reads).is_none()) {
            message.put_into_batch(&self.open.reads, &mut batch);
            asked.push(message);
        }
        let Self { open, host } = self;
        let mut judged =
            host.call_and_commit(CallKind::Messages, || intercept_batch(open, &batch, &asked)).into_iter();
        let refused = messages.iter().map(|message| message.too_long_for(&self.open.reads));
        refused.filter_map(|reason| reason.map(Judged::Reject).or_else(|| judged.next())).collect()
    }

    fn ask(&mut self, message: &TestMessage) -> (Judged, Vec<Effect>) {
        if let Some(reason) = message.too_long_for(&self.open.reads) {
            return (Judged::Reject(reason), Vec::new());
        }
        let mut batch = Vec::new();
        message.put_into_batch(&self.open.reads, &mut batch);
        let Self { open, host } = self;
        let call = || intercept_batch(open, &batch, &[message]).pop();
        let outcome = |judged: &Option<Judged>| match judged {
            Some(Judged::Pass(_) | Judged::Drop(_)) => Outcome::Accepted,
            _ => Outcome::Rejected,
        };
        let (judged, effects, in_doubt) = host.call(CallKind::Message(message.clone()), call, outcome);
        let Some(judged) = judged else { panic!("a message got no verdict") };
        (if in_doubt { Judged::InDoubt } else { judged }, effects)
    }
}

fn intercept_batch<T: Interceptor>(
    open: &mut Open<T>,
    batch: &[u8],
    messages: &[&TestMessage],
) -> Vec<Judged> {
    let _watch = Watch::begin();
    let mut verdicts = Vec::new();
    open.intercept_batch(batch, &mut verdicts);
    let mut verdicts = Bytes(&verdicts);
    messages.iter().map_while(|message| judge(message, &mut verdicts)).collect()
}

/// Reads a verdict from the front, and does what it says with a message.
fn judge(message: &TestMessage, verdicts: &mut Bytes<'_>) -> Option<Judged> {
    let reason = |verdicts: &mut Bytes<'_>| {
        let length = verdicts.u16()?;
        String::from_utf8(verdicts.take(usize::from(length))?.to_vec()).ok()
    };
    Some(match verdicts.u8()? {
        0 => Judged::Pass(message.clone()),
        1 => Judged::Drop(reason(verdicts)?),
        2 => Judged::Reject(reason(verdicts)?),
        3 => {
            let number = verdicts.u16()?;
            let mut changes = Changes::read(*verdicts, number);
            let mut patched = message.clone();
            changes.by_ref().for_each(|change| patched.apply(change));
            *verdicts = changes.rest();
            Judged::Pass(patched)
        }
        _ => return None,
    })
}
