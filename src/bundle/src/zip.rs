//! The archive form of a bundle: a ZIP that is a function of its content (SPEC section 9).
//!
//! Stored entries only, in byte order of their names, with every other field fixed, so that two writers of the same
//! content make the same bytes and a reader can refuse anything else. [`ZipWriter`] streams: it is told each size and
//! CRC before the content passes through, and holds no content. [`Archive`] reads for our own use (show, replay,
//! disclose) and refuses what is not exactly the form that the writer makes; judging is left to `estoppel-verify`.
//!
//! Absent on purpose: zip64, data descriptors, compression, times, comments, extra fields.

use std::io::{self, Read, Write};

use crate::digest::read_some;
use crate::layout::{ARCHIVE_BYTES_MAX, BundlePath, FILES_MAX, PATH_BYTES_MAX, PathError};

const LOCAL_SIGNATURE: [u8; 4] = 0x0403_4b50_u32.to_le_bytes();
const CENTRAL_SIGNATURE: [u8; 4] = 0x0201_4b50_u32.to_le_bytes();
const END_SIGNATURE: [u8; 4] = 0x0605_4b50_u32.to_le_bytes();
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
/// Version needed 1.0, flags 0, method 0 (stored), time 0, date 1980-01-01: the same in both headers.
const FIXED: [u8; 10] = [10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
/// Where the compression method is in a local header.
const METHOD: std::ops::Range<usize> = 8..10;
/// Bytes that pass through memory at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    #[error("the archive has more than {FILES_MAX} entries")]
    EntriesMax,
    #[error("the archive is larger than {ARCHIVE_BYTES_MAX} bytes")]
    BytesMax,
    #[error("entry `{path}` does not come after the one before it in byte order")]
    Order { path: BundlePath },
    #[error("the content of `{path}` is not what its size and checksum say")]
    Content { path: BundlePath },
    #[error("an entry's name is not a path of a bundle")]
    Path(#[source] PathError),
    #[error("the entry at offset {offset} is compressed")]
    Compressed { offset: u64 },
    #[error("not a bundle archive: {what} at offset {offset}")]
    Form { what: &'static str, offset: u64 },
    #[error("could not read the archive")]
    Read(#[source] io::Error),
    #[error("could not write the archive")]
    Write(#[source] io::Error),
}

/// One entry: where its data start, how many bytes they are, and their CRC-32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipEntry {
    /// Its name.
    pub path: BundlePath,
    /// Size of the content.
    pub bytes: u32,
    /// CRC-32 (IEEE) of the content.
    pub crc32: u32,
    /// Offset of the local header.
    header: u32,
}

impl ZipEntry {
    /// Offset of the content in the archive.
    pub fn offset(&self) -> u64 {
        u64::from(self.header) + (LOCAL_BYTES + self.path.as_str().len()) as u64 // widening
    }

    /// Offset just after the content.
    fn end(&self) -> u64 {
        self.offset() + u64::from(self.bytes)
    }

    /// CRC, size twice and name length: the same in both headers.
    fn shared(&self) -> [u8; 14] {
        let mut out = [0; 14];
        let name_bytes = self.path.as_str().len() as u16; // at most 200
        out[0..4].copy_from_slice(&self.crc32.to_le_bytes());
        out[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        out[12..14].copy_from_slice(&name_bytes.to_le_bytes());
        out
    }

    fn local_header(&self) -> [u8; LOCAL_BYTES] {
        let mut out = [0; LOCAL_BYTES];
        out[0..4].copy_from_slice(&LOCAL_SIGNATURE);
        out[4..14].copy_from_slice(&FIXED);
        out[14..28].copy_from_slice(&self.shared());
        out // extra length 0
    }

    fn central_header(&self) -> [u8; CENTRAL_BYTES] {
        let mut out = [0; CENTRAL_BYTES];
        out[0..4].copy_from_slice(&CENTRAL_SIGNATURE);
        out[4..6].copy_from_slice(&0x0314_u16.to_le_bytes());
        out[6..16].copy_from_slice(&FIXED);
        out[16..30].copy_from_slice(&self.shared());
        // extra 0, comment 0, disk 0, internal 0
        out[38..42].copy_from_slice(&0x81a4_0000_u32.to_le_bytes());
        out[42..46].copy_from_slice(&self.header.to_le_bytes());
        out
    }
}

fn end_record(count: u16, central_bytes: u32, central: u32) -> [u8; END_BYTES] {
    let mut out = [0; END_BYTES];
    out[0..4].copy_from_slice(&END_SIGNATURE);
    out[8..10].copy_from_slice(&count.to_le_bytes());
    out[10..12].copy_from_slice(&count.to_le_bytes());
    out[12..16].copy_from_slice(&central_bytes.to_le_bytes());
    out[16..20].copy_from_slice(&central.to_le_bytes());
    out // disks 0, comment length 0
}

/// Size of the archive that holds files with these paths and sizes.
///
/// # Errors
/// [`ZipError::EntriesMax`] and [`ZipError::BytesMax`]: what cannot be one archive.
pub fn archive_bytes<'a>(files: impl IntoIterator<Item = (&'a BundlePath, u64)>) -> Result<u64, ZipError> {
    let mut count = 0;
    let mut total = END_BYTES as u64; // widening, here and below
    for (path, bytes) in files {
        count += 1;
        let headers = (LOCAL_BYTES + CENTRAL_BYTES + 2 * path.as_str().len()) as u64;
        total = total.checked_add(headers).and_then(|t| t.checked_add(bytes)).ok_or(ZipError::BytesMax)?;
    }
    if count > FILES_MAX {
        return Err(ZipError::EntriesMax);
    }
    if total > ARCHIVE_BYTES_MAX { Err(ZipError::BytesMax) } else { Ok(total) }
}

/// Writes an archive from front to back. It keeps a record of about a hundred bytes per entry, never content.
#[derive(Debug)]
pub struct ZipWriter<W> {
    out: W,
    offset: u64,
    entries: Vec<ZipEntry>,
}

impl<W: Write> ZipWriter<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { out, offset: 0, entries: Vec::new() }
    }

    /// Adds the next entry, in byte order of the names. `content` must give exactly `bytes` bytes with that CRC-32.
    ///
    /// # Errors
    /// Limits, order, content that is not as announced, and the errors of both ends. The archive is then of no use.
    pub fn entry(
        &mut self,
        path: &BundlePath,
        bytes: u64,
        crc32: u32,
        content: &mut dyn Read,
    ) -> Result<(), ZipError> {
        if self.entries.len() >= FILES_MAX {
            return Err(ZipError::EntriesMax);
        }
        if self.entries.last().is_some_and(|last| last.path >= *path) {
            return Err(ZipError::Order { path: path.clone() });
        }
        let bytes = u32::try_from(bytes).map_err(|_| ZipError::BytesMax)?;
        let header = u32::try_from(self.offset).map_err(|_| ZipError::BytesMax)?;
        let entry = ZipEntry { path: path.clone(), bytes, crc32, header };
        self.put(&entry.local_header())?;
        self.put(path.as_str().as_bytes())?;
        self.content(&entry, content)?;
        self.entries.push(entry);
        Ok(())
    }

    fn content(&mut self, entry: &ZipEntry, content: &mut dyn Read) -> Result<(), ZipError> {
        let mut crc = crc32fast::Hasher::new();
        // One byte more than announced is asked for, so that longer content shows.
        let mut content = content.take(u64::from(entry.bytes) + 1);
        let mut left = u64::from(entry.bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = read_some(&mut content, &mut chunk).map_err(ZipError::Read)?;
            let Some(part) = chunk.get(..n).filter(|part| !part.is_empty()) else { break };
            left =
                left.checked_sub(n as u64).ok_or_else(|| ZipError::Content { path: entry.path.clone() })?;
            crc.update(part);
            self.put(part)?;
        }
        if left > 0 || crc.finalize() != entry.crc32 {
            return Err(ZipError::Content { path: entry.path.clone() });
        }
        Ok(())
    }

    /// Writes the central directory and gives the destination back. Flushing and syncing it is left to the caller.
    ///
    /// # Errors
    /// [`ZipError::BytesMax`] and those of the destination.
    pub fn finish(mut self) -> Result<W, ZipError> {
        let central = self.offset;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            self.put(&entry.central_header())?;
            self.put(entry.path.as_str().as_bytes())?;
        }
        let end = end_of(&entries, central, self.offset - central).ok_or(ZipError::BytesMax)?;
        self.put(&end)?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ZipError> {
        let after = self.offset + bytes.len() as u64; // widening; both are far below 2^63
        if after > ARCHIVE_BYTES_MAX {
            return Err(ZipError::BytesMax);
        }
        self.out.write_all(bytes).map_err(ZipError::Write)?;
        self.offset = after;
        Ok(())
    }
}

fn end_of(entries: &[ZipEntry], central: u64, central_bytes: u64) -> Option<[u8; END_BYTES]> {
    let count = u16::try_from(entries.len()).ok()?;
    Some(end_record(count, u32::try_from(central_bytes).ok()?, u32::try_from(central).ok()?))
}

/// Bytes that can be read at any offset, by several readers at once. The caller implements it for its files.
pub trait ReadAt {
    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes at `offset` into `buffer`; 0 only at or after the end, or for an empty buffer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64) // widening
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// Reads on from an offset.
struct Onward<'a, R: ?Sized> {
    source: &'a R,
    offset: u64,
}

impl<R: ReadAt + ?Sized> Read for Onward<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read_at(buffer, self.offset)?;
        self.offset = self.offset.checked_add(n as u64).ok_or(io::ErrorKind::InvalidData)?;
        Ok(n)
    }
}

/// An archive in exactly the form that [`ZipWriter`] makes. Content is checked against its CRC when it is read.
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    entries: Vec<ZipEntry>, // INVARIANT: sorted by path, none twice
}

impl<R: ReadAt> Archive<R> {
    /// Reads the local headers from front to back and compares the rest with what they call for. The content is
    /// skipped.
    ///
    /// # Errors
    /// [`ZipError::Form`] and its like for everything that is not the canonical form.
    pub fn open(source: R) -> Result<Self, ZipError> {
        let total = source.size().map_err(ZipError::Read)?;
        if total > ARCHIVE_BYTES_MAX {
            return Err(ZipError::BytesMax);
        }
        let mut entries: Vec<ZipEntry> = Vec::new();
        let mut offset = 0;
        while let Some(entry) = local_entry(&source, offset)? {
            if entries.len() == FILES_MAX {
                return Err(ZipError::EntriesMax);
            }
            if entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(ZipError::Order { path: entry.path });
            }
            offset = entry.end();
            if offset > total {
                return Err(ZipError::Form { what: "content that ends before its size", offset: total });
            }
            entries.push(entry);
        }
        let end = central_directory(&source, &entries, offset)?;
        if end != total {
            return Err(ZipError::Form { what: "bytes after the end record", offset: end });
        }
        Ok(Self { source, entries })
    }

    /// The entries in byte order of their names.
    pub fn entries(&self) -> &[ZipEntry] {
        &self.entries
    }

    /// The entry with that name.
    pub fn find(&self, path: &str) -> Option<&ZipEntry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// The content of an entry of this archive. The read that reaches its end fails with
    /// [`io::ErrorKind::InvalidData`] if the CRC is not that of the content.
    pub fn content(&self, entry: &ZipEntry) -> Content<'_, R> {
        let from = Onward { source: &self.source, offset: entry.offset() };
        Content { from, left: u64::from(entry.bytes), crc: crc32fast::Hasher::new(), crc32: entry.crc32 }
    }
}

/// The content of one entry.
pub struct Content<'a, R> {
    from: Onward<'a, R>,
    left: u64,
    crc: crc32fast::Hasher,
    crc32: u32,
}

impl<R: ReadAt> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = (&mut self.from).take(self.left).read(buffer)?;
        self.left = self.left.saturating_sub(n as u64);
        self.crc.update(buffer.get(..n).unwrap_or_default());
        match (n, self.left) {
            (0, 1..) => Err(io::ErrorKind::UnexpectedEof.into()),
            (_, 0) if self.crc.clone().finalize() != self.crc32 => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an entry's checksum is not that of its content",
            )),
            _ => Ok(n),
        }
    }
}

/// The entry whose local header is at `offset`; `None` when no local header stands there.
fn local_entry(source: &impl ReadAt, offset: u64) -> Result<Option<ZipEntry>, ZipError> {
    let form = |what| ZipError::Form { what, offset };
    let mut buffer = [0; LOCAL_BYTES + PATH_BYTES_MAX];
    let n = read_full(&mut Onward { source, offset }, &mut buffer)?;
    let found = buffer.get(..n).unwrap_or_default();
    if !found.starts_with(&LOCAL_SIGNATURE) {
        return Ok(None);
    }
    let Some((header, rest)) = found.split_first_chunk::<LOCAL_BYTES>() else {
        return Err(form("a local header that is cut short"));
    };
    if header.get(METHOD) != Some(&[0, 0]) {
        return Err(ZipError::Compressed { offset });
    }
    let name_bytes = usize::from(u16_at(header, 26));
    let name = rest.get(..name_bytes).ok_or_else(|| form("a name that is cut short or too long"))?;
    let name = std::str::from_utf8(name).map_err(|_| form("a name that is not UTF-8"))?;
    let path = name.parse().map_err(ZipError::Path)?;
    let header_offset = u32::try_from(offset).map_err(|_| ZipError::BytesMax)?;
    let entry =
        ZipEntry { path, bytes: u32_at(header, 18), crc32: u32_at(header, 14), header: header_offset };
    if entry.local_header() != *header {
        return Err(form("a local header with other values"));
    }
    Ok(Some(entry))
}

/// Compares the bytes at `central` with the directory and end record that `entries` call for; returns where they end.
fn central_directory(source: &impl ReadAt, entries: &[ZipEntry], central: u64) -> Result<u64, ZipError> {
    let mut rest = io::BufReader::with_capacity(CHUNK_BYTES, Onward { source, offset: central });
    let mut offset = central;
    for entry in entries {
        expect(&mut rest, &mut offset, &entry.central_header(), "another central header")?;
        expect(&mut rest, &mut offset, entry.path.as_str().as_bytes(), "another central name")?;
    }
    let end = end_of(entries, central, offset - central).ok_or(ZipError::BytesMax)?;
    expect(&mut rest, &mut offset, &end, "another end record")?;
    Ok(offset)
}

fn expect(
    source: &mut impl Read,
    offset: &mut u64,
    wanted: &[u8],
    what: &'static str,
) -> Result<(), ZipError> {
    let mut buffer = [0; PATH_BYTES_MAX];
    let found = buffer.get_mut(..wanted.len()).ok_or(ZipError::Form { what, offset: *offset })?;
    let n = read_full(source, found)?;
    if found != wanted || n != wanted.len() {
        return Err(ZipError::Form { what, offset: *offset });
    }
    *offset += wanted.len() as u64; // widening
    Ok(())
}

/// Reads until `buffer` is full or the source ends; returns how many bytes that was.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ZipError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read_some(source, rest).map_err(ZipError::Read)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn u16_at(header: &[u8; LOCAL_BYTES], at: usize) -> u16 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(header: &[u8; LOCAL_BYTES], at: usize) -> u32 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Files = BTreeMap<BundlePath, Vec<u8>>;

    fn files(list: &[(&str, &[u8])]) -> Files {
        list.iter().map(|(path, content)| (path.parse().unwrap(), content.to_vec())).collect()
    }

    fn write(files: &Files) -> Vec<u8> {
        let mut zip = ZipWriter::new(Vec::new());
        for (path, content) in files {
            zip.entry(path, content.len() as u64, crc32fast::hash(content), &mut content.as_slice()).unwrap();
        }
        zip.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Files, ZipError> {
        let archive = Archive::open(bytes)?;
        let mut files = Files::new();
        for entry in archive.entries() {
            let mut content = Vec::new();
            archive.content(entry).read_to_end(&mut content).map_err(ZipError::Read)?;
            files.insert(entry.path.clone(), content);
        }
        Ok(files)
    }

    fn three() -> Files {
        files(&[("SHA256SUMS", b"sums\n"), ("a/b-c", b""), ("receipts.ndjson", b"{}\n{}\n")])
    }

    #[test]
    fn the_smallest_archive_has_these_bytes() {
        let local = b"PK\x03\x04\x0a\0\0\0\0\0\0\0\x21\0\x83\x16\xdc\x8c\x01\0\0\0\x01\0\0\0\x01\0\0\0ax";
        let central = b"PK\x01\x02\x14\x03\x0a\0\0\0\0\0\0\0\x21\0\x83\x16\xdc\x8c\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\xa4\x81\0\0\0\0a";
        let end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x2f\0\0\0\x20\0\0\0\0\0";
        let bytes = write(&files(&[("a", b"x")]));
        assert_eq!(bytes, [local.as_slice(), central, end].concat());
        assert_eq!(archive_bytes([(&"a".parse().unwrap(), 1)]).unwrap(), bytes.len() as u64);
        assert_eq!(read(&write(&Files::new())).unwrap(), Files::new());
    }

    #[test]
    fn every_change_of_one_byte_is_refused() {
        let bytes = write(&three());
        for at in 0..bytes.len() {
            for flip in 1..=255 {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                assert!(read(&changed).is_err(), "byte {at} changed by {flip:#x}");
            }
        }
    }

    #[test]
    fn every_change_of_the_container_is_refused_before_content_is_read() {
        let bytes = write(&three());
        let entries = Archive::open(bytes.as_slice()).unwrap().entries;
        let is_content = |at: usize| entries.iter().any(|e| (e.offset()..e.end()).contains(&(at as u64)));
        for at in (0..bytes.len()).filter(|at| !is_content(*at)) {
            for flip in [1, 0x20, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                assert!(Archive::open(changed).is_err(), "byte {at} changed by {flip:#x}");
            }
        }
    }

    #[test]
    fn archives_that_are_cut_or_continued_are_refused() {
        let bytes = write(&three());
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        for more in [b"\0".as_slice(), b"PK", &bytes] {
            assert!(read(&[&bytes, more].concat()).is_err());
            assert!(read(&[more, &bytes].concat()).is_err());
        }
    }

    #[test]
    fn compressed_entries_are_called_that() {
        let mut bytes = write(&three());
        bytes[8] = 8;
        assert!(matches!(Archive::open(bytes), Err(ZipError::Compressed { offset: 0 })));
    }

    #[test]
    fn names_that_leave_the_bundle_are_refused() {
        let bytes = write(&files(&[("aaaa", b"")]));
        for name in [b"/etc", b"../a", b"a/..", b"a//b", b"A\0aa", b"\xff\xfe\xfd\xfc"] {
            let mut changed = bytes.clone();
            let len = changed.len();
            changed[LOCAL_BYTES..LOCAL_BYTES + 4].copy_from_slice(name);
            changed[len - END_BYTES - 4..len - END_BYTES].copy_from_slice(name);
            assert!(
                matches!(Archive::open(changed), Err(ZipError::Path(_) | ZipError::Form { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn entries_out_of_order_or_twice_are_refused_on_both_sides() {
        let mut zip = ZipWriter::new(Vec::new());
        let [a, b]: [BundlePath; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
        zip.entry(&b, 0, 0, &mut io::empty()).unwrap();
        for path in [&a, &b] {
            assert!(matches!(zip.entry(path, 0, 0, &mut io::empty()), Err(ZipError::Order { .. })));
        }
        let bytes = write(&files(&[("a", b""), ("b", b"")]));
        for (first, second) in [(b'b', b'a'), (b'a', b'a')] {
            let mut changed = bytes.clone();
            (changed[30], changed[61]) = (first, second);
            assert!(matches!(Archive::open(changed), Err(ZipError::Order { .. })));
        }
    }

    #[test]
    fn content_other_than_announced_is_refused() {
        let path: BundlePath = "a".parse().unwrap();
        for (bytes, crc32) in [(2, crc32fast::hash(b"abc")), (4, crc32fast::hash(b"abc")), (3, 1)] {
            let mut zip = ZipWriter::new(io::sink());
            assert!(matches!(
                zip.entry(&path, bytes, crc32, &mut b"abc".as_slice()),
                Err(ZipError::Content { .. })
            ));
        }
    }

    fn numbered(n: usize) -> BundlePath {
        format!("{n:05}").parse().unwrap()
    }

    #[test]
    fn more_entries_than_the_limit_are_refused_on_both_sides() {
        let mut zip = ZipWriter::new(Vec::new());
        for n in 0..FILES_MAX {
            zip.entry(&numbered(n), 0, 0, &mut io::empty()).unwrap();
        }
        assert!(matches!(zip.entry(&numbered(FILES_MAX), 0, 0, &mut io::empty()), Err(ZipError::EntriesMax)));
        let bytes = zip.finish().unwrap();
        assert_eq!(Archive::open(bytes.as_slice()).unwrap().entries().len(), FILES_MAX);
        let central = FILES_MAX * (LOCAL_BYTES + 5);
        let path = numbered(FILES_MAX);
        let entry = ZipEntry { path, bytes: 0, crc32: 0, header: 0 };
        let one_more = [&bytes[..central], &entry.local_header(), b"65534"].concat();
        assert!(matches!(Archive::open(one_more), Err(ZipError::EntriesMax)));
    }

    #[test]
    fn more_than_four_gibibytes_are_refused_on_both_sides() {
        struct Huge;
        impl ReadAt for Huge {
            fn size(&self) -> io::Result<u64> {
                Ok(ARCHIVE_BYTES_MAX + 1)
            }
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
                Ok(0)
            }
        }
        assert!(matches!(Archive::open(Huge), Err(ZipError::BytesMax)));
        let path: BundlePath = "a".parse().unwrap();
        let headers = archive_bytes([(&path, 0)]).unwrap();
        assert!(archive_bytes([(&path, ARCHIVE_BYTES_MAX - headers)]).is_ok());
        assert!(matches!(archive_bytes([(&path, ARCHIVE_BYTES_MAX - headers + 1)]), Err(ZipError::BytesMax)));
        assert!(matches!(archive_bytes([(&path, u64::MAX)]), Err(ZipError::BytesMax)));
        let mut zip = ZipWriter::new(io::sink());
        assert!(matches!(zip.entry(&path, 1 << 32, 0, &mut io::empty()), Err(ZipError::BytesMax)));
    }

    #[test]
    fn content_is_found_by_name_and_read_in_small_pieces() {
        let bytes = write(&three());
        let archive = Archive::open(bytes).unwrap();
        let mut content = archive.content(archive.find("receipts.ndjson").unwrap());
        let mut piece = [0; 1];
        let mut out = Vec::new();
        while content.read(&mut piece).unwrap() == 1 {
            out.push(piece[0]);
        }
        assert_eq!(out, b"{}\n{}\n");
        assert!(archive.find("receipts").is_none());
    }

    fn any_files() -> impl Strategy<Value = Files> {
        let path = "[a-z0-9_-][a-z0-9._-]{0,8}(/[a-z0-9_-][a-z0-9._-]{0,8}){0,3}";
        let path = path.prop_map(|text: String| text.parse::<BundlePath>().unwrap());
        prop::collection::btree_map(path, prop::collection::vec(any::<u8>(), 0..300), 0..12)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(files in any_files()) {
            let bytes = write(&files);
            let sizes = files.iter().map(|(path, content)| (path, content.len() as u64));
            prop_assert_eq!(archive_bytes(sizes).unwrap(), bytes.len() as u64);
            prop_assert_eq!(read(&bytes).unwrap(), files);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            crate::fuzz_open(&bytes);
        }

        #[test]
        fn damaged_archives_never_panic(
            files in any_files(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = write(&files);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            crate::fuzz_open(&bytes);
        }
    }
}
