//! Nodes that are nothing but a choice of branches, and what tells early which branch it is: the type of the value,
//! or its first member if that has a text of its own in each branch.
//!
//! Only what the tasks would find as well is told here, and only where one branch is left, which then stands alone.

use super::{
    names::{Ends, Fixed},
    node::{Branch, Node, NodeId, Program, Types},
};
use crate::json::Container;

/// What is known of a choice once a container opens.
#[derive(Debug, Default)]
pub(super) struct Choice {
    array: Option<NodeId>,
    object: Option<NodeId>,
    tag: Option<Tag>,
}

/// The member that tells which branch an object is.
#[derive(Debug)]
pub(super) struct Tag {
    pub name: Fixed,
    /// The text of the member, and the branch that it tells.
    branches: Vec<(Fixed, Tagged)>,
    /// Bytes of the longest text.
    pub longest: usize,
    /// Tasks that it would take otherwise.
    pub tasks: usize,
}

/// A branch, and which of its names the tag is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagged {
    pub node: NodeId,
    pub index: u32,
}

impl Choice {
    /// `None`: the node has other duties, or branches that need tasks anyway.
    pub(super) fn of(program: &Program, node: &Node) -> Option<Self> {
        let (Branch::Any(nodes) | Branch::One(nodes), []) = node.branches.split_first()? else { return None };
        if !node.has_no_duty_of_its_own() {
            return None;
        }
        let fit = |types| {
            let of =
                |id: &&NodeId| program.node(**id).types.has(types) && program.node(**id).allowed.is_none();
            let fit: Vec<NodeId> = nodes.iter().filter(of).copied().collect();
            if fit.iter().all(|id| program.node(*id).simple) { fit } else { Vec::new() }
        };
        let sole = |fit: &[NodeId]| if let [one] = fit { Some(*one) } else { None };
        let objects = fit(Types::OBJECT);
        let tag = (objects.len() > 1).then(|| Tag::of(program, &objects, nodes.len() + 1)).flatten();
        let choice = Self { array: sole(&fit(Types::ARRAY)), object: sole(&objects), tag };
        (choice.array.is_some() || choice.object.is_some() || choice.tag.is_some()).then_some(choice)
    }

    /// The one branch that such a container can be.
    #[inline]
    pub(super) fn sole(&self, container: Container) -> Option<NodeId> {
        match container {
            Container::Array => self.array,
            Container::Object => self.object,
        }
    }

    /// What tells the branch of an object.
    pub(super) fn tag(&self, container: Container) -> Option<&Tag> {
        self.tag.as_ref().filter(|_| container == Container::Object)
    }
}

impl Tag {
    fn of(program: &Program, objects: &[NodeId], tasks: usize) -> Option<Self> {
        let first = program.object(*objects.first()?);
        let names = (0..64).map_while(|index| first.names.get(index)).map(|name| &name.text);
        names.into_iter().find_map(|name| Self::named(program, objects, name, tasks))
    }

    fn named(program: &Program, objects: &[NodeId], name: &Fixed, tasks: usize) -> Option<Self> {
        let mut branches: Vec<(Fixed, Tagged)> = Vec::new();
        for node in objects {
            let rules = program.object(*node);
            let (index, own) = rules.names.find(&name.bytes, 0).filter(|(index, _)| *index < 64)?;
            let child = program.node(own.child);
            let plain = child.types.has(Types::STRING) && child.text.is_none() && child.branches.is_empty();
            let texts = child.allowed.as_ref().filter(|_| plain && !own.never && !rules.counts)?;
            let texts = texts.texts.iter().map(|text| (text.clone(), Tagged { node: *node, index }));
            let known = branches.len();
            branches.extend(texts);
            let twice = |(text, _): &(Fixed, Tagged)| {
                branches.iter().take(known).any(|(own, _)| own.bytes == text.bytes)
            };
            if branches.len() == known || branches.iter().skip(known).any(twice) {
                return None;
            }
        }
        let longest = branches.iter().map(|(text, _)| text.bytes.len()).max()?;
        Some(Self { name: name.clone(), branches, longest, tasks })
    }

    /// The branch that a text tells.
    pub(super) fn tells(&self, text: &[u8]) -> Option<Tagged> {
        let ends = Ends::of(text);
        self.branches.iter().find(|(own, _)| own.is(text, ends)).map(|(_, tagged)| *tagged)
    }
}
