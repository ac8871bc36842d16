//! The manifest (SPEC section 8, `spec/pef/schemas/manifest.schema.json`).
//!
//! Fields stand in canonical order, so that serializing writes canonical bytes; a property test holds them against the
//! general canonicalizer. Reading back ignores members that this version does not write (`ext`, `rollback`, `worm`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use estoppel_evidence::entry::{Build, Counters, Durability, RunClass, SealReason, Sign, VERSION};
use estoppel_evidence::envelope;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Alg, Instance, KeyId, PublicKey, Root, RunId, Sha256, Use};

use crate::layout::{BundlePath, Role};

/// Most keys of a manifest.
pub const KEYS_MAX: usize = 64;
/// Most policies of a manifest.
pub const POLICIES_MAX: usize = 1024;
/// Most distinct values of one claim that are listed, the smallest first.
pub const CLAIM_VALUES_MAX: usize = 16;
/// Most content that is kept beside a bundle.
pub const EXTERNALS_MAX: usize = 65_534;

/// What a bundle says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The program that wrote the run.
    pub build: Build,
    /// Distinct values of each claim in byte order.
    pub claims: BTreeMap<String, Vec<String>>,
    pub class: RunClass,
    pub counters: Counters,
    pub durability: Durability,
    /// Content that is kept beside the bundle.
    pub externals: Vec<ExternalRow>,
    /// Every file but the three that stand for themselves, by path.
    pub files: Vec<FileRow>,
    pub iss: Instance,
    /// Every key that signs anything inside.
    pub keys: Vec<KeyRow>,
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    /// The caller's name for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When `run.open` was written.
    pub opened: UnixMicros,
    /// Distinct policies of `run.open` and the receipts in byte order.
    pub policies: Vec<Sha256>,
    pub run: RunId,
    pub seal_reason: SealReason,
    /// When `run.seal` was written.
    pub sealed: UnixMicros,
    pub sign: Sign,
    /// The run tree with the seal.
    pub tree: TreeHead,
    pub v: Version,
}

impl Manifest {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("manifests hold strings, integers and lists of them")
    }
}

/// Size and root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeHead {
    pub root: Root,
    pub size: u64,
}

/// One file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    pub bytes: u64,
    pub path: BundlePath,
    pub role: Role,
    pub sha256: Sha256,
}

/// Content beside the bundle: file `<hex>` in the folder named as the bundle with `.d` appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRow {
    pub bytes: u64,
    pub role: ExternalRole,
    pub sha256: Sha256,
}

/// What content beside the bundle may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExternalRole {
    Body,
}

/// A key that signs something inside. The bundle's own word: trust comes from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    pub alg: Alg,
    pub kid: KeyId,
    /// Base64 of the DER form.
    pub spki: String,
    pub r#use: Use,
}

impl KeyRow {
    /// The row of a key.
    pub fn new(key: &PublicKey, r#use: Use) -> Self {
        Self { alg: key.alg(), kid: key.id(), spki: envelope::base64(key.spki()), r#use }
    }

    /// The key itself; `None` when it is malformed, or is not the key that the row calls it.
    pub fn key(&self) -> Option<PublicKey> {
        let key = PublicKey::from_spki(&envelope::from_base64(&self.spki)?).ok()?;
        (key.id() == self.kid && key.alg() == self.alg).then_some(key)
    }
}

/// Nearest-rank percentiles of `time.total_us` over the receipts; absent when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_lag_bytes_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_p50_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_p95_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_p99_us: Option<u64>,
}

impl Metrics {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The one version that is written and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    #[default]
    #[serde(rename = "pef/v0")]
    V0,
}

/// The predicate of the manifest's statement.
#[derive(Serialize)]
pub(crate) struct Predicate {
    pub root: Root,
    pub run: RunId,
    pub size: u64,
    pub v: &'static str,
}

impl Predicate {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self { root: manifest.tree.root, run: manifest.run, size: manifest.tree.size, v: VERSION }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{Plan, Run};

    fn assert_canonical(manifest: &Manifest) {
        let bytes = manifest.to_bytes();
        let canonical = estoppel_evidence::canonical::foreign(&bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&canonical));
        assert_eq!(serde_json::from_slice::<Manifest>(&bytes).unwrap(), *manifest);
    }

    fn full() -> Manifest {
        let plan = Plan { external: Some(Sha256::of(b"external")), p256: true, ..Plan::default() };
        let mut manifest = Run::of(&plan).seal().unwrap().manifest().clone();
        manifest.build.digest = Some(Sha256::of(b"build"));
        manifest.metrics.snapshot_lag_bytes_max = Some(5);
        manifest
    }

    #[test]
    fn a_manifest_with_every_member_is_canonical_and_reads_back() {
        assert_canonical(&full());
    }

    #[test]
    fn a_manifest_without_its_optional_members_is_canonical_and_reads_back() {
        let mut manifest = full();
        (manifest.name, manifest.metrics) = (None, Metrics::default());
        manifest.claims.clear();
        manifest.externals.clear();
        assert_canonical(&manifest);
        assert!(!String::from_utf8(manifest.to_bytes()).unwrap().contains("metrics"));
    }

    #[test]
    fn members_and_words_are_those_of_the_schema() {
        let schema = include_str!("../../../spec/pef/schemas/manifest.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&full().to_bytes()).unwrap();
        let check = |value: &serde_json::Value, schema: &serde_json::Value| {
            for name in value.as_object().unwrap().keys() {
                assert!(schema["properties"].get(name).is_some(), "`{name}` is not in the schema");
            }
            for name in schema["required"].as_array().unwrap() {
                assert!(value.get(name.as_str().unwrap()).is_some(), "{name} is required");
            }
        };
        check(&value, &schema);
        for name in ["build", "counters", "metrics", "tree"] {
            check(&value[name], &schema["properties"][name]);
        }
        for name in ["externals", "files", "keys"] {
            check(&value[name][0], &schema["properties"][name]["items"]);
        }
        let roles = &schema["properties"]["files"]["items"]["properties"]["role"]["enum"];
        let all: Vec<Role> = serde_json::from_value(roles.clone()).unwrap();
        assert_eq!(serde_json::to_value(&all).unwrap(), *roles);
    }

    #[test]
    fn members_that_are_not_written_do_not_hinder_reading() {
        let mut value: serde_json::Value = serde_json::from_slice(&full().to_bytes()).unwrap();
        value["ext"] = serde_json::json!({"a": 1});
        value["rollback"] = serde_json::json!({"run": full().run});
        assert_eq!(serde_json::from_value::<Manifest>(value).unwrap(), full());
    }

    #[test]
    fn a_row_that_calls_a_key_another_is_no_key() {
        let mut row = full().keys[0].clone();
        assert!(row.key().is_some());
        row.kid = KeyId([0; 32]);
        assert!(row.key().is_none());
    }

    proptest! {
        #[test]
        fn any_text_gives_a_canonical_manifest(
            name in "\\PC{1,40}|[\\x00-\\x7f]{1,40}",
            values in prop::collection::vec("\\PC{1,20}", 1..4),
            count in 0u64..(1 << 53),
        ) {
            let mut manifest = full();
            manifest.name = Some(name);
            manifest.claims.insert("agent".into(), values);
            manifest.counters.calls = count;
            assert_canonical(&manifest);
        }
    }
}
