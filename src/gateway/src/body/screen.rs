//! The upstream's answer on its way to the client: read, looked at, joined into few writes, and held at its end until
//! its receipt is durable.
//!
//! [`Screened`] is the machine; [`ScreenedBody`] polls it as an HTTP body; `layer/forward.rs` polls it to the end for
//! answers that are sent whole. Bytes leave as the slices that came in, except that small ones which are ready together
//! are joined, so that a burst of events costs one write.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use estoppel_evidence::{Leaf, Reason};
use estoppel_journal::Ack;
use estoppel_policy::Limits;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::Cut;
use super::drain::Remains;
use crate::exchange::{Exchange, micros};
use crate::headers;
use crate::idempotency::Taken;
use crate::judging::Objection;
use crate::upstream::Relay;

/// Chunks below this size are joined with what follows if that is ready too.
const JOIN_BELOW: usize = 4 << 10;
/// Most bytes joined into one frame.
const JOINED_MAX: usize = 32 << 10;
/// After the dialect's own terminator the upstream has this long to end its answer; then we end it.
const TERMINATED_GRACE: Duration = Duration::from_secs(2);

/// How long bytes that were given out before a cut have to leave.
const FLUSH: Duration = Duration::from_millis(50);

/// What the machine gives.
pub(crate) enum Step {
    /// Bytes that may leave now.
    Data(Bytes),
    /// The record was handed over; when it is durable, `tail` and then the end may leave.
    End { tail: Vec<Bytes>, trailers: Option<HeaderMap>, ack: Option<Ack> },
    /// Everything has been read and nothing was recorded yet: the answer can be judged now. Only in whole mode.
    Judge,
    /// The answer cannot be completed. In whole mode nothing was recorded yet.
    Cut(Reason),
}

/// Whether the client gets the answer as it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it comes; its end waits for the receipt.
    Streamed,
    /// Once it is whole and judged.
    Whole,
}

/// The upstream's answer as it is read.
pub(crate) struct Screened {
    exchange: Box<Exchange>,
    relay: Relay,
    limits: Limits,
    mode: Mode,
    joined: BytesMut,
    /// The answer has ended with these trailers and waits for its judgement.
    ended: Option<Option<HeaderMap>>,
    /// What has to be given out once `joined` has left.
    next: Option<Step>,
    /// When the last frame came, or the head. As all times here in microseconds since the request head was read.
    last_us: u64,
    any: bool,
    /// When the client last got something.
    given_us: u64,
    /// Bytes that had been read when the client was first known to have left.
    read_when_left: Option<u64>,
    /// With the time that it is set to; made when something has to be waited for.
    timer: Option<(Pin<Box<Sleep>>, u64)>,
}

impl Screened {
    pub(crate) fn new(exchange: Box<Exchange>, relay: Relay, limits: Limits, mode: Mode) -> Box<Self> {
        let now_us = exchange.elapsed_us();
        Box::new(Self {
            last_us: now_us,
            given_us: now_us,
            exchange,
            relay,
            limits,
            mode,
            joined: BytesMut::new(),
            ended: None,
            next: None,
            any: false,
            read_when_left: None,
            timer: None,
        })
    }

    pub(crate) fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    pub(crate) fn into_exchange(self: Box<Self>) -> Box<Exchange> {
        self.exchange
    }

    /// What was read is too much to be held: it leaves as it comes from here on, `read` first.
    pub(crate) fn stream_from_here(&mut self, read: &[Bytes]) {
        self.mode = Mode::Streamed;
        let rest = std::mem::take(&mut self.joined);
        for piece in read.iter().map(|piece| &piece[..]).chain([&rest[..]]) {
            self.joined.extend_from_slice(piece);
        }
    }

    /// Length of the answer, if it was announced.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        self.relay.exact_length().filter(|_| !self.exchange.may_change())
    }

    /// The next step. After `End` or `Cut` it must not be polled again.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(next);
        }
        if let Some(trailers) = self.ended.take() {
            return Poll::Ready(self.record(trailers));
        }
        loop {
            if self.joined.len() >= JOINED_MAX {
                return Poll::Ready(self.leave());
            }
            let room = self.exchange.poll_room(cx);
            let frame = if room.is_ready() { self.relay.poll_frame(cx) } else { Poll::Pending };
            match frame {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(step) = self.frame(frame) {
                        return Poll::Ready(self.after_joined(step));
                    }
                }
                Poll::Ready(None) => {
                    let step = self.end(None);
                    return Poll::Ready(self.after_joined(step));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "upstream body failed");
                    let step = self.cut(Reason::Truncated);
                    return Poll::Ready(self.after_joined(step));
                }
                Poll::Pending if !self.joined.is_empty() => return Poll::Ready(self.leave()),
                Poll::Pending => {
                    if let Poll::Ready(said) = self.exchange.poll_aside(cx) {
                        self.given_us = self.exchange.elapsed_us();
                        return Poll::Ready(Step::Data(said));
                    }
                    let step = ready!(self.poll_timers(cx));
                    return Poll::Ready(self.after_joined(step));
                }
            }
        }
    }

    fn leave(&mut self) -> Step {
        Step::Data(self.joined.split().freeze())
    }

    /// What was joined goes first.
    fn after_joined(&mut self, step: Step) -> Step {
        if self.joined.is_empty() {
            return step;
        }
        self.next = Some(step);
        self.leave()
    }

    /// Looks at one frame. Gives a step if something must be given out now.
    fn frame(&mut self, frame: Frame<Bytes>) -> Option<Step> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let mut trailers = frame.into_trailers().ok();
                trailers.iter_mut().for_each(headers::for_client);
                return Some(self.end(trailers));
            }
        };
        self.last_us = self.exchange.elapsed_us();
        if !std::mem::replace(&mut self.any, true) {
            self.exchange.record.time.first_byte_us = Some(self.last_us);
        }
        if self.exchange.response_bytes() + data.len() as u64 > self.limits.response_bytes_max {
            return Some(self.cut(Reason::ResponseBytesMax));
        }
        if let Some(max) = self.exchange.drain_bytes() {
            let read = self.exchange.response_bytes();
            let before = *self.read_when_left.get_or_insert(read);
            if read - before + data.len() as u64 > max {
                return Some(self.cut(Reason::DrainMax));
            }
        }
        // An answer of announced length is complete for the client with its last byte, so that must wait.
        let last = self.relay.is_end();
        let data = match self.looked_at(data, last) {
            Ok(data) => data,
            Err(objection) => return Some(self.refuse(objection)),
        };
        let data = match self.exchange.response_data(data, self.last_us) {
            Ok(data) => data,
            Err(objection) => return Some(self.refuse(objection)),
        };
        if last && self.mode == Mode::Streamed {
            return Some(self.end_with(data));
        }
        if last && self.exchange.may_change() {
            self.joined.extend_from_slice(&data);
            return Some(self.end(None));
        }
        if last {
            let end = self.end(None);
            if self.joined.is_empty() && !data.is_empty() {
                self.next = Some(end);
                return Some(Step::Data(data));
            }
            self.joined.extend_from_slice(&data);
            return Some(end);
        }
        if data.is_empty() {
            return None;
        }
        self.given_us = self.last_us;
        if self.joined.is_empty() && data.len() >= JOIN_BELOW {
            return Some(Step::Data(data));
        }
        self.joined.extend_from_slice(&data);
        None
    }

    /// What of `data` detectors let go on; with the last of it all that they held.
    fn looked_at(&mut self, data: Bytes, last: bool) -> Result<Bytes, Objection> {
        let data = self.exchange.detect_data(data)?;
        if !last {
            return Ok(data);
        }
        let rest = self.exchange.detect_end()?;
        Ok(match (data.is_empty(), rest.is_empty()) {
            (_, true) => data,
            (true, _) => rest,
            (false, false) => [data, rest].concat().into(),
        })
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Step {
        let rest = self.exchange.detect_end().and_then(|rest| match rest.is_empty() {
            true => Ok(rest),
            false => self.exchange.response_data(rest, self.last_us),
        });
        let rest = rest.and_then(|rest| self.exchange.end_events().map(|()| rest));
        match rest {
            Ok(rest) => self.joined.extend_from_slice(&rest),
            Err(objection) => return self.refuse(objection),
        }
        if let Some(reason) = self.missing() {
            return self.cut(reason);
        }
        match self.exchange.end_held_back() {
            Ok(rest) => self.joined.extend_from_slice(&rest),
            Err(objection) => return self.refuse(objection),
        }
        self.relay.release();
        if self.mode == Mode::Whole {
            self.ended = Some(trailers);
            return Step::Judge;
        }
        self.record(trailers)
    }

    fn record(&mut self, trailers: Option<HeaderMap>) -> Step {
        let (tail, ack) = self.exchange.complete();
        Step::End { tail, trailers, ack }
    }

    /// The end has come with `data`, which is not to leave before the receipt is durable.
    fn end_with(&mut self, data: Bytes) -> Step {
        let before = self.joined.len();
        match self.end(None) {
            Step::End { mut tail, trailers, ack } => {
                if !data.is_empty() {
                    tail.insert(0, data);
                }
                Step::End { tail, trailers, ack }
            }
            // It is in the record as given, so it is given, before whatever is said last.
            other => {
                let last = self.joined.split_off(before);
                self.joined.extend_from_slice(&data);
                self.joined.extend_from_slice(&last);
                other
            }
        }
    }

    /// Why an answer that has ended is not complete.
    fn missing(&mut self) -> Option<Reason> {
        (self.exchange.stream_is_cut()).then_some(Reason::Truncated)
    }

    /// The answer is refused for what it says.
    fn refuse(&mut self, objection: Objection) -> Step {
        let reason = objection.reason;
        self.exchange.block(objection);
        self.cut(reason)
    }

    /// The answer ends here. Its client is told why where that can be said between two events.
    fn cut(&mut self, reason: Reason) -> Step {
        if self.mode == Mode::Streamed {
            let words = self.exchange.last_words(reason);
            self.joined.extend_from_slice(&words);
            drop(self.exchange.cut(reason));
        }
        Step::Cut(reason)
    }

    /// When the upstream's silence ends the call, and with what.
    fn deadline_us(&self) -> (u64, Reason) {
        let total = (micros(self.limits.total), Reason::TimeoutTotal);
        let (silence, reason) = if self.exchange.holds_tail() {
            (TERMINATED_GRACE, Reason::Ok)
        } else if self.any {
            (self.limits.between_events, Reason::TimeoutBetween)
        } else {
            (self.limits.first_event, Reason::TimeoutFirstEvent)
        };
        let silence = (self.last_us.saturating_add(micros(silence)), reason);
        if silence.0 <= total.0 { silence } else { total }
    }

    /// When the client has to be told that the stream lives.
    fn keepalive_us(&self) -> Option<u64> {
        let waits = self.mode == Mode::Streamed && self.exchange.makes_wait();
        waits.then(|| self.given_us.saturating_add(micros(self.limits.keepalive)))
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let (deadline_us, reason) = self.deadline_us();
            let keepalive_us = self.keepalive_us();
            let wake_us = keepalive_us.map_or(deadline_us, |at| at.min(deadline_us));
            // One timer, set anew only when it fires early or must fire sooner: most events cost nothing here.
            if let Some((timer, set_us)) = &mut self.timer
                && *set_us <= wake_us
            {
                ready!(timer.as_mut().poll(cx));
            }
            let now_us = self.exchange.elapsed_us();
            if now_us >= deadline_us {
                return Poll::Ready(match reason {
                    Reason::Ok => self.end(None),
                    reason => self.cut(reason),
                });
            }
            if keepalive_us.is_some_and(|at| now_us >= at) {
                self.given_us = now_us;
                match self.exchange.keep_alive() {
                    Some(said) => return Poll::Ready(Step::Data(said)),
                    None => continue,
                }
            }
            let left = Duration::from_micros(wake_us - now_us);
            match &mut self.timer {
                Some((timer, set_us)) => {
                    timer.as_mut().reset(Instant::now() + left);
                    *set_us = wake_us;
                }
                None => self.timer = Some((Box::pin(tokio::time::sleep(left)), wake_us)),
            }
        }
    }
}

/// [`Screened`] as the body of an HTTP answer.
pub(crate) struct ScreenedBody {
    stage: Stage,
    hint: SizeHint,
    /// Whether the client takes trailers, so that it can be told the receipt's id.
    receipt_trailer: bool,
    evidence: Duration,
}

enum Stage {
    Flow(Box<Screened>),
    /// The record is on its way to the disk.
    Wait {
        ack: Ack,
        late: Pin<Box<Sleep>>,
        tail: std::vec::IntoIter<Bytes>,
        trailers: Option<HeaderMap>,
        taken: Option<Box<Taken>>,
    },
    Tail {
        tail: std::vec::IntoIter<Bytes>,
        trailers: Option<HeaderMap>,
    },
    /// What came before the cut leaves first: an error makes hyper drop what it has not written yet. It writes when
    /// it is told to wait, so it is told once in any case; a timer alone may be over before it is first asked.
    Cutting {
        reason: Reason,
        flushed: Option<Pin<Box<Sleep>>>,
    },
    Done,
}

impl ScreenedBody {
    pub(crate) fn new(screened: Box<Screened>, receipt_trailer: bool, evidence: Duration) -> Box<Self> {
        let hint = screened.exact_length().map_or_else(SizeHint::default, SizeHint::with_exact);
        Box::new(Self { stage: Stage::Flow(screened), hint, receipt_trailer, evidence })
    }

    /// What was being read, if its record has not been handed over.
    pub(crate) fn take_unrecorded(&mut self) -> Option<Box<Screened>> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Flow(screened) => Some(screened),
            _ => None,
        }
    }

    fn trailers(&self, upstream: Option<HeaderMap>, leaf: Option<Leaf>) -> Option<HeaderMap> {
        let Some(leaf) = leaf.filter(|_| self.receipt_trailer) else { return upstream };
        let mut trailers = upstream.unwrap_or_default();
        if let Ok(value) = HeaderValue::from_str(&leaf.to_string()) {
            trailers.insert(crate::respond::RECEIPT, value);
        }
        Some(trailers)
    }
}

impl Body for ScreenedBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            match &mut self.stage {
                Stage::Flow(screened) => match ready!(screened.poll_step(cx)) {
                    Step::Data(data) => {
                        screened.exchange().leaves(&data);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Step::Cut(reason) => {
                        self.stage = Stage::Cutting { reason, flushed: None };
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Step::Judge => {} // not in streamed mode
                    Step::End { tail, trailers, ack } => {
                        let tail = tail.into_iter();
                        let taken = screened.exchange().taken.take();
                        let late = Box::pin(tokio::time::sleep(self.evidence));
                        self.stage = match ack {
                            Some(ack) => Stage::Wait { ack, late, tail, trailers, taken },
                            None => Stage::Tail { tail, trailers },
                        };
                    }
                },
                Stage::Wait { ack, late, tail, trailers, taken } => {
                    let durable = match Pin::new(ack).poll(cx) {
                        Poll::Ready(Ok(recorded)) => Ok(recorded.leaf()),
                        Poll::Ready(Err(error)) => Err(error.reason()),
                        Poll::Pending => {
                            ready!(late.as_mut().poll(cx));
                            Err(Reason::EvidenceLate)
                        }
                    };
                    match durable {
                        Err(reason) => {
                            self.stage = Stage::Done;
                            return Poll::Ready(Some(Err(Cut(reason))));
                        }
                        Ok(leaf) => {
                            let tail = std::mem::take(tail);
                            if let Some(taken) = taken.take() {
                                taken.store(tail.as_slice());
                            }
                            let trailers = trailers.take();
                            let trailers = self.trailers(trailers, leaf);
                            self.stage = Stage::Tail { tail, trailers };
                        }
                    }
                }
                Stage::Cutting { reason, flushed } => {
                    let flushed = flushed.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
                    ready!(flushed.as_mut().poll(cx));
                    let reason = *reason;
                    self.stage = Stage::Done;
                    return Poll::Ready(Some(Err(Cut(reason))));
                }
                Stage::Tail { tail, trailers } => {
                    if let Some(data) = tail.next() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    let trailers = trailers.take();
                    self.stage = Stage::Done;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Stage::Done => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Done => true,
            Stage::Tail { tail, trailers } => tail.as_slice().is_empty() && trailers.is_none(),
            Stage::Flow(_) | Stage::Wait { .. } | Stage::Cutting { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Drop for ScreenedBody {
    fn drop(&mut self) {
        if let Stage::Flow(mut screened) = std::mem::replace(&mut self.stage, Stage::Done)
            && let Some(time) = screened.exchange.leave()
        {
            let shared = screened.exchange.shared.clone();
            shared.drains.take(Remains::Body(screened), time);
        }
    }
}
