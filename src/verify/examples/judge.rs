//! Judges folders that are laid out as test vectors: one path a line on stdin, one JSON answer a line on stdout.
//! `test/vectors/three.py` compares the answers with those of the other two verifiers.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program for tests, which reads and prints"
)]

#[path = "../tests/folder/mod.rs"]
mod folder;

use std::io::Write as _;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lines() {
        let report = folder::judge(Path::new(&line?));
        let (finding, verdicts) = (report.finding.as_ref(), report.verdicts);
        let answer = serde_json::json!({
            "exit": report.exit_code(),
            "reason": finding.map(|finding| finding.reason.code()),
            "seq": finding.and_then(|finding| finding.seq),
            "index": finding.and_then(|finding| finding.index),
            "verdicts": {
                "integrity": verdicts.integrity.name(),
                "authenticity": verdicts.authenticity.name(),
                "completeness": verdicts.completeness.name(),
                "anchoring": verdicts.anchoring.name(),
            },
            "stream": report.stream.as_ref().map(|stream| stream.verdict.name()),
            "body": report.body.as_ref().map(|body| body.verdict.name()),
            "unit": finding.and_then(|finding| finding.unit),
            "run": report.run,
            "entries": report.entries,
            "kind": report.subject.name(),
        });
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
