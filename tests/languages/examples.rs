//! The examples: how each is built, what it makes, and what its plugins are granted.

use leveret_testkit::{Broker, ScratchDirectory, log_lines, process, workspace};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For a whole build: it downloads, so it may take a while on a slow line.
const BUILD_MAX: Duration = Duration::from_secs(600);

/// Until a large component serves: a broker built for debugging compiles it on a busy machine.
const SERVES_MAX: Duration = Duration::from_secs(120);

/// The exchange that the example's interceptor is attached to.
pub(crate) const INTERCEPTED: &str = "intercepted";

/// An example in a language other than Rust.
pub(crate) struct Example {
    /// Its folder below `examples`.
    folder: &'static str,
    /// Programs without which it cannot be built.
    programs: &'static [&'static str],
    /// What it makes: an exchange type, then an interceptor.
    components: [&'static str; 2],
    /// The plugin and what it is granted.
    grant: Option<(&'static str, &'static str)>,
    /// The interceptor and the arguments of its attachment, in TOML.
    interceptor: (&'static str, &'static str),
}

pub(crate) const PYTHON: Example = Example {
    folder: "04-python",
    programs: &["python3"],
    components: ["json-field.wasm", "default-header.wasm"],
    grant: None,
    interceptor: ("default-header", r#"header = "region", value = "eu""#),
};

pub(crate) const JAVASCRIPT: Example = Example {
    folder: "05-javascript",
    programs: &["node", "npm"],
    components: ["split.wasm", "mask-header.wasm"],
    grant: None,
    interceptor: ("mask-header", r#"header = "card", keep = 4"#),
};

pub(crate) const GO: Example = Example {
    folder: "06-go",
    programs: &["go", "node", "npm"],
    components: ["geofence.wasm", "traceparent.wasm"],
    grant: Some(("traceparent", "random")),
    interceptor: ("traceparent", ""),
};

pub(crate) const C: Example = Example {
    folder: "07-c",
    programs: &["clang", "wasm-ld"],
    components: ["number-range.wasm", "require-header.wasm"],
    grant: None,
    interceptor: ("require-header", r#"header = "amount""#),
};

impl Example {
    /// Runs its one command and gives the paths that it printed. `None` when the language is not on
    /// this machine.
    pub(crate) fn build(&self) -> Option<Vec<PathBuf>> {
        if let Some(missing) = self.programs.iter().find(|program| !is_there(program)) {
            let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!in_ci, "no {missing} on this machine, and in CI nothing is skipped");
            // Not by println!, which the test harness keeps to itself where a test passes.
            let _ = writeln!(std::io::stderr(), "skipped {}: no {missing} on this machine", self.folder);
            return None;
        }
        let command = workspace().join("examples").join(self.folder).join("build.sh");
        let finished = process::run_successfully(&mut Command::new(command), BUILD_MAX).unwrap();
        let printed: Vec<PathBuf> = finished.stdout.lines().map(PathBuf::from).collect();
        let names: Vec<_> = printed.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, self.components, "{}", finished.report());
        Some(printed)
    }

    /// A folder with the `leveret.toml` of a broker that is to serve it; the interceptor is attached to the
    /// exchange [`INTERCEPTED`].
    pub(crate) fn configuration(&self) -> ScratchDirectory {
        let folder = ScratchDirectory::new("languages");
        let tables = self.grant.map_or(String::new(), |(plugin, granted)| {
            format!("[plugins.\"{plugin}\"]\ngrants = [\"{granted}\"]\n")
        });
        let (interceptor, arguments) = self.interceptor;
        let tables = format!(
            "{tables}[[intercept]]\ninterceptor = \"{interceptor}\"\npoint = \"publish\"\n\
             exchange = \"{INTERCEPTED}\"\norder = 1\narguments = {{ {arguments} }}\n"
        );
        fs::write(folder.path().join("leveret.toml"), tables).unwrap();
        folder
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Drops a component into the plugins folder and waits until it serves; fails with the broker's words
/// where it is refused.
pub(crate) fn serve(broker: &Broker, component: &Path) {
    let name = component.file_name().unwrap().to_str().unwrap();
    let (aside, before) = (broker.aside().join("written-aside"), broker.log_length());
    fs::copy(component, &aside).unwrap();
    fs::rename(aside, broker.plugins_directory().join(name)).unwrap();
    // Either word: both lines name the file.
    let line = broker.wait_for_log_after(before, &format!("/{name} "), SERVES_MAX);
    assert!(line.contains(log_lines::PLUGIN_SERVES), "{line}");
}
