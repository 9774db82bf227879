//! Booleans, whole numbers and parts of processor cores.

use outrigger_protocol::MilliCpu;

use crate::context::clip;

/// `true` or `false`. YAML 1.1's `yes`, `no`, `on`, `off` are refused: half of the tools read them as texts.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("`{}` must be `true` or `false`", clip(text))),
    }
}

/// A whole number from `least` to `most`.
pub(crate) fn integer(text: &str, least: i64, most: i64) -> Result<i64, String> {
    let value = text.strip_prefix("0o").map_or_else(|| text.parse().ok(), |octal| i64::from_str_radix(octal, 8).ok());
    match value {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => Err(format!("{value} must be between {least} and {most}")),
        None => Err(format!("`{}` must be a whole number between {least} and {most}", clip(text))),
    }
}

/// Cores, such as `0.5`. Zero is Compose's way to say "no limit".
pub(crate) fn cpus(text: &str) -> Result<Option<MilliCpu>, String> {
    let wrong = || format!("`{}` must be a number of processor cores, such as `0.5`", clip(text));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let cores: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let thousandths: u32 = format!("{part:0<3}")[..3].parse().map_err(|_| wrong())?;
    let milli = cores.checked_mul(1000).and_then(|milli| milli.checked_add(thousandths)).ok_or_else(wrong)?;
    if milli == 0 && text.bytes().any(|c| matches!(c, b'1'..=b'9')) {
        return Err(format!("`{}` is less than a thousandth of a core", clip(text)));
    }
    Ok((milli > 0).then_some(MilliCpu(milli)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_are_no_booleans() {
        assert_eq!((boolean("true"), boolean("FALSE")), (Ok(true), Ok(false)));
        assert_eq!(boolean("yes").unwrap_err(), "`yes` must be `true` or `false`");
    }

    #[test]
    fn cores_are_counted_in_thousandths() {
        for (text, milli) in [("0.5", 500), ("2", 2000), (".25", 250), ("1.", 1000), ("0.0015", 1), ("1.9999", 1999)] {
            assert_eq!(cpus(text), Ok(Some(MilliCpu(milli))), "{text}");
        }
        assert_eq!(cpus("0"), Ok(None));
        for bad in ["", ".", "-1", "1e3", "half", "0.0001", "4294967296", "5000000", "1,5"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_have_bounds() {
        assert_eq!(integer("010", 0, 10), Ok(10));
        assert_eq!(integer("0o17", 0, 100), Ok(15));
        assert_eq!(integer("11", 0, 10).unwrap_err(), "11 must be between 0 and 10");
        assert_eq!(integer("x", 0, 10).unwrap_err(), "`x` must be a whole number between 0 and 10");
    }
}
