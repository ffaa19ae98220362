//! Finding the running broker and asking it over HTTP.
//!
//! Without an address the token file in the data folder says where the broker is and lets its owner
//! in; with one, a user name and password do.

use super::printable;
use crate::{
    config::{DATA_DIR_DEFAULT, Settings},
    http::{json::ErrorJson, token_file::TokenFile},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What stands for itself in a path is not quoted: the broker's own words are compared as they are sent.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How long the broker may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long it may take where a plugin is compiled.
const SLOW_ANSWER_MAX: Duration = Duration::from_secs(300);
/// How long a token that the broker does not know is hoped to be replaced by its own.
const NEW_TOKEN_MAX: Duration = Duration::from_secs(5);
/// How often the file is looked at meanwhile.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Which broker, and who asks.
#[derive(Args, Debug)]
pub(super) struct BrokerArguments {
    /// Data folder of the broker, whose token file says where it is [default: leveret-data]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data_dir: Option<PathBuf>,
    /// The broker's HTTP API, instead of its data folder
    #[arg(long, value_name = "http://ADDRESS:PORT")]
    url: Option<String>,
    /// User name
    #[arg(long, requires = "url", default_value = leveret_access::GUEST)]
    user: String,
    /// Password
    #[arg(long, env = "LEVERET_PASSWORD", hide_env_values = true, default_value = "guest")]
    password: String,
}

/// What a command says that lists something.
#[derive(Args, Debug)]
pub(super) struct ListArguments {
    /// As the broker tells it
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) broker: BrokerArguments,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ClientError {
    /// No running broker has left its token file there.
    NoTokenFile(PathBuf),
    /// The token file is there and not for us, or broken.
    TokenFile(PathBuf, io::Error),
    /// Not a URL that can be asked.
    Url(String),
    /// Nobody answers, or not as a broker would.
    Unreachable(String, ureq::Error),
    /// The broker refuses.
    Refused { url: String, status: u16, why: String },
    /// What is asked for is not there.
    NotFound,
    /// The answer is not what this program understands.
    Answer(String, serde_json::Error),
}

impl ClientError {
    /// Whether it looks as if no broker ran.
    pub(super) fn means_no_broker(&self) -> bool {
        matches!(self, Self::NoTokenFile(_) | Self::Unreachable(..))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTokenFile(path) => write!(
                f,
                "no broker runs with this data folder: there is no {} (--data-dir names another folder, --url an \
                 address; a broker with --http-listen none cannot be asked)",
                path.display()
            ),
            Self::TokenFile(path, error) => write!(
                f,
                "cannot read {}: {error} (only the broker's own user may; others use --url, --user and --password)",
                path.display()
            ),
            Self::Url(url) => write!(f, "--url {url}: it must be http://ADDRESS:PORT"),
            Self::Unreachable(url, error) => write!(f, "no broker answers at {url}: {error}"),
            Self::Refused { url, status, why } => write!(f, "the broker at {url} refuses: {why} ({status})"),
            Self::NotFound => f.write_str("what answers has no such thing; is it a Leveret broker?"),
            Self::Answer(url, error) => write!(f, "what answers at {url} is no broker of this kind: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// A broker to ask.
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl BrokerArguments {
    /// Finds the broker; whether it answers is seen when it is asked.
    pub(super) fn client(self, settings: &Settings) -> Result<Client, ClientError> {
        if let Some(url) = self.url {
            let is_http = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
            if !is_http {
                return Err(ClientError::Url(url));
            }
            let pair = STANDARD.encode(format!("{}:{}", self.user, self.password));
            return Ok(Client::new(url.trim_end_matches('/').to_owned(), format!("Basic {pair}")));
        }
        let data_dir = self.data_dir.as_deref().or(settings.data_dir.as_deref());
        let data_dir = data_dir.unwrap_or(Path::new(DATA_DIR_DEFAULT));
        let mut file = read_token(data_dir)?;
        let until = Instant::now() + NEW_TOKEN_MAX;
        // A broker that ended without a word left its file; the next one writes its own as soon as it listens.
        loop {
            let client =
                Client::new(format!("http://{}", file.address), format!("Bearer {}", file.token.as_str()));
            if !client.is_unknown() {
                return Ok(client);
            }
            let before = file;
            loop {
                file = read_token(data_dir)?;
                if file != before {
                    break;
                }
                if Instant::now() >= until {
                    return Ok(client);
                }
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
        }
    }
}

/// A reason, which RabbitMQ gives several lines, in one that is fit for a terminal.
fn in_a_line(why: &str) -> String {
    let lines: Vec<String> = why.lines().map(printable).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// What a broker left in its data folder.
fn read_token(data_dir: &Path) -> Result<TokenFile, ClientError> {
    let path = TokenFile::path(data_dir);
    TokenFile::read(data_dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ClientError::NoTokenFile(path),
        _ => ClientError::TokenFile(path, error),
    })
}

impl Client {
    /// Whether a broker answers that does not know who asks.
    fn is_unknown(&self) -> bool {
        let asked: Result<serde_json::Value, _> = self.get(&["whoami"]);
        matches!(asked, Err(ClientError::Refused { status: 401, .. }))
    }

    fn new(url: String, authorization: String) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            // Credentials go to the broker and nowhere else.
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("leveret/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), url, authorization }
    }

    /// Asks for what is below `/api/`, by the parts of its path.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        let request = self.agent.get(self.url_of(path)).header("authorization", &self.authorization);
        self.read(request.call())
    }

    /// The same with a query, which has nothing to be quoted.
    pub(super) fn get_with<T: DeserializeOwned>(&self, path: &[&str], query: &str) -> Result<T, ClientError> {
        let url = format!("{}?{query}", self.url_of(path));
        self.read(self.agent.get(url).header("authorization", &self.authorization).call())
    }

    /// Has something there deleted.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        let request = self.agent.delete(self.url_of(path)).header("authorization", &self.authorization);
        self.read(request.call())
    }

    /// Sends JSON there.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(self.agent.post(self.url_of(path)), body)
    }

    /// Puts JSON to where the answer may take as long as compiling a plugin.
    pub(super) fn put_slow<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.agent.put(self.url_of(path));
        self.send(request.config().timeout_global(Some(SLOW_ANSWER_MAX)).build(), body)
    }

    /// Sends JSON to where the answer may take as long as compiling a plugin.
    pub(super) fn post_slow<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.agent.post(self.url_of(path));
        self.send(request.config().timeout_global(Some(SLOW_ANSWER_MAX)).build(), body)
    }

    /// Puts JSON there.
    pub(super) fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(self.agent.put(self.url_of(path)), body)
    }

    /// Puts JSON there, and is told no more than that it is done.
    pub(super) fn put_done(&self, path: &[&str], body: &impl Serialize) -> Result<(), ClientError> {
        let done: Option<serde_json::Value> = self.put(path, body)?;
        drop(done);
        Ok(())
    }

    /// Has something there deleted, and is told no more than that it is done.
    pub(super) fn delete_done(&self, path: &[&str]) -> Result<(), ClientError> {
        let done: Option<serde_json::Value> = self.delete(path)?;
        drop(done);
        Ok(())
    }

    /// The same, with a reason that others are told.
    pub(super) fn delete_because(&self, path: &[&str], reason: &str) -> Result<(), ClientError> {
        let request = self.agent.delete(self.url_of(path)).header("x-reason", reason);
        let done: Option<serde_json::Value> =
            self.read(request.header("authorization", &self.authorization).call())?;
        drop(done);
        Ok(())
    }

    fn send<T: DeserializeOwned>(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Answer(self.url.clone(), error))?;
        let request = request.header("authorization", &self.authorization);
        self.read(request.header("content-type", "application/json").send(&body[..]))
    }

    fn read<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let unreachable = |error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => ClientError::Url(self.url.clone()),
            error => ClientError::Unreachable(self.url.clone(), error),
        };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let body =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
        match status {
            200 => {
                serde_json::from_slice(&body).map_err(|error| ClientError::Answer(self.url.clone(), error))
            }
            // Done, with nothing to say.
            201 | 204 if body.is_empty() => {
                serde_json::from_slice(b"null").map_err(|error| ClientError::Answer(self.url.clone(), error))
            }
            404 => Err(ClientError::NotFound),
            _ => {
                let why = serde_json::from_slice(&body).map(|ErrorJson { reason, .. }| reason);
                let why = why.unwrap_or_else(|_| "without a reason".to_owned());
                Err(ClientError::Refused { url: self.url.clone(), status, why: in_a_line(&why) })
            }
        }
    }

    fn url_of(&self, path: &[&str]) -> String {
        let mut url = format!("{}/api", self.url);
        for part in path {
            url.push('/');
            url.extend(utf8_percent_encode(part, QUOTED));
        }
        url
    }
}
