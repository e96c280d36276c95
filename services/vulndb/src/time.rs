//! RFC 3339 timestamps of OSV records to milliseconds since the epoch, and back to a date.
//! Never fails: what is no timestamp, or lies before 1970, is 0 = unknown.

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn parse(text: &str) -> Option<i64> {
    let (year, month, day) = (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut ms = days_from_civil(year, month, day) * 86_400_000;
    if text.len() > 10 {
        let (hours, minutes, seconds) = (number(text, 11, 13)?, number(text, 14, 16)?, number(text, 17, 19)?);
        ms += (hours * 3_600 + minutes * 60 + seconds) * 1_000;
        let rest = text.get(19..)?;
        let fraction: String = rest
            .strip_prefix('.')
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_digit)
            .chain("000".chars())
            .take(3)
            .collect();
        ms += fraction.parse::<i64>().ok()?;
        if let Some(sign_at) = rest.find(['+', '-']) {
            let offset_ms = (number(rest, sign_at + 1, sign_at + 3)? * 60
                + number(rest, sign_at + 4, sign_at + 6)?)
                * 60_000;
            ms += if rest.as_bytes()[sign_at] == b'+' { -offset_ms } else { offset_ms };
        }
    }
    Some(ms.max(0))
}

/// Milliseconds since the epoch; 0 = unknown.
pub(crate) fn parse_ms(text: &str) -> i64 {
    parse(text).unwrap_or(0)
}

/// `YYYY-MM-DD` in UTC (Howard Hinnant's `civil_from_days`).
pub(crate) fn date(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_exports_timestamps() {
        for (text, expect) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2021-08-27T03:22:18.913334Z", 1_630_034_538_913),
            ("2021-08-27T05:22:18+02:00", 1_630_034_538_000),
            ("2025-08-25", 1_756_080_000_000),
            ("0001-01-01T00:00:00Z", 0),
            ("yesterday", 0),
            ("2021-13-01T00:00:00Z", 0),
            ("", 0),
            ("2021-08-27Tüüüüüü", 0),
        ] {
            assert_eq!(parse_ms(text), expect, "{text}");
        }
    }

    #[test]
    fn dates_come_back() {
        for day in ["1970-01-01", "2000-02-29", "2024-12-31", "2026-03-01"] {
            assert_eq!(date(parse_ms(day)), day);
        }
    }
}
