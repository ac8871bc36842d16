use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::splits::{cut, every_split};

fn contract(value: &Value) -> Arc<Contract> {
    Arc::new(Contract::parse(value.to_string().as_bytes()).unwrap())
}

fn judge(contract: &Arc<Contract>, chunks: &[&[u8]]) -> Result<Summary, Violation> {
    let mut check = Check::new(Arc::clone(contract));
    for chunk in chunks {
        check.feed(chunk)?;
    }
    check.finish()
}

/// The verdict on the whole, after making sure that no cut changes it.
fn verdict(contract: &Value, body: &str) -> Result<Summary, Violation> {
    let contract = self::contract(contract);
    let whole = judge(&contract, &[body.as_bytes()]);
    every_split(body.as_bytes(), |chunks| assert_eq!(judge(&contract, chunks), whole, "{chunks:?}"));
    whole
}

type Found = (Finding, u64, Option<u32>, Option<String>, u64);

fn found(contract: &Value, body: &str) -> Found {
    let violation = verdict(contract, body).expect_err(body);
    let name = violation.name.map(String::from);
    (violation.finding, violation.row, violation.column, name, violation.offset)
}

fn payments() -> Value {
    json!({
        "version": 1,
        "rows": { "min": 1, "max": 4 },
        "columns": [
            { "name": "id", "type": "integer", "required": true, "unique": true, "min": 1 },
            { "name": "amount", "type": "number", "min": -1000.05, "max": 9007199254740992.5 },
            { "name": "currency", "enum": ["EUR", "USD"], "required": true },
            { "name": "booked", "type": "date", "min": "2026-01-01" },
            { "name": "at", "type": "date-time", "max": "2026-12-31T23:59:59Z" },
            { "name": "done", "type": "boolean" },
            { "name": "note", "pattern": "[^<>]*", "min_length": 2, "max_length": 5 }
        ]
    })
}

const HEADER: &str = "id,amount,currency,booked,at,done,note\n";

#[test]
fn a_body_that_keeps_its_contract_passes() {
    let body = format!(
        "{HEADER}1,-12.50,EUR,2026-03-01,2026-03-01T10:00:00Z,true,größe\n+2,,\"USD\",,,,\n3,1e3,EUR,,,,\"\"\n"
    );
    let summary = verdict(&payments(), &body).unwrap();
    assert_eq!(summary, Summary { rows: 3, columns: 7, bytes: body.len() as u64 });
}

/// Requirement CLY-2.5.
#[test]
fn ragged_row_bad_quote_and_formula_are_blocked_with_their_row() {
    for (row, finding) in [
        ("2,5,EUR,,,", Finding::RaggedRow),
        ("2,5\",EUR,,,,", Finding::StrayQuote),
        ("2,5,EUR,,,,=1+1", Finding::Formula),
    ] {
        let (what, at, ..) = found(&payments(), &format!("{HEADER}1,5,EUR,,,,\n{row}\n"));
        assert_eq!((what, at), (finding, 3), "{row}");
    }
}

#[test]
fn each_value_is_judged_at_its_place() {
    let cases: [(&str, Finding, u32, &str, u64); 26] = [
        ("x,5,EUR,,,,", Finding::ValueType, 1, "id", 0),
        ("1.0,5,EUR,,,,", Finding::ValueType, 1, "id", 0),
        (",5,EUR,,,,", Finding::ValueRequired, 1, "id", 0),
        ("\"\",5,EUR,,,,", Finding::ValueRequired, 1, "id", 0),
        ("0,5,EUR,,,,", Finding::ValueMin, 1, "id", 0),
        ("-1,5,EUR,,,,", Finding::ValueMin, 1, "id", 0),
        ("1,five,EUR,,,,", Finding::ValueType, 2, "amount", 2),
        ("1,-,EUR,,,,", Finding::ValueType, 2, "amount", 2),
        ("1,-5+cmd|' /C calc'!A0,EUR,,,,", Finding::ValueType, 2, "amount", 2),
        ("1,NaN,EUR,,,,", Finding::ValueType, 2, "amount", 2),
        ("1,-1000.06,EUR,,,,", Finding::ValueMin, 2, "amount", 2),
        ("1,9007199254740992.51,EUR,,,,", Finding::ValueMax, 2, "amount", 2),
        ("1,=5,EUR,,,,", Finding::Formula, 2, "amount", 2),
        ("1,5,GBP,,,,", Finding::ValueEnum, 3, "currency", 4),
        ("1,5,eur,,,,", Finding::ValueEnum, 3, "currency", 4),
        ("1,5,,,,,", Finding::ValueRequired, 3, "currency", 4),
        ("1,5,EUR,2026-02-30,,,", Finding::ValueType, 4, "booked", 8),
        ("1,5,EUR,2025-12-31,,,", Finding::ValueMin, 4, "booked", 8),
        ("1,5,EUR,,2026-11-21,,", Finding::ValueType, 5, "at", 9),
        ("1,5,EUR,,2026-12-31T23:59:60Z,,", Finding::ValueMax, 5, "at", 9),
        ("1,5,EUR,,,TRUE,", Finding::ValueType, 6, "done", 10),
        ("1,5,EUR,,,,x", Finding::LengthMin, 7, "note", 11),
        ("1,5,EUR,,,,größer", Finding::LengthMax, 7, "note", 11),
        ("1,5,EUR,,,,\"<b>\"", Finding::ValuePattern, 7, "note", 11),
        ("1,5,EUR,,,,\"\t=1\"", Finding::Formula, 7, "note", 11),
        ("1,5,EUR,,,,＝1+1", Finding::Formula, 7, "note", 11),
    ];
    for (row, finding, column, name, offset) in cases {
        let offset = HEADER.len() as u64 + offset;
        let expected = (finding, 2, Some(column), Some(name.to_string()), offset);
        assert_eq!(found(&payments(), &format!("{HEADER}{row}\n")), expected, "{row}");
    }
}

#[test]
fn rows_are_counted_without_the_header() {
    let rows = |n: u64| (1..=n).fold(HEADER.to_string(), |body, n| body + &format!("{n},,EUR,,,,\n"));
    assert_eq!(found(&payments(), &rows(0)), (Finding::RowsMin, 2, None, None, 39));
    assert!(verdict(&payments(), &rows(4)).is_ok());
    assert_eq!(found(&payments(), &rows(5)), (Finding::RowsMax, 6, None, None, 39 + 4 * 11));
}

#[test]
fn formulas_are_blocked_in_every_column_unless_allowed() {
    let columns =
        json!([{ "name": "a" }, { "name": "n", "type": "number" }, { "name": "d", "type": "date" }]);
    let mut contract = json!({ "version": 1, "extra_columns": "allow", "columns": columns });
    for value in
        ["=1", "+1", "-1", "@x", "\t1", "\"\r\n1\"", "\"\n1\"", "\"=1\"", "\"-1\"", "＋1", "－1", "＠x"]
    {
        for (column, row) in
            [(1, format!("{value},1,,x")), (3, format!("x,1,{value},x")), (4, format!("x,1,,{value}"))]
        {
            let found = found(&contract, &format!("a,n,d,extra\n{row}\n"));
            assert_eq!((found.0, found.1, found.2), (Finding::Formula, 2, Some(column)), "{row:?}");
        }
    }
    assert!(verdict(&contract, "a,n,d,extra\nx,-1,,x\nx,+1,,x\n").is_ok());
    assert_eq!(found(&contract, "a,n,d,extra\nx,－1,,x\n").0, Finding::Formula);
    assert_eq!(found(&contract, "a,n,d,=cmd\nx,1,,x\n").0, Finding::Formula);
    contract["formulas"] = json!("allow");
    assert!(verdict(&contract, "a,n,d,=cmd\n=1,-1,,@x\n").is_ok());
}

#[test]
fn the_header_is_held_against_the_contract() {
    let contract = |order: &str, extra: &str| {
        json!({
            "version": 1, "header": order, "extra_columns": extra, "columns": [{ "name": "a" }, { "name": "b" }]
        })
    };
    let passes = |order, extra, header: &str| {
        verdict(&contract(order, extra), &format!("{header}\n")).map(|_| ()).map_err(|violation| {
            (violation.finding, violation.column, violation.name.map(String::from), violation.offset)
        })
    };
    let some = |name: &str| Some(name.to_string());
    assert_eq!(passes("exact-order", "deny", "a,b"), Ok(()));
    assert_eq!(passes("exact-order", "deny", "b,a"), Err((Finding::ColumnOrder, Some(1), some("b"), 0)));
    assert_eq!(passes("exact-order", "deny", "a,x,b"), Err((Finding::ColumnExtra, Some(2), some("x"), 2)));
    assert_eq!(passes("exact-order", "deny", "a"), Err((Finding::ColumnMissing, None, some("b"), 0)));
    assert_eq!(passes("exact-order", "deny", "A,b"), Err((Finding::ColumnExtra, Some(1), some("A"), 0)));
    assert_eq!(passes("exact-order", "allow", "x,a,y,b,z"), Ok(()));
    assert_eq!(passes("exact-order", "allow", "x,b,a"), Err((Finding::ColumnOrder, Some(2), some("b"), 2)));
    assert_eq!(passes("any-order", "deny", "b,a"), Ok(()));
    assert_eq!(passes("any-order", "deny", "b,a,c"), Err((Finding::ColumnExtra, Some(3), some("c"), 4)));
    assert_eq!(passes("any-order", "allow", "c,b,\"a\""), Ok(()));
    assert_eq!(passes("any-order", "allow", "c,b"), Err((Finding::ColumnMissing, None, some("a"), 0)));
    assert_eq!(passes("any-order", "deny", "a;b"), Err((Finding::ColumnExtra, Some(1), some("a;b"), 0)));
}

#[test]
fn values_follow_their_column_wherever_it_stands() {
    let columns = json!([{ "name": "a", "type": "integer" }, { "name": "b", "type": "boolean" }]);
    let contract =
        json!({ "version": 1, "header": "any-order", "extra_columns": "allow", "columns": columns });
    assert!(verdict(&contract, "x,b,a\n?,true,1\n").is_ok());
    let expected = (Finding::ValueType, 2, Some(3), Some("a".to_string()), 13);
    assert_eq!(found(&contract, "x,b,a\n?,true,one\n"), expected);
}

#[test]
fn without_a_header_columns_are_told_by_position() {
    let mut contract = json!({
        "version": 1, "header": "absent", "delimiter": "\t",
        "columns": [{ "name": "a", "type": "integer" }, { "name": "b" }]
    });
    assert!(verdict(&contract, "1\tx\n2\ty\n").is_ok());
    let name = |name: &str| Some(name.to_string());
    assert_eq!(found(&contract, "1\tx\ny\tx\n"), (Finding::ValueType, 2, Some(1), name("a"), 4));
    assert_eq!(found(&contract, "1\n2\n"), (Finding::ColumnMissing, 1, Some(2), name("b"), 1));
    assert_eq!(found(&contract, "1\tx\tz\n"), (Finding::ColumnExtra, 1, Some(3), None, 4));
    contract["extra_columns"] = json!("allow");
    assert!(verdict(&contract, "1\tx\tz\n").is_ok());
    assert_eq!(found(&contract, "1\tx\t=z\n").0, Finding::Formula);
}

#[test]
fn unique_values_are_told_apart_by_what_they_are() {
    let contract = |kind: &str| json!({ "version": 1, "columns": [{ "name": "a", "type": kind, "unique": true }, { "name": "b" }] });
    for (kind, twice) in [
        ("string", ["x", "\"x\""]),
        ("integer", ["7", "+07"]),
        ("number", ["100", "1e2"]),
        ("date-time", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00.0+01:00"]),
        ("boolean", ["true", "true"]),
    ] {
        let body = format!("a,b\n{},1\n,2\n,3\n{},4\n", twice[0], twice[1]);
        let found = found(&contract(kind), &body);
        assert_eq!((found.0, found.1, found.2), (Finding::ValueDuplicate, 5, Some(1)), "{kind}");
    }
    assert!(verdict(&contract("string"), "a,b\n1,1\n01,1\n1.0,1\n").is_ok());
}

#[test]
fn more_unique_values_than_can_be_remembered_are_a_finding_and_never_a_pass() {
    let columns = json!([{ "name": "a", "unique": true }, { "name": "b", "unique": true }]);
    let contract = json!({ "version": 1, "limits": { "unique_values_max": 4 }, "columns": columns });
    assert!(verdict(&contract, "a,b\n1,1\n2,2\n").is_ok());
    let name = Some("a".to_string());
    assert_eq!(found(&contract, "a,b\n1,1\n2,2\n3,\n"), (Finding::UniqueValuesMax, 4, Some(1), name, 12));
    assert_eq!(found(&contract, "a,b\n1,1\n2,2\n2,\n").0, Finding::ValueDuplicate);
}

#[test]
fn a_long_body_is_judged_in_constant_memory() {
    let contract = contract(&json!({
        "version": 1,
        "columns": [
            { "name": "id", "type": "integer", "required": true },
            { "name": "amount", "type": "number", "min": 0 },
            { "name": "text", "max_length": 200, "pattern": "[^<>]*" }
        ]
    }));
    let mut check = Check::new(contract);
    check.feed(b"id,amount,text\n").unwrap();
    let (mut bytes, mut warm) = (15, None);
    for n in 0..200_000_u64 {
        let row = format!("{n},{}.5,\"the chain binds call \"\"{n}\"\",\nand so on\"\n", n * 3);
        let (head, tail) = row.as_bytes().split_at((n * 31) as usize % row.len());
        check.feed(head).unwrap();
        check.feed(tail).unwrap();
        bytes += row.len() as u64;
        if n == 1000 {
            warm = Some(check.held_bytes());
        }
    }
    let held = check.held_bytes();
    assert!(held <= warm.unwrap() + 64, "{held} bytes after {bytes}, {warm:?} after 1000 rows");
    assert!(held < 2048 && bytes > 8 * 1024 * 1024, "{held}, {bytes}");
    assert_eq!(check.finish(), Ok(Summary { rows: 200_000, columns: 3, bytes }));
}

#[test]
fn the_set_of_unique_values_is_what_the_contract_allows() {
    let contract = contract(&json!({
        "version": 1, "limits": { "unique_values_max": 50_000 }, "columns": [{ "name": "a", "unique": true }]
    }));
    let mut check = Check::new(contract);
    check.feed(b"a\n").unwrap();
    for n in 0..50_000 {
        check.feed(format!("{n}\n").as_bytes()).unwrap();
    }
    let held = check.held_bytes();
    assert!(held < 50_000 * 48, "{held}");
    assert_eq!(check.feed(b"x\n").unwrap_err().finding, Finding::UniqueValuesMax);
    assert_eq!(check.held_bytes(), held);
}

proptest! {
    #[test]
    fn no_cut_changes_a_verdict(
        rows in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![
                "[0-9]{1,3}", "-?[0-9]\\.[0-9]", Just("EUR".to_string()), Just("2026-03-01".to_string()),
                Just("\"a\"\"b\"".to_string()), Just(String::new()), Just("=1".to_string()), Just("größe".to_string()),
                Just("true".to_string()), Just("\"".to_string()),
            ], 6..8),
            0..4,
        ),
        places in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let rows: Vec<String> = rows.iter().map(|row| row.join(",")).collect();
        let body = format!("{HEADER}{}", rows.join("\n"));
        let contract = contract(&payments());
        let whole = judge(&contract, &[body.as_bytes()]);
        prop_assert_eq!(judge(&contract, &cut(body.as_bytes(), &places)), whole.clone());
        let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        prop_assert_eq!(judge(&contract, &single), whole);
    }
}
