//! Annotated tags, signed as `git tag --sign` does it with an SSH key (PROTOCOL.sshsig of OpenSSH), so that
//! `git verify-tag` reads them. Git does not compare the name in a tag with the name of its ref; [`Tag::read`] does.

use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{PublicKey, Sha256, Signer};

use crate::code::{Code, Refusal};
use crate::git::ObjectId;

const MAGIC: &[u8] = b"SSHSIG";
/// What the signature is for; git's own.
const NAMESPACE: &[u8] = b"git";
const HASH: &[u8] = b"sha256";
const KEY_TYPE: &[u8] = b"ssh-ed25519";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";
/// Characters in a line of the armour.
const LINE_CHARS: usize = 70;

/// What a signed tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    /// The commit.
    pub target: ObjectId,
    pub message: String,
}

impl Tag {
    /// The bytes of the tag object.
    ///
    /// # Errors
    /// What the signer answers, and that it is no Ed25519 key.
    pub fn sign(&self, at: UnixMicros, signer: &dyn Signer) -> Result<Vec<u8>, KeyError> {
        let seconds = at.0 / 1_000_000;
        let payload = format!(
            "object {}\ntype commit\ntag {}\ntagger estoppel <{}@estoppel.invalid> {seconds} +0000\n\n{}\n",
            self.target,
            self.name,
            signer.public().id(),
            self.message.trim_end(),
        );
        let key = ssh_key(signer.public()).ok_or(KeyError::WrongAlgorithm {
            wanted: estoppel_evidence::Alg::Ed25519,
            found: signer.public().alg(),
        })?;
        let signature = signer.sign(&signed(payload.as_bytes()))?;
        let blob = [before_signature(&key), signature.to_vec()].concat();
        Ok([payload.into_bytes(), armour(&blob).into_bytes()].concat())
    }

    /// Reads the tag object that the ref `name` points at, signed by one of `keys`; says which.
    ///
    /// # Errors
    /// `TAG_FORGED`: it is of another name, no commit, or signed by none of them.
    pub fn read<'k>(
        bytes: &[u8],
        name: &str,
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<(Self, &'k PublicKey), Refusal> {
        let forged = |why: &str| Refusal::new(Code::TagForged, format!("the tag `{name}` {why}"));
        let text = std::str::from_utf8(bytes).map_err(|_| forged("is not UTF-8"))?;
        let (payload, armoured) = text.split_at(text.find(BEGIN).ok_or_else(|| forged("is not signed"))?);
        let blob = dearmour(armoured).ok_or_else(|| forged("has a signature that cannot be read"))?;
        let signed = signed(payload.as_bytes());
        let signer = keys.into_iter().find(|key| is_signature_of(&blob, key, &signed));
        let signer = signer.ok_or_else(|| forged("is not signed by a key that may sign it"))?;
        let tag = Self::parse(payload).ok_or_else(|| forged("is not an annotated tag of a commit"))?;
        if tag.name != name {
            return Err(forged(&format!("was signed under another name, `{}`", tag.name)));
        }
        Ok((tag, signer))
    }

    fn parse(payload: &str) -> Option<Self> {
        let (header, message) = payload.split_once("\n\n")?;
        let mut lines = header.lines();
        let target = ObjectId::parse(lines.next()?.strip_prefix("object ")?)?;
        (lines.next()? == "type commit").then_some(())?;
        let name = lines.next()?.strip_prefix("tag ")?.to_owned();
        lines.next()?.strip_prefix("tagger ")?;
        lines.next().is_none().then(|| Self { name, target, message: message.trim_end().to_owned() })
    }
}

/// A line of an allowed-signers file (ssh-keygen(1)) for `git verify-tag`; none for another algorithm.
pub fn allowed_signer(key: &PublicKey) -> Option<String> {
    let blob = ssh_key(key)?;
    Some(format!("{}@estoppel.invalid namespaces=\"git\" ssh-ed25519 {}", key.id(), base64(&blob)))
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn ssh_key(key: &PublicKey) -> Option<Vec<u8>> {
    Some([string(KEY_TYPE), string(&key.ed25519_bytes()?)].concat())
}

fn signed(message: &[u8]) -> Vec<u8> {
    [MAGIC, &string(NAMESPACE), &string(b""), &string(HASH), &string(&Sha256::of(message).0)].concat()
}

/// All of the blob but the 64 bytes of the signature at its end.
fn before_signature(key: &[u8]) -> Vec<u8> {
    let signature_header = [string(KEY_TYPE), 64_u32.to_be_bytes().to_vec()].concat();
    let length = u32::try_from(signature_header.len() + 64).unwrap_or(u32::MAX).to_be_bytes();
    [
        MAGIC,
        &1_u32.to_be_bytes(),
        &string(key),
        &string(NAMESPACE),
        &string(b""),
        &string(HASH),
        &length,
        &signature_header,
    ]
    .concat()
}

fn is_signature_of(blob: &[u8], key: &PublicKey, signed: &[u8]) -> bool {
    let Some(before) = ssh_key(key).map(|key| before_signature(&key)) else { return false };
    let signature = blob.strip_prefix(before.as_slice()).and_then(|rest| rest.try_into().ok());
    signature.is_some_and(|signature| key.verifies(signed, signature))
}

fn armour(blob: &[u8]) -> String {
    let text = base64(blob);
    let lines = text.as_bytes().chunks(LINE_CHARS).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("{BEGIN}{}{END}", lines.collect::<String>())
}

fn dearmour(text: &str) -> Option<Vec<u8>> {
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    from_base64(&body.replace('\n', ""))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use estoppel_evidence::SoftKey;

    use super::*;
    use crate::git::{Move, tests::repository};

    fn tag(name: &str, target: &ObjectId) -> Tag {
        Tag { name: name.into(), target: target.clone(), message: "first\n\nEstoppel-Version: 1.0.0".into() }
    }

    #[test]
    fn git_itself_verifies_the_tag() {
        let (dir, git) = repository();
        let key = SoftKey::ed25519(&[7; 32]);
        let head = git.commit("HEAD").unwrap().unwrap();
        let bytes = tag("v1.0.0", &head).sign(UnixMicros(1_700_000_000_000_000), &key).unwrap();
        let id = git.write("tag", &bytes).unwrap();
        git.move_refs(&[Move::create("refs/tags/v1.0.0", &id)]).unwrap();
        let verify = |signer: &SoftKey| {
            let allowed = dir.path().join("allowed");
            std::fs::write(&allowed, allowed_signer(signer.public()).unwrap() + "\n").unwrap();
            let option = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
            let mut command = Command::new("git");
            command.args(["-c", &option, "verify-tag", "v1.0.0"]).current_dir(dir.path());
            command.output().unwrap().status.success()
        };
        assert!(verify(&key));
        assert!(!verify(&SoftKey::ed25519(&[8; 32])));
    }

    #[test]
    fn a_tag_under_another_name_is_forged() {
        let key = SoftKey::ed25519(&[7; 32]);
        let other = SoftKey::ed25519(&[8; 32]);
        let target = ObjectId::parse(&"a".repeat(40)).unwrap();
        let candidate = tag("v1.0.0-rc.1", &target);
        let bytes = candidate.sign(UnixMicros(1), &key).unwrap();
        assert_eq!(Tag::read(&bytes, "v1.0.0-rc.1", [key.public()]).unwrap(), (candidate, key.public()));
        let renamed = Tag::read(&bytes, "v1.0.0", [key.public()]).unwrap_err();
        assert_eq!(renamed.code, Code::TagForged);
        assert!(renamed.detail.contains("`v1.0.0-rc.1`"), "{renamed}");
        assert!(Tag::read(&bytes, "v1.0.0-rc.1", [other.public()]).is_err());
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(Tag::read(&altered, "v1.0.0-rc.1", [key.public()]).is_err(), "byte {at}");
        }
    }
}
