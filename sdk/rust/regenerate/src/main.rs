//! Makes the SDK's generated files from a folder of WIT.
//!
//! ```text
//! cargo run --manifest-path sdk/rust/regenerate/Cargo.toml
//! ```
//! makes `sdk/rust/generated/` from `wit/`. Run it for a new version of the contract; a test of the SDK
//! compares the digest written here with the folder. The files are kept in the repository because
//! the generator takes longer to compile than everything a plugin's author builds otherwise.
//!
//! The Rust is made from one world with everything in it. The encoded types that a component carries
//! come in pieces, one for each interface it may export, for it must not say that it exports what it does
//! not. What it imports the Rust says by itself, all of it; the linker leaves out what is not called.
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

/// The version of the contract that the SDK speaks.
const VERSION: &str = "0.2.0";
/// The interfaces that a component may export, and the one that each wants beside it.
const EXPORTS: [(&str, Option<&str>); 10] = [
    ("exchange-type", None),
    ("exchange-type-batch", None),
    ("exchange-type-marks", None),
    ("exchange-type-events", None),
    ("exchange-type-timers", None),
    ("exchange-type-info", None),
    ("exchange-type-reconfigure", Some("exchange-type")),
    ("exchange-type-migrate", None),
    ("interceptor", None),
    ("interceptor-batch", None),
];
/// Those that the SDK exports by hand.
const BY_HAND: [&str; 2] = ["route-batch", "intercept-batch"];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => sdk(),
        [wit, world, file] => {
            let mut resolve = Resolve::default();
            let (package, _) = resolve.push_path(Path::new(wit))?;
            let world = resolve.select_world(&[package], Some(world))?;
            write_world_type(&resolve, world, Path::new(file))
        }
        _ => bail!("no arguments, or three: WIT-FOLDER WORLD FILE"),
    }
}

fn sdk() -> Result<()> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wit = sdk.join("../../wit").join(VERSION);
    let generated = sdk.join("generated");
    let whole = ["whole-exchange-type", "whole-interceptor"]
        .map(|world| format!("include leveret:routing/{world}@{VERSION};"))
        .concat();
    write_bindings(load(&wit, "plugin", &whole)?, &generated.join("plugin.rs"))?;
    for (interface, beside) in EXPORTS {
        let export = |interface: &str| format!("export leveret:routing/{interface}@{VERSION};");
        let body = beside.map(export).unwrap_or_default() + &export(interface);
        let (resolve, world) = load(&wit, &format!("exports-{interface}"), &body)?;
        write_world_type(&resolve, world, &generated.join(format!("{interface}.bin")))?;
    }
    let digest = digest(&wit)?;
    fs::write(generated.join("wit-digest.txt"), format!("{digest:016x}\n")).context("writing the digest")
}

fn write_bindings((mut resolve, world): (Resolve, WorldId), file: &Path) -> Result<()> {
    let options = wit_bindgen_rust::Opts {
        format: true,
        generate_all: true,
        pub_export_macro: true,
        skip: BY_HAND.map(String::from).to_vec(),
        runtime_path: Some(String::from("crate::wit_bindgen_rt")),
        ..Default::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, source) = files.iter().next().context("the generator made no file")?;
    fs::write(file, source).with_context(|| format!("writing {}", file.display()))
}

fn write_world_type(resolve: &Resolve, world: WorldId, file: &Path) -> Result<()> {
    let bytes = wit_component::metadata::encode(resolve, world, StringEncoding::UTF8, None)?;
    fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}

/// The contract, and a world of the SDK's own with this in it.
fn load(wit: &Path, world: &str, body: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    resolve.push_path(wit)?;
    let source = format!("package leveret:sdk; world {world} {{ {body} }}");
    let package = resolve.push_str("sdk.wit", &source)?;
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
