use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_policy::{HoldTerms, RequestFacts, Surface, Verdict};
use estoppel_wire::dialect::mcp::Messages;
use estoppel_wire::dialect::{Dialect, RequestScan};
use http_body::Body as _;
use tokio::sync::Semaphore;
use tower_layer::Layer;
use tower_service::Service;

use super::Waiting;
use crate::body::{ReadError, Room, Upload, UpstreamBody, read_next};
use crate::call::{Authenticated, Permitted};
use crate::exchange::Exchange;
use crate::holds;
use crate::idempotency::{self, Given, Turn};
use crate::judging::Objection;
use crate::layer::forward::{given_again, refused};
use crate::respond::Refusal;
use crate::stack::Answer;

/// Decides whether the call may go on.
///
/// Takes `Authenticated`, gives `Permitted`. Answers itself on a block, and on a hold that people have not let pass. Reads the request body whole where the dialect says
/// what is in it, because rules speak of models and tools; other bodies are judged by what surrounds them and stream
/// through. Inside `Authentication` (rules go by who calls), outside `Forward` (nothing leaves before the verdict).
#[derive(Clone, Copy)]
pub(crate) struct FirewallLayer;

impl<S> Layer<S> for FirewallLayer {
    type Service = Firewall<S>;

    fn layer(&self, inner: S) -> Firewall<S> {
        Firewall { inner }
    }
}

#[derive(Clone)]
pub(crate) struct Firewall<S> {
    inner: S,
}

/// A client may pause this long inside a request body.
const REQUEST_STALL: Duration = Duration::from_secs(30);

impl<S> Service<Authenticated> for Firewall<S>
where
    S: Service<Permitted, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Waiting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, authenticated: Authenticated) -> Waiting {
        let mut inner = self.inner.clone();
        Box::pin(async move {
            match judge(authenticated).await {
                Ok(permitted) => {
                    poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(permitted).await
                }
                Err((exchange, Stop::Refused(refusal))) => Ok(refused(exchange, refusal).await),
                Err((exchange, Stop::Given(given))) => Ok(given_again(exchange, *given).await),
            }
        })
    }
}

/// What a call is answered that does not go on.
enum Stop {
    Refused(Refusal),
    /// What an earlier call was.
    Given(Box<Given>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn judge(authenticated: Authenticated) -> Result<Permitted, (Box<Exchange>, Stop)> {
    let Authenticated { mut exchange, head, body, route } = authenticated;
    let limits = route.settings.limits;
    let coded = crate::exchange::framing(&head.headers).1;
    let is_mcp = exchange.dialect == Dialect::Mcp;
    let judges = route.judging.as_ref().is_some_and(|terms| terms.request.is_some() || is_mcp);
    let plain = matches!(exchange.dialect, Dialect::Bytes | Dialect::Json);
    let reads = !plain && !coded;
    exchange.request_judged = judges && plain && !coded;
    // JSON whose meaning nobody stated may be a call that some upstream knows, so it counts as read only where the
    // route's configuration says that it is plain JSON.
    let stated = exchange.dialect == Dialect::Json && route.dialect.is_some() && !coded;
    exchange.request_unread = !reads && !stated && !exchange.request_judged && !body.is_end_stream();
    let dialect = exchange.dialect;
    let scan = || RequestScan::new(dialect, head.uri.path());
    let looks = route.needs.body && exchange.dialect == Dialect::Json && !coded;
    if route.needs.body && !reads && !looks && !judges && !body.is_end_stream() {
        exchange.not_looked_into();
    }
    let detects = route.detectors.as_ref().is_some_and(|detectors| detectors.reads_requests());
    let whole = reads || judges || looks || detects || route.needs.hold || route.needs.keyed;
    let (ruled, body) = if whole {
        let mut scan = (reads || exchange.dialect == Dialect::Json && !coded).then(scan);
        let read = {
            let read = pin!(read_whole(body, &mut scan, limits.request_bytes_max, &exchange.shared.held));
            tokio::time::timeout(limits.total, read).await
        };
        let (chunks, room) = match read.unwrap_or(Err(ReadError::Stalled)) {
            Ok(read) => read,
            Err(error) => return Err((exchange, Refusal::new(error.reason()).into())),
        };
        if let Some(scan) = &mut scan {
            exchange.request_read(scan.finish());
        }
        let found = exchange.detect_before_rules(coded, &chunks);
        exchange.look_into(coded, &chunks);
        exchange.shadow_keeps(coded, &chunks);
        let ruled = match decide(&mut exchange) {
            Ruled::Refuse(refusal) => Ruled::Refuse(refusal),
            goes => decide_batch(&mut exchange, coded, &chunks).map_or(goes, Ruled::Refuse),
        };
        exchange.request_held(&chunks);
        if !coded {
            exchange.keep_origin(&head, &chunks);
        }
        let ruled = match ruled {
            Ruled::Refuse(refusal) => Ruled::Refuse(refusal),
            goes => match judge_body(&mut exchange, &head, coded, &chunks, found).await {
                Ok(()) => goes,
                Err(objection) => {
                    let refusal = objection.refusal();
                    exchange.block(objection);
                    Ruled::Refuse(refusal)
                }
            },
        };
        let ruled = match ruled {
            Ruled::Hold(terms) if route.needs.keyed => {
                match idempotency::look(&mut exchange, &head, &chunks).await {
                    Turn::Goes => Ruled::Hold(terms),
                    Turn::Given(given) => return Err((exchange, Stop::Given(given))),
                    Turn::Refused(refusal) => Ruled::Refuse(refusal),
                }
            }
            ruled => ruled,
        };
        let ruled = match ruled {
            Ruled::Hold(terms) => match holds::pass(&mut exchange, &head, &chunks, terms).await {
                Ok(()) => decide(&mut exchange),
                Err(refusal) => Ruled::Refuse(refusal),
            },
            ruled => ruled,
        };
        let ruled = match ruled {
            Ruled::Go if route.needs.keyed => match idempotency::take(&mut exchange, &head, &chunks).await {
                Turn::Goes => Ruled::Go,
                Turn::Given(given) => return Err((exchange, Stop::Given(given))),
                Turn::Refused(refusal) => Ruled::Refuse(refusal),
            },
            ruled => ruled,
        };
        let chunks = match (is_mcp && !coded).then(|| holds::without_state(&chunks)).flatten() {
            Some(body) => vec![body],
            None => chunks,
        };
        (ruled, UpstreamBody::held(chunks, room))
    } else {
        if !body.is_end_stream() {
            exchange.shadow_unread(coded);
            exchange.request_unheard();
        }
        exchange.listen(false, &[]);
        let scan = (exchange.dialect == Dialect::Json && !coded).then(scan);
        let ruled = decide(&mut exchange);
        let feed = exchange.request_feed();
        let upload = Upload::new(exchange.hashes(), feed, scan, limits.request_bytes_max);
        exchange.request_sent(upload.clone());
        (ruled, UpstreamBody::streamed(body, upload, REQUEST_STALL))
    };
    let refusal = match ruled {
        // Last, so that nothing is counted for a call that is refused anyway.
        Ruled::Go => crate::controls::reserve(&mut exchange).await,
        Ruled::Refuse(refusal) => Some(refusal),
        // Another rule holds a call that people have let pass, or nothing was read of it.
        Ruled::Hold(_) => Some(Refusal::new(Reason::ApprovalRequired)),
    };
    match refusal {
        None => Ok(Permitted { exchange, head, body, route }),
        Some(refusal) => Err((exchange, refusal.into())),
    }
}

/// The same of a request that the gateway itself makes: it is read, and held against no contract for what clients send.
pub(crate) fn permit(exchange: &mut Exchange, path: &str, body: &Bytes) -> Option<Refusal> {
    let mut scan = RequestScan::new(exchange.dialect, path);
    scan.push(body);
    exchange.request_read(scan.finish());
    let found = exchange.detect_before_rules(false, std::slice::from_ref(body));
    exchange.look_into(false, std::slice::from_ref(body));
    exchange.shadow_keeps(false, std::slice::from_ref(body));
    let mut ruled = decide(exchange);
    if let (Ruled::Go, Some(found)) = (&ruled, found)
        && let Err(objection) = exchange.note_threat(found)
    {
        ruled = Ruled::Refuse(objection.refusal());
        exchange.block(objection);
    }
    exchange.request_held(std::slice::from_ref(body));
    match ruled {
        Ruled::Go => None,
        Ruled::Refuse(refusal) => Some(refusal),
        // What people would let pass is what the client sent.
        Ruled::Hold(_) => Some(Refusal::new(Reason::ApprovalRequired)),
    }
}

/// The policy's word on a request.
enum Ruled {
    Go,
    Refuse(Refusal),
    Hold(HoldTerms),
}

/// Asks the policy, and writes down what it says.
fn decide(exchange: &mut Exchange) -> Ruled {
    let policy = exchange.snapshot.policy.clone();
    exchange.shadow_begins();
    let decision = exchange.judge_request(|facts| policy.request(facts));
    exchange.decide(&decision);
    exchange.store_bodies(decision.body_storage);
    if (decision.verdict.lets_go() || decision.hold.is_some()) && exchange.is_refused_without_key() {
        exchange.block_by(None, Reason::KeyHookFailed.code());
        return Ruled::Refuse(Refusal::new(Reason::KeyHookFailed));
    }
    match (decision.hold, refusal_of(&decision)) {
        (Some(terms), _) => {
            let rule = decision.rule.map(|rule| rule.as_str());
            let rest =
                exchange.judge_request(|facts| policy.request(&RequestFacts { approved: rule, ..*facts }));
            match (rest.verdict, rest.rule) {
                (Verdict::Hold, Some(other)) => {
                    Ruled::Refuse(both_hold(rule.unwrap_or_default(), other.as_str()))
                }
                _ => Ruled::Hold(terms.clone()),
            }
        }
        (None, Some(refusal)) => Ruled::Refuse(refusal),
        (None, None) => Ruled::Go,
    }
}

/// Nobody could approve such a call: the people of one rule would decide what those of the other have to.
fn both_hold(rule: &str, other: &str) -> Refusal {
    let message = format!(
        "rules `{rule}` and `{other}` both hold this call; send what they hold in calls of their own"
    );
    Refusal { message: Some(message.into()), ..Refusal::new(Reason::ApprovalRequired) }
}

/// What detectors and contracts say of a body that was read whole.
async fn judge_body(
    exchange: &mut Exchange,
    head: &http::request::Parts,
    coded: bool,
    chunks: &[Bytes],
    found: Option<Result<(), Objection>>,
) -> Result<(), Objection> {
    match found {
        Some(found) => exchange.note_threat(found)?,
        None => exchange.detect_request(coded, chunks)?,
    }
    exchange.judge_request_body(head, coded, chunks)?;
    if coded { Ok(()) } else { exchange.ask_detectors(Surface::Request, chunks).await }
}

/// The policy's word on each message of a batch, which was read as a whole only.
fn decide_batch(exchange: &mut Exchange, coded: bool, chunks: &[Bytes]) -> Option<Refusal> {
    if exchange.dialect != Dialect::Mcp || coded {
        return None;
    }
    let messages = Messages::read(&chunks.concat()).ok().filter(|messages| messages.batch)?;
    let policy = exchange.snapshot.policy.clone();
    messages.list.iter().filter(|message| message.method.is_some()).find_map(|message| {
        let decision = exchange.judge_message(message, |facts| policy.request(facts));
        let refusal = refusal_of(&decision)?;
        exchange.decide(&decision);
        Some(refusal)
    })
}

/// What a blocking decision answers.
pub(crate) fn refusal_of(decision: &estoppel_policy::Decision<'_>) -> Option<Refusal> {
    if decision.verdict.lets_go() {
        return None;
    }
    let code = decision.reason.map(|reason| reason.as_str());
    Some(Refusal {
        reason: code.and_then(Reason::parse).unwrap_or(Reason::PolicyBlock),
        code: code.map(Into::into),
        message: decision.message.map(Into::into),
        ..Refusal::new(Reason::PolicyBlock)
    })
}

async fn read_whole(
    mut body: hyper::body::Incoming,
    scan: &mut Option<RequestScan>,
    bytes_max: u64,
    memory: &Arc<Semaphore>,
) -> Result<(Vec<Bytes>, Room), ReadError> {
    let mut chunks = Vec::new();
    let mut room = Room::default();
    let mut bytes = 0;
    while let Some(frame) = read_next(&mut body, REQUEST_STALL).await {
        let Ok(data) = frame?.into_data() else { continue };
        bytes += data.len() as u64;
        if bytes > bytes_max {
            return Err(ReadError::TooLarge);
        }
        room.hold(memory, bytes).map_err(|_| ReadError::NoRoom)?;
        if let Some(scan) = scan {
            scan.push(&data);
        }
        chunks.push(data);
    }
    Ok((chunks, room))
}
