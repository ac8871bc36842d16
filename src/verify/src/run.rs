//! The chain of one run (SPEC section 5; steps L5 to L15 and S3 of section 11). Bundles have one, journals many.

use crate::entry::Entry;
use crate::hash::Hash;
use crate::holds::Holds;
use crate::keys::{Key, Keys, POSSESSION_TYPE, Usage, base64_decode, pae};
use crate::late::Late;
use crate::reason::Reason;
use crate::report::{Counters, Finding, Step};
use crate::schema::{Kind, Slot};
use crate::tree::Tree;
use crate::view::View;

/// Whether entries carry signatures of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    Each,
    Checkpoint,
}

/// What every entry of a run must state.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub run: &'a [u8],
    pub iss: &'a [u8],
}

/// A run as far as its entries have been read.
pub(crate) struct Run {
    /// Entries so far.
    pub size: u64,
    pub signing: Signing,
    pub sealed: bool,
    /// What only a run needs that is not sealed yet.
    pub open: Option<Box<Open>>,
    /// Hash of the last entry, in hex.
    last: [u8; 64],
    /// Id of the current receipt key, in hex.
    kid: [u8; 64],
    mono_us: u64,
    /// Its first entries are not there any more (SPEC section 12, `runs` of a beginning).
    carried: bool,
}

#[derive(Default)]
pub(crate) struct Open {
    pub tree: Tree,
    pub counters: Counters,
    /// Keys that a `key.rotate` of this run brought in, oldest first.
    pub rotated: Vec<(Usage, Hash)>,
    holds: Holds,
    late: Late,
}

impl Default for Run {
    fn default() -> Self {
        Run {
            size: 0,
            signing: Signing::Each,
            sealed: false,
            open: Some(Box::default()),
            last: [0; 64],
            kid: [0; 64],
            mono_us: 0,
            carried: false,
        }
    }
}

impl Run {
    /// A run whose first entries are not there any more: the tree over them, the current receipt key and the last of them, when
    /// that was, and what they add up to.
    pub(crate) fn carried(
        tree: Tree,
        signing: Signing,
        (kid, last): (Hash, Hash),
        mono_us: u64,
        counters: Counters,
    ) -> Self {
        Run {
            size: tree.size(),
            signing,
            sealed: false,
            open: Some(Box::new(Open { tree, counters, ..Open::default() })),
            last: last.hex_bytes(),
            kid: kid.hex_bytes(),
            mono_us,
            carried: true,
        }
    }

    /// L5 to L9. Gives the key that signs the entry.
    pub(crate) fn admit<'k>(&mut self, entry: &Entry<'_>, owner: Owner<'_>, keys: &'k Keys) -> Step<&'k Key> {
        let at = self.size;
        self.check_place(entry, owner).map_err(|finding| finding.at(at))?;
        let kid = entry.raw(Slot::Kid);
        if entry.kind == Kind::RunOpen {
            self.kid = kid.try_into().unwrap_or(self.kid);
            self.signing = match &*entry.view().text_of("sign") {
                "each" => Signing::Each,
                _ => Signing::Checkpoint,
            };
        }
        if kid != self.kid {
            let detail = format!("expected key `{}`, found `{}`", shown(&self.kid), shown(kid));
            return Err(Finding::new(Reason::KeyMismatch, detail).at(at));
        }
        let key = Hash::of_hex(kid).and_then(|id| keys.find(id, Usage::Receipt)).ok_or_else(|| {
            let detail = format!("key `{}` is not listed as a receipt key", shown(kid));
            Finding::new(Reason::KeyMismatch, detail).at(at)
        })?;
        let mono_us = entry.count(Slot::MonoUs);
        if mono_us < self.mono_us {
            let detail = format!("expected `mono_us` of at least {}, found {mono_us}", self.mono_us);
            return Err(Finding::new(Reason::TimeReversed, detail).at(at));
        }
        self.mono_us = mono_us;
        Ok(key)
    }

    /// L5 to L7.
    fn check_place(&self, entry: &Entry<'_>, owner: Owner<'_>) -> Step {
        if entry.seq() != self.size {
            let detail = format!("expected `seq` {}, found {}", self.size, entry.seq());
            return Err(Finding::new(Reason::SeqMismatch, detail));
        }
        if (entry.kind == Kind::RunOpen) != (self.size == 0) {
            let detail = format!(
                "expected `run.open` as the first entry and nowhere else, found `{}` at {}",
                entry.kind.name(),
                self.size
            );
            return Err(Finding::new(Reason::SeqMismatch, detail));
        }
        for (name, expected, slot) in [("run", owner.run, Slot::Run), ("iss", owner.iss, Slot::Iss)] {
            let found = entry.raw(slot);
            if found != expected {
                let detail = format!("expected `{name}` `{}`, found `{}`", shown(expected), shown(found));
                return Err(Finding::new(Reason::RunMismatch, detail));
            }
        }
        let prev = entry.optional(Slot::Prev);
        let hex = prev.and_then(|prev| prev.strip_prefix(b"leaf:"));
        if self.size > 0 && hex != Some(&self.last) {
            let detail = format!(
                "expected `prev` `leaf:{}`, which is the entry before, found `{}`",
                shown(&self.last),
                shown(prev.unwrap_or_default())
            );
            return Err(Finding::new(Reason::ChainBroken, detail));
        }
        Ok(())
    }

    /// L11 to L15; then counts the entry in. `Some` for a seal: what S3 has against it.
    pub(crate) fn take(&mut self, entry: &Entry<'_>, keys: &Keys) -> Step<Option<Result<(), String>>> {
        let at = self.size;
        if entry.kind == Kind::KeyRotate {
            self.rotate(entry, keys)
                .map_err(|detail| Finding::new(Reason::RotationInvalid, detail).at(at))?;
        }
        if self.sealed {
            let detail = format!("expected nothing after `run.seal`, found `{}`", entry.kind.name());
            return Err(Finding::new(Reason::SealNotLast, detail).at(at));
        }
        // What an entry names may have been among those that are not there any more; the bundle of the run shows it.
        if let Some(open) = self.open.as_mut().filter(|_| !self.carried) {
            open.holds.take(entry).map_err(|detail| Finding::new(Reason::ApprovalInvalid, detail).at(at))?;
            open.late.take(entry).map_err(|detail| Finding::new(Reason::SnapshotMismatch, detail).at(at))?;
        }
        let mut seal = None;
        if entry.kind == Kind::RunSeal {
            self.sealed = true;
            seal = Some(self.check_seal(entry));
        }
        if let Some(open) = &mut self.open {
            count(&mut open.counters, entry);
            open.tree.push(entry.hash);
        }
        self.last = entry.hash.hex_bytes();
        self.size += 1;
        Ok(seal)
    }

    /// L11.
    fn rotate(&mut self, entry: &Entry<'_>, keys: &Keys) -> Result<(), String> {
        let view = entry.view();
        let (old, new) = (view.text_of("old"), view.text_of("new"));
        let name = view.text_of("use");
        let usage = Usage::of(&name).ok_or("the use is unknown")?;
        let current = self.current(usage);
        if current.as_ref().is_some_and(|current| *current != *old) {
            return Err(format!(
                "expected the current {name} key `{}` as `old`, found `{old}`",
                current.unwrap_or_default()
            ));
        }
        let key = Hash::of_hex(new.as_bytes())
            .and_then(|id| keys.find(id, usage))
            .ok_or_else(|| format!("the new key `{new}` is not listed as a {name} key"))?;
        let spki = base64_decode(&view.text_of("spki"));
        if spki.as_deref() != Some(key.public.spki()) || view.text_of("alg") != key.public.algorithm().name()
        {
            return Err(format!("`spki` or `alg` is not that of the new key `{new}`"));
        }
        let proof = base64_decode(&view.text_of("possession")).and_then(|proof| proof.try_into().ok());
        let statement = format!(
            r#"{{"iss":"{}","new":"{new}","old":"{old}","run":"{}","use":"{name}"}}"#,
            view.text_of("iss"),
            view.text_of("run"),
        );
        let message = pae(POSSESSION_TYPE, statement.as_bytes());
        if !proof.is_some_and(|proof| key.public.verifies(&message, &proof)) {
            return Err(format!("`possession` does not verify with the new key `{new}`"));
        }
        if usage == Usage::Receipt {
            self.kid = key.id.hex_bytes();
        }
        if let Some(open) = &mut self.open {
            open.rotated.push((usage, key.id));
        }
        Ok(())
    }

    /// The current key of that use, in hex, if it is known.
    fn current(&self, usage: Usage) -> Option<String> {
        if usage == Usage::Receipt {
            return Some(shown(&self.kid).into_owned());
        }
        let open = self.open.as_ref()?;
        open.rotated.iter().rev().find(|(of, _)| *of == usage).map(|(_, id)| id.hex())
    }

    /// S3: what the seal states against what was counted up to it.
    fn check_seal(&self, entry: &Entry<'_>) -> Result<(), String> {
        let Some(open) = &self.open else { return Ok(()) };
        let seal = entry.view();
        let text = |name: &str| seal.text_of(name);
        let count = seal.member("count").and_then(View::count);
        if count != Some(self.size) {
            return Err(format!("expected `count` {}, found {}", self.size, count.unwrap_or_default()));
        }
        let head = format!("leaf:{}", shown(&self.last));
        if text("head") != head {
            return Err(format!("expected `head` `{head}`, found `{}`", text("head")));
        }
        let root = format!("root:{}", open.tree.root().hex());
        if text("root") != root {
            return Err(format!("expected `root` `{root}`, found `{}`", text("root")));
        }
        check_counters(&open.counters, seal.member("counters"))
    }

    /// Hash of the last entry.
    pub(crate) fn last(&self) -> Hash {
        Hash::of_hex(&self.last).unwrap_or(Hash([0; 32]))
    }

    /// Lets go of what a sealed run does not need any more.
    pub(crate) fn close(&mut self) -> Option<Box<Open>> {
        self.open.take()
    }
}

/// Compares counters that a document states with those that were counted.
pub(crate) fn check_counters(counted: &Counters, stated: Option<View<'_>>) -> Result<(), String> {
    for (name, value) in counted.rows() {
        let found = stated.and_then(|stated| stated.member(name)).and_then(View::count);
        if found != Some(value) {
            return Err(format!("expected {value} as counter `{name}`, found {}", found.unwrap_or_default()));
        }
    }
    Ok(())
}

fn count(counters: &mut Counters, entry: &Entry<'_>) {
    match entry.kind {
        Kind::Call => {}
        Kind::Interrupted => {
            counters.interrupted += 1;
            return;
        }
        _ => return,
    }
    counters.calls += 1;
    match entry.raw(Slot::Action) {
        b"allow" => counters.allow += 1,
        b"repair" => counters.repair += 1,
        b"hold" => counters.hold += 1,
        b"block" => counters.block += 1,
        _ => {}
    }
    if entry.raw(Slot::Complete) == b"false" {
        counters.incomplete += 1;
    }
}

fn shown(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}
