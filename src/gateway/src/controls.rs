//! What the policy's controls count of a call: reserved after its request was allowed and before anything of it is sent,
//! settled when its record is finished.
//!
//! A call that reaches no upstream gives back all that it held. Of one that does, calls count as calls; tokens and costs
//! count as the upstream states them, and where it does not say, what was reserved stays counted.

mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use estoppel_evidence::Reason;
use estoppel_evidence::entry::{LimitRecord, LimitState, Usage};
use estoppel_policy::{Control, ControlKind, OnStoreDown};
use estoppel_state::{Refused, Reservation, Reserved, Store, StoreError};
use estoppel_wire::dialect::Dialect;

pub(crate) use self::plan::{Asks, Counting, Plan};
use crate::Metrics;
use crate::exchange::Exchange;
use crate::respond::{Refusal, Retry};

/// The counters, and what is let through without them.
pub(crate) struct Controls {
    store: Store,
    /// Calls that controls have let through since the store was last there. Held for arithmetic only.
    budgets: Mutex<BTreeMap<Box<str>, u64>>,
}

/// What one call holds of the counters.
#[derive(Debug)]
pub(crate) struct Held {
    /// None: they could not be reached.
    reservation: Option<Reservation>,
    counting: Vec<Counting>,
}

/// How a call ended, as far as it matters for what is counted.
pub(crate) struct Ending {
    /// Something of it may have reached the upstream.
    pub(crate) sent: bool,
    /// Of the upstream's answer, if there was one.
    pub(crate) status: Option<u16>,
    pub(crate) usage: Usage,
    /// The answer came to an end of its own: no stream that was left or broke off.
    pub(crate) is_whole: bool,
    pub(crate) dialect: Dialect,
}

impl Controls {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, budgets: Mutex::default() }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Lets a call through for each of these controls without a count, or for none.
    fn spend(&self, controls: &[&Control]) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |control: &&Control| match control.on_store_down() {
            OnStoreDown::Closed => false,
            OnStoreDown::LocalBudget(calls) => {
                budgets.get(control.id().as_str()).is_none_or(|spent| *spent < calls)
            }
        };
        if !controls.iter().all(has_room) {
            return false;
        }
        for control in controls {
            *budgets.entry(control.id().as_str().into()).or_default() += 1;
        }
        true
    }

    /// The store is there.
    fn forget_budgets(&self) {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Counts a call whose request is allowed. Gives what it is answered with if a control stands in its way.
pub(crate) async fn reserve(exchange: &mut Exchange) -> Option<Refusal> {
    if let Some(stopped) = stopped(exchange) {
        return Some(stopped);
    }
    let policy = exchange.snapshot.policy.clone();
    if !policy.has_controls() {
        return None;
    }
    let now_us = exchange.shared.clock.unix_us();
    let asks = exchange.asks();
    let plan = exchange.judge_request(|facts| Plan::new(&policy, facts, now_us, asks));
    let Plan { claims, counting } = match plan {
        Ok(plan) => plan,
        Err(refused) => {
            return Some(refuse(exchange, refused.control, refused.reason, refused.detail.as_deref()));
        }
    };
    if claims.is_empty() {
        return None;
    }
    let shared = exchange.shared.clone();
    let controls: Vec<&Control> =
        counting.iter().filter_map(|counting| policy.control(counting.control)).collect();
    match shared.controls.store.reserve(now_us, claims).await {
        Ok(Reserved::Granted(reservation)) => {
            shared.controls.forget_budgets();
            exchange.held = Some(Box::new(Held { reservation: Some(reservation), counting }));
            None
        }
        Ok(Reserved::Refused(refused)) => {
            shared.controls.forget_budgets();
            let control = controls.get(refused.claim)?;
            Some(exceeded(exchange, control, &counting[refused.claim], refused))
        }
        Err(error) => without_store(exchange, &controls, counting, &error),
    }
}

/// What a call is answered that an operator has stopped.
pub(crate) fn stopped(exchange: &mut Exchange) -> Option<Refusal> {
    let switches = &exchange.shared.switches;
    let reason = exchange.judge_request(|facts| switches.stops(facts))?;
    exchange.block_by(None, reason.code());
    Some(Refusal::new(reason))
}

fn exceeded(exchange: &mut Exchange, control: &Control, counting: &Counting, refused: Refused) -> Refusal {
    let reason = reason(control.kind);
    exchange.record.limits.push(counting.record(LimitState::Exceeded, Some(refused.left), None));
    exchange.shared.metrics.control_blocked(&counting.rule);
    let retry = refused.wait_us.map_or(Retry::Never, |us| Retry::After { seconds: us.div_ceil(1_000_000) });
    Refusal { retry, ..refuse(exchange, control, reason, None) }
}

/// Blocked by a control, in its own words where it does what it is there for.
fn refuse(exchange: &mut Exchange, control: &Control, reason: Reason, detail: Option<&str>) -> Refusal {
    let plain = Refusal::because(reason, detail);
    if reason != self::reason(control.kind) {
        exchange.block_by(Some(control), reason.code());
        return plain;
    }
    let code = control.reason().map_or(reason.code(), |code| code.as_str());
    exchange.block_by(Some(control), code);
    let message = control.message().map(Into::into).or(plain.message.clone());
    Refusal { code: Some(code.into()), message, ..plain }
}

/// Nobody can say what is left.
fn without_store(
    exchange: &mut Exchange,
    controls: &[&Control],
    counting: Vec<Counting>,
    error: &StoreError,
) -> Option<Refusal> {
    tracing::debug!(cause = %error, "counters cannot be reached");
    exchange.shared.metrics.store_failed();
    if exchange.shared.controls.spend(controls) {
        exchange.held = Some(Box::new(Held { reservation: None, counting }));
        return None;
    }
    let closed = counting.iter().map(|counting| counting.record(LimitState::StoreDown, None, None));
    exchange.record.limits.extend(closed);
    let closed = controls.iter().find(|control| control.on_store_down() == OnStoreDown::Closed);
    exchange.block_by(closed.or(controls.first()).copied(), Reason::StoreDown.code());
    Some(Refusal::new(Reason::StoreDown))
}

/// The reason of a kind.
pub(crate) fn reason(kind: ControlKind) -> Reason {
    match kind {
        ControlKind::Rate { .. } => Reason::RateMax,
        ControlKind::Velocity { .. } => Reason::VelocityMax,
        ControlKind::Cap { .. } | ControlKind::Distinct { .. } => Reason::CapMax,
        ControlKind::Freeze => Reason::Frozen,
        ControlKind::Idempotency { .. } => Reason::IdempotencyConflict,
    }
}

impl Held {
    /// Counts what was used, and says so for the receipt.
    pub(crate) fn settle(self, ending: &Ending, metrics: &Metrics) -> Vec<LimitRecord> {
        let Self { reservation, counting } = self;
        let Some(reservation) = reservation else {
            let record = |counting: &Counting| counting.record(LimitState::LocalBudget, None, None);
            return counting.iter().map(record).collect();
        };
        let mut records = Vec::with_capacity(counting.len());
        let mut used = Vec::with_capacity(counting.len());
        for (counting, grant) in counting.iter().zip(reservation.grants()) {
            let (state, counted) = counting.used(ending);
            metrics.control_counted(&counting.rule, counting.unit.as_str(), counted);
            records.push(counting.record(state, Some(grant.left), Some(counted)));
            used.push(counted);
        }
        reservation.settle(&used);
        records
    }
}

impl Counting {
    fn record(&self, state: LimitState, left: Option<u64>, counted: Option<u64>) -> LimitRecord {
        let rule: Arc<str> = self.rule.clone();
        LimitRecord { counted, left, reserved: self.reserved, rule, state, unit: self.unit.as_str().into() }
    }
}
