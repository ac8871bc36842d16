//! `estoppel retention …`: what a journal keeps, and for how long.

mod closing;
mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use estoppel_archive::Custodian;
use estoppel_evidence::entry::Act;
use estoppel_evidence::envelope::{STATEMENT_TYPE, sign};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, RunId, Sha256, Signer};
use estoppel_journal::retention::{self, Busy, Class, Copy, Plan, RetentionError, Rule, Strangers, Survey};
use estoppel_verify::{Given, Pointer, RetentionProof, verify_retention};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::{CustodyBy, Kept, LegalHold, LegalHoldCommand, RetentionCommand};
use crate::output::{Failure, Output, plain};
use crate::{custody, input};
use closing::Closing;
use record::Recorder;

/// Most rules of one file.
const RULES_MAX: usize = 256;

pub fn run(output: &Output, command: &RetentionCommand) -> Result<ExitCode, Failure> {
    match command {
        RetentionCommand::Plan { kept, rules, as_of, out } => {
            plan(*output, kept, rules, as_of.as_deref(), out.as_deref())
        }
        RetentionCommand::Apply { kept, rules, plan, by, custody } => {
            apply(*output, kept, (rules.as_deref(), plan.as_deref()), (by, custody))
        }
        RetentionCommand::Verify { plan, report, trust } => verify(*output, plan, report.as_deref(), trust),
        RetentionCommand::Hold(LegalHoldCommand::Add(hold)) => set_hold(*output, "legal_hold", hold),
        RetentionCommand::Hold(LegalHoldCommand::Remove(hold)) => set_hold(*output, "legal_release", hold),
        RetentionCommand::Hold(LegalHoldCommand::List { journal }) => list_holds(*output, journal),
    }
}

fn failed(error: &RetentionError) -> Failure {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failure::reason(error.reason(), plain(&text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    version: u32,
    #[serde(default, rename = "rule")]
    rules: Vec<Rule>,
}

fn read_rules(path: &Path) -> Result<Vec<Rule>, Failure> {
    let invalid =
        |why: String| Failure::reason(Reason::ConfigInvalid, plain(&format!("`{}`: {why}", path.display())));
    let text = input::text(path)?;
    let Rules { version, rules } = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
        invalid(format!("line {line}: {}", error.message()))
    })?;
    let is_word = |id: &str| {
        let rest = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        id.len() <= 64 && id.starts_with(|first: char| first.is_ascii_lowercase()) && id.bytes().all(rest)
    };
    let mut ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    ids.sort_unstable();
    match () {
        () if version != 1 => Err(invalid(format!("expected version 1, found {version}"))),
        () if rules.is_empty() || rules.len() > RULES_MAX => {
            Err(invalid(format!("expected 1 to {RULES_MAX} rules, found {}", rules.len())))
        }
        () if !rules.iter().all(|rule| is_word(&rule.id)) => {
            Err(invalid("an id is a lower-case letter, then at most 63 of a-z, 0-9, `_` and `-`".into()))
        }
        () if rules.iter().any(|rule| rule.class == Class::Segments && rule.run_class.is_some()) => {
            Err(invalid(
                "a segment has entries of many runs: a rule of class `segments` has no `run_class`".into(),
            ))
        }
        () if ids.windows(2).any(|pair| pair[0] == pair[1]) => {
            Err(invalid("two rules have the same id".into()))
        }
        () => Ok(rules),
    }
}

/// The instance whose journal it is.
pub fn instance(journal: &Path) -> Result<String, Failure> {
    Recorder::instance(journal)
}

/// The log read through, once it has verified: ages and holds are what its signed entries say.
fn survey(journal: &Path) -> Result<Survey, Failure> {
    let report = crate::verify::journal_report(journal, None)?;
    if let Some(finding) = report.finding {
        let message = format!(
            "`{}` does not verify ({}), so nothing is planned or deleted",
            journal.display(),
            finding.reason
        );
        return Err(Failure { exit: 2, ..Failure::reason(Reason::JournalCorrupt, plain(&message)) });
    }
    Survey::of(journal).map_err(|error| failed(&error))
}

/// Where content was archived that is kept there for some time yet, by what the index of the archive says.
fn copies(journal: &Path) -> Result<BTreeMap<Sha256, Copy>, Failure> {
    let entries = estoppel_archive::read_entries(&journal.join("bundles"));
    let mut copies: BTreeMap<Sha256, Copy> = BTreeMap::new();
    for entry in entries.map_err(|error| crate::archive::failure(&error))? {
        let Pointer { endpoint, bucket, key, version, sha256, retain_until, .. } = entry.at;
        let (Some(sha256), Some(retain_until)) = (Sha256::parse(&sha256), UnixMicros::parse(&retain_until))
        else {
            continue;
        };
        let is_longest = copies.get(&sha256).is_none_or(|copy| copy.retain_until < retain_until);
        if is_longest && retain_until > now() {
            copies.insert(sha256, Copy { bucket, endpoint, key, retain_until, version });
        }
    }
    Ok(copies)
}

/// As `survey` read it, by whom it is signed, and what no other process may do meanwhile.
struct Opened {
    survey: Survey,
    signer: std::sync::Arc<dyn Signer>,
    /// The keys that whoever verifies a plan or a report of this journal is given.
    trust: Vec<u8>,
    _busy: Busy,
}

fn open(kept: &Kept) -> Result<Opened, Failure> {
    let busy = retention::lock(&kept.journal)
        .map_err(|error| failed(&error))?
        .ok_or_else(|| Failure::reason(Reason::RetentionBusy, Reason::RetentionBusy.text()))?;
    let keys = kept.keys.clone().unwrap_or_else(|| kept.journal.join("keys"));
    let keys = estoppel_journal::keys::load(&keys).map_err(|error| {
        Failure::reason(error.reason(), plain(&error.to_string()))
            .hint("--keys names the folder of the gateway's keys")
    })?;
    let trust = input::file(&kept.journal.join("trust.json"))?;
    Ok(Opened { survey: survey(&kept.journal)?, signer: keys.manifest.clone(), trust, _busy: busy })
}

impl Opened {
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, Failure> {
        sign(STATEMENT_TYPE, document, &*self.signer)
            .map_err(|error| Failure::reason(Reason::KeyInvalid, plain(&error.to_string())))
    }

    /// # Errors
    /// What it would sign of the plan nobody could verify: the keys are not those of this journal.
    fn check_key(&self, plan: &Plan) -> Result<(), Failure> {
        self.read(&self.sign(&plan.statement())?).map(drop)
    }

    fn plan(&mut self, kept: &Kept, rules: &Path, as_of: UnixMicros) -> Result<Plan, Failure> {
        let rules = read_rules(rules)?;
        if rules.iter().any(|rule| rule.class == Class::Segments) {
            self.survey.copies = copies(&kept.journal)?;
        }
        let iss = Recorder::instance(&kept.journal)?;
        Plan::new(&kept.journal, &self.survey, &iss, &rules, as_of).map_err(|error| failed(&error))
    }

    /// The report of a plan, if it was carried out: one that this instance has signed.
    fn done(&self, dir: &Path, signed: &[u8], plan: Sha256) -> Option<Vec<u8>> {
        let report = retention::kept(dir, &completed(&plan.hex())).ok()?;
        verify_retention(signed, Some(&report), Given::Trust(&self.trust)).ok().map(|_| report)
    }

    /// A plan that this instance has signed.
    fn read(&self, signed: &[u8]) -> Result<(Plan, Sha256), Failure> {
        let RetentionProof { plan, .. } =
            verify_retention(signed, None, Given::Trust(&self.trust)).map_err(|finding| {
                let refused = refused(&finding);
                match finding.reason {
                    estoppel_verify::Reason::KeyUnknown => {
                        refused.hint("--keys names the folder of the gateway's keys")
                    }
                    _ => refused,
                }
            })?;
        Ok((Plan::parse(&plan).map_err(|error| failed(&error))?, Sha256::of(&plan)))
    }
}

fn refused(finding: &estoppel_verify::Finding) -> Failure {
    Failure { exit: 2, ..Failure::runtime(finding.reason.code(), plain(&finding.detail)) }
}

fn now() -> UnixMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn plan(
    output: Output,
    kept: &Kept,
    rules: &Path,
    as_of: Option<&str>,
    out: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let as_of = match as_of {
        None => now(),
        Some(text) => UnixMicros::parse(text).ok_or_else(|| {
            Failure::input("ARGUMENT_INVALID", "--as-of is a time as `2026-11-21T04:00:00.000000Z`")
        })?,
    };
    let mut opened = open(kept)?;
    let plan = opened.plan(kept, rules, as_of)?;
    let statement = plan.statement();
    if let Some(out) = out.filter(|_| !plan.objects.is_empty()) {
        opened.check_key(&plan)?;
        input::write_new(out, &opened.sign(&statement)?)?;
    }
    show(output, &plan);
    output.line(&format!("{} files, {} bytes would be deleted; nothing was", plan.objects.len(), plan.bytes));
    Ok(output.data(&json!({ "plan": Sha256::of(&statement), "document": plan })))
}

fn show(output: Output, plan: &Plan) {
    for object in &plan.objects {
        output.line(&plain(&format!(
            "{} {:>10}  {} since {}  {}",
            object.sha256, object.bytes, object.rule, object.age_basis, object.path
        )));
    }
    for kept in &plan.kept {
        output.line(&plain(&format!("kept: {} {}", kept.count, kept.why)));
    }
    for path in &plan.unknown.paths {
        output.line(&plain(&format!("unknown: {path}")));
    }
}

fn apply(
    output: Output,
    kept: &Kept,
    (rules, given): (Option<&Path>, Option<&Path>),
    (by, custody): (&str, &CustodyBy),
) -> Result<ExitCode, Failure> {
    record::check(by)?;
    let custodian = custody::custodian(custody)?;
    let mut opened = open(kept)?;
    let dir = &kept.journal;
    let begun = retention::unfinished(dir).map_err(|error| failed(&error))?;
    let (signed, is_begun) = match (begun.first(), rules, given) {
        (Some(name), rules, given) => {
            let signed = retention::kept(dir, &planned(name)).map_err(|error| failed(&error))?;
            let given = given.map(|file| input::limited(file, PLAN_BYTES_MAX)).transpose()?;
            if rules.is_some() || given.is_some_and(|given| given != signed) {
                return Err(begun_before(dir, name));
            }
            (signed, true)
        }
        (None, Some(rules), _) => {
            let plan = opened.plan(kept, rules, now())?;
            if plan.objects.is_empty() {
                show(output, &plan);
                output.line("nothing is to be deleted");
                let data =
                    json!({ "deleted": 0, "resumed": false, "kept_back": [], "unknown": plan.unknown });
                return Ok(output.data(&data));
            }
            (opened.sign(&plan.statement())?, false)
        }
        (None, None, Some(file)) => (input::limited(file, PLAN_BYTES_MAX)?, false),
        (None, None, None) => {
            return Err(Failure::input("ARGUMENT_INVALID", "nothing was begun: give --rules or --plan"));
        }
    };
    let (plan, digest) = opened.read(&signed)?;
    if plan.objects.iter().any(|object| object.class == Class::Segments) {
        opened.survey.copies = copies(dir)?;
    }
    if plan.iss != Recorder::instance(dir)? {
        return Err(Failure::reason(Reason::RetentionStale, "the plan is of another instance"));
    }
    if let Some(report) = opened.done(dir, &signed, digest) {
        return Err(done_already(&Closing { dir, plan: &plan, digest, report: &report }, custodian.as_ref()));
    }
    if plan.as_of > now() {
        return Err(Failure::reason(Reason::RetentionStale, "the plan is as of a time to come"));
    }
    if !is_begun {
        plan.check(&opened.survey).map_err(|error| failed(&error))?;
    }
    retention::check(dir, &plan, is_begun).map_err(|error| failed(&error))?;
    opened.check_key(&plan)?;
    closing::demand(dir, &plan, digest, custodian.as_ref())?;
    let recorder = Recorder::open(kept)?;
    let name = planned(&digest.hex());
    retention::keep(dir, &name, &signed).map_err(|error| failed(&error))?;
    let comment = format!("{} files, {} bytes, as of {}", plan.objects.len(), plan.bytes, plan.as_of);
    if let Err(failure) = recorder.record("retention_planned", by, &digest.to_string(), &comment) {
        if !is_begun {
            retention::forget(dir, &name).map_err(|error| failed(&error))?;
        }
        return Err(failure);
    }
    let begins = retention::beginning(dir, &plan, digest, &opened.survey).map_err(|error| failed(&error))?;
    if let Some(document) = begins {
        retention::begin(dir, &opened.sign(&document)?).map_err(|error| failed(&error))?;
    }
    let kept_back =
        retention::delete(dir, &plan, &opened.survey, is_begun).map_err(|error| failed(&error))?;
    let unknown = Strangers::of(dir, &opened.survey, plan.as_of).map_err(|error| failed(&error))?;
    let report = plan.completed(digest, (now(), by), &kept_back, &unknown);
    let report = opened.sign(&report)?;
    let deleted = plan.objects.len() - kept_back.len();
    let comment = format!(
        "{deleted} files deleted, {} kept back; report sha256 {}",
        kept_back.len(),
        Sha256::of(&report).hex()
    );
    recorder.record("retention_completed", by, &digest.to_string(), &comment)?;
    retention::keep(dir, &completed(&digest.hex()), &report).map_err(|error| failed(&error))?;
    recorder.close()?;
    show(output, &plan);
    for kept in &kept_back {
        output.line(&plain(&format!("kept back: {} {}", kept.why, kept.path)));
    }
    let path = dir.join("retention").join(completed(&digest.hex()));
    output.line(&plain(&format!("{deleted} files deleted; report {}", path.display())));
    let data = json!({
        "plan": digest, "deleted": deleted, "resumed": is_begun, "kept_back": kept_back, "report": path, "unknown": unknown,
    });
    let closed = Closing { dir, plan: &plan, digest, report: &report }.close(custodian.as_ref(), &data)?;
    closed.show(output);
    Ok(output.data(&closed.with(data)))
}

/// The plan was carried out; lists of custody that its end left open are closed all the same.
fn done_already(closing: &Closing<'_>, by: Option<&Custodian>) -> Failure {
    let path = closing.dir.join("retention").join(completed(&closing.digest.hex()));
    let message = format!("the plan is done already: `{}` is the report", path.display());
    let data = json!({ "plan": closing.digest, "report": path });
    match closing.close(by, &data) {
        Ok(closed) => {
            let failure = Failure::input("RETENTION_DONE", plain(&message));
            Failure { exit: 8, data: Some(closed.with(data)), ..failure }
        }
        Err(failure) => failure,
    }
}

/// Another plan than the one that is given was begun.
fn begun_before(dir: &Path, name: &str) -> Failure {
    let file = dir.join("retention").join(planned(name));
    let message = format!("a deletion was begun and not ended, by the plan `{}`", file.display());
    Failure { exit: 8, ..Failure::input("RETENTION_BEGUN", plain(&message)) }
        .hint("estoppel retention apply without --rules and --plan ends it")
}

/// Largest plan that is read.
const PLAN_BYTES_MAX: u64 = 64 << 20;

fn planned(digest: &str) -> String {
    format!("{digest}.planned.json")
}

fn completed(digest: &str) -> String {
    format!("{digest}.completed.json")
}

fn verify(output: Output, plan: &Path, report: Option<&Path>, trust: &Path) -> Result<ExitCode, Failure> {
    let (plan, trust) = (input::limited(plan, PLAN_BYTES_MAX)?, input::file(trust)?);
    let report = report.map(|report| input::limited(report, PLAN_BYTES_MAX)).transpose()?;
    let proof = verify_retention(&plan, report.as_deref(), Given::Trust(&trust))
        .map_err(|finding| refused(&finding))?;
    let plan = Plan::parse(&proof.plan).map_err(|error| failed(&error))?;
    let state = if proof.report.is_some() { "completed" } else { "planned" };
    output.line(&format!(
        "{state}: {} files, {} bytes, as of {}",
        plan.objects.len(),
        plan.bytes,
        plan.as_of
    ));
    Ok(output.data(&json!({ "state": state, "plan": Sha256::of(&proof.plan), "objects": plan.objects })))
}

fn set_hold(output: Output, act: &'static str, hold: &LegalHold) -> Result<ExitCode, Failure> {
    record::check(&hold.by)?;
    record::check(&hold.reason)?;
    let opened = open(&hold.kept)?;
    let runs: Vec<RunId> = opened.survey.named(&hold.run).collect();
    if runs.is_empty() {
        return Err(Failure::reason(
            Reason::RunUnknown,
            format!("the journal has no run `{}`", plain(&hold.run)),
        )
        .hint("estoppel run list"));
    }
    let is_add = act == "legal_hold";
    let is_held = |run: &RunId| opened.survey.holds.contains_key(&(*run, hold.by.clone()));
    let changed: Vec<RunId> = runs.iter().copied().filter(|run| is_held(run) != is_add).collect();
    if changed.is_empty() {
        return Err(not_set(&opened.survey, &runs, is_add));
    }
    let recorder = Recorder::open(&hold.kept)?;
    for run in &changed {
        recorder.record(act, &hold.by, &format!("run:{run}"), &hold.reason)?;
    }
    recorder.close()?;
    for run in &changed {
        let held: Vec<&str> = opened.survey.holders(run).filter(|by| *by != hold.by).collect();
        let word = match (is_add, held.is_empty()) {
            (true, _) => "is under legal hold".to_owned(),
            (false, true) => "is no longer under legal hold".to_owned(),
            (false, false) => format!("is still under legal hold by {}", held.join(", ")),
        };
        output.line(&plain(&format!("{run} {word}")));
    }
    Ok(output.data(&json!({ "runs": changed, "act": act })))
}

/// There is such a hold already, or there is none to remove.
fn not_set(survey: &Survey, runs: &[RunId], is_add: bool) -> Failure {
    let held = runs.iter().flat_map(|run| survey.holders(run).map(move |by| format!("{run} by {by}")));
    let held = held.collect::<Vec<_>>().join(", ");
    match (is_add, held.is_empty()) {
        (true, _) => Failure::input("HOLD_EXISTS", plain(&format!("under legal hold already: {held}")))
            .hint("another matter is held under another --by"),
        (false, true) => Failure::input("HOLD_MISSING", "not under legal hold"),
        (false, false) => {
            Failure::input("HOLD_MISSING", plain(&format!("under legal hold by others only: {held}")))
                .hint("--by names whose hold is removed")
        }
    }
}

fn list_holds(output: Output, journal: &Path) -> Result<ExitCode, Failure> {
    let survey = survey(journal)?;
    let rows: Vec<Value> = survey
        .holds
        .iter()
        .map(|((run, by), hold)| json!({ "run": run, "by": by, "reason": hold.comment, "since": hold.since }))
        .collect();
    for ((run, by), hold) in &survey.holds {
        let why = hold.comment.as_deref().unwrap_or("-");
        output.line(&plain(&format!("{run}  since {} by {by}: {why}", hold.since)));
    }
    Ok(output.data(&json!({ "holds": rows })))
}

impl Recorder {
    /// Records one act of retention, and says so when it is durable.
    fn record(&self, act: &'static str, by: &str, on: &str, comment: &str) -> Result<(), Failure> {
        let comment: String = comment.chars().take(256).collect();
        self.note(Act { act, by: by.into(), comment: Some(comment), on: Some(on.into()), reason: None })
    }
}
