//! Decompresses and digests the blobs of an image while they stream.
//! It must never produce more bytes than its bound, whatever the compressed stream claims.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_schemas::identity::Sha256Digest;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

/// Most bytes of all uncompressed layers of one image together.
pub const UNCOMPRESSED_MAX_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Largest JSON document (manifest, index, configuration), in bytes.
pub const DOCUMENT_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes read at once.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// How a stream is compressed, judged by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    /// Known, but not allowed in images.
    Foreign(&'static str),
}

impl Compression {
    /// What the first bytes of a stream say.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one that is to be skipped (RFC 8878, section 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Foreign("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Foreign("xz"),
            _ => Self::None,
        }
    }
}

/// Opens a stream of the given compression; at most `max_bytes` + 1 bytes come out of it.
///
/// # Errors
/// If images may not be compressed in this way.
pub fn decompress<'a>(
    stream: impl BufRead + 'a,
    compression: Compression,
    max_bytes: u64,
) -> io::Result<Box<dyn Read + 'a>> {
    let bound = max_bytes.saturating_add(1);
    let buffered = |reader: Box<dyn Read + 'a>| -> Box<dyn Read + 'a> {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, reader.take(bound)))
    };
    match compression {
        Compression::None => Ok(Box::new(stream.take(bound))),
        Compression::Gzip => Ok(buffered(Box::new(flate2::bufread::MultiGzDecoder::new(stream)))),
        Compression::Zstd => Ok(buffered(Box::new(ZstdFrames::new(stream)))),
        Compression::Foreign(name) => {
            Err(io::Error::other(format!("it is compressed by {name}, which images may not be")))
        }
    }
}

/// All frames of a zstd stream: some writers (zstd:chunked, pzstd) make many, with frames to be skipped among them.
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    within_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), within_frame: false }
    }

    /// Begins the next frame with contents; false at the end of the stream.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.within_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within_frame && !self.begin_frame()? {
                break;
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let missing = buffer.len() - self.decoder.can_collect();
                let strategy = BlockDecodingStrategy::UptoBytes(missing);
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.within_frame = false;
        }
        Ok(0)
    }
}

/// Passes bytes on, counts them and, where asked to, digests them.
pub struct DigestReader<R> {
    inner: R,
    hash: Option<Sha256>,
    size_bytes: u64,
}

impl<R: Read> DigestReader<R> {
    /// Digests what is read from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Some(Sha256::new()), size_bytes: 0 }
    }

    /// Only counts what is read from `inner`.
    pub fn counting(inner: R) -> Self {
        Self { inner, hash: None, size_bytes: 0 }
    }

    /// Bytes read so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Reads what is left, and gives digest (where asked for) and size of the whole stream.
    ///
    /// # Errors
    /// If the stream cannot be read to its end.
    pub fn finish(mut self) -> io::Result<(Option<Sha256Digest>, u64)> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.hash.map(|hash| Sha256Digest(hash.finalize().into())), self.size_bytes))
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        self.size_bytes += count as u64;
        Ok(count)
    }
}

/// Fails once the scan is cancelled, so that a long stream ends early.
pub struct CancellableReader<'a, R> {
    inner: R,
    cancelled: &'a AtomicBool,
}

impl<'a, R: Read> CancellableReader<'a, R> {
    pub fn new(inner: R, cancelled: &'a AtomicBool) -> Self {
        Self { inner, cancelled }
    }
}

impl<R: Read> Read for CancellableReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("the scan was cancelled"));
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn unpacked(bytes: &[u8], max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes, Compression::of(bytes), max_bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn streams_of_several_members_and_frames_are_read_whole() {
        let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"meta"].concat();
        let cases = [
            ("plain", b"onetwo".to_vec()),
            ("gzip members", [gzip(b"one"), gzip(b"two")].concat()),
            ("zstd frame", zstd(b"onetwo")),
            ("zstd frames", [zstd(b"one"), zstd(b"two")].concat()),
            ("zstd:chunked", [zstd(b"one"), skipped.clone(), zstd(b"two"), skipped.clone()].concat()),
            ("begins with a skipped frame", [skipped, zstd(b"onetwo")].concat()),
        ];
        for (what, bytes) in cases {
            assert_eq!(unpacked(&bytes, 100).unwrap(), b"onetwo", "{what}");
        }
    }

    #[test]
    fn damaged_and_foreign_streams_are_errors() {
        let long = vec![7; 100_000];
        for (what, bytes) in [
            ("cut gzip", gzip(&long)[..50].to_vec()),
            ("cut zstd", zstd(b"some words")[..9].to_vec()),
            ("garbage behind gzip", [gzip(b"one"), b"garbage".to_vec()].concat()),
            ("garbage behind zstd", [zstd(b"one"), b"garbage".to_vec()].concat()),
            ("cut skipped frame", vec![0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]),
            ("xz", b"\xfd7zXZ\0...".to_vec()),
            ("bzip2", b"BZh9...".to_vec()),
        ] {
            assert!(unpacked(&bytes, u64::MAX).is_err(), "{what}");
        }
    }

    #[test]
    fn a_bomb_stops_at_its_bound() {
        let bomb = gzip(&vec![0; 10 * 1024 * 1024]);
        assert_eq!(unpacked(&bomb, 1_000).unwrap().len(), 1_001);
        assert_eq!(unpacked(&zstd(&vec![0; 10 * 1024 * 1024]), 1_000).unwrap().len(), 1_001);
    }
}
