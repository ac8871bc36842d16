//! `estoppel keys …`.

use std::process::ExitCode;

use estoppel_evidence::envelope::base64;
use estoppel_evidence::{Alg, Instance, Use};
use serde_json::{Value, json};

use crate::arguments::{KeyAlgorithm, KeyUse, KeysCommand};
use crate::output::{Failure, Output};

pub fn run(output: &Output, command: &KeysCommand) -> Result<ExitCode, Failure> {
    let failed =
        |error: estoppel_journal::keys::KeyFileError| Failure::reason(error.reason(), error.to_string());
    match command {
        KeysCommand::Init { dir, alg } => {
            estoppel_journal::keys::init(dir, algorithm(*alg)).map_err(failed)?;
            output.line(&format!("keys made in {}", dir.display()));
            output.line("back them up now; whoever holds them can sign as this gateway");
            list(*output, dir)
        }
        KeysCommand::Wrapping { out } => {
            estoppel_journal::keys::init_secret(out).map_err(failed)?;
            output.line(&format!(
                "key written to {}; back it up now: what it encrypts is lost without it",
                out.display()
            ));
            Ok(output.data(&json!({ "path": out })))
        }
        KeysCommand::Rotate { dir, key_use, alg } => {
            let use_ = match key_use {
                KeyUse::Receipt => Use::Receipt,
                KeyUse::Checkpoint => Use::Checkpoint,
                KeyUse::Manifest => Use::Manifest,
            };
            estoppel_journal::keys::rotate(dir, use_, algorithm(*alg)).map_err(failed)?;
            output.line(&format!(
                "new {} key in {}; send SIGHUP to a running estoppeld",
                use_.as_str(),
                dir.display()
            ));
            list(*output, dir)
        }
        KeysCommand::List { dir, trust: None } => list(*output, dir),
        KeysCommand::List { dir, trust: Some(instance) } => trust(*output, dir, instance),
        KeysCommand::Disclose(wanted) => crate::disclose::run(output, wanted),
    }
}

fn algorithm(alg: KeyAlgorithm) -> Alg {
    match alg {
        KeyAlgorithm::Ed25519 => Alg::Ed25519,
        KeyAlgorithm::P256 => Alg::P256,
    }
}

fn list(output: Output, dir: &std::path::Path) -> Result<ExitCode, Failure> {
    let rows = estoppel_journal::keys::list(dir)
        .map_err(|error| Failure::reason(error.reason(), error.to_string()))?;
    let rows = json!(rows);
    for row in rows.as_array().into_iter().flatten() {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_string();
        let current = if row["current"] == true { "current" } else { "" };
        output.line(&format!(
            "{:<11} {:<18} {:<8} {current:<8} {}",
            text("use"),
            text("alg"),
            text("held"),
            text("kid")
        ));
    }
    Ok(output.data(&json!({ "keys": rows })))
}

/// Prints a trust document: the exact bytes that a verifier takes (SPEC section 10).
fn trust(output: Output, dir: &std::path::Path, instance: &str) -> Result<ExitCode, Failure> {
    let instance: Instance = instance
        .parse()
        .map_err(|error| Failure::input("ARGUMENT_INVALID", format!("`{instance}` is {error}")))?;
    let keys = estoppel_journal::keys::list(dir)
        .map_err(|error| Failure::reason(error.reason(), error.to_string()))?;
    let rows: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({ "alg": key.alg, "iss": instance, "kid": key.kid, "spki": base64(key.public.spki()), "use": key.use_.as_str() })
        })
        .collect();
    let document = json!({ "keys": rows, "v": "pef-trust/v0" });
    let canonical = serde_json::to_vec(&document)
        .ok()
        .and_then(|bytes| estoppel_evidence::canonical::foreign(&bytes).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Failure::runtime("INTERNAL", "the trust document could not be written"))?;
    if !output.json {
        use std::io::Write as _;
        // No line end: the document is canonical bytes and nothing else.
        let _ = write!(std::io::stdout(), "{canonical}");
    }
    Ok(output.data(&document))
}
