//! `estoppel regress add`.

use std::process::ExitCode;

use estoppel_evidence::entry::VerdictAction;
use serde_json::json;

use super::fixture::Fixture;
use crate::arguments::RegressAdd;
use crate::output::{Failure, Output, plain};
use crate::verify;

pub fn run(output: Output, add: &RegressAdd) -> Result<ExitCode, Failure> {
    let bundle = verify::demand(&add.from, add.vouched.trust.as_deref())?;
    let fixture = Fixture::of((&add.from, &bundle), &add.call, add.expect)?;
    let document = &fixture.document;
    let name = add.name.as_deref().unwrap_or(&document.call);
    let folder = fixture.write(&add.into, name)?;
    let expect = &document.expect;
    let reason = expect.reason.as_ref().map(|reason| format!(" with {reason}")).unwrap_or_default();
    output.line(&plain(&format!(
        "{}: call {} is expected to {}{reason}",
        folder.display(),
        document.call,
        says(expect.verdict)
    )));
    Ok(output.data(&json!({ "name": name, "path": folder, "call": document.call, "expect": expect })))
}

fn says(verdict: VerdictAction) -> &'static str {
    match verdict {
        VerdictAction::Allow => "pass",
        VerdictAction::Repair => "be repaired",
        VerdictAction::Hold => "be held",
        VerdictAction::Block => "be blocked",
    }
}
