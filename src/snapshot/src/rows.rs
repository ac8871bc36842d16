//! Digests of rows (`spec/snapshot.md`, "Rows"): what can be said of a table without saying what is in it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::hash::Sha256;
use estoppel_evidence::reason::Reason;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Longest name of a schema or a table, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A table by its names. Written `schema.table`, or `table` for one in `public`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableName {
    pub schema: Box<str>,
    pub table: Box<str>,
}

/// What is wrong with the name of a table.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no name of a table: `table` or `schema.table`, as the catalog has them, each of 1 to 63 bytes"
)]
pub struct TableNameError(Box<str>);

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        let is_name = |name: &str| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(|c| c == '.' || c.is_control())
        };
        if !is_name(schema) || !is_name(table) {
            return Err(TableNameError(text.into()));
        }
        Ok(Self { schema: schema.into(), table: table.into() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Why a table's rows are not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowsCause {
    BytesMax,
    Connect,
    DdlRace,
    LockTimeout,
    Permission,
    RlsFiltered,
    RowsMax,
    Server,
    TimeMax,
    UnknownTable,
}

impl RowsCause {
    const ALL: [Self; 10] = [
        Self::BytesMax,
        Self::Connect,
        Self::DdlRace,
        Self::LockTimeout,
        Self::Permission,
        Self::RlsFiltered,
        Self::RowsMax,
        Self::Server,
        Self::TimeMax,
        Self::UnknownTable,
    ];

    /// The name in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BytesMax => "bytes_max",
            Self::Connect => "connect",
            Self::DdlRace => "ddl_race",
            Self::LockTimeout => "lock_timeout",
            Self::Permission => "permission",
            Self::RlsFiltered => "rls_filtered",
            Self::RowsMax => "rows_max",
            Self::Server => "server",
            Self::TimeMax => "time_max",
            Self::UnknownTable => "unknown_table",
        }
    }
}

/// The rows of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableRows {
    Known(RowDigests),
    Missing(RowsCause),
}

/// A digest of each row, in ascending order, and how long the rows are together.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RowDigests {
    digests: Vec<[u8; 32]>,
    bytes: u64,
}

impl RowDigests {
    /// Those of rows in any order.
    pub(crate) fn new(mut digests: Vec<[u8; 32]>, bytes: u64) -> Self {
        digests.sort_unstable();
        Self { digests, bytes }
    }

    fn digest(&self) -> Sha256 {
        Sha256::of(self.digests.as_flattened())
    }

    fn document(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "count": self.digests.len(),
            "digest": self.digest().to_string(),
            "rows": base64(self.digests.as_flattened()),
        })
    }

    fn read(document: &Value) -> Option<Self> {
        let concatenated = from_base64(document["rows"].as_str()?)?;
        let (digests, rest) = concatenated.as_chunks::<32>();
        let read = Self { digests: digests.to_vec(), bytes: document["bytes"].as_u64()? };
        (rest.is_empty() && digests.is_sorted() && read.document() == *document).then_some(read)
    }
}

/// The rows of tables that were named.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rows(BTreeMap<TableName, TableRows>);

impl Rows {
    pub(crate) fn put(&mut self, table: TableName, rows: TableRows) {
        self.0.insert(table, rows);
    }

    /// Each of these without its rows.
    pub(crate) fn missing<'t>(tables: impl IntoIterator<Item = &'t TableName>, cause: RowsCause) -> Self {
        Self(tables.into_iter().map(|table| (table.clone(), TableRows::Missing(cause))).collect())
    }

    /// Tables whose rows are not known, and why.
    pub fn gaps(&self) -> impl Iterator<Item = (&TableName, RowsCause)> {
        self.0.iter().filter_map(|(name, rows)| match rows {
            TableRows::Missing(cause) => Some((name, *cause)),
            TableRows::Known(_) => None,
        })
    }

    /// Each table with what its document says, without the digests of single rows.
    pub fn tables(&self) -> impl Iterator<Item = (&TableName, Value)> {
        self.0.iter().map(|(name, rows)| {
            let mut document = document(rows);
            document.as_object_mut().map(|members| members.remove("rows"));
            (name, document)
        })
    }

    pub(crate) fn document(&self) -> Value {
        let mut schemas = Map::new();
        for (name, rows) in &self.0 {
            let tables = schemas.entry(&*name.schema).or_insert_with(|| json!({}));
            tables[&*name.table] = document(rows);
        }
        Value::Object(schemas)
    }

    pub(crate) fn read(value: &Value) -> Option<Self> {
        let mut rows = Self::default();
        for (schema, tables) in value.as_object()? {
            for (table, document) in tables.as_object()? {
                let name = TableName { schema: schema.as_str().into(), table: table.as_str().into() };
                rows.put(name, table_rows(document)?);
            }
        }
        Some(rows)
    }
}

fn document(rows: &TableRows) -> Value {
    match rows {
        TableRows::Known(digests) => digests.document(),
        TableRows::Missing(cause) => {
            json!({ "cause": cause.as_str(), "code": Reason::RowsMissing.code() })
        }
    }
}

fn table_rows(document: &Value) -> Option<TableRows> {
    let missing = RowsCause::ALL.map(TableRows::Missing);
    let missing = missing.into_iter().find(|rows| self::document(rows) == *document);
    missing.or_else(|| RowDigests::read(document).map(TableRows::Known))
}

/// How the rows of one table differ in two snapshots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "rows", rename_all = "lowercase")]
pub enum RowChange {
    /// An update is a row that went and one that came.
    Changed { table: String, added: u64, gone: u64 },
    /// One of both does not have them.
    Unknown { table: String, cause: &'static str },
}

/// What of the named tables is not the same in both, and what nobody can say. A table that only one names is unknown.
pub fn row_changes(from: Option<&Rows>, to: Option<&Rows>) -> Vec<RowChange> {
    let nothing = Rows::default();
    let (from, to) = (&from.unwrap_or(&nothing).0, &to.unwrap_or(&nothing).0);
    let mut names: Vec<&TableName> = from.keys().chain(to.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().filter_map(|name| row_change(name, from.get(name), to.get(name))).collect()
}

fn row_change(name: &TableName, from: Option<&TableRows>, to: Option<&TableRows>) -> Option<RowChange> {
    let table = name.to_string();
    match (from, to) {
        (Some(TableRows::Known(from)), Some(TableRows::Known(to))) => {
            let (added, gone) = counts(&from.digests, &to.digests);
            (added + gone > 0).then_some(RowChange::Changed { table, added, gone })
        }
        (Some(TableRows::Missing(cause)), _) | (_, Some(TableRows::Missing(cause))) => {
            Some(RowChange::Unknown { table, cause: cause.as_str() })
        }
        (None, _) | (_, None) => Some(RowChange::Unknown { table, cause: "not_named" }),
    }
}

/// How many only the second has, and how many only the first; both are in ascending order.
fn counts(from: &[[u8; 32]], to: &[[u8; 32]]) -> (u64, u64) {
    let (mut added, mut gone) = (0, 0);
    let (mut from, mut to) = (from.iter().peekable(), to.iter().peekable());
    loop {
        let order = match (from.peek(), to.peek()) {
            (None, None) => return (added, gone),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(other),
        };
        if order.is_le() {
            from.next();
        }
        if order.is_ge() {
            to.next();
        }
        gone += u64::from(order.is_lt());
        added += u64::from(order.is_gt());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests(rows: &[u8]) -> RowDigests {
        RowDigests::new(rows.iter().map(|row| Sha256::of(&[*row]).0).collect(), rows.len() as u64)
    }

    fn table(rows: TableRows) -> Rows {
        let mut all = Rows::default();
        all.put("t".parse().unwrap(), rows);
        all
    }

    proptest! {
        #[test]
        fn what_came_and_went_makes_one_of_the_other_and_the_order_of_rows_says_nothing(
            mut one in prop::collection::vec(0..9_u8, 0..12),
            other in prop::collection::vec(0..9_u8, 0..12),
        ) {
            let (from, to) = (digests(&one), digests(&other));
            let (added, gone) = counts(&from.digests, &to.digests);
            let kept = |value: u8| {
                let count = |rows: &[u8]| rows.iter().filter(|row| **row == value).count();
                count(&one).min(count(&other))
            };
            let kept = (0..9).map(kept).sum::<usize>();
            prop_assert_eq!((added, gone), ((other.len() - kept) as u64, (one.len() - kept) as u64));
            let known = Rows::read(&table(TableRows::Known(from.clone())).document());
            prop_assert_eq!(known, Some(table(TableRows::Known(from.clone()))));
            one.reverse();
            prop_assert_eq!(digests(&one), from);
        }
    }

    #[test]
    fn digests_that_do_not_fit_their_sum_are_no_rows() {
        let good = table(TableRows::Known(digests(&[1, 2])));
        for (member, wrong) in [
            ("count", json!(3)),
            ("digest", json!(Sha256::of(b"").to_string())),
            ("rows", json!(base64(&[0; 33]))),
            ("more", json!(1)),
        ] {
            let mut document = good.document();
            document["public"]["t"][member] = wrong;
            assert_eq!(Rows::read(&document), None, "{member}");
        }
        let mut unsorted = digests(&[1, 2]);
        unsorted.digests.reverse();
        assert_eq!(Rows::read(&table(TableRows::Known(unsorted)).document()), None);
        assert_eq!(Rows::read(&json!({ "public": { "t": { "code": "ROWS_MISSING" } } })), None);
    }

    #[test]
    fn what_is_not_known_of_one_side_is_not_known_of_the_change() {
        let known = table(TableRows::Known(digests(&[1])));
        let missing = table(TableRows::Missing(RowsCause::RowsMax));
        let check = |from, to, cause| {
            let unknown = RowChange::Unknown { table: "public.t".into(), cause };
            assert_eq!(row_changes(from, to), [unknown]);
        };
        check(Some(&known), Some(&missing), "rows_max");
        check(Some(&missing), Some(&missing), "rows_max");
        check(None, Some(&known), "not_named");
        assert_eq!(row_changes(Some(&known), Some(&known)), []);
    }

    #[test]
    fn names_are_read_as_the_catalog_has_them() {
        let name = |text: &str| text.parse::<TableName>().map(|name| name.to_string()).ok();
        assert_eq!(name("orders").as_deref(), Some("public.orders"));
        assert_eq!(name("Shop.Order lines").as_deref(), Some("Shop.Order lines"));
        for wrong in ["", ".", "a.", ".a", "a.b.c", "a\n", &"x".repeat(64)] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }
}
