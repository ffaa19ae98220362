//! The file of cases: an exchange, its bindings, messages and what is expected of them.

use crate::http::json::explain::PropertiesJson;
use anyhow::Context;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{fmt, path::Path};

/// All cases of a file, which has one exchange.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Cases {
    /// The exchange type.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// What the exchange is declared with.
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
    /// Its bindings, in order.
    #[serde(default, rename = "binding")]
    pub(super) bindings: Vec<BindingCase>,
    /// Messages that are published to it, in order.
    #[serde(default, rename = "message")]
    pub(super) messages: Vec<MessageCase>,
    /// Declarations that the type must refuse.
    #[serde(default, rename = "refused-declaration")]
    pub(super) refused_declarations: Vec<RefusedDeclaration>,
    /// Bindings that the type must refuse.
    #[serde(default, rename = "refused-binding")]
    pub(super) refused_bindings: Vec<RefusedBinding>,
}

/// A binding to a queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BindingCase {
    pub(super) queue: String,
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
}

/// A message, and exactly one expectation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct MessageCase {
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) headers: Map<String, Value>,
    #[serde(default)]
    pub(super) properties: PropertiesJson,
    #[serde(default)]
    pub(super) body: String,
    /// To these queues, in any order; empty is to none.
    deliver: Option<Vec<String>>,
    /// Dropped on purpose, for that reason; empty is none.
    drop: Option<String>,
    /// Not accepted, for that reason.
    reject: Option<String>,
    /// Held back for so long.
    hold_ms: Option<u64>,
}

/// Arguments that the type must refuse.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusedDeclaration {
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
    /// What the refusal says, or a part of it.
    #[serde(default)]
    pub(super) reason: String,
}

/// A binding that the type must refuse.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusedBinding {
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) arguments: Map<String, Value>,
    /// What the refusal says, or a part of it.
    #[serde(default)]
    pub(super) reason: String,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// To these queues, in the order of their names.
    Deliver(Vec<String>),
    /// Nowhere, on purpose.
    Drop(String),
    /// Not accepted.
    Reject(String),
    /// Later, in so many milliseconds.
    Hold(u64),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(queues) if queues.is_empty() => f.write_str("deliver to no queue"),
            Self::Deliver(queues) => write!(f, "deliver to {}", queues.join(", ")),
            Self::Drop(reason) if reason.is_empty() => f.write_str("drop"),
            Self::Drop(reason) => write!(f, "drop: {reason}"),
            Self::Reject(reason) => write!(f, "reject: {reason}"),
            Self::Hold(delay_ms) => write!(f, "hold for {delay_ms} ms"),
        }
    }
}

impl Cases {
    /// Whether there is nothing to try.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.refused_declarations.is_empty() && self.refused_bindings.is_empty()
    }

    /// Reads a file of cases.
    ///
    /// # Errors
    /// If it cannot be read, makes no sense, or a message has not exactly one expectation.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{}", file.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let cases: Self = toml::from_str(text)?;
        for (number, message) in (1..).zip(&cases.messages) {
            message
                .expected()
                .with_context(|| format!("message {number}, with the key {:?}", message.key))?;
        }
        Ok(cases)
    }
}

impl MessageCase {
    /// What is expected.
    ///
    /// # Errors
    /// Unless exactly one thing is.
    pub(super) fn expected(&self) -> anyhow::Result<Fate> {
        let deliver = self.deliver.clone().map(|mut queues| {
            queues.sort();
            Fate::Deliver(queues)
        });
        let all = [
            deliver,
            self.drop.clone().map(Fate::Drop),
            self.reject.clone().map(Fate::Reject),
            self.hold_ms.map(Fate::Hold),
        ];
        let mut said = all.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(fate), None) => Ok(fate),
            _ => anyhow::bail!(
                "say one of deliver = [queues], drop = \"why\", reject = \"why\", hold-ms = number"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_has_one_expectation() {
        let parse = |message: &str| Cases::parse(&format!("type = \"t\"\n[[message]]\n{message}"));
        assert_eq!(
            parse("deliver = [\"b\", \"a\"]").unwrap().messages[0].expected().unwrap().to_string(),
            "deliver to a, b"
        );
        for wrong in ["", "deliver = []\ndrop = \"\"", "delivers = []"] {
            let error = format!("{:#}", parse(wrong).unwrap_err());
            assert!(error.contains("say one of") || error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn properties_are_called_as_everything_else_or_as_in_the_http_api() {
        for name in ["content-type", "content_type"] {
            let text =
                format!("type = \"t\"\n[[message]]\ndeliver = []\nproperties = {{ {name} = \"a/b\" }}");
            let cases = Cases::parse(&text).unwrap();
            assert_eq!(cases.messages[0].properties.content_type.as_deref(), Some("a/b"), "{name}");
        }
    }

    const FILE: &str = include_str!("../../../../../examples/02-exchange-type/cases.toml");

    proptest! {
        #[test]
        fn any_file_is_taken_or_refused_with_the_place(
            at in 0..FILE.len(), length in 0_usize..40, put in "[\\[\\]{}=\"'a-z0-9.,\n -]{0,30}",
        ) {
            let mut text = String::from(FILE);
            let (start, end) = (text.floor_char_boundary(at), text.floor_char_boundary(at.saturating_add(length)));
            text.replace_range(start..end, &put);
            if let Err(error) = Cases::parse(&text) {
                let error = format!("{error:#}");
                prop_assert!(error.contains("line") || error.contains("message") || error.contains("missing field"), "{}", error);
            }
        }
    }
}
