//! What a plugin reads without having declared it is not there in the broker; in a test of the plugin that is
//! a failure which says what to declare.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use leveret_sdk::{
    Above, Arguments, Attachment, Binding, BindingId, Decision, Declaration, Description, ExchangeType,
    Interceptor, InterceptorDescription, Message, Point, Property, Reads, Refusal, Targets, Verdict,
    testkit::{Attached, Exchange, Judged, Routed, TestMessage},
};

/// Looks at the part of the message that an argument names, and declares it if another one says so.
struct Looks {
    at: String,
    declares: bool,
}

impl Looks {
    fn with(arguments: &Arguments) -> Result<Self, Refusal> {
        Ok(Self {
            at: arguments.required::<&str>("at")?.to_owned(),
            declares: arguments.optional("declares")?.unwrap_or(false),
        })
    }

    fn declared(&self) -> Reads {
        let other = Reads::nothing().header("other");
        match (self.declares, self.at.as_str()) {
            (false, _) => other,
            (true, "routing key") => other.routing_key(),
            (true, "header") => other.header("x-kind"),
            (true, "headers") => other.all_headers(),
            (true, "property") => other.property(Property::Priority),
            (true, "body") => other.body(9, Above::Absent),
            (true, "publisher") => other.publisher(),
            (true, "exchange") => other.exchange(),
            (true, "queue") => other.queue(),
            (true, _) => other.reason(),
        }
    }

    fn look(&self, message: &Message<'_>) {
        match self.at.as_str() {
            "routing key" => drop(message.routing_key().to_vec()),
            "header" => drop(message.header("x-kind")),
            "headers" => drop(message.headers()),
            "property" => drop(message.property(Property::Priority)),
            "body" => drop(message.body().map(<[u8]>::len)),
            "publisher" => drop(message.publisher()),
            "exchange" => drop(message.exchange().to_vec()),
            "queue" => drop(message.queue().to_vec()),
            _ => drop(message.reason().to_owned()),
        }
    }
}

impl ExchangeType for Looks {
    fn describe() -> Description {
        Description::new("x-looks", "Looks at a part of the message")
    }
    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Self::with(&declaration.arguments)
    }
    fn reads(&self) -> Reads {
        self.declared()
    }
    fn bind(&mut self, _: Binding) -> Result<(), Refusal> {
        Ok(())
    }
    fn unbind(&mut self, _: BindingId) {}
    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        self.look(message);
        Decision::Deliver
    }
}

impl Interceptor for Looks {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("looks", "Looks at a part of the message", Point::DeadLetter)
    }
    fn open(attachment: &Attachment) -> Result<Self, Refusal> {
        Self::with(&attachment.arguments)
    }
    fn reads(&self) -> Reads {
        self.declared()
    }
    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        self.look(message);
        Verdict::Pass
    }
}

/// What is read, as [`Looks`] is told, and the declaration that it needs.
const PARTS: [(&str, &str); 9] = [
    ("routing key", ".routing_key()"),
    ("header", ".header(\"x-kind\")"),
    ("headers", ".all_headers()"),
    ("property", ".property(Property::Priority)"),
    ("body", ".body(…, Above::…)"),
    ("publisher", ".publisher()"),
    ("exchange", ".exchange()"),
    ("queue", ".queue()"),
    ("reason", ".reason()"),
];

/// Why the test of a plugin failed; `None` if it did not.
fn failure(test: impl FnOnce() + std::panic::UnwindSafe) -> Option<String> {
    let panic = std::panic::catch_unwind(test).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

fn arguments(at: &str, declares: bool) -> Arguments {
    Arguments::new().with("at", at).with("declares", declares)
}

#[test]
fn the_declaration_that_is_missing_is_named() {
    for (at, declaration) in PARTS {
        // A header of another name is declared, so there are headers.
        if at == "headers" {
            continue;
        }
        let routes = || {
            let mut exchange = Exchange::<Looks>::open(arguments(at, false)).unwrap();
            exchange.route("key");
        };
        let intercepts = || {
            let mut attached = Attached::<Looks>::open(Point::DeadLetter, arguments(at, false)).unwrap();
            attached.intercept(&TestMessage::new("key"));
        };
        for why in [failure(routes), failure(intercepts)] {
            let why = why.unwrap_or_else(|| panic!("{at}: the test of the plugin passed"));
            assert!(why.contains(at) && why.contains(declaration), "{at}: {why}");
        }
    }
}

#[test]
fn what_is_declared_may_be_read_also_where_it_is_not_there() {
    for (at, _) in PARTS {
        let mut exchange = Exchange::<Looks>::open(arguments(at, true)).unwrap();
        assert_eq!(exchange.route("key"), Routed::unroutable(), "{at}");
        let mut attached = Attached::<Looks>::open(Point::DeadLetter, arguments(at, true)).unwrap();
        let message = TestMessage::new("key");
        assert_eq!(attached.intercept(&message), Judged::Pass(message), "{at}");
    }
}

/// Reads all headers and has declared none.
struct AllHeaders;

impl Interceptor for AllHeaders {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("all-headers", "Looks at all headers", Point::Publish)
    }
    fn open(_: &Attachment) -> Result<Self, Refusal> {
        Ok(Self)
    }
    fn reads(&self) -> Reads {
        Reads::nothing()
    }
    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        if message.headers().count() > 3 { Verdict::Reject("too many".into()) } else { Verdict::Pass }
    }
}

#[test]
fn headers_that_nothing_is_declared_of_are_named_too() {
    let why = failure(|| {
        let mut attached = Attached::<AllHeaders>::open(Point::Publish, Arguments::new()).unwrap();
        attached.intercept_all(&[TestMessage::new("key")]);
    });
    assert!(why.is_some_and(|why| why.contains(".all_headers()")));
}
