//! Opening a bundle for our own use: show, replay, disclose.
//!
//! A [`Source`] gives the files, be it an [`Archive`] or a directory that the caller lists. What is read through
//! [`Bundle`] is compared with the size and digest that the manifest states, so that a damaged file is not taken for
//! the real one. That is not a judgement: signatures, chain and trees are left to `estoppel-verify`.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read};

use estoppel_evidence::entry::{LINE_BYTES_MAX, Sign};
use estoppel_evidence::{Reason, Sha256};

use crate::digest::CheckedReader;
use crate::layout::{
    BundlePath, FILES_MAX, MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_ENVELOPE, PathError, SUMS,
};
use crate::manifest::{FileRow, Manifest};
use crate::write::io_reason;
use crate::zip::{Archive, ReadAt, ZipError};

/// Why a bundle could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("could not read `{path}`")]
    Read { path: BundlePath, source: io::Error },
    #[error("could not list the files of the bundle")]
    List(#[source] io::Error),
    #[error("not a bundle")]
    Zip(#[from] ZipError),
    #[error("not a bundle")]
    Path(#[from] PathError),
    #[error("the bundle has no `{path}`")]
    Missing { path: String },
    #[error("the bundle has more than {FILES_MAX} files")]
    FilesMax,
    #[error("`{path}` is {bytes} bytes long, limit {limit}")]
    BytesMax { path: BundlePath, bytes: u64, limit: u64 },
    #[error("`{path}` is not the file that the manifest lists")]
    Changed { path: BundlePath },
    #[error("the manifest cannot be read")]
    Manifest(#[source] serde_json::Error),
    #[error("entry {seq} is not one line of 1 to {LINE_BYTES_MAX} bytes")]
    Line { seq: u64 },
    #[error("entry {seq} has no signature")]
    Signature { seq: u64 },
}

impl OpenError {
    /// The reason for machines.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Read { .. } | Self::List(_) => Reason::FileUnreadable,
            Self::Zip(error) => match error {
                ZipError::Read(_) => Reason::FileUnreadable,
                _ => Reason::ArgumentInvalid,
            },
            Self::Path(_)
            | Self::Missing { .. }
            | Self::FilesMax
            | Self::BytesMax { .. }
            | Self::Changed { .. }
            | Self::Manifest(_)
            | Self::Line { .. }
            | Self::Signature { .. } => Reason::ArgumentInvalid,
        }
    }
}

impl ZipError {
    /// The reason for machines, where an archive is written.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Read(error) | Self::Write(error) => io_reason(error),
            Self::Content { .. } => Reason::DiskFailed,
            Self::EntriesMax | Self::BytesMax | Self::Order { .. } => Reason::Internal,
            Self::Path(_) | Self::Compressed { .. } | Self::Form { .. } => Reason::ArgumentInvalid,
        }
    }
}

/// The files of a bundle, in either form. The caller implements it for directories.
pub trait Source {
    /// Every file with its path and size, in any order; a directory lists regular files and refuses anything else.
    ///
    /// # Errors
    /// [`OpenError::List`], and [`OpenError::Path`] for a name that no bundle has.
    fn files(&self) -> Result<Vec<(BundlePath, u64)>, OpenError>;

    /// The content of one of them.
    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>>;
}

impl<R: ReadAt> Source for Archive<R> {
    fn files(&self) -> Result<Vec<(BundlePath, u64)>, OpenError> {
        Ok(self.entries().iter().map(|entry| (entry.path.clone(), entry.bytes.into())).collect())
    }

    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
        let entry = self.find(path.as_str()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(self.content(entry)))
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn files(&self) -> Result<Vec<(BundlePath, u64)>, OpenError> {
        (**self).files()
    }

    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
        (**self).open(path)
    }
}

/// A bundle whose manifest was read.
#[derive(Debug)]
pub struct Bundle<S> {
    source: S,
    files: BTreeMap<BundlePath, u64>,
    rows: BTreeMap<BundlePath, FileRow>,
    manifest: Manifest,
    manifest_digest: Sha256,
}

impl<R: ReadAt> Bundle<Archive<R>> {
    /// Opens a `.pef.zip`.
    ///
    /// # Errors
    /// [`OpenError`]: anything that is not the canonical archive of a bundle.
    pub fn from_zip(source: R) -> Result<Self, OpenError> {
        Self::open(Archive::open(source)?)
    }
}

impl<S: Source> Bundle<S> {
    /// Lists the files and reads the manifest.
    ///
    /// # Errors
    /// [`OpenError`]: no manifest, or one that this version cannot read.
    pub fn open(source: S) -> Result<Self, OpenError> {
        let files: BTreeMap<BundlePath, u64> = source.files()?.into_iter().collect();
        if files.len() > FILES_MAX {
            return Err(OpenError::FilesMax);
        }
        let path = BundlePath::fixed(MANIFEST);
        let bytes = size(&files, &path)?;
        if bytes > MANIFEST_BYTES_MAX {
            return Err(OpenError::BytesMax { path, bytes, limit: MANIFEST_BYTES_MAX });
        }
        let content = read_all(source.open(&path), &path, bytes)?;
        let manifest: Manifest = serde_json::from_slice(&content).map_err(OpenError::Manifest)?;
        let rows = manifest.files.iter().map(|row| (row.path.clone(), row.clone())).collect();
        Ok(Self { source, files, rows, manifest, manifest_digest: Sha256::of(&content) })
    }

    /// What the bundle says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `manifest.json`, which names the bundle in either form.
    pub fn manifest_digest(&self) -> Sha256 {
        self.manifest_digest
    }

    /// Every file with its size, in byte order of the paths.
    pub fn files(&self) -> impl Iterator<Item = (&BundlePath, u64)> {
        self.files.iter().map(|(path, bytes)| (path, *bytes))
    }

    /// The content of a file. The read that reaches its end fails unless the content is what the manifest lists (the
    /// manifest, its envelope and the sums are not listed and are given as they are).
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::Changed`] for another size or an unlisted file, [`OpenError::Read`].
    pub fn reader(&self, path: &BundlePath) -> Result<Box<dyn Read + '_>, OpenError> {
        let bytes = size(&self.files, path)?;
        let open = || self.source.open(path).map_err(|source| OpenError::Read { path: path.clone(), source });
        match self.rows.get(path) {
            Some(row) if row.bytes == bytes => {
                Ok(Box::new(CheckedReader::new(open()?, row.bytes, row.sha256)))
            }
            None if matches!(path.as_str(), MANIFEST | MANIFEST_ENVELOPE | SUMS) => {
                Ok(Box::new(open()?.take(bytes)))
            }
            _ => Err(OpenError::Changed { path: path.clone() }),
        }
    }

    /// The whole content of a file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`OpenError::BytesMax`], and as [`Bundle::reader`].
    pub fn read(&self, path: &BundlePath, bytes_max: u64) -> Result<Vec<u8>, OpenError> {
        let bytes = size(&self.files, path)?;
        if bytes > bytes_max {
            return Err(OpenError::BytesMax { path: path.clone(), bytes, limit: bytes_max });
        }
        read_all(Ok(self.reader(path)?), path, bytes)
    }

    /// The entries of the run in order, each with its signature if the run has them.
    ///
    /// # Errors
    /// As [`Bundle::reader`].
    pub fn entries(&self) -> Result<Entries<'_>, OpenError> {
        let lines = BundlePath::entries();
        let signatures = match self.manifest.sign {
            Sign::Each => Some(BufReader::new(self.reader(&BundlePath::signatures())?)),
            Sign::Checkpoint => None,
        };
        let reader = BufReader::with_capacity(64 * 1024, self.reader(&lines)?);
        Ok(Entries { lines: reader, signatures, seq: 0, line: Vec::new() })
    }
}

fn size(files: &BTreeMap<BundlePath, u64>, path: &BundlePath) -> Result<u64, OpenError> {
    files.get(path).copied().ok_or_else(|| OpenError::Missing { path: path.to_string() })
}

fn read_all(
    content: io::Result<Box<dyn Read + '_>>,
    path: &BundlePath,
    bytes: u64,
) -> Result<Vec<u8>, OpenError> {
    let mut out = Vec::new();
    match content.and_then(|content| content.take(bytes.saturating_add(1)).read_to_end(&mut out)) {
        Ok(n) if n as u64 == bytes => Ok(out), // widening
        Ok(_) => Err(OpenError::Changed { path: path.clone() }),
        Err(error) => Err(read_error(path, error)),
    }
}

fn read_error(path: &BundlePath, source: io::Error) -> OpenError {
    match source.kind() {
        io::ErrorKind::InvalidData => OpenError::Changed { path: path.clone() },
        _ => OpenError::Read { path: path.clone(), source },
    }
}

/// One entry as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredEntry<'a> {
    /// Its position in the run.
    pub seq: u64,
    /// The line without its LF.
    pub line: &'a [u8],
    /// The signature over it, when every entry is signed.
    pub signature: Option<[u8; 64]>,
}

/// Streams the entries of a run; one line is in memory at a time.
pub struct Entries<'a> {
    lines: BufReader<Box<dyn Read + 'a>>,
    signatures: Option<BufReader<Box<dyn Read + 'a>>>,
    seq: u64,
    line: Vec<u8>,
}

impl Entries<'_> {
    /// The next entry; `None` after the last. The file's digest is compared when its end is reached.
    ///
    /// # Errors
    /// [`OpenError::Line`], [`OpenError::Signature`], and those of reading.
    #[expect(clippy::should_implement_trait, reason = "the item borrows from the iterator")]
    pub fn next(&mut self) -> Result<Option<StoredEntry<'_>>, OpenError> {
        let seq = self.seq;
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1; // widening
        let read = (&mut self.lines).take(limit).read_until(b'\n', &mut self.line);
        if read.map_err(|source| read_error(&BundlePath::entries(), source))? == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') || self.line.is_empty() {
            return Err(OpenError::Line { seq });
        }
        let signature = match &mut self.signatures {
            None => None,
            Some(source) => Some(next_signature(source, seq)?),
        };
        self.seq += 1;
        Ok(Some(StoredEntry { seq, line: &self.line, signature }))
    }
}

fn next_signature(source: &mut impl Read, seq: u64) -> Result<[u8; 64], OpenError> {
    let mut signature = [0; 64];
    match source.read_exact(&mut signature) {
        Ok(()) => Ok(signature),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(OpenError::Signature { seq }),
        Err(error) => Err(read_error(&BundlePath::signatures(), error)),
    }
}

/// Opens arbitrary bytes as an archive and reads everything in it; panics when the reader accepts an archive that the
/// writer would not make.
#[doc(hidden)]
pub fn fuzz_open(bytes: &[u8]) {
    let Ok(archive) = Archive::open(bytes) else { return };
    let mut writer = crate::zip::ZipWriter::new(Vec::new());
    for entry in archive.entries() {
        let mut content = archive.content(entry);
        if writer.entry(&entry.path, entry.bytes.into(), entry.crc32, &mut content).is_err() {
            return; // the content is not of its CRC, which only reading it can tell
        }
    }
    let again = writer.finish().expect("an archive that was read fits an archive");
    assert!(again == bytes, "the reader took another form than the writer makes");
    let Ok(bundle) = Bundle::open(archive) else { return };
    let paths: Vec<BundlePath> = bundle.files().map(|(path, _)| path.clone()).collect();
    for path in paths {
        let _ = bundle.read(&path, 1 << 20);
    }
    let Ok(mut entries) = bundle.entries() else { return };
    while let Ok(Some(_)) = entries.next() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BODY, Plan, Run};
    use crate::layout::{ENTRIES, SIGNATURES};
    use crate::zip::ZipWriter;

    /// A directory in memory, in no particular order.
    #[derive(Clone)]
    struct Folder(Vec<(BundlePath, Vec<u8>)>);

    impl Folder {
        fn of(run: &Run) -> Self {
            let mut files = Vec::new();
            run.seal()
                .unwrap()
                .write_dir(|path, content| {
                    let mut out = Vec::new();
                    content.read_to_end(&mut out)?;
                    files.insert(0, (path.clone(), out));
                    Ok(())
                })
                .unwrap();
            Self(files)
        }

        fn content(&mut self, path: &str) -> &mut Vec<u8> {
            self.0.iter_mut().find(|(p, _)| p.as_str() == path).map(|(_, content)| content).unwrap()
        }
    }

    impl Source for Folder {
        fn files(&self) -> Result<Vec<(BundlePath, u64)>, OpenError> {
            Ok(self.0.iter().map(|(path, content)| (path.clone(), content.len() as u64)).collect())
        }

        fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
            let found = self.0.iter().find(|(p, _)| p == path).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(found.1.as_slice()))
        }
    }

    type Lines = Vec<(Vec<u8>, Option<[u8; 64]>)>;

    fn lines<S: Source>(bundle: &Bundle<S>) -> Result<Lines, OpenError> {
        let mut entries = bundle.entries()?;
        let mut out = Lines::new();
        while let Some(entry) = entries.next()? {
            assert_eq!(entry.seq, out.len() as u64);
            out.push((entry.line.to_vec(), entry.signature));
        }
        Ok(out)
    }

    #[test]
    fn both_forms_read_back_as_they_were_sealed() {
        for sign in [Sign::Each, Sign::Checkpoint] {
            let run = Run::of(&Plan { sign, ..Plan::default() });
            let zip = Bundle::from_zip(run.zip()).unwrap();
            let folder = Bundle::open(Box::new(Folder::of(&run)) as Box<dyn Source>).unwrap();
            assert_eq!(zip.manifest(), run.seal().unwrap().manifest());
            assert_eq!(zip.manifest(), folder.manifest());
            assert_eq!(zip.manifest_digest(), run.seal().unwrap().manifest_digest());
            assert!(zip.files().eq(folder.files()));
            assert_eq!(lines(&zip).unwrap(), lines(&folder).unwrap());
            assert!(lines(&zip).unwrap().iter().map(|(line, _)| line).eq(&run.lines));
            assert!(lines(&zip).unwrap().iter().all(|(_, s)| s.is_some() == (sign == Sign::Each)));
            for (path, content) in &run.files {
                assert_eq!(zip.read(path, 1 << 20).unwrap(), *content);
                assert_eq!(folder.read(path, 1 << 20).unwrap(), *content);
            }
            assert_eq!(zip.read(&BundlePath::body(Sha256::of(BODY)), 1 << 20).unwrap(), BODY);
        }
    }

    #[test]
    fn what_is_not_what_the_manifest_lists_is_refused() {
        let run = Run::of(&Plan::default());
        for change in [
            |content: &mut Vec<u8>| content.push(b'\n'),
            |content: &mut Vec<u8>| content.truncate(content.len() - 1),
            |content: &mut Vec<u8>| content[3] ^= 1,
        ] {
            for path in [ENTRIES, SIGNATURES] {
                let mut folder = Folder::of(&run);
                change(folder.content(path));
                let bundle = Bundle::open(folder).unwrap();
                assert!(matches!(lines(&bundle), Err(OpenError::Changed { path: p }) if p.as_str() == path));
            }
        }
        let mut folder = Folder::of(&run);
        folder.0.push(("extra".parse().unwrap(), Vec::new()));
        let bundle = Bundle::open(folder).unwrap();
        assert!(matches!(bundle.read(&"extra".parse().unwrap(), 1), Err(OpenError::Changed { .. })));
    }

    #[test]
    fn limits_are_kept() {
        let bundle = Bundle::from_zip(Run::of(&Plan::default()).zip()).unwrap();
        let path = BundlePath::checkpoint();
        assert!(matches!(bundle.read(&path, 10), Err(OpenError::BytesMax { limit: 10, .. })));

        struct Large;
        impl Source for Large {
            fn files(&self) -> Result<Vec<(BundlePath, u64)>, OpenError> {
                Ok(vec![(BundlePath::fixed(MANIFEST), MANIFEST_BYTES_MAX + 1)])
            }
            fn open(&self, _: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
                Ok(Box::new(io::repeat(b' ')))
            }
        }
        assert!(matches!(Bundle::open(Large), Err(OpenError::BytesMax { .. })));
    }

    #[test]
    fn what_is_no_bundle_is_an_invalid_argument() {
        let refused = |bytes: Vec<u8>| Bundle::from_zip(bytes).map(drop).unwrap_err();
        for bytes in [Vec::new(), b"not an archive".to_vec(), ZipWriter::new(Vec::new()).finish().unwrap()] {
            assert_eq!(refused(bytes).reason(), Reason::ArgumentInvalid);
        }
        let mut folder = Folder::of(&Run::of(&Plan::default()));
        folder.content(MANIFEST).truncate(10);
        assert_eq!(Bundle::open(folder).map(drop).unwrap_err().reason(), Reason::ArgumentInvalid);
    }

    /// A bundle whose entries are `content`, with a manifest that says so.
    fn with_entries(content: &[u8]) -> Bundle<Folder> {
        let mut folder = Folder::of(&Run::of(&Plan { sign: Sign::Checkpoint, ..Plan::default() }));
        *folder.content(ENTRIES) = content.to_vec();
        let mut manifest: Manifest = serde_json::from_slice(folder.content(MANIFEST)).unwrap();
        let row = manifest.files.iter_mut().find(|row| row.path.as_str() == ENTRIES).unwrap();
        (row.bytes, row.sha256) = (content.len() as u64, Sha256::of(content));
        *folder.content(MANIFEST) = manifest.to_bytes();
        Bundle::open(folder).unwrap()
    }

    #[test]
    fn lines_have_1_to_16384_bytes_and_an_end() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines(&with_entries(&[&long[..], b"\n"].concat())).unwrap().len(), 1);
        for (content, seq) in
            [([&long[..], b"x\n"].concat(), 0), (long, 0), (b"{}\n\n".to_vec(), 1), (b"{}\n{}".to_vec(), 1)]
        {
            assert!(matches!(lines(&with_entries(&content)), Err(OpenError::Line { seq: s }) if s == seq));
        }
    }

    #[test]
    fn damaged_bundles_never_panic() {
        let zip = Run::of(&Plan::default()).zip();
        fuzz_open(&zip);
        for at in (0..zip.len()).step_by(97) {
            let mut changed = zip.clone();
            changed[at] ^= 0x11;
            fuzz_open(&changed);
            fuzz_open(&zip[..at]);
        }
    }
}
