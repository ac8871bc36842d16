//! The files of a bundle and what lies beside it: steps F2 to F4, N1, B1, X1 and X2 of SPEC section 11.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::{ENVELOPE, MANIFEST, SUMS};
use crate::container::Files;
use crate::hash::{Hash, Hasher};
use crate::manifest::Manifest;
use crate::reason::Reason;
use crate::report::{Finding, Step, Stop, Unreadable};
use crate::tally::{Stream, Tally};
use crate::tree::Tree;

/// Where the content is that is kept beside a bundle.
pub trait Externals {
    /// Opens the content with that SHA-256 (hex), or says that there is none. Called up to twice for each.
    ///
    /// # Errors
    /// Something is there that cannot be read.
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn Read + '_>>>;
}

/// There is nothing beside the bundle.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternals;

impl Externals for NoExternals {
    fn open(&mut self, _: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
        Ok(None)
    }
}

/// F2 and F3. Gives the digest of every file.
pub(super) fn check_files<'a>(files: &Files<'a>, manifest: &Manifest<'_>) -> Step<BTreeMap<&'a str, Hash>> {
    for row in &manifest.files {
        if files.get(&row.path).is_none() {
            let detail = format!("the manifest lists `{}`, which is not there", row.path);
            return Err(Finding::new(Reason::FileMissing, detail));
        }
    }
    let unlisted = |detail| Err(Finding::new(Reason::FileUnlisted, detail));
    let mut rows = manifest.files.iter();
    let mut before: Option<&str> = None;
    for row in rows.by_ref() {
        if before.is_some_and(|before| before >= row.path.as_str()) {
            return unlisted(format!("the manifest lists `{}` twice or out of order", row.path));
        }
        if matches!(row.path.as_str(), MANIFEST | ENVELOPE | SUMS) {
            return unlisted(format!("the manifest lists `{}`, which it must not", row.path));
        }
        before = Some(&row.path);
    }
    let mut digests = BTreeMap::new();
    for file in files.iter() {
        let row = manifest.files.binary_search_by(|row| row.path.as_str().cmp(file.path)).ok();
        if row.is_none() && !matches!(file.path, MANIFEST | ENVELOPE | SUMS) {
            return unlisted(format!("`{}` is there, but the manifest does not list it", file.path));
        }
    }
    for file in files.iter() {
        let digest = Hash::of(file.bytes);
        digests.insert(file.path, digest);
        let row = manifest.files.binary_search_by(|row| row.path.as_str().cmp(file.path)).ok();
        let Some(row) = row.and_then(|at| manifest.files.get(at)) else { continue };
        let bytes = file.bytes.len() as u64; // usize fits.
        if row.bytes != bytes || row.digest != digest {
            let detail = format!(
                "`{}`: the manifest states {} bytes with SHA-256 {}, found {bytes} bytes with {}",
                file.path,
                row.bytes,
                row.digest.hex(),
                digest.hex()
            );
            return Err(Finding::new(Reason::FileDigest, detail));
        }
    }
    Ok(digests)
}

/// F4.
pub(super) fn check_names(digests: &BTreeMap<&str, Hash>, tally: &Tally) -> Step {
    for (path, digest) in digests {
        let Some((folder, _)) = path.split_once('/') else { continue };
        let expected = match folder {
            "policy" | "contracts" => format!("{folder}/{}.json", digest.hex()),
            "bodies" => format!("{folder}/{}", digest.hex()),
            _ => continue,
        };
        if *path != expected {
            let detail = format!("expected the name `{expected}`, found `{path}`");
            return Err(Finding::new(Reason::FileNameDigest, detail));
        }
    }
    let missing = tally
        .policy_seqs
        .iter()
        .filter(|(hash, _)| !digests.contains_key(format!("policy/{}.json", hash.hex()).as_str()));
    match missing.min_by_key(|(_, seq)| **seq) {
        Some((hash, seq)) => {
            let detail = format!("expected `policy/{}.json`, which judged this call, found none", hash.hex());
            Err(Finding::new(Reason::PolicyMissing, detail).at(*seq))
        }
        None => Ok(()),
    }
}

/// The most nodes that a stream's file has.
const NODES_MAX: u64 = 65_536;

/// N1.
pub(super) fn check_stream(
    files: &Files<'_>,
    digests: &BTreeMap<&str, Hash>,
    stream: &Stream,
) -> Result<(), String> {
    let path = format!("streams/{}.nodes", stream.call);
    let file = files.get(&path).ok_or_else(|| format!("expected a file `{path}`, found none"))?;
    if digests.get(path.as_str()).copied() != stream.nodes {
        return Err(format!("`{path}` has not the digest that the receipt states as `sse.nodes`"));
    }
    let level = (0..64).find(|level| blocks(stream.units, *level) <= NODES_MAX).unwrap_or_default();
    if stream.level != Some(u64::from(level)) {
        let found = stream.level.map_or("none".to_owned(), |found| found.to_string());
        return Err(format!("{} units need `level` {level}, found {found}", stream.units));
    }
    let (nodes, rest) = file.bytes.as_chunks::<32>();
    let expected = blocks(stream.units, level);
    if nodes.len() as u64 != expected || !rest.is_empty() {
        let found = file.bytes.len();
        return Err(format!("{} units need {expected} nodes of 32 bytes, found {found} bytes", stream.units));
    }
    let mut tree = Tree::default();
    nodes.iter().for_each(|node| tree.push(Hash(*node)));
    if Some(tree.root()) != stream.root {
        return Err(format!("the nodes in `{path}` lead to another root than the receipt states"));
    }
    Ok(())
}

/// How many blocks of 2^level units, the last perhaps not full.
fn blocks(units: u64, level: u32) -> u64 {
    units.div_ceil(1 << level)
}

/// B1.
pub(super) fn check_bodies(digests: &BTreeMap<&str, Hash>, manifest: &Manifest<'_>, tally: &Tally) -> Step {
    let externals: BTreeSet<Hash> = manifest.externals.iter().map(|external| external.digest).collect();
    let missing = tally.bodies.iter().filter(|(body, _)| {
        !externals.contains(body) && !digests.contains_key(format!("bodies/{}", body.hex()).as_str())
    });
    if let Some((body, seq)) = missing.min_by_key(|(_, seq)| **seq) {
        let detail = format!("expected the body `{}` in `bodies/` or `externals`, found neither", body.hex());
        return Err(Finding::new(Reason::BodyMissing, detail).at(*seq));
    }
    match externals.iter().find(|external| !tally.bodies.contains_key(external)) {
        Some(external) => {
            let detail = format!("the manifest lists `{}` as external, no receipt names it", external.hex());
            Err(Finding::new(Reason::ExternalUnknown, detail))
        }
        None => Ok(()),
    }
}

/// X1 and X2.
pub(super) fn check_externals(externals: &mut dyn Externals, manifest: &Manifest<'_>) -> Result<(), Stop> {
    for external in &manifest.externals {
        let name = external.digest.hex();
        if open_external(externals, &name)?.is_none() {
            let detail = format!("expected `{name}` beside the bundle, found none");
            return Err(Finding::new(Reason::MissingExternal, detail).into());
        }
    }
    for external in &manifest.externals {
        let name = external.digest.hex();
        let Some(mut content) = open_external(externals, &name)? else { continue };
        let (bytes, digest) =
            digest_of(&mut *content, external.bytes).map_err(|source| unreadable(&name, source))?;
        if bytes != external.bytes || digest != external.digest {
            let detail = format!(
                "`{name}`: the manifest states {} bytes, found {bytes} bytes (or more) with SHA-256 {}",
                external.bytes,
                digest.hex()
            );
            return Err(Finding::new(Reason::ExternalDigest, detail).into());
        }
    }
    Ok(())
}

fn open_external<'e>(
    externals: &'e mut dyn Externals,
    name: &str,
) -> Result<Option<Box<dyn Read + 'e>>, Unreadable> {
    externals.open(name).map_err(|source| unreadable(name, source))
}

fn unreadable(name: &str, source: std::io::Error) -> Unreadable {
    Unreadable { what: format!("external content `{name}`"), source }
}

/// Size and digest, read in pieces; not further than one piece beyond `expected` bytes.
fn digest_of(content: &mut dyn Read, expected: u64) -> std::io::Result<(u64, Hash)> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 256 << 10];
    let mut bytes = 0u64;
    while bytes <= expected {
        let count = match content.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(piece.get(..count).unwrap_or_default());
        bytes = bytes.saturating_add(count as u64); // usize fits.
    }
    Ok((bytes, hasher.finish()))
}
