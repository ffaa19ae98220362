//! The arguments of a declaration.

use leveret_sdk::{
    Arguments, InnerType, Refusal, Value,
    key_value::{self, Space},
};
use std::time::Duration;

pub(crate) const CACHE_SIZE: &str = "x-cache-size";
pub(crate) const CACHE_TTL: &str = "x-cache-ttl";
pub(crate) const CACHE_PERSISTENCE: &str = "x-cache-persistence";
/// The header, and the argument that names another one.
pub(crate) const HEADER: &str = "x-deduplication-header";
pub(crate) const INNER_TYPE: &str = "x-inner-type";
pub(crate) const DUPLICATES: &str = "x-duplicates";

/// What a stage remembers where nobody says.
pub(crate) const CACHE_SIZE_DEFAULT: u64 = 10_000;
/// How long values are thought to be when it is asked whether so many fit: the text of a UUID, and some.
const VALUE_BYTES_EXPECTED: u32 = 48;
const INNER_TYPE_DEFAULT: &str = "fanout";
const OWN: [&str; 6] = [CACHE_SIZE, CACHE_TTL, CACHE_PERSISTENCE, HEADER, INNER_TYPE, DUPLICATES];

/// What the arguments say.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How many values are remembered.
    pub(crate) cache_size: u64,
    /// For how long; for ever where nobody says.
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) space: Space,
    /// The header whose value is compared.
    pub(crate) header: String,
    /// Duplicates go where messages without a destination go, instead of nowhere.
    pub(crate) unroutable: bool,
}

impl Settings {
    /// Reads the arguments of the exchange type, or of the stage.
    pub(crate) fn read(arguments: &Arguments, is_stage: bool) -> Result<Self, Refusal> {
        let cache_size = match number(arguments, CACHE_SIZE)? {
            Some(size) => size,
            None if is_stage => CACHE_SIZE_DEFAULT,
            None => return Err(Refusal::missing_argument(CACHE_SIZE)),
        };
        let most = key_value::quota(VALUE_BYTES_EXPECTED, 0);
        if cache_size > most {
            let what = format!(
                "must be at most {most}: more values of {VALUE_BYTES_EXPECTED} bytes do not fit into the plugin's quota \
                 here (state-entries, state-mib)"
            );
            return Err(Refusal::invalid_argument(CACHE_SIZE, what));
        }
        let space = match arguments.optional(CACHE_PERSISTENCE)? {
            None | Some("memory") => Space::Memory,
            Some("disk") => Space::Durable,
            Some(_) => return Err(Refusal::invalid_argument(CACHE_PERSISTENCE, "must be memory or disk")),
        };
        let header = arguments.optional(HEADER)?.unwrap_or(HEADER);
        if header.is_empty() || header.len() > 255 || header == CACHE_TTL {
            return Err(Refusal::invalid_argument(HEADER, "must be the name of a header"));
        }
        let unroutable = match arguments.optional(DUPLICATES)? {
            None | Some("drop") => false,
            Some("unroutable") => true,
            Some(_) => return Err(Refusal::invalid_argument(DUPLICATES, "must be drop or unroutable")),
        };
        let time_to_live = number(arguments, CACHE_TTL)?.map(Duration::from_millis);
        Ok(Self { cache_size, time_to_live, space, header: header.into(), unroutable })
    }
}

/// The type behind this one, with the arguments that are not this one's.
pub(crate) fn inner(arguments: &Arguments) -> Result<InnerType, Refusal> {
    let name = arguments.optional(INNER_TYPE)?.unwrap_or(INNER_TYPE_DEFAULT);
    let others = arguments.iter().filter(|argument| !OWN.iter().any(|own| own.as_bytes() == argument.name()));
    let others = others.fold(Arguments::new(), |others, argument| {
        others.with(argument.name(), argument.value().unwrap_or(Value::Void))
    });
    Ok(InnerType::new(name).with_arguments(others))
}

fn number(arguments: &Arguments, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = arguments.get(name) else {
        return Ok(None);
    };
    let number = positive(value);
    number.map(Some).ok_or_else(|| Refusal::invalid_argument(name, "must be an integer greater than 0"))
}

/// An integer above 0, or a text that is one.
pub(crate) fn positive(value: Value<'_>) -> Option<u64> {
    let number = match value {
        Value::Integer(integer) => u64::try_from(integer).ok()?,
        Value::Unsigned(integer) => integer,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    };
    (number > 0).then_some(number)
}
