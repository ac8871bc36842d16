//! `estoppel detect`: what the built-in detectors find in files, without a daemon.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use estoppel_detect::{Confidence, Detector, Engine, Scanner, unescaped, walk};
use serde_json::{Value, json};

use crate::arguments::Detect;
use crate::output::{Failure, Output, plain};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Most findings that are shown; the rest is counted.
const FINDINGS_MAX: usize = 1000;
/// Larger JSON is looked at as bytes.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// What was found in one file.
#[derive(Default)]
struct Report {
    findings: Vec<Value>,
    all: u64,
}

pub fn run(output: &Output, detect: &Detect) -> Result<ExitCode, Failure> {
    let least = parsed(detect.min_confidence.as_deref(), Confidence::parse, "confidence")?;
    let least = least.unwrap_or(Confidence::Low);
    let mut wanted = Vec::new();
    for name in &detect.detector {
        wanted.extend(parsed(Some(name), Detector::parse, "detector")?);
    }
    let engine = Engine::new(|rule| {
        rule.confidence >= least && (wanted.is_empty() || wanted.contains(&rule.detector))
    });
    let engine = engine.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
    let mut all = 0;
    let mut files = Vec::new();
    for path in &detect.files {
        let report = look(&engine, least, path)?;
        for finding in &report.findings {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            let place = format!("{}{}", path.display(), text("place"));
            output.line(&plain(&format!(
                "{place}: {} bytes at {}: {} ({} confidence, {} severity)",
                finding["bytes"],
                finding["at"],
                text("rule"),
                text("confidence"),
                text("severity")
            )));
        }
        all += report.all;
        files.push(
            json!({ "file": path.display().to_string(), "findings": report.findings, "found": report.all }),
        );
    }
    output.line(&format!("{all} found in {} file(s)", detect.files.len()));
    output.data(&json!({ "files": files, "found": all }));
    Ok(if all > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn parsed<T>(word: Option<&str>, parse: fn(&str) -> Option<T>, what: &str) -> Result<Option<T>, Failure> {
    let Some(word) = word else { return Ok(None) };
    let known = parse(word)
        .ok_or_else(|| Failure::input("ARGUMENT_INVALID", format!("there is no {what} `{}`", plain(word))));
    known.map(Some)
}

fn look(engine: &Engine, least: Confidence, path: &Path) -> Result<Report, Failure> {
    let wrong = |error: &io::Error| {
        Failure::input("FILE_UNREADABLE", plain(&format!("`{}` cannot be read: {error}", path.display())))
    };
    let mut report = Report::default();
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let small = std::fs::metadata(path).is_ok_and(|found| found.len() <= JSON_BYTES_MAX);
    if is_json && small {
        let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
        let walked = walk(&bytes, &mut |text| {
            report.text(engine, least, text.place, text.text);
            if estoppel_detect::is_json_like(text.text) {
                report.text(engine, least, text.place, &unescaped(text.text, &mut String::new()));
            }
        });
        if walked.is_ok() {
            return Ok(report);
        }
        report = Report::default();
    }
    let mut from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(std::fs::File::open(path).map_err(|error| wrong(&error))?),
    };
    let (mut scanner, mut chunk) = (Scanner::default(), vec![0; CHUNK_BYTES]);
    loop {
        let read = from.read(&mut chunk).map_err(|error| wrong(&error))?;
        let keep = &mut |found: estoppel_detect::Found<'_>| report.keep(&found, least, "");
        if read == 0 {
            scanner.finish(engine, keep);
            return Ok(report);
        }
        scanner.push(engine, chunk.get(..read).unwrap_or_default(), keep);
    }
}

impl Report {
    fn text(&mut self, engine: &Engine, least: Confidence, place: &str, text: &str) {
        let mut scanner = Scanner::default();
        scanner.push(engine, text.as_bytes(), &mut |found| self.keep(&found, least, place));
        scanner.finish(engine, &mut |found| self.keep(&found, least, place));
    }

    fn keep(&mut self, found: &estoppel_detect::Found<'_>, least: Confidence, place: &str) {
        if found.confidence < least {
            return;
        }
        self.all += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(json!({
                "at": found.at, "bytes": found.bytes.len(), "class": found.rule.class.as_str(),
                "confidence": found.confidence.as_str(), "detector": found.rule.detector.as_str(),
                "place": place, "rule": found.rule.id, "severity": found.rule.severity.as_str(),
            }));
        }
    }
}
