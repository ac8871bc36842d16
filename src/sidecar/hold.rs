//! `estoppel hold …`: calls that wait for people. A decision is signed here; the key never leaves this machine.

use std::process::ExitCode;

use estoppel_evidence::entry::{ApprovalDecision, ApprovalStatement};
use estoppel_evidence::envelope::base64;
use estoppel_evidence::{Reason, Signer as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin::{ask, encoded, tell};
use crate::arguments::{Decide, HoldCommand};
use crate::output::{Colour, Failure, Output, plain};

pub fn run(output: &Output, command: &HoldCommand) -> Result<ExitCode, Failure> {
    match command {
        HoldCommand::List { all, admin } => list(*output, *all, admin),
        HoldCommand::Show { hold, admin } => {
            let hold = find(hold, admin)?;
            show(*output, &hold);
            Ok(output.data(&hold))
        }
        HoldCommand::Approve(decision) => decide(*output, ApprovalDecision::Approve, decision),
        HoldCommand::Deny(decision) => decide(*output, ApprovalDecision::Deny, decision),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(output: Output, all: bool, admin: &str) -> Result<ExitCode, Failure> {
    let mut holds = ask(admin, "GET", "/holds")?["holds"].as_array().cloned().unwrap_or_default();
    holds.retain(|hold| all || matches!(text(&hold["state"]), "opening" | "open" | "approved"));
    output.line(&format!(
        "{:<36}  {:<9} {:>8}  {:<27}  operation, tool, requester",
        "hold", "state", "approved", "expires"
    ));
    for hold in &holds {
        output.line(&plain(&format!(
            "{:<36}  {:<9} {:>8}  {:<27}  {}, {}, {}",
            text(&hold["id"]),
            text(&hold["state"]),
            format!("{} of {}", hold["approved"], hold["needs"]),
            text(&hold["expires"]),
            text(&hold["operation"]),
            text(&hold["tool"]),
            text(&hold["requester"]),
        )));
    }
    Ok(output.data(&json!({ "holds": holds })))
}

fn find(hold: &str, admin: &str) -> Result<Value, Failure> {
    ask(admin, "GET", &format!("/holds/{}", encoded(hold)))
}

/// What the daemon keeps in memory while a call waits.
const UNKNOWN: &str = "not known any more: the hold is over, or the daemon was restarted";

fn show(output: Output, hold: &Value) {
    for (name, value) in hold.as_object().into_iter().flatten() {
        let shown = match (name.as_str(), value) {
            ("approvers" | "body", _) => continue,
            ("target" | "content_type", Value::Null) if hold["credential"].is_null() => UNKNOWN.into(),
            ("target", Value::Null) => "too long to be shown".into(),
            ("credential", Value::Null) => UNKNOWN.into(),
            ("credential", Value::Bool(is_there)) => if *is_there { "yes" } else { "no" }.into(),
            (_, Value::String(text)) => text.clone(),
            (_, Value::Null) => "-".into(),
            (_, other) => other.to_string(),
        };
        output.line(&plain(&format!("{name:<12} {shown}")));
    }
    for approver in hold["approvers"].as_array().into_iter().flatten() {
        let said = approver["decision"].as_str().unwrap_or("has not decided");
        let line = format!("approver     {} {} {said}", text(&approver["name"]), text(&approver["kid"]));
        output.line(&plain(&line));
    }
    match hold["body"].as_str() {
        Some(body) => output.line(&plain(&format!("body         {body}"))),
        None => output.line("body         not stored as it is, or too long to be shown"),
    }
}

fn decide(output: Output, decision: ApprovalDecision, asked: &Decide) -> Result<ExitCode, Failure> {
    let key = estoppel_journal::keys::load_approver(&asked.key)
        .map_err(|error| Failure::reason(error.reason(), error.to_string()))?;
    let hold = find(&asked.hold, &asked.admin)?;
    if let Some(payload) = asked.payload.as_deref().filter(|payload| *payload != text(&hold["payload"])) {
        let message = format!("the hold is of payload {}, not of {payload}", text(&hold["payload"]));
        return Err(Failure::reason(Reason::HoldPayload, plain(&message)));
    }
    let kid = key.public().id().to_string();
    let approvers = hold["approvers"].as_array().into_iter().flatten();
    let own = approvers.clone().find(|approver| text(&approver["kid"]) == kid).ok_or_else(|| {
        let names: Vec<&str> = approvers.map(|approver| text(&approver["name"])).collect();
        let message =
            format!("key {kid} is of nobody who may decide on this call; that are {}", names.join(", "));
        Failure::reason(Reason::DecisionInvalid, plain(&message))
    })?;
    let statement = ApprovalStatement {
        by: own["name"].as_str().map(ToOwned::to_owned),
        comment: asked.comment.clone(),
        decision,
        expires: member(&hold, "expires")?,
        hold: member(&hold, "id")?,
        iss: member(&hold, "iss")?,
        nonce: nonce()?,
        payload: member(&hold, "payload")?,
        policy: member(&hold, "policy")?,
        run: member(&hold, "run")?,
    };
    let signature = key
        .sign(&statement.message())
        .map_err(|error| Failure::reason(Reason::KeyInvalid, error.to_string()))?;
    let signed = json!({
        "signature": base64(&signature),
        "spki": base64(key.public().spki()),
        "statement": statement,
    });
    let after = tell(&asked.admin, &format!("/holds/{}/decisions", encoded(&asked.hold)), &signed)?;
    let (word, colour) = match decision {
        ApprovalDecision::Approve => ("approved", Colour::Green),
        ApprovalDecision::Deny => ("denied", Colour::Red),
    };
    let said = plain(&format!(
        "by {}: payload {}, {} of {} approvals, the hold is {}",
        text(&own["name"]),
        text(&after["payload"]),
        after["approved"],
        after["needs"],
        text(&after["state"]),
    ));
    output.line(&format!("{} {said}", output.paint(colour, word)));
    Ok(output.data(&after))
}

fn member<T: DeserializeOwned>(hold: &Value, name: &str) -> Result<T, Failure> {
    serde_json::from_value(hold[name].clone())
        .map_err(|error| Failure::runtime("INTERNAL", format!("the daemon gave no `{name}`: {error}")))
}

fn nonce() -> Result<String, Failure> {
    let mut bytes = [0_u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(16) => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => Err(Failure::runtime("INTERNAL", "the system gives no random numbers")),
    }
}
