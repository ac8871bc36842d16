//! Phrases: words that follow each other closely, whatever stands between them.

use crate::catalogue::{Look, View};
use crate::engine::is_word;
use crate::finding::Confidence;

/// Beginnings of words, in small letters: one of the first list, and one of each that follows.
#[derive(Debug, Clone)]
pub(crate) struct Phrase {
    pub(crate) words: Vec<Vec<String>>,
    /// Most words between one and the next.
    pub(crate) gap: usize,
}

/// Most bytes of a phrase that are looked at.
pub(crate) const PHRASE_BYTES_MAX: usize = 256;

impl Phrase {
    pub(crate) fn look(&self, view: &View<'_>, confidence: Confidence) -> Look {
        let text = view.ahead();
        let Some((first, others)) = self.words.split_first() else { return Look::Nothing };
        let Some(mut end) = begins(text, first) else { return Look::Nothing };
        let joined = view.before().is_some_and(is_word) && text.first().is_some_and(|byte| is_word(*byte));
        if joined {
            return Look::Nothing;
        }
        for list in others {
            let mut found = None;
            let mut at = end;
            for _ in 0..=self.gap {
                at = next_word(text, at);
                let rest = text.get(at..).unwrap_or_default();
                let longest = list.iter().map(String::len).max().unwrap_or(0);
                if rest.len() < longest && !view.is_whole {
                    return Look::Wait;
                }
                if let Some(length) = begins(rest, list) {
                    found = Some(at + length);
                    break;
                }
            }
            match found {
                Some(next) => end = next,
                None => return Look::Nothing,
            }
        }
        Look::Found { from: view.at, to: view.at + end, confidence }
    }
}

/// How long the first of `words` is that `text` begins with.
fn begins(text: &[u8], words: &[String]) -> Option<usize> {
    let is_it = |word: &&String| {
        text.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    words.iter().find(is_it).map(String::len)
}

/// Where the next word begins: after this one, and after what is between.
fn next_word(text: &[u8], from: usize) -> usize {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let rest = text.get(from..).unwrap_or_default();
    let gap = rest.iter().position(is_space).unwrap_or(rest.len());
    let after = rest.get(gap..).unwrap_or_default();
    from + gap + after.iter().position(|byte| !is_space(byte)).unwrap_or(after.len())
}
