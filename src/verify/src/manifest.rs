//! The manifest (SPEC section 8; steps M1 to M4, S4, F5 and F6 of section 11).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::hash::Hash;
use crate::json::{admit, is_strict};
use crate::keys::{Keys, KeysFault};
use crate::reason::Reason;
use crate::report::{Counters, Finding, Step};
use crate::run::check_counters;
use crate::schema::{Schemas, Slots};
use crate::tally::Tally;
use crate::tree::Tree;
use crate::view::{View, push_string};

/// SPEC section 15.
const MANIFEST_BYTES_MAX: usize = 64 << 20;

/// A file that the manifest lists.
pub(crate) struct Row {
    pub path: String,
    pub bytes: u64,
    pub digest: Hash,
}

/// Content that the manifest lists as kept beside the bundle.
pub(crate) struct External {
    pub bytes: u64,
    pub digest: Hash,
}

/// A manifest that is valid by its schema.
pub(crate) struct Manifest<'a> {
    pub run: String,
    pub iss: String,
    pub keys: Keys,
    pub files: Vec<Row>,
    pub externals: Vec<External>,
    view: View<'a>,
}

impl<'a> Manifest<'a> {
    /// M1 to M4.
    pub(crate) fn read(bytes: &'a [u8]) -> Step<Manifest<'a>> {
        let refuse = |reason, detail: String| Finding::new(reason, detail);
        if bytes.len() > MANIFEST_BYTES_MAX {
            let detail = format!("expected at most {MANIFEST_BYTES_MAX} bytes, found {}", bytes.len());
            return Err(refuse(Reason::ManifestMalformed, detail));
        }
        if let Err(fault) = Schemas::get().manifest.check(bytes, &mut Slots::default()) {
            let malformed = admit(bytes).and_then(|()| is_strict(bytes));
            return Err(match malformed {
                Err(fault) => refuse(Reason::ManifestMalformed, fault.describe(bytes)),
                Ok(()) => refuse(Reason::ManifestSchema, fault.describe(bytes)),
            });
        }
        let view = View::of(bytes);
        let rows = |name: &str| view.member(name).into_iter().flat_map(View::items);
        let keys = match view.member("keys").map(Keys::read) {
            Some(Ok(keys)) => keys,
            Some(Err(KeysFault::Id(detail))) => return Err(refuse(Reason::KeyIdMismatch, detail)),
            Some(Err(KeysFault::Algorithm(detail))) => return Err(refuse(Reason::AlgorithmMismatch, detail)),
            None => Keys::default(),
        };
        Ok(Manifest {
            run: view.text_of("run").into_owned(),
            iss: view.text_of("iss").into_owned(),
            keys,
            files: rows("files")
                .map(|row| Row {
                    path: row.text_of("path").into_owned(),
                    bytes: size(row),
                    digest: digest(row),
                })
                .collect(),
            externals: rows("externals")
                .map(|row| External { bytes: size(row), digest: digest(row) })
                .collect(),
            view,
        })
    }

    /// S4: what the manifest repeats of the lines.
    pub(crate) fn check(&self, tree: &Tree, counters: &Counters, tally: &mut Tally) -> Result<(), String> {
        let member = |name: &str| self.view.member(name);
        let stated = member("tree");
        let size = stated.and_then(|tree| tree.member("size")).and_then(View::count);
        if size != Some(tree.size()) {
            return Err(differs(
                "tree.size",
                &tree.size().to_string(),
                &size.unwrap_or_default().to_string(),
            ));
        }
        let root = stated.map(|tree| tree.text_of("root")).unwrap_or_default();
        let expected = format!("root:{}", tree.root().hex());
        if root != expected {
            return Err(differs("tree.root", &expected, &root));
        }
        check_counters(counters, member("counters"))?;
        self.check_claims(tally)?;
        self.check_policies(tally)?;
        let facts = &tally.facts;
        for (name, expected) in [
            ("sign", Some(&facts.sign)),
            ("durability", Some(&facts.durability)),
            ("class", Some(&facts.class)),
            ("name", facts.name.as_ref()),
            ("opened", Some(&facts.opened)),
            ("sealed", Some(&facts.sealed)),
            ("seal_reason", Some(&facts.seal_reason)),
        ] {
            let found = member(name).and_then(View::text);
            if found.as_deref() != expected.map(String::as_str) {
                return Err(differs(
                    name,
                    expected.map_or("no such member", |expected| expected),
                    found.as_deref().unwrap_or("no such member"),
                ));
            }
        }
        let build = member("build").map(View::raw).unwrap_or_default();
        if build != tally.build {
            return Err(differs("build", &lossy(&tally.build), &lossy(build)));
        }
        self.check_metrics(tally)
    }

    fn check_claims(&self, tally: &Tally) -> Result<(), String> {
        let mut expected = String::from("{");
        for (at, (name, values)) in tally.claims.iter().enumerate() {
            expected.push_str(if at == 0 { "" } else { "," });
            push_string(&mut expected, name);
            expected.push_str(":[");
            for (at, value) in values.iter().enumerate() {
                expected.push_str(if at == 0 { "" } else { "," });
                push_string(&mut expected, value);
            }
            expected.push(']');
        }
        expected.push('}');
        self.check_raw("claims", &expected)
    }

    fn check_policies(&self, tally: &Tally) -> Result<(), String> {
        let rows: Vec<String> =
            tally.policies.iter().map(|hash| format!("\"sha256:{}\"", hash.hex())).collect();
        self.check_raw("policies", &format!("[{}]", rows.join(",")))
    }

    fn check_raw(&self, name: &str, expected: &str) -> Result<(), String> {
        let found = self.view.member(name).map(View::raw).unwrap_or_default();
        if found == expected.as_bytes() { Ok(()) } else { Err(differs(name, expected, &lossy(found))) }
    }

    fn check_metrics(&self, tally: &mut Tally) -> Result<(), String> {
        let metrics = self.view.member("metrics");
        if tally.totals.is_empty() && metrics.is_some() {
            return Err("the run has no `call` entry, so expected no `metrics` in the manifest".to_owned());
        }
        for (name, percent) in [("total_p50_us", 50), ("total_p95_us", 95), ("total_p99_us", 99)] {
            let expected = tally.percentile(percent);
            let found = metrics.and_then(|metrics| metrics.member(name)).and_then(View::count);
            if found != expected {
                let shown = |value: Option<u64>| value.map_or("no such member".to_owned(), |v| v.to_string());
                return Err(differs(&format!("metrics.{name}"), &shown(expected), &shown(found)));
            }
        }
        Ok(())
    }

    /// F5: the one statement that fits the files. `digests` has every file of the bundle.
    pub(crate) fn statement(&self, tree: &Tree, digests: &BTreeMap<&str, Hash>) -> String {
        let mut out = format!(
            concat!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","predicate":"#,
                r#"{{"root":"root:{root}","run":"{run}","size":{size},"v":"pef/v0"}},"#,
                r#""predicateType":"urn:estoppel:pef:manifest:v0","subject":["#
            ),
            root = tree.root().hex(),
            run = self.run,
            size = tree.size(),
        );
        let subjects =
            digests.iter().filter(|(path, _)| !matches!(**path, "manifest.dsse.json" | "SHA256SUMS"));
        for (at, (path, digest)) in subjects.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // A path has no character that JSON escapes.
            _ = write!(out, r#"{comma}{{"digest":{{"sha256":"{}"}},"name":"{path}"}}"#, digest.hex());
        }
        out.push_str("]}");
        out
    }
}

/// F6: the one `SHA256SUMS` that fits the files.
pub(crate) fn sums(digests: &BTreeMap<&str, Hash>) -> String {
    let mut out = String::new();
    for (path, digest) in digests.iter().filter(|(path, _)| **path != "SHA256SUMS") {
        _ = writeln!(out, "{}  {path}", digest.hex());
    }
    out
}

fn size(row: View<'_>) -> u64 {
    row.member("bytes").and_then(View::count).unwrap_or_default()
}

fn digest(row: View<'_>) -> Hash {
    // The schema has seen to the form.
    Hash::of_text("sha256:", row.text_of("sha256").as_bytes()).unwrap_or(Hash([0; 32]))
}

fn differs(name: &str, expected: &str, found: &str) -> String {
    format!("the entries say `{name}` is `{expected}`, the manifest says `{found}`")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
