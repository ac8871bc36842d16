//! Damage made on purpose: what each class must restore, and what nothing may accept.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A token of a text without white space.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `{ } [ ] , :`
    Mark(char),
    Key(String),
    Text(String),
    /// A number or a literal, as written.
    Word(String),
}
use Token::{Key, Mark, Text, Word};

fn tokens(value: &Value) -> Vec<Token> {
    let mut tokens = Vec::new();
    collect(value, &mut tokens);
    tokens
}

fn collect(value: &Value, tokens: &mut Vec<Token>) {
    match value {
        Value::String(text) => tokens.push(Text(text.clone())),
        Value::Array(items) => {
            tokens.push(Mark('['));
            for (index, item) in items.iter().enumerate() {
                tokens.extend((index > 0).then_some(Mark(',')));
                collect(item, tokens);
            }
            tokens.push(Mark(']'));
        }
        Value::Object(members) => {
            tokens.push(Mark('{'));
            for (index, (key, item)) in members.iter().enumerate() {
                tokens.extend((index > 0).then_some(Mark(',')));
                tokens.extend([Key(key.clone()), Mark(':')]);
                collect(item, tokens);
            }
            tokens.push(Mark('}'));
        }
        word => tokens.push(Word(word.to_string())),
    }
}

/// The text of one token, well formed.
fn plain(token: &Token) -> String {
    match token {
        Mark(mark) => mark.to_string(),
        Key(text) | Text(text) => Value::from(text.as_str()).to_string(),
        Word(word) => word.clone(),
    }
}

fn text(tokens: &[Token]) -> String {
    tokens.iter().map(plain).collect()
}

fn is_closer(token: &Token) -> bool {
    matches!(token, Mark('}' | ']'))
}

/// A comma that may be missing: between members, or between elements that are no strings. Names without quotes
/// count as elements here, because a string may have ended too early before them.
fn may_be_missing(tokens: &[Token], at: usize, classes: &[Class]) -> bool {
    let (before, after) = (&tokens[at - 1], &tokens[at + 1]);
    let is_quoted = |key: &str| !(classes.contains(&Class::UnquotedKey) && is_identifier(key));
    matches!(after, Key(key) if is_quoted(key)) || !matches!(before, Text(_)) && !matches!(after, Text(_))
}

/// `tokens` with the damage of each of `classes`.
fn damaged(tokens: &[Token], classes: &[Class], pick: usize) -> String {
    let has = |class| classes.contains(&class);
    let spine = tokens.len() - tokens.iter().rev().take_while(|token| is_closer(token)).count();
    let commas: Vec<usize> = (0..tokens.len())
        .filter(|at| tokens[*at] == Mark(',') && may_be_missing(tokens, *at, classes))
        .collect();
    let missing = commas.get(pick % commas.len().max(1)).filter(|_| has(Class::MissingComma));
    let whole = !matches!(tokens.get(spine - 1), Some(Word(_) | Mark('{' | '[')));
    let kept = if has(Class::MissingCloser) && whole { spine } else { tokens.len() };
    let mut out = String::new();
    for (at, token) in tokens[..kept].iter().enumerate() {
        if missing == Some(&at) {
            out.push(' ');
            continue;
        }
        let after_value = at > 0 && !matches!(tokens[at - 1], Mark('{' | '['));
        if has(Class::TrailingComma) && is_closer(token) && after_value && at < spine {
            out.push(',');
        }
        if has(Class::Comment) && is_closer(token) && at < spine {
            out.push_str(" // one, {two} [3]\n");
        }
        out.push_str(&written(token, classes));
        if has(Class::ForeignSpace) && *token == Mark(':') {
            out.push_str(" \u{a0}\u{2003}");
        }
        if has(Class::Comment) && *token == Mark('[') {
            out.push_str("/* it is, so */");
        }
    }
    wrapped(out, tokens, classes, kept == tokens.len())
}

/// One token with the damage that it can have.
fn written(token: &Token, classes: &[Class]) -> String {
    let has = |class| classes.contains(&class);
    match token {
        Word(word) if has(Class::PythonLiteral) => match word.as_str() {
            "true" => "True".into(),
            "false" => "False".into(),
            "null" => "None".into(),
            _ => word.clone(),
        },
        Key(key) if has(Class::UnquotedKey) && is_identifier(key) => key.clone(),
        Key(content) | Text(content) => {
            let mut escaped = plain(token);
            if has(Class::ControlCharacter) {
                for (escape, raw) in [("\\n", "\n"), ("\\t", "\t"), ("\\u0001", "\u{1}")] {
                    // A backslash that is itself escaped would begin another escape.
                    if !content.contains('\\') {
                        escaped = escaped.replace(escape, raw);
                    }
                }
            }
            if has(Class::SingleQuote) {
                let inner = escaped[1..escaped.len() - 1].replace('\'', "\\'");
                escaped = format!("'{}'", inner.replace("\\\"", "\""));
            }
            escaped
        }
        _ => plain(token),
    }
}

fn is_identifier(key: &str) -> bool {
    let words = ["true", "false", "null", "True", "False", "None", "NaN", "Infinity", "undefined"];
    !words.contains(&key)
        && key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn wrapped(mut out: String, tokens: &[Token], classes: &[Class], whole: bool) -> String {
    let has = |class| classes.contains(&class);
    if has(Class::DoubledCloser) && whole {
        out.push_str(&format!("\n{}", plain(&tokens[tokens.len() - 1])));
    }
    if has(Class::CodeFence) {
        out = format!("```json\n{out}\n```\n");
    }
    if has(Class::Prose) {
        let after = if whole || has(Class::CodeFence) { "\nHope it's of use, e.g. (so)." } else { "" };
        out = format!("Here you are:\n{out}{after}");
    }
    if has(Class::ByteOrderMark) {
        out.insert(0, '\u{feff}');
    }
    out
}

const DAMAGE: [Class; 13] = [
    Class::ByteOrderMark,
    Class::ForeignSpace,
    Class::CodeFence,
    Class::TrailingComma,
    Class::Comment,
    Class::PythonLiteral,
    Class::ControlCharacter,
    Class::UnquotedKey,
    Class::SingleQuote,
    Class::Prose,
    Class::MissingComma,
    Class::DoubledCloser,
    Class::MissingCloser,
];

/// Strings that hold nothing but words.
fn any_words() -> BoxedStrategy<String> {
    "[a-z]{1,6}( [a-z]{1,6}){0,3}".boxed()
}

/// Strings that look like what stands between tokens.
fn any_bait() -> BoxedStrategy<String> {
    let bait = "(http://x|/\\* a \\*/|it's|say \"hi\"|\\{\\}|```json\n|\n|\t|\u{1}|é€|\u{a0}|“x”|, |: |\\\\|True|NaN|-1){0,4}";
    prop_oneof![any_words(), bait].boxed()
}

/// An object or array of the size of a tool call's arguments.
fn any_container(strings: BoxedStrategy<String>) -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        strings.clone().prop_map(Value::from),
        strings.clone().prop_map(Value::from),
    ];
    let inner = scalar.prop_recursive(3, 10, 4, {
        let strings = strings.clone();
        move |inner| containers(inner, strings.clone())
    });
    containers(inner, strings)
}

fn containers(
    inner: impl Strategy<Value = Value> + Clone,
    keys: BoxedStrategy<String>,
) -> impl Strategy<Value = Value> {
    let keys = prop_oneof!["[a-z_][a-z0-9_]{0,7}", keys];
    prop_oneof![
        prop::collection::btree_map(keys, inner.clone(), 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect())),
        prop::collection::vec(inner, 0..4).prop_map(Value::from),
    ]
}

/// `bytes` is repaired to `value`, unless that takes too many edits.
fn restores(profile: &Profile, text: &str, value: &Value) -> Result<(), TestCaseError> {
    let bytes = match repair(profile, text.as_bytes()) {
        Ok(Outcome::Intact) => text.as_bytes().to_vec(),
        Ok(Outcome::Repaired(repaired)) => {
            let added = repaired.edits.iter().any(|edit| edit.class == Class::MissingCloser);
            prop_assert_eq!(repaired.lossy, added);
            repaired.bytes
        }
        Err(Unrepairable::EditsMax) => return Err(TestCaseError::reject("too many edits")),
        Err(code) => return Err(TestCaseError::fail(format!("{code:?}: {text}"))),
    };
    let restored: Value = serde_json::from_slice(&bytes).expect("repaired values parse");
    prop_assert_eq!(&restored, value, "{}", text);
    Ok(())
}

proptest! {
    #[test]
    fn each_class_alone_and_in_pairs_is_restored_exactly(
        value in any_container(any_bait()),
        first in prop::sample::select(&DAMAGE[..]),
        second in prop::sample::select(&DAMAGE[..]),
        pick in any::<usize>(),
    ) {
        let classes = [first, second];
        let text = damaged(&tokens(&value), &classes, pick);
        restores(&profile(classes), &text, &value)?;
    }

    #[test]
    fn damage_of_classes_not_granted_is_never_accepted_otherwise(
        value in any_container(any_bait()),
        damage in prop::collection::vec(prop::sample::select(&DAMAGE[..]), 1..4),
        granted in prop::collection::vec(prop::sample::select(&DAMAGE[..]), 0..4),
        pick in any::<usize>(),
    ) {
        let text = damaged(&tokens(&value), &damage, pick);
        let profile = Profile { classes: granted.into_iter().collect(), ..profile([]) };
        if let Ok(Outcome::Repaired(repaired)) = repair(&profile, text.as_bytes()) {
            let restored: Value = serde_json::from_slice(&repaired.bytes).expect("repaired values parse");
            prop_assert_eq!(&restored, &value, "{}", text);
        }
    }

    #[test]
    fn a_cut_text_is_never_accepted_unless_asked_for_and_then_lossy(
        value in any_container(any_bait()),
        pretty in any::<bool>(),
    ) {
        let whole = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let whole = whole.expect("a value can be written");
        let everything = profile(DAMAGE);
        for cut in 1..whole.len() {
            let bytes = &whole.as_bytes()[..cut];
            prop_assert_eq!(repair(&Profile::default(), bytes), Err(Unrepairable::Truncated), "{}", &whole);
            match repair(&everything, bytes) {
                Ok(Outcome::Repaired(repaired)) => prop_assert!(repaired.lossy),
                other => prop_assert_eq!(other, Err(Unrepairable::Truncated)),
            }
        }
    }

    #[test]
    fn a_cut_damaged_text_is_never_accepted_unless_asked_for(
        value in any_container(any_bait()),
        damage in prop::collection::vec(prop::sample::select(&DAMAGE[..12]), 0..4),
        pick in any::<usize>(),
    ) {
        let text = damaged(&tokens(&value), &damage, pick);
        let granted = profile(damage.iter().copied());
        let closer = if damage.contains(&Class::CodeFence) { "`" } else { if value.is_array() { "]" } else { "}" } };
        // The closer may come twice, and text may follow.
        let end = text.rfind(closer).expect("the value ends") + 1;
        let value_ends = if damage.contains(&Class::DoubledCloser) && closer != "`" { end - 2 } else { end };
        for cut in 0..value_ends {
            if let Ok(outcome) = repair(&granted, &text.as_bytes()[..cut]) {
                return Err(TestCaseError::fail(format!("{outcome:?}: {}", &text[..cut])));
            }
            if let Ok(Outcome::Repaired(repaired)) = repair(&profile(DAMAGE), &text.as_bytes()[..cut]) {
                prop_assert!(repaired.lossy, "{}", &text[..cut]);
            }
        }
    }

    #[test]
    fn what_is_never_repaired_is_refused_with_its_code(
        value in any_container(any_words()),
        pick in any::<usize>(),
        hurt in prop::sample::select(NEVER),
    ) {
        let (damage, codes) = hurt;
        let Some(text) = damage(tokens(&value), pick) else { return Ok(()) };
        for profile in [profile([]), profile(DAMAGE)] {
            match repair(&profile, text.as_bytes()) {
                Err(code) => prop_assert!(codes.contains(&code), "{:?}: {}", code, text),
                Ok(outcome) => return Err(TestCaseError::fail(format!("{outcome:?}: {text}"))),
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_never_repaired_is_refused_whatever_the_strings_hold(
        value in any_container(any_bait()),
        pick in any::<usize>(),
        (damage, _) in prop::sample::select(NEVER),
    ) {
        let Some(text) = damage(tokens(&value), pick) else { return Ok(()) };
        for profile in [profile([]), profile(DAMAGE)] {
            if let Ok(outcome) = repair(&profile, text.as_bytes()) {
                return Err(TestCaseError::fail(format!("{outcome:?}: {text}")));
            }
        }
    }
}

type Hurt = fn(Vec<Token>, usize) -> Option<String>;

/// Damage for which there is no class, and the codes that it may get.
const NEVER: &[(Hurt, &[Unrepairable])] = &[
    (inner_quotes, &[Unrepairable::QuoteBroken]),
    (|tokens, pick| without_quote(tokens, pick, 0), &[Unrepairable::QuoteBroken, Unrepairable::Truncated]),
    (|tokens, pick| without_quote(tokens, pick, 1), &[Unrepairable::QuoteBroken, Unrepairable::Truncated]),
    (without_colon, &[Unrepairable::ColonMissing]),
    (smart_quotes, &[Unrepairable::SmartQuote]),
    (|tokens, pick| with_word(tokens, pick, "NaN"), &[Unrepairable::NotANumber]),
    (|tokens, pick| with_word(tokens, pick, "-Infinity"), &[Unrepairable::NotANumber]),
    (|tokens, pick| with_word(tokens, pick, "007"), &[Unrepairable::NumberForm]),
    (|tokens, pick| with_word(tokens, pick, "0x1F"), &[Unrepairable::NumberForm]),
    (|tokens, pick| with_word(tokens, pick, "+1"), &[Unrepairable::NumberForm]),
    (|tokens, pick| with_word(tokens, pick, "undefined"), &[Unrepairable::LiteralUnknown]),
    (|tokens, pick| with_word(tokens, pick, ""), &[Unrepairable::ValueMissing]),
    (|tokens, _| Some(text(&tokens) + "\n" + &text(&tokens)), &[Unrepairable::SeveralDocuments]),
    (
        |tokens, _| Some(format!("First: {} Then: {}", text(&tokens), text(&tokens))),
        &[Unrepairable::SeveralCandidates],
    ),
    (member_twice, &[Unrepairable::DuplicateKey]),
    (member_incomplete, &[Unrepairable::MemberIncomplete]),
];

/// The index of one of the tokens that are `wanted`.
fn one(tokens: &[Token], pick: usize, wanted: impl Fn(&Token) -> bool) -> Option<usize> {
    let all: Vec<usize> = (0..tokens.len()).filter(|at| wanted(&tokens[*at])).collect();
    all.get(pick % all.len().max(1)).copied()
}

/// A name or string of words, whose quotes cannot be mistaken.
fn is_words(token: &Token) -> bool {
    let words = |text: &str| text.contains(' ') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b' ');
    matches!(token, Key(text) | Text(text) if words(text))
}

/// `tokens` with the one at `at` written as `instead`.
fn with(tokens: &[Token], at: usize, instead: &str) -> String {
    text(&tokens[..at]) + instead + &text(&tokens[at + 1..])
}

fn inner_quotes(tokens: Vec<Token>, pick: usize) -> Option<String> {
    let at = one(&tokens, pick, is_words)?;
    let (first, rest) = plain(&tokens[at]).split_once(' ').map(|(a, b)| (a.to_string(), b.to_string()))?;
    let (second, rest) = rest.split_at(1);
    Some(with(&tokens, at, &format!("{first} \"{second}\"{rest}")))
}

fn without_quote(tokens: Vec<Token>, pick: usize, which: usize) -> Option<String> {
    let at = one(&tokens, pick, is_words)?;
    let written = plain(&tokens[at]);
    let one_quote = if which == 0 { &written[1..] } else { &written[..written.len() - 1] };
    Some(with(&tokens, at, one_quote))
}

fn without_colon(tokens: Vec<Token>, pick: usize) -> Option<String> {
    let at = one(&tokens, pick, |token| *token == Mark(':'))?;
    Some(with(&tokens, at, ""))
}

fn smart_quotes(tokens: Vec<Token>, pick: usize) -> Option<String> {
    let at = one(&tokens, pick, is_words)?;
    let written = plain(&tokens[at]);
    Some(with(&tokens, at, &format!("“{}”", &written[1..written.len() - 1])))
}

fn with_word(tokens: Vec<Token>, pick: usize, word: &str) -> Option<String> {
    let at = one(&tokens, pick, |token| matches!(token, Word(_)))?;
    // An array of one element without it is an empty array, and the last one may lack after a comma.
    let hole = word.is_empty() && tokens[at - 1] != Mark(':');
    (!hole).then(|| with(&tokens, at, word))
}

fn member_twice(tokens: Vec<Token>, pick: usize) -> Option<String> {
    let at = one(&tokens, pick, |token| matches!(token, Key(_)))?;
    let key = plain(&tokens[at]);
    Some(text(&tokens[..at]) + &format!("{key}:0,") + &text(&tokens[at..]))
}

fn member_incomplete(tokens: Vec<Token>, pick: usize) -> Option<String> {
    let at = one(&tokens, pick, |token| matches!(token, Key(_)))?;
    Some(text(&tokens[..at]) + "\"x y z\"," + &text(&tokens[at..]))
}
