//! Makes the SDK's generated files from a folder of WIT.
//!
//! ```text
//! cargo run --manifest-path sdk/rust/regenerate/Cargo.toml
//! ```
//! makes `sdk/rust/generated/` from `wit/`. Run it after every change in `wit/`; a test of the SDK
//! compares the digest written here with the folder. The files are kept in the repository because
//! the generator takes longer to compile than everything a plugin's author builds otherwise.
//!
//! ```text
//! cargo run --manifest-path sdk/rust/regenerate/Cargo.toml -- WIT-FOLDER WORLD FILE
//! ```
//! writes only the encoded type of one world to a file, for a component with hand-written exports.

use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
};
use wit_bindgen_core::{
    Files, WorldGenerator,
    wit_parser::{Resolve, WorldId},
};
use wit_component::StringEncoding;

/// The world whose functions the generated Rust exports.
const PLAIN_WORLD: &str = "exchange-type-plugin";
/// The world whose type the components carry; the SDK writes its other export by hand.
const WHOLE_WORLD: &str = "exchange-type-batch-plugin";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => sdk(),
        [wit, world, file] => write_world_type(Path::new(wit), world, Path::new(file)),
        _ => bail!("no arguments, or three: WIT-FOLDER WORLD FILE"),
    }
}

fn sdk() -> Result<()> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wit = sdk.join("../../wit/0.1.0");
    let generated = sdk.join("generated");
    write_bindings(&wit, &generated.join("exchange_type_plugin.rs"))?;
    write_world_type(
        &wit,
        WHOLE_WORLD,
        &generated.join("exchange-type-batch-plugin.bin"),
    )?;
    write_world_type(&wit, PLAIN_WORLD, &generated.join("exchange-type-plugin.bin"))?;
    let digest = digest(&wit)?;
    fs::write(generated.join("wit-digest.txt"), format!("{digest:016x}\n")).context("writing the digest")
}

fn write_bindings(wit: &Path, file: &Path) -> Result<()> {
    let (mut resolve, world) = load(wit, PLAIN_WORLD)?;
    let options = wit_bindgen_rust::Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        runtime_path: Some(String::from("crate::wit_bindgen_rt")),
        ..Default::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, source) = files.iter().next().context("the generator made no file")?;
    fs::write(file, source).with_context(|| format!("writing {}", file.display()))
}

fn write_world_type(wit: &Path, world: &str, file: &Path) -> Result<()> {
    let (resolve, world) = load(wit, world)?;
    let bytes = wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None)?;
    fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}

fn load(wit: &Path, world: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}

/// FNV-1a over the .wit files in the order of their names. The SDK's test computes the same.
fn digest(wit: &Path) -> Result<u64> {
    let mut paths = fs::read_dir(wit)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wit"));
    paths.sort();
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for path in paths {
        for byte in fs::read(&path)? {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(digest)
}
