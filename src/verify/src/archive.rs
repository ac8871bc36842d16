//! Reads the index of what is archived: steps A1 to A4 of `spec/archive.md`.

use std::fmt;

use crate::hash::Hash;
use crate::list::{is_next, lines};
use crate::schema::{Schemas, Slots};
use crate::view::View;

/// Most bytes and entries of an index.
pub const INDEX_BYTES_MAX: u64 = 256 << 20;
const ENTRIES_MAX: usize = 1_000_000;

/// Why an index is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexReason {
    Form,
    Schema,
    Chain,
    Key,
    Limit,
}

impl IndexReason {
    pub const ALL: [IndexReason; 5] = [Self::Form, Self::Schema, Self::Chain, Self::Key, Self::Limit];

    /// The code as `spec/archive.md` writes it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Form => "ARCHIVE_FORM",
            Self::Schema => "ARCHIVE_SCHEMA",
            Self::Chain => "ARCHIVE_CHAIN",
            Self::Key => "ARCHIVE_KEY",
            Self::Limit => "ARCHIVE_LIMIT",
        }
    }

    /// 6 for a limit, otherwise 2.
    pub fn exit_code(self) -> u8 {
        if self == Self::Limit { 6 } else { 2 }
    }
}

/// The first line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFault {
    pub reason: IndexReason,
    /// From 0; none when it is the list as a whole.
    pub line: Option<u64>,
    pub detail: String,
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "entry {line}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

/// Where a copy is and until when it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub endpoint: String,
    pub bucket: String,
    pub key: String,
    pub version: String,
    pub bytes: u64,
    /// `sha256:<hex>`.
    pub sha256: String,
    /// `COMPLIANCE` or `GOVERNANCE`.
    pub mode: String,
    pub retain_until: String,
    pub legal_hold: bool,
}

impl Pointer {
    pub(crate) fn of(entry: View<'_>) -> Self {
        let text = |name: &str| entry.text_of(name).into_owned();
        Self {
            endpoint: text("endpoint"),
            bucket: text("bucket"),
            key: text("key"),
            version: text("version"),
            bytes: entry.member("bytes").and_then(View::count).unwrap_or_default(),
            sha256: text("sha256"),
            mode: text("mode"),
            retain_until: text("retain_until"),
            legal_hold: entry.member("legal_hold").and_then(View::boolean).unwrap_or_default(),
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    pub seq: u64,
    pub ts: String,
    /// `bundle`, `external`, `segment` or `custody`.
    pub kind: String,
    /// Of an `external` `<bundle>.d/<hex>`.
    pub name: String,
    pub at: Pointer,
    /// Entry hash of its line.
    pub leaf: Hash,
}

/// The entries of an index.
///
/// # Errors
/// The first step that fails.
pub fn read_index(list: &[u8]) -> Result<Vec<Archived>, IndexFault> {
    let whole = |reason, detail: &str| IndexFault { reason, line: None, detail: detail.into() };
    if list.len() as u64 > INDEX_BYTES_MAX {
        return Err(whole(IndexReason::Limit, "the index is larger than 256 MiB"));
    }
    let lines = lines(list).ok_or_else(|| {
        whole(IndexReason::Form, "a line is empty or too long, or the last one does not end with LF")
    })?;
    if lines.len() > ENTRIES_MAX {
        return Err(whole(IndexReason::Limit, "the index has more than 1,000,000 entries"));
    }
    let mut entries: Vec<Archived> = Vec::with_capacity(lines.len());
    for (seq, line) in (0..).zip(lines) {
        let fault = |reason, detail: String| IndexFault { reason, line: Some(seq), detail };
        Schemas::get()
            .archive
            .check(line, &mut Slots::default())
            .map_err(|found| fault(IndexReason::Schema, found.describe(line)))?;
        let entry = View::of(line);
        if !is_next(entry, seq, entries.last().map(|last| last.leaf)) {
            let detail = "it does not follow the entry before it".to_owned();
            return Err(fault(IndexReason::Chain, detail));
        }
        let at = Pointer::of(entry);
        if !at.key.ends_with(&at.sha256.replacen(':', "/", 1)) {
            return Err(fault(IndexReason::Key, format!("`{}` is not the key of `{}`", at.key, at.sha256)));
        }
        let (ts, kind, name) = (entry.text_of("ts"), entry.text_of("kind"), entry.text_of("name"));
        let name = match (&*kind, at.sha256.split_once(':')) {
            ("external", Some((_, hex))) => format!("{name}.d/{hex}"),
            _ => name.into_owned(),
        };
        let (ts, kind) = (ts.into_owned(), kind.into_owned());
        entries.push(Archived { seq, ts, kind, name, at, leaf: Hash::leaf(line) });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification() {
        let spec = include_str!("../../../spec/archive.md");
        for reason in IndexReason::ALL {
            assert!(spec.contains(&format!("`{}`", reason.code())), "{reason:?}");
        }
    }
}
