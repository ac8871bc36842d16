//! C2SP signed notes: checkpoints and tlog-proofs (SPEC sections 3 and 5).
//!
//! <https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/tlog-proof>. PEF narrows
//! them: exactly one Ed25519 signature, no extension lines.

use crate::hash::Hash;
use crate::keys::{Key, Keys, Usage, base64_decode};

/// A checkpoint note that is well-formed. Nothing is verified yet.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint<'a> {
    pub origin: &'a str,
    pub size: u64,
    pub root: Hash,
    /// Name of the signer.
    pub name: &'a str,
    /// What the signature covers.
    text: &'a [u8],
    key_id: [u8; 4],
    signature: [u8; 64],
}

impl<'a> Checkpoint<'a> {
    /// Reads a note; says in words what is wrong with it.
    pub(crate) fn read(note: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(note).map_err(|_| "the note is not UTF-8".to_owned())?;
        let lines: Vec<&str> = text.splitn(7, '\n').collect();
        let [origin, size, root, empty, signature, end] = lines.as_slice() else {
            return Err("expected three lines, an empty line and one signature line".to_owned());
        };
        if !empty.is_empty() || !end.is_empty() {
            return Err("expected three lines, an empty line and one signature line".to_owned());
        }
        if origin.is_empty() || origin.chars().any(|char| u32::from(char) < 0x20) {
            return Err("expected an origin in the first line".to_owned());
        }
        let size = decimal(size).ok_or_else(|| format!("expected a tree size, found `{size}`"))?;
        let root = base64_hash(root).ok_or_else(|| format!("expected a root in base64, found `{root}`"))?;
        let (name, key_id, signature) =
            signature_line(signature).ok_or_else(|| "expected a signature line".to_owned())?;
        let covered = text.len() - signature_bytes(text);
        Ok(Checkpoint {
            origin,
            size,
            root,
            name,
            text: note.get(..covered).unwrap_or_default(),
            key_id,
            signature,
        })
    }

    /// Reads a note of the log `origin`: step T1.
    pub(crate) fn read_of(note: &'a [u8], origin: &str) -> Result<Self, String> {
        let checkpoint = Self::read(note)?;
        if checkpoint.origin != origin {
            return Err(format!("expected the origin `{origin}`, found `{}`", checkpoint.origin));
        }
        Ok(checkpoint)
    }

    /// The checkpoint key of instance `iss` that signed: step T3. Says in words why there is none.
    pub(crate) fn signer<'k>(&self, keys: &'k Keys, iss: &str) -> Result<&'k Key, String> {
        if self.name != iss {
            return Err(format!("expected a signature by `{iss}`, found one by `{}`", self.name));
        }
        let mut known = keys
            .iter()
            .filter(|key| key.usage == Usage::Checkpoint && key.iss.as_deref().is_none_or(|of| of == iss))
            .filter(|key| key.note_id(iss) == Some(self.key_id))
            .peekable();
        if known.peek().is_none() {
            return Err("the signature's key id belongs to no checkpoint key that is known".to_owned());
        }
        known
            .find(|key| key.public.verifies(self.text, &self.signature))
            .ok_or_else(|| "the signature does not verify over the note's text".to_owned())
    }
}

/// Bytes from the empty line to the end.
fn signature_bytes(text: &str) -> usize {
    text.find("\n\n").map_or(0, |at| text.len() - at - 1)
}

fn signature_line(line: &str) -> Option<(&str, [u8; 4], [u8; 64])> {
    let (name, base64) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+') {
        return None;
    }
    let bytes = base64_decode(base64)?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    Some((name, *id, signature.try_into().ok()?))
}

/// A number without sign and leading zeros.
fn decimal(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

fn base64_hash(text: &str) -> Option<Hash> {
    base64_decode(text)?.try_into().ok().map(Hash)
}

/// A tlog-proof that is well-formed.
#[derive(Debug)]
pub(crate) struct Proof<'a> {
    pub index: u64,
    pub path: Vec<Hash>,
    pub checkpoint: Checkpoint<'a>,
}

/// The longest path in a tree whose size fits 64 bits.
const PATH_LENGTH_MAX: usize = 63;

impl<'a> Proof<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the proof is not UTF-8".to_owned())?;
        let rest = text
            .strip_prefix("c2sp.org/tlog-proof@v1\nindex ")
            .ok_or("expected `c2sp.org/tlog-proof@v1` and an index")?;
        let (index, mut rest) = rest.split_once('\n').ok_or("the proof ends too early")?;
        let index = decimal(index).ok_or_else(|| format!("expected an index, found `{index}`"))?;
        let mut path = Vec::new();
        loop {
            let (line, after) = rest.split_once('\n').ok_or("the proof ends too early")?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if path.len() == PATH_LENGTH_MAX {
                return Err(format!("expected at most {PATH_LENGTH_MAX} hashes"));
            }
            path.push(base64_hash(line).ok_or_else(|| format!("expected a hash in base64, found `{line}`"))?);
        }
        Ok(Proof { index, path, checkpoint: Checkpoint::read(rest.as_bytes())? })
    }
}

#[cfg(test)]
mod tests;
