//! A result of `estoppel regress run`, made again from the bundles that its calls are in.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_bundle::{Archive, Bundle};
use estoppel_evidence::entry::VerdictAction;
use estoppel_gateway::recorded::Retrial;
use serde::Deserialize as _;
use serde_json::Value;

use super::fixture::{By, Expected};
use super::run::{Row, data};
use crate::output::Failure;
use crate::recorded;

/// Bundles with the receipts of their calls.
pub struct Recordings<'b>(Vec<Recording<'b>>);

struct Recording<'b> {
    bundle: Bundle<Archive<&'b [u8]>>,
    receipts: Vec<Value>,
}

impl<'b> Recordings<'b> {
    /// Those of archives that have been verified.
    pub fn of(archives: impl Iterator<Item = &'b [u8]>) -> Result<Self, Failure> {
        let unreadable =
            |error: estoppel_bundle::OpenError| Failure::reason(error.reason(), error.to_string());
        let mut recordings = Vec::new();
        for archive in archives {
            let bundle = Bundle::from_zip(archive).map_err(unreadable)?;
            let mut receipts = Vec::new();
            let mut entries = bundle.entries().map_err(unreadable)?;
            while let Some(entry) = entries.next().map_err(unreadable)? {
                let entry: Value = serde_json::from_slice(entry.line).unwrap_or_default();
                receipts.extend(Some(entry).filter(|entry| entry["kind"] == "call"));
            }
            drop(entries);
            recordings.push(Recording { bundle, receipts });
        }
        Ok(Self(recordings))
    }

    /// What `regress run` answers today for the calls of `stated`. Of `stated` are only which calls they are, what the authors of
    /// fixtures want, which calls were left out of fixtures, and whether checkpoints were looked at.
    ///
    /// # Errors
    /// It is about nothing, or a policy of the bundles cannot be read.
    pub fn remade(&self, stated: &Value, current: &Retrial) -> Result<Value, Failure> {
        let checkpoints = stated["checkpoints"].as_str().unwrap_or_default();
        if let Some(calls) = stated["calls"].as_array() {
            let rows = self.calls(calls.first(), current)?;
            return Ok(data(current, checkpoints, ("calls", &rows), &[]));
        }
        let fixtures = stated["fixtures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows = self.fixtures(fixtures, current)?;
        let left_out = stated["left_out"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(data(current, checkpoints, ("fixtures", &rows), left_out))
    }

    /// Every call of the bundle that the first one is in.
    fn calls(&self, first: Option<&Value>, current: &Retrial) -> Result<Vec<Row>, Failure> {
        let first = first.and_then(|row| self.find(&row["call"]));
        let (recording, _) = first.ok_or_else(|| about_nothing("its calls are in none of the bundles"))?;
        let (mut policies, mut rows) = (Policies::default(), Vec::new());
        for receipt in &recording.receipts {
            let own = policies.of(recording, receipt)?;
            rows.extend(Row::of_call(receipt, &recording.bundle, (current, own)));
        }
        Ok(rows)
    }

    fn fixtures(&self, stated: &[Value], current: &Retrial) -> Result<Vec<Row>, Failure> {
        let (mut policies, mut rows, mut names) = (Policies::default(), Vec::new(), BTreeSet::new());
        for row in stated {
            let name = row["name"].as_str().and_then(|name| super::name(name).ok());
            let name = name.filter(|name| names.insert(name.clone()));
            let name = name.ok_or_else(|| about_nothing("a fixture has no name, or that of another"))?;
            let found = self.find(&row["call"]).zip(expected(&row["expected"]));
            let ((recording, receipt), expected) = found
                .ok_or_else(|| about_nothing("a fixture is of no call of the bundles, or expects nothing"))?;
            let own = policies.of(recording, receipt)?;
            rows.extend(Row::of((name, expected), receipt, &recording.bundle, (current, own)));
        }
        if rows.is_empty() {
            return Err(about_nothing("it has no rows"));
        }
        Ok(rows)
    }

    fn find(&self, call: &Value) -> Option<(&Recording<'b>, &Value)> {
        self.0.iter().find_map(|recording| {
            let receipt = recording.receipts.iter().find(|receipt| receipt["call"] == *call)?;
            Some((recording, receipt))
        })
    }
}

/// Policies that judged then, by hash.
#[derive(Default)]
struct Policies(BTreeMap<String, Retrial>);

impl Policies {
    fn of(&mut self, recording: &Recording<'_>, receipt: &Value) -> Result<&Retrial, Failure> {
        let hash = receipt["policy"]["hash"].as_str().unwrap_or_default();
        if !self.0.contains_key(hash) {
            let own = recorded::retrial(recorded::policy_text(&recording.bundle, hash), hash)?;
            self.0.insert(hash.to_owned(), own);
        }
        self.0.get(hash).ok_or_else(|| Failure::runtime("INTERNAL", "a policy was not kept"))
    }
}

/// What a row expects: of its author a verdict alone.
fn expected(stated: &Value) -> Option<Expected> {
    let by = By::deserialize(&stated["by"]).ok()?;
    let reason = stated["reason"].as_str().filter(|_| by == By::Receipt).map(ToOwned::to_owned);
    Some(Expected { by, reason, verdict: VerdictAction::deserialize(&stated["verdict"]).ok()? })
}

fn about_nothing(why: &str) -> Failure {
    Failure { exit: 2, ..Failure::runtime("KIT_JUDGED_OTHERWISE", why) }
}
