//! Writing a sealed run's bundle from the bytes on disk.
//!
//! Every line is read back and its hash and place in the chain compared with what was signed before it goes out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use estoppel_bundle::{BundlePath, EXTERNAL_BYTES_MIN, KeyRow, Parts, RunFacts, Staging, WriteError};
use estoppel_evidence::note::Checkpoint;
use estoppel_evidence::{Instance, PublicKey, Root, RunId, Sha256, Use};
use serde::Serialize;

use crate::chain::Chain;
use crate::frame::{self, FRAME_BYTES, Kind};
use crate::journal::policy_path;
use crate::keys::Keys;
use crate::segment::file_name;

/// A run that was sealed.
#[derive(Clone, Debug, Serialize)]
pub struct SealedRun {
    pub run: RunId,
    pub name: Option<String>,
    pub entries: u64,
    pub root: Root,
    /// The bundle.
    pub path: PathBuf,
    pub bytes: u64,
}

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
    #[error("entry {seq} is not on disk as it was written")]
    Entry { seq: usize },
    #[error(transparent)]
    Facts(#[from] estoppel_bundle::FactsError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the checkpoint could not be signed: {0}")]
    Key(#[from] estoppel_evidence::key::KeyError),
}

pub(crate) struct SealWork<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) instance: &'a Instance,
    pub(crate) chain: &'a Chain,
    pub(crate) keys: &'a Keys,
    pub(crate) known: &'a [(Use, PublicKey)],
    pub(crate) anchor: String,
}

fn file_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> BundleError {
    let what = what.into();
    move |source| BundleError::File { what, source }
}

/// Writes `bundles/<run>.pef.zip`.
pub(crate) fn write(work: &SealWork<'_>) -> Result<SealedRun, BundleError> {
    let run = work.chain.run.id();
    let folder = work.dir.join("bundles");
    let staging = folder.join(format!(".{run}"));
    let _ = fs::remove_dir_all(&staging); // left by a crash
    fs::create_dir_all(&staging).map_err(file_error("cannot stage the bundle"))?;
    let written = gather(work, &staging, &folder);
    let _ = fs::remove_dir_all(&staging);
    written
}

fn gather(work: &SealWork<'_>, staging: &Path, folder: &Path) -> Result<SealedRun, BundleError> {
    let chain = work.chain;
    let run = chain.run.id();
    let mut parts = Parts::new(Staged { folder: staging.to_path_buf(), bodies: work.dir.join("bodies") });
    let path = |text: &str| {
        text.parse::<BundlePath>().map_err(|error| BundleError::File {
            what: error.to_string(),
            source: io::ErrorKind::InvalidInput.into(),
        })
    };
    let mut facts = RunFacts::new();
    let mut lines = parts.create(path("receipts.ndjson")?)?;
    let mut signatures = Vec::with_capacity(64 * chain.places.len());
    let mut blobs = Vec::new();
    let mut reader = SegmentReader::new(work.dir.join("segments"));
    let mut last = None;
    for (seq, place) in chain.places.iter().enumerate() {
        let payload =
            reader.frame(place.segment, place.offset, Kind::Entry)?.ok_or(BundleError::Entry { seq })?;
        let (signature, line) = frame::entry(&payload).ok_or(BundleError::Entry { seq })?;
        let entry = facts.push(line)?;
        lines
            .write_all(line)
            .and_then(|()| lines.write_all(b"\n"))
            .map_err(file_error("cannot stage entries"))?;
        signatures.extend_from_slice(signature);
        if let Some((call, nodes)) =
            entry.call.as_ref().and_then(|call| call.nodes.map(|nodes| (call.call, nodes)))
        {
            blobs.push((call, nodes, *place));
        }
        last = Some(entry.leaf);
    }
    if last != chain.prev {
        return Err(BundleError::Entry { seq: chain.places.len() });
    }
    parts.close(lines)?;
    if !signatures.is_empty() {
        parts.add(path("receipts.sig")?, &signatures)?;
    }
    for (call, nodes, place) in blobs {
        let blob =
            reader.blob_before(place.segment, place.offset, nodes)?.ok_or(BundleError::Entry { seq: 0 })?;
        parts.add(BundlePath::stream(call), &blob)?;
    }
    let references = facts.references().clone();
    for policy in &references.policies {
        let bytes =
            fs::read(policy_path(work.dir, *policy)).map_err(file_error(format!("policy {policy}")))?;
        parts.add(BundlePath::policy(*policy), &bytes)?;
    }
    let mut externals = BTreeSet::new();
    for body in &references.bodies {
        let stored = body_path(&work.dir.join("bodies"), *body);
        let size = fs::metadata(&stored).map_err(file_error(format!("body {body}")))?.len();
        if size >= EXTERNAL_BYTES_MIN {
            parts.external(*body, size)?;
            externals.insert(*body);
        } else {
            parts.adopt(BundlePath::body(*body))?;
        }
    }
    let head = Checkpoint {
        origin: format!("{}/run/{run}", work.instance),
        size: chain.tree.size(),
        root: chain.tree.root(),
    };
    let checkpoint_key = references
        .keys
        .iter()
        .find(|(id, use_)| *use_ == Use::Checkpoint && *id == work.keys.checkpoint.public().id())
        .map_or_else(|| work.keys.checkpoint.public().id(), |(id, _)| *id);
    let note = head.sign(work.instance.as_str(), &*work.keys.checkpoint)?;
    parts.add(path("checkpoint")?, note.as_bytes())?;
    parts.add(path("anchor.tlog-proof")?, work.anchor.as_bytes())?;
    let mut rows: Vec<KeyRow> = work
        .known
        .iter()
        .filter(|(use_, key)| {
            references.keys.contains(&(key.id(), *use_))
                || (*use_ == Use::Checkpoint && key.id() == checkpoint_key)
                || (*use_ == Use::Manifest && key.id() == work.keys.manifest.public().id())
        })
        .map(|(use_, key)| KeyRow::new(key, *use_))
        .collect();
    rows.dedup();
    let entries = facts.entries();
    let root = facts.frontier().root();
    let sealed = parts.seal(facts.finish(rows)?, &*work.keys.manifest)?;
    let target = folder.join(format!("{run}.pef.zip"));
    let bytes = publish(&sealed, &target)?;
    place_externals(work.dir, &target, &externals)?;
    Ok(SealedRun { run, name: chain.run.name().map(str::to_string), entries, root, path: target, bytes })
}

/// Temporary file, sync, rename, sync of the folder.
fn publish(sealed: &estoppel_bundle::Sealed<Staged>, target: &Path) -> Result<u64, BundleError> {
    let temporary = target.with_extension("tmp");
    let file = File::create(&temporary).map_err(file_error("cannot write the bundle"))?;
    let file = sealed.write_zip(BufWriter::with_capacity(1 << 20, file))?;
    let file = file.into_inner().map_err(|error| BundleError::File {
        what: "cannot write the bundle".into(),
        source: error.into_error(),
    })?;
    let done = file
        .sync_all()
        .and_then(|()| file.metadata())
        .and_then(|metadata| fs::rename(&temporary, target).map(|()| metadata.len()))
        .and_then(|bytes| crate::storage::sync_folder_of(target).map(|()| bytes));
    done.map_err(file_error("cannot write the bundle"))
}

fn place_externals(dir: &Path, bundle: &Path, externals: &BTreeSet<Sha256>) -> Result<(), BundleError> {
    if externals.is_empty() {
        return Ok(());
    }
    let mut folder = bundle.as_os_str().to_os_string();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).map_err(file_error("cannot place externals"))?;
    for digest in externals {
        let (from, to) = (body_path(&dir.join("bodies"), *digest), folder.join(digest.hex()));
        if !to.exists() {
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .map_err(file_error("cannot place externals"))?;
        }
    }
    Ok(())
}

/// Where a body is kept.
pub(crate) fn body_path(bodies: &Path, digest: Sha256) -> PathBuf {
    let hex = digest.hex();
    bodies.join(&hex[..2]).join(&hex)
}

struct Staged {
    folder: PathBuf,
    bodies: PathBuf,
}

impl Staged {
    fn file(&self, path: &BundlePath) -> PathBuf {
        match path.as_str().strip_prefix("bodies/").and_then(|hex| Sha256::parse(&format!("sha256:{hex}"))) {
            Some(digest) => body_path(&self.bodies, digest),
            None => self.folder.join(path.as_str().replace('/', "!")),
        }
    }
}

impl Staging for Staged {
    type Writer = BufWriter<File>;

    fn create(&mut self, path: &BundlePath) -> io::Result<Self::Writer> {
        Ok(BufWriter::with_capacity(256 << 10, File::create(self.file(path))?))
    }

    fn close(&mut self, _: &BundlePath, writer: Self::Writer) -> io::Result<()> {
        writer.into_inner().map_err(io::IntoInnerError::into_error).map(drop)
    }

    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.file(path))?))
    }
}

/// Reads frames back.
struct SegmentReader {
    folder: PathBuf,
    open: Option<(u64, File)>,
}

impl SegmentReader {
    fn new(folder: PathBuf) -> Self {
        Self { folder, open: None }
    }

    fn file(&mut self, segment: u64) -> Result<&File, BundleError> {
        if self.open.as_ref().is_none_or(|(first, _)| *first != segment) {
            let file = File::open(self.folder.join(file_name(segment)))
                .map_err(file_error("cannot read a segment"))?;
            self.open = Some((segment, file));
        }
        Ok(&self.open.as_ref().expect("just opened").1)
    }

    fn frame(&mut self, segment: u64, offset: u64, kind: Kind) -> Result<Option<Vec<u8>>, BundleError> {
        let file = self.file(segment)?;
        let mut head = [0; FRAME_BYTES];
        file.read_exact_at(&mut head, offset).map_err(file_error("cannot read a segment"))?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > frame::PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; FRAME_BYTES + length];
        file.read_exact_at(&mut bytes, offset).map_err(file_error("cannot read a segment"))?;
        Ok(match frame::read(&bytes) {
            frame::Read::Frame(found) if found.kind == kind => Some(found.payload.to_vec()),
            _ => None,
        })
    }

    /// The blob frame that ends where the entry at `offset` begins: its length follows from the digest's content, so
    /// the segment is walked from its start.
    fn blob_before(
        &mut self,
        segment: u64,
        offset: u64,
        nodes: Sha256,
    ) -> Result<Option<Vec<u8>>, BundleError> {
        let mut at = frame::HEADER_BYTES as u64;
        while at < offset {
            let file = self.file(segment)?;
            let mut head = [0; FRAME_BYTES];
            file.read_exact_at(&mut head, at).map_err(file_error("cannot read a segment"))?;
            let length = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
            let next = at + FRAME_BYTES as u64 + length;
            if next == offset {
                let payload = self.frame(segment, at, Kind::Blob)?;
                return Ok(payload
                    .filter(|p| p.len() > 32 && p[..32] == nodes.0 && Sha256::of(&p[32..]) == nodes)
                    .map(|p| p[32..].to_vec()));
            }
            at = next;
        }
        Ok(None)
    }
}
