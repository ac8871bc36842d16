//! `approvers`, and `hold` in a rule.

use std::collections::BTreeMap;

use estoppel_evidence::PublicKey;
use estoppel_evidence::envelope::{base64, from_base64};

use super::{Reader, is_unsafe};
use crate::document::is_slug;
use crate::error::PolicyErrorCode;
use crate::hold::{APPROVERS_MAX, Approver, HOLD_APPROVERS_MAX, HOLD_MS, Hold, HoldMode};
use crate::yaml::{Kind, Node};

/// Most characters of a subject.
const IDENTITY_CHARS_MAX: usize = 256;

impl Reader {
    pub(super) fn approvers(&mut self, node: &Node) -> Option<BTreeMap<String, Approver>> {
        let map = self.map(node)?;
        self.count(node, map.pairs.len(), APPROVERS_MAX);
        // Also those that cannot be read, so that their uses are not errors of their own.
        self.approvers = map.pairs.iter().map(|(key, _)| key.text.clone()).collect();
        let mut approvers: BTreeMap<String, Approver> = BTreeMap::new();
        for (key, node) in map.pairs {
            let approver = self.inside(&key.text, |reader| {
                if !is_slug(&key.text) {
                    reader.not_a_slug(&key.text, key.place);
                }
                reader.approver(node)
            });
            let Some(approver) = approver else { continue };
            if let Some((other, _)) = approvers.iter().find(|(_, known)| known.key == approver.key) {
                let message = format!("`{other}` has the same key, so one person would count as two");
                self.inside(&key.text, |reader| reader.add(PolicyErrorCode::Value, node.place, message));
            }
            approvers.insert(key.text.clone(), approver);
        }
        Some(approvers)
    }

    /// A key, or one with the subject that its holder calls as.
    fn approver(&mut self, node: &Node) -> Option<Approver> {
        if !matches!(node.kind, Kind::Map(_)) {
            return Some(Approver { key: self.public_key(node)?, identity: None });
        }
        let map = self.map(node)?;
        self.known_keys(&map, &["key", "identity"]);
        let key = self.required(&map, "key", Self::public_key);
        let identity = self.optional(&map, "identity", |reader, node| {
            reader.bounded_text(node, IDENTITY_CHARS_MAX, is_unsafe)
        });
        Some(Approver { key: key?, identity })
    }

    fn public_key(&mut self, node: &Node) -> Option<PublicKey> {
        let expected =
            "an Ed25519 or P-256 public key: base64 of its SubjectPublicKeyInfo, without line ends";
        self.parsed(node, expected, |text| {
            let spki = from_base64(text).filter(|spki| base64(spki) == text)?;
            PublicKey::from_spki(&spki).ok()
        })
    }

    pub(super) fn hold(&mut self, node: &Node) -> Option<Hold> {
        let map = self.map(node)?;
        self.known_keys(&map, &["approvers", "needs", "ttl_ms", "mode"]);
        let approvers = self.required(&map, "approvers", Self::approver_names);
        let most = approvers.as_ref().map_or(HOLD_APPROVERS_MAX, Vec::len) as u64;
        let needs = self.optional(&map, "needs", |reader, node| reader.integer(node, 1..=most));
        let ttl_ms = self.optional(&map, "ttl_ms", |reader, node| reader.integer(node, HOLD_MS));
        let mode =
            self.optional(&map, "mode", |reader, node| reader.choice(node, HoldMode::ALL, HoldMode::as_str));
        Some(Hold { approvers: approvers?, needs, ttl_ms, mode })
    }

    fn approver_names(&mut self, node: &Node) -> Option<Vec<String>> {
        let items = self.list(node)?;
        self.count(node, items.len(), HOLD_APPROVERS_MAX);
        let mut names: Vec<String> = Vec::new();
        let read = self.each(items, |reader, item| {
            let name = reader.text(item)?.to_owned();
            let problem = if names.contains(&name) {
                Some("is there twice")
            } else if !reader.approvers.contains(&name) {
                Some("is none of the policy's `approvers`")
            } else {
                None
            };
            if let Some(problem) = problem {
                let message = format!("`{}` {problem}", crate::error::shown(&name));
                reader.add(PolicyErrorCode::Value, item.place, message);
                return None;
            }
            names.push(name.clone());
            Some(name)
        });
        (read.len() == items.len() && !read.is_empty()).then_some(read)
    }
}
