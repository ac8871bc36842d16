//! `estoppel policy …`.

mod diff;
mod simulate;
mod test;

use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::Reason;
use estoppel_gateway::offline::{BodyContract, is_path_refused};
use estoppel_gateway::packs::Packs;
use estoppel_gateway::{ContractError, contract_errors};
use estoppel_policy::{
    Call, Content, Listed, Policy, PolicyDocument, PolicyError, PolicyErrorCode, RequestFacts, Threats, Tool,
    Verdict, Wanted, WrittenContract,
};
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
            packs,
            operation,
            path,
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
            let policy = compiled(*output, file, &Packs::at(packs.as_deref()))?;
            explain(*output, &policy, &facts, path.as_deref())
        }
    }
}

pub fn row(error: &PolicyError) -> Value {
    json!({ "code": error.code.as_str(), "line": error.line, "column": error.column, "path": error.path, "message": error.message })
}

pub fn read(output: Output, file: &Path) -> Result<PolicyDocument, Failure> {
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

/// A rule asks for a class of data that nothing finds.
const NO_DETECTOR: &str = "POLICY_NO_DETECTOR";

fn lint(output: Output, file: &Path, packs: Option<&Path>) -> Result<ExitCode, Failure> {
    let text = input::text(file)?;
    let packs = Packs::at(packs);
    let read =
        PolicyDocument::parse(&text).and_then(|mut policy| packs.provide(&mut policy).map(|()| policy));
    let written = WrittenContract::all(&text);
    let (policy, mut errors, contracts) = match read {
        Ok(policy) => {
            let contracts = contract_errors(&policy.compile());
            (Some(policy), Vec::new(), contracts)
        }
        Err(errors) => (None, errors.iter().map(Wrong::of_policy).collect(), alone(&written)),
    };
    let code = if errors.is_empty() { "CONTRACT_INVALID" } else { "POLICY_INVALID" };
    errors.extend(contracts.iter().map(|error| Wrong::of_contract(error, &written, &text)));
    let Some(policy) = policy.filter(|_| errors.is_empty()) else {
        errors.sort_by_key(|error| error.place);
        errors.iter().for_each(|error| output.note(&format!("{}: {}", file.display(), error.line)));
        let rows: Vec<Value> = errors.into_iter().map(|error| error.row).collect();
        let count = rows.len();
        let message = format!("`{}` has {count} error{}", file.display(), if count == 1 { "" } else { "s" });
        return Err(Failure { data: Some(json!({ "errors": rows })), ..Failure::input(code, message) });
    };
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
    let routes: Vec<&str> = compiled.route_names().chain([""]).collect();
    let unseen = estoppel_gateway::rule_warnings(&compiled, routes.iter().copied());
    if let Some(problem) = estoppel_gateway::rule_errors(&compiled, routes).into_iter().next() {
        return Err(Failure::input("POLICY_UNENFORCEABLE", format!("`{}`: {problem}", file.display())));
    }
    let no_detector = |message: &String| json!({ "code": NO_DETECTOR, "message": message });
    let warnings: Vec<Value> =
        policy.warnings().iter().map(row).chain(unseen.iter().map(no_detector)).collect();
    let unseen = unseen.iter().map(|message| format!("{NO_DETECTOR}: {message}"));
    for warning in policy.warnings().iter().map(ToString::to_string).chain(unseen) {
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
    let laid_out = PolicyDocument::laid_out(&text).map_err(|errors| refused(output, file, &errors))?;
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

/// What keeps contracts of a policy from being enforced that cannot be read itself.
fn alone(written: &[WrittenContract]) -> Vec<ContractError> {
    let errors =
        written.iter().filter_map(|written| BodyContract::compile(&written.name, &written.text).err());
    errors.flatten().collect()
}

/// Something that is wrong in a policy's file.
struct Wrong {
    place: (usize, usize),
    line: String,
    row: Value,
}

impl Wrong {
    fn of_policy(error: &PolicyError) -> Self {
        Self { place: (error.line, error.column), line: error.to_string(), row: row(error) }
    }

    fn of_contract(error: &ContractError, written: &[WrittenContract], text: &str) -> Self {
        let own = written.iter().find(|written| written.name == error.name);
        let place = own.map(|own| own.place_of(text, error.at.byte(&own.text.text)));
        let (path, message) = (format!("contracts.{}", error.name), &error.problem);
        let row = |(line, column): (usize, usize)| {
            json!({
                "code": "CONTRACT_INVALID", "line": line, "column": column, "path": path,
                "message": error.to_string(),
                "contract": error.name,
            })
        };
        match place {
            Some((line, column)) => Self {
                place: (line, column),
                line: format!("line {line}, column {column}: CONTRACT_INVALID: `{path}`: {message}"),
                row: row((line, column)),
            },
            // A contract of a pack has no text here.
            None => Self {
                place: (1, 1),
                line: format!("CONTRACT_INVALID: `{path}`: {message}"),
                row: row((1, 1)),
            },
        }
    }
}

/// Exit code 3 when the call is blocked.
fn explain(
    output: Output,
    policy: &Policy,
    facts: &RequestFacts<'_>,
    path: Option<&str>,
) -> Result<ExitCode, Failure> {
    if path.is_some_and(|path| path.contains(['?', '#'])) {
        return Err(Failure::input("ARGUMENT_INVALID", "--path goes without query and fragment"));
    }
    let warnings = unknown_route(policy, facts.route);
    for warning in &warnings {
        output.line(&output.paint(Colour::Yellow, &plain(&format!("warning: {warning}"))));
    }
    let operations = &policy.route(facts.route).operations;
    let found = path.zip(facts.method).map(|(path, method)| operations.find(method, path));
    let refused = |reason: Reason, step: &str| {
        output.line(step);
        output.line(&format!("{} by the gateway, {}", output.paint(Colour::Red, "block"), reason.code()));
        let data = json!({
            "verdict": Verdict::Block.as_str(), "rule": null, "reason": reason.code(), "operation": null,
            "steps": [step], "warnings": warnings, "policy_hash": policy.hash().to_string(),
        });
        Ok(output.answer(&data, 3))
    };
    if path.is_some_and(is_path_refused) {
        let step = "two readers could take the path for two, or it is none: no route takes it";
        return refused(Reason::RequestInvalid, step);
    }
    let operation = match found {
        Some(Listed::Operation(_, operation)) => Some(operation.id.as_str()),
        Some(Listed::LookAlike) => {
            let step = "some upstreams take the request for an operation that it is not written as";
            return refused(Reason::OperationDenied, step);
        }
        Some(Listed::Other(Verdict::Block | Verdict::Hold)) => {
            let step = "the route lists its operations, and the request is none of them";
            return refused(Reason::OperationDenied, step);
        }
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
    let colour = if decision.verdict.lets_go() { Colour::Green } else { Colour::Red };
    output.line(&format!(
        "{} by {}{}",
        output.paint(colour, verdict),
        rule.map_or("the route's default".to_string(), |rule| format!("rule `{rule}`")),
        reason.map(|reason| format!(", {reason}")).unwrap_or_default(),
    ));
    let data = json!({
        "verdict": verdict, "rule": rule, "reason": reason, "operation": operation, "steps": steps,
        "warnings": warnings, "policy_hash": policy.hash().to_string(),
    });
    Ok(output.answer(&data, if decision.verdict.lets_go() { 0 } else { 3 }))
}

/// What is to be known of a route that the policy does not list.
fn unknown_route(policy: &Policy, route: &str) -> Vec<String> {
    let known = route.is_empty() || policy.route_names().any(|name| name == route);
    let warning = || format!("the policy lists no route `{route}`, so its defaults count, and no operations");
    (!known).then(warning).into_iter().collect()
}
