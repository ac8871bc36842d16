//! A copy of an answer for those who look at it once it is over.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Room;

/// Most bytes of one answer that are kept.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What was kept of an answer, as far as there was room.
#[derive(Default)]
pub(crate) enum Kept {
    #[default]
    Nothing,
    Bytes(Vec<u8>, Room),
    /// There was too much of it, or no memory.
    TooMuch,
}

impl Kept {
    pub(crate) fn push(&mut self, piece: &[u8], memory: &Arc<Semaphore>) {
        if matches!(self, Self::Nothing) {
            *self = Self::Bytes(Vec::new(), Room::default());
        }
        let Self::Bytes(bytes, room) = self else { return };
        let length = bytes.len() + piece.len();
        if length > KEPT_BYTES_MAX || room.hold(memory, length as u64).is_err() {
            *self = Self::TooMuch;
            return;
        }
        bytes.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_the_limit_or_finds_no_memory_is_not_kept_in_part() {
        let memory = Arc::new(Semaphore::new(300));
        let mut kept = Kept::default();
        for _ in 0..256 {
            kept.push(&[b'x'; 1 << 10], &memory);
        }
        assert!(matches!(&kept, Kept::Bytes(bytes, _) if bytes.len() == KEPT_BYTES_MAX));
        let mut other = Kept::default();
        other.push(&vec![b'x'; 64 << 10], &memory);
        assert!(matches!(other, Kept::TooMuch), "the first has most of the memory");
        kept.push(b"x", &memory);
        assert!(matches!(kept, Kept::TooMuch));
        assert_eq!(memory.available_permits(), 300, "and gives it back");
    }
}
