//! Entries that commands add of what they did, where they are asked to.

use std::path::Path;
use std::time::{Duration, Instant};

use estoppel_archive::custody::{append, check, list_path};
use estoppel_archive::{Action, Added, Custodian, CustodyError, CustodySettings, Done, Verdicts};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, Sha256};
use estoppel_verify::Report;
use serde_json::{Value, json};

use super::failure;
use crate::arguments::{CustodyBy, CustodyTo};
use crate::identity;
use crate::output::{Failure, Output, plain};

/// How long a list is waited for that another process adds to.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Who signs, as the options say; none where nobody asked.
pub fn settings(asked: &CustodyBy) -> Option<CustodySettings> {
    let (key, actor) = asked.custody_key.clone().zip(asked.custody_by.clone())?;
    Some(CustodySettings { key, actor })
}

/// Whoever signs; none where nobody asked.
pub fn custodian(asked: &CustodyBy) -> Result<Option<Custodian>, Failure> {
    let settings = settings(asked);
    settings.map(|settings| Custodian::load(&settings).map_err(|error| failure(&error))).transpose()
}

/// Whoever signs that something was given, and to whom.
pub fn giver(asked: &CustodyTo) -> Result<Option<(Custodian, &str)>, Failure> {
    match (custodian(&asked.by)?, asked.custody_to.as_deref()) {
        (Some(by), Some(to)) => Ok(Some((by, to))),
        (None, _) => Ok(None),
        (Some(_), None) => Err(Failure::input("ARGUMENT_INVALID", "--custody-to says to whom it is given")),
    }
}

/// What is told now.
pub fn done(action: Action<'_>) -> Done<'_> {
    Done { action, note: None, ts: UnixMicros(identity::now_us()), sha256: None }
}

/// Refuses, before it is done, what could not be told.
pub fn demand(bundle: &Path, by: &Custodian, done: &Done<'_>) -> Result<(), Failure> {
    patiently(|| check(bundle, by, done)).map_err(|error| failure(&error))
}

/// Adds to the list of a bundle, after others that do.
pub fn add(bundle: &Path, by: &Custodian, done: &Done<'_>) -> Result<Added, CustodyError> {
    patiently(|| append(bundle, by, done))
}

fn patiently<T>(work: impl Fn() -> Result<T, CustodyError>) -> Result<T, CustodyError> {
    let by = Instant::now() + PATIENCE;
    loop {
        match work() {
            Err(CustodyError::Busy { .. }) if Instant::now() < by => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// Says where it was added; gives the same for programs.
pub fn told(output: Output, bundle: &Path, head: Leaf) -> Value {
    let list = list_path(bundle).display().to_string();
    output.line(&plain(&format!("custody  added to {list}, head {head}")));
    json!({ "list": list, "head": head })
}

/// What was done and is in no list. `data` is the answer that there would have been.
pub fn unrecorded(what: &str, data: &Value, bundle: &Path, error: &CustodyError) -> Failure {
    let cause = failure(error);
    let list = list_path(bundle).display().to_string();
    let mut data = data.clone();
    data["custody"] = json!({ "list": list, "code": cause.code, "message": cause.message });
    let message = format!("{what}, and that is not in `{list}`: {}: {}", cause.code, cause.message);
    let failure = Failure::runtime("CUSTODY_UNRECORDED", plain(&message));
    let hint = "`estoppel custody add` adds it when the cause is mended";
    Failure { exit: cause.exit, data: Some(data), ..failure }.hint(hint)
}

/// The verdicts of a report, as an entry has them.
pub fn verdicts(report: &Report) -> Verdicts<'_> {
    let verdicts = &report.verdicts;
    Verdicts {
        anchoring: verdicts.anchoring.name(),
        authenticity: verdicts.authenticity.name(),
        completeness: verdicts.completeness.name(),
        integrity: verdicts.integrity.name(),
        reason: report.finding.as_ref().map(|finding| finding.reason.code()),
    }
}

/// A file that holds, and is not the bundle that its list is of.
pub fn another(found: Sha256, data: Value) -> Failure {
    let message = format!("the list is of another file than this one, {found}, and has that now");
    Failure { exit: 2, data: Some(data), ..Failure::runtime("CUSTODY_BUNDLE", message) }
}
