//! The csv crate as the measure for well-formed bodies, and the list of what it takes and we refuse.

use proptest::prelude::*;

use super::{hostile::HOSTILE, *};
use crate::splits::cut;

/// Rows by the csv crate, with its defaults but for the header.
fn theirs(form: Form, body: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, csv::Error> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).delimiter(form.delimiter.byte()).from_reader(body);
    let mut rows = Vec::new();
    for row in reader.records() {
        rows.push(row?.iter().map(|value| value.as_bytes().to_vec()).collect());
    }
    Ok(rows)
}

/// Our rows, the header first.
fn ours(read: Read) -> Vec<Vec<Vec<u8>>> {
    std::iter::once(read.names).chain(read.rows).collect()
}

fn value() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[a-z0-9 .=-]{0,12}",
        1 => Just("\"".to_string()),
        1 => Just(",;|".to_string()),
        1 => Just("\n".to_string()),
        1 => Just("\r\n".to_string()),
        1 => Just("größe 漢字 😀".to_string()),
        1 => "[x]{50,150}",
    ];
    proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn delimiter() -> impl Strategy<Value = Delimiter> {
    prop_oneof![
        Just(Delimiter::Comma),
        Just(Delimiter::Semicolon),
        Just(Delimiter::Bar),
        Just(Delimiter::Tab)
    ]
}

/// A well-formed body with its form, and places to cut it.
fn body() -> impl Strategy<Value = (Form, Vec<u8>)> {
    let rows = (1..6_usize).prop_flat_map(|columns| {
        proptest::collection::vec(proptest::collection::vec((value(), any::<bool>()), columns), 0..8)
            .prop_map(move |rows| (columns, rows))
    });
    (rows, delimiter(), any::<bool>(), any::<bool>()).prop_map(|((columns, rows), delimiter, crlf, ended)| {
        let line_end = if crlf { "\r\n" } else { "\n" };
        let mark = char::from(delimiter.byte());
        let names: Vec<String> = (0..columns).map(|n| format!("c{n}")).collect();
        let mut lines = vec![names.join(&mark.to_string())];
        for row in rows {
            let fields: Vec<String> = row
                .iter()
                .map(|(value, quote)| {
                    let must = value.contains(['"', '\n', '\r', mark]) || (columns == 1 && value.is_empty());
                    if *quote || must { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.clone() }
                })
                .collect();
            lines.push(fields.join(&mark.to_string()));
        }
        let mut text = lines.join(line_end);
        if ended {
            text.push_str(line_end);
        }
        (Form { delimiter, ..Form::default() }, text.into_bytes())
    })
}

proptest! {
    #[test]
    fn well_formed_bodies_are_read_as_by_the_csv_crate(
        (form, body) in body(),
        places in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let theirs = theirs(form, &body).unwrap();
        let read = read(form, Limits::default(), &cut(&body, &places));
        prop_assert!(read.verdict.is_ok(), "{:?}", read.verdict);
        prop_assert_eq!(ours(read), theirs);
    }

    #[test]
    fn what_we_take_the_csv_crate_reads_the_same(body in soup()) {
        let read = check(Form::default(), Limits::default(), &body);
        if read.verdict.is_ok() {
            prop_assert_eq!(ours(read), theirs(Form::default(), &body).unwrap());
        }
    }

    #[test]
    fn no_cut_changes_the_verdict_on_small_limits(body in soup()) {
        let limits = Limits { field_bytes_max: 5, record_bytes_max: 11, columns_max: 3, rows_max: 2 };
        check(Form::default(), limits, &body);
    }
}

/// Bodies out of the pieces that decide something.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => Just(&b"a"[..]),
        4 => Just(&b","[..]),
        4 => Just(&b"\n"[..]),
        2 => Just(&b"\r\n"[..]),
        1 => Just(&b"\r"[..]),
        5 => Just(&b"\""[..]),
        2 => Just(&b"\"\""[..]),
        1 => Just("ä".as_bytes()),
        1 => Just(&b"\xc3"[..]),
        1 => Just(&b"\x00"[..]),
        1 => Just(&b"\xef\xbb\xbf"[..]),
        1 => Just(&b"PK\x03"[..]),
        1 => Just(&b"{"[..]),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn what_the_csv_crate_takes_and_we_refuse_is_this_list() {
    let taken: Vec<&str> = HOSTILE
        .iter()
        .filter(|(_, body, ..)| theirs(Form::default(), body).is_ok())
        .map(|(name, ..)| *name)
        .collect();
    assert_eq!(
        taken,
        [
            "nothing at all",
            "unterminated quote in the last column swallows rows",
            "unterminated quote after a doubled one",
            "lone quote",
            "unterminated quote, CR last",
            "quote inside an unquoted field",
            "space before a quote",
            "text after a closing quote",
            "space after a closing quote",
            "backslash escapes",
            "NUL after a closing quote",
            "NUL",
            "NUL in quotes",
            "NUL in the header",
            "escape character",
            "delete",
            "form feed in quotes",
            "next line, U+0085",
            "CR line ends",
            "CR at the end",
            "CR CR LF",
            "CR in quotes",
            "CR in quotes, then the closing quote",
            "LF after CRLF",
            "CRLF after LF",
            "blank line",
            "blank line of CRLF",
            "blank line first",
            "blank line last",
            "byte order mark",
            "byte order mark before a quote",
            "byte order mark alone",
            "JSON object",
            "JSON array",
            "HTML with consistent commas",
            "ZIP archive",
            "empty header name",
            "quoted empty header name",
            "duplicate header name",
            "duplicate header name, once quoted",
        ]
    );
}
