//! The files of a bundle, from a ZIP or from a directory (SPEC section 9; steps C1 to C5 and Z1 of section 11).
//!
//! A PEF ZIP is a function of its content. So the reader takes names, sizes and CRCs from the local headers, one
//! after the other from offset 0, and then demands that everything else is what a writer must have made of them.
//! Nothing is searched for, and there is no second place where an entry could be.

use std::collections::HashSet;

use crate::crc::crc32;
use crate::reason::Reason;
use crate::report::{Finding, Step};

/// Bytes of a ZIP, or of all files of a directory: 4 GiB - 1.
const BYTES_MAX: u64 = 0xffff_ffff;
/// Entries of a bundle.
const ENTRIES_MAX: usize = 65_534;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 200;

const LOCAL_SIGNATURE: [u8; 4] = [0x50, 0x4b, 0x03, 0x04];
const LOCAL_BYTES: usize = 30;

/// A bundle as it was found.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The bytes of a `.pef.zip`.
    Zip(&'a [u8]),
    /// What is in a directory and the directories below it, in any order. Directories themselves are left out.
    Directory(&'a [DirectoryFile<'a>]),
}

/// Something in a directory that is not a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryFile<'a> {
    /// Relative to the bundle, joined by `/`.
    pub path: &'a [u8],
    /// None when it is not a regular file.
    pub bytes: Option<&'a [u8]>,
}

/// One file of a bundle.
pub(crate) struct File<'a> {
    pub path: &'a str,
    pub bytes: &'a [u8],
    /// The CRC that a ZIP states.
    crc: Option<u32>,
}

/// The files of a bundle, sorted by path.
pub(crate) struct Files<'a>(Vec<File<'a>>);

impl<'a> Files<'a> {
    /// C1 to C5.
    pub(crate) fn read(input: Input<'a>) -> Step<Files<'a>> {
        match input {
            Input::Zip(zip) => read_zip(zip),
            Input::Directory(files) => read_directory(files),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&File<'a>> {
        let at = self.0.binary_search_by(|file| file.path.cmp(path)).ok()?;
        self.0.get(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &File<'a>> {
        self.0.iter()
    }

    /// Z1. Nothing to check in a directory.
    pub(crate) fn check_crcs(&self) -> Step {
        for file in &self.0 {
            let found = file.crc.map(|stated| (stated, crc32(&[file.bytes])));
            if let Some((stated, found)) = found
                && stated != found
            {
                let detail =
                    format!("`{}` has CRC-32 {found:08x}, its header states {stated:08x}", file.path);
                return Err(Finding::new(Reason::CrcMismatch, detail));
            }
        }
        Ok(())
    }
}

fn refuse<T>(reason: Reason, detail: String) -> Step<T> {
    Err(Finding::new(reason, detail))
}

fn limit<T>(detail: String) -> Step<T> {
    refuse(Reason::ContainerLimit, detail)
}

fn malformed<T>(detail: impl Into<String>) -> Step<T> {
    refuse(Reason::ContainerMalformed, detail.into())
}

fn read_directory<'a>(found: &[DirectoryFile<'a>]) -> Step<Files<'a>> {
    let bytes: u64 = found.iter().filter_map(|file| file.bytes).map(|bytes| bytes.len() as u64).sum(); // usize fits.
    if bytes > BYTES_MAX {
        return limit(format!("expected at most {BYTES_MAX} bytes, found {bytes}"));
    }
    if found.len() > ENTRIES_MAX {
        return limit(format!("expected at most {ENTRIES_MAX} files, found {}", found.len()));
    }
    let mut sorted: Vec<&DirectoryFile<'a>> = found.iter().collect();
    sorted.sort_by_key(|file| file.path);
    let mut files: Vec<File<'a>> = Vec::new();
    for file in sorted {
        let path = check_path(file.path)?;
        let Some(bytes) = file.bytes else {
            return refuse(Reason::PathForbidden, format!("`{path}` is not a regular file"));
        };
        if files.last().is_some_and(|last| last.path == path) {
            return refuse(Reason::EntryDuplicate, format!("`{path}` occurs twice"));
        }
        files.push(File { path, bytes, crc: None });
    }
    Ok(Files(files))
}

/// C3.
fn check_path(path: &[u8]) -> Step<&str> {
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/');
    let segment = |segment: &[u8]| !matches!(segment, b"" | b"." | b"..");
    let good = path == b"SHA256SUMS"
        || (path.len() <= PATH_BYTES_MAX
            && path.iter().all(allowed)
            && path.split(|b| *b == b'/').all(segment));
    match std::str::from_utf8(path) {
        Ok(text) if good => Ok(text),
        _ => refuse(Reason::PathForbidden, format!("the path `{}` is forbidden", path.escape_ascii())),
    }
}

fn read_zip(zip: &[u8]) -> Step<Files<'_>> {
    if zip.len() as u64 > BYTES_MAX {
        return limit(format!("expected at most {BYTES_MAX} bytes, found {}", zip.len()));
    }
    let mut files: Vec<File<'_>> = Vec::new();
    let mut names = HashSet::new();
    let mut central = Vec::new();
    let mut rest = zip;
    while rest.starts_with(&LOCAL_SIGNATURE) {
        if files.len() == ENTRIES_MAX {
            return limit(format!("expected at most {ENTRIES_MAX} entries, found more"));
        }
        let (file, after) = read_local(rest, &mut names)?;
        push_central(&mut central, &file, zip.len() - rest.len());
        files.push(file);
        rest = after;
    }
    push_end(&mut central, files.len(), zip.len() - rest.len());
    if rest != central {
        return malformed(format!(
            "after {} entries, expected the {} bytes of central directory and end record that follow from them, \
             found {} bytes that differ",
            files.len(),
            central.len(),
            rest.len()
        ));
    }
    if let Some((one, next)) = files.iter().zip(files.iter().skip(1)).find(|(one, next)| one.path > next.path)
    {
        return malformed(format!("`{}` stands after `{}`, expected byte order", next.path, one.path));
    }
    Ok(Files(files))
}

/// Reads the local entry at the start of `zip`; gives what follows it. C2 to C5.
fn read_local<'a>(zip: &'a [u8], names: &mut HashSet<&'a str>) -> Step<(File<'a>, &'a [u8])> {
    let Some((header, rest)) = zip.split_first_chunk::<LOCAL_BYTES>() else {
        return malformed("the last local header is cut short");
    };
    if u16_at(header, 8) != 0 {
        let detail = format!("an entry has compression method {}, expected 0", u16_at(header, 8));
        return refuse(Reason::EntryCompressed, detail);
    }
    let Some((name, rest)) = rest.split_at_checked(usize::from(u16_at(header, 26))) else {
        return malformed("the name of the last local header is cut short");
    };
    let path = check_path(name)?;
    if !names.insert(path) {
        return refuse(Reason::EntryDuplicate, format!("`{path}` occurs twice"));
    }
    let (crc, size) = (u32_at(header, 14), u32_at(header, 22));
    if *header != local_header(crc, size, path) {
        return malformed(format!("the local header of `{path}` has a field that the format does not allow"));
    }
    // A u32 fits a usize on every target that this is built for.
    let Some((bytes, rest)) = rest.split_at_checked(size as usize) else {
        return malformed(format!("the data of `{path}` are cut short"));
    };
    Ok((File { path, bytes, crc: Some(crc) }, rest))
}

fn u16_at(header: &[u8], at: usize) -> u16 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Version, flags, method, time and date: the same in every local and central header.
const FIXED: [u8; 10] = [10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];

fn local_header(crc: u32, size: u32, path: &str) -> [u8; LOCAL_BYTES] {
    let mut header = [0; LOCAL_BYTES];
    let mut bytes = Vec::with_capacity(LOCAL_BYTES);
    bytes.extend(LOCAL_SIGNATURE);
    push_shared(&mut bytes, crc, size, path);
    for (place, byte) in header.iter_mut().zip(bytes) {
        *place = byte;
    }
    header
}

/// From the version to the length of the extra field.
fn push_shared(out: &mut Vec<u8>, crc: u32, size: u32, path: &str) {
    out.extend(FIXED);
    out.extend(crc.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend((path.len() as u16).to_le_bytes()); // At most 200.
    out.extend(0u16.to_le_bytes());
}

fn push_central(out: &mut Vec<u8>, file: &File<'_>, offset: usize) {
    out.extend([0x50, 0x4b, 0x01, 0x02]);
    out.extend(0x0314u16.to_le_bytes());
    push_shared(out, file.crc.unwrap_or_default(), file.bytes.len() as u32, file.path); // Was read from a u32.
    out.extend([0; 6]); // comment length, disk, internal attributes
    out.extend(0x81a4_0000u32.to_le_bytes());
    out.extend((offset as u32).to_le_bytes()); // The ZIP is below 4 GiB.
    out.extend(file.path.as_bytes());
}

fn push_end(central: &mut Vec<u8>, count: usize, offset: usize) {
    let size = central.len();
    central.extend([0x50, 0x4b, 0x05, 0x06, 0, 0, 0, 0]);
    central.extend((count as u16).to_le_bytes()); // At most 65,534.
    central.extend((count as u16).to_le_bytes());
    central.extend((size as u32).to_le_bytes()); // 65,534 times at most 246.
    central.extend((offset as u32).to_le_bytes()); // The ZIP is below 4 GiB.
    central.extend([0, 0]);
}

#[cfg(test)]
mod tests;
