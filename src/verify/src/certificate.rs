//! Judges a Replay Certificate: steps R1 to R7 of `spec/replay.md`, around the steps of the bundle that it is about.

mod counted;
mod live;
mod places;
mod tolerated;

use std::collections::BTreeSet;
use std::fmt;

use self::live::Live;
use crate::bundle::{ENTRIES, Externals, MANIFEST, Options, judge};
use crate::container::{Files, Input};
use crate::envelope::Envelope;
use crate::hash::Hash;
use crate::keys::{Keys, PublicKey, STATEMENT_TYPE};
use crate::report::{Report, Subject, Unreadable};
use crate::schema::{Schemas, Slots};
use crate::statement::key_of;
use crate::trust::{read_trust, unusable};
use crate::view::View;

macro_rules! faults {
    ($($name:ident $code:literal $meaning:literal;)*) => {
        /// Why a certificate does not hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CertificateReason { $(#[doc = $meaning] $name,)* }

        impl CertificateReason {
            /// Every reason, in the order of the steps.
            pub const ALL: &'static [CertificateReason] = &[$(CertificateReason::$name,)*];

            /// The code as `spec/replay.md` writes it.
            pub fn code(self) -> &'static str {
                match self { $(CertificateReason::$name => $code,)* }
            }

            /// One sentence for a reader who has not read the specification.
            pub fn meaning(self) -> &'static str {
                match self { $(CertificateReason::$name => $meaning,)* }
            }
        }
    };
}

faults! {
    Malformed "CERTIFICATE_MALFORMED" "the certificate is not an envelope in its one allowed form";
    Schema "CERTIFICATE_SCHEMA" "what is signed is not the statement of a replay";
    Key "CERTIFICATE_KEY" "the key that the certificate states is not the one that it names";
    Signature "CERTIFICATE_SIGNATURE" "the signature of the certificate does not verify";
    Untrusted "CERTIFICATE_UNTRUSTED" "the certificate is signed by another key than the one that was given";
    Status "CERTIFICATE_STATUS" "the certificate's status does not follow from what it counts";
    Mismatch "CERTIFICATE_MISMATCH" "the certificate is not about this bundle";
}

impl fmt::Display for CertificateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The first step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFault {
    pub reason: CertificateReason,
    pub detail: String,
}

/// What came of it.
#[derive(Debug)]
pub struct CertificateReport {
    /// Of the bundle, unless the certificate failed before it was looked at.
    pub bundle: Option<Report>,
    pub fault: Option<CertificateFault>,
    /// The payload, once its signature was verified.
    pub statement: Option<Vec<u8>>,
    /// Whether the signing key is one that the reader gave.
    pub is_signer_given: bool,
}

impl CertificateReport {
    /// 0 if everything holds, 6 for an unusable trust document, otherwise 2.
    pub fn exit_code(&self) -> u8 {
        match (&self.fault, &self.bundle) {
            (Some(_), _) => 2,
            (None, Some(report)) => report.exit_code(),
            (None, None) => 2,
        }
    }
}

type Check<T = ()> = Result<T, CertificateFault>;

fn fault(reason: CertificateReason, detail: impl Into<String>) -> CertificateFault {
    CertificateFault { reason, detail: detail.into() }
}

/// Judges a certificate, and the bundle that it is about. `signer` is the key that the reader knows its signer by.
///
/// # Errors
/// Only when external content could not be read.
pub fn verify_certificate(
    certificate: &[u8],
    signer: Option<&PublicKey>,
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
) -> Result<CertificateReport, Unreadable> {
    let mut answer =
        CertificateReport { bundle: None, fault: None, statement: None, is_signer_given: signer.is_some() };
    let mut report = Report::new(Subject::Bundle);
    report.trust_given = options.trust.is_some();
    if let Err(detail) = options.trust.map(read_trust).transpose() {
        answer.bundle = Some(report.conclude(Err(unusable(detail).into()))?);
        return Ok(answer);
    }
    let signed = match read(certificate, signer) {
        Ok(signed) => signed,
        Err(fault) => return Ok(CertificateReport { fault: Some(fault), ..answer }),
    };
    if let Err(fault) = check_status(signed.predicate()) {
        return Ok(CertificateReport { fault: Some(fault), ..answer });
    }
    let (files, outcome) = match judge(input, externals, options, &mut report) {
        Ok(files) => (Some(files), Ok(())),
        Err(stop) => (None, Err(stop)),
    };
    let report = report.conclude(outcome)?;
    answer.fault = files.and_then(|files| check_bundle(&signed, &files, &report).err());
    answer.bundle = Some(report);
    answer.statement = Some(signed.payload);
    Ok(answer)
}

/// A statement whose signature was verified.
struct Signed {
    payload: Vec<u8>,
    key: Hash,
}

impl Signed {
    fn predicate(&self) -> View<'_> {
        View::of(&self.payload).member("predicate").unwrap_or(View::of(b"{}"))
    }
}

/// R1 to R5.
fn read(certificate: &[u8], signer: Option<&PublicKey>) -> Check<Signed> {
    let envelope = Envelope::read(certificate, STATEMENT_TYPE)
        .map_err(|detail| fault(CertificateReason::Malformed, detail))?;
    Schemas::get()
        .replay
        .check(&envelope.payload, &mut Slots::default())
        .map_err(|found| fault(CertificateReason::Schema, found.describe(&envelope.payload)))?;
    let statement = View::of(&envelope.payload);
    let key = statement.member("predicate").and_then(|predicate| predicate.member("key"));
    let public = key.and_then(key_of).filter(|public| public.id() == envelope.key_id);
    let public = public.ok_or_else(|| {
        fault(CertificateReason::Key, "expected the key of the signature, its hash and its algorithm")
    })?;
    if !envelope.is_signed_by(&public) {
        return Err(fault(CertificateReason::Signature, format!("not by key `{}`", public.id().hex())));
    }
    if let Some(signer) = signer.filter(|signer| signer.id() != public.id()) {
        let detail = format!("expected key `{}`, found `{}`", signer.id().hex(), public.id().hex());
        return Err(fault(CertificateReason::Untrusted, detail));
    }
    Ok(Signed { key: public.id(), payload: envelope.payload })
}

fn number(view: View<'_>, name: &str) -> u64 {
    view.member(name).and_then(View::count).unwrap_or_default()
}

/// `code` and `count` of a list of counts; none if it is not in order.
fn counted(counts: View<'_>, name: &str) -> Option<Vec<(String, u64)>> {
    let rows: Vec<(String, u64)> = counts
        .member(name)?
        .items()
        .map(|row| (row.text_of("code").into_owned(), number(row, "count")))
        .collect();
    rows.is_sorted_by(|a, b| a.0 < b.0).then_some(rows)
}

/// R6.
fn check_status(predicate: View<'_>) -> Check {
    let refuse = |detail: String| Err(fault(CertificateReason::Status, detail));
    let Some(counts) = predicate.member("counts") else { return refuse("no counts".to_owned()) };
    let (Some(drift), Some(skipped)) = (counted(counts, "drift"), counted(counts, "skipped")) else {
        return refuse("`drift` and `skipped` are not in order".to_owned());
    };
    let sum = |rows: &[(String, u64)]| rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.1));
    let once = ["matched", "missing", "truncated"].map(|name| number(counts, name));
    let steps = once.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let steps = steps.saturating_add(sum(&drift)).saturating_add(sum(&skipped));
    let recorded = number(counts, "recorded");
    if steps != recorded || number(counts, "reordered") > number(counts, "matched") {
        return refuse(format!("expected {recorded} steps, found {steps}"));
    }
    places::check_times(predicate)?;
    let mode = predicate.text_of("mode");
    let is_stub = mode == "stub";
    let is_strict = predicate.text_of("matching") == "strict";
    let by_tag = predicate.text_of("bodies_by") == "tag";
    if predicate.member("side").is_some() != is_stub || !(is_stub || is_strict) || is_stub && !by_tag {
        return refuse("`side`, `matching` and `bodies_by` do not fit `mode`".to_owned());
    }
    let database = predicate.member("database");
    if database.is_some() != (predicate.text_of("mode") == "database") {
        return refuse("`database` does not fit `mode`".to_owned());
    }
    if predicate.member("live").is_some() != (predicate.text_of("mode") == "live") {
        return refuse("`live` does not fit `mode`".to_owned());
    }
    let codes: Vec<&str> = drift.iter().chain(&skipped).map(|(code, _)| code.as_str()).collect();
    counted::check_codes(&mode, counts, &codes)?;
    counted::check_sent(predicate, counts, &drift, &skipped)?;
    tolerated::check(predicate, counts)?;
    let denied = skipped.iter().find(|(code, _)| code == "STATEMENT_DENIED").map_or(0, |(_, count)| *count);
    let (kept, gone, is_whole) = match database {
        None => (true, true, true),
        Some(database) => match database_facts(database, denied) {
            Some(facts) => facts,
            None => return refuse("`database` is not in order, or denies other statements".to_owned()),
        },
    };
    let is_invalid = predicate.member("bundle").is_some_and(|bundle| bundle.member("reason").is_some());
    let connections = number(predicate, "upstream_connections");
    let facts = [
        ("MISS", number(counts, "miss") > 0),
        ("MISSING", number(counts, "missing") > 0),
        ("REORDERED", number(counts, "reordered") > 0),
        ("TRUNCATED", number(counts, "truncated") > 0),
        ("BUNDLE_INVALID", is_invalid),
        ("NO_STEPS", recorded == 0),
        ("UPSTREAM_CONNECTION", connections > 0),
        ("SCHEMA_PARTIAL", !is_whole),
        ("SCRATCH_LEFT", !gone),
        ("TRANSACTION_ESCAPE", !kept),
        ("TAGS_ONLY", mode == "tag"),
        ("TOLERATED", number(counts, "tolerated") > 0),
    ];
    let is = |code: &str| facts.iter().any(|(name, holds)| *name == code && *holds);
    let mut expected: BTreeSet<&str> =
        facts.iter().filter(|(_, holds)| *holds).map(|(code, _)| *code).collect();
    expected.extend(drift.iter().chain(&skipped).map(|(code, _)| code.as_str()));
    let reasons: Vec<String> = predicate
        .member("reasons")
        .into_iter()
        .flat_map(View::items)
        .filter_map(View::text)
        .map(std::borrow::Cow::into_owned)
        .collect();
    if !reasons.iter().eq(expected.iter()) {
        return refuse(format!("expected the reasons {expected:?}, found {reasons:?}"));
    }
    let failing = [
        "BUNDLE_INVALID",
        "NO_STEPS",
        "UPSTREAM_CONNECTION",
        "MISS",
        "MISSING",
        "SCRATCH_LEFT",
        "TRANSACTION_ESCAPE",
    ];
    let failed = failing.into_iter().any(is) || !drift.is_empty() || is_strict && is("REORDERED");
    let lesser = ["REORDERED", "SCHEMA_PARTIAL", "TAGS_ONLY", "TRUNCATED"];
    let partial = lesser.into_iter().any(is) || !skipped.is_empty();
    let status = if failed {
        "failed"
    } else if partial {
        "partial"
    } else {
        "success"
    };
    let stated = predicate.text_of("status");
    if stated != status {
        return refuse(format!("expected the status `{status}`, found `{stated}`"));
    }
    counted::check_divergences(predicate, counts, &drift, is_invalid)?;
    check_first(predicate)
}

/// Whether the transaction was kept, the scratch schema is gone, and nothing of the schema is missing.
fn database_facts(database: View<'_>, denied: u64) -> Option<(bool, bool, bool)> {
    let sum = counted(database, "denied")?.iter().fold(0u64, |sum, row| sum.saturating_add(row.1));
    let missing: Vec<View<'_>> = database.member("not_recreated")?.items().collect();
    let is_sorted = missing.is_sorted_by(|a, b| a.text_of("part") < b.text_of("part"));
    let is_true = |name: &str| database.member(name).is_some_and(|member| member.raw() == b"true");
    (sum == denied && is_sorted).then(|| (is_true("kept"), is_true("gone"), missing.is_empty()))
}

fn check_first(predicate: View<'_>) -> Check {
    let first = predicate.member("first_divergent_seq").and_then(View::count);
    let listed = predicate.member("divergences").into_iter().flat_map(View::items);
    let smallest = listed.filter_map(|row| row.member("seq").and_then(View::count)).min();
    let left_out = number(predicate, "divergences_more") > 0;
    let fits = match (first, smallest) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(_), None) => left_out,
        (Some(first), Some(smallest)) => first == smallest || left_out && first < smallest,
    };
    if fits {
        return Ok(());
    }
    let detail = format!("expected the first divergence at {smallest:?}, found {first:?}");
    Err(fault(CertificateReason::Status, detail))
}

/// R7.
fn check_bundle(signed: &Signed, files: &Files<'_>, report: &Report) -> Check {
    let differ = |what: &str, expected: &str, found: &str| {
        let detail = format!("`{what}`: expected `{expected}`, found `{found}`");
        Err(fault(CertificateReason::Mismatch, detail))
    };
    let predicate = signed.predicate();
    let Some(bundle) = predicate.member("bundle") else { return differ("bundle", "one", "none") };
    if let Some(reason) = bundle.member("reason").and_then(View::text) {
        return differ("bundle.reason", "none, as the bundle verifies", &reason);
    }
    let manifest_bytes = files.get(MANIFEST).map(|file| file.bytes).unwrap_or_default();
    let digest = Hash::of(manifest_bytes).hex();
    let root = report.root.map(|root| format!("root:{}", root.hex())).unwrap_or_default();
    let expected = [
        ("run", report.run.clone().unwrap_or_default()),
        ("root", root),
        ("manifest", format!("sha256:{digest}")),
    ];
    for (name, expected) in expected {
        let found = bundle.text_of(name);
        if found != expected {
            return differ(name, &expected, &found);
        }
    }
    let manifest = View::of(manifest_bytes);
    let size = manifest.member("tree").map(|tree| number(tree, "size")).unwrap_or_default();
    if number(bundle, "size") != size {
        return differ("size", &size.to_string(), &number(bundle, "size").to_string());
    }
    let subject = View::of(&signed.payload).member("subject").and_then(|list| list.items().next());
    let named = subject.and_then(|subject| subject.member("digest")).map(|set| set.text_of("sha256"));
    if named.as_deref() != Some(digest.as_str()) {
        return differ("subject", &digest, &named.unwrap_or_default());
    }
    let policies = |of: View<'_>| of.member("policies").map(|list| list.raw().to_vec());
    if policies(manifest) != policies(predicate) {
        return differ("policies", "those of the manifest", "others");
    }
    check_steps(predicate, files)?;
    let keys = manifest.member("keys").map(Keys::read).and_then(Result::ok).unwrap_or_default();
    if keys.iter().any(|key| key.id == signed.key) {
        return differ("key", "a key that signs no evidence", &signed.key.hex());
    }
    Ok(())
}

/// The steps that are counted and named are those of the bundle.
fn check_steps(predicate: View<'_>, files: &Files<'_>) -> Check {
    let side = predicate.member("side").and_then(View::text);
    let lines = files.get(ENTRIES).map(|file| file.bytes).unwrap_or_default();
    let calls = || {
        let entries = (0u64..).zip(lines.split(|byte| *byte == b'\n').map(View::of));
        entries.filter(|(_, entry)| entry.text_of("kind") == "call")
    };
    let live = predicate.member("live").map(Live::read);
    let sources = predicate.member("database").and_then(|database| database.member("sources"));
    let is_step = |entry: &View<'_>| {
        let response = entry.member("response");
        let is_answered = response.is_some_and(|response| response.member("upstream").is_some());
        if let Some(live) = &live {
            return is_answered && live.is_of(*entry);
        }
        if let Some(sources) = sources {
            return is_answered && sources.items().any(|source| brings_sql(source, *entry));
        }
        match side.as_deref() {
            None => true,
            Some("client") => response
                .and_then(|response| response.member("client"))
                .is_some_and(|client| client.member("status").is_some()),
            Some(_) => response.is_some_and(|response| response.member("upstream").is_some()),
        }
    };
    let steps = calls().filter(|(_, entry)| is_step(entry)).count() as u64; // usize fits
    let recorded = predicate.member("counts").map(|counts| number(counts, "recorded")).unwrap_or_default();
    if steps != recorded {
        let detail = format!("`recorded`: expected `{steps}`, found `{recorded}`");
        return Err(fault(CertificateReason::Mismatch, detail));
    }
    if let Some(live) = &live {
        let others = calls().filter(|(_, entry)| is_step(entry) && !live.allows(*entry)).count() as u64; // usize fits
        let skipped = predicate.member("counts").and_then(|counts| counted(counts, "skipped"));
        let mut skipped = skipped.unwrap_or_default().into_iter();
        let code = live.code();
        let counted = skipped.find(|(name, _)| name == code).map_or(0, |(_, count)| count);
        if others != counted {
            let detail = format!("`{code}`: expected `{others}`, found `{counted}`");
            return Err(fault(CertificateReason::Mismatch, detail));
        }
    }
    for row in predicate.member("divergences").into_iter().flat_map(View::items) {
        let (seq, call) = (row.member("seq").and_then(View::count), row.member("call").and_then(View::text));
        let fits = match (seq, call) {
            (None, None) => true,
            (Some(seq), Some(call)) => calls().any(|(at, entry)| at == seq && entry.text_of("call") == call),
            _ => false,
        };
        if !fits {
            let detail = format!("a divergence is at seq {seq:?}, which is no such call");
            return Err(fault(CertificateReason::Mismatch, detail));
        }
    }
    tolerated::check_steps(predicate, files)
}

/// Whether a call is one that the source takes statements from.
fn brings_sql(source: View<'_>, entry: View<'_>) -> bool {
    let is_mcp = entry.text_of("dialect") == "mcp";
    let wanted = |name: &str| source.member(name).and_then(View::text);
    let called = entry.member("facts").and_then(|facts| facts.member("tools_called"));
    match (wanted("tool"), wanted("operation")) {
        (Some(tool), _) => {
            is_mcp && called.into_iter().flat_map(View::items).filter_map(View::text).any(|name| name == tool)
        }
        (None, Some(operation)) => !is_mcp && entry.text_of("operation") == operation,
        (None, None) => false,
    }
}

/// An envelope; and the same bytes as a statement whose signature was verified.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(signed) = read(bytes, None) {
        assert!(Schemas::get().replay.check(&signed.payload, &mut Slots::default()).is_ok());
    }
    if Schemas::get().replay.check(bytes, &mut Slots::default()).is_ok() {
        let signed = Signed { payload: bytes.to_vec(), key: Hash([0; 32]) };
        let predicate = signed.predicate();
        let counts = predicate.member("counts").unwrap_or(View::of(b"{}"));
        if check_status(predicate).is_ok() && predicate.text_of("status") == "success" {
            assert_eq!(
                number(counts, "matched"),
                number(counts, "recorded"),
                "a step that did not match is no success"
            );
        }
        _ = predicate.member("key").and_then(key_of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification() {
        let spec = include_str!("../../../spec/replay.md");
        for reason in CertificateReason::ALL {
            assert!(spec.contains(&format!("`{}`", reason.code())), "{reason}");
        }
    }
}
