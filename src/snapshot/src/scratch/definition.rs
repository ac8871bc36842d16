//! The statements that recreate a namespace of a schema document, in an order in which each finds what it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::ScratchError;
use super::rewrite::unqualified;
use super::role::quoted;
use crate::schema::Schema;

/// Most objects that are recreated.
pub(super) const OBJECTS_MAX: usize = 20_000;

/// One object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Definition {
    /// Of the schema document.
    pub part: &'static str,
    pub sql: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Definitions {
    pub list: Vec<Definition>,
    /// These may need one another, in an order that the document does not have.
    pub views: Vec<Definition>,
    /// How many objects of each part cannot be written as a statement.
    pub left_out: BTreeMap<&'static str, u64>,
}

/// Parts that a document describes without their text, or that would act in the name of a role that is not there.
const LEFT_OUT: [&str; 4] = ["functions", "policies", "rules", "triggers"];

/// # Errors
/// More than [`OBJECTS_MAX`] objects.
pub(super) fn of(schema: &Schema, namespace: &str) -> Result<Definitions, ScratchError> {
    let mut writer = Writer { schema, namespace, out: Definitions::default() };
    for part in LEFT_OUT {
        let count = writer.owned(part).map(|(_, owned)| owned.len()).sum::<usize>();
        let count = if part == "functions" { writer.objects(part).count() } else { count };
        if count > 0 {
            writer.out.left_out.insert(part, count as u64); // usize fits
        }
    }
    writer.types();
    writer.relations();
    writer.sequences();
    writer.defaults();
    writer.constraints();
    writer.indexes();
    writer.views();
    let count = writer.out.list.len() + writer.out.views.len();
    if count > OBJECTS_MAX { Err(ScratchError::Objects(count)) } else { Ok(writer.out) }
}

struct Writer<'s> {
    schema: &'s Schema,
    namespace: &'s str,
    out: Definitions,
}

impl<'s> Writer<'s> {
    /// Objects of a part that stand in the namespace itself.
    fn objects(&self, part: &str) -> impl Iterator<Item = (&'s str, &'s Value)> + use<'s> {
        let objects = self.schema.parts()[part][self.namespace].as_object();
        objects.into_iter().flatten().map(|(name, object)| (name.as_str(), object))
    }

    /// Objects that belong to another one, by that one's name.
    fn owned(&self, part: &str) -> impl Iterator<Item = (&'s str, &'s Map<String, Value>)> + use<'s> {
        self.objects(part).filter_map(|(owner, owned)| Some((owner, owned.as_object()?)))
    }

    /// None: it cannot be written.
    fn put(&mut self, part: &'static str, sql: Option<String>) {
        match sql {
            Some(sql) => self.out.list.push(Definition { part, sql }),
            None => self.leave_out(part),
        }
    }

    fn leave_out(&mut self, part: &'static str) {
        *self.out.left_out.entry(part).or_default() += 1;
    }

    fn text(&self, value: &Value) -> Option<String> {
        unqualified(value.as_str()?, self.namespace)
    }

    /// A relation by its qualified name, if it is of this namespace.
    fn relation(&self, qualified: &Value) -> Option<String> {
        let name = qualified.as_str()?.strip_prefix(self.namespace)?.strip_prefix('.')?;
        Some(quoted(name))
    }

    fn types(&mut self) {
        for (name, of) in self.objects("types") {
            let name = quoted(name);
            let sql = match of["kind"].as_str() {
                Some("enum") => {
                    let labels = of["labels"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    let labels: Vec<String> = labels.map(literal).collect();
                    Some(format!("CREATE TYPE {name} AS ENUM ({})", labels.join(", ")))
                }
                Some("domain") => self.text(&of["base"]).map(|base| {
                    let not_null = if of["not_null"] == true { " NOT NULL" } else { "" };
                    format!("CREATE DOMAIN {name} AS {base}{}{not_null}", collation(of))
                }),
                Some("range") => self
                    .text(&of["subtype"])
                    .map(|subtype| format!("CREATE TYPE {name} AS RANGE (SUBTYPE = {subtype})")),
                _ => None,
            };
            self.put("types", sql);
        }
    }

    /// Parents come before what is a part of them.
    fn relations(&mut self) {
        let mut waiting: Vec<(&str, &Value)> = self.objects("relations").collect();
        let mut made: BTreeSet<String> = BTreeSet::new();
        loop {
            let before = waiting.len();
            let mut left = Vec::new();
            for (name, of) in waiting {
                let parents = of["parents"].as_array().into_iter().flatten();
                let parents: Vec<Option<String>> = parents.map(|parent| self.relation(parent)).collect();
                if parents.iter().all(|parent| parent.as_ref().is_some_and(|parent| made.contains(parent))) {
                    self.one_relation(name, of, parents.first().cloned().flatten());
                    made.insert(quoted(name));
                } else {
                    left.push((name, of));
                }
            }
            if left.is_empty() || left.len() == before {
                left.iter().for_each(|_| self.leave_out("relations"));
                return;
            }
            waiting = left;
        }
    }

    fn one_relation(&mut self, name: &str, of: &Value, parent: Option<String>) {
        let quoted_name = quoted(name);
        let sql = match of["kind"].as_str() {
            Some("table" | "partitioned_table") => {
                let key = match of["partition_key"].is_string() {
                    true => self.text(&of["partition_key"]).map(|key| format!(" PARTITION BY {key}")),
                    false => Some(String::new()),
                };
                let body = match (parent, of["partition_bound"].is_string()) {
                    (Some(parent), true) => self
                        .text(&of["partition_bound"])
                        .map(|bound| format!("PARTITION OF {parent} {bound}")),
                    // What it inherits is among its columns.
                    _ => self.columns(name, true).map(|columns| format!("({columns})")),
                };
                match (body, key) {
                    (Some(body), Some(key)) => Some(format!("CREATE TABLE {quoted_name} {body}{key}")),
                    _ => None,
                }
            }
            Some("composite_type") => {
                self.columns(name, false).map(|columns| format!("CREATE TYPE {quoted_name} AS ({columns})"))
            }
            // They come later.
            Some("view" | "materialized_view" | "sequence") => return,
            _ => None,
        };
        self.put("relations", sql);
    }

    fn columns(&self, relation: &str, of_table: bool) -> Option<String> {
        let columns = self.schema.parts()["columns"][self.namespace][relation].as_object();
        let mut columns: Vec<(&String, &Value)> = columns.into_iter().flatten().collect();
        columns.sort_by_key(|(_, column)| column["place"].as_u64());
        let written = columns.into_iter().map(|(name, column)| {
            let mut sql = format!("{} {}{}", quoted(name), self.text(&column["type"])?, collation(column));
            if of_table {
                match (column["identity"].as_str(), column["generated"].as_str()) {
                    (Some("always"), _) => sql.push_str(" GENERATED ALWAYS AS IDENTITY"),
                    (Some(_), _) => sql.push_str(" GENERATED BY DEFAULT AS IDENTITY"),
                    (_, Some(kind)) => {
                        let kind = if kind == "virtual" { "VIRTUAL" } else { "STORED" };
                        let expression = self.text(&column["default"])?;
                        sql.push_str(&format!(" GENERATED ALWAYS AS ({expression}) {kind}"));
                    }
                    _ => {}
                }
                if column["not_null"] == true {
                    sql.push_str(" NOT NULL");
                }
            }
            Some(sql)
        });
        written.collect::<Option<Vec<_>>>().map(|columns| columns.join(", "))
    }

    /// Those of identity columns are there already, and only get their numbers.
    fn sequences(&mut self) {
        for (name, of) in self.objects("sequences") {
            let name = quoted(name);
            self.put("sequences", Some(format!("CREATE SEQUENCE IF NOT EXISTS {name}")));
            let number = |member: &str, words: &str| {
                let digits = of[member].as_str()?;
                digits.parse::<i128>().ok().map(|number| format!(" {words} {number}"))
            };
            let numbers = [
                number("increment", "INCREMENT"),
                number("min", "MINVALUE"),
                number("max", "MAXVALUE"),
                number("start", "START"),
                number("start", "RESTART"),
                number("cache", "CACHE"),
            ];
            let numbers: String = numbers.into_iter().flatten().collect();
            let cycle = if of["cycle"] == true { "CYCLE" } else { "NO CYCLE" };
            self.put("sequences", Some(format!("ALTER SEQUENCE {name}{numbers} {cycle}")));
        }
    }

    fn defaults(&mut self) {
        for (name, of) in self.objects("types") {
            if of["default"].is_string() {
                let set = |default| format!("ALTER DOMAIN {} SET DEFAULT {default}", quoted(name));
                let sql = self.text(&of["default"]).map(set);
                self.put("types", sql);
            }
        }
        for (relation, columns) in self.owned("columns") {
            for (name, column) in columns {
                if !column["default"].is_string() || column["generated"].is_string() {
                    continue;
                }
                let set = |default| {
                    format!(
                        "ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {default}",
                        quoted(relation),
                        quoted(name)
                    )
                };
                let sql = self.text(&column["default"]).map(set);
                self.put("columns", sql);
            }
        }
    }

    /// Foreign keys come last, since they need what others are unique by. One that is checked at the end of a transaction is checked at once:
    /// each recorded statement was a transaction.
    fn constraints(&mut self) {
        for is_foreign in [false, true] {
            for (owner, constraints) in self.owned("constraints") {
                for (name, of) in constraints {
                    let is_inherited = self.is_partition(owner);
                    if (of["kind"] == "foreign_key") != is_foreign || is_inherited {
                        continue;
                    }
                    let body = self.constraint(of);
                    let kind = if self.is_domain(owner) { "DOMAIN" } else { "TABLE" };
                    let add = |body: String| {
                        format!("ALTER {kind} {} ADD CONSTRAINT {} {body}", quoted(owner), quoted(name))
                    };
                    self.put("constraints", body.map(add));
                }
            }
        }
    }

    fn constraint(&self, of: &Value) -> Option<String> {
        let columns = |member: &str| list(&of[member]);
        match of["kind"].as_str()? {
            "check" | "exclusion" => self.text(&of["definition"]),
            "primary_key" => Some(format!("PRIMARY KEY ({})", columns("columns")?)),
            "unique" => Some(format!("UNIQUE ({})", columns("columns")?)),
            "foreign_key" => {
                let action = |member: &str, words: &str| {
                    let action = of[member].as_str().map(|action| action.replace('_', " ").to_uppercase());
                    let set = match member {
                        "on_delete" => columns("set_columns").map(|columns| format!(" ({columns})")),
                        _ => None,
                    };
                    action.map(|action| format!(" {words} {action}{}", set.unwrap_or_default()))
                };
                let matching = of["match"].as_str().map(|_| " MATCH FULL");
                Some(format!(
                    "FOREIGN KEY ({}) REFERENCES {} ({}){}{}{}",
                    columns("columns")?,
                    self.relation(&of["references"])?,
                    columns("references_columns")?,
                    matching.unwrap_or_default(),
                    action("on_update", "ON UPDATE").unwrap_or_default(),
                    action("on_delete", "ON DELETE").unwrap_or_default(),
                ))
            }
            _ => None,
        }
    }

    /// Not those that come with a constraint, or with the table that a partition is of.
    fn indexes(&mut self) {
        for (owner, indexes) in self.owned("indexes") {
            if self.is_partition(owner) {
                continue;
            }
            let constraints = &self.schema.parts()["constraints"][self.namespace][owner];
            for (name, of) in indexes {
                if constraints[name].is_object() {
                    continue;
                }
                let sql = match of["definition"].is_string() {
                    true => self.text(&of["definition"]).filter(|sql| sql.starts_with("CREATE ")),
                    false => index(owner, name, of),
                };
                self.put("indexes", sql);
            }
        }
    }

    fn views(&mut self) {
        for (name, of) in self.objects("views") {
            let kind = match self.schema.parts()["relations"][self.namespace][name]["kind"].as_str() {
                Some("materialized_view") => "MATERIALIZED VIEW",
                _ => "VIEW",
            };
            match self.text(&of["definition"]) {
                Some(text) => {
                    let sql = format!("CREATE {kind} {} AS {}", quoted(name), text.trim_end_matches(';'));
                    self.out.views.push(Definition { part: "views", sql });
                }
                None => self.leave_out("views"),
            }
        }
    }

    fn is_partition(&self, relation: &str) -> bool {
        self.schema.parts()["relations"][self.namespace][relation]["partition_bound"].is_string()
    }

    fn is_domain(&self, name: &str) -> bool {
        self.schema.parts()["types"][self.namespace][name]["kind"] == "domain"
    }
}

/// An index of plain columns.
fn index(owner: &str, name: &str, of: &Value) -> Option<String> {
    let item = |list: &str, at: usize| of[list][at].as_str().filter(|text| !text.is_empty());
    let columns = of["columns"].as_array()?.iter().enumerate().map(|(at, column)| {
        let mut sql = quoted(column.as_str()?);
        if let Some(collation) = item("collations", at) {
            sql.push_str(&format!(" COLLATE {}", dotted(collation)));
        }
        if let Some(class) = item("operator_classes", at) {
            sql.push_str(&format!(" {}", dotted(class)));
        }
        let order = match item("order", at) {
            Some("desc") => " DESC",
            Some("desc nulls last") => " DESC NULLS LAST",
            Some("asc nulls first") => " ASC NULLS FIRST",
            _ => "",
        };
        sql.push_str(order);
        Some(sql)
    });
    let columns = columns.collect::<Option<Vec<_>>>()?.join(", ");
    let unique = if of["unique"] == true { "UNIQUE " } else { "" };
    let included = list(&of["included"]).map(|columns| format!(" INCLUDE ({columns})")).unwrap_or_default();
    let nulls = if of["nulls_not_distinct"] == true { " NULLS NOT DISTINCT" } else { "" };
    let method = quoted(of["method"].as_str()?);
    let (name, owner) = (quoted(name), quoted(owner));
    Some(format!("CREATE {unique}INDEX {name} ON {owner} USING {method} ({columns}){included}{nulls}"))
}

fn list(names: &Value) -> Option<String> {
    let names = names.as_array()?.iter().map(|name| name.as_str().map(quoted));
    names.collect::<Option<Vec<_>>>().map(|names| names.join(", "))
}

fn collation(of: &Value) -> String {
    of["collation"].as_str().map(|name| format!(" COLLATE {}", dotted(name))).unwrap_or_default()
}

/// `schema.name`, as the document joins them.
fn dotted(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, name)) => format!("{}.{}", quoted(schema), quoted(name)),
        None => quoted(name),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
