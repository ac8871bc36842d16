//! The disk, behind a trait, so that tests can make every operation fail.
//!
//! What is promised: `sync` returns only when what was written before is on disk; `replace` leaves the old or the new
//! content after a crash at any point, never a mixture. Nobody retries a failed `sync`: what the kernel did with
//! the pages is unknown, so the journal fails closed and recovers from the disk at its next start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// A file that is written at offsets.
pub trait SegmentFile: Send {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Any error means that some of the bytes may be there.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable (fdatasync).
    ///
    /// # Errors
    /// Any error means that nothing is known about what is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// Everything that the journal does to a disk.
pub trait Storage: Send + Sync {
    /// Makes a new file of `bytes` zero bytes that are really reserved, durable with its name.
    ///
    /// # Errors
    /// On any error there is no file of that name.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn SegmentFile>>;

    /// Opens a file that exists for writing.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;

    /// Gives a file another name in the same folder, durably.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Replaces a small file's content in one step, durably.
    ///
    /// # Errors
    /// The old content stands.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;
}

/// Real files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

struct RealFile(File);

impl SegmentFile for RealFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }
}

pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl Storage for Files {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
        let laid_out =
            lay_out(&file, bytes).and_then(|()| file.sync_all()).and_then(|()| sync_folder_of(path));
        match laid_out {
            Ok(()) => Ok(Box::new(RealFile(file))),
            Err(error) => {
                // Best effort: a half-made file of this name would be in the way of the next try.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_folder_of(to)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let written = (|| {
            let file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
            file.write_all_at(content, 0)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })();
        match written {
            Ok(()) => sync_folder_of(path),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }
}

/// Reserves the blocks and writes zeros where the file system cannot reserve.
fn lay_out(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let zeros = vec![0; 1 << 20];
            let mut at = 0;
            while at < bytes {
                let n = (bytes - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..n as usize], at)?; // at most 1 MiB
                at += n;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
