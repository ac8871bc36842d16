//! Any text is read to an end.

use estoppel_policy::{Cases, PolicyDocument};
use proptest::prelude::*;

const SEED: &str = include_str!("../../fixtures/good/everything.yaml");

/// Pieces that mean something to YAML.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "? ",
    "&a ",
    "*a",
    "!!str ",
    "|",
    ">",
    "'",
    "\"",
    "#",
    "\n",
    "\n---\n",
    "\t",
    "%YAML 1.2\n",
    "\u{feff}",
    "\u{0}",
    "é",
    "\\",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..48usize), 1..6)) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, what) in edits {
            let at = at.index(text.len());
            match PIECES.get(what) {
                Some(piece) => drop(text.splice(at..at, piece.chars())),
                None => drop(text.drain(at..(at + what).min(text.len()))),
            }
        }
        let text: String = text.into_iter().collect();
        match PolicyDocument::parse(&text) {
            Ok(document) => {
                let canonical = String::from_utf8(document.canonical()).unwrap();
                prop_assert_eq!(PolicyDocument::parse(&canonical).unwrap().hash(), document.hash());
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                let lines = text.lines().count() + 1;
                prop_assert!(errors.iter().all(|error| error.line >= 1 && error.line <= lines && error.column >= 1));
                prop_assert!(errors.iter().all(|error| !error.to_string().contains(['\n', '\0'])));
            }
        }
        let _ = Cases::parse(&text);
    }
}

#[test]
fn an_error_is_never_lost_in_a_crowd() {
    let rules: String = (0..300).map(|index| format!("- {{ id: r{index} }}\n")).collect();
    let errors = PolicyDocument::parse(&format!("version: 1\nname: many\nrules:\n{rules}")).unwrap_err();
    assert_eq!(errors.len(), 100);
    assert!(errors[99].message.ends_with("and 500 errors more"), "{}", errors[99]);
}
