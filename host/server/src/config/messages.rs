//! How large messages may be.

use anyhow::bail;
use leveret_model::limits::MESSAGE_BODY_BYTES_MAX;

/// In MiB: up to the most that a message of AMQP 0-9-1 may announce, as in RabbitMQ.
const MIB: std::ops::RangeInclusive<u64> = 1..=512;
/// In MiB: from what messages of AMQP 1.0 may have that are held whole, up to what a length of 32 bits can say.
const LARGE_MIB: std::ops::RangeInclusive<u64> = 16..=2048;
/// In MiB.
const LARGE_MIB_DEFAULT: u64 = 256;

/// How many bytes the body of a message of AMQP 0-9-1 may have.
pub(super) fn bytes_max(mib: Option<u64>) -> anyhow::Result<u64> {
    let Some(mib) = mib else { return Ok(MESSAGE_BODY_BYTES_MAX) };
    if !MIB.contains(&mib) {
        bail!("message-mib = {mib}: it is from {} to {}", MIB.start(), MIB.end());
    }
    Ok(mib * 1024 * 1024)
}

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
    fn messages_have_16_mib_and_up_to_512_where_that_is_said() {
        let bytes_max = |mib| super::bytes_max(mib).map_err(|error| error.to_string());
        assert_eq!((bytes_max(None), bytes_max(Some(1))), (Ok(16 << 20), Ok(1 << 20)));
        assert_eq!(bytes_max(Some(512)), Ok(512 << 20));
        assert_eq!(bytes_max(Some(513)), Err("message-mib = 513: it is from 1 to 512".to_owned()));
        assert!(bytes_max(Some(0)).is_err());
    }

    #[test]
    fn large_messages_are_at_least_as_large_as_others() {
        let bytes_max = |mib| super::large_bytes_max(mib).map_err(|error| error.to_string());
        assert_eq!((bytes_max(None), bytes_max(Some(16))), (Ok(256 << 20), Ok(16 << 20)));
        assert_eq!(bytes_max(Some(15)), Err("large-message-mib = 15: it is from 16 to 2048".to_owned()));
        assert!(bytes_max(Some(2049)).is_err());
    }
}
