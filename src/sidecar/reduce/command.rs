//! A predicate of the user's own: a program that is asked about a set of calls.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use estoppel_evidence::envelope::base64;
use serde_json::{Value, json};

use crate::output::{Failure, plain};
use crate::recorded::StoredBodies;

/// How often a program that runs is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What is asked, and how long an answer may take.
pub struct Asked<'a> {
    pub command: &'a [String],
    pub seconds: u64,
    /// File that the calls are written to.
    pub file: PathBuf,
}

/// One call as the program gets it: a line of JSON.
pub fn line(bodies: &dyn StoredBodies, entry: &Value) -> Value {
    let body = |side: &Value| {
        side["sha256"].as_str().and_then(|sha256| bodies.under(sha256)).map(|body| base64(&body))
    };
    json!({
        "receipt": entry,
        "request": body(&entry["request"]),
        "answer": body(&entry["response"]["upstream"]),
    })
}

impl Asked<'_> {
    /// Whether the program says that these calls have it: exit code 0, or 1 where they have not.
    pub fn holds(&self, lines: &[&Value]) -> Result<bool, Failure> {
        write(&self.file, lines)
            .map_err(|error| failed(&format!("cannot write `{}`: {error}", self.file.display())))?;
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Failure::input("ARGUMENT_INVALID", "--predicate command needs a command after `--`"));
        };
        let mut asked = Command::new(program);
        asked.args(arguments).arg(&self.file).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = asked.spawn().map_err(|error| failed(&format!("`{program}`: {error}")))?;
        let until = Instant::now() + Duration::from_secs(self.seconds);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    return match status.code() {
                        Some(0) => Ok(true),
                        Some(1) => Ok(false),
                        _ => Err(failed(&format!("`{program}` ended with {status}, which says nothing"))),
                    };
                }
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(failed(&format!("`{program}` ran for more than {} s", self.seconds)));
                }
                Err(error) => return Err(failed(&format!("`{program}`: {error}"))),
            }
        }
    }
}

fn write(path: &Path, lines: &[&Value]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
    file.flush()
}

fn failed(message: &str) -> Failure {
    Failure::runtime("PREDICATE_FAILED", plain(message))
}
