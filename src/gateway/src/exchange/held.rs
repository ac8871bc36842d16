//! Answers that are held against contracts before they leave, or while they do: what is held back, and what the client
//! gets.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{CallRecord, Captured, Downgrade};
use estoppel_policy::Release;
use estoppel_wire::contract::{self, Format};
use estoppel_wire::dialect::{Dialect, EventMark, Framing, ResponseScan};
use estoppel_wire::judge::{Blocks, is_named};
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::{Exchange, Mark, Response};
use crate::body::Room;
use crate::contracts::Compiled;
use crate::judging::events::{self, Left};
use crate::judging::{self, Objection, RouteTerms, mcp};
use crate::store::{Contract, Feed, Form, Side};

/// An answer that is judged.
pub(super) struct HeldBack {
    machine: Machine,
    release: Release,
    /// The client gets what the machine gives. If not, the answer leaves as it comes, or once it was judged whole.
    pub(super) holds: bool,
    /// The client may get other bytes than the upstream sent, or fewer, so both are captured.
    pub(super) apart: bool,
    block_bytes_max: usize,
    /// Of what the upstream sent, if that is captured apart.
    pub(super) hash: Sha256,
    pub(super) bytes: u64,
    /// Where what the client gets is stored, if it is.
    pub(super) feed: Option<Feed>,
    /// The terminator has come, so that what follows is held until the receipt is durable.
    ended: bool,
    /// The client has got what events of ours may follow.
    opened: bool,
    /// Blocks that may leave now.
    ready: Vec<Bytes>,
    /// What the client gets instead of the upstream's body.
    pub(super) replaced: Option<Captured>,
    /// What was found, where that is only recorded.
    observed: Option<Reason>,
    refused: bool,
    /// All of it has come.
    over: bool,
    /// Room for what is held back.
    room: Room,
}

enum Machine {
    /// A model's answer, whose values are judged.
    Model { stream: Box<judging::Stream>, blocks: Blocks },
    /// The messages of an MCP server, each whole in its event.
    Server { answers: Box<mcp::Answers>, blocks: Blocks },
    /// What a post is answered whose client looks at its stream only: nothing of it is given.
    Acknowledgement,
    /// A body, held against one contract.
    Body { contract: Arc<Compiled>, body: Box<contract::Body>, format: Format },
}

impl Exchange {
    /// What judges this answer, if the policy asks for that and there is something to judge.
    pub(super) fn held_back(
        &mut self,
        head: &http::response::Parts,
        framing: Framing,
        coded: bool,
    ) -> Result<Option<Box<HeldBack>>, Objection> {
        let Some(route) = &self.route else { return Ok(None) };
        let is_posted = self.is_posted();
        let terms = match (route.answer_terms(), &self.asked_server) {
            (Some(terms), _) => terms.clone(),
            (None, Some(_)) => RouteTerms::none(),
            (None, None) if is_posted => RouteTerms::none(),
            (None, None) => return Ok(None),
        };
        let limits = route.settings.limits;
        let has_body = self.record.request.method != "HEAD"
            && head.status != StatusCode::NO_CONTENT
            && !(head.status == StatusCode::RESET_CONTENT && is_empty(&head.headers));
        let asked = self.asked.take().map(|asked| *asked).unwrap_or_default();
        let asked_server = self.asked_server.take().filter(|_| self.dialect == Dialect::Mcp);
        if !head.status.is_success() || !has_body {
            return Ok(None);
        }
        let judges = asked_server.as_ref().is_none_or(|asked| asked.judges());
        let held_bytes_max = usize::try_from(limits.held_bytes_max).unwrap_or(usize::MAX);
        let is_read = !coded && framing != Framing::Opaque;
        let opens = asked_server.as_ref().is_some_and(|asked| asked.may_open()) && framing == Framing::Sse;
        let is_model = !matches!(self.dialect, Dialect::Mcp | Dialect::Json | Dialect::Bytes);
        let holds = framing == Framing::Sse && (opens || !terms.forwards());
        let (machine, holds) = match (&terms.answer, asked_server) {
            _ if is_posted => (Machine::Acknowledgement, false),
            (None, Some(_)) if opens && (!is_read || !judging::is_utf8(&head.headers)) => {
                let what = "the stream that may name an endpoint has a content coding or another charset";
                return Err(Objection::new(Reason::ContractUnsupported, what));
            }
            (Some(contract), _) => match self.body_machine(&terms, contract, head, coded, held_bytes_max) {
                Ok(machine) => (machine, !terms.forwards()),
                Err(objection) => return self.unless_observed(&terms, Err(objection), true).map(|()| None),
            },
            (None, _) if !is_read => return Ok(None),
            (None, Some(asked)) if !asked.judges() && !judging::is_utf8(&head.headers) => return Ok(None),
            (None, _) if (is_model || self.dialect == Dialect::Mcp) && !judging::is_utf8(&head.headers) => {
                let what = "the answer's content type names another charset than UTF-8, or is not plain";
                let objection = Objection::new(Reason::ContractUnsupported, what);
                return self.unless_observed(&terms, Err(objection), true).map(|()| None);
            }
            (None, Some(asked)) => {
                let answers = Box::new(mcp::Answers::new(*asked));
                (Machine::Server { answers, blocks: Blocks::default() }, holds)
            }
            (None, None) if !is_model => return Ok(None),
            (None, None) => {
                // A value is corrected once: by a repair, or by asking again.
                let signed = judging::is_signed(&head.headers) || self.asks_again();
                let judge = judging::Judge::new(asked, terms.clone(), self.shared.schemas.clone(), signed)
                    .with_rules(self.call_rules());
                let stream = judge.for_answer(self.dialect, framing == Framing::Sse, held_bytes_max);
                let stream = Box::new(stream);
                (Machine::Model { stream, blocks: Blocks::default() }, holds)
            }
        };
        let form = if framing == Framing::Sse { Form::Sse } else { Form::Json };
        // Where lists are only filtered, or findings recorded, no event is refused for its length that would have passed.
        let refuses = judges && !(opens && terms.release == Release::Observe);
        let block_bytes_max = if refuses { limits.event_bytes_max } else { limits.held_bytes_max };
        let apart = holds || terms.release == Release::StreamAndCut;
        Ok(Some(Box::new(HeldBack {
            machine,
            release: terms.release,
            holds,
            apart,
            block_bytes_max: usize::try_from(block_bytes_max).unwrap_or(usize::MAX),
            hash: Sha256::new(),
            bytes: 0,
            feed: if apart { self.feed(Side::Client, form) } else { None },
            ended: false,
            opened: self.dialect != Dialect::AnthropicMessages,
            ready: Vec::new(),
            replaced: None,
            observed: None,
            refused: false,
            over: false,
            room: Room::default(),
        })))
    }

    fn body_machine(
        &self,
        terms: &RouteTerms,
        contract: &Arc<Compiled>,
        head: &http::response::Parts,
        coded: bool,
        held_bytes_max: usize,
    ) -> Result<Machine, Objection> {
        let unsupported = |what: &str| Objection::new(Reason::ContractUnsupported, what);
        if !matches!(self.dialect, Dialect::Mcp | Dialect::Json | Dialect::Bytes) {
            return Err(unsupported("a contract for bodies does not fit a model's answer"));
        }
        if coded {
            return Err(unsupported("the answer has a content coding"));
        }
        if head.status == StatusCode::PARTIAL_CONTENT {
            return Err(unsupported("the answer is a part of one"));
        }
        let format = judging::format(&head.headers)
            .ok_or_else(|| unsupported("the answer's content type is none that can be judged"))?;
        let repair = terms.repair.filter(|_| !judging::is_signed(&head.headers));
        let key = self.shared.schemas.key;
        let how = contract::Terms { holds: !terms.forwards(), held_bytes_max, repair, key };
        let body = contract::Body::new(&contract.enforceable, format, how)
            .ok_or_else(|| unsupported("the answer's content type is not what its contract is for"))?;
        Ok(Machine::Body { contract: contract.clone(), body: Box::new(body), format })
    }

    /// Whether the answer is given only once all of it has passed, so that a refusal can take its place. `length` is the
    /// one that was announced.
    pub(crate) fn is_held_whole(&self, length: Option<u64>) -> bool {
        if self.detects_whole() {
            return true;
        }
        let Some(judged) = self.judged() else { return false };
        if matches!(judged.machine, Machine::Acknowledgement) {
            return true;
        }
        let fits = |max: u64| length.is_some_and(|length| length <= max);
        let max = self.route.as_ref().map_or(0, |route| route.settings.limits.held_bytes_max);
        // Where the end of the connection ends an answer, its client cannot tell that it was cut.
        let blunt = self.record.request.version == "1.0" && judged.release != Release::Observe;
        let all = judged.release == Release::HoldAll || blunt;
        match &judged.machine {
            Machine::Server { answers, .. } => all && answers.awaits_values(),
            _ if all => true,
            Machine::Model { .. } | Machine::Acknowledgement => false,
            Machine::Body { format, .. } => {
                judged.holds && (*format == Format::Json || *format != Format::Events && fits(max))
            }
        }
    }

    /// Whether the answer is held against a contract for bodies, of whatever type it is.
    pub(crate) fn judges_body(&self) -> bool {
        self.judged().is_some_and(|judged| matches!(judged.machine, Machine::Body { .. }))
    }

    fn judged(&self) -> Option<&HeldBack> {
        self.response.as_ref()?.judged.as_deref()
    }
}

impl Response {
    pub(super) fn holds_back(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.holds)
    }

    /// Takes bytes of an answer that is held back. Gives those that may leave now.
    pub(super) fn hold_back(
        &mut self,
        data: &Bytes,
        ends: &[EventMark],
        hashes: bool,
        now_us: u64,
    ) -> Result<Bytes, Objection> {
        self.capture_apart(data, hashes);
        if let Some(stream) = &mut self.stream {
            stream.first_us.get_or_insert(now_us);
            stream.last_us = now_us;
        }
        let Some(judged) = &mut self.judged else { return Ok(data.clone()) };
        if let Machine::Body { body, .. } = &mut judged.machine {
            let mut left = Vec::new();
            let fed = body.feed(data, &mut left);
            judged.refused = fed.is_err();
            self.leave(left, hashes);
            fed.map_err(|refused| Objection::of_body(&refused))?;
            return Ok(self.take_ready());
        }
        if matches!(judged.machine, Machine::Model { .. }) && !self.scan.so_far().read {
            return Err(Reason::ValueAmbiguous.into()); // what could not be read may hold values
        }
        let mut left = Left::default();
        let found = judged.judge_events(&self.scan, data, ends, &mut left);
        let Left { line_feed, mut blocks, terminator } = left;
        let after = terminator.filter(|_| !judged.ended).map(|end| blocks.split_off(end));
        line_feed.into_iter().for_each(|line_feed| self.leave_to(line_feed, None, hashes));
        self.leave(blocks, hashes);
        if let Some(after) = after {
            self.judged.iter_mut().for_each(|judged| judged.ended = true);
            self.leave(after, hashes);
        }
        found?;
        Ok(self.take_ready())
    }

    /// Captures what the upstream sent, where the client may get something else.
    fn capture_apart(&mut self, data: &Bytes, hashes: bool) {
        let Some(judged) = self.judged.as_mut().filter(|judged| judged.apart) else { return };
        if let Some(feed) = &self.feed {
            feed.push(data.clone());
        }
        judged.bytes += data.len() as u64;
        if hashes {
            judged.hash.update(data);
        }
    }

    /// Judges bytes that leave as they came.
    pub(super) fn watch(&mut self, data: &Bytes, ends: &[EventMark], hashes: bool) -> Result<(), Objection> {
        self.capture_apart(data, hashes);
        let Some(judged) = self.judged.as_mut().filter(|judged| judged.observed.is_none()) else {
            return Ok(());
        };
        let found = match &mut judged.machine {
            Machine::Acknowledgement => return Ok(()),
            Machine::Body { body, .. } => {
                body.feed(data, &mut Vec::new()).map_err(|refused| Objection::of_body(&refused))
            }
            Machine::Model { .. } | Machine::Server { .. } if self.framing != Framing::Sse => return Ok(()),
            Machine::Model { .. } if !self.scan.so_far().read => Err(Reason::ValueAmbiguous.into()),
            Machine::Model { .. } | Machine::Server { .. } => {
                judged.judge_events(&self.scan, data, ends, &mut Left::default())
            }
        };
        found.or_else(|objection| judged.observed_or(objection))
    }

    /// The answer is over.
    pub(super) fn end_held_back(&mut self, hashes: bool) -> Result<Bytes, Objection> {
        let is_stream = self.framing == Framing::Sse;
        let Some(judged) = &mut self.judged else { return Ok(Bytes::new()) };
        let mut left = Vec::new();
        let ended = match &mut judged.machine {
            Machine::Acknowledgement => return Ok(Bytes::new()),
            Machine::Model { .. } | Machine::Server { .. } if !is_stream => return Ok(Bytes::new()),
            Machine::Model { stream, blocks } => events::finish(&mut **stream, blocks, &mut left),
            Machine::Server { answers, blocks } => events::finish(&mut **answers, blocks, &mut left),
            Machine::Body { body, .. } => {
                body.finish(&mut left).map_err(|refused| Objection::of_body(&refused))
            }
        };
        judged.refused |= ended.is_err();
        judged.over = true;
        ended.or_else(|objection| judged.observed_or(objection))?;
        if !judged.holds {
            return Ok(Bytes::new());
        }
        judged.ended = true; // after what waits for the receipt
        self.leave(left, hashes);
        Ok(self.take_ready())
    }

    /// What may leave of an answer that is refused.
    pub(super) fn take_ready(&mut self) -> Bytes {
        self.judged.as_mut().map(|judged| judged.take_ready()).unwrap_or_default()
    }

    /// Says something of ours to the client.
    pub(super) fn say(&mut self, event: Bytes, hashes: bool) {
        self.judged.iter_mut().for_each(|judged| judged.ended = false);
        self.tail.clear();
        self.tail_marks.clear();
        self.leave(vec![event], hashes);
    }

    /// Whether the client waits for events that are held back.
    pub(super) fn makes_wait(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.makes_wait())
    }

    /// Whether it is what a post is answered whose client does not look at that.
    pub(super) fn is_acknowledgement(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| matches!(judged.machine, Machine::Acknowledgement))
    }

    /// The next refusal of a post, if this is its stream and an event of ours may come now.
    pub(super) fn poll_aside(&mut self, cx: &mut Context<'_>, hashes: bool) -> Poll<Bytes> {
        let Some(judged) = self.judged.as_mut().filter(|judged| judged.holds && !judged.ended) else {
            return Poll::Pending;
        };
        let Machine::Server { answers, blocks } = &mut judged.machine else { return Poll::Pending };
        let Some(stream) = answers.stream_mut().filter(|_| !blocks.is_after_cr()) else {
            return Poll::Pending; // the rest of a line end comes first
        };
        let event = ready!(stream.poll_refusal(cx));
        self.leave(vec![event], hashes);
        Poll::Ready(self.take_ready())
    }

    /// The client has left: posts are not answered here any more.
    pub(super) fn close(&mut self) {
        if let Some(answers) = self.judged.as_mut().and_then(|judged| judged.answers_mut()) {
            answers.close();
        }
    }

    /// Id of the request whose answer was refused in a stream of many.
    pub(super) fn refused_id(&mut self) -> Option<String> {
        self.judged.as_mut()?.answers_mut()?.refused()
    }

    /// Says `said` between two events; it is a unit if it ends in a blank line.
    pub(super) fn keep_alive(&mut self, said: &'static [u8], hashes: bool) -> Bytes {
        let unit_end = said.ends_with(b"\n\n").then_some(said.len());
        self.leave_to(Bytes::from_static(said), unit_end, hashes);
        self.take_ready()
    }

    /// Whether the client has got what events of ours may follow.
    pub(super) fn has_opened(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.opened)
    }

    /// Blocks of a judged answer leave: now, or with the tail once the terminator has come.
    fn leave(&mut self, blocks: Vec<Bytes>, hashes: bool) {
        for block in blocks {
            let unit_end = unit_end(&block);
            self.leave_to(block, unit_end, hashes);
        }
    }

    /// Bytes leave that end a unit at `unit_end`, if they do.
    fn leave_to(&mut self, block: Bytes, unit_end: Option<usize>, hashes: bool) {
        if self.judged.as_ref().is_some_and(|judged| judged.ended) {
            let piece = self.tail.len();
            self.tail_marks.extend(unit_end.map(|end| Mark { piece, end }));
            self.tail.push(block);
            return;
        }
        self.pass(&block, hashes);
        if let Some(stream) = &mut self.stream {
            let (unit, rest) = block.split_at(unit_end.unwrap_or(0));
            if unit_end.is_some() {
                stream.tree.update(unit);
                stream.tree.end_unit();
            }
            stream.tree.update(rest);
        }
        if let Some(judged) = &mut self.judged {
            judged.opened = judged.opened || is_named(&block, OPENING);
            judged.ready.push(block);
        }
    }
}

/// The name of the event that Anthropic's streams open with.
const OPENING: &[u8] = b"message_start";

impl HeldBack {
    /// Not where a line end may be half given, nor from the terminator on.
    fn makes_wait(&self) -> bool {
        let Machine::Model { stream, blocks } = &self.machine else { return false };
        let holds = stream.holds() || blocks.pending() > 0;
        self.holds && !self.ended && !blocks.is_after_cr() && holds
    }

    /// What judges a model's answer.
    pub(super) fn model(&self) -> Option<&judging::Stream> {
        match &self.machine {
            Machine::Model { stream, .. } => Some(stream),
            Machine::Server { .. } | Machine::Acknowledgement | Machine::Body { .. } => None,
        }
    }

    /// Whether the answer may be a stream in which posts are answered.
    pub(super) fn may_open(&self) -> bool {
        matches!(&self.machine, Machine::Server { answers, .. } if self.holds && answers.may_open())
    }

    pub(super) fn model_mut(&mut self) -> Option<&mut judging::Stream> {
        match &mut self.machine {
            Machine::Model { stream, .. } => Some(stream),
            Machine::Server { .. } | Machine::Acknowledgement | Machine::Body { .. } => None,
        }
    }

    /// What judges an MCP server's answer.
    pub(super) fn answers_mut(&mut self) -> Option<&mut mcp::Answers> {
        match &mut self.machine {
            Machine::Server { answers, .. } => Some(answers),
            Machine::Model { .. } | Machine::Acknowledgement | Machine::Body { .. } => None,
        }
    }

    /// The events that end in `data`.
    fn judge_events(
        &mut self,
        scan: &ResponseScan,
        data: &Bytes,
        ends: &[EventMark],
        left: &mut Left,
    ) -> Result<(), Objection> {
        let max = self.block_bytes_max;
        let judged = match &mut self.machine {
            Machine::Model { stream, blocks } => {
                events::judge(&mut **stream, blocks, max, scan, data, ends, left)
            }
            Machine::Server { answers, blocks } => {
                events::judge(&mut **answers, blocks, max, scan, data, ends, left)
            }
            Machine::Acknowledgement | Machine::Body { .. } => Ok(()),
        };
        self.refused |= judged.is_err();
        judged
    }

    /// Whether what was found stands in the way, or is only recorded.
    pub(super) fn observed_or(&mut self, objection: Objection) -> Result<(), Objection> {
        self.refused = true;
        if self.release != Release::Observe {
            return Err(objection);
        }
        self.observed.get_or_insert(objection.reason);
        Ok(())
    }

    /// Takes room for what is held back from what all calls have together.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn make_room(&mut self, memory: &Arc<Semaphore>) -> Result<(), Objection> {
        let held = match &self.machine {
            Machine::Model { stream, blocks } => stream.held_bytes() + blocks.pending(),
            Machine::Body { body, .. } => body.held_bytes(),
            Machine::Server { blocks, .. } => blocks.pending(),
            Machine::Acknowledgement => 0,
        };
        Ok(self.room.hold(memory, held as u64)?) // a length fits
    }

    /// Whether a body that is held against a contract has kept it so far; none for other answers.
    pub(super) fn body_passed(&self) -> Option<bool> {
        match &self.machine {
            Machine::Body { .. } => Some(!self.refused),
            _ => None,
        }
    }

    pub(super) fn has_judged(&self) -> bool {
        self.refused
            || match &self.machine {
                Machine::Model { stream, .. } => {
                    stream.judge().has_contracts() && !stream.verdicts().is_empty()
                }
                Machine::Server { answers, .. } => answers.has_judged(),
                Machine::Acknowledgement => false,
                Machine::Body { body, .. } => self.over || body.units() > 0,
            }
    }

    /// Writes into the record what was enforced. Gives the contract that has to be kept.
    pub(super) fn record(&self, record: &mut CallRecord) -> Option<Contract> {
        record.downgrades.extend(self.observed.map(|code| observed(code, true)));
        match &self.machine {
            Machine::Model { stream, .. } => {
                let (said, stored) = judging::answer_record(stream)?;
                let judged = record.judged.get_or_insert_default();
                (judged.response, judged.repair) = (said.response, said.repair);
                stored
            }
            Machine::Acknowledgement => None,
            Machine::Server { answers, .. } => {
                record.downgrades.extend(answers.observed().map(|code| observed(code, true)));
                record.downgrades.extend(answers.downgrades());
                if let Some(repair) = answers.repair() {
                    record.judged.get_or_insert_default().repair = Some(repair);
                }
                let (named, stored) = answers.record()?;
                record.judged.get_or_insert_default().response = Some(named);
                Some(stored)
            }
            Machine::Body { contract, body, .. } => {
                let judged = record.judged.get_or_insert_default();
                judged.response = Some(judging::reference(contract));
                judged.repair = judging::body_repair(body);
                Some(contract.stored.clone())
            }
        }
    }

    fn take_ready(&mut self) -> Bytes {
        match self.ready.as_slice() {
            [] => Bytes::new(),
            [_] => self.ready.pop().unwrap_or_default(),
            several => {
                let joined = several.concat().into();
                self.ready.clear();
                joined
            }
        }
    }
}

fn is_empty(headers: &http::HeaderMap) -> bool {
    headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// What the receipt says of a finding in an answer, or in a request, that does not stand in the way.
pub(crate) fn observed(code: Reason, in_answer: bool) -> Downgrade {
    let detail = if in_answer { OBSERVED_ANSWER } else { OBSERVED_REQUEST };
    Downgrade { code, detail: Some(detail.into()) }
}

/// On which side such a finding was, `request` or `answer`; none of other downgrades.
pub(crate) fn observed_in(downgrade: &Downgrade) -> Option<&'static str> {
    match downgrade.detail.as_deref()? {
        OBSERVED_REQUEST => Some("request"),
        OBSERVED_ANSWER => Some("answer"),
        _ => None,
    }
}

const OBSERVED_ANSWER: &str = "observed in the answer";
const OBSERVED_REQUEST: &str = "observed in the request";

/// Where the unit that a block ends, ends in it (SPEC section 7): an LF after a CR belongs to the next one.
fn unit_end(block: &[u8]) -> Option<usize> {
    match block {
        [.., b'\r', b'\n'] => Some(block.len() - 1),
        [.., b'\r' | b'\n'] => Some(block.len()),
        _ => None,
    }
}
