use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::{
    Defect,
    splits::{cut, every_split},
};

/// Wants everything and builds a tree of it.
#[derive(Default)]
struct Tree {
    open: Vec<Value>,
    keys: Vec<Vec<u8>>,
    text: Vec<u8>,
    root: Option<Value>,
}

impl Tree {
    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Value::Array(items)) => items.push(value),
            Some(Value::Object(members)) => {
                let key = self.keys.pop().expect("a key came before its value");
                members.insert(String::from_utf8(key).expect("keys are UTF-8"), value);
            }
            Some(_) => unreachable!("only containers are open"),
        }
    }
}

impl Visitor for Tree {
    type Place = ();

    fn member(&mut self, _: (), key: &[u8]) -> Option<()> {
        self.keys.push(key.to_vec());
        Some(())
    }

    fn element(&mut self, _: ()) -> Option<()> {
        Some(())
    }

    fn begin(&mut self, _: (), container: Container) {
        self.open.push(match container {
            Container::Object => Value::Object(Map::new()),
            Container::Array => Value::Array(Vec::new()),
        });
    }

    fn end(&mut self, _: (), _: Container) {
        let value = self.open.pop().expect("something is open");
        self.put(value);
    }

    fn string(&mut self, _: ()) -> Capture {
        self.text.clear();
        Capture::Take
    }

    fn text(&mut self, _: (), piece: &[u8]) {
        assert!(!piece.is_empty());
        self.text.extend_from_slice(piece);
    }

    fn string_end(&mut self, _: ()) {
        let text = String::from_utf8(self.text.clone()).expect("strings are UTF-8");
        self.put(Value::String(text));
    }

    fn number(&mut self, _: (), text: &[u8]) {
        // As text: what a number is worth is not the tokenizer's business.
        self.put(Value::String(format!("#{}", str::from_utf8(text).expect("numbers are ASCII"))));
    }

    fn literal(&mut self, _: (), literal: Literal) {
        self.put(match literal {
            Literal::True => Value::Bool(true),
            Literal::False => Value::Bool(false),
            Literal::Null => Value::Null,
        });
    }
}

/// What became of a text: its tree, or the defect; and how many bytes were good.
type Outcome = (Result<Value, Defect>, u64);

fn read_with(limits: Limits, root: Option<()>, chunks: &[&[u8]]) -> Outcome {
    let mut tokenizer = Tokenizer::new(limits, root);
    let mut tree = Tree::default();
    let fed: Result<(), Defect> = chunks.iter().try_for_each(|chunk| tokenizer.feed(chunk, &mut tree));
    let finished = tokenizer.finish(&mut tree);
    assert!(fed.is_ok() || finished == fed, "a defect stays");
    (finished.map(|()| tree.root.take().unwrap_or_default()), tokenizer.offset())
}

/// The same outcome for every split, wanted or not; gives it.
fn read_limited(limits: Limits, bytes: &[u8]) -> Outcome {
    let whole = read_with(limits, Some(()), &[bytes]);
    every_split(bytes, |chunks| {
        assert_eq!(read_with(limits, Some(()), chunks), whole, "{chunks:?}");
        let unwanted = read_with(limits, None, chunks);
        assert_eq!((unwanted.0.err(), unwanted.1), (whole.0.clone().err(), whole.1), "{chunks:?}");
    });
    whole
}

fn read(text: impl AsRef<[u8]>) -> Outcome {
    read_limited(Limits::default(), text.as_ref())
}

fn accepts(text: &str) -> Value {
    let (value, offset) = read(text);
    assert_eq!(offset, text.len() as u64);
    value.unwrap_or_else(|defect| panic!("{text:?}: {defect:?}"))
}

/// `text` is refused with `defect`, found after `good` bytes.
fn refuses(text: impl AsRef<[u8]>, defect: Defect, good: u64) {
    assert_eq!(read(text.as_ref()), (Err(defect), good), "{:?}", String::from_utf8_lossy(text.as_ref()));
}

#[test]
fn reads_every_kind_of_value() {
    let text =
        " {\"a\" : [1, -2.5e+3 ,\"x\\n\\u00e9\\ud83d\\ude00é\", true,false,null,{}, [] ] ,\r\n\t\"\":\"\"} ";
    let expected: Value =
        serde_json::from_str(r##"{"a":["#1","#-2.5e+3","x\né😀é",true,false,null,{},[]],"":""}"##).unwrap();
    assert_eq!(accepts(text), expected);
}

#[test]
fn a_text_may_be_a_lone_scalar() {
    assert_eq!(accepts("0"), "#0");
    assert_eq!(accepts(" -0.0E-0 "), "#-0.0E-0");
    assert_eq!(accepts("\"\""), "");
    assert_eq!(accepts("null "), Value::Null);
}

#[test]
fn numbers_keep_their_text_and_have_no_range() {
    for number in ["1e999", "-0", "123456789012345678901234567890", "0.10", "1E+2", "9.99e-400"] {
        assert_eq!(accepts(number), format!("#{number}"));
    }
}

#[test]
fn refuses_what_is_not_a_number() {
    for (text, good) in [
        ("01", 1),
        ("-01", 2),
        ("+1", 0),
        (".5", 0),
        ("1.x", 2),
        ("1.e3", 2),
        ("1e+ ", 3),
        ("-x", 1),
        ("1ee", 2),
        ("0x1", 1),
        ("NaN", 0),
        ("Infinity", 0),
        ("-Infinity", 1),
        ("1 2", 2),
        ("1_0", 1),
        ("--1", 1),
    ] {
        refuses(text, Defect::JsonMalformed, good);
    }
}

#[test]
fn refuses_what_the_grammar_does_not_know() {
    for (text, good) in [
        ("[1,]", 3),
        ("[,1]", 1),
        ("[1 2]", 3),
        ("{\"a\":1,}", 7),
        ("{a:1}", 1),
        ("{\"a\" 1}", 5),
        ("{\"a\"::1}", 5),
        ("{1:1}", 1),
        ("{'a':1}", 1),
        ("[1}", 2),
        ("{\"a\":1]", 6),
        ("]", 0),
        ("}", 0),
        ("tru3", 3),
        ("nul ", 3),
        ("True", 0),
        ("[] []", 3),
        ("/**/1", 0),
        ("\u{FEFF}1", 0),
        ("\u{A0}1", 0),
        ("\"a\nb\"", 2),
        ("\"\u{0}\"", 1),
        ("\"\\x\"", 2),
        ("\"\\u12g4\"", 5),
        ("\"\\'\"", 2),
        ("[\"a\",\n4\n,1,", 11),
    ] {
        let defect = if text.len() as u64 == good { Defect::Truncated } else { Defect::JsonMalformed };
        refuses(text, defect, good);
    }
}

#[test]
fn a_text_that_ends_early_is_truncated() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "\"",
        "\"a",
        "\"\\",
        "\"\\u12",
        "-",
        "1.",
        "1e",
        "1e+",
        "tru",
        "\"\\ud83d",
        "\"\\ud83d\\",
        "{\"k\\",
        "\"é",
    ] {
        refuses(text, Defect::Truncated, text.len() as u64);
    }
    refuses(b"\"\xC3", Defect::Truncated, 2);
}

#[test]
fn refuses_halves_of_surrogate_pairs() {
    for (text, good) in [
        (r#""\ud83d""#, 7),
        (r#""\ude00""#, 6),
        (r#""\ud83dx""#, 7),
        (r#""\ud83d\n""#, 8),
        (r#""\ud83d\ud83d""#, 12),
        (r#""\ud83d\u0041""#, 12),
        (r#"{"\udfff":1}"#, 7),
    ] {
        refuses(text, Defect::LoneSurrogate, good);
    }
    assert_eq!(accepts(r#""\uD83D\uDE00\uFFFF\u0000""#), "😀\u{FFFF}\0");
}

#[test]
fn refuses_bytes_that_are_not_utf8_at_the_start_of_the_sequence() {
    for (bytes, good) in [
        (&b"\"a\xFF\""[..], 2),
        (b"\"\xC3\"", 1),
        (b"\"\xE2\x82\"", 1),
        (b"\"\xE2\x82\\n\"", 1),
        (b"\"ab\xF0\x9F\x98", 6),
        (b"\"\xC0\xAF\"", 1),
        (b"\"\xED\xA0\x80\"", 1),
        (b"\"\xF4\x90\x80\x80\"", 1),
        (b"{\"\xE2(\xA1\":1}", 2),
        (b"\"\xF0\x9F\x98\x80\xF0\x9F\x98\"", 5),
    ] {
        let defect = if bytes.len() as u64 == good { Defect::Truncated } else { Defect::InvalidUtf8 };
        refuses(bytes, defect, good);
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    accepts(&nested(128));
    refuses(nested(129), Defect::DepthMax, 128);
    let three = Limits { depth_max: 3, ..Limits::default() };
    assert!(read_limited(three, br#"{"a":[{"b":1}]}"#).0.is_ok());
    assert_eq!(read_limited(three, br#"{"a":[{"b":{}}]}"#), (Err(Defect::DepthMax), 11));
    let above = Limits { depth_max: 1000, ..Limits::default() };
    assert_eq!(read_with(above, None, &[nested(129).as_bytes()]), (Err(Defect::DepthMax), 128));
}

#[test]
fn keys_are_bounded_as_written() {
    let four = Limits { key_bytes_max: 4, ..Limits::default() };
    assert!(read_limited(four, br#"{"abcd":1}"#).0.is_ok());
    assert!(read_limited(four, r#"{"€x":"longer than that"}"#.as_bytes()).0.is_ok());
    assert_eq!(read_limited(four, br#"{"abcde":1}"#), (Err(Defect::KeyBytesMax), 6));
    assert_eq!(read_limited(four, br#"{"\u0041":1}"#), (Err(Defect::KeyBytesMax), 6));
    assert_eq!(read_limited(four, br#"{"abc\n":1}"#), (Err(Defect::KeyBytesMax), 6));
    assert_eq!(read_limited(four, "{\"ab€\":1}".as_bytes()), (Err(Defect::KeyBytesMax), 6));
    assert_eq!(read_limited(four, b"{\"ab\xFFde\":1}"), (Err(Defect::InvalidUtf8), 4));
    assert_eq!(read_limited(four, b"{\"abcd\xFF\":1}"), (Err(Defect::KeyBytesMax), 6));
}

#[test]
fn numbers_are_bounded() {
    let four = Limits { number_bytes_max: 4, ..Limits::default() };
    assert!(read_limited(four, b"[-123,1.25]").0.is_ok());
    assert_eq!(read_limited(four, b"[-1234]"), (Err(Defect::NumberBytesMax), 5));
    assert_eq!(read_limited(four, b"12345"), (Err(Defect::NumberBytesMax), 4));
    assert_eq!(read_limited(four, b"1234e"), (Err(Defect::NumberBytesMax), 4));
}

/// Wants one member at one depth; counts its calls.
#[derive(Default)]
struct Picky {
    calls: Vec<String>,
}

#[derive(Clone, Copy)]
enum Spot {
    Root,
    List,
    Name,
}

impl Visitor for Picky {
    type Place = Spot;

    fn member(&mut self, of: Spot, key: &[u8]) -> Option<Spot> {
        self.calls.push(format!("key {}", String::from_utf8_lossy(key)));
        match (of, key) {
            (Spot::Root, b"list") => Some(Spot::List),
            (Spot::Root, b"name") => Some(Spot::Name),
            _ => None,
        }
    }

    fn element(&mut self, of: Spot) -> Option<Spot> {
        matches!(of, Spot::List).then_some(Spot::Name)
    }

    fn string_end(&mut self, _: Spot) {
        self.calls.push("string".into());
    }

    fn number(&mut self, _: Spot, text: &[u8]) {
        self.calls.push(format!("number {}", String::from_utf8_lossy(text)));
    }
}

#[test]
fn nothing_is_told_of_values_without_a_place() {
    let text =
        br#"{"x":{"list":["no"],"deep":[{"list":1}]},"list":[1,"a",[2],{"name":"n"}],"n\u0061me":"yes"}"#;
    every_split(text, |chunks| {
        let mut tokenizer = Tokenizer::new(Limits::default(), Some(Spot::Root));
        let mut picky = Picky::default();
        for chunk in chunks {
            tokenizer.feed(chunk, &mut picky).unwrap();
        }
        tokenizer.finish(&mut picky).unwrap();
        assert_eq!(
            picky.calls,
            ["key x", "key list", "number 1", "string", "key name", "key name", "string"]
        );
    });
}

#[test]
fn a_reset_tokenizer_is_a_new_one() {
    let mut tokenizer = Tokenizer::new(Limits::default(), Some(()));
    for (text, outcome) in
        [("{\"a\":[1", Err(Defect::Truncated)), ("{]", Err(Defect::JsonMalformed)), ("[2]", Ok(()))]
    {
        let mut tree = Tree::default();
        let _ = tokenizer.feed(text.as_bytes(), &mut tree);
        assert_eq!(tokenizer.finish(&mut tree), outcome);
        tokenizer.reset(Some(()));
        assert_eq!(tokenizer.offset(), 0);
    }
}

/// Wants every value's place in the text.
#[derive(Default)]
struct Spans(Vec<(u64, u64)>);

impl Visitor for Spans {
    type Place = ();

    fn member(&mut self, _: (), _: &[u8]) -> Option<()> {
        Some(())
    }

    fn element(&mut self, _: ()) -> Option<()> {
        Some(())
    }

    fn span(&mut self, _: (), from: u64, to: u64) {
        self.0.push((from, to));
    }
}

#[test]
fn spans_are_the_values_as_they_stand() {
    let text = r#" {"a": [ -1.5e3 ,true,"x\u00e9\n" ], "b":null , "c": {"d": "é"}} "#;
    let values = ["-1.5e3", "true", r#""x\u00e9\n""#, r#"[ -1.5e3 ,true,"x\u00e9\n" ]"#, "null", "\"é\""];
    let values = values.into_iter().chain([r#"{"d": "é"}"#, text.trim()]);
    let values: Vec<&str> = values.collect();
    every_split(text.as_bytes(), |chunks| {
        let (mut tokenizer, mut spans) = (Tokenizer::new(Limits::default(), Some(())), Spans::default());
        chunks.iter().for_each(|chunk| tokenizer.feed(chunk, &mut spans).unwrap());
        tokenizer.finish(&mut spans).unwrap();
        let found: Vec<&str> = spans.0.iter().map(|(from, to)| &text[*from as usize..*to as usize]).collect();
        assert_eq!(found, values, "{chunks:?}");
    });
    let (mut tokenizer, mut spans) = (Tokenizer::new(Limits::default(), Some(())), Spans::default());
    tokenizer.feed(b" 12", &mut spans).unwrap();
    tokenizer.finish(&mut spans).unwrap();
    assert_eq!(spans.0, [(1, 3)]);
}

/// What serde_json, made as strict as RFC 8259 asks, says of the same bytes.
fn oracle(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    // `IgnoredAny` is the grammar alone: it checks neither the halves of pairs nor the range of numbers.
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && pairs_are_whole(text)
}

/// Of a text that keeps the grammar: each run of `\u` escapes is UTF-16.
fn pairs_are_whole(text: &str) -> bool {
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = rest.strip_prefix("\\u").map(|after| &after[..4]);
        let length = match digits {
            Some(_) => 6,
            None if first == '\\' => 2,
            None => first.len_utf8(),
        };
        units.push(digits.map_or(b' '.into(), |digits| u16::from_str_radix(digits, 16).unwrap()));
        rest = &rest[length..];
    }
    char::decode_utf16(units).all(|character| character.is_ok())
}

/// The tree as [`Tree`] builds it.
fn numbers_as_text(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(format!("#{number}")),
        Value::Array(items) => items.into_iter().map(numbers_as_text).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, numbers_as_text(value))).collect()
        }
        other => other,
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,80}".prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[\\\\\"\u{0}-\u{1F}é€😀a]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a-c\"é\n]{0,6}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// One edit of a document: at a place, so many bytes go and some come.
fn any_edit() -> impl Strategy<Value = (usize, usize, &'static [u8])> {
    let pieces: Vec<&'static [u8]> = vec![
        b"",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"\n",
        b"0",
        b"1",
        b"-",
        b".",
        b"e",
        b"E+",
        b"true",
        b"\\u",
        b"\\ud800",
        b"\\udc00",
        b"\\u00",
        b"\x00",
        b"\x1F",
        b"\x7F",
        b"\x80",
        b"\xC3",
        b"\xE2\x82",
        b"\xF0\x9F",
        b"\xFF",
        b"null",
        b"1e400",
        b"//",
        b"'",
    ];
    (any::<usize>(), 0..3usize, prop::sample::select(pieces))
}

fn edited(mut bytes: Vec<u8>, edits: &[(usize, usize, &'static [u8])]) -> Vec<u8> {
    for &(at, gone, new) in edits {
        let at = at % (bytes.len() + 1);
        let end = bytes.len().min(at + gone);
        bytes.splice(at..end, new.iter().copied());
    }
    bytes
}

proptest! {
    #[test]
    fn valid_documents_are_read_as_serde_json_reads_them(
        value in any_value(),
        pretty in any::<bool>(),
        places in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let outcome = read_with(Limits::default(), Some(()), &cut(text.as_bytes(), &places));
        prop_assert_eq!(outcome, (Ok(numbers_as_text(value)), text.len() as u64));
    }

    #[test]
    fn edited_documents_are_accepted_exactly_when_serde_json_accepts_them(
        value in any_value(),
        edits in prop::collection::vec(any_edit(), 1..4),
        places in prop::collection::vec(any::<usize>(), 0..6),
        key_bytes_max in 1usize..8,
        number_bytes_max in 1usize..8,
    ) {
        let bytes = edited(serde_json::to_vec(&value).unwrap(), &edits);
        let whole = read_with(Limits::default(), Some(()), &[&bytes]);
        prop_assert_eq!(whole.0.is_ok(), oracle(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read_with(Limits::default(), Some(()), &cut(&bytes, &places)), &whole);
        prop_assert_eq!(&read_with(Limits::default(), Some(()), &single), &whole);

        let tight = Limits { depth_max: 2, key_bytes_max, number_bytes_max };
        let whole = read_with(tight, Some(()), &[&bytes]);
        prop_assert_eq!(&read_with(tight, Some(()), &cut(&bytes, &places)), &whole);
        prop_assert_eq!(&read_with(tight, Some(()), &single), &whole);
    }
}
