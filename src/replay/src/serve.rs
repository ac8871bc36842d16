//! A stub upstream out of a bundle: the client that was recorded runs again, and gets the bytes that were recorded.
//!
//! Streams are sent in their units, each a chunk of its own: that is as much of the chunk borders as evidence has. Of headers it has none; the
//! content type follows from the bytes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use estoppel_bundle::{Bundle, OpenError, Source, unit_ends};
use estoppel_evidence::capture::Label;
use estoppel_evidence::entry::BodyMode;
use estoppel_evidence::envelope::base64;
use estoppel_evidence::{RunCapture, Sha256};
use estoppel_stub::{Asked, Body, Delays, Fault, Framing, Reply, Respond, Split, StartError, Stub};
use serde::Serialize;
use serde_json::{Value, json};

use crate::code::Code;
use crate::difference::Difference;
use crate::exact::Exact;
use crate::normalize::Normalizers;
use crate::step::{Request, Step, Steps};
use crate::tally::{Matching, Tally};
use crate::tolerance::{Found, Part};
use crate::{Classes, Connections, ReplayError};

/// Status of an answer that was not recorded: no registered one, so that no client takes it for the upstream's.
const NOT_RECORDED: u16 = 599;

/// Whose answers are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Those that the client was given: for a client that runs without a gateway.
    #[default]
    Client,
    /// Those that came from the upstream: for a gateway that runs again.
    Upstream,
}

/// How a bundle is served.
#[derive(Debug)]
pub struct Options {
    pub side: Side,
    pub matching: Matching,
    pub normalizers: Option<Normalizers>,
    /// The run's key: requests are known by their tags.
    pub capture: RunCapture,
    /// What is declared of calls that come again.
    pub classes: Classes,
    /// Answers take the time that they took.
    pub is_timed: bool,
    /// What stands before the target of each request: what a gateway in between takes off.
    pub prefix: String,
}

/// Why a bundle is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running replay.
#[derive(Debug)]
pub struct Server<S: Source> {
    stub: Stub,
    replayer: Arc<Replayer<S>>,
}

impl<S: Source + Send + Sync + 'static> Server<S> {
    /// Listens on loopback.
    ///
    /// # Errors
    /// The bundle cannot be read, or the address not be used.
    pub fn start(bundle: Bundle<S>, options: Options, address: SocketAddr) -> Result<Self, ServeError> {
        let Options { side, matching, normalizers, capture, mut classes, is_timed, prefix } = options;
        let steps = Steps::read(&bundle, side, capture.clone(), normalizers, &mut classes)?;
        let state = State {
            steps,
            tally: Tally::new(matching),
            connections: Connections::default(),
            asked: 0,
            end: None,
        };
        let replayer = Arc::new(Replayer {
            bundle,
            capture,
            is_timed,
            prefix,
            port: OnceLock::new(),
            state: Mutex::new(state),
        });
        let stub = Stub::spawn_thread_responding(address, replayer.clone())?;
        replayer.port.get_or_init(|| stub.addr().port());
        Ok(Self { stub, replayer })
    }

    pub fn addr(&self) -> SocketAddr {
        self.stub.addr()
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.replayer.lock().steps.list.len()
    }

    /// Waits until every step was asked for and answered, or the replay is over; false if that takes longer than `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        self.stub.hits().wait(patience, |hits| {
            let state = self.replayer.lock();
            let is_over = state.end.is_some() || state.steps.left().next().is_none();
            is_over && hits.ended() >= state.asked
        })
    }

    /// Stops listening, and says what became of all steps.
    ///
    /// # Errors
    /// The sockets of this process could not be listed.
    pub fn finish(self) -> Result<Finished<S>, ReplayError> {
        let Self { stub, replayer } = self;
        let mut state = replayer.lock();
        state.look(replayer.port.get())?;
        let missing: Vec<_> = state.steps.left().map(|step| (step.seq, step.call)).collect();
        missing.into_iter().for_each(|step| state.tally.missing(step));
        let (tally, upstream_connections) = (state.tally.clone(), state.connections.count());
        if let Some(End::Failed(error)) = state.end.replace(End::Stopped) {
            return Err(error);
        }
        drop(state);
        drop(stub);
        Ok(Finished { replayer, tally, upstream_connections })
    }
}

/// What a replay came to.
#[derive(Debug)]
pub struct Finished<S: Source> {
    replayer: Arc<Replayer<S>>,
    pub tally: Tally,
    pub upstream_connections: u64,
}

impl<S: Source> Finished<S> {
    pub fn bundle(&self) -> &Bundle<S> {
        &self.replayer.bundle
    }
}

/// How a request is the one of its step.
enum Match {
    Exact,
    /// But for what its policy tolerates.
    Within(Found),
    /// It is not, and was counted.
    Not,
}

/// Why no more steps are given.
#[derive(Debug)]
enum End {
    /// A request came that no step answers, or it was stopped.
    Stopped,
    Failed(ReplayError),
}

#[derive(Debug)]
struct State {
    steps: Steps,
    tally: Tally,
    connections: Connections,
    /// Requests so far.
    asked: u64,
    end: Option<End>,
}

impl State {
    fn look(&mut self, port: Option<&u16>) -> Result<(), ReplayError> {
        let Some(port) = port else { return Ok(()) };
        self.connections.leave_out(*port);
        self.connections.look().map_err(ReplayError::Connections)
    }
}

struct Replayer<S> {
    bundle: Bundle<S>,
    capture: RunCapture,
    is_timed: bool,
    prefix: String,
    /// Of the listener; unknown until it listens.
    port: OnceLock<u16>,
    state: Mutex<State>,
}

impl<S> fmt::Debug for Replayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replayer").field("port", &self.port).finish_non_exhaustive()
    }
}

impl<S: Source + Send + Sync> Respond for Replayer<S> {
    fn respond(&self, asked: &Asked<'_>) -> Reply {
        let target = format!("{}{}", self.prefix, asked.target);
        let request = Request { method: asked.method, target: &target, body: asked.body };
        let mut state = self.lock();
        state.asked += 1;
        if state.end.is_some() {
            return refusal("STOPPED", "the replay is over", &Value::Null);
        }
        if let Err(error) = state.look(self.port.get()) {
            let text = error.to_string();
            state.end = Some(End::Failed(error));
            return refusal("INTERNAL", &text, &Value::Null);
        }
        match state.steps.take(&request) {
            Some(at) => self.answer(&mut state, at, Match::Exact),
            None => match state.steps.within(&self.bundle, &request) {
                Some((at, found)) => {
                    state.steps.give(at);
                    self.answer(&mut state, at, Match::Within(found))
                }
                None => self.unmatched(&mut state, &request),
            },
        }
    }
}

impl<S: Source> Replayer<S> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that has no step of its own.
    fn unmatched(&self, state: &mut State, request: &Request<'_>) -> Reply {
        let is_strict = state.tally.matching() == Matching::Strict;
        let Some((nearest, step)) =
            state.steps.nearest(request).and_then(|at| Some((at, state.steps.list.get(at)?.clone())))
        else {
            state.tally.missed();
            if is_strict {
                state.end = Some(End::Stopped);
            }
            let text = "no recorded call is left for this request; its method or target, or the number of such requests, differs";
            return refusal(Code::Miss.as_str(), text, &self.elsewhere(state, request));
        };
        let found = self.difference(&step, request);
        let code = if found.is_shape { Code::SchemaDrift } else { Code::ArgDrift };
        let at = found.at.clone();
        state.tally.drifted_beyond(code, (step.seq, step.call), found);
        state.steps.give(nearest);
        if !is_strict {
            return self.answer(state, nearest, Match::Not);
        }
        state.end = Some(End::Stopped);
        let nearest = json!({ "seq": step.seq, "call": step.call, "differs": "body", "at": at });
        refusal(code.as_str(), code.text(), &nearest)
    }

    /// The step with this body under another method or target.
    fn elsewhere(&self, state: &State, request: &Request<'_>) -> Value {
        let tag = self.capture.tag(Label::RequestBody, &Sha256::of(request.body).0);
        let same = state.steps.left().find(|step| !request.body.is_empty() && step.request.tag == Some(tag));
        same.map_or(
            Value::Null,
            |step| json!({ "seq": step.seq, "call": step.call, "differs": "method or target" }),
        )
    }

    fn difference(&self, step: &Step, request: &Request<'_>) -> Found {
        if let Some(found) = Exact::read(request.body).and_then(|found| step.differs(&self.bundle, &found)) {
            return found;
        }
        let recorded = match step.mode {
            BodyMode::Full => self.bundle.body(&step.request).ok().flatten(),
            _ => None,
        };
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        match (recorded.and_then(|body| read(&body)), read(request.body)) {
            (Some(recorded), Some(found)) => Difference::of(&recorded, &found).into(),
            _ => Found::default(),
        }
    }

    fn answer(&self, state: &mut State, at: usize, of: Match) -> Reply {
        let is_match = !matches!(of, Match::Not);
        let Some(step) = state.steps.list.get(at).cloned() else {
            return refusal("INTERNAL", "there is no such step", &Value::Null);
        };
        let place = (step.seq, step.call);
        let here = json!({ "seq": step.seq, "call": step.call });
        let body = match self.bundle.body(&step.answer) {
            Ok(Some(body)) => body,
            Ok(None) if step.answer.bytes == 0 => Vec::new(),
            Ok(None) => {
                if is_match {
                    state.tally.skipped(Code::BodyAbsent);
                }
                return refusal(Code::BodyAbsent.as_str(), Code::BodyAbsent.text(), &here);
            }
            Err(OpenError::Changed { .. }) => return self.changed(state, &step, is_match),
            Err(error) => {
                let text = error.to_string();
                state.end = Some(End::Failed(error.into()));
                return refusal("INTERNAL", &text, &here);
            }
        };
        let tag = self.capture.tag(Label::ResponseBody, &Sha256::of(&body).0);
        if step.mode == BodyMode::Full && step.answer.tag.is_some_and(|recorded| recorded != tag) {
            return self.changed(state, &step, is_match);
        }
        if is_match {
            let is_early = state.steps.is_early(at);
            match (step.mode, step.complete) {
                (BodyMode::Redacted, _) => state.tally.skipped(Code::BodyRedacted),
                (_, false) => state.tally.truncated(),
                (_, true) => {
                    state.tally.matched();
                    if is_early {
                        state.tally.reordered(place);
                    }
                }
            }
        }
        if let Match::Within(found) = of
            && found.tolerated_count > 0
        {
            state.tally.tolerated(place, Part::Request, found);
        }
        reply(&step, body, self.is_timed)
    }

    fn changed(&self, state: &mut State, step: &Step, is_match: bool) -> Reply {
        if is_match {
            state.tally.drifted(Code::BodyDrift, (step.seq, step.call), Vec::new());
        }
        let here = json!({ "seq": step.seq, "call": step.call });
        refusal(Code::BodyDrift.as_str(), Code::BodyDrift.text(), &here)
    }
}

fn reply(step: &Step, body: Vec<u8>, is_timed: bool) -> Reply {
    let (mut framing, mut split, mut pieces) = (None, Split::Whole, 1);
    let status = step.answer.status.unwrap_or(200);
    let kind = match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        _ if step.is_stream => "text/event-stream",
        Some(b'{' | b'[') => "application/json",
        _ => "application/octet-stream",
    };
    if step.is_stream {
        let mut offsets: Vec<u64> = unit_ends(&body).into_iter().map(|end| end as u64).collect(); // usize fits
        pieces = offsets.len().max(1) as u64; // usize fits
        offsets.pop();
        split = Split::At { offsets };
        framing = Some(Framing::Chunked);
    }
    let mut faults = Vec::new();
    if !step.complete {
        framing = Some(Framing::Chunked);
        faults.push(Fault::Truncate { after_bytes: body.len() as u64 }); // usize fits
    }
    let delay_ms = match is_timed {
        false => Delays::default(),
        true => Delays {
            before_head: step.first_byte_us / 1000,
            before_body: 0,
            between_writes: step.last_us.saturating_sub(step.first_byte_us)
                / pieces.max(2).saturating_sub(1)
                / 1000,
        },
    };
    let headers = vec![("content-type".to_owned(), kind.to_owned())];
    let body = Body::Base64(base64(&body));
    Reply { status, headers, body, framing, split, faults, delay_ms, ..Reply::default() }
}

fn refusal(code: &str, text: &str, nearest: &Value) -> Reply {
    let mut error = json!({ "code": code, "message": text, "type": "replay" });
    if !nearest.is_null() {
        error["nearest"] = nearest.clone();
    }
    let body = json!({ "error": error }).to_string();
    Reply::text(&body).status(NOT_RECORDED).header("content-type", "application/json")
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::CallId;

    use super::*;

    fn step(is_stream: bool, complete: bool) -> Step {
        Step {
            seq: 1,
            call: CallId::new(1, [1; 10]),
            mode: BodyMode::Full,
            request: estoppel_bundle::Side::default(),
            answer: estoppel_bundle::Side { status: Some(201), ..estoppel_bundle::Side::default() },
            is_stream,
            complete,
            began_us: 0,
            ended_us: 90_000,
            first_byte_us: 20_000,
            last_us: 80_000,
            is_left: true,
            class: None,
        }
    }

    #[test]
    fn a_stream_is_cut_at_its_units_and_takes_its_time_only_if_asked() {
        let stream = b"data: 1\n\ndata: 2\n\ndata: 3\n\n".to_vec();
        let made = reply(&step(true, true), stream.clone(), true);
        assert_eq!((made.status, made.split), (201, Split::At { offsets: vec![9, 18] }));
        let delays = Delays { before_head: 20, before_body: 0, between_writes: 30 };
        assert_eq!((made.delay_ms, made.framing), (delays, Some(Framing::Chunked)));
        assert_eq!(reply(&step(true, true), stream, false).delay_ms, Delays::default());
    }

    #[test]
    fn the_content_type_follows_from_the_bytes_and_a_cut_answer_is_cut() {
        let kind = |body: &str, is_stream| {
            let made = reply(&step(is_stream, true), body.as_bytes().to_vec(), false);
            made.headers.first().map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!(kind(" {}", false), "application/json");
        assert_eq!(kind("plain", false), "application/octet-stream");
        assert_eq!(kind(": c\n", true), "text/event-stream");
        let cut = reply(&step(false, false), b"half".to_vec(), false);
        assert_eq!(cut.faults, [Fault::Truncate { after_bytes: 4 }]);
    }
}
