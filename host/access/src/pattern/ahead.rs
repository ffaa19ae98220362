//! Patterns that look ahead at their beginning, as `^(?!amq\\.).*` does, which many policies have.
//!
//! The library does not look ahead. At the beginning that is to look for several patterns there, each by itself.

/// What is to be found in a name, or is not, of a pattern that looks ahead at its beginning; `None` of any other, and of one
/// that has alternatives to its beginning.
pub(super) fn split(text: &str) -> Option<Vec<(String, bool)>> {
    let mut rest = text.strip_prefix('^')?;
    let mut parts = Vec::new();
    loop {
        let not = rest.strip_prefix("(?!").map(|inner| (inner, false));
        let Some((inner, is_wanted)) = not.or_else(|| rest.strip_prefix("(?=").map(|inner| (inner, true)))
        else {
            break;
        };
        let (inner, behind) = inner.split_at_checked(end(inner, b')')?)?;
        parts.push((format!("^(?:{inner})"), is_wanted));
        rest = behind.strip_prefix(')')?;
    }
    if parts.is_empty() || end(rest, b'|').is_some() {
        return None;
    }
    parts.push((format!("^(?:{rest})"), true));
    Some(parts)
}

/// Where that byte is first that is in no group or class and is not escaped.
fn end(text: &str, wanted: u8) -> Option<usize> {
    let (mut groups, mut classes) = (0_usize, 0_usize);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'[' => {
                classes += 1;
                bytes.next_if(|(_, byte)| *byte == b'^');
                // There it is no end.
                bytes.next_if(|(_, byte)| *byte == b']');
            }
            b']' => classes = classes.saturating_sub(1),
            _ if classes > 0 => {}
            byte if byte == wanted && groups == 0 => return Some(at),
            b'(' => groups += 1,
            b')' => groups = groups.saturating_sub(1),
            _ => {}
        }
    }
    None
}
