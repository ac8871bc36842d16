//! Traffic that went round the gateway: what others report of it, and calls of routes that only such traffic takes.

use std::sync::Arc;

use estoppel_evidence::entry::{Bypass, BypassSource, Event, INTEGER_MAX};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, Reason, text};
use estoppel_snapshot::Schema;
use serde::Deserialize;

use crate::exchange::Exchange;
use crate::layer::forward::durable;
use crate::serve::Shared;

/// Longest comment of an entry, in characters.
const COMMENT_CHARS_MAX: usize = 256;

/// What an operator, or whoever may reach the admin listener, has found. Its words are recorded as they are, not believed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reported {
    source: BypassSource,
    at: Option<UnixMicros>,
    count: Option<u64>,
    r#ref: Option<String>,
    upstream: Option<String>,
    comment: Option<String>,
}

impl Reported {
    /// As the journal takes it; else what is wrong with it.
    pub(crate) fn checked(self) -> Result<Bypass, &'static str> {
        let is_name = |name: &Option<String>| {
            name.as_deref().is_none_or(|name| !name.is_empty() && text::name(name) == name)
        };
        if !is_name(&self.r#ref) || !is_name(&self.upstream) {
            return Err("`ref` and `upstream` have 1 to 128 characters and no control characters");
        }
        let is_comment = |comment: &str| {
            !comment.is_empty()
                && comment.chars().count() <= COMMENT_CHARS_MAX
                && text::text(comment) == comment
        };
        if !self.comment.as_deref().is_none_or(is_comment) {
            return Err("`comment` has 1 to 256 characters and no control characters");
        }
        if !self.count.is_none_or(|count| (1..=INTEGER_MAX).contains(&count)) {
            return Err("`count` is from 1 to 2^53-1");
        }
        Ok(Bypass {
            at: self.at,
            comment: self.comment,
            count: self.count,
            reason: Reason::Bypass,
            reference: self.r#ref,
            source: self.source,
            upstream: self.upstream,
        })
    }
}

/// Writes it into the instance's own run, and counts it. Gives the entry's id.
///
/// # Errors
/// It is not on disk.
pub(crate) async fn record(shared: &Arc<Shared>, bypass: Bypass) -> Result<Option<Leaf>, Reason> {
    if shared.journal.is_off() {
        return Err(Reason::EvidenceOff);
    }
    let Bypass { source, count, ref upstream, ref reference, .. } = bypass;
    tracing::error!(
        ?source,
        count = count.unwrap_or(1),
        upstream,
        reference,
        "traffic went round the gateway"
    );
    shared.metrics.bypassed(source, count.unwrap_or(1));
    let ack = shared.journal.note(None, Event::Bypass(bypass));
    durable(ack, std::time::Duration::from_millis(shared.server.evidence_ms)).await
}

/// A call has come to a route that only traffic beside the gateway takes.
pub(crate) async fn sprung(exchange: &Exchange) {
    let record = &exchange.record;
    let route = exchange.route.as_ref().map_or("-", |route| &route.name);
    let caller = record.identity.subject.as_deref().unwrap_or("nobody proven");
    let comment = format!("route {route}, {} by {caller}", record.request.method);
    let bypass = Bypass {
        at: Some(UnixMicros(exchange.shared.clock.unix_us())),
        comment: Some(text::text(&comment).chars().take(COMMENT_CHARS_MAX).collect()),
        count: None,
        reason: Reason::Bypass,
        reference: Some(exchange.call.to_string()),
        source: BypassSource::Canary,
        upstream: record.upstream.as_deref().map(ToOwned::to_owned),
    };
    if let Err(reason) = self::record(&exchange.shared, bypass).await {
        // The call's own receipt still says it.
        tracing::error!(%reason, call = %exchange.call, "a bypass is not in the instance's run");
    }
}

/// The schema of a database changed while no call was there that could have done it.
pub(crate) async fn beside_calls(shared: &Arc<Shared>, database: &str, before: &Schema, now: &Schema) {
    let changes = estoppel_snapshot::diff(before, now);
    let comment = format!("the schema was {} and is {}", before.schema_digest(), now.schema_digest());
    let bypass = Bypass {
        at: Some(UnixMicros(shared.clock.unix_us())),
        comment: Some(text::text(&comment).chars().take(COMMENT_CHARS_MAX).collect()),
        count: Some((changes.len() as u64).max(1)), // widening
        reason: Reason::Bypass,
        reference: changes.first().map(|first| text::name(first.path()).into_owned()),
        source: BypassSource::Database,
        upstream: Some(database.to_owned()),
    };
    if let Err(reason) = self::record(shared, bypass).await {
        tracing::error!(%reason, database, "a bypass is not in the instance's run");
    }
}

/// Rows of one table that were written and belong to no call, by what they name.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Orphans {
    pub(crate) nothing: u64,
    pub(crate) unknown: u64,
    pub(crate) ended: u64,
}

impl Orphans {
    pub(crate) fn count(&self) -> u64 {
        self.nothing.saturating_add(self.unknown).saturating_add(self.ended)
    }

    fn comment(&self) -> String {
        let kinds = [
            (self.nothing, "name no call"),
            (self.unknown, "name none of this gateway"),
            (self.ended, "name one that had ended"),
        ];
        let said =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        format!("rows written beside calls: {}", said.collect::<Vec<_>>().join(", "))
    }
}

/// Rows of a table were written that belong to no call.
pub(crate) async fn rows_beside_calls(
    shared: &Arc<Shared>,
    database: &str,
    table: &estoppel_snapshot::Written,
    orphans: Orphans,
) {
    let bypass = Bypass {
        at: Some(UnixMicros(shared.clock.unix_us())),
        comment: Some(orphans.comment()),
        count: Some(orphans.count().min(INTEGER_MAX)),
        reason: Reason::Bypass,
        reference: Some(text::name(&table.to_string()).into_owned()),
        source: BypassSource::Database,
        upstream: Some(database.to_owned()),
    };
    if let Err(reason) = self::record(shared, bypass).await {
        tracing::error!(%reason, database, "a bypass is not in the instance's run");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(change: impl FnOnce(&mut serde_json::Value)) -> Result<Bypass, String> {
        let mut said = json!({ "source": "database", "ref": "orders/7", "count": 2 });
        change(&mut said);
        let reported: Reported = serde_json::from_value(said).map_err(|error| error.to_string())?;
        reported.checked().map_err(ToOwned::to_owned)
    }

    #[test]
    fn only_what_an_entry_has_room_for_is_taken() {
        let whole = checked(|_| {}).unwrap();
        assert_eq!(
            (whole.source, whole.count, whole.reason),
            (BypassSource::Database, Some(2), Reason::Bypass)
        );
        for (name, value) in [
            ("source", json!("rumour")),
            ("ref", json!("")),
            ("ref", json!("a\nb")),
            ("upstream", json!("x".repeat(129))),
            ("comment", json!("x".repeat(257))),
            ("comment", json!("a\u{1b}b")),
            ("count", json!(0)),
            ("count", json!(1_u64 << 53)),
            ("at", json!("2026-11-21T04:00:00Z")),
            ("run", json!("ambient")),
        ] {
            assert!(checked(|said| said[name] = value.clone()).is_err(), "{name} {value}");
        }
    }
}
