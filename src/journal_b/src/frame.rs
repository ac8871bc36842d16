//! Frames of a segment (SPEC section 12), as bytes.

use estoppel_evidence::{Instance, Leaf};

/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: usize = 256;
/// Bytes of a frame before its payload.
pub(crate) const FRAME_BYTES: usize = 17;
/// Bytes of an end frame.
pub(crate) const END_BYTES: u64 = FRAME_BYTES as u64 + 1;
/// Longest payload that is ever written: a stream's nodes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 32 + 32 * estoppel_evidence::capture::STREAM_NODES_MAX;

const MAGIC: &[u8; 8] = b"PEFSEG0\n";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry,
    Blob,
    Checkpoint,
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Blob => 2,
            Self::Checkpoint => 3,
            Self::End => 4,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Blob,
            3 => Self::Checkpoint,
            4 => Self::End,
            _ => return None,
        })
    }
}

/// Starts a frame in `out` and returns where it starts; the payload follows, then [`end`].
pub(crate) fn begin(out: &mut Vec<u8>, kind: Kind, index: u64) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind.byte());
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    start
}

/// Fills in length and CRC of the frame that starts at `start`.
pub(crate) fn end(out: &mut [u8], start: usize) {
    let length = (out.len() - start - FRAME_BYTES) as u32; // at most PAYLOAD_BYTES_MAX
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..start + 13]);
    crc.update(&out[start + FRAME_BYTES..]);
    out[start + 13..start + FRAME_BYTES].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// A whole frame.
pub(crate) fn whole(out: &mut Vec<u8>, kind: Kind, index: u64, payload: &[&[u8]]) {
    let start = begin(out, kind, index);
    payload.iter().for_each(|part| out.extend_from_slice(part));
    end(out, start);
}

/// A frame that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) bytes: usize,
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read<'a> {
    Frame(Frame<'a>),
    /// Zero where the length would be: nothing follows, if the rest is zero too.
    Nothing,
    Bad,
}

/// Reads the frame at the start of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Read<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_BYTES>() else {
        return if bytes.iter().all(|b| *b == 0) { Read::Nothing } else { Read::Bad };
    };
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length == 0 {
        return if head.iter().all(|b| *b == 0) { Read::Nothing } else { Read::Bad };
    }
    let (Some(kind), Some(payload)) = (Kind::of(head[4]), rest.get(..length)) else { return Read::Bad };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..13]);
    crc.update(payload);
    if length > PAYLOAD_BYTES_MAX || crc.finalize().to_le_bytes() != head[13..] {
        return Read::Bad;
    }
    let index = u64::from_le_bytes(head[5..13].try_into().expect("eight bytes"));
    Read::Frame(Frame { kind, index, payload, bytes: FRAME_BYTES + length })
}

/// An entry frame's signature and line.
pub(crate) fn entry(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = payload.split_first()?;
    (length == 0 || length == 64).then(|| rest.split_at_checked(usize::from(length)))?
}

/// A segment's header.
pub(crate) fn header(first_index: u64, last: Option<Leaf>, instance: &Instance) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..16].copy_from_slice(&first_index.to_le_bytes());
    out[16..48].copy_from_slice(&last.map_or([0; 32], |leaf| leaf.0));
    let name = instance.as_str().as_bytes();
    out[48..50].copy_from_slice(&(name.len() as u16).to_le_bytes()); // at most 139 bytes
    out[50..50 + name.len()].copy_from_slice(name);
    let crc = crc32fast::hash(&out[..252]);
    out[252..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// What a segment's header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) first_index: u64,
    pub(crate) last: Option<Leaf>,
    pub(crate) instance: String,
}

/// Reads a segment's header.
pub(crate) fn read_header(bytes: &[u8]) -> Option<Header> {
    let head = bytes.first_chunk::<HEADER_BYTES>()?;
    if head[..8] != *MAGIC || crc32fast::hash(&head[..252]).to_le_bytes() != head[252..] {
        return None;
    }
    let first_index = u64::from_le_bytes(head[8..16].try_into().ok()?);
    let last: [u8; 32] = head[16..48].try_into().ok()?;
    let length = usize::from(u16::from_le_bytes([head[48], head[49]]));
    let name = head.get(50..50 + length).filter(|_| length <= 202)?;
    let instance = std::str::from_utf8(name).ok()?.to_string();
    Some(Header { first_index, last: (last != [0; 32]).then_some(Leaf(last)), instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back() {
        let mut out = Vec::new();
        whole(&mut out, Kind::Entry, 7, &[&[0], b"{}"]);
        let Read::Frame(frame) = read(&out) else { panic!("not a frame") };
        assert_eq!((frame.kind, frame.index, frame.bytes), (Kind::Entry, 7, out.len()));
        assert_eq!(entry(frame.payload), Some((&[][..], &b"{}"[..])));
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let mut out = Vec::new();
        whole(&mut out, Kind::Blob, 7, &[&[1; 40]]);
        for at in 0..out.len() {
            let mut changed = out.clone();
            changed[at] ^= 1;
            assert!(matches!(read(&changed), Read::Bad), "{at}");
        }
    }

    #[test]
    fn headers_read_back_and_notice_changes() {
        let instance: Instance = "gw.local/main/1".parse().unwrap();
        let bytes = header(9, Some(Leaf([3; 32])), &instance);
        let read = read_header(&bytes).unwrap();
        assert_eq!(
            read,
            Header { first_index: 9, last: Some(Leaf([3; 32])), instance: "gw.local/main/1".into() }
        );
        for at in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(read_header(&changed), None, "{at}");
        }
    }
}
