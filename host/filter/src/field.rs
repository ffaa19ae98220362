//! What a filter asks a message for.

use alloc::boxed::Box;

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $( $(#[$field_doc:meta])* $field:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$field_doc])* $field, )*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[ $( Self::$field, )* ];

            /// The name, as AMQP 1.0 writes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$field => $text, )*
                }
            }

            /// The field of a name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|field| field.name() == name)
            }
        }
    };
}

fields! {
    /// The fields of a message's header (AMQP 1.0, section 3.2.1).
    Header {
        /// Whether it is to outlive the nodes that it passes: a truth value; absent is no.
        Durable = "durable",
        /// An integer; absent is 4.
        Priority = "priority",
        /// How long it is of use, in milliseconds: an integer.
        Ttl = "ttl",
        /// Whether nobody had it before: a truth value; absent is no.
        FirstAcquirer = "first-acquirer",
        /// How many attempts failed: an integer; absent is none.
        DeliveryCount = "delivery-count",
    }
}

fields! {
    /// The fields of a message's properties (AMQP 1.0, section 3.2.4).
    Property {
        /// A text, bytes, a UUID or an integer.
        MessageId = "message-id",
        /// Bytes.
        UserId = "user-id",
        /// A text.
        To = "to",
        /// A text.
        Subject = "subject",
        /// A text.
        ReplyTo = "reply-to",
        /// A text, bytes, a UUID or an integer.
        CorrelationId = "correlation-id",
        /// A text.
        ContentType = "content-type",
        /// A text.
        ContentEncoding = "content-encoding",
        /// An integer: milliseconds since 1970.
        AbsoluteExpiryTime = "absolute-expiry-time",
        /// An integer: milliseconds since 1970.
        CreationTime = "creation-time",
        /// A text.
        GroupId = "group-id",
        /// An integer.
        GroupSequence = "group-sequence",
        /// A text.
        ReplyToGroupId = "reply-to-group-id",
    }
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Of the header.
    Header(Header),
    /// A delivery-annotation.
    DeliveryAnnotation(Box<str>),
    /// A message-annotation.
    MessageAnnotation(Box<str>),
    /// Of the properties.
    Property(Property),
    /// An application-property.
    ApplicationProperty(Box<str>),
    /// Of the footer.
    Footer(Box<str>),
}

/// A section of a message that has fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// AMQP 1.0, section 3.2.1.
    Header,
    /// AMQP 1.0, section 3.2.2.
    DeliveryAnnotations,
    /// AMQP 1.0, section 3.2.3.
    MessageAnnotations,
    /// AMQP 1.0, section 3.2.4.
    Properties,
    /// AMQP 1.0, section 3.2.5.
    ApplicationProperties,
    /// AMQP 1.0, section 3.2.9.
    Footer,
}

impl Section {
    /// The section that an expression calls so: by its name, with hyphens or underscores, or by its first letter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "header" | "h" => Self::Header,
            "delivery_annotations" | "delivery-annotations" | "d" => Self::DeliveryAnnotations,
            "message_annotations" | "message-annotations" | "m" => Self::MessageAnnotations,
            "properties" | "p" => Self::Properties,
            "application_properties" | "application-properties" | "a" => Self::ApplicationProperties,
            "footer" | "f" => Self::Footer,
            _ => return None,
        })
    }

    /// Its field of a name. In names of the header and of properties an underscore is as good as a hyphen, which an
    /// identifier cannot have. `None` if there is no such field.
    #[must_use]
    pub fn field(self, name: &str) -> Option<Field> {
        Some(match self {
            Self::Header => Field::Header(Header::named(&name.replace('_', "-"))?),
            Self::DeliveryAnnotations => Field::DeliveryAnnotation(name.into()),
            Self::MessageAnnotations => Field::MessageAnnotation(name.into()),
            Self::Properties => Field::Property(Property::named(&name.replace('_', "-"))?),
            Self::ApplicationProperties => Field::ApplicationProperty(name.into()),
            Self::Footer => Field::Footer(name.into()),
        })
    }
}
