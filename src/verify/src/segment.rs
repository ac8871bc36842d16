//! Segments of a journal: their header and their frames (SPEC section 12).

use crate::crc::crc32;
use crate::hash::Hash;

pub(crate) const HEADER_BYTES: usize = 256;
const MAGIC: [u8; 8] = *b"PEFSEG0\n";
/// Bytes that an instance name has room for.
const NAME_BYTES_MAX: usize = 202;

/// The header of a segment.
pub(crate) struct Header {
    pub name: String,
    pub first: u64,
    /// Hash of the entry before it.
    pub before: Hash,
    pub iss: String,
}

/// Reads the header of the segment that is called `name`; says in words what is wrong with it.
pub(crate) fn read_header(name: &str, bytes: &[u8]) -> Result<Header, String> {
    let bytes: &[u8; HEADER_BYTES] = bytes
        .first_chunk()
        .ok_or_else(|| format!("expected a header of 256 bytes, found {}", bytes.len()))?;
    let (covered, crc) = bytes.split_last_chunk::<4>().ok_or("no CRC")?;
    if crc32(&[covered]) != u32::from_le_bytes(*crc) {
        return Err("the header's CRC-32 is wrong".to_owned());
    }
    let (magic, rest) = covered.split_first_chunk::<8>().ok_or("no magic")?;
    let (first, rest) = rest.split_first_chunk::<8>().ok_or("no first index")?;
    let (before, rest) = rest.split_first_chunk::<32>().ok_or("no hash")?;
    let (length, field) = rest.split_first_chunk::<2>().ok_or("no name")?;
    let length = usize::from(u16::from_le_bytes(*length));
    if *magic != MAGIC || length == 0 || length > NAME_BYTES_MAX {
        return Err("the header is not that of a segment".to_owned());
    }
    let (iss, fill) = field.split_at_checked(length).ok_or("the instance name is too long")?;
    let iss = std::str::from_utf8(iss).map_err(|_| "the instance name is not UTF-8")?;
    if fill.iter().any(|byte| *byte != 0) {
        return Err("expected zeros after the instance name".to_owned());
    }
    if !is_instance(iss) {
        return Err(format!("`{}` is not the name of an instance", iss.escape_debug()));
    }
    let first = u64::from_le_bytes(*first);
    if name != format!("{first:020}.seg") {
        return Err(format!("its first index is {first}, so expected the name `{first:020}.seg`"));
    }
    Ok(Header { name: name.to_owned(), first, before: Hash(*before), iss: iss.to_owned() })
}

const FRAME_HEADER_BYTES: usize = 17;
/// `<host>/<instance>/<epoch>`, as the schemas have it.
fn is_instance(iss: &str) -> bool {
    let allowed = |part: &str, most: usize, more: &[u8]| {
        let byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte);
        (1..=most).contains(&part.len()) && part.bytes().all(byte)
    };
    match iss.split('/').collect::<Vec<_>>().as_slice() {
        [host, instance, epoch] => {
            allowed(host, 64, b".-")
                && allowed(instance, 64, b"._-")
                && allowed(epoch, 9, b"")
                && epoch.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

/// What a crash leaves of a segment that was being laid out; the next start removes it.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".seg.tmp")
        .is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

pub(crate) const ENTRY: u8 = 1;
pub(crate) const BLOB: u8 = 2;
pub(crate) const CHECKPOINT: u8 = 3;
pub(crate) const END: u8 = 4;
/// A blob of as many nodes as a stream has at most.
const PAYLOAD_BYTES_MAX: usize = 32 + 32 * 65_536;

/// A frame that is whole, of a known type, and has the right CRC.
pub(crate) struct Frame<'a> {
    pub kind: u8,
    pub index: u64,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The length that the frame at the start of `bytes` states, if a frame of a known type could start there.
    fn length(bytes: &[u8]) -> Option<usize> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let allowed = (1..=PAYLOAD_BYTES_MAX).contains(&length);
        let whole = allowed && bytes.len().checked_sub(FRAME_HEADER_BYTES)? >= length;
        (whole && matches!(rest.first(), Some(ENTRY..=END))).then_some(length)
    }

    /// Reads the frame at the start of `bytes`; gives what follows it.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<(Frame<'a>, &'a [u8])> {
        let length = Self::length(bytes)?;
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let (payload, rest) = rest.split_at_checked(length)?;
        let (covered, crc) = header.split_last_chunk::<4>()?;
        if crc32(&[covered, payload]) != u32::from_le_bytes(*crc) {
            return None;
        }
        let [_, _, _, _, kind, index @ ..] = covered else { return None };
        Some((Frame { kind: *kind, index: u64::from_le_bytes(index.try_into().ok()?), payload }, rest))
    }
}

/// Payload bytes that the search for a later frame may cost. When they are used up, the journal is called damaged and
/// not torn: the answer that claims less.
pub(crate) const SEARCH_BYTES_MAX: usize = 1 << 30;

/// Whether a frame that is whole, of a known type and with the right CRC starts anywhere after the start of `bytes`.
pub(crate) fn frame_follows(bytes: &[u8], search_bytes_max: usize) -> bool {
    let mut left = search_bytes_max;
    let mut rest = bytes;
    while let Some((_, after)) = rest.split_first() {
        rest = after;
        let Some(length) = Frame::length(rest) else { continue };
        if left < length || Frame::read(rest).is_some() {
            return true;
        }
        left -= length;
    }
    false
}

/// Whether only zeros are left, which is no frame.
pub(crate) fn is_fill(bytes: &[u8]) -> bool {
    // Mostly a frame starts here; its length is not zero.
    if bytes.first_chunk().is_some_and(|length: &[u8; 4]| *length != [0; 4]) {
        return false;
    }
    let (blocks, rest) = bytes.as_chunks::<16>();
    blocks.iter().all(|block| u128::from_le_bytes(*block) == 0) && rest.iter().all(|byte| *byte == 0)
}
