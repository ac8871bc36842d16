//! The files that retention knows, reached and removed without following a link.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{RunId, Sha256, text};
use rustix::fs::{self as at, AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::Digest as _;

use super::{Class, Object, Plan, RetentionError, SETTLE, Survey};
use crate::beginning::Beginning;
use crate::bodies::ENCRYPTED;
use crate::entries::{Entries, ReadError, run_of};
use crate::layout::Layout;
use crate::segment::{file_name, first_of};
use crate::storage::{FileSystem, write_whole};

/// Bytes that pass through memory at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Where plans, reports and what is being removed are kept.
const OWN: &str = "retention";
const TRASH: &str = "trash";
/// Most characters of a name that nothing here writes.
const STRANGER_CHARS_MAX: usize = 120;
/// Largest plan that is read: as many objects as a plan may have stay below it.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// One of the places at which something may be deleted. There is no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Bundle {
        run: RunId,
    },
    Beside {
        run: RunId,
        digest: Sha256,
    },
    Body {
        digest: Sha256,
        is_encrypted: bool,
    },
    /// By the log index of its first entry.
    Segment {
        first: u64,
    },
}

impl Place {
    /// Reads a path below the journal's folder.
    pub fn parse(path: &str) -> Option<Self> {
        let digest = |hex: &str| Sha256::parse(&format!("{}{hex}", Sha256::PREFIX));
        let run = |name: &str, end: &str| name.strip_suffix(end)?.parse::<RunId>().ok();
        let mut parts = path.split('/');
        let place = match (parts.next()?, parts.next()?, parts.next()) {
            ("bundles", file, None) => Self::Bundle { run: run(file, ".pef.zip")? },
            ("bundles", folder, Some(file)) => {
                Self::Beside { run: run(folder, ".pef.zip.d")?, digest: digest(file)? }
            }
            ("segments", file, None) => Self::Segment { first: first_of(file)? },
            ("bodies", _, Some(file)) => match file.strip_suffix(ENCRYPTED) {
                None => Self::Body { digest: digest(file)?, is_encrypted: false },
                Some(hex) => Self::Body { digest: digest(hex)?, is_encrypted: true },
            },
            _ => return None,
        };
        (place.path() == path).then_some(place)
    }

    pub fn path(&self) -> String {
        match self {
            Self::Bundle { run } => format!("bundles/{run}.pef.zip"),
            Self::Beside { run, digest } => format!("bundles/{run}.pef.zip.d/{}", digest.hex()),
            Self::Body { digest, is_encrypted } => {
                let hex = digest.hex();
                let end = if *is_encrypted { ENCRYPTED } else { "" };
                format!("bodies/{}/{hex}{end}", hex.get(..2).unwrap_or_default())
            }
            Self::Segment { first } => format!("segments/{}", file_name(*first)),
        }
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Bundle { .. } | Self::Beside { .. } => Class::Bundles,
            Self::Body { .. } => Class::Bodies,
            Self::Segment { .. } => Class::Segments,
        }
    }
}

/// A file at one of the places.
pub(super) struct Found {
    pub path: String,
    pub place: Place,
    pub modified: UnixMicros,
}

/// What is in the folders of bodies and bundles.
pub(super) enum Seen {
    File(Found),
    /// A file or folder of a name that nothing here writes: its path below the journal's folder, made fit for a document.
    Stranger(String),
}

/// Gives every stored body, bundle and what is beside one to `take`, and whatever else is there. Passed over are lists and indexes of
/// the archive, and what is being written.
pub(super) fn each_file(
    dir: &Path,
    mut take: impl FnMut(Seen) -> Result<(), RetentionError>,
) -> Result<(), RetentionError> {
    let top = Folder::open(dir)?;
    for name in ["bodies", "bundles"] {
        let Some(folder) = top.below(name)? else { continue };
        let Names { names, strange } = folder.all_names()?;
        for name in strange {
            take(folder.stranger(&name))?;
        }
        for name in names {
            match folder.kind(&name)? {
                Some(FileType::Directory) => {
                    let Some(inner) = folder.below(&name)? else { continue };
                    let Names { names, strange } = inner.all_names()?;
                    for name in strange {
                        take(inner.stranger(&name))?;
                    }
                    for name in names {
                        inner.found(&name, &mut take)?;
                    }
                }
                Some(_) => folder.found(&name, &mut take)?,
                None => {}
            }
        }
    }
    Ok(())
}

/// Whether a file beside bodies and bundles is of a kind that is written there and never deleted: the archive's index and how far an
/// upload is, chains of custody, and what is being written.
fn is_ours(path: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else { return false };
    let is_upload = |name: &str| name.starts_with("archive.") && name.ends_with(".upload");
    let is_custody = |name: &str| {
        let bundle = name.strip_suffix(".custody.ndjson").map(|bundle| format!("{folder}/{bundle}"));
        matches!(bundle.as_deref().and_then(Place::parse), Some(Place::Bundle { .. }))
    };
    let is_beside_bundles =
        folder == "bundles" && (name == "archive.ndjson" || is_upload(name) || is_custody(name));
    is_beside_bundles || name.ends_with(".tmp") || name.ends_with(".part")
}

/// Names in a folder.
struct Names {
    names: Vec<String>,
    /// Those that are not UTF-8, with their bytes escaped.
    strange: Vec<String>,
}

/// A folder that was opened without following a link, but for the journal's own.
pub(super) struct Folder {
    fd: OwnedFd,
    /// Of the journal's folder.
    top: PathBuf,
    /// Below it; empty for itself.
    path: String,
}

impl Folder {
    pub fn open(dir: &Path) -> Result<Self, RetentionError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            at::open(dir, flags, Mode::empty()).map_err(|e| RetentionError::io("open", dir)(e.into()))?;
        Ok(Self { fd, top: dir.into(), path: String::new() })
    }

    fn named(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }

    fn failed(&self, what: &'static str, name: &str) -> impl FnOnce(Errno) -> RetentionError {
        let path = self.top.join(self.named(name));
        move |error| match error {
            Errno::LOOP | Errno::NOTDIR => RetentionError::Path { path },
            error => RetentionError::Io { what, path, source: error.into() },
        }
    }

    /// A folder in it; none if nothing has that name.
    fn below(&self, name: &str) -> Result<Option<Self>, RetentionError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match at::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, top: self.top.clone(), path: self.named(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("open", name)(error)),
        }
    }

    /// A folder in it, made if nothing has that name.
    fn made(&self, name: &str) -> Result<Self, RetentionError> {
        match at::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => at::fsync(&self.fd).map_err(self.failed("sync", name))?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed("make", name)(error)),
        }
        self.below(name)?.ok_or_else(|| self.failed("open", name)(Errno::NOENT))
    }

    fn names(&self) -> Result<Vec<String>, RetentionError> {
        self.all_names().map(|Names { names, .. }| names)
    }

    fn all_names(&self) -> Result<Names, RetentionError> {
        let (mut names, mut strange) = (Vec::new(), Vec::new());
        for entry in at::Dir::read_from(&self.fd).map_err(self.failed("list", ""))? {
            let entry = entry.map_err(self.failed("list", ""))?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => strange.push(entry.file_name().to_bytes().escape_ascii().to_string()),
            }
        }
        Ok(Names { names, strange })
    }

    fn stranger(&self, name: &str) -> Seen {
        let cut: String = name.chars().take(STRANGER_CHARS_MAX).collect();
        Seen::Stranger(text::name(&self.named(&cut)).into_owned())
    }

    fn kind(&self, name: &str) -> Result<Option<FileType>, RetentionError> {
        match at::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("look at", name)(error)),
        }
    }

    fn found(
        &self,
        name: &str,
        take: &mut impl FnMut(Seen) -> Result<(), RetentionError>,
    ) -> Result<(), RetentionError> {
        let path = self.named(name);
        let Some(place) = Place::parse(&path) else {
            return match self.kind(name)? {
                Some(FileType::Symlink) => Err(RetentionError::Path { path: self.top.join(path) }),
                Some(FileType::RegularFile) if is_ours(&path) => Ok(()),
                Some(_) => take(self.stranger(name)),
                None => Ok(()),
            };
        };
        let Some(file) = self.file(name)? else { return Ok(()) };
        take(Seen::File(Found {
            path,
            place,
            modified: modified(&file).map_err(RetentionError::io("look at", &self.top))?,
        }))
    }

    /// A plain file in it; none if nothing has that name.
    fn file(&self, name: &str) -> Result<Option<File>, RetentionError> {
        // Not to wait where somebody has put a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file: File = match at::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed("open", name)(error)),
        };
        let path = || self.top.join(self.named(name));
        let is_file = file.metadata().map_err(RetentionError::io("look at", path()))?.is_file();
        if is_file { Ok(Some(file)) } else { Err(RetentionError::Path { path: path() }) }
    }

    /// The folder that a place is in, and its name there; none if there is no such folder.
    fn parent(&self, place: &Place) -> Result<Option<(Self, String)>, RetentionError> {
        let path = place.path();
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default().to_owned();
        let mut folder: Option<Self> = None;
        for part in parts {
            match folder.as_ref().unwrap_or(self).below(part)? {
                Some(inner) => folder = Some(inner),
                None => return Ok(None),
            }
        }
        Ok(folder.map(|folder| (folder, name)))
    }

    /// Digest and size of the file at a place.
    pub fn digest(&self, place: &Place) -> Result<(Sha256, u64), RetentionError> {
        let gone = || RetentionError::io("read", self.top.join(place.path()))(io::ErrorKind::NotFound.into());
        let (folder, name) = self.parent(place)?.ok_or_else(gone)?;
        let file = folder.file(&name)?.ok_or_else(gone)?;
        digest(file).map_err(RetentionError::io("read", self.top.join(place.path())))
    }
}

/// Whether a body that was written then has been left alone long enough.
pub(super) fn is_settled(modified: UnixMicros, as_of: UnixMicros) -> bool {
    let settle = u64::try_from(SETTLE.as_micros()).unwrap_or(u64::MAX);
    modified.0.saturating_add(settle) <= as_of.0
}

fn modified(file: &File) -> io::Result<UnixMicros> {
    let since = file.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
}

fn digest(mut file: File) -> io::Result<(Sha256, u64)> {
    let (mut hasher, mut chunk, mut bytes) = (sha2::Sha256::new(), vec![0; CHUNK_BYTES], 0u64);
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => return Ok((Sha256(hasher.finalize().into()), bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(chunk.get(..count).unwrap_or_default());
        bytes += count as u64; // usize fits.
    }
}

/// Something that a plan lists and that was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    pub path: String,
    /// `changed`: other bytes were there. `absent`: nothing was there. `written_again`: a call has stored the same body since. Else why a plan of now would keep it.
    pub why: &'static str,
}

/// Looks at everything that a plan lists, so that nothing is deleted of a plan that cannot be carried out. A deletion that
/// `is_begun` may have removed some of it already.
///
/// # Errors
/// [`RetentionError::Path`] where something is no plain file or folder, and [`RetentionError::Stale`] where it is not there.
pub fn check(dir: &Path, plan: &Plan, is_begun: bool) -> Result<(), RetentionError> {
    let top = Folder::open(dir)?;
    for object in &plan.objects {
        let place = Plan::place(object)?;
        let file = match top.parent(&place)? {
            Some((folder, name)) => folder.file(&name)?,
            None => None,
        };
        if file.is_none() && !is_begun {
            return Err(RetentionError::Stale { path: object.path.clone(), why: "absent" });
        }
    }
    Ok(())
}

/// Deletes what a plan lists, or what is left of it, but for what the log forbids by now. Says what was kept nevertheless, and
/// what somebody else took away: what is not there is counted as deleted only where the deletion `is_begun`.
///
/// # Errors
/// [`RetentionError`]: what was removed until then stays removed, and the same plan can be given again.
pub fn delete(dir: &Path, plan: &Plan, survey: &Survey, is_begun: bool) -> Result<Vec<Kept>, RetentionError> {
    check(dir, plan, true)?;
    let top = Folder::open(dir)?;
    let trash = top.made(OWN)?.made(TRASH)?;
    let mut kept = Vec::new();
    let begun = Begun::of(dir)?;
    for (number, (object, (place, why))) in plan.objects.iter().zip(plan.reasons(survey)?).enumerate() {
        let number = number.to_string();
        let why = match place {
            Place::Segment { first } if first < survey.begin && begun.has(object) => {
                // The log does not have its entries any more; the file says whose they were.
                put_back(&top, &trash, &place, &number)?;
                begun.held(dir, first, survey)?
            }
            Place::Segment { .. } if !begun.has(object) => why.or(Some("not_oldest")),
            _ => why,
        };
        let why = match why {
            // A deletion that was killed may have taken it away already.
            Some(why) => {
                put_back(&top, &trash, &place, &number)?;
                Some(why)
            }
            None => match remove(&top, &trash, &place, object, plan.as_of, &number)? {
                Removed::Absent if !is_begun => Some("absent"),
                Removed::Absent | Removed::Gone => None,
                Removed::PutBack(why) => Some(why),
            },
        };
        kept.extend(why.map(|why| Kept { path: object.path.clone(), why }));
    }
    for object in &plan.objects {
        if let Some(Place::Beside { run, .. }) = Place::parse(&object.path) {
            remove_empty(&top, &format!("{run}.pef.zip.d"))?;
        }
    }
    Ok(kept)
}

/// What the journal says by now of the segments before its first.
struct Begun(Option<Beginning>);

impl Begun {
    fn of(dir: &Path) -> Result<Self, RetentionError> {
        Ok(Self(Beginning::read(&FileSystem, &Layout::new(dir, None))?))
    }

    fn has(&self, object: &Object) -> bool {
        let first = object.segment.as_ref().map(|segment| segment.first);
        let mut listed = self.0.iter().flat_map(|beginning| &beginning.segments);
        listed.any(|segment| Some(segment.first) == first && segment.sha256 == object.sha256)
    }

    /// Whether a run of a segment that is still here was put under legal hold since.
    fn held(&self, dir: &Path, first: u64, survey: &Survey) -> Result<Option<&'static str>, RetentionError> {
        let layout = Layout::new(dir, None);
        layout.set_segments(vec![first]);
        let mut is_held = false;
        let read = Entries { storage: &FileSystem, layout: &layout }.walk(None, |entry| {
            is_held |= run_of(entry.line).is_some_and(|run| survey.is_held(&run));
            Ok::<_, ReadError>(!is_held)
        });
        match read {
            Ok(()) => Ok(is_held.then_some("held")),
            Err(ReadError::Damaged { .. }) => Ok(Some("changed")),
            Err(error) => Err(error.into()),
        }
    }
}

/// What became of a file.
enum Removed {
    Gone,
    /// It was not there.
    Absent,
    PutBack(&'static str),
}

/// Takes the file away from its name first, so that what is looked at is what is removed.
fn remove(
    top: &Folder,
    trash: &Folder,
    place: &Place,
    object: &Object,
    as_of: UnixMicros,
    number: &str,
) -> Result<Removed, RetentionError> {
    let Some((folder, name)) = top.parent(place)? else { return Ok(Removed::Absent) };
    // A crash left it here before it was looked at or removed.
    if trash.kind(number)?.is_none() {
        if folder.file(&name)?.is_none() {
            return Ok(Removed::Absent);
        }
        at::renameat(&folder.fd, &*name, &trash.fd, number).map_err(folder.failed("take away", &name))?;
    }
    let Some(file) = trash.file(number)? else { return Ok(Removed::Absent) };
    let failed = |what| RetentionError::io(what, top.top.join(&object.path));
    // As when it was planned: the receipt of a call that has just stored it may be still to come.
    let is_newer = !is_settled(modified(&file).map_err(failed("look at"))?, as_of);
    let (sha256, _) = digest(file).map_err(failed("read"))?;
    let why = match () {
        () if sha256 != object.sha256 => Some("changed"),
        () if is_newer && place.class() == Class::Bodies => Some("written_again"),
        () => None,
    };
    if let Some(why) = why {
        put_back(top, trash, place, number)?;
        return Ok(Removed::PutBack(why));
    }
    at::fsync(&folder.fd).map_err(folder.failed("sync the folder of", &name))?;
    clear(trash, number)?;
    Ok(Removed::Gone)
}

/// Gives a file that was taken away its name again, unless there is a newer one by now.
fn put_back(top: &Folder, trash: &Folder, place: &Place, number: &str) -> Result<(), RetentionError> {
    if trash.kind(number)?.is_none() {
        return Ok(());
    }
    let gone = || RetentionError::io("put back", top.top.join(place.path()))(io::ErrorKind::NotFound.into());
    let (folder, name) = top.parent(place)?.ok_or_else(gone)?;
    match at::linkat(&trash.fd, number, &folder.fd, &*name, AtFlags::empty()) {
        Ok(()) => at::fsync(&folder.fd).map_err(folder.failed("sync the folder of", &name))?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(folder.failed("put back", &name)(error)),
    }
    clear(trash, number)
}

fn clear(trash: &Folder, number: &str) -> Result<(), RetentionError> {
    at::unlinkat(&trash.fd, number, AtFlags::empty()).map_err(trash.failed("remove", number))?;
    at::fsync(&trash.fd).map_err(trash.failed("sync the folder of", number))
}

fn remove_empty(top: &Folder, name: &str) -> Result<(), RetentionError> {
    let Some(bundles) = top.below("bundles")? else { return Ok(()) };
    match at::unlinkat(&bundles.fd, name, AtFlags::REMOVEDIR) {
        Ok(()) => at::fsync(&bundles.fd).map_err(bundles.failed("sync the folder of", name)),
        Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
        Err(error) => Err(bundles.failed("remove", name)(error)),
    }
}

/// Held while something is planned, put under hold or deleted.
#[derive(Debug)]
pub struct Busy(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

/// Takes the lock of a journal's retention, and makes its folder. None if another process has it.
///
/// # Errors
/// [`RetentionError`].
pub fn lock(dir: &Path) -> Result<Option<Busy>, RetentionError> {
    let own = Folder::open(dir)?.made(OWN)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd =
        at::openat(&own.fd, "lock", flags, Mode::RUSR | Mode::WUSR).map_err(own.failed("open", "lock"))?;
    match at::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Busy(fd.into()))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(own.failed("lock", "lock")(error)),
    }
}

/// Keeps a plan or a report, durably. What is there already is not written over.
///
/// # Errors
/// [`RetentionError`].
pub fn keep(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), RetentionError> {
    let path = dir.join(OWN).join(name);
    Folder::open(dir)?.made(OWN)?;
    match path.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(_) => write_whole(&FileSystem, &path, bytes).map_err(RetentionError::io("write", path)),
    }
}

/// Takes back what was kept.
///
/// # Errors
/// [`RetentionError`].
pub fn forget(dir: &Path, name: &str) -> Result<(), RetentionError> {
    let own = Folder::open(dir)?.made(OWN)?;
    clear(&own, name)
}

/// A plan or a report that was kept.
///
/// # Errors
/// [`RetentionError`].
pub fn kept(dir: &Path, name: &str) -> Result<Vec<u8>, RetentionError> {
    let failed = || RetentionError::io("read", dir.join(OWN).join(name));
    let own = Folder::open(dir)?.made(OWN)?;
    let mut file = own.file(name)?.ok_or_else(|| failed()(io::ErrorKind::NotFound.into()))?;
    let mut bytes = Vec::new();
    (&mut file).take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes).map_err(failed())?;
    Ok(bytes)
}

/// The names of a plan that was begun and of its report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// Hexadecimal digest of the plan, which both are named by.
    pub digest: String,
    pub plan: String,
    /// None until it is done.
    pub report: Option<String>,
}

/// All plans that were begun, in order of their digests. Nothing is read.
///
/// # Errors
/// [`RetentionError`].
pub fn documents(dir: &Path) -> Result<Vec<Documents>, RetentionError> {
    let Some(own) = Folder::open(dir)?.below(OWN)? else { return Ok(Vec::new()) };
    let names: BTreeSet<String> = own.names()?.into_iter().collect();
    let of = |plan: &String| {
        let digest = plan.strip_suffix(".planned.json")?;
        let report = format!("{digest}.completed.json");
        let (digest, plan) = (digest.to_owned(), plan.clone());
        Some(Documents { digest, plan, report: names.contains(&report).then_some(report) })
    };
    Ok(names.iter().filter_map(of).collect())
}

/// Plans that were begun and have no report: the hexadecimal digests that they are named by.
///
/// # Errors
/// [`RetentionError`].
pub fn unfinished(dir: &Path) -> Result<Vec<String>, RetentionError> {
    let begun = documents(dir)?.into_iter().filter(|kept| kept.report.is_none());
    Ok(begun.map(|kept| kept.digest).collect())
}

#[cfg(test)]
mod tests;
