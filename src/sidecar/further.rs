//! What is cited beside bundles: chains of custody, the index of an archive, the ledger of releases.

use std::path::Path;

use estoppel_attest::{AttestError, Cites, Further};
use estoppel_evidence::Sha256;
use estoppel_release::audit::{self, EXPORT_BYTES_MAX};
use estoppel_release::ledger::Ledger;
use estoppel_verify::{CUSTODY_BYTES_MAX, INDEX_BYTES_MAX, PublicKey};
use serde_json::Value;

use crate::arguments::{self, Beside};
use crate::output::{Colour, Failure, Output, plain};
use crate::{bundles, input, verify};

/// Why a statement does not hold; `ledger` is the option that a ledger is given by.
pub fn failure(error: &AttestError, ledger: &str) -> Failure {
    let failure = bundles::failure(error);
    let option = match error {
        AttestError::Missing(Cites::Custody(_)) => "--custody",
        AttestError::Missing(Cites::Archive) => "--archive",
        AttestError::Missing(Cites::Ledger) => ledger,
        _ => return failure,
    };
    failure.hint(format!("give it with {option}"))
}

/// Whether whoever asks has to name what they trust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// They vouch for the first event of the ledger.
    Named,
    /// They may look at what others vouched for.
    Any,
}

/// Reads what was named. Only the ledger is verified yet.
pub fn read(asked: &Beside, beginning: Beginning) -> Result<Further, Failure> {
    let custody = asked.custody.iter().map(|path| input::limited(path, CUSTODY_BYTES_MAX));
    let custodians = asked.custodians.iter().map(|path| custodian(path));
    let archive = asked.archive.as_deref().map(|path| input::limited(path, INDEX_BYTES_MAX));
    let ledger = asked.ledger.as_deref().map(|path| ledger(path, asked, beginning));
    Ok(Further {
        custody: custody.collect::<Result<_, _>>()?,
        custodians: custodians.collect::<Result<_, _>>()?,
        archive: archive.transpose()?,
        ledger: ledger.transpose()?,
    })
}

fn custodian(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::of_spki(&verify::spki(path)?)
        .ok_or_else(|| Failure::input("KEY_INVALID", "--custodian: neither an Ed25519 nor a P-256 key"))
}

fn ledger(path: &Path, asked: &Beside, beginning: Beginning) -> Result<Ledger, Failure> {
    let named = asked.genesis.as_deref().map(arguments::digest).transpose()?;
    if path.is_dir() {
        let store = crate::ledger::alone(path)?;
        let ledger = store.read()?;
        demand(named.or(store.trusted()?), &ledger, beginning)?;
        return Ok(ledger);
    }
    let bytes = input::limited(path, EXPORT_BYTES_MAX as u64)?; // widening
    if audit::needs_ledger(&bytes) {
        let message =
            "--ledger: a table or a page does not have the events; export it as JSON, or name the repository";
        return Err(Failure::input("ARGUMENT_INVALID", message));
    }
    let verified = audit::verify(&bytes, None, named);
    let ledger = verified.map_err(|refusal| bundles::failure(&AttestError::Ledger(refusal)))?.ledger;
    demand(named, &ledger, beginning)?;
    Ok(ledger)
}

fn demand(trusted: Option<Sha256>, ledger: &Ledger, beginning: Beginning) -> Result<(), Failure> {
    match trusted {
        Some(trusted) if ledger.genesis() == Some(trusted) => Ok(()),
        None if beginning == Beginning::Any => Ok(()),
        Some(trusted) => {
            let message = format!("the ledger does not begin with {trusted}");
            Err(Failure { exit: 2, ..Failure::runtime("LEDGER_GENESIS", message) })
        }
        None => {
            let message =
                "a statement cites a ledger whose first event somebody vouches for; --genesis names it";
            Err(Failure::input("ARGUMENT_INVALID", message))
        }
    }
}

/// Says of which bundles a custodian's verification failed, by the rows of a statement.
pub fn print_failed(output: Output, custody: &Value) {
    let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
    for row in custody.as_array().into_iter().flatten().filter(|row| row["failed"].is_object()) {
        let failed = &row["failed"];
        let listed = failed["listed"].as_array().and_then(|listed| listed.last()).unwrap_or(&Value::Null);
        let what = listed["reason"].as_str().or(listed["found"].as_str());
        let what = plain(what.unwrap_or("a verdict is none that passes"));
        let since = if failed["last"] == "failed" { "none has passed since" } else { "a later one passed" };
        let line = format!(
            "FAILED       {} of {} verifications of run {} by custodians, last on {}: {what}; {since}",
            failed["count"],
            row["actions"]["verified"],
            text(&row["run"]),
            text(&listed["ts"]),
        );
        output.line(&output.paint(Colour::Red, &line));
    }
}

/// Says what a statement cites, and what of it was vouched for by whoever asks.
pub fn print(output: Output, predicate: &Value, asked: &Beside) {
    let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
    for row in predicate["custody"].as_array().into_iter().flatten() {
        let line = format!("{} of run {}, {} entries", text(&row["head"]), text(&row["run"]), row["entries"]);
        output.line(&format!("custody      {line}"));
    }
    print_failed(output, &predicate["custody"]);
    let standing =
        if asked.custodians.is_empty() { "the statement's own word" } else { "those that were given" };
    if let Some(keys) = predicate["custodians"].as_array() {
        output.line(&format!("custodians   {} keys, {standing}", keys.len()));
    }
    for copy in predicate["archive"]["copies"].as_array().into_iter().flatten() {
        let (bucket, key, until) = (text(&copy["bucket"]), text(&copy["key"]), text(&copy["retain_until"]));
        let signed = if copy["signed"].is_string() { "signed for" } else { "not signed for" };
        let mode = text(&copy["mode"]);
        output.line(&format!("copy         {bucket} {key}, {mode} until {until}, {signed}"));
    }
    let ledger = &predicate["ledger"];
    if ledger.is_object() {
        output.line(&format!(
            "ledger       {} of {} events, begins with {}",
            text(&ledger["head"]),
            ledger["events"],
            text(&ledger["genesis"])
        ));
    }
}
