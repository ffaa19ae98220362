//! What people decided about plugins while the broker ran, in a file of the data folder, beside the kept
//! versions: `plugins-kept/decisions.toml`.
//!
//! A table `[[switch]]` for each plugin that was switched off or on against the configuration, a table `[[pin]]`
//! for each exchange that stays on a version. People may read it, and change it while the broker is down. It is
//! replaced whole. One that cannot be read is left as it is, and the broker serves without it: what is decided
//! then is not kept until the file was mended or taken away.

use crate::replace::replace;
use leveret_model::Name;
use leveret_plugin::{
    Digest, Scope,
    policy::Switch,
    registry::{Decisions, KeepDecisions, PinDecision},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// A file has at most so many bytes: no broker has that many exchanges pinned.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
const FILE_NAME: &str = "decisions.toml";
const HEADING: &str = "# What was decided about plugins while the broker ran: what is switched off and on, and which\n\
                       # exchanges stay on a version. The broker writes this file anew at each decision; change it\n\
                       # while the broker is down.\n";

/// The file.
pub struct DecisionsFile {
    path: PathBuf,
    /// Why it could not be read.
    broken: Mutex<Option<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    #[serde(default, rename = "switch", skip_serializing_if = "Vec::is_empty")]
    switches: Vec<SwitchToml>,
    #[serde(default, rename = "pin", skip_serializing_if = "Vec::is_empty")]
    pins: Vec<PinToml>,
}

/// Which format a file has, whatever else is in it.
#[derive(Deserialize)]
struct AnyContent {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchToml {
    /// All plugins where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vhost: Option<NameToml>,
    on: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinToml {
    vhost: NameToml,
    exchange: NameToml,
    #[serde(rename = "type")]
    type_name: NameToml,
    plugin: String,
    /// The plugin is one of the virtual host's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own: bool,
    digest: String,
    version: String,
}

/// A name as a text; one that is none, as its bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NameToml {
    Text(String),
    Bytes(Vec<u8>),
}

impl DecisionsFile {
    /// Reads the file of a data folder; without one nothing was decided. One that cannot be read is told in the
    /// log, and nothing of it holds.
    #[must_use]
    pub fn read(data_dir: &Path) -> (Decisions, Self) {
        let path = data_dir.join("plugins-kept").join(FILE_NAME);
        let (decisions, broken) = match read(&path) {
            Ok(decisions) => (decisions, None),
            Err(why) => {
                let why = what_to_do(&path, &why);
                tracing::error!("switches and pins from before the start do not hold: {why}");
                (Decisions::default(), Some(why))
            }
        };
        (decisions, Self { path, broken: Mutex::new(broken) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it could not be read at the start and what to do, if so.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.lock().clone()
    }
}

impl KeepDecisions for DecisionsFile {
    fn keep(&self, decisions: &Decisions) -> Result<(), String> {
        let mut broken = self.lock();
        if let Some(why) = &*broken
            && fs::symlink_metadata(&self.path).is_ok()
        {
            // What it says may be wanted by somebody who can read it.
            return Err(why.clone());
        }
        let text = toml::to_string(&to_toml(decisions)).map_err(|error| error.to_string())?;
        replace(&self.path, &format!("{HEADING}{text}"))
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        *broken = None;
        Ok(())
    }

    fn place(&self) -> &Path {
        &self.path
    }
}

fn what_to_do(path: &Path, why: &str) -> String {
    format!(
        "{} {why}. The file is left as it is: mend it and start the broker again, or move it away to go on without \
         what it says; until then what is switched and pinned is not kept for the next start",
        path.display()
    )
}

fn read(path: &Path) -> Result<Decisions, String> {
    let text = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Decisions::default()),
        Ok(metadata) if !metadata.is_file() => {
            return Err("is not a file; links are not followed".to_owned());
        }
        Ok(metadata) if metadata.len() > BYTES_MAX => return Err("is too large".to_owned()),
        _ => fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?,
    };
    let broken = |error: toml::de::Error| format!("cannot be understood: {}", error.to_string().trim_end());
    let AnyContent { format } = toml::from_str(&text).map_err(broken)?;
    if format != FORMAT {
        return Err(format!(
            "has format {format}, and this broker knows format {FORMAT}: a newer broker has written it"
        ));
    }
    of_toml(toml::from_str(&text).map_err(broken)?)
}

fn to_toml(decisions: &Decisions) -> Content {
    let off = decisions.off.iter().map(|switch| SwitchToml::new(switch, false));
    let on = decisions.on.iter().map(|switch| SwitchToml::new(switch, true));
    let pins = decisions.pins.iter().map(|pin| PinToml {
        vhost: NameToml::new(&pin.vhost),
        exchange: NameToml::new(&pin.exchange),
        type_name: NameToml::new(&pin.exchange_type),
        plugin: pin.plugin.clone(),
        own: matches!(pin.scope, Scope::Vhost(_)),
        digest: pin.digest.to_hex(),
        version: pin.version.clone(),
    });
    Content { format: FORMAT, switches: off.chain(on).collect(), pins: pins.collect() }
}

fn of_toml(content: Content) -> Result<Decisions, String> {
    let mut decisions = Decisions::default();
    for SwitchToml { plugin, vhost, on } in content.switches {
        let switch = match (plugin, vhost) {
            (None, None) => Switch::All,
            (Some(plugin), None) => Switch::Plugin(plugin),
            (Some(plugin), Some(vhost)) => Switch::PluginInVhost { plugin, vhost: vhost.name()? },
            (None, Some(_)) => return Err("has a switch with a vhost and without a plugin".to_owned()),
        };
        if on { decisions.on.push(switch) } else { decisions.off.push(switch) }
    }
    for pin in content.pins {
        let vhost = pin.vhost.name()?;
        let digest = Digest::of_hex(&pin.digest);
        decisions.pins.push(PinDecision {
            exchange: pin.exchange.name()?,
            exchange_type: pin.type_name.name()?,
            scope: if pin.own { Scope::Vhost(vhost.clone()) } else { Scope::Global },
            plugin: pin.plugin,
            digest: digest
                .ok_or_else(|| format!("has no digest where it says '{}'", pin.digest.escape_debug()))?,
            version: pin.version,
            vhost,
        });
    }
    Ok(decisions)
}

impl SwitchToml {
    fn new(switch: &Switch, on: bool) -> Self {
        let (plugin, vhost) = match switch {
            Switch::All => (None, None),
            Switch::Plugin(plugin) => (Some(plugin.clone()), None),
            Switch::PluginInVhost { plugin, vhost } => (Some(plugin.clone()), Some(NameToml::new(vhost))),
        };
        Self { plugin, vhost, on }
    }
}

impl NameToml {
    fn new(name: &Name) -> Self {
        match std::str::from_utf8(name.as_bytes()) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(name.as_bytes().to_vec()),
        }
    }

    fn name(&self) -> Result<Name, String> {
        let bytes = match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        };
        Name::new(bytes).map_err(|error| format!("has a name that is none: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_testkit::ScratchDirectory;

    fn decisions() -> Decisions {
        let vhost = Name::from_static("a\"b");
        let pin = |exchange: &[u8], scope| PinDecision {
            vhost: vhost.clone(),
            exchange: Name::new(exchange).unwrap(),
            exchange_type: Name::from_static("x-type"),
            scope,
            plugin: "p".to_owned(),
            digest: Digest([7; 32]),
            version: "1.0 beta".to_owned(),
        };
        Decisions {
            off: vec![Switch::All, Switch::PluginInVhost { plugin: "p".to_owned(), vhost: vhost.clone() }],
            on: vec![Switch::Plugin("q".to_owned())],
            pins: vec![pin(b"orders", Scope::Global), pin(b"\xff\0", Scope::Vhost(vhost.clone()))],
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_replaced_whole() {
        let scratch = ScratchDirectory::new("decisions");
        let (nothing, file) = DecisionsFile::read(scratch.path());
        assert_eq!((nothing, file.broken()), (Decisions::default(), None));
        file.keep(&decisions()).unwrap();
        assert_eq!(DecisionsFile::read(scratch.path()).0, decisions());
        let text = fs::read_to_string(file.place()).unwrap();
        for said in
            ["# What was decided", "format = 1", "exchange = \"orders\"", "vhost = 'a\"b'", "on = true"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        // What a crash left beside it is no hindrance.
        fs::write(file.place().with_extension("toml.unfinished"), "half").unwrap();
        file.keep(&Decisions::default()).unwrap();
        assert_eq!(DecisionsFile::read(scratch.path()).0, Decisions::default());
        let files = fs::read_dir(file.place().parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "nothing unfinished is left");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_as_it_is_and_says_what_to_do() {
        let newer = "format = 2\n[[future]]\n";
        let cases = [
            ("format = ", "cannot be understood"),
            ("pin = []", "missing field `format`"),
            (newer, "has format 2, and this broker knows format 1"),
            ("format = 1\nunknown = 1", "unknown field `unknown`"),
            ("format = 1\n[[switch]]\nvhost = \"a\"\non = false", "a vhost and without a plugin"),
            (
                "format = 1\n[[pin]]\nvhost='/'\nexchange='x'\ntype='t'\nplugin='p'\nversion=''\ndigest='12'",
                "no digest",
            ),
        ];
        for (text, why) in cases {
            let scratch = ScratchDirectory::new("broken-decisions");
            let path = scratch.path().join("plugins-kept").join(FILE_NAME);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let (read, file) = DecisionsFile::read(scratch.path());
            let broken = file.broken().unwrap();
            assert_eq!(read, Decisions::default());
            assert!(broken.contains(why) && broken.contains("move it away"), "{why}: {broken}");
            assert_eq!(file.keep(&decisions()).unwrap_err(), broken);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            fs::remove_file(&path).unwrap();
            file.keep(&decisions()).unwrap();
            assert_eq!((DecisionsFile::read(scratch.path()).0, file.broken()), (decisions(), None));
        }
    }
}
