//! HL7 times: `YYYY[MM[DD[HH[MM[SS[.S+]]]]]][±ZZZZ]` (chapter 2A, DTM).

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};

/// A time as written, with the offset it states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    local: chrono::NaiveDateTime,
    pub(super) offset: Option<FixedOffset>,
}

impl Time {
    /// The instant, in `zone` where the time states no offset of its own.
    pub(super) fn utc(self, zone: FixedOffset) -> Option<DateTime<Utc>> {
        let zone = self.offset.unwrap_or(zone);
        self.local.and_local_timezone(zone).single().map(|time| time.to_utc())
    }
}

/// Reads a time; `None` where it is not one.
pub(super) fn parse(text: &str) -> Option<Time> {
    let text = text.trim();
    let (stamp, offset) = match text.find(['+', '-']) {
        Some(at) => (text.get(..at)?, Some(parse_offset(text.get(at..)?)?)),
        None => (text, None),
    };
    let (digits, fraction) = stamp.split_once('.').unwrap_or((stamp, ""));
    let well_formed = digits.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !well_formed || !matches!(digits.len(), 4 | 6 | 8 | 10 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize, default: u32| digits.get(from..to).map_or(Some(default), |d| d.parse().ok());
    let year: i32 = digits.get(..4)?.parse().ok()?;
    let date = NaiveDate::from_ymd_opt(year, part(4, 6, 1)?, part(6, 8, 1)?)?;
    let millis: u32 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").get(..3)?.parse().ok()? };
    let local = date.and_hms_milli_opt(part(8, 10, 0)?, part(10, 12, 0)?, part(12, 14, 0)?, millis)?;
    Some(Time { local, offset })
}

/// Reads `UTC`, `Z`, `±HHMM` or `±HH:MM`.
pub(super) fn parse_offset(text: &str) -> Option<FixedOffset> {
    if matches!(text, "UTC" | "Z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits = rest.replacen(':', "", 1);
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse().ok()?);
    (hours <= 14 && minutes < 60).then(|| FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<String> {
        let zone = parse_offset("+01:00").unwrap();
        Some(parse(text)?.utc(zone)?.format("%Y-%m-%dT%H:%M:%S%.3f").to_string())
    }

    #[test]
    fn every_precision_and_offset() {
        for (text, expected) in [
            ("2024", "2023-12-31T23:00:00.000"),
            ("202403", "2024-02-29T23:00:00.000"),
            ("20240306", "2024-03-05T23:00:00.000"),
            ("2024030611", "2024-03-06T10:00:00.000"),
            ("202403061112", "2024-03-06T10:12:00.000"),
            ("20240306111254", "2024-03-06T10:12:54.000"),
            ("20240306111254.1234", "2024-03-06T10:12:54.123"),
            ("20240306111254.5-0500", "2024-03-06T16:12:54.500"),
            ("20130408141909.0+0000", "2013-04-08T14:19:09.000"),
            ("20240306-0500", "2024-03-06T05:00:00.000"),
        ] {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "TBD", "20241301", "202", "2024030", "20240306111260", "20240306+2500", "2024-03-06", "2024é"]
        {
            assert_eq!(utc(text), None, "{text}");
        }
    }
}
