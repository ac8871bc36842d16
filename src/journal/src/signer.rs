//! Signers: keys in memory, and keys that an external command holds.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;

use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::{PublicKey, Signer, SoftKey};

use crate::program;

/// Most bytes that a signing command may answer with.
const ANSWER_BYTES_MAX: u64 = 1_024;

/// The fastest signer there is for a key: Ed25519 by aws-lc, P-256 as it is.
pub fn fast(key: SoftKey) -> Arc<dyn Signer> {
    match FastKey::new(&key) {
        Some(fast) => Arc::new(fast),
        None => Arc::new(key),
    }
}

/// Ed25519 by aws-lc: half the time of the portable implementation, and the same signatures.
struct FastKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl FastKey {
    fn new(key: &SoftKey) -> Option<Self> {
        let seed = key.ed25519_seed()?;
        let public = key.public().clone();
        let point = public.ed25519_bytes()?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&*seed, &point).ok()?;
        Some(Self { pair, public })
    }
}

impl Signer for FastKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let refused = |what: &str| KeyError::Signer { what: what.into() };
        let signature = self.pair.try_sign(message).map_err(|_| refused("aws-lc refused"))?;
        signature.as_ref().try_into().map_err(|_| refused("the signature does not have 64 bytes"))
    }
}

/// A key that a program holds, such as an agent or the client of a key service.
///
/// The program gets the message as one line of base64 on its standard input and answers with one line of base64: the
/// 64 bytes of the signature. It is started anew for each signature and without a shell. Whoever can change the
/// program can sign in our name.
#[derive(Debug)]
pub struct CommandSigner {
    argv: Vec<String>,
    public: PublicKey,
    timeout: Duration,
}

impl CommandSigner {
    /// `command` is the program and its arguments; `None` when it is empty.
    pub fn new(command: &[String], public: PublicKey, timeout: Duration) -> Option<Self> {
        (!command.is_empty()).then(|| Self { argv: command.to_vec(), public, timeout })
    }

    fn answer(&self, message: &[u8]) -> Result<String, KeyError> {
        let mut line = base64(message);
        line.push('\n');
        program::ask(&self.argv, line.as_bytes(), ANSWER_BYTES_MAX, self.timeout)
            .map_err(|what| KeyError::Signer { what })
    }
}

impl Signer for CommandSigner {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let answer = self.answer(message)?;
        from_base64(answer.trim_end()).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            let program = self.argv.first().map(String::as_str).unwrap_or_default();
            KeyError::Signer { what: format!("`{program}` did not answer with the base64 of 64 bytes") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str], timeout_ms: u64) -> CommandSigner {
        let words: Vec<String> = words.iter().map(|w| (*w).into()).collect();
        let public = SoftKey::ed25519(&[1; 32]).public().clone();
        CommandSigner::new(&words, public, Duration::from_millis(timeout_ms)).unwrap()
    }

    #[test]
    fn the_fast_key_signs_as_the_portable_one() {
        for seed in 0..20 {
            let plain = SoftKey::ed25519(&[seed; 32]);
            let fast = fast(SoftKey::ed25519(&[seed; 32]));
            assert_eq!(fast.public(), plain.public());
            for length in [0, 1, 63, 64, 65, 1_000, 16_384] {
                let message = vec![seed; length];
                assert_eq!(fast.sign(&message).unwrap(), plain.sign(&message).unwrap());
            }
        }
    }

    #[test]
    fn a_command_gets_the_message_on_one_line_and_its_answer_is_the_signature() {
        // `cat` answers with the message itself, so a message of 64 bytes is a signature.
        assert_eq!(command(&["cat"], 5_000).sign(&[7; 64]).unwrap(), [7; 64]);
    }

    #[test]
    fn a_command_that_does_not_sign_is_an_error_that_names_it() {
        let refused = |words: &[&str]| command(words, 5_000).sign(&[7; 64]).unwrap_err().to_string();
        assert!(refused(&["false"]).contains("`false` ended with"));
        // It may be gone before or after it was given the message.
        assert!(refused(&["true"]).contains("`true`"));
        assert!(refused(&["/no/such/program"]).contains("could not be started"));
        assert!(refused(&["wc", "-c"]).contains("64 bytes"));
        assert!(refused(&["cat", "; cat"]).contains("`cat` ended with"), "no shell looks at the words");
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let error = command(&["sleep", "60"], 30).sign(b"x").unwrap_err().to_string();
        assert!(error.contains("took longer than 30 ms"), "{error}");
    }
}
