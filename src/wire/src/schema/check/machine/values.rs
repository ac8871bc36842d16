//! Values that hold no others: kept as far as somebody wants them, and judged.

use super::{
    super::super::{
        Cap, Cause,
        hash::Hash,
        node::{Keep, Program},
        scalar::{Scalar, Text, points},
    },
    Place, State,
    digest::TAG_STRING,
};
use crate::json::{Capture, Literal, Short};

impl State {
    /// A string of ASCII without escapes, which need not be kept.
    #[inline(always)]
    pub(super) fn whole_string(&mut self, program: &Program, at: Place, text: &[u8]) {
        let length = text.len() as u64; // `usize` has at most 64 bits
        if self.hashing == 0
            && let Place::One(id) = at
        {
            let node = program.node(id);
            if node.at_once.admits_text(length) {
                return;
            }
            let most = self.limits.text_bytes_max as u64;
            if node.keep != Keep::Whole || length <= most {
                let text = Text { kept: text, bytes: length, points: length };
                if let Err(failure) = program.scalar(id, Scalar::Text(text)) {
                    let depth = self.frames.len();
                    self.refuse_by(failure, depth);
                }
                return;
            }
        }
        self.any_string(program, at, text);
    }

    #[inline(never)]
    pub(super) fn any_string(&mut self, program: &Program, at: Place, text: &[u8]) {
        if let Place::Choice = at {
            return self.choice_scalar(program, Scalar::Text(Text::whole(text)));
        }
        if self.string(program, at) == Capture::Take && !text.is_empty() {
            self.text(text);
        }
        self.string_end(program, at);
    }

    #[inline(always)]
    pub(super) fn short_number(&mut self, program: &Program, at: Place, text: &[u8], number: Short) {
        if self.hashing == 0
            && let Place::One(id) = at
            && program.node(id).at_once.admits_number(number)
        {
            return;
        }
        self.any_number(program, at, text);
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, program: &Program, at: Place, literal: Literal) {
        if self.hashing == 0
            && let Place::One(id) = at
            && program.node(id).at_once.admits_literal(literal)
        {
            return;
        }
        self.scalar(program, at, Scalar::Literal(literal));
    }

    #[inline(never)]
    pub(super) fn any_number(&mut self, program: &Program, at: Place, text: &[u8]) {
        self.scalar(program, at, Scalar::Number(text));
    }

    #[inline]
    pub(super) fn string(&mut self, program: &Program, at: Place) -> Capture {
        let (keep, counts) = match at {
            Place::One(id) => {
                let node = program.node(id);
                (node.keep, node.counts)
            }
            Place::Many => self.tasks.wants_of_text(program),
            Place::Choice => (Keep::Bytes(self.longest_tag(program)), false),
        };
        let string = &mut self.string;
        (string.keep, string.counts) = (keep, counts);
        string.bytes = 0;
        string.points = 0;
        if keep == Keep::Nothing && !counts && self.hashing == 0 {
            return Capture::Pass;
        }
        string.kept.clear();
        if self.hashing > 0 {
            string.hash = Hash::new(self.key);
            string.hash.word(TAG_STRING);
        }
        Capture::Take
    }

    #[inline]
    pub(super) fn text(&mut self, piece: &[u8]) {
        let string = &mut self.string;
        string.bytes += piece.len() as u64; // no text is longer than 2^64
        if string.counts {
            string.points += points(piece);
        }
        let most = match string.keep {
            Keep::Nothing => 0,
            Keep::Bytes(most) => most,
            Keep::Whole => self.limits.text_bytes_max,
        };
        if string.bytes <= most as u64 {
            string.kept.extend_from_slice(piece);
        }
        if self.hashing > 0 {
            string.hash.bytes(piece);
        }
    }

    #[inline]
    pub(super) fn string_end(&mut self, program: &Program, at: Place) {
        let string = &mut self.string;
        if string.keep == Keep::Whole && string.bytes > self.limits.text_bytes_max as u64 {
            let depth = self.frames.len();
            return self.refuse(Cause::Cap(Cap::Text), None, depth);
        }
        if let Place::One(id) = at
            && self.hashing == 0
        {
            let text = Text { kept: &string.kept, bytes: string.bytes, points: string.points };
            if let Err(failure) = program.scalar(id, Scalar::Text(text)) {
                let depth = self.frames.len();
                self.refuse_by(failure, depth);
            }
            return;
        }
        let kept = std::mem::take(&mut string.kept);
        let text = Text { kept: &kept, bytes: string.bytes, points: string.points };
        self.scalar(program, at, Scalar::Text(text));
        self.string.kept = kept;
    }

    #[inline]
    pub(super) fn scalar(&mut self, program: &Program, at: Place, value: Scalar<'_>) {
        match at {
            Place::One(id) => {
                if let Err(failure) = program.scalar(id, value) {
                    let depth = self.frames.len();
                    return self.refuse_by(failure, depth);
                }
            }
            Place::Many => self.task_scalar(program, value),
            Place::Choice => return self.choice_scalar(program, value),
        }
        if self.hashing > 0 {
            let hash = self.hash_of(value);
            self.add_hash(program, hash);
        }
    }
}
