//! Writing a bundle in two steps, with no content held in memory.
//!
//! First the caller streams each file of the bundle through [`Parts`] into a [`Staging`] of its own, and size, digest
//! and CRC are taken on the way. Then [`Parts::seal`] makes what speaks about the files: key hints, manifest, signed
//! statement and sums. [`Sealed`] writes everything out and compares each file with what was said about it.
//!
//! Promises: the same parts, facts and key give the same bytes; nothing is sealed that the format forbids (a receipt's
//! policy, stream or body missing, a key that signs and is not listed).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};

use estoppel_evidence::entry::Sign;
use estoppel_evidence::envelope::{self, Subject};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::{KeyId, Reason, Sha256, Signer, Use};

use crate::digest::{CheckedReader, Measure, Meter, MeteredWriter, read_some};
use crate::facts::ManifestFacts;
use crate::layout::{
    BundlePath, EXTERNAL_BYTES_MIN, FILES_MAX, MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_ENVELOPE, Role, SUMS,
};
use crate::manifest::{
    EXTERNALS_MAX, ExternalRole, ExternalRow, FileRow, KEYS_MAX, KeyRow, Manifest, Predicate, Version,
};
use crate::zip::{self, ZipError, ZipWriter};

/// Bytes of one signature in `receipts.sig`.
const SIGNATURE_BYTES: u64 = 64;
/// Bytes that pass through memory at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("`{path}` is made by the seal, not by the caller")]
    Reserved { path: BundlePath },
    #[error("`{path}` is there already")]
    Twice { path: BundlePath },
    #[error("`{path}` is not named by its digest {digest}")]
    Name { path: BundlePath, digest: Sha256 },
    #[error("body of {bytes} bytes; from {EXTERNAL_BYTES_MIN} on it is kept beside the bundle, below inside")]
    Place { bytes: u64 },
    #[error("the bundle needs `{path}`")]
    Missing { path: String },
    #[error("no entry refers to `{path}`")]
    Unreferenced { path: String },
    #[error("`{path}` is {bytes} bytes long, {wanted} are needed")]
    Length { path: BundlePath, bytes: u64, wanted: u64 },
    #[error("{use_:?} key {id} is not among the keys of the manifest")]
    KeyMissing { id: KeyId, use_: Use },
    #[error("key {id} is malformed or is listed twice")]
    Key { id: KeyId },
    #[error("the bundle has {count} {what}, limit {limit}")]
    Max { what: &'static str, count: u64, limit: u64 },
    #[error("`{path}` changed after it was written")]
    Changed { path: BundlePath },
    #[error("the manifest could not be signed")]
    Sign(#[source] KeyError),
    #[error("could not {what} `{path}`")]
    Staging { what: &'static str, path: BundlePath, source: io::Error },
    #[error("could not write the archive")]
    Zip(#[source] ZipError),
}

impl WriteError {
    /// The reason for machines.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Reserved { .. }
            | Self::Twice { .. }
            | Self::Name { .. }
            | Self::Place { .. }
            | Self::Missing { .. }
            | Self::Unreferenced { .. }
            | Self::Length { .. }
            | Self::Max { .. } => Reason::Internal,
            Self::KeyMissing { .. } | Self::Key { .. } | Self::Sign(_) => Reason::KeyInvalid,
            Self::Changed { .. } => Reason::DiskFailed,
            Self::Staging { source, .. } => io_reason(source),
            Self::Zip(error) => error.reason(),
        }
    }
}

/// What a failed read or write of our own files is called.
pub(crate) fn io_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::DiskFull,
        _ => Reason::DiskFailed,
    }
}

/// Where files of a bundle wait until it is sealed. The caller implements it, with temporary files or in memory.
///
/// Nothing is promised about durability: what is staged is made again after a crash. Nobody retries.
pub trait Staging {
    /// What takes the content of one file.
    type Writer: Write;

    /// Starts a file. Several may be written at once.
    fn create(&mut self, path: &BundlePath) -> io::Result<Self::Writer>;

    /// The file is complete.
    fn close(&mut self, path: &BundlePath, writer: Self::Writer) -> io::Result<()>;

    /// Reads a complete file from its start.
    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>>;
}

/// Keeps staged files in memory: for small bundles and for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStaging {
    files: BTreeMap<BundlePath, Vec<u8>>,
}

impl Staging for MemoryStaging {
    type Writer = Vec<u8>;

    fn create(&mut self, _: &BundlePath) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn close(&mut self, path: &BundlePath, writer: Vec<u8>) -> io::Result<()> {
        self.files.insert(path.clone(), writer);
        Ok(())
    }

    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
        let content = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(content.as_slice()))
    }
}

/// Takes the content of one file; [`Parts::close`] ends it.
pub struct PartWriter<W> {
    path: BundlePath,
    metered: MeteredWriter<W>,
}

impl<W: Write> Write for PartWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.metered.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.metered.flush()
    }
}

/// The files of a bundle that is being gathered.
#[derive(Debug)]
pub struct Parts<S> {
    staging: S,
    files: BTreeMap<BundlePath, Measure>,
    externals: BTreeMap<Sha256, u64>,
}

impl<S: Staging> Parts<S> {
    /// No files yet.
    pub fn new(staging: S) -> Self {
        Self { staging, files: BTreeMap::new(), externals: BTreeMap::new() }
    }

    /// Starts the file at `path`. Several may be written at once.
    ///
    /// # Errors
    /// [`WriteError::Reserved`], [`WriteError::Twice`] and those of the staging.
    pub fn create(&mut self, path: BundlePath) -> Result<PartWriter<S::Writer>, WriteError> {
        self.is_free(&path)?;
        let inner = self.staging.create(&path).map_err(|source| staging("create", &path, source))?;
        Ok(PartWriter { path, metered: MeteredWriter { inner, meter: Meter::default() } })
    }

    /// Ends a file that [`Parts::create`] started.
    ///
    /// # Errors
    /// A policy, contract, snapshot or body that is not named by its digest; a body for [`Parts::external`]; those of the staging.
    pub fn close(&mut self, part: PartWriter<S::Writer>) -> Result<Measure, WriteError> {
        let PartWriter { path, metered: MeteredWriter { mut inner, meter } } = part;
        inner
            .flush()
            .and_then(|()| self.staging.close(&path, inner))
            .map_err(|source| staging("close", &path, source))?;
        self.register(path, meter.finish())
    }

    /// Adds a whole file.
    ///
    /// # Errors
    /// As [`Parts::create`] and [`Parts::close`].
    pub fn add(&mut self, path: BundlePath, content: &[u8]) -> Result<Measure, WriteError> {
        let mut part = self.create(path)?;
        part.write_all(content).map_err(|source| staging("write", &part.path, source))?;
        self.close(part)
    }

    /// Takes a file that the staging can open already, such as a body of the body store, and reads it once.
    ///
    /// # Errors
    /// As [`Parts::create`] and [`Parts::close`].
    pub fn adopt(&mut self, path: BundlePath) -> Result<Measure, WriteError> {
        self.is_free(&path)?;
        let measured = measure(&self.staging, &path).map_err(|source| staging("read", &path, source))?;
        self.register(path, measured)
    }

    /// States a body that the caller keeps beside the bundle, in `<bundle>.d/<hex>`. Stating it again changes nothing.
    ///
    /// # Errors
    /// [`WriteError::Place`] for a body that belongs inside.
    pub fn external(&mut self, sha256: Sha256, bytes: u64) -> Result<(), WriteError> {
        if bytes < EXTERNAL_BYTES_MIN {
            return Err(WriteError::Place { bytes });
        }
        self.externals.insert(sha256, bytes);
        Ok(())
    }

    /// Whether the file is there already, so that content that is shared by calls is staged once.
    pub fn contains(&self, path: &BundlePath) -> bool {
        self.files.contains_key(path)
    }

    fn is_free(&self, path: &BundlePath) -> Result<(), WriteError> {
        if matches!(path.as_str(), MANIFEST | MANIFEST_ENVELOPE | SUMS) || Role::of(path) == Role::Key {
            return Err(WriteError::Reserved { path: path.clone() });
        }
        if self.files.contains_key(path) {
            return Err(WriteError::Twice { path: path.clone() });
        }
        Ok(())
    }

    fn register(&mut self, path: BundlePath, measure: Measure) -> Result<Measure, WriteError> {
        self.is_free(&path)?;
        if path.named_digest().is_some_and(|named| named != Some(measure.sha256)) {
            return Err(WriteError::Name { path, digest: measure.sha256 });
        }
        if Role::of(&path) == Role::Body && measure.bytes >= EXTERNAL_BYTES_MIN {
            return Err(WriteError::Place { bytes: measure.bytes });
        }
        self.files.insert(path, measure);
        Ok(measure)
    }

    /// Makes the key hints, the manifest, its statement signed by `signer`, and the sums.
    ///
    /// # Errors
    /// Whatever would not be a bundle: see the variants of [`WriteError`].
    pub fn seal(self, facts: ManifestFacts, signer: &dyn Signer) -> Result<Sealed<S>, WriteError> {
        self.has_what_is_needed(&facts)?;
        let keys = checked_keys(&facts, signer)?;
        let mut files: BTreeMap<BundlePath, SealedFile> = self
            .files
            .into_iter()
            .map(|(path, measure)| (path, SealedFile { measure, content: None }))
            .collect();
        for (row, pem) in &keys {
            files.insert(BundlePath::key(row.r#use, row.kid), SealedFile::made(pem.clone().into_bytes()));
        }
        let keys = keys.into_iter().map(|(row, _)| row).collect();
        let manifest = manifest(facts, keys, &files, &self.externals)?;
        let bytes = manifest.to_bytes();
        at_most("bytes of manifest", bytes.len(), MANIFEST_BYTES_MAX)?;
        let manifest_digest = Sha256::of(&bytes);
        files.insert(BundlePath::fixed(MANIFEST), SealedFile::made(bytes));
        let statement = statement(&manifest, manifest_digest);
        let envelope =
            envelope::sign(envelope::STATEMENT_TYPE, &statement, signer).map_err(WriteError::Sign)?;
        files.insert(BundlePath::fixed(MANIFEST_ENVELOPE), SealedFile::made(envelope));
        let sums = sums(&files);
        files.insert(BundlePath::fixed(SUMS), SealedFile::made(sums));
        Ok(Sealed { staging: self.staging, files, manifest, manifest_digest })
    }

    fn has_what_is_needed(&self, facts: &ManifestFacts) -> Result<(), WriteError> {
        let needs = |path: BundlePath| match self.files.get(&path) {
            Some(measure) => Ok(*measure),
            None => Err(WriteError::Missing { path: path.to_string() }),
        };
        needs(BundlePath::entries())?;
        needs(BundlePath::checkpoint())?;
        let signatures = BundlePath::signatures();
        match facts.sign {
            Sign::Each => {
                let bytes = needs(signatures.clone())?.bytes;
                let wanted = facts.tree.size.saturating_mul(SIGNATURE_BYTES);
                if bytes != wanted {
                    return Err(WriteError::Length { path: signatures, bytes, wanted });
                }
            }
            Sign::Checkpoint if self.files.contains_key(&signatures) => {
                return Err(WriteError::Unreferenced { path: signatures.to_string() });
            }
            Sign::Checkpoint => {}
        }
        let references = &facts.references;
        references.policies.iter().try_for_each(|digest| needs(BundlePath::policy(*digest)).map(drop))?;
        references.contracts.iter().try_for_each(|digest| needs(BundlePath::contract(*digest)).map(drop))?;
        references.snapshots.iter().try_for_each(|digest| needs(BundlePath::snapshot(*digest)).map(drop))?;
        for (call, nodes) in &references.streams {
            let path = BundlePath::stream(*call);
            if needs(path.clone())?.sha256 != *nodes {
                return Err(WriteError::Name { path, digest: *nodes });
            }
        }
        let beside = |digest: &Sha256| self.externals.contains_key(digest);
        let inside = references.bodies.iter().filter(|digest| !beside(digest));
        inside.map(|digest| needs(BundlePath::body(*digest))).try_for_each(|found| found.map(drop))?;
        match self.externals.keys().find(|digest| !references.bodies.contains(digest)) {
            Some(digest) => Err(WriteError::Unreferenced { path: digest.to_string() }),
            None => Ok(()),
        }
    }
}

fn staging(what: &'static str, path: &BundlePath, source: io::Error) -> WriteError {
    WriteError::Staging { what, path: path.clone(), source }
}

fn at_most(what: &'static str, count: usize, limit: u64) -> Result<(), WriteError> {
    let count = count as u64; // widening
    if count > limit { Err(WriteError::Max { what, count, limit }) } else { Ok(()) }
}

fn measure(staging: &impl Staging, path: &BundlePath) -> io::Result<Measure> {
    let mut content = staging.open(path)?;
    let mut meter = Meter::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = read_some(&mut content, &mut chunk)?;
        match chunk.get(..n) {
            Some(part) if !part.is_empty() => meter.update(part),
            _ => return Ok(meter.finish()),
        }
    }
}

/// The rows with their PEM texts, by key id; every key that signs must be among them.
fn checked_keys(facts: &ManifestFacts, signer: &dyn Signer) -> Result<Vec<(KeyRow, String)>, WriteError> {
    at_most("keys", facts.keys.len(), KEYS_MAX as u64)?; // widening
    let mut rows = BTreeMap::new();
    for row in &facts.keys {
        let key = row.key().ok_or(WriteError::Key { id: row.kid })?;
        if rows.insert(row.kid, (row.clone(), key.pem())).is_some() {
            return Err(WriteError::Key { id: row.kid });
        }
    }
    let signs = [(signer.public().id(), Use::Manifest)];
    for (id, use_) in facts.references.keys.iter().chain(&signs) {
        if rows.get(id).is_none_or(|(row, _)| row.r#use != *use_) {
            return Err(WriteError::KeyMissing { id: *id, use_: *use_ });
        }
    }
    Ok(rows.into_values().collect())
}

fn manifest(
    facts: ManifestFacts,
    keys: Vec<KeyRow>,
    files: &BTreeMap<BundlePath, SealedFile>,
    externals: &BTreeMap<Sha256, u64>,
) -> Result<Manifest, WriteError> {
    at_most("files", files.len() + 3, FILES_MAX as u64)?; // widening
    at_most("externals", externals.len(), EXTERNALS_MAX as u64)?; // widening
    let external = |(sha256, bytes): (&Sha256, &u64)| ExternalRow {
        bytes: *bytes,
        role: ExternalRole::Body,
        sha256: *sha256,
    };
    let file = |(path, file): (&BundlePath, &SealedFile)| FileRow {
        bytes: file.measure.bytes,
        path: path.clone(),
        role: Role::of(path),
        sha256: file.measure.sha256,
    };
    Ok(Manifest {
        build: facts.build,
        claims: facts.claims,
        class: facts.class,
        counters: facts.counters,
        durability: facts.durability,
        externals: externals.iter().map(external).collect(),
        files: files.iter().map(file).collect(),
        iss: facts.iss,
        keys,
        metrics: facts.metrics,
        name: facts.name,
        opened: facts.opened,
        policies: facts.references.policies.into_iter().collect(),
        run: facts.run,
        seal_reason: facts.seal_reason,
        sealed: facts.sealed,
        sign: facts.sign,
        tree: facts.tree,
        v: Version::V0,
    })
}

fn statement(manifest: &Manifest, digest: Sha256) -> Vec<u8> {
    let mut subjects: Vec<Subject> = manifest
        .files
        .iter()
        .map(|file| Subject { name: file.path.to_string(), digest: file.sha256 })
        .collect();
    subjects.push(Subject { name: MANIFEST.into(), digest });
    subjects.sort_by(|a, b| a.name.cmp(&b.name));
    envelope::statement(envelope::MANIFEST_PREDICATE, Predicate::of(manifest), &subjects)
}

fn sums(files: &BTreeMap<BundlePath, SealedFile>) -> Vec<u8> {
    let mut out = String::new();
    for (path, file) in files {
        let _ = writeln!(out, "{}  {path}", file.measure.sha256.hex()); // a String takes every write
    }
    out.into_bytes()
}

#[derive(Clone, Debug)]
struct SealedFile {
    measure: Measure,
    /// What the seal made itself; other content is in the staging.
    content: Option<Vec<u8>>,
}

impl SealedFile {
    fn made(content: Vec<u8>) -> Self {
        Self { measure: Measure::of(&content), content: Some(content) }
    }
}

/// A bundle that can be written out, any number of times, always with the same bytes.
#[derive(Debug)]
pub struct Sealed<S> {
    staging: S,
    files: BTreeMap<BundlePath, SealedFile>,
    manifest: Manifest,
    manifest_digest: Sha256,
}

impl<S: Staging> Sealed<S> {
    /// What the bundle says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, which names the bundle in either form.
    pub fn manifest_digest(&self) -> Sha256 {
        self.manifest_digest
    }

    /// Every file in byte order of the paths.
    pub fn files(&self) -> impl Iterator<Item = (&BundlePath, Measure)> {
        self.files.iter().map(|(path, file)| (path, file.measure))
    }

    /// Size of the archive.
    ///
    /// # Errors
    /// [`WriteError::Zip`] when the content does not fit one archive; it can still be written as a directory.
    pub fn zip_bytes(&self) -> Result<u64, WriteError> {
        zip::archive_bytes(self.files().map(|(path, measure)| (path, measure.bytes))).map_err(WriteError::Zip)
    }

    /// Writes the archive and gives the destination back, in pieces of up to 64 KiB and many small ones: `out` should
    /// be buffered. Flushing and syncing it is left to the caller.
    ///
    /// # Errors
    /// [`WriteError::Zip`], before anything is written if the content does not fit; [`WriteError::Changed`] when
    /// staged content is not what it was.
    pub fn write_zip<W: Write>(&self, out: W) -> Result<W, WriteError> {
        self.zip_bytes()?;
        let mut zip = ZipWriter::new(out);
        for (path, file) in &self.files {
            let mut content = self.content(path, file)?;
            zip.entry(path, file.measure.bytes, file.measure.crc32, &mut content)
                .map_err(|error| changed_or(path, error))?;
        }
        zip.finish().map_err(WriteError::Zip)
    }

    /// Hands each file to `put`, in byte order of the paths; `put` copies the content to the end and syncs it.
    ///
    /// # Errors
    /// Those of `put`, and [`WriteError::Changed`] when content was not read to its end or is not what it was.
    pub fn write_dir(
        &self,
        mut put: impl FnMut(&BundlePath, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        for (path, file) in &self.files {
            let mut content = self.content(path, file)?;
            let result = put(path, &mut content);
            match result {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(WriteError::Changed { path: path.clone() });
                }
                Err(error) => return Err(staging("write", path, error)),
                Ok(()) if content.done() || file.measure.bytes == 0 => {}
                Ok(()) => return Err(WriteError::Changed { path: path.clone() }),
            }
        }
        Ok(())
    }

    /// The staging, to be cleared away.
    pub fn into_staging(self) -> S {
        self.staging
    }

    fn content<'a>(
        &'a self,
        path: &BundlePath,
        file: &'a SealedFile,
    ) -> Result<CheckedReader<Box<dyn Read + 'a>>, WriteError> {
        let content: Box<dyn Read + 'a> = match &file.content {
            Some(made) => Box::new(made.as_slice()),
            None => self.staging.open(path).map_err(|source| staging("open", path, source))?,
        };
        Ok(CheckedReader::new(content, file.measure.bytes, file.measure.sha256))
    }
}

fn changed_or(path: &BundlePath, error: ZipError) -> WriteError {
    match error {
        ZipError::Content { path } => WriteError::Changed { path },
        ZipError::Read(source) if source.kind() == io::ErrorKind::InvalidData => {
            WriteError::Changed { path: path.clone() }
        }
        ZipError::Read(source) => staging("read", path, source),
        other => WriteError::Zip(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BODY, Plan, Run, manifest_key, receipt_key, second_key};
    use crate::layout::{CHECKPOINT, ENTRIES, SIGNATURES};

    fn plans() -> Vec<Plan> {
        let plan = Plan::default();
        vec![
            plan,
            Plan { calls: 0, anchored: false, ..plan },
            Plan { sign: Sign::Checkpoint, ..plan },
            Plan { p256: true, ..plan },
            Plan { rotated: true, ..plan },
            Plan { external: Some(Sha256::of(b"external")), ..plan },
        ]
    }

    #[test]
    fn sealing_the_same_content_twice_gives_the_same_bytes() {
        for plan in plans() {
            assert_eq!(Run::of(&plan).zip(), Run::of(&plan).zip());
        }
    }

    #[test]
    fn files_added_in_another_order_give_the_same_bytes() {
        let run = Run::of(&Plan::default());
        let mut parts = Parts::new(MemoryStaging::default());
        for (path, content) in run.files.iter().rev() {
            parts.add(path.clone(), content).unwrap();
        }
        let sealed = parts.seal(run.facts(), &manifest_key()).unwrap();
        assert_eq!(sealed.write_zip(Vec::new()).unwrap(), run.zip());
    }

    #[test]
    fn several_files_are_written_at_once_and_in_pieces() {
        let run = Run::of(&Plan::default());
        let mut parts = Parts::new(MemoryStaging::default());
        let mut open: Vec<_> = run
            .files
            .iter()
            .map(|(path, content)| (parts.create(path.clone()).unwrap(), content.as_slice()))
            .collect();
        while open.iter().any(|(_, rest)| !rest.is_empty()) {
            for (part, rest) in &mut open {
                let n = rest.len().min(7);
                part.write_all(&rest[..n]).unwrap();
                *rest = &rest[n..];
            }
        }
        for (part, _) in open {
            parts.close(part).unwrap();
        }
        let sealed = parts.seal(run.facts(), &manifest_key()).unwrap();
        assert_eq!(sealed.write_zip(Vec::new()).unwrap(), run.zip());
    }

    #[test]
    fn files_that_the_staging_holds_already_are_adopted() {
        let run = Run::of(&Plan::default());
        let body = BundlePath::body(Sha256::of(BODY));
        let mut staging = MemoryStaging::default();
        staging.close(&body, BODY.to_vec()).unwrap();
        let mut parts = Parts::new(staging);
        assert_eq!(parts.adopt(body.clone()).unwrap(), Measure::of(BODY));
        for (path, content) in run.files.iter().filter(|(path, _)| **path != body) {
            parts.add(path.clone(), content).unwrap();
        }
        let sealed = parts.seal(run.facts(), &manifest_key()).unwrap();
        assert_eq!(sealed.write_zip(Vec::new()).unwrap(), run.zip());
    }

    #[test]
    fn directory_and_archive_hold_the_same_files_in_byte_order() {
        for plan in plans() {
            let run = Run::of(&plan);
            let sealed = run.seal().unwrap();
            let mut paths = Vec::new();
            let mut files = BTreeMap::new();
            sealed
                .write_dir(|path, content| {
                    let mut out = Vec::new();
                    content.read_to_end(&mut out)?;
                    paths.push(path.clone());
                    files.insert(path.clone(), out);
                    Ok(())
                })
                .unwrap();
            assert!(paths.is_sorted());
            let zip = run.zip();
            assert_eq!(sealed.zip_bytes().unwrap(), zip.len() as u64);
            let archive = crate::Archive::open(zip).unwrap();
            assert!(archive.entries().iter().map(|entry| &entry.path).eq(&paths));
            for entry in archive.entries() {
                let mut content = Vec::new();
                archive.content(entry).read_to_end(&mut content).unwrap();
                assert_eq!(content, files[&entry.path], "{}", entry.path);
            }
        }
    }

    #[test]
    fn the_statement_names_every_file_but_itself_and_the_sums() {
        let sealed = Run::of(&Plan::default()).seal().unwrap();
        let envelope: serde_json::Value =
            serde_json::from_slice(sealed.files[MANIFEST_ENVELOPE].content.as_ref().unwrap()).unwrap();
        let payload = envelope::from_base64(envelope["payload"].as_str().unwrap()).unwrap();
        assert_eq!(estoppel_evidence::canonical::foreign(&payload).unwrap(), payload);
        let statement: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let subjects = statement["subject"].as_array().unwrap();
        let named: Vec<(String, String)> = subjects
            .iter()
            .map(|s| (s["name"].as_str().unwrap().into(), s["digest"]["sha256"].as_str().unwrap().into()))
            .collect();
        let wanted: Vec<(String, String)> = sealed
            .files()
            .filter(|(path, _)| ![SUMS, MANIFEST_ENVELOPE].contains(&path.as_str()))
            .map(|(path, measure)| (path.to_string(), measure.sha256.hex()))
            .collect();
        assert_eq!(named, wanted);
        assert_eq!(statement["predicate"]["size"], sealed.manifest().tree.size);
    }

    #[test]
    fn sums_list_every_file_but_themselves() {
        let sealed = Run::of(&Plan::default()).seal().unwrap();
        let sums = String::from_utf8(sealed.files[SUMS].content.clone().unwrap()).unwrap();
        let wanted: String = sealed
            .files()
            .filter(|(path, _)| path.as_str() != SUMS)
            .map(|(path, measure)| format!("{}  {path}\n", measure.sha256.hex()))
            .collect();
        assert_eq!(sums, wanted);
    }

    fn refused(run: &Run, leave_out: &str) -> WriteError {
        let mut parts = Parts::new(MemoryStaging::default());
        for (path, content) in run.files.iter().filter(|(path, _)| !path.as_str().starts_with(leave_out)) {
            parts.add(path.clone(), content).unwrap();
        }
        parts.seal(run.facts(), &manifest_key()).unwrap_err()
    }

    #[test]
    fn nothing_is_sealed_while_a_needed_file_is_missing() {
        let run = Run::of(&Plan::default());
        for path in [ENTRIES, SIGNATURES, CHECKPOINT, "policy/", "snapshots/", "streams/", "bodies/"] {
            assert!(
                matches!(refused(&run, path), WriteError::Missing { path: p } if p.starts_with(path)),
                "{path}"
            );
        }
    }

    #[test]
    fn nothing_is_sealed_with_content_that_no_entry_names() {
        let run = Run::of(&Plan::default());
        let mut parts = run.parts(MemoryStaging::default());
        parts.external(Sha256::of(b"external"), EXTERNAL_BYTES_MIN).unwrap();
        let error = parts.seal(run.facts(), &manifest_key()).unwrap_err();
        assert!(matches!(error, WriteError::Unreferenced { .. }));
        let run = Run::of(&Plan { sign: Sign::Checkpoint, ..Plan::default() });
        let mut parts = run.parts(MemoryStaging::default());
        parts.add(BundlePath::signatures(), b"").unwrap();
        assert!(matches!(parts.seal(run.facts(), &manifest_key()), Err(WriteError::Unreferenced { .. })));
    }

    #[test]
    fn nothing_is_sealed_with_another_number_of_signatures() {
        let mut run = Run::of(&Plan::default());
        run.files.get_mut(SIGNATURES).unwrap().pop();
        assert!(matches!(run.seal(), Err(WriteError::Length { .. })));
    }

    #[test]
    fn every_key_that_signs_is_listed_once_with_its_use() {
        let run = Run::of(&Plan::default());
        let sealed = |facts| run.seal_with(facts).map(drop);
        for leave_out in [Use::Receipt, Use::Manifest] {
            let mut facts = run.facts();
            facts.keys.retain(|row| row.r#use != leave_out);
            assert!(matches!(sealed(facts), Err(WriteError::KeyMissing { use_, .. }) if use_ == leave_out));
        }
        let rotated = Run::of(&Plan { rotated: true, ..run.plan });
        let mut facts = rotated.facts();
        facts.keys.retain(|row| row.kid != second_key().public().id());
        assert!(matches!(rotated.seal_with(facts), Err(WriteError::KeyMissing { use_: Use::Receipt, .. })));
        let mut facts = run.facts();
        facts.keys.push(KeyRow::new(receipt_key(&run.plan).public(), Use::Checkpoint));
        assert!(matches!(sealed(facts), Err(WriteError::Key { .. })));
        let mut facts = run.facts();
        facts.keys[0].spki = "AA==".into();
        assert!(matches!(sealed(facts), Err(WriteError::Key { .. })));
    }

    #[test]
    fn files_go_where_they_belong_and_only_once() {
        let mut parts = Parts::new(MemoryStaging::default());
        let mut add = |path: &str, content: &[u8]| parts.add(path.parse().unwrap(), content).map(drop);
        for path in [MANIFEST, MANIFEST_ENVELOPE, SUMS, "keys/mine.pem"] {
            assert!(matches!(add(path, b""), Err(WriteError::Reserved { .. })), "{path}");
        }
        for path in
            ["policy/x.json", "policy/x", "contracts/x.json", "snapshots/x.json", "bodies/x", "bodies/a/b"]
        {
            assert!(matches!(add(path, b""), Err(WriteError::Name { .. })), "{path}");
        }
        add(CHECKPOINT, b"x").unwrap();
        assert!(matches!(add(CHECKPOINT, b"x"), Err(WriteError::Twice { .. })));
    }

    #[test]
    fn bodies_over_25_mebibytes_are_kept_beside_and_no_others() {
        let content = vec![7; usize::try_from(EXTERNAL_BYTES_MIN).unwrap()];
        let mut parts = Parts::new(MemoryStaging::default());
        let within = &content[1..];
        parts.add(BundlePath::body(Sha256::of(within)), within).unwrap();
        let digest = Sha256::of(&content);
        assert!(matches!(parts.add(BundlePath::body(digest), &content), Err(WriteError::Place { .. })));
        parts.external(digest, EXTERNAL_BYTES_MIN).unwrap();
        assert!(matches!(parts.external(digest, EXTERNAL_BYTES_MIN - 1), Err(WriteError::Place { .. })));
    }

    #[test]
    fn staged_content_that_changed_is_not_written() {
        let run = Run::of(&Plan::default());
        for change in [
            |content: &mut Vec<u8>| content.push(0),
            |content: &mut Vec<u8>| content.truncate(content.len() - 1),
            |content: &mut Vec<u8>| content[0] ^= 1,
        ] {
            let mut sealed = run.seal().unwrap();
            change(sealed.staging.files.get_mut(ENTRIES).unwrap());
            let is_changed =
                |error: WriteError| matches!(error, WriteError::Changed { path } if path.as_str() == ENTRIES);
            assert!(is_changed(sealed.write_zip(io::sink()).map(drop).unwrap_err()));
            let copied = sealed.write_dir(|_, content| io::copy(content, &mut io::sink()).map(drop));
            assert!(is_changed(copied.unwrap_err()));
        }
    }

    #[test]
    fn a_file_that_is_not_read_to_its_end_is_noticed() {
        let sealed = Run::of(&Plan::default()).seal().unwrap();
        let half = sealed.write_dir(|_, content| content.read_exact(&mut [0; 10]));
        assert!(matches!(half, Err(WriteError::Changed { .. })));
    }

    #[test]
    fn a_full_disk_is_called_that() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = Run::of(&Plan::default()).seal().unwrap().write_zip(Full).map(drop).unwrap_err();
        assert_eq!(error.reason(), Reason::DiskFull);
    }
}
