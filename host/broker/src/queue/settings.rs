//! What a queue's arguments say of it (`x-message-ttl`, `x-max-length` and the like), and which of them are refused, in
//! RabbitMQ's words.

use super::{QueueSpec, dead_letter, delayed::DelayedRetry};
use crate::equivalence;
use alloc::format;
use leveret_model::{Name, Refusal, Table, Value, limits::EXPIRY_MS_MAX};

/// The priorities of a quorum queue: 0 to 31.
pub(super) const QUORUM_PRIORITY_MAX: u8 = 31;
/// The priority of a message in a quorum queue whose publisher gave it none.
pub(super) const QUORUM_PRIORITY: u8 = 4;
/// How often a message of a quorum queue may be delivered in vain where nothing else is said. It is a dead letter
/// then; without a dead-letter exchange it stays, and is delivered further.
pub const DELIVERY_LIMIT: u32 = 20;

/// The types of queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueueKind {
    /// A plain queue.
    #[default]
    Classic,
    /// Durable, counts deliveries, has priorities. There is one replica.
    Quorum,
}

impl QueueKind {
    /// What `x-queue-type` says for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// The type of that name, as [`Self::as_str`] gives it or as RabbitMQ's modules are called.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Classic, Self::Quorum].into_iter().find(|kind| [kind.as_str(), kind.module()].contains(&name))
    }

    /// As RabbitMQ calls it where it refuses an argument.
    fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// What becomes of messages beyond the length of a queue (`x-overflow`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// The oldest go.
    #[default]
    DropHead,
    /// The new ones are not accepted.
    RejectPublish,
    /// The new ones are not accepted, and go to the dead-letter exchange.
    RejectPublishDlx,
}

/// How often a message may be delivered in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryLimit {
    /// As often as it takes.
    None,
    /// [`DELIVERY_LIMIT`] times, if it has somewhere to go then.
    Default,
    /// So often. Then it is a dead letter, or gone.
    Times(u32),
}

/// What the arguments of a queue come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its type.
    pub kind: QueueKind,
    /// How long a message may wait, in milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// How long it may be unused, in milliseconds; then it is deleted.
    pub expires_ms: Option<u64>,
    /// How many messages may be ready.
    pub max_length: Option<u64>,
    /// How many bytes the bodies of ready messages may have.
    pub max_length_bytes: Option<u64>,
    /// What becomes of more.
    pub overflow: Overflow,
    /// Dead letters stay until a queue takes them.
    pub keeps_letters: bool,
    /// The greatest priority that is told from lower ones; `None` where priorities are not looked at.
    pub max_priority: Option<u8>,
    /// Of its consumers one is served, the others stand by.
    pub single_active_consumer: bool,
    /// How often a message may be delivered in vain.
    pub delivery_limit: DeliveryLimit,
    /// How long a delivery may take, in milliseconds; 0 is for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// Which messages wait before they are tried again, and for how long.
    pub delayed_retry: Option<DelayedRetry>,
}

/// What is said of whom, for refusals.
struct Checked<'a> {
    spec: &'a QueueSpec,
    vhost: &'a Name,
}

impl QueueSettings {
    /// What the arguments of a queue say. What makes no sense in them was refused before and counts as if
    /// it were not there.
    #[must_use]
    pub fn of(arguments: &Table) -> Self {
        let kind = kind_of(arguments).unwrap_or_default();
        let number =
            |argument: &str| integer(arguments, argument).and_then(|number| u64::try_from(number).ok());
        let text = |argument: &str| arguments.get(argument.as_bytes()).and_then(Value::as_text);
        let is_quorum = kind == QueueKind::Quorum;
        Self {
            kind,
            message_ttl_ms: number("x-message-ttl"),
            expires_ms: number("x-expires"),
            max_length: number("x-max-length"),
            max_length_bytes: number("x-max-length-bytes"),
            overflow: match text("x-overflow") {
                // RabbitMQ's quorum queues take the last one for the default.
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") if !is_quorum => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            keeps_letters: is_quorum && text("x-dead-letter-strategy") == Some("at-least-once"),
            max_priority: match number("x-max-priority") {
                _ if is_quorum => Some(QUORUM_PRIORITY_MAX),
                Some(most) => Some(u8::try_from(most).unwrap_or(u8::MAX)),
                None => None,
            },
            single_active_consumer: arguments.get(b"x-single-active-consumer") == Some(&Value::Boolean(true)),
            delivery_limit: match integer(arguments, "x-delivery-limit") {
                _ if !is_quorum => DeliveryLimit::None,
                None => DeliveryLimit::Default,
                Some(times) => u32::try_from(times).map_or(DeliveryLimit::None, DeliveryLimit::Times),
            },
            delayed_retry: delayed_retry(arguments).filter(|_| is_quorum),
            consumer_timeout_ms: number("x-consumer-timeout").filter(|_| is_quorum),
        }
    }

    /// The priority of a message whose publisher gave it this one, or none.
    pub(super) fn priority(&self, given: Option<u8>) -> u8 {
        let Some(most) = self.max_priority else { return self.base_priority() };
        given.unwrap_or(self.base_priority()).min(most)
    }

    /// The priority of messages without any.
    pub(super) fn base_priority(&self) -> u8 {
        match self.kind {
            QueueKind::Classic => 0,
            QueueKind::Quorum => QUORUM_PRIORITY,
        }
    }

    /// Whether it says how much may be ready.
    pub(super) fn is_limited(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }
}

/// Without the shortest wait, or with another type, there is none, as in RabbitMQ.
fn delayed_retry(arguments: &Table) -> Option<DelayedRetry> {
    let (failed, returned) = match arguments.get(b"x-delayed-retry-type").and_then(Value::as_text)? {
        "all" => (true, true),
        "failed" => (true, false),
        "returned" => (false, true),
        _ => return None,
    };
    let time = |argument| {
        let milliseconds = integer(arguments, argument).and_then(|number| u64::try_from(number).ok());
        milliseconds.filter(|milliseconds| *milliseconds > 0)
    };
    let least_ms = time("x-delayed-retry-min")?;
    let most_ms = time("x-delayed-retry-max").unwrap_or(least_ms);
    Some(DelayedRetry { failed, returned, least_ms, most_ms })
}

fn integer(arguments: &Table, argument: &str) -> Option<i64> {
    arguments.get(argument.as_bytes()).and_then(Value::as_integer)
}

impl QueueSpec {
    /// Whether it keeps transient messages as persistent ones, as quorum queues do.
    pub(crate) fn keeps_all(&self) -> bool {
        kind_of(&self.arguments) == Some(QueueKind::Quorum)
    }
}

fn kind_of(arguments: &Table) -> Option<QueueKind> {
    match arguments.get(b"x-queue-type").map(Value::as_text) {
        // An empty one is none.
        None | Some(Some("classic" | "")) => Some(QueueKind::Classic),
        Some(Some("quorum")) => Some(QueueKind::Quorum),
        Some(_) => None,
    }
}

/// Arguments of other types of queues, which these refuse.
const NOT_CLASSIC: [&str; 14] = [
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-consumer-timeout",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
    "x-initial-cluster-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];
const NOT_QUORUM: [&str; 7] = [
    "x-max-priority",
    "x-queue-mode",
    "x-queue-version",
    "x-initial-cluster-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];

/// Arguments of consumers of streams, which queues of other types refuse.
const OF_STREAM_CONSUMERS: [&str; 3] = ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

impl QueueKind {
    /// Checks that the arguments of a consumer are none of another type of queue's.
    ///
    /// # Errors
    /// One of them is.
    pub(crate) fn check_consumer(
        self,
        arguments: &Table,
        (queue, vhost): (&Name, &Name),
    ) -> Result<(), Refusal> {
        match OF_STREAM_CONSUMERS.iter().find(|argument| arguments.get(argument.as_bytes()).is_some()) {
            None => Ok(()),
            Some(argument) => {
                let module = self.module();
                let text = format!(
                    "invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {module}"
                );
                Err(Refusal::InvalidArgument { text })
            }
        }
    }

    /// Whether the broker makes up names for queues of this type.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_made(self) -> Result<(), Refusal> {
        match self {
            Self::Classic => Ok(()),
            Self::Quorum => {
                let text = format!("Cannot declare a server-named queue for type {}", self.module());
                Err(Refusal::InvalidArgument { text })
            }
        }
    }
}

/// Checks the arguments of a queue to be declared, whose name was `made` up or not.
///
/// # Errors
/// What makes no sense, or is not there for queues of its type; [`Refusal::NotImplemented`] for streams.
pub(crate) fn check(spec: &QueueSpec, made: bool, vhost: &Name) -> Result<(), Refusal> {
    let checked = Checked { spec, vhost };
    let kind = checked.kind()?;
    if made {
        kind.check_made()?;
    }
    let foreign: &[&str] = if kind == QueueKind::Classic { &NOT_CLASSIC } else { &NOT_QUORUM };
    if let Some(argument) = foreign.iter().find(|argument| checked.value(argument).is_some()) {
        return checked.invalid(argument, &format!(" of queue type {}", kind.module()));
    }
    checked.number("x-message-ttl", 0, EXPIRY_MS_MAX)?;
    checked.number("x-expires", 1, EXPIRY_MS_MAX)?;
    checked.number("x-max-length", 0, u64::MAX)?;
    checked.number("x-max-length-bytes", 0, u64::MAX)?;
    checked.number("x-quorum-initial-group-size", 1, u64::MAX)?;
    for argument in [
        "x-consumer-timeout",
        "x-consumer-disconnected-timeout",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
    ] {
        checked.number(argument, 0, u64::MAX)?;
    }
    checked.priorities()?;
    checked.one_of(
        "x-overflow",
        &["drop-head", "reject-publish", "reject-publish-dlx"],
        "invalid_overflow",
    )?;
    checked.one_of("x-dead-letter-strategy", &["at-most-once", "at-least-once"], "invalid_dlx_strategy")?;
    let locators = ["client-local", "balanced", "min-masters", "random"];
    checked.one_of("x-queue-leader-locator", &locators, "invalid_queue_locator_arg")?;
    if let Some(value) = checked.value("x-single-active-consumer")
        && !matches!(value, Value::Boolean(_))
    {
        return checked.unacceptable("x-single-active-consumer", value);
    }
    if kind == QueueKind::Quorum {
        checked.is_for_quorum()?;
    }
    dead_letter::check(spec, vhost)
}

impl<'a> Checked<'a> {
    fn value(&self, argument: &str) -> Option<&'a Value> {
        self.spec.arguments.get(argument.as_bytes())
    }

    fn invalid<T>(&self, argument: &str, why: &str) -> Result<T, Refusal> {
        let (name, vhost) = (&self.spec.name, self.vhost);
        let text = format!("invalid arg '{argument}' for queue '{name}' in vhost '{vhost}'{why}");
        Err(Refusal::InvalidArgument { text })
    }

    fn unacceptable<T>(&self, argument: &str, value: &Value) -> Result<T, Refusal> {
        self.invalid(argument, &format!(": {{unacceptable_type,{}}}", equivalence::type_of(value)))
    }

    fn kind(&self) -> Result<QueueKind, Refusal> {
        if let Some(kind) = kind_of(&self.spec.arguments) {
            return Ok(kind);
        }
        match self.value("x-queue-type") {
            Some(Value::Text(name)) if name == "stream" => {
                Err(Refusal::NotImplemented { what: "queues of type 'stream'".into() })
            }
            Some(Value::Text(name)) => {
                self.invalid("x-queue-type", &format!(": \"unsupported queue type '{name}'\""))
            }
            Some(value) => self.unacceptable("x-queue-type", value),
            None => Ok(QueueKind::default()),
        }
    }

    fn number(&self, argument: &str, least: i64, most: u64) -> Result<(), Refusal> {
        let number = match self.value(argument) {
            None => return Ok(()),
            Some(Value::Integer(number)) => *number,
            Some(Value::Unsigned(number)) => {
                return self.invalid(argument, &format!(": {{value_too_large,{number}}}"));
            }
            Some(value) => {
                return self.invalid(argument, &format!(": \"expected integer, got {}\"", value.class()));
            }
        };
        let why = match u64::try_from(number) {
            Err(_) => "value_negative",
            Ok(0) if least > 0 => "value_zero",
            Ok(number) if number > most => "value_too_large",
            Ok(_) => return Ok(()),
        };
        self.invalid(argument, &format!(": {{{why},{number}}}"))
    }

    fn priorities(&self) -> Result<(), Refusal> {
        self.number("x-max-priority", 0, u64::MAX)?;
        match integer(&self.spec.arguments, "x-max-priority") {
            Some(most) if most > i64::from(u8::MAX) => {
                self.invalid("x-max-priority", &format!(": {{max_value_exceeded,{most}}}"))
            }
            _ => Ok(()),
        }
    }

    fn one_of(&self, argument: &str, words: &[&str], why: &str) -> Result<(), Refusal> {
        match self.value(argument) {
            None => Ok(()),
            Some(Value::Text(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(value) if value.as_string().is_some() => self.invalid(argument, &format!(": {why}")),
            Some(value) => self.unacceptable(argument, value),
        }
    }

    fn is_for_quorum(&self) -> Result<(), Refusal> {
        let QueueSpec { name, durable, exclusive, auto_delete, .. } = self.spec;
        let wrong =
            [(*auto_delete, "auto-delete"), (*exclusive, "exclusive-owner"), (!durable, "non-durable")];
        match wrong.iter().find(|(is_wrong, _)| *is_wrong) {
            None => Ok(()),
            Some((_, property)) => {
                let text =
                    format!("invalid property '{property}' for queue '{name}' in vhost '{}'", self.vhost);
                Err(Refusal::InvalidArgument { text })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn table(arguments: &[(&'static str, Value)]) -> Table {
        arguments.iter().map(|(name, value)| (Name::from_static(name), value.clone())).collect()
    }

    fn refusal(arguments: &[(&'static str, Value)]) -> String {
        let name = Name::from_static("q");
        let spec = QueueSpec { name, durable: true, arguments: table(arguments), ..QueueSpec::default() };
        match check(&spec, false, &Name::from_static("/")) {
            Ok(()) => String::from("ok"),
            Err(Refusal::InvalidArgument { text }) => {
                text.replace("invalid arg ", "").replace(" for queue 'q' in vhost '/'", "")
            }
            Err(refusal) => refusal.to_string(),
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// Said by RabbitMQ 4.3.
    #[test]
    fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
        let number = Value::Integer;
        for (argument, value, said) in [
            ("x-message-ttl", number(-1), "'x-message-ttl': {value_negative,-1}"),
            ("x-message-ttl", text("a"), "'x-message-ttl': \"expected integer, got longstr\""),
            ("x-message-ttl", Value::Boolean(true), "'x-message-ttl': \"expected integer, got bool\""),
            ("x-message-ttl", Value::Void, "'x-message-ttl': \"expected integer, got void\""),
            ("x-message-ttl", number(1 << 40), "'x-message-ttl': {value_too_large,1099511627776}"),
            ("x-message-ttl", number(0), "ok"),
            ("x-expires", number(0), "'x-expires': {value_zero,0}"),
            ("x-max-length", number(-1), "'x-max-length': {value_negative,-1}"),
            ("x-max-length-bytes", text("b"), "'x-max-length-bytes': \"expected integer, got longstr\""),
            ("x-overflow", text("foo"), "'x-overflow': invalid_overflow"),
            ("x-overflow", number(5), "'x-overflow': {unacceptable_type,signedint}"),
            ("x-max-priority", number(256), "'x-max-priority': {max_value_exceeded,256}"),
            ("x-max-priority", number(-1), "'x-max-priority': {value_negative,-1}"),
            ("x-max-priority", number(255), "ok"),
            (
                "x-single-active-consumer",
                number(1),
                "'x-single-active-consumer': {unacceptable_type,signedint}",
            ),
            ("x-delivery-limit", number(3), "'x-delivery-limit' of queue type rabbit_classic_queue"),
            ("x-max-age", text("7D"), "'x-max-age' of queue type rabbit_classic_queue"),
            ("x-queue-type", text("foo"), "'x-queue-type': \"unsupported queue type 'foo'\""),
            ("x-queue-type", number(5), "'x-queue-type': {unacceptable_type,signedint}"),
            ("x-queue-leader-locator", text("foo"), "'x-queue-leader-locator': invalid_queue_locator_arg"),
            ("x-queue-type", text(""), "ok"),
            (
                "x-stream-filter-size-bytes",
                number(16),
                "'x-stream-filter-size-bytes' of queue type rabbit_classic_queue",
            ),
            ("x-foo", number(1), "ok"),
            ("x-queue-mode", text("lazy"), "ok"),
        ] {
            assert_eq!(refusal(&[(argument, value)]), said);
        }
        let quorum = ("x-queue-type", text("quorum"));
        for (argument, value, said) in [
            ("x-delivery-limit", number(-1), "ok"),
            ("x-max-priority", number(3), "'x-max-priority' of queue type rabbit_quorum_queue"),
            ("x-dead-letter-strategy", text("foo"), "'x-dead-letter-strategy': invalid_dlx_strategy"),
            ("x-quorum-initial-group-size", number(0), "'x-quorum-initial-group-size': {value_zero,0}"),
            ("x-queue-mode", text("lazy"), "'x-queue-mode' of queue type rabbit_quorum_queue"),
            ("x-consumer-timeout", text("a"), "'x-consumer-timeout': \"expected integer, got longstr\""),
            ("x-overflow", text("reject-publish-dlx"), "ok"),
            (
                "x-consumer-disconnected-timeout",
                text("a"),
                "'x-consumer-disconnected-timeout': \"expected integer, got longstr\"",
            ),
            ("x-consumer-disconnected-timeout", number(0), "ok"),
            ("x-max-in-memory-length", number(-1), "'x-max-in-memory-length': {value_negative,-1}"),
            ("x-max-in-memory-bytes", number(1 << 40), "ok"),
            (
                "x-stream-filter-size-bytes",
                number(16),
                "'x-stream-filter-size-bytes' of queue type rabbit_quorum_queue",
            ),
        ] {
            assert_eq!(refusal(&[quorum.clone(), (argument, value)]), said);
        }
        assert_eq!(refusal(&[("x-queue-type", text("stream"))]), "queues of type 'stream'");
    }

    #[test]
    fn settings_are_what_the_arguments_say() {
        let classic = QueueSettings::of(&table(&[
            ("x-message-ttl", Value::Integer(5)),
            ("x-max-priority", Value::Integer(9)),
            ("x-overflow", text("reject-publish-dlx")),
        ]));
        assert_eq!((classic.message_ttl_ms, classic.overflow), (Some(5), Overflow::RejectPublishDlx));
        assert_eq!([None, Some(0), Some(9), Some(10)].map(|given| classic.priority(given)), [0, 0, 9, 9]);
        assert_eq!(classic.delivery_limit, DeliveryLimit::None);
        assert_eq!(QueueSettings::of(&Table::new()).priority(Some(7)), 0, "not looked at");
        let limited = |limit: Option<i64>| {
            let limit = limit.map(|limit| ("x-delivery-limit", Value::Integer(limit)));
            let all: alloc::vec::Vec<_> =
                [("x-queue-type", text("quorum"))].into_iter().chain(limit).collect();
            QueueSettings::of(&table(&all))
        };
        assert_eq!([None, Some(9), Some(200)].map(|given| limited(None).priority(given)), [4, 9, 31]);
        let limits = [None, Some(-1), Some(3)].map(|limit| limited(limit).delivery_limit);
        assert_eq!(limits, [DeliveryLimit::Default, DeliveryLimit::None, DeliveryLimit::Times(3)]);
    }
}
