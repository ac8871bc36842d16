//! Judging a value that holds no others: it is there whole, so its branches are plain recursion.

use std::cmp::Ordering;

use super::{
    keyword::Keyword,
    names::Ends,
    node::{Allowed, Branch, Node, NodeId, NumberRules, Program, TextRules, Types},
    number::Decimal,
};
use crate::json::{Literal, Short};

/// A value that holds no others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Literal(Literal),
    /// As written.
    Number(&'a [u8]),
    Text(Text<'a>),
}

/// A string, as far as it was kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    /// INVARIANT: all of it where some duty keeps strings whole; see [`super::node::Keep`].
    pub kept: &'a [u8],
    /// Bytes that the string has.
    pub bytes: u64,
    /// Code points, where some duty counts them.
    pub points: u64,
}

impl<'a> Text<'a> {
    pub(super) fn whole(bytes: &'a [u8]) -> Self {
        Self { kept: bytes, bytes: bytes.len() as u64, points: points(bytes) }
    }
}

/// Code points that begin in these bytes of UTF-8.
#[inline]
pub(super) fn points(bytes: &[u8]) -> u64 {
    if bytes.is_ascii() {
        return bytes.len() as u64; // `usize` has at most 64 bits
    }
    bytes.iter().map(|byte| u64::from(byte & 0xC0 != 0x80)).sum()
}

/// The duty that a value fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub node: NodeId,
    pub keyword: Keyword,
    /// The name of the node's that is not there.
    pub missing: Option<u32>,
}

impl Failure {
    #[inline]
    pub(super) fn new(node: NodeId, keyword: Keyword) -> Self {
        Self { node, keyword, missing: None }
    }
}

impl Program {
    /// Judges `value` by `id` and its branches.
    #[inline]
    pub(super) fn scalar(&self, id: NodeId, value: Scalar<'_>) -> Result<(), Failure> {
        let node = self.node(id);
        node.own(value).map_err(|keyword| Failure::new(id, keyword))?;
        if node.branches.is_empty() { Ok(()) } else { self.branches(id, node, value) }
    }

    #[inline(never)]
    fn branches(&self, id: NodeId, node: &Node, value: Scalar<'_>) -> Result<(), Failure> {
        node.branches.iter().try_for_each(|branch| self.branch(id, branch, value))
    }

    fn branch(&self, of: NodeId, branch: &Branch, value: Scalar<'_>) -> Result<(), Failure> {
        let passes = |node: &NodeId| self.scalar(*node, value).is_ok();
        let keyword = match branch {
            Branch::All(node) => return self.scalar(*node, value),
            Branch::Any(nodes) if nodes.iter().any(passes) => return Ok(()),
            Branch::Any(_) => Keyword::AnyOf,
            Branch::One(nodes) if nodes.iter().filter(|node| passes(node)).take(2).count() == 1 => {
                return Ok(());
            }
            Branch::One(_) => Keyword::OneOf,
            Branch::Not(node) if passes(node) => Keyword::Not,
            Branch::Not(_) | Branch::Dependent { .. } => return Ok(()),
            Branch::If { when, then, otherwise } => {
                return self.scalar(if passes(when) { *then } else { *otherwise }, value);
            }
        };
        Err(Failure::new(of, keyword))
    }
}

impl Node {
    /// Judges by this node's own duties.
    #[inline]
    fn own(&self, value: Scalar<'_>) -> Result<(), Keyword> {
        match value {
            Scalar::Literal(literal) => type_is(self, Types::of_literal(literal))?,
            Scalar::Number(text) => return self.own_number(text),
            Scalar::Text(text) => {
                type_is(self, Types::STRING)?;
                if let Some(rules) = &self.text {
                    rules.judge(text)?;
                }
            }
        }
        match &self.allowed {
            Some(allowed) if !allowed.has(value) => Err(allowed.keyword),
            _ => Ok(()),
        }
    }

    #[inline]
    fn own_number(&self, text: &[u8]) -> Result<(), Keyword> {
        let splits = self.types.splits_numbers();
        if !splits {
            type_is(self, Types::NUMBER)?;
            if self.number.is_none() && self.allowed.is_none() {
                return Ok(());
            }
        }
        let short = Short::parse(text);
        if splits {
            let whole = short.map_or_else(|| Decimal::parse(text).is_integer(), Short::is_integer);
            type_is(self, if whole { Types::INTEGER } else { Types::FRACTION })?;
        }
        if let Some(rules) = &self.number {
            rules.judge(text, short)?;
        }
        match &self.allowed {
            Some(allowed) if !allowed.has_number(text, short) => Err(allowed.keyword),
            _ => Ok(()),
        }
    }
}

#[inline]
pub(super) fn type_is(node: &Node, own: Types) -> Result<(), Keyword> {
    if node.types.has(own) {
        Ok(())
    } else if node.is_never() {
        Err(Keyword::False)
    } else {
        Err(Keyword::Type)
    }
}

impl NumberRules {
    #[inline]
    fn judge(&self, text: &[u8], short: Option<Short>) -> Result<(), Keyword> {
        for (keyword, bound) in &self.bounds {
            let order = bound.compare(text, short);
            let holds = match keyword {
                Keyword::Minimum => order != Ordering::Less,
                Keyword::ExclusiveMinimum => order == Ordering::Greater,
                Keyword::Maximum => order != Ordering::Greater,
                _ => order == Ordering::Less,
            };
            if !holds {
                return Err(*keyword);
            }
        }
        match &self.multiple_of {
            Some(divisor) if !divisor.divides(text) => Err(Keyword::MultipleOf),
            _ => Ok(()),
        }
    }
}

impl TextRules {
    fn judge(&self, text: Text<'_>) -> Result<(), Keyword> {
        if self.max.is_some_and(|max| text.points > max) {
            return Err(Keyword::MaxLength);
        }
        if text.points < self.min {
            return Err(Keyword::MinLength);
        }
        if self.pattern.is_none() && self.format.is_none() { Ok(()) } else { self.judge_whole(text.kept) }
    }

    #[inline(never)]
    fn judge_whole(&self, text: &[u8]) -> Result<(), Keyword> {
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.matches(text)) {
            return Err(Keyword::Pattern);
        }
        match &self.format {
            Some(format) if !format.admits(text) => Err(Keyword::Format),
            _ => Ok(()),
        }
    }
}

/// Up to so many texts are looked through.
const FEW_TEXTS: usize = 8;

impl Allowed {
    #[inline(never)]
    fn has_number(&self, text: &[u8], short: Option<Short>) -> bool {
        self.numbers.iter().any(|own| own.compare(text, short) == Ordering::Equal)
    }

    #[inline]
    fn has(&self, value: Scalar<'_>) -> bool {
        match value {
            Scalar::Literal(Literal::Null) => self.literals.has(Types::NULL),
            Scalar::Literal(Literal::True) => self.yes,
            Scalar::Literal(Literal::False) => self.no,
            Scalar::Number(text) => self.has_number(text, Short::parse(text)),
            Scalar::Text(text) => text.kept.len() as u64 == text.bytes && self.has_text(text.kept),
        }
    }

    #[inline]
    pub(super) fn has_text(&self, text: &[u8]) -> bool {
        if self.texts.len() > FEW_TEXTS {
            return self.texts.binary_search_by(|own| (*own.bytes).cmp(text)).is_ok();
        }
        let ends = Ends::of(text);
        self.texts.iter().any(|own| own.is(text, ends))
    }
}
