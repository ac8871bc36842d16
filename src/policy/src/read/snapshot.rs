//! What is said of databases that are looked at around calls.

use super::Reader;
use crate::snapshot::{SnapshotMode, SnapshotSource, Snapshotting};
use crate::yaml::{Kind, Node};

impl Reader {
    pub(super) fn snapshot(&mut self, node: &Node) -> Option<Snapshotting> {
        match &node.kind {
            Kind::Text(text) if text == "none" => Some(Snapshotting::None),
            Kind::Text(text) => self.other_word(node, "`none` or `{ source: …, mode: … }`", text),
            _ => {
                let map = self.map(node)?;
                self.known_keys(&map, &["source", "mode"]);
                let source = self.required(&map, "source", Self::slug);
                let mode = self.required(&map, "mode", |reader, node| {
                    reader.choice(node, SnapshotMode::WRITTEN, SnapshotMode::as_str)
                });
                Some(Snapshotting::On(SnapshotSource { source: source?, mode: mode? }))
            }
        }
    }
}
