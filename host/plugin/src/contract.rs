//! Does a component keep the contract: are the exports there, of the right version and types,
//! and are all imports ones that a plugin may have?

use crate::{
    bindings::plain::{exports::leveret::routing::exchange_type as wit, leveret::routing::types},
    guest::GuestState,
    wasi,
};
use std::fmt;
use wasmtime::{
    Engine,
    component::{
        Component, ComponentNamedList, InstancePre, Lift, Lower,
        types::{ComponentInstance, ComponentItem},
    },
};

/// The version of the contract that this broker serves.
pub const CONTRACT_VERSION: &str = "0.1.0";
/// The interface that every exchange type exports, with its version.
pub const EXCHANGE_TYPE: &str = "leveret:routing/exchange-type@0.1.0";
/// The interface that takes many messages in one call, with its version.
pub const EXCHANGE_TYPE_BATCH: &str = "leveret:routing/exchange-type-batch@0.1.0";

/// Types alone; a guest "imports" them because its exports use them.
const TYPES: &str = "leveret:routing/types@0.1.0";

/// What a component exports of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exports {
    /// [`EXCHANGE_TYPE_BATCH`] too.
    pub(crate) batch: bool,
}

/// How a component breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// It exports nothing of the contract.
    NoExchangeType,
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
            Self::NoExchangeType => write!(f, "the component does not export {EXCHANGE_TYPE}"),
            Self::OtherVersion { found } => {
                write!(f, "the component is made for {found}; this broker serves version {CONTRACT_VERSION}")
            }
            Self::ForbiddenImport { name } => write!(
                f,
                "the component imports {name}; a plugin may import the interfaces of WASI 0.2 and nothing else"
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
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<Exports, ContractError> {
    let component = component.component_type();
    let exports: Vec<&str> = component.exports(engine).map(|(name, _)| name).collect();
    for (name, item) in component.imports(engine) {
        check_import(name, &item.ty, engine)?;
    }
    if !exports.contains(&EXCHANGE_TYPE) {
        let other = exports.iter().find(|name| name.starts_with("leveret:routing/exchange-type"));
        return Err(match other {
            Some(found) => ContractError::OtherVersion { found: String::from(*found) },
            None => ContractError::NoExchangeType,
        });
    }
    Ok(Exports { batch: exports.contains(&EXCHANGE_TYPE_BATCH) })
}

/// Checks that the exported functions are there and have the contract's types.
pub(crate) fn check_functions(pre: &InstancePre<GuestState>, exports: Exports) -> Result<(), ContractError> {
    let plain = Interface::of(pre, EXCHANGE_TYPE)?;
    type Reads = Result<types::Reads, String>;
    plain.has::<(), (wit::Description,)>("describe")?;
    plain.has::<(u32, wit::Declaration<'_>), (Reads,)>("open")?;
    plain.has::<(u32,), ()>("close")?;
    plain.has::<(u32, &[types::Binding<'_>]), (Reads,)>("bind")?;
    plain.has::<(u32, &[u64]), (types::Reads,)>("unbind")?;
    plain.has::<(u32, types::Message<'_>), (types::Decision,)>("route")?;
    if exports.batch {
        let batch = Interface::of(pre, EXCHANGE_TYPE_BATCH)?;
        batch.has::<(u32, &[u8]), (Vec<u64>,)>("route-batch")?;
    }
    Ok(())
}

/// An exported interface.
struct Interface<'a> {
    pre: &'a InstancePre<GuestState>,
    instance: ComponentInstance,
}

impl<'a> Interface<'a> {
    fn of(pre: &'a InstancePre<GuestState>, name: &'static str) -> Result<Self, ContractError> {
        let component = pre.component().component_type();
        match component.get_export(pre.engine(), name).map(|export| export.ty) {
            Some(ComponentItem::ComponentInstance(instance)) => Ok(Self { pre, instance }),
            _ => Err(ContractError::WrongFunction { name, what: String::from("it is no interface") }),
        }
    }

    fn has<Parameters, Results>(&self, name: &'static str) -> Result<(), ContractError>
    where
        Parameters: ComponentNamedList + Lower,
        Results: ComponentNamedList + Lift,
    {
        let wrong = |what| ContractError::WrongFunction { name, what };
        match self.instance.get_export(self.pre.engine(), name).map(|export| export.ty) {
            // Not in wasmtime's documentation, though the code that its macro generates calls it:
            // the same check without an instance, so before any of the guest's code runs.
            Some(ComponentItem::ComponentFunc(function)) => function
                .typecheck::<Parameters, Results>(&self.pre.instance_type())
                .map_err(|error| wrong(format!("{error:#}"))),
            Some(_) => Err(wrong(String::from("it is no function"))),
            None => Err(wrong(String::from("it is missing"))),
        }
    }
}

fn check_import(name: &str, item: &ComponentItem, engine: &Engine) -> Result<(), ContractError> {
    if name == TYPES && only_types(item, engine) {
        return Ok(());
    }
    if name.starts_with("leveret:routing/types@") && only_types(item, engine) {
        return Err(ContractError::OtherVersion { found: String::from(name) });
    }
    if wasi::is_wasi(name) {
        Ok(())
    } else {
        Err(ContractError::ForbiddenImport { name: String::from(name) })
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

    fn check_text(text: &str) -> Result<Exports, ContractError> {
        let engines = Engines::new().unwrap();
        let component = engines.compile(CodeStrategy::Cranelift, &wat::parse_str(text).unwrap()).unwrap();
        check(engines.engine(CodeStrategy::Cranelift).unwrap(), &component)
    }

    #[test]
    fn a_component_of_something_else_is_told() {
        assert_eq!(check_text("(component)"), Err(ContractError::NoExchangeType));
    }

    #[test]
    fn another_version_is_named_with_ours() {
        let error = check_text(
            "(component (instance $i) (export \"leveret:routing/exchange-type@0.7.0\" (instance $i)))",
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("0.7.0") && text.contains(CONTRACT_VERSION), "{text}");
        let error = check_text(
            "(component (import \"leveret:routing/types@0.2.0\" (instance (type $t u32) (export \"t\" (type (eq $t))))))",
        );
        assert!(matches!(error, Err(ContractError::OtherVersion { .. })), "{error:?}");
    }

    #[test]
    fn imports_beyond_wasi_are_refused_by_name() {
        for import in
            ["evil:world/api@1.0.0", "wasi:cli/environment@0.3.0", "leveret:routing/store@0.1.0", "x"]
        {
            let text = format!("(component (import \"{import}\" (instance (export \"f\" (func)))))");
            match check_text(&text) {
                Err(ContractError::ForbiddenImport { name }) => assert_eq!(name, import),
                other => panic!("{import}: {other:?}"),
            }
        }
        let wasi = "(component (import \"wasi:cli/environment@0.2.6\" (instance (export \"f\" (func)))))";
        assert_eq!(check_text(wasi), Err(ContractError::NoExchangeType));
    }
}
