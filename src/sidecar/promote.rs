//! `estoppel promote`, `approve`, `waive` and `rollback`, and how gates have evidence verified.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::envelope::from_base64;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{PublicKey, Reason, Sha256, Signer as _};
use estoppel_gateway::packs::Packs;
use estoppel_policy::Policy;
use estoppel_release::generation::{PolicyGate, RegressGate, StageName};
use estoppel_release::git::Files;
use estoppel_release::ledger::{Approved, Body};
use estoppel_release::promotion::{self, Bundle, Call, Judged, Left, State, Subject, Wanted, Witness};
use estoppel_release::rollback::{self, Back};
use estoppel_release::{Code, Refusal, process, sync};
use estoppel_verify::{Authenticity, Completeness};
use serde_json::{Value, json};

use crate::arguments::{Approve, InRepository, Promote, Rollback, SignedBy, Waive};
use crate::ledger::{Signing, now, read, shared, store};
use crate::output::{Colour, Failure, Output, plain};
use crate::{input, policy, regress, show, verify};

const HOUR_US: u64 = 3_600_000_000;

pub fn run(output: &Output, wanted: &Promote, explain: bool) -> Result<ExitCode, Failure> {
    let (store, signing) = (shared(&wanted.at)?, Signing::of(&wanted.signed)?);
    let asked = Wanted {
        version: &wanted.version,
        stage: wanted.stage.name(),
        candidate: wanted.candidate.as_deref(),
        contract: wanted.contract,
        folders: &wanted.evidence,
        resume: wanted.resume,
        dry: explain,
    };
    process::end_what_is_left();
    let judged = promotion::promote(&store, &signing.hand(), &asked, &Offline)?;
    if judged.promoted.is_some() && store.remote().is_some() {
        // Candidates that the remote was not told of before belong to what is promoted.
        sync::push(&store)?;
    }
    Ok(told(*output, asked.stage, &judged))
}

fn told(output: Output, stage: StageName, judged: &Judged) -> ExitCode {
    for row in &judged.rows {
        let colour = match row.state {
            State::Pass => Colour::Green,
            State::Fail => Colour::Red,
            State::Missing | State::Waived => Colour::Yellow,
        };
        let word = output.paint(colour, &format!("{:<8}", row.state.as_str()));
        output.line(&format!("{word} {}", plain(&format!("{:<26} {}", row.gate, row.why))));
        if let Some(run) = &row.run {
            output.line(&plain(&format!("         {run}")));
        }
        if let Some(waiver) = &row.waiver {
            let until = waiver.expires.map(|expires| format!(", until {expires}")).unwrap_or_default();
            output.line(&plain(&format!("         by {}: {}{until}", waiver.by, waiver.reason)));
        }
    }
    let refusal = judged.refusal();
    match (&judged.promoted, refusal) {
        (Some((tag, _)), _) => {
            let to = if stage == StageName::Final { String::new() } else { format!(" to {stage}") };
            let said = format!("{} {tag}{to} on {}", output.paint(Colour::Green, "promoted"), judged.commit);
            output.line(&said);
        }
        (None, Some(code)) => output.line(&output.paint(Colour::Red, &format!("REFUSED  {}", code.as_str()))),
        (None, None) => output.line("nothing refuses"),
    }
    let data = json!({
        "stage": stage, "gates": judged.rows, "commit": judged.commit, "candidate": judged.candidate,
        "reason": refusal, "tag": judged.promoted.as_ref().map(|(tag, _)| tag),
        "event": judged.promoted.as_ref().map(|(_, event)| event),
    });
    output.answer(&data, refusal.map_or(0, Code::exit))
}

pub fn approve(output: &Output, asked: &Approve) -> Result<ExitCode, Failure> {
    let wanted = Wanted {
        version: &asked.version,
        stage: StageName::Final,
        candidate: asked.candidate.as_deref(),
        contract: asked.contract,
        folders: &[],
        resume: false,
        dry: true,
    };
    sign(*output, &asked.at, &asked.signed, &wanted, &|subject| {
        Ok(Body::Approved(Approved {
            commit: subject.commit.clone(),
            contract: subject.contract,
            expires: until(asked.hours),
            policy: subject.policy,
            version: asked.version.clone(),
        }))
    })
}

pub fn waive(output: &Output, asked: &Waive) -> Result<ExitCode, Failure> {
    let wanted = Wanted {
        version: &asked.version,
        stage: StageName::Final,
        candidate: asked.candidate.as_deref(),
        contract: asked.contract,
        folders: &[],
        resume: false,
        dry: true,
    };
    sign(*output, &asked.at, &asked.signed, &wanted, &|subject| {
        subject.waive(&asked.gate, &asked.reason, until(asked.hours)).map(Body::Waived)
    })
}

fn until(hours: u16) -> UnixMicros {
    UnixMicros(now().0.saturating_add(u64::from(hours) * HOUR_US))
}

fn sign(
    output: Output,
    at: &InRepository,
    signed: &SignedBy,
    wanted: &Wanted<'_>,
    body: &dyn Fn(&Subject) -> Result<Body, Refusal>,
) -> Result<ExitCode, Failure> {
    let (store, signing) = (store(at)?, Signing::of(signed)?);
    let ledger = read(output, &store)?;
    let subject = promotion::subject(&store, &ledger, wanted, &Offline)?;
    let body = body(&subject)?;
    let counts = !subject.is_authors_own(&ledger, signing.key.public().id());
    let signed = store.append(&signing.hand(), &mut |_| Ok(body.clone().into()))?;
    output.line(&plain(&format!("candidate   {} on {}", subject.candidate, subject.commit)));
    output.line(&format!("contract    {}", subject.contract));
    if let Some(policy) = subject.policy {
        output.line(&format!("policy      {policy}"));
    }
    output.line(&format!("{:<11} {}", body.kind(), signed.event));
    if !counts {
        output.line("note        it does not count: it is by an author of the contract, by key or by name");
    }
    Ok(output.data(&json!({
        "kind": body.kind(), "event": signed.event, "candidate": subject.candidate, "commit": subject.commit,
        "contract": subject.contract, "policy": subject.policy, "counts": counts,
    })))
}

pub fn rollback(output: &Output, asked: &Rollback) -> Result<ExitCode, Failure> {
    let (store, signing) = (shared(&asked.at)?, Signing::of(&asked.signed)?);
    let back = Back { version: &asked.version, to: asked.to.as_ref(), reason: &asked.reason };
    let done = rollback::roll_back(&store, &signing.hand(), &back)?;
    output.line(&plain(&format!("rolled back {} to {}", done.from, done.to)));
    output.line(&plain(&format!("branch      {} on {}", rollback::branch(&done.from), done.commit)));
    output.line(&plain(&format!("tag         {}", done.tag)));
    let moved: Vec<&str> = done.environments.keys().map(String::as_str).collect();
    if !moved.is_empty() {
        output.line(&plain(&format!("moved       {} to {}", moved.join(", "), done.to.tag())));
    }
    Ok(output.data(&json!({
        "from": done.from, "to": done.to, "commit": done.commit, "tag": done.tag, "branch": rollback::branch(&done.from),
        "environments": moved,
    })))
}

/// Verifies from bytes, by the code of `estoppel verify`, `replay verify-certificate` and `regress run`.
struct Offline;

fn said(failure: Failure) -> String {
    format!("{}: {}", failure.code, failure.message)
}

/// The bytes that are meant, read once.
fn bytes_of(left: Left<'_>) -> Result<Vec<u8>, String> {
    let bytes = input::evidence(left.path).map_err(said)?;
    match Sha256::of(&bytes) == left.sha256 {
        true => Ok(bytes),
        false => Err("it changed while it was read".into()),
    }
}

impl Witness for Offline {
    fn bundle(&self, bundle: Left<'_>, trust: &[u8]) -> Result<Bundle, String> {
        let (path, bytes) = (bundle.path, bytes_of(bundle)?);
        let report = verify::judged_by((path, &bytes), Some(trust)).map_err(said)?;
        if let Some(finding) = &report.finding {
            return Err(format!("{}: {}", finding.reason.code(), finding.detail));
        }
        if report.verdicts.authenticity != Authenticity::Trusted {
            return Err("it was not signed by keys of the trust document".into());
        }
        if report.verdicts.completeness != Completeness::Complete {
            return Err("it is not complete".into());
        }
        let root = report.root.map(|root| format!("root:{}", root.hex())).unwrap_or_default();
        let (_, lines) =
            show::opened(path, bytes).and_then(|bundle| show::entries(path, &bundle)).map_err(said)?;
        let calls = lines.iter().filter(|line| line.value["kind"] == "call").map(|line| call(&line.value));
        let mut codes = BTreeSet::new();
        lines.iter().for_each(|line| codes_of(&line.value, &mut codes));
        Ok(Bundle { root, calls: calls.collect(), codes })
    }

    fn subject(&self, certificate: Left<'_>) -> Option<String> {
        let envelope: Value = serde_json::from_slice(&bytes_of(certificate).ok()?).ok()?;
        let payload = from_base64(envelope["payload"].as_str()?)?;
        let statement: Value = serde_json::from_slice(&payload).ok()?;
        statement["predicate"]["bundle"]["root"].as_str().map(ToOwned::to_owned)
    }

    fn certificate(
        &self,
        certificate: Left<'_>,
        bundle: Left<'_>,
        trust: &[u8],
        signers: &[PublicKey],
    ) -> Result<(), String> {
        let (bytes, sealed) = (bytes_of(certificate)?, bytes_of(bundle)?);
        let bundle = (bundle.path, sealed.as_slice());
        let mut why = "no key of the ledger may run evolutions".to_owned();
        for signer in signers {
            let Some(signer) = estoppel_verify::PublicKey::of_spki(signer.spki()) else { continue };
            let report = verify::certificate_by(&bytes, Some(&signer), bundle, Some(trust)).map_err(said)?;
            if report.exit_code() != 0 {
                if let Some(fault) = &report.fault {
                    why = format!("{}: {}", fault.reason.code(), fault.detail);
                }
                continue;
            }
            let statement: Option<Value> =
                report.statement.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
            let status =
                statement.map(|statement| statement["predicate"]["status"].clone()).unwrap_or_default();
            return match status.as_str() {
                Some("success") => Ok(()),
                status => Err(format!("the replay ended with {}", status.unwrap_or("nothing"))),
            };
        }
        Err(why)
    }

    fn regress(&self, files: &Files, gate: &RegressGate, trust: Option<&[u8]>) -> Result<String, String> {
        let policy = compiled(files, &gate.policy, gate.packs.as_deref())?;
        let fixtures = Committed { files, folder: &gate.fixtures };
        let counts = regress::counted((Path::new(&gate.policy), policy), &fixtures, trust).map_err(said)?;
        let text = format!(
            "{} as expected, {} otherwise, {} undecided",
            counts.same, counts.changed, counts.undecided
        );
        match counts.first {
            None if counts.same > 0 => Ok(text),
            first => Err(format!("{text}: {}", first.unwrap_or_default())),
        }
    }

    fn policy(&self, files: &Files, gate: &PolicyGate) -> Result<Sha256, String> {
        let policy = compiled(files, &gate.policy, gate.packs.as_deref())?;
        Sha256::parse(&policy.hash().to_string()).ok_or_else(|| "it has no hash".into())
    }
}

/// A policy of a commit, with what it takes from packs of that.
fn compiled(files: &Files, file: &str, packs: Option<&str>) -> Result<Policy, String> {
    let text = String::from_utf8(files.read(file)?).map_err(|_| format!("`{file}` is not UTF-8"))?;
    let packs = Packs::of(packs.map(|packs| files.below(packs)).transpose()?);
    let parsed = policy::parsed(Output::new(true), Path::new(file), &text, &packs).map_err(said)?;
    Ok(parsed.compile())
}

/// The fixtures of a commit.
struct Committed<'a> {
    files: &'a Files,
    folder: &'a str,
}

impl regress::Fixtures for Committed<'_> {
    fn at(&self) -> &Path {
        Path::new(self.folder)
    }

    fn entries(&self) -> Result<Vec<(String, bool)>, Failure> {
        let names = self.files.names(self.folder).map_err(unreadable)?;
        Ok(names.into_iter().collect())
    }

    fn has(&self, fixture: &str, file: &str) -> bool {
        let names = self.files.names(&format!("{}/{fixture}", self.folder));
        names.is_ok_and(|names| names.contains_key(file))
    }

    fn file(&self, fixture: &str, file: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Failure> {
        let bytes = self.files.read(&format!("{}/{fixture}/{file}", self.folder)).map_err(unreadable)?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= bytes_max)) // a length fits in 64 bits
    }
}

fn unreadable(why: String) -> Failure {
    Failure::reason(Reason::FileUnreadable, plain(&why))
}

fn call(entry: &Value) -> Call {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    Call {
        id: text(&entry["call"]).unwrap_or_default(),
        seq: entry["seq"].as_u64().unwrap_or_default(),
        evolution: text(&entry["claims"]["evolution_id"]),
        policy: text(&entry["policy"]["hash"]),
        is_blocked: entry["verdict"]["action"] == "block",
        total_us: entry["time"]["total_us"].as_u64(),
    }
}

/// Every code that an entry has, wherever it has it.
fn codes_of(value: &Value, codes: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(code) if name == "code" || name == "reason" => {
                        codes.insert(code.to_owned());
                    }
                    _ => codes_of(value, codes),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| codes_of(item, codes)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_exchanged_since_it_was_found_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.pef.zip");
        std::fs::write(&path, "found").unwrap();
        let left = Left { path: &path, sha256: Sha256::of(b"found") };
        assert_eq!(bytes_of(left).unwrap(), b"found");
        std::fs::write(&path, "other").unwrap();
        let refused = "it changed while it was read";
        assert_eq!(bytes_of(left).unwrap_err(), refused);
        assert_eq!(Offline.bundle(left, b"{}").unwrap_err(), refused);
        assert_eq!(Offline.certificate(left, left, b"{}", &[]).unwrap_err(), refused);
        assert_eq!(Offline.subject(left), None);
    }
}
