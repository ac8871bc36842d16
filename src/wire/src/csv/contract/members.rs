//! Taking the members of one object by name; what nobody took is refused.

use super::{
    ContractError,
    tree::{Node, pointer},
};
use crate::json::Literal;

/// The errors of a contract so far.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<ContractError>);

impl Errors {
    pub(super) fn add(&mut self, pointer: &str, what: impl Into<String>) {
        self.0.push(ContractError { pointer: pointer.into(), what: what.into() });
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value, unless there were errors.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Vec<ContractError>> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort();
        Err(self.0)
    }
}

/// An object, member by member.
pub(super) struct Members {
    at: String,
    left: Vec<(String, Node)>,
}

impl Members {
    /// The members of `node`; none, and an error, if it is no object.
    pub(super) fn of(node: Node, at: String, errors: &mut Errors) -> Self {
        match node {
            Node::Object(left) => Self { at, left },
            _ => {
                errors.add(&at, "must be an object");
                Self { at, left: Vec::new() }
            }
        }
    }

    pub(super) fn pointer(&self, name: &str) -> String {
        pointer(&self.at, name)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        let at = self.left.iter().position(|(left, _)| left == name)?;
        Some(self.left.swap_remove(at).1)
    }

    pub(super) fn text(&mut self, name: &str, errors: &mut Errors) -> Option<String> {
        match self.take(name)? {
            Node::Text(text) => Some(text),
            _ => {
                errors.add(&self.pointer(name), "must be a string");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, name: &str, errors: &mut Errors) -> bool {
        match self.take(name) {
            None | Some(Node::Literal(Literal::False)) => false,
            Some(Node::Literal(Literal::True)) => true,
            Some(_) => {
                errors.add(&self.pointer(name), "must be true or false");
                false
            }
        }
    }

    /// An integer from `least` to `most`.
    pub(super) fn count(&mut self, name: &str, least: u64, most: u64, errors: &mut Errors) -> Option<u64> {
        let node = self.take(name)?;
        let count = if let Node::Number(text) = node { text.parse().ok() } else { None };
        if let Some(count) = count.filter(|count| (least..=most).contains(count)) {
            return Some(count);
        }
        errors.add(&self.pointer(name), format!("must be an integer from {least} to {most}"));
        None
    }

    /// One of a few words, the first of which is the default.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
        errors: &mut Errors,
    ) -> Option<T> {
        let Some(node) = self.take(name) else { return words.first().map(|(_, choice)| *choice) };
        if let Node::Text(text) = node
            && let Some((_, choice)) = words.iter().find(|(word, _)| *word == text)
        {
            return Some(*choice);
        }
        let list: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        errors.add(&self.pointer(name), format!("must be one of {}", list.join(", ")));
        None
    }

    /// Every member was asked for, or is an error.
    pub(super) fn refuse_rest(self, errors: &mut Errors) {
        for (name, _) in &self.left {
            errors.add(&self.pointer(name), "is not known");
        }
    }
}
