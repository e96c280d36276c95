//! The wall clock as the project writes it: milliseconds since the epoch.
//! Never used where a decision must be pure (the correlator's core).

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, now; 0 for a clock before 1970.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
