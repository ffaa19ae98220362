//! What can be configured, from three places: flags, environment variables, a TOML file.
//!
//! One table, [`Settings`], gives the flags, the variables and the keys of the file: a setting
//! `plugins_dir` is `--plugins-dir`, `LEVERET_PLUGINS_DIR` and `plugins-dir = …`. A flag wins over
//! a variable, a variable over the file, the file over the default.

use anyhow::{Context, bail};
use leveret_model::Name;
use leveret_plugin::CompileLimits;
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the broker listens if nobody says otherwise.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5672);
/// The folder for everything that the broker keeps.
pub const DATA_DIR_DEFAULT: &str = "leveret-data";
/// The share of the machine's memory that queued messages may take before publishers wait.
const MEMORY_SHARE_DEFAULT: f64 = 0.4;
/// The least memory for queued messages that makes sense, in bytes.
const MEMORY_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// The least memory in which the compiler can do anything at all, in bytes.
const COMPILE_MEMORY_BYTES_MIN: u64 = 128 * 1024 * 1024;
/// Longer is surely a mistake, in seconds.
const COMPILE_CPU_SECONDS_MAX: u64 = 24 * 3600;
/// How much longer than its CPU time a compilation may take, on a machine that is busy.
const COMPILE_WALL_PER_CPU: u64 = 10;

/// The settings as a user gives them.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Address and port for AMQP clients [default: 127.0.0.1:5672]
    #[arg(long, env = "LEVERET_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Folder for everything the broker keeps [default: leveret-data]
    #[arg(long, env = "LEVERET_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Folder that is watched for exchange types (*.wasm) [default: DATA_DIR/plugins]
    #[arg(long, env = "LEVERET_PLUGINS_DIR", value_name = "DIR")]
    pub plugins_dir: Option<PathBuf>,

    /// Virtual hosts, separated by commas [default: /]
    #[arg(long, env = "LEVERET_VHOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub vhosts: Option<Vec<String>>,

    /// Worker threads [default: one for each processor]
    #[arg(long, env = "LEVERET_WORKERS", value_name = "NUMBER")]
    pub workers: Option<usize>,

    /// MiB of queued messages from which on publishers wait [default: 40 % of the machine's memory]
    #[arg(long, env = "LEVERET_MEMORY_MIB", value_name = "MIB")]
    pub memory_mib: Option<u64>,

    /// MiB of memory that compiling a plugin may take [default: 2048]
    #[arg(long, env = "LEVERET_COMPILE_MEMORY_MIB", value_name = "MIB")]
    pub compile_memory_mib: Option<u64>,

    /// Seconds of CPU time that compiling a plugin may take [default: 60]
    #[arg(long, env = "LEVERET_COMPILE_CPU_SECONDS", value_name = "SECONDS")]
    pub compile_cpu_seconds: Option<u64>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as leveret=debug [default: info]
    #[arg(long, env = "LEVERET_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl Settings {
    /// Reads the file's settings.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has a key that is no setting; the error names the line.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("the configuration {} is not valid", path.display()))
    }

    /// These settings, and where they are silent the `other` ones.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            data_dir: self.data_dir.or(other.data_dir),
            plugins_dir: self.plugins_dir.or(other.plugins_dir),
            vhosts: self.vhosts.or(other.vhosts),
            workers: self.workers.or(other.workers),
            memory_mib: self.memory_mib.or(other.memory_mib),
            compile_memory_mib: self.compile_memory_mib.or(other.compile_memory_mib),
            compile_cpu_seconds: self.compile_cpu_seconds.or(other.compile_cpu_seconds),
            log: self.log.or(other.log),
        }
    }
}

/// The settings, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AMQP clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder for everything that the broker keeps.
    pub data_dir: PathBuf,
    /// The folder that is watched for plugins.
    pub plugins_dir: PathBuf,
    /// The virtual hosts; the first is the default one.
    pub vhosts: Vec<Name>,
    /// How many worker threads.
    pub workers: usize,
    /// How many bytes of queued messages there may be before publishers wait.
    pub memory_bytes_max: u64,
    /// What compiling a plugin may take.
    pub compile_limits: CompileLimits,
    /// The log filter.
    pub log: String,
}

impl TryFrom<Settings> for Config {
    type Error = anyhow::Error;

    fn try_from(settings: Settings) -> anyhow::Result<Self> {
        let data_dir = settings.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        let plugins_dir = settings.plugins_dir.unwrap_or_else(|| data_dir.join("plugins"));
        let workers = match settings.workers {
            Some(0) => bail!("workers = 0: there must be at least one worker thread"),
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let memory_bytes_max = match settings.memory_mib {
            Some(mib) => mib.saturating_mul(1024 * 1024),
            None => (memory_of_machine_bytes() as f64 * MEMORY_SHARE_DEFAULT) as u64,
        };
        if memory_bytes_max < MEMORY_BYTES_MIN {
            bail!("memory-mib must be at least {}", MEMORY_BYTES_MIN / 1024 / 1024);
        }
        let compile_limits = compile_limits(settings.compile_memory_mib, settings.compile_cpu_seconds)?;
        let mut vhosts = Vec::new();
        for vhost in settings.vhosts.unwrap_or_else(|| vec!["/".to_owned()]) {
            if vhost.is_empty() {
                bail!("a virtual host needs a name");
            }
            let name = Name::new(vhost.as_bytes()).with_context(|| format!("virtual host {vhost:?}"))?;
            if !vhosts.contains(&name) {
                vhosts.push(name);
            }
        }
        Ok(Self {
            listen: settings.listen.unwrap_or(LISTEN_DEFAULT),
            data_dir,
            plugins_dir,
            vhosts,
            workers,
            memory_bytes_max,
            compile_limits,
            log: settings.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

fn compile_limits(memory_mib: Option<u64>, cpu_seconds: Option<u64>) -> anyhow::Result<CompileLimits> {
    let mut limits = CompileLimits::default();
    if let Some(mib) = memory_mib {
        limits.memory_bytes_max = mib.saturating_mul(1024 * 1024);
        if limits.memory_bytes_max < COMPILE_MEMORY_BYTES_MIN {
            bail!("compile-memory-mib must be at least {}", COMPILE_MEMORY_BYTES_MIN / 1024 / 1024);
        }
    }
    if let Some(seconds) = cpu_seconds {
        if !(1..=COMPILE_CPU_SECONDS_MAX).contains(&seconds) {
            bail!("compile-cpu-seconds must be between 1 and {COMPILE_CPU_SECONDS_MAX}");
        }
        limits.cpu_seconds_max = seconds;
        limits.wall_time_max = Duration::from_secs(seconds * COMPILE_WALL_PER_CPU);
    }
    Ok(limits)
}

/// The machine's memory in bytes, or a cautious guess of 4 GiB where it cannot be read.
fn memory_of_machine_bytes() -> u64 {
    const GUESS_BYTES: u64 = 4 << 30;
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        return GUESS_BYTES;
    };
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(GUESS_BYTES, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file: Settings =
            toml::from_str("listen = \"127.0.0.1:1\"\ndata-dir = \"d\"\nmemory-mib = 64").unwrap();
        let flags = Settings { listen: Some(([127, 0, 0, 1], 2).into()), ..Settings::default() };
        let config = Config::try_from(flags.or(file)).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.plugins_dir, Path::new("d/plugins"));
        assert_eq!(config.memory_bytes_max, 64 << 20);
        assert_eq!(config.vhosts, [Name::from_static("/")]);
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_refused_by_name() {
        let error = toml::from_str::<Settings>("plugin-dir = \"x\"").unwrap_err().to_string();
        assert!(error.contains("plugin-dir"), "{error}");
        let error =
            Config::try_from(Settings { workers: Some(0), ..Settings::default() }).unwrap_err().to_string();
        assert!(error.contains("workers"), "{error}");
        let error = Config::try_from(Settings { memory_mib: Some(1), ..Settings::default() })
            .unwrap_err()
            .to_string();
        assert!(error.contains("memory-mib"), "{error}");
        for (memory, seconds, key) in
            [(Some(1), None, "compile-memory-mib"), (None, Some(0), "compile-cpu-seconds")]
        {
            let error = compile_limits(memory, seconds).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
