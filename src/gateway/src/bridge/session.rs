//! One process with those who wait for what it says.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::events::Said;
use super::process::{Command, Process};

/// Messages that wait for one client to read them. When there are more, its stream ends.
const SAID_MAX: usize = 256;
/// How long a process has to end once its input is closed.
const END_MAX: Duration = Duration::from_secs(2);
/// Most requests of one process at a time.
const ASKED_MAX: usize = 256;

/// A session, or what shares the process that belongs to none.
pub(super) struct Session {
    id: String,
    process: OnceLock<Arc<Process>>,
    open: AtomicBool,
    used: Mutex<Instant>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By the id that the process knows; the oldest is first.
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// The client's own stream.
    stream: Option<mpsc::Sender<String>>,
}

/// A request that has no answer yet.
struct Asked {
    /// The client's id.
    id: Value,
    /// The client's token for progress, where processes are shared.
    token: Option<Value>,
    sender: mpsc::Sender<String>,
}

/// 128 random bits as hex.
pub(super) fn new_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Session {
    pub(super) fn start(id: &str, command: &Command) -> io::Result<Arc<Self>> {
        let session = Arc::new(Self {
            id: id.into(),
            process: OnceLock::new(),
            open: AtomicBool::new(true),
            used: Mutex::new(Instant::now()),
            waiting: Mutex::default(),
        });
        let weak = Arc::downgrade(&session);
        let process = Process::start(command, move |line| {
            let Some(session) = weak.upgrade() else { return };
            match line {
                Some(line) => session.said(line),
                None => session.over(),
            }
        })?;
        let _ = session.process.set(process); // nobody else has the session yet
        if !session.is_open() {
            session.over(); // it ended before it was known
        }
        Ok(session)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// When it was last used, unless somebody waits.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let waiting = self.waiting();
        let listens = waiting.stream.as_ref().is_some_and(|stream| !stream.is_closed());
        let waits = listens || waiting.asked.values().any(|asked| !asked.sender.is_closed());
        (!waits).then(|| *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether clients share its process.
    fn is_shared(&self) -> bool {
        self.id.is_empty()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message that wants no answer.
    pub(super) async fn tell(&self, mut message: Value) -> Result<(), &'static str> {
        if message["method"] == "notifications/cancelled" {
            if self.is_shared() {
                return Ok(()); // whose request that is cannot be told; closing its stream is what cancels it
            }
            let cancelled = message["params"]["requestId"].clone();
            let waiting = self.waiting();
            let known = waiting.asked.iter().find(|(_, asked)| asked.id == cancelled).map(|(ours, _)| *ours);
            drop(waiting);
            let Some(ours) = known else { return Ok(()) };
            message["params"]["requestId"] = json!(ours);
        }
        self.say(&message).await
    }

    /// Sends a request. Gives what is said to it, its answer last.
    pub(super) async fn ask(&self, id: Value, mut message: Value) -> Result<Said, &'static str> {
        let (sender, said) = mpsc::channel(SAID_MAX);
        {
            let mut waiting = self.waiting();
            waiting.asked.retain(|_, asked| !asked.sender.is_closed());
            if waiting.asked.len() >= ASKED_MAX {
                return Err("there are too many requests");
            }
            let ours = waiting.next;
            waiting.next += 1;
            let token = message.pointer_mut("/params/_meta/progressToken").filter(|_| self.is_shared());
            let token = token.map(|token| std::mem::replace(token, json!(ours)));
            waiting.asked.insert(ours, Asked { id, token, sender });
            message["id"] = json!(ours);
        }
        self.say(&message).await.map(|()| said)
    }

    async fn say(&self, message: &Value) -> Result<(), &'static str> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let process = self.process.get().ok_or("the server has ended")?;
        process.say(message.to_string()).await
    }

    /// What is said and answers nothing, from now on.
    pub(super) fn listen(&self) -> Said {
        let (sender, said) = mpsc::channel(SAID_MAX);
        if self.is_open() {
            self.waiting().stream = Some(sender);
        }
        said
    }

    /// The process says a line.
    fn said(&self, line: &[u8]) {
        let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
            tracing::warn!(bytes = line.len(), "the server says what is no message");
            return;
        };
        let mut waiting = self.waiting();
        let answers = message.get("method").is_none();
        if answers {
            let asked = message["id"].as_u64().and_then(|ours| waiting.asked.remove(&ours));
            if let Some(asked) = asked {
                message["id"] = asked.id;
                deliver(&asked.sender, &message);
            }
            return;
        }
        if self.is_shared() {
            let ours = message["params"]["progressToken"].as_u64();
            let asked = ours.and_then(|ours| waiting.asked.get(&ours));
            match asked.and_then(|asked| Some((asked, asked.token.as_ref()?))) {
                Some((asked, token)) => {
                    message["params"]["progressToken"] = token.clone();
                    deliver(&asked.sender, &message);
                }
                None => tracing::warn!("whom the server tells something cannot be told"),
            }
            return;
        }
        let own = waiting.stream.as_ref().filter(|stream| !stream.is_closed());
        let oldest = || waiting.asked.values().map(|asked| &asked.sender).find(|sender| !sender.is_closed());
        match own.or_else(oldest) {
            Some(sender) => deliver(sender, &message),
            None => tracing::warn!("nobody listens to what the server says"),
        }
    }

    /// The process says nothing any more.
    fn over(&self) {
        self.open.store(false, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *self.waiting());
        for Asked { id, sender, .. } in waiting.asked.into_values() {
            let error = json!({ "code": -32_000, "message": "the server has ended" });
            deliver(&sender, &json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
        if let Some(process) = self.process.get() {
            process.end(END_MAX);
        }
    }

    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
        if let Some(process) = self.process.get() {
            process.close();
        }
    }

    /// Ends the process.
    pub(super) async fn end(&self) {
        self.close();
        let Some(process) = self.process.get().cloned() else { return };
        if tokio::task::spawn_blocking(move || process.end(END_MAX)).await.is_err() {
            tracing::error!("a process could not be ended");
        }
    }
}

/// A client that does not read loses its stream, not the process.
fn deliver(sender: &mpsc::Sender<String>, message: &Value) {
    if sender.try_send(message.to_string()).is_err() {
        tracing::warn!("a client does not read what the server says");
    }
}
