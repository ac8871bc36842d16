//! Patterns by ECMA-262, matched in time linear in the text.
//!
//! A pattern is rewritten for the crate regex-automata, whose syntax differs in small ways, and made into an
//! automaton of bounded size. What is not regular (lookaround, backreferences), or too large, is refused.

mod ecma;

use regex_automata::{
    Input, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::syntax,
};

pub(super) use ecma::is_valid;

use super::error::Fault;

/// One compiled pattern: a table with one look-up for each byte.
#[derive(Debug)]
pub(super) struct Pattern(Box<dense::DFA<Vec<u32>>>);

/// Nesting of groups.
const NEST_MAX: u32 = 64;

impl Pattern {
    /// `bytes_max` bounds the automaton.
    pub(super) fn compile(source: &str, bytes_max: usize) -> Result<Self, Fault> {
        let rust = ecma::translate(source)
            .map_err(|refusal| Fault::PatternUnsupported { reason: refusal.to_string() })?;
        let working_bytes = bytes_max.saturating_mul(4);
        let dense = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .match_kind(MatchKind::All)
                    .dfa_size_limit(Some(bytes_max))
                    .determinize_size_limit(Some(working_bytes)),
            )
            .thompson(thompson::Config::new().nfa_size_limit(Some(working_bytes)))
            .syntax(syntax::Config::new().nest_limit(NEST_MAX))
            .build(&rust);
        match dense {
            Ok(dfa) => Ok(Self(Box::new(dfa))),
            Err(error) if error.is_size_limit_exceeded() => Err(Fault::PatternBytesMax { limit: bytes_max }),
            Err(error) => Err(Fault::PatternUnsupported { reason: error.to_string() }),
        }
    }

    /// What the automaton takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.memory_usage()
    }

    /// The pattern is found somewhere in `text`.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        matches!(self.0.try_search_fwd(&Input::new(text).earliest(true)), Ok(Some(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern, 1 << 20)
            .unwrap_or_else(|fault| panic!("{pattern}: {fault}"))
            .matches(text.as_bytes())
    }

    #[test]
    fn classes_mean_what_ecma_says() {
        for (pattern, text, expected) in [
            (r"^\d$", "5", true),
            (r"^\d$", "\u{0665}", false), // Arabic-Indic five
            (r"^\w$", "é", false),
            (r"^\W$", "é", true),
            (r"^\s$", "\u{FEFF}", true),
            (r"^\s$", "\u{2029}", true),
            (r"^\s$", "\u{180E}", false),
            (r"^\s$", "\u{0085}", false), // white space for Unicode, not for ECMA-262
            (r"^\S$", "\u{0085}", true),
            (r"^a$", "a\n", false),
            (r"^.$", "\n", false),
            (r"^.$", "\u{2028}", false),
            (r"^.$", "😀", true),
            (r"^[^a]$", "\n", true),
            (r"^[]$", "", false),
            (r"^[^]$", "x", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[[:alpha:]]$", "a:]", false),
            (r"^[[a]$", "[", true),
            (r"^[\w-]+$", "a-b", true),
            (r"^[+--]+$", "+,-", true),
            (r"^\cC$", "\u{3}", true),
            (r"^\x41\u0042\u{43}$", "ABC", true),
            (r"^\uD83D\uDE00$", "😀", true),
            (r"^\/\-\.$", "/-.", true),
            (r"\ba\b", "é a", true),
            (r"\ba", "éa", true), // é is no word character for ECMA-262
            (r"^\p{Letter}+$", "éЖ", true),
            (r"^\p{Script=Cyrillic}+$", "Ж", true),
            (r"^(?<year>\d{4})-(?:x|y)$", "2024-x", true),
            (r"^{a}$", "{a}", true),
            (r"a{2}", "baab", true),
            (r"^a{2,3}?$", "aaaa", false),
            (r"x", "no", false),
            ("", "", true),
            (r"^[\b]$", "\u{8}", true),
            (r"^\0$", "\0", true),
            (r"^[\d-x]$", "-", true),
            ("^#a b$", "#a b", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn what_is_not_regular_or_not_ecma_is_refused() {
        for pattern in [
            "(?=a)b",
            "(?!a)b",
            "(?<=a)b",
            "(?<!a)b",
            r"(a)\1",
            r"(?<n>a)\k<n>",
            "(?i)a",
            "(?P<n>a)",
            "(",
            ")",
            "a**",
            "*a",
            "^*",
            r"\a",
            r"\Z",
            r"\A",
            "[b-a]",
            "[a",
            "a{3,2}",
            r"\u12",
            r"\uD800",
            r"\p{Nonsense}",
            r"\p{L",
            "\\",
            "(?",
            r"\08",
        ] {
            assert!(
                matches!(Pattern::compile(pattern, 1 << 20), Err(Fault::PatternUnsupported { .. })),
                "{pattern}"
            );
        }
    }

    #[test]
    fn size_is_bounded() {
        for pattern in ["((a{1,1000}){1,1000}){1,1000}", "a[ab]{40}c"] {
            let refused = Pattern::compile(pattern, 1 << 18);
            assert!(
                matches!(refused, Err(Fault::PatternBytesMax { .. } | Fault::PatternUnsupported { .. })),
                "{pattern}"
            );
        }
        for pattern in [r"^.{1,1000}$", r"^[^<>]{0,2000}$", r"^\p{L}+$"] {
            assert!(Pattern::compile(pattern, 2 << 20).is_ok(), "{pattern}");
        }
    }
}
