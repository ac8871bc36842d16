//! Rules ready to search: every word that one of them begins at in one automaton, and what each does there.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::catalogue::{Anchors, CatalogueError, Code, Edge, Look, Looks, Rule, View, rules};
use crate::confirm::Check;
use crate::finding::RuleInfo;
use crate::pattern::{End, Pattern};
use crate::phrase::{PHRASE_BYTES_MAX, Phrase};

/// Rules that cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The data files are wrong.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A pattern cannot be compiled.
    #[error("rule `{id}`: {problem}")]
    Pattern { id: &'static str, problem: String },
    /// The words of all rules together cannot be.
    #[error("keywords: {problem}")]
    Words { problem: String },
}

/// Rules that are searched for together. Shared by all scanners.
#[derive(Debug)]
pub struct Engine {
    pub(crate) rules: Vec<Compiled>,
    pub(crate) words: Option<AhoCorasick>,
    /// For each word of the automaton, the rules that it begins.
    pub(crate) by_word: Vec<Vec<usize>>,
    pub(crate) by_digits: Vec<usize>,
    pub(crate) by_hidden: Vec<usize>,
    /// What a word may begin with, in small letters.
    pub(crate) beginnings: HashSet<Vec<u8>>,
    pub(crate) word_bytes_max: usize,
    /// Furthest that a finding begins before its anchor.
    pub(crate) before_max: usize,
}

#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) info: RuleInfo,
    pub(crate) reach: usize,
    pub(crate) before: usize,
    looks: Looked,
}

#[derive(Debug)]
enum Looked {
    Pattern { pattern: Box<Pattern>, left: Edge, right: Edge, check: Check },
    Phrase(Phrase),
    Code(fn(&View<'_>) -> Look),
}

impl Engine {
    /// Takes the rules that `wanted` wants.
    ///
    /// # Errors
    /// The data files or a pattern cannot be used; none that is compiled in is so.
    pub fn new(wanted: impl Fn(&RuleInfo) -> bool) -> Result<Self, EngineError> {
        let mut engine = Self {
            rules: Vec::new(),
            words: None,
            by_word: Vec::new(),
            by_digits: Vec::new(),
            by_hidden: Vec::new(),
            beginnings: HashSet::new(),
            word_bytes_max: 0,
            before_max: 0,
        };
        let mut words: Vec<Vec<u8>> = Vec::new();
        for rule in rules()?.iter().filter(|rule| wanted(&rule.info)) {
            engine.add(rule, &mut words)?;
        }
        for word in &words {
            engine.word_bytes_max = engine.word_bytes_max.max(word.len());
            engine.beginnings.extend((1..word.len()).map(|length| word[..length].to_vec()));
        }
        if !words.is_empty() {
            let built = AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .ascii_case_insensitive(true)
                .build(&words);
            engine.words = Some(built.map_err(|error| EngineError::Words { problem: error.to_string() })?);
        }
        engine.before_max = engine.rules.iter().map(|rule| rule.before).max().unwrap_or(0);
        Ok(engine)
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn add(&mut self, rule: &Rule, words: &mut Vec<Vec<u8>>) -> Result<(), EngineError> {
        let index = self.rules.len();
        let mut begins_at = |word: &str| {
            let word = word.to_ascii_lowercase().into_bytes();
            let at = words.iter().position(|known| *known == word).unwrap_or_else(|| {
                words.push(word);
                self.by_word.push(Vec::new());
                words.len() - 1
            });
            self.by_word[at].push(index);
        };
        let info = rule.info.clone();
        let compiled = match &rule.looks {
            Looks::Pattern { keywords, pattern, left, right, check, reach } => {
                let pattern = Pattern::compile(pattern)
                    .map_err(|problem| EngineError::Pattern { id: info.id, problem })?;
                keywords.iter().for_each(|word| begins_at(word));
                let looks =
                    Looked::Pattern { pattern: Box::new(pattern), left: *left, right: *right, check: *check };
                Compiled { info, reach: *reach, before: 0, looks }
            }
            Looks::Phrase(phrase) => {
                phrase.words.first().into_iter().flatten().for_each(|word| begins_at(word));
                Compiled { info, reach: PHRASE_BYTES_MAX, before: 0, looks: Looked::Phrase(phrase.clone()) }
            }
            Looks::Code(Code { anchors, before, reach, look }) => {
                match anchors {
                    Anchors::Words(words) => words.iter().for_each(|word| begins_at(word)),
                    Anchors::Digits => self.by_digits.push(index),
                    Anchors::Hidden => self.by_hidden.push(index),
                }
                Compiled { info, reach: *reach, before: *before, looks: Looked::Code(*look) }
            }
        };
        self.rules.push(compiled);
        Ok(())
    }
}

impl Compiled {
    pub(crate) fn look(&self, view: &View<'_>) -> Look {
        match &self.looks {
            Looked::Code(look) => look(view),
            Looked::Phrase(phrase) => phrase.look(view, self.info.confidence),
            Looked::Pattern { pattern, left, right, check } => {
                if *left == Edge::Word && view.before().is_some_and(is_word) {
                    return Look::Nothing;
                }
                let text = view.ahead();
                match pattern.end(text, view.is_whole) {
                    End::None => Look::Nothing,
                    End::Open => Look::Wait,
                    End::At(end)
                        if *right == Edge::Word && text.get(end).is_some_and(|next| is_word(*next)) =>
                    {
                        Look::Nothing
                    }
                    End::At(end) => {
                        let found = text.get(..end).unwrap_or_default();
                        check.confirm(found, self.info.confidence).map_or(Look::Nothing, |confidence| {
                            Look::Found { from: view.at, to: view.at + end, confidence }
                        })
                    }
                }
            }
        }
    }
}

/// Letters, digits and `_`, and every byte of a character beyond ASCII.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
