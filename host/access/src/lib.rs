//! Who may do what: users with hashed passwords, their tags and limits, and what they may do in which
//! virtual host.
//!
//! *Not here:* sockets, wire formats, files, HTTP. A protocol room says who somebody claims to be
//! ([`Access::authenticate`]) and gets an [`Identity`]; with [`Identity::rights`] it asks what that one may do
//! ([`Rights::may`]), whatever the protocol. What is to outlive the process is handed to a port ([`Keeper`]).
//!
//! *In:* users as a configuration declares them or a store has them ([`Access::new`]), changes of them, claims.
//! *Out:* identities, decisions, changes to be kept.
//!
//! *Invariants:* a user is replaced, never changed: whoever holds one sees it whole. Each change raises
//! [`Access::generation`] once it counts, so that live connections notice it with one load. Where something is
//! not known, it is not allowed.
//!
//! Read [`user`] first, then [`rights`], then [`login`].

mod access;
mod keeper;
pub mod login;
pub mod pattern;
pub mod rights;
pub mod scram;
pub mod secret;
pub mod user;

pub use access::{Access, ChangeRefused, GUEST, Settings};
pub use keeper::{Change, Done, Keeper, Nowhere};
pub use login::{Claim, Identity, LoginFailure};
pub use pattern::{Pattern, PatternError};
pub use rights::{Operation, Rights};
pub use scram::{ScramKeys, ScramSalt};
pub use secret::{Algorithm, Secret, SecretError};
pub use user::{Limits, Permissions, TopicPermissions, User};
