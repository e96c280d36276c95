//! Decompresses and digests the blobs of an image while they stream.
//! It must never produce more bytes than its bound, whatever the compressed stream claims.

use std::io::{self, BufRead, BufReader, Read};

use plimsoll_schemas::identity::Sha256Digest;
use sha2::{Digest, Sha256};

/// Largest uncompressed layer, in bytes.
pub const LAYER_MAX_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Largest JSON document (manifest, index, configuration), in bytes.
pub const DOCUMENT_MAX_BYTES: u64 = 8 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens a layer stream, whatever its compression, judged by its first bytes.
///
/// # Errors
/// If the stream cannot be read, or is compressed in a way that we do not know.
pub fn decompress<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut buffered = BufReader::with_capacity(BUFFER_BYTES, stream);
    let head = buffered.fill_buf()?;
    let reader: Box<dyn Read + 'a> = match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(buffered).map_err(io::Error::other)?;
            Box::new(decoder)
        }
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            return Err(io::Error::other("the layer is compressed by bzip2 or xz, which images may not be"));
        }
        _ => Box::new(buffered),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader.take(LAYER_MAX_BYTES + 1))))
}

/// Passes bytes on and digests them.
pub struct DigestReader<R> {
    inner: R,
    hash: Sha256,
    size_bytes: u64,
}

impl<R: Read> DigestReader<R> {
    /// Digests what is read from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), size_bytes: 0 }
    }

    /// Reads what is left, and gives digest and size of the whole stream.
    ///
    /// # Errors
    /// If the stream cannot be read to its end.
    pub fn finish(mut self) -> io::Result<(Sha256Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Sha256Digest(self.hash.finalize().into()), self.size_bytes))
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}
