//! What a plugin may use beyond its own memory.

use std::{fmt, str::FromStr};

/// One thing that a plugin may use if it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// The time.
    Clock,
    /// Random numbers.
    Random,
    /// Lines in the broker's log, with a level.
    Log,
    /// Metrics of its own.
    Metric,
    /// Keys and values that outlive an instance.
    KeyValue,
    /// Copies of messages that outlive an instance.
    MessageStore,
    /// Holding a message back until a time.
    Hold,
    /// Being called at a time.
    Timer,
    /// Putting messages into queues.
    Enqueue,
    /// Publishing to exchanges.
    Emit,
    /// Lengths and consumers of queues.
    QueueInfo,
    /// Who published a message.
    Publisher,
    /// Replacing the body of a message.
    ModifyBody,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 13] = [
        Self::Clock,
        Self::Random,
        Self::Log,
        Self::Metric,
        Self::KeyValue,
        Self::MessageStore,
        Self::Hold,
        Self::Timer,
        Self::Enqueue,
        Self::Emit,
        Self::QueueInfo,
        Self::Publisher,
        Self::ModifyBody,
    ];

    /// Its name in the configuration and in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Log => "log",
            Self::Metric => "metric",
            Self::KeyValue => "key-value",
            Self::MessageStore => "message-store",
            Self::Hold => "hold",
            Self::Timer => "timer",
            Self::Enqueue => "enqueue",
            Self::Emit => "emit",
            Self::QueueInfo => "queue-info",
            Self::Publisher => "publisher",
            Self::ModifyBody => "modify-body",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No capability has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCapability(pub String);

impl fmt::Display for UnknownCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no capability '{}'; there are ", self.0.escape_debug())?;
        list(f, Capability::ALL.iter())
    }
}

impl std::error::Error for UnknownCapability {}

impl FromStr for Capability {
    type Err = UnknownCapability;

    fn from_str(name: &str) -> Result<Self, UnknownCapability> {
        let known = Self::ALL.into_iter().find(|capability| capability.name() == name);
        known.ok_or_else(|| UnknownCapability(String::from(name)))
    }
}

/// A set of capabilities. The default is empty: unset is denied.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Grants(u16);

impl Grants {
    /// No capability.
    pub const NONE: Self = Self(0);

    /// Whether that one is granted.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// The same and that one.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// Those of them that are not among the others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether nothing is granted.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are granted, in the order of [`Capability::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for Grants {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// `clock, key-value`, or `none`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() { f.write_str("none") } else { list(f, self.iter()) }
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    for (at, item) in items.enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_what_it_names() {
        for capability in Capability::ALL {
            assert_eq!(capability.name().parse(), Ok(capability));
            let only = Grants::NONE.with(capability);
            assert_eq!(only.iter().collect::<Vec<_>>(), [capability]);
        }
        let error = "files".parse::<Capability>().unwrap_err().to_string();
        assert!(error.contains("'files'") && error.contains("queue-info, publisher"), "{error}");
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let mut grants = Grants::default();
        assert!(Capability::ALL.into_iter().all(|capability| !grants.contains(capability)));
        assert_eq!(grants.to_string(), "none");
        grants = [Capability::Hold, Capability::Clock].into_iter().collect();
        assert_eq!(grants.to_string(), "clock, hold");
        assert!(grants.contains(Capability::Hold) && !grants.contains(Capability::Emit));
    }
}
