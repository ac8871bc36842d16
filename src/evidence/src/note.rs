//! Checkpoints as C2SP signed notes, and inclusion proofs as C2SP tlog-proof text (SPEC sections 3 and 5).

use std::fmt::Write as _;

use sha2::Digest as _;

use crate::envelope::{base64, from_base64};
use crate::hash::Root;
use crate::key::{Alg, KeyError, PublicKey, Signer};

/// A tree head: whose, how large, which root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which tree: the instance, or `<instance>/run/<run>`.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root over them.
    pub root: Root,
}

impl Checkpoint {
    /// The three lines that are signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64(&self.root.0))
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`KeyError::WrongAlgorithm`] unless the key is Ed25519, and what the signer answers.
    pub fn sign(&self, name: &str, signer: &dyn Signer) -> Result<String, KeyError> {
        let key = signer.public();
        let id = note_id(name, key)?;
        let text = self.text();
        let signature = signer.sign(text.as_bytes())?;
        let blob = base64(&[id.as_slice(), &signature].concat());
        Ok(format!("{text}\n— {name} {blob}\n"))
    }

    /// Reads the three lines of a note's text. Signatures are not looked at: this is for reading back one's own
    /// notes, never for judging.
    pub fn parse(note: &str) -> Option<Self> {
        let (text, _) = note.split_once("\n\n")?;
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = Root(from_base64(root)?.try_into().ok()?);
        let size_number: u64 = size.parse().ok()?;
        (lines.next().is_none() && size_number.to_string() == size).then(|| Self {
            origin: origin.into(),
            size: size_number,
            root,
        })
    }
}

/// The C2SP key id of `key` under `name`.
fn note_id(name: &str, key: &PublicKey) -> Result<[u8; 4], KeyError> {
    let bytes =
        key.ed25519_bytes().ok_or(KeyError::WrongAlgorithm { wanted: Alg::Ed25519, found: key.alg() })?;
    let mut hasher = sha2::Sha256::new_with_prefix(name.as_bytes());
    hasher.update([b'\n', 1]);
    hasher.update(bytes);
    let digest: [u8; 32] = hasher.finalize().into();
    Ok([digest[0], digest[1], digest[2], digest[3]])
}

/// The verifier key line that other tools take: `<name>+<id>+<base64>` (C2SP signed-note).
///
/// # Errors
/// [`KeyError::WrongAlgorithm`] unless the key is Ed25519.
pub fn vkey(name: &str, key: &PublicKey) -> Result<String, KeyError> {
    let id = note_id(name, key)?;
    let bytes = key.ed25519_bytes().unwrap_or_default();
    Ok(format!("{name}+{}+{}", crate::hash::hex(&id), base64(&[&[1], bytes.as_slice()].concat())))
}

/// The tlog-proof text that the entry at `index` is in the tree of `note`.
pub fn tlog_proof(index: u64, path: &[[u8; 32]], note: &str) -> String {
    let mut out = format!("c2sp.org/tlog-proof@v1\nindex {index}\n");
    for hash in path {
        let _ = writeln!(out, "{}", base64(hash)); // a String takes every write
    }
    out.push('\n');
    out.push_str(note);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SoftKey;

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "gw.local/main/1".into(), size: 3, root: Root([7; 32]) }
    }

    #[test]
    fn notes_read_back() {
        let note = checkpoint().sign("gw.local/main/1", &SoftKey::ed25519(&[1; 32])).unwrap();
        assert_eq!(Checkpoint::parse(&note), Some(checkpoint()));
        assert_eq!(note.lines().count(), 5);
        assert!(note.ends_with('\n') && note.contains("\n\n— gw.local/main/1 "));
    }

    #[test]
    fn checkpoint_keys_are_ed25519() {
        let key = SoftKey::p256(&[1; 32]).unwrap();
        assert!(matches!(checkpoint().sign("n", &key), Err(KeyError::WrongAlgorithm { .. })));
    }

    /// The worked example of the C2SP signed-note specification's key format.
    #[test]
    fn vkeys_have_name_id_and_type_byte() {
        let key = SoftKey::ed25519(&[1; 32]);
        let text = vkey("n", key.public()).unwrap();
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        assert_eq!(parts[0], "n");
        assert_eq!(from_base64(parts[2]).unwrap()[0], 1);
        assert_eq!(parts[1].len(), 8);
    }
}
