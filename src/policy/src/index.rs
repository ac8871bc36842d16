//! Which rules may hold for a fact, found without trying all of them.
//!
//! For each condition on a name, patterns without `*` are found by the name, patterns that begin or end with letters by those
//! letters, and only what begins and ends with `*` is tried one by one. What is found is a set of rules; what the conditions
//! have in common are the candidates, in the order of the file. A rule that is no candidate would fail if it were tried.

use std::collections::{BTreeMap, HashMap};

use crate::facts::{Condition, FACT_BYTES_MAX};
use crate::pattern::{Case, Glob};
use crate::read::RULES_MAX;
use crate::rule::CompiledRule;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = RULES_MAX.div_ceil(WORD_BITS);

/// Indexes of rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleSet {
    words: [u64; WORDS],
    /// Words that may have bits.
    used: usize,
}

impl RuleSet {
    /// The first `count`.
    pub fn all(count: usize) -> Self {
        let mut set = Self { words: [0; WORDS], used: count.div_ceil(WORD_BITS).min(WORDS) };
        (0..count.min(RULES_MAX)).for_each(|rule| set.add(rule));
        set
    }

    fn add(&mut self, rule: usize) {
        if let Some(word) = self.words.get_mut(rule / WORD_BITS) {
            *word |= 1 << (rule % WORD_BITS);
        }
    }

    fn used(&mut self) -> &mut [u64] {
        self.words.get_mut(..self.used).unwrap_or_default()
    }

    fn join(&mut self, other: &[u64]) {
        self.used().iter_mut().zip(other).for_each(|(word, other)| *word |= other);
    }

    fn keep(&mut self, other: &[u64]) {
        self.used().iter_mut().zip(other).for_each(|(word, other)| *word &= other);
    }

    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().take(self.used).enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?; // less than 64
                rest &= rest - 1;
                Some(at * WORD_BITS + bit)
            })
        })
    }
}

/// The rules of a policy by what their `when` says of names.
#[derive(Debug)]
pub(crate) struct Index {
    all: RuleSet,
    names: BTreeMap<Condition, Names>,
}

/// The rules by their patterns for one condition.
#[derive(Debug, Default)]
struct Names {
    case_is_ignored: bool,
    /// Rules without the condition: all names fulfil it, and none does too.
    without: Box<[u64]>,
    /// These, and rules with `*`, which all names fulfil.
    with_any: Box<[u64]>,
    exact: HashMap<Box<[u8]>, Vec<u32>>,
    begins: Ends,
    ends: Ends,
    /// Rules to be tried one by one.
    tried: Vec<(Glob, u32)>,
}

/// Patterns by the letters that they begin or end with.
#[derive(Debug, Default)]
struct Ends {
    /// Each once, in order.
    lengths: Vec<usize>,
    patterns: HashMap<Box<[u8]>, Vec<(Glob, u32)>>,
}

impl Index {
    pub fn new(rules: &[CompiledRule]) -> Self {
        let mut names: BTreeMap<Condition, Names> = BTreeMap::new();
        let conditions = Condition::ALL.into_iter().filter(|condition| !condition.is_of_content());
        for condition in conditions {
            if rules.iter().any(|rule| rule.rule.when.has(condition)) {
                names.insert(condition, Names::new(condition, rules));
            }
        }
        Self { all: RuleSet::all(rules.len()), names }
    }

    /// Every rule.
    pub fn all(&self) -> RuleSet {
        self.all
    }

    /// Takes out the rules whose condition does not hold for a fact.
    pub fn keep(&self, set: &mut RuleSet, condition: Condition, fact: Option<&str>) {
        if let Some(names) = self.names.get(&condition) {
            names.keep(set, fact);
        }
    }
}

impl Names {
    fn new(condition: Condition, rules: &[CompiledRule]) -> Self {
        let case = condition.case();
        let mut names = Self { case_is_ignored: case == Case::Ignore, ..Self::default() };
        let mut without = RuleSet::all(0);
        without.used = rules.len().div_ceil(WORD_BITS);
        let mut any = without;
        for (at, number) in (0..rules.len()).zip(0u32..) {
            match rules.get(at).and_then(|rule| rule.rule.when.names.get(&condition)) {
                None => without.add(at),
                Some(patterns) if patterns.iter().any(|pattern| Glob::new(pattern).is_any()) => any.add(at),
                Some(patterns) => patterns.iter().for_each(|pattern| names.add(pattern, number)),
            }
        }
        names.without = without.used().into();
        any.join(&names.without);
        names.with_any = any.used().into();
        names
    }

    fn add(&mut self, pattern: &str, rule: u32) {
        let glob = Glob::new(pattern);
        let key = |text: &str| -> Box<[u8]> {
            let bytes = text.as_bytes();
            if self.case_is_ignored { bytes.to_ascii_lowercase().into() } else { bytes.into() }
        };
        match glob.ends() {
            (head, None) => self.exact.entry(key(head)).or_default().push(rule),
            ("", Some("")) => self.tried.push((glob, rule)),
            ("", Some(tail)) => {
                let key = key(tail);
                self.ends.add(key, glob, rule);
            }
            (head, Some(_)) => {
                let key = key(head);
                self.begins.add(key, glob, rule);
            }
        }
    }

    fn keep(&self, set: &mut RuleSet, fact: Option<&str>) {
        let mut found = RuleSet { words: [0; WORDS], used: set.used };
        match fact {
            None => found.join(&self.without),
            Some(fact) => {
                found.join(&self.with_any);
                self.find(fact, &mut found);
            }
        }
        set.keep(&found.words);
    }

    fn find(&self, fact: &str, found: &mut RuleSet) {
        let mut add = |rules: &[u32]| rules.iter().for_each(|rule| found.add(*rule as usize)); // an index fits
        let bytes = fact.as_bytes();
        let mut lower = [0; FACT_BYTES_MAX];
        // A longer name is matched by `*` alone.
        let Some(lower) = lower.get_mut(..bytes.len()) else { return };
        lower.copy_from_slice(bytes);
        let case = if self.case_is_ignored { Case::Ignore } else { Case::Exact };
        if self.case_is_ignored {
            lower.make_ascii_lowercase();
        }
        if let Some(rules) = self.exact.get(&*lower) {
            add(rules);
        }
        let taken = |(glob, rule): &(Glob, u32)| glob.matches(fact, case).then_some(*rule);
        self.begins.each(|length| lower.get(..length), |pattern| add(taken(pattern).as_slice()));
        let from_end = |length| lower.get(lower.len().checked_sub(length)?..);
        self.ends.each(from_end, |pattern| add(taken(pattern).as_slice()));
        self.tried.iter().for_each(|pattern| add(taken(pattern).as_slice()));
    }
}

impl Ends {
    fn add(&mut self, key: Box<[u8]>, glob: Glob, rule: u32) {
        if let Err(at) = self.lengths.binary_search(&key.len()) {
            self.lengths.insert(at, key.len());
        }
        self.patterns.entry(key).or_default().push((glob, rule));
    }

    /// Each pattern whose letters are those that `part` gives of their length.
    fn each<'n>(&self, part: impl Fn(usize) -> Option<&'n [u8]>, mut meet: impl FnMut(&(Glob, u32))) {
        let parts = self.lengths.iter().map_while(|length| part(*length));
        parts.filter_map(|part| self.patterns.get(part)).flatten().for_each(&mut meet);
    }
}
