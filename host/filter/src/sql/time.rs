//! Dates in ISO 8601, as DATE reads them.

const MS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since 1970 of `2026-11-29`, `2026-11-29T18:30`, `2026-11-29T18:30:00.5Z` or `2026-11-29T18:30:00+01:00`:
/// without a zone it is UTC. `None` if there is no such time.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', &[4, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some(days * MS_PER_DAY + time.map_or(Some(0), time_of_day)?)
}

/// By the calendar that has always been ours: years begin with March, so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From the first of March of year 0 to 1970 there are 719,468 days.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Milliseconds since midnight in UTC; a zone may make it the day before or after.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, zone_minutes) = match text.find(['Z', 'z', '+', '-']).and_then(|at| text.split_at_checked(at))
    {
        None => (text, 0),
        Some((clock, "Z" | "z")) => (clock, 0),
        Some((clock, zone)) => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let [hours, minutes] = numbers(zone.get(1..)?, ':', &[2, 2])?;
            (clock, (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))?)
        }
    };
    let (clock, fraction) =
        clock.split_once('.').map_or((clock, None), |(clock, digits)| (clock, Some(digits)));
    let [hours, minutes, seconds] = match numbers(clock, ':', &[2, 2, 2]) {
        Some(parts) => parts,
        None if fraction.is_none() => {
            let [hours, minutes] = numbers(clock, ':', &[2, 2])?;
            [hours, minutes, 0]
        }
        None => return None,
    };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let ms = fraction.map_or(Some(0), milliseconds)?;
    Some((hours * 3600 + (minutes - zone_minutes) * 60 + seconds) * 1000 + ms)
}

/// Of the digits behind the point; what is finer is cut off.
fn milliseconds(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(digits.bytes().chain([b'0'; 2]).take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0')))
}

/// Numbers with so many digits each, between separators.
fn numbers<const N: usize>(text: &str, separator: char, digits: &[usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != *digits || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_milliseconds_since_1970() {
        for (text, ms) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2000-02-29T12:00Z", Some(951_825_600_000)),
            ("2000-03-01", Some(951_868_800_000)),
            ("2026-11-29T18:30:00Z", Some(1_795_977_000_000)),
            ("2026-11-29 19:30:00+01:00", Some(1_795_977_000_000)),
            ("2026-11-29T13:00:00.25-05:30", Some(1_795_977_000_250)),
            ("2026-11-29T18:30:00.123456", Some(1_795_977_000_123)),
            ("0000-01-01", Some(-62_167_219_200_000)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799_000)),
            ("1900-02-29", None),
            ("2026-13-01", None),
            ("2026-04-31", None),
            ("2026-00-10", None),
            ("2026-1-10", None),
            ("26-01-10", None),
            ("2026-01-10T24:00:00Z", None),
            ("2026-01-10T10:60:00Z", None),
            ("2026-01-10T10:00:00.Z", None),
            ("2026-01-10T10:00.5Z", None),
            ("2026-01-10T10:00:00+1:00", None),
            ("2026-01-10T10:00:00+24:00", None),
            ("2026-01-10T", None),
            ("", None),
            ("tomorrow", None),
        ] {
            assert_eq!(parse(text), ms, "{text}");
        }
    }
}
