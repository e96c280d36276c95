//! Searches big files for byte patterns, a window at a time.
//! Never holds more than one window, and never reads more than a budget that its caller named.

use super::elf::Range;
use crate::tree::read_at::{ReadAt, read_full_at};
use std::io;

/// Bytes held at a time.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Bytes that may still be read while one file is searched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget(pub u64);

/// Calls `visit` with each window of `range` and the window's offset in the file. Windows overlap by `overlap` bytes,
/// so that nothing up to that length is missed; stops when it answers false. False if the budget ended before.
///
/// # Errors
/// Only when the file cannot be read.
pub(crate) fn windows(
    file: &dyn ReadAt,
    range: Range,
    overlap: usize,
    budget: &mut Budget,
    visit: &mut dyn FnMut(&[u8], u64) -> bool,
) -> io::Result<bool> {
    let mut buffer = vec![0; WINDOW_BYTES.min(usize::try_from(range.size_bytes).unwrap_or(usize::MAX))];
    let mut start = 0;
    // How much of the buffer stands there already from the window before.
    let mut kept = 0;
    while start + (kept as u64) < range.size_bytes {
        let left = range.size_bytes - start - kept as u64;
        let room = (buffer.len() - kept).min(usize::try_from(left).unwrap_or(usize::MAX));
        if room as u64 > budget.0 {
            return Ok(false);
        }
        let read = read_full_at(file, range.offset + start + kept as u64, &mut buffer[kept..kept + room])?;
        budget.0 -= read as u64;
        let filled = kept + read;
        if read == 0 || !visit(&buffer[..filled], range.offset + start) {
            return Ok(true);
        }
        kept = overlap.min(filled).min(buffer.len().saturating_sub(1));
        buffer.copy_within(filled - kept..filled, 0);
        start += (filled - kept) as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: usize, at: usize, budget: u64, expect: (bool, Option<u64>)) {
        let mut file = vec![b'.'; size];
        file[at..at + 6].copy_from_slice(b"needle");
        let range = Range { offset: 0, size_bytes: size as u64, address: 0 };
        let mut found = None;
        let complete = windows(&file, range, 5, &mut Budget(budget), &mut |window, offset| {
            found = memchr::memmem::find(window, b"needle").map(|at| offset + at as u64);
            found.is_none()
        });
        assert_eq!((complete.unwrap(), found), expect);
    }

    #[test]
    fn finds_across_windows() {
        let budget = 1 << 30;
        for at in [0, 7, WINDOW_BYTES - 6, WINDOW_BYTES - 3, WINDOW_BYTES, 3 * WINDOW_BYTES - 4] {
            check(3 * WINDOW_BYTES + 100, at, budget, (true, Some(at as u64)));
        }
        check(6, 0, budget, (true, Some(0)));
        check(3 * WINDOW_BYTES, 2 * WINDOW_BYTES, WINDOW_BYTES as u64, (false, None));
    }
}
