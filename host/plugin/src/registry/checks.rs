//! What a file may claim: how many there are of a virtual host, whose names are whose, and which names
//! are names.

use super::reload::Files;
use crate::{
    guest::{Description, TypeDescription},
    scope::{CORE_TYPES, RESERVED_PREFIX, Scope},
};
use leveret_model::Name;
use std::path::Path;

/// The longest name of an exchange type, in bytes.
const TYPE_NAME_BYTES_MAX: usize = 127;
/// Arguments of exchange.declare that the host handles itself.
const ARGUMENTS_OF_THE_HOST: [&str; 1] = ["alternate-exchange"];
/// How many files of its own a virtual host has in service: each keeps its machine code in memory.
pub const VHOST_PLUGINS_MAX: usize = 100;

/// A virtual host has only so many files of its own.
pub(super) fn check_count(files: &Files, scope: &Scope, path: &Path) -> Result<(), String> {
    let others = files.iter().filter(|(other, version)| *other != path && version.scope == *scope).count();
    match scope {
        Scope::Vhost(vhost) if others >= VHOST_PLUGINS_MAX => {
            Err(format!("vhost '{vhost}' has {others} plugins of its own; the most is {VHOST_PLUGINS_MAX}"))
        }
        Scope::Vhost(_) | Scope::Global | Scope::Shipped => Ok(()),
    }
}

/// No name may be that of another file for the same.
pub(super) fn check_claims(
    files: &Files,
    scope: &Scope,
    path: &Path,
    names: &[Name],
    description: &Description,
) -> Result<(), String> {
    for (other, version) in files.iter().filter(|(other, v)| *other != path && v.scope == *scope) {
        if let Some(name) = names.iter().find(|name| version.describes(name).is_some()) {
            return Err(format!("the exchange type '{name}' is provided by {} already", other.display()));
        }
        let argument_of = |described: &TypeDescription| described.stage.clone().map(|stage| stage.argument);
        let mine: Vec<String> = description.types.iter().filter_map(argument_of).collect();
        let mut theirs = version.description.types.iter().filter_map(argument_of);
        if let Some(argument) = theirs.find(|argument| mine.contains(argument)) {
            return Err(format!(
                "the argument '{argument}' puts a type of {} in front of others already",
                other.display()
            ));
        }
        let interceptors = &description.interceptors;
        let twice = interceptors.iter().find(|i| version.describes_interceptor(&i.name).is_some());
        if let Some(twice) = twice {
            return Err(format!(
                "the interceptor '{}' is provided by {} already",
                twice.name,
                other.display()
            ));
        }
    }
    Ok(())
}

/// The names that a plugin claims, if it may.
pub(super) fn type_names(description: &Description) -> Result<Vec<Name>, String> {
    let mut names: Vec<Name> = Vec::new();
    for described in &description.types {
        let name = described.name.as_str();
        if !is_plain(name) {
            return Err(format!(
                "'{}' is no name for an exchange type: 1 to {TYPE_NAME_BYTES_MAX} bytes of lower-case letters, \
                 digits, '-', '_' and '.'",
                name.escape_debug()
            ));
        }
        if CORE_TYPES.contains(&name) || name.starts_with(RESERVED_PREFIX) {
            return Err(format!("the exchange type '{name}' is reserved for the broker"));
        }
        if names.iter().any(|known| known.as_bytes() == name.as_bytes()) {
            return Err(format!("the exchange type '{name}' is described twice"));
        }
        let argument = described.stage.as_ref().map(|stage| stage.argument.as_str());
        if argument.is_some_and(|argument| ARGUMENTS_OF_THE_HOST.contains(&argument)) {
            return Err(format!(
                "the exchange type '{name}' is put in front of others by the argument '{}', which is the \
                 broker's",
                argument.unwrap_or_default()
            ));
        }
        let earlier = description.types.iter().take(names.len());
        let mut theirs = earlier.filter_map(|earlier| earlier.stage.as_ref());
        if let Some(argument) = argument.filter(|argument| theirs.any(|stage| stage.argument == **argument)) {
            return Err(format!("the argument '{argument}' puts two types of the plugin in front of others"));
        }
        names.push(Name::new(name.as_bytes()).map_err(|error| error.to_string())?);
    }
    if names.is_empty() && description.interceptors.is_empty() {
        return Err(String::from("the plugin describes neither an exchange type nor an interceptor"));
    }
    Ok(names)
}

fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    (1..=TYPE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// Whether the names that a plugin gives its interceptors are names, each once, and each can be
/// attached.
pub(super) fn check_interceptor_names(description: &Description) -> Result<(), String> {
    let interceptors = &description.interceptors;
    for (at, described) in interceptors.iter().enumerate() {
        let name = described.name.as_str();
        if !is_plain(name) {
            return Err(format!(
                "'{}' is no name for an interceptor: 1 to {TYPE_NAME_BYTES_MAX} bytes of lower-case letters, \
                 digits, '-', '_' and '.'",
                name.escape_debug()
            ));
        }
        if described.points.is_empty() {
            return Err(format!("the interceptor '{name}' cannot be attached anywhere"));
        }
        if interceptors.iter().take(at).any(|earlier| earlier.name == described.name) {
            return Err(format!("the interceptor '{name}' is described twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Stage;

    fn names(names: &[&str]) -> Result<Vec<Name>, String> {
        let described =
            |name: &&str| TypeDescription { name: String::from(*name), ..TypeDescription::default() };
        let types = names.iter().map(described).collect();
        type_names(&Description { version: String::from("1"), types, interceptors: Vec::new() })
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(names(&["x-a.b_c-1", "y"]).unwrap().len(), 2);
        for bad in ["", "X-a", "a b", "ä", &"x".repeat(128)] {
            assert!(names(&[bad]).unwrap_err().contains("is no name"), "{bad}");
        }
        for reserved in ["direct", "headers", "x-leveret-anything"] {
            assert!(names(&[reserved]).unwrap_err().contains("reserved"), "{reserved}");
        }
        assert!(names(&["x-a", "x-a"]).unwrap_err().contains("twice"));
        let stage = Some(Stage { order: 100, argument: String::from("alternate-exchange") });
        let described = TypeDescription { name: String::from("x-a"), stage, ..TypeDescription::default() };
        let in_front = Description { types: vec![described], ..Description::default() };
        let staged = |name: &str| {
            let stage = Some(Stage { order: 100, argument: String::from("x-in-front") });
            TypeDescription { name: String::from(name), stage, ..TypeDescription::default() }
        };
        let twice = Description { types: vec![staged("x-a"), staged("x-b")], ..Description::default() };
        assert!(type_names(&twice).unwrap_err().contains("'x-in-front' puts two types"));
        assert!(type_names(&in_front).unwrap_err().contains("'alternate-exchange', which is the broker's"));
        assert!(names(&[]).unwrap_err().contains("describes neither"));
    }
}
