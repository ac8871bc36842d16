//! What the route's database looks like before a call.

use std::sync::Arc;

use estoppel_evidence::Reason;
use estoppel_evidence::entry::{SnapshotRecord, SnapshotSide};
use estoppel_policy::SnapshotMode;
use estoppel_snapshot::Snapshot;
use http::HeaderValue;

use super::Exchange;
use crate::bypass;
use crate::database::{Database, Look, When, side, without_rows};
use crate::respond::Refusal;

/// A database as it was before the call.
pub(crate) struct Pictured {
    pub(super) database: Arc<Database>,
    pub(super) before: Arc<Snapshot>,
}

impl Exchange {
    /// Whether the policy says something of the route's database.
    pub(crate) fn looks(&self) -> bool {
        let looks = self.route.as_ref().is_some_and(|route| route.look.is_some());
        looks && !self.shared.journal.is_off()
    }

    /// The call's id as an upstream is told it, so that rows can name it.
    pub(crate) fn named(&self) -> Option<HeaderValue> {
        self.named.as_ref().and_then(|_| HeaderValue::try_from(self.record.call.to_string()).ok())
    }

    /// Looks at the route's database, before anything is sent.
    ///
    /// # Errors
    /// There is no snapshot, and the policy lets nothing go on without.
    pub(crate) async fn look_before(&mut self) -> Result<(), Refusal> {
        let look = self.route.as_ref().and_then(|route| route.look.clone());
        let Some(Look { database, mode }) = look else { return Ok(()) };
        let record = |pre| {
            let source = database.name().clone();
            Some(Box::new(SnapshotRecord { pre: Some(pre), source, ..SnapshotRecord::default() }))
        };
        self.inside = database.enter();
        self.named = database.name_call(self.record.call);
        if mode == SnapshotMode::Skip {
            self.record.snapshot = record(SnapshotSide::none(Reason::PolicySkip));
            return Ok(());
        }
        match database.look(When::Before).await {
            Ok(before) => {
                self.record.snapshot = record(side(&before, When::Before));
                self.record.snapshot.iter_mut().for_each(|snapshot| snapshot.add_lag(before.lag_bytes));
                self.record.downgrades.extend(without_rows(&before, When::Before));
                if let Some(base) = self.inside.as_ref().and_then(|inside| inside.changed(&before.schema)) {
                    bypass::beside_calls(&self.shared, database.name(), base, &before.schema).await;
                }
                self.pictured = Some(Pictured { database, before });
                Ok(())
            }
            Err(missed) => {
                self.record.snapshot = record(SnapshotSide::none(missed.code));
                self.record.downgrades.push(missed.downgrade());
                // A code without a status is no failure.
                if mode == SnapshotMode::Observe || missed.code.status() == 0 {
                    return Ok(());
                }
                self.block_by(None, missed.code.code());
                Err(Refusal::new(missed.code))
            }
        }
    }
}
