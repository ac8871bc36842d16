//! Counters in this process. A file keeps them over restarts.
//!
//! A call is answered from memory. What a restart would find on disk is never below what was granted: it is raised
//! before the grant, by 1/[`BLOCKS`] of the limit at a time, so that few calls wait for the disk and a crash loses at most
//! that much of a limit, to nobody. Windows shorter than [`DURABLE_SECONDS`] are in memory only.

mod disk;
mod keys;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::{Disk, Kept, Row};
use self::keys::{Change, Keys};

use crate::answers::{Began, Claimed, Fate, Keyed};
use crate::counter::{Claim, Counter, CounterKey, Span};
use crate::{Flags, Grant, Refused, Reservation, Reserved, Settlement, Store, StoreError};

/// Most counters at a time. When it is reached, and none of them is over, claims on further ones are
/// [`StoreError::Full`].
pub const COUNTERS_MAX: usize = 1 << 18;
/// A limit is written down in so many pieces.
pub const BLOCKS: u64 = 128;
/// Windows shorter than this are not kept over a restart.
pub const DURABLE_SECONDS: u32 = 60;
/// How often a full table is searched for counters that are over.
const SWEEP_US: u64 = 1_000_000;
/// What the file says of how many calls used a member: who finds it there cannot give it back.
const USES_UNKNOWN: u64 = 1 << 32;

/// Counters of one process.
#[derive(Clone, Debug)]
pub struct Local {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Held for arithmetic only, never while something is waited for.
    table: Mutex<Table>,
    /// The same.
    keys: Mutex<Keys>,
    disk: Disk,
}

#[derive(Debug, Default)]
struct Table {
    counters: HashMap<CounterKey, Counter>,
    flags: Arc<Flags>,
    swept_us: u64,
}

/// Counters that nothing keeps: what calls that are over would have counted.
#[derive(Debug, Default)]
pub struct Tally(Table);

impl Tally {
    /// Counts all claims, or says which cannot be.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn reserve(
        &mut self,
        now_us: u64,
        claims: &[Claim],
    ) -> Result<Result<Vec<Grant>, Refused>, StoreError> {
        Ok(self.0.take(now_us, claims)?.map(|(grants, _)| grants))
    }

    /// Counts what was used in the place of what was reserved.
    pub fn settle(&mut self, grant: Grant, used: u64) {
        let _ = self.0.settle(&Settlement { grant, used });
    }
}

impl Local {
    /// Takes up what `file` has; it is made when something has to be kept. One process uses a file at a time.
    ///
    /// # Errors
    /// [`StoreError::Disk`] of a file that cannot be read, [`StoreError::Thread`].
    pub fn open(file: &Path, now_us: u64) -> Result<Self, StoreError> {
        let (disk, Kept { rows, flags, keys: kept }) = Disk::open(file, now_us)?;
        let mut keys = Keys::default();
        kept.into_iter().for_each(|row| keys.take_up(row));
        let mut table = Table { flags: Arc::new(flags), ..Table::default() };
        for Row { counter, span, slot, used } in rows {
            let counter = table.counters.entry(counter).or_insert_with(|| Counter::new(span));
            let slot = counter.slot(slot);
            (slot.used, slot.durable) = (used, used);
        }
        Ok(Self { inner: Arc::new(Inner { table: Mutex::new(table), keys: Mutex::new(keys), disk }) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn reserve(&self, now_us: u64, claims: &[Claim]) -> Result<Reserved, StoreError> {
        let (grants, raises) = match self.table().take(now_us, claims)? {
            Ok(taken) => taken,
            Err(refused) => return Ok(Reserved::Refused(refused)),
        };
        // From here on it is given back if the call goes away or the disk fails.
        let reservation = Reservation::new(Store::Local(self.clone()), grants);
        if !raises.is_empty() {
            self.inner.disk.raise(now_us, raises.clone())?.await.map_err(|_| StoreError::Unwritten)?;
            self.table().have_raised(&raises);
        }
        Ok(Reserved::Granted(reservation))
    }

    pub(crate) fn settle(&self, settlements: &[Settlement]) {
        let beyond: Vec<Row> = {
            let mut table = self.table();
            settlements.iter().filter_map(|settlement| table.settle(settlement)).collect()
        };
        if !beyond.is_empty() {
            // Not waited for: a crash in this moment loses what a call used beyond what it had reserved.
            drop(self.inner.disk.raise(0, beyond));
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn begin(
        &self,
        now_us: u64,
        keyed: &Keyed,
        claim: bool,
    ) -> Result<Option<Began>, StoreError> {
        let (row, swept) = {
            let mut keys = self.keys();
            let swept = keys.sweep(now_us);
            match keys.find(now_us, keyed.key) {
                Some(known) => return Ok(Some(Began::Known(known))),
                None if !claim => return Ok(None),
                None => (keys.insert(now_us, keyed)?, swept),
            }
        };
        // From here on it is freed if the call goes away or the disk fails.
        let claimed = Claimed::new(Store::Local(self.clone()), keyed);
        if swept {
            drop(self.inner.disk.forget_keys(now_us));
        }
        self.inner.disk.keep_key(row)?.await.map_err(|_| StoreError::Unwritten)?;
        Ok(Some(Began::First(claimed)))
    }

    pub(crate) fn end(&self, key: CounterKey, call: &str, fate: Fate) {
        // Not waited for: what a crash loses of it leaves the key with a call that has no answer.
        match self.keys().end(key, call, fate) {
            Some(Change::Free) => drop(self.inner.disk.free_key(key)),
            Some(Change::Answered(answer)) => drop(self.inner.disk.answer_key(key, answer)),
            None => {}
        }
    }

    pub(crate) fn flags(&self) -> Arc<Flags> {
        self.table().flags.clone()
    }

    pub(crate) async fn set_flag(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let written = self.inner.disk.set_flag(name, value)?;
        written.await.map_err(|_| StoreError::Unwritten)?;
        let mut table = self.table();
        let flags = Arc::make_mut(&mut table.flags);
        match value {
            Some(value) => flags.insert(name.into(), value.into()),
            None => flags.remove(name),
        };
        Ok(())
    }

    pub(crate) async fn close(&self) {
        let exact = self.table().exact();
        if let Ok(written) = self.inner.disk.close(exact) {
            drop(written.await);
        }
    }
}

type Taken = (Vec<Grant>, Vec<Row>);

impl Table {
    /// Counts all claims, or says which cannot be. Gives with the grants what has to be on disk before they count.
    fn take(&mut self, now_us: u64, claims: &[Claim]) -> Result<Result<Taken, Refused>, StoreError> {
        self.make_room(now_us, claims)?;
        let mut new_members: HashMap<CounterKey, u64> = HashMap::new();
        for (index, claim) in claims.iter().enumerate() {
            let mut before = 0;
            if let Some(member) = claim.member {
                if self.has(now_us, member) {
                    continue;
                }
                let new = new_members.entry(claim.counter).or_default();
                before = *new;
                *new += 1;
            }
            let amount = claim.amount.saturating_add(before);
            let Some(counter) = self.counters.get_mut(&claim.counter) else {
                if amount > claim.limit {
                    let left = claim.limit.saturating_sub(before);
                    return Ok(Err(Refused { claim: index, left, wait_us: None }));
                }
                continue;
            };
            counter.advance(now_us);
            let used = counter.used();
            if used.saturating_add(amount) > claim.limit {
                let wait_us = counter.wait_us(now_us, amount, claim.limit);
                let left = claim.limit.saturating_sub(used.saturating_add(before));
                return Ok(Err(Refused { claim: index, left, wait_us }));
            }
        }
        let mut raises = Vec::new();
        let count = |claim: &Claim| match claim.member {
            Some(member) => self.count_member(now_us, claim, member, &mut raises),
            None => self.count(now_us, claim, &mut raises),
        };
        let grants = claims.iter().map(count).collect();
        Ok(Ok((grants, raises)))
    }

    /// Whether a member is counted.
    fn has(&mut self, now_us: u64, member: CounterKey) -> bool {
        self.counters.get_mut(&member).is_some_and(|counter| {
            counter.advance(now_us);
            counter.used() > 0
        })
    }

    /// Counts a member in the current part of its counter, and no more in the one that it was in. Its own counter has one part,
    /// with how many calls have used it.
    fn count_member(
        &mut self,
        now_us: u64,
        claim: &Claim,
        member: CounterKey,
        raises: &mut Vec<Row>,
    ) -> Grant {
        let Claim { counter: key, span, limit, .. } = *claim;
        let number = self.counters.entry(key).or_insert_with(|| Counter::new(span)).advance(now_us);
        let own = self.counters.entry(member).or_insert_with(|| Counter::new(span));
        let number = own.advance(now_us).max(number);
        // Older ones are what a file had besides.
        let before = own.slots.back().map(|slot| (slot.number, slot.used)).filter(|(_, used)| *used > 0);
        own.slots.retain(|slot| slot.number == number);
        let slot = own.slot(number);
        slot.used = before.map_or(0, |(_, used)| used).saturating_add(1);
        if is_durable(span) && slot.durable == 0 {
            raises.push(Row { counter: member, span, slot: number, used: USES_UNKNOWN });
        }
        let counter = self.counters.entry(key).or_insert_with(|| Counter::new(span));
        let moved = before.filter(|(before, _)| *before != number);
        if let Some(slot) = moved.and_then(|(before, _)| counter.find(before)) {
            slot.used = slot.used.saturating_sub(1);
        }
        let slot = counter.slot(number);
        slot.used = slot.used.saturating_add(u64::from(before.is_none() || moved.is_some()));
        if is_durable(span) && slot.used > slot.durable {
            let bound = slot.used.saturating_add(limit / BLOCKS).min(limit.max(slot.used));
            raises.push(Row { counter: key, span, slot: number, used: bound });
        }
        let left = limit.saturating_sub(counter.used());
        Grant { counter: key, span, slot: number, amount: 1, member: Some(member), left }
    }

    /// A call that used a member has reached nobody. It is counted no more if that was its only use.
    fn release(&mut self, grant: &Grant, member: CounterKey) {
        let Some(own) = self.counters.get_mut(&member) else { return };
        let Some(slot) = own.slots.back_mut() else { return };
        if grant.span.is_over_by(grant.slot, slot.number) {
            return; // what is there now came after it
        }
        slot.used = slot.used.saturating_sub(1);
        let (number, is_used) = (slot.number, slot.used > 0);
        if is_used {
            return;
        }
        own.slots.clear();
        if let Some(slot) = self.counters.get_mut(&grant.counter).and_then(|counter| counter.find(number)) {
            slot.used = slot.used.saturating_sub(1);
        }
    }

    fn count(&mut self, now_us: u64, claim: &Claim, raises: &mut Vec<Row>) -> Grant {
        let Claim { counter: key, span, amount, limit, .. } = *claim;
        let counter = self.counters.entry(key).or_insert_with(|| Counter::new(span));
        let number = counter.advance(now_us);
        let slot = counter.slot(number);
        slot.used = slot.used.saturating_add(amount);
        if is_durable(span) && slot.used > slot.durable {
            let bound = slot.used.saturating_add(limit / BLOCKS).min(limit.max(slot.used));
            raises.push(Row { counter: key, span, slot: number, used: bound });
        }
        let left = limit.saturating_sub(counter.used());
        Grant { counter: key, span, slot: number, amount, member: None, left }
    }

    fn have_raised(&mut self, rows: &[Row]) {
        for row in rows {
            if let Some(slot) = self.counters.get_mut(&row.counter).and_then(|it| it.find(row.slot)) {
                slot.durable = slot.durable.max(row.used);
            }
        }
    }

    /// What is on disk too low now, if that is so.
    fn settle(&mut self, settlement: &Settlement) -> Option<Row> {
        if let (Some(member), 0) = (settlement.grant.member, settlement.used) {
            self.release(&settlement.grant, member);
            return None;
        }
        let Grant { counter, span, slot: number, amount, .. } = settlement.grant;
        let slot = self.counters.get_mut(&counter)?.find(number)?;
        slot.used = slot.used.saturating_sub(amount).saturating_add(settlement.used);
        let low = is_durable(span) && slot.used > slot.durable;
        low.then_some(Row { counter, span, slot: number, used: slot.used })
    }

    fn make_room(&mut self, now_us: u64, claims: &[Claim]) -> Result<(), StoreError> {
        let fits = |table: &Self| table.counters.len() + 2 * claims.len() <= COUNTERS_MAX;
        if fits(self) {
            return Ok(());
        }
        if now_us.abs_diff(self.swept_us) >= SWEEP_US {
            self.swept_us = now_us;
            self.counters.retain(|_, counter| !counter.is_over(now_us));
        }
        let is_here = |key: &CounterKey| self.counters.contains_key(key);
        let known = claims.iter().all(|claim| is_here(&claim.counter) && claim.member.iter().all(is_here));
        if fits(self) || known { Ok(()) } else { Err(StoreError::Full) }
    }

    /// What is counted, to the last unit.
    fn exact(&self) -> Vec<Row> {
        let kept = self.counters.iter().filter(|(_, counter)| is_durable(counter.span));
        let rows = kept.flat_map(|(key, counter)| {
            let row = |slot: &crate::counter::Slot| Row {
                counter: *key,
                span: counter.span,
                slot: slot.number,
                used: slot.used,
            };
            counter.slots.iter().map(row)
        });
        rows.collect()
    }
}

fn is_durable(span: Span) -> bool {
    match span {
        Span::Window { seconds } => seconds >= DURABLE_SECONDS,
        Span::Day | Span::Month => true,
    }
}

#[cfg(test)]
mod tests;
