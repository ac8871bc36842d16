//! What a match of a secret's pattern must keep beside it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::finding::Confidence;

/// A check beyond the pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    #[default]
    None,
    /// The last six characters are the CRC-32 of the thirty before them, in base 62.
    Base62Crc32,
    /// The first part is the header of a token: JSON with `alg`.
    Jwt,
    /// The value is as random as one that a machine made.
    Entropy,
    /// A URL has a password in it that is none of those that examples have.
    UrlPassword,
    /// The value after the last `=` of a name is a password and none of those that examples have.
    Password,
}

impl Check {
    /// How sure the rule is of this match, if it is one.
    pub(crate) fn confirm(self, found: &[u8], confidence: Confidence) -> Option<Confidence> {
        match self {
            Self::None => Some(confidence),
            Self::Base62Crc32 if has_base62_crc32(found) => Some(confidence),
            Self::Base62Crc32 => Some(Confidence::Low),
            Self::Jwt => is_jwt(found).then_some(confidence),
            Self::Entropy => looks_made(found).then_some(confidence),
            Self::UrlPassword => has_password(found).then_some(confidence),
            Self::Password => ends_with_password(found).then_some(confidence),
        }
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn has_base62_crc32(token: &[u8]) -> bool {
    let Some((body, sum)) = token.len().checked_sub(6).map(|at| token.split_at(at)) else { return false };
    let Some(random) = body.len().checked_sub(30).and_then(|from| body.get(from..)) else { return false };
    let digit = |byte: &u8| BASE62.iter().position(|one| one == byte);
    let stated = sum.iter().try_fold(0_u64, |sum, byte| Some(sum * 62 + digit(byte)? as u64));
    stated == Some(u64::from(crc32fast::hash(random)))
}

fn is_jwt(token: &[u8]) -> bool {
    let header = token.split(|byte| *byte == b'.').next().unwrap_or_default();
    let Ok(header) = URL_SAFE_NO_PAD.decode(header) else { return false };
    serde_json::from_slice::<serde_json::Value>(&header).is_ok_and(|header| header["alg"].is_string())
}

/// Least bits of entropy in a character of what a machine made.
const BITS_MIN: f64 = 3.5;

fn looks_made(found: &[u8]) -> bool {
    let quote = |byte: &u8| matches!(byte, b':' | b'=' | b'"' | b'\'' | b' ' | b'\t');
    let Some(separator) = found.iter().position(|byte| matches!(byte, b':' | b'=')) else { return false };
    let value = found.get(separator..).unwrap_or_default();
    let value = value.iter().position(|byte| !quote(byte)).and_then(|at| value.get(at..)).unwrap_or_default();
    let has = |kind: fn(&u8) -> bool| value.iter().any(kind);
    has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) && entropy(value) >= BITS_MIN
}

/// Bits a byte, by how often each byte comes.
fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    text.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let all = text.len() as f64; // short
    let bits = |count: &u32| {
        let share = f64::from(*count) / all;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

fn has_password(url: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(url).ok().and_then(|text| text.split_once("://")) else {
        return false;
    };
    let Some((_, password)) = text.1.trim_end_matches('@').split_once(':') else { return false };
    is_password(password)
}

fn ends_with_password(settings: &[u8]) -> bool {
    let text = String::from_utf8_lossy(settings);
    let name = ["password=", "pwd="].into_iter().filter_map(|name| {
        let at = text.to_ascii_lowercase().rfind(name)?;
        Some(at + name.len())
    });
    let value = name.max().and_then(|at| text.get(at..)).unwrap_or_default();
    is_password(value.trim_matches(['"', '\'', '{', '}']))
}

/// Not what examples and templates have in the place of one.
fn is_password(text: &str) -> bool {
    let small = text.to_ascii_lowercase();
    let placeholder = ["password", "pass", "passwd", "pwd", "secret", "xxx", "changeme", "example", "user"];
    let bare = text.trim_matches(|c: char| matches!(c, '*' | 'x' | 'X' | '.'));
    !bare.is_empty()
        && !text.starts_with(['$', '{', '<', '[', '%'])
        && !["your_", "your-", "yourpass"].iter().any(|word| small.starts_with(word))
        && !placeholder.iter().any(|word| bare.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_with_a_wrong_checksum_is_hardly_one() {
        let known = b"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"; // published by its issuer as an example, revoked
        assert_eq!(Check::Base62Crc32.confirm(known, Confidence::High), Some(Confidence::High));
        let other = b"ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18";
        assert_eq!(Check::Base62Crc32.confirm(other, Confidence::High), Some(Confidence::Low));
    }

    #[test]
    fn passwords_of_examples_are_none() {
        for (url, expected) in [
            ("postgres://app:k3jh2-Xq@", true),
            ("postgres://app:password@", false),
            ("postgres://app:***@", false),
            ("postgres://app:${DB_PASSWORD}@", false),
            ("postgres://app:<password>@", false),
        ] {
            let confirmed = Check::UrlPassword.confirm(url.as_bytes(), Confidence::High);
            assert_eq!(confirmed.is_some(), expected, "{url}");
        }
    }

    #[test]
    fn the_last_password_of_settings_counts() {
        for (settings, expected) in [
            ("Server=db;Password=k3jh2-Xq", true),
            ("jdbc:mysql://db/app?PASSWORD=${P}&pwd=k3jh2-Xq", true),
            ("Server=db;Password=k3jh2-Xq;Pwd=${P}", false),
            ("Server=db;Password=\"your_password\"", false),
            ("Server=db;Password=yourself2", true),
            ("Server=db;Pwd={XXXX}", false),
            ("Server=db", false),
        ] {
            let confirmed = Check::Password.confirm(settings.as_bytes(), Confidence::Medium);
            assert_eq!(confirmed.is_some(), expected, "{settings}");
        }
    }

    #[test]
    fn words_are_not_made() {
        let made = |text: &str| Check::Entropy.confirm(text.as_bytes(), Confidence::Low).is_some();
        assert!(made("api_key = \"q8Jf2kLz0PxV7bNw3RtY\""));
        assert!(!made("password: aaaaaaaaaaaaaaaa1"));
        assert!(!made("secret = the_name_of_a_variable"));
    }
}
