//! Policies that are asked about every call and change nothing.
//!
//! Only their rules are asked, about what the policy in force is asked about. Nothing is reserved, held, forwarded or read
//! for them that would not be anyway: what of a body rules look into is kept up to [`Shadowing::bytes_max`], a request is judged
//! while its upstream is waited for, an answer when the call ends, before its receipt is written. A policy whose rules
//! would have to know more is skipped, and the receipt says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::entry::{ShadowRecord, ShadowState, VerdictAction};
use estoppel_evidence::{Reason, Sha256};
use estoppel_policy::{
    Condition, Decision, DetectorMode, Evaluation, Judging, Needs, Operation, Policy, RequestFacts,
    ResponseFacts, Verdict,
};
use http::request::Parts;

use crate::body::Kept;
use crate::rules::Contents;
use crate::settings::Settings;
use crate::snapshot::{enforceable, listed};

/// Most bytes of a request, or of an answer in which calls are looked into: what is read in a millisecond.
const SHADOW_BYTES_MAX: usize = 64 << 10;
/// The same where rules ask for hosts, which are looked for in every text.
const SHADOW_HOSTS_BYTES_MAX: usize = 16 << 10;

/// A policy that is asked and changes nothing.
#[derive(Debug)]
pub struct Shadow {
    place: PathBuf,
    policy: Arc<Policy>,
    hash: Sha256,
    /// What its rules look into on each route.
    needs: BTreeMap<String, Needs>,
}

impl Shadow {
    /// The policy at `place`, ready to be asked. It has to be one that could be in force.
    ///
    /// # Errors
    /// Why it could not.
    pub fn build(place: &Path, policy: Arc<Policy>, settings: &Settings) -> Result<Arc<Self>, String> {
        drop(enforceable(settings, &policy)?);
        let needs = settings.route.iter().map(|route| (route.name.clone(), policy.needs(&route.name)));
        let needs = needs.collect();
        let hash = Sha256(*policy.hash().as_bytes());
        Ok(Arc::new(Self { place: place.into(), policy, hash, needs }))
    }

    /// The policy's own name.
    pub fn name(&self) -> &str {
        self.policy.name()
    }

    /// Its file.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What is asked.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    fn needs(&self, route: &str) -> Needs {
        self.needs.get(route).copied().unwrap_or_default()
    }
}

/// The policies that are asked about one call, and what is known for them.
pub(crate) struct Shadowing {
    each: Vec<Asked>,
    /// What all of them look into.
    pub(crate) needs: Needs,
    pub(crate) body: Body,
    /// What is in the request, once it was looked into.
    pub(crate) contents: Arc<Contents>,
    pub(crate) missing: Missing,
    /// The policy in force was asked about the request.
    pub(crate) is_begun: bool,
    is_judged: bool,
    pub(crate) answer: Answer,
    /// A model's answer, in which there may be calls that rules look into.
    pub(crate) kept: Kept,
}

/// One of them.
struct Asked {
    shadow: Arc<Shadow>,
    /// What it calls the operation, if it lists it; an error where it refuses what it does not list.
    operation: Result<Option<usize>, ()>,
    said: Option<Said>,
}

/// The request's body, until it is looked into.
pub(crate) enum Body {
    /// There is none, or no rule looks into it.
    None,
    Kept {
        chunks: Vec<Bytes>,
        coded: bool,
    },
    /// The policy in force looks into all that these do.
    Known(Arc<Contents>),
    /// No policy could read it.
    Opaque,
    /// It could be read, and is not for shadow policies alone.
    Unread(Reason),
}

/// What the policy in force was asked about the answer.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Nothing,
    Unread,
    Read(Evaluation),
}

/// What of a call was not looked at for shadow policies alone, and why.
#[derive(Clone, Copy, Default)]
pub(crate) struct Missing {
    pub(crate) body: Option<Reason>,
    pub(crate) calls: Option<Reason>,
}

enum Said {
    Judged { verdict: Verdict, rule: Option<Arc<str>>, reason: Option<Arc<str>> },
    Skipped(Reason),
}

impl Missing {
    /// Why rules that asked for this could not be told.
    fn why(self, unknown: &[Condition]) -> Option<Reason> {
        unknown.iter().find_map(|condition| match condition {
            // Who looks for classes of data, and who listens to tools, is up to the policy in force.
            Condition::Data | Condition::Provenance | Condition::After => Some(Reason::NotEvaluated),
            Condition::Body => self.body,
            Condition::Arguments => self.calls,
            Condition::Destination | Condition::DestinationNot => self.body.or(self.calls),
            _ => None,
        })
    }
}

impl Said {
    fn new(decision: &Decision<'_>, missing: Option<Reason>) -> Self {
        match missing {
            Some(reason) => Self::Skipped(reason),
            None => Self::Judged {
                verdict: decision.verdict,
                rule: decision.rule.map(|rule| rule.as_str().into()),
                reason: decision.reason.map(|reason| reason.as_str().into()),
            },
        }
    }

    /// The policy lists the route's operations, and the request is none of them.
    fn denied() -> Self {
        let reason = Some(Reason::OperationDenied.code().into());
        Self::Judged { verdict: Verdict::Block, rule: None, reason }
    }

    fn record(self, policy: Sha256) -> ShadowRecord {
        match self {
            Self::Judged { verdict, rule, reason } => {
                let verdict = Some(match verdict {
                    Verdict::Allow => VerdictAction::Allow,
                    Verdict::Hold => VerdictAction::Hold,
                    Verdict::Block => VerdictAction::Block,
                });
                ShadowRecord { policy, reason, rule, state: ShadowState::Judged, verdict }
            }
            Self::Skipped(reason) => {
                let reason = Some(reason.code().into());
                ShadowRecord { policy, reason, rule: None, state: ShadowState::Skipped, verdict: None }
            }
        }
    }

    fn lets_go(&self) -> bool {
        matches!(self, Self::Judged { verdict: Verdict::Allow, .. })
    }
}

impl Shadowing {
    /// None where no policy is asked.
    pub(crate) fn new(shadows: &[Arc<Shadow>], route: &str, head: &Parts) -> Option<Box<Self>> {
        let asked = |shadow: &Arc<Shadow>| Asked {
            operation: listed(&shadow.policy.route(route).operations, shadow.needs(route).line, head)
                .map_err(drop),
            shadow: shadow.clone(),
            said: None,
        };
        Self::of(shadows.iter().map(asked).collect(), route)
    }

    /// The same of a second call.
    pub(crate) fn again(&self, route: &str) -> Option<Box<Self>> {
        let asked =
            |asked: &Asked| Asked { operation: asked.operation, shadow: asked.shadow.clone(), said: None };
        Self::of(self.each.iter().map(asked).collect(), route)
    }

    fn of(each: Vec<Asked>, route: &str) -> Option<Box<Self>> {
        let needs = each.iter().map(|asked| asked.shadow.needs(route));
        let needs = needs.reduce(Needs::and)?;
        Some(Box::new(Self {
            each,
            needs,
            body: Body::None,
            contents: Arc::default(),
            missing: Missing::default(),
            is_begun: false,
            is_judged: false,
            answer: Answer::Nothing,
            kept: Kept::Nothing,
        }))
    }

    /// Most bytes that are looked into.
    pub(crate) fn bytes_max(&self) -> usize {
        if self.needs.destinations { SHADOW_HOSTS_BYTES_MAX } else { SHADOW_BYTES_MAX }
    }

    /// Whether the request has to be judged still; it is from here on.
    pub(crate) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.is_judged, true)
    }

    /// Judges the request. `facts` have the operation as the bytes say it, which a policy may list by another name.
    pub(crate) fn request(&mut self, facts: &RequestFacts<'_>, is_plain: bool) {
        let is_whole = self.is_begun && facts.operation != Some(BATCH);
        for asked in &mut self.each {
            asked.said = Some(match asked.operation {
                Err(()) => Said::denied(),
                Ok(_) if !is_whole => Said::Skipped(Reason::NotEvaluated),
                Ok(_) => asked.request(facts, is_plain, self.missing),
            });
        }
    }

    /// Judges the answer, for policies that would have let the request go.
    pub(crate) fn response(&mut self, facts: &ResponseFacts<'_>, is_plain: bool) {
        for asked in &mut self.each {
            if asked.said.as_ref().is_some_and(Said::lets_go) {
                asked.response(facts, is_plain, self.missing);
            }
        }
    }

    /// The answer as it came; none if there is too much of it, or nothing was kept.
    pub(crate) fn heard(&mut self) -> Option<Vec<u8>> {
        match std::mem::take(&mut self.kept) {
            Kept::Bytes(bytes, _) if bytes.len() <= self.bytes_max() => Some(bytes),
            Kept::Nothing => None,
            Kept::Bytes(..) | Kept::TooMuch => {
                self.missing.calls = Some(Reason::ShadowBytesMax);
                None
            }
        }
    }

    /// What the receipt says, each with the policy's name.
    pub(crate) fn records(self) -> impl Iterator<Item = (Arc<Shadow>, ShadowRecord)> {
        self.each.into_iter().map(|asked| {
            let said = asked.said.unwrap_or(Said::Skipped(Reason::NotEvaluated));
            let record = said.record(asked.shadow.hash);
            (asked.shadow, record)
        })
    }
}

/// What a request with several JSON-RPC messages is called. Each of them would have to be judged.
const BATCH: &str = "mcp.batch";

impl Asked {
    /// What its policy calls the operation, if it lists it.
    fn listed(&self, route: &str, is_plain: bool) -> Option<&Operation> {
        let index = self.operation.ok().flatten().filter(|_| is_plain)?;
        self.shadow.policy.route(route).operations.iter().nth(index)
    }

    fn request(&self, facts: &RequestFacts<'_>, is_plain: bool, missing: Missing) -> Said {
        let policy = &self.shadow.policy;
        let listed = self.listed(facts.route, is_plain);
        let operation = listed.map(|operation| operation.id.as_str()).or(facts.operation);
        let facts = RequestFacts { operation, ..*facts };
        let (decision, unknown) = policy.request_and_unknown(&facts);
        match Said::new(&decision, missing.why(&unknown)) {
            Said::Judged { verdict: Verdict::Allow, rule, .. } if is_partial(policy, listed, &facts) => {
                let reason = Some(Reason::ShadowPartial.code().into());
                Said::Judged { verdict: Verdict::Allow, rule, reason }
            }
            said => said,
        }
    }

    fn response(&mut self, facts: &ResponseFacts<'_>, is_plain: bool, missing: Missing) {
        let listed = self.listed(facts.request.route, is_plain);
        let operation = listed.map(|operation| operation.id.as_str()).or(facts.request.operation);
        let request = RequestFacts { operation, ..facts.request };
        let facts = ResponseFacts { request, ..*facts };
        let (decision, unknown) = self.shadow.policy.response_and_unknown(&facts);
        match Said::new(&decision, missing.why(&unknown)) {
            Said::Judged { verdict: Verdict::Allow, .. } => {}
            // An answer cannot wait for people.
            Said::Judged { rule, reason, .. } => {
                self.said = Some(Said::Judged { verdict: Verdict::Block, rule, reason });
            }
            skipped @ Said::Skipped(_) => self.said = Some(skipped),
        }
    }
}

/// Whether there is more to a policy than its rules, for a call that they let go.
fn is_partial(policy: &Policy, listed: Option<&Operation>, facts: &RequestFacts<'_>) -> bool {
    let settings = policy.route(facts.route);
    let judge = listed.and_then(|operation| operation.judge.as_ref()).unwrap_or(&settings.judge);
    *judge != Judging::None
        || settings.detectors.iter().any(|detector| detector.mode == DetectorMode::Enforce)
        || policy.has_controls() && !policy.controls(facts).is_empty()
}
