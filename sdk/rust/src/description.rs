//! What a plugin says of the exchange types and interceptors in it.

use std::borrow::Cow;

#[doc(inline)]
pub use crate::generated::exports::leveret::routing::interceptor::Point;
#[doc(inline)]
pub use crate::generated::leveret::routing::types::ArgumentKind as Kind;

/// An argument that a declaration, a binding or an attachment may have. The broker checks that it is
/// of its kind, and there if it must be, before the plugin is asked.
#[derive(Clone, Debug)]
pub(crate) struct ArgumentDescription {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    pub(crate) summary: Cow<'static, str>,
}

impl ArgumentDescription {
    fn new(
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        required: bool,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { name: name.into(), kind, required, summary: summary.into() }
    }
}

/// What an exchange type says of itself.
///
/// ```
/// # use leveret_sdk::{Description, Kind};
/// Description::new("x-recent", "Gives new bindings the latest messages")
///     .argument("x-recent-length", Kind::Integer, "how many messages are kept")
///     .binding_argument("x-recent-none", Kind::Boolean, "whether this binding gets none");
/// ```
#[derive(Clone, Debug)]
pub struct Description {
    pub(crate) name: Cow<'static, str>,
    pub(crate) summary: Cow<'static, str>,
    pub(crate) arguments: Vec<ArgumentDescription>,
    pub(crate) binding_arguments: Vec<ArgumentDescription>,
    pub(crate) pure: bool,
    pub(crate) independent_bindings: bool,
    pub(crate) single_writer: bool,
    pub(crate) stage: Option<(Cow<'static, str>, u32)>,
}

impl Description {
    /// The name clients declare the type by, 1 to 127 bytes of lower-case letters, digits, `-`,
    /// `_` and `.`, by custom beginning with `x-`; and one line of help for an operator.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, summary: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            arguments: Vec::new(),
            binding_arguments: Vec::new(),
            pure: false,
            independent_bindings: false,
            single_writer: false,
            stage: None,
        }
    }

    /// An argument that a declaration may have, and one line of help. Arguments that are not
    /// described are let through.
    #[must_use]
    pub fn argument(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.arguments.push(ArgumentDescription::new(name, kind, false, summary));
        self
    }

    /// An argument that a declaration must have.
    #[must_use]
    pub fn required_argument(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.arguments.push(ArgumentDescription::new(name, kind, true, summary));
        self
    }

    /// An argument that a binding may have.
    #[must_use]
    pub fn binding_argument(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.binding_arguments.push(ArgumentDescription::new(name, kind, false, summary));
        self
    }

    /// An argument that a binding must have.
    #[must_use]
    pub fn required_binding_argument(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.binding_arguments.push(ArgumentDescription::new(name, kind, true, summary));
        self
    }

    /// Claims that a decision depends on what the exchange reads and on its bindings, and on
    /// nothing else: no counter, no clock, no effect. The broker then remembers decisions, which
    /// saves nearly all calls. It checks the claim now and then, and drops it where it does not hold.
    #[must_use]
    pub const fn pure(mut self) -> Self {
        self.pure = true;
        self
    }

    /// Claims that a message goes to each binding or not whatever other bindings there are. The
    /// broker then keeps more of what it remembers when bindings come and go.
    #[must_use]
    pub const fn independent_bindings(mut self) -> Self {
        self.independent_bindings = true;
        self
    }

    /// One instance for all threads of the broker, whose calls come one after the other: for state
    /// between messages that may be lost (round robin). It costs a lock.
    #[must_use]
    pub const fn single_writer(mut self) -> Self {
        self.single_writer = true;
        self
    }

    /// Lets exchanges of other types put this one in front of them by an argument of their
    /// declaration. Of several the lower order comes first: by custom 100 for what drops messages,
    /// 200 for what delays them.
    #[must_use]
    pub fn stage(mut self, argument: impl Into<Cow<'static, str>>, order: u32) -> Self {
        self.stage = Some((argument.into(), order));
        self
    }
}

/// What an interceptor says of itself.
///
/// ```
/// # use leveret_sdk::{InterceptorDescription, Kind, Point};
/// InterceptorDescription::new("stamp", "Says when a message came", Point::Publish)
///     .at(Point::DeadLetter)
///     .argument("header", Kind::Text, "the header that says so");
/// ```
#[derive(Clone, Debug)]
pub struct InterceptorDescription {
    pub(crate) name: Cow<'static, str>,
    pub(crate) summary: Cow<'static, str>,
    pub(crate) points: Vec<Point>,
    pub(crate) arguments: Vec<ArgumentDescription>,
    pub(crate) pure: bool,
}

impl InterceptorDescription {
    /// The name the operator attaches it by, one line of help, and where on a message's way it can be
    /// attached.
    #[must_use]
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        summary: impl Into<Cow<'static, str>>,
        point: Point,
    ) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            points: vec![point],
            arguments: Vec::new(),
            pure: false,
        }
    }

    /// It can be attached here too.
    #[must_use]
    pub fn at(mut self, point: Point) -> Self {
        if !self.points.contains(&point) {
            self.points.push(point);
        }
        self
    }

    /// An argument that an attachment may have, and one line of help.
    #[must_use]
    pub fn argument(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.arguments.push(ArgumentDescription::new(name, kind, false, summary));
        self
    }

    /// An argument that an attachment must have.
    #[must_use]
    pub fn required_argument(
        mut self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.arguments.push(ArgumentDescription::new(name, kind, true, summary));
        self
    }

    /// Claims that a verdict depends on what is read and on the arguments, and on nothing else. The
    /// broker then remembers verdicts.
    #[must_use]
    pub const fn pure(mut self) -> Self {
        self.pure = true;
        self
    }
}
