//! Names with `*`, which stands for any run of characters, also none. There is no other special character.

use memchr::memmem;

use crate::facts::FACT_BYTES_MAX;

/// Most characters of a pattern.
pub(crate) const PATTERN_CHARS_MAX: usize = 128;
/// Most `*` of a pattern. Bounds the work that one name can cause.
pub(crate) const STARS_MAX: usize = 8;
/// Most patterns of one condition.
pub(crate) const PATTERNS_MAX: usize = 64;

/// Whether letters of ASCII are compared with their case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Case {
    Exact,
    Ignore,
}

/// A condition's patterns, compiled.
#[derive(Debug)]
pub(crate) struct Patterns {
    case: Case,
    any: bool,
    globs: Box<[Glob]>,
}

impl Patterns {
    pub fn new(patterns: &[String], case: Case) -> Self {
        let globs: Box<[Glob]> = patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        Self { case, any: globs.iter().any(Glob::is_any), globs }
    }

    /// Whether one of them matches. A name beyond [`FACT_BYTES_MAX`] is matched by `*` alone.
    pub fn matches(&self, name: &str) -> bool {
        self.any
            || (name.len() <= FACT_BYTES_MAX && self.globs.iter().any(|glob| glob.matches(name, self.case)))
    }

    /// Whether each of them matches one of these names.
    pub fn each_matches_one_of(&self, names: &[&str]) -> bool {
        self.globs.iter().all(|glob| names.iter().any(|name| glob.matches(name, self.case)))
    }

    /// Whether one of them matches a text of any length.
    pub fn take(&self, text: &str) -> bool {
        self.any || self.globs.iter().any(|glob| glob.matches(text, self.case))
    }

    /// Whether everything that `pattern` matches is matched by one of these. May say no where it is so.
    ///
    /// Matching the other pattern as if it were a name is enough: only a `*` of ours can take a `*` of
    /// theirs, and then it also takes whatever theirs stands for.
    pub fn cover(&self, pattern: &str) -> bool {
        self.matches(pattern)
    }
}

/// One pattern, cut at its stars.
#[derive(Debug)]
pub(crate) struct Glob {
    head: Box<str>,
    /// What follows the first star; none without a star.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    middle: Box<[Box<str>]>,
    tail: Box<str>,
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        let mut pieces = pattern.split('*');
        let head = pieces.next().unwrap_or_default().into();
        let rest = pieces.next_back().map(|tail| Rest {
            middle: pieces.filter(|piece| !piece.is_empty()).map(Box::from).collect(),
            tail: tail.into(),
        });
        Self { head, rest }
    }

    /// What it begins with, and with a star what it ends with.
    pub fn ends(&self) -> (&str, Option<&str>) {
        (&self.head, self.rest.as_ref().map(|rest| &*rest.tail))
    }

    pub fn is_any(&self) -> bool {
        let bare = |rest: &Rest| rest.middle.is_empty() && rest.tail.is_empty();
        self.head.is_empty() && self.rest.as_ref().is_some_and(bare)
    }

    /// Whether it matches a name of any length.
    pub fn matches(&self, name: &str, case: Case) -> bool {
        let name = name.as_bytes();
        let head = self.head.as_bytes();
        let Some(rest) = &self.rest else { return equal(name, head, case) };
        let Some((start, after)) = name.split_at_checked(head.len()) else { return false };
        let tail = rest.tail.as_bytes();
        let Some((mut between, end)) =
            after.len().checked_sub(tail.len()).and_then(|at| after.split_at_checked(at))
        else {
            return false;
        };
        // The leftmost place of each piece leaves the most for those after it.
        equal(start, head, case)
            && equal(end, tail, case)
            && rest.middle.iter().all(|piece| match find(between, piece.as_bytes(), case) {
                Some(after) => {
                    between = after;
                    true
                }
                None => false,
            })
    }
}

fn equal(a: &[u8], b: &[u8], case: Case) -> bool {
    match case {
        Case::Exact => a == b,
        Case::Ignore => a.eq_ignore_ascii_case(b),
    }
}

/// What follows the first occurrence of `piece`.
fn find<'n>(name: &'n [u8], piece: &[u8], case: Case) -> Option<&'n [u8]> {
    let at = match case {
        Case::Exact => memmem::find(name, piece),
        Case::Ignore => name.windows(piece.len()).position(|window| equal(window, piece, case)),
    }?;
    name.get(at + piece.len()..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Patterns::new(&[pattern.into()], Case::Ignore).matches(name)
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, yes, no) in [
            ("bash", vec!["bash", "Bash", "BASH"], vec!["bas", "bash2", "sbash", ""]),
            ("shell*", vec!["shell", "shell_exec", "SHELL/x"], vec!["ashell", "shel"]),
            ("*shell", vec!["shell", "powershell"], vec!["shell_"]),
            ("*", vec!["", "x"], vec![]),
            ("**", vec!["", "x"], vec![]),
            ("a*b*c", vec!["abc", "aXbYc", "abbbc", "abcbc"], vec!["ab", "acb", "abcd"]),
            ("a*a", vec!["aa", "aba"], vec!["a"]),
            ("*ab*ab*", vec!["abab", "xabyabz"], vec!["ab", "aab"]),
            ("mcp__*__bash", vec!["mcp__x__bash"], vec!["mcp__bash"]),
            ("é*", vec!["école"], vec!["e"]),
            ("a.c", vec!["a.c"], vec!["abc"]),
            ("a?c", vec!["a?c"], vec!["abc"]),
        ] {
            yes.iter().for_each(|name| assert!(matches(pattern, name), "{pattern} {name}"));
            no.iter().for_each(|name| assert!(!matches(pattern, name), "{pattern} {name}"));
        }
    }

    #[test]
    fn only_letters_of_ascii_lose_their_case_and_only_where_asked() {
        assert!(!matches("É", "é"));
        assert!(!Patterns::new(&["a*".into()], Case::Exact).matches("Ab"));
    }

    #[test]
    fn a_name_beyond_the_limit_is_matched_by_the_star_alone() {
        let name = "a".repeat(FACT_BYTES_MAX + 1);
        assert!(matches("*", &name));
        assert!(!matches("a*", &name));
        assert!(matches("a*", &name[1..]));
    }

    /// Tries every way to spread the stars.
    fn slow(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|taken| slow(rest, &name[taken..])),
            Some((first, rest)) => {
                name.split_first().is_some_and(|(c, name)| c.eq_ignore_ascii_case(first) && slow(rest, name))
            }
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_everything(pattern in "[abA*é]{0,8}", name in "[abBé]{0,10}") {
            let (p, n): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), slow(&p, &n));
        }

        #[test]
        fn what_is_covered_is_matched(cover in "[ab*]{1,5}", pattern in "[ab*]{1,5}", name in "[ab]{0,8}") {
            let cover = Patterns::new(&[cover], Case::Ignore);
            if cover.cover(&pattern) && matches(&pattern, &name) {
                prop_assert!(cover.matches(&name));
            }
        }
    }
}
