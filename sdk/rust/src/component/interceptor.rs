//! Interceptors in a component: the attachments, and the exported functions.

use super::{clear, take_over};
use crate::{
    Attachment, Interceptor, InterceptorDescription, Message, Reads, Refusal, Verdict, contract,
    generated::{exports::leveret::routing::interceptor as exported, leveret::routing::types as wit},
    value::Bytes,
};
use std::{cell::RefCell, collections::BTreeMap};

/// What [`export_interceptors!`](crate::export_interceptors) says of a component.
pub trait Interceptors {
    /// The version, for people to read.
    const VERSION: &'static str;
    /// The interceptors in it.
    const INTERCEPTORS: &'static [Registration];
}

/// An interceptor, with its Rust type forgotten.
#[derive(Clone, Copy)]
pub struct Registration {
    describe: fn() -> InterceptorDescription,
    open: fn(&Attachment) -> Result<Box<dyn OpenAttachment>, Refusal>,
}

impl Registration {
    /// The registration of this interceptor.
    #[must_use]
    pub const fn of<T: Interceptor>() -> Self {
        Self {
            describe: T::describe,
            open: |attachment| Ok(Box::new(Attached::<T>::new(attachment)?) as Box<dyn OpenAttachment>),
        }
    }
}

/// A place where an interceptor is attached, with its Rust type forgotten: one call through here for a
/// whole batch.
trait OpenAttachment {
    fn reads(&self) -> &Reads;
    fn intercept_batch(&mut self, messages: &[u8], verdicts: &mut Vec<u8>);
    fn intercept_one(&mut self, projection: &[u8]) -> Verdict;
}

/// A place where an interceptor is attached.
pub(crate) struct Attached<T> {
    pub(crate) interceptor: T,
    pub(crate) reads: Reads,
}

impl<T: Interceptor> Attached<T> {
    pub(crate) fn new(attachment: &Attachment) -> Result<Self, Refusal> {
        let interceptor = T::open(attachment)?;
        let reads = interceptor.reads();
        Ok(Self { interceptor, reads })
    }

    /// Judges projections that lie back to back, each after its length (u32 LE).
    pub(crate) fn intercept_batch(&mut self, messages: &[u8], verdicts: &mut Vec<u8>) {
        let mut messages = Bytes(messages);
        while let Some(projection) = messages.u32().and_then(|length| messages.take(length as usize)) {
            self.intercept_one(projection).put(verdicts);
        }
    }

    #[inline]
    fn intercept_one(&mut self, projection: &[u8]) -> Verdict {
        self.interceptor.intercept(&Message::new(&self.reads, projection))
    }
}

impl<T: Interceptor> OpenAttachment for Attached<T> {
    fn reads(&self) -> &Reads {
        &self.reads
    }

    fn intercept_batch(&mut self, messages: &[u8], verdicts: &mut Vec<u8>) {
        self.intercept_batch(messages, verdicts);
    }

    fn intercept_one(&mut self, projection: &[u8]) -> Verdict {
        self.intercept_one(projection)
    }
}

/// What one instance of a component holds.
struct Instance {
    attachments: BTreeMap<u32, Box<dyn OpenAttachment>>,
    /// The answers of the last batch.
    verdicts: Vec<u8>,
    /// The projection of the last message that came in the plain form.
    projection: Vec<u8>,
    /// Address and length of the last answer, for the broker to read.
    answer: [usize; 2],
}

impl Instance {
    fn open<P: Interceptors>(
        &mut self,
        attachment: u32,
        declaration: exported::Attachment,
    ) -> Result<wit::Reads, Refusal> {
        let name = declaration.interceptor.as_str();
        let Some(registration) =
            P::INTERCEPTORS.iter().find(|registration| (registration.describe)().name == name)
        else {
            return Err(Refusal::new(format!("this plugin has no interceptor '{name}'")));
        };
        let open = (registration.open)(&contract::attachment_from_wit(declaration))?;
        let reads = contract::reads_to_wit(open.reads());
        self.attachments.insert(attachment, open);
        Ok(reads)
    }

    fn intercept(&mut self, attachment: u32, message: &wit::Message) -> exported::Verdict {
        let Self { attachments, projection, .. } = self;
        let Some(open) = attachments.get_mut(&attachment) else { panic!("{}", not_open(attachment)) };
        projection.clear();
        contract::put_projection(projection, open.reads(), message);
        contract::verdict_to_wit(open.intercept_one(projection))
    }

    fn intercept_batch(&mut self, attachment: u32, messages: &[u8]) -> &[usize; 2] {
        let Some(open) = self.attachments.get_mut(&attachment) else { panic!("{}", not_open(attachment)) };
        clear(&mut self.verdicts);
        open.intercept_batch(messages, &mut self.verdicts);
        self.answer = [self.verdicts.as_ptr().addr(), self.verdicts.len()];
        &self.answer
    }
}

fn not_open(attachment: u32) -> String {
    format!("attachment {attachment} is not open in this instance")
}

thread_local! {
    static INSTANCE: RefCell<Instance> = const { RefCell::new(Instance {
        attachments: BTreeMap::new(),
        verdicts: Vec::new(),
        projection: Vec::new(),
        answer: [0; 2],
    }) };
}

fn with_instance<R>(call: impl FnOnce(&mut Instance) -> R) -> R {
    INSTANCE.with_borrow_mut(call)
}

impl<P: Interceptors> exported::Guest for P {
    fn describe() -> exported::Description {
        let describe =
            |registration: &Registration| contract::interceptor_description_to_wit((registration.describe)());
        exported::Description {
            version: P::VERSION.into(),
            interceptors: P::INTERCEPTORS.iter().map(describe).collect(),
        }
    }

    fn open(attachment: u32, declaration: exported::Attachment) -> Result<wit::Reads, wit::Refusal> {
        with_instance(|instance| instance.open::<P>(attachment, declaration))
            .map_err(contract::refusal_to_wit)
    }

    fn close(attachment: u32) {
        with_instance(|instance| drop(instance.attachments.remove(&attachment)));
    }

    fn intercept(attachment: u32, message: wit::Message) -> exported::Verdict {
        with_instance(|instance| instance.intercept(attachment, &message))
    }
}

/// The export `intercept-batch` of `leveret:routing/interceptor-batch`. Answers as
/// [`route_batch`](super::route_batch) does.
///
/// # Safety
/// `messages` is `length_bytes` bytes long and was allocated for this call by `cabi_realloc` with
/// alignment 1: the component model's promise for a list of bytes.
pub unsafe fn intercept_batch(attachment: u32, messages: *mut u8, length_bytes: usize) -> *const usize {
    // SAFETY: what this function is promised.
    let messages = unsafe { take_over(messages, length_bytes) };
    with_instance(|instance| instance.intercept_batch(attachment, &messages).as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Patch, Point, generated::exports::leveret::routing::interceptor::Guest};

    /// Rejects the key "bad", passes "good", stamps the rest.
    struct Stamp;

    impl Interceptor for Stamp {
        fn describe() -> InterceptorDescription {
            InterceptorDescription::new("stamp", "Stamps", Point::Publish).at(Point::Deliver).pure()
        }

        fn open(attachment: &Attachment) -> Result<Self, Refusal> {
            match attachment.point {
                Point::Publish => Ok(Self),
                _ => Err(Refusal::unsupported("anything but publish")),
            }
        }

        fn reads(&self) -> Reads {
            Reads::nothing().routing_key()
        }

        fn intercept(&mut self, message: &Message<'_>) -> Verdict {
            match message.routing_key() {
                b"bad" => Verdict::Reject("bad".into()),
                b"good" => Verdict::Pass,
                key => Patch::new().set_header("stamp", key).set_routing_key("stamped").into(),
            }
        }
    }

    struct Component;

    impl Interceptors for Component {
        const VERSION: &'static str = "1.2.3";
        const INTERCEPTORS: &'static [Registration] = &[Registration::of::<Stamp>()];
    }

    fn attachment(point: Point) -> exported::Attachment {
        exported::Attachment { interceptor: "stamp".into(), point, vhost: b"/".to_vec(), arguments: vec![] }
    }

    fn verdict(key: &str) -> exported::Verdict {
        let message = wit::Message {
            routing_key: key.into(),
            headers: vec![],
            properties: vec![],
            body: None,
            publisher: None,
            exchange: vec![],
            queue: vec![],
            reason: String::new(),
        };
        Component::intercept(3, message)
    }

    #[test]
    fn the_plain_form_opens_judges_and_closes() {
        let description = Component::describe();
        assert_eq!((description.version.as_str(), description.interceptors.len()), ("1.2.3", 1));
        assert!(matches!(
            Component::open(3, attachment(Point::Deliver)),
            Err(wit::Refusal::Unsupported(what)) if what == "anything but publish"
        ));
        assert!(Component::open(3, attachment(Point::Publish)).is_ok_and(|reads| reads.routing_key));
        assert!(matches!(verdict("good"), exported::Verdict::Pass));
        assert!(matches!(verdict("bad"), exported::Verdict::Reject(reason) if reason == "bad"));
        let exported::Verdict::Patch(changes) = verdict("key") else { panic!("no patch") };
        let [exported::Change::SetHeader(header), exported::Change::SetRoutingKey(key)] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert!(matches!(&header.value, wit::Value::Text(text) if text == "key"));
        assert_eq!((header.name.as_slice(), key.as_slice()), (&b"stamp"[..], &b"stamped"[..]));
        Component::close(3);
        assert!(std::panic::catch_unwind(|| verdict("good")).is_err());
    }
}
