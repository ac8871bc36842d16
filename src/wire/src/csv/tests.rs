//! The reader, without a contract.

mod hostile;
mod oracle;

use super::*;
use crate::splits::every_split;

/// What one body came to: the fields it was read as, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub names: Vec<Vec<u8>>,
    pub rows: Vec<Vec<Vec<u8>>>,
    pub verdict: Result<Summary, Violation>,
}

#[derive(Default)]
struct Rows {
    done: Vec<Vec<Vec<u8>>>,
    row: Vec<Vec<u8>>,
}

impl Visitor for Rows {
    fn field(&mut self, column: u32, field: Field<'_>) -> Result<(), Finding> {
        assert_eq!(self.row.len(), column as usize);
        assert!(std::str::from_utf8(field.value).is_ok() && (!field.ascii || field.value.is_ascii()));
        self.row.push(field.value.to_vec());
        Ok(())
    }

    fn row_end(&mut self, columns: u32) -> Result<(), Misfit> {
        assert_eq!(self.row.len(), columns as usize);
        self.done.push(std::mem::take(&mut self.row));
        Ok(())
    }
}

pub(super) fn read(form: Form, limits: Limits, chunks: &[&[u8]]) -> Read {
    let mut reader = Reader::new(form, limits);
    let mut rows = Rows::default();
    let mut verdict = Ok(());
    for chunk in chunks {
        verdict = reader.feed(chunk, &mut rows);
        if verdict.is_err() {
            assert_eq!(reader.feed(b"x", &mut rows), verdict, "a violation stays");
            break;
        }
    }
    let end = reader.finish(&mut rows);
    let verdict = verdict.and(end.clone());
    assert_eq!(end, verdict, "the end says what was said before");
    Read { names: reader.header().names().map(<[u8]>::to_vec).collect(), rows: rows.done, verdict }
}

/// Reads the whole, and asserts that no cut changes anything.
pub(super) fn check(form: Form, limits: Limits, body: &[u8]) -> Read {
    let whole = read(form, limits, &[body]);
    every_split(body, |chunks| assert_eq!(read(form, limits, chunks), whole, "{chunks:?}"));
    whole
}

fn violation(form: Form, limits: Limits, body: &[u8]) -> (Finding, u64, Option<u32>, u64) {
    let violation = check(form, limits, body).verdict.expect_err("refused");
    (violation.finding, violation.row, violation.column, violation.offset)
}

#[test]
fn values_come_without_their_quotes() {
    let read = check(Form::default(), Limits::default(), b"a,b\r\n1,\"x \"\"y\"\"\r\n,\tz\"\r\n\"\",\r\n");
    assert_eq!(read.names, [b"a", b"b"]);
    let rows: Vec<Vec<String>> = read
        .rows
        .iter()
        .map(|row| row.iter().map(|value| String::from_utf8(value.clone()).unwrap()).collect())
        .collect();
    assert_eq!(rows, [["1", "x \"y\"\r\n,\tz"], ["", ""]]);
    assert_eq!(read.verdict, Ok(Summary { rows: 2, columns: 2, bytes: 28 }));
}

#[test]
fn the_last_line_end_is_a_matter_of_form() {
    for body in [&b"a,b\n1,2"[..], b"a,b\n1,", b"a,b\n1,\"2\"", b"a,b"] {
        assert!(check(Form::default(), Limits::default(), body).verdict.is_ok());
        let form = Form { final_newline: FinalNewline::Required, ..Form::default() };
        let (finding, _, column, offset) = violation(form, Limits::default(), body);
        assert_eq!((finding, column, offset), (Finding::FinalNewlineMissing, None, body.len() as u64));
        assert!(check(form, Limits::default(), &[body, b"\n"].concat()).verdict.is_ok());
    }
}

#[test]
fn without_a_header_row_1_is_data() {
    let form = Form { first_row: FirstRow::Data, delimiter: Delimiter::Bar, ..Form::default() };
    let read = check(form, Limits::default(), "ä|\nä|b,c\n".as_bytes());
    assert_eq!(read.verdict, Ok(Summary { rows: 2, columns: 2, bytes: 11 }));
    assert_eq!(violation(form, Limits::default(), b"a|b\n1\n"), (Finding::RaggedRow, 2, Some(2), 5));
}

#[test]
fn each_limit_is_met_exactly() {
    let limits = Limits { field_bytes_max: 4, record_bytes_max: 9, columns_max: 3, rows_max: 2 };
    let form = Form::default();
    for body in
        [&b"a,b\n1234,5678\n1,2\n"[..], b"a,b\n\"12\",\"34\"\n", b"a,b\n\"12\",\"\"\"\"", b"a,b,c\n123,567,9"]
    {
        assert!(check(form, limits, body).verdict.is_ok(), "{}", String::from_utf8_lossy(body));
    }
    let cases: [(&[u8], _); 12] = [
        (b"a,b\n12345,6\n", (Finding::FieldBytesMax, 2, Some(1), 8)),
        (b"a,b\n12345", (Finding::FieldBytesMax, 2, Some(1), 8)),
        (b"a,b\n12345\x00", (Finding::FieldBytesMax, 2, Some(1), 8)),
        (b"a,b\n1234\x00", (Finding::Nul, 2, Some(1), 8)),
        (b"a,b\n\"123\",6\n", (Finding::FieldBytesMax, 2, Some(1), 8)),
        (b"a,b\n\"1\"\"\",6\n", (Finding::FieldBytesMax, 2, Some(1), 8)),
        (b"a,b\n\"123\"", (Finding::FieldBytesMax, 2, Some(1), 8)),
        (b"a,b,c\n1234,567,9\n", (Finding::RecordBytesMax, 2, Some(3), 15)),
        (b"a,b,c\n1234,5678,", (Finding::RecordBytesMax, 2, Some(3), 15)),
        (b"a,b,c\n1234,567,9", (Finding::RecordBytesMax, 2, Some(3), 15)),
        (b"a,b,c,d\n", (Finding::ColumnsMax, 1, Some(4), 5)),
        (b"a\n1\n2\n3\n", (Finding::RowsMax, 4, None, 6)),
    ];
    for (body, expected) in cases {
        assert_eq!(violation(form, limits, body), expected, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_body_of_any_length_takes_the_same_memory() {
    let mut reader = Reader::new(Form::default(), Limits::default());
    let mut rows = Counter(0);
    reader.feed(b"id,text\n", &mut rows).unwrap();
    let row = format!("17,\"{}\"\"\"\n", "long text ".repeat(40));
    for _ in 0..1000 {
        row.as_bytes().chunks(37).for_each(|chunk| reader.feed(chunk, &mut rows).unwrap());
    }
    let held = reader.held_bytes();
    for _ in 0..20_000 {
        reader.feed(row.as_bytes(), &mut rows).unwrap();
    }
    assert_eq!(reader.held_bytes(), held);
    assert!(held < 2048 && size_of::<Reader>() < 384, "{held} {}", size_of::<Reader>());
    assert_eq!(rows.0, 42_000);
}

struct Counter(u64);

impl Visitor for Counter {
    fn field(&mut self, _: u32, _: Field<'_>) -> Result<(), Finding> {
        self.0 += 1;
        Ok(())
    }
}
