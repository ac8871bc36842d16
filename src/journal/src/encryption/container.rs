//! The container: header, then chunks.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zeroize::Zeroizing;

use estoppel_evidence::envelope::{base64, from_base64};

use super::hook::is_id;
use super::{EncryptionError, KeyHook, Wrapped};

/// Bytes of content in a chunk; the last has what is left.
pub const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"PEFENC0\n";
const HEADER_BYTES_MAX: usize = 4_096;
/// Most chunks under one data key: 256 TiB.
const CHUNKS_MAX: u64 = 1 << 32;
const SALT_BYTES: usize = 32;
/// A data key of one file.
const OWN_KEY: &str = "estoppel-encryption/v0";
/// A data key of many files, each with a key derived from it.
const SHARED_KEY: &str = "estoppel-encryption/v1";
/// What the key of one file is derived for.
const FILE_KEY: &[u8] = b"estoppel-encryption/v1/file";

/// Members in the order of canonical JSON; all texts are ASCII without escapes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    aead: String,
    chunk_bytes: u64,
    key: HeaderKey,
    /// Of files whose data key is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    v: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderKey {
    id: String,
    wrapped: String,
}

impl HeaderKey {
    fn wrapped(self) -> Result<Wrapped, EncryptionError> {
        let no_base64 = EncryptionError::Header { what: "the wrapped key is no base64" };
        Ok(Wrapped { bytes: from_base64(&self.wrapped).ok_or(no_base64)?, id: self.id })
    }
}

/// The data key of an encrypted file, as its header has it.
pub(crate) fn wrapped_key(from: &mut dyn Read) -> Result<Wrapped, EncryptionError> {
    let (_, header) = read_header(from)?;
    header.key.wrapped()
}

/// A key that many files share, and as its hook wrapped it.
pub struct DataKey {
    key: Zeroizing<[u8; 32]>,
    wrapped: Wrapped,
}

impl DataKey {
    /// Makes a key and has it wrapped, and unwrapped again: what cannot be given back must not encrypt anything. Blocks on
    /// the hook.
    ///
    /// # Errors
    /// [`EncryptionError`].
    pub fn new(hook: &dyn KeyHook) -> Result<Self, EncryptionError> {
        let key = random()?;
        let wrapped = hook.wrap(&key)?;
        if *hook.unwrap(&wrapped)? != *key {
            return Err(EncryptionError::Hook { what: "it gives back another key than it wrapped".into() });
        }
        let header = Header::of(&wrapped, Some(&[0; SALT_BYTES]));
        written(&header)?;
        Ok(Self { key, wrapped })
    }

    /// Of the key that wrapped it.
    pub fn id(&self) -> &str {
        &self.wrapped.id
    }
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
    let key = random()?;
    let wrapped = hook.wrap(&key)?;
    let head = written(&Header::of(&wrapped, None))?;
    put(out, &head)?;
    let mut encryptor = Encryptor::new(&key, OWN_KEY, &head)?;
    let mut bytes = 0u64;
    loop {
        let part = up_to(content, CHUNK_BYTES)?;
        bytes += part.len() as u64; // usize fits.
        if part.is_empty() {
            encryptor.finish(out)?;
            return Ok(bytes);
        }
        encryptor.push(&part, out)?;
    }
}

/// Reads what [`encrypt`] or an [`Encryptor`] wrote and writes its content. Gives the number of content bytes.
///
/// # Errors
/// [`EncryptionError`]; what was written until then is the beginning of the content, and no more is known of it.
pub fn decrypt(hook: &dyn KeyHook, from: &mut dyn Read, out: &mut dyn Write) -> Result<u64, EncryptionError> {
    let mut decryptor = Decryptor::new(hook, from)?;
    let mut bytes = 0u64;
    while let Some(content) = decryptor.next()? {
        put(out, content)?;
        bytes += content.len() as u64; // usize fits.
    }
    Ok(bytes)
}

/// Content that is encrypted as it comes. What is not finished is of no use.
pub struct Encryptor {
    chunks: Chunks,
    index: u64,
    /// Content of the chunk that is not full, or of which it is not known whether it is the last.
    pending: Vec<u8>,
}

impl Encryptor {
    /// Bytes of a full chunk as it is written.
    pub const CHUNK_BYTES_SEALED: usize = CHUNK_BYTES + TAG_BYTES;

    /// Of a new file whose data key is shared; `out` gets its header.
    ///
    /// # Errors
    /// [`EncryptionError`].
    pub fn shared(key: &DataKey, out: &mut dyn Write) -> Result<Self, EncryptionError> {
        let salt = random()?;
        let head = written(&Header::of(&key.wrapped, Some(&salt)))?;
        put(out, &head)?;
        Self::new(&*file_key(&key.key, &salt)?, SHARED_KEY, &head)
    }

    fn new(key: &[u8; 32], version: &'static str, head: &[u8]) -> Result<Self, EncryptionError> {
        Ok(Self { chunks: Chunks::new(key, version, head)?, index: 0, pending: Vec::new() })
    }

    /// Takes content; `out` gets the chunks that are whole.
    ///
    /// # Errors
    /// [`EncryptionError`].
    pub fn push(&mut self, content: &[u8], out: &mut dyn Write) -> Result<(), EncryptionError> {
        let mut rest = content;
        while !rest.is_empty() {
            // A full chunk is the last one if nothing comes after it.
            if self.pending.len() == CHUNK_BYTES {
                self.seal(false, out)?;
            }
            let (part, after) = rest.split_at(rest.len().min(CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(part);
            rest = after;
        }
        Ok(())
    }

    /// Writes the last chunk.
    ///
    /// # Errors
    /// [`EncryptionError`].
    pub fn finish(mut self, out: &mut dyn Write) -> Result<(), EncryptionError> {
        self.seal(true, out)
    }

    fn seal(&mut self, is_last: bool, out: &mut dyn Write) -> Result<(), EncryptionError> {
        if self.index == CHUNKS_MAX {
            return Err(EncryptionError::Large { chunks: CHUNKS_MAX });
        }
        self.chunks.seal(self.index, is_last, &mut self.pending)?;
        put(out, &self.pending)?;
        self.pending.clear();
        self.index += 1;
        Ok(())
    }
}

/// An encrypted file that is read chunk by chunk.
pub struct Decryptor<R> {
    from: R,
    chunks: Chunks,
    index: u64,
    head_bytes: u64,
    chunk: Vec<u8>,
    next: Vec<u8>,
    is_done: bool,
    /// Bytes of the chunk that [`Read`] has given out.
    given: Option<(usize, usize)>,
}

impl<R: Read> Decryptor<R> {
    /// Reads the header and asks for the key. Blocks on the hook.
    ///
    /// # Errors
    /// [`EncryptionError`].
    pub fn new(hook: &dyn KeyHook, mut from: R) -> Result<Self, EncryptionError> {
        let (head, header) = read_header(&mut from)?;
        let refuse = |what| EncryptionError::Header { what };
        let wrapped = header.key.wrapped()?;
        let chunks = match header.salt {
            None => Chunks::new(&*hook.unwrap(&wrapped)?, OWN_KEY, &head)?,
            Some(salt) => {
                let salt: Option<[u8; SALT_BYTES]> = from_base64(&salt).and_then(|salt| salt.try_into().ok());
                let salt = salt.ok_or(refuse("its salt is not 32 bytes in base64"))?;
                Chunks::new(&*file_key(&*hook.unwrap(&wrapped)?, &salt)?, SHARED_KEY, &head)?
            }
        };
        let chunk = up_to(&mut from, Encryptor::CHUNK_BYTES_SEALED)?;
        let head_bytes = head.len() as u64; // usize fits.
        Ok(Self { from, chunks, index: 0, head_bytes, chunk, next: Vec::new(), is_done: false, given: None })
    }

    /// Bytes of content in a file of `bytes`, if it is whole.
    pub fn content_bytes(&self, bytes: u64) -> u64 {
        let sealed = bytes.saturating_sub(self.head_bytes);
        let full = Encryptor::CHUNK_BYTES_SEALED as u64; // usize fits.
        sealed.saturating_sub(sealed.div_ceil(full).max(1) * TAG_BYTES as u64) // a constant
    }

    /// The content of the next chunk; none when all of it was given.
    ///
    /// # Errors
    /// [`EncryptionError`].
    #[expect(clippy::should_implement_trait, reason = "what is given is borrowed")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, EncryptionError> {
        if self.is_done {
            return Ok(None);
        }
        let index = self.index;
        if index > 0 {
            self.chunk = std::mem::take(&mut self.next);
        }
        if self.chunk.len() == Encryptor::CHUNK_BYTES_SEALED {
            self.next = up_to(&mut self.from, Encryptor::CHUNK_BYTES_SEALED)?;
        }
        let is_last = self.next.is_empty();
        if index == CHUNKS_MAX {
            return Err(EncryptionError::Large { chunks: CHUNKS_MAX });
        }
        let content = self.chunks.open(index, is_last, &mut self.chunk)?;
        if content.is_empty() && index > 0 {
            return Err(EncryptionError::Chunk { index });
        }
        self.index += 1;
        self.is_done = is_last;
        Ok(Some(content))
    }
}

impl<R: Read> Read for Decryptor<R> {
    /// Gives errors as [`io::ErrorKind::InvalidData`] around an [`EncryptionError`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (from, to) = match self.given.filter(|(from, to)| from < to) {
            Some(left) => left,
            None => match self.next().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                Some(content) => (0, content.len()),
                None => return Ok(0),
            },
        };
        let count = buffer.len().min(to - from);
        let part = self.chunk.get(from..from + count).unwrap_or_default();
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(part);
        self.given = Some((from + count, to));
        Ok(count)
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut *bytes).map_err(|_| EncryptionError::Random)?;
    Ok(bytes)
}

/// The key of one file, from one that it shares.
fn file_key(key: &[u8; 32], salt: &[u8; SALT_BYTES]) -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
    let unusable = |_| EncryptionError::Hook { what: "its key is not usable".into() };
    let mut derived = Zeroizing::new([0; 32]);
    let from = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key);
    let info = [FILE_KEY];
    let okm = from.expand(&info, hkdf::HKDF_SHA256).map_err(unusable)?;
    okm.fill(&mut *derived).map_err(unusable)?;
    Ok(derived)
}

impl Header {
    fn of(wrapped: &Wrapped, salt: Option<&[u8; SALT_BYTES]>) -> Self {
        Self {
            aead: "aes-256-gcm".to_owned(),
            chunk_bytes: CHUNK_BYTES as u64, // usize fits.
            key: HeaderKey { id: wrapped.id.clone(), wrapped: base64(&wrapped.bytes) },
            salt: salt.map(|salt| base64(salt)),
            v: if salt.is_some() { SHARED_KEY } else { OWN_KEY }.to_owned(),
        }
    }
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
    if !is_id(&header.key.id) {
        return Err(refuse("its key is called what no key is called"));
    }
    let version = if header.salt.is_some() { SHARED_KEY } else { OWN_KEY };
    if header.v != version || header.aead != "aes-256-gcm" || header.chunk_bytes != CHUNK_BYTES as u64 {
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

/// The key of a file, and what binds each chunk to its file and place.
struct Chunks {
    key: LessSafeKey,
    version: &'static str,
    header: [u8; 32],
}

impl Chunks {
    fn new(key: &[u8; 32], version: &'static str, head: &[u8]) -> Result<Self, EncryptionError> {
        Ok(Self { key: aead(key)?, version, header: sha2::Sha256::digest(head).into() })
    }

    fn associated(&self, index: u64, is_last: bool) -> Aad<Vec<u8>> {
        let parts: [&[u8]; 5] =
            [self.version.as_bytes(), &[0], &self.header, &index.to_le_bytes(), &[u8::from(is_last)]];
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

/// One for each chunk of a file, and a key encrypts one file.
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
