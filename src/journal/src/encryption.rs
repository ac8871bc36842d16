//! Encryption at rest (spec/encryption.md): files in authenticated chunks, under data keys that a key hook wraps. A file that somebody
//! encrypts has one of its own; stored bodies share one for a time, and each has a key derived from it.
//!
//! Promises: content of any size passes in constant memory; nothing is given out of a chunk that was not found to be authentic and at its
//! place; header, order, and end are authenticated with the content; the digest of the content is nowhere in clear.
//!
//! Left to others: files, names, and what to do with content that came before a chunk which is not good.

mod body_keys;
mod container;
mod hook;

pub use body_keys::{BodyKeyStats, BodyKeys, DATA_KEY_MIN, OnKeyFailure};
pub(crate) use container::wrapped_key;
pub use container::{CHUNK_BYTES, DataKey, Decryptor, Encryptor, decrypt, encrypt};
pub use hook::{CommandHook, FileHook, KeyHook, Wrapped};

use std::io;

use estoppel_evidence::Reason;

use crate::error::io_reason;

/// Why something was not encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error("this is no encrypted file: {what}")]
    Header { what: &'static str },
    #[error("it was encrypted for key `{wanted}`, the one that was given is `{given}`")]
    Key { wanted: String, given: String },
    #[error("it is encrypted for key `{wanted}`, and no key was given")]
    NoKey { wanted: String },
    #[error("the key in its header was changed, or is not wrapped by the key that was given")]
    Wrapped,
    #[error("chunk {index} was changed, is at another place, or the end was cut off or added to")]
    Chunk { index: u64 },
    #[error("the content has more than {chunks} chunks")]
    Large { chunks: u64 },
    #[error("the key hook failed: {what}")]
    Hook { what: String },
    #[error("could not {what}")]
    Io { what: &'static str, source: io::Error },
    #[error("the system gives no randomness")]
    Random,
}

impl EncryptionError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Header { .. } | Self::Wrapped | Self::Chunk { .. } => Reason::EncryptionDamaged,
            Self::Key { .. } | Self::NoKey { .. } => Reason::EncryptionKey,
            Self::Hook { .. } | Self::Random => Reason::KeyHookFailed,
            Self::Large { .. } => Reason::ArgumentInvalid,
            Self::Io { source, .. } => io_reason(source),
        }
    }
}
