//! The container: header, then chunks.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zeroize::Zeroizing;

use estoppel_evidence::envelope::{base64, from_base64};

use super::{EncryptionError, KeyHook, Wrapped};

/// Bytes of content in a chunk; the last has what is left.
pub const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"PEFENC0\n";
const HEADER_BYTES_MAX: usize = 4_096;
/// Most chunks under one data key: 256 TiB.
const CHUNKS_MAX: u64 = 1 << 32;
const VERSION: &str = "estoppel-encryption/v0";

/// Members in the order of canonical JSON; all texts are ASCII without escapes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    aead: String,
    chunk_bytes: u64,
    key: HeaderKey,
    v: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderKey {
    id: String,
    wrapped: String,
}

/// Reads content to its end and writes it encrypted, under a new data key. Gives the number of content bytes.
///
/// # Errors
/// [`EncryptionError`]; what was written until then is of no use.
pub fn encrypt(
    hook: &dyn KeyHook,
    content: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<u64, EncryptionError> {
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(&mut *key).map_err(|_| EncryptionError::Random)?;
    let Wrapped { id, bytes } = hook.wrap(&key)?;
    let header = Header {
        aead: "aes-256-gcm".to_owned(),
        chunk_bytes: CHUNK_BYTES as u64, // usize fits.
        key: HeaderKey { id, wrapped: base64(&bytes) },
        v: VERSION.to_owned(),
    };
    let head = written(&header)?;
    put(out, &head)?;
    let chunks = Chunks::new(&key, &head)?;
    let mut bytes = 0u64;
    let (mut chunk, mut next) = (filled(content)?, Vec::new());
    for index in 0..CHUNKS_MAX {
        // The last full chunk is the last only if nothing comes after it.
        if chunk.len() == CHUNK_BYTES {
            next = filled(content)?;
        }
        bytes += chunk.len() as u64; // usize fits.
        let is_last = next.is_empty();
        chunks.seal(index, is_last, &mut chunk)?;
        put(out, &chunk)?;
        if is_last {
            return Ok(bytes);
        }
        chunk = std::mem::take(&mut next);
    }
    Err(EncryptionError::Large { chunks: CHUNKS_MAX })
}

/// Reads what [`encrypt`] wrote and writes its content. Gives the number of content bytes.
///
/// # Errors
/// [`EncryptionError`]; what was written until then is the beginning of the content, and no more is known of it.
pub fn decrypt(hook: &dyn KeyHook, from: &mut dyn Read, out: &mut dyn Write) -> Result<u64, EncryptionError> {
    let (head, header) = read_header(from)?;
    let bytes = from_base64(&header.key.wrapped)
        .ok_or(EncryptionError::Header { what: "the wrapped key is no base64" })?;
    let key = hook.unwrap(&Wrapped { id: header.key.id, bytes })?;
    let chunks = Chunks::new(&key, &head)?;
    let mut bytes = 0u64;
    let (mut chunk, mut next) = (sealed(from)?, Vec::new());
    for index in 0..CHUNKS_MAX {
        if chunk.len() == CHUNK_BYTES + TAG_BYTES {
            next = sealed(from)?;
        }
        let is_last = next.is_empty();
        let content = chunks.open(index, is_last, &mut chunk)?;
        if content.is_empty() && index > 0 {
            return Err(EncryptionError::Chunk { index });
        }
        put(out, content)?;
        bytes += content.len() as u64; // usize fits.
        if is_last {
            return Ok(bytes);
        }
        chunk = std::mem::take(&mut next);
    }
    Err(EncryptionError::Large { chunks: CHUNKS_MAX })
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<(), EncryptionError> {
    out.write_all(bytes).map_err(|source| EncryptionError::Io { what: "write", source })
}

fn written(header: &Header) -> Result<Vec<u8>, EncryptionError> {
    let json =
        serde_json::to_vec(header).map_err(|_| EncryptionError::Header { what: "it cannot be written" })?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= HEADER_BYTES_MAX);
    let length =
        length.ok_or(EncryptionError::Hook { what: "what it wrapped is too long for a header".into() })?;
    Ok([&MAGIC[..], &length.to_le_bytes(), &json].concat())
}

/// The bytes up to the first chunk, which all chunks are bound to, and what they say.
fn read_header(from: &mut dyn Read) -> Result<(Vec<u8>, Header), EncryptionError> {
    let refuse = |what| EncryptionError::Header { what };
    let mut head = up_to(from, MAGIC.len() + 4)?;
    let length: [u8; 4] = match head.split_at_checked(MAGIC.len()) {
        Some((magic, length)) if magic == MAGIC => {
            length.try_into().map_err(|_| refuse("it ends in its header"))?
        }
        _ => return Err(refuse("it does not begin as one")),
    };
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > HEADER_BYTES_MAX {
        return Err(refuse("its header is too long"));
    }
    let json = up_to(from, length)?;
    let header: Header = serde_json::from_slice(&json).map_err(|_| refuse("its header cannot be read"))?;
    head.extend_from_slice(&json);
    if written(&header)? != head {
        return Err(refuse("its header is not canonical"));
    }
    if header.v != VERSION || header.aead != "aes-256-gcm" || header.chunk_bytes != CHUNK_BYTES as u64 {
        return Err(refuse("it is of a form that this version does not know"));
    }
    Ok((head, header))
}

/// At most that many bytes; fewer only at the end.
fn up_to(from: &mut dyn Read, most: usize) -> Result<Vec<u8>, EncryptionError> {
    let mut bytes = Vec::with_capacity(most);
    let read = from.take(most as u64).read_to_end(&mut bytes); // usize fits.
    read.map_err(|source: io::Error| EncryptionError::Io { what: "read", source })?;
    Ok(bytes)
}

fn filled(content: &mut dyn Read) -> Result<Vec<u8>, EncryptionError> {
    up_to(content, CHUNK_BYTES)
}

fn sealed(from: &mut dyn Read) -> Result<Vec<u8>, EncryptionError> {
    up_to(from, CHUNK_BYTES + TAG_BYTES)
}

/// A data key, and what binds each chunk to its file and place.
struct Chunks {
    key: LessSafeKey,
    header: [u8; 32],
}

impl Chunks {
    fn new(key: &[u8; 32], head: &[u8]) -> Result<Self, EncryptionError> {
        Ok(Self { key: aead(key)?, header: sha2::Sha256::digest(head).into() })
    }

    fn associated(&self, index: u64, is_last: bool) -> Aad<Vec<u8>> {
        let parts: [&[u8]; 5] =
            [VERSION.as_bytes(), &[0], &self.header, &index.to_le_bytes(), &[u8::from(is_last)]];
        Aad::from(parts.concat())
    }

    fn seal(&self, index: u64, is_last: bool, chunk: &mut Vec<u8>) -> Result<(), EncryptionError> {
        let associated = self.associated(index, is_last);
        self.key
            .seal_in_place_append_tag(nonce(index), associated, chunk)
            .map_err(|_| EncryptionError::Chunk { index })
    }

    fn open<'c>(&self, index: u64, is_last: bool, chunk: &'c mut [u8]) -> Result<&'c [u8], EncryptionError> {
        let associated = self.associated(index, is_last);
        let opened = self.key.open_in_place(nonce(index), associated, chunk);
        opened.map(|content| &*content).map_err(|_| EncryptionError::Chunk { index })
    }
}

/// One for each chunk of a data key, and a data key is of one file.
fn nonce(index: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&index.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

pub(super) fn aead(key: &[u8; 32]) -> Result<LessSafeKey, EncryptionError> {
    let key = UnboundKey::new(&AES_256_GCM, key);
    key.map(LessSafeKey::new).map_err(|_| EncryptionError::Hook { what: "its key is not usable".into() })
}

#[cfg(test)]
mod tests;
