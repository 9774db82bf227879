//! Amounts of bytes.

use outrigger_protocol::Bytes;

use crate::context::clip;

/// `1024`, `512m`, `1gb`, `1.5 GiB`: units are powers of 1024 in every spelling, as in Docker.
pub(crate) fn bytes(text: &str) -> Result<Bytes, String> {
    let wrong = || format!("`{}` must be an amount of bytes, such as `512m` or `1.5g`", clip(text));
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let unit = 1_u128 << shift;
    // Nine decimal places are far below a byte in every unit that anybody writes with a fraction.
    let part = &part[..part.len().min(9)];
    if whole.is_empty() && part.is_empty() || !part.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let fraction: u128 = if part.is_empty() { 0 } else { part.parse().map_err(|_| wrong())? };
    let scale = 10_u128.pow(u32::try_from(part.len()).unwrap_or(0));
    let total = u128::from(whole) * unit + fraction * unit / scale;
    i64::try_from(total).ok().and_then(|total| u64::try_from(total).ok()).map(Bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_unit_is_the_same_amount() {
        for text in ["512m", "512M", "512mb", "512MB", "512MiB", "0.5g", "524288k", "536870912", "536870912b", "512 mb"]
        {
            assert_eq!(bytes(text), Ok(Bytes(512 << 20)), "{text}");
        }
        assert_eq!(bytes("1.5g"), Ok(Bytes(3 << 29)));
        for bad in ["", "m", "-1", "1x", "1.2.3m", "99999999999999999999", "9999999p", "1e3"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
