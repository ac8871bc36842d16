use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use estoppel_evidence::entry::{CallRecord, VerdictAction};
use estoppel_evidence::{CallId, Reason};
use estoppel_journal::Refused;
use estoppel_wire::dialect::Dialect;
use futures_util::future::Either;
use http::Method;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use tower_layer::Layer;
use tower_service::Service;

use super::Waiting;
use crate::bypass;
use crate::call::{Admitted, Routed};
use crate::context::{Context as CallerContext, run_name};
use crate::exchange::{Exchange, Start};
use crate::headers;
use crate::layer::forward::{refused, told};
use crate::protected_resource::ProtectedResource;
use crate::respond::{Refusal, stamp};
use crate::serve::Shared;
use crate::snapshot::{RouteEntry, Snapshot};
use crate::stack::Answer;
use crate::trace_context;

/// Finds the route, the run and the configuration that the call keeps to its end.
///
/// Takes `Admitted`, gives `Routed`. Answers itself when the request is ambiguous, names no route, has a context
/// header that is not allowed, or takes a route that is a trap; each of these leaves a receipt. That it is no operation that the policy lists is said by
/// `Authentication`, to callers who may use the route. Inside `Admission` (a receipt needs its slot), outside what needs the route.
#[derive(Clone)]
pub(crate) struct RouteLayer {
    shared: Arc<Shared>,
}

impl RouteLayer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Route<S> {
        Route { inner, shared: self.shared.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Route<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// A call that goes no further.
enum Turned {
    /// It leaves a receipt.
    Recorded(Box<Exchange>, Refusal),
    /// It asks for the metadata of its route, which needs no verdict.
    Described(Box<Exchange>, Arc<RouteEntry>),
    /// No run can be had to record it in, because the journal is closed or has failed.
    Unrecorded(Box<Answer>),
}

impl<S> Route<S> {
    fn start(&self, admitted: Admitted) -> Result<Routed, Turned> {
        let snapshot = self.shared.snapshot.load_full();
        let Admitted { identified, slot, in_flight } = admitted;
        let accepted = identified.accepted;
        let head = accepted.head;
        let taken = snapshot.route(&head).cloned();
        let described = taken.as_ref().filter(|route| route.is_described(&head) && !route.canary).cloned();
        let operation =
            taken.as_ref().filter(|_| described.is_none()).map(|route| route.for_operation(&head));
        let (operation, unlisted) = match operation.transpose() {
            Ok(operation) => (operation, None),
            Err(message) => (None, Some(message)),
        };
        let route = operation.or(taken);
        let key = route.as_ref().and_then(|route| route.context_key.as_ref());
        let unsigned = key.is_some_and(|key| !key.admits(&head, self.shared.clock.unix_us() / 1_000_000));
        let (context, bad_context) = match CallerContext::read(&head.headers) {
            _ if unsigned => (CallerContext::default(), None),
            Ok(context) => (context, None),
            Err(bad) => (CallerContext { run: run_name(&head.headers), claims: None }, Some(bad)),
        };
        let dialect = dialect(route.as_deref(), &head);
        let mut record = self.shared.blank_record();
        record.call = accepted.call;
        record.identity = identified.identity;
        record.claims = context.claims;
        record.trace = trace_context::read(&head.headers);
        fill(&mut record, &head, &snapshot, route.as_deref(), dialect);
        let (run, run_refused) = match self.shared.journal.run(context.run.as_deref()) {
            Ok(run) => (run, None),
            Err(refused) => match self.shared.journal.run(None) {
                Ok(ambient) => (ambient, Some(refused)),
                Err(failed) => {
                    return Err(Turned::Unrecorded(Box::new(self.unrecorded(record.call, dialect, failed))));
                }
            },
        };
        if !snapshot.policy.listens() {
            self.shared.earlier.unheard(self.shared.clock.mono_us());
        }
        let mut exchange = Exchange::new(Start {
            shared: self.shared.clone(),
            snapshot,
            route: route.clone(),
            dialect,
            run,
            started_us: accepted.started_us,
            record,
            slot,
            in_flight,
            stalled: accepted.peer.stalled.clone(),
        });
        if let Some(route) = &route {
            exchange.store_bodies(&route.settings.body_storage);
        }
        exchange.shadow(&head);
        let http1 = head.version < http::Version::HTTP_2;
        let refusal = if headers::refuse_ambiguous(&head.uri, &head.headers, http1).is_err()
            || headers::is_path_ambiguous(head.uri.path())
        {
            Some(Refusal::new(Reason::RequestInvalid))
        } else if head.method == Method::CONNECT
            || head.headers.contains_key(http::header::UPGRADE) && http1_upgrade(&head)
        {
            Some(Refusal::new(Reason::UpgradeRefused))
        } else if route
            .as_ref()
            .is_some_and(|route| headers::head_bytes(&head.headers) > route.settings.limits.header_bytes_max)
        {
            Some(Refusal::new(Reason::HeadersMax))
        } else if unsigned {
            Some(Refusal::new(Reason::ContextUnsigned))
        } else if let Some(bad) = bad_context {
            let message = format!("header `{}` has a value that is not allowed", bad.0);
            Some(Refusal { message: Some(message.into()), ..Refusal::new(Reason::HeaderInvalid) })
        } else {
            run_refused.map(|refused| {
                Refusal::new(match refused {
                    Refused::Full { .. } => Reason::RunsMax,
                    Refused::Failed(_) | Refused::Closed => Reason::EvidenceFailed,
                })
            })
        };
        let unlisted = unlisted.map(|message| Refusal {
            message: Some(message.into()),
            ..Refusal::new(Reason::OperationDenied)
        });
        let refusal = match &route {
            Some(route) if route.canary => Some(Refusal::new(Reason::Bypass)),
            _ => refusal,
        };
        match (refusal, route) {
            (Some(refusal), _) => Err(Turned::Recorded(exchange, refusal)),
            (None, None) => Err(Turned::Recorded(exchange, Refusal::new(Reason::RouteUnknown))),
            (None, Some(route)) if described.is_some() => Err(Turned::Described(exchange, route)),
            (None, Some(route)) => Ok(Routed { exchange, head, body: accepted.body, route, unlisted }),
        }
    }

    fn unrecorded(&self, call: CallId, dialect: Dialect, refused: Refused) -> Answer {
        let refusal = Refusal::new(refused.reason());
        self.shared.metrics.refused(refusal.reason);
        let body = refusal.body(dialect, Some(call), None);
        let mut answer = refusal.answer(dialect, body);
        stamp(answer.headers_mut(), call, None, None);
        answer
    }
}

/// Whether an `Upgrade` header asks for another protocol than HTTP/2, which hyper's clients offer routinely.
fn http1_upgrade(head: &Parts) -> bool {
    head.headers
        .get_all(http::header::UPGRADE)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

fn dialect(route: Option<&RouteEntry>, head: &Parts) -> Dialect {
    let detect = || Dialect::detect(head.method.as_str(), head.uri.path());
    match route.and_then(|route| route.dialect) {
        Some(dialect) => dialect,
        None => detect().unwrap_or_else(|| if speaks_json(head) { Dialect::Json } else { Dialect::Bytes }),
    }
}

fn speaks_json(head: &Parts) -> bool {
    crate::exchange::framing(&head.headers).0 == estoppel_wire::dialect::Framing::Json
}

fn fill(
    record: &mut CallRecord,
    head: &Parts,
    snapshot: &Snapshot,
    route: Option<&RouteEntry>,
    dialect: Dialect,
) {
    record.policy.hash = snapshot.policy_hash;
    record.dialect = Some(dialect.as_str());
    // What the whole body will be called later, because policy judges before it is there.
    let read = if dialect == Dialect::Json { "json" } else { "http" };
    let listed = route.and_then(|route| route.listed(dialect));
    record.operation = listed.map_or(read.into(), |id| id.to_owned().into());
    record.verdict.action = VerdictAction::Block;
    record.request.method = method(&head.method);
    record.request.route = route.map(|route| route.name.clone());
    let target = head.uri.path_and_query().map_or("/", |pq| pq.as_str());
    record.request.target = Sha256::digest(target.as_bytes()).into();
    record.request.version = match head.version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    };
    // Of several it is known once one was asked.
    let alone = route.filter(|route| route.federation.is_none());
    record.upstream = alone.map(|route| route.pool.target.name.clone());
}

/// The method as the receipt's schema takes it; an outlandish one is written `OTHER`.
fn method(method: &Method) -> std::borrow::Cow<'static, str> {
    match *method {
        Method::POST => "POST".into(),
        Method::GET => "GET".into(),
        _ if method.as_str().len() <= 32 && method.as_str().bytes().all(|b| b.is_ascii_uppercase()) => {
            method.as_str().to_string().into()
        }
        _ => "OTHER".into(),
    }
}

impl<S> Service<Admitted> for Route<S>
where
    S: Service<Routed, Response = Answer, Error = Infallible>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Either<S::Future, Waiting>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, admitted: Admitted) -> Self::Future {
        match self.start(admitted) {
            Ok(routed) => Either::Left(self.inner.call(routed)),
            Err(Turned::Recorded(mut exchange, refusal)) => Either::Right(Box::pin(async move {
                if refusal.reason == Reason::Bypass {
                    // Whoever leaves while that is written was here all the same.
                    exchange.note_refusal(&refusal);
                    bypass::sprung(&exchange).await;
                }
                Ok(refused(exchange, refusal).await)
            })),
            Err(Turned::Described(exchange, route)) => {
                let document = route.protected_resource.as_ref().map(ProtectedResource::document);
                Either::Right(Box::pin(async move {
                    Ok(told(exchange, http::StatusCode::OK, document.unwrap_or_default()).await)
                }))
            }
            Err(Turned::Unrecorded(answer)) => Either::Right(Box::pin(std::future::ready(Ok(*answer)))),
        }
    }
}
