//! Bounded patterns over bytes, which say when they need more.

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::start;
use regex_automata::util::syntax;

/// Most bytes of one pattern's automaton.
const BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Pattern(dense::DFA<Vec<u32>>);

/// Where a match that begins at the front of the text ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    None,
    /// More text may change it.
    Open,
    At(usize),
}

impl Pattern {
    pub(crate) fn compile(pattern: &str) -> Result<Self, String> {
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(BYTES_MAX))
            .determinize_size_limit(Some(BYTES_MAX));
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        let built = dense::Builder::new().configure(config).syntax(bytes).build(pattern);
        built.map(Self).map_err(|error| error.to_string())
    }

    /// `is_whole`: nothing follows `text`.
    pub(crate) fn end(&self, text: &[u8], is_whole: bool) -> End {
        let Ok(mut state) = self.0.start_state(&start::Config::new().anchored(Anchored::Yes)) else {
            return End::None;
        };
        let mut end = None;
        for (at, byte) in text.iter().enumerate() {
            state = self.0.next_state(state, *byte);
            if self.0.is_special_state(state) {
                if self.0.is_match_state(state) {
                    end = Some(at); // a match shows one byte late
                } else if self.0.is_dead_state(state) || self.0.is_quit_state(state) {
                    return end.map_or(End::None, End::At);
                }
            }
        }
        if !is_whole {
            return End::Open;
        }
        let last = self.0.next_eoi_state(state);
        if self.0.is_match_state(last) {
            end = Some(text.len());
        }
        end.map_or(End::None, End::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_told_once_nothing_can_change_it() {
        let pattern = Pattern::compile("ab{1,3}").unwrap();
        for (text, is_whole, expected) in [
            ("", false, End::Open),
            ("ab", false, End::Open),
            ("ab", true, End::At(2)),
            ("abc", false, End::Open),
            ("abcd", false, End::At(2)),
            ("abbb", false, End::Open),
            ("abbbb", false, End::Open),
            ("abbbbb", false, End::At(4)),
            ("ac", false, End::None),
            ("a", true, End::None),
            ("xab", false, End::None),
        ] {
            assert_eq!(pattern.end(text.as_bytes(), is_whole), expected, "{text}");
        }
    }

    #[test]
    fn size_is_bounded() {
        assert!(Pattern::compile("[ab]*a[ab]{20}c").is_err());
    }
}
