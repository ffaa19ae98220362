//! WASI 0.2 as an empty room.
//!
//! A plugin's language wants WASI: its standard library asks for a hash seed, an
//! environment, a place for error messages. A plugin gets just enough of that to
//! run, and nothing that reaches out of its instance:
//!
//! | interface | what a plugin finds |
//! |---|---|
//! | `cli/environment`, `filesystem/preopens` | no variables, no arguments, no directories |
//! | `cli/stdin`, `cli/terminal-*` | an input that is at its end, and no terminal |
//! | `cli/stdout`, `cli/stderr` | the broker's log, a limited number of lines a second ([`output`]) |
//! | `cli/exit` | a trap that names the status |
//! | `clocks/*` | monotonic time 0, wall-clock time 1970-01-01; waiting ends at once |
//! | `random/*` | a fixed stream, seeded by the digest of the plugin's file ([`random`]) |
//! | everything else | a trap that names the import |
//!
//! What is not here: any other import. Whether a component may have those is for the
//! check of its contract to say; [`is_wasi`] tells the two apart.
//!
//! In goes a component's list of imports; out come definitions in its linker. At run
//! time the state of an instance is its [`WasiState`], reached through [`HasWasi`].
//!
//! Invariants:
//! - Nothing here depends on the machine, the clock or chance, but for the moment at
//!   which a log line is let through: two instances of one file that are called alike
//!   are answered alike.
//! - No call makes the host's memory grow: resources are fixed numbers without a table
//!   behind them, lists are limited in length by the constants of [`functions`].
//!   How many handles a guest holds, and how large a list the host lifts before it sees
//!   it, are limits of the store (`set_max_component_handles`, `set_hostcall_fuel`).
//!
//! Read first: [`link`], then `functions.rs`, which is the table above as code.

mod functions;
mod output;
mod random;
#[cfg(test)]
mod tests;
mod trap;

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use crate::policy::PluginPolicy;
use output::Output;
use random::RandomStream;
pub(crate) use trap::WasiTrap;

/// What WASI remembers for one instance of a plugin.
pub(crate) struct WasiState {
    output: Output,
    random: RandomStream,
}

impl WasiState {
    /// The state of a new instance of the plugin with that policy, whose file has the
    /// SHA-256 `digest`.
    pub(crate) fn new(policy: &PluginPolicy, digest: [u8; 32]) -> Self {
        Self { output: Output::new(policy), random: RandomStream::new(digest) }
    }
}

impl WasiState {
    /// A call of the plugin begins.
    pub(crate) fn begin_call(&mut self) {
        self.output.begin_call();
    }

    /// The end of what the plugin wrote to standard error in this call.
    pub(crate) fn said(&self) -> Option<String> {
        self.output.said()
    }
}

/// Implemented by what a store holds, so that WASI finds its state there.
pub(crate) trait HasWasi {
    /// The state of WASI for the instance in this store.
    fn wasi(&mut self) -> &mut WasiState;
}

/// What every WASI resource is to the host: a number that says which stream it is, or
/// nothing. It owns nothing, so dropping one does nothing.
enum Inert {}

/// Is this the name of an import that [`link`] defines: a `wasi:` interface of a version
/// 0.2.x?
pub(crate) fn is_wasi(import_name: &str) -> bool {
    interface_of(import_name).is_some()
}

/// `cli/stdout` for `wasi:cli/stdout@0.2.3`, nothing for what is not WASI 0.2.
fn interface_of(import_name: &str) -> Option<&str> {
    let (interface, version) = import_name.strip_prefix("wasi:")?.split_once('@')?;
    (version == "0.2" || version.starts_with("0.2.")).then_some(interface)
}

/// Defines in `linker` each import of `component` for which [`is_wasi`] holds, with the
/// type the component gives it; one linker serves one component.
///
/// # Errors
/// When an import is of a kind that no WASI 0.2 interface contains (a module, a
/// component), or is defined in `linker` already.
pub(crate) fn link<T: HasWasi + 'static>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    let engine = component.engine();
    for (name, import) in component.component_type().imports(engine) {
        let Some(interface) = interface_of(name) else {
            continue;
        };
        match import.ty {
            ComponentItem::ComponentInstance(instance) => {
                let mut target = linker.instance(name)?;
                for (item_name, item) in instance.exports(engine) {
                    define(&mut target, name, interface, item_name, &item.ty)?;
                }
            }
            item => define(&mut linker.root(), name, "", name, &item)?,
        }
    }
    Ok(())
}

/// Defines one item of one interface; `import` and `item_name` together name it in
/// errors, `interface` and `item_name` find it in the table of functions.
fn define<T: HasWasi + 'static>(
    target: &mut LinkerInstance<'_, T>,
    import: &str,
    interface: &str,
    item_name: &str,
    item: &ComponentItem,
) -> wasmtime::Result<()> {
    match item {
        ComponentItem::Resource(_) => {
            target.resource(item_name, ResourceType::host::<Inert>(), |_, _| Ok(()))
        }
        ComponentItem::ComponentFunc(_) => {
            let name: Arc<str> = format!("{import}#{item_name}").into();
            match functions::find::<T>(interface, item_name) {
                Some(function) => target.func_new(item_name, move |store, _, params, results| {
                    functions::call(function, &name, store, params, results)
                }),
                None => target.func_new(item_name, move |_, _, _, _| {
                    Err(WasiTrap::NotProvided { import: name.clone() }.into())
                }),
            }
        }
        // Types other than resources need no definition.
        ComponentItem::Type(_) => Ok(()),
        ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::ComponentInstance(_) => {
            wasmtime::bail!("the import {import}#{item_name} is of a kind that WASI 0.2 does not have")
        }
    }
}
