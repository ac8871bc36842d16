//! Keywords about objects.

use std::collections::HashMap;

use super::{
    super::{
        document::{Document, Value, ValueId},
        names::{Name, Names},
        node::{Branch, NodeId, ObjectRules, Types},
    },
    Compiler,
};

const KEYWORDS: [&str; 11] = [
    "additionalProperties",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "maxProperties",
    "minProperties",
    "patternProperties",
    "properties",
    "propertyNames",
    "required",
    "unevaluatedProperties",
];

/// Names in the order in which they were first seen.
#[derive(Default)]
struct Known<'a> {
    list: Vec<(&'a str, Option<ValueId>)>,
    index: HashMap<&'a str, u32>,
}

impl<'a> Known<'a> {
    fn index(&mut self, name: &'a str) -> u32 {
        let next = self.list.len() as u32; // fewer than the values of the document
        let list = &mut self.list;
        *self.index.entry(name).or_insert_with(|| {
            list.push((name, None));
            next
        })
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn object(&mut self, schema: ValueId, branches: &mut Vec<Branch>) -> Option<ObjectRules> {
        let document = self.document;
        let member = |name| document.member(schema, name);
        if !KEYWORDS.iter().any(|keyword| member(keyword).is_some()) {
            return None;
        }
        let mut rules = ObjectRules::default();
        let mut known = Known::default();
        for (name, at) in self.map(member("properties")) {
            let index = known.index(name);
            if let Some((_, value)) = known.list.get_mut(index as usize) {
                *value = Some(*at);
            }
        }
        let required = member("required").map(|at| self.required(at, &mut known)).unwrap_or_default();
        self.dependencies(schema, &mut known, &mut rules, branches);
        for (source, at) in self.map(member("patternProperties")) {
            if let Some(pattern) = self.pattern_from(*at, source) {
                let node = self.node_of(*at);
                rules.patterns.push((pattern, node));
            }
        }
        if let Some(at) = member("additionalProperties") {
            rules.rest = self.node_of(at);
            rules.rest_evaluates = true;
        }
        rules.property_names = member("propertyNames").map_or(NodeId::TRUE, |at| self.node_of(at));
        rules.min = member("minProperties").and_then(|at| self.count(at)).unwrap_or_default();
        rules.max = member("maxProperties").and_then(|at| self.count(at));
        rules.unevaluated = member("unevaluatedProperties").map(|at| self.node_of(at));
        rules.required = words(&required, known.list.len());
        let names = known.list.iter().map(|(text, at)| self.name(schema, text, *at, &rules)).collect();
        rules.names = Names::new(names);
        Some(rules)
    }

    /// The members of an object that must be one.
    fn map(&mut self, at: Option<ValueId>) -> &'a [(Box<str>, ValueId)] {
        let Some(at) = at else { return &[] };
        if !matches!(self.document.value(at), Value::Object(_)) {
            self.wrong_type(at, "an object");
        }
        self.document.members(at)
    }

    /// The duties that `properties`, `patternProperties` and, failing both, `additionalProperties` lay on a member.
    fn name(&mut self, schema: ValueId, text: &str, at: Option<ValueId>, rules: &ObjectRules) -> Name {
        let own = at.map(|at| self.node_of(at));
        let matching = rules.patterns.iter().filter(|(pattern, _)| pattern.matches(text.as_bytes()));
        let mut duties: Vec<NodeId> = own.into_iter().chain(matching.map(|(_, node)| *node)).collect();
        let evaluated = !duties.is_empty();
        if !evaluated {
            duties.push(rules.rest);
        }
        let child = match duties.as_slice() {
            [one] => *one,
            _ => {
                let all = self.add(schema, Types::ALL);
                self.node_mut(all).branches = duties.into_iter().map(Branch::All).collect();
                all
            }
        };
        Name::new(text, child, evaluated)
    }

    fn required(&mut self, at: ValueId, known: &mut Known<'a>) -> Vec<u32> {
        let document: &'a Document = self.document;
        let Value::Array(items) = document.value(at) else {
            self.wrong_type(at, "a list of member names");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.text(*item)).map(|name| known.index(name)).collect()
    }

    /// `dependentRequired`, `dependentSchemas`, and `dependencies`, which was both.
    fn dependencies(
        &mut self,
        schema: ValueId,
        known: &mut Known<'a>,
        rules: &mut ObjectRules,
        branches: &mut Vec<Branch>,
    ) {
        let document = self.document;
        for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
            for (name, at) in self.map(document.member(schema, keyword)) {
                let trigger = known.index(name);
                let is_list = matches!(document.value(*at), Value::Array(_));
                if keyword == "dependentRequired" || (keyword == "dependencies" && is_list) {
                    let needed = self.required(*at, known);
                    rules.dependent.push((trigger, needed.into()));
                } else {
                    let node = self.node_of(*at);
                    branches.push(Branch::Dependent { name: trigger, node });
                }
            }
        }
    }
}

/// A bit for each index.
fn words(indices: &[u32], count: usize) -> Box<[u64]> {
    let mut words = vec![0; count.div_ceil(64)];
    for index in indices {
        if let Some(word) = words.get_mut(*index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }
    words.into()
}
