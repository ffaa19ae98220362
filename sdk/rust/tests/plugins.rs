//! What an author writes beyond deciding: kept messages for new bindings, what operators see and change,
//! stages, interceptors. One crate exports both kinds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use leveret_sdk::{
    Above, Arguments, Attachment, Binding, BindingId, BindingIndex, Decision, Declaration, Description,
    Destination, Events, ExchangeType, Info, InnerType, Interceptor, InterceptorDescription, Kind, Message,
    Migrate, Patch, Point, Property, Reads, Reconfigure, Refusal, StoredId, Targets, Value, Verdict, clock,
    key_value::Space,
    message_store,
    testkit::{Attached, Exchange, Judged, Routed, TestMessage},
};

/// Direct, and gives a new binding the last message of its key.
struct LastValue {
    bindings: BindingIndex,
    newest: u32,
}

impl LastValue {
    fn newest(arguments: &Arguments) -> Result<u32, Refusal> {
        Ok(arguments.optional("x-newest")?.unwrap_or(1))
    }
}

impl ExchangeType for LastValue {
    fn describe() -> Description {
        Description::new("x-last-value", "Gives new bindings the last message")
            .argument("x-newest", Kind::Integer, "how many are kept")
            .single_writer()
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Ok(Self { bindings: BindingIndex::new(), newest: Self::newest(&declaration.arguments)? })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.insert(binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        if message_store::keep(message.routing_key(), self.newest).is_err() {
            return Decision::Reject("no room for the last value".into());
        }
        to.extend_from_slice(self.bindings.get(message.routing_key()));
        Decision::Deliver
    }
}

impl Events for LastValue {
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId> {
        match binding.destination {
            Destination::Queue(_) => message_store::matching(&binding.routing_key, u32::MAX),
            Destination::Exchange(_) => Vec::new(),
        }
    }

    fn unbound(&mut self, binding: &Binding) {
        // The key's last binding takes what is kept along.
        if self.bindings.get(binding.routing_key.as_slice()).is_empty() {
            let _ = message_store::forget(&binding.routing_key);
        }
    }
}

impl Info for LastValue {
    fn info(&self) -> Arguments {
        Arguments::new().with("kept", message_store::count()).with("newest", self.newest)
    }
}

impl Reconfigure for LastValue {
    fn reconfigure(&mut self, arguments: &Arguments) -> Result<(), Refusal> {
        self.newest = Self::newest(arguments)?;
        Ok(())
    }
}

impl Migrate for LastValue {
    fn migrate(&mut self, from_version: &str) -> Result<(), String> {
        match from_version {
            "1.0.0" => Space::Durable.put("version", "2").map_err(|error| error.to_string()),
            other => Err(format!("nothing is known of version {other}")),
        }
    }
}

/// Delegates what is small, in front of any type.
struct Small;

impl ExchangeType for Small {
    fn describe() -> Description {
        Description::new("x-small", "Rejects large messages").stage("x-small-only", 100).pure()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn reads(&self) -> Reads {
        Reads::nothing().body(4, Above::Reject)
    }

    fn inner(&self) -> Option<InnerType> {
        Some(InnerType::new("topic"))
    }

    fn wants_bindings(&self) -> bool {
        false
    }

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        if message.body() == Some(b"") { Decision::Drop("empty".into()) } else { Decision::Delegate }
    }
}

/// Stamps what a user published, and drops what nobody did.
struct Stamp {
    header: String,
}

impl Interceptor for Stamp {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("stamp", "Says who published when", Point::Publish)
            .at(Point::DeadLetter)
            .required_argument("header", Kind::Text, "the header that says it")
    }

    fn open(attachment: &Attachment) -> Result<Self, Refusal> {
        if attachment.point == Point::Deliver {
            return Err(Refusal::unsupported("stamping on deliver"));
        }
        Ok(Self { header: attachment.arguments.required::<&str>("header")?.into() })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().publisher().reason().header("secret").property(Property::Priority)
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        let Some(publisher) = message.publisher() else {
            return Verdict::Drop("anonymous".into());
        };
        if message.reason() == "maxlen" {
            return Verdict::Reject("stays".into());
        }
        let patch = Patch::new().set_header(&self.header, publisher.user).remove_header("secret");
        match message.property(Property::Priority) {
            Some(Value::Integer(9)) => patch
                .remove_property(Property::Priority)
                .set_property(Property::Timestamp, Value::Timestamp(clock::now() as i64))
                .set_routing_key("urgent")
                .set_body("!")
                .into(),
            _ => patch.into(),
        }
    }
}

leveret_sdk::export!(LastValue: Events + Info + Reconfigure + Migrate, Small);
leveret_sdk::export_interceptors!(version = "0.1.0", Stamp);

#[test]
fn a_new_binding_gets_what_was_kept() {
    let mut exchange = Exchange::<LastValue>::open(Arguments::new().with("x-newest", 2)).unwrap();
    let messages = ["one", "two", "three"].map(|body| TestMessage::new("a.b").body(body));
    for message in &messages {
        assert_eq!(exchange.route_message(message), Routed::unroutable());
    }
    let (id, kept) = exchange.bind_and_tell("a.*", Arguments::new()).unwrap();
    assert_eq!(kept, messages[1..]);
    let info = exchange.info();
    assert_eq!((info.get("kept"), info.get("newest")), (Some(Value::Integer(2)), Some(Value::Integer(2))));
    exchange.unbind_and_tell(id);
    assert_eq!(exchange.host().kept("a.b").len(), 2, "the binding had another key");
    let (id, kept) = exchange.bind_and_tell("a.b", Arguments::new()).unwrap();
    assert_eq!((kept.len(), exchange.route("a.b")), (2, Routed::to([id])));
    exchange.unbind_and_tell(id);
    assert!(exchange.host().kept("a.b").is_empty());
}

#[test]
fn an_operator_changes_arguments_and_versions() {
    let mut exchange = Exchange::<LastValue>::open(Arguments::new()).unwrap();
    exchange.reconfigure(Arguments::new().with("x-newest", 5)).unwrap();
    assert_eq!(exchange.exchange().newest, 5);
    let refusal = exchange.reconfigure(Arguments::new().with("x-newest", "many")).unwrap_err();
    assert!(matches!(refusal, Refusal::InvalidArgument { name, .. } if name == "x-newest"));
    exchange.restart().unwrap();
    assert_eq!(exchange.exchange().newest, 5);
    assert_eq!(exchange.migrate("1.0.0"), Ok(()));
    assert_eq!(exchange.host().value(Space::Durable, "version"), Some(b"2".to_vec()));
    assert!(exchange.migrate("0.9.0").is_err());
}

#[test]
fn a_stage_delegates_to_the_type_behind_it() {
    let mut alone = Exchange::<Small>::open(Arguments::new()).unwrap();
    assert_eq!(alone.inner(), Some(InnerType::new("topic")));
    alone.bind("key", Arguments::new()).unwrap();
    let declaration = Declaration { in_front_of: Some("fanout".into()), ..Declaration::default() };
    let mut stage = Exchange::<Small>::declare(declaration).unwrap();
    assert_eq!(stage.inner(), None);
    let [empty, small, large] = ["", "tiny", "large"].map(|body| TestMessage::new("key").body(body));
    let decisions =
        [Routed::drop("empty"), Routed::Delegate, Routed::reject("the body is longer than 4 bytes")];
    assert_eq!(stage.route_all([&empty, &small, &large]), decisions);
    assert_eq!([empty, small, large].map(|message| stage.route_message(&message)), decisions);
}

#[test]
fn verdicts_are_done_to_messages() {
    let mut stamp = Attached::<Stamp>::open(Point::Publish, Arguments::new().with("header", "by")).unwrap();
    stamp.host().set_clock(5);
    let plain =
        TestMessage::new("key").header("secret", 1).header("kind", "k").publisher("me", "c", "amqp-1-0");
    let urgent = plain.clone().property(Property::Priority, 9).body("text");
    let stamped =
        TestMessage::new("key").header("kind", "k").header("by", "me").publisher("me", "c", "amqp-1-0");
    let rushed =
        stamped.clone().routing_key("urgent").body("!").property(Property::Timestamp, Value::Timestamp(5));
    let judged = [Judged::Pass(stamped), Judged::Pass(rushed), Judged::Drop("anonymous".into())];
    assert_eq!(stamp.intercept(&plain), judged[0]);
    assert_eq!(stamp.intercept(&plain.clone().reason("maxlen")), Judged::Reject("stays".into()));
    assert_eq!(stamp.intercept_all(&[plain, urgent, TestMessage::new("key")]), judged);
}

#[test]
fn attachments_are_refused_with_a_reason() {
    let refusal = |point, arguments| Attached::<Stamp>::open(point, arguments).map(drop).unwrap_err();
    assert_eq!(refusal(Point::Publish, Arguments::new()), Refusal::missing_argument("header"));
    let arguments = Arguments::new().with("header", "by");
    assert_eq!(refusal(Point::Deliver, arguments), Refusal::unsupported("stamping on deliver"));
}
