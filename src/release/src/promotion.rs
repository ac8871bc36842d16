//! Whether a candidate becomes a release: every gate is recomputed in that moment, from the ledger, the sources of the
//! candidate and the bytes of the evidence. What passes leaves a signed summary, the final tag and an event, together or not
//! at all; what does not is recorded, too.

mod proofs;
mod row;
mod witness;

use std::path::PathBuf;

use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, PublicKey, Sha256};
use serde_json::{Value, json};

use crate::code::{Code, Refusal, demand_reason};
use crate::evolution::{self, STATEMENT, sealed, sign};
use crate::generation::{Generation, HookEvent, StageName};
use crate::git::{Files, Git, History, ObjectId};
use crate::hook::Hooks;
use crate::ledger::{
    Body, Draft, Event, Hand, Known, Ledger, PromotionFinished, PromotionRefused, PromotionStarted, Role,
    StagePromoted, State as GenerationState, Store, TagDraft, Waived, promotion_id,
};
use crate::tag::Tag;
use crate::version::Version;
use crate::worktree::Worktree;

pub use row::{Looked, Row, State, Waiver};
pub use witness::{Bundle, Call, Left, Witness};

/// The predicate of what is said of a promotion.
pub const VSA: &str = "https://slsa.dev/verification_summary/v1";

/// What is to be promoted.
pub struct Wanted<'a> {
    pub version: &'a Version,
    /// What it is promoted to: a stage of its contract, or `final` for the release.
    pub stage: StageName,
    /// The tag of a candidate; the last one where nothing is said.
    pub candidate: Option<&'a str>,
    /// The contract that is meant: under another one nothing is done.
    pub contract: Option<Sha256>,
    /// Where evidence may be, beside where this clone keeps it.
    pub folders: &'a [PathBuf],
    /// Only what was begun and has not ended.
    pub resume: bool,
    /// Gates are evaluated, and nothing is written.
    pub dry: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Judged {
    pub rows: Vec<Row>,
    pub commit: ObjectId,
    pub candidate: Option<String>,
    /// The tag of the release or the stage, and its event; none where a gate refused, or where nothing was to be written.
    pub promoted: Option<(String, Sha256)>,
}

impl Judged {
    /// What the refusal is called; none where nothing refuses.
    pub fn refusal(&self) -> Option<Code> {
        let refusing: Vec<&Row> = self.rows.iter().filter(|row| row.refuses()).collect();
        match refusing.as_slice() {
            [] => None,
            [only] if only.gate == "approvals" => Some(Code::ApprovalsMissing),
            _ => Some(Code::GateRefused),
        }
    }
}

/// A commit that was proven, its tag and the event that gave it away; without these, the commit that was tried last.
struct Candidate {
    commit: ObjectId,
    tag: Option<String>,
    event: Option<Sha256>,
}

/// What the gates are asked about.
struct Case<'a> {
    history: History,
    /// With the gates that hold at the stage.
    generation: &'a Generation,
    stage: StageName,
    candidate: &'a Candidate,
    policy: Option<Sha256>,
}

/// Evaluates the gates, and promotes where all of them pass.
///
/// # Errors
/// What keeps it from being judged or recorded. That a gate refuses is no error: it is recorded, and told.
pub fn promote(
    store: &Store,
    hand: &Hand<'_>,
    wanted: &Wanted<'_>,
    witness: &dyn Witness,
) -> Result<Judged, Refusal> {
    let ledger = if store.remote().is_some() { store.fetch()? } else { store.read()? };
    if let Some(done) = already(store, &ledger, wanted)? {
        return Ok(done);
    }
    demand_trust(store)?;
    let (contract, contracted) = sealed(&ledger, wanted.version)?;
    demand_state(&ledger, wanted.version)?;
    demand_contract(contracted.contract, wanted)?;
    demand_stage(&contract, wanted.stage)?;
    let candidate = candidate(store, &ledger, wanted)?;
    let promotion = promotion_id(wanted.version, contracted.contract, &candidate.commit, wanted.stage);
    if let Some(done) = staged(store, &ledger, wanted, promotion)? {
        return Ok(done);
    }
    let generation = contract.at_stage(wanted.stage);
    let name = format!("promotion-{}-{}", std::process::id(), promotion.hex().get(..16).unwrap_or_default());
    let worktree = Worktree::add(store.git(), &name, &candidate.commit)?;
    let history = History::of(store.git(), &candidate.commit)?;
    // What is approved names the policy, whichever gates hold at the stage.
    let policy = witness::policy_of(&contract.gates, worktree.files(), witness);
    let case = Case { history, generation: &generation, stage: wanted.stage, candidate: &candidate, policy };
    let began = begun(&ledger, promotion);
    if wanted.resume && !began {
        let said = format!("no promotion of {} on {} was begun", wanted.version, candidate.commit);
        let stage = Some(wanted.stage).filter(|stage| *stage != StageName::Final);
        let stage = stage.map(|stage| format!(" --stage {stage}")).unwrap_or_default();
        let hint = format!(
            "nothing of it was written, so there is nothing to go on with: `estoppel promote {}{stage}` does all of it",
            wanted.version
        );
        return Err(Refusal::new(Code::StateInvalid, said).hint(hint));
    }
    let start = PromotionStarted {
        commit: candidate.commit.clone(),
        contract: contracted.contract,
        promotion,
        stage: Some(wanted.stage).filter(|stage| *stage != StageName::Final),
        version: wanted.version.clone(),
    };
    if !began && !wanted.dry {
        store.append(hand, &mut |_| Ok(Body::PromotionStarted(start.clone()).into()))?;
    }
    let told =
        [("ESTOPPEL_COMMIT", candidate.commit.to_string()), ("ESTOPPEL_VERSION", wanted.version.to_string())];
    let hooks = Hooks {
        generation: &generation,
        changes: generation.changes.iter().collect(),
        tree: worktree.path(),
        told: &told,
    };
    let mut folders: Vec<PathBuf> = wanted.folders.to_vec();
    if let Some((_, run)) = proofs::whole_run(&case, &ledger) {
        folders.push(evolution::evidence(store.git().private(), &run.evolution));
    }
    let sources = witness::Sources { worktree: &worktree, folders: &folders, witness };
    let mut outside = witness::rows(&case, &ledger, &sources);
    if !wanted.dry {
        let heard = hooks.tell(HookEvent::PromoteStart, &json!({ "candidate": candidate.tag }));
        outside.extend(
            heard
                .into_iter()
                .filter(|hook| !hook.passed)
                .map(|hook| Row::fail(&format!("hook:{}", hook.id), "the hook did not end with 0")),
        );
    }
    let rows = judge(&case, &ledger, &outside, (hand.now)())?;
    let judged = |rows: Vec<Row>, promoted| Judged {
        rows,
        commit: candidate.commit.clone(),
        candidate: candidate.tag.clone(),
        promoted,
    };
    if wanted.dry {
        return Ok(judged(rows, None));
    }
    if rows.iter().any(Row::refuses) {
        let refused = PromotionRefused {
            commit: start.commit,
            contract: start.contract,
            gates: documents(&rows),
            promotion,
            stage: start.stage,
            version: start.version,
        };
        store.append(hand, &mut |_| Ok(Body::PromotionRefused(refused.clone()).into()))?;
        return Ok(judged(rows, None));
    }
    let (mut final_rows, mut tag) = (rows, String::new());
    let appended = store.append(hand, &mut |known| {
        // Others may have written since: what counts is what the event follows.
        final_rows = judge(&case, known.ledger, &outside, known.at)?;
        let draft = finish(&case, known, hand, &final_rows, &start)?;
        match &draft.body {
            Body::PromotionFinished(body) => body.tag.clone_into(&mut tag),
            Body::StagePromoted(body) => body.tag.clone_into(&mut tag),
            _ => {}
        }
        Ok(draft)
    })?;
    let said = json!({ "candidate": candidate.tag, "tag": tag, "stage": wanted.stage });
    hooks.tell(HookEvent::PromoteEnd, &said);
    Ok(judged(final_rows, Some((tag, appended.event))))
}

/// What an approval or a waiver is about.
#[derive(Clone, Debug)]
pub struct Subject {
    pub commit: ObjectId,
    pub candidate: String,
    pub contract: Sha256,
    pub policy: Option<Sha256>,
    generation: Generation,
    /// Whether a hotfix of an earlier version was promoted.
    follows_hotfix: bool,
}

impl Subject {
    /// Whether what this key signs about it is the author's own, which does not count.
    pub fn is_authors_own(&self, ledger: &Ledger, key: KeyId) -> bool {
        proofs::is_authors_own(&self.generation, ledger, key)
    }

    /// Somebody answers for a gate of it.
    ///
    /// # Errors
    /// `GATE_UNKNOWN`, `REASON_MISSING`.
    pub fn waive(&self, gate: &str, reason: &str, expires: UnixMicros) -> Result<Waived, Refusal> {
        if !proofs::is_waivable(&self.generation, self.follows_hotfix, gate) {
            let said = format!("{} asks no gate `{gate}` that can be waived", self.generation.version);
            return Err(Refusal::new(Code::GateUnknown, said));
        }
        demand_reason(reason)?;
        Ok(Waived {
            commit: self.commit.clone(),
            contract: self.contract,
            expires,
            gate: gate.to_owned(),
            reason: reason.to_owned(),
            version: self.generation.version.clone(),
        })
    }
}

/// Whether the contract in force of a version asks this gate, and a person may waive it.
pub fn is_waivable(ledger: &Ledger, version: &Version, gate: &str) -> bool {
    let follows_hotfix = proofs::follows_hotfix(ledger, version);
    sealed(ledger, version)
        .is_ok_and(|(generation, _)| proofs::is_waivable(&generation, follows_hotfix, gate))
}

/// Whoever looked at another contract has not agreed to this one.
fn demand_contract(contract: Sha256, wanted: &Wanted<'_>) -> Result<(), Refusal> {
    match wanted.contract {
        Some(meant) if meant != contract => {
            let said =
                format!("the contract of {} that is in force is {contract}, not {meant}", wanted.version);
            Err(Refusal::new(Code::StateInvalid, said))
        }
        _ => Ok(()),
    }
}

/// What would be promoted now.
///
/// # Errors
/// `CANDIDATE_MISSING`, `STATE_INVALID`: another contract is in force than is meant; and that the version cannot be promoted any more.
pub fn subject(
    store: &Store,
    ledger: &Ledger,
    wanted: &Wanted<'_>,
    witness: &dyn Witness,
) -> Result<Subject, Refusal> {
    let (generation, contracted) = sealed(ledger, wanted.version)?;
    demand_state(ledger, wanted.version)?;
    demand_contract(contracted.contract, wanted)?;
    let Candidate { commit, tag, .. } = candidate(store, ledger, wanted)?;
    let missing = || {
        let said = format!("{} has no candidate", wanted.version);
        Refusal::new(Code::CandidateMissing, said)
    };
    let policy = witness::policy_of(&generation.gates, &Files::of(store.git(), &commit)?, witness);
    Ok(Subject {
        commit,
        candidate: tag.ok_or_else(missing)?,
        contract: contracted.contract,
        policy,
        generation,
        follows_hotfix: proofs::follows_hotfix(ledger, wanted.version),
    })
}

/// What there is to say of a version that was promoted before.
fn already(store: &Store, ledger: &Ledger, wanted: &Wanted<'_>) -> Result<Option<Judged>, Refusal> {
    let Some((event, promoted)) = ledger.promoted(wanted.version) else { return Ok(None) };
    if wanted.resume && wanted.stage == StageName::Final {
        verify_tag(store.git(), ledger, &promoted.tag)?;
        let promoted_as = Some((promoted.tag.clone(), event.id));
        let commit = promoted.commit.clone();
        return Ok(Some(Judged { rows: Vec::new(), commit, candidate: None, promoted: promoted_as }));
    }
    let by = ledger.roles().name(event.actor).map_or_else(|| event.actor.to_string(), ToOwned::to_owned);
    let said =
        format!("{} was promoted already by {by} at {}, on {}", wanted.version, event.at, promoted.commit);
    Err(Refusal::new(Code::PromotedAlready, said))
}

/// What there is to say of a commit that came to a stage before.
fn staged(
    store: &Store,
    ledger: &Ledger,
    wanted: &Wanted<'_>,
    promotion: Sha256,
) -> Result<Option<Judged>, Refusal> {
    let Some((event, body)) = reached(ledger, wanted.version, promotion) else { return Ok(None) };
    if wanted.resume {
        verify_tag(store.git(), ledger, &body.tag)?;
        let (commit, promoted) = (body.commit.clone(), Some((body.tag.clone(), event.id)));
        return Ok(Some(Judged { rows: Vec::new(), commit, candidate: None, promoted }));
    }
    Err(again(ledger, wanted.version, event, body))
}

/// How a commit came to a stage under the contract in force.
fn reached<'l>(
    ledger: &'l Ledger,
    version: &Version,
    promotion: Sha256,
) -> Option<(&'l Event, &'l StagePromoted)> {
    let in_force = ledger.in_force(version);
    ledger.stages(version).find(|(event, body)| body.promotion == promotion && in_force.has(event))
}

fn again(ledger: &Ledger, version: &Version, event: &Event, body: &StagePromoted) -> Refusal {
    let by = ledger.roles().name(event.actor).map_or_else(|| event.actor.to_string(), ToOwned::to_owned);
    let StagePromoted { stage, commit, tag, .. } = body;
    let said =
        format!("{version} was promoted to {stage} already by {by} at {}, as {tag} on {commit}", event.at);
    Refusal::new(Code::PromotedAlready, said)
}

fn demand_stage(generation: &Generation, stage: StageName) -> Result<(), Refusal> {
    if generation.has_stage(stage) {
        return Ok(());
    }
    let known: Vec<&str> = generation.stages.iter().map(|known| known.stage.as_str()).collect();
    let known = if known.is_empty() { "final".to_owned() } else { known.join(", ") };
    let said = format!("{} has no stage {stage}; it has {known}", generation.version);
    Err(Refusal::new(Code::StageUnknown, said))
}

fn demand_trust(store: &Store) -> Result<(), Refusal> {
    if store.trusted()?.is_some() {
        return Ok(());
    }
    let said =
        "nobody has vouched for the beginning of the ledger; `estoppel ledger join` binds it to one you know";
    Err(Refusal::new(Code::LedgerGenesis, said))
}

fn demand_state(ledger: &Ledger, version: &Version) -> Result<(), Refusal> {
    match ledger.state(version) {
        Some(GenerationState::Sealed) => Ok(()),
        state => {
            let state = state.map_or("unknown", GenerationState::as_str);
            Err(Refusal::new(Code::StateInvalid, format!("{version} is {state}")))
        }
    }
}

/// The candidate that is meant, whose tag verifies.
fn candidate(store: &Store, ledger: &Ledger, wanted: &Wanted<'_>) -> Result<Candidate, Refusal> {
    let version = wanted.version;
    let given = ledger.tags();
    let numbered = given.keys().filter_map(|tag| Some((version.candidate_number(tag)?, *tag)));
    let last = numbered.max().map(|(_, tag)| tag);
    let Some(tag) = wanted.candidate.or(last) else {
        let tried = ledger.finished(version).last().map(|(_, run)| run.commit.clone());
        let head = || store.git().commit("HEAD");
        let commit = tried.map_or_else(head, |commit| Ok(Some(commit)))?;
        let none = || Refusal::new(Code::RevisionUnknown, "the repository has no commit");
        return Ok(Candidate { commit: commit.ok_or_else(none)?, tag: None, event: None });
    };
    if version.candidate_number(tag).is_none() || !given.contains_key(tag) {
        let said = format!("`{tag}` is no candidate of {version} in the ledger");
        return Err(Refusal::new(Code::CandidateMissing, said));
    }
    let (tag, event, commit) = verify_tag(store.git(), ledger, tag)?;
    Ok(Candidate { commit, tag: Some(tag), event: Some(event.id) })
}

/// Verifies a tag against the ledger: who signed it, under which name, on which commit, for which event.
///
/// # Errors
/// `TAG_FORGED`; `TAG_UNKNOWN`: there is none; `TAG_EVENT_MISSING`: it may be a release that this clone has not heard of.
pub fn verify_tag<'l>(
    git: &Git,
    ledger: &'l Ledger,
    name: &str,
) -> Result<(String, &'l Event, ObjectId), Refusal> {
    let forged = |why: String| Refusal::new(Code::TagForged, format!("the tag `{name}` {why}"));
    let given = ledger.tags();
    let known = given.get(name).copied();
    let Some(object) = git.target(&format!("refs/tags/{name}"))? else { return Err(unknown(name, known)) };
    let Some(event) = known else { return Err(unheard(git, ledger, name, &object)) };
    let key: Vec<PublicKey> = ledger
        .roles()
        .key(event.actor)
        .into_iter()
        .filter(|_| ledger.roles().has(event.actor, event.body.role()))
        .collect();
    let bytes = git.read("tag", &object).map_err(|_| forged("is not an annotated tag".into()))?;
    let (tag, _) = Tag::read(&bytes, name, &key)?;
    let commit = match &event.body {
        Body::EvolutionFinished(body) => body.commit.clone(),
        Body::PromotionFinished(body) => body.commit.clone(),
        Body::RolledBack(body) => body.commit.clone(),
        Body::StagePromoted(body) => body.commit.clone(),
        _ => return Err(forged("was given away by an event that gives none".into())),
    };
    if tag.target != commit {
        return Err(forged(format!("is on {}, and event {} is about {commit}", tag.target, event.id)));
    }
    let line = format!("Estoppel-Event: {}", event.id);
    if !tag.message.lines().any(|found| found == line) {
        return Err(forged(format!("does not name event {}", event.id)));
    }
    if let Body::RolledBack(back) = &event.body {
        let (_, to) = ledger
            .promoted(&back.to)
            .ok_or_else(|| forged(format!("goes back to {}, which was not released", back.to)))?;
        if git.tree(&commit)? != git.tree(&to.commit)? {
            return Err(forged(format!("does not have the sources of {}", back.to)));
        }
    }
    Ok((tag.name, event, commit))
}

/// There is no such tag here.
fn unknown(name: &str, known: Option<&Event>) -> Refusal {
    let said = format!("there is no tag `{name}` in this clone");
    match known {
        Some(event) => Refusal::new(Code::TagUnknown, format!("{said}; event {} gave it away", event.id))
            .hint("`estoppel sync pull` brings it, where the remote has it"),
        None => Refusal::new(Code::TagUnknown, said)
            .hint("`estoppel sync pull` brings what the remote has; `git tag --list` tells what is here"),
    }
}

/// A tag that no event of the ledger gave away: one that a key of the ledger signed for an event that is not here may be good
/// elsewhere.
fn unheard(git: &Git, ledger: &Ledger, name: &str, object: &ObjectId) -> Refusal {
    let forged = || {
        Refusal::new(Code::TagForged, format!("the tag `{name}` was given away by no event of the ledger"))
            .hint("where this clone may be behind: `estoppel sync pull`, then again")
    };
    let roles: &[Role] = if is_candidate(name) { &[Role::Runner] } else { &[] };
    let roles = roles.iter().chain([&Role::Releaser]);
    let keys: Vec<PublicKey> = roles.flat_map(|role| ledger.roles().with(*role)).collect();
    let Some((tag, key)) = git.read("tag", object).ok().and_then(|bytes| {
        let (tag, key) = Tag::read(&bytes, name, &keys).ok()?;
        Some((tag, key.id()))
    }) else {
        return forged();
    };
    let named = tag.message.lines().rev().find_map(|line| line.strip_prefix("Estoppel-Event: "));
    let Some(named) = named.and_then(Sha256::parse) else { return forged() };
    if ledger.events().iter().any(|event| event.id == named) {
        return forged();
    }
    let who = ledger.roles().name(key).unwrap_or_default();
    let said = format!(
        "the tag `{name}` is signed by {who} (key {key}) for event {named}, which is not in the ledger of this clone"
    );
    Refusal::new(Code::TagEventMissing, said).hint(
        "`estoppel sync pull` brings what the remote has, then verify again; a tag whose event the remote does not have either is not to be used",
    )
}

/// Whether it could be the name of a candidate, which a runner signs.
fn is_candidate(name: &str) -> bool {
    let number = name.rsplit_once("rc.").map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether the last that is known of this promotion is that it was begun.
fn begun(ledger: &Ledger, promotion: Sha256) -> bool {
    let mut is_begun = false;
    for event in ledger.events() {
        match &event.body {
            Body::PromotionStarted(body) if body.promotion == promotion => is_begun = true,
            Body::PromotionRefused(body) if body.promotion == promotion => is_begun = false,
            _ => {}
        }
    }
    is_begun
}

fn judge(case: &Case<'_>, ledger: &Ledger, outside: &[Row], now: UnixMicros) -> Result<Vec<Row>, Refusal> {
    let contract = ledger.contract(&case.generation.version).map(|(_, contracted)| contracted.contract);
    let sealed = match contract == Some(case.generation.digest()) {
        true => Row::pass("contract_sealed", case.generation.digest().to_string()),
        false => Row::fail("contract_sealed", "the contract was amended meanwhile"),
    };
    let mut rows = vec![sealed];
    rows.extend(proofs::rows(case, ledger, now)?);
    rows.extend(outside.iter().cloned());
    proofs::waive(&mut rows, case, ledger, now);
    Ok(rows)
}

fn documents(rows: &[Row]) -> Vec<Value> {
    rows.iter().map(|row| json!(row)).collect()
}

fn finish(
    case: &Case<'_>,
    known: &Known<'_>,
    hand: &Hand<'_>,
    rows: &[Row],
    start: &PromotionStarted,
) -> Result<Draft, Refusal> {
    let PromotionStarted { commit, contract, promotion, version, .. } = start.clone();
    if let Some(row) = rows.iter().find(|row| row.refuses()) {
        let said = format!("meanwhile {} does not pass any more: {}", row.gate, row.why);
        return Err(Refusal::new(Code::GateRefused, said));
    }
    if let Some((event, _)) = known.ledger.promoted(&version) {
        let said = format!("{version} was promoted meanwhile, by event {}", event.id);
        return Err(Refusal::new(Code::PromotedAlready, said));
    }
    if let Some((event, body)) = reached(known.ledger, &version, promotion) {
        return Err(again(known.ledger, &version, event, body));
    }
    let (tag, heading, is_own) = match case.stage {
        StageName::Final => (version.tag(), version.to_string(), true),
        StageName::Rc => (case.candidate.tag.clone().unwrap_or_default(), String::new(), false),
        stage => {
            let number = known.next_number(&version, stage.as_str());
            let heading = format!("{version}, {stage} {number}");
            (version.numbered_tag(stage.as_str(), number), heading, true)
        }
    };
    if is_own && known.tags.contains(&tag) {
        return Err(Refusal::new(
            Code::TagTaken,
            format!("there is a tag `{tag}` already, and tags are not moved"),
        )
        .hint(format!(
            "no event of the ledger gave it away, so it is no release; look at it (`git show {tag}`, `git ls-remote --tags`), and where nobody \
             needs it, remove it here (`git tag -d {tag}`) and at the remote"
        )));
    }
    let unsigned =
        |error: KeyError| Refusal::new(Code::RoleMissing, format!("the key does not sign: {error}"));
    let vsa = sign(&summary(case, rows, &tag, known.at), hand.signer).map_err(unsigned)?;
    let passed = known.ledger.finished(&version).count();
    let message = format!(
        "{heading}\n\n{}\n\nEstoppel-Candidate: {}\nEstoppel-Contract: {contract}\nEstoppel-Evolutions: {passed}\nEstoppel-Promotion: {promotion}",
        case.generation.description,
        case.candidate.tag.as_deref().unwrap_or_default(),
    );
    let tag_draft = TagDraft { name: tag.clone(), target: commit.clone(), message };
    let (gates, stage) = (documents(rows), case.stage);
    let body = match stage {
        StageName::Final => {
            let body = PromotionFinished { commit, contract, gates, promotion, tag, version, vsa };
            Body::PromotionFinished(Box::new(body))
        }
        stage => {
            let body = StagePromoted { commit, contract, gates, promotion, stage, tag, version, vsa };
            Body::StagePromoted(Box::new(body))
        }
    };
    Ok(Draft { tag: is_own.then_some(tag_draft), ..body.into() })
}

/// A verification summary (slsa.dev/spec/v1.0/verification_summary).
fn summary(case: &Case<'_>, rows: &[Row], tag: &str, now: UnixMicros) -> Value {
    let mut inputs: Vec<&Looked> = rows.iter().flat_map(|row| &row.evidence).collect();
    inputs.sort();
    inputs.dedup();
    let inputs: Vec<Value> = inputs
        .into_iter()
        .map(|looked| json!({ "digest": { "sha256": looked.digest.hex() }, "uri": looked.name }))
        .collect();
    // Who looks for the level of a release is not given that of a stage.
    let level = match case.stage {
        StageName::Final => "ESTOPPEL_GATES_PASSED".to_owned(),
        stage => format!("ESTOPPEL_STAGE_{}", stage.as_str().to_uppercase()),
    };
    json!({
        "_type": STATEMENT,
        "predicate": {
            "inputAttestations": inputs,
            "policy": { "digest": { "sha256": case.generation.digest().hex() }, "uri": "urn:estoppel:generation:v1" },
            "resourceUri": format!("git:{}", case.candidate.commit),
            "timeVerified": now,
            "verificationResult": "PASSED",
            "verifiedLevels": [level],
            "verifier": { "id": "urn:estoppel:promotion:v0", "version": { "estoppel": env!("CARGO_PKG_VERSION") } },
        },
        "predicateType": VSA,
        "subject": [{ "digest": { "gitCommit": case.candidate.commit }, "name": tag }],
    })
}

#[cfg(test)]
mod tests;
