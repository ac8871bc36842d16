//! `estoppel policy test`: a policy's cases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_gateway::packs::Packs;
use estoppel_policy::Cases;
use serde_json::{Value, json};

use crate::input;
use crate::junit::{self, Case, Outcome};
use crate::output::{Colour, Failure, Output, plain};

/// Exit code 3 when a case comes out otherwise.
pub fn run(
    output: Output,
    policy: &Path,
    cases: Option<&Path>,
    junit: Option<&PathBuf>,
) -> Result<ExitCode, Failure> {
    junit::check_new(junit.map(PathBuf::as_path))?;
    let compiled = super::compiled(output, policy, &Packs::at(None))?;
    let beside = policy.with_extension("cases.yaml");
    let path = cases.unwrap_or(&beside);
    let read = Cases::parse(&input::text(path)?).map_err(|errors| {
        errors.iter().for_each(|error| output.note(&format!("{}: {error}", path.display())));
        Failure {
            data: Some(json!({ "errors": errors.iter().map(super::row).collect::<Vec<_>>() })),
            ..Failure::input("CASES_INVALID", plain(&format!("`{}` cannot be read", path.display())))
        }
    })?;
    let mut rows: Vec<Value> = Vec::new();
    for case in &read.cases {
        let failure = case.check(&compiled).map(|failure| failure.to_string());
        let (colour, word) = match &failure {
            None => (Colour::Green, "ok  "),
            Some(_) => (Colour::Red, "FAIL"),
        };
        output.line(&format!("{} {}", output.paint(colour, word), plain(&case.claim)));
        for line in failure.iter().flat_map(|failure| failure.lines()) {
            output.line(&format!("     {}", plain(line)));
        }
        rows.push(json!({ "claim": case.claim, "passed": failure.is_none(), "failure": failure }));
    }
    let failed = rows.iter().filter(|row| row["passed"] == false).count();
    let passed = rows.len() - failed;
    if let Some(file) = junit {
        let case = |row: &Value| Case {
            name: row["claim"].as_str().unwrap_or_default().to_owned(),
            outcome: match row["failure"].as_str() {
                None => Outcome::Passed,
                Some(failure) => Outcome::failed("otherwise decided", failure),
            },
        };
        junit::write(file, &policy.display().to_string(), &rows.iter().map(case).collect::<Vec<_>>())?;
    }
    output.line(&format!("{passed} passed, {failed} failed"));
    let data = json!({ "cases": rows, "passed": passed, "failed": failed, "policy_hash": compiled.hash().to_string() });
    Ok(output.answer(&data, if failed == 0 { 0 } else { 3 }))
}
