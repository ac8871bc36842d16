//! Kill switches: what operators have stopped, whatever the policy says, until they let it go on.
//!
//! They are flags of the store of counters, so all gateways of one store have the same, and they stay over restarts. Each
//! gateway reads them every [`REFRESH`], and records what has changed in its journal. While they cannot be read, those that
//! were read last hold; a gateway that has never read any takes no calls. What is stopped while the store cannot be written
//! is stopped at the gateway that was asked, which writes it when the store is back.
//!
//! A store may be lost: a file that was removed, a Redis that was flushed. So a store says since when it is there
//! ([`BORN`]), and what was stopped before, in this process or by the journal, holds until somebody lets it go on.
//!
//! A switch stops calls that have not been sent yet. Answers that are on their way are left to end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{Act, Event};
use estoppel_journal::{Before, KilledTarget};
use estoppel_policy::RequestFacts;
use estoppel_state::{Flags, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::serve::Shared;

/// How long a switch that was set elsewhere takes to be seen here, beside the time of the store.
const REFRESH: Duration = Duration::from_millis(250);
/// Before the name of a switch in the store.
const PREFIX: &str = "kill:";
/// Since when the store is there, in microseconds since 1970-01-01T00:00:00Z. A store without it is new, or was emptied.
const BORN: &str = "born";
/// How many times the switches are read before a store that could not be told so is told again since when it is there.
const BIRTH_ROUNDS: u32 = 120;
/// What was let go on is told so long to gateways that were not there; then it may be forgotten.
const RESUMED_US: u64 = 3_600_000_000;
/// Most switches at a time.
pub(crate) const SWITCHES_MAX: usize = 1_024;
/// Longest name of a target and of who did it, and longest reason, in bytes: what an entry of the journal takes.
const NAME_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 256;

/// What a switch stops: `all`, or `route:`, `tool:`, `identity:` or `tenant:` and a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Target(String);

impl Target {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self(text.into()));
        }
        let (kind, name) = text.split_once(':')?;
        let fits = !name.is_empty() && text.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
        match kind {
            // Tools are the same tool in either case, as for rules.
            "tool" if fits => Some(Self(format!("tool:{}", name.to_ascii_lowercase()))),
            "route" | "identity" | "tenant" if fits => Some(Self(text.into())),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the route that it stops.
    pub(crate) fn route(&self) -> Option<&str> {
        self.0.strip_prefix("route:")
    }
}

/// Who stopped it or let it go on, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Kill {
    /// What whoever asked for it called themselves.
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) since_us: u64,
    /// Or let go on again.
    pub(crate) killed: bool,
}

impl Kill {
    pub(crate) fn new(by: &str, reason: &str, killed: bool, since_us: u64) -> Option<Self> {
        let fits = |text: &str, max: usize| {
            text.len() <= max && !text.trim().is_empty() && !text.contains(char::is_control)
        };
        (fits(by, NAME_BYTES_MAX) && fits(reason, REASON_BYTES_MAX)).then(|| Self {
            by: by.into(),
            reason: reason.into(),
            since_us,
            killed,
        })
    }
}

/// What changed: a target, and who did it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) target: Target,
    pub(crate) kill: Kill,
}

/// Those in force.
#[derive(Debug, Default)]
pub(crate) struct Killed {
    read: Arc<Flags>,
    born_us: Option<u64>,
    targets: BTreeMap<Target, Kill>,
    resumed: BTreeMap<Target, Kill>,
    /// Those of `targets` that the store does not have yet.
    unwritten: BTreeMap<Target, Kill>,
}

impl Killed {
    fn new(read: Arc<Flags>) -> Self {
        let target = |(name, value): (&String, &String)| {
            let target = Target::parse(name.strip_prefix(PREFIX)?)?;
            // Whatever it says, somebody has set it.
            let unknown = || Kill { by: "-".into(), reason: "-".into(), since_us: 0, killed: true };
            Some((target, serde_json::from_str(value).unwrap_or_else(|_| unknown())))
        };
        let (targets, resumed) = read.iter().filter_map(target).partition(|(_, kill)| kill.killed);
        let born_us = read.get(BORN).and_then(|born| born.parse().ok());
        Self { read, born_us, targets, resumed, unwritten: BTreeMap::new() }
    }

    /// What the journal says was stopped when the process before this one ended.
    fn recorded(targets: &[KilledTarget]) -> Self {
        let target = |target: &KilledTarget| {
            let KilledTarget { on, by, comment, at_us } = target;
            let reason = comment.clone().unwrap_or_else(|| "-".into());
            Some((Target::parse(on)?, Kill { by: by.clone(), reason, since_us: *at_us, killed: true }))
        };
        Self { targets: targets.iter().filter_map(target).collect(), ..Self::default() }
    }

    /// With what was stopped before the store was there, of which it knows nothing.
    fn with_older(mut self, before: &Self) -> Self {
        for (target, kill) in &before.targets {
            let is_known = self.targets.contains_key(target) || self.resumed.contains_key(target);
            if !is_known && self.born_us.is_none_or(|born_us| kill.since_us < born_us) {
                self.targets.insert(target.clone(), kill.clone());
                self.unwritten.insert(target.clone(), kill.clone());
            }
        }
        self
    }

    /// With what was stopped here, unless the store has something newer of it.
    fn with_unwritten(mut self, unwritten: &BTreeMap<Target, Kill>) -> Self {
        for (target, kill) in unwritten {
            let known = self.targets.get(target).or(self.resumed.get(target));
            if known.is_none_or(|known| known.since_us < kill.since_us) {
                self.targets.insert(target.clone(), kill.clone());
                self.unwritten.insert(target.clone(), kill.clone());
            }
        }
        self
    }

    pub(crate) fn targets(&self) -> &BTreeMap<Target, Kill> {
        &self.targets
    }

    /// The switch that stops a call.
    fn stops(&self, facts: &RequestFacts<'_>) -> Option<&Target> {
        if self.targets.is_empty() {
            return None;
        }
        self.targets.keys().find(|target| match target.0.split_once(':') {
            None => true,
            Some(("route", name)) => facts.route == name,
            Some(("identity", name)) => facts.identity == Some(name),
            Some(("tenant", name)) => facts.tenant == Some(name),
            Some((_, name)) => facts.tools.iter().any(|tool| tool.name.eq_ignore_ascii_case(name)),
        })
    }

    fn changes(&self, after: &Self) -> Vec<Change> {
        let told = |(target, kill): (&Target, &Kill)| Change { target: target.clone(), kill: kill.clone() };
        let new = after.targets.iter().filter(|(target, kill)| self.targets.get(target) != Some(kill));
        // One that was taken out of the store by hand goes on, and nobody says who did it.
        let gone = self.targets.keys().filter(|target| !after.targets.contains_key(target));
        let gone = gone.map(|target| {
            let nobody = Kill { by: "-".into(), reason: "-".into(), since_us: 0, killed: false };
            let kill = after.resumed.get(target).cloned().unwrap_or(nobody);
            Change { target: target.clone(), kill }
        });
        gone.chain(new.map(told)).collect()
    }
}

/// The switches of one gateway.
#[derive(Debug)]
pub(crate) struct Switches {
    /// None: never read.
    now: ArcSwapOption<Killed>,
    /// What the journal says.
    recorded: Killed,
    journal_is_new: bool,
    /// When the store was found without what it had; 0: never.
    lost_us: AtomicU64,
    /// They could not be read the last time.
    unreadable: AtomicBool,
    /// How many calls each in force has stopped at this gateway. Held for arithmetic only.
    stopped: Mutex<BTreeMap<Target, u64>>,
    /// Held while they are read, so that each change is told once.
    reading: tokio::sync::Mutex<()>,
    /// Held while one is written, so that an older word never follows a newer one.
    writing: tokio::sync::Mutex<()>,
}

/// What reading them has shown.
#[derive(Debug, Default)]
pub(crate) struct Read {
    changes: Vec<Change>,
    /// The store is without what it had.
    is_lost: bool,
}

impl Switches {
    pub(crate) fn new(before: Before) -> Self {
        Self {
            now: ArcSwapOption::empty(),
            recorded: Killed::recorded(&before.killed),
            journal_is_new: before.is_new,
            lost_us: AtomicU64::new(0),
            unreadable: AtomicBool::new(false),
            stopped: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn in_force(&self) -> Option<Arc<Killed>> {
        self.now.load_full()
    }

    /// When the store was last found without what it had.
    pub(crate) fn lost_us(&self) -> Option<u64> {
        Some(self.lost_us.load(Ordering::Relaxed)).filter(|lost_us| *lost_us != 0)
    }

    /// Whether they could not be read the last time.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Why a call must not go on.
    pub(crate) fn stops(&self, facts: &RequestFacts<'_>) -> Option<Reason> {
        match &*self.now.load() {
            None => Some(Reason::StoreDown),
            Some(killed) => killed.stops(facts).map(|target| {
                let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
                match stopped.get_mut(target) {
                    Some(count) => *count += 1,
                    None => drop(stopped.insert(target.clone(), 1)),
                }
                Reason::Killed
            }),
        }
    }

    /// How many calls a switch has stopped at this gateway since it is in force here.
    pub(crate) fn stopped(&self, target: &Target) -> u64 {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.get(target).copied().unwrap_or(0)
    }

    fn put(&self, killed: Killed) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.retain(|target, _| killed.targets.contains_key(target));
        self.now.store(Some(Arc::new(killed)));
    }

    /// Reads them, and tells what has changed.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<Read, StoreError> {
        let _one = self.reading.lock().await;
        let flags = store.flags().await?;
        let before = self.now.load_full();
        if before.as_ref().is_some_and(|before| before.read == flags) {
            return Ok(Read::default());
        }
        let read = Killed::new(flags);
        let (after, is_lost, changes) = match &before {
            Some(before) => {
                let is_lost = before.born_us.is_some() && before.born_us != read.born_us;
                let after = read.with_unwritten(&before.unwritten).with_older(before);
                let changes = before.changes(&after);
                (after, is_lost, changes)
            }
            None => {
                let is_unborn = read.born_us.is_none() && !self.journal_is_new;
                let after = read.with_older(&self.recorded);
                let resumed = self.recorded.changes(&after).into_iter().filter(|change| !change.kill.killed);
                let changes = resumed.chain(Killed::default().changes(&after)).collect();
                let is_lost = is_unborn || !after.unwritten.is_empty();
                (after, is_lost, changes)
            }
        };
        self.put(after);
        Ok(Read { changes, is_lost })
    }

    /// Stops a target at this gateway alone. A gateway that has never read its switches takes no calls as it is.
    async fn stop_here(&self, target: &Target, kill: &Kill) -> Vec<Change> {
        let _one = self.reading.lock().await;
        let Some(before) = self.now.load_full() else { return Vec::new() };
        let mut unwritten = before.unwritten.clone();
        unwritten.insert(target.clone(), kill.clone());
        let after = Killed::new(before.read.clone()).with_unwritten(&unwritten).with_older(&before);
        let changes = before.changes(&after);
        self.put(after);
        changes
    }
}

/// Reads them again and again, for as long as the gateway runs.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let (mut failed, mut unborn_rounds) = (false, 0);
    loop {
        let read = shared.keep_switches().await;
        if unborn_rounds % BIRTH_ROUNDS == 0
            && read.is_ok()
            && let Err(error) = shared.keep_birth().await
        {
            tracing::warn!(%error, "the store cannot be told since when it is there");
        }
        let is_born = shared.switches.in_force().is_some_and(|killed| killed.born_us.is_some());
        unborn_rounds = if is_born { 0 } else { unborn_rounds + u32::from(read.is_ok()) };
        if let Err(error) = &read
            && !failed
        {
            tracing::warn!(%error, "kill switches cannot be read; those read last hold");
        }
        failed = read.is_err();
        shared.switches.unreadable.store(failed, Ordering::Relaxed);
        tokio::time::sleep(REFRESH).await;
    }
}

impl Shared {
    /// Stops a target or lets it go on, here at once, and at other gateways of the store when they look.
    ///
    /// # Errors
    /// The store was not written. What was to be stopped is stopped here.
    pub(crate) async fn switch(&self, target: &Target, kill: &Kill) -> Result<(), StoreError> {
        let _one = self.switches.writing.lock().await;
        let written = self.write_switch(target, kill).await;
        if written.is_err() && kill.killed {
            let changes = self.switches.stop_here(target, kill).await;
            self.tell_switches(changes);
        }
        written
    }

    async fn write_switch(&self, target: &Target, kill: &Kill) -> Result<(), StoreError> {
        let store = self.controls.store();
        let known = self.switches.in_force().unwrap_or_default();
        let is_old = |resumed: &Kill| resumed.since_us.saturating_add(RESUMED_US) < kill.since_us;
        for (old, _) in known.resumed.iter().filter(|(_, resumed)| is_old(resumed)) {
            store.set_flag(&format!("{PREFIX}{}", old.0), None).await?;
        }
        let value = serde_json::to_string(kill).unwrap_or_default();
        store.set_flag(&format!("{PREFIX}{}", target.0), Some(&value)).await?;
        self.refresh_switches().await
    }

    /// Reads them, and writes what the store does not have yet.
    pub(crate) async fn keep_switches(&self) -> Result<(), StoreError> {
        self.refresh_switches().await?;
        if self.switches.in_force().is_none_or(|killed| killed.unwritten.is_empty()) {
            return Ok(());
        }
        let _one = self.switches.writing.lock().await;
        for (target, kill) in &self.switches.in_force().unwrap_or_default().unwritten {
            self.write_switch(target, kill).await?;
        }
        Ok(())
    }

    /// Reads them now, and records what has changed.
    pub(crate) async fn refresh_switches(&self) -> Result<(), StoreError> {
        let Read { changes, is_lost } = self.switches.refresh(self.controls.store()).await?;
        if is_lost {
            let kept = self.switches.in_force().map_or(0, |killed| killed.unwritten.len());
            tracing::error!(
                kept_switches = kept,
                "the store is without what it had: counts begin anew, switches that are known here hold"
            );
            self.metrics.store_lost();
            self.switches.lost_us.store(self.clock.unix_us(), Ordering::Relaxed);
        }
        self.tell_switches(changes);
        Ok(())
    }

    /// Has the store say since when it is there. Without a journal nobody would know what was there before.
    async fn keep_birth(&self) -> Result<(), StoreError> {
        let is_unborn = self.switches.in_force().is_some_and(|killed| killed.born_us.is_none());
        if !is_unborn || self.journal.is_off() {
            return Ok(());
        }
        let _one = self.switches.writing.lock().await;
        self.refresh_switches().await?; // another gateway may have been first
        if self.switches.in_force().is_some_and(|killed| killed.born_us.is_some()) {
            return Ok(());
        }
        let now = self.clock.unix_us().to_string();
        self.controls.store().set_flag(BORN, Some(&now)).await?;
        self.refresh_switches().await
    }

    fn tell_switches(&self, changes: Vec<Change>) {
        for Change { target, kill } in changes {
            let act = if kill.killed { "kill" } else { "resume" };
            let Kill { by, reason, .. } = kill;
            tracing::warn!(on = target.as_str(), act, by, reason, "a kill switch has changed");
            let (comment, on) = (Some(reason), Some(target.0));
            // Recorded with what comes next; who switched waits for the switch, not for the disk.
            drop(self.journal.note(None, Event::Act(Act { act, by, comment, on, reason: None })));
        }
    }
}

#[cfg(test)]
mod tests {
    use estoppel_policy::Tool;

    use super::*;

    fn killed(targets: &[&str]) -> Killed {
        let flags = targets.iter().map(|target| (format!("kill:{target}"), "{}".into()));
        Killed::new(Arc::new(flags.collect()))
    }

    #[test]
    fn a_switch_stops_what_it_names_and_nothing_else() {
        let tools = [Tool::from("Shell"), Tool::from("look")];
        let facts = RequestFacts {
            route: "llm",
            identity: Some("a"),
            tenant: Some("t"),
            tools: &tools,
            ..RequestFacts::default()
        };
        for target in ["all", "route:llm", "identity:a", "tenant:t", "tool:shell", "tool:SHELL"] {
            assert!(killed(&["tool:other", target]).stops(&facts).is_some(), "{target}");
        }
        for target in
            ["route:LLM", "route:ll", "identity:A", "tenant:T", "tenant:a", "tool:shel", "tool:other"]
        {
            assert!(killed(&[target]).stops(&facts).is_none(), "{target}");
        }
    }

    #[test]
    fn targets_are_of_a_known_kind() {
        for text in ["", "everything", "tool:", "tool", "job:1", "route:a\nb", ":x"] {
            assert_eq!(Target::parse(text), None, "{text:?}");
        }
        assert_eq!(Target::parse("tool:Shell"), Target::parse("tool:shell"));
    }

    #[test]
    fn what_the_store_does_not_have_yet_holds_until_the_store_says_something_newer() {
        let target = Target::parse("tool:a").unwrap();
        let kill = |killed, since_us| Kill::new("a", "b", killed, since_us).unwrap();
        let unwritten = BTreeMap::from([(target.clone(), kill(true, 5))]);
        let store = |kill: Kill| {
            let value = serde_json::to_string(&kill).unwrap();
            Killed::new(Arc::new([("kill:tool:a".to_owned(), value)].into())).with_unwritten(&unwritten)
        };
        for (found, is_killed, is_unwritten) in [
            (killed(&[]).with_unwritten(&unwritten), true, true),
            (store(kill(false, 4)), true, true),
            (store(kill(true, 5)), true, false),
            (store(kill(false, 6)), false, false),
        ] {
            assert_eq!(found.targets.contains_key(&target), is_killed, "{found:?}");
            assert_eq!(found.unwritten.contains_key(&target), is_unwritten, "{found:?}");
        }
    }

    #[test]
    fn what_is_older_than_the_store_and_unknown_to_it_holds() {
        let (target, other) = (Target::parse("tool:a").unwrap(), Target::parse("all").unwrap());
        let kill = |killed| Kill::new("a", "b", killed, 5).unwrap();
        let before = Killed { targets: [(target.clone(), kill(true))].into(), ..Killed::default() };
        let said = |kill: Kill| serde_json::to_string(&kill).unwrap();
        for (flags, holds, is_unwritten) in [
            (vec![], true, true),
            (vec![("kill:all", said(kill(true)))], true, true),
            (vec![("born", "6".into())], true, true),
            (vec![("born", "5".into())], false, false),
            (vec![("born", "6".into()), ("kill:tool:a", said(kill(false)))], false, false),
            (vec![("kill:tool:a", said(kill(true)))], true, false),
        ] {
            let flags: Flags = flags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let has_other = flags.contains_key("kill:all");
            let after = Killed::new(Arc::new(flags)).with_older(&before);
            assert_eq!(after.targets.contains_key(&target), holds, "{after:?}");
            assert_eq!(after.targets.contains_key(&other), has_other, "{after:?}");
            assert_eq!(after.unwritten.contains_key(&target), is_unwritten, "{after:?}");
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let (before, after) = (killed(&["all", "tool:a"]), killed(&["all", "tool:b"]));
        let told: Vec<_> = before.changes(&after).into_iter().map(|c| (c.target.0, c.kill.killed)).collect();
        assert_eq!(told, [("tool:a".to_owned(), false), ("tool:b".to_owned(), true)]);
        assert!(after.changes(&after).is_empty());
    }
}
