//! `[[policy]]` and `[[operator-policy]]`: policies that the configuration declares.

use crate::{http::arguments, policies};
use anyhow::bail;
use leveret_broker::policy::{Policy, PolicyKind};
use leveret_model::Name;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use toml::Spanned;

/// `[[policy]]`, `[[operator-policy]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyTable {
    /// The virtual host; `/` if nothing is said.
    vhost: Option<String>,
    /// Its name.
    name: String,
    /// In which names it is looked for.
    pattern: String,
    /// `all` if nothing is said.
    apply_to: Option<String>,
    /// 0 if nothing is said.
    priority: Option<f64>,
    /// What it says.
    definition: Map<String, Value>,
}

/// A policy that is declared, checked.
#[derive(Clone, Debug)]
pub struct DeclaredPolicy {
    /// Where it holds.
    pub vhost: Name,
    /// Whose it is.
    pub kind: PolicyKind,
    /// It.
    pub policy: Arc<Policy>,
}

impl PolicyTable {
    fn policy(&self, kind: PolicyKind) -> Result<DeclaredPolicy, String> {
        let name_of = |text: &str| Name::new(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"));
        let mut said = Map::new();
        said.insert("pattern".to_owned(), self.pattern.as_str().into());
        said.insert("definition".to_owned(), self.definition.clone().into());
        said.extend(self.apply_to.as_deref().map(|apply_to| ("apply-to".to_owned(), apply_to.into())));
        said.extend(self.priority.map(|priority| ("priority".to_owned(), priority.into())));
        let vhost = name_of(self.vhost.as_deref().unwrap_or("/"))?;
        let policy = policies::policy(kind, name_of(&self.name)?, &arguments::from_json(&said)?)?;
        Ok(DeclaredPolicy { vhost, kind, policy: Arc::new(policy) })
    }
}

/// Checks all of them.
///
/// # Errors
/// Where in the text the first is that makes no sense, and why.
pub(super) fn check(
    users: &[Spanned<PolicyTable>],
    operators: &[Spanned<PolicyTable>],
) -> Result<(), (usize, String)> {
    both(users, operators).try_for_each(|(table, kind)| {
        let (key, name) = (key(kind), &table.get_ref().name);
        let policy = table.get_ref().policy(kind);
        policy.map(drop).map_err(|what| (table.span().start, format!("{key}: {name:?}: {what}")))
    })
}

/// The policies.
///
/// # Errors
/// What makes no sense; one of the virtual hosts is not among these.
pub(super) fn declared(
    users: &[Spanned<PolicyTable>],
    operators: &[Spanned<PolicyTable>],
    vhosts: &[Name],
) -> anyhow::Result<Vec<DeclaredPolicy>> {
    let mut all = Vec::new();
    for (table, kind) in both(users, operators) {
        let (key, name) = (key(kind), &table.get_ref().name);
        let declared =
            table.get_ref().policy(kind).map_err(|what| anyhow::anyhow!("{key}: {name:?}: {what}"))?;
        if !vhosts.contains(&declared.vhost) {
            bail!("{key}: {name:?}: there is no virtual host {:?}; vhosts names {vhosts:?}", declared.vhost);
        }
        all.push(declared);
    }
    Ok(all)
}

fn both<'a>(
    users: &'a [Spanned<PolicyTable>],
    operators: &'a [Spanned<PolicyTable>],
) -> impl Iterator<Item = (&'a Spanned<PolicyTable>, PolicyKind)> {
    let users = users.iter().map(|table| (table, PolicyKind::User));
    users.chain(operators.iter().map(|table| (table, PolicyKind::Operator)))
}

fn key(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::User => "[[policy]]",
        PolicyKind::Operator => "[[operator-policy]]",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Settings};
    use leveret_broker::policy::PolicyKind;

    #[test]
    fn policies_are_declared() {
        let settings = Settings::parse(
            "vhosts = [\"/\", \"a\"]\n\
             [[policy]]\nname = \"p\"\npattern = \"^q\"\ndefinition = { max-length = 3 }\n\
             [[policy]]\nvhost = \"a\"\nname = \"p\"\npattern = \"\"\npriority = 7\napply-to = \"exchanges\"\n\
             [policy.definition]\nalternate-exchange = \"x\"\n\
             [[operator-policy]]\nname = \"p\"\npattern = \"\"\ndefinition.message-ttl = 5\n",
        );
        let config = Config::try_from(settings.unwrap()).unwrap();
        let all: Vec<_> = config
            .declared_policies
            .iter()
            .map(|one| (one.vhost.to_text(), one.kind, one.policy.apply_to().as_str(), one.policy.priority()))
            .collect();
        let (user, operator) = (PolicyKind::User, PolicyKind::Operator);
        let expected = [("/", user, "all", 0.0), ("a", user, "exchanges", 7.0), ("/", operator, "all", 0.0)];
        assert_eq!(all, expected.map(|(vhost, kind, to, priority)| (vhost.to_owned(), kind, to, priority)));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        let policy = "[[policy]]\nname = \"p\"\n";
        for (wrong, what) in [
            ("pattern = \"(\"\ndefinition.max-length = 3", "regular expression"),
            ("pattern = \"\"\ndefinition.max-length = -3", "-3 is not a valid maximum length"),
            ("pattern = \"\"\ndefinition = {}", "no policy provided"),
            ("pattern = \"\"\ndefinition.expires = 3\napply-to = \"foo\"", "apply-to 'foo' unrecognised"),
        ] {
            let error =
                format!("{:#}", Settings::parse(&format!("workers = 1\n{policy}{wrong}")).unwrap_err());
            assert!(error.contains("line 2") && error.contains(what), "{error}");
        }
        let operator = "[[operator-policy]]\nname = \"p\"\npattern = \"\"\n";
        let error =
            Settings::parse(&format!("{operator}definition.dead-letter-exchange = \"d\"")).unwrap_err();
        assert!(format!("{error:#}").contains("not recognised"), "{error:#}");
        let elsewhere = format!("{policy}vhost = \"b\"\npattern = \"\"\ndefinition.max-length = 3");
        let error = Config::try_from(Settings::parse(&elsewhere).unwrap()).unwrap_err().to_string();
        assert!(error.contains("there is no virtual host"), "{error}");
    }
}
