//! Holds the table of rooms in `host/ARCHITECTURE.md` against the manifests.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

fn allowed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = text.lines().filter(|line| line.starts_with("| leveret-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [package, _place, _purpose, uses] = cells[..] else { panic!("a row without four cells: {row}") };
        (package.to_owned(), uses.split(',').map(|used| used.trim().to_owned()).collect())
    })
    .collect()
}

fn metadata(root: &Path) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

#[test]
fn rooms_use_what_the_table_allows_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table =
        allowed(&std::fs::read_to_string(root.join("host/ARCHITECTURE.md")).expect("the document is there"));
    let metadata = metadata(&root);
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name").to_owned();
        let manifest = package["manifest_path"].as_str().expect("a path");
        let is_room = ["/host/", "/sdk/", "/plugins/"].iter().any(|room| manifest.contains(room));
        if !is_room {
            continue;
        }
        let allowed = table.get(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let used: BTreeSet<String> = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(&used, allowed, "what {name} uses, and what the table says");
        seen.insert(name);
    }
    let in_table: BTreeSet<String> = table.into_keys().collect();
    assert_eq!(seen, in_table, "packages that are there, and packages in the table");
}

#[test]
fn paths_named_in_the_document_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("host/ARCHITECTURE.md")).expect("the document is there");
    let mut checked = 0;
    for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains('/')) {
        assert!(root.join(quoted).exists(), "{quoted} is named in host/ARCHITECTURE.md and does not exist");
        checked += 1;
    }
    assert!(checked > 10, "only {checked} paths were found in the document");
}
