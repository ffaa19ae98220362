//! Compiles the exchange types we ship to components and embeds them.
//!
//! In: `plugins/*`, `sdk/`, `wit/`, the lock file. Out, in `OUT_DIR`: for each built-in its
//! component (`<name>.wasm`) and the machine code of it (`<name>.cwasm`), and `builtins.rs`,
//! which `src/builtin.rs` includes; and `LEVERET_TARGET`, the triple that both the machine
//! code and the broker's engines are made for.
//!
//! The components are built by a second cargo inside this one. What makes that work:
//! - It has a target directory of its own. The outer cargo holds the lock of its own
//!   directory while this script runs, so the inner one would wait for it for ever.
//! - It inherits nothing that is meant for the outer build: no flags, no wrappers (clippy's
//!   among them), no profile. Its profile is [`PROFILE`].
//! - The WASM target is added through rustup where it is missing.
//!
//! The machine code is made with the very function that configures the broker's engines.
//! A broker that refuses it all the same compiles the component anew at its start.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, exit};

#[allow(dead_code, unreachable_pub, reason = "the broker uses all of it")]
#[path = "src/engine/config.rs"]
mod config;

/// The built-ins by name: `plugins/<name>` holds the package `leveret-exchange-<name>`, which has a type of that name
/// (and `x-random` another).
const BUILTINS: [&str; 11] = [
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-delayed-message",
    "x-message-deduplication",
    "x-recent-history",
    "x-lvc",
    "x-modulus-hash",
    "x-consistent-hash",
    "x-random",
];

const WASM_TARGET: &str = "wasm32-wasip2";

/// How the components are compiled, whatever the profile of the outer build: they are
/// called for every message, and loaded at every start.
const PROFILE: [&str; 9] = [
    "profile.release.opt-level=3",
    "profile.release.lto='fat'",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
    "profile.release.strip=true",
    "profile.release.debug=false",
    "profile.release.overflow-checks=false",
    // Macros run once; optimising them takes longer than running them.
    "profile.release.build-override.opt-level=0",
    "profile.release.build-override.codegen-units=256",
];

/// What changes the components, seen from the workspace.
const INPUTS: [&str; 6] = ["plugins", "sdk", "wit", "Cargo.lock", "Cargo.toml", "rust-toolchain.toml"];

/// Why the built-ins are not there.
enum Failure {
    /// One line that says what to do.
    Advice(String),
    /// The output of a tool, to be shown as it is.
    Report(String),
}

fn main() {
    match build() {
        Ok(()) => {}
        // Cargo shows this line and nothing around it, and fails the build.
        Err(Failure::Advice(line)) => println!("cargo::error={}", line.replace('\n', " ")),
        // Cargo shows all that a script wrote when it exits with an error.
        Err(Failure::Report(text)) => {
            eprintln!("{text}");
            exit(1);
        }
    }
}

fn build() -> Result<(), Failure> {
    let root = workspace_root()?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/engine/config.rs");
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?;
    println!("cargo::rustc-env=LEVERET_TARGET={target}");

    ensure_wasm_target(&root)?;
    let components = build_components(&root, &inner_target_dir(&out_dir))?;
    let engine = engine(&target);
    for (name, file) in BUILTINS.iter().zip(&components) {
        let component = fs::read(file).map_err(|error| failed("read", file, &error))?;
        write(&out_dir.join(format!("{name}.cwasm")), &precompile(engine.as_ref(), name, &component)?)?;
        write(&out_dir.join(format!("{name}.wasm")), &component)?;
    }
    write(&out_dir.join("builtins.rs"), builtins_source().as_bytes())
}

/// The expression that `src/builtin.rs` includes: an array of `Builtin`.
fn builtins_source() -> String {
    let entries = BUILTINS.map(|name| {
        format!(
            "Builtin {{ name: {name:?}, \
             component: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.wasm\")), \
             precompiled: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.cwasm\")) }},\n"
        )
    });
    format!("&[\n{}]\n", entries.concat())
}

/// The engine that compiles ahead for `target`; none where this machine's wasmtime cannot,
/// which costs the broker a compilation at its start.
fn engine(target: &str) -> Option<wasmtime::Engine> {
    let engine = config::config(config::CodeStrategy::Cranelift, Some(target))
        .and_then(|config| wasmtime::Engine::new(&config));
    engine
        .inspect_err(|error| {
            println!("cargo::warning=no exchange type is compiled ahead for {target}: {error:#}");
        })
        .ok()
}

/// The machine code of `component`, or nothing without an engine.
fn precompile(engine: Option<&wasmtime::Engine>, name: &str, component: &[u8]) -> Result<Vec<u8>, Failure> {
    let Some(engine) = engine else {
        return Ok(Vec::new());
    };
    engine
        .precompile_component(component)
        .map_err(|error| Failure::Report(format!("the exchange type {name} is no good component: {error:#}")))
}

/// Compiles the built-ins and returns their components' files, in the order of [`BUILTINS`].
fn build_components(root: &Path, target_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    isolate(&mut cargo, root);
    cargo.current_dir(root);
    cargo.args(["build", "--release", "--locked", "--target", WASM_TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    // A user's configuration may keep what is in between elsewhere, shared with the outer build.
    cargo.env("CARGO_BUILD_BUILD_DIR", target_dir);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    for name in BUILTINS {
        cargo.args(["--package", &format!("leveret-exchange-{name}")]);
    }
    let output = run(&mut cargo)?;
    if !output.status.success() {
        let report = String::from_utf8_lossy(&output.stderr);
        // The inner cargo's own words are about a flag that nobody here typed.
        if report.contains("--locked was passed") {
            return Err(Failure::Advice(
                "Cargo.lock does not fit the manifests of this workspace; run `cargo update --workspace` and build again"
                    .into(),
            ));
        }
        return Err(Failure::Report(format!("the built-in exchange types do not compile:\n\n{report}")));
    }
    let release_dir = target_dir.join(WASM_TARGET).join("release");
    let file = |name: &str| format!("leveret_exchange_{}.wasm", name.replace('-', "_"));
    Ok(BUILTINS.map(|name| release_dir.join(file(name))).into())
}

/// Takes from `cargo`'s environment what the outer build left there for itself.
fn isolate(cargo: &mut Command, root: &Path) {
    const NAMES: [&str; 4] = ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR"];
    // `RUSTC` stays: it is the compiler that cargo chose, without any wrapper.
    const PREFIXES: [&str; 4] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_CFG_", "CARGO_FEATURE_"];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    // Given, this is all the flags there are, whatever a user's configuration says. Paths of
    // this machine are kept out of the components, so that they come out alike everywhere.
    let cargo_home =
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut flags = OsString::new();
    for (path, name) in [(cargo_home.as_deref(), "cargo"), (Some(root), "leveret")] {
        let Some(path) = path else { continue };
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
}

/// `<target>/plugins`, where `OUT_DIR` is `<target>/<profile>/build/<package>/out`.
fn inner_target_dir(out_dir: &Path) -> PathBuf {
    let build_dir = out_dir.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "build"));
    let target_dir = build_dir.and_then(|dir| dir.parent()?.parent());
    target_dir.unwrap_or(out_dir).join("plugins")
}

/// Adds the WASM target to the toolchain in use, if it is not there.
///
/// Not left to `rust-toolchain.toml`: rustup does not read its list of targets where it was
/// told to install nothing by itself, nor where another toolchain is asked for.
fn ensure_wasm_target(root: &Path) -> Result<(), Failure> {
    if has_wasm_target(root)? {
        return Ok(());
    }
    let mut arguments = vec!["target".to_owned(), "add".to_owned(), WASM_TARGET.to_owned()];
    let sysroot = PathBuf::from(rustc(root, &["--print", "sysroot"])?);
    // rustup's own toolchains lie in a directory of that name, under their names.
    let installed_by_rustup = sysroot.parent().is_some_and(|dir| dir.ends_with("toolchains"));
    if let (true, Some(toolchain)) = (installed_by_rustup, sysroot.file_name()) {
        arguments.extend(["--toolchain".to_owned(), toolchain.to_string_lossy().into_owned()]);
    }
    let command = format!("rustup {}", arguments.join(" "));
    let mut rustup = Command::new("rustup");
    rustup.args(&arguments).current_dir(root).env("RUST_BACKTRACE", "0");
    let reason = match rustup.output() {
        Ok(output) if output.status.success() && has_wasm_target(root)? => return Ok(()),
        Ok(output) if output.status.success() => "rustup says it is".to_owned(),
        Ok(output) => first_error(&output.stderr),
        Err(error) => format!("rustup does not start: {error}"),
    };
    Err(Failure::Advice(format!(
        "the Rust target {WASM_TARGET} is not installed; run `{command}` and build again ({reason})"
    )))
}

/// Whether the compiler in use finds a standard library for WASM.
fn has_wasm_target(root: &Path) -> Result<bool, Failure> {
    let library_dir = rustc(root, &["--print", "target-libdir", "--target", WASM_TARGET])?;
    let Ok(files) = fs::read_dir(library_dir) else {
        return Ok(false);
    };
    Ok(files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// The line that the compiler in use prints.
fn rustc(root: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = run(rustc.args(arguments).current_dir(root))?;
    if !output.status.success() {
        return Err(Failure::Report(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs `command` to its end and keeps what it prints.
fn run(command: &mut Command) -> Result<Output, Failure> {
    command.output().map_err(|error| {
        Failure::Advice(format!("{} does not start: {error}", command.get_program().display()))
    })
}

/// The line in which rustup says what went wrong.
fn first_error(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find(|line| line.starts_with("error")).or(text.lines().last());
    line.unwrap_or("rustup fails without a word").to_owned()
}

/// The directory with `plugins`, `sdk` and `wit`.
fn workspace_root() -> Result<PathBuf, Failure> {
    let package_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = package_dir.ancestors().nth(2);
    root.map(Path::to_owned)
        .ok_or_else(|| Failure::Advice(format!("{} lies in no workspace", package_dir.display())))
}

/// A variable that cargo sets for build scripts.
fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|error| Failure::Advice(format!("cargo gave no {name}: {error}")))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(file, bytes).map_err(|error| failed("write", file, &error))
}

fn failed(action: &str, file: &Path, error: &dyn Error) -> Failure {
    Failure::Advice(format!("cannot {action} {}: {error}", file.display()))
}
