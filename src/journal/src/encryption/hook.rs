//! Who wraps data keys: a key in a file, or a program such as the client of a key service.

use std::time::Duration;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zeroize::Zeroizing;

use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::hash::hex;

use super::EncryptionError;
use super::container::aead;
use crate::program;

/// A data key that only its hook can unwrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Of the key that wrapped it: 1 to 128 of `[A-Za-z0-9._:/-]`. Is in clear.
    pub id: String,
    pub bytes: Vec<u8>,
}

/// Wraps data keys. May block.
pub trait KeyHook: Send + Sync {
    /// Wraps a data key.
    ///
    /// # Errors
    /// [`EncryptionError::Hook`].
    fn wrap(&self, key: &[u8; 32]) -> Result<Wrapped, EncryptionError>;

    /// Gives a data key back.
    ///
    /// # Errors
    /// [`EncryptionError::Key`] if another key wrapped it, [`EncryptionError::Wrapped`] if it was changed, else
    /// [`EncryptionError::Hook`].
    fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>, EncryptionError>;
}

/// Domain of what a key file wraps.
const WRAP: &[u8] = b"estoppel-encryption/v0/wrap\0";

/// A key of 32 secret bytes, which wraps by AES-256-GCM.
pub struct FileHook {
    key: Zeroizing<[u8; 32]>,
    id: String,
}

impl FileHook {
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        let mut hasher = sha2::Sha256::new_with_prefix(b"estoppel-encryption/v0/key-id\0");
        hasher.update(*key);
        let digest: [u8; 32] = hasher.finalize().into();
        Self { key, id: hex(&digest[..8]) }
    }

    fn associated(&self) -> Aad<Vec<u8>> {
        Aad::from([WRAP, self.id.as_bytes()].concat())
    }
}

impl KeyHook for FileHook {
    fn wrap(&self, key: &[u8; 32]) -> Result<Wrapped, EncryptionError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| EncryptionError::Random)?;
        let mut sealed = key.to_vec();
        aead(&self.key)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.associated(), &mut sealed)
            .map_err(|_| EncryptionError::Wrapped)?;
        Ok(Wrapped { id: self.id.clone(), bytes: [&nonce[..], &sealed].concat() })
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
        if wrapped.id != self.id {
            return Err(EncryptionError::Key { wanted: wrapped.id.clone(), given: self.id.clone() });
        }
        let (nonce, sealed) =
            wrapped.bytes.split_first_chunk::<NONCE_LEN>().ok_or(EncryptionError::Wrapped)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let opened = aead(&self.key)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.associated(), &mut sealed)
            .map_err(|_| EncryptionError::Wrapped)?;
        let key: [u8; 32] = (&*opened).try_into().map_err(|_| EncryptionError::Wrapped)?;
        Ok(Zeroizing::new(key))
    }
}

/// A program that holds the key.
///
/// It is started anew for each question, without a shell, gets one line of JSON on its standard input and answers with one:
/// `{"op":"wrap","key":<base64>}` with `{"id":…,"wrapped":<base64>}`, and `{"op":"unwrap","id":…,"wrapped":<base64>}` with
/// `{"key":<base64>}`. Whoever can change the program can read everything that is encrypted from then on.
#[derive(Debug)]
pub struct CommandHook {
    argv: Vec<String>,
    timeout: Duration,
}

/// Most bytes that a hook may answer with.
const ANSWER_BYTES_MAX: u64 = 4_096;
const ID_CHARS_MAX: usize = 128;

/// Whether a key may be called so. What is read from a file is told on terminals and in logs.
pub(super) fn is_id(id: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    (1..=ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(is_in)
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Asked<'a> {
    Wrap { key: &'a str },
    Unwrap { id: &'a str, wrapped: &'a str },
}

#[derive(Deserialize)]
struct WrapAnswer {
    id: String,
    wrapped: String,
}

#[derive(Deserialize)]
struct UnwrapAnswer {
    key: String,
}

impl CommandHook {
    /// `argv` is the program and its arguments; none when it is empty.
    pub fn new(argv: Vec<String>, timeout: Duration) -> Option<Self> {
        (!argv.is_empty()).then_some(Self { argv, timeout })
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, asked: &Asked<'_>) -> Result<T, EncryptionError> {
        let failed = |what: String| EncryptionError::Hook { what };
        let mut line =
            Zeroizing::new(serde_json::to_string(asked).map_err(|error| failed(error.to_string()))?);
        line.push('\n');
        let answer = program::ask(&self.argv, line.as_bytes(), ANSWER_BYTES_MAX, self.timeout);
        let answer = Zeroizing::new(answer.map_err(failed)?);
        // What it answered may be a key, so nothing of it is told.
        serde_json::from_str(&answer)
            .map_err(|_| failed("it did not answer with the JSON that was asked for".into()))
    }
}

impl KeyHook for CommandHook {
    fn wrap(&self, key: &[u8; 32]) -> Result<Wrapped, EncryptionError> {
        let key = Zeroizing::new(base64(key));
        let WrapAnswer { id, wrapped } = self.ask(&Asked::Wrap { key: &key })?;
        let bytes = from_base64(&wrapped).filter(|bytes| !bytes.is_empty());
        match bytes {
            Some(bytes) if is_id(&id) => Ok(Wrapped { id, bytes }),
            _ => Err(EncryptionError::Hook {
                what: "its `id` or `wrapped` is not of the form that is asked for".into(),
            }),
        }
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
        let text = base64(&wrapped.bytes);
        let UnwrapAnswer { key } = self.ask(&Asked::Unwrap { id: &wrapped.id, wrapped: &text })?;
        let bytes = from_base64(&Zeroizing::new(key)).map(Zeroizing::new);
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok());
        key.map(Zeroizing::new)
            .ok_or_else(|| EncryptionError::Hook { what: "its `key` is not 32 bytes".into() })
    }
}
