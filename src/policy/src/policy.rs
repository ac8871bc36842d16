//! A compiled policy, and how it decides.
//!
//! A *subject* is one model with one tool, or with none. The first rule whose conditions all hold decides for
//! a subject; with no such rule, the route's default verdict does. A call is judged for each of its tools,
//! and one block blocks it: with `allow: search` before `block: shell`, a call that offers both is blocked,
//! whichever comes first, and the answer is the same when a stream shows one tool after the other.
//!
//! A response is judged for what it adds:
//!
//! - each tool that the model calls, under the model that was asked for: rules, then the default;
//! - what it says itself, where classes of data were found in that: the rules only, passing over blocks that name none;
//! - the model served, where it is not the one asked for: the rules only, because providers answer `gpt-4o`
//!   with `gpt-4o-2024-08-06` and a default would block what the request was allowed. A block that says
//!   nothing of models is passed over: it had its say at the request.
//!
//! A rule may hold a call until people have let it pass. A block outranks a hold, whatever comes first, and of several holds
//! the rule that stands first says who decides. Approving waives that rule and no other.
//!
//! A rule that asks for something that could not be read does not hold, and leaves the call not evaluated. A rule that asks
//! what a tool is called with cannot say so of a tool that is only offered: if it allows, the offer goes on, if not, the
//! next rule is tried; either way the call itself is judged when it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use estoppel_evidence::KeyId;

use crate::content::Content;
use crate::control::{Applied, Control, Controls, Price};
use crate::detecting::DetectorTerms;
use crate::document::{
    BodyStorage, Disconnect, PolicyDocument, PolicyHash, ReasonCode, RuleId, Settings, Severity, ThreatId,
    ToolLists, Verdict,
};
use crate::explain::{Explanation, Step, Subject, Then, Trace};
use crate::facts::{Call, Condition, RequestFacts, ResponseFacts, TOOLS_MAX, Tool};
use crate::hold::{Approver, HoldTerms};
use crate::host::Host;
use crate::index::{Index, RuleSet};
use crate::judging::{ContractText, Judging};
use crate::limits::Limits;
use crate::operations::{Operation, Operations};
use crate::pattern::Patterns;
use crate::rule::{CompiledRule, Held, Looked};
use crate::snapshot::{self, SnapshotSource, Snapshotting};

/// A policy that is ready to judge. Never changes.
#[derive(Debug)]
pub struct Policy {
    name: String,
    hash: PolicyHash,
    fallback: RouteSettings,
    routes: BTreeMap<String, RouteSettings>,
    rules: Vec<CompiledRule>,
    /// Of rules that hold, by their index.
    holds: BTreeMap<usize, HoldTerms>,
    index: Index,
    contracts: BTreeMap<String, ContractText>,
    missing_contracts: Vec<String>,
    controls: Controls,
    listens: bool,
}

/// What is in force on a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSettings {
    /// Decides where no rule does. Default block.
    pub verdict: Verdict,
    /// What is kept of bodies, unless a rule says otherwise. Default a keyed digest.
    pub body_storage: BodyStorage,
    /// Decides what could not be looked at. Default block.
    pub on_not_evaluated: Verdict,
    /// What happens to the upstream exchange when the client leaves. Default cancel.
    pub disconnect: Disconnect,
    /// What becomes of tools in the lists of MCP servers that may not be called. Default left out.
    pub tool_lists: ToolLists,
    /// Whether values are held against contracts. Default not.
    pub judge: Judging,
    /// The database that is looked at around calls. Default none.
    pub snapshot: Option<SnapshotSource>,
    /// Detectors that run, in the order of their names. Default none.
    pub detectors: Vec<DetectorTerms>,
    /// Bounds of a call.
    pub limits: Limits,
    /// What calls are, where no dialect says. Their `judge` is there, and laid over the route's.
    pub operations: Arc<Operations>,
}

/// What is to be done, and who says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision<'p> {
    /// What is to be done.
    pub verdict: Verdict,
    /// The rule that decided. None: a default did, or there was nothing to object to.
    ///
    /// Of several tools that are allowed or blocked by different rules, the rule that stands first.
    pub rule: Option<&'p RuleId>,
    /// Its code. Always there with a block.
    pub reason: Option<&'p ReasonCode>,
    /// A text that the caller may be shown.
    pub message: Option<&'p str>,
    /// How bad the rule says it is.
    pub severity: Option<Severity>,
    /// What the rule says it stands against.
    pub threat: &'p [ThreatId],
    /// What is kept of the body that was judged: the rule's word, or the route's.
    pub body_storage: &'p BodyStorage,
    /// Who decides. Always there with a hold.
    pub hold: Option<&'p HoldTerms>,
}

/// What the rules for a route look into, beyond names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// What tools are called with.
    pub calls: bool,
    /// What is in the request's body.
    pub body: bool,
    /// Where calls and bodies lead.
    pub destinations: bool,
    /// Classes of data.
    pub data: bool,
    /// What tools gave earlier.
    pub earlier: bool,
    /// Calls are held, so that their bodies have to be there whole.
    pub hold: bool,
    /// Calls go by keys, so that their bodies have to be there whole.
    pub keyed: bool,
    /// The method and path of the request.
    pub line: bool,
}

impl Needs {
    /// What either looks into.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls || other.calls,
            body: self.body || other.body,
            destinations: self.destinations || other.destinations,
            data: self.data || other.data,
            earlier: self.earlier || other.earlier,
            hold: self.hold || other.hold,
            keyed: self.keyed || other.keyed,
            line: self.line || other.line,
        }
    }

    /// Whether what these rules look into is enough for the others. Whether calls are held or go by keys does not
    /// matter, and the line is always there.
    pub fn cover(self, others: Self) -> bool {
        let (hold, keyed) = (self.hold || others.hold, self.keyed || others.keyed);
        self.and(others) == Self { hold, keyed, line: self.line || others.line, ..self }
    }
}

impl Policy {
    /// Whose key that is, of those who may decide on held calls.
    pub fn approver(&self, key: KeyId) -> Option<(&str, &Approver)> {
        let mut all = self.holds.values().flat_map(|terms| &terms.approvers);
        all.find(|(_, approver)| approver.id() == key).map(|(name, approver)| (name.as_str(), approver))
    }

    pub(crate) fn new(document: &PolicyDocument) -> Self {
        let detectors = DetectorTerms::resolve(None, &document.detectors);
        let fallback = resolve(&[&document.defaults], Limits::resolve(&[&document.limits]), detectors);
        let route = |route: &crate::document::Route| {
            let limits = Limits::resolve(&[&route.limits, &document.limits]);
            let detectors = DetectorTerms::resolve(Some(&route.detectors), &document.detectors);
            let settings = resolve(&[&route.settings, &document.defaults], limits, detectors);
            let said = [route.settings.snapshot.as_ref(), document.defaults.snapshot.as_ref()];
            let operations = Arc::new(over(&route.operations, &settings.judge, said));
            RouteSettings { operations, ..settings }
        };
        let rules: Vec<CompiledRule> = document.rules.iter().map(CompiledRule::new).collect();
        let hold = |(index, rule): (usize, &CompiledRule)| {
            Some((index, HoldTerms::new(rule.rule.hold.as_ref()?, &document.approvers)))
        };
        let controls = Controls::new(&document.controls, &document.prices);
        let asks = |rule: &CompiledRule| rule.asks(Condition::Provenance) || rule.asks(Condition::After);
        let listens = rules.iter().chain(controls.rules()).any(asks);
        Self {
            listens,
            holds: rules.iter().enumerate().filter_map(hold).collect(),
            index: Index::new(&rules),
            name: document.name.clone(),
            hash: document.hash(),
            fallback,
            routes: document.routes.iter().map(|(name, settings)| (name.clone(), route(settings))).collect(),
            rules,
            contracts: document.contracts.clone().into_iter().chain(document.taken.clone()).collect(),
            missing_contracts: document
                .packed
                .keys()
                .filter(|name| !document.taken.contains_key(*name))
                .cloned()
                .collect(),
            controls,
        }
    }

    /// The document's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The document's hash.
    pub fn hash(&self) -> PolicyHash {
        self.hash
    }

    /// What is in force on the routes that it names, and on all others.
    pub fn settings(&self) -> impl Iterator<Item = &RouteSettings> {
        self.routes.values().chain([&self.fallback])
    }

    /// How values are judged anywhere.
    pub fn judgings(&self) -> impl Iterator<Item = &Judging> {
        self.settings().flat_map(|settings| {
            let of_operations = settings.operations.iter().filter_map(|operation| operation.judge.as_ref());
            of_operations.chain([&settings.judge])
        })
    }

    /// The databases that are looked at anywhere. Sorted.
    pub fn snapshot_sources(&self) -> BTreeSet<&str> {
        let looks = self.settings().flat_map(|settings| {
            settings
                .operations
                .iter()
                .filter_map(|operation| operation.look.as_ref())
                .chain(&settings.snapshot)
        });
        looks.map(|asked| asked.source.as_str()).collect()
    }

    /// The contracts that [`crate::Terms`] name.
    pub fn contracts(&self) -> &BTreeMap<String, ContractText> {
        &self.contracts
    }

    /// Names of contracts that come from packs and were not taken. What needs one cannot be enforced.
    pub fn missing_contracts(&self) -> &[String] {
        &self.missing_contracts
    }

    /// What is in force on a route; for one that the policy does not name, its defaults.
    pub fn route(&self, name: &str) -> &RouteSettings {
        self.routes.get(name).unwrap_or(&self.fallback)
    }

    /// Every route that the policy names: in `routes`, and without a `*` in a rule. Sorted.
    pub fn route_names(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter().map(|rule| &rule.rule);
        let rules = rules.chain(self.controls.iter().map(|control| &control.rule));
        let in_rules = rules.flat_map(|rule| rule.when.names.get(&Condition::Route)).flatten();
        let named = in_rules.filter(|pattern| !pattern.contains('*'));
        let names: BTreeSet<&str> = self.routes.keys().chain(named).map(String::as_str).collect();
        names.into_iter()
    }

    /// What the rules that may hold on a route look into.
    pub fn needs(&self, route: &str) -> Needs {
        use Condition::{
            After, Arguments, Body, Data, Destination, DestinationNot, Method, Operation, Provenance,
        };
        let asks = |conditions: &[Condition]| {
            let rules = self.rules.iter().chain(self.controls.rules());
            let mut rules = rules.filter(|rule| rule.is_for(route));
            rules.any(|rule| conditions.iter().any(|condition| rule.asks(*condition)))
        };
        let (counts_content, counts_hosts) = self.controls.count_content(route);
        Needs {
            calls: counts_content || asks(&[Arguments, Data, Destination, DestinationNot, Provenance, After]),
            body: counts_hosts || asks(&[Body, Data, Destination, DestinationNot]),
            destinations: counts_hosts || asks(&[Destination, DestinationNot]),
            data: asks(&[Data]),
            earlier: asks(&[Provenance, After]),
            hold: self.holding(route).next().is_some(),
            keyed: self.controls.has_idempotency(route),
            line: asks(&[Method, Operation]),
        }
    }

    /// Whether an answer on a route may be refused for the names in it, or because it could not be read.
    pub fn may_refuse_answers(&self, route: &str) -> bool {
        let settings = self.route(route);
        let mut rules = self.rules.iter().filter(|rule| rule.is_for(route));
        !settings.verdict.lets_go()
            || !settings.on_not_evaluated.lets_go()
            || rules.any(|rule| !rule.rule.verdict.lets_go())
    }

    /// Whether a rule or a control of any route asks what tools gave earlier, so that all routes have to be listened to.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// Rules that may hold calls of a route, as far as its name says.
    fn holding<'p>(&'p self, route: &str) -> impl Iterator<Item = &'p CompiledRule> {
        self.rules.iter().filter(move |rule| rule.rule.verdict == Verdict::Hold && rule.is_for(route))
    }

    /// The first rule that may hold calls of a route of whose bodies nothing is kept. An approval could not say what it is for.
    pub fn hold_without_storage<'p>(&'p self, route: &str) -> Option<&'p RuleId> {
        let kept = self.route(route).body_storage != BodyStorage::None;
        let mut rules = self.holding(route).filter(|rule| !kept && rule.rule.body_storage.is_none());
        rules.next().map(|rule| &rule.rule.id)
    }

    /// Whether a rule has bodies stored, whatever its route does.
    pub fn stores_by_rule(&self) -> bool {
        let mut rules = self.rules.iter().chain(self.controls.rules());
        rules.any(|rule| matches!(rule.rule.body_storage, Some(BodyStorage::Full { .. })))
    }

    /// The host that a rule holds because of, where it asks where this content leads.
    pub fn leads_to(&self, rule: &RuleId, content: &Content) -> Option<String> {
        let rule = self.rules.iter().find(|one| one.rule.id == *rule)?;
        rule.host(content).map(|host| match host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        })
    }

    /// Patterns of classes of data that rules and controls ask for on a route, and that take none of `looked_for`. Sorted.
    pub fn data_not_in(&self, route: &str, looked_for: &[&str]) -> Vec<&str> {
        let rules = self.rules.iter().chain(self.controls.rules()).filter(|rule| rule.is_for(route));
        let asked = rules.filter_map(|rule| rule.rule.when.names.get(&Condition::Data)).flatten();
        let takes = |pattern: &String| {
            Patterns::new(std::slice::from_ref(pattern), Condition::Data.case())
                .each_matches_one_of(looked_for)
        };
        let unseen: BTreeSet<_> = asked.filter(|pattern| !takes(pattern)).map(String::as_str).collect();
        unseen.into_iter().collect()
    }

    /// Every reason code that a rule names. Sorted.
    pub fn reasons(&self) -> impl Iterator<Item = &ReasonCode> {
        let rules = self.rules.iter().filter_map(|rule| rule.rule.reason.as_ref());
        let codes: BTreeSet<_> = rules.chain(self.controls.iter().filter_map(Control::reason)).collect();
        codes.into_iter()
    }

    /// Whether there are controls at all.
    pub fn has_controls(&self) -> bool {
        self.controls.iter().next().is_some()
    }

    /// Whether every call is blocked while nothing can be counted.
    pub fn needs_a_store(&self) -> bool {
        self.controls.need_a_store()
    }

    /// The control by whose terms a call goes on only once for each key, once its request is allowed.
    pub fn idempotency(&self, facts: &RequestFacts<'_>) -> Option<&Control> {
        self.controls.idempotency(facts)
    }

    /// A control, by [`Applied::index`].
    pub fn control(&self, index: usize) -> Option<&Control> {
        self.controls.iter().nth(index)
    }

    /// The controls that count a call or freeze it, once its request is allowed.
    pub fn controls<'p, 'f>(&'p self, facts: &RequestFacts<'f>) -> Vec<Applied<'p, 'f>> {
        self.controls.applied(facts)
    }

    /// What tokens of a model cost on a day, counted from 1970-01-01, UTC.
    pub fn price(&self, model: &str, day: u64) -> Option<&Price> {
        self.controls.price(model, day)
    }

    /// Judges a request before anything of it is forwarded. Allocates nothing.
    pub fn request(&self, facts: &RequestFacts<'_>) -> Decision<'_> {
        self.judge_request(facts, &mut ())
    }

    /// Judges a response, or a part of it, before it is released. Allocates nothing.
    ///
    /// Judging tools one by one as they become whole, and blocking on the first block, is the same as judging
    /// them together.
    pub fn response(&self, facts: &ResponseFacts<'_>) -> Decision<'_> {
        self.judge_response(facts, &mut ())
    }

    /// Judges a request, and tells what rules that were tried asked for and could not be told.
    pub fn request_and_unknown(&self, facts: &RequestFacts<'_>) -> (Decision<'_>, Vec<Condition>) {
        let mut unknown = Vec::new();
        let decision = self.judge_request(facts, &mut unknown);
        (decision, unknown)
    }

    /// Judges a response, and tells what rules that were tried asked for and could not be told.
    pub fn response_and_unknown(&self, facts: &ResponseFacts<'_>) -> (Decision<'_>, Vec<Condition>) {
        let mut unknown = Vec::new();
        let decision = self.judge_response(facts, &mut unknown);
        (decision, unknown)
    }

    /// Judges a request and tells how the decision came about.
    pub fn explain_request<'a>(&'a self, facts: &RequestFacts<'a>) -> Explanation<'a> {
        let mut steps = Vec::new();
        let decision = self.judge_request(facts, &mut steps);
        Explanation { decision, steps }
    }

    /// Judges a response and tells how the decision came about.
    pub fn explain_response<'a>(&'a self, facts: &ResponseFacts<'a>) -> Explanation<'a> {
        let mut steps = Vec::new();
        let decision = self.judge_response(facts, &mut steps);
        Explanation { decision, steps }
    }

    fn judge_request<'p, 'f>(
        &'p self,
        facts: &RequestFacts<'f>,
        trace: &mut impl Trace<'p, 'f>,
    ) -> Decision<'p> {
        let settings = self.route(facts.route);
        let mut ruling = Ruling::NONE;
        let call = self.candidates(facts);
        for tool in each_or_none(facts.tools) {
            let looked = looked(facts.model, tool, facts.body);
            ruling.add(self.judge(facts, looked, &call, Otherwise::Default(settings.verdict), trace));
        }
        self.decide(ruling, facts.are_whole(), settings, trace)
    }

    fn judge_response<'p, 'f>(
        &'p self,
        facts: &ResponseFacts<'f>,
        trace: &mut impl Trace<'p, 'f>,
    ) -> Decision<'p> {
        let request = &facts.request;
        let settings = self.route(request.route);
        let mut ruling = Ruling::NONE;
        let call = self.candidates(request);
        for tool in facts.tools_called.iter().take(TOOLS_MAX) {
            let looked = looked(request.model, Some(*tool), request.body);
            ruling.add(self.judge(request, looked, &call, Otherwise::Default(settings.verdict), trace));
        }
        let asked = |served: &&str| request.model.is_some_and(|model| model.eq_ignore_ascii_case(served));
        if let Some(served) = facts.model_served.filter(|served| !asked(served)) {
            for tool in each_or_none(facts.tools_called) {
                let looked = looked(Some(served), tool, request.body);
                ruling.add(self.judge(
                    request,
                    looked,
                    &call,
                    Otherwise::NoObjection(Condition::Model),
                    trace,
                ));
            }
        }
        if facts.said.is_some_and(|said| said.data().is_none_or(|data| !data.found.is_empty())) {
            let looked = looked(request.model, None, facts.said);
            let otherwise = Otherwise::NoObjection(Condition::Data);
            ruling.add(self.judge(request, looked, &call, otherwise, trace));
        }
        self.decide(ruling, facts.are_whole(), settings, trace)
    }

    /// The first rule that holds, or what there is otherwise.
    fn judge<'p, 'f>(
        &'p self,
        facts: &RequestFacts<'f>,
        looked: Looked<'f>,
        call: &RuleSet,
        otherwise: Otherwise,
        trace: &mut impl Trace<'p, 'f>,
    ) -> Ruling {
        let subject = looked.subject;
        let mut candidates = *call;
        self.index.keep(&mut candidates, Condition::Model, subject.model);
        self.index.keep(&mut candidates, Condition::Tool, subject.tool);
        let mut unknown = false;
        let mut told = 0;
        for index in candidates.iter() {
            self.tell_others(told..index, facts, looked, otherwise, trace);
            told = index + 1;
            let Some(rule) = self.rules.get(index) else { break };
            let id = &rule.rule.id;
            if otherwise.passes_over(rule) {
                trace.step(Step::PassedOver { subject, rule: id });
                continue;
            }
            let approved = rule.rule.verdict == Verdict::Hold && facts.approved == Some(id.as_str());
            let verdict = if approved { Verdict::Allow } else { rule.rule.verdict };
            let ruling = Ruling { verdict, rule: index, unknown };
            match rule.holds(facts, looked) {
                Held::Holds => {
                    trace.step(Step::Rule { subject, rule: id, failed: None });
                    return ruling;
                }
                Held::Fails(failed) => trace.step(Step::Rule { subject, rule: id, failed: Some(failed) }),
                Held::Unknown(failed) => {
                    trace.step(Step::Unknown { subject, rule: id, failed });
                    unknown = true;
                }
                Held::ToCome(_) => {
                    let then = then(looked.call, rule.rule.verdict);
                    trace.step(Step::ToCome { subject, rule: id, then });
                    match then {
                        Then::Decides => return ruling,
                        Then::PassedOver => {}
                        Then::Waits => return Ruling { unknown, ..Ruling::NONE },
                    }
                }
            }
        }
        self.tell_others(told..self.rules.len(), facts, looked, otherwise, trace);
        match otherwise {
            Otherwise::NoObjection(_) => Ruling { unknown, ..Ruling::NONE },
            Otherwise::Default(verdict) => {
                trace.step(Step::Default { subject, verdict });
                Ruling { verdict, rule: Ruling::NO_RULE, unknown }
            }
        }
    }

    /// The rules that may hold, as far as what the whole call is called says.
    fn candidates(&self, facts: &RequestFacts<'_>) -> RuleSet {
        let mut set = self.index.all();
        let names = [
            (Condition::Route, Some(facts.route)),
            (Condition::Operation, facts.operation),
            (Condition::Dialect, facts.dialect),
            (Condition::Method, facts.method),
            (Condition::Identity, facts.identity),
            (Condition::Tenant, facts.tenant),
        ];
        names.into_iter().for_each(|(condition, fact)| self.index.keep(&mut set, condition, fact));
        set
    }

    /// Tells of rules that are no candidates why they do not hold.
    fn tell_others<'p, 'f, T: Trace<'p, 'f>>(
        &'p self,
        others: Range<usize>,
        facts: &RequestFacts<'f>,
        looked: Looked<'f>,
        otherwise: Otherwise,
        trace: &mut T,
    ) {
        if !T::WATCHES {
            return;
        }
        let subject = looked.subject;
        for rule in self.rules.get(others).unwrap_or_default() {
            let id = &rule.rule.id;
            if otherwise.passes_over(rule) {
                trace.step(Step::PassedOver { subject, rule: id });
                continue;
            }
            match rule.holds(facts, looked) {
                Held::Fails(failed) => trace.step(Step::Rule { subject, rule: id, failed: Some(failed) }),
                // The index says that a condition on a name fails, and nothing weighs more.
                held => debug_assert!(false, "`{id}` is no candidate and {held:?}"),
            }
        }
    }

    fn decide<'p, 'f>(
        &'p self,
        ruling: Ruling,
        whole: bool,
        settings: &'p RouteSettings,
        trace: &mut impl Trace<'p, 'f>,
    ) -> Decision<'p> {
        let Ruling { verdict, rule, unknown } = ruling;
        let whole = whole && !unknown;
        if !whole {
            trace.step(Step::NotEvaluated { verdict: settings.on_not_evaluated });
        }
        let unseen = !whole && verdict != Verdict::Block && !settings.on_not_evaluated.lets_go();
        let hold = self.holds.get(&rule).filter(|_| verdict == Verdict::Hold && !unseen);
        let rule = self.rules.get(rule).map(|rule| &rule.rule).filter(|_| !unseen);
        let verdict = if unseen { Verdict::Block } else { verdict };
        let default_reason = match verdict {
            Verdict::Allow => None,
            Verdict::Hold => Some(ReasonCode::APPROVAL_REQUIRED),
            Verdict::Block if unseen => Some(ReasonCode::NOT_EVALUATED),
            Verdict::Block => Some(ReasonCode::POLICY_BLOCK),
        };
        Decision {
            verdict,
            rule: rule.map(|rule| &rule.id),
            reason: rule.and_then(|rule| rule.reason.as_ref()).or(default_reason),
            message: rule.and_then(|rule| rule.message.as_deref()),
            severity: rule.and_then(|rule| rule.severity),
            threat: rule.map_or(&[], |rule| &rule.threat),
            body_storage: rule.and_then(|rule| rule.body_storage.as_ref()).unwrap_or(&settings.body_storage),
            hold,
        }
    }
}

/// What one subject comes to. The order is that of weight: a block before a hold before an allow, then the rule that stands
/// first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ruling {
    verdict: Verdict,
    /// Index of the rule, or [`Ruling::NO_RULE`].
    rule: usize,
    /// A rule that was tried asked for something that could not be read.
    unknown: bool,
}

impl Ruling {
    const NO_RULE: usize = usize::MAX;
    /// No objection.
    const NONE: Self = Self { verdict: Verdict::Allow, rule: Self::NO_RULE, unknown: false };

    fn add(&mut self, other: Self) {
        let unknown = self.unknown || other.unknown;
        *self = Self { unknown, ..(*self).min(other) };
    }
}

/// What there is where no rule decides.
#[derive(Clone, Copy)]
enum Otherwise {
    /// The route's default.
    Default(Verdict),
    /// Nothing. Rules that block and do not ask about this had their say at the request.
    NoObjection(Condition),
}

impl Otherwise {
    fn passes_over(self, rule: &CompiledRule) -> bool {
        match (self, rule.rule.verdict) {
            (Self::Default(_), _) | (_, Verdict::Allow) => false,
            (Self::NoObjection(condition), Verdict::Block | Verdict::Hold) => !rule.rule.when.has(condition),
        }
    }
}

/// What is done about a rule of which only what a call brings is not known.
fn then(call: Option<Call<'_>>, verdict: Verdict) -> Then {
    match (call, verdict) {
        (Some(Call::ToCome), _) => Then::Waits,
        (_, Verdict::Allow) => Then::Decides,
        (_, Verdict::Block | Verdict::Hold) => Then::PassedOver,
    }
}

/// Each tool, or once none.
fn each_or_none<'f>(tools: &[Tool<'f>]) -> impl Iterator<Item = Option<Tool<'f>>> {
    let none = tools.is_empty().then_some(None);
    tools.iter().take(TOOLS_MAX).copied().map(Some).chain(none)
}

pub(crate) fn looked<'f>(
    model: Option<&'f str>,
    tool: Option<Tool<'f>>,
    content: Option<&'f Content>,
) -> Looked<'f> {
    let subject = Subject { model, tool: tool.map(|tool| tool.name) };
    Looked { subject, call: tool.map(|tool| tool.call), content }
}

fn resolve(scopes: &[&Settings], limits: Limits, detectors: Vec<DetectorTerms>) -> RouteSettings {
    RouteSettings {
        verdict: scopes.iter().find_map(|scope| scope.verdict).unwrap_or(Verdict::Block),
        body_storage: scopes.iter().find_map(|scope| scope.body_storage.clone()).unwrap_or_default(),
        on_not_evaluated: scopes.iter().find_map(|scope| scope.on_not_evaluated).unwrap_or(Verdict::Block),
        disconnect: scopes.iter().find_map(|scope| scope.disconnect).unwrap_or_default(),
        tool_lists: scopes.iter().find_map(|scope| scope.tool_lists).unwrap_or_default(),
        judge: scopes
            .iter()
            .filter_map(|scope| scope.judge.clone())
            .reduce(Judging::over)
            .unwrap_or_default(),
        snapshot: snapshot::resolve(scopes.iter().filter_map(|scope| scope.snapshot.as_ref())),
        detectors,
        limits,
        operations: Arc::default(),
    }
}

/// The operations of a route that judges so, and of which so much is said of snapshots, the narrower first.
fn over(operations: &Operations, judge: &Judging, said: [Option<&Snapshotting>; 2]) -> Operations {
    let list = operations.iter().map(|operation| {
        let own = operation.judge.clone().map(|own| own.over(judge.clone()));
        let look = snapshot::resolve(operation.snapshot.iter().chain(said.into_iter().flatten()));
        Operation { judge: own.or_else(|| Some(judge.clone())), look, ..operation.clone() }
    });
    Operations { list: list.collect(), others: operations.others }
}
