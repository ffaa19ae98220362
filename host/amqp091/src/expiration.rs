//! The property `expiration`: a time in milliseconds as decimal digits.

use alloc::{
    format,
    string::{String, ToString},
};
use leveret_model::limits::EXPIRY_MS_MAX;

/// Reads it.
///
/// # Errors
/// What is wrong with it, in RabbitMQ's words.
pub(crate) fn parse(text: &[u8]) -> Result<u64, String> {
    let invalid = |why: String| {
        let text = String::from_utf8_lossy(text);
        Err(format!("invalid expiration '{text}': {why}"))
    };
    let (sign, digits) = match text {
        [b'-', digits @ ..] => ("-", digits),
        [b'+', digits @ ..] => ("", digits),
        digits => ("", digits),
    };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, left) = digits.split_at(end);
    if digits.is_empty() {
        return invalid("no_integer".to_string());
    }
    if !left.is_empty() {
        return invalid(format!("{{leftover_string,\"{}\"}}", String::from_utf8_lossy(left)));
    }
    let digits = String::from_utf8_lossy(digits);
    let shown = match digits.trim_start_matches('0') {
        "" => "0",
        shown => shown,
    };
    match shown.parse::<u64>() {
        Ok(0) => Ok(0),
        _ if sign == "-" => invalid(format!("{{value_negative,-{shown}}}")),
        Ok(ms) if ms <= EXPIRY_MS_MAX => Ok(ms),
        _ => invalid(format!("{{value_too_large,{shown}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_milliseconds() {
        for (text, ms) in [("0", 0), ("007", 7), ("+5", 5), ("-0", 0), ("99999999999", 99_999_999_999)] {
            assert_eq!(parse(text.as_bytes()), Ok(ms));
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_rabbitmq_says_it() {
        for (text, why) in [
            ("abc", "no_integer"),
            ("", "no_integer"),
            (" 5", "no_integer"),
            ("-1", "{value_negative,-1}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("12a", "{leftover_string,\"a\"}"),
            ("9999999999999999999999", "{value_too_large,9999999999999999999999}"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(format!("invalid expiration '{text}': {why}")));
        }
    }
}
