//! Calls that wait for people: opened by the firewall, decided through the operators' listener, released once.
//!
//! A hold is an entry of its run before anybody is told of it, and so is each decision before it counts. From these the table
//! is made again after a restart; a hold that enough had approved is over then, because it may have been used. While a hold
//! is open its run cannot be sealed.

mod asked;
mod call;
mod decide;
mod pass;
mod restore;
mod view;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use estoppel_evidence::capture::{Label, RunCapture, Tag};
use estoppel_evidence::entry::{ApprovalDecision, HoldOf, HoldOutcome};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, HoldId, KeyId, Leaf, Reason, RunId, Sha256};
use estoppel_journal::{Clock, RunHandle};
use estoppel_policy::{Approver, HoldMode};
use tokio::sync::Notify;

use crate::Metrics;

use asked::Asked;
use call::Call;
pub(crate) use call::without_state;
pub(crate) use decide::{Signed, decide};
pub(crate) use pass::pass;

/// Holds that are over and still known, so that a client learns why its call does not pass.
const OVER_MAX: usize = 4_096;

/// All holds of this process.
pub(crate) struct Holds {
    table: Mutex<Table>,
    max: usize,
    metrics: Metrics,
}

#[derive(Default)]
struct Table {
    holds: HashMap<HoldId, Hold>,
    open: usize,
    /// The oldest first.
    over: VecDeque<HoldId>,
    /// The process ends: nothing is held any more.
    shut: bool,
}

/// What a hold is of. Never changes.
struct Facts {
    id: HoldId,
    call: CallId,
    run: RunId,
    kept: Kept,
    bytes: u64,
    /// The body, where the policy stores it as it is.
    body: Option<String>,
    rule: Option<String>,
    tool: Option<String>,
    operation: String,
    policy: Sha256,
    approvers: Vec<(String, Approver)>,
    needs: u8,
    mode: HoldMode,
    opened: UnixMicros,
    expires: UnixMicros,
}

/// What has to be the same when the call comes again, as the journal has it: content by the tags of the hold's run.
struct Kept {
    route: Box<str>,
    method: Box<str>,
    target: Tag,
    /// What approvers sign, and what of the call it is the tag of.
    payload: Tag,
    of: HoldOf,
    requester: Option<Box<str>>,
}

impl Kept {
    fn is_of(&self, sent: &Sent, capture: &RunCapture) -> bool {
        self.route == sent.route
            && self.method == sent.method
            && self.requester == sent.requester
            && self.target == capture.tag(Label::RequestTarget, &sent.target)
            && sent.payload(self.of, capture) == Some(self.payload)
    }
}

/// A call as it came.
struct Sent {
    route: Box<str>,
    method: Box<str>,
    target: [u8; 32],
    body: [u8; 32],
    /// What it asks for, if it is one of MCP's requests.
    call: Option<Call>,
    requester: Option<Box<str>>,
    asked: Asked,
}

impl Sent {
    fn payload(&self, of: HoldOf, capture: &RunCapture) -> Option<Tag> {
        match of {
            HoldOf::Body => Some(capture.tag(Label::RequestBody, &self.body)),
            HoldOf::Call => Some(capture.tag(Label::RequestCall, &self.call.as_ref()?.digest)),
        }
    }
}

struct Hold {
    facts: Arc<Facts>,
    /// None once the hold is over, and after a restart.
    asked: Option<Asked>,
    state: State,
    leaf: Option<Leaf>,
    /// INVARIANT: gone once the hold is over, so that the run can be sealed.
    run: Option<RunHandle>,
    decisions: Vec<Decision>,
    /// Wakes the call that waits, if one does.
    changed: Arc<Notify>,
}

struct Decision {
    approver: KeyId,
    nonce: String,
    decision: ApprovalDecision,
    /// It is in the journal.
    noted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Its entry is not durable yet.
    Opening,
    Open,
    Approved,
    Denied,
    Expired,
    Used,
    /// Its client left, or the process ends.
    Left,
}

impl State {
    fn is_over(self) -> bool {
        match self {
            Self::Opening | Self::Open | Self::Approved => false,
            Self::Denied | Self::Expired | Self::Used | Self::Left => true,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Used => "released",
            Self::Left => "abandoned",
        }
    }
}

/// What becomes of a call that names a hold.
enum Claim {
    Waits(Arc<Facts>, Arc<Notify>),
    /// The one time.
    Passes {
        facts: Arc<Facts>,
        approved: Vec<KeyId>,
        leaf: Option<Leaf>,
        run: RunHandle,
    },
    Refused(Reason, Option<(Arc<Facts>, HoldOutcome)>),
}

impl Holds {
    pub(crate) fn new(max: usize, metrics: Metrics) -> Self {
        Self { table: Mutex::default(), max, metrics }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a hold; nobody can decide on it before [`Opening::confirm`].
    fn open(
        &self,
        facts: Arc<Facts>,
        asked: Asked,
        run: RunHandle,
        clock: Arc<dyn Clock>,
    ) -> Result<Opening<'_>, Reason> {
        let mut table = self.table();
        if table.shut {
            return Err(Reason::Shutdown);
        }
        if table.open >= self.max {
            return Err(Reason::HoldsMax);
        }
        table.open += 1;
        self.metrics.hold_opened(&facts.kept.route);
        let (id, changed) = (facts.id, Arc::<Notify>::default());
        let hold = Hold {
            facts,
            asked: Some(asked),
            state: State::Opening,
            leaf: None,
            run: Some(run),
            decisions: Vec::new(),
            changed: changed.clone(),
        };
        table.holds.insert(id, hold);
        Ok(Opening { holds: self, clock, id, changed, is_kept: false })
    }

    /// Whether a call passes under a hold. Where it does, the hold is used up. `policies`: the call's own, and the one in force.
    fn claim(&self, id: HoldId, sent: &Sent, policies: [Sha256; 2], now_us: u64) -> Claim {
        let mut table = self.table();
        self.expire(&mut table, id, now_us);
        let Some(hold) = table.holds.get(&id).filter(|hold| hold.facts.kept.requester == sent.requester)
        else {
            return Claim::Refused(Reason::HoldUnknown, None);
        };
        let facts = hold.facts.clone();
        match hold.state {
            State::Denied => return Claim::Refused(Reason::HoldDenied, Some((facts, HoldOutcome::Denied))),
            State::Expired => {
                return Claim::Refused(Reason::HoldExpired, Some((facts, HoldOutcome::Expired)));
            }
            State::Used | State::Left if table.shut => return Claim::Refused(Reason::Shutdown, None),
            State::Used | State::Left => return Claim::Refused(Reason::HoldClosed, None),
            State::Opening | State::Open | State::Approved => {}
        }
        if policies.iter().any(|policy| facts.policy != *policy) {
            return Claim::Refused(Reason::HoldPolicy, None);
        }
        let same = |run: &RunHandle| facts.kept.is_of(sent, run.capture());
        let asked_same = |asked: &Asked| asked.is_of(&sent.asked, sent.requester.is_some());
        if !hold.run.as_ref().is_some_and(same) || !hold.asked.as_ref().is_none_or(asked_same) {
            return Claim::Refused(Reason::HoldPayload, None);
        }
        match (hold.state, hold.run.clone()) {
            (State::Approved, Some(run)) => {
                let (approved, leaf) = (hold.approved(), hold.leaf);
                self.end(&mut table, id, State::Used, now_us);
                Claim::Passes { facts, approved, leaf, run }
            }
            _ => Claim::Waits(facts, hold.changed.clone()),
        }
    }

    /// The hold of a run under which the same call waits already, or may pass; none where its client has to name it.
    fn same(&self, run: RunId, policy: Sha256, sent: &Sent) -> Option<HoldId> {
        let is_same = |hold: &&Hold| {
            let (facts, kept) = (&hold.facts, &hold.facts.kept);
            let asked = |asked: &Asked| {
                asked.is_of(&sent.asked, sent.requester.is_some()) && asked.is_of_session(&sent.asked)
            };
            kept.of == HoldOf::Call
                && facts.mode == HoldMode::Accepted
                && (facts.run, facts.policy) == (run, policy)
                && hold.run.as_ref().is_some_and(|run| kept.is_of(sent, run.capture()))
                && hold.asked.as_ref().is_none_or(asked)
        };
        self.table().holds.values().find(is_same).map(|hold| hold.facts.id)
    }

    /// What the client of a held call is given to bring back; none once the hold is over.
    fn state(&self, id: HoldId) -> Option<String> {
        let run = self.table().holds.get(&id)?.run.clone()?;
        Some(call::state(id, run.capture()))
    }

    /// Ends holds whose time is over.
    pub(crate) fn sweep(&self, now_us: u64) {
        let mut table = self.table();
        let late = |hold: &Hold| !hold.state.is_over() && hold.facts.expires.0 <= now_us;
        let late: Vec<HoldId> =
            table.holds.values().filter(|hold| late(hold)).map(|hold| hold.facts.id).collect();
        late.into_iter().for_each(|id| self.end(&mut table, id, State::Expired, now_us));
    }

    /// The process ends: what waits is told so, and no run is kept open.
    pub(crate) fn shut(&self, now_us: u64) {
        let mut table = self.table();
        table.shut = true;
        let open = table.holds.values().filter(|hold| !hold.state.is_over());
        let open: Vec<HoldId> = open.map(|hold| hold.facts.id).collect();
        open.into_iter().for_each(|id| self.end(&mut table, id, State::Left, now_us));
    }

    fn expire(&self, table: &mut Table, id: HoldId, now_us: u64) {
        let late = table.holds.get(&id).is_some_and(|hold| hold.facts.expires.0 <= now_us);
        if late {
            self.end(table, id, State::Expired, now_us);
        }
    }

    fn end(&self, table: &mut Table, id: HoldId, state: State, now_us: u64) {
        let Some(hold) = table.holds.get_mut(&id).filter(|hold| !hold.state.is_over()) else { return };
        hold.state = state;
        hold.run = None;
        hold.asked = None;
        hold.changed.notify_one();
        let waited_us = now_us.saturating_sub(hold.facts.opened.0);
        self.metrics.hold_over(&hold.facts.kept.route, state.as_str(), waited_us);
        table.open -= 1;
        table.over.push_back(id);
        if table.over.len() > OVER_MAX
            && let Some(oldest) = table.over.pop_front()
        {
            table.holds.remove(&oldest);
        }
    }
}

impl Hold {
    /// Keys whose approval is in the journal.
    fn approved(&self) -> Vec<KeyId> {
        let counts = |decision: &&Decision| decision.noted && decision.decision == ApprovalDecision::Approve;
        self.decisions.iter().filter(counts).map(|decision| decision.approver).collect()
    }
}

/// A hold whose entry is on its way. Dropped without [`Opening::confirm`], or while its call waits, it is over.
struct Opening<'h> {
    holds: &'h Holds,
    clock: Arc<dyn Clock>,
    id: HoldId,
    changed: Arc<Notify>,
    is_kept: bool,
}

impl Opening<'_> {
    /// The entry is durable: people may decide now.
    fn confirm(&self, leaf: Option<Leaf>) {
        if let Some(hold) = self.holds.table().holds.get_mut(&self.id)
            && hold.state == State::Opening
        {
            hold.state = State::Open;
            hold.leaf = leaf;
        }
    }

    /// Leaves it open without a call that waits.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let now_us = self.clock.unix_us();
            self.holds.end(&mut self.holds.table(), self.id, State::Left, now_us);
        }
    }
}
