//! The tables `[[intercept]]` of the configuration file: where interceptors are attached.

use super::tables::OnFailure;
use leveret_model::{Name, Table, Value};
use leveret_plugin::{AttachmentPoint, AttachmentRule, attachment::Pattern, policy::FailurePolicy};
use serde::Deserialize;

/// `[[intercept]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InterceptTable {
    /// The interceptor's name.
    pub interceptor: String,
    /// Where on a message's way.
    point: Point,
    /// The virtual host; all of them if it is not there.
    pub vhost: Option<String>,
    /// On publish: a pattern for exchanges.
    pub exchange: Option<String>,
    /// On deliver and dead-letter: a pattern for queues.
    pub queue: Option<String>,
    /// The lower is asked first.
    pub order: i64,
    /// What becomes of a message when it cannot be asked.
    on_failure: Option<OnFailure>,
    /// What it is opened with.
    #[serde(default)]
    pub arguments: toml::Table,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Point {
    Publish,
    Deliver,
    DeadLetter,
}

impl InterceptTable {
    /// What it says.
    ///
    /// # Errors
    /// What makes no sense, for people to read.
    pub(super) fn rule(&self) -> Result<AttachmentRule, String> {
        let name = |text: &str| Name::new(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"));
        let (names, misplaced, point) = match self.point {
            Point::Publish => (&self.exchange, &self.queue, AttachmentPoint::Publish),
            Point::Deliver => (&self.queue, &self.exchange, AttachmentPoint::Deliver),
            Point::DeadLetter => (&self.queue, &self.exchange, AttachmentPoint::DeadLetter),
        };
        if misplaced.is_some() {
            return Err(format!(
                "'{}' on {point}: on publish it is said for which `exchange`, on deliver and dead-letter for \
                 which `queue`",
                self.interceptor
            ));
        }
        let mut arguments = Table::new();
        for (argument, said) in &self.arguments {
            arguments.push(name(argument)?, value(said).map_err(|what| format!("{argument}: {what}"))?);
        }
        Ok(AttachmentRule {
            interceptor: self.interceptor.clone(),
            point,
            vhost: self.vhost.as_deref().map(name).transpose()?,
            names: names.clone().map(Pattern::new),
            order: self.order,
            on_failure: self.on_failure.as_ref().map_or(FailurePolicy::Reject, |said| said.0.clone()),
            arguments,
        })
    }
}

fn value(said: &toml::Value) -> Result<Value, String> {
    Ok(match said {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Integer(integer) => Value::Integer(*integer),
        toml::Value::Float(real) => Value::Real(*real),
        toml::Value::Boolean(boolean) => Value::Boolean(*boolean),
        toml::Value::Datetime(_) => return Err(String::from("an argument cannot be a date or a time")),
        toml::Value::Array(values) => Value::List(values.iter().map(value).collect::<Result<_, _>>()?),
        toml::Value::Table(fields) => {
            let pair = |(key, said): (&String, &toml::Value)| Ok((Value::Text(key.clone()), value(said)?));
            Value::Map(fields.iter().map(pair).collect::<Result<_, String>>()?)
        }
    })
}
