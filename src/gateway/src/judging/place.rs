//! Where an objection is, for machines and people.

use std::fmt;

use estoppel_wire::contract::Refused;
use estoppel_wire::{csv, schema};

/// Where in a body or in an answer the first violation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tool whose call it is in.
    pub tool: Option<Box<str>>,
    /// Which text of a body of texts, from 1.
    pub unit: Option<u64>,
    pub at: At,
}

/// The violation itself, which says where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// In a JSON text.
    Value(schema::Violation),
    /// In CSV.
    Row(csv::Violation),
}

impl Place {
    pub(super) fn in_value(violation: &schema::Violation) -> Self {
        Self { tool: None, unit: None, at: At::Value(violation.clone()) }
    }

    pub(super) fn in_body(refused: &Refused) -> Option<Self> {
        let (unit, at) = match refused {
            Refused::Json { unit, violation } => (Some(*unit), At::Value(violation.clone())),
            Refused::Csv(violation) => (None, At::Row(violation.clone())),
            Refused::CsvRepair(_) | Refused::Truncated | Refused::HeldBytesMax => return None,
        };
        Some(Self { tool: None, unit, at })
    }

    pub(super) fn of_tool(self, tool: Option<Box<str>>) -> Self {
        Self { tool, ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tool) = &self.tool {
            write!(f, "call of `{}`, ", tool.escape_debug())?;
        }
        if let Some(unit) = self.unit.filter(|unit| *unit > 1) {
            write!(f, "text {unit}, ")?;
        }
        match &self.at {
            At::Value(violation) => write!(f, "`{}`, byte {}", violation.instance, violation.offset),
            At::Row(violation) => {
                write!(f, "row {}", violation.row)?;
                if let Some(column) = violation.column {
                    write!(f, ", column {column}")?;
                }
                write!(f, ", byte {}", violation.offset)
            }
        }
    }
}
