//! Rows of then and now, in one form: each value by what its column is.

use estoppel_evidence::Sha256;
use estoppel_policy::Determinism;
use estoppel_snapshot::{Column, Form};
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::Normalizers;
use crate::classes::rules;
use crate::difference::Difference;
use crate::exact::{Decimal, Exact, Number};
use crate::tolerance::{Found, Part, align};

/// Whether a place where rows would be says that there were none.
pub(super) fn has_none(then: &Value) -> bool {
    then.is_null() || then.as_array().is_some_and(Vec::is_empty)
}

/// Where they differ; none where that cannot be told.
pub(super) fn compare(
    then: &Value,
    columns: &[Column],
    now: &[Vec<Option<String>>],
    is_ordered: bool,
    normalizers: Option<&Normalizers>,
) -> Option<Vec<String>> {
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    let has_unique_names = names.windows(2).all(|two| two[0] != two[1]);
    let now = now.iter().map(|row| found(columns, row)).collect::<Option<Vec<Value>>>()?;
    let then = match then {
        Value::Array(rows) => rows.clone(),
        Value::Object(_) => vec![then.clone()],
        _ => return None,
    };
    let then = then.iter().map(|row| recorded(columns, row, has_unique_names)).collect::<Option<Vec<_>>>()?;
    let (mut then, mut now) = (Value::from(then), Value::from(now));
    if let Some(normalizers) = normalizers {
        normalizers.apply(&mut then);
        normalizers.apply(&mut now);
    }
    if !is_ordered {
        sort(&mut then);
        sort(&mut now);
    }
    let digest = |rows: &Value| Sha256::of(rows.to_string().as_bytes());
    if digest(&then) == digest(&now) {
        return Some(Vec::new());
    }
    let at = Difference::of(&then, &now).at;
    Some(if at.is_empty() { vec![String::new()] } else { at })
}

/// As [`compare`], by a class that is declared; no normalizers take part in it.
pub(super) fn compare_by(
    class: &Determinism,
    then: &Value,
    columns: &[Column],
    now: &[Vec<Option<String>>],
    is_ordered: bool,
) -> Option<Found> {
    let then = match then {
        Value::Array(rows) => rows.as_slice(),
        Value::Object(_) => std::slice::from_ref(then),
        _ => return None,
    };
    let names: std::collections::BTreeSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if names.len() != columns.len() {
        return None;
    }
    let mut now = now.iter().map(|row| exact_found(columns, row)).collect::<Option<Vec<_>>>()?;
    let mut then = then.iter().map(|row| exact_recorded(columns, row)).collect::<Option<Vec<_>>>()?;
    let rules = rules(class, Part::Rows);
    if !is_ordered {
        align(&mut then, rules);
        align(&mut now, rules);
    }
    Some(Found::of(&Exact::List(then), &Exact::List(now), rules))
}

fn exact_found(columns: &[Column], row: &[Option<String>]) -> Option<Exact> {
    let cell = |(column, cell): (&Column, &Option<String>)| {
        let value = match (cell, column.form) {
            (None, _) => Exact::Null,
            (Some(_), Form::Nested) => return None,
            (Some(text), Form::Bool) => Exact::Bool(text == "t"),
            (Some(text), Form::Json) => Exact::read(text.as_bytes())?,
            (Some(text), form) => exact_text(form, text),
        };
        Some((column.name.clone(), value))
    };
    columns.iter().zip(row).map(cell).collect::<Option<_>>().map(Exact::Object)
}

fn exact_recorded(columns: &[Column], row: &Value) -> Option<Exact> {
    let cell = |form: Option<Form>, value: &Value| match (form, value) {
        (Some(form @ (Form::Number | Form::Time)), Value::String(text)) => Some(exact_text(form, text)),
        (Some(Form::Json), Value::String(text)) => {
            Some(Exact::read(text.as_bytes()).unwrap_or_else(|| Exact::Text(text.clone())))
        }
        _ => Exact::read(value.to_string().as_bytes()),
    };
    let form = |name: &str| columns.iter().find(|column| column.name == name).map(|column| column.form);
    let members = match row {
        Value::Object(members) => {
            let cells = members.iter().map(|(name, value)| Some((name.clone(), cell(form(name), value)?)));
            cells.collect::<Option<_>>()?
        }
        Value::Array(cells) if cells.len() == columns.len() => {
            let cells = columns.iter().zip(cells);
            let cells =
                cells.map(|(column, value)| Some((column.name.clone(), cell(Some(column.form), value)?)));
            cells.collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Exact::Object(members))
}

fn exact_text(form: Form, text: &str) -> Exact {
    let number = || Some(Exact::Number(Number::Decimal(Decimal::parse(text)?)));
    let known = match form {
        Form::Number => number(),
        Form::Time => instant(text).map(Exact::Text),
        _ => None,
    };
    known.unwrap_or_else(|| Exact::Text(text.to_owned()))
}

fn sort(rows: &mut Value) {
    if let Some(rows) = rows.as_array_mut() {
        rows.sort_by_cached_key(Value::to_string);
    }
}

fn found(columns: &[Column], row: &[Option<String>]) -> Option<Value> {
    let cell = |(column, cell): (&Column, &Option<String>)| {
        let value = match (cell, column.form) {
            (None, _) => Value::Null,
            (Some(_), Form::Nested) => return None,
            (Some(text), Form::Bool) => Value::Bool(text == "t"),
            (Some(text), Form::Json) => serde_json::from_str(text).ok()?,
            (Some(text), form) => plain(form, text),
        };
        Some((column.name.clone(), value))
    };
    columns.iter().zip(row).map(cell).collect::<Option<Map<_, _>>>().map(Value::Object)
}

/// None: no row, or one of which nobody can say which value is of which column.
fn recorded(columns: &[Column], row: &Value, has_unique_names: bool) -> Option<Value> {
    if !has_unique_names {
        return None;
    }
    let form = |name: &str| columns.iter().find(|column| column.name == name).map(|column| column.form);
    match row {
        Value::Object(members) => {
            let cells = members.iter().map(|(name, value)| (name.clone(), alike(form(name), value)));
            Some(Value::Object(cells.collect()))
        }
        Value::Array(cells) if cells.len() == columns.len() => {
            let cells = columns.iter().zip(cells);
            Some(Value::Object(
                cells.map(|(column, value)| (column.name.clone(), alike(Some(column.form), value))).collect(),
            ))
        }
        _ => None,
    }
}

/// A recorded value as the server's text of it would be read.
fn alike(form: Option<Form>, value: &Value) -> Value {
    match (form, value) {
        (Some(Form::Number), Value::Number(number)) => plain(Form::Number, &number.to_string()),
        (Some(form @ (Form::Number | Form::Time)), Value::String(text)) => plain(form, text),
        (Some(Form::Json), Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        _ => value.clone(),
    }
}

fn plain(form: Form, text: &str) -> Value {
    match form {
        Form::Number => number(text),
        Form::Time => instant(text).map_or_else(|| text.into(), Value::from),
        _ => text.into(),
    }
}

/// Whole numbers as they are, others as the double next to them; what no double holds stays a text, without zeros at its end.
fn number(text: &str) -> Value {
    const DIGITS_MAX: usize = 15;
    let shortened = match text.contains('.') && !text.contains(['e', 'E']) {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    let digits = shortened.bytes().filter(u8::is_ascii_digit).count();
    let whole =
        shortened.parse::<i64>().map(Value::from).or_else(|_| shortened.parse::<u64>().map(Value::from));
    whole.unwrap_or_else(|_| match shortened.parse::<f64>() {
        Ok(number) if number.is_finite() && digits <= DIGITS_MAX => {
            let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
            // Exact below 2^53.
            if is_whole { Value::from(number as i64) } else { Value::from(number) }
        }
        _ => shortened.into(),
    })
}

/// RFC 3339 in UTC. Postgres writes a blank for the `T`, and no minutes of an offset that has none.
fn instant(text: &str) -> Option<String> {
    let mut text = text.replacen(' ', "T", 1);
    let (_, clock) = text.split_once('T')?;
    match clock.rfind(['+', '-', 'Z']).and_then(|at| clock.get(at..)) {
        None => text.push('Z'),
        Some(offset) if offset.len() == 3 => text.push_str(":00"),
        Some(_) => {}
    }
    let at = OffsetDateTime::parse(&text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    let (month, day) = (u8::from(at.month()), at.day());
    let ((hour, minute, second), nanos) = (at.to_hms(), at.nanosecond());
    Some(format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z", at.year()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns(forms: &[(&str, Form)]) -> Vec<Column> {
        forms.iter().map(|(name, form)| Column { name: (*name).into(), form: *form }).collect()
    }

    fn check(form: Form, then: Value, now: &str, expected: Option<bool>) {
        let columns = columns(&[("c", form)]);
        let found = compare(&json!([{"c": then}]), &columns, &[vec![Some(now.into())]], true, None);
        assert_eq!(found.map(|at| at.is_empty()), expected, "{form:?} {then} {now}");
    }

    #[test]
    fn values_are_equal_as_their_columns_mean_them() {
        for (form, then, now, expected) in [
            (Form::Number, json!(12.5), "12.50", true),
            (Form::Number, json!("12.50"), "12.5", true),
            (Form::Number, json!(12), "12.00", true),
            (Form::Number, json!(13), "12", false),
            (
                Form::Number,
                json!("123456789012345678901234567890.1"),
                "123456789012345678901234567890.10",
                true,
            ),
            (
                Form::Number,
                json!("123456789012345678901234567890.1"),
                "123456789012345678901234567890.2",
                false,
            ),
            (Form::Number, json!(9_007_199_254_740_993_i64), "9007199254740993", true),
            (Form::Text, json!("12.50"), "12.5", false),
            (Form::Text, json!("x"), "x", true),
            (Form::Bool, json!(true), "t", true),
            (Form::Bool, json!(false), "t", false),
            (Form::Json, json!({"a": [1]}), r#"{"a":  [1]}"#, true),
            (Form::Json, json!(r#"{"a":[1]}"#), r#"{"a": [1]}"#, true),
            (Form::Time, json!("2026-01-02T03:04:05.000Z"), "2026-01-02 03:04:05+00", true),
            (Form::Time, json!("2026-01-02T04:04:05.5+01:00"), "2026-01-02 03:04:05.5", true),
            (Form::Time, json!("2026-01-02T03:04:06Z"), "2026-01-02 03:04:05+00", false),
        ] {
            check(form, then, now, Some(expected));
        }
        check(Form::Nested, json!([1]), "{1}", None);
    }

    #[test]
    fn order_counts_where_the_statement_asks_for_one() {
        let columns = columns(&[("id", Form::Number), ("name", Form::Text)]);
        let now = [["1", "a"], ["2", "b"]].map(|row| row.map(|cell| Some(cell.to_owned())).to_vec());
        let then = json!([[2, "b"], [1, "a"]]);
        let at = |is_ordered| compare(&then, &columns, &now, is_ordered, None);
        assert_eq!(at(false), Some(vec![]));
        assert_eq!(at(true).unwrap(), ["/0/id", "/0/name", "/1/id", "/1/name"]);
        let fewer = compare(&json!([[1, "a"]]), &columns, &now, false, None);
        assert_eq!(fewer.unwrap(), ["/1"]);
        assert_eq!(compare(&json!("2 rows"), &columns, &now, false, None), None);
        assert_eq!(compare(&json!([{"id": 1}]), &columns, &now[..1], false, None).unwrap(), ["/0/name"]);
    }

    #[test]
    fn rows_are_compared_by_a_declared_class() {
        use estoppel_policy::{Amount, Tolerance, Tolerances, ValuePath, Within};
        let price = ValuePath::parse("/*/price").unwrap();
        let rule = Tolerance { at: price, within: Within::Absolute(Amount::parse("0.01").unwrap()) };
        let cent = Determinism::E1(Tolerances { rows: vec![rule], ..Tolerances::default() });
        let columns = columns(&[("id", Form::Number), ("price", Form::Number)]);
        let row = |id: &str, price: &str| vec![Some(id.to_owned()), Some(price.to_owned())];
        let then = json!([{"id": 1, "price": "12.50"}, [2, 0.1]]);
        let check = |class: &Determinism, now: &[Vec<Option<String>>], at: &[&str], tolerated: u64| {
            let found = compare_by(class, &then, &columns, now, false).unwrap();
            assert_eq!(
                (found.at.as_slice(), found.tolerated_count),
                (&*at.iter().map(ToString::to_string).collect::<Vec<_>>(), tolerated)
            );
        };
        let same = [row("2", "0.10"), row("1", "12.5")];
        check(&Determinism::E0, &same, &[], 0);
        check(&cent, &same, &[], 0);
        let near = [row("2", "0.11"), row("1", "12.49")];
        check(&cent, &near, &[], 2);
        check(&Determinism::E0, &near, &["/0/price", "/1/price"], 0);
        check(&cent, &[row("2", "0.11"), row("1", "NaN")], &["/0/price"], 1);
        assert_eq!(compare_by(&cent, &json!("2 rows"), &columns, &same, false), None);
    }

    #[test]
    fn declared_values_may_differ() {
        let file = br#"{"normalize":[{"as":"time","at":"/*/at"}],"v":"replay-normalizers/v0"}"#;
        let normalizers = Normalizers::parse(file).unwrap();
        let columns = columns(&[("at", Form::Time)]);
        let then = json!([{"at": "2020-01-01T00:00:00Z"}]);
        let now = [vec![Some("2026-01-02 03:04:05+00".to_owned())]];
        assert_eq!(compare(&then, &columns, &now, true, Some(&normalizers)), Some(vec![]));
        assert_eq!(compare(&then, &columns, &now, true, None).unwrap(), ["/0/at"]);
    }
}
