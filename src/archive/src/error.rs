//! Why something is not archived, or not as it should be.

use std::io;
use std::path::{Path, PathBuf};

use estoppel_verify::IndexFault;

use crate::custody::CustodyError;

/// Each has a stable code.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("could not {what} `{path}`", path = path.display())]
    Disk { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` is not a journal, a folder of bundles or a bundle", path = path.display())]
    Target { path: PathBuf },
    #[error("`{name}` cannot be a name in the index: letters, digits, `.`, `_` and `-`, at most 128")]
    Name { name: String },
    #[error("`{path}` is in use by another process", path = path.display())]
    Busy { path: PathBuf },
    #[error("the index `{path}` does not hold: {fault}", path = path.display())]
    Index { path: PathBuf, fault: IndexFault },
    #[error("the chain of custody (`{name}`)")]
    Custody { name: String, source: Box<CustodyError> },
    #[error("{what}: more than {limit}")]
    Limit { what: &'static str, limit: u64 },
    #[error("no credentials: {0}")]
    Credentials(String),
    #[error("the endpoint cannot be used: {0}")]
    Endpoint(String),
    #[error("could not reach `{authority}`")]
    Unreachable { authority: String, source: io::Error },
    #[error("`{authority}` did not answer within {seconds} s")]
    Late { authority: String, seconds: u64 },
    #[error("the bucket `{bucket}` refused it: {code}")]
    Denied { bucket: String, code: String },
    #[error("there is no bucket `{bucket}`")]
    BucketMissing { bucket: String },
    #[error("the bucket `{bucket}` has no object lock: what is in it can be changed and deleted")]
    LockMissing { bucket: String },
    #[error("the server answered {status} {code}")]
    Answer { status: u16, code: String },
    #[error("`{name}` changed while it was archived")]
    Moving { name: String },
    #[error("`{name}` does not have the digest that is its name")]
    Altered { name: String },
    #[error("`{name}` is not what was archived: {found}")]
    Local { name: String, found: String },
    #[error("version `{version}` of `{key}` is not what was sent: {found}")]
    Changed { key: String, version: String, found: String },
    #[error("version `{version}` of `{key}` is gone")]
    Missing { key: String, version: String },
    #[error("version `{version}` of `{key}` is not kept as was asked: {found}")]
    RetentionShort { key: String, version: String, found: String },
}

impl ArchiveError {
    /// The code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "ARCHIVE_DISK",
            Self::Target { .. } => "ARCHIVE_TARGET",
            Self::Name { .. } => "ARCHIVE_NAME",
            Self::Busy { .. } => "ARCHIVE_BUSY",
            Self::Index { fault, .. } => fault.reason.code(),
            Self::Custody { source, .. } => source.code(),
            Self::Limit { .. } => "ARCHIVE_LIMIT",
            Self::Credentials(_) => "ARCHIVE_CREDENTIALS",
            Self::Endpoint(_) => "ARCHIVE_ENDPOINT",
            Self::Unreachable { .. } | Self::Late { .. } => "ARCHIVE_UNREACHABLE",
            Self::Denied { .. } => "ARCHIVE_DENIED",
            Self::BucketMissing { .. } => "ARCHIVE_BUCKET_MISSING",
            Self::LockMissing { .. } => "ARCHIVE_LOCK_MISSING",
            Self::Answer { .. } => "ARCHIVE_ANSWER",
            Self::Moving { .. } => "ARCHIVE_MOVING",
            Self::Altered { .. } | Self::Local { .. } => "ARCHIVE_LOCAL_CHANGED",
            Self::Changed { .. } => "ARCHIVE_CHANGED",
            Self::Missing { .. } => "ARCHIVE_MISSING",
            Self::RetentionShort { .. } => "ARCHIVE_RETENTION_SHORT",
        }
    }

    /// The exit code of a program that ends for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Disk { .. } | Self::Busy { .. } | Self::Answer { .. } | Self::Moving { .. } => 1,
            Self::Index { fault, .. } => fault.reason.exit_code(),
            Self::Custody { source, .. } => source.exit_code(),
            Self::Changed { .. } | Self::Missing { .. } => 2,
            Self::Altered { .. } | Self::Local { .. } | Self::RetentionShort { .. } => 2,
            Self::Target { .. } | Self::Name { .. } | Self::Limit { .. } => 6,
            Self::Credentials(_) | Self::Endpoint(_) | Self::Denied { .. } => 6,
            Self::Unreachable { .. } | Self::Late { .. } | Self::BucketMissing { .. } => 7,
            Self::LockMissing { .. } => 8,
        }
    }

    /// Whether trying again later can help without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } | Self::Busy { .. } | Self::Moving { .. } => true,
            Self::Answer { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// Whether it is this file's trouble, so that others can be archived.
    pub(crate) fn is_of_one_file(&self) -> bool {
        match self {
            Self::Disk { .. } | Self::Name { .. } | Self::Custody { .. } | Self::Limit { .. } => true,
            Self::Moving { .. } | Self::Changed { .. } | Self::Missing { .. } => true,
            Self::Altered { .. } | Self::Local { .. } | Self::RetentionShort { .. } => true,
            Self::Target { .. } | Self::Busy { .. } | Self::Index { .. } | Self::Credentials(_) => false,
            Self::Endpoint(_) | Self::Unreachable { .. } | Self::Late { .. } | Self::Denied { .. } => false,
            Self::BucketMissing { .. } | Self::LockMissing { .. } => false,
            Self::Answer { .. } => !self.is_retryable(),
        }
    }
}

/// What to call a failure of the disk.
pub(crate) fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError + use<> {
    let path = path.to_path_buf();
    move |source| ArchiveError::Disk { what, path, source }
}
