//! Hashes of values, for `uniqueItems`: equal values have equal ones, however they are written.

use super::{
    super::super::{Cap, Cause, hash::Hash, node::Program, number::Decimal, scalar::Scalar, sets::Insert},
    State,
};
use crate::json::{Container, Literal};

pub(super) const TAG_NULL: u64 = 1;
pub(super) const TAG_TRUE: u64 = 2;
pub(super) const TAG_FALSE: u64 = 3;
pub(super) const TAG_NUMBER: u64 = 4;
pub(super) const TAG_STRING: u64 = 5;
pub(super) const TAG_ARRAY: u64 = 6;
pub(super) const TAG_OBJECT: u64 = 7;

impl State {
    pub(super) fn note_hash(&mut self, key: &[u8]) {
        if self.hashing > 0
            && let Some(frame) = self.frames.last_mut()
        {
            let mut hash = Hash::new(self.key);
            hash.bytes(key);
            frame.name_hash = hash.finish();
        }
    }

    pub(super) fn hash_of(&self, value: Scalar<'_>) -> u64 {
        let mut hash = Hash::new(self.key);
        match value {
            Scalar::Literal(Literal::Null) => hash.word(TAG_NULL),
            Scalar::Literal(Literal::True) => hash.word(TAG_TRUE),
            Scalar::Literal(Literal::False) => hash.word(TAG_FALSE),
            Scalar::Number(text) => {
                hash.word(TAG_NUMBER);
                Decimal::parse(text).hash(&mut hash);
            }
            Scalar::Text(_) => return self.string.hash.finish(),
        }
        hash.finish()
    }

    /// A value is whole: its hash goes into that of the container that holds it.
    pub(super) fn add_hash(&mut self, program: &Program, value: u64) {
        let Some(frame) = self.frames.last_mut() else { return };
        let mut hash = Hash::new(self.key);
        match frame.container {
            Container::Object => {
                hash.word(frame.name_hash);
                hash.word(value);
                frame.hash = frame.hash.wrapping_add(hash.finish()); // members have no order
            }
            Container::Array => {
                hash.word(frame.hash);
                hash.word(value);
                frame.hash = hash.finish();
            }
        }
        if !frame.unique {
            return;
        }
        match self.items.insert(&mut frame.set, value) {
            Insert::New => {}
            Insert::Twice => self.task_twice(program),
            Insert::Full => {
                let depth = self.frames.len() - 1;
                self.refuse(Cause::Cap(Cap::Items), None, depth);
            }
        }
    }
}
