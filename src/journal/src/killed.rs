//! What operators have stopped and not let go on, as it is found in a journal that is read back.

use std::collections::BTreeMap;

use estoppel_evidence::time::UnixMicros;
use serde::Deserialize;

/// Most targets that are remembered; further ones are passed over, and the log says so.
const TARGETS_MAX: usize = 4_096;

/// The last entry `act` of a target, where that was a `kill`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KilledTarget {
    /// `on` of the entry.
    pub on: String,
    pub by: String,
    pub comment: Option<String>,
    /// When it was recorded, in microseconds since 1970-01-01T00:00:00Z.
    pub at_us: u64,
}

#[derive(Deserialize)]
struct Line {
    act: String,
    by: String,
    comment: Option<String>,
    on: Option<String>,
}

/// Targets that nothing has let go on yet, while entries pass by.
#[derive(Default)]
pub(crate) struct KilledTargets(BTreeMap<String, KilledTarget>);

impl KilledTargets {
    /// Takes over what an entry changes.
    pub fn follow(&mut self, kind: &str, bytes: &[u8], ts: UnixMicros) -> Result<(), serde_json::Error> {
        if kind != "act" {
            return Ok(());
        }
        let Line { act, by, comment, on } = serde_json::from_slice(bytes)?;
        match (act.as_str(), on) {
            ("resume", Some(on)) => drop(self.0.remove(&on)),
            ("kill", Some(on)) if self.0.len() >= TARGETS_MAX && !self.0.contains_key(&on) => {
                tracing::error!(on, "more targets are killed than are remembered");
            }
            ("kill", Some(on)) => {
                self.0.insert(on.clone(), KilledTarget { on, by, comment, at_us: ts.0 });
            }
            _ => {}
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<KilledTarget> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_has_let_go_on_is_left() {
        let mut targets = KilledTargets::default();
        for (kind, act, on, ts) in [
            ("act", "kill", Some("tool:a"), 1),
            ("act", "kill", Some("all"), 2),
            ("act", "resume", Some("all"), 3),
            ("act", "kill", Some("route:b"), 4),
            ("act", "resume", Some("tool:never"), 5),
            ("act", "kill", Some("tool:a"), 6),
            ("act", "kill", None, 7),
            ("act", "other", Some("route:b"), 8),
            ("hold", "kill", Some("tool:c"), 9),
        ] {
            let line = serde_json::json!({ "act": act, "by": "alice", "on": on, "seq": 1 });
            targets.follow(kind, line.to_string().as_bytes(), UnixMicros(ts)).unwrap();
        }
        let left = targets.finish();
        let left: Vec<_> = left.iter().map(|target| (target.on.as_str(), target.at_us)).collect();
        assert_eq!(left, [("route:b", 4), ("tool:a", 6)]);
    }
}
