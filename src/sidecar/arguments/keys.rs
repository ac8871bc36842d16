//! What can be asked about keys that sign and keys that encrypt.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Disclose;

/// What stored bodies of a journal are read with, where they are encrypted.
#[derive(Args, Debug)]
pub struct BodyKeyFiles {
    /// A key that stored bodies are encrypted for, as `encryption.key_file` of the gateway. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub body_key: Vec<PathBuf>,
    /// A program that unwraps such keys, as `encryption.command.argv`: a JSON list in a file that only you can read.
    #[arg(long, value_name = "FILE")]
    pub body_key_command: Option<PathBuf>,
    /// How long that program may take.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub body_key_timeout_ms: u64,
}

#[derive(Args, Debug)]
pub struct Encrypt {
    /// The file.
    pub path: PathBuf,
    /// Where the result is written, readable by you only. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The wrapping key: 64 hex digits in a file that only you can read, as `estoppel keys wrapping` makes it.
    #[arg(long, value_name = "FILE", conflicts_with = "key_command")]
    pub key: Option<PathBuf>,
    /// A program that wraps instead, as a JSON list of it and its arguments, in a file that only you can read.
    #[arg(long, value_name = "FILE")]
    pub key_command: Option<PathBuf>,
    /// How long that program may take.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub key_timeout_ms: u64,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum KeyAlgorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    P256,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum KeyUse {
    Receipt,
    Checkpoint,
    Manifest,
}

#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Makes a full set of keys. Existing keys are never overwritten.
    Init {
        /// Folder of the keys.
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// Algorithm of receipt and manifest keys; the checkpoint key is always Ed25519.
        #[arg(long, value_enum, default_value_t = KeyAlgorithm::Ed25519)]
        alg: KeyAlgorithm,
    },
    /// Makes a key that wraps those of encrypted files. An existing file is never overwritten.
    Wrapping {
        /// Where the key is written, readable by you only.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Makes a new key of one use; the old public key is kept beside it. A running daemon takes it up on SIGHUP.
    Rotate {
        /// Folder of the keys.
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// Which key.
        #[arg(long = "use", value_enum)]
        key_use: KeyUse,
        /// Algorithm of the new key; a checkpoint key is Ed25519.
        #[arg(long, value_enum, default_value_t = KeyAlgorithm::Ed25519)]
        alg: KeyAlgorithm,
    },
    /// Lists the keys in use and those that were replaced.
    List {
        /// Folder of the keys.
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// Prints a trust document for this instance (`host/name/epoch`) instead.
        #[arg(long, value_name = "INSTANCE")]
        trust: Option<String>,
    },
    /// Writes the capture key of one call or run, by which an auditor can prove what was sent.
    Disclose(Disclose),
}
