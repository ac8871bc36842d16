//! What can be wrong with a CSV body, and where.

use std::fmt;

use thiserror::Error;

macro_rules! findings {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)+) => {
        /// What is wrong, as a closed list: the table of spec/contracts/csv.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
        pub enum Finding {
            $($(#[$doc])* #[error($text)] $name,)+
        }

        impl Finding {
            /// Every finding, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable code: metric label, receipt field and row of the specification.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }
        }
    };
}

impl Finding {
    /// Whether the body is good CSV, and not what its contract wants.
    pub fn is_of_the_contract(self) -> bool {
        matches!(self, Self::FinalNewlineMissing | Self::RowsMin)
            || self >= Self::ColumnMissing && self < Self::EditsMax
    }
}

findings! {
    Empty = "CSV_EMPTY", "there is no first row";
    NotCsv = "CSV_NOT_CSV", "begins like JSON, XML, HTML or a ZIP archive";
    ByteOrderMark = "CSV_BYTE_ORDER_MARK", "begins with a byte order mark";
    InvalidUtf8 = "CSV_INVALID_UTF8", "a field is not UTF-8";
    Nul = "CSV_NUL", "a NUL byte";
    ControlCharacter = "CSV_CONTROL_CHARACTER", "a control character";
    StrayQuote = "CSV_STRAY_QUOTE", "a quote inside a field that does not begin with one";
    TextAfterQuote = "CSV_TEXT_AFTER_QUOTE", "text after a closing quote";
    UnterminatedQuote = "CSV_UNTERMINATED_QUOTE", "a quote is never closed";
    BareCr = "CSV_BARE_CR", "a carriage return without a line feed";
    MixedLineEnds = "CSV_MIXED_LINE_ENDS", "a line end of another kind than the first";
    BlankLine = "CSV_BLANK_LINE", "a line without anything";
    RaggedRow = "CSV_RAGGED_ROW", "more or fewer fields than in the first row";
    FinalNewlineMissing = "CSV_FINAL_NEWLINE_MISSING", "the last row has no line end";
    HeaderEmpty = "CSV_HEADER_EMPTY", "a header name is empty";
    HeaderDuplicate = "CSV_HEADER_DUPLICATE", "a header name comes twice";
    /// Over [`super::Limits::field_bytes_max`].
    FieldBytesMax = "CSV_FIELD_BYTES_MAX", "a field is too long";
    /// Over [`super::Limits::record_bytes_max`].
    RecordBytesMax = "CSV_RECORD_BYTES_MAX", "a row is too long";
    /// Over [`super::Limits::columns_max`].
    ColumnsMax = "CSV_COLUMNS_MAX", "too many columns";
    /// Over [`super::Limits::rows_max`].
    RowsMax = "CSV_ROWS_MAX", "too many rows";
    RowsMin = "CSV_ROWS_MIN", "too few rows";
    ColumnMissing = "CSV_COLUMN_MISSING", "a column of the contract is not in the header";
    ColumnExtra = "CSV_COLUMN_EXTRA", "a column that the contract does not list";
    ColumnOrder = "CSV_COLUMN_ORDER", "a column of the contract at another place";
    Formula = "CSV_FORMULA", "a value that a spreadsheet would run";
    ValueRequired = "CSV_VALUE_REQUIRED", "a required value is empty";
    ValueType = "CSV_VALUE_TYPE", "a value is not of its column's type";
    ValueEnum = "CSV_VALUE_ENUM", "a value is none of those allowed";
    ValuePattern = "CSV_VALUE_PATTERN", "a value does not match its pattern";
    ValueMin = "CSV_VALUE_MIN", "a value is too small";
    ValueMax = "CSV_VALUE_MAX", "a value is too large";
    LengthMin = "CSV_LENGTH_MIN", "a value is too short";
    LengthMax = "CSV_LENGTH_MAX", "a value is too long";
    ValueDuplicate = "CSV_VALUE_DUPLICATE", "a value of a unique column comes twice";
    /// Over the contract's `unique_values_max`, so that it is not known whether values are unique.
    UniqueValuesMax = "CSV_UNIQUE_VALUES_MAX", "more unique values than can be remembered";
    /// Over the edits that a [`super::Repair`] may make.
    EditsMax = "CSV_EDITS_MAX", "more repairs than may be made";
}

/// The first finding of a body, and its place. It holds no value of the body but a column's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub finding: Finding,
    /// From 1; a header is row 1. Where a row was expected and none came, the number it would have had.
    pub row: u64,
    /// From 1. `None` if the finding is about the row or the body.
    pub column: Option<u32>,
    /// The column's name, if the header or the contract gives one.
    pub name: Option<Box<str>>,
    /// Offset of the byte that shows it, from 0; for a value, of its field's first byte.
    pub offset: u64,
}

/// Characters of a name that a message shows.
const NAME_SHOWN_MAX: usize = 64;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: row {}", self.finding, self.row)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        if let Some(name) = &self.name {
            let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
            write!(f, " `{}`", shown.escape_debug())?;
        }
        write!(f, ", byte {}", self.offset)
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_upper_snake_distinct_and_in_the_specification() {
        let page = include_str!("../../../../spec/contracts/csv.md");
        let mut codes: Vec<_> = Finding::ALL.iter().map(|finding| finding.code()).collect();
        for code in &codes {
            assert!(code.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_')), "{code}");
            assert!(page.contains(&format!("`{code}`")), "spec/contracts/csv.md lacks {code}");
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Finding::ALL.len());
        let mut named = page.split('`').filter(|word| word.starts_with("CSV_"));
        assert_eq!(named.find(|word| !codes.contains(word)), None);
    }

    #[test]
    fn a_message_shows_the_place_and_escapes_the_name() {
        let violation = Violation {
            finding: Finding::ValueType,
            row: 3,
            column: Some(2),
            name: Some("a\u{1b}[31m".into()),
            offset: 41,
        };
        let text = "a value is not of its column's type: row 3, column 2 `a\\u{1b}[31m`, byte 41";
        assert_eq!(violation.to_string(), text);
    }
}
