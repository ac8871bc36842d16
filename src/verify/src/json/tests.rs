use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::view::View;

fn admitted(text: &str) -> bool {
    admit(text.as_bytes()).is_ok()
}

fn check_all(documents: &[&str], expected: bool) {
    for document in documents {
        assert_eq!(admitted(document), expected, "{document:?}");
        assert_eq!(reference::admit(document.as_bytes()).is_some(), expected, "reference: {document:?}");
    }
}

#[test]
fn admits_integers_strings_booleans_arrays_and_objects() {
    check_all(
        &[
            "{}",
            " \t\r\n{ } \n",
            r#"{"a":1,"b":-1,"c":0,"d":9007199254740991,"e":-9007199254740991}"#,
            r#"{"b":[],"a":[1,[2],{}],"c":"\u00e9\ud83d\ude00\/\b","":""}"#,
            "{\"\u{7f}\":true,\"x\":false}",
        ],
        true,
    );
}

#[test]
fn refuses_what_the_seven_rules_forbid() {
    check_all(
        &[
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "{}{}",
            "{} x",
            "\u{feff}{}",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":0,"a":2}}"#,
            r#"{"a":null}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e2}"#,
            r#"{"a":1E2}"#,
            r#"{"a":-0}"#,
            r#"{"a":01}"#,
            r#"{"a":-01}"#,
            r#"{"a":+1}"#,
            r#"{"a":-}"#,
            r#"{"a":.5}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":99999999999999999999999999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"a":"\ude00\ud83d"}"#,
            r#"{"a":"\ud83dx"}"#,
            r#"{"a":"\ud83d\u0041"}"#,
            r#"{"a":"\ufdd0"}"#,
            r#"{"a":"\uffff"}"#,
            r#"{"a":"\ud83f\udffe"}"#,
            "{\"a\":\"\u{fdd0}\"}",
            "{\"a\":\"\u{fdef}\"}",
            "{\"a\":\"\u{fffe}\"}",
            "{\"a\":\"\u{1ffff}\"}",
            "{\"\u{10fffe}\":1}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\n\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"x}"#,
            r#"{"a":"\"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{a:1}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":tru}"#,
            r#"{"a":True}"#,
            "{\"a\":1}\u{c}",
            "{\"a\":\u{a0}1}",
        ],
        false,
    );
}

#[test]
fn characters_beside_the_noncharacters_are_admitted() {
    check_all(
        &["{\"a\":\"\u{fdcf}\u{fdf0}\u{fffd}\u{10000}\u{1fffd}\u{efff}\u{10fffd}\"}", "{\"a\":\"\u{ffef}\"}"],
        true,
    );
}

#[test]
fn refuses_bytes_that_are_not_utf_8() {
    for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"] {
        let document = [b"{\"a\":\"", bytes, b"\"}"].concat();
        assert!(admit(&document).is_err() && is_strict(&document).is_err(), "{bytes:x?}");
    }
}

#[test]
fn depth_32_is_admitted_and_33_is_not() {
    for (depth, expected) in [(1, true), (31, true), (32, true), (33, false), (5000, false)] {
        let arrays = format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let objects = format!("{}{{}}{}", "{\"a\":".repeat(depth - 1), "}".repeat(depth - 1));
        for document in [arrays.replace("{\"a\":}", "{}"), objects] {
            assert_eq!(admitted(&document), expected, "{depth}");
            assert_eq!(is_strict(document.as_bytes()).is_ok(), expected, "{depth}");
        }
    }
}

fn check_canonical(document: &str, expected: bool) {
    assert!(admitted(document), "{document:?}");
    assert_eq!(is_strict(document.as_bytes()).is_ok(), expected, "{document:?}");
    let tree = reference::admit(document.as_bytes()).unwrap();
    assert_eq!(tree.canonical() == document, expected, "reference: {document:?}");
}

#[test]
fn canonical_form_is_that_of_rfc_8785() {
    for document in [
        "{}",
        r#"{"":1,"a":[1,true,false,"x",{}],"b":{"c":[]}}"#,
        // Section 3.2.3: order by UTF-16 code units.
        "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"\u{f6}\":\"Latin\",\
         \"\u{20ac}\":\"Euro\",\"\u{1f600}\":\"Smiley\",\"\u{fb33}\":\"Hebrew\"}",
        // Section 3.2.2.2: strings.
        "{\"s\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
        "{\"s\":\"\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}\u{2028}\"}",
    ] {
        check_canonical(document, true);
    }
    for document in [
        "{ }",
        "{} ",
        " {}",
        "{\"a\":1}\n",
        r#"{"a": 1}"#,
        r#"{"a":[1, 2]}"#,
        r#"{"b":1,"a":2}"#,
        r#"{"a":"\u0041"}"#,
        r#"{"a":"\/"}"#,
        r#"{"a":"\u000A"}"#,
        r#"{"a":"\u000a"}"#,
        r#"{"a":"\u001F"}"#,
        r#"{"a":"\u0008"}"#,
        r#"{"a":"\u007f"}"#,
        r#"{"a":"\u00e9"}"#,
        r#"{"a":"\ud83d\ude00"}"#,
        r#"{"\u0061":1}"#,
        // By UTF-8 bytes this would be sorted.
        "{\"\u{fb33}\":1,\"\u{1f600}\":2}",
    ] {
        check_canonical(document, false);
    }
}

#[test]
fn unicode_is_not_normalized() {
    check_canonical("{\"e\u{301}\":1,\"\u{e9}\":2}", true);
}

#[test]
fn text_is_counted_in_code_points() {
    for (text, expected) in
        [("", 0), ("abc", 3), ("\u{e9}\u{20ac}\u{1f600}", 3), (r#"\n\u0001\\"#, 3), ("e\u{301}", 2)]
    {
        let document = format!("\"{text}\"");
        let mut strict = Strict::new(document.as_bytes()).unwrap();
        assert_eq!(strict.string().unwrap().length, expected, "{text}");
    }
}

#[test]
fn views_find_members_items_and_values() {
    let document = br#" { "a" : [ 1 , "x,]" , {"b":true} ] , "c\"" : -5 , "d" : {} } "#;
    let view = View::of(document);
    let items: Vec<_> = view.member("a").unwrap().items().collect();
    assert_eq!(items[0].count(), Some(1));
    assert_eq!(items[1].text().unwrap(), "x,]");
    assert_eq!(items[2].member("b").unwrap().boolean(), Some(true));
    assert_eq!(items.len(), 3);
    assert_eq!(view.member("c\"").unwrap().integer(), Some(-5));
    assert_eq!(view.member("d").unwrap().members().count(), 0);
    assert!(view.member("e").is_none());
}

#[test]
fn messages_say_what_is_wrong_and_where() {
    let document = br#"{"a":{"b":1.5}}"#;
    let fault = admit(document).unwrap_err();
    assert_eq!(
        fault.describe(document),
        "expected an integer without fraction or exponent, at byte 10 stands `1.5}}`"
    );
    assert_eq!(admit(b"{").unwrap_err().describe(b"{"), "expected a member name, at byte 1 stands the end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_judged_as_by_the_reference(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "[\\{\\}\\[\\]\",:0-9a\\\\nu. -]{0,40}".prop_map(String::into_bytes),
        ],
        wrap: bool,
    ) {
        let document = if wrap { [b"{\"a\":", &bytes[..], b"}"].concat() } else { bytes };
        let tree = reference::admit(&document);
        prop_assert_eq!(admit(&document).is_ok(), tree.is_some());
        let canonical = tree.is_some_and(|tree| tree.canonical().as_bytes() == document);
        prop_assert_eq!(is_strict(&document).is_ok(), canonical);
        let view = View::of(&document);
        _ = (view.members().count(), view.items().count(), view.text(), view.integer());
        crate::fuzz_canonical(&document);
    }

    #[test]
    fn generated_documents_are_judged_as_by_the_reference(seed: u64, at in 0usize..400, byte: u8, how in 0..4) {
        let tree = reference::Dice(seed).anything(1);
        let mut document = tree.canonical().into_bytes();
        prop_assert!(is_strict(&document).is_ok());
        let at = at % document.len();
        match how {
            0 => document[at] = byte,
            1 => document[at] ^= 1 << (byte % 8),
            2 => document.insert(at, byte % 128),
            _ => drop(document.remove(at)),
        }
        let tree = reference::admit(&document);
        prop_assert_eq!(admit(&document).is_ok(), tree.is_some());
        let canonical = tree.is_some_and(|tree| tree.canonical().as_bytes() == document);
        prop_assert_eq!(is_strict(&document).is_ok(), canonical);
        crate::fuzz_canonical(&document);
    }
}
