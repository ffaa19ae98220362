//! Imports a function that is neither WASI's nor the contract's, and calls it for the routing key
//! `open`.
#![cfg(target_family = "wasm")]

#[link(wasm_import_module = "acme:secrets/vault@1.0.0")]
unsafe extern "C" {
    #[link_name = "open-door"]
    fn open_door();
}

/// The encoded type of the world in `wit/stranger`.
const WORLD: &[u8] = include_bytes!("../generated/stranger.bin");

/// A section of its own; the linker joins the worlds.
#[unsafe(link_section = "component-type:stranger")]
pub static STRANGER: [u8; WORLD.len()] = {
    let mut bytes = [0; WORLD.len()];
    bytes.copy_from_slice(WORLD);
    bytes
};

leveret_guests_hostile::misbehaving!("x-imports-a-stranger", route(message, to) {
    if message.routing_key() == b"open" {
        // SAFETY: it takes and gives nothing.
        unsafe { open_door() };
    }
});

leveret_sdk::export!(Guest);
