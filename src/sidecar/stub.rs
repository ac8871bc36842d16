//! `estoppel stub`.

use std::process::ExitCode;

use serde_json::json;

use crate::arguments::Stub;
use crate::input;
use crate::output::{Failure, Output};

pub fn run(output: &Output, stub: &Stub) -> Result<ExitCode, Failure> {
    if !stub.listen.ip().is_loopback() {
        let message = format!("--listen: the stub listens on loopback only, not on `{}`", stub.listen);
        return Err(Failure::input("ARGUMENT_INVALID", message));
    }
    let script = match &stub.script {
        None => estoppel_stub::Script::model(),
        Some(path) => serde_json::from_slice(&input::file(path)?)
            .map_err(|error| Failure::input("ARGUMENT_INVALID", format!("`{}`: {error}", path.display())))?,
    };
    let listening = |address| {
        output.note(&format!("scripted upstream on http://{address}"));
        output.data(&json!({ "listening": format!("http://{address}") }));
    };
    estoppel_stub::serve_forever(stub.listen, script, listening)
        .map_err(|error| Failure::runtime("LISTEN_FAILED", format!("{}: {error}", stub.listen)))?;
    Ok(ExitCode::SUCCESS)
}
