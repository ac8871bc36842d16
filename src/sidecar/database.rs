//! `estoppel db …`: the ledger as a relational database.

use std::process::ExitCode;

use estoppel_release::index::{Index, METRICS, Table};
use serde_json::{Value, json};

use crate::arguments::{DbCommand, InRepository};
use crate::ledger::store;
use crate::output::{Failure, Output, plain};

const TABLES: &str = "SELECT t.name AS \"table\", c.name AS \"column\", c.type FROM sqlite_schema t, pragma_table_info(t.name) c \
                      WHERE t.type = 'table' ORDER BY t.name, c.cid";

pub fn run(output: &Output, command: &DbCommand) -> Result<ExitCode, Failure> {
    match command {
        DbCommand::Query { sql, at } => Ok(table(*output, &index(at)?.query(sql)?)),
        DbCommand::Tables { at } => Ok(table(*output, &index(at)?.query(TABLES)?)),
        DbCommand::Metric { name: None, .. } => Ok(metrics(*output)),
        DbCommand::Metric { name: Some(name), only, at } => {
            let metric = index(at)?.metric(name, only.as_ref())?;
            let share = metric.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
            output.line(&format!("{:<15} {share}  {} of {}", metric.metric, metric.part, metric.whole));
            Ok(output.data(&json!(metric)))
        }
        DbCommand::Write { file, at } => {
            index(at)?.write(file)?;
            output.line(&plain(&format!("written     {}", file.display())));
            Ok(output.data(&json!({ "file": file.display().to_string() })))
        }
    }
}

/// Of the ledger of this clone: what the remote has is asked by `estoppel sync`.
fn index(at: &InRepository) -> Result<Index, Failure> {
    Ok(Index::of(&store(at)?.read()?)?)
}

fn table(output: Output, table: &Table) -> ExitCode {
    output.line(&plain(&table.columns.join(" | ")));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
        output.line(&plain(&cells.join(" | ")));
    }
    output.data(&json!({ "columns": table.columns, "rows": table.rows }))
}

fn metrics(output: Output) -> ExitCode {
    let rows: Vec<Value> = METRICS
        .iter()
        .map(|(name, about, _)| {
            output.line(&format!("{name:<15} {about}"));
            json!({ "metric": name, "about": about })
        })
        .collect();
    output.data(&json!({ "metrics": rows }))
}
