use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::refused::Kind as Why;
use super::*;
use crate::repair::Class;
use crate::schema::SchemaLimits;
use crate::splits::{cut, every_split};

const KEY: HashKey = HashKey([1, 2]);
const SCHEMA: &str =
    r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer","maximum":9}}}"#;
const CSV: &str = r#"{"version":1,"columns":[{"name":"id","type":"integer","required":true},{"name":"note","type":"string"}]}"#;

fn json() -> Contract {
    Contract::Json(Arc::new(Schema::compile(SCHEMA.as_bytes(), &SchemaLimits::default()).unwrap()))
}

fn rows() -> Contract {
    Contract::Csv(Arc::new(csv::Contract::parse(CSV.as_bytes()).unwrap()))
}

fn contract(format: Format) -> Contract {
    if format == Format::Csv { rows() } else { json() }
}

fn terms(holds: bool) -> Terms {
    Terms { holds, held_bytes_max: 512, repair: Some(Profile::default()), key: KEY }
}

/// What left, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    left: String,
    end: Result<u64, Refused>,
    edits: Vec<Edit>,
}

fn tell(format: Format, terms: Terms, chunks: &[&[u8]]) -> Told {
    let mut body = Body::new(&contract(format), format, terms).unwrap();
    let (mut out, mut end) = (Vec::new(), Ok(()));
    for chunk in chunks {
        end = body.feed(&Bytes::copy_from_slice(chunk), &mut out);
        if end.is_err() {
            break;
        }
    }
    let end = end.and_then(|()| body.finish(&mut out)).map(|()| body.units());
    if end.is_ok() {
        assert_eq!(body.held_bytes(), 0);
    }
    Told { left: String::from_utf8(out.concat()).unwrap(), end, edits: body.edits(64) }
}

/// The same for every way to cut it.
fn told(format: Format, holds: bool, body: &str) -> Told {
    let whole = tell(format, terms(holds), &[body.as_bytes()]);
    every_split(body.as_bytes(), |chunks| {
        assert_eq!(tell(format, terms(holds), chunks), whole, "{chunks:?}")
    });
    whole
}

fn why(told: &Told) -> Why {
    told.end.as_ref().unwrap_err().kind()
}

const GOOD: [(Format, &str, u64); 5] = [
    (Format::Json, " {\"n\": 1}\n", 1),
    (Format::Lines, "{\"n\":1}\n\n \r\n{\"n\":2}\r\n{\"n\":3}", 3),
    (
        Format::Events,
        "\u{feff}: hello\n\nevent: a\ndata: {\"n\":\ndata: 1}\n\nid: 7\r\n\r\ndata:{\"n\":2}\r\rdata: [DONE]\n\n: bye\n",
        2,
    ),
    (Format::Csv, "id,note\r\n1,a\r\n2,\"b\r\nc\"\r\n", 2),
    (Format::Csv, "id,note\n1,a\n2,b", 2),
];

#[test]
fn what_is_valid_leaves_as_it_came() {
    for (format, body, units) in GOOD {
        let held = told(format, true, body);
        assert_eq!((held.left.as_str(), &held.end), (body, &Ok(units)), "{format:?}");
        assert!(held.edits.is_empty());
        assert_eq!(told(format, false, body).end, Ok(units));
    }
}

#[test]
fn the_most_that_was_kept_back_is_the_longest_unit() {
    let most = |format, body: &str, holds: bool| {
        let mut judged = Body::new(&contract(format), format, terms(holds)).unwrap();
        judged.feed(&Bytes::copy_from_slice(body.as_bytes()), &mut Vec::new()).unwrap();
        judged.finish(&mut Vec::new()).unwrap();
        judged.held_bytes_most()
    };
    assert_eq!(most(Format::Json, "{\"n\":1}", true), 7);
    assert_eq!(most(Format::Lines, "{\"n\":1}\n{\"n\": 2}\n{\"n\":3}\n", true), 9);
    assert_eq!(most(Format::Lines, "{\"n\":1}\n", false), 0);
}

#[test]
fn valid_units_leave_before_the_one_that_is_not() {
    let cases = [
        (Format::Json, "{\"n\":1,\"n\":2}", "", Why::Malformed),
        (Format::Json, "{\"n\":10}", "", Why::Violated),
        (Format::Json, "{\"n\":1", "", Why::Truncated),
        (Format::Lines, "{\"n\":1}\n{\"m\":2}\n{\"n\":3}\n", "{\"n\":1}\n", Why::Violated),
        (Format::Lines, "{\"n\":1}\n{\"n\":2\n", "{\"n\":1}\n", Why::Truncated),
        (Format::Events, "data: {\"n\":1}\n\ndata: {}\n\n", "data: {\"n\":1}\n\n", Why::Violated),
        (Format::Events, "data: {\"n\":1}\n\ndata: {\"n\":2}\n", "data: {\"n\":1}\n\n", Why::Truncated),
        (Format::Csv, "id,note\n1,a\n2\n", "id,note\n1,a\n", Why::Malformed),
        (Format::Csv, "id,note\n1,a\nx,b\n", "id,note\n1,a\n", Why::Violated),
        (Format::Csv, "id,note\n1,=cmd()\n", "id,note\n", Why::Violated),
        (Format::Csv, "id,note\n1,\"b\n", "id,note\n", Why::Truncated),
        (Format::Csv, "id,note\n1,a\"b\n", "id,note\n", Why::Malformed),
    ];
    for (format, body, left, kind) in cases {
        let unit = told(format, true, body);
        assert_eq!((unit.left.as_str(), why(&unit)), (left, kind), "{body:?}");
        assert_eq!(why(&told(format, false, body)), kind, "{body:?}");
    }
}

#[test]
fn a_refusal_names_the_place() {
    let place = |format, body| told(format, true, body).end.unwrap_err().to_string();
    assert_eq!(
        place(Format::Lines, "{\"n\":1}\n{\"n\":\"a\"}\n"),
        "text 2: fails `/properties/n/type` at `/n`, byte 5"
    );
    assert_eq!(
        place(Format::Csv, "id,note\n1,a\n2,=1+1\n"),
        "a value that a spreadsheet would run: row 3, column 2 `note`, byte 14"
    );
}

#[test]
fn malformed_texts_are_repaired_once_and_then_judged() {
    let cases = [
        (Format::Json, "```json\n{\"n\": 1,}\n```", "{\"n\": 1}\n"),
        (Format::Lines, "{\"n\":1,}\n{\"n\":2}\n// c\n{\"n\":3}", ""),
        (Format::Lines, "{\"n\":1,}\r\n{\"n\":2}\n{\"n\":3,}", "{\"n\":1}\r\n{\"n\":2}\n{\"n\":3}"),
        (
            Format::Events,
            "id: 1\ndata: {\"n\":1,}\n\ndata: {\"n\":2}\n\n",
            "id: 1\ndata: {\"n\":1}\n\ndata: {\"n\":2}\n\n",
        ),
        (Format::Csv, "\u{feff}id,note\n1,a\r\n2,b", "id,note\n1,a\n2,b"),
    ];
    for (format, body, left) in cases {
        let told = told(format, true, body);
        if left.is_empty() {
            assert_eq!(why(&told), Why::Malformed, "{body:?}");
            continue;
        }
        assert_eq!(told.left, left);
        assert!(told.end.is_ok() && !told.edits.is_empty(), "{told:?}");
        let refused = tell(format, Terms { repair: None, ..terms(true) }, &[body.as_bytes()]);
        assert!(refused.end.is_err(), "{refused:?}");
    }
    let still_invalid = told(Format::Json, true, "{\"n\": \"a\",}");
    assert_eq!((still_invalid.left.as_str(), why(&still_invalid)), ("", Why::Violated));
}

#[test]
fn scalars_are_coerced_only_where_the_profile_says_so() {
    let schema =
        r#"{"properties":{"a":{"type":"integer"},"b":{"type":"boolean"},"c":{"items":{"type":"number"}}}}"#;
    let schema = Arc::new(Schema::compile(schema.as_bytes(), &SchemaLimits::default()).unwrap());
    let granted = |classes: &[Class]| {
        let classes =
            classes.iter().copied().fold(crate::repair::Classes::SAFE, crate::repair::Classes::with);
        Profile { classes, ..Profile::default() }
    };
    let both = granted(&[Class::StringToInteger, Class::StringToBoolean]);
    let judged =
        |profile: &Profile, text: &str| match judge_value(&schema, KEY, Some(profile), text.as_bytes()) {
            Verdict::Valid => "valid".to_owned(),
            Verdict::Repaired(repaired) => String::from_utf8(repaired.bytes).unwrap(),
            Verdict::Refused(violation) => violation.to_string(),
        };
    let text = r#"{"a":"7","b":"true","c":[1,"2",]}"#;
    assert_eq!(judged(&both, text), r#"{"a":7,"b":true,"c":[1,2]}"#);
    assert_eq!(judged(&both, r#"{"a":7,"b":true}"#), "valid");
    assert!(judged(&Profile::default(), text).contains("`/a`"));
    assert!(judged(&granted(&[Class::StringToInteger]), text).contains("`/b`"));
    for hopeless in
        [r#"{"a":"7.5"}"#, r#"{"a":" 7"}"#, r#"{"b":"yes"}"#, r#"{"a":[]}"#, r#"{"a":null}"#, r#"{"a":"07"}"#]
    {
        assert!(judged(&both, hopeless).starts_with("fails"), "{hopeless}");
    }
}

#[test]
fn no_more_is_kept_back_than_may_be() {
    let long = "x".repeat(600);
    let cases = [
        (Format::Json, format!("{{\"n\":1,\"x\":\"{long}\"}}")),
        (Format::Lines, format!("{{\"n\":1}}\n{{\"n\":1,\"x\":\"{long}\"}}\n")),
        (Format::Events, format!("data: {{\"n\":1,\"x\":\"{long}\"}}\n\n")),
        (Format::Csv, format!("id,note\n1,{long}\n")),
    ];
    for (format, body) in &cases {
        let told = told(*format, true, body);
        assert_eq!(why(&told), Why::HeldBytesMax, "{format:?}");
        assert!(!told.left.contains('x'));
    }
    let lines = "{\"n\":1}\n".repeat(100);
    assert_eq!(told(Format::Lines, true, &lines).end, Ok(100));
}

#[test]
fn a_contract_is_for_its_format_only() {
    assert!(Body::new(&json(), Format::Csv, terms(true)).is_none());
    for format in [Format::Json, Format::Lines, Format::Events] {
        assert!(Body::new(&rows(), format, terms(true)).is_none());
    }
}

#[test]
fn an_empty_body_is_no_value() {
    for (format, end) in [(Format::Lines, Ok(0)), (Format::Events, Ok(0))] {
        assert_eq!(told(format, true, "").end, end);
    }
    assert_eq!(why(&told(Format::Json, true, "")), Why::Truncated);
    assert_eq!(why(&told(Format::Csv, true, "")), Why::Malformed);
}

fn any_body() -> impl Strategy<Value = (Format, String)> {
    let format =
        prop_oneof![Just(Format::Json), Just(Format::Lines), Just(Format::Events), Just(Format::Csv)];
    let piece = prop_oneof![
        Just("{\"n\":1}"),
        Just("{\"n\":2,}"),
        Just("{\"n\":\"é\"}"),
        Just("\n"),
        Just("\r\n"),
        Just("\r"),
        Just("data: "),
        Just("\n\n"),
        Just(": c\n"),
        Just("id,note"),
        Just("1,a"),
        Just("2,\"b\nc\""),
        Just("3,=x"),
        Just("[DONE]"),
        Just("```"),
        Just("\u{feff}"),
        Just(","),
        Just("{")
    ];
    (format, proptest::collection::vec(piece, 0..12)).prop_map(|(format, pieces)| (format, pieces.concat()))
}

proptest! {
    #[test]
    fn cutting_changes_nothing((format, body) in any_body(), places in proptest::collection::vec(0_usize..200, 0..8)) {
        let whole = tell(format, terms(true), &[body.as_bytes()]);
        prop_assert_eq!(&tell(format, terms(true), &cut(body.as_bytes(), &places)), &whole);
        let clean = whole.end.is_ok() && whole.edits.is_empty();
        if clean {
            prop_assert_eq!(&whole.left, &body);
        }
    }
}
