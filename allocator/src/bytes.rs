//! Numbers of bytes as people write them.

/// What [`parse`] accepts.
pub(crate) const ACCEPTED: &str =
    "bytes as 268435456, 256K, 256M, 2G, 1T, or a part of the memory as 50%";

/// Reads a budget as people write it. `memory` says what a percentage is of, in bytes.
pub(crate) fn parse(text: &str, memory: impl FnOnce() -> usize) -> Option<usize> {
    let text = text.trim_ascii();
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = &text[digits.len()..];
    let value: usize = digits.parse().ok()?;
    let bytes = match unit {
        "" | "B" => Some(value),
        "K" | "k" | "KB" | "KiB" => value.checked_mul(1 << 10),
        "M" | "m" | "MB" | "MiB" => value.checked_mul(1 << 20),
        "G" | "g" | "GB" | "GiB" => value.checked_mul(1 << 30),
        "T" | "t" | "TB" | "TiB" => value.checked_mul(1 << 40),
        "%" if value <= 100 => Some(memory() / 100 * value),
        _ => None,
    }?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_as_people_write_them() {
        let cases = [
            ("268435456", 268_435_456),
            ("256K", 256 << 10),
            ("256M", 256 << 20),
            (" 2G ", 2 << 30),
            ("1T", 1 << 40),
            ("50%", 500),
            ("100%", 1000),
            ("3MiB", 3 << 20),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text, || 1000), Some(bytes), "{text}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let cases = [
            "",
            "M",
            "-1",
            "1.5G",
            "0",
            "0M",
            "101%",
            "%",
            "12Q",
            "99999999999T",
            "1 M",
            "0x10",
            "١",
            "1M1",
        ];
        for text in cases {
            assert_eq!(parse(text, || 1000), None, "{text}");
        }
    }
}
