use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::content::Wanted;

const KEY: [u8; 16] = *b"0123456789abcdef";
const ROOM: usize = 1 << 20;

fn earlier(results: &[(Option<&str>, Value)]) -> Earlier {
    let mut earlier = Earlier::new(&KEY);
    results.iter().for_each(|(tool, result)| assert!(earlier.learn(*tool, result, ROOM).is_whole));
    earlier
}

fn asked(min_length: u64, from: &[&str], argument: &[&str]) -> Asked {
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Asked::new(&Provenance {
        min_length: Some(min_length),
        from: (!from.is_empty()).then(|| texts(from)),
        argument: (!argument.is_empty())
            .then(|| argument.iter().map(|path| ValuePath::parse(path).unwrap()).collect()),
    })
}

fn ask(asked: &Asked, earlier: &Earlier, arguments: &Value) -> Truth {
    let content = Content::read(arguments.to_string().as_bytes(), Wanted::default());
    asked.ask(&content.with_earlier(earlier))
}

fn check(result: &str, argument: &str, expected: Truth) {
    let earlier = earlier(&[(Some("fetch"), result.into())]);
    assert_eq!(
        ask(&asked(20, &[], &[]), &earlier, &json!({ "body": argument })),
        expected,
        "{result} / {argument}"
    );
}

const SECRET: &str = "sk-live-4eC39HqLyjWDarjtT1zdp7dc";

#[test]
fn a_string_of_an_earlier_result_is_found_whatever_surrounds_it() {
    check(SECRET, SECRET, Truth::True);
    check(&format!("the key is {SECRET}, keep it"), &format!("Dear Eve,{SECRET}!"), Truth::True);
    check(SECRET, "Dear Eve, nothing of that is in here at all, I am sorry", Truth::False);
}

#[test]
fn letter_case_white_space_and_marks_do_not_matter() {
    check(SECRET, &SECRET.to_uppercase(), Truth::True);
    let spaced: String = SECRET.chars().flat_map(|c| [c, ' ', '\u{200b}', '-']).collect();
    check(SECRET, &spaced, Truth::True);
    check("STRASSE NUMMER ELF IN ÄGYPTEN", "straße? strasse nummer elf in ägypten", Truth::True);
}

#[test]
fn what_was_changed_or_cut_into_short_pieces_is_not_found() {
    let pieces: Vec<&str> = vec![&SECRET[..11], "xxxxxxxxx", &SECRET[11..19], "yyyyyyyyyy", &SECRET[19..]];
    check(SECRET, &pieces.concat(), Truth::False);
    check(SECRET, &SECRET.chars().rev().collect::<String>(), Truth::False);
}

#[test]
fn strings_in_json_in_strings_are_found_on_both_sides() {
    let nested = json!({ "content": [{ "type": "text", "text": json!({ "a": { "key": format!("line\n{SECRET}") } }).to_string() }] });
    let earlier = earlier(&[(Some("fetch"), nested)]);
    let inside =
        json!({ "payload": json!({ "x": json!([format!("\n{SECRET}\n")]).to_string() }).to_string() });
    for arguments in [json!({ "a": SECRET }), inside, json!({ SECRET: 1 })] {
        assert_eq!(ask(&asked(20, &[], &[]), &earlier, &arguments), Truth::True, "{arguments}");
    }
}

#[test]
fn numbers_are_texts() {
    let earlier = earlier(&[(None, json!({ "account": 123_456_789_012_345_678_u64 }))]);
    assert_eq!(ask(&asked(12, &[], &[]), &earlier, &json!({ "to": "123456789012345678" })), Truth::True);
}

#[test]
fn only_tools_and_arguments_that_a_rule_names_count() {
    let earlier = earlier(&[
        (Some("Vault.read"), json!(SECRET)),
        (Some("search"), json!("another text that is long enough")),
    ]);
    let arguments = json!({ "to": [SECRET], "cc": { "text": "ANOTHER text that is long enough" }, "raw": "{\"x\":\"y\"}" });
    let truth = |from: &[&str], argument: &[&str]| ask(&asked(20, from, argument), &earlier, &arguments);
    assert_eq!(truth(&["vault.*"], &[]), Truth::True);
    assert_eq!(truth(&["vault.*"], &["/to"]), Truth::True);
    assert_eq!(truth(&["vault.*"], &["/to/0", "/x"]), Truth::True);
    assert_eq!(truth(&["vault.*"], &["/cc", "/raw/x"]), Truth::False);
    assert_eq!(truth(&["search"], &["/**/text"]), Truth::True);
    assert_eq!(truth(&["other"], &[]), Truth::False);
    assert_eq!(truth(&[], &["/bcc"]), Truth::False);
}

#[test]
fn what_nobody_in_particular_gave_counts_for_every_tool() {
    let earlier = earlier(&[(None, json!(SECRET))]);
    assert_eq!(ask(&asked(20, &["vault"], &[]), &earlier, &json!([SECRET])), Truth::True);
    let mut many = Earlier::new(&KEY);
    for tool in 0..=TOOLS_TOLD_APART_MAX {
        let result = json!(format!("{tool:04} {SECRET}{tool:04}"));
        assert!(many.learn(Some(&format!("tool{tool}")), &result, ROOM).is_whole);
    }
    let first_last = |from: &str, text: String| ask(&asked(30, &[from], &[]), &many, &json!([text]));
    assert_eq!(first_last("tool0", format!("0000{SECRET}0000")), Truth::True);
    assert_eq!(
        first_last("tool0", format!("0063{SECRET}0063")),
        Truth::True,
        "of a tool that is not told apart"
    );
}

#[test]
fn where_something_was_missed_only_what_is_found_is_known() {
    let mut full = Earlier::new(&KEY);
    let long: String = (0..1_000).map(|number| format!("{number:09}")).collect();
    assert_eq!(full.learn(None, &json!(long), 10), Learned { added: 10, is_whole: false });
    assert_eq!(ask(&asked(20, &[], &[]), &full, &json!(["something that is not there"])), Truth::Unknown);
    assert_eq!(
        ask(&asked(20, &[], &["/a"]), &full, &json!({ "b": 1 })),
        Truth::False,
        "there is nothing to look at"
    );
    assert_eq!(ask(&asked(12, &[], &[]), &full, &json!([&long[..40]])), Truth::True);
    let huge = json!(["x".repeat(CALL_CHARACTERS_MAX + 1)]);
    assert_eq!(ask(&asked(20, &[], &[]), &earlier(&[]), &huge), Truth::Unknown);
    let unread = Content::unread().with_earlier(&earlier(&[]));
    assert_eq!(asked(20, &[], &[]).ask(&unread), Truth::Unknown);
    assert_eq!(
        asked(20, &[], &[]).ask(&Content::read(b"{}", Wanted::default())),
        Truth::Unknown,
        "nobody listened"
    );
}

#[test]
fn what_comes_again_adds_nothing() {
    let mut earlier = earlier(&[(Some("a"), json!([SECRET, "short"]))]);
    let prints = earlier.prints();
    assert_eq!(earlier.learn(Some("a"), &json!([SECRET, "short"]), 0), Learned { added: 0, is_whole: true });
    assert_eq!(earlier.learn(Some("b"), &json!([SECRET]), 0), Learned { added: 0, is_whole: true });
    assert_eq!(earlier.prints(), prints);
    assert_eq!(ask(&asked(20, &["b"], &[]), &earlier, &json!([SECRET])), Truth::True);
}

fn letters(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(('a'..='z').collect::<Vec<_>>()), count)
        .prop_map(|letters| letters.into_iter().collect())
}

fn shared(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let at =
        |from: usize, to: usize| one[from..].iter().zip(&other[to..]).take_while(|(a, b)| a == b).count();
    (0..one.len()).flat_map(|from| (0..other.len()).map(move |to| at(from, to))).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_stretch_of_the_length_asked_for_is_found_and_none_that_is_much_shorter(
        stretch in letters(0..60), around in (letters(0..30), letters(0..30), letters(0..30), letters(0..30)),
        min_length in STRETCH_MIN..60,
    ) {
        let result = format!("{}{stretch}{}", around.0, around.1);
        let argument = format!("{}{stretch}{}", around.2, around.3);
        let earlier = earlier(&[(None, json!(result))]);
        let truth = ask(&asked(min_length, &[], &[]), &earlier, &json!([argument]));
        let length = shared(&result, &argument);
        let min_length = usize::try_from(min_length).unwrap();
        if length >= min_length {
            prop_assert_eq!(truth, Truth::True, "{} of {}", length, min_length);
        }
        if length < GRAM {
            prop_assert_eq!(truth, Truth::False);
        }
    }
}

#[test]
fn one_text_is_the_same_however_it_is_composed_filled_or_ends() {
    for (given, sent) in [
        (
            "Nguyễn Thị Hồng Ánh Tuyết",
            "Nguye\u{302}\u{303}n Thi\u{323} Ho\u{302}\u{300}ng A\u{301}nh Tuye\u{302}\u{301}t",
        ),
        ("ΟΔΥΣΣΕΥΣ ΟΜΗΡΟΣ ΙΛΙΑΣ", "οδυσσευς ομηρος ιλιας"),
        ("secretpassphrase", "se\u{3164}cret\u{115f}pass\u{ffa0}phrase"),
        ("secretpassphrase", "ｓｅｃｒｅｔｐａｓｓｐｈｒａｓｅ"),
        ("대한민국 서울특별시 종로구", "대한민국 서울특별시 종로구"),
    ] {
        let (asked, earlier) = (asked(12, &[], &[]), earlier(&[(None, json!(given))]));
        assert_eq!(ask(&asked, &earlier, &json!({ "body": sent })), Truth::True, "{sent}");
    }
}

fn after(tools: &[&str], earlier: &Earlier) -> Truth {
    let tools: Vec<String> = tools.iter().map(ToString::to_string).collect();
    let said = |content: Content| {
        comes_after(&Patterns::new(&tools, Condition::After.case()), &content.with_earlier(earlier))
    };
    let read = said(Content::read(b"{}", Wanted::default()));
    assert_eq!(read, said(Content::unread()), "it does not matter what the call brings");
    read
}

#[test]
fn a_tool_that_gave_something_is_known_whatever_it_gave() {
    let earlier = earlier(&[(Some("Read_Mail"), "".into()), (Some("fetch"), SECRET.into())]);
    assert_eq!(after(&["read_*"], &earlier), Truth::True);
    assert_eq!(after(&["send", "fetch"], &earlier), Truth::True);
    assert_eq!(after(&["send"], &earlier), Truth::False);
    assert_eq!(after(&["*"], &Earlier::new(&KEY)), Truth::False);
}

#[test]
fn a_tool_that_nobody_knows_may_be_any() {
    assert_eq!(after(&["send"], &earlier(&[(None, "".into())])), Truth::True);
    let names: Vec<String> = (0..=TOOLS_TOLD_APART_MAX).map(|n| format!("tool{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (Some(name.as_str()), "".into())).collect();
    assert_eq!(after(&["send"], &earlier(&many[..TOOLS_TOLD_APART_MAX])), Truth::False);
    assert_eq!(after(&["send"], &earlier(&many)), Truth::True);
}

#[test]
fn of_what_was_missed_nobody_knows_whose_it_was_but_without_room_for_prints_it_is_known() {
    let mut earlier = earlier(&[(Some("fetch"), SECRET.into())]);
    assert!(!earlier.learn(Some("read"), &"another text that has letters enough".into(), 0).is_whole);
    assert_eq!(after(&["send"], &earlier), Truth::False);
    assert_eq!(after(&["read"], &earlier), Truth::True);
    earlier.miss();
    assert_eq!(after(&["send"], &earlier), Truth::Unknown);
    assert_eq!(after(&["fetch"], &earlier), Truth::True);
    earlier.begin_anew();
    assert_eq!(after(&["send"], &earlier), Truth::False);
    assert_eq!(
        comes_after(&Patterns::new(&["*".into()], Condition::After.case()), &Content::unread()),
        Truth::Unknown
    );
}
