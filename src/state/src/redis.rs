//! Counters that several gateways share, in a Redis. Each reservation is one script and one round trip, and goes by the
//! time of the Redis.
//!
//! [`RedisTask`] owns the connection. It reserves for whoever asks, and gives back what was reserved for a call that has
//! gone away meanwhile. After a failure it does not try again for [`REST`], so that a Redis which is gone costs a call
//! no time.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, Client, Script};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::answers::{ANSWERS_BYTES_MAX, Began, Claimed, Fate, Keyed, Known, Progress};
use crate::counter::{Claim, CounterKey, SLOTS, Span};
use crate::{Flags, Grant, Refused, Reservation, Reserved, Settlement, Store, StoreError};

/// Most requests that may wait for the task; with more, claims are [`StoreError::Busy`].
const QUEUE_MAX: usize = 16_384;
/// Most requests that may be on their way to the Redis and back.
const IN_FLIGHT_MAX: usize = 1_024;
/// After a failure the Redis is let alone for this long.
const REST: Duration = Duration::from_millis(200);
/// A closing store waits this long for what is on its way.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Where the Redis is.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://` or `rediss://`. May hold a password, so it is not shown.
    pub url: String,
    /// Before the name of each key. All keys of one prefix are in one slot of a cluster.
    pub prefix: String,
    /// How long connecting or an answer may take.
    pub timeout: Duration,
}

/// Counters of all gateways with the same Redis and the same prefix.
#[derive(Clone, Debug)]
pub struct Redis {
    requests: mpsc::Sender<Request>,
    /// Bytes of answers that may be on their way.
    room: Arc<Semaphore>,
}

#[derive(Debug)]
enum Request {
    Reserve { claims: Vec<Claim>, reply: oneshot::Sender<Result<Reserved, StoreError>> },
    Settle(Vec<Settlement>),
    Begin { keyed: Keyed, claim: bool, reply: oneshot::Sender<Result<Option<Began>, StoreError>> },
    End { key: CounterKey, call: String, fate: Fate, room: Option<OwnedSemaphorePermit> },
    Flags(oneshot::Sender<Result<Arc<Flags>, StoreError>>),
    SetFlag { name: String, value: Option<String>, reply: oneshot::Sender<Result<(), StoreError>> },
    Close(oneshot::Sender<()>),
}

impl Redis {
    /// The store, and the task that has to run for it to do anything. Does not connect yet.
    ///
    /// # Errors
    /// [`StoreError::Connect`] of a URL that cannot be used.
    pub fn new(settings: RedisSettings) -> Result<(Self, RedisTask), StoreError> {
        let client = Client::open(settings.url.as_str()).map_err(StoreError::Connect)?;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let room = Arc::new(Semaphore::new(ANSWERS_BYTES_MAX));
        let store = Self { requests: sender, room };
        let link = Link {
            client,
            keys: format!("{{{}}}", settings.prefix).into(),
            timeout: settings.timeout,
            scripts: Arc::new(Scripts {
                reserve: Script::new(include_str!("redis/reserve.lua")),
                settle: Script::new(include_str!("redis/settle.lua")),
                begin: Script::new(include_str!("redis/begin.lua")),
                end: Script::new(include_str!("redis/end.lua")),
            }),
        };
        let room = store.room.clone();
        let task = RedisTask { link, requests: receiver, store: store.requests.downgrade(), room };
        Ok((store, task))
    }

    pub(crate) async fn reserve(&self, claims: Vec<Claim>) -> Result<Reserved, StoreError> {
        self.ask(|reply| Request::Reserve { claims, reply }).await
    }

    pub(crate) fn settle(&self, settlements: Vec<Settlement>) {
        if self.requests.try_send(Request::Settle(settlements)).is_err() {
            tracing::warn!("too much waits for Redis: what a call reserved stays counted");
        }
    }

    pub(crate) async fn begin(&self, keyed: Keyed, claim: bool) -> Result<Option<Began>, StoreError> {
        self.ask(|reply| Request::Begin { keyed, claim, reply }).await
    }

    pub(crate) fn end(&self, key: CounterKey, call: &str, fate: Fate) {
        let (fate, room) = match fate {
            Fate::Answered(answer) => {
                let bytes = u32::try_from(answer.len()).unwrap_or(u32::MAX);
                match self.room.clone().try_acquire_many_owned(bytes) {
                    Ok(room) => (Fate::Answered(answer), Some(room)),
                    Err(_) => (Fate::Unanswered, None),
                }
            }
            fate => (fate, None),
        };
        let call = call.to_owned();
        if self.requests.try_send(Request::End { key, call, fate, room }).is_err() {
            tracing::warn!("too much waits for Redis: a key stays with a call that has no answer");
        }
    }

    pub(crate) async fn flags(&self) -> Result<Arc<Flags>, StoreError> {
        self.ask(Request::Flags).await
    }

    pub(crate) async fn set_flag(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.ask(|reply| Request::SetFlag { name, value, reply }).await
    }

    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_ok() {
            drop(tokio::time::timeout(CLOSE_MAX, done).await);
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

struct Scripts {
    reserve: Script,
    settle: Script,
    begin: Script,
    end: Script,
}

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    /// Before the name of each key, in the braces that keep them together in a cluster.
    keys: Arc<str>,
    timeout: Duration,
    scripts: Arc<Scripts>,
}

/// Runs until its store is closed or dropped.
pub struct RedisTask {
    link: Link,
    requests: mpsc::Receiver<Request>,
    store: mpsc::WeakSender<Request>,
    room: Arc<Semaphore>,
}

/// Whether the connection is still of use.
type Served = BoxFuture<'static, bool>;

impl RedisTask {
    /// Serves requests.
    pub async fn run(mut self) {
        let mut connection = Connection::Absent { until: Instant::now() };
        let mut serving: FuturesUnordered<Served> = FuturesUnordered::new();
        let mut closing = None;
        while closing.is_none() || !serving.is_empty() {
            tokio::select! {
                Some(usable) = serving.next(), if !serving.is_empty() => if !usable {
                    connection = Connection::rest();
                },
                request = self.requests.recv(), if closing.is_none() && serving.len() < IN_FLIGHT_MAX => {
                    match request {
                        None => break,
                        Some(Request::Close(reply)) => {
                            self.requests.close();
                            closing = Some(reply);
                        }
                        Some(request) => {
                            let usable = connection.get(&self.link).await;
                            let mut served = self.serve(usable, request);
                            // Sent now, so that what is asked later finds what was said before.
                            match poll_fn(|cx| Poll::Ready(served.as_mut().poll(cx))).await {
                                Poll::Ready(true) => {}
                                Poll::Ready(false) => connection = Connection::rest(),
                                Poll::Pending => serving.push(served),
                            }
                        }
                    }
                }
            }
        }
        while let Some(reply) = closing.take() {
            let _ = reply.send(()); // it may have stopped waiting
        }
    }

    fn store(&self) -> Option<Redis> {
        self.store.upgrade().map(|requests| Redis { requests, room: self.room.clone() })
    }

    fn serve(&self, connection: Option<MultiplexedConnection>, request: Request) -> Served {
        let link = self.link.clone();
        match request {
            Request::Reserve { claims, reply } => {
                let store = self.store();
                Box::pin(async move {
                    let Some((mut connection, store)) = connection.zip(store) else {
                        let _ = reply.send(Err(StoreError::Down));
                        return true;
                    };
                    let reserved = link.reserve(&mut connection, &claims, store).await;
                    let usable = reserved.is_ok();
                    // If nobody waits any more, this drops the reservation, which gives it back.
                    let _ = reply.send(reserved);
                    usable
                })
            }
            Request::Settle(settlements) => Box::pin(async move {
                let Some(mut connection) = connection else { return true };
                link.settle(&mut connection, &settlements).await
            }),
            Request::Begin { keyed, claim, reply } => {
                let store = self.store();
                Box::pin(async move {
                    let Some((mut connection, store)) = connection.zip(store) else {
                        let _ = reply.send(Err(StoreError::Down));
                        return true;
                    };
                    let began = link.begin(&mut connection, &keyed, claim, store).await;
                    let usable = began.is_ok();
                    // If nobody waits any more, this drops what was claimed, which frees it.
                    let _ = reply.send(began);
                    usable
                })
            }
            Request::End { key, call, fate, room } => Box::pin(async move {
                let Some(mut connection) = connection else { return true };
                let usable = link.end(&mut connection, key, &call, fate).await;
                drop(room);
                usable
            }),
            Request::Flags(reply) => Box::pin(async move {
                let Some(mut connection) = connection else {
                    let _ = reply.send(Err(StoreError::Down));
                    return true;
                };
                let flags = connection.hgetall(link.key("flags")).await;
                let usable = flags.is_ok();
                let _ = reply.send(flags.map(Arc::new).map_err(StoreError::Redis));
                usable
            }),
            Request::SetFlag { name, value, reply } => Box::pin(async move {
                let Some(mut connection) = connection else {
                    let _ = reply.send(Err(StoreError::Down));
                    return true;
                };
                let key = link.key("flags");
                let done = match value {
                    Some(value) => connection.hset(key, name, value).await,
                    None => connection.hdel(key, name).await,
                };
                let done: Result<(), _> = done;
                let usable = done.is_ok();
                let _ = reply.send(done.map_err(StoreError::Redis));
                usable
            }),
            Request::Close(_) => Box::pin(std::future::ready(true)),
        }
    }
}

#[cfg(test)]
impl RedisTask {
    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }
}

#[cfg(test)]
impl Link {
    /// Reserves as if it were `now_us`.
    pub(crate) async fn reserve_at(mut self, now_us: u64, claims: &[Claim], store: Redis) -> Reserved {
        let time = format!("{{ '{}', '{}' }}", now_us / 1_000_000, now_us % 1_000_000);
        let text = include_str!("redis/reserve.lua").replace("redis.call('TIME')", &time);
        let settle = Script::new(include_str!("redis/settle.lua"));
        let [begin, end] = [include_str!("redis/begin.lua"), include_str!("redis/end.lua")].map(Script::new);
        self.scripts = Arc::new(Scripts { reserve: Script::new(&text), settle, begin, end });
        let mut connection = Connection::rest().fresh(&self).await.expect("the Redis of the test is there");
        self.reserve(&mut connection, claims, store).await.expect("the script is right")
    }
}

enum Connection {
    Present(MultiplexedConnection),
    /// Not tried again before then.
    Absent {
        until: Instant,
    },
}

impl Connection {
    fn rest() -> Self {
        Self::Absent { until: Instant::now() + REST }
    }

    async fn get(&mut self, link: &Link) -> Option<MultiplexedConnection> {
        match self {
            Self::Present(connection) => Some(connection.clone()),
            Self::Absent { until } if Instant::now() < *until => None,
            Self::Absent { .. } => self.fresh(link).await,
        }
    }

    async fn fresh(&mut self, link: &Link) -> Option<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(link.timeout))
            .set_response_timeout(Some(link.timeout));
        match link.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(mut connection) => {
                // Else its first run takes a round trip more, and what is asked meanwhile comes before it.
                drop(link.scripts.end.prepare_invoke().load_async(&mut connection).await);
                *self = Self::Present(connection.clone());
                Some(connection)
            }
            Err(error) => {
                tracing::warn!(%error, "Redis cannot be reached");
                *self = Self::rest();
                None
            }
        }
    }
}

impl Link {
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.keys)
    }

    fn counter(&self, counter: &CounterKey) -> String {
        format!("{}:c:{}", self.keys, counter.hex())
    }

    async fn reserve(
        &self,
        connection: &mut MultiplexedConnection,
        claims: &[Claim],
        store: Redis,
    ) -> Result<Reserved, StoreError> {
        let mut call = self.scripts.reserve.prepare_invoke();
        for claim in claims {
            call.key(self.counter(&claim.counter));
            call.arg(span(claim.span)).arg(bounded(claim.amount)).arg(bounded(claim.limit));
            call.arg(u8::from(claim.member.is_some()));
            if let Some(member) = &claim.member {
                call.key(self.counter(member));
            }
        }
        let answer: Vec<i64> = call.invoke_async(connection).await.map_err(StoreError::Redis)?;
        let number = |at: usize| answer.get(at).and_then(|number| u64::try_from(*number).ok());
        if number(0) == Some(1) {
            let grant = |(index, claim): (usize, &Claim)| Grant {
                counter: claim.counter,
                span: claim.span,
                slot: number(1 + index * 2).unwrap_or_default(),
                amount: bounded(claim.amount),
                member: claim.member,
                left: number(2 + index * 2).unwrap_or_default(),
            };
            let grants = claims.iter().enumerate().map(grant).collect();
            return Ok(Reserved::Granted(Reservation::new(Store::Redis(store), grants)));
        }
        Ok(Reserved::Refused(Refused {
            claim: number(1).and_then(|claim| usize::try_from(claim).ok()).unwrap_or_default(),
            left: number(2).unwrap_or_default(),
            wait_us: number(3),
        }))
    }

    fn named(&self, key: &CounterKey) -> String {
        format!("{}:k:{}", self.keys, key.hex())
    }

    async fn begin(
        &self,
        connection: &mut MultiplexedConnection,
        keyed: &Keyed,
        claim: bool,
        store: Redis,
    ) -> Result<Option<Began>, StoreError> {
        type Found = (u8, Vec<u8>, String, String, u64, Vec<u8>);
        let ms = |us: u64| bounded(us.div_ceil(1_000)).max(1);
        let mut call = self.scripts.begin.prepare_invoke();
        call.key(self.named(&keyed.key)).arg(&keyed.payload[..]).arg(&keyed.call);
        call.arg(ms(keyed.run_us)).arg(ms(keyed.keep_us)).arg(u8::from(claim));
        let found: Found = call.invoke_async(connection).await.map_err(StoreError::Redis)?;
        let (code, payload, call, state, left_ms, answer) = found;
        Ok(match code {
            0 => None,
            1 => Some(Began::First(Claimed::new(Store::Redis(store), keyed))),
            _ => {
                let state = match state.as_str() {
                    "answered" => Progress::Answered(Bytes::from(answer)),
                    "running" if left_ms > 0 => Progress::Running { left_us: left_ms.saturating_mul(1_000) },
                    _ => Progress::Unanswered,
                };
                // What is not a digest is that of no call.
                let payload = payload.try_into().unwrap_or([0; 32]);
                Some(Began::Known(Known { payload, call, state }))
            }
        })
    }

    async fn end(
        &self,
        connection: &mut MultiplexedConnection,
        key: CounterKey,
        name: &str,
        fate: Fate,
    ) -> bool {
        let (state, answer) = match fate {
            Fate::Free => ("free", Bytes::new()),
            Fate::Unanswered => ("unanswered", Bytes::new()),
            Fate::Answered(answer) => ("answered", answer),
        };
        let mut call = self.scripts.end.prepare_invoke();
        call.key(self.named(&key)).arg(name).arg(state).arg(&answer[..]);
        let ended: Result<i64, _> = call.invoke_async(connection).await;
        if let Err(error) = &ended {
            tracing::warn!(%error, "Redis was not told what became of a key: it stays with a call that has no answer");
        }
        ended.is_ok()
    }

    async fn settle(&self, connection: &mut MultiplexedConnection, settlements: &[Settlement]) -> bool {
        let mut call = self.scripts.settle.prepare_invoke();
        for Settlement { grant, used } in settlements {
            call.key(self.counter(&grant.counter));
            let change = i128::from(bounded(*used)) - i128::from(grant.amount);
            call.arg(grant.slot).arg(i64::try_from(change).unwrap_or_default()).arg(span(grant.span));
            call.arg(u8::from(grant.member.is_some()));
            if let Some(member) = &grant.member {
                call.key(self.counter(member));
            }
        }
        let settled: Result<i64, _> = call.invoke_async(connection).await;
        if let Err(error) = &settled {
            tracing::warn!(%error, "Redis was not told what a call used: what it reserved stays counted");
        }
        settled.is_ok()
    }
}

/// What the script takes for a span.
fn span(span: Span) -> String {
    match span {
        Span::Window { seconds } => (u64::from(seconds.max(1)) * 1_000_000 / SLOTS).to_string(),
        Span::Day => "day".into(),
        Span::Month => "month".into(),
    }
}

/// Lua's numbers are exact up to here.
fn bounded(number: u64) -> u64 {
    number.min(1 << 53)
}
