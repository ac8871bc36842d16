//! What a schema is compiled to: nodes, each the duty of one subschema.

use super::{
    at_once::AtOnce,
    choice::Choice,
    format::Format,
    keyword::Keyword,
    names::{Fixed, Names},
    number::{Divisor, Owned},
    pattern::Pattern,
    scalar::Failure,
};
use crate::json::Literal;

/// Index of a node in its [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The schema `true`.
    pub(super) const TRUE: Self = Self(0);

    pub(super) fn new(index: usize) -> Self {
        Self(index as u32) // nodes are limited far below
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize // `usize` has at least 32 bits wherever this is built
    }
}

/// A set of JSON types. Numbers are two: integers by value, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const FRACTION: Self = Self(8);
    pub(super) const NUMBER: Self = Self(4 | 8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);
    pub(super) const ALL: Self = Self(127);

    #[inline]
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    pub(super) fn of_literal(literal: Literal) -> Self {
        if literal == Literal::Null { Self::NULL } else { Self::BOOLEAN }
    }

    /// Integers and fractions are told apart.
    #[inline]
    pub(super) fn splits_numbers(self) -> bool {
        let numbers = self.0 & Self::NUMBER.0;
        numbers != 0 && numbers != Self::NUMBER.0
    }
}

/// How much of a string must be kept to judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keep {
    Nothing,
    /// So many bytes: what is longer is equal to nothing the schema names.
    Bytes(usize),
    /// All of it, under the cap of the check.
    Whole,
}

/// The duty of one subschema.
#[derive(Debug)]
pub(super) struct Node {
    pub types: Types,
    /// No branches, `contains`, `uniqueItems` or unevaluated: judged where it stands, without tasks.
    pub simple: bool,
    /// Some duty here, or in a branch, counts the characters of a string.
    pub counts: bool,
    /// What duties here and in branches keep of a string.
    pub keep: Keep,
    pub at_once: AtOnce,
    /// Index into [`Program::objects`] and [`Program::arrays`]; 0 is no duty.
    pub object: u32,
    pub array: u32,
    pub number: Option<Box<NumberRules>>,
    pub text: Option<Box<TextRules>>,
    pub allowed: Option<Box<Allowed>>,
    pub branches: Box<[Branch]>,
    /// Its branches are a choice that may be told early.
    pub choice: Option<Box<Choice>>,
    /// JSON pointer of the subschema.
    pub pointer: Box<str>,
    /// The keyword that this node is a part of, and that its failures are told as.
    pub stands_for: Option<Keyword>,
}

impl Node {
    pub(super) fn new(types: Types, pointer: &str) -> Self {
        Self {
            types,
            simple: true,
            counts: false,
            keep: Keep::Nothing,
            at_once: AtOnce::NOTHING,
            object: 0,
            array: 0,
            number: None,
            text: None,
            allowed: None,
            branches: Box::default(),
            choice: None,
            pointer: pointer.into(),
            stands_for: None,
        }
    }

    /// The schema `false`.
    #[inline]
    pub(super) fn is_never(&self) -> bool {
        self.types == Types::NONE
    }

    /// Nothing but branches.
    pub(super) fn has_no_duty_of_its_own(&self) -> bool {
        self.types == Types::ALL
            && self.object == 0
            && self.array == 0
            && self.number.is_none()
            && self.text.is_none()
            && self.allowed.is_none()
    }
}

#[derive(Debug, Default)]
pub(super) struct NumberRules {
    pub bounds: Vec<(Keyword, Owned)>,
    pub multiple_of: Option<Divisor>,
}

#[derive(Debug, Default)]
pub(super) struct TextRules {
    pub min: u64,
    pub max: Option<u64>,
    pub pattern: Option<Pattern>,
    pub format: Option<Format>,
}

/// `const` or `enum` of values that hold no others.
#[derive(Debug)]
pub(super) struct Allowed {
    pub keyword: Keyword,
    pub literals: Types,
    pub yes: bool,
    pub no: bool,
    pub numbers: Vec<Owned>,
    /// Sorted.
    pub texts: Vec<Fixed>,
}

/// A subschema for the same value.
#[derive(Debug)]
pub(super) enum Branch {
    /// `allOf`, `$ref`, or one of several duties of one member.
    All(NodeId),
    Any(Box<[NodeId]>),
    One(Box<[NodeId]>),
    Not(NodeId),
    If {
        when: NodeId,
        then: NodeId,
        otherwise: NodeId,
    },
    /// `dependentSchemas`: if the member of this index is there.
    Dependent {
        name: u32,
        node: NodeId,
    },
}

impl Branch {
    pub(super) fn each(&self, mut visit: impl FnMut(NodeId)) {
        match self {
            Self::All(node) | Self::Not(node) | Self::Dependent { node, .. } => visit(*node),
            Self::Any(nodes) | Self::One(nodes) => nodes.iter().copied().for_each(visit),
            Self::If { when, then, otherwise } => [*when, *then, *otherwise].into_iter().for_each(visit),
        }
    }

    pub(super) fn each_mut(&mut self, mut visit: impl FnMut(&mut NodeId)) {
        match self {
            Self::All(node) | Self::Not(node) | Self::Dependent { node, .. } => visit(node),
            Self::Any(nodes) | Self::One(nodes) => nodes.iter_mut().for_each(visit),
            Self::If { when, then, otherwise } => [when, then, otherwise].into_iter().for_each(visit),
        }
    }
}

#[derive(Debug)]
pub(super) struct ObjectRules {
    pub names: Names,
    /// One bit for each name, in words.
    pub required: Box<[u64]>,
    pub patterns: Vec<(Pattern, NodeId)>,
    /// For members that neither names nor patterns speak of.
    pub rest: NodeId,
    /// There is an `additionalProperties`, so every member is evaluated.
    pub rest_evaluates: bool,
    pub property_names: NodeId,
    pub min: u64,
    pub max: Option<u64>,
    /// There is something to be said of each member beside what it is: `max` or `property_names`.
    pub counts: bool,
    /// If the member is there, so must be these.
    pub dependent: Vec<(u32, Box<[u32]>)>,
    pub unevaluated: Option<NodeId>,
}

impl ObjectRules {
    pub(super) fn each_mut(&mut self, mut visit: impl FnMut(&mut NodeId)) {
        self.names.list_mut().iter_mut().for_each(|name| visit(&mut name.child));
        self.patterns.iter_mut().for_each(|(_, node)| visit(node));
        visit(&mut self.rest);
        visit(&mut self.property_names);
        self.unevaluated.iter_mut().for_each(visit);
    }
}

impl Default for ObjectRules {
    fn default() -> Self {
        Self {
            names: Names::default(),
            required: Box::default(),
            patterns: Vec::new(),
            rest: NodeId::TRUE,
            rest_evaluates: false,
            property_names: NodeId::TRUE,
            min: 0,
            max: None,
            counts: false,
            dependent: Vec::new(),
            unevaluated: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct ArrayRules {
    pub prefix: Box<[NodeId]>,
    /// For elements after the prefix.
    pub rest: NodeId,
    /// There is an `items`, so every element is evaluated.
    pub rest_evaluates: bool,
    pub min: u64,
    pub max: Option<u64>,
    pub unique: bool,
    pub contains: Option<Contains>,
    pub unevaluated: Option<NodeId>,
}

impl ArrayRules {
    pub(super) fn each_mut(&mut self, mut visit: impl FnMut(&mut NodeId)) {
        self.prefix.iter_mut().for_each(&mut visit);
        visit(&mut self.rest);
        self.contains.iter_mut().for_each(|contains| visit(&mut contains.node));
        self.unevaluated.iter_mut().for_each(visit);
    }
}

impl Default for ArrayRules {
    fn default() -> Self {
        Self {
            prefix: Box::default(),
            rest: NodeId::TRUE,
            rest_evaluates: false,
            min: 0,
            max: None,
            unique: false,
            contains: None,
            unevaluated: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Contains {
    pub node: NodeId,
    pub min: u64,
    pub max: Option<u64>,
}

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Program {
    /// INVARIANT: the first is [`NodeId::TRUE`]; every `NodeId` given out is an index of it.
    pub nodes: Vec<Node>,
    /// INVARIANT: the first of each has no duty; `Node::object` and `Node::array` are indices of them.
    pub objects: Vec<ObjectRules>,
    pub arrays: Vec<ArrayRules>,
    pub root: NodeId,
}

impl Program {
    #[inline]
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    #[inline]
    pub(super) fn object(&self, id: NodeId) -> &ObjectRules {
        &self.objects[self.node(id).object as usize]
    }

    #[inline]
    pub(super) fn array(&self, id: NodeId) -> &ArrayRules {
        &self.arrays[self.node(id).array as usize]
    }
}

impl ObjectRules {
    /// What is to be said of an object at its end, of whose known names `seen` were there.
    #[inline]
    pub(super) fn whole(&self, node: NodeId, seen: Seen<'_>, count: u64) -> Result<(), Failure> {
        if let Some((first, more)) = self.required.split_first()
            && (first & !seen.first != 0
                || more.iter().zip(seen.more).any(|(required, seen)| required & !seen != 0))
        {
            return Err(Failure { missing: self.missing(seen), ..Failure::new(node, Keyword::Required) });
        }
        if count < self.min {
            return Err(Failure::new(node, Keyword::MinProperties));
        }
        let there = |index: &u32| seen.has(*index);
        let needed =
            self.dependent.iter().filter(|(trigger, _)| there(trigger)).flat_map(|(_, needed)| needed);
        match needed.copied().find(|index| !there(index)) {
            None => Ok(()),
            missing => Err(Failure { missing, ..Failure::new(node, Keyword::DependentRequired) }),
        }
    }

    /// The first required name that was not there.
    #[cold]
    fn missing(&self, seen: Seen<'_>) -> Option<u32> {
        let required = Seen::of(&self.required);
        let names = self.required.len() as u32 * 64; // fewer than the values of the document, which `u32` counts
        (0..names).find(|index| required.has(*index) && !seen.has(*index))
    }
}

/// A bit for each known name that was there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub first: u64,
    pub more: &'a [u64],
}

impl<'a> Seen<'a> {
    pub(super) fn of(words: &'a [u64]) -> Self {
        words.split_first().map_or(Self { first: 0, more: &[] }, |(first, more)| Self { first: *first, more })
    }

    pub(super) fn has(self, index: u32) -> bool {
        let word = match index {
            0..64 => Some(&self.first),
            _ => self.more.get(index as usize / 64 - 1),
        };
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

impl ArrayRules {
    /// The node for the element of this index.
    #[inline]
    pub(super) fn child(&self, index: u64) -> NodeId {
        usize::try_from(index).ok().and_then(|index| self.prefix.get(index)).copied().unwrap_or(self.rest)
    }
}
