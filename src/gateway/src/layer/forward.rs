use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::entry::{Durability, Intent};
use estoppel_evidence::{Leaf, Reason};
use estoppel_journal::Ack;
use estoppel_policy::Surface;
use estoppel_wire::dialect::{Dialect, Framing};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRAILER, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode, Version};
use tower_service::Service;

use super::Waiting;
use super::firewall::{permit, refusal_of};
use crate::body::{AnswerBody, Followed, Mode, Room, Screened, ScreenedBody, Step, UpstreamBody};
use crate::call::Permitted;
use crate::chain::Chain;
use crate::exchange::{Aside, Exchange, Second, framing, micros};
use crate::headers;
use crate::idempotency::Given;
use crate::judging::Objection;
use crate::mcp::federation::{Asking, Federation, Told};
use crate::respond::{CALL, RECEIPT, Refusal, stamp};
use crate::snapshot::RouteEntry;
use crate::stack::Answer;
use crate::upstream::{Answered, ConnectError, SendError};

/// Sends the call upstream and gives its answer back.
///
/// Takes `Permitted`. Innermost. An answer that is JSON of an announced, small length is read whole, so that its
/// receipt's id can be a header; every other answer streams, and its end waits for the receipt.
#[derive(Clone, Copy)]
pub(crate) struct Forward;

impl Service<Permitted> for Forward {
    type Response = Answer;
    type Error = Infallible;
    type Future = Waiting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, permitted: Permitted) -> Waiting {
        let mut permitted = permitted;
        let shared = permitted.exchange.shared.clone();
        match permitted.exchange.follow() {
            None => Box::pin(async move { Ok(forward(permitted).await) }),
            Some((left, time)) => {
                let answer = Followed::new(Box::pin(forward(permitted)), left, shared, time);
                Box::pin(async move { Ok(answer.await) })
            }
        }
    }
}

async fn forward(permitted: Permitted) -> Answer {
    let Permitted { mut exchange, head, body, route } = permitted;
    let limits = route.settings.limits;
    let trailers = headers::takes_trailers(&head.headers);
    let is_head = head.method == Method::HEAD;
    // Boxed, so that other calls have no room for it.
    if exchange.looks()
        && let Err(refusal) = Box::pin(exchange.look_before()).await
    {
        if let Some(taken) = &mut exchange.taken {
            taken.sent_nothing();
        }
        return refused(exchange, refusal).await;
    }
    let asked = match &route.federation {
        None => ask(&mut exchange, &route, head, body).await,
        // Boxed, so that other calls have no room for it.
        Some(federation) => match Box::pin(ask_several(&mut exchange, federation, &head, &body)).await {
            Ok(Told::Answer { answered, .. }) => Ok(*answered),
            Ok(Told::Own { status, body }) => return told(exchange, status, body).await,
            Err(refusal) => Err(refusal),
        },
    };
    if let (Some(taken), false) = (&mut exchange.taken, exchange.sent) {
        taken.sent_nothing();
    }
    let answered = match asked {
        Ok(answered) => answered,
        Err(refusal) => return refused(exchange, refusal).await,
    };
    exchange.record.time.connect_us = answered.connected.map(micros);
    let mut head = answered.head;
    if headers::is_ambiguous_answer(head.status, &head.headers)
        || headers::head_bytes(&head.headers) > limits.header_bytes_max
    {
        return refused(exchange, Refusal::new(Reason::UpstreamProtocol)).await;
    }
    let (framing, coded) = framing(&head.headers);
    if let Err(objection) = exchange.response_head(&head, framing, coded) {
        return objected(exchange, objection).await;
    }
    if exchange.asks_again() && !head.status.is_success() {
        return refused(exchange, Refusal::new(Reason::UpstreamError)).await;
    }
    headers::for_client(&mut head.headers);
    if let Some(taken) = &mut exchange.taken {
        taken.answered(head.status, &head.headers);
    }
    let evidence = Duration::from_millis(exchange.shared.server.evidence_ms);
    let length = answered.relay.exact_length();
    let fits = length.is_none_or(|length| length <= limits.held_bytes_max);
    let json = framing == Framing::Json && !coded;
    let judged = !matches!(exchange.dialect, Dialect::Json | Dialect::Bytes);
    let whole = json && fits && (judged || length.is_some()) || exchange.is_held_whole(length);
    let bodiless = is_head || answered.relay.is_end();
    let unread = (framing == Framing::Opaque || coded || judged && json && !fits)
        && !bodiless
        && !exchange.judges_body()
        && !exchange.drops_body();
    if unread && let Some(refusal) = unread_refusal(&mut exchange) {
        return refused(exchange, refusal).await;
    }
    let mode = if whole || bodiless { Mode::Whole } else { Mode::Streamed };
    if mode == Mode::Streamed {
        exchange.forget_origin();
    }
    let screened = Screened::new(exchange, answered.relay, limits, mode);
    match mode {
        Mode::Whole => {
            let sending = Sending { evidence, bodiless, trailers, held_bytes_max: limits.held_bytes_max };
            send_whole(screened, head, sending).await
        }
        Mode::Streamed => send_streamed(screened, head, evidence, trailers),
    }
}

/// Sends the call to the route's upstream.
async fn ask(
    exchange: &mut Exchange,
    route: &RouteEntry,
    mut head: Box<http::request::Parts>,
    body: UpstreamBody,
) -> Result<Answered, Refusal> {
    let limits = route.settings.limits;
    let credential = match &route.credential {
        None => None,
        Some(credential) => {
            let held = credential.of(&head.headers).await;
            Some((credential, held.map_err(Refusal::new)?))
        }
    };
    intend(exchange).await.map_err(Refusal::new)?;
    let target = route.target(&head).and_then(|target| match &credential {
        Some((credential, _)) => credential.target(target),
        None => Some(target),
    });
    head.uri = target.ok_or_else(|| Refusal::new(Reason::RequestInvalid))?;
    head.version = Version::HTTP_11; // hyper's clients go by the connection
    head.extensions.clear();
    let judges = route.judging.as_ref().is_some_and(|terms| terms.answer.is_some());
    let detects = route.detectors.as_ref().is_some_and(|detectors| detectors.reads_answers());
    let reads = exchange.dialect != Dialect::Bytes || judges || detects;
    if let Some(spent) = &exchange.spent {
        head.headers.remove(spent);
    }
    headers::for_upstream(&mut head.headers, &route.pool.target.authority, reads);
    if let Some(named) = exchange.named() {
        head.headers.insert(CALL, named);
    }
    if let Some((credential, held)) = &credential {
        credential.put(held, &mut head.headers);
    }
    let held_length = match &body {
        crate::body::UpstreamBody::Held(_) => http_body::Body::size_hint(&body).exact(),
        crate::body::UpstreamBody::Streamed(_) => None,
    };
    if let Some(length) =
        held_length.filter(|length| *length > 0 || head.headers.contains_key(CONTENT_LENGTH))
    {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    let request = Request::from_parts(*head, body);
    let left = exchange.follow().map(|(left, _)| left);
    exchange.sends();
    let sending = route.pool.send(request, limits.connect, limits.headers, left.as_deref());
    let bound = exchange.time_left().filter(|_| exchange.asks_again());
    let sending = while_waiting(in_time(bound, sending), || exchange.ask_shadows());
    let answered = match sending.await {
        Ok(answered) => answered,
        Err(error) => {
            exchange.sent = !error.is_before_sending();
            let reason = exchange.upload_error().unwrap_or_else(|| send_reason(&error));
            route.pool.complain(reason, &Chain(&error));
            return Err(Refusal::new(reason));
        }
    };
    exchange.record.upstream_request = headers::upstream_request(&answered.head.headers);
    if let Some((credential, held)) = credential.filter(|_| answered.head.status == StatusCode::UNAUTHORIZED)
    {
        credential.refused(&held);
    }
    Ok(answered)
}

/// Sends it to those of several servers that have to do with it, all of which has to fit into the call's time.
async fn ask_several(
    exchange: &mut Exchange,
    federation: &Federation,
    head: &http::request::Parts,
    body: &UpstreamBody,
) -> Result<Told, Refusal> {
    intend(exchange).await.map_err(Refusal::new)?;
    let UpstreamBody::Held(body) = body else {
        return Err(Refusal::because(Reason::NotFederated, Some("a content coding")));
    };
    let limits = exchange.route.as_ref().map(|route| route.settings.limits).unwrap_or_default();
    let (identity, spent) = (exchange.caller(), exchange.spent.clone());
    let (identity, spent) = (identity.as_deref(), spent.as_ref());
    let named = exchange.named();
    let asking =
        Asking { head, body: &body.bytes(), identity, spent, named: named.as_ref(), limits: &limits };
    exchange.sends();
    let sending = while_waiting(federation.send(asking), || exchange.ask_shadows());
    let told = match tokio::time::timeout(limits.total, sending).await {
        Ok(told) => told,
        Err(_) => return Err(Refusal::new(Reason::TimeoutTotal)),
    };
    match told {
        Ok(told) => {
            exchange.sent = matches!(told, Told::Answer { .. });
            exchange.answered_by(&told);
            Ok(told)
        }
        Err(refused) => {
            exchange.sent = refused.upstream.is_some();
            exchange.record.upstream = refused.upstream;
            Err(*refused.refusal)
        }
    }
}

/// How an answer is sent.
struct Sending {
    evidence: Duration,
    bodiless: bool,
    trailers: bool,
    held_bytes_max: u64,
}

/// With `durability: sync` the intent is on disk before the upstream is contacted.
async fn intend(exchange: &mut Exchange) -> Result<(), Reason> {
    if exchange.shared.durability != Durability::Sync {
        return Ok(());
    }
    let intent = Intent {
        call: exchange.record.call,
        operation: exchange.record.operation.to_string(),
        policy: exchange.record.policy.hash,
    };
    match exchange.intent(intent) {
        Some(ack) => durable(ack, Duration::from_millis(exchange.shared.server.evidence_ms)).await.map(drop),
        None => Err(Reason::Internal),
    }
}

/// Does something of ours the first time that it has to wait.
async fn while_waiting<T>(future: impl Future<Output = T>, ours: impl FnOnce()) -> T {
    let mut future = pin!(future);
    let mut ours = Some(ours);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if let Some(ours) = ours.take_if(|_| polled.is_pending()) {
            ours();
        }
        polled
    })
    .await
}

/// All of a second call has to fit into the time of the first.
async fn in_time(
    left: Option<Duration>,
    sending: impl Future<Output = Result<Answered, SendError>>,
) -> Result<Answered, SendError> {
    match left {
        Some(left) => tokio::time::timeout(left, sending).await.unwrap_or(Err(SendError::TotalTimeout)),
        None => sending.await,
    }
}

/// The model is asked again if it may be; else `refusal` is the answer. The first receipt is durable before the second
/// request leaves.
async fn asked_again(mut exchange: Box<Exchange>, refusal: Refusal) -> Answer {
    let (Some(second), Some(route)) = (exchange.again(&refusal), exchange.route.clone()) else {
        return refused(exchange, refusal).await;
    };
    let Second { exchange: mut again, head, body, room } = second;
    let evidence = Duration::from_millis(exchange.shared.server.evidence_ms);
    let blocked = permit(&mut again, head.uri.path(), &body);
    let recorded = match exchange.asked_again(again.call, refusal.reason) {
        Some(ack) => durable(ack, evidence).await,
        None => Err(Reason::Internal),
    };
    drop(exchange);
    if let Err(reason) = recorded {
        drop(again.told_instead());
        return refused(again, Refusal::new(reason)).await;
    }
    // What is asked again is counted again.
    let blocked = match blocked {
        None => crate::controls::reserve(&mut again).await,
        blocked => blocked,
    };
    if let Some(refusal) = blocked {
        return refused(again, refusal).await;
    }
    let body = UpstreamBody::held(vec![body], room);
    forward(Permitted { exchange: again, head, body, route }).await
}

/// The same; boxed, because a second call is a call like any other, inside of the first.
fn boxed_asked_again(
    exchange: Box<Exchange>,
    refusal: Refusal,
) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    Box::pin(asked_again(exchange, refusal))
}

/// Waits until a record is durable. No id where it waits in the spill file for its place in the chain.
pub(crate) async fn durable(ack: Ack, evidence: Duration) -> Result<Option<Leaf>, Reason> {
    match tokio::time::timeout(evidence, ack).await {
        Ok(Ok(recorded)) => Ok(recorded.leaf()),
        Ok(Err(error)) => Err(error.reason()),
        Err(_) => Err(Reason::EvidenceLate),
    }
}

/// The same for what a judge objects to.
pub(crate) async fn objected(mut exchange: Box<Exchange>, objection: Objection) -> Answer {
    let refusal = objection.refusal();
    exchange.block(objection);
    refused(exchange, refusal).await
}

/// Records a refusal and answers with it once that is durable. When it cannot become durable, the answer says so.
pub(crate) async fn refused(mut exchange: Box<Exchange>, refusal: Refusal) -> Answer {
    let (call, dialect) = (exchange.call, exchange.dialect);
    let run = exchange.run_header();
    let rpc_id = exchange.rpc_id();
    let evidence = Duration::from_millis(exchange.shared.server.evidence_ms);
    let told = exchange.told_instead();
    let told = told.as_ref().unwrap_or(&refusal);
    let aside = exchange.aside(told);
    let (status, body) = match &aside {
        Some(_) => (Aside::STATUS, Bytes::new()),
        None => (told.status(), told.body(dialect, Some(call), rpc_id.as_deref())),
    };
    exchange.note_refusal(&refusal);
    let ack = exchange.refuse(refusal.reason, status, &body);
    let recorded = match ack {
        Some(ack) => durable(ack, evidence).await,
        None => Err(Reason::Internal),
    };
    let (mut answer, receipt) = match recorded {
        Ok(leaf) => {
            let mut answer = told.answer(dialect, body);
            *answer.status_mut() = status;
            if let Some(aside) = aside {
                aside.say();
            }
            (answer, leaf)
        }
        Err(reason) => {
            exchange.shared.metrics.refused(reason);
            let late = Refusal::new(reason);
            (late.answer(dialect, late.body(dialect, Some(call), rpc_id.as_deref())), None)
        }
    };
    if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && let Some(challenge) = exchange.challenge(refusal.reason)
    {
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    stamp(answer.headers_mut(), call, run.as_ref(), receipt);
    answer
}

/// Records an answer of the gateway's own, JSON, and gives it once that is durable.
pub(crate) async fn told(mut exchange: Box<Exchange>, status: StatusCode, document: Bytes) -> Answer {
    let evidence = Duration::from_millis(exchange.shared.server.evidence_ms);
    let run = exchange.run_header();
    let recorded = match exchange.tell(status, &document) {
        Some(ack) => durable(ack, evidence).await,
        None => Err(Reason::Internal),
    };
    let leaf = match recorded {
        Ok(leaf) => leaf,
        Err(reason) => return unrecorded(&exchange, reason),
    };
    let mut answer = Response::new(AnswerBody::whole(vec![document]));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    stamp(answer.headers_mut(), exchange.call, run.as_ref(), leaf);
    answer
}

/// Gives the answer of an earlier call, once the receipt of this one is durable.
pub(crate) async fn given_again(mut exchange: Box<Exchange>, given: Given) -> Answer {
    let Given { status, headers, body } = given;
    exchange.hear_again(&headers, &body);
    let evidence = Duration::from_millis(exchange.shared.server.evidence_ms);
    let run = exchange.run_header();
    let recorded = match exchange.tell(status, &body) {
        Some(ack) => durable(ack, evidence).await,
        None => Err(Reason::Internal),
    };
    let leaf = match recorded {
        Ok(leaf) => leaf,
        Err(reason) => return unrecorded(&exchange, reason),
    };
    let mut answer = Response::new(AnswerBody::whole(vec![body]));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    stamp(answer.headers_mut(), exchange.call, run.as_ref(), leaf);
    answer
}

async fn send_whole(
    mut screened: Box<Screened>,
    mut head: http::response::Parts,
    sending: Sending,
) -> Answer {
    let Sending { evidence, bodiless, trailers, held_bytes_max } = sending;
    let mut data = Vec::new();
    let mut held = 0;
    let mut room = Room::default();
    let (exchange, refusal) = loop {
        match poll_fn(|cx| screened.poll_step(cx)).await {
            Step::Data(bytes) => {
                held += bytes.len() as u64;
                data.push(bytes);
                if let Err(reason) = room.hold(&screened.exchange().shared.held, held) {
                    return objected(screened.into_exchange(), reason.into()).await;
                }
                if held > held_bytes_max && screened.exchange().is_held_whole(None) {
                    return objected(screened.into_exchange(), Reason::HeldBytesMax.into()).await;
                }
                if held > held_bytes_max {
                    if let Some(refusal) = unread_refusal(screened.exchange()) {
                        return refused(screened.into_exchange(), refusal).await;
                    }
                    screened.exchange().forget_origin();
                    screened.stream_from_here(&data);
                    return send_streamed(screened, head, evidence, trailers);
                }
            }
            Step::Judge => {
                if screened.exchange().is_left_unanswered(&data) {
                    return refused(screened.into_exchange(), Refusal::new(Reason::UpstreamError)).await;
                }
                if let Some(refusal) = response_refusal(screened.exchange()) {
                    return refused(screened.into_exchange(), refusal).await;
                }
                let exchange = screened.exchange();
                let all = [&data[..], exchange.held_tail()].concat();
                let found = match exchange.detect_answer(&all) {
                    Ok(()) => exchange.ask_detectors(Surface::Answer, &all).await,
                    found => found,
                };
                drop(all);
                if let Err(objection) = found {
                    return objected(screened.into_exchange(), objection).await;
                }
                data = match screened.exchange().judge_body(data) {
                    Ok(data) => data,
                    Err(objection) => {
                        let refusal = objection.refusal();
                        screened.exchange().block(objection);
                        break (screened.into_exchange(), refusal);
                    }
                };
            }
            Step::Cut(reason) => {
                let exchange = screened.into_exchange();
                let refusal = exchange.refusal(reason);
                break (exchange, refusal);
            }
            Step::End { tail, ack, .. } => {
                data.extend(tail);
                let call = screened.exchange().call;
                let run = screened.exchange().run_header();
                let recorded = match ack {
                    Some(ack) => durable(ack, evidence).await,
                    None => Err(Reason::Internal),
                };
                let leaf = match recorded {
                    Ok(leaf) => leaf,
                    Err(reason) => return unrecorded(screened.exchange(), reason),
                };
                if let Some(taken) = screened.exchange().taken.take() {
                    taken.store(&data);
                }
                head.headers.remove(TRAILER);
                if !bodiless {
                    head.headers.remove(CONTENT_LENGTH);
                }
                stamp(&mut head.headers, call, run.as_ref(), leaf);
                return Response::from_parts(head, AnswerBody::held(data, room));
            }
        }
    };
    drop(room);
    boxed_asked_again(exchange, refusal).await
}

/// The policy's word on an answer that has been read whole.
fn response_refusal(exchange: &mut Exchange) -> Option<Refusal> {
    let policy = exchange.snapshot.policy.clone();
    let decision = exchange.judge_response(|facts| policy.response(facts))?;
    if !decision.verdict.lets_go() {
        exchange.decide(&decision);
        exchange.restrict_storage(decision.body_storage);
    }
    refusal_of(&decision)
}

/// The policy's word on an answer that is not read.
fn unread_refusal(exchange: &mut Exchange) -> Option<Refusal> {
    let policy = exchange.snapshot.policy.clone();
    let decision = exchange.judge_unread(|facts| policy.response(facts));
    let refusal = refusal_of(&decision)?;
    exchange.response_unread();
    exchange.decide(&decision);
    Some(refusal)
}

/// An answer for a call whose own record says something else, or is not durable: nothing of the upstream's is given.
fn unrecorded(exchange: &Exchange, reason: Reason) -> Answer {
    exchange.shared.metrics.refused(reason);
    let refusal = Refusal::new(reason);
    let body = refusal.body(exchange.dialect, Some(exchange.call), None);
    let mut answer = refusal.answer(exchange.dialect, body);
    stamp(answer.headers_mut(), exchange.call, None, None);
    answer
}

fn send_streamed(
    mut screened: Box<Screened>,
    mut head: http::response::Parts,
    evidence: Duration,
    trailers: bool,
) -> Answer {
    let exchange = screened.exchange();
    exchange.give();
    stamp(&mut head.headers, exchange.call, exchange.run_header().as_ref(), None);
    if screened.exchange().may_change() {
        head.headers.remove(CONTENT_LENGTH);
    }
    let announced = screened.exact_length().is_some();
    let receipt_trailer = trailers && !announced;
    if receipt_trailer {
        head.headers.append(TRAILER, RECEIPT.into());
    } else {
        head.headers.remove(TRAILER);
    }
    Response::from_parts(head, AnswerBody::Screened(ScreenedBody::new(screened, receipt_trailer, evidence)))
}

pub(crate) fn send_reason(error: &SendError) -> Reason {
    match error {
        SendError::Connect(ConnectError::Tcp(_)) => Reason::UpstreamConnect,
        SendError::Connect(ConnectError::Tls(_)) | SendError::Tls => Reason::UpstreamTls,
        SendError::Connect(ConnectError::Http(_) | ConnectError::Full) => Reason::UpstreamProtocol,
        SendError::ClientGone => Reason::ClientGone,
        SendError::ConnectTimeout => Reason::TimeoutConnect,
        SendError::HeadersTimeout => Reason::TimeoutHeaders,
        SendError::TotalTimeout => Reason::TimeoutTotal,
        SendError::Exchange(error) if error.is_parse() => Reason::UpstreamProtocol,
        SendError::Exchange(_) => Reason::UpstreamReset,
    }
}
