//! Rows of the catalog become the parts of a schema.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use estoppel_evidence::hash::Sha256;
use serde_json::{Map, Value, json};
use tokio_postgres::SimpleQueryRow;

use super::Schema;
use super::words::{self, word};
use crate::catalog::Part;
use crate::error::SnapshotError;

type Oid = u32;

/// One row, its columns by number.
struct Row<'a>(&'a SimpleQueryRow);

impl<'a> Row<'a> {
    fn text(&self, at: usize) -> Option<&'a str> {
        self.0.try_get(at).ok().flatten()
    }

    fn name(&self, at: usize) -> Result<&'a str, SnapshotError> {
        self.text(at).ok_or(SnapshotError::Unreadable("a row without its name"))
    }

    fn number<T: FromStr>(&self, at: usize) -> Result<T, SnapshotError> {
        self.text(at)
            .and_then(|text| text.parse().ok())
            .ok_or(SnapshotError::Unreadable("a column that is no number"))
    }

    fn is_true(&self, at: usize) -> bool {
        self.text(at) == Some("t")
    }

    fn json(&self, at: usize) -> Option<Value> {
        self.text(at).and_then(|text| serde_json::from_str(text).ok())
    }

    /// Numbers that are separated by blanks, as vectors of the catalog are.
    fn vector(&self, at: usize) -> Result<Vec<i64>, SnapshotError> {
        self.text(at)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(|number| number.parse().map_err(|_| SnapshotError::Unreadable("a vector that is none")))
            .collect()
    }
}

/// What an object says of itself: members that say nothing are left out.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    fn flag(self, name: &str, is_so: bool) -> Self {
        if is_so { self.set(name, true) } else { self }
    }
}

/// What the other rows call things by number.
#[derive(Default)]
struct Names {
    namespaces: HashMap<Oid, String>,
    relations: HashMap<Oid, (String, String)>,
    columns: HashMap<(Oid, i64), String>,
    /// With the number of the usual collation, or 0.
    types: HashMap<(Oid, i32), (String, Oid)>,
    collations: HashMap<Oid, String>,
    operator_classes: HashMap<Oid, (String, bool)>,
    domains: HashMap<Oid, (String, String)>,
}

impl Names {
    fn namespace(&self, oid: Oid) -> Result<&str, SnapshotError> {
        self.namespaces.get(&oid).map(String::as_str).ok_or(SnapshotError::DdlRace)
    }

    fn relation(&self, oid: Oid) -> Result<(&str, &str), SnapshotError> {
        self.relations
            .get(&oid)
            .map(|(schema, name)| (schema.as_str(), name.as_str()))
            .ok_or(SnapshotError::DdlRace)
    }

    fn qualified(&self, oid: Oid) -> Result<String, SnapshotError> {
        self.relation(oid).map(|(schema, name)| format!("{schema}.{name}"))
    }

    fn column_list(&self, relation: Oid, numbers: &[i64]) -> Value {
        // An expression has no column: its text is in the definition.
        let name =
            |number: &i64| self.columns.get(&(relation, *number)).map_or("(expression)", String::as_str);
        numbers.iter().map(name).map(Value::from).collect()
    }

    fn numbered_columns(&self, relation: Oid, numbers: Option<Value>) -> Option<Value> {
        let numbers: Vec<i64> = numbers?.as_array()?.iter().filter_map(Value::as_i64).collect();
        Some(self.column_list(relation, &numbers))
    }
}

/// A part: objects by the names that lead to them.
#[derive(Default)]
struct Tree(Map<String, Value>);

impl Tree {
    fn put(&mut self, path: &[&str], fields: Fields) {
        let Some((last, folders)) = path.split_last() else { return };
        let mut at = &mut self.0;
        for folder in folders {
            let next = at.entry((*folder).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = next else { return };
            at = map;
        }
        at.insert((*last).to_owned(), Value::Object(fields.0));
    }
}

/// Makes a schema of what the questions of [`Part::ALL`] were answered with, in that order.
pub(crate) fn read(answers: &[Vec<SimpleQueryRow>]) -> Result<Schema, SnapshotError> {
    if answers.len() != Part::ALL.len() {
        return Err(SnapshotError::Unreadable("another number of answers than of questions"));
    }
    let of = |part: Part| {
        let at = Part::ALL.iter().position(|other| *other == part);
        at.and_then(|at| answers.get(at)).into_iter().flatten().map(Row)
    };
    let names = names(&of)?;
    let mut parts: BTreeMap<&'static str, Value> = BTreeMap::new();
    let mut keep = |name, tree: Tree| parts.insert(name, Value::Object(tree.0));

    let mut namespaces = Tree::default();
    names.namespaces.values().for_each(|name| namespaces.put(&[name], Fields::default()));
    keep("namespaces", namespaces);
    keep("relations", relations(of(Part::Relations), &names)?);
    keep("columns", columns(of(Part::Columns), of(Part::Defaults), &names)?);
    keep("constraints", constraints(of(Part::Constraints), &names)?);
    keep("indexes", indexes(of(Part::Indexes), &names)?);
    keep("triggers", defined(of(Part::Triggers), &names)?);
    keep("policies", policies(of(Part::Policies), &names)?);
    keep("views", views(of(Part::Views), &names)?);
    keep("rules", defined(of(Part::Rules), &names)?);
    keep("functions", functions(of(Part::Functions), &names)?);
    keep("types", types(of(Part::Types), of(Part::EnumLabels), &names)?);
    keep("sequences", sequences(of(Part::Sequences), &names)?);
    let mut extensions = Tree::default();
    for row in of(Part::Extensions) {
        extensions.put(&[row.name(0)?], Fields::default().set("version", row.name(1)?));
    }
    keep("extensions", extensions);

    let uncovered = of(Part::Uncovered).map(|row| Ok((row.name(0)?.to_owned(), row.number(1)?)));
    let uncovered = uncovered.collect::<Result<_, SnapshotError>>()?;
    Schema::new(parts, uncovered).ok_or(SnapshotError::Unreadable("a name that no JSON can hold"))
}

fn names<'a, I: Iterator<Item = Row<'a>>>(of: &impl Fn(Part) -> I) -> Result<Names, SnapshotError> {
    let mut names = Names::default();
    for row in of(Part::Namespaces) {
        names.namespaces.insert(row.number(0)?, row.name(1)?.to_owned());
    }
    for row in of(Part::Relations) {
        let schema = names.namespace(row.number(1)?)?.to_owned();
        names.relations.insert(row.number(0)?, (schema, row.name(2)?.to_owned()));
    }
    for row in of(Part::TypeNames) {
        names.types.insert((row.number(0)?, row.number(1)?), (row.name(2)?.to_owned(), row.number(3)?));
    }
    for row in of(Part::CollationNames) {
        names.collations.insert(row.number(0)?, format!("{}.{}", row.name(1)?, row.name(2)?));
    }
    for row in of(Part::OperatorClassNames) {
        names
            .operator_classes
            .insert(row.number(0)?, (format!("{}.{}", row.name(1)?, row.name(2)?), row.is_true(3)));
    }
    for row in of(Part::Columns) {
        names.columns.insert((row.number(0)?, row.number(1)?), row.name(2)?.to_owned());
    }
    for row in of(Part::Types) {
        let schema = names.namespace(row.number(1)?)?.to_owned();
        names.domains.insert(row.number(0)?, (schema, row.name(2)?.to_owned()));
    }
    Ok(names)
}

fn relations<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let (schema, name) = names.relation(row.number(0)?)?;
        let parents = row.json(11).and_then(|parents| {
            let oids = parents.as_array()?.iter().filter_map(|oid| oid.as_str()?.parse().ok());
            oids.map(|oid| names.qualified(oid).ok().map(Value::from)).collect::<Option<Vec<_>>>()
        });
        let fields = Fields::default()
            .set("kind", word(words::KIND, row.name(3)?))
            .some(
                "persistence",
                row.text(4).filter(|letter| *letter != "p").map(|l| word(words::PERSISTENCE, l)),
            )
            .flag("row_security", row.is_true(5))
            .flag("row_security_forced", row.is_true(6))
            .some("options", row.json(7))
            .some("access_method", row.text(8).filter(|method| *method != "heap"))
            .some("partition_bound", row.text(9))
            .some("partition_key", row.text(10))
            .some("parents", parents);
        tree.put(&[schema, name], fields);
    }
    Ok(tree)
}

/// Columns count from 1 without those that were dropped, so that a column's place is the same in a copy.
fn columns<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    defaults: impl Iterator<Item = Row<'a>>,
    names: &Names,
) -> Result<Tree, SnapshotError> {
    let mut expressions: HashMap<(Oid, i64), &str> = HashMap::new();
    for row in defaults {
        expressions.insert((row.number(0)?, row.number(1)?), row.name(2)?);
    }
    let mut by_relation: BTreeMap<Oid, BTreeMap<i64, Row<'a>>> = BTreeMap::new();
    for row in rows {
        by_relation.entry(row.number(0)?).or_default().insert(row.number(1)?, row);
    }
    let mut tree = Tree::default();
    for (relation, columns) in by_relation {
        let (schema, name) = names.relation(relation)?;
        for (place, (number, row)) in (1_u64..).zip(columns) {
            let (of_type, usual) =
                names.types.get(&(row.number(3)?, row.number(4)?)).ok_or(SnapshotError::DdlRace)?;
            let collation = collation(&row, 8, names).filter(|(oid, _)| oid != usual);
            let fields = Fields::default()
                .set("place", place)
                .set("type", of_type.as_str())
                .flag("not_null", row.is_true(5))
                .some("identity", row.text(6).map(|letter| word(words::IDENTITY, letter)))
                .some("generated", row.text(7).map(|letter| word(words::GENERATED, letter)))
                .some("collation", collation.map(|(_, name)| name))
                .some("default", expressions.get(&(relation, number)).copied());
            tree.put(&[schema, name, row.name(2)?], fields);
        }
    }
    Ok(tree)
}

fn collation<'n>(row: &Row<'_>, at: usize, names: &'n Names) -> Option<(Oid, &'n str)> {
    let oid: Oid = row.text(at)?.parse().ok()?;
    names.collations.get(&oid).map(|name| (oid, name.as_str()))
}

fn constraints<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let (relation, domain): (Oid, Oid) = (row.number(0)?, row.number(1)?);
        let (schema, owner) = if relation != 0 {
            names.relation(relation)?
        } else {
            let found = names.domains.get(&domain);
            found.map(|(schema, name)| (schema.as_str(), name.as_str())).ok_or(SnapshotError::DdlRace)?
        };
        let foreign: Oid = row.number(8)?;
        let is_foreign_key = row.text(3) == Some("f");
        let action = |at: usize| {
            row.text(at)
                .filter(|letter| is_foreign_key && *letter != "a")
                .map(|letter| word(words::ACTION, letter))
        };
        let fields = Fields::default()
            .set("kind", word(words::CONSTRAINT, row.name(3)?))
            .flag("deferrable", row.is_true(4))
            .flag("deferred", row.is_true(5))
            .flag("not_validated", !row.is_true(6))
            .some("columns", names.numbered_columns(relation, row.json(7)))
            .some("references", (foreign != 0).then(|| names.qualified(foreign)).transpose()?)
            .some("references_columns", names.numbered_columns(foreign, row.json(9)))
            .some("on_update", action(10))
            .some("on_delete", action(11))
            .some(
                "match",
                row.text(12).filter(|l| is_foreign_key && *l != "s").map(|l| word(words::MATCH, l)),
            )
            .flag("no_inherit", row.text(3) == Some("c") && row.is_true(13))
            .some("definition", row.text(14))
            .some("set_columns", names.numbered_columns(relation, row.json(15)))
            .flag("not_enforced", row.text(16) == Some("f"))
            .flag("period", row.is_true(17));
        tree.put(&[schema, owner, row.name(2)?], fields);
    }
    Ok(tree)
}

fn indexes<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let relation: Oid = row.number(0)?;
        // Indexes of what is no relation of ours (of TOAST) are not a schema's.
        let Ok((schema, owner)) = names.relation(relation) else { continue };
        let keys: usize = row.number(8)?;
        let columns = row.vector(9)?;
        let (key, included) =
            columns.split_at_checked(keys).ok_or(SnapshotError::Unreadable("an index without its keys"))?;
        let special = |oids: Vec<i64>, name: &dyn Fn(Oid) -> Option<String>| {
            let found: Vec<Option<String>> =
                oids.iter().map(|oid| Oid::try_from(*oid).ok().and_then(name)).collect();
            found
                .iter()
                .any(Option::is_some)
                .then(|| found.iter().map(|n| n.as_deref().unwrap_or("")).collect::<Value>())
        };
        let classes = special(row.vector(11)?, &|oid| {
            names
                .operator_classes
                .get(&oid)
                .filter(|(_, is_default)| !is_default)
                .map(|(name, _)| name.clone())
        });
        let collations = special(row.vector(12)?, &|oid| {
            names.collations.get(&oid).filter(|name| *name != "pg_catalog.default").cloned()
        });
        let options = row.vector(10)?;
        let fields = Fields::default()
            .set("method", row.name(2)?)
            .set("columns", names.column_list(relation, key))
            .some("included", (!included.is_empty()).then(|| names.column_list(relation, included)))
            .flag("unique", row.is_true(3))
            .flag("primary", row.is_true(4))
            .flag("exclusion", row.is_true(5))
            .flag("deferrable", !row.is_true(6))
            .flag("invalid", !row.is_true(7))
            .some(
                "order",
                options
                    .iter()
                    .any(|option| *option != 0)
                    .then(|| options.iter().map(order).collect::<Value>()),
            )
            .some("operator_classes", classes)
            .some("collations", collations)
            .some("definition", row.text(13))
            .some("options", row.json(14))
            .flag("nulls_not_distinct", row.is_true(15));
        tree.put(&[schema, owner, row.name(1)?], fields);
    }
    Ok(tree)
}

/// Bit 1: descending. Bit 2: nulls first.
fn order(option: &i64) -> &'static str {
    match option & 3 {
        0 => "asc",
        1 => "desc nulls last",
        2 => "asc nulls first",
        _ => "desc",
    }
}

/// Triggers and rules: owner, name, when they fire, and their text.
fn defined<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let (schema, owner) = names.relation(row.number(0)?)?;
        let fields = Fields::default().set("definition", row.text(3).ok_or(SnapshotError::DdlRace)?).some(
            "enabled",
            row.text(2).filter(|letter| *letter != "O").map(|letter| word(words::ENABLED, letter)),
        );
        tree.put(&[schema, owner, row.name(1)?], fields);
    }
    Ok(tree)
}

fn policies<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let (schema, owner) = names.relation(row.number(0)?)?;
        let roles = row.json(4).map(|mut roles| {
            if let Value::Array(roles) = &mut roles {
                roles.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
            }
            roles
        });
        let fields = Fields::default()
            .set("command", word(words::COMMAND, row.name(2)?))
            .flag("restrictive", !row.is_true(3))
            .some("roles", roles)
            .some("using", row.text(5))
            .some("check", row.text(6));
        tree.put(&[schema, owner, row.name(1)?], fields);
    }
    Ok(tree)
}

fn views<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let (schema, name) = names.relation(row.number(0)?)?;
        let definition = row.text(1).ok_or(SnapshotError::DdlRace)?;
        tree.put(&[schema, name], Fields::default().set("definition", definition));
    }
    Ok(tree)
}

fn functions<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let schema = names.namespace(row.number(0)?)?;
        let signature = format!("{}({})", row.name(1)?, row.text(2).ok_or(SnapshotError::DdlRace)?);
        let source = row.text(16).or(row.text(13)).unwrap_or_default();
        let fields = Fields::default()
            .set("kind", word(words::ROUTINE, row.name(3)?))
            .some("language", row.text(4))
            .some("volatility", row.text(5).filter(|l| *l != "v").map(|l| word(words::VOLATILE, l)))
            .some("parallel", row.text(6).filter(|l| *l != "u").map(|l| word(words::PARALLEL, l)))
            .flag("strict", row.is_true(7))
            .flag("security_definer", row.is_true(8))
            .flag("leakproof", row.is_true(9))
            .flag("returns_set", row.is_true(10))
            .some("returns", row.text(11))
            .some("settings", row.json(12))
            .set("body", Sha256::of(source.as_bytes()).to_string())
            .some("library", row.text(14))
            .some("defaults", row.text(15));
        tree.put(&[schema, &signature], fields);
    }
    Ok(tree)
}

fn types<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    enum_labels: impl Iterator<Item = Row<'a>>,
    names: &Names,
) -> Result<Tree, SnapshotError> {
    let mut labels: HashMap<Oid, Vec<Value>> = HashMap::new();
    for row in enum_labels {
        labels.entry(row.number(0)?).or_default().push(row.name(1)?.into());
    }
    let mut tree = Tree::default();
    for row in rows {
        let schema = names.namespace(row.number(1)?)?;
        let fields = Fields::default()
            .set("kind", word(words::TYPE, row.name(3)?))
            .some("base", row.text(4))
            .flag("not_null", row.is_true(5))
            .some("default", row.text(6))
            .some("collation", collation(&row, 7, names).map(|(_, name)| name))
            .some("subtype", row.text(8))
            .some("labels", labels.remove(&row.number(0)?));
        tree.put(&[schema, row.name(2)?], fields);
    }
    Ok(tree)
}

fn sequences<'a>(rows: impl Iterator<Item = Row<'a>>, names: &Names) -> Result<Tree, SnapshotError> {
    let mut tree = Tree::default();
    for row in rows {
        let (schema, name) = names.relation(row.number(0)?)?;
        // 64-bit numbers do not all fit a double, so that they are text.
        let number = |at: usize| row.text(at).map(|text| json!(text));
        let fields = Fields::default()
            .some("type", row.text(1))
            .some("start", number(2))
            .some("increment", number(3))
            .some("min", number(4))
            .some("max", number(5))
            .some("cache", number(6))
            .flag("cycle", row.is_true(7));
        tree.put(&[schema, name], fields);
    }
    Ok(tree)
}
