//! A pack and what is in it.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_bundle::{Archive, Bundle, BundlePath, ZipWriter};
use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use serde_json::{Value, json};

use crate::absent::{ABSENT, Absent};
use crate::derive::{self, Derive};
use crate::error::IncidentError;
use crate::link::Links;
use crate::{page, timeline};

/// Most bytes of a pack, bundles in it, entries on its timeline, and seconds of a window.
pub const PACK_BYTES_MAX: u64 = 1 << 30;
pub(crate) const BUNDLES_MAX: usize = 256;
pub(crate) const ROWS_MAX: usize = 200_000;
pub const WINDOW_S_MAX: u64 = 31 * 86_400;

pub(crate) const INDEX: &str = "incident.json";
pub(crate) const TIMELINE: &str = "timeline.json";
pub(crate) const PAGE: &str = "timeline.html";

/// A sealed bundle as it is on disk, and the content beside it by SHA-256 (hex).
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub bundle: Vec<u8>,
    pub beside: BTreeMap<String, Vec<u8>>,
}

/// Which form a pack has (`spec/incident.md`). Those of older forms are still judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Says nothing of runs that are absent, and has diffs of tables whose rows are not known.
    First,
    Second,
}

impl Format {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::First, Self::Second].into_iter().find(|format| format.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::First => "estoppel-incident/1",
            Self::Second => "estoppel-incident/2",
        }
    }
}

/// What a pack is to be of.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub format: Format,
    /// Id of the subject.
    pub run: &'a str,
    /// How many seconds before it was opened, and after it was sealed.
    pub window_s: u64,
    /// A policy in canonical form, by which the subject's calls are judged again.
    pub policy: Option<&'a [u8]>,
    /// What a journal knows of runs whose bundles are not given ([`Absent::bytes`]).
    pub absent: Option<&'a [u8]>,
}

/// The files of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    pub files: BTreeMap<BundlePath, Vec<u8>>,
}

/// A bundle that was opened.
pub(crate) struct Part<'g> {
    pub path: String,
    pub given: &'g Given,
    pub opened: Bundle<Archive<&'g [u8]>>,
    pub manifest: Value,
    pub lines: Vec<Value>,
    pub paths: BTreeSet<String>,
    pub is_subject: bool,
}

impl Part<'_> {
    /// Whether content of that digest belongs beside the bundle.
    pub fn has_external(&self, sha256: &str) -> bool {
        let rows = self.manifest["externals"].as_array().into_iter().flatten();
        rows.filter_map(|row| row["sha256"].as_str()).any(|of| of.strip_prefix("sha256:") == Some(sha256))
    }

    pub fn run(&self) -> &str {
        self.manifest["run"].as_str().unwrap_or_default()
    }

    fn moment(&self, name: &str) -> Option<u64> {
        UnixMicros::parse(self.manifest[name].as_str()?).map(|moment| moment.0)
    }
}

/// From when to when, as entries write time.
pub(crate) struct Span {
    pub from: String,
    pub to: String,
}

/// The pack of a run, and of what else happened within the window around it. With a policy, also what the subject's calls come to by
/// it; with a list of absent runs, that.
///
/// # Errors
/// [`IncidentError`]: no such run, a bundle that is of another time, a reference that leads nowhere, limits.
pub fn assemble(asked: &Asked<'_>, given: &[Given], derive: &dyn Derive) -> Result<Pack, IncidentError> {
    let Asked { format, run, window_s, policy, absent } = *asked;
    if given.len() > BUNDLES_MAX || window_s > WINDOW_S_MAX {
        return Err(IncidentError::Limit);
    }
    let mut parts = given.iter().map(|given| open(given, run)).collect::<Result<Vec<_>, _>>()?;
    parts.sort_by(|one, other| (!one.is_subject, &one.path).cmp(&(!other.is_subject, &other.path)));
    if parts.windows(2).any(|two| two.first().map(|part| &part.path) == two.last().map(|part| &part.path)) {
        return Err(IncidentError::Form("a run comes twice".into()));
    }
    let span = span(&parts, window_s)?;
    let absent = match (format, absent) {
        (_, None) => None,
        (Format::First, Some(_)) => return Err(IncidentError::Undeclared { path: ABSENT.into() }),
        (Format::Second, Some(bytes)) => Some(Absent::read(bytes, &parts, &span)?),
    };
    let links = Links::new(&parts);
    let mut rows = timeline::rows(&parts, &span, &links)?;
    let mut files = BTreeMap::new();
    derive::put_diffs(&mut files, &parts, &mut rows, (format, derive))?;
    let regress = match (parts.first(), policy) {
        (Some(subject), Some(policy)) => {
            Some(derive::put_regress(&mut files, subject, &mut rows, policy, derive)?)
        }
        _ => None,
    };
    let mut document = json!({ "format": "estoppel-timeline/1", "rows": rows });
    if let Some(absent) = &absent {
        document["absent"] = absent.listed();
        put(&mut files, ABSENT, absent.bytes()?)?;
    }
    put(&mut files, TIMELINE, canonical(&document)?)?;
    let shown = page::Shown { format, parts: &parts, span: &span, rows: &rows };
    put(&mut files, PAGE, shown.page(absent.as_ref(), regress.as_ref()).into_bytes())?;
    for part in &parts {
        put(&mut files, &part.path, part.given.bundle.clone())?;
        for (sha256, content) in part.given.beside.iter().filter(|(sha256, _)| part.has_external(sha256)) {
            put(&mut files, &format!("{}.d/{sha256}", part.path), content.clone())?;
        }
    }
    let mut index = index(&parts, &span, window_s, &rows, &files);
    index["format"] = format.as_str().into();
    if let Some(absent) = &absent {
        index["absent"] = absent.summary();
    }
    if format == Format::Second {
        let not_compared = rows.iter().filter(|row| !row["not_compared"].is_null()).count();
        index["summary"]["not_compared"] = not_compared.into();
    }
    if let Some(regress) = regress {
        index["regress"] = regress;
    }
    put(&mut files, INDEX, canonical(&index)?)?;
    let bytes: u64 = files.values().map(|content| content.len() as u64).sum(); // widening
    if bytes > PACK_BYTES_MAX {
        return Err(IncidentError::Limit);
    }
    Ok(Pack { files })
}

pub(crate) fn put(
    files: &mut BTreeMap<BundlePath, Vec<u8>>,
    path: &str,
    content: Vec<u8>,
) -> Result<(), IncidentError> {
    let path =
        path.parse().map_err(|_| IncidentError::Form(format!("`{}` is no path", path.escape_debug())))?;
    files.insert(path, content);
    Ok(())
}

pub(crate) fn canonical(value: &Value) -> Result<Vec<u8>, IncidentError> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| IncidentError::Form(error.to_string()))
}

fn open<'g>(given: &'g Given, subject: &str) -> Result<Part<'g>, IncidentError> {
    let wrong = |error: estoppel_bundle::OpenError| IncidentError::Form(error.to_string());
    let opened = Bundle::from_zip(given.bundle.as_slice()).map_err(wrong)?;
    let manifest: Value = serde_json::from_slice(&opened.manifest().to_bytes()).unwrap_or_default();
    let run = manifest["run"].as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    let mut entries = opened.entries().map_err(wrong)?;
    while let Some(entry) = entries.next().map_err(wrong)? {
        if lines.len() >= ROWS_MAX {
            return Err(IncidentError::Limit);
        }
        lines.push(serde_json::from_slice(entry.line).unwrap_or_default());
    }
    drop(entries);
    let paths = opened.files().map(|(path, _)| path.to_string()).collect();
    let path = format!("bundles/{run}.pef.zip");
    Ok(Part { path, given, opened, manifest, lines, paths, is_subject: run == subject })
}

fn span(parts: &[Part<'_>], window_s: u64) -> Result<Span, IncidentError> {
    let subject = parts.first().filter(|part| part.is_subject);
    let moments = subject.and_then(|part| Some((part.moment("opened")?, part.moment("sealed")?)));
    let (opened, sealed) = moments.ok_or_else(|| IncidentError::Form("the run is in no bundle".into()))?;
    let window_us = window_s * 1_000_000; // at most WINDOW_S_MAX
    let (from, to) = (opened.saturating_sub(window_us), sealed.saturating_add(window_us));
    for part in parts {
        let is_within = part.moment("opened").is_some_and(|opened| opened <= to)
            && part.moment("sealed").is_some_and(|sealed| sealed >= from);
        if !is_within {
            return Err(IncidentError::Outside { path: part.path.clone() });
        }
    }
    Ok(Span { from: UnixMicros(from).to_string(), to: UnixMicros(to).to_string() })
}

fn index(
    parts: &[Part<'_>],
    span: &Span,
    window_s: u64,
    rows: &[Value],
    files: &BTreeMap<BundlePath, Vec<u8>>,
) -> Value {
    let bundles = parts.iter().map(|part| {
        let manifest = &part.manifest;
        let mut row = json!({ "path": part.path, "subject": part.is_subject });
        for name in ["class", "iss", "name", "opened", "run", "seal_reason", "sealed"] {
            if !manifest[name].is_null() {
                row[name] = manifest[name].clone();
            }
        }
        row["root"] = manifest["tree"]["root"].clone();
        row
    });
    let listed = files.iter().map(|(path, content)| {
        json!({ "bytes": content.len(), "path": path.as_str(), "sha256": Sha256::of(content).to_string() })
    });
    json!({
        "bundles": bundles.collect::<Vec<_>>(),
        "files": listed.collect::<Vec<_>>(),
        "run": parts.first().map(|part| part.manifest["run"].clone()),
        "span": { "from": span.from, "to": span.to },
        "summary": timeline::summary(rows),
        "window_s": window_s,
    })
}

impl Pack {
    /// The one file, as bundles are written (PEF section 9).
    ///
    /// # Errors
    /// [`IncidentError::Limit`].
    pub fn to_zip(&self) -> Result<Vec<u8>, IncidentError> {
        let mut zip = ZipWriter::new(Vec::new());
        for (path, content) in &self.files {
            let crc32 = crc32fast::hash(content);
            zip.entry(path, content.len() as u64, crc32, &mut content.as_slice()) // widening
                .map_err(|_| IncidentError::Limit)?;
        }
        zip.finish().map_err(|_| IncidentError::Limit)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`IncidentError::Form`] for anything but the bytes that [`Pack::to_zip`] gives, [`IncidentError::Limit`].
    pub fn from_zip(bytes: &[u8]) -> Result<Self, IncidentError> {
        let wrong = |error: &dyn std::fmt::Display| IncidentError::Form(error.to_string());
        if bytes.len() as u64 > PACK_BYTES_MAX + (64 << 20) {
            return Err(IncidentError::Limit);
        }
        let archive = Archive::open(bytes).map_err(|error| wrong(&error))?;
        let mut files = BTreeMap::new();
        for entry in archive.entries() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut archive.content(entry), &mut content)
                .map_err(|error| wrong(&error))?;
            files.insert(entry.path.clone(), content);
        }
        Ok(Self { files })
    }

    pub(crate) fn content(&self, path: &str) -> Result<&[u8], IncidentError> {
        let found = self.files.iter().find(|(of, _)| of.as_str() == path);
        found
            .map(|(_, content)| content.as_slice())
            .ok_or_else(|| IncidentError::Missing { path: path.into() })
    }
}
