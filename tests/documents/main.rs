//! The examples of the documents are what they say: WIT goes with the contract, configurations are taken,
//! commands are there with their arguments, code is compiled or read by its language. (The README's commands
//! are run too, by the suite `readme`; what stands in the documentation of the SDK, `cargo test` compiles.)
//!
//! `blocks` finds them, `checks` says what is wrong with one.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocks;
mod checks;

use blocks::{Block, inline_code, split};
use leveret_testkit::workspace;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The documents, with how many blocks each must have at least, so that none is overlooked.
fn documents() -> Vec<(PathBuf, usize)> {
    let root = workspace();
    let mut documents: Vec<(PathBuf, usize)> =
        [("README.md", 20), ("wit/CONTRACT.md", 2), ("host/ARCHITECTURE.md", 0)]
            .map(|(name, blocks)| (root.join(name), blocks))
            .into();
    let examples = fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(
        examples.map(|folder| folder.join("README.md")).filter(|file| file.is_file()).map(|f| (f, 3)),
    );
    documents
}

/// What is wrong with a document, each with its place.
fn faults(path: &Path, text: &str, blocks_min: usize) -> Vec<String> {
    let (blocks, prose) = match split(text) {
        Ok(split) => split,
        Err(why) => return vec![format!("{}: {why}", path.display())],
    };
    let mut faults = Vec::new();
    if blocks.len() < blocks_min {
        faults.push(format!("{}: only {} blocks were found", path.display(), blocks.len()));
    }
    for block in &blocks {
        if let Err(why) = checks::block(block) {
            faults.push(format!("{}:{}: {why}", path.display(), block.line));
        }
    }
    for code in inline_code(&prose).iter().filter(|code| code.starts_with("leveret ")) {
        faults.extend(checks::command(code).err().map(|why| format!("{}: {why}", path.display())));
    }
    let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    faults.extend(
        links
            .filter_map(|target| checks::link(path, target).err())
            .map(|why| format!("{}: {why}", path.display())),
    );
    faults
}

#[test]
fn every_example_of_the_documents_holds() {
    let documents = documents();
    assert!(documents.len() >= 7, "{documents:?}");
    let faults: Vec<String> = documents
        .iter()
        .flat_map(|(path, blocks_min)| faults(path, &fs::read_to_string(path).unwrap(), *blocks_min))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// An example that is broken is found, whatever it is of.
#[test]
fn broken_examples_are_found() {
    let broken = [
        (
            "wit",
            "package my:plugins;\nworld w { include leveret:routing/exchange-typo-plugin@0.2.0; }",
            "exchange-typo",
        ),
        ("wit", "package my:plugins;\nworld w {", "expected"),
        ("rust", "fn route(&mut self) -> Decision {\n    Decision::Deliver\n}", "no example"),
        ("toml", "[plugins.a]\ngrnats = []", "grnats"),
        ("toml", "[[intercept]]\ninterceptor = \"a\"\npoint = \"publish\"", "order"),
        ("toml", "[dependencies]\nleveret-sdk = { path = \"../leveret/sdk/rsut\" }", "rsut"),
        ("python", "channel.exchange_declare(", "SyntaxError"),
        ("js", "await channel.publish(", "SyntaxError"),
        ("sh", "cargo run --release -- plugin lsit", "lsit"),
        ("sh", "cargo bench -p leveret-benches --bench bonudary", "bonudary"),
        ("sh", "examples/04-python/biuld.sh", "not there"),
        ("sh", "wasm-tools component embed wit/0.2.0 --world exchange-typo-plugin a.wasm", "exchange-typo"),
        ("sh", "leverte plugin list", "neither"),
        ("console", "$ leveret plugin canary x --precent 5", "--precent"),
        ("text", "$ leveret exchange set orders\n$ leveret hold lsit", "lsit"),
        ("ruby", "puts 1", "no language"),
        ("", "what?", "no language"),
    ];
    for (language, text, why) in broken {
        let block = Block { line: 1, language: language.to_owned(), text: format!("{text}\n") };
        let error = checks::block(&block).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let path = workspace().join("README.md");
    let document = "`leveret plugin lsit` and [there](wit/CONTRCAT.md)\n```sh\ncargo test --workspace\n";
    assert!(faults(&path, document, 0)[0].contains("no end"));
    let found = faults(&path, &format!("{document}```\n"), 2);
    assert_eq!(found.len(), 3, "{found:?}");
}
