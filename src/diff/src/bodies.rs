//! The bodies of a call, of which evidence has digests, and only sometimes the bytes.

use estoppel_evidence::canonical;
use serde_json::Value;

/// Most bytes of one body that is looked into, and of all of them together.
pub(crate) const BODY_BYTES_MAX: u64 = 8 << 20;
pub(crate) const BODIES_BYTES_MAX: u64 = 1 << 30;

/// The bodies of a call, by the names that lead to what its receipt says of them.
pub(crate) const PLACES: [&[&str]; 3] = [&["request"], &["response", "client"], &["response", "upstream"]];

/// A stored body, asked for by its digest.
#[derive(Debug)]
pub enum Stored {
    Bytes(Vec<u8>),
    Missing,
    TooLarge,
}

/// Where the stored bodies of a side are.
pub trait Bodies {
    /// The bytes with this digest (`sha256:<hex>`), if they are at most `bytes_max`.
    fn stored(&self, sha256: &str, bytes_max: u64) -> Stored;
}

/// Of a side that has none.
#[derive(Debug)]
pub struct NoBodies;

impl Bodies for NoBodies {
    fn stored(&self, _: &str, _: u64) -> Stored {
        Stored::Missing
    }
}

/// What a receipt says of one body.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Captured {
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
    pub tag: Option<String>,
}

impl Captured {
    /// Takes digests and tags out of a receipt.
    pub fn take(receipt: &mut Value) -> [Self; 3] {
        PLACES.map(|names| {
            let mut at = &mut *receipt;
            for name in names {
                let Some(below) = at.get_mut(*name) else { return Self::default() };
                at = below;
            }
            let bytes = at["bytes"].as_u64();
            let Some(members) = at.as_object_mut() else { return Self::default() };
            let mut take = |name: &str| match members.remove(name) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            };
            Self { bytes, sha256: take("sha256"), tag: take("tag") }
        })
    }

    /// Whether anybody can say if two bodies are the same, from what receipts have.
    pub fn are_known(&self, other: &Self) -> bool {
        let have = |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some();
        have(&self.sha256, &other.sha256)
            || self.have_one_key(other)
            || self.bytes != other.bytes
            || self.bytes == Some(0)
    }

    pub fn have_one_key(&self, other: &Self) -> bool {
        let key = |captured: &Self| captured.tag.as_deref().and_then(key_of).map(ToOwned::to_owned);
        key(self).is_some_and(|id| key(other) == Some(id))
    }
}

/// The capture id of a tag.
fn key_of(tag: &str) -> Option<&str> {
    let (key, digest) = tag.strip_prefix("hmac-sha256:")?.split_once(':')?;
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    (is_hex(key, 16) && is_hex(digest, 64)).then_some(key)
}

/// Why a body is not looked into, in the order of `spec/diff.md`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Opaque {
    Budget,
    Missing,
    TooLarge,
    NotJson,
    Numbers,
}

impl Opaque {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Missing => "missing",
            Self::TooLarge => "too_large",
            Self::NotJson => "not_json",
            Self::Numbers => "numbers",
        }
    }
}

/// Two bodies of one place, as JSON; takes the room that they need.
pub(crate) fn open(
    (from, to): (&dyn Bodies, &dyn Bodies),
    (one, other): (&str, &str),
    room: &mut u64,
) -> Result<(Value, Value), Opaque> {
    if *room == 0 {
        return Err(Opaque::Budget);
    }
    let mut read = |bodies: &dyn Bodies, sha256: &str| match bodies.stored(sha256, BODY_BYTES_MAX) {
        Stored::Missing => Err(Opaque::Missing),
        Stored::TooLarge => Err(Opaque::TooLarge),
        Stored::Bytes(bytes) => {
            *room = room.saturating_sub(bytes.len() as u64); // widening
            json(&bytes)
        }
    };
    match (read(from, one), read(to, other)) {
        (Ok(from), Ok(to)) => Ok((from, to)),
        (Err(one), Err(other)) => Err(one.min(other)),
        (Err(cause), Ok(_)) | (Ok(_), Err(cause)) => Err(cause),
    }
}

fn json(bytes: &[u8]) -> Result<Value, Opaque> {
    let canonical = canonical::foreign(bytes).map_err(|_| Opaque::NotJson)?;
    if !canonical::keeps_numbers(bytes) {
        return Err(Opaque::Numbers);
    }
    serde_json::from_slice(&canonical).map_err(|_| Opaque::NotJson)
}

/// Takes the tags of redacted values out of both, unless all of them are of one key. Says whether any were.
pub(crate) fn without_foreign_tags(from: &mut Value, to: &mut Value) -> bool {
    let mut keys = Vec::new();
    for value in [&mut *from, &mut *to] {
        redacted(value, &mut |members| {
            keys.extend(members.get("tag").and_then(Value::as_str).map(str::to_owned))
        });
    }
    let mut ids: Vec<Option<&str>> = keys.iter().map(|tag| key_of(tag)).collect();
    ids.sort_unstable();
    ids.dedup();
    let are_foreign = ids.len() > 1;
    if are_foreign {
        for value in [from, to] {
            redacted(value, &mut |members| drop(members.remove("tag")));
        }
    }
    are_foreign
}

/// Each `{"$redacted":{…}}` in a value. The depth is that of [`canonical::DEPTH_MAX`].
fn redacted(value: &mut Value, each: &mut dyn FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| redacted(element, each)),
        Value::Object(members) => {
            let is_alone = members.len() == 1;
            match members.get_mut("$redacted") {
                Some(Value::Object(mark)) if is_alone => each(mark),
                _ => members.values_mut().for_each(|member| redacted(member, each)),
            }
        }
        _ => {}
    }
}
