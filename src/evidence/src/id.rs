//! Ids: runs, calls and instances.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What is wrong with the text of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {wanted}")]
pub struct IdError {
    wanted: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// A UUID version 7 (RFC 9562 section 5.7) from Unix milliseconds and 80 random bits, of which 74 are used.
            pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
                let mut bytes = [0u8; 16];
                bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
                bytes[6..].copy_from_slice(&random);
                bytes[6] = bytes[6] & 0x0f | 0x70;
                bytes[8] = bytes[8] & 0x3f | 0x80;
                Self(u128::from_be_bytes(bytes))
            }

            /// The 16 bytes of the UUID in network order.
            pub fn bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            fn text(self) -> [u8; 36] {
                uuid_text(self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                uuid_parse(text).map(Self).ok_or(IdError { wanted: "a lower-case UUID" })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.text()).expect("hex digits and dashes are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(std::str::from_utf8(&self.text()).expect("hex digits and dashes are ASCII"))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// One run: the unit a chain and a bundle belong to. UUIDv7, made by the gateway, never by a caller.
    RunId
);
uuid_id!(
    /// One call. UUIDv7, known before the answer starts, so that it can be a response header.
    CallId
);
uuid_id!(
    /// One hold: a call that waits for people. UUIDv7.
    HoldId
);

/// Where the dashes stand in a UUID's text.
const DASHES: [usize; 4] = [8, 13, 18, 23];

fn uuid_text(value: u128) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [b'-'; 36];
    let bytes = value.to_be_bytes();
    let mut at = 0;
    for byte in bytes {
        if DASHES.contains(&at) {
            at += 1;
        }
        out[at] = DIGITS[usize::from(byte >> 4)];
        out[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    out
}

fn uuid_parse(text: &str) -> Option<u128> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut value = 0u128;
    for (at, &digit) in text.iter().enumerate() {
        if DASHES.contains(&at) {
            if digit != b'-' {
                return None;
            }
            continue;
        }
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(nibble);
    }
    Some(value)
}

/// The gateway instance that writes a log: `<host>/<instance>/<epoch>` (SPEC section 4). A new tree gets a new epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Instance(Box<str>);

impl Instance {
    /// The text form, which is also the origin of the instance's checkpoints.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Instance {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut parts = text.split('/');
        let (host, name, epoch) = (parts.next(), parts.next(), parts.next());
        let is = |part: Option<&str>, max: usize, extra: &str| {
            part.is_some_and(|part| {
                (1..=max).contains(&part.len())
                    && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c))
            })
        };
        let digits = epoch.is_some_and(|e| e.chars().all(|c| c.is_ascii_digit()));
        if is(host, 64, ".-") && is(name, 64, "._-") && is(epoch, 9, "") && digits && parts.next().is_none() {
            Ok(Self(text.into()))
        } else {
            Err(IdError { wanted: "`host/instance/epoch` in [a-z0-9.-], [a-z0-9._-] and digits" })
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Instance {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_uuids_that_read_back() {
        let id = RunId::new(0x0123_4567_89ab, [0xff; 10]);
        assert_eq!(id.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_spellings_of_a_uuid_are_refused() {
        for text in ["01234567-89AB-7fff-bfff-ffffffffffff", "0123456789ab7fffbfffffffffffffff", ""] {
            assert!(text.parse::<CallId>().is_err(), "{text}");
        }
    }

    #[test]
    fn instances_have_three_parts() {
        assert!("gw.local/main/1".parse::<Instance>().is_ok());
        for text in ["gw", "gw/main", "GW/main/1", "gw/main/x", "gw/main/1/2", "gw//1"] {
            assert!(text.parse::<Instance>().is_err(), "{text}");
        }
    }
}
