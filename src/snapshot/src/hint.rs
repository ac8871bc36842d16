//! How a database itself writes down which call a row is of: from what the session says, by the column's default or by a trigger, so that
//! statements need not name the column.
//!
//! | hint | is said by |
//! |---|---|
//! | [`Hint::Setting`] | `SET LOCAL estoppel.call = '<id>'` |
//! | [`Hint::ApplicationName`] | `application_name`, in which `estoppel-call=<id>` stands |
//! | [`Hint::Comment`] | a comment at the end of the statement, as sqlcommenter writes them: `/*estoppel-call='<id>'*/` |
//!
//! What is no call's id in the server's own notation is written as NULL: a row of which nothing is known, and no statement that fails.
//! Only expressions that are printed alike by all versions are used, as the column's default is compared with them.

use std::str::FromStr;

use crate::written::{Written, identifier, literal};

/// Characters of a call's id.
pub(crate) const ID_CHARS: i64 = 36;

/// A call's id, as the server matches it.
const ID: &str = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})";

/// A part of a comment that neither ends it nor begins another in it, as Postgres nests them.
const COMMENTED: &str = "(?:[^*/]|[*]+[^*/]|/+[^*/])*";

/// What a session says of the call that it writes for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    /// The setting `estoppel.call`.
    Setting,
    /// The name of the program.
    ApplicationName,
    /// The end of the statement.
    Comment,
}

/// When the hint is written into a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// As it is inserted without a value for the column: the column's default. A row that is changed keeps what it has.
    Default,
    /// As it is inserted or changed, whatever the statement says: a trigger.
    Trigger,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is none of `setting`, `application_name` and `comment`")]
pub struct HintError(Box<str>);

impl Hint {
    /// The name in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::ApplicationName => "application_name",
            Self::Comment => "comment",
        }
    }

    /// The id as text, in the server's own words under `search_path = pg_catalog`.
    fn text(self) -> String {
        let (source, pattern) = match self {
            Self::Setting => ("current_setting('estoppel.call'::text, true)", format!("^{ID}$")),
            Self::ApplicationName => {
                ("current_setting('application_name'::text)", format!("estoppel-call={ID}"))
            }
            Self::Comment => (
                "current_query()",
                format!("/[*]{COMMENTED}(?:[*]+|/+)?estoppel-call=''{ID}''{COMMENTED}[*]+/[[:space:];]*$"),
            ),
        };
        format!("(regexp_match({source}, '{pattern}'::text))[1]")
    }

    /// The id as a value of a column of type text or uuid.
    fn of_type(self, is_uuid: bool) -> String {
        if is_uuid { format!("({})::uuid", self.text()) } else { self.text() }
    }
}

impl FromStr for Hint {
    type Err = HintError;

    fn from_str(text: &str) -> Result<Self, HintError> {
        let all = [Self::Setting, Self::ApplicationName, Self::Comment];
        all.into_iter().find(|hint| hint.as_str() == text).ok_or_else(|| HintError(text.into()))
    }
}

/// The table, its partitions and what inherits from it, at all depths, as `parts`: rows are written into each by its own name too.
pub(crate) fn with_parts(table: &Written) -> String {
    format!(
        "WITH RECURSIVE parts(part) AS (SELECT {}::regclass::oid \
         UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts ON i.inhparent = parts.part)",
        table.literal()
    )
}

/// Rows of one column: each table, as SQL, that inherits from this one. A partition has its table's triggers, these have not.
pub(crate) fn heirs(table: &Written) -> String {
    format!(
        "{} SELECT format('%I.%I', n.nspname, c.relname) FROM parts JOIN pg_class c ON c.oid = parts.part \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT c.relispartition AND c.oid <> {}::regclass ORDER BY 1",
        with_parts(table),
        table.literal()
    )
}

/// One row with one column: whether the hint is written into the rows of the table and of all its parts.
pub(crate) fn is_there(table: &Written, hint: Hint, stamp: Stamp) -> String {
    let key = table.key_literal();
    let stamps = match stamp {
        Stamp::Default => format!(
            "FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE a.attrelid = parts.part AND a.attname = {key} AND NOT a.attisdropped AND a.attgenerated = '' \
             AND pg_get_expr(d.adbin, d.adrelid) IN ({}, {})",
            literal(&hint.of_type(false)),
            literal(&hint.of_type(true)),
        ),
        // Before, for each row, of INSERT and UPDATE: 1 + 2 + 4 + 16.
        Stamp::Trigger => format!(
            "FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_language l ON l.oid = f.prolang \
             WHERE t.tgrelid = parts.part AND t.tgtype = 23 AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgattr = '' \
             AND l.lanname = 'plpgsql' AND f.proconfig = ARRAY['search_path=pg_catalog'] AND f.prosrc IN ({}, {})",
            literal(&body(table, hint, false)),
            literal(&body(table, hint, true)),
        ),
    };
    // 4 more than the characters that the column takes.
    let is_wide = format!(
        "NOT EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = parts.part AND k.attname = {key} AND k.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) \
         AND k.atttypmod BETWEEN 0 AND {})",
        ID_CHARS + 3
    );
    format!("{} SELECT bool_and({is_wide} AND EXISTS (SELECT {stamps})) FROM parts", with_parts(table))
}

/// What makes it so, whatever was there before. `heirs` are the tables that inherit from it, as SQL.
pub(crate) fn sql(table: &Written, hint: Hint, stamp: Stamp, is_uuid: bool, heirs: &[String]) -> String {
    let (quoted, key) = (table.quoted(), table.quoted_key());
    match stamp {
        Stamp::Default => {
            format!("ALTER TABLE {quoted} ALTER COLUMN {key} SET DEFAULT {};", hint.of_type(is_uuid))
        }
        Stamp::Trigger => {
            let trigger = identifier(&table.trigger_name());
            let function = format!("{}.{trigger}", table.quoted_schema());
            let mut sql = format!(
                "BEGIN; CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS {};",
                literal(&body(table, hint, is_uuid)),
            );
            // One that is switched off or calls another function goes. `CREATE OR REPLACE TRIGGER` is of Postgres 14.
            for table in std::iter::once(&quoted).chain(heirs) {
                sql.push_str(&format!(
                    " DROP TRIGGER IF EXISTS {trigger} ON {table}; \
                     CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {function}();"
                ));
            }
            sql + " COMMIT;"
        }
    }
}

/// The source text of the trigger's function.
fn body(table: &Written, hint: Hint, is_uuid: bool) -> String {
    format!("BEGIN NEW.{} := {}; RETURN NEW; END", table.quoted_key(), hint.of_type(is_uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_by_their_names() {
        for hint in [Hint::Setting, Hint::ApplicationName, Hint::Comment] {
            assert_eq!(hint.as_str().parse::<Hint>().unwrap(), hint);
        }
        assert!("guc".parse::<Hint>().is_err());
    }
}
