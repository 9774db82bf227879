//! Durations.

use std::time::Duration;

use crate::context::clip;

/// `1m30s`, `500ms`, `1.5h`: Compose's format, which is Go's with days and weeks. A bare `0` needs no unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{}` must be a duration with units, such as `1m30s` or `500ms`", clip(text));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (amount, behind) = rest.split_at(number);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        nanos = nanos.checked_add(part(amount, unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = behind;
    }
    if text.is_empty() || nanos > MOST_NANOS {
        return Err(wrong());
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
    let below = u32::try_from(nanos % 1_000_000_000).map_err(|_| wrong())?;
    Ok(Duration::new(seconds, below))
}

/// A hundred years: what is longer is a slip, and would overflow the clocks of those who add it.
const MOST_NANOS: u128 = 100 * 365 * 24 * 3600 * 1_000_000_000;

fn part(amount: &str, unit: &str) -> Option<u128> {
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 604_800_000_000_000,
        _ => return None,
    };
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    if whole.len() > 18 || part.len() > 9 || (whole.is_empty() && part.is_empty()) || part.contains('.') {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let decimals = 10_u128.pow(u32::try_from(part.len()).ok()?);
    Some(number(whole)? * scale + number(part)? * scale / decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        for (text, millis) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("1h5m30s20ms", 3_930_020),
            ("0", 0),
            ("0s", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "1x", "-1s", "1s2", "1..5s", ".s", "1 s", "9999999999999h", "200w1000000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
