//! A place in a server's log of writes.

use std::fmt;
use std::str::FromStr;

/// A log sequence number. Text form as Postgres prints it: two hexadecimal halves, `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lsn(pub u64);

/// Why text is no LSN.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a log sequence number")]
pub struct LsnError(Box<str>);

impl Lsn {
    /// How many bytes of log lie between, 0 if `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |text: &str| {
            let is_plain = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        halves.map(|(high, low)| Self(high << 32 | low)).ok_or_else(|| LsnError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_printed_as_postgres_does() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn, Lsn(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(Lsn(0x30).bytes_since(Lsn(0x10)), 0x20);
        assert_eq!(Lsn(0x10).bytes_since(Lsn(0x30)), 0);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "/", "16", "16/", "/1", "g/0", "1/123456789", "+1/2", " 1/2"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
