//! Packs of contracts, as they lie in folders. Nothing outside a pack's folder is read: every part of a path is opened
//! below the one before it, and none may be a link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use estoppel_policy::{PackFile, PackManifest, PackedContract, PolicyDocument, PolicyError};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::contracts::language;

/// Most bytes of a file of a pack.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most files in a folder of a pack that is listed.
const LISTED_MAX: usize = 256;
const MANIFEST: &str = "pack.yaml";

/// A pack that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("cannot read `{path}`: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("`{path}` is a link, is not a regular file, or leads out of the pack")]
    Outside { path: String },
    #[error("`{path}` has more than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: String },
    #[error("`{path}` has more than {LISTED_MAX} files")]
    TooMany { path: String },
    #[error("`{path}` is not UTF-8")]
    NotText { path: String },
    #[error("`{MANIFEST}`: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Manifest(Vec<PolicyError>),
    #[error("the folder of `{wanted}` has a pack of the name `{found}`")]
    Name { wanted: String, found: String },
    #[error("it has no contract `{0}`")]
    NoContract(String),
}

/// An open pack.
#[derive(Debug)]
pub struct Pack {
    root: Root,
    pub manifest: PackManifest,
}

/// Where the files of a pack are.
#[derive(Debug)]
enum Root {
    Folder(OwnedFd),
    /// Among these, below this path.
    Files(Arc<PackFiles>, String),
}

/// Files by their paths from the folder that packs are in.
pub type PackFiles = BTreeMap<String, Vec<u8>>;

impl Pack {
    /// The pack in this folder.
    ///
    /// # Errors
    /// There is none, or its manifest cannot be read.
    pub fn open(dir: &Path) -> Result<Self, PackError> {
        Self::at(Root::Folder(folder(dir)?))
    }

    fn at(root: Root) -> Result<Self, PackError> {
        let text = root.read(MANIFEST).and_then(|bytes| utf8(MANIFEST, bytes))?;
        let manifest = PackManifest::parse(&text).map_err(PackError::Manifest)?;
        Ok(Self { root, manifest })
    }

    /// A file of it, by its path from the pack's folder; `..` may not lead out of that.
    ///
    /// # Errors
    /// It is not there, not a regular file, too large, or not in the pack.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, PackError> {
        self.root.read(path)
    }

    /// The same, as text.
    ///
    /// # Errors
    /// As [`Self::read`], and when it is not UTF-8.
    pub fn text(&self, path: &str) -> Result<String, PackError> {
        self.read(path).and_then(|bytes| utf8(path, bytes))
    }

    /// Names of what is in a folder of it, sorted. A folder that is not there has nothing in it.
    ///
    /// # Errors
    /// It cannot be read, or has too much in it.
    pub fn list(&self, path: &str) -> Result<Vec<String>, PackError> {
        let unreadable =
            |source: rustix::io::Errno| PackError::Unreadable { path: path.into(), source: source.into() };
        let root = match &self.root {
            Root::Folder(root) => root,
            Root::Files(files, at) => return listed(files, at, path),
        };
        let folder = match below(root, path) {
            Err(PackError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            opened => opened?,
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == LISTED_MAX {
                return Err(PackError::TooMany { path: path.into() });
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// A contract of it.
    ///
    /// # Errors
    /// It has none of this name, or the file cannot be read.
    pub fn contract(&self, name: &str) -> Result<PackFile, PackError> {
        let file = self.manifest.contracts.get(name).ok_or_else(|| PackError::NoContract(name.into()))?;
        let bytes = self.read(file)?;
        let kind = language(&String::from_utf8_lossy(&bytes));
        Ok(PackFile { kind, file: file.clone(), bytes })
    }
}

/// Where the packs are that policies name.
#[derive(Debug, Default)]
pub struct Packs {
    dir: Option<PathBuf>,
    files: Option<Arc<PackFiles>>,
    own: BTreeMap<String, Pack>,
}

impl Packs {
    /// The pack `acme/orders` is in `DIR/acme/orders`. None: there are no packs.
    pub fn at(dir: Option<&Path>) -> Self {
        Self { dir: dir.map(Path::to_path_buf), ..Self::default() }
    }

    /// Packs whose files were read before. None: there are no packs.
    pub fn of(files: Option<PackFiles>) -> Self {
        Self { files: files.map(Arc::new), ..Self::default() }
    }

    /// This pack before any other of its name.
    pub fn with(mut self, pack: Pack) -> Self {
        self.own.insert(pack.manifest.name.clone(), pack);
        self
    }

    /// That of [`Self::with`].
    pub fn own(&self, name: &str) -> Option<&Pack> {
        self.own.get(name)
    }

    /// Gives a policy the contracts that it takes from packs.
    ///
    /// # Errors
    /// Every one that cannot be had, or is not the one that the policy names.
    pub fn provide(&self, document: &mut PolicyDocument) -> Result<(), Vec<PolicyError>> {
        document.take_packed(|packed| self.find(packed))
    }

    fn find(&self, packed: &PackedContract) -> Result<PackFile, String> {
        let said = |error: PackError| format!("{packed}: {error}");
        if let Some(own) = self.own.get(&packed.pack) {
            return own.contract(&packed.contract).map_err(said);
        }
        let root = match (&self.dir, &self.files) {
            (Some(dir), _) => folder(dir).and_then(|dir| below(&dir, &packed.pack)).map(Root::Folder),
            (None, Some(files)) => parts(&packed.pack).map(|at| Root::Files(files.clone(), at.join("/"))),
            (None, None) => {
                return Err(format!(
                    "{packed}: nothing says where packs are: `packs.dir` of the daemon, --packs of commands"
                ));
            }
        };
        let pack = root.and_then(Pack::at).and_then(|pack| match &pack.manifest.name {
            name if *name == packed.pack => Ok(pack),
            found => Err(PackError::Name { wanted: packed.pack.clone(), found: found.clone() }),
        });
        pack.and_then(|pack| pack.contract(&packed.contract)).map_err(said)
    }
}

impl Root {
    fn read(&self, path: &str) -> Result<Vec<u8>, PackError> {
        let (files, at) = match self {
            Self::Folder(root) => return read(root, path),
            Self::Files(files, at) => (files, at),
        };
        let place = format!("{at}/{}", parts(path)?.join("/"));
        match files.get(&place) {
            Some(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => {
                Err(PackError::TooLarge { path: path.into() })
            }
            Some(bytes) => Ok(bytes.clone()),
            None => {
                let source = io::ErrorKind::NotFound.into();
                Err(PackError::Unreadable { path: path.into(), source })
            }
        }
    }
}

/// Names of what is in a folder of a pack whose files were read before.
fn listed(files: &PackFiles, at: &str, path: &str) -> Result<Vec<String>, PackError> {
    let folder = [at.split('/').collect(), parts(path)?].concat().join("/") + "/";
    let inside = files.keys().filter_map(|file| file.strip_prefix(&folder)?.split('/').next());
    let names: BTreeSet<&str> = inside.collect();
    match names.len() > LISTED_MAX {
        true => Err(PackError::TooMany { path: path.into() }),
        false => Ok(names.into_iter().map(ToOwned::to_owned).collect()),
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder that an operator named; it may be a link.
fn folder(dir: &Path) -> Result<OwnedFd, PackError> {
    rustix::fs::openat(CWD, dir, FOLDER, Mode::empty())
        .map_err(|source| PackError::Unreadable { path: dir.display().to_string(), source: source.into() })
}

/// A folder below another, through no link.
fn below(root: &OwnedFd, path: &str) -> Result<OwnedFd, PackError> {
    let mut here = root.try_clone().map_err(|source| PackError::Unreadable { path: path.into(), source })?;
    for part in parts(path)? {
        here = rustix::fs::openat(&here, part, FOLDER | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|error| refused(path, error))?;
    }
    Ok(here)
}

fn read(root: &OwnedFd, path: &str) -> Result<Vec<u8>, PackError> {
    let clean = parts(path)?;
    let (name, folders) = clean.split_last().ok_or_else(|| PackError::Outside { path: path.into() })?;
    let here = below(root, &folders.join("/"))?;
    // A pipe is not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(&here, *name, flags, Mode::empty()).map_err(|error| refused(path, error))?;
    let found = rustix::fs::fstat(&file).map_err(|error| refused(path, error))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(PackError::Outside { path: path.into() });
    }
    let mut bytes = Vec::new();
    let most = FILE_BYTES_MAX + 1;
    File::from(file)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|source| PackError::Unreadable { path: path.into(), source })?;
    if bytes.len() as u64 == most {
        return Err(PackError::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

/// Those of a path from a folder, after each `..` has taken one away.
fn parts(path: &str) -> Result<Vec<&str>, PackError> {
    let outside = || PackError::Outside { path: path.into() };
    let mut parts: Vec<&str> = Vec::new();
    if path.starts_with('/') {
        return Err(outside());
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(outside)?),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

fn refused(path: &str, error: rustix::io::Errno) -> PackError {
    use rustix::io::Errno;
    match error {
        // What NOFOLLOW says of a link, and DIRECTORY of what is none.
        Errno::LOOP | Errno::NOTDIR | Errno::MLINK => PackError::Outside { path: path.into() },
        error => PackError::Unreadable { path: path.into(), source: error.into() },
    }
}

fn utf8(path: &str, bytes: Vec<u8>) -> Result<String, PackError> {
    String::from_utf8(bytes).map_err(|_| PackError::NotText { path: path.into() })
}

#[cfg(test)]
mod tests {
    use estoppel_kit::Scratch;

    use super::*;

    const PACK: &str =
        "pack: 1\nname: acme/orders\nversion: \"1.0.0\"\nlicence: MIT\ncontracts: { order: c/order.json }\n";

    fn pack(name: &str) -> (Scratch, PathBuf) {
        let scratch = Scratch::new(name);
        scratch.write("packs/acme/orders/pack.yaml", PACK);
        scratch.write("packs/acme/orders/c/order.json", r#"{"type":"object"}"#);
        let dir = scratch.join("packs");
        (scratch, dir)
    }

    fn provide(dir: Option<&Path>, sha256: &str) -> Result<(), String> {
        let policy = format!(
            "version: 1\nname: a\ncontracts: {{ order: {{ pack: acme/orders, contract: order, sha256: \"{sha256}\" }} }}\n"
        );
        let mut document = PolicyDocument::parse(&policy).unwrap();
        Packs::at(dir).provide(&mut document).map_err(|errors| errors[0].message.clone())
    }

    #[test]
    fn a_policy_gets_the_bytes_that_it_names_or_both_digests() {
        let (scratch, dir) = pack("packs-digests");
        let digest = estoppel_policy::file_digest(br#"{"type":"object"}"#);
        assert_eq!(provide(Some(&dir), &digest), Ok(()));
        let other = "0".repeat(64);
        let refused = provide(Some(&dir), &other).unwrap_err();
        assert!(refused.contains(&digest) && refused.contains(&other), "{refused}");
        assert!(provide(None, &digest).unwrap_err().contains("packs.dir"));
        scratch.write("packs/acme/orders/pack.yaml", PACK.replace("acme/orders", "acme/other"));
        assert!(provide(Some(&dir), &digest).unwrap_err().contains("acme/other"));
        std::fs::remove_dir_all(dir.join("acme/orders")).unwrap();
        assert!(provide(Some(&dir), &digest).unwrap_err().contains("cannot read"));
    }

    #[test]
    fn packs_whose_files_were_read_before_give_what_their_folders_would() {
        let digest = estoppel_policy::file_digest(br#"{"type":"object"}"#);
        let policy = format!(
            "version: 1\nname: a\ncontracts: {{ order: {{ pack: acme/orders, contract: order, sha256: \"{digest}\" }} }}\n"
        );
        let given = |manifest: &str, contract: &[u8]| {
            let files = [("pack.yaml", manifest.as_bytes()), ("c/order.json", contract)];
            let files = files.map(|(name, bytes)| (format!("acme/orders/{name}"), bytes.to_vec()));
            let mut document = PolicyDocument::parse(&policy).unwrap();
            let provided = Packs::of(Some(files.into())).provide(&mut document);
            provided.map_err(|errors| errors[0].message.clone())
        };
        assert_eq!(given(PACK, br#"{"type":"object"}"#), Ok(()));
        assert!(given(PACK, b"{}").unwrap_err().contains(&digest));
        assert!(given(&PACK.replace("acme/orders", "acme/other"), b"{}").unwrap_err().contains("acme/other"));
        assert!(given(&PACK.replace("c/order", "d/order"), b"{}").unwrap_err().contains("cannot read"));
        assert!(given(&PACK.replace("c/order", "../../x"), b"{}").is_err());
        let large = vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
        assert!(given(PACK, &large).unwrap_err().contains("has more than"));
        let files = [("a/pack.yaml", PACK), ("a/c/x", ""), ("a/c/y/z", ""), ("b/c/w", "")];
        let files: PackFiles = files.map(|(name, text)| (name.to_owned(), text.into())).into();
        let pack = Pack::at(Root::Files(Arc::new(files), "a".into())).unwrap();
        assert_eq!(pack.list("c").unwrap(), ["x", "y"]);
        assert!(pack.list("d").unwrap().is_empty());
    }

    #[test]
    fn nothing_outside_of_a_pack_is_read() {
        let (scratch, dir) = pack("packs-outside");
        scratch.write("secret", "s");
        let folder = dir.join("acme/orders");
        std::os::unix::fs::symlink(scratch.join("secret"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(scratch.path(), folder.join("linked")).unwrap();
        let pack = Pack::open(&folder).unwrap();
        assert!(pack.read("c/../c/./order.json").is_ok());
        for path in [
            "link",
            "linked/secret",
            "../../../secret",
            "c/../../orders/pack.yaml",
            "/etc/passwd",
            "c",
            "",
            "c/..",
        ] {
            assert!(
                matches!(pack.read(path), Err(PackError::Outside { .. })),
                "{path}: {:?}",
                pack.read(path)
            );
        }
        let at = scratch.join("elsewhere");
        std::os::unix::fs::symlink(&dir, &at).unwrap();
        let digest = estoppel_policy::file_digest(br#"{"type":"object"}"#);
        assert_eq!(provide(Some(&at), &digest), Ok(()), "the operator's own link");
        std::fs::rename(dir.join("acme"), scratch.join("acme")).unwrap();
        std::os::unix::fs::symlink(scratch.join("acme"), dir.join("acme")).unwrap();
        assert!(provide(Some(&dir), &digest).unwrap_err().contains("is a link"));
    }

    #[test]
    fn files_and_folders_of_a_pack_are_bounded() {
        let (_scratch, dir) = pack("packs-bounds");
        let folder = dir.join("acme/orders");
        let file = File::create(folder.join("large")).unwrap();
        file.set_len(FILE_BYTES_MAX).unwrap();
        let pack = Pack::open(&folder).unwrap();
        assert_eq!(pack.read("large").unwrap().len() as u64, FILE_BYTES_MAX);
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(pack.read("large"), Err(PackError::TooLarge { .. })));
        assert_eq!(pack.list("c").unwrap(), ["order.json"]);
        assert!(pack.list("fixtures").unwrap().is_empty());
        (0..LISTED_MAX).for_each(|at| drop(File::create(folder.join(format!("c/{at}"))).unwrap()));
        assert!(matches!(pack.list("c"), Err(PackError::TooMany { .. })));
    }
}
