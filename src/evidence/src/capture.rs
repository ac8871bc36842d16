//! Keyed capture of bytes (SPEC section 6) and stream units (section 7).
//!
//! The bytes are hashed once, by whoever relays them; this module turns that hash into a tag that says "the same
//! bytes" within one run, and into a commitment that lets one body be disclosed alone.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::hash::{Commit, Root, from_hex, hex, hex_into};
use crate::id::{CallId, RunId};
use crate::tree::{self, Frontier};

type HmacSha256 = Hmac<sha2::Sha256>;

/// What the bytes were. The label is part of every tag, so a request can never pass for a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    RequestBody,
    ResponseBody,
    RequestTarget,
    RedactedValue,
    FoundValue,
    RequestCall,
    /// What a client is given to bring back; in no entry.
    HoldState,
}

impl Label {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::RequestBody => b"pef/v0/request-body\0",
            Self::ResponseBody => b"pef/v0/response-body\0",
            Self::RequestTarget => b"pef/v0/request-target\0",
            Self::RedactedValue => b"pef/v0/redacted-value\0",
            Self::FoundValue => b"pef/v0/found-value\0",
            Self::RequestCall => b"pef/v0/request-call\0",
            Self::HoldState => b"pef/v0/hold-state\0",
        }
    }
}

/// K_capture: the secret all runs' keys come from. `Debug` shows nothing; it has no `Serialize`.
#[derive(Clone)]
pub struct CaptureKey(Zeroizing<[u8; 32]>);

impl CaptureKey {
    /// Takes exactly 32 secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// K_run and what follows from it.
    pub fn run(&self, run: RunId) -> RunCapture {
        RunCapture::new(self.run_key(run))
    }

    pub(crate) fn run_key(&self, run: RunId) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<sha2::Sha256>::new(Some(&run.bytes()), &*self.0)
            .expand(b"pef/v0/capture", &mut *key)
            .expect("32 bytes are within what HKDF-SHA-256 gives");
        key
    }
}

impl fmt::Debug for CaptureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureKey(***)")
    }
}

/// One run's capture key with its HMAC state ready.
#[derive(Clone)]
pub struct RunCapture {
    mac: HmacSha256,
    commitment: Commit,
    id: [u8; 8],
}

impl RunCapture {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        let mut hasher = sha2::Sha256::new_with_prefix(b"pef/v0/capture-key\0");
        hasher.update(*key);
        let commitment: [u8; 32] = hasher.finalize().into();
        let mut id = [0; 8];
        id.copy_from_slice(&commitment[..8]);
        Self { mac: keyed(&*key), commitment: Commit(commitment), id }
    }

    /// What `run.open` publishes, so that the key cannot be swapped later.
    pub fn commitment(&self) -> Commit {
        self.commitment
    }

    /// The capture id: 16 hex digits.
    pub fn id(&self) -> String {
        hex(&self.id)
    }

    /// The tag of bytes whose SHA-256 is `digest`.
    pub fn tag(&self, label: Label, digest: &[u8; 32]) -> Tag {
        Tag { id: self.id, mac: labelled(&self.mac, label, digest) }
    }

    /// K_call and what follows from it.
    pub fn call(&self, call: CallId) -> CallCapture {
        CallCapture { mac: keyed(&*self.call_key(call)) }
    }

    pub(crate) fn call_key(&self, call: CallId) -> Zeroizing<[u8; 32]> {
        let mut mac = self.mac.clone();
        mac.update(b"pef/v0/call-key\0");
        mac.update(&call.bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for RunCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunCapture({})", self.id())
    }
}

/// One call's capture key.
#[derive(Clone)]
pub struct CallCapture {
    mac: HmacSha256,
}

impl CallCapture {
    /// The commitment to bytes whose SHA-256 is `digest`.
    pub fn commit(&self, label: Label, digest: &[u8; 32]) -> Commit {
        Commit(labelled(&self.mac, label, digest))
    }

    /// A tree for this call's stream.
    pub fn stream(&self) -> StreamTree {
        StreamTree::new(*self.events_key())
    }

    pub(crate) fn events_key(&self) -> Zeroizing<[u8; 32]> {
        let mut mac = self.mac.clone();
        mac.update(b"pef/v0/sse-events");
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for CallCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallCapture(***)")
    }
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn labelled(mac: &HmacSha256, label: Label, digest: &[u8; 32]) -> [u8; 32] {
    let mut mac = mac.clone();
    mac.update(label.bytes());
    mac.update(digest);
    mac.finalize().into_bytes().into()
}

/// A keyed tag. Written `hmac-sha256:<capture id>:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    id: [u8; 8],
    mac: [u8; 32],
}

impl Tag {
    /// The written form, on the stack.
    fn text(&self) -> [u8; 93] {
        let mut out = [b':'; 93];
        out[..11].copy_from_slice(b"hmac-sha256");
        hex_into(&mut out[12..28], &self.id);
        hex_into(&mut out[29..], &self.mac);
        out
    }

    fn with_text<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        f(std::str::from_utf8(&self.text()).expect("the scheme's name and hex digits are ASCII"))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let parse = || {
            let (id, mac) = text.strip_prefix("hmac-sha256:")?.split_once(':')?;
            Some(Self { id: from_hex(id)?, mac: from_hex(mac)? })
        };
        parse().ok_or(TagError)
    }
}

/// A text is no keyed tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a tag `hmac-sha256:<16 hex digits>:<64 hex digits>`")]
pub struct TagError;

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

/// Most node hashes that are kept of one stream: 2 MiB. Beyond, each kept node covers twice as many units.
pub const STREAM_NODES_MAX: usize = 65_536;

/// The tree over one stream's units, built as the bytes pass (SPEC section 7).
///
/// Memory: 32 bytes a unit up to [`STREAM_NODES_MAX`] nodes, then constant.
#[derive(Clone)]
pub struct StreamTree {
    /// Hash state that has taken 0x00 and K_events: the start of every leaf.
    prefix: sha2::Sha256,
    current: sha2::Sha256,
    current_bytes: u64,
    units: u64,
    level: u32,
    nodes: Vec<[u8; 32]>,
    /// The units since the last full block of 2^level.
    partial: Frontier,
}

impl StreamTree {
    fn new(key: [u8; 32]) -> Self {
        let mut prefix = sha2::Sha256::new_with_prefix([0]);
        prefix.update(key);
        let current = prefix.clone();
        Self {
            prefix,
            current,
            current_bytes: 0,
            units: 0,
            level: 0,
            nodes: Vec::new(),
            partial: Frontier::default(),
        }
    }

    /// Takes bytes of the unit that is passing.
    pub fn update(&mut self, bytes: &[u8]) {
        self.current.update(bytes);
        self.current_bytes += bytes.len() as u64;
    }

    /// The unit ends here.
    pub fn end_unit(&mut self) {
        let leaf: [u8; 32] = std::mem::replace(&mut self.current, self.prefix.clone()).finalize().into();
        self.current_bytes = 0;
        self.units += 1;
        if self.level == 0 {
            self.nodes.push(leaf);
        } else {
            self.partial.push_hash(leaf);
            if self.partial.size() == 1 << self.level {
                self.nodes.push(std::mem::take(&mut self.partial).root().0);
            }
        }
        if self.nodes.len() > STREAM_NODES_MAX
            || (self.nodes.len() == STREAM_NODES_MAX && self.partial.size() > 0)
        {
            self.collapse();
        }
    }

    /// Joins nodes in pairs; an odd last one goes back into the partial block.
    fn collapse(&mut self) {
        let odd = if self.nodes.len() % 2 == 1 { self.nodes.pop() } else { None };
        let block = 1u64 << self.level;
        self.nodes = self.nodes.chunks_exact(2).map(|pair| tree::node(&pair[0], &pair[1])).collect();
        self.level += 1;
        if let Some(odd) = odd {
            let tail = std::mem::take(&mut self.partial);
            self.partial = Frontier::joined(odd, block, &tail);
        }
    }

    /// Ends the stream; what is left without a blank line is the last unit.
    pub fn finish(mut self) -> StreamRoot {
        if self.current_bytes > 0 {
            self.end_unit();
        }
        if self.partial.size() > 0 {
            self.nodes.push(self.partial.root().0);
        }
        let root = tree::root(&self.nodes);
        StreamRoot { units: self.units, level: self.level, root, nodes: self.nodes }
    }
}

impl fmt::Debug for StreamTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamTree({} units)", self.units)
    }
}

/// A finished stream tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRoot {
    /// Number of units.
    pub units: u64,
    /// Height of `nodes`.
    pub level: u32,
    /// Root over all units.
    pub root: Root,
    /// One hash per full block of 2^level units, then the last partial block's.
    pub nodes: Vec<[u8; 32]>,
}

impl StreamRoot {
    /// The content of the bundle's `streams/<call>.nodes`.
    pub fn file(&self) -> Vec<u8> {
        self.nodes.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunCapture {
        CaptureKey::new([7; 32]).run(RunId::new(1, [2; 10]))
    }

    #[test]
    fn equal_bytes_have_equal_tags_within_a_run_only() {
        let other = CaptureKey::new([7; 32]).run(RunId::new(1, [3; 10]));
        let digest = [9; 32];
        assert_eq!(run().tag(Label::RequestBody, &digest), run().tag(Label::RequestBody, &digest));
        assert_ne!(run().tag(Label::RequestBody, &digest).mac, other.tag(Label::RequestBody, &digest).mac);
        assert_ne!(run().tag(Label::RequestBody, &digest), run().tag(Label::ResponseBody, &digest));
    }

    #[test]
    fn commitments_differ_from_call_to_call() {
        let (one, two) = (CallId::new(1, [1; 10]), CallId::new(1, [2; 10]));
        let digest = [9; 32];
        assert_ne!(
            run().call(one).commit(Label::RequestBody, &digest),
            run().call(two).commit(Label::RequestBody, &digest)
        );
    }

    #[test]
    fn tags_are_written_with_the_capture_id() {
        let text = run().tag(Label::RequestBody, &[0; 32]).to_string();
        assert!(
            text.starts_with(&format!("hmac-sha256:{}:", run().id())) && text.len() == 12 + 16 + 1 + 64,
            "{text}"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        assert_eq!(format!("{:?}", CaptureKey::new([7; 32])), "CaptureKey(***)");
    }

    fn stream_of(units: u64) -> (StreamRoot, Root) {
        let call = run().call(CallId::new(1, [1; 10]));
        let (mut tree, mut plain) = (call.stream(), Frontier::default());
        for n in 0..units {
            tree.update(&n.to_be_bytes());
            let mut leaf = tree.prefix.clone();
            leaf.update(n.to_be_bytes());
            plain.push_hash(leaf.finalize().into());
            tree.end_unit();
        }
        (tree.finish(), plain.root())
    }

    #[test]
    fn stream_root_is_the_plain_tree_root_at_every_level() {
        let max = STREAM_NODES_MAX as u64;
        for units in
            [0, 1, 2, 3, 1000, max - 1, max, max + 1, max + 2, max + 3, 2 * max, 2 * max + 1, 4 * max + 5]
        {
            let (stream, root) = stream_of(units);
            assert_eq!(stream.root, root, "{units}");
            assert_eq!(stream.units, units);
            assert!(stream.nodes.len() <= STREAM_NODES_MAX, "{units}");
            let block = 1 << stream.level;
            assert_eq!(stream.nodes.len() as u64, units.div_ceil(block), "{units}");
            assert!(
                stream.level == 0 || units.div_ceil(block / 2) > max,
                "{units}: level is the least that fits"
            );
        }
    }

    #[test]
    fn an_unended_tail_is_the_last_unit() {
        let mut tree = run().call(CallId::new(1, [1; 10])).stream();
        tree.update(b"data: a\n\n");
        tree.end_unit();
        tree.update(b"data: cut");
        assert_eq!(tree.finish().units, 2);
    }
}
