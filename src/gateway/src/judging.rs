//! Values held against their contracts: those of the policy, and what requests ask of their answers.

mod asked;
mod content_type;
pub(crate) mod events;
pub(crate) mod mcp;
mod place;
mod request;
mod results;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::entry::{ContractRef, ContractSource, EDITS_MAX, Edit, Judged, Repair};
use estoppel_evidence::{Reason, Sha256};
use estoppel_policy::{ChangedTools, Formats, Reask, Release, Terms, UnknownTools};
use estoppel_wire::Defect;
use estoppel_wire::contract::{self, Contract as Enforceable, Verdict, judge_value};
use estoppel_wire::dialect::{CallForm, Dialect, ResponseFacts, ResponseScan, is_cut_short};
use estoppel_wire::judge::{self, Outcome, Refused};
use estoppel_wire::repair::{self, Class, Classes, Profile, Repaired};
use estoppel_wire::schema::{Cause, Schema, Violation};
use serde_json::Value;

pub(crate) use asked::Asked;
use asked::{AskedText, AskedTool, Written};
pub(crate) use content_type::{format, is_signed, is_utf8};
pub(crate) use request::{RequestJudged, Sent};
pub(crate) use results::given;

use crate::contracts::{Compiled, Contracts, Schemas};
use crate::respond::Refusal;
use crate::rules::{CallRules, Ruled};
use crate::store::Contract;

pub use place::{At, Place};

/// What a route's policy says of values, with its contracts in their places.
#[derive(Clone, Debug)]
pub(crate) struct RouteTerms {
    pub(crate) release: Release,
    unknown_tools: UnknownTools,
    formats: Formats,
    changed_tools: ChangedTools,
    /// None: nothing is repaired.
    pub(crate) repair: Option<Profile>,
    pub(crate) reask: Reask,
    tools: HashMap<String, Arc<Compiled>>,
    results: HashMap<String, Arc<Compiled>>,
    text: Option<Arc<Compiled>>,
    pub(crate) request: Option<Arc<Compiled>>,
    pub(crate) answer: Option<Arc<Compiled>>,
    /// Nothing is held against contracts; calls are held back for the rules alone.
    pub(crate) only_rules: bool,
}

impl RouteTerms {
    /// For a route whose rules look into calls, and nothing else does.
    pub(crate) fn only_rules() -> Self {
        Self { only_rules: true, ..Self::new(&Terms::default(), &Contracts::default()) }
    }

    pub(crate) fn new(terms: &Terms, contracts: &Contracts) -> Self {
        let named = |name: Option<&str>| name.and_then(|name| contracts.get(name, terms.formats())).cloned();
        let of_tools = |names: &BTreeMap<String, String>| {
            names.iter().filter_map(|(tool, name)| Some((tool.clone(), named(Some(name))?))).collect()
        };
        Self {
            release: terms.release(),
            unknown_tools: terms.unknown_tools(),
            formats: terms.formats(),
            changed_tools: terms.changed_tools(),
            repair: profile(terms.repair()),
            reask: terms.reask(),
            tools: of_tools(terms.tools()),
            results: of_tools(terms.results()),
            text: named(terms.text()),
            request: named(terms.request()),
            answer: named(terms.answer()),
            only_rules: false,
        }
    }

    /// Nothing is held against contracts.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self::new(&Terms::default(), &Contracts::default()))
    }

    /// The policy's contract for calls of a tool.
    fn tool(&self, form: CallForm, name: &str) -> Option<&Arc<Compiled>> {
        let also = (form == CallForm::BuiltIn && name == CODE_EXECUTION.0).then_some(CODE_EXECUTION.1);
        self.tools.get(name).or_else(|| self.tools.get(also?))
    }

    /// Bytes leave before they have been judged.
    pub(crate) fn forwards(&self) -> bool {
        matches!(self.release, Release::StreamAndCut | Release::Observe)
    }
}

pub(crate) fn profile(repair: &estoppel_policy::Repair) -> Option<Profile> {
    let estoppel_policy::Repair::R1(more) = repair else { return None };
    let named = |name: &str| Class::ALL.into_iter().find(|class| class.name() == name);
    let classes = more.iter().filter_map(|class| named(class.as_str())).fold(Classes::SAFE, Classes::with);
    Some(Profile { classes, ..Profile::default() })
}

/// Both names of Gemini's interpreter.
const CODE_EXECUTION: (&str, &str) = ("code_execution", "codeExecution");
const GRAMMAR: &str = "a grammar of a custom tool cannot be enforced";

/// Why a value, or the body that it is in, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objection {
    pub(crate) reason: Reason,
    /// What and where, for the caller: places and names, no values.
    pub(crate) detail: Option<Box<str>>,
    pub(crate) place: Option<Box<Place>>,
    /// A rule of the policy says so.
    pub(crate) ruled: Option<Box<Ruled>>,
}

impl From<Reason> for Objection {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None, place: None, ruled: None }
    }
}

/// Most characters of a detail.
const DETAIL_CHARS_MAX: usize = 300;

impl Objection {
    pub(crate) fn new(reason: Reason, detail: &str) -> Self {
        let detail: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
        Self { reason, detail: Some(detail.into()), place: None, ruled: None }
    }

    pub(crate) fn of_rule(ruled: Ruled) -> Self {
        Self { reason: ruled.reason(), detail: None, place: None, ruled: Some(Box::new(ruled)) }
    }

    /// What the caller is told.
    pub(crate) fn refusal(&self) -> Refusal {
        match &self.ruled {
            Some(ruled) => ruled.refusal(),
            None => Refusal::because(self.reason, self.detail.as_deref()),
        }
    }

    fn at(self, place: Option<Place>) -> Self {
        Self { place: place.map(Box::new), ..self }
    }

    /// The same, with the place in front.
    fn within(self, place: &str) -> Self {
        let detail = match self.detail {
            Some(detail) => format!("{place}: {detail}"),
            None => place.to_owned(),
        };
        Self { place: self.place, ..Self::new(self.reason, &detail) }
    }

    /// The same of a request: whatever is wrong with a value in it, sending it again does not mend it.
    pub(crate) fn of_request(self) -> Self {
        let reason = match self.reason {
            Reason::ContractViolated
            | Reason::ValueMalformed
            | Reason::ValueAmbiguous
            | Reason::ValueTruncated => Reason::RequestViolated,
            other => other,
        };
        let detail = self.detail.or_else(|| Some(self.reason.text().into()));
        Self { reason, detail, ..self }
    }

    fn of_value(violation: &Violation) -> Self {
        let reason = match violation.cause {
            Cause::Json(Defect::Truncated) => Reason::ValueTruncated,
            Cause::Json(_) => Reason::ValueMalformed,
            Cause::DuplicateKey | Cause::Keyword(_) | Cause::Cap(_) => Reason::ContractViolated,
        };
        Self::new(reason, &violation.to_string()).at(Some(Place::in_value(violation)))
    }

    /// Of a body that is held against one contract.
    pub(crate) fn of_body(refused: &contract::Refused) -> Self {
        let reason = match refused.kind() {
            contract::Kind::Malformed => Reason::ValueMalformed,
            contract::Kind::Violated => Reason::ContractViolated,
            contract::Kind::Truncated => Reason::ValueTruncated,
            contract::Kind::HeldBytesMax => Reason::HeldBytesMax,
        };
        Self::new(reason, &refused.to_string()).at(Place::in_body(refused))
    }

    /// Of a value in a model's answer.
    pub(crate) fn of_answer(refused: Refused<Objection>) -> Self {
        match refused {
            Refused::Value { finding, .. } if finding.ruled.is_some() => finding,
            Refused::Value { name, finding, .. } => {
                let value = name
                    .as_ref()
                    .map_or("the text".into(), |name| format!("call of `{}`", name.escape_debug()));
                let found = finding.within(&value);
                let place = found.place.clone().map(|place| place.of_tool(name));
                found.at(place)
            }
            Refused::NotText => Reason::ValueMalformed.into(),
            Refused::NoName | Refused::SaidOtherwise { .. } | Refused::GoesOn { .. } => {
                Reason::ValueAmbiguous.into()
            }
            Refused::Truncated => Reason::ValueTruncated.into(),
            Refused::Empty => Self::new(Reason::ValueTruncated, "the text is empty, and JSON was asked for"),
            Refused::HeldBytesMax => Reason::HeldBytesMax.into(),
        }
    }
}

/// Judges the values of one model's answer.
pub(crate) struct Judge {
    asked: Asked,
    terms: Arc<RouteTerms>,
    schemas: Arc<Schemas>,
    repair: Option<Profile>,
    enforced: Ledger,
    rules: Option<CallRules>,
}

/// What was enforced.
#[derive(Default)]
pub(crate) struct Ledger(Vec<Enforced>);

/// How the receipt names it, and the document of that name.
pub(crate) type Recorded = (ContractRef, Contract);

struct Enforced {
    /// Of the tool; empty for the answer's text.
    name: Box<str>,
    digest: Sha256,
    text: Bytes,
    source: ContractSource,
}

/// What holds an answer's values back.
pub(crate) type Stream = judge::Stream<Judge>;

impl Ledger {
    pub(crate) fn note(&mut self, name: &str, digest: Sha256, text: &Bytes, source: ContractSource) {
        if !self.0.iter().any(|known| *known.name == *name) {
            self.0.push(Enforced { name: name.into(), digest, text: text.clone(), source });
        }
    }

    /// What was enforced, as one document: `{"text":<schema>,"tools":{"<name>":<schema>,…}}` in canonical form.
    pub(crate) fn contract(&self, schemas: &Schemas) -> Option<Recorded> {
        let mut enforced: Vec<(Box<str>, Sha256)> =
            self.0.iter().map(|one| (one.name.clone(), one.digest)).collect();
        enforced.sort_unstable();
        let id = match enforced.as_slice() {
            [] => return None,
            [(name, _)] if !name.is_empty() => Some(estoppel_evidence::text::name(name).into()),
            _ => None,
        };
        let of_policy = self.0.iter().any(|one| one.source == ContractSource::Policy);
        let source = if of_policy { ContractSource::Policy } else { self.0.first()?.source };
        let stored = schemas.document(enforced, |sorted| self.document(sorted))?;
        Some((ContractRef { digest: stored.0, id, source }, stored))
    }

    fn document(&self, sorted: &[(Box<str>, Sha256)]) -> Option<Vec<u8>> {
        let text = |name: &str| {
            let one = self.0.iter().find(|one| *one.name == *name)?;
            String::from_utf8(one.text.to_vec()).ok()
        };
        let mut tools = Vec::new();
        let mut members = Vec::new();
        for (name, _) in sorted {
            if name.is_empty() {
                members.push(format!("\"text\":{}", text(name)?));
            } else {
                tools.push(format!("{}:{}", serde_json::to_string(name).ok()?, text(name)?));
            }
        }
        if !tools.is_empty() {
            members.push(format!("\"tools\":{{{}}}", tools.join(",")));
        }
        estoppel_evidence::canonical::foreign(format!("{{{}}}", members.join(",")).as_bytes()).ok()
    }
}

impl Judge {
    /// The answer was cut short, so nobody knows what its values would have been: nothing is repaired.
    pub(crate) fn cut_short(&mut self) {
        self.repair = None;
    }

    /// Ready for the answer.
    pub(crate) fn for_answer(mut self, dialect: Dialect, is_stream: bool, held_bytes_max: usize) -> Stream {
        // There a value ends before it is known whether the model was cut, so nothing that was cut is closed.
        let unknown = is_stream && dialect != Dialect::OpenAiChat;
        if let Some(profile) = self.repair.as_mut().filter(|_| unknown) {
            profile.classes = profile.classes.without(Class::MissingCloser);
        }
        let in_order = self.terms.release == Release::HoldAll;
        let stream = Stream::new(dialect, self, held_bytes_max);
        if in_order { stream.in_order() } else { stream }
    }

    /// `signed`: a repair would break a signature over the body.
    pub(crate) fn new(asked: Asked, terms: Arc<RouteTerms>, schemas: Arc<Schemas>, signed: bool) -> Self {
        let repair = terms.repair.filter(|_| !signed && !terms.forwards());
        Self { asked, terms, schemas, repair, enforced: Ledger::default(), rules: None }
    }

    /// Asks the rules of the policy about each call, too.
    pub(crate) fn with_rules(self, rules: Option<CallRules>) -> Self {
        Self { rules, ..self }
    }

    /// The answer says that it comes from this model.
    pub(crate) fn served(&mut self, model: &str) {
        if let Some(rules) = &mut self.rules {
            rules.served(model);
        }
    }

    pub(crate) fn has_contracts(&self) -> bool {
        !self.terms.only_rules
    }

    fn recorded(&self) -> Option<Recorded> {
        self.enforced.contract(&self.schemas)
    }

    /// The schema that a request asks for.
    fn asked_for(&mut self, name: &str, written: &Written) -> Result<Arc<Schema>, Objection> {
        let recorded = written.recorded();
        let digest = Sha256::of(&recorded);
        let schema = self.schemas.get(digest, written.language, self.terms.formats, &written.text);
        let schema = schema.map_err(|why| Objection::new(Reason::ContractUnsupported, &why))?;
        self.enforced.note(name, digest, &recorded, ContractSource::Request);
        Ok(schema)
    }

    /// The schema that the policy has in its place.
    fn decreed(&mut self, name: &str, contract: &Compiled) -> Result<Arc<Schema>, Objection> {
        let Enforceable::Json(schema) = &contract.enforceable else {
            return Err(Reason::ContractUnsupported.into()); // a policy that says so is not accepted
        };
        let (digest, text) = &contract.stored;
        self.enforced.note(name, *digest, text, ContractSource::Policy);
        Ok(schema.clone())
    }

    /// Holds the arguments of a call against its contract.
    fn hold_against(&mut self, form: CallForm, name: &str, arguments: &[u8]) -> Outcome<Repaired, Objection> {
        match self.contract(form, name) {
            // The code itself is no JSON, and nothing that a repair knows.
            Ok(Some(schema)) if form == CallForm::Code => {
                let code = Value::from(String::from_utf8_lossy(arguments)).to_string();
                self.judge(&schema, None, code.as_bytes())
            }
            Ok(Some(schema)) => self.judge(&schema, self.repair.as_ref(), arguments),
            Ok(None) => Outcome::Pass,
            Err(objection) => Outcome::Refused(objection),
        }
    }

    /// What a call is held against; none if its form is all there is to say of it.
    fn contract(&mut self, form: CallForm, name: &str) -> Result<Option<Arc<Schema>>, Objection> {
        if self.terms.only_rules {
            return Ok(None);
        }
        if let Some(contract) = self.terms.tool(form, name).cloned() {
            return self.decreed(name, &contract).map(Some);
        }
        let is_own = matches!(form, CallForm::Function | CallForm::Custom);
        let asked = self.asked.tools.get(name).filter(|_| is_own).cloned();
        match (form, asked) {
            (_, Some(AskedTool::Twice)) => Err(Reason::ContractUnsupported.into()),
            (_, Some(AskedTool::Schema(written))) => self.asked_for(name, &written).map(Some),
            (CallForm::Custom, Some(AskedTool::AnyText)) => Ok(None),
            (_, asked) => match self.terms.unknown_tools {
                UnknownTools::Block if matches!(asked, Some(AskedTool::Grammar)) => {
                    Err(Objection::new(Reason::ContractUnsupported, GRAMMAR))
                }
                UnknownTools::Block => Err(Reason::ContractMissing.into()),
                UnknownTools::Json => match form {
                    CallForm::Custom if asked.is_some() => Ok(None),
                    CallForm::BuiltIn | CallForm::Code => Ok(None),
                    CallForm::Function | CallForm::Custom | CallForm::Hosted => {
                        Ok(Some(self.schemas.object.clone()))
                    }
                },
            },
        }
    }

    fn judge(
        &self,
        schema: &Arc<Schema>,
        repair: Option<&Profile>,
        text: &[u8],
    ) -> Outcome<Repaired, Objection> {
        match judge_value(schema, self.schemas.key, repair, text) {
            Verdict::Valid => Outcome::Pass,
            Verdict::Repaired(repaired) => Outcome::Repaired(repaired.bytes.clone(), repaired),
            Verdict::Refused(violation) => Outcome::Refused(Objection::of_value(&violation)),
        }
    }
}

impl judge::Judge for Judge {
    type Repair = Repaired;
    type Finding = Objection;

    fn wants_call(&mut self, form: CallForm, name: &str) -> Result<bool, Objection> {
        match self.terms.unknown_tools {
            _ if self.terms.tool(form, name).is_some() => Ok(true),
            UnknownTools::Block => Err(Reason::ContractMissing.into()),
            // Rules are asked about what a call is made with, whoever makes it.
            UnknownTools::Json => {
                Ok(self.rules.is_some() || !matches!(form, CallForm::BuiltIn | CallForm::Code))
            }
        }
    }

    fn call(&mut self, form: CallForm, name: &str, arguments: &[u8]) -> Outcome<Repaired, Objection> {
        let outcome = self.hold_against(form, name, arguments);
        let Some(rules) = &self.rules else { return outcome };
        let asked = match &outcome {
            Outcome::Pass => rules.judge(name, arguments),
            Outcome::Repaired(repaired, _) => rules.judge(name, repaired),
            Outcome::Refused(_) => Ok(()),
        };
        asked.map_or_else(Outcome::Refused, |()| outcome)
    }

    fn wants_text(&self) -> bool {
        self.asked.text.is_some() || self.terms.text.is_some()
    }

    fn text(&mut self, text: &[u8]) -> Outcome<Repaired, Objection> {
        let mut text = Cow::from(text);
        let schema = match (self.terms.text.clone(), &self.asked.text) {
            (Some(contract), _) => self.decreed("", &contract),
            (None, None) => return Outcome::Pass,
            (None, Some(AskedText::Json)) => Ok(self.schemas.object.clone()),
            (None, Some(AskedText::AnyJson)) => Ok(self.schemas.anything.clone()),
            (None, Some(AskedText::Schema(schema))) => {
                let schema = schema.clone();
                self.asked_for("", &schema)
            }
            (None, Some(AskedText::Bare(None))) => Err(Reason::ContractUnsupported.into()),
            (None, Some(AskedText::Bare(Some(schema)))) => {
                let schema = schema.clone();
                text = Value::from(String::from_utf8_lossy(&text)).to_string().into_bytes().into();
                self.asked_for("", &schema)
            }
        };
        match schema {
            Ok(schema) => self.judge(&schema, self.repair.as_ref(), &text),
            Err(objection) => Outcome::Refused(objection),
        }
    }
}

/// Judges the values of an answer that is one body, which `scan` has read to its end. Gives the body, with repaired values
/// in their places.
pub(crate) fn judge_whole(
    stream: &mut Stream,
    body: Bytes,
    scan: &ResponseScan,
    facts: Option<&ResponseFacts>,
) -> Result<Bytes, Objection> {
    if facts.is_some_and(|facts| facts.evaluated.defect.is_some()) {
        return Err(Reason::ValueAmbiguous.into()); // what could not be read may hold values
    }
    if facts.is_some_and(|facts| facts.finish.items.iter().any(|reason| is_cut_short(reason))) {
        stream.judge_mut().cut_short();
    }
    stream.whole(body, scan.parts()).map_err(Objection::of_answer)
}

/// Whether a stream ended without what its dialect ends one with, and without saying why it stopped.
pub(crate) fn is_cut(facts: &ResponseFacts) -> bool {
    facts.terminated == Some(false) && facts.finish.is_empty() && facts.error.is_none()
}

/// What the receipt says, and the contract that it names.
pub(crate) type Record = (Box<Judged>, Option<Contract>);

/// Of a model's answer; none when nothing was judged.
pub(crate) fn answer_record(stream: &Stream) -> Option<Record> {
    let contract = stream.judge().recorded();
    let repairs: Vec<&Repaired> = stream.verdicts().iter().filter_map(|v| v.repair.as_ref()).collect();
    let edits = repairs.iter().flat_map(|repaired| &repaired.edits).take(EDITS_MAX).map(edit).collect();
    let repair = repair(edits, repairs.iter().any(|repaired| repaired.lossy));
    if contract.is_none() && repair.is_none() {
        return None;
    }
    let (named, stored) = contract.unzip();
    Some((Box::new(Judged { request: None, response: named, repair }), stored))
}

/// Of a body that was held against one contract.
pub(crate) fn body_repair(body: &contract::Body) -> Option<Repair> {
    let edit = |edit: contract::Edit| Edit { at: edit.at, del: edit.deleted, op: edit.class.into() };
    repair(body.edits(EDITS_MAX).into_iter().map(edit).collect(), body.lossy())
}

pub(crate) fn reference(contract: &Compiled) -> ContractRef {
    let id = Some(estoppel_evidence::text::name(&contract.name).into());
    ContractRef { digest: contract.stored.0, id, source: ContractSource::Policy }
}

fn repair(edits: Vec<Edit>, lossy: bool) -> Option<Repair> {
    let applied = !edits.is_empty();
    applied.then(|| Repair { applied, edits, lossy, strategy: repair::PROFILE_ID.into() })
}

fn edit(edit: &repair::Edit) -> Edit {
    Edit { at: edit.offset as u64, del: edit.deleted as u64, op: edit.class.name().into() } // lengths fit
}
