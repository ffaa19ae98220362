//! Projections of what one exchange reads, made into those of another that reads no more headers.

use leveret_model::{HeaderSelection, Name, Reads, flat};

/// Appends the projections that `reads` would give to those that `wide` gave, each after its length
/// (4 bytes). `None` where `reads` is not `wide` with fewer headers named.
pub(crate) fn narrow(projections: &[u8], wide: &Reads, reads: &Reads, out: &mut Vec<u8>) -> Option<()> {
    let (HeaderSelection::Named(_), HeaderSelection::Named(names)) = (&wide.headers, &reads.headers) else {
        return None;
    };
    let same = Reads { headers: wide.headers.clone(), ..reads.clone() } == *wide;
    if !same {
        return None;
    }
    let mut rest = projections;
    while let Some(length) = take_u32(&mut rest) {
        let projection = rest.split_off(..length)?;
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        narrow_one(projection, reads.routing_key, names, out)?;
        let length = u32::try_from(out.len() - start - 4).ok()?;
        out.get_mut(start..start + 4)?.copy_from_slice(&length.to_le_bytes());
    }
    Some(())
}

fn narrow_one(projection: &[u8], has_key: bool, names: &[Name], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = projection;
    if has_key {
        let length = u16::from_le_bytes(*rest.first_chunk()?);
        out.extend_from_slice(rest.split_off(..usize::from(length) + 2)?);
    }
    let count = u16::from_le_bytes(rest.split_off(..2)?.try_into().ok()?);
    let mut headers = Vec::with_capacity(count.into());
    for _ in 0..count {
        let length = usize::from(*rest.first()?);
        let name = rest.get(1..length + 1)?;
        let value_bytes = value_length(rest.get(length + 1..)?)?;
        headers.push((name, rest.split_off(..length + 1 + value_bytes)?));
    }
    let count_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut kept = 0_u16;
    for name in names {
        if let Some((_, field)) = headers.iter().find(|(header, _)| *header == name.as_bytes()) {
            out.extend_from_slice(field);
            kept += 1;
        }
    }
    out.get_mut(count_at..count_at + 2)?.copy_from_slice(&kept.to_le_bytes());
    // Properties and body are the same.
    out.extend_from_slice(rest);
    Some(())
}

fn take_u32(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?)).ok()
}

/// How many bytes the flat value has that these begin with.
fn value_length(bytes: &[u8]) -> Option<usize> {
    Some(match *bytes.first()? {
        flat::VOID => 1,
        flat::BOOLEAN => 2,
        flat::INTEGER | flat::UNSIGNED | flat::REAL | flat::TIMESTAMP => 9,
        flat::DECIMAL => 10,
        flat::TEXT | flat::BINARY | flat::LIST | flat::MAP => {
            let length = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?);
            usize::try_from(length).ok()?.checked_add(5)?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::Property;

    fn reads(names: &[&'static str]) -> Reads {
        Reads {
            routing_key: true,
            headers: HeaderSelection::Named(names.iter().map(|name| Name::from_static(name)).collect()),
            properties: vec![Property::AppId],
            ..Reads::default()
        }
    }

    fn projection(headers: &[(&str, i64)]) -> Vec<u8> {
        let mut bytes = vec![1, 0, b'k'];
        bytes.extend((headers.len() as u16).to_le_bytes());
        for (name, value) in headers {
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
            flat::put_integer(&mut bytes, *value);
        }
        flat::put_string(&mut bytes, b"app");
        let length = (bytes.len() as u32).to_le_bytes();
        [length.to_vec(), bytes].concat()
    }

    #[test]
    fn headers_that_are_not_read_are_left_out() {
        let wide = [projection(&[("a", 1), ("b", 2), ("c", 3)]), projection(&[("b", 4)])].concat();
        let mut out = Vec::new();
        narrow(&wide, &reads(&["a", "b", "c"]), &reads(&["a", "c"]), &mut out).unwrap();
        assert_eq!(out, [projection(&[("a", 1), ("c", 3)]), projection(&[])].concat());
    }

    #[test]
    fn what_is_not_narrower_is_refused() {
        let mut out = Vec::new();
        let (wide, mut other) = (reads(&["a", "b"]), reads(&["a"]));
        other.routing_key = false;
        assert!(narrow(&projection(&[("a", 1)]), &wide, &other, &mut out).is_none());
        let all = Reads { headers: HeaderSelection::All, ..reads(&[]) };
        assert!(narrow(&projection(&[("a", 1)]), &all, &wide, &mut out).is_none());
    }

    #[test]
    fn a_projection_that_is_cut_short_is_refused() {
        let whole = projection(&[("a", 1), ("b", 2)]);
        for end in 4..whole.len() {
            let mut cut = whole.get(..end).unwrap().to_vec();
            let length = (end as u32 - 4).to_le_bytes();
            cut.splice(..4, length);
            let mut out = Vec::new();
            let narrowed = narrow(&cut, &reads(&["a", "b"]), &reads(&["a"]), &mut out);
            // What comes after the headers is not looked at.
            assert!(narrowed.is_none() || end >= 4 + 3 + 2 + 2 * 11, "{end}");
        }
    }
}
