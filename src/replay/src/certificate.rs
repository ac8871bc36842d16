//! The Replay Certificate: an in-toto statement, signed.

use estoppel_bundle::{Bundle, Source};
use estoppel_evidence::envelope::{self, STATEMENT_TYPE, Subject, base64};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Alg, CallId, KeyId, PublicKey, Root, RunId, Sha256, Signer};
use serde::Serialize;

use crate::code::Code;
use crate::database::DatabaseReplay;
use crate::live::LiveReplay;
use crate::serve::Side;
use crate::tally::{Counts, Divergence, Matching, Status, Tally, Within};

/// Predicate type of the statement.
pub const PREDICATE: &str = "urn:estoppel:replay:v0";

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    #[error("key {0} signs evidence of this bundle; a certificate needs a key of its own")]
    Shared(KeyId),
    #[error("the key did not sign")]
    Key(#[from] KeyError),
}

/// What was done with the steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Database,
    Judge,
    Live,
    Stub,
    Tag,
}

impl Mode {
    /// Whether something new is held against what was recorded, and may differ.
    fn has_classes(self) -> bool {
        match self {
            Self::Database | Self::Live | Self::Stub => true,
            Self::Judge | Self::Tag => false,
        }
    }
}

/// What stored bodies were held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BodiesBy {
    /// The digests of what was stored, for want of the run's capture key.
    Digest,
    /// The tags of what passed.
    Tag,
}

/// The program that replays.
#[derive(Clone, Debug, Serialize)]
pub struct Tool {
    /// Of its file.
    pub digest: Sha256,
    pub name: String,
    pub version: String,
}

/// What the caller knows of a replay.
#[derive(Clone, Debug)]
pub struct Circumstances {
    pub id: CallId,
    pub bodies_by: BodiesBy,
    pub mode: Mode,
    /// In mode `stub`.
    pub side: Option<Side>,
    /// Digest of the normalizers file.
    pub normalizers: Option<Sha256>,
    pub tool: Tool,
    pub started: UnixMicros,
    pub finished: UnixMicros,
    pub upstream_connections: u64,
    /// In mode `database`.
    pub database: Option<DatabaseReplay>,
    /// In mode `live`.
    pub live: Option<LiveReplay>,
    /// In modes `stub`, `database` and `live`: the policy that classes are from, where those of the bundle were not gone by.
    pub policy: Option<Sha256>,
}

/// Where classes of determinism are from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum ClassesFrom {
    Bundle,
    File,
}

#[derive(Serialize)]
struct Determinism<'a> {
    differences: u64,
    from: ClassesFrom,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Sha256>,
    tolerated: &'a [Within],
}

#[derive(Serialize)]
struct About<'a> {
    manifest: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    root: Root,
    run: RunId,
    size: u64,
}

#[derive(Serialize)]
struct Key {
    alg: Alg,
    kid: KeyId,
    spki: String,
}

#[derive(Serialize)]
struct Predicate<'a> {
    bodies_by: BodiesBy,
    bundle: About<'a>,
    clock: &'static str,
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'a DatabaseReplay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    determinism: Option<Determinism<'a>>,
    divergences: &'a [Divergence],
    divergences_more: u64,
    finished: UnixMicros,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_divergent_seq: Option<u64>,
    id: CallId,
    key: Key,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<&'a LiveReplay>,
    matching: Matching,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalizers: Option<Sha256>,
    policies: &'a [Sha256],
    reasons: Vec<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<Side>,
    started: UnixMicros,
    status: Status,
    tool: &'a Tool,
    upstream_connections: u64,
    v: &'static str,
}

/// A signed certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub status: Status,
    /// The envelope, canonical JSON.
    pub bytes: Vec<u8>,
    /// The statement that it signs.
    pub statement: Vec<u8>,
}

/// Whether this key may sign certificates of replays of a bundle.
///
/// # Errors
/// It signs evidence in it.
pub fn check_key<S: Source>(bundle: &Bundle<S>, key: &PublicKey) -> Result<(), CertifyError> {
    let shared = bundle.manifest().keys.iter().any(|row| row.kid == key.id());
    if shared { Err(CertifyError::Shared(key.id())) } else { Ok(()) }
}

impl Certificate {
    /// Signs what a replay came to.
    ///
    /// # Errors
    /// As [`check_key`], and those of signing.
    pub fn sign<S: Source>(
        bundle: &Bundle<S>,
        tally: &Tally,
        circumstances: &Circumstances,
        signer: &dyn Signer,
    ) -> Result<Self, CertifyError> {
        let public = signer.public();
        check_key(bundle, public)?;
        let manifest = bundle.manifest();
        let connections = circumstances.upstream_connections;
        let (divergences, divergences_more) = tally.divergences();
        let status = tally.status(connections);
        let (tolerated, differences) = tally.within();
        let policy = circumstances.policy;
        let from = if policy.is_some() { ClassesFrom::File } else { ClassesFrom::Bundle };
        let determinism = Determinism { differences, from, policy, tolerated };
        let predicate = Predicate {
            bodies_by: circumstances.bodies_by,
            bundle: About {
                manifest: bundle.manifest_digest(),
                reason: tally.bundle_reason(),
                root: manifest.tree.root,
                run: manifest.run,
                size: manifest.tree.size,
            },
            clock: "system",
            counts: tally.counts(),
            database: circumstances.database.as_ref(),
            determinism: circumstances.mode.has_classes().then_some(determinism),
            divergences,
            divergences_more,
            finished: circumstances.finished,
            first_divergent_seq: tally.first_divergent_seq(),
            id: circumstances.id,
            key: Key { alg: public.alg(), kid: public.id(), spki: base64(public.spki()) },
            live: circumstances.live.as_ref(),
            matching: tally.matching(),
            mode: circumstances.mode,
            normalizers: circumstances.normalizers,
            policies: &manifest.policies,
            reasons: tally.reasons(connections).into_iter().collect(),
            side: circumstances.side,
            started: circumstances.started,
            status,
            tool: &circumstances.tool,
            upstream_connections: connections,
            v: "replay/v0",
        };
        let subject = Subject { name: "manifest.json".to_owned(), digest: bundle.manifest_digest() };
        let statement = envelope::statement(PREDICATE, predicate, &[subject]);
        let bytes = envelope::sign(STATEMENT_TYPE, &statement, signer)?;
        Ok(Self { status, bytes, statement })
    }
}
