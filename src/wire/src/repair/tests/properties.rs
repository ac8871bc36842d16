//! What holds for all bytes and all profiles.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

const TEXTS: [&str; 6] = [
    r#"{"a":[1,-2.5e3,"x \"y\" z"],"b":{"c":true,"d":null},"e":"it's // no /* comment */"}"#,
    "\u{feff}Here:\n```json\n{\u{a0}\"a\": True, // yes\n\"b\":\"x\ty\",}}\n```\nBye.",
    "{'a':'x','b':['it\\'s','say \"hi\"'],}",
    "{a:1, b_2 :{c:[\"x\"",
    "[{\"a\":1}\n{\"b\":None},]",
    "{\"code\":\"```\\n{\\\"x\\\":1}\\n```\", /* a\nb */ \"n\":\"\u{1}\"}",
];

const PIECES: [&str; 44] = [
    "",
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\r",
    "\t",
    "\0",
    "0",
    "1",
    "-",
    ".",
    "e",
    "+",
    "true",
    "True",
    "None",
    "NaN",
    "tru",
    "//",
    "/*",
    "*/",
    "/",
    "```",
    "~~~",
    "```json\n",
    "\n```",
    "\u{a0}",
    "\u{feff}",
    "\u{2028}",
    "“",
    "é",
    "\\u00e9",
    "\\ud800",
    "\\'",
    "abc",
    "a b",
];

/// A text that was hurt at some places.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let hurt = (any::<usize>(), 0..3usize, prop::sample::select(&PIECES[..]));
    (prop::sample::select(&TEXTS[..]), prop::collection::vec(hurt, 0..5)).prop_map(|(text, hurts)| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, gone, piece) in hurts {
            let at = at % (bytes.len() + 1);
            let end = bytes.len().min(at + gone);
            bytes.splice(at..end, piece.bytes());
        }
        bytes
    })
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let classes = prop_oneof![
        Just(Classes::SAFE),
        Just(Class::ALL.into_iter().collect()),
        prop::collection::vec(prop::sample::select(&Class::ALL[..]), 0..12)
            .prop_map(|classes| classes.into_iter().collect()),
    ];
    (classes, 0..80usize).prop_map(|(classes, edits_max)| Profile {
        classes,
        edits_max,
        ..Profile::default()
    })
}

/// The edit changes what its class says and nothing else.
fn keeps_to_its_class(original: &[u8], edit: &Edit) -> bool {
    let deleted = &original[edit.offset..edit.end()];
    let gone = std::str::from_utf8(deleted).expect("edits keep to characters");
    let inserted = edit.inserted.as_ref();
    match edit.class {
        Class::ByteOrderMark => edit.offset == 0 && gone == "\u{feff}" && inserted.is_empty(),
        Class::ForeignSpace => {
            inserted.is_empty() && gone.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
        }
        Class::CodeFence => {
            inserted.is_empty() && (gone.starts_with("```") || gone.starts_with("~~~")) && !gone.contains('{')
        }
        Class::TrailingComma => inserted.is_empty() && gone == ",",
        Class::Comment => {
            let line = gone.starts_with("//") && !gone.contains('\n');
            let block = gone.starts_with("/*") && gone[2..].find("*/") == Some(gone.len() - 4);
            inserted.is_empty() && (line || block) && !gone.contains('"')
        }
        Class::PythonLiteral => {
            matches!((gone, inserted), ("True", "true") | ("False", "false") | ("None", "null"))
        }
        Class::ControlCharacter => {
            let read: String = serde_json::from_str(&format!("\"{inserted}\"")).expect("an escape");
            read == gone && gone.len() == 1 && gone.as_bytes()[0] < 0x20
        }
        Class::UnquotedKey => gone.is_empty() && inserted == "\"",
        Class::SingleQuote => {
            matches!((gone, inserted), ("'", "\"") | ("", "\\") | ("\\", ""))
        }
        Class::Prose => inserted.is_empty() && !gone.is_empty() && !gone.contains(['{', '}', '[', ']', '"']),
        Class::MissingComma => gone.is_empty() && inserted == ",",
        Class::DoubledCloser => matches!(gone, "}" | "]") && inserted.is_empty(),
        Class::MissingCloser => {
            gone.is_empty() && !inserted.is_empty() && inserted.chars().all(|c| matches!(c, '}' | ']'))
        }
        Class::StringToInteger | Class::StringToBoolean | Class::FractionToInteger => false,
    }
}

/// Where the strings and the other scalars of a well-formed text are, without quotes.
fn scalars(text: &[u8]) -> Vec<(bool, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        if text[at] == b'"' {
            at += 1;
            while text[at] != b'"' {
                at += if text[at] == b'\\' { 2 } else { 1 };
            }
            found.push((true, start + 1..at));
        } else if text[at].is_ascii_alphanumeric() || text[at] == b'-' {
            while at + 1 < text.len()
                && matches!(text[at + 1], b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E')
            {
                at += 1;
            }
            found.push((false, start..at + 1));
        }
        at += 1;
    }
    found
}

/// Inside strings only escapes were changed, and inside numbers nothing.
fn keeps_content(repaired: &Repaired) -> bool {
    let scalars = scalars(&repaired.bytes);
    let (mut added, mut removed) = (0, 0);
    repaired.edits.iter().all(|edit| {
        let start = edit.offset + added - removed;
        let end = start + edit.inserted.len();
        added += edit.inserted.len();
        removed += edit.deleted;
        scalars.iter().filter(|(_, span)| start < span.end && end > span.start).all(|(string, _)| match edit
            .class
        {
            Class::ControlCharacter | Class::SingleQuote => *string,
            Class::PythonLiteral => !string,
            _ => false,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_comes_the_promises_hold(bytes in any_text(), profile in any_profile()) {
        let outcome = repair(&profile, &bytes);
        prop_assert_eq!(&repair(&profile, &bytes), &outcome);
        prop_assert_eq!(outcome == Ok(Outcome::Intact), check::strict(&bytes).is_ok());
        let Ok(Outcome::Repaired(repaired)) = outcome else { return Ok(()) };
        prop_assert_eq!(apply(&bytes, &repaired.edits), Ok(repaired.bytes.clone()));
        prop_assert_eq!(repair(&profile, &repaired.bytes), Ok(Outcome::Intact));
        prop_assert!((1..=profile.edits_max.min(EDITS_MOST)).contains(&repaired.edits.len()));
        prop_assert!(repaired.bytes.len() <= bytes.len() + 5 * repaired.edits.len() + 128);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&repaired.bytes).is_ok());
        for edit in &repaired.edits {
            prop_assert!(profile.classes.has(edit.class));
            prop_assert!(keeps_to_its_class(&bytes, edit), "{:?}", edit);
        }
        prop_assert!(keeps_content(&repaired), "{:?}", repaired);
        prop_assert_eq!(repaired.lossy, repaired.edits.iter().any(|edit| edit.class == Class::MissingCloser));
    }

    #[test]
    fn any_bytes_at_all_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..40), profile in any_profile()) {
        let intact = repair(&profile, &bytes) == Ok(Outcome::Intact);
        prop_assert_eq!(intact, check::strict(&bytes).is_ok());
    }

    #[test]
    fn coercion_is_one_list_with_the_repair(
        number in any::<i32>(),
        flag in any::<bool>(),
        single in any::<bool>(),
        comma in any::<bool>(),
    ) {
        let tail = if comma { ",}" } else { "}" };
        let text = format!(r#"{{"x":{{"n":"{number}"}} ,"f":["{flag}",{number}.00]{tail}"#);
        let text = if single { text.replace('"', "'") } else { text };
        let profile = profile(Class::ALL);
        let wants = [("/f/1", Scalar::Integer), ("/x/n", Scalar::Integer), ("/f/0", Scalar::Boolean)]
            .map(|(pointer, scalar)| Want { pointer: pointer.into(), scalar });
        let first = repair(&profile, text.as_bytes()).expect("this is repaired");
        let Ok(Outcome::Repaired(repaired)) = coerce(&profile, text.as_bytes(), first, &wants) else {
            return if number == 0 { Ok(()) } else { Err(TestCaseError::fail(text)) };
        };
        prop_assert_eq!(apply(text.as_bytes(), &repaired.edits), Ok(repaired.bytes.clone()));
        let wanted = format!(r#"{{"x":{{"n":{number}}} ,"f":[{flag},{number}]}}"#);
        prop_assert_eq!(String::from_utf8(repaired.bytes), Ok(wanted));
        prop_assert_eq!(coerce(&profile, text.as_bytes(), repair(&profile, text.as_bytes()).expect("again"), &[]),
            repair(&profile, text.as_bytes()));
    }
}

#[test]
fn a_value_that_is_well_formed_is_intact_whatever_its_length() {
    let profile = Profile { bytes_max: 4, ..Profile::default() };
    assert_eq!(repair(&profile, b"[1, 2, 3]"), Ok(Outcome::Intact));
    assert_eq!(repair(&profile, b"[1, 2, 3,]"), Err(Unrepairable::BytesMax));
}

#[test]
fn no_profile_allows_more_edits_than_a_receipt_holds() {
    let profile = Profile { edits_max: usize::MAX, ..Profile::default() };
    let text = |tabs| format!("[\"{}\"]", "\t".repeat(tabs));
    assert_eq!(repaired(&profile, text(EDITS_MOST)).expect("as many as fit").edits.len(), EDITS_MOST);
    assert_eq!(repair(&profile, text(EDITS_MOST + 1).as_bytes()), Err(Unrepairable::EditsMax));
}

#[test]
fn coercion_refuses_a_list_that_is_not_of_these_bytes() {
    let other = Repaired { bytes: b"[1]".to_vec(), edits: Vec::new(), lossy: false };
    let wants = [Want { pointer: "/0".into(), scalar: Scalar::Integer }];
    let outcome = coerce(&Profile::default(), b"[2]", Outcome::Repaired(other), &wants);
    assert_eq!(outcome, Err(Unrepairable::CoercionTarget));
}
