//! `estoppel report`: a run in a few numbers, and as a badge.

use std::path::Path;
use std::process::ExitCode;

use estoppel_attest::{Replayed, RunDigest};
use estoppel_evidence::Sha256;
use estoppel_verify::PublicKey;
use serde_json::{Value, json};

use crate::arguments::Report;
use crate::output::{Failure, Output, plain};
use crate::{bundles, input, verify};

pub fn run(output: &Output, asked: &Report) -> Result<ExitCode, Failure> {
    for path in [&asked.svg, &asked.out].into_iter().flatten() {
        input::demand_new(path)?;
    }
    let bundle = input::evidence(&asked.digest)?;
    let bundle = (asked.digest.as_path(), bundle.as_slice());
    let replayed = replayed(asked, bundle)?;
    let report = verify::judged_bytes(bundle, asked.trust.as_deref())?;
    let digest = RunDigest::new(&report, replayed.as_ref()).ok_or_else(|| {
        let finding = report.finding.as_ref();
        let code = finding.map_or("BUNDLE_INVALID", |finding| finding.reason.code());
        let detail = finding.map(|finding| finding.detail.clone()).unwrap_or_default();
        Failure { exit: report.exit_code().max(2), ..Failure::runtime(code, plain(&detail)) }
    })?;
    if let Some(path) = &asked.out {
        input::write_new(path, &digest.to_bytes().map_err(|error| bundles::failure(&error))?)?;
    }
    if let Some(path) = &asked.svg {
        input::write_new(path, digest.badge().as_bytes())?;
    }
    let document = digest.document();
    for name in ["run", "root", "calls", "blocks", "repairs", "holds", "replay", "authenticity", "anchoring"]
    {
        let value = document[name].as_str().map_or_else(|| document[name].to_string(), str::to_owned);
        output.line(&format!("{name:<12} {}", plain(&value)));
    }
    Ok(output.data(&json!({ "digest": document })))
}

/// What the certificate says, if it holds and is about this bundle.
fn replayed(asked: &Report, bundle: (&Path, &[u8])) -> Result<Option<Replayed>, Failure> {
    let Some(path) = &asked.certificate else { return Ok(None) };
    let bytes = input::evidence(path)?;
    let signer = asked.signer.as_deref().map(verify::spki).transpose()?;
    let signer = signer.map(|spki| {
        PublicKey::of_spki(&spki)
            .ok_or_else(|| Failure::input("KEY_INVALID", "--signer: neither an Ed25519 nor a P-256 key"))
    });
    let signer = signer.transpose()?;
    let report = verify::certificate(&bytes, signer.as_ref(), bundle, asked.trust.as_deref())?;
    if report.exit_code() != 0 {
        let finding = report.bundle.as_ref().and_then(|bundle| bundle.finding.as_ref());
        let (code, detail) = match (&report.fault, finding) {
            (Some(fault), _) => (fault.reason.code(), fault.detail.clone()),
            (None, Some(finding)) => (finding.reason.code(), finding.detail.clone()),
            (None, None) => ("CERTIFICATE_MALFORMED", String::new()),
        };
        return Err(Failure { exit: report.exit_code(), ..Failure::runtime(code, plain(&detail)) });
    }
    let statement: Value =
        report.statement.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let status = statement["predicate"]["status"].as_str().unwrap_or("failed").to_owned();
    Ok(Some(Replayed { certificate: Sha256::of(&bytes), status }))
}
