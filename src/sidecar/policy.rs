//! `estoppel policy …`.

use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::Reason;
use estoppel_gateway::packs::Packs;
use estoppel_policy::{Listed, Policy, PolicyDocument, PolicyError, RequestFacts, Verdict};
use serde_json::{Value, json};

use crate::arguments::PolicyCommand;
use crate::input;
use crate::output::{Colour, Failure, Output, plain};

pub fn run(output: &Output, command: &PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Lint { file, packs } => lint(*output, file, packs.as_deref()),
        PolicyCommand::Hash { file } => {
            let hash = read(*output, file)?.hash().to_string();
            output.line(&hash);
            Ok(output.data(&json!({ "policy_hash": hash })))
        }
        PolicyCommand::Explain { file, route, operation, path, model, tool, method, identity } => {
            let tools: Vec<&str> = tool.iter().map(String::as_str).collect();
            let facts = RequestFacts {
                route,
                operation: operation.as_deref(),
                model: model.as_deref(),
                method: method.as_deref(),
                identity: identity.as_deref(),
                tools: &tools,
                ..RequestFacts::default()
            };
            explain(*output, file, &facts, path.as_deref())
        }
    }
}

pub fn row(error: &PolicyError) -> Value {
    json!({ "code": error.code.as_str(), "line": error.line, "column": error.column, "path": error.path, "message": error.message })
}

fn read(output: Output, file: &Path) -> Result<PolicyDocument, Failure> {
    PolicyDocument::parse(&input::text(file)?).map_err(|errors| refused(output, file, &errors))
}

fn refused(output: Output, file: &Path, errors: &[PolicyError]) -> Failure {
    errors.iter().for_each(|error| output.note(&format!("{}: {error}", file.display())));
    let rows: Vec<Value> = errors.iter().map(row).collect();
    let count = errors.len();
    let message = format!("`{}` has {count} error{}", file.display(), if count == 1 { "" } else { "s" });
    Failure { data: Some(json!({ "errors": rows })), ..Failure::input("POLICY_INVALID", message) }
}

/// The policy in this text, with what it takes from packs.
pub fn parsed(output: Output, file: &Path, text: &str, packs: &Packs) -> Result<PolicyDocument, Failure> {
    PolicyDocument::parse(text)
        .and_then(|mut policy| packs.provide(&mut policy).map(|()| policy))
        .map_err(|errors| refused(output, file, &errors))
}

/// A policy, ready to judge.
pub fn compiled(output: Output, file: &Path, packs: &Packs) -> Result<Policy, Failure> {
    parsed(output, file, &input::text(file)?, packs).map(|document| document.compile())
}

fn lint(output: Output, file: &Path, packs: Option<&Path>) -> Result<ExitCode, Failure> {
    let policy = parsed(output, file, &input::text(file)?, &Packs::at(packs))?;
    let errors = estoppel_gateway::contract_errors(&policy.compile());
    if !errors.is_empty() {
        errors.iter().for_each(|error| output.note(&format!("{}: {error}", file.display())));
        let rows: Vec<Value> = errors
            .iter()
            .map(|error| json!({ "contract": error.name, "message": error.to_string() }))
            .collect();
        return Err(Failure {
            data: Some(json!({ "errors": rows })),
            ..Failure::input(
                "CONTRACT_INVALID",
                format!("`{}` has contracts that cannot be enforced", file.display()),
            )
        });
    }
    let warnings: Vec<Value> = policy.warnings().iter().map(row).collect();
    for warning in policy.warnings() {
        let line = plain(&format!("warning: {}: {warning}", file.display()));
        output.line(&output.paint(Colour::Yellow, &line));
    }
    output.line(&plain(&format!("{}: ok, {}", file.display(), policy.hash())));
    Ok(output.data(&json!({ "policy_hash": policy.hash().to_string(), "warnings": warnings })))
}

/// Exit code 3 when the policy blocks.
fn explain(
    output: Output,
    file: &Path,
    facts: &RequestFacts<'_>,
    path: Option<&str>,
) -> Result<ExitCode, Failure> {
    let policy = read(output, file)?.compile();
    let operations = &policy.route(facts.route).operations;
    let found = path.zip(facts.method).map(|(path, method)| operations.find(method, path));
    let operation = match found {
        Some(Listed::Operation(_, operation)) => Some(operation.id.as_str()),
        Some(Listed::Other(Verdict::Block)) => return Ok(unlisted(output, &policy)),
        Some(Listed::Other(Verdict::Allow) | Listed::Nothing) | None => facts.operation,
    };
    if found.is_some() {
        output.line(&format!("operation {}", operation.unwrap_or("none that is listed")));
    }
    let explanation = policy.explain_request(&RequestFacts { operation, ..*facts });
    let steps: Vec<String> = explanation.steps.iter().map(ToString::to_string).collect();
    for step in &steps {
        output.line(step);
    }
    let decision = &explanation.decision;
    let verdict = decision.verdict.as_str();
    let rule = decision.rule.map(|rule| rule.as_str());
    let reason = decision.reason.map(|reason| reason.as_str());
    let colour = if verdict == "allow" { Colour::Green } else { Colour::Red };
    output.line(&format!(
        "{} by {}{}",
        output.paint(colour, verdict),
        rule.map_or("the route's default".to_string(), |rule| format!("rule `{rule}`")),
        reason.map(|reason| format!(", {reason}")).unwrap_or_default(),
    ));
    let hash = policy.hash().to_string();
    let data = json!({ "verdict": verdict, "rule": rule, "reason": reason, "operation": operation, "steps": steps, "policy_hash": hash });
    Ok(output.answer(&data, if verdict == "allow" { 0 } else { 3 }))
}

/// What a call comes to that is none of the operations of its route.
fn unlisted(output: Output, policy: &Policy) -> ExitCode {
    let (verdict, reason) = (Verdict::Block.as_str(), Reason::OperationDenied.code());
    let steps = ["the route lists its operations, and the request is none of them"];
    output.line(steps[0]);
    output.line(&format!("{} by `other_operations`, {reason}", output.paint(Colour::Red, verdict)));
    let hash = policy.hash().to_string();
    let data = json!({ "verdict": verdict, "rule": null, "reason": reason, "operation": null, "steps": steps, "policy_hash": hash });
    output.answer(&data, 3)
}
