//! One server of several: what it is sent, and its answer where that is read whole.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_policy::Limits;
use estoppel_wire::dialect::Framing;
use estoppel_wire::dialect::mcp::{Id, Messages};
use estoppel_wire::sse::{self, Content, Framer, Step};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};

use crate::body::{Room, UpstreamBody};
use crate::credential::{Credential, without_credentials};
use crate::exchange::framing;
use crate::headers;
use crate::layer::forward::send_reason;
use crate::respond::CALL;
use crate::upstream::{Answered, Pool};

/// How long others wait for a server that has a part in their answer; less where `limits.headers_ms` is.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Of one client's session with one server.
const OF_SESSION: [&str; 3] = ["mcp-session-id", "last-event-id", "mcp-protocol-version"];
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// A server, by the name that its tools have before theirs.
pub(crate) struct Server {
    pub(crate) name: Box<str>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) credential: Option<Arc<Credential>>,
}

/// One client's request, from which those of the servers are made.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) body: &'a Bytes,
    pub(crate) identity: Option<&'a str>,
    /// Where its caller's credential was that the gateway itself took.
    pub(crate) spent: Option<&'a HeaderName>,
    /// The call's id, where servers are told it.
    pub(crate) named: Option<&'a HeaderValue>,
    pub(crate) limits: &'a Limits,
}

/// A server's answer: one JSON-RPC message.
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: Bytes,
}

impl Server {
    /// Sends a message, with these headers in the place of the client's. Clients' credentials go to no server.
    ///
    /// # Errors
    /// It gives no answer.
    pub(super) async fn send(
        &self,
        asking: &Asking<'_>,
        method: Method,
        changed: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answered, Reason> {
        let held = match &self.credential {
            Some(credential) => Some((credential, credential.of(&asking.head.headers).await?)),
            None => None,
        };
        let target = &self.pool.target;
        let mut headers = asking.head.headers.clone();
        headers::for_upstream(&mut headers, &target.authority, true);
        without_credentials(&mut headers);
        asking.spent.into_iter().for_each(|spent| drop(headers.remove(spent)));
        OF_SESSION.iter().for_each(|name| drop(headers.remove(*name)));
        headers.insert(CONTENT_LENGTH, body.len().into());
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        }
        changed.iter().for_each(|(name, value)| drop(headers.insert(name.clone(), value.clone())));
        if let Some(named) = asking.named {
            headers.insert(CALL, named.clone());
        }
        if let Some((credential, held)) = &held {
            credential.put(held, &mut headers);
        }
        let mut request = Request::new(UpstreamBody::held(vec![body], Room::default()));
        *request.method_mut() = method;
        let path = if target.origin.base.is_empty() { "/" } else { &target.origin.base };
        *request.uri_mut() = path.parse().map_err(|_| Reason::Internal)?;
        *request.headers_mut() = headers;
        let sent = self.pool.send(request, asking.limits.connect, asking.limits.headers, None).await;
        let answered = sent.map_err(|error| {
            let reason = send_reason(&error);
            self.pool.complain(reason, &error);
            reason
        })?;
        if let Some((credential, held)) = held.filter(|_| answered.head.status == StatusCode::UNAUTHORIZED) {
            credential.refused(&held);
        }
        let is_ambiguous = headers::is_ambiguous_answer(answered.head.status, &answered.head.headers);
        if is_ambiguous { Err(Reason::UpstreamProtocol) } else { Ok(answered) }
    }

    /// The same, and reads the answer to the request of this id, within [`ANSWER_MAX`].
    ///
    /// # Errors
    /// There is no such answer.
    pub(super) async fn ask(
        &self,
        asking: &Asking<'_>,
        changed: &[(HeaderName, HeaderValue)],
        body: Bytes,
        id: &Id,
    ) -> Result<Said, Reason> {
        let asked = async {
            let answered = self.send(asking, Method::POST, changed, body).await?;
            let (status, headers) = (answered.head.status, answered.head.headers.clone());
            let text = message(answered, id, asking.limits).await?;
            Ok(Said { status, headers, text })
        };
        let asked = tokio::time::timeout(asking.limits.headers.min(ANSWER_MAX), asked).await;
        asked.unwrap_or(Err(Reason::TimeoutHeaders))
    }
}

/// The message that answers `id`; of an error's body all of it.
async fn message(mut answered: Answered, id: &Id, limits: &Limits) -> Result<Bytes, Reason> {
    let (framing, coded) = framing(&answered.head.headers);
    if coded {
        return Err(Reason::EncodingUnsupported);
    }
    let bound = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let held_max = bound(limits.held_bytes_max);
    let mut framer = Framer::new(sse::Limits { event_bytes_max: held_max, ..sse::Limits::default() });
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| answered.relay.poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Reason::Truncated)?.into_data() else { continue };
        all.extend_from_slice(&data);
        if all.len() > held_max {
            return Err(Reason::HeldBytesMax);
        }
        if framing == Framing::Sse
            && let Some(text) = event(&mut framer, &data, id)
        {
            return Ok(text);
        }
    }
    answered.relay.release();
    if framing == Framing::Sse { Err(Reason::Truncated) } else { Ok(all.into()) }
}

/// The answer to `id`, if it ends in `data`.
fn event(framer: &mut Framer, data: &[u8], id: &Id) -> Option<Bytes> {
    let mut rest = data;
    loop {
        let (step, taken) = framer.feed(rest);
        let (found, is_over) = match step {
            Step::Event(event) => match event.content {
                Content::Data(text) => (Some(text).filter(|text| answers(text, id)), false),
                Content::Nothing | Content::PassedOver(_) => (None, false),
            },
            Step::Comment { .. } | Step::LineFeed => (None, false),
            Step::NeedMore | Step::Broken(_) => (None, true),
        };
        if let Some(text) = found {
            return Some(Bytes::copy_from_slice(text));
        }
        if is_over {
            return None;
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
}

/// Whether a text is the one answer to this request.
pub(super) fn answers(text: &[u8], id: &Id) -> bool {
    let messages = Messages::read(text).map(|messages| messages.list).unwrap_or_default();
    matches!(messages.as_slice(), [one] if one.id.as_ref() == Some(id) && one.method.is_none())
}
