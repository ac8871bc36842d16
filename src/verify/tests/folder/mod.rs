//! A folder as `test/vectors/README.md` lays it out, read from disk and judged.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "this plays the caller, who reads the files"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use estoppel_verify::{
    BodyQuestion, DirectoryFile, Externals, Given, Input, JournalFiles, Options, Part, Question, Report,
    verify_body, verify_bundle, verify_events, verify_journal, verify_receipt,
};

fn read(path: &Path) -> Option<Vec<u8>> {
    path.is_file().then(|| fs::read(path).unwrap())
}

/// The folder beside a bundle.
struct Beside(PathBuf);

impl Externals for Beside {
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
        Ok(read(&self.0.join(sha256))
            .map(|bytes| Box::new(std::io::Cursor::new(bytes)) as Box<dyn Read + '_>))
    }
}

/// Paths below `folder` that are no directories, and what is in those that are regular files.
fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name.into_bytes(), kind.is_file().then(|| fs::read(entry.path()).unwrap()));
        }
    }
}

/// The base64 between the lines of a PEM file.
fn spki_of_pem(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    base64::engine::general_purpose::STANDARD.decode(lines.collect::<String>()).unwrap()
}

/// Judges the one input in `folder`, with the trust document, key or checkpoint beside it.
pub fn judge(folder: &Path) -> Report {
    let trust = read(&folder.join("trust.json"));
    let options = Options { trust: trust.as_deref(), ..Options::default() };
    if let Some(zip) = read(&folder.join("bundle.pef.zip")) {
        let mut beside = Beside(folder.join("bundle.pef.zip.d"));
        if let Some(ask) = read(&folder.join("ask.json")) {
            let ask: serde_json::Value = serde_json::from_slice(&ask).unwrap();
            if let Some(part) = ask["part"].as_str() {
                let parts = [Part::Request, Part::Upstream, Part::Client];
                let question = BodyQuestion {
                    call: ask["call"].as_str().unwrap(),
                    part: parts.into_iter().find(|known| known.name() == part).unwrap(),
                    disclosure: &read(&folder.join("disclosure.json")).unwrap(),
                    content: &mut std::io::Cursor::new(read(&folder.join("content")).unwrap()),
                };
                return verify_body(Input::Zip(&zip), &mut beside, &options, question).unwrap();
            }
            let (disclosure, events) = (read(&folder.join("disclosure.json")), read(&folder.join("events")));
            let question = Question {
                call: ask["call"].as_str().unwrap(),
                disclosure: &disclosure.unwrap(),
                events: &events.unwrap(),
                place: ask["place"].as_u64(),
            };
            return verify_events(Input::Zip(&zip), &mut beside, &options, &question).unwrap();
        }
        return verify_bundle(Input::Zip(&zip), &mut beside, &options).unwrap();
    }
    if folder.join("bundle").is_dir() {
        let mut files = BTreeMap::new();
        walk(&folder.join("bundle"), "", &mut files);
        let files: Vec<_> =
            files.iter().map(|(path, bytes)| DirectoryFile { path, bytes: bytes.as_deref() }).collect();
        let mut beside = Beside(folder.join("bundle.d"));
        return verify_bundle(Input::Directory(&files), &mut beside, &options).unwrap();
    }
    if folder.join("journal").is_dir() {
        let journal = folder.join("journal");
        let mut segments: Vec<(String, Vec<u8>)> = Vec::new();
        if let Ok(entries) = fs::read_dir(journal.join("segments")) {
            for entry in entries {
                let entry = entry.unwrap();
                segments.push((
                    entry.file_name().to_string_lossy().into_owned(),
                    fs::read(entry.path()).unwrap(),
                ));
            }
        }
        let (checkpoint, own) = (read(&journal.join("checkpoint")), read(&journal.join("trust.json")));
        let against = read(&folder.join("against"));
        let beginning = read(&journal.join("beginning.json"));
        let files = JournalFiles {
            checkpoint: checkpoint.as_deref(),
            trust: own.as_deref(),
            beginning: beginning.as_deref(),
            against: against.as_deref(),
        };
        return verify_journal(&mut segments, files, &options).unwrap();
    }
    let envelope =
        read(&folder.join("receipt.dsse.json")).unwrap_or_else(|| panic!("no input in {}", folder.display()));
    match read(&folder.join("key.pem")) {
        Some(pem) => verify_receipt(&envelope, Given::Spki(&spki_of_pem(&String::from_utf8(pem).unwrap()))),
        None => verify_receipt(&envelope, Given::Trust(trust.as_deref().unwrap_or_default())),
    }
}
