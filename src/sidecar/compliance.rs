//! `estoppel compliance`: frameworks, and what evidence there is for them.

use std::process::ExitCode;

use estoppel_attest::{Assessment, ControlRow, Framework, FrameworkKind};
use estoppel_evidence::time::UnixMicros;
use serde_json::{Value, json};

use crate::arguments::{Beside, Bundles, ComplianceCommand};
use crate::further::{self, Beginning};
use crate::output::{Colour, Failure, Output, plain};
use crate::{attest, bundles, identity};

pub fn run(output: &Output, command: &ComplianceCommand) -> Result<ExitCode, Failure> {
    match command {
        ComplianceCommand::List => list(*output),
        ComplianceCommand::Report(asked) => report(*output, &asked.framework, &asked.of, &asked.beside),
    }
}

fn all() -> Result<Vec<Framework>, Failure> {
    Framework::names().map(attest::framework).collect()
}

fn list(output: Output) -> Result<ExitCode, Failure> {
    let frameworks = all()?;
    let rows = frameworks.iter().map(|framework| {
        let kind = if framework.kind == FrameworkKind::Assessment { "pass or fail" } else { "mapping" };
        output.line(&format!(
            "{:<22} {kind:<13} {:>3} controls  {} {}",
            framework.id,
            framework.controls.len(),
            framework.title,
            framework.edition
        ));
        json!({
            "applies": framework.applies,
            "controls": framework.controls.len(),
            "digest": framework.digest.to_string(),
            "edition": framework.edition,
            "id": framework.id,
            "kind": framework.kind,
            "licence": framework.licence,
            "source": framework.source,
            "title": framework.title,
        })
    });
    let rows: Vec<Value> = rows.collect();
    Ok(output.data(&json!({ "frameworks": rows })))
}

fn report(output: Output, names: &[String], of: &Bundles, beside: &Beside) -> Result<ExitCode, Failure> {
    let frameworks = match names {
        [] => all()?,
        names => names.iter().map(|name| attest::framework(name)).collect::<Result<_, _>>()?,
    };
    let mut evidence = bundles::evidence(of)?;
    evidence.cite(&further::read(beside, Beginning::Named)?).map_err(|error| bundles::failure(&error))?;
    let made = UnixMicros(identity::now_us());
    output.line(&format!("evidence     {} bundles; nothing of this is signed", evidence.runs().len()));
    let custody = evidence.custody();
    further::print_failed(output, &custody);
    let rows = frameworks.iter().map(|framework| {
        let assessment = Assessment::new(framework, &evidence, made);
        output.line("");
        output.line(&plain(&format!("{} {}", framework.title, framework.edition)));
        let controls: Vec<Value> = assessment.rows.iter().map(|row| control(output, row)).collect();
        json!({
            "controls": controls, "evidence": assessment.index(), "framework": framework.id, "kind": framework.kind,
        })
    });
    let rows: Vec<Value> = rows.collect();
    let bundles = evidence.runs().len();
    Ok(output.data(&json!({ "bundles": bundles, "custody": custody, "frameworks": rows })))
}

fn control(output: Output, row: &ControlRow<'_>) -> Value {
    let colour = match row.word() {
        "pass" | "evidence" => Colour::Green,
        "fail" => Colour::Red,
        "not_assessed" => Colour::Yellow,
        _ => Colour::Dim,
    };
    let word = output.paint(colour, &format!("{:<13}", row.word().replace('_', " ")));
    let evidence: Vec<String> =
        row.evidence().iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    output.line(&format!("  {:<26} {word} {}", plain(&row.control.id), plain(&evidence.join(", "))));
    for fault in row.faults() {
        output.line(&plain(&format!("  {:<26} {:<13} {fault}", "", "")));
    }
    row.document()
}
