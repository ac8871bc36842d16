//! Segment files and their frames (SPEC section 12).
//!
//! Encoding and decoding are functions over bytes; [`Segment`] is an open file that frames are appended to, and
//! [`FrameReader`] walks one. A segment gets its final name only when its header is durable, so a file with that name
//! always has a good header.

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::Instance;
use estoppel_evidence::capture::STREAM_NODES_MAX;
use estoppel_evidence::entry::LINE_BYTES_MAX;
use estoppel_evidence::hash::Leaf;

use crate::storage::{Directory, Storage, StorageFile, read_full, temporary};

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 256;
const MAGIC: &[u8; 8] = b"PEFSEG0\n";
const NAME_BYTES_MAX: usize = 202;
/// Bytes of a frame before its payload.
pub(crate) const FRAME_BYTES: usize = 17;
/// Bytes of the frame that closes a segment.
pub(crate) const END_BYTES: u64 = FRAME_BYTES as u64 + 1;
/// Bytes of a signature in an entry frame.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// Largest payload: a blob with the most nodes that a stream may have.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 32 + 32 * STREAM_NODES_MAX;
const CHECKPOINT_BYTES_MAX: usize = 1024;
/// Largest segment, so that one can be held in memory by whoever verifies it.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Bytes that a reader takes from the file at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameKind {
    Entry = 1,
    Blob = 2,
    Checkpoint = 3,
    End = 4,
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Blob,
            3 => Self::Checkpoint,
            4 => Self::End,
            _ => return None,
        })
    }

    /// Whether a payload of this kind can be that long.
    fn takes(self, bytes: usize) -> bool {
        match self {
            Self::Entry => (2..=1 + SIGNATURE_BYTES + LINE_BYTES_MAX).contains(&bytes),
            Self::Blob => (32..=PAYLOAD_BYTES_MAX).contains(&bytes),
            Self::Checkpoint => (1..=CHECKPOINT_BYTES_MAX).contains(&bytes),
            Self::End => bytes == 1,
        }
    }
}

/// A whole frame with a right checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame<'a> {
    pub kind: FrameKind,
    pub index: u64,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes that it takes in the segment.
    pub fn bytes(&self) -> u64 {
        (FRAME_BYTES + self.payload.len()) as u64 // bounded by the payload's limit
    }

    /// Signature and line of an entry frame.
    pub fn entry(&self) -> Option<(Option<&'a [u8; SIGNATURE_BYTES]>, &'a [u8])> {
        let (&length, rest) = self.payload.split_first()?;
        match usize::from(length) {
            0 => Some((None, rest)),
            SIGNATURE_BYTES => {
                let (signature, line) = rest.split_first_chunk()?;
                Some((Some(signature), line))
            }
            _ => None,
        }
    }

    /// Digest and content of a blob frame.
    pub fn blob(&self) -> Option<(&'a [u8; 32], &'a [u8])> {
        self.payload.split_first_chunk()
    }
}

/// Appends a frame whose payload is `parts`, one after the other.
pub(crate) fn encode(out: &mut Vec<u8>, kind: FrameKind, index: u64, parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(kind.takes(bytes));
    let start = out.len();
    out.extend_from_slice(&(bytes as u32).to_le_bytes()); // at most `PAYLOAD_BYTES_MAX`
    out.push(kind as u8);
    out.extend_from_slice(&index.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(out.get(start..).unwrap_or_default());
    parts.iter().for_each(|part| crc.update(part));
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Bytes that a frame with that payload takes.
pub(crate) fn frame_bytes(payload: usize) -> u64 {
    (FRAME_BYTES + payload) as u64 // bounded by the payload's limit
}

/// Smallest segment that takes frames of that size.
pub(crate) fn bytes_for(frames: u64) -> u64 {
    HEADER_BYTES as u64 + frames + END_BYTES
}

/// What stands at some place of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found<'a> {
    Frame(Frame<'a>),
    /// More bytes are needed: so many from here.
    Short(usize),
    /// No frame.
    Bad,
}

/// Reads the frame at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Found<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_BYTES>() else {
        return Found::Short(FRAME_BYTES);
    };
    let [l0, l1, l2, l3, kind, i0, i1, i2, i3, i4, i5, i6, i7, c0, c1, c2, c3] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize; // 32 bits fit
    let Some(kind) = FrameKind::of(kind).filter(|kind| kind.takes(length)) else { return Found::Bad };
    let Some(payload) = rest.get(..length) else { return Found::Short(FRAME_BYTES + length) };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[l0, l1, l2, l3, kind as u8, i0, i1, i2, i3, i4, i5, i6, i7]);
    crc.update(payload);
    if crc.finalize() != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Found::Bad;
    }
    Found::Frame(Frame { kind, index: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]), payload })
}

/// The header of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Log index of the first entry.
    pub first: u64,
    /// Entry hash of the entry before it; none in the first segment.
    pub previous: Option<Leaf>,
    /// Whose log this is.
    pub instance: Instance,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let name = self.instance.as_str().as_bytes();
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.previous.map_or([0; 32], |leaf| leaf.0));
        out.extend_from_slice(&(name.len() as u16).to_le_bytes()); // an instance has at most 139 bytes
        out.extend_from_slice(name);
        out.resize(HEADER_BYTES - 4, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.try_into().expect("the name fits, so the parts add up to the header's size")
    }

    /// `None` when it is not a header.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let body = body.strip_prefix(MAGIC)?;
        let (first, body) = body.split_first_chunk::<8>()?;
        let (previous, body) = body.split_first_chunk::<32>()?;
        let (length, name) = body.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (name, fill) = name.get(..NAME_BYTES_MAX)?.split_at_checked(length)?;
        let instance = std::str::from_utf8(name).ok()?.parse().ok()?;
        let previous = (*previous != [0; 32]).then_some(Leaf(*previous));
        let first = u64::from_le_bytes(*first);
        (fill.iter().all(|b| *b == 0)).then_some(Self { first, previous, instance })
    }
}

/// File name of the segment that starts with entry `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The first entry of the segment with that file name; `None` when it is not a segment's.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let first = name.strip_suffix(".seg")?.parse().ok()?;
    (file_name(first) == name).then_some(first)
}

/// A segment that is appended to.
pub(crate) struct Segment {
    file: Box<dyn StorageFile>,
    /// Where the next frame goes.
    pub offset: u64,
    bytes: u64,
}

/// A segment that is complete but for its name.
pub(crate) struct Prepared {
    segment: Segment,
    temporary: PathBuf,
    path: PathBuf,
}

impl Segment {
    /// A segment that recovery found, to be continued at `offset`.
    pub fn resume(file: Box<dyn StorageFile>, offset: u64, bytes: u64) -> Self {
        Self { file, offset, bytes }
    }

    /// Makes the next segment under a temporary name, in `spare` if there is one. After an error nothing is left.
    pub fn prepare(
        storage: &dyn Storage,
        dir: &Path,
        header: &Header,
        bytes: u64,
        spare: Option<(Box<dyn StorageFile>, PathBuf)>,
    ) -> io::Result<Prepared> {
        let path = dir.join(file_name(header.first));
        let temporary = temporary(&path);
        let made = match spare {
            Some((file, spare)) => storage
                .rename(&spare, &temporary)
                .and_then(|()| if file.len()? < bytes { file.allocate(bytes) } else { Ok(()) })
                .and_then(|()| begin(file, header)),
            None => make(storage, &temporary, header, bytes),
        };
        match made {
            Ok(file) => {
                let segment = Self { file, offset: HEADER_BYTES as u64, bytes };
                Ok(Prepared { segment, temporary, path })
            }
            Err(error) => {
                if let Err(left) = storage.remove(&temporary)
                    && left.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(error = %left, "an unfinished segment could not be removed");
                }
                Err(error)
            }
        }
    }

    /// Bytes that frames can still take, with the end frame set aside.
    pub fn room(&self) -> u64 {
        self.bytes.saturating_sub(self.offset + END_BYTES)
    }

    /// Writes whole frames.
    pub fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_at(frames, self.offset)?;
        self.offset += frames.len() as u64; // bounded by `room`
        Ok(())
    }

    /// Whether its file still has a name.
    pub fn is_named(&self) -> io::Result<bool> {
        self.file.is_named()
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn make(storage: &dyn Storage, path: &Path, header: &Header, bytes: u64) -> io::Result<Box<dyn StorageFile>> {
    let file = storage.create(path)?;
    file.allocate(bytes)?;
    begin(file, header)
}

fn begin(file: Box<dyn StorageFile>, header: &Header) -> io::Result<Box<dyn StorageFile>> {
    file.write_at(&header.encode(), 0)?;
    file.sync_all()?;
    Ok(file)
}

/// Room for a segment, without a header, in place of what an earlier process left there. After an error nothing is left.
pub(crate) fn lay_out(storage: &dyn Storage, path: &Path, bytes: u64) -> io::Result<Box<dyn StorageFile>> {
    let left = storage.remove(path);
    if let Err(error) = left
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let made = storage
        .create(path)
        .and_then(|file| file.allocate(bytes).and_then(|()| file.sync_all()).map(|()| file));
    if made.is_err()
        && let Err(left) = storage.remove(path)
        && left.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(error = %left, "an unfinished spare could not be removed");
    }
    made
}

impl Prepared {
    /// Gives the segment its name; only then may it be used. May be tried again.
    pub fn publish(self, storage: &dyn Storage, dir: &dyn Directory) -> Result<Segment, (Self, io::Error)> {
        match storage.rename(&self.temporary, &self.path).and_then(|()| dir.sync()) {
            Ok(()) => Ok(self.segment),
            Err(error) => Err((self, error)),
        }
    }
}

/// Walks the frames of a segment with one buffer.
pub(crate) struct FrameReader<'f> {
    file: &'f dyn StorageFile,
    /// Bytes of the file.
    pub bytes: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer starts.
    base: u64,
    /// Bytes that are read at a time.
    chunk: usize,
}

impl<'f> FrameReader<'f> {
    pub fn new(file: &'f dyn StorageFile) -> io::Result<Self> {
        Ok(Self { file, bytes: file.len()?, buffer: Vec::new(), base: 0, chunk: CHUNK_BYTES })
    }

    /// With a buffer of another size.
    pub fn in_chunks(file: &'f dyn StorageFile, chunk: usize) -> io::Result<Self> {
        Ok(Self { chunk, ..Self::new(file)? })
    }

    /// For one frame: what follows it is not read.
    pub fn for_one(file: &'f dyn StorageFile) -> io::Result<Self> {
        Ok(Self { chunk: FRAME_BYTES, ..Self::new(file)? })
    }

    /// At least `wanted` bytes from `offset` on, or all there are.
    pub fn at(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let end = self.base + self.buffer.len() as u64;
        let inside = offset >= self.base && offset + wanted as u64 <= end.max(self.base);
        if !inside && (offset < self.base || end < self.bytes || offset > end) {
            self.buffer.resize(self.chunk.max(wanted), 0);
            let n = read_full(self.file, &mut self.buffer, offset)?;
            self.buffer.truncate(n);
            self.base = offset;
        }
        let skip = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    /// The frame at `offset`; `None` when there is none.
    pub fn frame(&mut self, offset: u64) -> io::Result<Option<Frame<'_>>> {
        let mut wanted = FRAME_BYTES;
        if let Found::Short(more) = decode(self.at(offset, wanted)?) {
            wanted = more;
        }
        if let Found::Short(more) = decode(self.at(offset, wanted)?) {
            wanted = more;
        }
        match decode(self.at(offset, wanted)?) {
            Found::Frame(frame) => Ok(Some(frame)),
            Found::Short(_) | Found::Bad => Ok(None),
        }
    }

    /// The last byte at or after `offset` that is not zero, as the offset after it; `offset` when all are zero.
    pub fn content_end(&mut self, offset: u64) -> io::Result<u64> {
        let (mut at, mut end) = (offset, offset);
        loop {
            let chunk = self.at(at, 1)?;
            if chunk.is_empty() {
                return Ok(end);
            }
            if let Some(last) = chunk.iter().rposition(|b| *b != 0) {
                end = at + last as u64 + 1;
            }
            at += chunk.len() as u64;
        }
    }

    /// Whether a frame stands anywhere in `from..to`.
    pub fn any_frame(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            // The kind is looked at first: it rules out nearly every place without a read of its own.
            let window = self.at(at, FRAME_BYTES)?;
            let next = window.windows(FRAME_BYTES).position(|head| FrameKind::of(head[4]).is_some());
            match next {
                None => at += (window.len().saturating_sub(FRAME_BYTES - 1)).max(1) as u64,
                Some(skip) => {
                    at += skip as u64;
                    if at < to && self.frame(at)?.is_some() {
                        return Ok(true);
                    }
                    at += 1;
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileSystem;

    fn header() -> Header {
        Header { first: 7, previous: Some(Leaf([9; 32])), instance: "gw.local/main/1".parse().unwrap() }
    }

    fn frames() -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, FrameKind::Blob, 7, &[&[1; 32], b"nodes"]);
        encode(&mut out, FrameKind::Entry, 7, &[&[0], b"{}"]);
        encode(&mut out, FrameKind::Entry, 8, &[&[64], &[5; 64], b"{}"]);
        encode(&mut out, FrameKind::End, 9, &[&[0]]);
        out
    }

    #[test]
    fn headers_read_back_and_no_changed_byte_passes() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Some(header()));
        for at in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Header::decode(&changed), None, "{at}");
        }
    }

    #[test]
    fn frames_read_back_and_no_changed_byte_passes() {
        let bytes = frames();
        let mut at = 0;
        let mut kinds = Vec::new();
        while let Found::Frame(frame) = decode(&bytes[at..]) {
            kinds.push((frame.kind, frame.index));
            at += frame.bytes() as usize;
        }
        assert_eq!(
            kinds,
            [(FrameKind::Blob, 7), (FrameKind::Entry, 7), (FrameKind::Entry, 8), (FrameKind::End, 9)]
        );
        assert_eq!(at, bytes.len());
        let Found::Frame(first) = decode(&bytes) else { panic!() };
        for at in 0..first.bytes() as usize {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!matches!(decode(&changed), Found::Frame(_)), "{at}");
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(decode(&[0; 100]), Found::Bad);
    }

    #[test]
    fn a_frame_is_found_wherever_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        for skip in [0, 1, 5, CHUNK_BYTES - 20, CHUNK_BYTES - 3, CHUNK_BYTES, CHUNK_BYTES + 1] {
            let file = FileSystem.open_write(&dir.path().join("f")).unwrap();
            file.set_len(0).unwrap();
            file.write_at(&vec![1; skip], 0).unwrap();
            file.write_at(&frames(), skip as u64).unwrap();
            file.set_len(3 * CHUNK_BYTES as u64).unwrap();
            let mut reader = FrameReader::new(&*file).unwrap();
            assert!(reader.any_frame(0, 3 * CHUNK_BYTES as u64).unwrap(), "{skip}");
            let end = skip as u64 + frames().len() as u64;
            assert_eq!(reader.content_end(0).unwrap(), end - 1, "the end frame's payload is a zero");
            assert!(!reader.any_frame(end - 10, 3 * CHUNK_BYTES as u64).unwrap());
        }
    }

    #[test]
    fn names_are_twenty_digits() {
        assert_eq!(file_name(7), "00000000000000000007.seg");
        assert_eq!(first_of("00000000000000000007.seg"), Some(7));
        for name in ["7.seg", "00000000000000000007.seg.tmp", "0000000000000000000x.seg", "checkpoint"] {
            assert_eq!(first_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_segment_that_cannot_be_made_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let result = Segment::prepare(&FileSystem, &dir.path().join("missing"), &header(), 1 << 20, None);
        assert!(result.is_err());
        let prepared = Segment::prepare(&FileSystem, dir.path(), &header(), 1 << 20, None).unwrap();
        assert_eq!(FileSystem.list(dir.path()).unwrap(), ["00000000000000000007.seg.tmp"]);
        let held = FileSystem.open_dir(dir.path()).unwrap();
        assert!(prepared.publish(&FileSystem, &*held).is_ok());
        assert_eq!(FileSystem.list(dir.path()).unwrap(), ["00000000000000000007.seg"]);
    }
}
