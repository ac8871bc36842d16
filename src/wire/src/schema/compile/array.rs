//! Keywords about arrays.

use super::{
    super::{
        document::{Value, ValueId},
        error::Fault,
        index::Dialect,
        node::{ArrayRules, Contains, NodeId},
    },
    Compiler,
};

const KEYWORDS: [&str; 10] = [
    "additionalItems",
    "contains",
    "items",
    "maxContains",
    "maxItems",
    "minContains",
    "minItems",
    "prefixItems",
    "unevaluatedItems",
    "uniqueItems",
];

impl Compiler<'_> {
    pub(super) fn array(&mut self, schema: ValueId) -> Option<ArrayRules> {
        let document = self.document;
        let member = |name| document.member(schema, name);
        if !KEYWORDS.iter().any(|keyword| member(keyword).is_some()) {
            return None;
        }
        let mut rules = ArrayRules::default();
        self.items(schema, &mut rules);
        rules.min = member("minItems").and_then(|at| self.count(at)).unwrap_or_default();
        rules.max = member("maxItems").and_then(|at| self.count(at));
        rules.unique = member("uniqueItems").is_some_and(|at| self.boolean(at));
        let min = member("minContains").and_then(|at| self.count(at)).unwrap_or(1);
        let max = member("maxContains").and_then(|at| self.count(at));
        rules.contains = member("contains").map(|at| Contains { node: self.node_of(at), min, max });
        rules.unevaluated = member("unevaluatedItems").map(|at| self.node_of(at));
        Some(rules)
    }

    /// `prefixItems` and `items`, or the list form of `items` with `additionalItems`.
    fn items(&mut self, schema: ValueId, rules: &mut ArrayRules) {
        let document = self.document;
        let member = |name| document.member(schema, name);
        let (mut prefix, mut rest) = (member("prefixItems"), member("items"));
        if let Some(list) = rest.filter(|at| matches!(document.value(*at), Value::Array(_))) {
            if self.index.dialect == Dialect::Draft2020 || prefix.is_some() {
                let reason = "a list here is the form of earlier drafts; 2020-12 has `prefixItems`";
                return self.error(list, Fault::KeywordUnsupported { reason });
            }
            (prefix, rest) = (Some(list), member("additionalItems"));
        }
        if let Some(at) = prefix {
            let empty = matches!(document.value(at), Value::Array(items) if items.is_empty());
            let prefix: Vec<NodeId> = if empty { Vec::new() } else { self.schemas(at) };
            rules.prefix = prefix.into();
        }
        if let Some(at) = rest {
            rules.rest = self.node_of(at);
            rules.rest_evaluates = true;
        }
    }
}
