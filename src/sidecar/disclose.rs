//! `estoppel keys disclose`.

use std::path::Path;
use std::process::ExitCode;

use estoppel_archive::{Action, Disclosed, Done};
use estoppel_evidence::disclosure::{self, Scope};
use estoppel_evidence::{CallId, CaptureKey, Reason, RunId, Sha256};
use estoppel_journal::KeyFileError;
use serde_json::json;

use crate::arguments::{self, Disclose};
use crate::output::{Failure, Output, plain};
use crate::show::{self, Line};
use crate::{custody, input};

pub fn run(output: &Output, wanted: &Disclose) -> Result<ExitCode, Failure> {
    let bytes = input::evidence(&wanted.bundle)?;
    let bundle = Sha256::of(&bytes);
    let (manifest, lines) = show::entries(&wanted.bundle, &show::opened(&wanted.bundle, bytes)?)?;
    let run: RunId = manifest["run"]
        .as_str()
        .and_then(|run| run.parse().ok())
        .ok_or_else(|| invalid("the bundle names no run"))?;
    let scope = scope(wanted, &lines)?;
    let key = capture_key(&wanted.dir, "--dir names the folder")?;
    let committed = lines.first().and_then(|open| open.value["capture"]["commitment"].as_str());
    if committed != Some(&key.run(run).commitment().to_string()) {
        let message = format!("`{}` does not hold the capture key of this run", wanted.dir.display());
        return Err(Failure::reason(Reason::KeyInvalid, plain(&message)));
    }
    let disclosed = disclosure::disclose(&key, run, scope);
    let sha256 = Some(Sha256::of(disclosed.as_bytes()));
    let given = custody::giver(&wanted.given)?;
    let given = given.as_ref().map(|(by, to)| {
        let what = match scope {
            Scope::Events(_) => Disclosed::Events,
            Scope::Call(_) => Disclosed::Call,
            Scope::Run => Disclosed::Run,
        };
        // Of the file that was read: another one in its place has another key.
        (by, Done { sha256: Some(bundle), ..custody::done(Action::Disclosed { to, what, sha256 }) })
    });
    if let Some((by, done)) = &given {
        custody::demand(&wanted.bundle, by, done)?;
    }
    input::write_new(&wanted.out, disclosed.as_bytes())?;
    let (what, call) = match scope {
        Scope::Events(call) => ("the events of one call", Some(call)),
        Scope::Call(call) => ("the events and bodies of one call", Some(call)),
        Scope::Run => ("everything that was captured of this run", None),
    };
    output.line(&format!("key written to {}", plain(&wanted.out.display().to_string())));
    output.line(&format!("whoever holds it can test guesses at {what}; give it as you would give the bytes"));
    let mut data = json!({ "path": wanted.out, "run": run, "call": call, "opens": what });
    if let Some((by, done)) = &given {
        let added = custody::record(&wanted.bundle, by, done).map_err(|error| {
            let what = format!("the key was written to `{}`", wanted.out.display());
            custody::unrecorded(&what, &data, &wanted.bundle, &error)
        })?;
        data["custody"] = custody::told(*output, &wanted.bundle, added.head);
    }
    Ok(output.data(&data))
}

/// The capture key in a gateway's folder of keys. A new one would not be that of any run.
pub fn capture_key(dir: &Path, options: &str) -> Result<CaptureKey, Failure> {
    estoppel_journal::keys::load_capture(dir).map_err(|error| match error {
        KeyFileError::Missing { .. } => {
            let message = format!("`{}` has no capture key", dir.display());
            let hint = format!("{options} of the keys of the gateway that recorded the run");
            Failure::reason(error.reason(), plain(&message)).hint(hint)
        }
        error => Failure::reason(error.reason(), plain(&error.to_string())),
    })
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
