//! Looks at the repository and asks gateways in the background, each on a thread of its own, so that none of them keeps the
//! screen or another one waiting.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use estoppel_evidence::Reason;
use estoppel_release::{Code, Refusal, Version};

use super::deeds::{Deed, Outcome, done};
use super::gateway::Asked;
use super::model::{Fault, Gateway, Model, Releases, Traffic};
use super::repository::Looked;
use crate::arguments::{Dashboard, InRepository};
use crate::ledger::now;
use crate::output::Failure;

/// How often the repository is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a gateway is asked.
const ASK: Duration = Duration::from_secs(2);
/// Most of what came that waits to be taken; who brings more waits.
const QUEUE: usize = 64;
/// How long an answer is waited for where everything is shown once.
const ONCE: Duration = Duration::from_secs(5);

/// Something that came.
pub enum Told {
    Releases(Result<Releases, Fault>),
    Gateway(usize, Box<Result<Traffic, Fault>>),
    Ended(Outcome),
    Signal(Signal),
}

/// What the system asks of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    End,
    Stop,
}

/// What looks on, and what it has brought so far.
pub struct Watch {
    to: SyncSender<Told>,
    from: Receiver<Told>,
    nudge: SyncSender<()>,
}

impl Watch {
    /// Begins to look. Threads end with the program.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn begin(asked: &Dashboard) -> Result<Self, Failure> {
        let (to, from) = sync_channel(QUEUE);
        let (nudge, nudged) = sync_channel(1);
        let at = InRepository { repo: asked.at.repo.clone(), local: asked.at.local };
        let teller = to.clone();
        thread("repository", move || look(at, &teller, &nudged))?;
        for (number, address) in asked.gateways().enumerate() {
            let (address, teller) = (address.clone(), to.clone());
            thread("gateway", move || ask(&address, number, &teller))?;
        }
        Ok(Self { to, from, nudge })
    }

    pub fn teller(&self) -> SyncSender<Told> {
        self.to.clone()
    }

    /// What has come.
    pub fn next(&self) -> Option<Told> {
        self.from.try_recv().ok()
    }

    /// Does what was agreed to, and tells what came of it.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn act(&self, deed: Deed) -> Result<(), Failure> {
        let (to, nudge) = (self.to.clone(), self.nudge.clone());
        thread("command", move || {
            let outcome = done(&deed);
            // The repository is looked at anyway, only later.
            let _ = nudge.try_send(());
            drop(to.send(Told::Ended(outcome)));
        })
    }

    /// Everything once, or why it did not come.
    pub fn once(&self, asked: &Dashboard) -> Model {
        let mut model = empty(asked);
        let until = Instant::now() + ONCE;
        let is_missing = |model: &Model| {
            let mut gateways = model.gateways.iter();
            (model.releases.at.is_none() && model.releases.fault.is_none())
                || gateways.any(|gateway| gateway.seen.at.is_none() && gateway.seen.fault.is_none())
        };
        while is_missing(&model) {
            match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(told) => take(&mut model, told),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let late = |what: &str| format!("{what} did not answer within {} s", ONCE.as_secs());
        if model.releases.at.is_none() && model.releases.fault.is_none() {
            model.releases.fault = Some(Refusal::new(Code::GitTime, late("git")).into());
        }
        for gateway in &mut model.gateways {
            if gateway.seen.at.is_none() && gateway.seen.fault.is_none() {
                let failure = Failure::reason(Reason::AdminUnreachable, late(&gateway.admin));
                gateway.seen.fault = Some(failure.into());
            }
        }
        model
    }
}

/// Before anything is known.
pub fn empty(asked: &Dashboard) -> Model {
    let gateway = |admin: &String| Gateway { admin: admin.clone(), seen: Default::default() };
    Model { gateways: asked.gateways().map(gateway).collect(), ..Model::default() }
}

/// Takes what came into what is known; commands and signals are none of it.
pub fn take(model: &mut Model, told: Told) {
    match told {
        Told::Releases(came) => model.releases.take(came, now()),
        Told::Gateway(number, came) => {
            if let Some(gateway) = model.gateways.get_mut(number) {
                gateway.seen.take(*came, now());
            }
        }
        Told::Ended(_) | Told::Signal(_) => {}
    }
}

/// Where only one generation is asked for, the others are left out.
pub fn only(model: &mut Model, version: &Version) -> Result<(), Failure> {
    let Some(releases) = &mut model.releases.value else { return Ok(()) };
    releases.generations.retain(|generation| generation.version == *version);
    match releases.generations.is_empty() {
        true => Err(Failure::input("GENERATION_UNKNOWN", format!("there is no generation {version}"))),
        false => Ok(()),
    }
}

pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name(name.into()).spawn(work);
    started.map(drop).map_err(|error| Failure::runtime("INTERNAL", error.to_string()))
}

fn look(at: InRepository, to: &SyncSender<Told>, nudged: &Receiver<()>) {
    let mut looked = Looked::new(at);
    // It ends when nobody takes what it brings.
    while to.send(Told::Releases(looked.look())).is_ok() {
        if let Err(RecvTimeoutError::Disconnected) = nudged.recv_timeout(LOOK) {
            std::thread::sleep(LOOK);
        }
    }
}

fn ask(address: &str, number: usize, to: &SyncSender<Told>) {
    let mut asked = Asked::new(address);
    while to.send(Told::Gateway(number, Box::new(asked.ask()))).is_ok() {
        std::thread::sleep(ASK);
    }
}
