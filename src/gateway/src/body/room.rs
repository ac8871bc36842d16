//! Memory for bodies that wait for their verdict, out of what all calls have together (`server.held_mib`).

use std::sync::Arc;

use estoppel_evidence::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one call has of it, in KiB.
#[derive(Debug, Default)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

/// Less than this is not worth counting.
const FREE_BYTES: u64 = 16 << 10;

impl Room {
    /// Makes room for `bytes` in all, or gives all of it back when there are none.
    ///
    /// # Errors
    /// There is no room: `IN_FLIGHT_MAX`.
    pub(crate) fn hold(&mut self, memory: &Arc<Semaphore>, bytes: u64) -> Result<(), Reason> {
        if bytes <= FREE_BYTES {
            if bytes == 0 {
                self.0 = None;
            }
            return Ok(());
        }
        let had = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        let wanted = u32::try_from(bytes.div_ceil(1 << 10).saturating_sub(had)).unwrap_or(u32::MAX);
        if wanted == 0 {
            return Ok(());
        }
        let more = memory.clone().try_acquire_many_owned(wanted).map_err(|_| Reason::InFlightMax)?;
        match &mut self.0 {
            Some(room) => room.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}
