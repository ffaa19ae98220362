//! How large messages may be.

use anyhow::bail;

/// In MiB: from what messages may have that are held whole, up to what a length of 32 bits can say.
const LARGE_MIB: std::ops::RangeInclusive<u64> = 16..=2048;
/// In MiB.
const LARGE_MIB_DEFAULT: u64 = 256;

/// How many bytes a message of AMQP 1.0 may have.
pub(super) fn large_bytes_max(mib: Option<u64>) -> anyhow::Result<u64> {
    let mib = mib.unwrap_or(LARGE_MIB_DEFAULT);
    if !LARGE_MIB.contains(&mib) {
        bail!("large-message-mib = {mib}: it is from {} to {}", LARGE_MIB.start(), LARGE_MIB.end());
    }
    Ok(mib * 1024 * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_messages_are_at_least_as_large_as_others() {
        let bytes_max = |mib| super::large_bytes_max(mib).map_err(|error| error.to_string());
        assert_eq!((bytes_max(None), bytes_max(Some(16))), (Ok(256 << 20), Ok(16 << 20)));
        assert_eq!(bytes_max(Some(15)), Err("large-message-mib = 15: it is from 16 to 2048".to_owned()));
        assert!(bytes_max(Some(2049)).is_err());
    }
}
