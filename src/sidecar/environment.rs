//! `estoppel environment …`: what runs where, as the ledger was told.

use std::collections::BTreeSet;
use std::process::ExitCode;

use estoppel_release::environment;
use estoppel_release::ledger::{Body, Known, State};
use serde_json::{Value, json};

use crate::arguments::{EnvironmentBind, EnvironmentCommand, EnvironmentSet, InRepository};
use crate::ledger::{Signing, read, shared, store};
use crate::output::{Failure, Output, plain};

pub fn run(output: &Output, command: &EnvironmentCommand) -> Result<ExitCode, Failure> {
    match command {
        EnvironmentCommand::List { at } => list(*output, at),
        EnvironmentCommand::Set(set) => self::set(*output, set),
        EnvironmentCommand::Bind(bind) => self::bind(*output, bind),
    }
}

fn list(output: Output, at: &InRepository) -> Result<ExitCode, Failure> {
    let ledger = read(output, &store(at)?)?;
    let mut rows: Vec<Value> = Vec::new();
    let bound = ledger.roles().environments();
    let mut pointers = environment::pointers(&ledger);
    let names: BTreeSet<String> = pointers.keys().chain(bound.keys()).cloned().collect();
    for name in names {
        let stage = ledger.roles().stage_of(&name);
        let Some(pointer) = pointers.remove(&name) else {
            output.line(&plain(&format!("{name:<16} {:<20} takes what came to {stage}", "nothing yet")));
            rows.push(json!({
                "environment": name, "version": null, "tag": null, "commit": null, "since": null, "actor": null,
                "name": null, "event": null, "status": null, "takes": stage,
            }));
            continue;
        };
        let who = ledger.roles().name(pointer.actor);
        let who = who.map_or_else(|| pointer.actor.to_string(), ToOwned::to_owned);
        let state = ledger.state(&pointer.version);
        let gone = match state {
            Some(state @ (State::RolledBack | State::Abandoned)) => format!("  {}", state.as_str()),
            _ => String::new(),
        };
        output.line(&plain(&format!(
            "{name:<16} {:<20} since {} by {who}, on {}{gone}",
            pointer.tag, pointer.since, pointer.commit
        )));
        rows.push(json!({
            "environment": name, "version": pointer.version, "tag": pointer.tag, "commit": pointer.commit,
            "since": pointer.since, "actor": pointer.actor, "name": who, "event": pointer.event,
            "status": state.map(State::as_str), "takes": stage,
        }));
    }
    if rows.is_empty() {
        output.line("no environments; `estoppel environment set NAME VERSION` names the first one");
    }
    Ok(output.data(&json!({ "environments": rows, "bound": bound })))
}

fn set(output: Output, set: &EnvironmentSet) -> Result<ExitCode, Failure> {
    let (store, signing) = (shared(&set.at)?, Signing::of(&set.signed)?);
    let (body, event) = environment::set(&store, &signing.hand(), &set.name, &set.release)?;
    output.line(&plain(&format!("environment {}", body.environment)));
    output.line(&plain(&format!("has         {} on {}", body.tag, body.commit)));
    output.line(&format!("event       {event}"));
    Ok(output.data(&json!({
        "environment": body.environment, "version": body.version, "tag": body.tag, "commit": body.commit,
        "previous": body.previous, "event": event,
    })))
}

fn bind(output: Output, bind: &EnvironmentBind) -> Result<ExitCode, Failure> {
    let (store, signing) = (store(&bind.at)?, Signing::of(&bind.signed)?);
    let stage = bind.stage.name();
    let appended = store.append(&signing.hand(), &mut |Known { ledger, .. }| {
        let mut roles = ledger.roles().clone();
        environment::bind(&mut roles, &bind.name, stage)?;
        Ok(Body::RolesSet(roles).into())
    })?;
    output.line(&plain(&format!("environment {} takes what came to {stage}", bind.name)));
    Ok(output.data(&json!({ "environment": bind.name, "takes": stage, "event": appended.event })))
}
