//! What a generation asks before it is promoted, as data: promotion evaluates it.
//!
//! Not here, because no file can turn them off: the contract is sealed, each change is proven by the latest evolution of it,
//! one evolution ran every step on the candidate itself, and the final tag is free.

use std::ops::Range;

use estoppel_evidence::time::UnixMicros;
use serde::Deserialize;

use super::{Name, StageName, TIMEOUT_S_DEFAULT};

/// Gates with parameters; a gate that is not written is not asked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    /// Evolutions that failed.
    #[serde(default)]
    pub no_failed: NoFailedGate,
    /// How many evolutions passed.
    pub min_evolutions: Option<CountGate>,
    /// How old the proof of a change may be.
    pub proof_max_age: Option<HoursGate>,
    /// Bundles of what the tested service sent through the gateway.
    pub evidence_bundle: Option<BundleGate>,
    /// Recorded calls, judged again.
    pub regress: Option<RegressGate>,
    /// Recorded calls, run again.
    pub replay_certificate: Option<ReplayGate>,
    /// The policy that judged the calls of the bundles.
    pub policy_hash: Option<PolicyGate>,
    /// How long the calls of the bundles took.
    pub perf_budget: Option<PerformanceGate>,
    /// Who has to agree.
    pub approvals: Option<ApprovalsGate>,
    /// When nothing is promoted.
    pub freeze_window: Option<FreezeGate>,
    /// Programs that decide.
    #[serde(default)]
    pub commands: Vec<CommandGate>,
}

impl Gates {
    /// The gates that hold at a stage. What was shown of a commit is asked at every stage, who decides and how much there
    /// has to be of it at the release alone, unless the gate says `from`.
    pub fn at(&self, stage: StageName) -> Self {
        let mut gates = self.clone();
        let shown = |from: Option<StageName>| from.unwrap_or(StageName::Alpha) <= stage;
        let decided = |from: Option<StageName>| from.unwrap_or(StageName::Final) <= stage;
        gates.evidence_bundle = gates.evidence_bundle.filter(|gate| shown(gate.from));
        gates.regress = gates.regress.filter(|gate| shown(gate.from));
        gates.replay_certificate = gates.replay_certificate.filter(|gate| shown(gate.from));
        gates.policy_hash = gates.policy_hash.filter(|gate| shown(gate.from));
        gates.commands.retain(|gate| shown(gate.from));
        gates.min_evolutions = gates.min_evolutions.filter(|gate| decided(gate.from));
        gates.proof_max_age = gates.proof_max_age.filter(|gate| decided(gate.from));
        gates.perf_budget = gates.perf_budget.filter(|gate| decided(gate.from));
        gates.approvals = gates.approvals.filter(|gate| decided(gate.from));
        gates.freeze_window = gates.freeze_window.filter(|gate| decided(gate.from));
        gates
    }

    /// Each `from`, with the JSON pointer of its gate.
    pub(super) fn from(&self) -> Vec<(String, StageName)> {
        let one = [
            ("evidence_bundle", self.evidence_bundle.as_ref().and_then(|gate| gate.from)),
            ("regress", self.regress.as_ref().and_then(|gate| gate.from)),
            ("replay_certificate", self.replay_certificate.as_ref().and_then(|gate| gate.from)),
            ("policy_hash", self.policy_hash.as_ref().and_then(|gate| gate.from)),
            ("min_evolutions", self.min_evolutions.as_ref().and_then(|gate| gate.from)),
            ("proof_max_age", self.proof_max_age.as_ref().and_then(|gate| gate.from)),
            ("perf_budget", self.perf_budget.as_ref().and_then(|gate| gate.from)),
            ("approvals", self.approvals.as_ref().and_then(|gate| gate.from)),
            ("freeze_window", self.freeze_window.as_ref().and_then(|gate| gate.from)),
        ];
        let one = one.into_iter().filter_map(|(name, from)| Some((format!("/gates/{name}/from"), from?)));
        let commands = self.commands.iter().enumerate();
        let commands =
            commands.filter_map(|(at, gate)| Some((format!("/gates/commands/{at}/from"), gate.from?)));
        one.chain(commands).collect()
    }
}

/// Which failed evolutions count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The latest of each change.
    #[default]
    Latest,
    /// Any that ever was.
    Ever,
}

/// `no_failed`, which is asked with `latest` where nothing is said.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoFailedGate {
    /// Which count.
    pub scope: Scope,
}

/// `min_evolutions`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountGate {
    /// At least so many.
    pub count: u32,
    /// The first stage that it holds at; without it `final`.
    pub from: Option<StageName>,
}

/// `proof_max_age`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoursGate {
    /// At most so old.
    pub hours: u32,
    /// The first stage that it holds at; without it `final`.
    pub from: Option<StageName>,
}

/// `evidence_bundle`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleGate {
    /// Trust document, as a path in the repository.
    pub trust: String,
    /// At least so many bundles.
    #[serde(default = "one")]
    pub bundles_min: u32,
    /// At least so many calls in them.
    #[serde(default = "one")]
    pub calls_min: u64,
    /// At most so many of these were blocked; any number where nothing is said.
    pub blocks_max: Option<u64>,
    /// Reason codes that no call may have.
    #[serde(default)]
    pub codes_refused: Vec<String>,
    /// The first stage that it holds at; without it every one.
    pub from: Option<StageName>,
}

fn one<T: From<u8>>() -> T {
    1.into()
}

/// `regress`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressGate {
    /// The policy that judges again, as a path in the repository.
    pub policy: String,
    /// Folder of the fixtures.
    pub fixtures: String,
    /// Folder of the packs that the policy takes contracts from.
    pub packs: Option<String>,
    /// The first stage that it holds at; without it every one.
    pub from: Option<StageName>,
}

/// `replay_certificate`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayGate {
    /// Trust document, as a path in the repository.
    pub trust: String,
    /// The first stage that it holds at; without it every one.
    pub from: Option<StageName>,
}

/// `policy_hash`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyGate {
    /// The policy that is deployed, as a path in the repository.
    pub policy: String,
    /// Folder of the packs that the policy takes contracts from.
    pub packs: Option<String>,
    /// The first stage that it holds at; without it every one.
    pub from: Option<StageName>,
}

/// `perf_budget`: of a hundred calls, how many take at most how long.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerformanceGate {
    /// Fifty.
    pub p50_ms: Option<u32>,
    /// Ninety-five.
    pub p95_ms: Option<u32>,
    /// Ninety-nine.
    pub p99_ms: Option<u32>,
    /// The first stage that it holds at; without it `final`.
    pub from: Option<StageName>,
}

/// `approvals`: distinct keys with the role `approver`, none of them the author's.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsGate {
    /// At least so many.
    pub count: u32,
    /// How long an approval counts at most.
    pub hours_max: Option<u32>,
    /// The first stage that it holds at; without it `final`.
    pub from: Option<StageName>,
}

/// `freeze_window`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeGate {
    /// Nothing is promoted inside of one.
    pub windows: Vec<FreezeWindow>,
    /// The first stage that it holds at; without it `final`.
    pub from: Option<StageName>,
}

/// A time in which nothing is promoted.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeWindow {
    /// Its first second, as `2026-12-24T18:00:00Z`.
    pub from: String,
    /// The first second after it.
    pub to: String,
    /// Why.
    pub reason: String,
}

impl FreezeWindow {
    /// The times in it; none where one of the two is no time.
    pub fn times(&self) -> Option<Range<UnixMicros>> {
        let moment = |text: &str| UnixMicros::parse(&text.replace('Z', ".000000Z"));
        Some(moment(&self.from)?..moment(&self.to)?)
    }
}

/// A program that gets the facts as JSON and answers with a decision.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandGate {
    /// Unique in the generation.
    pub id: Name,
    /// The program and its arguments; never empty.
    pub run: Vec<String>,
    /// After which it is killed and has failed.
    #[serde(default = "timeout_s")]
    pub timeout_s: u32,
    /// Environment variables that it is given beside those that every program gets, by name.
    #[serde(default)]
    pub env: Vec<String>,
    /// The first stage that it holds at; without it every one.
    pub from: Option<StageName>,
}

fn timeout_s() -> u32 {
    TIMEOUT_S_DEFAULT
}
