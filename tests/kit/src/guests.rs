//! The components that tests put into a broker: those of `tests/guests` and the plugins among
//! `examples`, built from source by the test command itself, so that none goes stale.

use crate::process;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// What guests are compiled to.
const TARGET: &str = "wasm32-wasip2";

/// From nothing, on a slow machine.
pub(crate) const BUILD_MAX: Duration = Duration::from_secs(900);

/// The packages whose components are made, below the root of the workspace.
const PACKAGES: [&str; 3] = ["leveret-guests-hostile", "leveret-guests-peaceful", "example-02-exchange-type"];

/// A component by the name of its file: that of a file in `tests/guests/*/guests` (`loops`), or
/// `example_02_exchange_type`.
///
/// The first call of a test process builds all of them with one cargo command (which finds nothing
/// to do if another test process was first). Panics with cargo's words when that fails.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(build_all);
    // The guests are example targets of their packages, the example is a library.
    let places = [directory.join("examples"), directory.clone()];
    let found =
        places.iter().map(|place| place.join(name).with_extension("wasm")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no component {name} in {}", directory.display()))
}

fn build_all() -> PathBuf {
    // A target directory of its own: the outer cargo may hold the lock of the usual one.
    let target = crate::target_directory().join("guests");
    fs::create_dir_all(&target).expect("a directory for the guests");
    let lock = File::create(target.join("build.lock")).expect("a lock file");
    lock.lock().expect("the lock on the guests' build");

    let mut cargo = cargo();
    cargo.current_dir(crate::workspace());
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "--lib", "--examples"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    cargo.env("CARGO_TARGET_DIR", &target);
    let finished = process::run(&mut cargo, BUILD_MAX).expect("cargo is there: it runs this test");
    assert!(
        finished.status.success(),
        "the guests do not build; if the target is missing: rustup target add {TARGET}\n{}",
        finished.report()
    );
    target.join(TARGET).join("release")
}

/// The cargo that runs this test, for a build that inherits nothing of the one that it belongs to.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(belongs_to_the_outer_build) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Variables by which a cargo tells its own children about a build that is not this one: flags for
/// another target, wrappers, profiles.
fn belongs_to_the_outer_build(name: &str) -> bool {
    const NAMES: [&str; 5] = [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
    ];
    const PREFIXES: [&str; 6] =
        ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_MANIFEST_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_is_not_inherited() {
        assert!(belongs_to_the_outer_build("RUSTFLAGS"));
        assert!(belongs_to_the_outer_build("CARGO_PROFILE_DEV_DEBUG"));
        assert!(!belongs_to_the_outer_build("CARGO_HOME"));
        assert!(!belongs_to_the_outer_build("RUSTUP_TOOLCHAIN"));
    }
}
