//! Judges what was signed of a deletion (spec/retention.md): a plan, and the report that it was done.

use crate::envelope::Envelope;
use crate::hash::Hash;
use crate::keys::{STATEMENT_TYPE, Usage};
use crate::reason::Reason;
use crate::receipt::Given;
use crate::report::{Finding, Step};
use crate::schema::{Schemas, Slots};
use crate::view::View;

/// A plan whose signature was verified, and the report of it.
#[derive(Debug)]
pub struct RetentionProof {
    /// What was signed.
    pub plan: Vec<u8>,
    pub report: Option<Vec<u8>>,
}

/// Judges a plan, and if there is one its report: both by a `manifest` key of the instance, the list the same bytes.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_retention(
    plan: &[u8],
    report: Option<&[u8]>,
    keys: Given<'_>,
) -> Result<RetentionProof, Finding> {
    let plan = read(plan, "planned", keys)?;
    let report = report.map(|report| read(report, "completed", keys)).transpose()?;
    if let Some(report) = &report {
        let (of_plan, of_report) = (predicate(&plan), predicate(report));
        let refuse = |detail: &str| Err(Finding::new(Reason::StatementMismatch, detail));
        if of_report.text_of("plan") != format!("sha256:{}", Hash::of(&plan).hex()) {
            return refuse("the report is of another plan");
        }
        let list = |document: View<'_>| document.member("objects").map(|list| list.raw().to_vec());
        if list(of_plan) != list(of_report) || of_plan.text_of("iss") != of_report.text_of("iss") {
            return refuse("the report does not list what was planned");
        }
    }
    Ok(RetentionProof { plan, report })
}

fn predicate(statement: &[u8]) -> View<'_> {
    View::of(statement).member("predicate").unwrap_or(View::of(b"{}"))
}

fn read(bytes: &[u8], state: &str, keys: Given<'_>) -> Step<Vec<u8>> {
    let malformed =
        |detail: String| Finding::new(Reason::EnvelopeMalformed, format!("what was {state}: {detail}"));
    let envelope = Envelope::read(bytes, STATEMENT_TYPE).map_err(malformed)?;
    let id = envelope.key_id.hex();
    let listed = keys.read(Usage::Manifest)?;
    let key = listed.find(envelope.key_id, Usage::Manifest).ok_or_else(|| {
        Finding::new(Reason::KeyUnknown, format!("`{id}` is no manifest key that was given"))
    })?;
    if !envelope.is_signed_by(&key.public) {
        return Err(Finding::new(
            Reason::EnvelopeSignature,
            format!("the signature does not verify with `{id}`"),
        ));
    }
    let schema = &Schemas::get().retention;
    let checked = schema.check(&envelope.payload, &mut Slots::default());
    checked.map_err(|fault| malformed(fault.describe(&envelope.payload)))?;
    let document = predicate(&envelope.payload);
    if document.text_of("state") != state || (state == "completed") != document.member("plan").is_some() {
        return Err(malformed(format!("expected `{state}`, found `{}`", document.text_of("state"))));
    }
    if key.iss.as_deref().is_some_and(|iss| iss != document.text_of("iss")) {
        return Err(Finding::new(Reason::KeyUnknown, format!("`{id}` is listed for another instance")));
    }
    let digests: Vec<_> = document
        .member("objects")
        .into_iter()
        .flat_map(View::items)
        .map(|object| (object.text_of("sha256").into_owned(), object.text_of("path").into_owned()))
        .collect();
    let subjects =
        View::of(&envelope.payload).member("subject").into_iter().flat_map(View::items).map(|subject| {
            let digest = subject.member("digest").map(|digest| digest.text_of("sha256").into_owned());
            (format!("sha256:{}", digest.unwrap_or_default()), subject.text_of("name").into_owned())
        });
    if !subjects.eq(digests.iter().cloned()) {
        return Err(Finding::new(
            Reason::StatementMismatch,
            "the statement is not about exactly these files",
        ));
    }
    if !digests.is_sorted_by(|a, b| a < b) {
        return Err(malformed("the objects are not in order, or one comes twice".to_owned()));
    }
    Ok(envelope.payload)
}
