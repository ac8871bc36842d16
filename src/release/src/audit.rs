//! The ledger for people who audit: as a document, a table or a page, each of them a function of the ledger alone
//! (spec/audit.md).
//!
//! An export is judged by making it again and comparing every byte. The document carries the events themselves, so it can
//! be judged without the repository; a table and a page name the heads of the ledger that they were made of.

mod document;
mod page;
mod row;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;

use crate::code::{Code, Refusal};
use crate::ledger::{Body, Event, Ledger, check};

use row::Wording;

pub use row::Row;

/// Most bytes of an export that is verified.
pub const EXPORT_BYTES_MAX: usize = 1 << 30;

/// How an export is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Canonical JSON with the events.
    Json,
    /// RFC 4180, every cell safe in a spreadsheet.
    Csv,
    /// One page without script.
    Html,
}

/// Which rows are wanted. The chain is told whole, whatever is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// The first moment.
    pub from: Option<UnixMicros>,
    /// The first moment after it.
    pub to: Option<UnixMicros>,
}

impl Span {
    fn takes(&self, at: UnixMicros) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }
}

/// A ledger, as it is told.
struct Told<'l> {
    ledger: &'l Ledger,
    span: Span,
    rows: Vec<Row<'l>>,
}

/// Writes a ledger.
pub fn export(ledger: &Ledger, span: Span, format: Format) -> String {
    write(ledger, span, format, Wording::Whole)
}

fn write(ledger: &Ledger, span: Span, format: Format, wording: Wording) -> String {
    let mut before = None;
    let mut rows = Vec::new();
    for event in ledger.events() {
        if span.takes(event.at) {
            rows.push(Row::told(ledger, event, before, wording));
        }
        if let Body::RolesSet(roles) = &event.body {
            before = Some(roles);
        }
    }
    let told = Told { ledger, span, rows };
    match format {
        Format::Json => document::write(&told),
        Format::Csv => table::write(&told),
        Format::Html => page::write(&told),
    }
}

/// What was found of an export.
#[derive(Debug)]
pub struct Verified {
    /// How it is written.
    pub format: Format,
    /// Which rows it has.
    pub span: Span,
    /// How many events the ledger had then.
    pub events: usize,
    /// The digest of that ledger.
    pub head: Sha256,
    /// The event that it begins with.
    pub genesis: Sha256,
    /// The ledger that it was made of.
    pub ledger: Ledger,
}

fn altered(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::AuditAltered, detail)
}

/// Whether an export has to be held against a ledger, because it does not have the events itself.
pub fn needs_ledger(bytes: &[u8]) -> bool {
    !bytes.starts_with(b"{")
}

/// The events that a document has in it, each with its path in the ledger.
///
/// # Errors
/// `AUDIT_ALTERED`: it is none, or a table or a page, which do not have them.
pub fn events(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| altered("it is not UTF-8"))?;
    let files = document::read(text)?.and_then(|claimed| claimed.files);
    files.ok_or_else(|| altered("it has no events in it; only an export as JSON does"))
}

/// Judges an export: by the events in it, or by `ledger`. `genesis` is the first event that the reader trusts.
///
/// # Errors
/// `AUDIT_ALTERED`, and every fault that a ledger can have.
pub fn verify(bytes: &[u8], ledger: Option<&Ledger>, genesis: Option<Sha256>) -> Result<Verified, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| altered("it is not UTF-8"))?;
    let (format, claimed) = if let Some(claimed) = document::read(text)? {
        (Format::Json, claimed)
    } else if let Some(claimed) = table::read(text) {
        (Format::Csv, claimed)
    } else if let Some(claimed) = page::read(text) {
        (Format::Html, claimed)
    } else {
        return Err(altered("it is no export"));
    };
    let then = match (claimed.files, ledger) {
        (Some(files), _) => check(&files, genesis)?,
        (None, Some(ledger)) => as_of(ledger, &claimed.heads, genesis)?,
        (None, None) => {
            let said = "a table and a page are held against the ledger they were made of, which is not here";
            return Err(Refusal::new(Code::LedgerMissing, said));
        }
    };
    let again = export(&then, claimed.span, format);
    if again != text && write(&then, claimed.span, format, Wording::Texts) != text {
        let same = again.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        return Err(altered(format!("it is another one than the ledger gives, from byte {same} on")));
    }
    let genesis = then.genesis().ok_or_else(|| altered("it has no events"))?;
    let (events, head) = (then.events().len(), then.head());
    Ok(Verified { format, span: claimed.span, events, head, genesis, ledger: then })
}

/// What an export says of itself.
struct Claimed {
    span: Span,
    heads: BTreeSet<Sha256>,
    /// The events with their paths, where it has them.
    files: Option<Vec<(String, Vec<u8>)>>,
}

/// The ledger as it was when these were its heads.
///
/// # Errors
/// `AUDIT_ALTERED` if it has no such event, and every fault that a ledger can have.
pub fn as_of(ledger: &Ledger, heads: &BTreeSet<Sha256>, genesis: Option<Sha256>) -> Result<Ledger, Refusal> {
    let mut wanted = heads.clone();
    let mut files = Vec::new();
    for event in ledger.events().iter().rev() {
        if wanted.remove(&event.id) {
            wanted.extend(&event.parents);
            files.push((event.path(), event.bytes.clone()));
        }
    }
    match wanted.first() {
        None => check(&files, genesis),
        Some(unknown) => Err(altered(format!("the ledger here has no event {unknown}"))),
    }
}

fn heads(ledger: &Ledger) -> String {
    ledger.heads().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn heads_of(text: &str) -> Option<BTreeSet<Sha256>> {
    text.split(' ').map(Sha256::parse).collect()
}

fn moment(at: Option<UnixMicros>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// None for what is no moment, an empty text for none.
fn moment_of(text: &str) -> Option<Option<UnixMicros>> {
    if text.is_empty() { Some(None) } else { UnixMicros::parse(text).map(Some) }
}

fn parents(event: &Event) -> String {
    event.parents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
