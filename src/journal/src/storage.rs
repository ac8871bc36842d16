//! The file system, as far as the journal uses it. Tests put one that fails in its place.
//!
//! What each operation promises is what POSIX promises and no more: data are durable after [`StorageFile::sync_data`],
//! names after [`Directory::sync`]. Nothing here retries; an error that a caller sees may or may not have taken effect.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};

/// Permission bits of what the journal makes.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// A place for files.
pub trait Storage: Send + Sync {
    /// Makes a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Opens a plain file for reading, without waiting for anybody: where a pipe or a device has the name, that is an error.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Opens a file for reading and writing, making it if it is not there.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Opens a folder, to sync names in it.
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>>;
    /// Makes a folder and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Takes the lock of a file, making it if it is not there; [`io::ErrorKind::WouldBlock`] when another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// One open file.
#[expect(clippy::len_without_is_empty, reason = "a size that can fail to be read is no collection's")]
pub trait StorageFile: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads some bytes at `offset`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Content is durable when this succeeds. After an error, what was written since the last success may be lost for
    /// good, also when a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`StorageFile::sync_data`], with size and other attributes.
    fn sync_all(&self) -> io::Result<()>;
    /// Sets space aside and makes the file that long, filled with zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts or extends.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Its size.
    fn len(&self) -> io::Result<u64>;
    /// Whether it still has a name.
    fn is_named(&self) -> io::Result<bool>;
}

/// An open folder.
pub trait Directory: Send + Sync {
    /// Names are durable when this succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// A held lock; dropping it gives it back.
pub trait Lock: Send + Sync {}

/// The bytes of a plain file that has at most `bytes_max`; a pipe or a device is neither waited for nor read.
///
/// # Errors
/// It cannot be opened or read, is no plain file, or has more bytes.
pub fn read_plain(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= bytes_max => Ok(bytes),
        _ => {
            let said = format!("it has more than {bytes_max} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidData, said))
        }
    }
}

fn open_plain(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no plain file"));
    }
    Ok(file)
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Storage for FileSystem {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(RealFile(open_plain(path)?)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(path)?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealFile(file)))
    }
}

struct RealFile(File);

impl StorageFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            // Without set-aside space a full disk shows when a batch is written, and then stops the journal.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.0.set_len(bytes),
            result => Ok(result?),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn is_named(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.nlink() > 0)
    }
}

impl Directory for RealFile {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Lock for RealFile {}

/// Reads until `buffer` is full or the file ends; returns how many bytes there were.
pub(crate) fn read_full(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The whole of a small file; `None` when it is not there.
pub(crate) fn read_small(storage: &dyn Storage, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.len()?;
    if bytes > bytes_max {
        let text = format!("`{}` is {bytes} bytes long, limit {bytes_max}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let n = read_full(&*file, &mut content, 0)?;
    content.truncate(n);
    Ok(Some(content))
}

/// Puts a whole file in place: temporary file, sync, rename, sync of the folder. A reader sees the old content or the
/// new, also after a power cut.
pub(crate) fn write_whole(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = temporary(path);
    match storage.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = || {
        let file = storage.create(&temporary)?;
        file.write_at(bytes, 0)?;
        file.sync_all()?;
        storage.rename(&temporary, path)
    };
    without_rest(storage, &temporary, written())?;
    storage.open_dir(folder)?.sync()
}

/// Takes away what has a temporary name if that could not be completed. What cannot be removed is replaced next time.
pub(crate) fn without_rest<T, E>(
    storage: &dyn Storage,
    temporary: &Path,
    done: Result<T, E>,
) -> Result<T, E> {
    if done.is_err()
        && let Err(error) = storage.remove(temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %temporary.display(), "what could not be completed could not be removed");
    }
    done
}

/// The name beside `path` that a file has until it is complete.
pub(crate) fn temporary(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Whether the disk has no room, as opposed to being broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileSystem.lock(&path).unwrap();
        assert_eq!(FileSystem.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(FileSystem.lock(&path).is_ok());
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
            assert_eq!(FileSystem.open(path).err().unwrap().kind(), io::ErrorKind::InvalidData, "{path:?}");
        }
    }

    #[test]
    fn allocated_files_are_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileSystem.create(&dir.path().join("f")).unwrap();
        file.allocate(10_000).unwrap();
        let mut content = vec![1; 10_001];
        assert_eq!(read_full(&*file, &mut content, 0).unwrap(), 10_000);
        assert!(content[..10_000].iter().all(|b| *b == 0));
    }

    #[test]
    fn whole_files_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for content in [b"one".as_slice(), b"longer than one", b""] {
            write_whole(&FileSystem, &path, content).unwrap();
            assert_eq!(read_small(&FileSystem, &path, 100).unwrap().unwrap(), content);
        }
        assert_eq!(FileSystem.list(dir.path()).unwrap(), ["f"]);
        assert!(read_small(&FileSystem, &dir.path().join("none"), 1).unwrap().is_none());
    }
}
