//! Numbers as people read them, for pages and tables.
//! It must never round.

/// A number with groups of three digits.
pub fn number(value: impl TryInto<i64>) -> String {
    let value = value.try_into().unwrap_or(i64::MAX);
    let digits = value.unsigned_abs().to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0 { format!("-{out}") } else { out }
}

/// `1 file`, `2 files`.
pub fn count_of(value: i64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let check = |value: i64, expect: &str| assert_eq!(number(value), expect);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(12_345_678, "12,345,678");
        check(-1_234, "-1,234");
        assert_eq!(count_of(1, "file", "files"), "1 file");
    }
}
