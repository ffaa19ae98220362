//! Exports `leveret:routing/exchange-type@9.9.9`, a version of the contract that does not exist.
#![cfg(target_family = "wasm")]

/// The encoded type of the world in `wit/wrong-version`.
const WORLD: &[u8] = include_bytes!("../generated/wrong-version.bin");

/// What tells the linker what this component exports.
#[unsafe(link_section = "component-type:wrong-version")]
pub static WRONG_VERSION: [u8; WORLD.len()] = {
    let mut bytes = [0; WORLD.len()];
    bytes.copy_from_slice(WORLD);
    bytes
};

static DESCRIPTION: &str = "from another time";

/// Address and length of the description.
#[unsafe(export_name = "leveret:routing/exchange-type@9.9.9#describe")]
extern "C" fn describe() -> *const &'static str {
    &raw const DESCRIPTION
}
