//! One text that comes in pieces.

use crate::catalogue::{Look, View};
use crate::engine::Engine;
use crate::finding::Found;

/// Most bytes from its anchor on that a rule looks at.
pub const REACH_MAX: usize = 2048;
/// Most bytes before its anchor that a rule looks at.
pub const LOOK_BACK: usize = 96;

/// A text on its way through an engine.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The end of what has come.
    kept: Vec<u8>,
    /// Bytes before `kept`.
    base: u64,
    /// Bytes of `kept` in which anchors were looked for.
    searched: usize,
    /// Anchors at which a rule waits for more.
    waiting: Vec<Anchor>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    rule: usize,
    /// In the text.
    at: u64,
}

impl Scanner {
    /// Takes the next piece.
    pub fn push(&mut self, engine: &Engine, piece: &[u8], found: &mut dyn FnMut(Found<'_>)) {
        if engine.is_empty() || piece.is_empty() {
            self.base += piece.len() as u64;
            return;
        }
        self.kept.extend_from_slice(piece);
        self.look_again(engine, false, found);
        self.search(engine, false, found);
        self.forget(engine);
    }

    /// The text may be over: what is found if it is. More can follow as if nothing was said; what was found is not found again.
    pub fn pause(&mut self, engine: &Engine, found: &mut dyn FnMut(Found<'_>)) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|anchor| {
            let mut is_found = false;
            self.look(engine, *anchor, true, &mut |finding| {
                is_found = true;
                found(finding);
            });
            !is_found
        });
        self.waiting = waiting;
    }

    /// The text is over. The scanner can take another.
    pub fn finish(&mut self, engine: &Engine, found: &mut dyn FnMut(Found<'_>)) {
        if !engine.is_empty() {
            self.look_again(engine, true, found);
        }
        *self = Self::default();
    }

    /// Bytes that have come.
    pub fn length(&self) -> u64 {
        self.base + self.kept.len() as u64
    }

    /// How many bytes of the text no later one can make part of a finding.
    pub fn settled(&self, engine: &Engine) -> u64 {
        let end = self.length();
        let before = |anchor: &Anchor| {
            let before = engine.rules.get(anchor.rule).map_or(0, |rule| rule.before);
            let at = usize::try_from(anchor.at - self.base).unwrap_or(usize::MAX);
            anchor.at - run(self.kept.get(..at).unwrap_or_default(), before)
        };
        let open = self.waiting.iter().map(before).min().unwrap_or(end);
        let beginning = self.beginning(engine) as u64;
        let local = run(&self.kept, engine.before_max);
        open.min(end.saturating_sub(beginning)).min(end - local)
    }

    /// Bytes at the end that may be the beginning of a word.
    fn beginning(&self, engine: &Engine) -> usize {
        let longest = engine.word_bytes_max.saturating_sub(1).min(self.kept.len());
        let tail = self.kept.get(self.kept.len() - longest..).unwrap_or_default().to_ascii_lowercase();
        (1..=longest).rev().find(|length| engine.beginnings.contains(&tail[longest - length..])).unwrap_or(0)
    }

    fn look_again(&mut self, engine: &Engine, is_over: bool, found: &mut dyn FnMut(Found<'_>)) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|anchor| self.look(engine, *anchor, is_over, found));
        self.waiting = waiting;
    }

    /// Looks for anchors in what has not been searched.
    fn search(&mut self, engine: &Engine, is_over: bool, found: &mut dyn FnMut(Found<'_>)) {
        let from = self.searched;
        let mut anchors: Vec<(usize, usize)> = Vec::new();
        if let Some(words) = &engine.words {
            let start = from.saturating_sub(engine.word_bytes_max.saturating_sub(1));
            let text = self.kept.get(start..).unwrap_or_default();
            for hit in words.find_overlapping_iter(text).filter(|hit| start + hit.end() > from) {
                let rules = engine.by_word.get(hit.pattern().as_usize()).into_iter().flatten();
                anchors.extend(rules.map(|rule| (start + hit.start(), *rule)));
            }
        }
        if !engine.by_digits.is_empty() || !engine.by_hidden.is_empty() {
            self.find_bytes(engine, from, &mut anchors);
        }
        anchors.sort_unstable();
        for (at, rule) in anchors {
            let anchor = Anchor { rule, at: self.base + at as u64 };
            if self.look(engine, anchor, is_over, found) {
                self.waiting.push(anchor);
            }
        }
        self.searched = self.kept.len();
    }

    fn find_bytes(&self, engine: &Engine, from: usize, anchors: &mut Vec<(usize, usize)>) {
        let mut after_digit =
            from.checked_sub(1).and_then(|at| self.kept.get(at)).is_some_and(u8::is_ascii_digit);
        for (at, byte) in self.kept.iter().enumerate().skip(from) {
            let kind = KINDS[usize::from(*byte)];
            if kind == HIDDEN {
                anchors.extend(engine.by_hidden.iter().map(|rule| (at, *rule)));
            }
            let is_digit = kind == DIGIT;
            if is_digit && !after_digit {
                anchors.extend(engine.by_digits.iter().map(|rule| (at, *rule)));
            }
            after_digit = is_digit;
        }
    }

    /// Asks a rule. Whether it waits.
    fn look(&self, engine: &Engine, anchor: Anchor, is_over: bool, found: &mut dyn FnMut(Found<'_>)) -> bool {
        let Some(rule) = engine.rules.get(anchor.rule) else { return false };
        let at = usize::try_from(anchor.at - self.base).unwrap_or(usize::MAX);
        let first = at.saturating_sub(LOOK_BACK);
        let last = at.saturating_add(rule.reach);
        let is_whole = is_over || last <= self.kept.len();
        let text = self.kept.get(first..last.min(self.kept.len())).unwrap_or_default();
        match rule.look(&View { text, at: at - first, is_whole }) {
            Look::Nothing => false,
            Look::Wait => !is_whole,
            Look::Found { from, to, confidence } => {
                let bytes = text.get(from..to).unwrap_or_default();
                let at = self.base + (first + from) as u64;
                found(Found { rule: &rule.info, confidence, at, bytes });
                false
            }
        }
    }

    /// Drops what no rule looks at any more.
    fn forget(&mut self, engine: &Engine) {
        let end = self.kept.len();
        let oldest = self.waiting.iter().map(|anchor| anchor.at - self.base).min();
        let oldest = oldest.and_then(|at| usize::try_from(at).ok()).unwrap_or(end);
        let kept = oldest.min(end.saturating_sub(engine.word_bytes_max)).saturating_sub(LOOK_BACK);
        // Moved rarely, so that single bytes cost no more than they have to.
        if kept >= REACH_MAX {
            self.kept.drain(..kept);
            self.base += kept as u64;
            self.searched -= kept;
        }
    }
}

/// Bytes at the end of `text`, at most `most`, that a finding may have before its anchor.
fn run(text: &[u8], most: usize) -> u64 {
    let is_local =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
    text.iter().rev().take(most).take_while(is_local).count() as u64
}

const OTHER: u8 = 0;
const DIGIT: u8 = 1;
const HIDDEN: u8 = 2;

const KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut digit = b'0';
    while digit <= b'9' {
        kinds[digit as usize] = DIGIT;
        digit += 1;
    }
    kinds[0xE2] = HIDDEN;
    kinds[0xEF] = HIDDEN;
    kinds[0xF3] = HIDDEN;
    kinds
};
