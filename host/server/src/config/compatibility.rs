//! Settings for clients and programs that were written for another broker.

use anyhow::bail;
use serde::Deserialize;

/// The longest name or version that is told, in bytes.
const TEXT_BYTES_MAX: usize = 255;

/// What AMQP clients are told of the broker, as its product and version. Some of them do different things by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its name.
    pub product: String,
    /// Its version.
    pub version: String,
}

impl Default for Announced {
    fn default() -> Self {
        Self { product: "Leveret".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

impl Announced {
    /// What the settings say.
    ///
    /// # Errors
    /// Another name without the version that goes with it, which clients would compare with that product's; a text
    /// that is empty or too long.
    pub(super) fn of(product: Option<String>, version: Option<String>) -> anyhow::Result<Self> {
        if product.is_some() && version.is_none() {
            bail!(
                "announced-product needs announced-version: clients compare it with that product's versions"
            );
        }
        let usual = Self::default();
        let announced =
            Self { product: product.unwrap_or(usual.product), version: version.unwrap_or(usual.version) };
        for (key, text) in
            [("announced-product", &announced.product), ("announced-version", &announced.version)]
        {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX {
                bail!("{key} must have 1 to {TEXT_BYTES_MAX} bytes");
            }
        }
        Ok(announced)
    }
}

/// Whether quorum queues may be declared, though there is one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum QuorumQueues {
    /// Yes; the log says once that there is no replication.
    #[default]
    AcceptSingle,
    /// No: whoever declares one is refused.
    Refuse,
}
