//! The operations of a route.

use std::collections::BTreeMap;

use super::{Map, Reader};
use crate::error::{Place, PolicyErrorCode};
use crate::operations::{OPERATIONS_MAX, Operation, Operations, PathTemplate, ambiguous, is_method};
use crate::yaml::Node;

impl Reader {
    pub(super) fn operations(&mut self, route: &Map<'_>) -> Operations {
        let list = self.optional(route, "operations", Self::listed);
        let others = self.optional(route, "other_operations", Self::default_verdict);
        if let Some(node) = route.get("other_operations")
            && route.get("operations").is_none()
        {
            let message = "there are others only where `operations` lists some";
            self.inside("other_operations", |reader| {
                reader.add(PolicyErrorCode::Value, node.place, message.into());
            });
        }
        Operations { list: list.unwrap_or_default(), others }
    }

    fn listed(&mut self, node: &Node) -> Option<Vec<Operation>> {
        let items = self.list(node)?;
        self.count(node, items.len(), OPERATIONS_MAX);
        let mut read = Vec::new();
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate().take(OPERATIONS_MAX) {
            let operation = self.at(index, |reader| reader.operation(item));
            if let Some(operation) = &operation
                && let Some(first) = ids.insert(operation.id.clone(), index)
            {
                let message = format!("operations[{first}] is `{}` as well", operation.id);
                self.clash(index, item.place, message);
            }
            read.extend(operation.map(|operation| (index, operation)));
        }
        let indexed: Vec<_> = read.iter().map(|(index, operation)| (*index, operation)).collect();
        for (first, second) in ambiguous(&indexed) {
            let message = format!(
                "operations[{first}] takes some of the same requests, and neither is the more specific; \
                 one for what both take decides"
            );
            self.clash(second, items[second].place, message);
        }
        Some(read.into_iter().map(|(_, operation)| operation).collect())
    }

    fn clash(&mut self, index: usize, place: Place, message: String) {
        self.at(index, |reader| reader.add(PolicyErrorCode::AmbiguousOperation, place, message));
    }

    fn operation(&mut self, node: &Node) -> Option<Operation> {
        let map = self.map(node)?;
        self.known_keys(&map, &["id", "method", "path", "judge", "snapshot", "determinism"]);
        let id = self.required(&map, "id", Self::slug);
        let method = self.required(&map, "method", |reader, node| {
            let parse = |text: &str| is_method(text).then(|| text.to_owned());
            reader.parsed(node, "the name of a method in capital letters, as `POST`", parse)
        });
        let path = self.required(&map, "path", |reader, node| {
            reader.parsed(node, PathTemplate::EXPECTED, PathTemplate::parse)
        });
        let judge = self.optional(&map, "judge", Self::judge);
        let snapshot = self.optional(&map, "snapshot", Self::snapshot);
        let determinism = self.optional(&map, "determinism", Self::determinism);
        Some(Operation { id: id?, method: method?, path: path?, judge, snapshot, determinism, look: None })
    }
}
