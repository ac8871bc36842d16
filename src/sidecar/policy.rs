//! `estoppel policy …`.

mod diff;
mod simulate;
mod test;

use std::path::Path;
use std::process::ExitCode;

use estoppel_policy::{
    Call, Content, Policy, PolicyDocument, PolicyError, PolicyErrorCode, RequestFacts, Threats, Tool, Wanted,
};
use serde_json::{Value, json};

use crate::arguments::PolicyCommand;
use crate::input;
use crate::output::{Colour, Failure, Output, plain};

pub fn run(output: &Output, command: &PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Lint { file } => lint(*output, file),
        PolicyCommand::Hash { file } => {
            let hash = read(*output, file)?.hash().to_string();
            output.line(&hash);
            Ok(output.data(&json!({ "policy_hash": hash })))
        }
        PolicyCommand::Fmt { file, check } => fmt(*output, file, *check),
        PolicyCommand::Diff { before, after } => diff::run(*output, before, after),
        PolicyCommand::Test { file, cases, junit } => {
            test::run(*output, file, cases.as_deref(), junit.as_ref())
        }
        PolicyCommand::Simulate(simulate) => simulate::run(*output, simulate),
        PolicyCommand::Threats => Ok(threats(*output)),
        PolicyCommand::Explain {
            file,
            route,
            operation,
            model,
            tool,
            call,
            body,
            method,
            identity,
            tenant,
        } => {
            let wanted = Wanted { destinations: true };
            let read = |text: &String| Content::read(text.as_bytes(), wanted);
            let calls: Vec<(&str, Content)> = call
                .iter()
                .map(|call| call.split_once('=').unwrap_or((call, "{}")))
                .map(|(name, arguments)| (name, Content::read(arguments.as_bytes(), wanted)))
                .collect();
            let body = body.as_ref().map(read);
            let offered = tool.iter().map(|name| name.as_str().into());
            let called = calls.iter().map(|(name, content)| Tool { name, call: Call::With(content) });
            let tools: Vec<Tool<'_>> = offered.chain(called).collect();
            let facts = RequestFacts {
                route,
                operation: operation.as_deref(),
                model: model.as_deref(),
                method: method.as_deref(),
                identity: identity.as_deref(),
                tenant: tenant.as_deref(),
                body: body.as_ref(),
                tools: &tools,
                ..RequestFacts::default()
            };
            explain(*output, file, &facts)
        }
    }
}

pub fn row(error: &PolicyError) -> Value {
    json!({ "code": error.code.as_str(), "line": error.line, "column": error.column, "path": error.path, "message": error.message })
}

fn read(output: Output, file: &Path) -> Result<PolicyDocument, Failure> {
    PolicyDocument::parse(&input::text(file)?).map_err(|errors| invalid(output, file, &errors))
}

fn invalid(output: Output, file: &Path, errors: &[PolicyError]) -> Failure {
    errors.iter().for_each(|error| output.note(&format!("{}: {error}", file.display())));
    let rows: Vec<Value> = errors.iter().map(row).collect();
    let count = errors.len();
    Failure {
        data: Some(json!({ "errors": rows })),
        ..Failure::input(
            "POLICY_INVALID",
            format!("`{}` has {count} error{}", file.display(), if count == 1 { "" } else { "s" }),
        )
    }
}

/// A policy, ready to judge.
pub fn compiled(output: Output, file: &Path) -> Result<Policy, Failure> {
    read(output, file).map(|document| document.compile())
}

fn lint(output: Output, file: &Path) -> Result<ExitCode, Failure> {
    let policy = read(output, file)?;
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
    let unknown = |warning: &&PolicyError| warning.code == PolicyErrorCode::UnknownThreat;
    let threats: Vec<Value> = policy.warnings().iter().filter(unknown).map(row).collect();
    if !threats.is_empty() {
        policy.warnings().iter().for_each(|warning| output.note(&format!("{}: {warning}", file.display())));
        return Err(Failure {
            data: Some(json!({ "errors": threats })),
            ..Failure::input(
                "POLICY_UNKNOWN_THREAT",
                format!("`{}` names threats that no list has", file.display()),
            )
        });
    }
    let compiled = policy.compile();
    let routes = compiled.route_names().chain([""]);
    if let Some(problem) = estoppel_gateway::rule_errors(&compiled, routes).into_iter().next() {
        return Err(Failure::input("POLICY_UNENFORCEABLE", format!("`{}`: {problem}", file.display())));
    }
    let warnings: Vec<Value> = policy.warnings().iter().map(row).collect();
    for warning in policy.warnings() {
        let line = plain(&format!("warning: {}: {warning}", file.display()));
        output.line(&output.paint(Colour::Yellow, &line));
    }
    output.line(&plain(&format!("{}: ok, {}", file.display(), policy.hash())));
    Ok(output.data(&json!({ "policy_hash": policy.hash().to_string(), "warnings": warnings })))
}

/// Exit code 5 when `check` finds another layout.
fn fmt(output: Output, file: &Path, check: bool) -> Result<ExitCode, Failure> {
    read(output, file)?;
    let text = input::text(file)?;
    let laid_out = PolicyDocument::laid_out(&text).map_err(|errors| invalid(output, file, &errors))?;
    let same = laid_out == text;
    if check {
        let word = if same { "is laid out" } else { "is not laid out" };
        output.line(&plain(&format!("{} {word}", file.display())));
        return Ok(output.answer(&json!({ "same": same }), if same { 0 } else { 5 }));
    }
    output.text(&laid_out, &json!({ "same": same, "text": laid_out }))
}

fn threats(output: Output) -> ExitCode {
    let mut rows = Vec::new();
    for list in &Threats::known().lists {
        output.line(&list.title);
        for (entry, said) in &list.entries {
            let id = format!("{}:{}/{entry}", list.list, list.edition);
            let class = said.class.as_deref();
            output.line(&format!("  {id:<28} {:<20} {}", class.unwrap_or("-"), said.title));
            rows.push(json!({ "id": id, "title": said.title, "class": class }));
        }
    }
    output.data(&json!({ "threats": rows }))
}

/// Exit code 3 when the policy blocks.
fn explain(output: Output, file: &Path, facts: &RequestFacts<'_>) -> Result<ExitCode, Failure> {
    let policy = read(output, file)?.compile();
    let explanation = policy.explain_request(facts);
    let steps: Vec<String> = explanation.steps.iter().map(ToString::to_string).collect();
    for step in &steps {
        output.line(step);
    }
    let decision = &explanation.decision;
    let verdict = decision.verdict.as_str();
    let rule = decision.rule.map(|rule| rule.as_str());
    let reason = decision.reason.map(|reason| reason.as_str());
    let colour = if decision.verdict.lets_go() { Colour::Green } else { Colour::Red };
    output.line(&format!(
        "{} by {}{}",
        output.paint(colour, verdict),
        rule.map_or("the route's default".to_string(), |rule| format!("rule `{rule}`")),
        reason.map(|reason| format!(", {reason}")).unwrap_or_default(),
    ));
    let data = json!({ "verdict": verdict, "rule": rule, "reason": reason, "steps": steps, "policy_hash": policy.hash().to_string() });
    Ok(output.answer(&data, if decision.verdict.lets_go() { 0 } else { 3 }))
}
