//! Rows of then and now, in one form: each value by what its column is.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use estoppel_policy::Determinism;
use estoppel_snapshot::{Column, Form};
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::Normalizers;
use crate::classes::rules;
use crate::difference::Difference;
use crate::exact::{Decimal, Exact, Number};
use crate::tally::POINTERS_MAX;
use crate::tolerance::{Found, Part, align};

/// Whether a place where rows would be says that there were none.
pub(super) fn has_none(then: &Value) -> bool {
    then.is_null() || then.as_array().is_some_and(Vec::is_empty)
}

/// A number of rows: a number, or what a text ends with (`INSERT 0 3`).
pub(super) fn count(then: &Value) -> Option<u64> {
    match then {
        Value::String(text) => text.rsplit(' ').next()?.parse().ok(),
        then => then.as_u64(),
    }
}

/// Rows as they were recorded and as they are found.
pub(super) struct Table<'a> {
    pub then: &'a Value,
    pub columns: &'a [Column],
    pub now: &'a [Vec<Option<String>>],
    /// The statement says in which order.
    pub is_ordered: bool,
}

/// Whether all of each row was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compared {
    Whole,
    /// But for values of which nobody knows how they were recorded; that they are none was compared.
    InPart,
}

impl Table<'_> {
    /// The recorded rows; none where it is not known which value is of which column.
    fn recorded(&self) -> Option<&[Value]> {
        let names: BTreeSet<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        match self.then {
            _ if names.len() != self.columns.len() => None,
            Value::Array(rows) => Some(rows),
            Value::Object(_) => Some(std::slice::from_ref(self.then)),
            _ => None,
        }
    }

    /// Columns whose values were recorded in another notation than the server's.
    fn opaque(&self) -> Vec<bool> {
        let rows = self.recorded().unwrap_or_default();
        let places = self.columns.iter().enumerate();
        places
            .map(|(place, column)| {
                let is_known = |value: &Value| match (column.form, value) {
                    (_, Value::Null) => true,
                    (Form::Bytes, Value::String(text)) => text.starts_with("\\x"),
                    (Form::Nested, Value::String(text)) => text.starts_with(['{', '(', '[']),
                    (Form::Bytes | Form::Nested, _) => false,
                    _ => true,
                };
                let cell = |row: &Value| match row {
                    Value::Object(members) => members.get(&column.name).is_none_or(is_known),
                    row => row.get(place).is_none_or(is_known),
                };
                !rows.iter().all(cell)
            })
            .collect()
    }
}

fn compared(opaque: &[bool]) -> Compared {
    if opaque.contains(&true) { Compared::InPart } else { Compared::Whole }
}

/// Where they differ; none where that cannot be told.
pub(super) fn compare(
    table: &Table<'_>,
    normalizers: Option<&Normalizers>,
) -> Option<(Vec<String>, Compared)> {
    let opaque = table.opaque();
    let then = table.recorded()?.iter().map(|row| recorded(table.columns, &opaque, row));
    let mut then = then.collect::<Option<Value>>()?;
    let now = table.now.iter().map(|row| found(table.columns, &opaque, row));
    let mut now = now.collect::<Option<Value>>()?;
    if let Some(normalizers) = normalizers {
        normalizers.apply(&mut then);
        normalizers.apply(&mut now);
    }
    let at = match table.is_ordered {
        true => Difference::of(&then, &now).at,
        false => unpaired(&then, &now),
    };
    Some((at, compared(&opaque)))
}

/// Where two lists differ whose order does not count: by the places of the first.
fn unpaired(then: &Value, now: &Value) -> Vec<String> {
    let texts = |rows: &Value| -> Vec<(String, usize)> {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut texts: Vec<_> = rows.iter().enumerate().map(|(at, row)| (row.to_string(), at)).collect();
        texts.sort_unstable();
        texts
    };
    let (old, new) = (texts(then), texts(now));
    let mut old = old.into_iter().peekable();
    let mut new = new.into_iter().peekable();
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.0.cmp(&new.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let of_old = old.next_if(|_| order.is_le());
        let of_new = new.next_if(|_| order.is_ge());
        if order.is_lt() {
            gone.extend(of_old.map(|(_, at)| at));
        } else if order.is_gt() {
            come.extend(of_new.map(|(_, at)| at));
        }
    }
    let mut at = Vec::new();
    for (place, old) in gone.iter().enumerate() {
        let differs = match come.get(place) {
            Some(new) => Difference::of(&then[*old], &now[*new]).at,
            None => vec![String::new()],
        };
        at.push((*old, differs));
    }
    at.sort_unstable();
    let mut at: Vec<String> = at
        .into_iter()
        .flat_map(|(old, inner)| inner.into_iter().map(move |at| format!("/{old}{at}")))
        .collect();
    if come.len() > gone.len() {
        at.push(format!("/{}", then.as_array().map_or(0, Vec::len)));
    }
    at.truncate(POINTERS_MAX);
    at
}

/// As [`compare`], by a class that is declared; no normalizers take part in it.
pub(super) fn compare_by(class: &Determinism, table: &Table<'_>) -> Option<(Found, Compared)> {
    let opaque = table.opaque();
    let now = table.now.iter().map(|row| exact_found(table.columns, &opaque, row));
    let mut now = now.collect::<Option<Vec<_>>>()?;
    let then = table.recorded()?.iter().map(|row| exact_recorded(table.columns, &opaque, row));
    let mut then = then.collect::<Option<Vec<_>>>()?;
    let rules = rules(class, Part::Rows);
    if !table.is_ordered {
        align(&mut then, rules);
        align(&mut now, rules);
    }
    Some((Found::of(&Exact::List(then), &Exact::List(now), rules), compared(&opaque)))
}

fn exact_found(columns: &[Column], opaque: &[bool], row: &[Option<String>]) -> Option<Exact> {
    let cell = |((column, opaque), cell): ((&Column, &bool), &Option<String>)| {
        let value = match (cell, column.form) {
            (None, _) => Exact::Null,
            (Some(_), _) if *opaque => Exact::Bool(true),
            (Some(text), Form::Bool) => Exact::Bool(text == "t"),
            (Some(text), Form::Json) => Exact::read(text.as_bytes())?,
            (Some(text), form) => exact_text(form, text),
        };
        Some((column.name.clone(), value))
    };
    columns.iter().zip(opaque).zip(row).map(cell).collect::<Option<_>>().map(Exact::Object)
}

fn exact_recorded(columns: &[Column], opaque: &[bool], row: &Value) -> Option<Exact> {
    let cells = cells(columns, opaque, row)?.into_iter().map(|(name, form, value)| {
        let value = match (form, value) {
            (_, Cell::There) => Exact::Bool(true),
            (Some(Form::Json), Cell::Value(Value::String(text))) => {
                Exact::read(text.as_bytes()).unwrap_or_else(|| Exact::Text(text.clone()))
            }
            (Some(form), Cell::Value(Value::String(text))) => match (form, truth(text)) {
                (Form::Bool, Some(truth)) => Exact::Bool(truth),
                _ => exact_text(form, text),
            },
            (_, Cell::Value(value)) => Exact::read(value.to_string().as_bytes())?,
        };
        Some((name.clone(), value))
    });
    cells.collect::<Option<_>>().map(Exact::Object)
}

fn exact_text(form: Form, text: &str) -> Exact {
    let number = || Some(Exact::Number(Number::Decimal(Decimal::parse(text)?)));
    let known = match form {
        Form::Number => number(),
        Form::Time => instant(text).map(Exact::Text),
        Form::Bytes => Some(Exact::Text(text.to_ascii_lowercase())),
        _ => None,
    };
    known.unwrap_or_else(|| Exact::Text(text.to_owned()))
}

fn found(columns: &[Column], opaque: &[bool], row: &[Option<String>]) -> Option<Value> {
    let cell = |((column, opaque), cell): ((&Column, &bool), &Option<String>)| {
        let value = match (cell, column.form) {
            (None, _) => Value::Null,
            (Some(_), _) if *opaque => Value::Bool(true),
            (Some(text), Form::Bool) => Value::Bool(text == "t"),
            (Some(text), Form::Json) => serde_json::from_str(text).ok()?,
            (Some(text), form) => plain(form, text),
        };
        Some((column.name.clone(), value))
    };
    columns.iter().zip(opaque).zip(row).map(cell).collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn recorded(columns: &[Column], opaque: &[bool], row: &Value) -> Option<Value> {
    let cells = cells(columns, opaque, row)?.into_iter();
    let cells = cells.map(|(name, form, value)| match value {
        Cell::There => (name.clone(), Value::Bool(true)),
        Cell::Value(value) => (name.clone(), alike(form, value)),
    });
    Some(Value::Object(cells.collect()))
}

/// A recorded value.
enum Cell<'a> {
    Value(&'a Value),
    /// That there is one is all that is compared.
    There,
}

/// None: no row, or one of which nobody can say which value is of which column.
fn cells<'a>(
    columns: &'a [Column],
    opaque: &[bool],
    row: &'a Value,
) -> Option<Vec<(&'a String, Option<Form>, Cell<'a>)>> {
    let cell = |place: usize, value: &'a Value| match opaque.get(place) {
        Some(true) if !value.is_null() => Cell::There,
        _ => Cell::Value(value),
    };
    match row {
        Value::Object(members) => {
            let place = |name: &str| columns.iter().position(|column| column.name == name);
            let cells = members.iter().map(|(name, value)| match place(name) {
                Some(place) => (name, Some(columns[place].form), cell(place, value)),
                None => (name, None, Cell::Value(value)),
            });
            Some(cells.collect())
        }
        Value::Array(cells) if cells.len() == columns.len() => {
            let cells = columns.iter().zip(cells).enumerate();
            Some(
                cells
                    .map(|(at, (column, value))| (&column.name, Some(column.form), cell(at, value)))
                    .collect(),
            )
        }
        _ => None,
    }
}

/// A recorded value as the server's text of it would be read.
fn alike(form: Option<Form>, value: &Value) -> Value {
    match (form, value) {
        (Some(Form::Number), Value::Number(number)) => plain(Form::Number, &number.to_string()),
        (Some(Form::Bool), Value::String(text)) => truth(text).map_or_else(|| value.clone(), Value::Bool),
        (Some(Form::Json), Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        (Some(form), Value::String(text)) => plain(form, text),
        _ => value.clone(),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "t" | "true" => Some(true),
        "f" | "false" => Some(false),
        _ => None,
    }
}

fn plain(form: Form, text: &str) -> Value {
    match form {
        Form::Number => number(text),
        Form::Time => instant(text).map_or_else(|| text.into(), Value::from),
        Form::Bytes => text.to_ascii_lowercase().into(),
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

    fn table<'a>(then: &'a Value, columns: &'a [Column], now: &'a [Vec<Option<String>>]) -> Table<'a> {
        Table { then, columns, now, is_ordered: false }
    }

    fn cells(now: &[[&str; 2]]) -> Vec<Vec<Option<String>>> {
        now.iter().map(|row| row.map(|cell| Some(cell.to_owned())).to_vec()).collect()
    }

    /// Both ways of comparing give the same.
    fn check(form: Form, then: Value, now: &str, expected: (bool, Compared)) {
        let columns = columns(&[("c", form)]);
        let (rows, now_rows) = (json!([{"c": then}]), [vec![Some(now.into())]]);
        let table = table(&rows, &columns, &now_rows);
        let (at, compared) = compare(&table, None).unwrap();
        assert_eq!((at.is_empty(), compared), expected, "{form:?} {then} {now}");
        let (found, compared) = compare_by(&Determinism::E0, &table).unwrap();
        assert_eq!((found.at.is_empty(), compared), expected, "{form:?} {then} {now}");
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
            (Form::Bool, json!("true"), "t", true),
            (Form::Bool, json!("f"), "t", false),
            (Form::Bool, json!(1), "t", false),
            (Form::Bytes, json!("\\xDEAD"), "\\xdead", true),
            (Form::Bytes, json!("\\xDEAD"), "\\xbeef", false),
            (Form::Nested, json!("{1,2}"), "{1,2}", true),
            (Form::Nested, json!("{1,2}"), "{2,1}", false),
            (Form::Number, json!("NaN"), "NaN", true),
            (Form::Json, json!({"a": [1]}), r#"{"a":  [1]}"#, true),
            (Form::Json, json!(r#"{"a":[1]}"#), r#"{"a": [1]}"#, true),
            (Form::Time, json!("2026-01-02T03:04:05.000Z"), "2026-01-02 03:04:05+00", true),
            (Form::Time, json!("2026-01-02T04:04:05.5+01:00"), "2026-01-02 03:04:05.5", true),
            (Form::Time, json!("2026-01-02T03:04:06Z"), "2026-01-02 03:04:05+00", false),
        ] {
            check(form, then, now, (expected, Compared::Whole));
        }
        check(Form::Nested, json!([1]), "{1}", (true, Compared::InPart));
        check(Form::Nested, json!("1"), "{1}", (true, Compared::InPart));
        check(Form::Bytes, json!({"type": "Buffer", "data": [1]}), "\\x01", (true, Compared::InPart));
        check(Form::Nested, json!(null), "{1}", (false, Compared::Whole));
    }

    #[test]
    fn what_is_not_compared_does_not_hide_what_is() {
        let columns = columns(&[("tags", Form::Nested), ("name", Form::Text)]);
        let then = json!([{"tags": ["a"], "name": "x"}, {"tags": ["b"], "name": "y"}]);
        let check = |now: &[[Option<&str>; 2]], expected: &[&str]| {
            let now: Vec<Vec<_>> =
                now.iter().map(|row| row.map(|cell| cell.map(ToOwned::to_owned)).to_vec()).collect();
            let (at, compared) = compare(&table(&then, &columns, &now), None).unwrap();
            assert_eq!(
                (at.as_slice(), compared),
                (&*expected.iter().map(ToString::to_string).collect::<Vec<_>>(), Compared::InPart)
            );
        };
        check(&[[Some("{b}"), Some("y")], [Some("{c}"), Some("x")]], &[]);
        check(&[[Some("{b}"), Some("z")], [Some("{c}"), Some("x")]], &["/1/name"]);
        check(&[[None, Some("y")], [Some("{c}"), Some("x")]], &["/1/tags"]);
    }

    #[test]
    fn order_counts_where_the_statement_asks_for_one() {
        let columns = columns(&[("id", Form::Number), ("name", Form::Text)]);
        let now = cells(&[["1", "a"], ["2", "b"]]);
        let at = |then: Value, is_ordered| {
            let table = Table { then: &then, columns: &columns, now: &now, is_ordered };
            compare(&table, None).map(|(at, _)| at)
        };
        let other_order = json!([[2, "b"], [1, "a"]]);
        assert_eq!(at(other_order.clone(), false), Some(vec![]));
        assert_eq!(at(other_order, true).unwrap(), ["/0/id", "/0/name", "/1/id", "/1/name"]);
        for is_ordered in [false, true] {
            assert_eq!(at(json!([[1, "a"]]), is_ordered).unwrap(), ["/1"], "one more");
            assert_eq!(at(json!([[1, "a"], [2, "b"], [2, "b"]]), is_ordered).unwrap(), ["/2"], "one less");
            assert_eq!(at(json!([{"id": 1}, [2, "b"]]), is_ordered).unwrap(), ["/0/name"]);
            assert_eq!(at(json!("2 rows"), is_ordered), None);
            assert_eq!(at(json!([[1], [2]]), is_ordered), None);
        }
        assert_eq!(
            at(json!([[2, "b"], [1, "c"]]), false).unwrap(),
            ["/1/name"],
            "named by its recorded place"
        );
        assert_eq!(at(json!([[3, "c"], [2, "b"], [1, "a"]]), false).unwrap(), ["/0"]);
        assert_eq!(at(json!([]), false).unwrap(), ["/0"]);
    }

    #[test]
    fn columns_that_share_a_name_are_not_compared() {
        let columns = columns(&[("n", Form::Number), ("n", Form::Number)]);
        let (then, now) = (json!([[1, 2]]), cells(&[["1", "2"]]));
        let table = table(&then, &columns, &now);
        assert_eq!(compare(&table, None), None);
        assert_eq!(compare_by(&Determinism::E0, &table), None);
    }

    #[test]
    fn a_number_of_rows_is_a_number_or_the_end_of_a_tag() {
        for (then, expected) in [
            (json!(3), Some(3)),
            (json!("3"), Some(3)),
            (json!("UPDATE 3"), Some(3)),
            (json!("INSERT 0 3"), Some(3)),
            (json!("CREATE TABLE"), None),
            (json!(-1), None),
            (json!(1.5), None),
            (json!([3]), None),
            (json!(""), None),
        ] {
            assert_eq!(count(&then), expected, "{then}");
        }
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
            let (found, _) = compare_by(class, &table(&then, &columns, now)).unwrap();
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
        assert_eq!(compare_by(&cent, &table(&json!("2 rows"), &columns, &same)), None);
    }

    #[test]
    fn declared_values_may_differ() {
        let file = br#"{"normalize":[{"as":"time","at":"/*/at"}],"v":"replay-normalizers/v0"}"#;
        let normalizers = Normalizers::parse(file).unwrap();
        let columns = columns(&[("at", Form::Time)]);
        let then = json!([{"at": "2020-01-01T00:00:00Z"}]);
        let now = [vec![Some("2026-01-02 03:04:05+00".to_owned())]];
        let table = table(&then, &columns, &now);
        assert_eq!(compare(&table, Some(&normalizers)), Some((vec![], Compared::Whole)));
        assert_eq!(compare(&table, None).unwrap().0, ["/0/at"]);
    }
}
