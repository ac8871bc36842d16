//! HTTP/2, through hyper: a piece of a body is a DATA frame, as far as the peer's frame size allows.
//!
//! What HTTP/2 has no way to do is refused when the stub starts. A connection that is to break in the middle
//! of a stream is closed below hyper, on the socket; bytes that hyper could not hand to the socket by then
//! (a full window, a full buffer) are lost, so cut small bodies where the exact byte matters.

use std::future::{Future, pending, poll_fn};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::answer::{Answer, Batch, Gap, How, StopAt};
use crate::hits::{Outcome, Progress};
use crate::request::{BODY_MAX, Head, RequestBody};
use crate::script::{Framing, Reply, Script, Writes};
use crate::serve::{Link, Shared, linger};
use crate::stub::StartError;

/// How long hyper gets to hand over what comes before a reset, which would overtake it.
const HAND_OVER: Duration = Duration::from_millis(5);

/// Refuses a script that asks for what only HTTP/1.1 can do.
pub(crate) fn check(script: &Script) -> Result<(), StartError> {
    let rules = script.rules.iter().enumerate();
    let replies = rules.map(|(n, rule)| (format!("rules[{n}].reply"), &rule.reply));
    let replies = replies.chain([("otherwise".to_owned(), &script.otherwise)]);
    let problems: Vec<String> = replies
        .flat_map(|(place, reply)| not_in_http2(reply).map(move |what| format!("{place}.{what}")))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(StartError::NotInHttp2 { problems }) }
}

fn not_in_http2(reply: &Reply) -> impl Iterator<Item = &'static str> {
    let framed = !matches!(reply.framing, None | Some(Framing::ContentLength | Framing::WrongLength { .. }));
    [
        (!reply.interim.is_empty(), "interim"),
        (framed, "framing"),
        (reply.writes != Writes::PerPiece, "writes"),
        (reply.reason.is_some(), "reason"),
    ]
    .into_iter()
    .filter_map(|(asked, what)| asked.then_some(what))
}

/// TLS that offers `h2`, unless it has a list of its own.
pub(crate) fn offer(tls: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if !tls.alpn_protocols.is_empty() {
        return tls;
    }
    let mut offering = (*tls).clone();
    offering.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(offering)
}

/// One connection, until the peer or a script ends it.
pub(crate) async fn run<L: Link>(mut link: L, shared: Arc<Shared>, number: u64) {
    // A twin of the socket, to end the connection below hyper.
    let Ok(twin) = rustix::io::dup(link.tcp()).map(std::net::TcpStream::from) else { return };
    let (cut, close) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, closed) = (Arc::clone(&cut), Arc::clone(&close));
    let service = service_fn(move |request| {
        answer(request, Arc::clone(&shared), number, Arc::clone(&told), Arc::clone(&closed))
    });
    let mut server = http2::Builder::new(Streams::default());
    server.timer(TokioTimer::new());
    let mut serving = pin!(server.serve_connection(TokioIo::new(link), service));
    let serving_until_closed = async {
        tokio::select! {
            biased;
            _ = serving.as_mut() => return,
            () = close.notified() => {}
        }
        serving.as_mut().graceful_shutdown(); // GOAWAY: streams that are there go on.
        let _ = serving.await;
    };
    if ended_before(serving_until_closed, &cut, &twin).await {
        return;
    }
    if let Ok(mut twin) = TcpStream::from_std(twin) {
        linger(&mut twin).await;
    }
}

/// Serves until the peer is done (true) or a script cuts the connection (false): then FIN is sent.
async fn ended_before(serving: impl Future, cut: &Notify, twin: &std::net::TcpStream) -> bool {
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        _ = &mut serving => return true, // How it ended is the peer's business.
        () = cut.notified() => {}
    }
    // Once more, so that what came before the cut is handed to the socket.
    poll_fn(|ctx| {
        let _ = serving.as_mut().poll(ctx);
        Poll::Ready(())
    })
    .await;
    let _ = twin.shutdown(Shutdown::Write); // Fails only when the peer has gone already.
    false
}

/// The tasks of one connection's streams: they end with it.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while streams.try_join_next().is_some() {} // Forget the ones that have ended.
        streams.spawn(stream);
    }
}

/// Makes hyper send RST_STREAM.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the script resets the stream")]
struct Reset;

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    number: u64,
    cut: Arc<Notify>,
    close: Arc<Notify>,
) -> Result<Response<Frames>, Reset> {
    let (parts, incoming) = request.into_parts();
    let head = head(&parts);
    let (answer, body) = match shared.plan.before_body(&head) {
        Some(answer) => (answer, RequestBody::default()),
        None => {
            let Some(body) = read_body(incoming).await else {
                shared.hits.refuse(number, &head, &RequestBody::default());
                return Err(Reset);
            };
            (shared.plan.answer(&head, &body.plain, &mut None), body)
        }
    };
    if answer.close {
        close.notify_one();
    }
    let end = EndOfAnswer(shared.hits.arrived(number, &head, &body));
    sleep(answer.waits.before_head).await;
    if let Some(stop) = answer.stop.filter(|stop| stop.at == StopAt::BeforeHead) {
        return Err(stop_before_head(stop.how, &end, &cut).await);
    }
    let head = response_head(&answer);
    Ok(head.map(|()| Frames::new(answer, parts.method == http::Method::HEAD, end, cut)))
}

async fn stop_before_head(how: How, end: &EndOfAnswer, cut: &Notify) -> Reset {
    match how {
        How::Stall => pending().await,
        How::Fin => {
            end.0.end(Outcome::CutByScript);
            cut.notify_one();
            pending().await
        }
        How::Reset => {
            end.0.end(Outcome::CutByScript);
            Reset
        }
    }
}

/// The head as HTTP/1.1 would write it.
fn head(parts: &http::request::Parts) -> Head {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let own = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let authority = parts.uri.authority().filter(|_| !parts.headers.contains_key("host"));
    let host = authority.map(|authority| (own(b"host"), own(authority.as_str().as_bytes())));
    let named =
        |(name, value): (&HeaderName, &HeaderValue)| (own(name.as_str().as_bytes()), own(value.as_bytes()));
    let headers: Vec<(Bytes, Bytes)> = host.into_iter().chain(parts.headers.iter().map(named)).collect();
    let mut wire = format!("{} {target} HTTP/2\r\n", parts.method).into_bytes();
    for (name, value) in &headers {
        wire.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
    }
    wire.extend_from_slice(b"\r\n");
    Head::rendered(wire.into(), parts.method.as_str(), target, headers)
}

/// `None` when it never became whole, or is too large.
async fn read_body(incoming: Incoming) -> Option<RequestBody> {
    let plain = Limited::new(incoming, BODY_MAX).collect().await.ok()?.to_bytes();
    Some(RequestBody { wire: plain.clone(), plain })
}

/// `plan` has checked that names and values are valid; hyper leaves out what HTTP/2 forbids.
fn response_head(answer: &Answer) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = header_map(&answer.fields);
    if let Some(length) = answer.declared {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

fn header_map(fields: &[(String, String)]) -> HeaderMap {
    let parsed = fields.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    parsed.collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().fold(
        HeaderMap::new(),
        |mut map, (name, value)| {
            map.append(name, value);
            map
        },
    )
}

/// Says that the peer has gone, unless the answer ended before.
#[derive(Debug)]
struct EndOfAnswer(Arc<Progress>);

impl Drop for EndOfAnswer {
    fn drop(&mut self) {
        self.0.end(Outcome::PeerGone);
    }
}

/// The body of an answer, frame by frame.
#[derive(Debug)]
struct Frames {
    answer: Arc<Answer>,
    /// Bytes that will be sent; 0 for answers to HEAD.
    len: u64,
    position: u64,
    /// When the first frame was sent, and how many were.
    first: Option<Instant>,
    frames: u32,
    /// The pause before the next frame, once it has begun.
    pause: Option<Pin<Box<Sleep>>>,
    trailers: bool,
    end: EndOfAnswer,
    cut: Arc<Notify>,
}

impl Frames {
    fn new(answer: Arc<Answer>, bodyless: bool, end: EndOfAnswer, cut: Arc<Notify>) -> Self {
        let len = if bodyless { 0 } else { answer.source.len() };
        let trailers = !bodyless && !answer.trailers.is_empty();
        let frames =
            Self { answer, len, position: 0, first: None, frames: 0, pause: None, trailers, end, cut };
        frames.mark_end();
        frames
    }

    fn stop(&self) -> Option<(u64, How)> {
        self.answer.stop_in_body().map(|(after, how)| (after.min(self.len), how))
    }

    fn mark_end(&self) {
        if self.is_end_stream() {
            self.end.0.end(Outcome::Sent);
        }
    }

    fn poll_pause(&mut self, ctx: &mut Context<'_>) -> Poll<()> {
        let due = self.due();
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(due)));
        pause.as_mut().poll(ctx)
    }

    /// When the next frame, or what comes instead of it, is due.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let resets = self.stop().is_some_and(|(after, how)| self.position >= after && how == How::Reset);
        match (self.first, self.answer.waits.gap) {
            (None, _) => now + self.answer.waits.before_body,
            (Some(_), _) if resets => now + HAND_OVER,
            (Some(_), Gap::None) => now,
            (Some(_), Gap::Pause(time)) => now + time,
            (Some(first), Gap::Every(every)) => first + every.saturating_mul(self.frames),
        }
    }

    fn next_data(&mut self) -> Bytes {
        let mut end = self.answer.cuts.next_end(self.position, self.len);
        if let Batch::Wire(cuts) = &self.answer.batch {
            end = end.min(cuts.next_end(self.position, self.len));
        }
        let limit = self.stop().map_or(end, |(after, _)| after.min(end));
        let data = self.answer.source.slice(self.position, limit);
        self.position += data.len() as u64;
        self.first.get_or_insert_with(Instant::now);
        self.frames = self.frames.saturating_add(1);
        self.end.0.sent(data.len());
        data
    }

    fn poll_stop(&self, how: How) -> Poll<Option<Result<Frame<Bytes>, Reset>>> {
        if how == How::Stall {
            return Poll::Pending; // Until hyper drops this, because the peer has gone.
        }
        self.end.0.end(Outcome::CutByScript);
        if how == How::Reset {
            return Poll::Ready(Some(Err(Reset)));
        }
        self.cut.notify_one();
        Poll::Pending // Until the connection is closed.
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Reset;

    fn poll_frame(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Reset>>> {
        let this = self.get_mut();
        ready!(this.poll_pause(ctx));
        if let Some((_, how)) = this.stop().filter(|(after, _)| this.position >= *after) {
            return this.poll_stop(how); // The pause is kept: it has ended, and asking again is cheap.
        }
        this.pause = None;
        let frame = if this.position < this.len {
            Frame::data(this.next_data())
        } else if std::mem::take(&mut this.trailers) {
            Frame::trailers(header_map(&this.answer.trailers))
        } else {
            return Poll::Ready(None);
        };
        this.mark_end();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.position >= self.len && !self.trailers && self.stop().is_none()
    }
}

#[cfg(test)]
mod tests;
