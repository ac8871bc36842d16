//! Bodies that lenient readers take: research on the csv crate, and what attackers send.

use super::*;

/// A name, a body, and the finding, row, column and offset that must come of it.
type Case = (&'static str, &'static [u8], Finding, u64, Option<u32>, u64);

pub(crate) const HOSTILE: &[Case] = &[
    ("nothing at all", b"", Finding::Empty, 1, None, 0),
    (
        "unterminated quote in the last column swallows rows",
        b"a,b\n1,\"x\n2,y\n3,z\n",
        Finding::UnterminatedQuote,
        2,
        Some(2),
        6,
    ),
    ("unterminated quote in another column", b"a,b\n\"1,x\n2,y\n", Finding::UnterminatedQuote, 2, Some(1), 4),
    ("unterminated quote after a doubled one", b"a\n\"x\"\"", Finding::UnterminatedQuote, 2, Some(1), 2),
    ("lone quote", b"a\n\"", Finding::UnterminatedQuote, 2, Some(1), 2),
    ("unterminated quote, CR last", b"a\n\"\r", Finding::UnterminatedQuote, 2, Some(1), 2),
    ("quote inside an unquoted field", b"a,b\n1\"x,2\n", Finding::StrayQuote, 2, Some(1), 5),
    ("space before a quote", b"a,b\n1, \"2\"\n", Finding::StrayQuote, 2, Some(2), 7),
    ("text after a closing quote", b"a,b\n\"1\"x,2\n", Finding::TextAfterQuote, 2, Some(1), 7),
    ("space after a closing quote", b"a,b\n\"1\" ,2\n", Finding::TextAfterQuote, 2, Some(1), 7),
    ("backslash escapes", b"a,b\n\"1\\\"2\",3\n", Finding::TextAfterQuote, 2, Some(1), 8),
    ("NUL after a closing quote", b"a\n\"1\"\x00\n", Finding::TextAfterQuote, 2, Some(1), 5),
    ("NUL", b"a,b\n1,\x002\n", Finding::Nul, 2, Some(2), 6),
    ("NUL in quotes", b"a,b\n1,\"\x002\"\n", Finding::Nul, 2, Some(2), 7),
    ("NUL in the header", b"a\x00,b\n1,2\n", Finding::Nul, 1, Some(1), 1),
    ("escape character", b"a,b\n1,\x1b[31m\n", Finding::ControlCharacter, 2, Some(2), 6),
    ("delete", b"a\n\x7f\n", Finding::ControlCharacter, 2, Some(1), 2),
    ("form feed in quotes", b"a\n\"\x0c\"\n", Finding::ControlCharacter, 2, Some(1), 3),
    ("next line, U+0085", b"a\nx\xc2\x85y\n", Finding::ControlCharacter, 2, Some(1), 3),
    ("invalid UTF-8", b"a,b\n1,x\xff\n", Finding::InvalidUtf8, 2, Some(2), 7),
    (
        "invalid UTF-8 behind two doubled quotes",
        b"a\n\"\"\"\"\"x\xff\"\n",
        Finding::InvalidUtf8,
        2,
        Some(1),
        8,
    ),
    (
        "text that is not UTF-8 after a closing quote",
        b"a\n\"\"\"\"\"\"x\xff\"\n",
        Finding::TextAfterQuote,
        2,
        Some(1),
        8,
    ),
    ("invalid UTF-8 behind a doubled quote", b"a\n\"\"\"x\xff\"\n", Finding::InvalidUtf8, 2, Some(1), 6),
    ("character cut by a delimiter", b"a,b\n\xc3,\xa4\n", Finding::InvalidUtf8, 2, Some(1), 4),
    ("overlong slash", b"a\n\xc0\xaf\n", Finding::InvalidUtf8, 2, Some(1), 2),
    ("surrogate half", b"a\n\xed\xa0\x80\n", Finding::InvalidUtf8, 2, Some(1), 2),
    ("Latin-1 header", b"\xe4,b\n1,2\n", Finding::InvalidUtf8, 1, Some(1), 0),
    ("UTF-16", b"\xff\xfea\x00,\x00b\x00\n\x00", Finding::Nul, 1, Some(1), 3),
    ("CR line ends", b"a,b\r1,2\r", Finding::BareCr, 1, Some(2), 3),
    ("CR at the end", b"a,b\n1,2\r", Finding::BareCr, 2, Some(2), 7),
    ("CR CR LF", b"a,b\r\r\n1,2", Finding::BareCr, 1, Some(2), 3),
    ("CR in quotes", b"a\n\"x\ry\"\n", Finding::BareCr, 2, Some(1), 4),
    ("CR in quotes, then the closing quote", b"a\n\"x\r\"\n", Finding::BareCr, 2, Some(1), 4),
    ("LF after CRLF", b"a,b\r\n1,2\n", Finding::MixedLineEnds, 2, None, 8),
    ("CRLF after LF", b"a,b\n1,2\r\n", Finding::MixedLineEnds, 2, None, 8),
    ("blank line", b"a,b\n1,2\n\n3,4\n", Finding::BlankLine, 3, None, 8),
    ("blank line of CRLF", b"a\r\n\r\n", Finding::BlankLine, 2, None, 3),
    ("blank line first", b"\na,b\n1,2\n", Finding::BlankLine, 1, None, 0),
    ("blank line last", b"a,b\n1,2\n\n", Finding::BlankLine, 3, None, 8),
    ("too few fields", b"a,b,c\n1,2\n", Finding::RaggedRow, 2, Some(3), 9),
    ("too few fields at the end", b"a,b,c\n1,2", Finding::RaggedRow, 2, Some(3), 9),
    ("too many fields", b"a,b\n1,2,3\n", Finding::RaggedRow, 2, Some(3), 7),
    ("delimiter at the end of the row", b"a,b\n1,2,\n", Finding::RaggedRow, 2, Some(3), 7),
    ("byte order mark", b"\xef\xbb\xbfa,b\n1,2\n", Finding::ByteOrderMark, 1, None, 0),
    ("byte order mark before a quote", b"\xef\xbb\xbf\"a\",b\n1,2\n", Finding::ByteOrderMark, 1, None, 0),
    ("byte order mark alone", b"\xef\xbb\xbf", Finding::ByteOrderMark, 1, None, 0),
    ("JSON object", b"{\"error\":\"no\",\"code\":1}\n", Finding::NotCsv, 1, None, 0),
    ("JSON array", b"[1,2]\n", Finding::NotCsv, 1, None, 0),
    ("HTML with consistent commas", b"<html>,x\n<p>,y\n", Finding::NotCsv, 1, None, 0),
    ("ZIP archive", b"PK\x03\x04\x14\x00", Finding::NotCsv, 1, None, 0),
    ("gzip", b"\x1f\x8b\x08\x00", Finding::ControlCharacter, 1, Some(1), 0),
    ("empty header name", b"a,,c\n1,2,3\n", Finding::HeaderEmpty, 1, Some(2), 2),
    ("quoted empty header name", b"a,\"\"\n1,2\n", Finding::HeaderEmpty, 1, Some(2), 2),
    ("duplicate header name", b"a,b,a\n1,2,3\n", Finding::HeaderDuplicate, 1, Some(3), 4),
    ("duplicate header name, once quoted", b"a,\"a\"\n", Finding::HeaderDuplicate, 1, Some(2), 2),
];

#[test]
fn hostile_bodies_are_refused_at_their_place_however_they_are_cut() {
    for (name, body, finding, row, column, offset) in HOSTILE {
        let found = violation(Form::default(), Limits::default(), body);
        assert_eq!(found, (*finding, *row, *column, *offset), "{name}");
    }
}

#[test]
fn a_finding_names_its_column() {
    let read = check(Form::default(), Limits::default(), "größe,b\n1,2\n\"1\"x,\n".as_bytes());
    assert_eq!(read.verdict.unwrap_err().name.as_deref(), Some("größe"));
    let read = check(Form::default(), Limits::default(), b"a,b\n1\n");
    assert_eq!(read.verdict.unwrap_err().name.as_deref(), Some("b"));
    let read = check(Form::default(), Limits::default(), b"a,b\n1,2,3\n");
    assert_eq!(read.verdict.unwrap_err().name, None);
}
