//! Judging without traffic: one body or one answer of a model's, from bytes alone, by the machines that judge for the daemon.
//!
//! Left out is what the daemon does around them: rules of the policy, keep-alives, `on_not_evaluated`, limits but the two in [`Setting`],
//! heads and statuses, content codings, the error event that a refused stream ends with, receipts.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::entry::{ContractSource, EDITS_MAX};
use estoppel_evidence::{Reason, Sha256};
use estoppel_policy::{ContractText, Formats, Judging, Limits, Policy, Release, Repair, Terms};
use estoppel_wire::contract::{self, Contract as Enforceable, Format};
use estoppel_wire::dialect::{Dialect, EventMark, Framing, RequestScan, ResponseScan};
use estoppel_wire::judge::Blocks;
use estoppel_wire::schema::HashKey;

use crate::contracts::{Compiled, ContractError, Contracts, Schemas, compile};
use crate::judging::events::{self, Left};
use crate::judging::{self, Asked, Judge, Ledger, Objection, RequestJudged, RouteTerms, Sent, Stream};

pub use crate::judging::{At, Place};

/// Whether the gateway refuses every request with this path, which has no query: it is none, or two readers could take it for two.
pub fn is_path_refused(path: &str) -> bool {
    !path.starts_with('/')
        || path.parse::<http::uri::PathAndQuery>().is_err()
        || crate::headers::is_path_ambiguous(path)
}

/// A contract for bodies that can be enforced.
#[derive(Clone, Debug)]
pub struct BodyContract(Arc<Compiled>);

impl BodyContract {
    /// # Errors
    /// Everything that keeps it from being enforced.
    pub fn compile(name: &str, text: &ContractText) -> Result<Self, Vec<ContractError>> {
        compile(name, text, Formats::Annotate).map(|compiled| Self(Arc::new(compiled)))
    }

    /// Of its canonical form, as receipts name it.
    pub fn digest(&self) -> Sha256 {
        self.0.stored.0
    }

    /// As receipts name it where only the calls of this tool, or without one only texts of answers, were held against it.
    pub fn digest_of_values(&self, tool: Option<&str>) -> Option<Sha256> {
        let mut ledger = Ledger::default();
        ledger.note(tool.unwrap_or_default(), self.0.stored.0, &self.0.stored.1, ContractSource::Policy);
        (!self.is_csv())
            .then(|| ledger.contract(&Schemas::new([0; 2])))?
            .map(|(reference, _)| reference.digest)
    }

    /// Whether it is one for CSV.
    pub fn is_csv(&self) -> bool {
        matches!(self.0.enforceable, Enforceable::Csv(_))
    }
}

/// How values are judged: as on a route of a policy, or by what was given.
#[derive(Clone, Debug)]
pub struct Setting {
    terms: Arc<RouteTerms>,
    repair: Option<Repair>,
    release: Option<Release>,
    held_bytes_max: usize,
    event_bytes_max: usize,
}

impl Default for Setting {
    fn default() -> Self {
        Self::new(RouteTerms::new(&Terms::default(), &Contracts::default()), &Limits::default())
    }
}

impl Setting {
    pub(crate) fn new(terms: RouteTerms, limits: &Limits) -> Self {
        let size = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            terms: Arc::new(terms),
            repair: None,
            release: None,
            held_bytes_max: size(limits.held_bytes_max),
            event_bytes_max: size(limits.event_bytes_max),
        }
    }

    /// As `policy` has it for a route; none if nothing is judged there.
    ///
    /// # Errors
    /// The policy has contracts that cannot be enforced.
    pub fn of_route(policy: &Policy, route: &str) -> Result<Option<Self>, Vec<ContractError>> {
        Self::of_judging(policy, route, &policy.route(route).judge)
    }

    /// As `policy` has it for an operation of a route; none if nothing is judged there, or there is no such operation.
    ///
    /// # Errors
    /// As [`Self::of_route`].
    pub fn of_operation(
        policy: &Policy,
        route: &str,
        operation: &str,
    ) -> Result<Option<Self>, Vec<ContractError>> {
        let judge = policy.route(route).operations.get(operation).and_then(|listed| listed.judge.as_ref());
        Self::of_judging(policy, route, judge.unwrap_or(&Judging::None))
    }

    fn of_judging(policy: &Policy, route: &str, judge: &Judging) -> Result<Option<Self>, Vec<ContractError>> {
        let contracts = Contracts::new(policy)?;
        let settings = policy.route(route);
        Ok(match judge {
            Judging::None => None,
            Judging::On(terms) => Some(Self::new(RouteTerms::new(terms, &contracts), &settings.limits)),
        })
    }

    /// Without a route, within what a policy says of all.
    pub fn of_policy(policy: &Policy) -> Self {
        let limits = &policy.route("").limits;
        Self::new(RouteTerms::new(&Terms::default(), &Contracts::default()), limits)
    }

    /// Repairs this instead.
    pub fn with_repair(self, repair: Repair) -> Self {
        Self { repair: Some(repair), ..self }
    }

    /// Lets bytes leave so instead.
    pub fn with_release(self, release: Release) -> Self {
        Self { release: Some(release), ..self }
    }

    /// Keeps back this many bytes at most instead.
    pub fn with_held_bytes_max(self, held_bytes_max: usize) -> Self {
        Self { held_bytes_max, ..self }
    }

    pub fn repairs(&self) -> bool {
        match &self.repair {
            Some(repair) => *repair != Repair::None,
            None => self.terms.repair.is_some(),
        }
    }

    pub fn release(&self) -> Release {
        self.release.unwrap_or(self.terms.release)
    }

    /// The contract that the route has for bodies of answers.
    pub fn answer(&self) -> Option<BodyContract> {
        self.terms.answer.clone().map(BodyContract)
    }

    fn terms(&self) -> RouteTerms {
        let mut terms = RouteTerms::clone(&self.terms);
        terms.repair = self.repair.as_ref().map_or(terms.repair, judging::profile);
        terms.release = self.release();
        terms
    }
}

/// Why nothing more leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// What is wrong: places and names, no values.
    pub detail: Box<str>,
    pub place: Option<Box<Place>>,
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        let Objection { reason, detail, place, .. } = objection;
        Self { reason, detail: detail.unwrap_or_else(|| reason.text().into()), place }
    }
}

/// One change that was made, without what came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The tool whose call it was made in.
    pub tool: Option<Box<str>>,
    pub class: &'static str,
    /// Where: in its value or unit, of CSV in the body.
    pub at: u64,
    pub deleted: u64,
}

/// One body or answer that is being judged.
pub struct Judgement {
    machine: Machine,
    release: Release,
    held_bytes_max: usize,
    pending_most: usize,
    /// What has passed, and leaves only with all the rest.
    passed: Vec<Bytes>,
    passed_bytes: usize,
    observed: Option<Refusal>,
    /// What was found in the request, and is only recorded.
    of_request: Option<Refusal>,
}

enum Machine {
    Body(Box<contract::Body>),
    /// A model's, as events.
    Events {
        scan: Box<ResponseScan>,
        stream: Box<Stream>,
        blocks: Blocks,
        marks: Vec<EventMark>,
        event_bytes_max: usize,
    },
    /// A model's, as one JSON body.
    Whole {
        scan: Box<ResponseScan>,
        stream: Box<Stream>,
        body: Vec<u8>,
    },
}

impl Judgement {
    /// A body, held against one contract. `key` is drawn at random.
    ///
    /// # Errors
    /// The contract says nothing about bodies of this format.
    pub fn body(
        setting: &Setting,
        contract: &BodyContract,
        format: Format,
        key: [u64; 2],
    ) -> Result<Self, Refusal> {
        let terms = setting.terms();
        let how = contract::Terms {
            holds: !terms.forwards(),
            held_bytes_max: setting.held_bytes_max,
            repair: terms.repair,
            key: HashKey(key),
        };
        let body = contract::Body::new(&contract.0.enforceable, format, how).ok_or_else(|| {
            let detail = "the body's format is not what its contract is for";
            Refusal::from(Objection::new(Reason::ContractUnsupported, detail))
        })?;
        Ok(Self::new(Machine::Body(Box::new(body)), setting))
    }

    /// A model's answer to `request`, whose contracts are those of the route and the request's own.
    ///
    /// # Errors
    /// The request is one that would not be sent, or the route has a contract for bodies.
    pub fn answer(
        setting: &Setting,
        dialect: Dialect,
        framing: Framing,
        request: Option<&Bytes>,
        key: [u64; 2],
    ) -> Result<Self, Refusal> {
        let terms = Arc::new(setting.terms());
        if terms.answer.is_some() {
            let detail = "a contract for bodies does not fit a model's answer";
            return Err(Objection::new(Reason::ContractUnsupported, detail).into());
        }
        let asked = request.map_or_else(|| Ok(Asked::default()), |request| asked(dialect, request))?;
        let schemas = Arc::new(Schemas::new(key));
        let sent = request.map_or(Ok(()), |request| {
            judge_request(&terms, dialect, request, &schemas)
                .and_then(|()| terms.check_asked(&asked, &schemas))
                .map_err(Objection::of_request)
        });
        let mut judgement = Self::model(setting, dialect, framing, Judge::new(asked, terms, schemas, false));
        sent.or_else(|objection| judgement.observed_or(objection))?;
        judgement.of_request = judgement.observed.take();
        Ok(judgement)
    }

    /// A model's answer, by a judge that knows its request.
    pub(crate) fn model(setting: &Setting, dialect: Dialect, framing: Framing, judge: Judge) -> Self {
        let is_stream = framing == Framing::Sse;
        let stream = Box::new(judge.for_answer(dialect, is_stream, setting.held_bytes_max));
        let event_bytes_max = setting.event_bytes_max;
        let scan = ResponseScan::new(dialect, framing).event_bytes_max(event_bytes_max).with_parts();
        let scan = Box::new(scan);
        let machine = match framing {
            Framing::Sse => {
                let (blocks, marks) = (Blocks::default(), Vec::new());
                Machine::Events { scan, stream, blocks, marks, event_bytes_max }
            }
            Framing::Json | Framing::Opaque => Machine::Whole { scan, stream, body: Vec::new() },
        };
        Self::new(machine, setting)
    }

    /// All that there is of an answer, which is over if it is `whole`. As [`Self::feed`], with who refused it.
    pub(crate) fn judge(&mut self, body: &Bytes, whole: bool) -> Result<(), Objection> {
        let observes = self.release == Release::Observe;
        let mut judged = self.take(body, &mut Vec::new());
        if whole {
            judged = judged.and_then(|()| self.check_end()).and_then(|()| self.end(&mut Vec::new()));
        }
        judged.or_else(|objection| if observes { Ok(()) } else { Err(objection) })
    }

    fn new(machine: Machine, setting: &Setting) -> Self {
        Self {
            machine,
            release: setting.release(),
            held_bytes_max: setting.held_bytes_max,
            pending_most: 0,
            passed: Vec::new(),
            passed_bytes: 0,
            observed: None,
            of_request: None,
        }
    }

    /// Takes the next chunk, and puts what may leave into `out`.
    ///
    /// # Errors
    /// Nothing more leaves; what was put into `out` came before.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) -> Result<(), Refusal> {
        let forwards = self.forwards();
        if forwards && self.observed.is_some() {
            out.push(chunk.clone());
            return Ok(());
        }
        let mut left = Vec::new();
        let fed = self.take(chunk, &mut left);
        self.pending_most = self.pending_most.max(self.pending());
        if !forwards {
            self.give(left, out)?;
            return fed.map_err(Refusal::from);
        }
        fed.or_else(|objection| self.observed_or(objection))?;
        out.push(chunk.clone());
        Ok(())
    }

    /// It is over.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn finish(&mut self, out: &mut Vec<Bytes>) -> Result<(), Refusal> {
        let forwards = self.forwards();
        let mut left = Vec::new();
        self.check_end()?;
        let ended = if self.observed.is_some() { Ok(()) } else { self.end(&mut left) };
        ended.or_else(|objection| self.observed_or(objection))?;
        if !forwards {
            self.give(left, out)?;
            out.append(&mut self.passed);
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), Objection> {
        let Machine::Events { scan, .. } = &mut self.machine else { return Ok(()) };
        if judging::is_cut(&scan.finish()) { Err(Reason::Truncated.into()) } else { Ok(()) }
    }

    fn end(&mut self, left: &mut Vec<Bytes>) -> Result<(), Objection> {
        match &mut self.machine {
            Machine::Events { stream, blocks, .. } => events::finish(&mut **stream, blocks, left),
            Machine::Body(body) => body.finish(left).map_err(|refused| Objection::of_body(&refused)),
            Machine::Whole { scan, stream, body } => {
                let facts = scan.finish();
                let body = Bytes::from(std::mem::take(body));
                let judged = judging::judge_whole(stream, body.clone(), scan, Some(&facts));
                left.push(judged.as_ref().unwrap_or(&body).clone());
                judged.map(drop)
            }
        }
    }

    fn take(&mut self, chunk: &Bytes, left: &mut Vec<Bytes>) -> Result<(), Objection> {
        match &mut self.machine {
            Machine::Body(body) => body.feed(chunk, left).map_err(|refused| Objection::of_body(&refused)),
            Machine::Events { scan, stream, blocks, marks, event_bytes_max } => {
                marks.clear();
                scan.push(chunk, &mut |mark| marks.push(mark));
                if !scan.so_far().read {
                    return Err(Reason::ValueAmbiguous.into());
                }
                let mut events = Left::default();
                let judged =
                    events::judge(&mut **stream, blocks, *event_bytes_max, scan, chunk, marks, &mut events);
                left.extend(events.line_feed.take());
                left.append(&mut events.blocks);
                judged
            }
            Machine::Whole { scan, body, .. } => {
                scan.push(chunk, &mut |_| {});
                body.extend_from_slice(chunk);
                match (body.len() > self.held_bytes_max, self.release) {
                    (false, _) => Ok(()),
                    (true, Release::HoldAll) => Err(Reason::HeldBytesMax.into()),
                    (true, _) => {
                        let detail =
                            "the answer is one body of more than may be held back, and is not judged";
                        Err(Objection::new(Reason::NotEvaluated, detail))
                    }
                }
            }
        }
    }

    /// Bytes leave before they have been judged.
    fn forwards(&self) -> bool {
        let is_whole = matches!(self.machine, Machine::Whole { .. });
        !is_whole && matches!(self.release, Release::StreamAndCut | Release::Observe)
    }

    fn observed_or(&mut self, objection: Objection) -> Result<(), Refusal> {
        let refusal = Refusal::from(objection);
        if self.release != Release::Observe {
            return Err(refusal);
        }
        self.observed.get_or_insert(refusal);
        Ok(())
    }

    fn give(&mut self, left: Vec<Bytes>, out: &mut Vec<Bytes>) -> Result<(), Refusal> {
        if self.release != Release::HoldAll {
            out.extend(left);
            return Ok(());
        }
        self.passed_bytes += left.iter().map(Bytes::len).sum::<usize>();
        self.passed.extend(left);
        if self.passed_bytes > self.held_bytes_max {
            return Err(Objection::from(Reason::HeldBytesMax).into());
        }
        Ok(())
    }

    /// Bytes of an event that has not ended, or of a body that has not.
    fn pending(&self) -> usize {
        match &self.machine {
            Machine::Body(_) => 0,
            Machine::Events { blocks, .. } => blocks.pending(),
            Machine::Whole { body, .. } => body.len(),
        }
    }

    /// Most bytes that were held back at once.
    pub fn held_bytes_most(&self) -> usize {
        self.passed_bytes
            + match &self.machine {
                Machine::Body(body) => body.held_bytes_most(),
                Machine::Events { stream, .. } => stream.held_bytes_most().max(self.pending_most),
                Machine::Whole { stream, .. } => self.pending_most + stream.held_bytes_most(),
            }
    }

    /// What was found and is only recorded.
    pub fn observed(&self) -> Option<&Refusal> {
        self.of_request.as_ref().or(self.observed.as_ref())
    }

    /// Units or values that passed. Of CSV only once it is over.
    pub fn units(&self) -> u64 {
        match &self.machine {
            Machine::Body(body) => body.units(),
            Machine::Events { stream, .. } | Machine::Whole { stream, .. } => stream.verdicts().len() as u64, // a length fits
        }
    }

    /// What was changed, as far as a receipt has it.
    pub fn edits(&self) -> Vec<Edit> {
        let stream = match &self.machine {
            Machine::Body(body) => {
                let edit = |edit: contract::Edit| Edit {
                    tool: None,
                    class: edit.class,
                    at: edit.at,
                    deleted: edit.deleted,
                };
                return body.edits(EDITS_MAX).into_iter().map(edit).collect();
            }
            Machine::Events { stream, .. } | Machine::Whole { stream, .. } => stream,
        };
        let repaired =
            stream.verdicts().iter().filter_map(|verdict| Some((verdict, verdict.repair.as_ref()?)));
        let edits = repaired.flat_map(|(verdict, repaired)| {
            repaired.edits.iter().map(|edit| Edit {
                tool: verdict.name.clone(),
                class: edit.class.name(),
                at: edit.offset as u64, // lengths fit
                deleted: edit.deleted as u64,
            })
        });
        edits.take(EDITS_MAX).collect()
    }

    /// Whether a repair closed what had been cut.
    pub fn lossy(&self) -> bool {
        match &self.machine {
            Machine::Body(body) => body.lossy(),
            Machine::Events { stream, .. } | Machine::Whole { stream, .. } => {
                stream.verdicts().iter().any(|v| v.repair.as_ref().is_some_and(|repaired| repaired.lossy))
            }
        }
    }
}

/// What the request brings.
fn judge_request(
    terms: &RouteTerms,
    dialect: Dialect,
    request: &Bytes,
    schemas: &Schemas,
) -> Result<(), Objection> {
    let headers = http::HeaderMap::new();
    let chunks = std::slice::from_ref(request);
    let sent = Sent { method: "POST", headers: &headers, coded: false, chunks };
    terms.judge_request(dialect, &sent, schemas.key, &mut RequestJudged::default())
}

fn asked(dialect: Dialect, request: &Bytes) -> Result<Asked, Refusal> {
    let mut scan = RequestScan::new(dialect, "/");
    scan.push(request);
    let facts = scan.finish();
    match facts.evaluated.defect {
        None => Ok(Asked::new(&facts.contracts, std::slice::from_ref(request))),
        Some(defect) => {
            let detail = format!("the request cannot be read: {defect}");
            Err(Objection::new(Reason::NotEvaluated, &detail).into())
        }
    }
}
