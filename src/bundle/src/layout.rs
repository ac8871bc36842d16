//! Where things are in a bundle (SPEC section 9): paths, what they hold, and the limits of the container.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use estoppel_evidence::{CallId, KeyId, Sha256, Use};

/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// The manifest's signed statement.
pub const MANIFEST_ENVELOPE: &str = "manifest.dsse.json";
/// The run's entries, one a line.
pub const ENTRIES: &str = "receipts.ndjson";
/// 64 bytes per entry, when every entry is signed.
pub const SIGNATURES: &str = "receipts.sig";
/// The run checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// The proof that the seal is in the instance log.
pub const ANCHOR: &str = "anchor.tlog-proof";
/// What `sha256sum -c` reads.
pub const SUMS: &str = "SHA256SUMS";

/// Longest path in bytes.
pub const PATH_BYTES_MAX: usize = 200;
/// Most files of a bundle, the three of SPEC section 8 included.
pub const FILES_MAX: usize = 65_534;
/// Largest archive in bytes.
pub const ARCHIVE_BYTES_MAX: u64 = u32::MAX as u64; // 4 GiB - 1: widening
/// Largest manifest in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Bodies of at least this many bytes are kept beside the bundle: everything over 25 MiB.
pub const EXTERNAL_BYTES_MIN: u64 = (25 << 20) + 1;

/// Text that is not a path of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a path of a bundle", .text.escape_debug())]
pub struct PathError {
    /// The text, cut to [`PATH_BYTES_MAX`] code points.
    pub text: String,
}

/// A path in a bundle. Sorts by bytes, as archives, manifests and sums do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct BundlePath(Box<str>); // INVARIANT: obeys the path rule of SPEC section 9

impl BundlePath {
    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of this module's constants.
    pub(crate) fn fixed(path: &'static str) -> Self {
        debug_assert!(is_path(path));
        Self(path.into())
    }

    /// The run's entries.
    pub fn entries() -> Self {
        Self::fixed(ENTRIES)
    }

    /// The signatures of the entries.
    pub fn signatures() -> Self {
        Self::fixed(SIGNATURES)
    }

    /// The run checkpoint.
    pub fn checkpoint() -> Self {
        Self::fixed(CHECKPOINT)
    }

    /// The proof that the seal is in the instance log.
    pub fn anchor() -> Self {
        Self::fixed(ANCHOR)
    }

    /// The canonical policy with that digest.
    pub fn policy(digest: Sha256) -> Self {
        Self(format!("policy/{}.json", digest.hex()).into())
    }

    /// The canonical contract with that digest.
    pub fn contract(digest: Sha256) -> Self {
        Self(format!("contracts/{}.json", digest.hex()).into())
    }

    /// What a database looked like, by the digest of that document.
    pub fn snapshot(digest: Sha256) -> Self {
        Self(format!("snapshots/{}.json", digest.hex()).into())
    }

    /// The tree nodes of a call's stream.
    pub fn stream(call: CallId) -> Self {
        Self(format!("streams/{call}.nodes").into())
    }

    /// The stored body with that digest.
    pub fn body(digest: Sha256) -> Self {
        Self(format!("bodies/{}", digest.hex()).into())
    }

    /// The PEM form of a key: a hint for people, not trust.
    pub fn key(use_: Use, id: KeyId) -> Self {
        Self(format!("keys/{}-{id}.pem", use_.as_str()).into())
    }

    /// The digest that the name of a policy, contract, snapshot or body states. `Some(None)` when the name is none of a digest.
    pub(crate) fn named_digest(&self) -> Option<Option<Sha256>> {
        let hex = match Role::of(self) {
            Role::Policy => self.0.strip_prefix("policy/").and_then(|name| name.strip_suffix(".json")),
            Role::Contract => self.0.strip_prefix("contracts/").and_then(|name| name.strip_suffix(".json")),
            Role::Snapshot => self.0.strip_prefix("snapshots/").and_then(|name| name.strip_suffix(".json")),
            Role::Body => self.0.strip_prefix("bodies/"),
            _ => return None,
        };
        Some(hex.and_then(estoppel_evidence::hash::from_hex).map(Sha256))
    }
}

impl FromStr for BundlePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if is_path(text) {
            return Ok(Self(text.into()));
        }
        Err(PathError { text: text.chars().take(PATH_BYTES_MAX).collect() })
    }
}

impl AsRef<str> for BundlePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for BundlePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for BundlePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether `text` is a path: 1 to 200 bytes, segments of `[a-z0-9._-]` joined by `/`, none empty, `.` or `..`;
/// `SHA256SUMS` is the one exception.
fn is_path(text: &str) -> bool {
    text == SUMS
        || (1..=PATH_BYTES_MAX).contains(&text.len())
            && text
                .split('/')
                .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_name_byte))
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}

/// What a file of a bundle holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Entries,
    Signatures,
    Checkpoint,
    Anchor,
    Policy,
    Contract,
    Stream,
    Body,
    Snapshot,
    Key,
    Other,
}

impl Role {
    /// What the file at `path` holds, by its place.
    pub fn of(path: &BundlePath) -> Self {
        match path.as_str().split_once('/') {
            None => match path.as_str() {
                ENTRIES => Self::Entries,
                SIGNATURES => Self::Signatures,
                CHECKPOINT => Self::Checkpoint,
                ANCHOR => Self::Anchor,
                _ => Self::Other,
            },
            Some(("policy", _)) => Self::Policy,
            Some(("contracts", _)) => Self::Contract,
            Some(("streams", _)) => Self::Stream,
            Some(("bodies", _)) => Self::Body,
            Some(("snapshots", _)) => Self::Snapshot,
            Some(("keys", _)) => Self::Key,
            Some(_) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_bundle_are_refused() {
        for text in [
            "",
            "/",
            "/etc",
            "..",
            ".",
            "a/..",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            "a\\b",
            "a b",
            "A",
            "ä",
            "a\0",
            "c:/x",
            "sha256sums/",
            "x/SHA256SUMS",
            "SHA256SUMS/x",
        ] {
            assert!(text.parse::<BundlePath>().is_err(), "{text:?}");
        }
        assert!("a".repeat(201).parse::<BundlePath>().is_err());
    }

    #[test]
    fn paths_of_the_layout_are_taken() {
        for text in
            [MANIFEST, MANIFEST_ENVELOPE, ENTRIES, SIGNATURES, CHECKPOINT, ANCHOR, SUMS, "...", ".a/b-c_d"]
        {
            assert_eq!(text.parse::<BundlePath>().unwrap().as_str(), text);
        }
        assert!("a".repeat(200).parse::<BundlePath>().is_ok());
    }

    #[test]
    fn each_place_has_its_role_and_obeys_the_path_rule() {
        let digest = Sha256([7; 32]);
        for (path, role, named) in [
            (BundlePath::policy(digest), Role::Policy, Some(Some(digest))),
            (BundlePath::contract(digest), Role::Contract, Some(Some(digest))),
            (BundlePath::snapshot(digest), Role::Snapshot, Some(Some(digest))),
            (BundlePath::body(digest), Role::Body, Some(Some(digest))),
            ("bodies/x".parse().unwrap(), Role::Body, Some(None)),
            (BundlePath::stream(CallId::new(1, [2; 10])), Role::Stream, None),
            (BundlePath::key(Use::Manifest, KeyId([3; 32])), Role::Key, None),
            (BundlePath::fixed(ENTRIES), Role::Entries, None),
            (BundlePath::fixed(ANCHOR), Role::Anchor, None),
        ] {
            assert_eq!(path.as_str().parse().as_ref(), Ok(&path));
            assert_eq!((Role::of(&path), path.named_digest()), (role, named), "{path}");
        }
    }
}
