//! Tables whose rows name the call that wrote them.

use std::fmt;

use estoppel_evidence::hash::Sha256;

use crate::hint::{Hint, Stamp};

/// A table, and its column that holds a call's id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    schema: Box<str>,
    table: Box<str>,
    key: Box<str>,
    hint: Option<(Hint, Stamp)>,
}

/// Why text names no table or column.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WrittenError {
    #[error("`{0}` is not a schema and a table, as in `public.orders`")]
    Table(Box<str>),
    #[error("`{0}` is not the name of a column")]
    Key(Box<str>),
}

/// Longest name that Postgres keeps whole.
const NAME_BYTES_MAX: usize = 63;
/// Hexadecimal figures that tell names that are cut alike apart.
const TRIGGER_FIGURES: usize = 16;

impl Written {
    /// Names as the catalog has them: nothing is folded to lower case.
    ///
    /// # Errors
    /// [`WrittenError`].
    pub fn new(table: &str, key: &str) -> Result<Self, WrittenError> {
        let (schema, name) = table
            .split_once('.')
            .filter(|(schema, name)| is_name(schema) && is_name(name))
            .ok_or_else(|| WrittenError::Table(table.into()))?;
        if !is_name(key) {
            return Err(WrittenError::Key(key.into()));
        }
        Ok(Self { schema: schema.into(), table: name.into(), key: key.into(), hint: None })
    }

    /// The database writes the column itself, from what the session says. Where it does not, nothing is claimed of the rows.
    #[must_use]
    pub fn hinted(self, hint: Hint, stamp: Stamp) -> Self {
        Self { hint: Some((hint, stamp)), ..self }
    }

    /// From what the database writes the column, if it does, and when.
    pub fn hint(&self) -> Option<(Hint, Stamp)> {
        self.hint
    }

    /// What a trigger on it is called, and its function. Of each table of a schema another: where the table's name has to be cut, figures of
    /// the digest of the whole follow.
    pub(crate) fn trigger_name(&self) -> String {
        let mut name = format!("estoppel_call_{}", self.table);
        if name.len() <= NAME_BYTES_MAX {
            return name;
        }
        let digest = Sha256::of(self.quoted().as_bytes()).hex();
        let figures: String = digest.chars().take(TRIGGER_FIGURES).collect();
        while name.len() + 1 + figures.len() > NAME_BYTES_MAX {
            name.pop();
        }
        name + "_" + &figures
    }

    /// The table in SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.table))
    }

    /// Its schema in SQL.
    pub(crate) fn quoted_schema(&self) -> String {
        identifier(&self.schema)
    }

    /// The column in SQL.
    pub(crate) fn quoted_key(&self) -> String {
        identifier(&self.key)
    }

    /// The table as the text that becomes a `regclass`.
    pub(crate) fn literal(&self) -> String {
        literal(&self.quoted())
    }

    /// Its schema's name as text.
    pub(crate) fn schema_literal(&self) -> String {
        literal(&self.schema)
    }

    /// Its own name as text.
    pub(crate) fn table_literal(&self) -> String {
        literal(&self.table)
    }

    /// The column's name as text.
    pub(crate) fn key_literal(&self) -> String {
        literal(&self.key)
    }
}

/// `schema.table`.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.contains(['.', '\0'])
        && !text.contains(char::is_control)
}

/// As an identifier in SQL.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As a text in SQL, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_so_that_nothing_in_them_is_sql() {
        let odd = Written::new("my\"shop.Or'ders\\", "call id").unwrap();
        assert_eq!(odd.quoted(), r#""my""shop"."Or'ders\""#);
        assert_eq!(odd.literal(), r#"E'"my""shop"."Or\'ders\\"'"#);
        assert_eq!((odd.quoted_key(), odd.key_literal()), ("\"call id\"".into(), "E'call id'".into()));
        assert_eq!(odd.to_string(), "my\"shop.Or'ders\\");
    }

    #[test]
    fn triggers_of_tables_whose_long_names_begin_alike_have_other_names() {
        let name = |table: &str| Written::new(table, "call_id").unwrap().trigger_name();
        assert_eq!(name("public.orders_2026"), "estoppel_call_orders_2026");
        let whole = "o".repeat(49);
        assert_eq!(name(&format!("public.{whole}")), format!("estoppel_call_{whole}"));
        let names = ["a", "b", "ä"].map(|end| name(&format!("public.{}{end}", "o".repeat(60))));
        assert!(names.iter().all(|name| name.len() == 63), "{names:?}");
        assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
        assert!(name(&format!("public.{}", "ä".repeat(31))).len() <= 63);
    }

    #[test]
    fn other_text_is_refused() {
        for table in ["", "orders", ".orders", "public.", "db.public.orders", "public.a\nb", "public.a\0"] {
            assert_eq!(Written::new(table, "call_id"), Err(WrittenError::Table(table.into())));
        }
        for key in ["", "a.b", "a\n", &"k".repeat(64)] {
            assert_eq!(Written::new("public.orders", key), Err(WrittenError::Key(key.into())));
        }
    }
}
