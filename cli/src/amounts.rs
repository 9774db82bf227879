//! Amounts and times as people read and write them.

use std::time::Duration;

/// Bytes in binary units with one decimal place, as `free -h` prints them.
pub fn bytes(amount: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if amount < 1024 {
        return format!("{amount} B");
    }
    let mut tenths = u128::from(amount) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Thousandths of a core as cores: `1.5`, `0.25`, `4`.
pub fn cores(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Thousandths of a whole as per cent.
pub fn percent(permille: u16) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

/// A span in its largest unit that is not zero: `12s`, `3m`, `5h`, `2d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400.. => format!("{}d", seconds / 86_400),
    }
}

/// A span of milliseconds; below ten seconds with one decimal place.
pub fn age_ms(milliseconds: u64) -> String {
    if milliseconds < 10_000 {
        return format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100);
    }
    age(milliseconds / 1000)
}

/// Reads a span: `500ms`, `30s`, `5m`, `1h30m`, `2d`; a number alone is seconds.
///
/// # Errors
/// What is wrong with the text, for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write it as 500ms, 30s, 5m, 1h30m or 2d";
    let wrong = || format!("`{text}` is no span of time; {FORM}");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut milliseconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        milliseconds = number.checked_mul(unit).and_then(|part| milliseconds.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(milliseconds)) }
}

/// A point in time, in UTC: `2026-11-22T16:56:34Z`. The conversion of days is Howard Hinnant's `civil_from_days`.
pub fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
        assert_eq!([cores(1500), cores(250), cores(4000), cores(0)], ["1.5", "0.25", "4", "0"]);
        assert_eq!(percent(125), "12.5%");
        assert_eq!([age(59), age(60), age(7200), age(200_000)], ["59s", "1m", "2h", "2d"]);
        assert_eq!([age_ms(140), age_ms(61_000)], ["0.1s", "1m"]);
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("7", 7000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "5x", "5m3", "-1s", "99999999999999999999d", "18446744073709551615d", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn days_are_counted_through_leap_years() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_366_594_000), "2026-11-22T16:56:34Z");
        assert_eq!(utc(4_107_542_399_000), "2100-02-28T23:59:59Z");
    }
}
