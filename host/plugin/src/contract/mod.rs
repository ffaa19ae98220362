//! Does a component keep the contract: are the exports there, of a version that is served and of the
//! right types, and are all imports ones that a plugin may have?

mod functions;

use crate::{
    guest::GuestState,
    policy::{Capability, Grants},
    wasi,
};
use std::fmt;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, types::ComponentItem},
};

/// The versions of the contract that this broker serves, the newest first.
pub const CONTRACT_VERSIONS: [&str; 2] = ["0.2.0", "0.1.0"];

const PACKAGE: &str = "leveret:routing/";

/// A version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractVersion {
    /// Exchange types without capabilities.
    V0_1,
    /// Interceptors and capabilities too.
    V0_2,
}

impl ContractVersion {
    fn of(text: &str) -> Option<Self> {
        match text {
            "0.1.0" => Some(Self::V0_1),
            "0.2.0" => Some(Self::V0_2),
            _ => None,
        }
    }
}

impl ContractVersion {
    /// Its number.
    pub(crate) const fn number(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1.0",
            Self::V0_2 => "0.2.0",
        }
    }
}

impl fmt::Display for ContractVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// What a component exports of the contract, and which capabilities it imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one for each interface of the contract")]
pub(crate) struct Exported {
    pub(crate) version: ContractVersion,
    pub(crate) exchange_type: bool,
    pub(crate) batch: bool,
    pub(crate) marks: bool,
    pub(crate) events: bool,
    pub(crate) timers: bool,
    pub(crate) info: bool,
    pub(crate) reconfigure: bool,
    pub(crate) migrate: bool,
    pub(crate) interceptor: bool,
    pub(crate) interceptor_batch: bool,
    /// The capabilities behind its imports.
    pub(crate) imports: Grants,
    /// It imports something whose use belongs to the message that is being decided.
    pub(crate) has_effects: bool,
}

impl Exported {
    /// The names of the interfaces.
    pub(crate) fn interfaces(&self) -> Vec<&'static str> {
        let all = [
            (self.exchange_type, "exchange-type"),
            (self.batch, "exchange-type-batch"),
            (self.marks, "exchange-type-marks"),
            (self.events, "exchange-type-events"),
            (self.timers, "exchange-type-timers"),
            (self.info, "exchange-type-info"),
            (self.reconfigure, "exchange-type-reconfigure"),
            (self.migrate, "exchange-type-migrate"),
            (self.interceptor, "interceptor"),
            (self.interceptor_batch, "interceptor-batch"),
        ];
        all.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect()
    }
}

/// How a component breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// It exports nothing of the contract.
    NoPlugin,
    /// It exports interfaces of several versions.
    MixedVersions {
        /// One.
        first: String,
        /// One of another version.
        second: String,
    },
    /// It exports something that goes with an interface that it does not export.
    Incomplete {
        /// What it exports.
        has: &'static str,
        /// What is missing.
        misses: &'static str,
    },
    /// It is made for another version.
    OtherVersion {
        /// The interface as it names it.
        found: String,
    },
    /// It imports what no plugin may have.
    ForbiddenImport {
        /// The import.
        name: String,
    },
    /// An exported function is missing or of another type.
    WrongFunction {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be linked.
    Unlinkable {
        /// Why.
        why: String,
    },
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlugin => write!(
                f,
                "the component exports neither {PACKAGE}exchange-type nor {PACKAGE}interceptor of version {}",
                CONTRACT_VERSIONS.join(" or ")
            ),
            Self::MixedVersions { first, second } => {
                write!(f, "the component exports {first} and {second}; all must be of one version")
            }
            Self::Incomplete { has, misses } => {
                write!(f, "the component exports {has} and not {misses}, which it belongs to")
            }
            Self::OtherVersion { found } => {
                let versions = CONTRACT_VERSIONS.join(" and ");
                write!(f, "the component is made for {found}; this broker serves the versions {versions}")
            }
            Self::ForbiddenImport { name } => write!(
                f,
                "the component imports {name}; a plugin may import the capabilities of the contract, the interfaces \
                 of WASI 0.2, and nothing else"
            ),
            Self::WrongFunction { name, what } => {
                write!(f, "the exported function '{name}' is not the contract's: {what}")
            }
            Self::Unlinkable { why } => write!(f, "the component cannot be linked: {why}"),
        }
    }
}

impl std::error::Error for ContractError {}

/// Checks the names of exports and imports. The types of the exported functions are for
/// [`check_functions`].
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<Exported, ContractError> {
    let component = component.component_type();
    let mut exported = Exported {
        version: ContractVersion::V0_2,
        exchange_type: false,
        batch: false,
        marks: false,
        events: false,
        timers: false,
        info: false,
        reconfigure: false,
        migrate: false,
        interceptor: false,
        interceptor_batch: false,
        imports: Grants::NONE,
        has_effects: false,
    };
    let mut first: Option<&str> = None;
    for (name, _) in component.exports(engine) {
        let Some((interface, version)) = interface_of(name) else { continue };
        let Some(known) = ContractVersion::of(version) else {
            return Err(ContractError::OtherVersion { found: String::from(name) });
        };
        match first {
            None => (first, exported.version) = (Some(name), known),
            Some(first) if exported.version != known => {
                let (first, second) = (String::from(first), String::from(name));
                return Err(ContractError::MixedVersions { first, second });
            }
            Some(_) => {}
        }
        exported.note(interface);
    }
    for (name, item) in component.imports(engine) {
        exported.check_import(name, &item.ty, engine)?;
    }
    exported.check_whole()?;
    Ok(exported)
}

/// Checks that the exported functions are there and have the contract's types.
pub(crate) fn check_functions(
    pre: &InstancePre<GuestState>,
    exported: &Exported,
) -> Result<(), ContractError> {
    match exported.version {
        ContractVersion::V0_1 => functions::check_0_1(pre, exported),
        ContractVersion::V0_2 => functions::check_0_2(pre, exported),
    }
}

/// `exchange-type` and `0.2.0` for `leveret:routing/exchange-type@0.2.0`.
fn interface_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

impl Exported {
    /// Notes an exported interface. One that is not known is no harm.
    fn note(&mut self, interface: &str) {
        let older = self.version == ContractVersion::V0_1;
        match interface {
            "exchange-type" => self.exchange_type = true,
            "exchange-type-batch" => self.batch = true,
            _ if older => {}
            "exchange-type-marks" => self.marks = true,
            "exchange-type-events" => self.events = true,
            "exchange-type-timers" => self.timers = true,
            "exchange-type-info" => self.info = true,
            "exchange-type-reconfigure" => self.reconfigure = true,
            "exchange-type-migrate" => self.migrate = true,
            "interceptor" => self.interceptor = true,
            "interceptor-batch" => self.interceptor_batch = true,
            _ => {}
        }
    }

    fn check_whole(&self) -> Result<(), ContractError> {
        if !self.exchange_type && !self.interceptor {
            return Err(ContractError::NoPlugin);
        }
        let parts = [
            (self.batch, "exchange-type-batch"),
            (self.marks, "exchange-type-marks"),
            (self.events, "exchange-type-events"),
            (self.timers, "exchange-type-timers"),
            (self.info, "exchange-type-info"),
            (self.reconfigure, "exchange-type-reconfigure"),
            (self.migrate, "exchange-type-migrate"),
        ];
        if let Some((_, has)) = parts.iter().find(|(there, _)| *there && !self.exchange_type) {
            return Err(ContractError::Incomplete { has, misses: "exchange-type" });
        }
        if self.interceptor_batch && !self.interceptor {
            return Err(ContractError::Incomplete { has: "interceptor-batch", misses: "interceptor" });
        }
        Ok(())
    }

    fn check_import(
        &mut self,
        name: &str,
        item: &ComponentItem,
        engine: &Engine,
    ) -> Result<(), ContractError> {
        if wasi::is_wasi(name) {
            return Ok(());
        }
        let forbidden = || ContractError::ForbiddenImport { name: String::from(name) };
        let (interface, version) = interface_of(name).ok_or_else(forbidden)?;
        if ContractVersion::of(version).is_none() {
            return Err(ContractError::OtherVersion { found: String::from(name) });
        }
        // Interfaces that hold types alone are "imported" because the exports use them.
        if only_types(item, engine) {
            return Ok(());
        }
        if version != "0.2.0" {
            return Err(forbidden());
        }
        let (capability, has_effects) = match interface {
            "effects" => (None, true),
            "clock" => (Some(Capability::Clock), false),
            "random" => (Some(Capability::Random), false),
            "log" => (Some(Capability::Log), false),
            "metric" => (Some(Capability::Metric), false),
            "key-value" => (Some(Capability::KeyValue), true),
            "message-store" => (Some(Capability::MessageStore), true),
            "holds" => (Some(Capability::Hold), true),
            "timers" => (Some(Capability::Timer), true),
            "enqueue" => (Some(Capability::Enqueue), true),
            "emit" => (Some(Capability::Emit), true),
            "queue-info" => (Some(Capability::QueueInfo), false),
            _ => return Err(forbidden()),
        };
        self.imports = capability.map_or(self.imports, |capability| self.imports.with(capability));
        self.has_effects |= has_effects;
        Ok(())
    }
}

fn only_types(item: &ComponentItem, engine: &Engine) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{CodeStrategy, Engines};

    fn check_text(text: &str) -> Result<Exported, ContractError> {
        let engines = Engines::new().unwrap();
        let component = engines.compile(CodeStrategy::Cranelift, &wat::parse_str(text).unwrap()).unwrap();
        check(engines.engine(CodeStrategy::Cranelift).unwrap(), &component)
    }

    #[test]
    fn a_component_of_something_else_is_told() {
        assert_eq!(check_text("(component)"), Err(ContractError::NoPlugin));
    }

    #[test]
    fn another_version_is_named_with_ours() {
        let error = check_text(
            "(component (instance $i) (export \"leveret:routing/exchange-type@0.7.0\" (instance $i)))",
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("0.7.0") && CONTRACT_VERSIONS.iter().all(|version| text.contains(version)),
            "{text}"
        );
        let error = check_text(
            "(component (import \"leveret:routing/types@0.3.0\" (instance (type $t u32) (export \"t\" (type (eq $t))))))",
        );
        assert!(matches!(error, Err(ContractError::OtherVersion { .. })), "{error:?}");
    }

    #[test]
    fn versions_are_not_mixed_and_parts_need_their_whole() {
        let export = |name: &str| format!("(export \"leveret:routing/{name}\" (instance $i))");
        let component = |names: &[&str]| {
            let exports: String = names.iter().map(|name| export(name)).collect();
            check_text(&format!("(component (instance $i) {exports})"))
        };
        let mixed = component(&["exchange-type@0.2.0", "exchange-type-batch@0.1.0"]);
        assert!(matches!(mixed, Err(ContractError::MixedVersions { .. })), "{mixed:?}");
        let part = component(&["exchange-type-info@0.2.0", "interceptor@0.2.0"]);
        assert!(matches!(part, Err(ContractError::Incomplete { has: "exchange-type-info", .. })), "{part:?}");
        let both = component(&["exchange-type@0.2.0", "interceptor@0.2.0"]).unwrap();
        assert!(both.exchange_type && both.interceptor && !both.batch && both.imports.is_empty());
        let older = component(&["exchange-type@0.1.0"]).unwrap();
        assert_eq!(older.version, ContractVersion::V0_1);
    }

    #[test]
    fn imports_beyond_wasi_are_refused_by_name() {
        for import in [
            "evil:world/api@1.0.0",
            "wasi:cli/environment@0.3.0",
            "leveret:routing/clock@0.1.0",
            "leveret:routing/store@0.2.0",
            "x",
        ] {
            let text = format!("(component (import \"{import}\" (instance (export \"f\" (func)))))");
            match check_text(&text) {
                Err(ContractError::ForbiddenImport { name }) => assert_eq!(name, import),
                other => panic!("{import}: {other:?}"),
            }
        }
        let clock = "(component (import \"leveret:routing/clock@0.2.0\" (instance (export \"f\" (func)))))";
        assert_eq!(check_text(clock), Err(ContractError::NoPlugin));
        let wasi = "(component (import \"wasi:cli/environment@0.2.6\" (instance (export \"f\" (func)))))";
        assert_eq!(check_text(wasi), Err(ContractError::NoPlugin));
    }
}
