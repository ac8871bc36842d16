//! Kill switches: what operators have stopped, whatever the policy says, until they let it go on.
//!
//! They are flags of the store of counters, so all gateways of one store have the same, and they stay over restarts. Each
//! gateway reads them every [`REFRESH`], and records what has changed in its journal. While they cannot be read, those that
//! were read last hold; a gateway that has never read any takes no calls. What is stopped while the store cannot be written
//! is stopped at the gateway that was asked, which writes it when the store is back.
//!
//! A switch stops calls that have not been sent yet. Answers that are on their way are left to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{Act, Event};
use estoppel_policy::RequestFacts;
use estoppel_state::{Flags, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::serve::Shared;

/// How long a switch that was set elsewhere takes to be seen here, beside the time of the store.
const REFRESH: Duration = Duration::from_millis(250);
/// Before the name of a switch in the store.
const PREFIX: &str = "kill:";
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
        Self { read, targets, resumed, unwritten: BTreeMap::new() }
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
#[derive(Debug, Default)]
pub(crate) struct Switches {
    /// None: never read.
    now: ArcSwapOption<Killed>,
    /// Held while they are read, so that each change is told once.
    reading: tokio::sync::Mutex<()>,
    /// Held while one is written, so that an older word never follows a newer one.
    writing: tokio::sync::Mutex<()>,
}

impl Switches {
    pub(crate) fn in_force(&self) -> Option<Arc<Killed>> {
        self.now.load_full()
    }

    /// Why a call must not go on.
    pub(crate) fn stops(&self, facts: &RequestFacts<'_>) -> Option<Reason> {
        match &*self.now.load() {
            None => Some(Reason::StoreDown),
            Some(killed) => killed.stops(facts).map(|_| Reason::Killed),
        }
    }

    /// Reads them, and tells what has changed.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<Vec<Change>, StoreError> {
        let _one = self.reading.lock().await;
        let flags = store.flags().await?;
        let before = self.now.load_full();
        if before.as_ref().is_some_and(|before| before.read == flags) {
            return Ok(Vec::new());
        }
        let none = BTreeMap::new();
        let after =
            Killed::new(flags).with_unwritten(before.as_ref().map_or(&none, |before| &before.unwritten));
        let changes = before.as_deref().unwrap_or(&Killed::default()).changes(&after);
        self.now.store(Some(Arc::new(after)));
        Ok(changes)
    }

    /// Stops a target at this gateway alone. A gateway that has never read its switches takes no calls as it is.
    async fn stop_here(&self, target: &Target, kill: &Kill) -> Vec<Change> {
        let _one = self.reading.lock().await;
        let Some(before) = self.now.load_full() else { return Vec::new() };
        let mut unwritten = before.unwritten.clone();
        unwritten.insert(target.clone(), kill.clone());
        let after = Killed::new(before.read.clone()).with_unwritten(&unwritten);
        let changes = before.changes(&after);
        self.now.store(Some(Arc::new(after)));
        changes
    }
}

/// Reads them again and again, for as long as the gateway runs.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut failed = false;
    loop {
        let read = shared.keep_switches().await;
        if let Err(error) = &read
            && !failed
        {
            tracing::warn!(%error, "kill switches cannot be read; those read last hold");
        }
        failed = read.is_err();
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
    async fn keep_switches(&self) -> Result<(), StoreError> {
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
        let changes = self.switches.refresh(self.controls.store()).await?;
        self.tell_switches(changes);
        Ok(())
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
    fn each_change_is_told_once() {
        let (before, after) = (killed(&["all", "tool:a"]), killed(&["all", "tool:b"]));
        let told: Vec<_> = before.changes(&after).into_iter().map(|c| (c.target.0, c.kill.killed)).collect();
        assert_eq!(told, [("tool:a".to_owned(), false), ("tool:b".to_owned(), true)]);
        assert!(after.changes(&after).is_empty());
    }
}
