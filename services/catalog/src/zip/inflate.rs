//! Inflates members of archives (RFC 1951) within a budget that all members of an archive share.
//! Never produces more than the budget has left, whatever the compressed data claim.

use super::ZipError;
use crate::digest::SliceAt;
use crate::tree::ReadAt;
use flate2::{Decompress, FlushDecompress, Status};

/// Bytes of compressed data read at once.
const INPUT_BYTES: usize = 32 * 1024;
/// Bytes by which the output grows at least.
const STEP_BYTES: usize = 8 * 1024;
/// What any archive may inflate to, however small it is.
const BASE_BYTES: u64 = 4 * 1024 * 1024;
/// By how much what is read of an archive may be larger than the archive itself; real ones stay below 12.
const MAX_RATIO: u64 = 40;

/// How many bytes may still be read from an archive and all archives within it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    left_bytes: u64,
}

impl Budget {
    /// The budget of an archive of this size.
    pub fn of(size_bytes: u64) -> Self {
        Self { left_bytes: BASE_BYTES.saturating_add(size_bytes.saturating_mul(MAX_RATIO)) }
    }

    /// `wanted` bytes from the budget, all of them.
    pub(crate) fn take(&mut self, wanted: usize) -> Result<usize, ZipError> {
        self.left_bytes = self.left_bytes.checked_sub(wanted as u64).ok_or(ZipError::TooLong)?;
        Ok(wanted)
    }
}

/// The first `wanted` bytes that `data` inflate to; fewer when they end before.
pub(crate) fn inflate(data: &SliceAt<'_>, wanted: usize, budget: &mut Budget) -> Result<Vec<u8>, ZipError> {
    run(Decompress::new(false), data, wanted, budget)
}

/// [`inflate`] of data with zlib's header in front (RFC 1950).
pub(crate) fn inflate_zlib(
    data: &SliceAt<'_>,
    wanted: usize,
    budget: &mut Budget,
) -> Result<Vec<u8>, ZipError> {
    run(Decompress::new(true), data, wanted, budget)
}

fn run(
    mut inflater: Decompress,
    data: &SliceAt<'_>,
    wanted: usize,
    budget: &mut Budget,
) -> Result<Vec<u8>, ZipError> {
    let mut input = vec![0; INPUT_BYTES.min(usize::try_from(data.size()).unwrap_or(INPUT_BYTES))];
    let (mut input_at, mut input_end, mut read) = (0, 0, 0u64);
    let mut output: Vec<u8> = Vec::new();
    while output.len() < wanted {
        if input_at == input_end {
            input_end = data.read_at(read, &mut input)?;
            (input_at, read) = (0, read + input_end as u64);
        }
        // Grows with what really came out, not with what the archive says.
        let room = (wanted - output.len()).min(output.len().max(STEP_BYTES));
        output.reserve_exact(budget.take(room)?);
        let filled = output.len();
        output.resize(filled + room, 0);
        let (in_before, out_before) = (inflater.total_in(), inflater.total_out());
        let status = inflater
            .decompress(&input[input_at..input_end], &mut output[filled..], FlushDecompress::None)
            .map_err(|_| ZipError::Data)?;
        let consumed = (inflater.total_in() - in_before) as usize;
        let produced = (inflater.total_out() - out_before) as usize;
        input_at += consumed;
        output.truncate(filled + produced);
        budget.left_bytes += (room - produced) as u64;
        if status == Status::StreamEnd {
            break;
        }
        let is_stuck = input_end == 0 || input_at < input_end;
        if consumed == 0 && produced == 0 && is_stuck {
            return Err(ZipError::Data);
        }
    }
    Ok(output)
}
