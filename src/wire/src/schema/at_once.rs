//! Literals, short numbers and strings that pass a node by a look at its types or two bounds, which are all of its
//! duties.
//!
//! What is not admitted here is not refused: it is judged in full by [`super::scalar`].

use super::{
    keyword::Keyword,
    node::{Keep, Node, NumberRules, Types},
};
use crate::json::{Literal, Short};

/// Bounds within which there is nothing more to ask. Empty where there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtOnce {
    literals: Types,
    least: i64,
    most: i64,
    /// Numbers with a fraction are admitted too.
    fractions: bool,
    shortest: u64,
    longest: u64,
}

impl AtOnce {
    pub(super) const NOTHING: Self = Self {
        literals: Types::NONE,
        least: i64::MAX,
        most: i64::MIN,
        fractions: false,
        shortest: u64::MAX,
        longest: 0,
    };

    /// What a node admits, once `simple` and `keep` are known of it.
    pub(super) fn of(node: &Node) -> Self {
        if node.allowed.is_some() || !node.branches.is_empty() {
            return Self::NOTHING;
        }
        let mut own =
            Self { literals: node.types, fractions: node.types.has(Types::FRACTION), ..Self::NOTHING };
        if node.types.has(Types::INTEGER)
            && let Some((least, most)) =
                node.number.as_ref().map_or(Some((i64::MIN, i64::MAX)), |rules| range(rules))
        {
            (own.least, own.most) = (least, most);
        }
        if node.types.has(Types::STRING) && node.keep == Keep::Nothing {
            (own.shortest, own.longest) = match &node.text {
                Some(rules) => (rules.min, rules.max.unwrap_or(u64::MAX)),
                None => (0, u64::MAX),
            };
        }
        own
    }

    #[inline(always)]
    pub(super) fn admits_literal(&self, literal: Literal) -> bool {
        self.literals.has(Types::of_literal(literal))
    }

    #[inline(always)]
    pub(super) fn admits_number(&self, number: Short) -> bool {
        let (least, most) = match (number.fraction, number.negative) {
            (false, _) => (self.least, self.most),
            (true, _) if !self.fractions => return false,
            (true, false) => (self.least, self.most.saturating_sub(1)),
            (true, true) => (self.least.saturating_add(1), self.most),
        };
        (least..=most).contains(&number.whole)
    }

    /// `length` is in characters.
    #[inline(always)]
    pub(super) fn admits_text(&self, length: u64) -> bool {
        (self.shortest..=self.longest).contains(&length)
    }
}

/// The integers that all of the rules admit. `None`: they say more than bounds can.
fn range(rules: &NumberRules) -> Option<(i64, i64)> {
    if rules.multiple_of.is_some() {
        return None;
    }
    let (mut least, mut most) = (i64::MIN, i64::MAX);
    for (keyword, bound) in &rules.bounds {
        let bound = bound.short()?;
        match keyword {
            Keyword::Minimum => least = least.max(bound),
            Keyword::ExclusiveMinimum => least = least.max(bound.checked_add(1)?),
            Keyword::Maximum => most = most.min(bound),
            _ => most = most.min(bound.checked_sub(1)?),
        }
    }
    Some((least, most))
}
