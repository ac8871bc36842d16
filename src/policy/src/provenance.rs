//! Whether something that a call brings stood in what a tool gave earlier. Of earlier results prints are kept, not the texts.
//!
//! Texts are compared as their letters and digits, taken apart (NFKD) and in lower case; all else is left out. Prints are keyed hashes of 8
//! characters in a row, of which winnowing (Schleimer, Wilkerson and Aiken, SIGMOD 2003) keeps at least one of any 5 in a row.
//! So a stretch of [`STRETCH_MIN`] characters that two texts share leaves a print in both, wherever it stands; one of less
//! than 8 leaves none. Of a longer stretch the first and the last print are at most 4 characters from its ends, so that its
//! length is known up to 8.

mod leaves;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use siphasher::sip::SipHasher13;
use unicode_normalization::UnicodeNormalization as _;

use crate::content::Content;
use crate::facts::Condition;
use crate::path::ValuePath;
use crate::pattern::Patterns;
use crate::predicate::Truth;

/// Letters that nobody sees (U+3164 and U+FFA0 are the second, taken apart).
const FILLERS: [char; 2] = ['\u{115f}', '\u{1160}'];
/// The one letter that has two lower cases.
const FINAL_SIGMA: char = 'ς';
/// Characters of one print.
const GRAM: usize = 8;
/// Of so many prints in a row one at least is kept.
const WINDOW: usize = 5;
/// How much shorter a stretch may seem than it is.
const SLACK: usize = 2 * (WINDOW - 1);
/// Bytes of a character.
const CHARACTER: usize = 4;

/// Shortest stretch that is found wherever it stands, in letters and digits.
pub const STRETCH_MIN: u64 = (GRAM + WINDOW - 1) as u64;
/// Longest that a rule may ask for.
pub const STRETCH_MAX: u64 = 256;
/// What a rule asks for that does not say.
pub const STRETCH_DEFAULT: u64 = 20;
/// Most letters and digits of one call that are looked at. Of one with more it is not known that nothing is in it.
pub const CALL_CHARACTERS_MAX: usize = 262_144;
/// Most tools of a run that are told apart. What others gave counts as given by any.
pub const TOOLS_TOLD_APART_MAX: usize = 63;

/// The condition as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Provenance {
    pub min_length: Option<u64>,
    pub from: Option<Vec<String>>,
    pub argument: Option<Vec<ValuePath>>,
}

/// The condition, compiled.
#[derive(Debug)]
pub(crate) struct Asked {
    min_length: usize,
    from: Option<Patterns>,
    argument: Option<Vec<ValuePath>>,
}

impl Asked {
    pub fn new(written: &Provenance) -> Self {
        let min_length = written.min_length.unwrap_or(STRETCH_DEFAULT);
        Self {
            min_length: usize::try_from(min_length).unwrap_or(usize::MAX),
            from: written.from.as_ref().map(|from| Patterns::new(from, Condition::Tool.case())),
            argument: written.argument.clone(),
        }
    }

    /// Whether a call has such a stretch where the rule looks.
    pub fn ask(&self, content: &Content) -> Truth {
        let (Some(json), Some(reuse)) = (content.json(), content.reuse()) else { return Truth::Unknown };
        let places = self.argument.as_ref().map(|paths| leaves::below(json, paths));
        if places.as_ref().is_some_and(Vec::is_empty) {
            return Truth::False;
        }
        let is_there =
            |leaf| places.as_ref().is_none_or(|places| places.iter().any(|place| place.contains(&leaf)));
        let is_from = |tool: Option<&str>| match (&self.from, tool) {
            (Some(from), Some(tool)) => from.matches(tool),
            _ => true,
        };
        let is_long = |characters: usize| characters + SLACK >= self.min_length;
        let mut stretches = reuse.stretches.iter();
        match stretches
            .any(|one| is_long(one.characters) && is_there(one.leaf) && is_from(one.tool.as_deref()))
        {
            true => Truth::True,
            false if reuse.misses_some => Truth::Unknown,
            false => Truth::False,
        }
    }
}

/// Whether one of these tools gave something earlier in the run of a call, whatever the call brings.
pub(crate) fn comes_after(tools: &Patterns, content: &Content) -> Truth {
    let Some(reuse) = content.reuse() else { return Truth::Unknown };
    let given = reuse.of_others || reuse.tools.iter().any(|tool| tools.matches(tool));
    Truth::of(given).or(if reuse.misses_tools { Truth::Unknown } else { Truth::False })
}

/// What of a call stood in earlier results, and whose these were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reuse {
    /// The longest of each leaf and tool.
    stretches: Vec<Stretch>,
    /// Not all of the call was looked at, or not all of what came earlier.
    misses_some: bool,
    /// Tools that gave something earlier.
    tools: Arc<[Box<str>]>,
    /// So did some of which it is not known which they are.
    of_others: bool,
    /// So may have others.
    misses_tools: bool,
}

#[derive(Clone, Debug)]
struct Stretch {
    leaf: usize,
    tool: Option<Box<str>>,
    characters: usize,
}

/// What came of adding a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// Prints that were not there yet.
    pub added: usize,
    /// Whether there was room for all.
    pub is_whole: bool,
}

/// Prints of what tools gave earlier in one run.
#[derive(Clone)]
pub struct Earlier {
    key: SipHasher13,
    /// Whose result a print was in: a bit for each of `tools`, and [`ANY`].
    prints: HashMap<u64, u64>,
    tools: Arc<[Box<str>]>,
    of_others: bool,
    misses_some: bool,
    misses_tools: bool,
}

/// A result of whatever tool.
const ANY: u64 = 1 << TOOLS_TOLD_APART_MAX;

impl Earlier {
    /// Nothing yet. Without the key nobody can say which text a print is of.
    pub fn new(key: &[u8; 16]) -> Self {
        let key = SipHasher13::new_with_key(key);
        Self {
            key,
            prints: HashMap::new(),
            tools: Arc::default(),
            of_others: false,
            misses_some: false,
            misses_tools: false,
        }
    }

    /// Something came that is not among the prints, so that nothing is known to be new from here on.
    pub fn miss(&mut self) {
        self.misses_some = true;
        self.misses_tools = true;
    }

    /// What was missed so far does not count: it came before what this is asked about.
    pub fn begin_anew(&mut self) {
        self.misses_some = false;
        self.misses_tools = false;
    }

    /// Whether all that came is among the prints.
    pub fn is_whole(&self) -> bool {
        !self.misses_some
    }

    /// How many prints there are.
    pub fn prints(&self) -> usize {
        self.prints.len()
    }

    /// Adds a result, at most `room` prints of it. `tool`: whose it is, if that is known.
    pub fn learn(&mut self, tool: Option<&str>, result: &Value, room: usize) -> Learned {
        let before = self.prints.len();
        let most = before.saturating_add(room);
        let bit = self.bit(tool);
        self.of_others |= bit == ANY;
        let mut is_whole = true;
        leaves::texts(result, &mut |_, text| {
            let text = normalized(text);
            // What is sent again with each request need not be cut into prints each time.
            let whole = self.key.hash(&text);
            let is_known = |found: &u64| found & bit != 0;
            if text.len() < GRAM * CHARACTER || self.prints.get(&whole).is_some_and(is_known) {
                return;
            }
            for print in winnowed(&self.grams(&text)).into_iter().chain([whole]) {
                if self.prints.len() >= most && !self.prints.contains_key(&print) {
                    is_whole = false;
                    return;
                }
                *self.prints.entry(print).or_default() |= bit;
            }
        });
        self.misses_some |= !is_whole;
        Learned { added: self.prints.len() - before, is_whole }
    }

    pub(crate) fn reuse(&self, arguments: &Value) -> Reuse {
        let mut reuse = Reuse {
            stretches: Vec::new(),
            misses_some: self.misses_some,
            tools: self.tools.clone(),
            of_others: self.of_others,
            misses_tools: self.misses_tools,
        };
        let mut left = CALL_CHARACTERS_MAX;
        leaves::texts(arguments, &mut |leaf, text| {
            let text = normalized(text);
            let characters = text.len() / CHARACTER;
            if characters > left {
                reuse.misses_some = true;
                left = 0;
                return;
            }
            left -= characters;
            let grams = self.grams(&text);
            let hits = grams.iter().enumerate().filter_map(|(at, gram)| Some((at, *self.prints.get(gram)?)));
            self.stretches(leaf, &hits.collect::<Vec<_>>(), &mut reuse.stretches);
        });
        reuse
    }

    /// The longest stretch of each tool in one text, by where its prints are.
    fn stretches(&self, leaf: usize, hits: &[(usize, u64)], out: &mut Vec<Stretch>) {
        let mut tools = hits.iter().fold(0, |tools, (_, bits)| tools | bits);
        while tools != 0 {
            let bit = tools & tools.wrapping_neg();
            tools &= tools - 1;
            let (mut first, mut last, mut longest) = (None, 0, 0);
            for (at, _) in hits.iter().filter(|(_, bits)| bits & bit != 0) {
                let begun = first.filter(|_| at - last <= WINDOW).unwrap_or(*at);
                (first, last) = (Some(begun), *at);
                longest = longest.max(at - begun + GRAM);
            }
            let tool = usize::try_from(bit.trailing_zeros()).ok().and_then(|at| self.tools.get(at)).cloned();
            out.push(Stretch { leaf, tool, characters: longest });
        }
    }

    fn grams(&self, text: &[u8]) -> Vec<u64> {
        text.windows(GRAM * CHARACTER).step_by(CHARACTER).map(|gram| self.key.hash(gram)).collect()
    }

    fn bit(&mut self, tool: Option<&str>) -> u64 {
        let Some(tool) = tool else { return ANY };
        let known = self.tools.iter().position(|known| **known == *tool);
        let at = known.unwrap_or(self.tools.len());
        if at >= TOOLS_TOLD_APART_MAX {
            return ANY;
        }
        if known.is_none() {
            self.tools = self.tools.iter().cloned().chain([tool.into()]).collect();
        }
        1 << at
    }
}

impl std::fmt::Debug for Earlier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Earlier({} prints)", self.prints.len())
    }
}

/// Letters and digits in lower case, taken apart (NFKD), each in as many bytes as any other.
fn normalized(text: &str) -> Vec<u8> {
    let counts = |c: &char| c.is_alphanumeric() && !FILLERS.contains(c);
    let letters = text.nfkd().filter(counts).flat_map(char::to_lowercase);
    letters.map(|c| if c == FINAL_SIGMA { 'σ' } else { c }).flat_map(|c| u32::from(c).to_le_bytes()).collect()
}

/// The least of each window, once.
fn winnowed(grams: &[u64]) -> Vec<u64> {
    let mut kept = Vec::new();
    let mut before = None;
    for (from, window) in grams.windows(WINDOW.min(grams.len()).max(1)).enumerate() {
        let least = window.iter().enumerate().rev().min_by_key(|(_, gram)| **gram);
        let Some((at, gram)) = least.map(|(at, gram)| (from + at, gram)) else { continue };
        if before.replace(at) != Some(at) {
            kept.push(*gram);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
