//! Patterns as automata: one step a byte, whatever the value.

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start},
};

/// Most bytes of one automaton. Larger patterns are refused when the contract is loaded.
pub(super) const PATTERN_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most bytes of all automata of one contract.
pub(super) const PATTERNS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A regular expression that a whole value must match.
pub(in super::super) struct Pattern {
    automaton: dense::DFA<Vec<u32>>,
    start: StateID,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pattern({} bytes)", self.held_bytes())
    }
}

impl Pattern {
    /// Refuses what is no regular expression in the sense of the theory, and what is too large; says why.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let automaton = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .match_kind(MatchKind::All) // the longest match must be seen, whichever comes first
                    .start_kind(StartKind::Anchored)
                    .dfa_size_limit(Some(PATTERN_BYTES_MAX))
                    .determinize_size_limit(Some(2 * PATTERN_BYTES_MAX)),
            )
            .thompson(thompson::Config::new().nfa_size_limit(Some(PATTERN_BYTES_MAX)))
            .build(text)
            .map_err(|error| reason(&error))?;
        let start = automaton
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .map_err(|error| error.to_string())?;
        Ok(Self { automaton, start })
    }

    pub(in super::super) fn matches(&self, value: &[u8]) -> bool {
        let mut state = self.start;
        for &byte in value {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_dead_state(state) {
                return false;
            }
        }
        self.automaton.is_match_state(self.automaton.next_eoi_state(state))
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.automaton.memory_usage()
    }
}

/// The innermost cause in one line.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("cannot be made a linear-time automaton: {}", last.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(value.as_bytes())
    }

    #[test]
    fn the_whole_value_must_match() {
        assert!(matches("[a-z]+", "abc"));
        for value in ["", "abc1", "1abc", "abc\n", "ABC"] {
            assert!(!matches("[a-z]+", value), "{value:?}");
        }
        assert!(matches("a|ab", "ab") && matches("a|ab", "a"));
        assert!(matches("ab|a", "ab") && matches("^ab$", "ab") && matches("", ""));
        assert!(matches("(?i)größe.", "GRÖSSE!".replace("SS", "ß").as_str()));
        assert!(matches(r"\p{Greek}{2}", "λμ") && !matches(r"\p{Greek}{2}", "λm"));
        assert!(matches("a*?", "aaa"));
    }

    #[test]
    fn what_an_automaton_cannot_do_is_refused_with_a_reason() {
        for pattern in [
            r"(?=a)b",
            r"(?!a)b",
            r"(?<=a)b",
            r"(a)\1",
            r"\bword\b",
            "(",
            "[z-a]",
            "a{1000}{1000}",
            r"\w{500}",
        ] {
            let reason = Pattern::new(pattern).err().unwrap_or_else(|| panic!("{pattern} is refused"));
            assert!(reason.starts_with("cannot be made a linear-time automaton: "), "{reason}");
            assert!(reason.len() > 50 && !reason.contains('\n'), "{reason}");
        }
    }
}
