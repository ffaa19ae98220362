//! Whether an example is what its language, its program or its package takes. Each says why not.

use crate::blocks::{Block, commands};
use leveret_server::config::{Config, Settings};
use leveret_testkit::{EVENT_WAIT_MAX, ScratchDirectory, process, workspace};
use std::{fs, path::Path, process::Command, sync::LazyLock};

/// Programs that are no part of this tree: what is said of them is theirs to keep.
const FOREIGN: [&str; 13] = [
    "cp",
    "curl",
    "rustup",
    "wasm-tools",
    "componentize-py",
    "npm",
    "npx",
    "wit-bindgen",
    "wit-bindgen-go",
    "go",
    "mkdir",
    "git",
    "sed",
];

/// Checks a block by its language.
pub(crate) fn block(block: &Block) -> Result<(), String> {
    match block.language.as_str() {
        "wit" => wit(&block.text),
        "rust" => rust(&block.text),
        "toml" => toml(&block.text),
        "python" => by_program(
            "python3",
            &["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"],
            "py",
            &block.text,
        ),
        "js" => by_program("node", &["--check"], "mjs", &block.text),
        "sh" | "console" => commands(&block.text).iter().try_for_each(|line| command(line)),
        // What a program says, or a session.
        "text" if block.text.starts_with("$ ") => {
            commands(&block.text).iter().try_for_each(|line| command(line))
        }
        "text" => Ok(()),
        other => Err(format!("'{other}' is no language that examples are checked for")),
    }
}

/// WIT that goes with the contract's files.
fn wit(text: &str) -> Result<(), String> {
    let mut resolve = contract();
    resolve.push_str("example.wit", text).map(drop).map_err(|error| format!("{error:#}"))
}

/// The newest version of the contract.
fn contract() -> wit_parser::Resolve {
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(workspace().join("wit/0.2.0")).expect("the contract's files are WIT");
    resolve
}

/// Rust that stands like this in an example, which the workspace compiles.
fn rust(text: &str) -> Result<(), String> {
    let examples = fs::read_dir(workspace().join("examples")).expect("there are examples");
    let sources = examples.filter_map(|entry| {
        let source = entry.ok()?.path().join("src");
        let file = ["lib.rs", "main.rs"].iter().map(|name| source.join(name)).find(|file| file.is_file())?;
        fs::read_to_string(file).ok()
    });
    let lines = |text: &str| -> Vec<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let wanted = lines(text.trim());
    for source in sources {
        if lines(&source).windows(wanted.len()).any(|there| there == wanted) {
            return Ok(());
        }
    }
    Err(String::from("no example in examples/ has these lines"))
}

/// A configuration that the broker takes, or the manifest of a crate.
fn toml(text: &str) -> Result<(), String> {
    let scratch = ScratchDirectory::new("example");
    if text.contains("[dependencies]") {
        return manifest(scratch.path(), text);
    }
    let file = scratch.path().join("leveret.toml");
    fs::write(&file, text).expect("a file");
    let mut settings = Settings::read(&file).map_err(|error| format!("{error:#}"))?;
    // An example of tables alone names virtual hosts that others declare.
    let named = settings.vhost.keys().cloned();
    let attached = settings.intercept.iter().filter_map(|table| table.get_ref().vhost.clone());
    let named: Vec<String> = named.chain(attached).collect();
    settings.vhosts.get_or_insert_with(|| if named.is_empty() { vec!["/".to_owned()] } else { named });
    Config::try_from(settings).map(drop).map_err(|error| format!("{error:#}"))
}

/// A manifest of a crate beside a clone of this repository, whose dependencies are there.
fn manifest(folder: &Path, text: &str) -> Result<(), String> {
    let clone = workspace().display().to_string();
    let text = text.replace("../leveret/", &format!("{clone}/"));
    let package = "[package]\nname = \"example\"\nedition = \"2024\"\n";
    fs::create_dir(folder.join("src")).expect("a folder");
    fs::write(folder.join("src/lib.rs"), "").expect("a file");
    fs::write(folder.join("Cargo.toml"), format!("{package}\n{text}\n[workspace]\n")).expect("a file");
    fs::copy(workspace().join("Cargo.lock"), folder.join("Cargo.lock")).expect("a file");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--format-version", "1"]).current_dir(folder);
    let told = process::run(&mut cargo, EVENT_WAIT_MAX).expect("cargo is there");
    if told.status.success() { Ok(()) } else { Err(told.report()) }
}

/// Text that a program for its language reads.
fn by_program(program: &str, arguments: &[&str], extension: &str, text: &str) -> Result<(), String> {
    let scratch = ScratchDirectory::new("example");
    let file = scratch.path().join(format!("example.{extension}"));
    fs::write(&file, text).expect("a file");
    let finished = process::run(Command::new(program).args(arguments).arg(file), EVENT_WAIT_MAX);
    let finished = finished.unwrap_or_else(|| panic!("{program} is not on this machine"));
    if finished.status.success() { Ok(()) } else { Err(finished.report()) }
}

/// A command that is there, with the arguments that it takes.
pub(crate) fn command(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let checked = match words.as_slice() {
        ["leveret", arguments @ ..] | ["cargo", "run", "--release", "--", arguments @ ..] => {
            leveret(arguments)
        }
        ["cargo", arguments @ ..] => cargo(arguments),
        [script, ..] if script.contains('/') => script_is_there(script),
        [program, ..] if FOREIGN.contains(program) => world_is_there(&words),
        // A variable for one command.
        [setting, rest @ ..] if setting.contains('=') && !rest.is_empty() => return command(&rest.join(" ")),
        _ => Err(String::from("this is neither leveret's nor a known program's")),
    };
    checked.map_err(|why| format!("{line}: {why}"))
}

/// That the broker's program knows these arguments: asked for help behind them it complains of what comes
/// before and it does not know.
fn leveret(arguments: &[&str]) -> Result<(), String> {
    // `ID` stands for a number.
    let given = |word: &&str| if *word == "ID" { "1".to_owned() } else { word.replace(['"', '\''], "") };
    let arguments = arguments.iter().map(given);
    let mut program = Command::new(env!("CARGO_BIN_EXE_leveret"));
    program.args(arguments).arg("--help");
    let finished = process::run(&mut program, EVENT_WAIT_MAX).expect("the program is built");
    if finished.status.success() { Ok(()) } else { Err(finished.stderr) }
}

/// Names of packages, each with its targets.
static PACKAGES: LazyLock<Vec<(String, Vec<String>)>> = LazyLock::new(|| {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(workspace());
    let told = process::run(&mut cargo, EVENT_WAIT_MAX).expect("cargo is there");
    let told: serde_json::Value =
        serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{}", told.report()));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = told["packages"].as_array().into_iter().flatten();
    let targets = |package: &serde_json::Value| {
        package["targets"].as_array().into_iter().flatten().map(|target| text(&target["name"])).collect()
    };
    packages.map(|package| (text(&package["name"]), targets(package))).collect()
});

/// That the packages and targets of cargo's arguments are in the workspace.
fn cargo(arguments: &[&str]) -> Result<(), String> {
    // A tool from the registry.
    if arguments.first() == Some(&"install") {
        return Ok(());
    }
    for pair in arguments.windows(2) {
        let there = match pair {
            ["-p", package] => PACKAGES.iter().any(|(name, _)| name == package),
            ["--bench" | "--bin" | "--example" | "--test", target] => {
                PACKAGES.iter().any(|(_, targets)| targets.iter().any(|name| name == target))
            }
            _ => true,
        };
        if !there {
            return Err(format!("there is no {}", pair.join(" ")));
        }
    }
    Ok(())
}

fn script_is_there(script: &str) -> Result<(), String> {
    let there = workspace().join(script).is_file();
    there.then_some(()).ok_or_else(|| format!("{script} is not there"))
}

/// That a folder and a world of the contract are there, where the command of another program names them.
fn world_is_there(words: &[&str]) -> Result<(), String> {
    let folder = words.iter().find(|word| word.starts_with("wit/"));
    let Some(folder) = folder else { return Ok(()) };
    if !workspace().join(folder).is_dir() {
        return Err(format!("{folder} is not there"));
    }
    let named = words.windows(2).find(|pair| pair[0] == "--world").map(|pair| pair[1]);
    let worlds = contract();
    let is_there = |name: &str| worlds.worlds.iter().any(|(_, world)| world.name == name);
    match named {
        Some(name) if !is_there(name) => Err(format!("there is no world {name}")),
        _ => Ok(()),
    }
}

/// That what a document points to is there.
pub(crate) fn link(from: &Path, target: &str) -> Result<(), String> {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || path.contains("://") {
        return Ok(());
    }
    let there = from.parent().is_some_and(|folder| folder.join(path).exists());
    there.then_some(()).ok_or_else(|| format!("({target}) is not there"))
}
