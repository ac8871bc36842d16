//! Gates that look at evidence of traffic and at sources: whoever can verify these is asked, in that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use estoppel_evidence::{PublicKey, Sha256};
use serde::Deserialize;
use serde_json::json;

use super::row::Row;
use super::{Case, proofs};
use crate::code::Code;
use crate::evolution::allowed_env;
use crate::generation::{CommandGate, Gates, PerformanceGate, PolicyGate, RegressGate};
use crate::git::Files;
use crate::ledger::{EvolutionFinished, Ledger, Role};
use crate::process::{self, Limits, Taking};
use crate::worktree::Worktree;

/// How names of bundles end.
const BUNDLE: &str = ".pef.zip";
/// How names of certificates of replays end.
const CERTIFICATE: &str = ".certificate.json";
/// Most names of what is no evidence that a row says.
const PASSED_OVER_MAX: usize = 8;
/// Most bytes that a program that decides may answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// One call of a bundle.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Its id, which no other call has.
    pub id: String,
    pub seq: u64,
    /// What the caller said in `Estoppel-Evolution-Id`.
    pub evolution: Option<String>,
    pub policy: Option<String>,
    pub is_blocked: bool,
    pub total_us: Option<u64>,
}

/// What a bundle says, after it was verified.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    pub root: String,
    pub calls: Vec<Call>,
    /// Every code that its entries have.
    pub codes: BTreeSet<String>,
}

/// A file that a run left, and the digest of the bytes that are meant, whatever becomes of the file.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    pub path: &'a Path,
    pub sha256: Sha256,
}

/// Verifies evidence, offline and from its bytes.
pub trait Witness {
    /// A bundle that verifies, is complete, and was signed by keys of the trust document.
    ///
    /// # Errors
    /// Why it counts for nothing.
    fn bundle(&self, bundle: Left<'_>, trust: &[u8]) -> Result<Bundle, String>;

    /// The root of the bundle that a certificate says it is about, whoever signed it; none where it says none.
    fn subject(&self, certificate: Left<'_>) -> Option<String>;

    /// A certificate of a replay of the bundle, signed by one of `signers`, that says success.
    ///
    /// # Errors
    /// Why it counts for nothing.
    fn certificate(
        &self,
        certificate: Left<'_>,
        bundle: Left<'_>,
        trust: &[u8],
        signers: &[PublicKey],
    ) -> Result<(), String>;

    /// Judges fixtures again, as `estoppel regress run` does, with the checkpoints of the trust document where there is
    /// one; what it says where all are as expected.
    ///
    /// # Errors
    /// What came otherwise.
    fn regress(&self, files: &Files, gate: &RegressGate, trust: Option<&[u8]>) -> Result<String, String>;

    /// The hash of a policy, with what it takes from the packs in a folder where there is one.
    ///
    /// # Errors
    /// Why it has none.
    fn policy(&self, files: &Files, gate: &PolicyGate) -> Result<Sha256, String>;
}

/// What is looked at.
pub(super) struct Sources<'a> {
    /// The candidate. Only programs look at what is checked out, all else at the objects of its files.
    pub worktree: &'a Worktree,
    /// Folders where the evidence of the run may be.
    pub folders: &'a [PathBuf],
    pub witness: &'a dyn Witness,
}

/// The rows of all of them. They do not depend on who writes to the ledger meanwhile, but on the run that proves the
/// candidate.
pub(super) fn rows(case: &Case<'_>, ledger: &Ledger, sources: &Sources<'_>) -> Vec<Row> {
    let gates = &case.generation.gates;
    let mut rows = Vec::new();
    let asks = gates.evidence_bundle.is_some()
        || gates.replay_certificate.is_some()
        || gates.policy_hash.is_some()
        || gates.perf_budget.is_some();
    let run = proofs::whole_run(case, ledger).map(|(_, run)| run);
    let began = Instant::now();
    let seen = if asks { run.map(|run| Seen::of(case, ledger, run, sources)) } else { None };
    if asks {
        let judged = traffic(case, gates, seen.as_ref(), sources, ledger);
        rows.extend(judged.into_iter().map(|row| row.since(began)));
    }
    if let Some(gate) = &gates.regress {
        let began = Instant::now();
        let digest = Sha256::of(format!("{} {}", gate.policy, case.candidate.commit).as_bytes());
        let files = sources.worktree.files();
        let trust = gates.evidence_bundle.as_ref().map(|bundle| files.read(&bundle.trust)).transpose();
        let judged = trust.and_then(|trust| sources.witness.regress(files, gate, trust.as_deref()));
        rows.push(
            match judged {
                Ok(why) => Row::pass("regress", why),
                Err(why) => Row::fail("regress", why),
            }
            .by([(gate.fixtures.clone(), digest)])
            .since(began),
        );
    }
    rows.extend(gates.commands.iter().map(|gate| {
        let began = Instant::now();
        command(case, gate, sources).since(began)
    }));
    rows
}

/// What the run that proves the candidate left.
struct Seen {
    nonce: String,
    bundles: Vec<(PathBuf, String, Sha256, Result<Bundle, String>)>,
    certificates: Vec<(PathBuf, String, Sha256)>,
    /// What is bound to the run and not to be found, or is another file than that.
    absent: Option<Row>,
    /// What lies where the run leaves evidence and is none, in words.
    passed_over: Vec<String>,
}

impl Seen {
    fn of(case: &Case<'_>, ledger: &Ledger, run: &EvolutionFinished, sources: &Sources<'_>) -> Self {
        let nonce = ledger.started(&run.evolution).map(|(_, start)| start.nonce.clone()).unwrap_or_default();
        let passed_over = sources.folders.iter().flat_map(|folder| passed_over(folder)).collect();
        let mut seen =
            Self { nonce, bundles: Vec::new(), certificates: Vec::new(), absent: None, passed_over };
        let gates = &case.generation.gates;
        let trust = gates.evidence_bundle.as_ref().map(|gate| &gate.trust);
        let trust = trust.or(gates.replay_certificate.as_ref().map(|gate| &gate.trust));
        let none = || Err("no gate says whose signature counts: add `evidence_bundle`".into());
        let trust = trust.map_or_else(none, |trust| sources.worktree.files().read(trust));
        for (name, content) in &run.evidence {
            let is_wanted = name.ends_with(BUNDLE) || name.ends_with(CERTIFICATE);
            if !is_wanted {
                continue;
            }
            let places = sources.folders.iter().map(|folder| folder.join(name));
            let found: Vec<PathBuf> = places.filter(|path| path.is_file()).collect();
            let is_it =
                |path: &&PathBuf| std::fs::read(path).is_ok_and(|bytes| Sha256::of(&bytes) == content.sha256);
            let Some(path) = found.iter().find(is_it).cloned() else {
                seen.absent.get_or_insert_with(|| {
                    if found.is_empty() {
                        let why = format!("`{name}` of evolution {} is not on this machine", run.evolution);
                        let again = format!("estoppel promote {} --evidence DIR", case.generation.version);
                        Row::missing("", why, again)
                    } else {
                        let why = format!("`{name}` is not the file that evolution {} left", run.evolution);
                        Row::fail("", why)
                    }
                });
                continue;
            };
            if name.ends_with(CERTIFICATE) {
                seen.certificates.push((path, name.clone(), content.sha256));
                continue;
            }
            let left = Left { path: &path, sha256: content.sha256 };
            let judged = trust.clone().and_then(|trust| sources.witness.bundle(left, &trust));
            seen.bundles.push((path, name.clone(), content.sha256, judged));
        }
        seen
    }

    /// Why something is missing, and what was passed over.
    fn with_passed_over(&self, why: String) -> String {
        if self.passed_over.is_empty() {
            return why;
        }
        let these = self.passed_over.join(", ");
        format!(
            "{why}; only regular files right in $ESTOPPEL_EVIDENCE are taken, which these are not: {these}"
        )
    }
}

/// What a folder has with the name of a bundle or certificate that is no file, and its folders, in words.
fn passed_over(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let (name, kind) = (entry.file_name().to_string_lossy().into_owned(), entry.file_type().ok()?);
            let is_wanted = name.ends_with(BUNDLE) || name.ends_with(CERTIFICATE);
            let word = match () {
                () if kind.is_dir() => "a folder",
                () if kind.is_symlink() && is_wanted => "a symbolic link",
                () if !kind.is_file() && is_wanted => "no regular file",
                () => return None,
            };
            Some(format!("`{}` ({word})", name.replace(char::is_control, "?")))
        })
        .collect();
    found.sort();
    found.truncate(PASSED_OVER_MAX);
    found
}

fn traffic(
    case: &Case<'_>,
    gates: &Gates,
    seen: Option<&Seen>,
    sources: &Sources<'_>,
    ledger: &Ledger,
) -> Vec<Row> {
    let named = [
        ("evidence_bundle", gates.evidence_bundle.is_some()),
        ("policy_hash", gates.policy_hash.is_some()),
        ("perf_budget", gates.perf_budget.is_some()),
        ("replay_certificate", gates.replay_certificate.is_some()),
    ];
    let asked: Vec<&str> =
        named.into_iter().filter_map(|(name, is_asked)| is_asked.then_some(name)).collect();
    let all = |row: Row| asked.iter().map(|gate| Row { gate: (*gate).to_owned(), ..row.clone() }).collect();
    let again = format!(
        "estoppel evolution start {} --all, whose steps put the sealed bundle into $ESTOPPEL_EVIDENCE as NAME{BUNDLE}",
        case.generation.version
    );
    let Some(seen) = seen else {
        return all(Row::missing("", "no evolution of all changes passed on the candidate", again));
    };
    if let Some(absent) = &seen.absent {
        return all(absent.clone());
    }
    if seen.bundles.is_empty() {
        return all(Row::missing("", seen.with_passed_over("the evolution left no bundle".into()), again));
    }
    let mut bundles = Vec::new();
    for (_, name, digest, judged) in &seen.bundles {
        match judged {
            Ok(bundle) => bundles.push((name, *digest, bundle)),
            Err(why) => return all(Row::fail("", format!("`{name}`: {why}")).by([(name.clone(), *digest)])),
        }
    }
    for (name, digest, bundle) in &bundles {
        let stranger = bundle.calls.iter().find(|call| call.evolution.as_ref() != Some(&seen.nonce));
        if let Some(call) = stranger {
            let said = call.evolution.as_deref().unwrap_or("nothing");
            let why =
                format!("`{name}`: the call at seq {} is of another run: its nonce is {said}", call.seq);
            return all(Row::fail("", why).by([((*name).clone(), *digest)]));
        }
    }
    if let Some(why) = twice(&bundles) {
        let looked = bundles.iter().map(|(name, digest, _)| ((*name).clone(), *digest));
        return all(Row::fail("", format!("{}: {why}", Code::EvidenceTwice.as_str())).by(looked));
    }
    let looked = || bundles.iter().map(|(name, digest, _)| ((*name).clone(), *digest));
    let calls: Vec<&Call> = bundles.iter().flat_map(|(_, _, bundle)| &bundle.calls).collect();
    let mut rows = Vec::new();
    if let Some(gate) = &gates.evidence_bundle {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let blocked = count(calls.iter().filter(|call| call.is_blocked).count());
        let code =
            gate.codes_refused.iter().find(|code| bundles.iter().any(|(_, _, b)| b.codes.contains(*code)));
        let row = match () {
            () if count(bundles.len()) < gate.bundles_min.into() => {
                let why = format!("{} of {} bundles", bundles.len(), gate.bundles_min);
                Row::missing("", seen.with_passed_over(why), again)
            }
            () if count(calls.len()) < gate.calls_min => {
                let why = format!("{} of {} calls", calls.len(), gate.calls_min);
                Row::missing("", seen.with_passed_over(why), again)
            }
            () if gate.blocks_max.is_some_and(|max| blocked > max) => {
                Row::fail("", format!("{blocked} calls were blocked"))
            }
            () => match code {
                Some(code) => Row::fail("", format!("there is a {code}")),
                None => Row::pass(
                    "",
                    format!("{} bundles, {} calls, all of this run", bundles.len(), calls.len()),
                ),
            },
        };
        rows.push(Row { gate: "evidence_bundle".into(), ..row }.by(looked()));
    }
    if gates.policy_hash.is_some() {
        rows.push(policy(case, &calls).by(looked()));
    }
    if let Some(gate) = &gates.perf_budget {
        rows.push(performance(gate, &calls).by(looked()));
    }
    if let Some(gate) = &gates.replay_certificate {
        rows.push(match sources.worktree.files().read(&gate.trust) {
            Ok(trust) => replays(seen, &trust, sources, ledger),
            Err(why) => Row::fail("replay_certificate", why),
        });
    }
    rows
}

/// That two bundles are of one run or have a call in common, so that what they say would count twice; none where no two are.
fn twice(bundles: &[(&String, Sha256, &Bundle)]) -> Option<String> {
    let (mut runs, mut calls) = (BTreeMap::new(), BTreeMap::new());
    for (name, _, bundle) in bundles {
        if let Some(first) = runs.insert(&bundle.root, *name) {
            return Some(format!("`{name}` is a copy of `{first}`: each run counts once"));
        }
        for call in &bundle.calls {
            if let Some(first) = calls.insert(&call.id, *name) {
                return Some(format!("call {} is in `{first}` and in `{name}`: each counts once", call.id));
            }
        }
    }
    None
}

fn policy(case: &Case<'_>, calls: &[&Call]) -> Row {
    const GATE: &str = "policy_hash";
    let Some(wanted) = case.policy.map(|hash| hash.to_string()) else {
        return Row::fail(GATE, "the policy of the candidate cannot be read");
    };
    match calls.iter().find(|call| call.policy.as_ref() != Some(&wanted)) {
        Some(call) => {
            let by = call.policy.as_deref().unwrap_or("none");
            Row::fail(
                GATE,
                format!("the call at seq {} was judged by policy {by}, not by {wanted}", call.seq),
            )
        }
        None => Row::pass(GATE, format!("every call was judged by {wanted}")),
    }
}

fn performance(gate: &PerformanceGate, calls: &[&Call]) -> Row {
    const GATE: &str = "perf_budget";
    let mut times: Vec<u64> = calls.iter().filter_map(|call| call.total_us).collect();
    if times.len() != calls.len() || times.is_empty() {
        return Row::fail(GATE, "not every call says how long it took");
    }
    times.sort_unstable();
    // Nearest rank, as the manifest of a bundle has it.
    let percentile = |percent: usize| {
        let rank = (percent * times.len()).div_ceil(100).max(1);
        times.get(rank - 1).copied().unwrap_or(u64::MAX)
    };
    let mut said = Vec::new();
    for (percent, budget_ms) in [(50, gate.p50_ms), (95, gate.p95_ms), (99, gate.p99_ms)] {
        let Some(budget_ms) = budget_ms else { continue };
        let took = percentile(percent);
        let text = format!("p{percent} {took} us of {budget_ms} ms");
        if took > u64::from(budget_ms) * 1000 {
            return Row::fail(GATE, text);
        }
        said.push(text);
    }
    Row::pass(GATE, said.join(", "))
}

fn replays(seen: &Seen, trust: &[u8], sources: &Sources<'_>, ledger: &Ledger) -> Row {
    const GATE: &str = "replay_certificate";
    let signers: Vec<PublicKey> = ledger.roles().with(Role::Runner).collect();
    for (bundle, name, digest, judged) in &seen.bundles {
        let root = judged.as_ref().ok().map(|bundle| &bundle.root);
        let mut why = None;
        let is_certified = seen.certificates.iter().any(|(certificate, file, sha256)| {
            let certificate = Left { path: certificate, sha256: *sha256 };
            let bundle = Left { path: bundle, sha256: *digest };
            // What is about another bundle says nothing of this one, good or bad.
            if sources.witness.subject(certificate).is_some_and(|subject| Some(&subject) != root) {
                return false;
            }
            let judged = sources.witness.certificate(certificate, bundle, trust, &signers);
            if let Err(said) = &judged {
                why = Some(format!("`{file}`: {said}"));
            }
            judged.is_ok()
        });
        if is_certified {
            continue;
        }
        let looked = [(name.clone(), *digest)];
        return match why {
            Some(why) => Row::fail(GATE, why).by(looked),
            None => {
                let run = format!(
                    "estoppel replay run {name} --out $ESTOPPEL_EVIDENCE/NAME{CERTIFICATE}, in a step"
                );
                Row::missing(GATE, format!("the evolution left no certificate of a replay of `{name}`"), run)
                    .by(looked)
            }
        };
    }
    let looked = seen.certificates.iter().map(|(_, name, digest)| (name.clone(), *digest));
    Row::pass(GATE, "every bundle was replayed with success").by(looked)
}

/// What a program that decides answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    state: Said,
    why: String,
    run: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Pass,
    Fail,
    Missing,
}

fn command(case: &Case<'_>, gate: &CommandGate, sources: &Sources<'_>) -> Row {
    let name = format!("command:{}", gate.id);
    let Some((program, arguments)) = gate.run.split_first() else {
        return Row::fail(&name, "it names no program");
    };
    let facts = json!({
        "gate": gate.id, "version": case.generation.version, "commit": case.candidate.commit,
        "candidate": case.candidate.tag, "contract": case.generation.digest(),
        "changes": case.generation.changes.iter().map(|change| json!({ "id": change.id, "type": change.kind })).collect::<Vec<_>>(),
    });
    if let Some(row) = not_the_candidate(&name, sources, "before it ran") {
        return row;
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(sources.worktree.path()).env_clear().envs(allowed_env(&gate.env));
    let time = Duration::from_secs(gate.timeout_s.into());
    let limits = Limits { time, output_bytes_max: ANSWER_BYTES_MAX };
    let taking = Taking::begin();
    let done = process::run_kept(command, facts.to_string().as_bytes(), limits);
    if !taking.end_all() {
        return Row::fail(&name, "what it left running could not be ended");
    }
    let done = match done {
        Ok(done) => done,
        Err(error) => return Row::fail(&name, error.to_string()),
    };
    if let Some(row) = not_the_candidate(&name, sources, "after it had run") {
        return row;
    }
    if done.exit != Some(0) {
        let exit = done.exit.map_or_else(|| "a signal".to_owned(), |exit| exit.to_string());
        return Row::fail(&name, format!("it ended with {exit}"));
    }
    match serde_json::from_slice::<Answer>(&done.stdout) {
        Ok(Answer { state: Said::Pass, why, .. }) => Row::pass(&name, why),
        Ok(Answer { state: Said::Fail, why, .. }) => Row::fail(&name, why),
        Ok(Answer { state: Said::Missing, why, run }) => Row::missing(&name, why, run.unwrap_or_default()),
        Err(error) => Row::fail(&name, format!("it did not answer with `state` and `why`: {error}")),
    }
}

/// A program sees a folder, which others may write to: what it says of another one than the candidate counts for nothing.
fn not_the_candidate(gate: &str, sources: &Sources<'_>, when: &str) -> Option<Row> {
    let changed = sources.worktree.picture().changed();
    let first = changed.first()?;
    Some(Row::fail(
        gate,
        format!("{when}, `{first}` was not as the candidate has it in the folder it looks at"),
    ))
}

/// The hash of the policy that the contract names, at the candidate.
pub(super) fn policy_of(gates: &Gates, files: &Files, witness: &dyn Witness) -> Option<Sha256> {
    witness.policy(files, gates.policy_hash.as_ref()?).ok()
}
