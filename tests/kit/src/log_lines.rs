//! The words of the broker's log that tests wait for: each is part of one line.
//!
//! Operators grep for the same words, so a change here is a change for users.

/// Before the address, once the broker accepts connections: `listening on 127.0.0.1:5672`.
pub const LISTENING: &str = "listening on ";

/// Before the address of the HTTP API, in a line before that: `HTTP API on http://127.0.0.1:15672`.
pub const HTTP_API: &str = "HTTP API on http://";

/// In the line that says that the exchange types of a file now serve; the line names the file.
pub const PLUGIN_SERVES: &str = "the plugin serves";

/// In the line that says that a file was refused; the line names the file, the stage and the reason.
pub const PLUGIN_REFUSED: &str = "the plugin was not taken";

/// In the line that says that a file is gone and its exchanges are parked; the line names the file.
pub const PLUGIN_REMOVED: &str = "the plugin was removed";

/// In the line that says that an older version serves, because the file in the folder cannot.
pub const PLUGIN_FELL_BACK: &str = "the last version that served is in service instead of the file";

/// In the line that says that a file with compiled code was not the broker's own.
pub const CACHE_IGNORED: &str = "a file in the cache of compiled code is ignored";

/// In the line that says that a file is the candidate of a plugin; the line names the plugin's own file.
pub const CANDIDATE_TAKEN: &str = "the candidate is in shadow path=";

/// In the line that says that the file of a candidate was refused; it names the plugin's own file, the stage
/// and the reason.
pub const CANDIDATE_REFUSED: &str = "the candidate was not taken";

/// In the line that says that a candidate now serves; the line names the plugin's own file.
pub const CANDIDATE_SERVES: &str = "the candidate serves";

/// In the line that says that a canary failed too often and is asked no more.
pub const CANARY_WITHDRAWN: &str = "the canary is withdrawn";
