//! A file system that fails where it is told to, and can lose what was not synced.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use estoppel_journal::storage::{Directory, FileSystem, Lock, Storage, StorageFile};

/// What happens at the chosen operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// An error, and nothing was done.
    Failed,
    /// An error, and it was done all the same.
    Persisted,
    /// An error, and half of a write was done; other operations fail.
    Torn,
    /// Nothing works from here on, and what was not synced is lost when [`Disk::cut_power`] is called.
    PowerCut,
}

/// Which operations are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Any,
    Write,
    Sync,
    Rename,
    Create,
    Allocate,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub kind: Kind,
    /// Which of them fails, counted from 0.
    pub at: u64,
    pub fault: Fault,
    pub error: Errno,
    /// How many fail from there on; 1 for one.
    pub times: u64,
}

impl Plan {
    pub fn never() -> Self {
        Self { kind: Kind::Any, at: u64::MAX, fault: Fault::Failed, error: Errno::IO, times: 0 }
    }
}

/// What has to be undone to get what is durable.
enum Undo {
    /// Bytes of a file before an unsynced write.
    Bytes {
        path: PathBuf,
        offset: u64,
        old: Vec<u8>,
    },
    /// A name that did not exist.
    Name(PathBuf),
    /// A file that was replaced or removed, and where its new name is.
    Content {
        path: PathBuf,
        old: Vec<u8>,
    },
    Moved {
        from: PathBuf,
        to: PathBuf,
    },
}

struct State {
    /// What is to fail, each with how many of its kind there were since.
    plans: Vec<(Plan, u64)>,
    counts: HashMap<Kind, u64>,
    dead: bool,
    undo: Vec<Undo>,
    track: bool,
    /// There is no room for files whose names end with this; they can be made.
    full: Option<String>,
}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self as u8).hash(state);
    }
}

#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

enum Verdict {
    Do,
    Fail(io::Error),
    DoAndFail(io::Error),
    Half(io::Error),
}

impl Disk {
    pub fn new(plan: Plan) -> Self {
        let track = plan.fault == Fault::PowerCut;
        Self(Arc::new(Mutex::new(State {
            plans: vec![(plan, 0)],
            counts: HashMap::new(),
            dead: false,
            undo: Vec::new(),
            track,
            full: None,
        })))
    }

    pub fn plan(&self, plan: Plan) {
        let mut state = self.0.lock().unwrap();
        state.counts.clear();
        state.plans = vec![(plan, 0)];
    }

    /// From now on there is no room for what is in files whose names end with this; with none there is room for all.
    pub fn fill(&self, end: Option<&str>) {
        self.0.lock().unwrap().full = end.map(Into::into);
    }

    fn has_room(&self, path: &Path) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let is_full = state.full.as_ref().is_some_and(|end| path.to_str().unwrap().ends_with(end));
        if is_full { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    /// Something else fails as well.
    pub fn also(&self, plan: Plan) {
        self.0.lock().unwrap().plans.push((plan, 0));
    }

    /// Operations of that kind so far.
    pub fn count(&self, kind: Kind) -> u64 {
        self.0.lock().unwrap().counts.get(&kind).copied().unwrap_or(0)
    }

    /// Whether every planned fault has happened.
    pub fn hit(&self) -> bool {
        self.0.lock().unwrap().plans.iter().all(|(plan, count)| *count > plan.at)
    }

    /// Undoes, newest first, everything that was not synced.
    pub fn cut_power(&self) {
        let mut state = self.0.lock().unwrap();
        state.dead = true;
        while let Some(undo) = state.undo.pop() {
            match undo {
                Undo::Bytes { path, offset, old } => {
                    use std::os::unix::fs::FileExt as _;
                    if let Ok(file) = std::fs::File::options().write(true).open(path) {
                        file.write_all_at(&old, offset).unwrap();
                    }
                }
                Undo::Name(path) => drop(std::fs::remove_file(path)),
                Undo::Content { path, old } => std::fs::write(path, old).unwrap(),
                Undo::Moved { from, to } => std::fs::rename(to, from).unwrap(),
            }
        }
    }

    fn judge(&self, kind: Kind) -> Result<Verdict, io::Error> {
        let mut state = self.0.lock().unwrap();
        if state.dead {
            return Err(Errno::IO.into());
        }
        *state.counts.entry(kind).or_default() += 1;
        *state.counts.entry(Kind::Any).or_default() += 1;
        let mut hit = None;
        for (plan, count) in &mut state.plans {
            if plan.kind == kind || plan.kind == Kind::Any {
                if *count >= plan.at && *count - plan.at < plan.times {
                    hit = Some(*plan);
                }
                *count += 1;
            }
        }
        let Some(plan) = hit else { return Ok(Verdict::Do) };
        let error = io::Error::from(plan.error);
        Ok(match plan.fault {
            Fault::Failed => Verdict::Fail(error),
            Fault::Persisted => Verdict::DoAndFail(error),
            Fault::Torn => Verdict::Half(error),
            Fault::PowerCut => {
                state.dead = true;
                Verdict::Fail(error)
            }
        })
    }

    fn perform<T>(&self, kind: Kind, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.judge(kind)? {
            Verdict::Do => work(),
            Verdict::Fail(error) | Verdict::Half(error) => Err(error),
            Verdict::DoAndFail(error) => {
                work()?;
                Err(error)
            }
        }
    }

    fn remember(&self, undo: impl FnOnce() -> Undo) {
        let mut state = self.0.lock().unwrap();
        if state.track {
            let undo = undo();
            state.undo.push(undo);
        }
    }

    fn synced(&self, is: impl Fn(&Undo) -> bool) {
        self.0.lock().unwrap().undo.retain(|undo| !is(undo));
    }
}

struct DiskFile {
    disk: Disk,
    path: PathBuf,
    inner: Box<dyn StorageFile>,
}

impl DiskFile {
    fn remember(&self, bytes: usize, offset: u64) {
        self.disk.remember(|| {
            let mut old = vec![0; bytes];
            let mut filled = 0;
            while filled < bytes {
                match self.inner.read_at(&mut old[filled..], offset + filled as u64).unwrap() {
                    0 => break,
                    n => filled += n,
                }
            }
            Undo::Bytes { path: self.path.clone(), offset, old }
        });
    }
}

impl StorageFile for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.has_room(&self.path)?;
        self.remember(bytes.len(), offset);
        match self.disk.judge(Kind::Write)? {
            Verdict::Do => self.inner.write_at(bytes, offset),
            Verdict::Fail(error) => Err(error),
            Verdict::DoAndFail(error) => {
                self.inner.write_at(bytes, offset)?;
                Err(error)
            }
            Verdict::Half(error) => {
                self.inner.write_at(&bytes[..bytes.len() / 2], offset)?;
                Err(error)
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.perform(Kind::Sync, || self.inner.sync_data())?;
        self.disk.synced(|undo| matches!(undo, Undo::Bytes { path, .. } if *path == self.path));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.perform(Kind::Sync, || self.inner.sync_all())?;
        self.disk.synced(|undo| matches!(undo, Undo::Bytes { path, .. } if *path == self.path));
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.perform(Kind::Allocate, || self.inner.allocate(bytes))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.perform(Kind::Write, || self.inner.set_len(bytes))
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn is_named(&self) -> io::Result<bool> {
        self.inner.is_named()
    }
}

struct DiskDirectory {
    disk: Disk,
    path: PathBuf,
    inner: Box<dyn Directory>,
}

impl Directory for DiskDirectory {
    fn sync(&self) -> io::Result<()> {
        self.disk.perform(Kind::Sync, || self.inner.sync())?;
        let here = |path: &Path| path.parent() == Some(&self.path);
        self.disk.synced(|undo| match undo {
            Undo::Bytes { .. } => false,
            Undo::Name(path) | Undo::Content { path, .. } => here(path),
            Undo::Moved { to, .. } => here(to),
        });
        Ok(())
    }
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let inner = self.perform(Kind::Create, || FileSystem.create(path))?;
        self.remember(|| Undo::Name(path.into()));
        Ok(Box::new(DiskFile { disk: self.clone(), path: path.into(), inner }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let inner = FileSystem.open(path)?;
        Ok(Box::new(DiskFile { disk: self.clone(), path: path.into(), inner }))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let inner = self.perform(Kind::Create, || FileSystem.open_write(path))?;
        Ok(Box::new(DiskFile { disk: self.clone(), path: path.into(), inner }))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        let inner = FileSystem.open_dir(path)?;
        Ok(Box::new(DiskDirectory { disk: self.clone(), path: path.into(), inner }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(Kind::Create, || FileSystem.create_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = std::fs::read(to).ok();
        self.perform(Kind::Rename, || FileSystem.rename(from, to))?;
        if let Some(old) = replaced {
            self.remember(|| Undo::Content { path: to.into(), old });
        }
        self.remember(|| Undo::Moved { from: from.into(), to: to.into() });
        // A new name is undone by giving back the old one; the file's own creation is undone there.
        let mut state = self.0.lock().unwrap();
        for undo in &mut state.undo {
            if let Undo::Bytes { path, .. } = undo
                && path == from
            {
                *path = to.into();
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let old = std::fs::read(path).ok();
        self.perform(Kind::Rename, || FileSystem.remove(path))?;
        if let Some(old) = old {
            self.remember(|| Undo::Content { path: path.into(), old });
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        FileSystem.list(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        FileSystem.lock(path)
    }
}
