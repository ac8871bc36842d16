//! Results as JUnit XML, as build servers read it.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::input;
use crate::output::{Failure, plain};

pub struct Case {
    pub name: String,
    pub outcome: Outcome,
}

pub enum Outcome {
    Passed,
    Failed { message: String, text: String },
    Skipped(String),
}

impl Outcome {
    pub fn failed(message: &str, text: &str) -> Self {
        Self::Failed { message: message.into(), text: text.into() }
    }
}

/// Refused if the file is there, before anything is done for it.
pub fn check_new(path: Option<&Path>) -> Result<(), Failure> {
    path.filter(|path| path.symlink_metadata().is_ok()).map_or(Ok(()), |path| Err(exists(path)))
}

fn exists(path: &Path) -> Failure {
    let message = plain(&format!("`{}` is there already", path.display()));
    Failure { exit: 8, ..Failure::runtime("OUTPUT_EXISTS", message) }
}

/// Writes a new file; refused if it is there.
pub fn write(path: &Path, suite: &str, cases: &[Case]) -> Result<(), Failure> {
    let made = std::fs::File::create_new(path)
        .and_then(|mut file| file.write_all(report(suite, cases).as_bytes()).and_then(|()| file.sync_all()));
    made.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => input::unreadable(path, &error),
    })
}

fn report(suite: &str, cases: &[Case]) -> String {
    let count = |is: fn(&Outcome) -> bool| cases.iter().filter(|case| is(&case.outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let (suite, tests) = (escaped(suite), cases.len());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{suite}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">\n"
    );
    for Case { name, outcome } in cases {
        let case = format!("<testcase classname=\"{suite}\" name=\"{}\"", escaped(name));
        text += &match outcome {
            Outcome::Passed => format!("{case}/>\n"),
            Outcome::Failed { message, text } => {
                let (message, text) = (escaped(message), escaped(text));
                format!("{case}><failure message=\"{message}\">{text}</failure></testcase>\n")
            }
            Outcome::Skipped(why) => format!("{case}><skipped message=\"{}\"/></testcase>\n", escaped(why)),
        };
    }
    text + "</testsuite>\n</testsuites>\n"
}

/// As text or attribute of XML 1.0, which has no controls.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}
