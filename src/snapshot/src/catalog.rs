//! The questions that are put to `pg_catalog`.
//!
//! Columns are read raw, and only what has no other form is printed by the server (defaults, checks, expressions of
//! indexes, triggers, policies, views): printing is dear, and it follows the latest catalog. Only what a database's
//! owner made is asked for: no schema whose name begins with `pg_`, and not `information_schema`.

/// The first version whose catalog is known.
pub const OLDEST: u32 = 130_000;

/// The columns of [`preflight`], in order.
pub mod preflight {
    pub const IN_RECOVERY: usize = 0;
    pub const VERSION: usize = 1;
    pub const DATABASE: usize = 2;
    pub const DATABASE_OID: usize = 3;
    pub const USER: usize = 4;
    pub const RELATIONS: usize = 5;
    pub const NAMESPACES: usize = 6;
    pub const VISIBLE: usize = 7;
}

/// The columns of [`LOG_POSITION`], in order.
pub mod position {
    pub const INSERTED: usize = 0;
    pub const FLUSHED: usize = 1;
    pub const RECEIVED: usize = 2;
    pub const REPLAYED: usize = 3;
    pub const PAUSED: usize = 4;
    pub const TIMELINE: usize = 5;
}

/// Where the log is. By itself, because it fails on servers that keep no log of their own.
pub const LOG_POSITION: &str = "\
SELECT CASE WHEN NOT r THEN pg_catalog.pg_current_wal_insert_lsn() END, \
CASE WHEN NOT r THEN pg_catalog.pg_current_wal_flush_lsn() END, \
CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn() END, \
CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() END, \
CASE WHEN r THEN pg_catalog.pg_is_wal_replay_paused() END, \
CASE WHEN NOT r THEN pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END \
FROM pg_catalog.pg_is_in_recovery() r";

/// Which server it is. By itself, because it may be denied.
pub const SYSTEM: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// Which schemas are looked at.
const IS_OURS: &str = "nspname !~ '^pg_' AND nspname <> 'information_schema'";

/// Which transactions a statement sees, and in which process of the server: where both are equal, so is the catalog. (Not after a
/// crash, which may take back transactions, but that ends the process too.)
const VISIBLE: &str = "pg_backend_pid()::text || ' ' || pg_current_snapshot()::text";

/// More schemas than this are not listed in each question.
const LISTED_MAX: usize = 1_000;

/// The schemas that are looked at, as the right side of `IN`.
#[derive(Clone, Debug)]
pub struct Namespaces(String);

impl Namespaces {
    /// Numbers that the server gave, separated by commas: they spare every question a look for them.
    pub fn listed(oids: Option<&str>) -> Self {
        let oids = oids.unwrap_or_default();
        let is_list = oids.split(',').all(|oid| oid.parse::<u32>().is_ok());
        match oids {
            "" => Self("(NULL)".to_owned()),
            oids if is_list && oids.split(',').count() <= LISTED_MAX => Self(format!("({oids})")),
            _ => Self(format!("(SELECT oid FROM pg_namespace WHERE {IS_OURS})")),
        }
    }
}

impl std::fmt::Display for Namespaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What [`preflight::VISIBLE`] says, fit to be put into a question.
pub fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b" :,".contains(&byte))
}

/// What makes printed definitions the same for everybody, and keeps a query from waiting. All of it is local to the
/// transaction, because behind a pooler the session is somebody else's next.
pub fn begin(version: u32, statement_ms: u64, lock_ms: u64) -> String {
    let mut sql = String::from("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    for setting in [
        "search_path = pg_catalog",
        "TimeZone = 'UTC'",
        "DateStyle = 'ISO, YMD'",
        "IntervalStyle = 'postgres'",
        "extra_float_digits = 3",
        "bytea_output = 'hex'",
        "row_security = off",
        "quote_all_identifiers = off",
        "jit = off",
    ] {
        sql.push_str("; SET LOCAL ");
        sql.push_str(setting);
    }
    sql.push_str(&format!(
        "; SET LOCAL statement_timeout = {statement_ms}; SET LOCAL lock_timeout = {lock_ms}"
    ));
    sql.push_str(&format!("; SET LOCAL idle_in_transaction_session_timeout = {statement_ms}"));
    if version >= 170_000 {
        sql.push_str(&format!("; SET LOCAL transaction_timeout = {}", statement_ms.saturating_mul(2)));
    }
    sql
}

/// The same transaction at the moment of another, which exported it.
pub fn begin_at(snapshot: &str, version: u32, statement_ms: u64, lock_ms: u64) -> String {
    let begin = begin(version, statement_ms, lock_ms);
    let (isolation, settings) = begin.split_once(';').unwrap_or((&begin, ""));
    format!("{isolation}; SET TRANSACTION SNAPSHOT '{}';{settings}", snapshot.replace('\'', "''"))
}

/// The transaction's snapshot, for others as long as it is open.
pub const EXPORT: &str = "SELECT pg_export_snapshot()";

/// One row about the session, the columns of [`preflight`].
pub fn preflight() -> String {
    format!(
        "WITH ours AS MATERIALIZED (SELECT oid FROM pg_namespace WHERE {IS_OURS}) \
         SELECT pg_is_in_recovery(), current_setting('server_version_num'), current_database(), \
         (SELECT oid FROM pg_database WHERE datname = current_database()), current_user, \
         (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace IN (SELECT oid FROM ours)), \
         (SELECT string_agg(oid::text, ',') FROM ours), {VISIBLE}"
    )
}

/// A digest of which versions of rows a catalog has: equal before and after means that no DDL came between. Writing
/// rows of tables, ANALYZE and VACUUM leave it as it is. Rows: catalog, count, digest; none where the same is visible as
/// at `known`, so that they would be the same.
pub fn fingerprint(known: Option<&str>) -> String {
    const OURS: &str = "(SELECT oid FROM ours)";
    const CLASS: &str = "(SELECT oid FROM class)";
    const WITH_COLUMNS: &str = "(SELECT oid FROM class WHERE kind NOT IN ('i', 'I', 'S', 't'))";
    const TYPES: &str = "(SELECT oid FROM types)";
    let catalogs = [
        ("pg_namespace", "ours", "oid", None),
        ("pg_class", "class", "oid", None),
        ("pg_attribute", "pg_attribute", "attrelid, attnum", Some(("attnum > 0 AND attrelid", WITH_COLUMNS))),
        ("pg_attrdef", "pg_attrdef", "oid", Some(("adrelid", CLASS))),
        ("pg_constraint", "pg_constraint", "oid", Some(("connamespace", OURS))),
        ("pg_index", "pg_index", "indexrelid", Some(("indexrelid", CLASS))),
        ("pg_inherits", "pg_inherits", "inhrelid, inhseqno", Some(("inhrelid", CLASS))),
        ("pg_trigger", "pg_trigger", "oid", Some(("tgrelid", CLASS))),
        ("pg_policy", "pg_policy", "oid", Some(("polrelid", CLASS))),
        ("pg_rewrite", "pg_rewrite", "oid", Some(("ev_class", CLASS))),
        ("pg_sequence", "pg_sequence", "seqrelid", Some(("seqrelid", CLASS))),
        ("pg_proc", "pg_proc", "oid", Some(("pronamespace", OURS))),
        ("pg_type", "types", "oid", None),
        ("pg_enum", "pg_enum", "oid", Some(("enumtypid", TYPES))),
        ("pg_range", "pg_range", "rngtypid", Some(("rngtypid", TYPES))),
        ("pg_extension", "pg_extension", "oid", None),
    ];
    let parts: Vec<String> = catalogs
        .iter()
        .map(|(catalog, from, order, of)| {
            let of = of.map(|(key, set)| format!(" WHERE {key} IN {set}")).unwrap_or_default();
            format!(
                "SELECT '{catalog}', count(*), encode(sha256(coalesce(string_agg(xidsend(xmin), ''::bytea \
                 ORDER BY {order}), ''::bytea)), 'hex') FROM {from}{of}"
            )
        })
        .collect();
    format!(
        "WITH ours AS MATERIALIZED (SELECT oid, xmin FROM pg_namespace WHERE {IS_OURS}), \
         class AS MATERIALIZED (SELECT oid, xmin, relkind AS kind FROM pg_class WHERE relnamespace IN {OURS}), \
         types AS MATERIALIZED (SELECT oid, xmin FROM pg_type WHERE typnamespace IN {OURS}) \
         SELECT * FROM ({}) f WHERE (SELECT {VISIBLE} <> '{}')",
        parts.join(" UNION ALL "),
        known.unwrap_or_default(),
    )
}

/// The parts of a schema, in the order in which they are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Namespaces,
    Relations,
    TypeNames,
    CollationNames,
    OperatorClassNames,
    Columns,
    Defaults,
    Constraints,
    Indexes,
    Triggers,
    Policies,
    Views,
    Rules,
    Functions,
    Types,
    EnumLabels,
    Sequences,
    Extensions,
    Uncovered,
}

impl Part {
    /// All, in order.
    pub const ALL: [Self; 19] = [
        Self::Namespaces,
        Self::Relations,
        Self::TypeNames,
        Self::CollationNames,
        Self::OperatorClassNames,
        Self::Columns,
        Self::Defaults,
        Self::Constraints,
        Self::Indexes,
        Self::Triggers,
        Self::Policies,
        Self::Views,
        Self::Rules,
        Self::Functions,
        Self::Types,
        Self::EnumLabels,
        Self::Sequences,
        Self::Extensions,
        Self::Uncovered,
    ];

    /// The question about these schemas, for a server of that version.
    pub fn query(self, version: u32, ours: &Namespaces) -> String {
        let since = |first: u32, column: &'static str| if version >= first { column } else { "NULL" };
        match self {
            Self::Namespaces => format!("SELECT oid, nspname FROM pg_namespace WHERE oid IN {ours}"),
            Self::Relations => format!(
                "SELECT c.oid, c.relnamespace, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, \
                 c.relforcerowsecurity, array_to_json(c.reloptions), (SELECT amname FROM pg_am WHERE oid = c.relam), \
                 CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END, \
                 CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END, \
                 (SELECT json_agg(inhparent::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid) \
                 FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S') AND c.relnamespace IN {ours}"
            ),
            Self::TypeNames => format!(
                "SELECT t, m, format_type(t, m), (SELECT typcollation FROM pg_type WHERE oid = t) FROM (SELECT DISTINCT \
                 atttypid t, atttypmod m FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class \
                 WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND relnamespace IN {ours})) d"
            ),
            Self::CollationNames => {
                "SELECT c.oid, n.nspname, c.collname FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace"
                    .to_owned()
            }
            Self::OperatorClassNames => {
                "SELECT o.oid, n.nspname, o.opcname, o.opcdefault FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace"
                    .to_owned()
            }
            Self::Columns => format!(
                "SELECT attrelid, attnum, attname, atttypid, atttypmod, nullif(attnotnull, false), \
                 nullif(attidentity, ''), nullif(attgenerated, ''), nullif(attcollation, 0) FROM pg_attribute \
                 WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class \
                 WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND relnamespace IN {ours})"
            ),
            Self::Defaults => format!(
                "SELECT d.adrelid, d.adnum, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_class c \
                 ON c.oid = d.adrelid WHERE c.relnamespace IN {ours}"
            ),
            Self::Constraints => format!(
                "SELECT k.conrelid, k.contypid, k.conname, k.contype, k.condeferrable, k.condeferred, k.convalidated, \
                 array_to_json(k.conkey), k.confrelid, array_to_json(k.confkey), k.confupdtype, k.confdeltype, \
                 k.confmatchtype, k.connoinherit, CASE WHEN k.contype IN ('c', 'x') THEN pg_get_constraintdef(k.oid) END, \
                 {}, {}, {} FROM pg_constraint k WHERE k.contype <> 'n' AND k.connamespace IN {ours}",
                since(150_000, "array_to_json(k.confdelsetcols)"),
                since(180_000, "k.conenforced"),
                since(180_000, "k.conperiod"),
            ),
            Self::Indexes => format!(
                "SELECT i.indrelid, c.relname, m.amname, i.indisunique, i.indisprimary, i.indisexclusion, i.indimmediate, \
                 i.indisvalid, i.indnkeyatts, i.indkey, i.indoption, i.indclass, i.indcollation, \
                 CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN pg_get_indexdef(i.indexrelid) END, \
                 array_to_json(c.reloptions), {} FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                 JOIN pg_am m ON m.oid = c.relam WHERE c.relnamespace IN {ours}",
                since(150_000, "i.indnullsnotdistinct"),
            ),
            Self::Triggers => format!(
                "SELECT t.tgrelid, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c \
                 ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND c.relnamespace IN {ours}"
            ),
            Self::Policies => format!(
                "SELECT p.polrelid, p.polname, p.polcmd, p.polpermissive, (SELECT json_agg(CASE WHEN r = 0 THEN 'public' \
                 ELSE pg_get_userbyid(r)::text END) FROM unnest(p.polroles) r), pg_get_expr(p.polqual, p.polrelid), \
                 pg_get_expr(p.polwithcheck, p.polrelid) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid \
                 WHERE c.relnamespace IN {ours}"
            ),
            Self::Views => format!(
                "SELECT oid, pg_get_viewdef(oid) FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace IN {ours}"
            ),
            Self::Rules => format!(
                "SELECT r.ev_class, r.rulename, r.ev_enabled, pg_get_ruledef(r.oid) FROM pg_rewrite r JOIN pg_class c \
                 ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN' AND c.relnamespace IN {ours}"
            ),
            Self::Functions => format!(
                "SELECT p.pronamespace, p.proname, pg_get_function_identity_arguments(p.oid), p.prokind, \
                 (SELECT lanname FROM pg_language WHERE oid = p.prolang), p.provolatile, p.proparallel, p.proisstrict, \
                 p.prosecdef, p.proleakproof, p.proretset, format_type(p.prorettype, NULL), array_to_json(p.proconfig), \
                 p.prosrc, p.probin, pg_get_expr(p.proargdefaults, 0), {} FROM pg_proc p WHERE p.pronamespace IN {ours}",
                since(140_000, "pg_get_function_sqlbody(p.oid)"),
            ),
            Self::Types => format!(
                "SELECT t.oid, t.typnamespace, t.typname, t.typtype, CASE WHEN t.typtype = 'd' THEN \
                 format_type(t.typbasetype, t.typtypmod) END, t.typnotnull, t.typdefault, \
                 CASE WHEN t.typtype = 'd' AND t.typcollation <> 0 THEN t.typcollation END, \
                 (SELECT format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = t.oid) \
                 FROM pg_type t WHERE t.typtype IN ('d', 'e', 'r') AND t.typnamespace IN {ours}"
            ),
            Self::EnumLabels => format!(
                "SELECT e.enumtypid, e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid \
                 WHERE t.typnamespace IN {ours} ORDER BY e.enumtypid, e.enumsortorder"
            ),
            Self::Sequences => format!(
                "SELECT s.seqrelid, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, \
                 s.seqcache, s.seqcycle FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid \
                 WHERE c.relnamespace IN {ours}"
            ),
            Self::Extensions => "SELECT extname, extversion FROM pg_extension".to_owned(),
            Self::Uncovered => uncovered(ours),
        }
    }
}

/// What a database has and a snapshot does not describe. Rows: kind, count.
fn uncovered(ours: &Namespaces) -> String {
    // Rows of an object that came with the server have smaller ids.
    const MADE: &str = "oid >= 16384";
    let class = format!("(SELECT oid FROM pg_class WHERE relnamespace IN {ours})");
    let kinds = [
        ("aggregates", format!("pg_proc WHERE prokind = 'a' AND pronamespace IN {ours}")),
        ("casts", format!("pg_cast WHERE {MADE}")),
        ("collations", format!("pg_collation WHERE {MADE}")),
        ("comments", format!("pg_description WHERE objoid >= 16384 AND objoid IN {class}")),
        ("conversions", format!("pg_conversion WHERE {MADE}")),
        ("default_privileges", "pg_default_acl".to_owned()),
        ("event_triggers", "pg_event_trigger".to_owned()),
        ("foreign_servers", "pg_foreign_server".to_owned()),
        ("foreign_table_options", format!("pg_foreign_table WHERE ftrelid IN {class}")),
        ("languages", format!("pg_language WHERE {MADE}")),
        ("large_objects", "pg_largeobject_metadata".to_owned()),
        ("operator_classes", format!("pg_opclass WHERE {MADE}")),
        ("operators", format!("pg_operator WHERE {MADE}")),
        ("privileges", format!("pg_class WHERE relacl IS NOT NULL AND relnamespace IN {ours}")),
        ("publications", "pg_publication".to_owned()),
        ("security_labels", "pg_seclabel".to_owned()),
        ("statistics", format!("pg_statistic_ext WHERE stxrelid IN {class}")),
        ("subscriptions", "pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            .to_owned()),
        ("text_search", format!("pg_ts_config WHERE {MADE}")),
        ("transforms", "pg_transform".to_owned()),
    ];
    let parts: Vec<String> =
        kinds.iter().map(|(kind, of)| format!("SELECT '{kind}'::text k, count(*) n FROM {of}")).collect();
    format!("SELECT k, n FROM ({}) u WHERE n > 0", parts.join(" UNION ALL "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_listed_in_questions_only_as_numbers_and_while_they_are_few() {
        assert_eq!(Namespaces::listed(Some("2200,16385")).to_string(), "(2200,16385)");
        assert_eq!(Namespaces::listed(None).to_string(), "(NULL)");
        let many = vec!["1"; LISTED_MAX + 1].join(",");
        for text in ["2200) OR (1", "2200,", "x", many.as_str()] {
            let asked = Namespaces::listed(Some(text)).to_string();
            assert!(asked.starts_with("(SELECT oid FROM pg_namespace"), "{asked}");
        }
    }

    #[test]
    fn what_is_visible_goes_into_a_question_only_as_numbers() {
        assert!(is_visible("4711 1000:1002:1000,1001"));
        assert!(!is_visible("4711 1000:1002:' OR '"));
    }
}
