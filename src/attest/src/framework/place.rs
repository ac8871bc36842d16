//! Tables of a framework's file, each with its place: what `spec/framework.schema.json` refuses is refused here, by the key.

use std::collections::BTreeSet;
use std::fmt::Display;

use toml::{Table, Value};

use crate::error::AttestError;

/// A table, and its place as a JSON pointer.
pub(super) struct Place<'t> {
    pointer: String,
    table: &'t Table,
}

impl<'t> Place<'t> {
    /// The whole file.
    pub fn whole(table: &'t Table) -> Self {
        Self { pointer: String::new(), table }
    }

    /// Why a member cannot be used.
    pub fn wrong(&self, name: &str, why: impl Display) -> AttestError {
        AttestError::Framework(format!("`{}/{name}` {why}", self.pointer))
    }

    /// Why the table cannot be used.
    pub fn unusable(&self, why: &str) -> AttestError {
        AttestError::Framework(format!("`{}` {why}", self.pointer))
    }

    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// # Errors
    /// A member that is none of these.
    pub fn demand_known(&self, known: &[&str]) -> Result<(), AttestError> {
        match self.table.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(self.wrong(name, format!("is unknown; there are {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    fn value(&self, name: &str) -> Result<&'t Value, AttestError> {
        self.table.get(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    /// # Errors
    /// No text of 1 to so many characters.
    pub fn text(&self, name: &str, chars_max: usize) -> Result<&'t str, AttestError> {
        let text = self.value(name)?.as_str();
        let text = text.filter(|text| (1..=chars_max).contains(&text.chars().count()));
        text.ok_or_else(|| self.wrong(name, format!("is no text of 1 to {chars_max} characters")))
    }

    /// # Errors
    /// No list of 1 to so many tables.
    pub fn tables(&self, name: &str, most: usize) -> Result<Vec<Place<'t>>, AttestError> {
        let rows = self.value(name)?.as_array().filter(|rows| (1..=most).contains(&rows.len()));
        let rows = rows.ok_or_else(|| self.wrong(name, format!("is no list of 1 to {most} tables")))?;
        let places = rows.iter().enumerate().map(|(index, row)| {
            let at = format!("{name}/{index}");
            let table = row.as_table().ok_or_else(|| self.wrong(&at, "is no table"))?;
            Ok(Place { pointer: format!("{}/{at}", self.pointer), table })
        });
        places.collect()
    }

    /// What each text of a list names; nothing where there is no list.
    ///
    /// # Errors
    /// A list that is empty, has something twice, or something that names nothing.
    pub fn named<T>(
        &self,
        name: &str,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, AttestError> {
        let Some(value) = self.table.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| self.wrong(name, "is no list with something in it"))?;
        let mut seen = BTreeSet::new();
        let found = list.iter().enumerate().map(|(index, item)| {
            let at = format!("{name}/{index}");
            let text = item.as_str().ok_or_else(|| self.wrong(&at, "is no text"))?;
            if !seen.insert(text) {
                return Err(self.wrong(&at, format!("comes twice: `{text}`")));
            }
            find(text).ok_or_else(|| self.wrong(&at, format!("is no {what}: `{text}`")))
        });
        found.collect()
    }
}
