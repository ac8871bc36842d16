//! Secrets of sinks: from files that nobody else can read or from the environment, never printed.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize;

use crate::sink::SinkError;

/// Largest file with a secret.
const SECRET_BYTES_MAX: u64 = 4_096;

/// A URL whose path is as good as a password. `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(pub(crate) String);

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(***)")
    }
}

/// The text of a file that only its owner can read or write.
pub(crate) fn read(path: &Path) -> Result<String, SinkError> {
    let wrong = |problem: String| SinkError::Token { path: path.into(), problem };
    let meta = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others can read or write the file; `chmod 600` it".into()));
    }
    let bytes = estoppel_journal::storage::read_plain(path, SECRET_BYTES_MAX);
    let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text".into()))?;
    match text.trim() {
        "" => Err(wrong("it is empty".into())),
        text => Ok(text.to_owned()),
    }
}

/// The text of an environment variable.
pub(crate) fn variable(name: &str) -> Result<String, SinkError> {
    let wrong = |problem: &str| SinkError::Token { path: name.into(), problem: problem.into() };
    match std::env::var(name) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Err(std::env::VarError::NotUnicode(_)) => Err(wrong("the environment variable is no text")),
        _ => Err(wrong("the environment variable is not set")),
    }
}
