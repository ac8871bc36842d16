//! Judges a chain of custody: steps C1 to C8 of `spec/custody.md`.

use std::fmt;

use crate::archive::Pointer;
use crate::envelope::Envelope;
use crate::hash::Hash;
use crate::keys::{PublicKey, STATEMENT_TYPE, base64_decode};
use crate::list::{LINE_BYTES_MAX, is_next, lines};
use crate::schema::{Schemas, Slots};
use crate::view::View;

/// Most bytes and entries of a list.
pub const CUSTODY_BYTES_MAX: u64 = 16 << 20;
pub const CUSTODY_ENTRIES_MAX: usize = 10_000;
const ACTIONS: [&str; 6] = ["archived", "deleted", "disclosed", "moved", "sealed", "verified"];

macro_rules! faults {
    ($($name:ident $code:literal $meaning:literal;)*) => {
        /// Why a list does not hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CustodyReason { $(#[doc = $meaning] $name,)* }

        impl CustodyReason {
            /// Every reason, in the order of the steps.
            pub const ALL: &'static [CustodyReason] = &[$(CustodyReason::$name,)*];

            /// The code as `spec/custody.md` writes it.
            pub fn code(self) -> &'static str {
                match self { $(CustodyReason::$name => $code,)* }
            }

            /// One sentence for a reader who has not read the specification.
            pub fn meaning(self) -> &'static str {
                match self { $(CustodyReason::$name => $meaning,)* }
            }
        }
    };
}

faults! {
    Limit "CUSTODY_LIMIT" "the list is larger than a list may be";
    Form "CUSTODY_FORM" "the list has no entries, or one of them is not a whole line";
    Schema "CUSTODY_SCHEMA" "an entry is not in its one allowed form";
    Chain "CUSTODY_CHAIN" "an entry does not follow the one before it: one was altered, taken out or moved";
    Key "CUSTODY_KEY" "the key that an entry states is not the one that it names";
    Signature "CUSTODY_SIGNATURE" "the signature of an entry does not verify";
    Untrusted "CUSTODY_UNTRUSTED" "an entry is signed by a key that was not given";
    Bundle "CUSTODY_BUNDLE" "the list is of another bundle, or says something else of it than its manifest";
    Cut "CUSTODY_CUT" "entries are missing that the list once had";
}

impl CustodyReason {
    /// 6 for a limit, otherwise 2.
    pub fn exit_code(self) -> u8 {
        if self == Self::Limit { 6 } else { 2 }
    }
}

/// The first step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyFault {
    pub reason: CustodyReason,
    /// From 0; none when it is the list as a whole.
    pub entry: Option<u64>,
    pub detail: String,
}

impl fmt::Display for CustodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "entry {entry}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

/// What a list is held against beside itself.
#[derive(Clone, Copy, Default)]
pub struct CustodyOf<'a> {
    /// The keys that the reader accepts; any, if there are none.
    pub signers: &'a [PublicKey],
    /// The digest of the bundle's file, and its `manifest.json`.
    pub bundle: Option<(Hash, &'a [u8])>,
    /// Entry hashes of which one of the lines has each.
    pub heads: &'a [Hash],
    /// Sizes and digests of what the list was when it was archived.
    pub archived: &'a [(u64, Hash)],
}

/// One entry whose signature was verified.
#[derive(Clone, Debug)]
pub struct CustodyEntry {
    /// The statement, canonical JSON.
    pub statement: Vec<u8>,
    /// Of the key that signed.
    pub key: Hash,
    /// Entry hash of the line.
    pub leaf: Hash,
    /// Of an entry `archived`.
    pub archived: Option<Pointer>,
}

impl CustodyEntry {
    fn predicate(&self) -> View<'_> {
        predicate(&self.statement)
    }
}

fn predicate(statement: &[u8]) -> View<'_> {
    View::of(statement).member("predicate").unwrap_or(View::of(b"{}"))
}

/// Judges a list.
///
/// # Errors
/// The first step that fails.
pub fn verify_custody(list: &[u8], of: &CustodyOf<'_>) -> Result<Vec<CustodyEntry>, CustodyFault> {
    let whole = |reason, detail: &str| CustodyFault { reason, entry: None, detail: detail.into() };
    if list.len() as u64 > CUSTODY_BYTES_MAX {
        return Err(whole(CustodyReason::Limit, "the list is larger than 16 MiB"));
    }
    let lines = lines(list).filter(|lines| !lines.is_empty()).ok_or_else(|| {
        let detail =
            format!("a line is empty or has more than {LINE_BYTES_MAX} bytes, or the last has no end");
        whole(CustodyReason::Form, &detail)
    })?;
    if lines.len() > CUSTODY_ENTRIES_MAX {
        return Err(whole(CustodyReason::Limit, "the list has more than 10,000 entries"));
    }
    let mut entries: Vec<CustodyEntry> = Vec::with_capacity(lines.len());
    for (seq, line) in (0..).zip(lines) {
        let first = entries.first().map(CustodyEntry::predicate);
        let read = read(line, seq, first, entries.last().map(|last| last.leaf));
        let entry = read.and_then(|entry| held(entry, of));
        entries.push(entry.map_err(|(reason, detail)| CustodyFault { reason, entry: Some(seq), detail })?);
    }
    for head in of.heads {
        if entries.iter().all(|entry| entry.leaf != *head) {
            return Err(whole(CustodyReason::Cut, &format!("no entry has the hash `leaf:{}`", head.hex())));
        }
    }
    for (bytes, sha256) in of.archived {
        let begin = usize::try_from(*bytes).ok().and_then(|bytes| list.get(..bytes));
        if begin.map(Hash::of) != Some(*sha256) {
            let detail = format!("it does not begin with the {bytes} bytes that are archived");
            return Err(whole(CustodyReason::Cut, &detail));
        }
    }
    Ok(entries)
}

type Check<T> = Result<T, (CustodyReason, String)>;

/// C2 to C5.
fn read(line: &[u8], seq: u64, first: Option<View<'_>>, before: Option<Hash>) -> Check<CustodyEntry> {
    let schema = |detail| (CustodyReason::Schema, detail);
    let envelope = Envelope::read(line, STATEMENT_TYPE).map_err(schema)?;
    let found = Schemas::get().custody.check(&envelope.payload, &mut Slots::default());
    found.map_err(|found| schema(found.describe(&envelope.payload)))?;
    let entry = predicate(&envelope.payload);
    let action = entry.text_of("action");
    if let Some(other) = ACTIONS.iter().find(|name| entry.member(name).is_some() != (action == **name)) {
        return Err(schema(format!("`{other}` does not fit the action `{action}`")));
    }
    if !is_next(entry, seq, before) {
        return Err((CustodyReason::Chain, "it does not follow the entry before it".into()));
    }
    let bundle = |of: View<'_>| of.member("bundle").map(|bundle| bundle.raw().to_vec());
    let is_same = first.is_none_or(|first| bundle(first) == bundle(entry));
    let sha256 = entry.member("bundle").map(|bundle| bundle.text_of("sha256").into_owned());
    if (action == "sealed") != (seq == 0) || !is_same || subject(&envelope.payload) != sha256 {
        return Err((
            CustodyReason::Chain,
            format!("`{action}` or its bundle does not fit entry 0 or the subject"),
        ));
    }
    let public = entry.member("key").and_then(key_of).filter(|public| public.id() == envelope.key_id);
    let public = public.ok_or((CustodyReason::Key, "`key` is not the key of the signature".into()))?;
    if !envelope.is_signed_by(&public) {
        return Err((CustodyReason::Signature, format!("not by key `{}`", public.id().hex())));
    }
    let archived = entry.member("archived").map(Pointer::of);
    Ok(CustodyEntry { key: public.id(), leaf: Hash::leaf(line), archived, statement: envelope.payload })
}

/// The digest of the one subject.
fn subject(statement: &[u8]) -> Option<String> {
    let subject = View::of(statement).member("subject").and_then(|list| list.items().next());
    let digest = subject.and_then(|subject| subject.member("digest"))?;
    Some(format!("sha256:{}", digest.text_of("sha256")))
}

fn key_of(stated: View<'_>) -> Option<PublicKey> {
    let public = PublicKey::of_spki(&base64_decode(&stated.text_of("spki"))?)?;
    let is_it =
        public.id().hex() == *stated.text_of("kid") && public.algorithm().name() == &*stated.text_of("alg");
    is_it.then_some(public)
}

/// C6 and C7.
fn held(found: CustodyEntry, of: &CustodyOf<'_>) -> Check<CustodyEntry> {
    if !of.signers.is_empty() && of.signers.iter().all(|signer| signer.id() != found.key) {
        return Err((CustodyReason::Untrusted, format!("it is signed by key `{}`", found.key.hex())));
    }
    let entry = found.predicate();
    let stated = entry.member("bundle").map(|bundle| bundle.text_of("sha256").into_owned());
    let stated = stated.unwrap_or_default();
    if found.archived.as_ref().is_some_and(|at| at.sha256 != stated) {
        return Err((CustodyReason::Bundle, "what was archived is not the bundle".into()));
    }
    let looked_at = entry.member("verified").and_then(|verified| verified.member("found"));
    if looked_at.and_then(View::text).is_some_and(|digest| *digest == *stated) {
        return Err((CustodyReason::Bundle, "what was found instead of the bundle is the bundle".into()));
    }
    let Some((sha256, manifest)) = of.bundle else { return Ok(found) };
    let sha256 = format!("sha256:{}", sha256.hex());
    if stated != sha256 {
        return Err((CustodyReason::Bundle, format!("it is of `{stated}`, the bundle is `{sha256}`")));
    }
    let read = View::of(manifest);
    let run = entry.member("bundle").map(|bundle| bundle.text_of("run").into_owned());
    let digest = format!("sha256:{}", Hash::of(manifest).hex());
    let is_sealed_so = entry.member("sealed").is_none_or(|sealed| {
        ["iss", "sealed"].iter().all(|name| sealed.text_of(name) == read.text_of(name))
            && sealed.text_of("manifest") == digest
    });
    if run.as_deref() != Some(&*read.text_of("run")) || !is_sealed_so {
        return Err((CustodyReason::Bundle, "it does not say what the manifest of the bundle says".into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification() {
        let spec = include_str!("../../../spec/custody.md");
        for reason in CustodyReason::ALL {
            assert!(spec.contains(&format!("`{}`", reason.code())), "{}", reason.code());
        }
    }
}
