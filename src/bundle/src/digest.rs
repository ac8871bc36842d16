//! Size, SHA-256 and CRC-32 of content while it passes through.

use std::io::{self, Read, Write};

use sha2::Digest as _;

use estoppel_evidence::Sha256;

/// What is known about content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measure {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Its CRC-32 (IEEE).
    pub crc32: u32,
}

impl Measure {
    /// The measure of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut meter = Meter::default();
        meter.update(bytes);
        meter.finish()
    }
}

/// Measures what it is shown.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    bytes: u64,
    sha256: sha2::Sha256,
    crc32: crc32fast::Hasher,
}

impl Meter {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64; // widening; no source gives 2^64 bytes
        self.sha256.update(bytes);
        self.crc32.update(bytes);
    }

    pub(crate) fn finish(self) -> Measure {
        Measure {
            bytes: self.bytes,
            sha256: Sha256(self.sha256.finalize().into()),
            crc32: self.crc32.finalize(),
        }
    }
}

/// Measures what is written through it.
pub(crate) struct MeteredWriter<W> {
    pub(crate) inner: W,
    pub(crate) meter: Meter,
}

impl<W: Write> Write for MeteredWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.meter.update(bytes.get(..n).unwrap_or(bytes));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Content whose size and digest are known: the read that reaches its end, or goes past it, fails with
/// [`io::ErrorKind::InvalidData`] if they are others.
pub(crate) struct CheckedReader<R> {
    inner: R,
    left: u64,
    sha256: sha2::Sha256,
    wanted: Sha256,
    done: bool,
}

impl<R: Read> CheckedReader<R> {
    pub(crate) fn new(inner: R, bytes: u64, sha256: Sha256) -> Self {
        Self { inner, left: bytes, sha256: sha2::Sha256::default(), wanted: sha256, done: false }
    }

    /// Whether everything was read and is what it should be.
    pub(crate) fn done(&self) -> bool {
        self.done
    }

    /// The end was reached as announced; nothing may follow.
    fn close(&mut self) -> io::Result<()> {
        let digest: [u8; 32] = std::mem::take(&mut self.sha256).finalize().into();
        if digest != self.wanted.0 || read_some(&mut self.inner, &mut [0])? != 0 {
            return Err(changed());
        }
        self.done = true;
        Ok(())
    }
}

impl<R: Read> Read for CheckedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.done {
            return Ok(0);
        }
        if self.left == 0 {
            self.close()?;
            return Ok(0);
        }
        let n = (&mut self.inner).take(self.left).read(buffer)?;
        if n == 0 {
            return Err(changed());
        }
        self.sha256.update(buffer.get(..n).unwrap_or_default());
        self.left = self.left.saturating_sub(n as u64); // widening
        if self.left == 0 {
            self.close()?;
        }
        Ok(n)
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "content is not of the size and digest that was stated for it")
}

/// One read that is tried again when a signal interrupts it.
pub(crate) fn read_some(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], bytes: u64, sha256: Sha256) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        CheckedReader::new(content, bytes, sha256).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn content_as_announced_passes() {
        for content in [b"".as_slice(), b"x", b"some content"] {
            assert_eq!(read(content, content.len() as u64, Sha256::of(content)).unwrap(), content);
        }
    }

    #[test]
    fn shorter_longer_and_other_content_is_refused() {
        let digest = Sha256::of(b"content");
        for content in [b"conten".as_slice(), b"content!", b"contenu", b""] {
            assert_eq!(read(content, 7, digest).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(read(b"", 0, digest).is_err());
    }

    #[test]
    fn writes_are_measured_as_they_were_taken() {
        struct OneByte(Vec<u8>);
        impl Write for OneByte {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.extend(bytes.first());
                Ok(bytes.len().min(1))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = MeteredWriter { inner: OneByte(Vec::new()), meter: Meter::default() };
        writer.write_all(b"123456789").unwrap();
        let measure = writer.meter.finish();
        assert_eq!(measure, Measure::of(b"123456789"));
        assert_eq!(measure.crc32, 0xcbf4_3926, "the check value of CRC-32/ISO-HDLC");
    }
}
