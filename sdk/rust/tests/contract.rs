//! The folders of the contract are what they were when they were frozen, and the SDK's generated files
//! were made from the current one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

/// FNV-1a over the .wit files in the order of their names. `regenerate` computes the same.
fn digest(folder: &Path) -> String {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wit"));
    paths.sort();
    let bytes = paths.iter().flat_map(|path| fs::read(path).unwrap());
    let digest = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{digest:016x}")
}

#[test]
fn generated_files_are_fresh() {
    assert_eq!(
        include_str!("../generated/wit-digest.txt").trim(),
        digest(&wit().join("0.2.0")),
        "wit/0.2.0 changed: cargo run --manifest-path sdk/rust/regenerate/Cargo.toml"
    );
}

/// `wit/frozen.txt` has a line for each version that is released: its number and its digest. A version
/// without a line can still change; no other folder is there.
#[test]
fn frozen_versions_do_not_change() {
    let frozen = fs::read_to_string(wit().join("frozen.txt")).unwrap();
    let frozen: Vec<(&str, &str)> = frozen.lines().filter_map(|line| line.split_once(' ')).collect();
    for (version, expected) in &frozen {
        assert_eq!(digest(&wit().join(version)), *expected, "wit/{version} is released and may not change");
    }
    let folders = fs::read_dir(wit()).unwrap().map(|entry| entry.unwrap()).filter(|e| e.path().is_dir());
    for folder in folders {
        let name = folder.file_name().into_string().unwrap();
        assert!(
            name == "0.2.0" || frozen.iter().any(|(version, _)| *version == name),
            "wit/{name} is neither the current version nor frozen"
        );
    }
}
