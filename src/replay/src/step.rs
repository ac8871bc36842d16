//! Requests and steps in mode `stub`: what makes them equal, and which step is next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use estoppel_bundle::{Bundle, RecordedCall, RecordedEntry, Side as Body, Source};
use estoppel_evidence::capture::Label;
use estoppel_evidence::entry::BodyMode;
use estoppel_evidence::{CallId, RunCapture, Sha256};
use estoppel_policy::Determinism;

use crate::classes::rules;
use crate::exact::Exact;
use crate::normalize::Normalizers;
use crate::serve::Side;
use crate::tolerance::{Found, Part};
use crate::{Classes, ReplayError, STEPS_MAX};

/// Most steps that a request is held against by their tolerances.
const TRIES_MAX: usize = 64;

/// What makes a request and a step the same: method, target and body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    pub place: Place,
    body: BodyKey,
}

/// Method and tag of the target.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    method: String,
    target: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum BodyKey {
    Tag(String),
    Normalized(String),
}

/// A recorded call that is served.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub seq: u64,
    pub call: CallId,
    pub mode: BodyMode,
    pub request: Body,
    pub answer: Body,
    pub is_stream: bool,
    pub complete: bool,
    /// By the run's clock.
    pub began_us: u64,
    pub ended_us: u64,
    /// From the request to the first and the last byte of the answer.
    pub first_byte_us: u64,
    pub last_us: u64,
    pub is_left: bool,
    /// What is declared of it.
    pub class: Option<Arc<Determinism>>,
}

impl Step {
    fn may_differ(&self) -> bool {
        self.is_left
            && self.mode == BodyMode::Full
            && self.class.as_deref().is_some_and(|class| !rules(class, Part::Request).is_empty())
    }

    /// What of a request is not as recorded, by what is declared. None where nothing is, or a body is not to be read.
    pub fn differs<S: Source>(&self, bundle: &Bundle<S>, found: &Exact) -> Option<Found> {
        let class = self.class.as_deref().filter(|_| self.mode == BodyMode::Full)?;
        let recorded = Exact::read(&bundle.body(&self.request).ok()??)?;
        Some(Found::of(&recorded, found, rules(class, Part::Request)))
    }
}

/// What of a request the recording is keyed by.
pub(crate) struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: &'a [u8],
}

/// The steps of a run and how they are found.
#[derive(Debug)]
pub(crate) struct Steps {
    pub list: Vec<Step>,
    by_key: HashMap<Key, VecDeque<usize>>,
    by_place: HashMap<Place, VecDeque<usize>>,
    normalizers: Option<Normalizers>,
    capture: RunCapture,
    /// No step before this one is left.
    first_left: usize,
}

impl Steps {
    /// # Errors
    /// The bundle cannot be read, or has more calls than [`STEPS_MAX`].
    pub fn read<S: Source>(
        bundle: &Bundle<S>,
        side: Side,
        capture: RunCapture,
        normalizers: Option<Normalizers>,
        classes: &mut Classes,
    ) -> Result<Self, ReplayError> {
        let mut found = Vec::new();
        let mut entries = bundle.recorded()?;
        while let Some(entry) = entries.next()? {
            let RecordedEntry::Call(call) = entry else { continue };
            let Some((place, mut step)) = step(&call, side) else { continue };
            step.class = classes.of(bundle, &call.receipt);
            if found.len() == STEPS_MAX {
                return Err(ReplayError::Steps);
            }
            found.push((place, step));
        }
        found.sort_by_key(|(_, step)| (step.began_us, step.seq));
        let mut steps = Self {
            list: Vec::with_capacity(found.len()),
            by_key: HashMap::new(),
            by_place: HashMap::new(),
            normalizers,
            capture,
            first_left: 0,
        };
        for (at, (place, step)) in found.into_iter().enumerate() {
            if let Some(body) = steps.body_key(bundle, &step)? {
                steps.by_key.entry(Key { place: place.clone(), body }).or_default().push_back(at);
            }
            steps.by_place.entry(place).or_default().push_back(at);
            steps.list.push(step);
        }
        Ok(steps)
    }

    fn body_key<S: Source>(&self, bundle: &Bundle<S>, step: &Step) -> Result<Option<BodyKey>, ReplayError> {
        let tag = step.request.tag.map(|tag| BodyKey::Tag(tag.to_string()));
        // What a policy declares, no file takes back.
        let is_open = step.mode == BodyMode::Full && step.class.is_none();
        let Some(normalizers) = self.normalizers.as_ref().filter(|_| is_open) else {
            return Ok(tag);
        };
        Ok(bundle.body(&step.request)?.map(|body| BodyKey::Normalized(normalizers.key(&body))).or(tag))
    }

    /// Takes the step that answers this request, if one is left.
    pub fn take(&mut self, request: &Request<'_>) -> Option<usize> {
        let place = self.place(request);
        let normalized = self.normalizers.as_ref().map(|it| BodyKey::Normalized(it.key(request.body)));
        let tag = self.capture.tag(Label::RequestBody, &Sha256::of(request.body).0).to_string();
        for body in normalized.into_iter().chain([BodyKey::Tag(tag)]) {
            let key = Key { place: place.clone(), body };
            let Some(waiting) = self.by_key.get_mut(&key) else { continue };
            while let Some(at) = waiting.pop_front() {
                if self.list.get(at).is_some_and(|step| step.is_left) {
                    self.give(at);
                    return Some(at);
                }
            }
        }
        None
    }

    /// The first step that is left, and that the request is of within what its policy tolerates.
    pub fn within<S: Source>(&self, bundle: &Bundle<S>, request: &Request<'_>) -> Option<(usize, Found)> {
        let waiting = self.by_place.get(&self.place(request))?;
        let mut found = None;
        let tried = waiting.iter().filter_map(|at| Some((*at, self.list.get(*at)?)));
        for (at, step) in tried.filter(|(_, step)| step.may_differ()).take(TRIES_MAX) {
            let now = match &found {
                Some(now) => now,
                None => found.insert(Exact::read(request.body)?),
            };
            if let Some(differs) = step.differs(bundle, now)
                && differs.is_within()
            {
                return Some((at, differs));
            }
        }
        None
    }

    /// The first step that is left with this method and target.
    pub fn nearest(&self, request: &Request<'_>) -> Option<usize> {
        let waiting = self.by_place.get(&self.place(request))?;
        waiting.iter().copied().find(|at| self.list.get(*at).is_some_and(|step| step.is_left))
    }

    /// Takes a step whatever its key is.
    pub fn give(&mut self, at: usize) {
        if let Some(step) = self.list.get_mut(at) {
            step.is_left = false;
        }
        while self.list.get(self.first_left).is_some_and(|step| !step.is_left) {
            self.first_left += 1;
        }
    }

    fn place(&self, request: &Request<'_>) -> Place {
        let target = self.capture.tag(Label::RequestTarget, &Sha256::of(request.target.as_bytes()).0);
        Place { method: request.method.to_owned(), target: target.to_string() }
    }

    /// Whether a step is left that was over before this one began, as recorded.
    pub fn is_early(&self, at: usize) -> bool {
        let Some(step) = self.list.get(at) else { return false };
        let mut before = self.left().take_while(|other| other.began_us <= step.began_us);
        before.any(|other| other.ended_us < step.began_us)
    }

    pub fn left(&self) -> impl Iterator<Item = &Step> {
        self.list.iter().skip(self.first_left).filter(|step| step.is_left)
    }
}

/// None: not in the scope of this side.
fn step(call: &RecordedCall, side: Side) -> Option<(Place, Step)> {
    let receipt = &call.receipt;
    let answer = match side {
        Side::Client => call.client.status.is_some().then(|| call.client.clone())?,
        Side::Upstream => call.upstream.clone()?,
    };
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (time, sse) = (&receipt["time"], &receipt["sse"]);
    let (total_us, ended_us) = (number(&time["total_us"]), number(&receipt["mono_us"]));
    let request = &receipt["request"];
    let place = Place { method: text(&request["method"]), target: text(&request["target_tag"]) };
    let step = Step {
        seq: call.seq,
        call: call.call,
        mode: call.mode,
        request: call.request.clone(),
        answer,
        is_stream: sse.is_object(),
        complete: receipt["outcome"]["complete"] == true,
        began_us: ended_us.saturating_sub(total_us),
        ended_us,
        first_byte_us: number(&time["first_byte_us"]),
        last_us: sse["last_us"].as_u64().unwrap_or(total_us),
        is_left: true,
        class: None,
    };
    Some((place, step))
}
