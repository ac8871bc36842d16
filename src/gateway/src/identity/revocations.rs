//! Who is not taken any more: lines of `subject NAME`, `jti ID` (of a token) and `kid ID` (of an API key, of the key that signed a
//! token, or `sha256:` and the digest of a certificate).

use std::collections::BTreeSet;

/// Most lines.
const ENTRIES_MAX: usize = 65_536;

/// What is revoked, each as `kind name`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Revocations(BTreeSet<Box<str>>);

/// Kinds of what can be revoked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Revocable {
    Subject,
    Jti,
    Kid,
}

impl Revocable {
    fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Jti => "jti",
            Self::Kid => "kid",
        }
    }
}

impl Revocations {
    /// # Errors
    /// The first line that cannot be read. Empty lines and those that begin with `#` are passed over.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        let mut entries = BTreeSet::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kind, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let name = name.trim();
            if !matches!(kind, "subject" | "jti" | "kid") || name.is_empty() {
                return Err(format!("line {}: it has to be `subject NAME`, `jti ID` or `kid ID`", at + 1));
            }
            entries.insert(format!("{kind} {name}").into());
            if entries.len() > ENTRIES_MAX {
                return Err("more than 65,536 lines".into());
            }
        }
        Ok(Self(entries))
    }

    pub(super) fn holds(&self, kind: Revocable, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(format!("{} {name}", kind.as_str()).as_str())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn entries(&self) -> &BTreeSet<Box<str>> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_what_is_revoked_and_nothing_else() {
        let list =
            Revocations::read(b"# gone\n\nsubject  corp:mallory smith \njti x\nkid sha256:ab\n").unwrap();
        assert!(list.holds(Revocable::Subject, "corp:mallory smith") && list.holds(Revocable::Jti, "x"));
        assert!(list.holds(Revocable::Kid, "sha256:ab"));
        assert!(!list.holds(Revocable::Subject, "x") && !list.holds(Revocable::Jti, "X"));
        assert!(!list.holds(Revocable::Subject, "corp:mallory"));
    }

    #[test]
    fn a_line_that_says_nothing_refuses_the_whole() {
        for text in ["mallory", "subject", "subject ", "user mallory", "\u{feff}subject a"] {
            assert!(
                Revocations::read(format!("jti a\n{text}\n").as_bytes()).unwrap_err().contains("line 2"),
                "{text}"
            );
        }
        assert!(Revocations::read(b"\xff").is_err());
        assert_eq!(Revocations::read(b""), Ok(Revocations::default()));
    }
}
