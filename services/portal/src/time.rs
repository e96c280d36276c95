//! Times as people and JSON readers see them: RFC 3339 in UTC.
//! It must never show "not yet" (0) as the year 1970.

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// `2026-01-31T23:59:59.123Z`; `None` for 0 and below, which mean unknown or not yet.
pub fn rfc3339(ms: i64) -> Option<String> {
    if ms <= 0 {
        return None;
    }
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", of_day % 1_000))
}

/// `2026-01-31 23:59:59` (UTC), for tables.
pub fn short(ms: i64) -> Option<String> {
    rfc3339(ms).map(|text| {
        let seconds = text.split('.').next().unwrap_or(&text);
        seconds.replacen('T', " ", 1)
    })
}

/// A length of time in the largest unit that fits: `12 s`, `5 min`, `3.2 h`, `12 d`.
pub fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0 => format!("{} ms", ms.max(0)),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{}.{} h", seconds / 3_600, seconds % 3_600 / 360),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian calendar; the year begins in March
/// within the computation, so that the leap day is its last).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_rfc3339() {
        let check = |ms, expect: Option<&str>| assert_eq!(rfc3339(ms).as_deref(), expect, "{ms}");
        check(0, None);
        check(-5, None);
        check(1, Some("1970-01-01T00:00:00.001Z"));
        check(951_782_400_000, Some("2000-02-29T00:00:00.000Z"));
        check(1_709_251_199_999, Some("2024-02-29T23:59:59.999Z"));
        check(1_767_225_600_000, Some("2026-01-01T00:00:00.000Z"));
        check(4_107_542_400_000, Some("2100-03-01T00:00:00.000Z"));
        assert_eq!(short(1_709_251_199_999).as_deref(), Some("2024-02-29 23:59:59"));
    }

    #[test]
    fn writes_durations() {
        let check = |ms, expect: &str| assert_eq!(duration(ms), expect);
        check(-1, "0 ms");
        check(400, "400 ms");
        check(119_000, "119 s");
        check(300_000, "5 min");
        check(11_520_000, "3.2 h");
        check(20 * DAY_MS, "20 d");
    }
}
