//! One side of a diff, read from a bundle, a journal or a schema document.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use estoppel_bundle::{BundlePath, OpenError};
use estoppel_diff::{Bodies, Kind, NoBodies, Normalizers, Reader, Scenario, Side, SideError, Stored};
use estoppel_evidence::Sha256;
use estoppel_journal::encryption::BodyKeys;
use estoppel_journal::{BodyError, read_body};
use estoppel_snapshot::{Rows, Schema, TableName};
use estoppel_verify::Report;
use serde_json::{Map, Value, json};

use crate::output::{Failure, plain};
use crate::{input, show, verify};

/// Largest schema document.
const SCHEMA_BYTES_MAX: u64 = 256 << 20;

/// What is asked of both sides.
pub struct Asked<'a> {
    pub run: Option<&'a str>,
    pub trust: Option<&'a Path>,
    pub unverified: bool,
    pub normalizers: &'a Normalizers,
    /// Of journals whose stored bodies are encrypted.
    pub body_keys: Option<&'a BodyKeys>,
}

/// A side, and where its stored bodies are.
pub struct Read<'a> {
    pub side: Side,
    pub bodies: Box<dyn Bodies + 'a>,
    /// Why a stored body could not be read that is there.
    pub unread: Unread,
}

/// By what is there: a folder is a journal, a file that begins an object a schema document, any other a bundle.
pub fn read<'a>(path: &Path, asked: &Asked<'a>) -> Result<Read<'a>, Failure> {
    if verify::is_journal(path) {
        return journal(path, asked);
    }
    if !path.is_dir() && input::begins_with(path, b"{")? {
        return schema(path, asked);
    }
    bundle(path, asked)
}

fn invalid(path: &Path, message: &str) -> Failure {
    Failure::input("ARGUMENT_INVALID", plain(&format!("`{}`: {message}", path.display())))
}

fn refused(path: &Path, report: &Report) -> Failure {
    let reason = report.finding.as_ref().map_or("", |finding| finding.reason.code());
    let message = format!("`{}` does not verify ({reason}), so nothing is read from it", path.display());
    Failure { exit: 2, ..Failure::runtime("EVIDENCE_INVALID", plain(&message)) }
        .hint("`estoppel verify` says what is wrong; with --unverified it is read and the answer says so")
}

/// How a side was verified, in one word.
fn standing(path: &Path, report: Option<&Report>) -> Result<&'static str, Failure> {
    match report {
        None => Ok("no"),
        Some(report) if report.passed() => Ok(report.verdicts.authenticity.name()),
        Some(report) => Err(refused(path, report)),
    }
}

fn failed(path: &Path) -> impl Fn(SideError) -> Failure {
    let path = path.to_owned();
    move |error| invalid(&path, &error.to_string())
}

fn bundle(path: &Path, asked: &Asked<'_>) -> Result<Read<'static>, Failure> {
    let (verified, opened) = match asked.unverified {
        true => (standing(path, None)?, show::open(path)?),
        false => verified(path, asked.trust)?,
    };
    let mut reader = Reader::new(Kind::Run, asked.normalizers);
    for line in lines(path, &opened)? {
        reader.line(&line).map_err(failed(path))?;
    }
    let mut side = reader.finish().map_err(failed(path))?;
    side.about = about_bundle(&opened, verified);
    let bodies = Box::new(InBundle { opened, beside: input::Beside::of(path) });
    Ok(Read { side, bodies, unread: Unread::default() })
}

/// How a bundle was verified, and the bundle, of the bytes that were.
fn verified(path: &Path, trust: Option<&Path>) -> Result<(&'static str, show::Opened), Failure> {
    let (report, bytes) = verify::read(path, trust)?;
    Ok((standing(path, Some(&report))?, show::opened(path, bytes)?))
}

/// The calls of a bundle that verified, and where its stored bodies are.
pub fn scenario(
    path: &Path,
    trust: Option<&Path>,
    normalizers: &Normalizers,
) -> Result<(Scenario, Box<dyn Bodies>), Failure> {
    let (verified, opened) = verified(path, trust)
        .map_err(|failure| failure.hint("`estoppel verify` says what is wrong with it"))?;
    let lines = lines(path, &opened)?;
    let read = Scenario::read(lines.iter().map(Vec::as_slice), normalizers);
    let mut scenario = read.map_err(failed(path))?;
    scenario.about = about_bundle(&opened, verified);
    Ok((scenario, Box::new(InBundle { opened, beside: input::Beside::of(path) })))
}

fn lines(path: &Path, opened: &show::Opened) -> Result<Vec<Vec<u8>>, Failure> {
    let unreadable = |error: OpenError| invalid(path, &error.to_string());
    let mut lines = Vec::new();
    let mut entries = opened.entries().map_err(unreadable)?;
    while let Some(entry) = entries.next().map_err(unreadable)? {
        lines.push(entry.line.to_vec());
    }
    Ok(lines)
}

fn about_bundle(opened: &show::Opened, verified: &str) -> Map<String, Value> {
    let manifest: Value = serde_json::from_slice(&opened.manifest().to_bytes()).unwrap_or_default();
    about(&[
        ("name", &manifest["name"]),
        ("root", &manifest["tree"]["root"]),
        ("run", &manifest["run"]),
        ("verified", &json!(verified)),
    ])
}

fn journal<'a>(path: &Path, asked: &Asked<'a>) -> Result<Read<'a>, Failure> {
    let report = if asked.unverified { None } else { Some(verify::journal_report(path, asked.trust)?) };
    let verified = standing(path, report.as_ref())?;
    let entries_max = report.as_ref().map_or(u64::MAX, |report| report.entries);
    let lines = |take: &mut dyn FnMut(&[u8])| {
        estoppel_journal::read_lines(path, entries_max, take)
            .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))
    };
    let run = match asked.run {
        None => None,
        Some(wanted) => {
            let mut opened = Vec::new();
            lines(&mut |line| opened.extend(named(line, wanted)))?;
            Some(one_of(path, wanted, opened)?)
        }
    };
    let kind = if run.is_some() { Kind::Run } else { Kind::Journal };
    let mut reader = Reader::new(kind, asked.normalizers);
    let mut wrong = None;
    lines(&mut |line| {
        if wrong.is_none() && run.as_deref().is_none_or(|run| is_of(line, run)) {
            wrong = reader.line(line).err();
        }
    })?;
    wrong.map_or(Ok(()), Err).map_err(failed(path))?;
    let mut side = reader.finish().map_err(failed(path))?;
    let root = report.as_ref().and_then(|report| report.root).map(|root| format!("root:{}", root.hex()));
    let of = |value: Option<String>| value.map_or(Value::Null, Value::String);
    let instance = report.as_ref().and_then(|report| report.iss.clone());
    let entries = report.as_ref().map_or(Value::Null, |report| report.entries.into());
    side.about = about(&[
        ("entries", &entries),
        ("instance", &of(instance)),
        ("root", &of(root)),
        ("run", &of(run)),
        ("verified", &json!(verified)),
    ]);
    let unread = Unread::default();
    let bodies = InJournal { journal: path.to_owned(), keys: asked.body_keys, unread: unread.clone() };
    Ok(Read { side, bodies: Box::new(bodies), unread })
}

/// The members that are there.
fn about(members: &[(&str, &Value)]) -> Map<String, Value> {
    let there = members.iter().filter(|(_, value)| !value.is_null());
    there.map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect()
}

fn is_of(line: &[u8], run: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Of<'l> {
        #[serde(borrow)]
        run: std::borrow::Cow<'l, str>,
    }
    serde_json::from_slice::<Of<'_>>(line).is_ok_and(|entry| entry.run == run)
}

/// The id of the run that a line opens, if it is called so.
fn named(line: &[u8], wanted: &str) -> Option<String> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let is_class = entry["name"].is_null() && entry["class"] == wanted;
    let is_named = entry["name"] == wanted || entry["run"] == wanted || is_class;
    (entry["kind"] == "run.open" && is_named).then(|| entry["run"].as_str().map(ToOwned::to_owned))?
}

fn one_of(path: &Path, wanted: &str, mut runs: Vec<String>) -> Result<String, Failure> {
    match (runs.pop(), runs.is_empty()) {
        (Some(run), true) => Ok(run),
        (None, _) => Err(Failure::reason(
            estoppel_evidence::Reason::RunUnknown,
            plain(&format!("`{}` has no run `{wanted}`", path.display())),
        )),
        (Some(last), false) => {
            runs.push(last);
            let message = format!("{} runs are called `{wanted}`; name one by its id", runs.len());
            Err(invalid(path, &message).hint(runs.iter().take(8).cloned().collect::<Vec<_>>().join(", ")))
        }
    }
}

fn schema(path: &Path, asked: &Asked<'_>) -> Result<Read<'static>, Failure> {
    let bytes = input::limited(path, SCHEMA_BYTES_MAX)?;
    let side = schema_side(&bytes, asked.normalizers, &|_| true).map_err(|why| invalid(path, &why))?;
    Ok(Read { side, bodies: Box::new(NoBodies), unread: Unread::default() })
}

/// A schema document as a side.
pub fn schema_side(
    bytes: &[u8],
    normalizers: &Normalizers,
    has_rows: &dyn Fn(&TableName) -> bool,
) -> Result<Side, String> {
    let schema = Schema::parse(bytes).map_err(|error| error.to_string())?;
    let mut reader = Reader::new(Kind::Schema, normalizers);
    let uncovered = schema.uncovered_counts().as_object().cloned().unwrap_or_default();
    let objects = schema.objects().into_iter().map(|(names, value)| (names, value.clone()));
    for (names, value) in
        objects.chain(uncovered.iter().map(|(kind, count)| (vec!["uncovered", kind], count.clone())))
    {
        reader.object(&names, value).map_err(|error| error.to_string())?;
    }
    let tables = schema.rows().into_iter().flat_map(Rows::tables);
    for (name, says) in tables.filter(|(name, _)| has_rows(name)) {
        reader.object(&["rows", &name.schema, &name.table], says).map_err(|error| error.to_string())?;
    }
    let mut side = reader.finish().map_err(|error| error.to_string())?;
    side.about = about(&[("digest", &json!(schema.digest().to_string())), ("verified", &json!("schema"))]);
    Ok(side)
}

/// The bodies of a bundle, in it and beside it.
struct InBundle {
    opened: show::Opened,
    beside: input::Beside,
}

impl Bodies for InBundle {
    fn stored(&self, sha256: &str, bytes_max: u64) -> Stored {
        let hex = sha256.strip_prefix("sha256:").unwrap_or_default();
        let Ok(path) = format!("bodies/{hex}").parse::<BundlePath>() else { return Stored::Missing };
        match self.opened.read(&path, bytes_max) {
            Ok(bytes) => checked(bytes, sha256),
            Err(OpenError::BytesMax { .. }) => Stored::TooLarge,
            Err(_) if self.beside.path(hex).is_file() => Stored::TooLarge,
            Err(_) => Stored::Missing,
        }
    }
}

/// The bodies of a journal.
struct InJournal<'a> {
    journal: PathBuf,
    keys: Option<&'a BodyKeys>,
    unread: Unread,
}

/// The first error of a body.
pub type Unread = Rc<RefCell<Option<BodyError>>>;

impl Bodies for InJournal<'_> {
    fn stored(&self, sha256: &str, bytes_max: u64) -> Stored {
        let hex = sha256.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Stored::Missing;
        }
        let folder = self.journal.join("bodies").join(hex.get(..2).unwrap_or_default());
        let path = folder.join(hex);
        match input::regular(&path) {
            Err(_) if input::regular(&folder.join(format!("{hex}.enc"))).is_ok() => {
                self.decrypted(sha256, bytes_max)
            }
            Err(_) => Stored::Missing,
            Ok(size) if size > bytes_max => Stored::TooLarge,
            Ok(_) => input::file(&path).map_or(Stored::Missing, |bytes| checked(bytes, sha256)),
        }
    }
}

impl InJournal<'_> {
    fn decrypted(&self, sha256: &str, bytes_max: u64) -> Stored {
        let Some(digest) = Sha256::parse(sha256) else { return Stored::Missing };
        match read_body(&self.journal, self.keys, digest, bytes_max) {
            Ok(Some(bytes)) => Stored::Bytes(bytes),
            Ok(None) => Stored::Missing,
            Err(BodyError::BytesMax { .. }) => Stored::TooLarge,
            Err(error) => {
                self.unread.borrow_mut().get_or_insert(error);
                Stored::Missing
            }
        }
    }
}

/// Only bytes that have the digest are that body.
fn checked(bytes: Vec<u8>, sha256: &str) -> Stored {
    match Sha256::of(&bytes).to_string() == sha256 {
        true => Stored::Bytes(bytes),
        false => Stored::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_of_the_digest_are_a_body_and_no_name_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let body = Sha256::of(b"{}");
        let dir = folder.path().join("bodies").join(&body.hex()[..2]);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(body.hex()), "{}").unwrap();
        let bodies = InJournal { journal: folder.path().to_owned(), keys: None, unread: Unread::default() };
        let is_there = |name: &str, most: u64| matches!(bodies.stored(name, most), Stored::Bytes(_));
        assert!(is_there(&body.to_string(), 2));
        assert!(matches!(bodies.stored(&body.to_string(), 1), Stored::TooLarge));
        std::fs::write(dir.join(body.hex()), "[]").unwrap();
        assert!(!is_there(&body.to_string(), 2));
        for name in ["", "sha256:", "sha256:../../etc/passwd", "/etc/passwd"] {
            assert!(!is_there(name, 1 << 20), "{name}");
        }
    }

    #[test]
    fn a_run_is_found_by_its_name_its_id_or_its_class() {
        let line = br#"{"kind":"run.open","run":"7","class":"caller","name":"x"}"#;
        assert_eq!((named(line, "x"), named(line, "7")), (Some("7".into()), Some("7".into())));
        assert_eq!((named(line, "caller"), named(b"{", "x")), (None, None));
        let path = Path::new("j");
        assert_eq!(one_of(path, "x", vec!["1".into()]).unwrap(), "1");
        assert_eq!(one_of(path, "x", Vec::new()).unwrap_err().code, "RUN_UNKNOWN");
        assert!(one_of(path, "x", vec!["1".into(), "2".into()]).unwrap_err().message.contains("2 runs"));
    }
}
