//! `estoppel keys disclose`.

use std::process::ExitCode;

use estoppel_evidence::disclosure::{self, Scope};
use estoppel_evidence::{CallId, Reason, RunId};
use serde_json::json;

use crate::arguments::{self, Disclose};
use crate::output::{Failure, Output, plain};
use crate::show::{self, Line};

pub fn run(output: &Output, wanted: &Disclose) -> Result<ExitCode, Failure> {
    let (manifest, lines) = show::read(&wanted.bundle)?;
    let run: RunId = manifest["run"]
        .as_str()
        .and_then(|run| run.parse().ok())
        .ok_or_else(|| invalid("the bundle names no run"))?;
    let scope = scope(wanted, &lines)?;
    let key = estoppel_journal::keys::load_capture(&wanted.dir)
        .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))?;
    let committed = lines.first().and_then(|open| open.value["capture"]["commitment"].as_str());
    if committed != Some(&key.run(run).commitment().to_string()) {
        let message = format!("`{}` does not hold the capture key of this run", wanted.dir.display());
        return Err(Failure::reason(Reason::KeyInvalid, plain(&message)));
    }
    crate::input::write_new(&wanted.out, disclosure::disclose(&key, run, scope).as_bytes())?;
    let (what, call) = match scope {
        Scope::Events(call) => ("the events of one call", Some(call)),
        Scope::Call(call) => ("the events and bodies of one call", Some(call)),
        Scope::Run => ("everything that was captured of this run", None),
    };
    output.line(&format!("key written to {}", plain(&wanted.out.display().to_string())));
    output.line(&format!("whoever holds it can test guesses at {what}; give it as you would give the bytes"));
    Ok(output.data(&json!({ "path": wanted.out, "run": run, "call": call, "opens": what })))
}

fn invalid(message: &str) -> Failure {
    Failure::input("ARGUMENT_INVALID", message)
}

fn scope(wanted: &Disclose, lines: &[Line]) -> Result<Scope, Failure> {
    let Some(which) = &wanted.call else {
        return match wanted.scope {
            arguments::Scope::Run => Ok(Scope::Run),
            _ => Err(invalid("--call says of which call the key is; only --scope run goes without")),
        };
    };
    let entry = &show::find(lines, which)?.value;
    let id: Option<CallId> = entry["call"].as_str().and_then(|id| id.parse().ok());
    let call = id.filter(|_| entry["kind"] == "call").ok_or_else(|| invalid("this entry is no call"))?;
    match wanted.scope {
        arguments::Scope::Run => Err(invalid("--scope run is of the whole run and goes without --call")),
        arguments::Scope::Call => Ok(Scope::Call(call)),
        arguments::Scope::Events if entry["sse"].is_null() => {
            Err(invalid("the call was not answered by an event stream, so it has no events")
                .hint("--scope call is of the bodies of one call"))
        }
        arguments::Scope::Events => Ok(Scope::Events(call)),
    }
}
