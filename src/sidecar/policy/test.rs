//! `estoppel policy test`: a policy's cases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_gateway::packs::Packs;
use estoppel_policy::Cases;
use serde_json::{Value, json};

use super::simulate::new_file;
use crate::input;
use crate::output::{Colour, Failure, Output, plain};

/// Exit code 3 when a case comes out otherwise.
pub fn run(
    output: Output,
    policy: &Path,
    cases: Option<&Path>,
    junit: Option<&PathBuf>,
) -> Result<ExitCode, Failure> {
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
        new_file(file, &as_junit(policy, &rows, failed))?;
    }
    output.line(&format!("{passed} passed, {failed} failed"));
    let data = json!({ "cases": rows, "passed": passed, "failed": failed, "policy_hash": compiled.hash().to_string() });
    Ok(output.answer(&data, if failed == 0 { 0 } else { 3 }))
}

fn as_junit(policy: &Path, rows: &[Value], failed: usize) -> String {
    let suite = escaped(&policy.display().to_string());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\">\n",
        rows.len()
    );
    for row in rows {
        let claim = escaped(row["claim"].as_str().unwrap_or_default());
        text += &match row["failure"].as_str() {
            None => format!("<testcase classname=\"{suite}\" name=\"{claim}\"/>\n"),
            Some(failure) => format!(
                "<testcase classname=\"{suite}\" name=\"{claim}\"><failure message=\"otherwise decided\">{}</failure></testcase>\n",
                escaped(failure)
            ),
        };
    }
    text + "</testsuite>\n</testsuites>\n"
}

/// As text or attribute of XML 1.0, which has no controls.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}
