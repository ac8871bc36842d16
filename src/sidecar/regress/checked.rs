//! A fixture that was read and found to be what its bundle had.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use estoppel_bundle::EXTERNAL_BYTES_MIN;
use estoppel_evidence::note::Checkpoint;
use estoppel_evidence::{Leaf, Sha256, canonical, hash, tree};
use estoppel_verify::{Given, verify_checkpoint};
use serde_json::Value;

use super::fixture::{
    ANSWER, By, CHECKPOINT, DOCUMENT, Document, Expected, FORMAT, POLICY, RECEIPT, REQUEST,
};
use crate::arguments::Expect;
use crate::input;
use crate::output::{Failure, plain};
use crate::recorded::{BODY_BYTES_MAX, StoredBodies};

/// Most fixtures of a folder.
const FIXTURES_MAX: usize = 10_000;
/// Most bytes of a file of a fixture that is no body.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A fixture, whose parts fit together.
pub struct Checked {
    pub name: String,
    pub document: Document,
    pub receipt: Value,
    pub policy: String,
    bodies: BTreeMap<String, Vec<u8>>,
}

impl StoredBodies for Checked {
    fn under(&self, sha256: &str) -> Option<Vec<u8>> {
        self.bodies.get(sha256).cloned()
    }
}

/// Where fixtures are read from.
pub trait Fixtures {
    /// How it is called.
    fn at(&self) -> &Path;

    /// What is in it, and whether each is a folder.
    fn entries(&self) -> Result<Vec<(String, bool)>, Failure>;

    fn has(&self, fixture: &str, file: &str) -> bool;

    /// A regular file of a fixture; none where it has more than `bytes_max`.
    fn file(&self, fixture: &str, file: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Failure>;

    /// The fixtures, in order of their names. What begins with `.` is passed over, all else has to be one.
    ///
    /// # Errors
    /// `FIXTURES_MAX`; `FIXTURE_MALFORMED`: something is no folder, or has no name of a fixture.
    fn names(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for (name, is_folder) in self.entries()? {
            if name.starts_with('.') {
                continue;
            }
            let malformed = |why: &str| malformed(&self.at().join(&name), why);
            if !is_folder {
                return Err(malformed("only folders, each a fixture, belong here"));
            }
            names.push(super::name(&name).map_err(|why| malformed(&format!("its name is none: {why}")))?);
            if names.len() > FIXTURES_MAX {
                let message = format!("`{}` has more than {FIXTURES_MAX} fixtures", self.at().display());
                return Err(Failure::input("FIXTURES_MAX", plain(&message)));
            }
        }
        names.sort();
        Ok(names)
    }
}

/// A folder with a folder for each.
pub struct Folder<'a>(pub &'a Path);

impl Fixtures for Folder<'_> {
    fn at(&self) -> &Path {
        self.0
    }

    fn entries(&self) -> Result<Vec<(String, bool)>, Failure> {
        let unreadable = |error| input::unreadable(self.0, &error);
        let named = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            entry.file_type().map(|kind| (name, kind.is_dir()))
        };
        let entries = std::fs::read_dir(self.0).map_err(unreadable)?;
        entries.map(|entry| entry.and_then(named).map_err(unreadable)).collect()
    }

    fn has(&self, fixture: &str, file: &str) -> bool {
        self.0.join(fixture).join(file).symlink_metadata().is_ok()
    }

    fn file(&self, fixture: &str, file: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.0.join(fixture).join(file);
        let unreadable = |error| input::unreadable(&path, &error);
        if input::regular(&path).map_err(unreadable)? > bytes_max {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        Ok(Some(bytes))
    }
}

impl Checked {
    /// Reads a fixture and recomputes all that it says of itself; `trust` says whose checkpoints count.
    ///
    /// # Errors
    /// Exit code 6: it is none. Exit code 2: it is not what the receipt says.
    pub fn read(given: &dyn Fixtures, name: &str, trust: Option<&[u8]>) -> Result<Self, Failure> {
        let at = Place { given, name };
        let text = at.file(DOCUMENT, FILE_BYTES_MAX)?;
        let document: Document =
            serde_json::from_slice(&text).map_err(|error| at.malformed(&error.to_string()))?;
        if document.format != FORMAT {
            return Err(at.malformed(&format!("its format is not `{FORMAT}`")));
        }
        if document.to_bytes()? != text {
            return Err(at.malformed("it is not in canonical form"));
        }
        let line = at.file(RECEIPT, FILE_BYTES_MAX)?;
        let receipt = at.receipt(&document, &line)?;
        at.check_place(&document, trust)?;
        let policy = at.file(POLICY, FILE_BYTES_MAX)?;
        if Sha256::of(&policy) != document.policy || receipt["policy"]["hash"] != document.policy.to_string()
        {
            return Err(at.forged("its policy is not the one that its receipt names"));
        }
        let policy = String::from_utf8(policy).map_err(|_| at.malformed("its policy is not UTF-8"))?;
        at.check_expected(&document.expect, &receipt)?;
        let sides = [(REQUEST, &receipt["request"]), (ANSWER, &receipt["response"]["upstream"])];
        let mut bodies = BTreeMap::new();
        for (file, side) in sides {
            let wanted = document.expect.by == By::Receipt || is_in_bundles(&receipt, side);
            bodies.extend(at.body(file, side, wanted)?);
        }
        Ok(Self { name: name.to_owned(), document, receipt, policy, bodies })
    }
}

/// Whether every bundle of the call holds this body, so that every fixture of it does.
fn is_in_bundles(receipt: &Value, side: &Value) -> bool {
    let bytes = side["bytes"].as_u64().unwrap_or_default();
    receipt["body"]["mode"] == "full"
        && side["sha256"].is_string()
        && bytes < EXTERNAL_BYTES_MIN.min(BODY_BYTES_MAX)
}

fn malformed(path: &Path, why: &str) -> Failure {
    Failure::input("FIXTURE_MALFORMED", plain(&format!("`{}`: {why}", path.display())))
}

/// Where a fixture is.
struct Place<'a> {
    given: &'a dyn Fixtures,
    name: &'a str,
}

impl Place<'_> {
    fn path(&self) -> PathBuf {
        self.given.at().join(self.name)
    }

    fn malformed(&self, why: &str) -> Failure {
        malformed(&self.path(), why)
    }

    fn forged(&self, why: &str) -> Failure {
        let message = plain(&format!("`{}`: {why}", self.path().display()));
        Failure { exit: 2, ..Failure::runtime("FIXTURE_MISMATCH", message) }
    }

    fn file(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let too_large = || self.malformed(&format!("`{name}` has more than {bytes_max} bytes"));
        self.given.file(self.name, name, bytes_max)?.ok_or_else(too_large)
    }

    fn receipt(&self, document: &Document, line: &[u8]) -> Result<Value, Failure> {
        if Leaf::of(line) != document.leaf {
            return Err(self.forged("its receipt does not have the hash that it states"));
        }
        let is_canonical = canonical::foreign(line).is_ok_and(|canonical| canonical == line);
        let receipt: Option<Value> = serde_json::from_slice(line).ok().filter(|_| is_canonical);
        let receipt = receipt.ok_or_else(|| self.malformed("its receipt is not canonical JSON"))?;
        let same = receipt["kind"] == "call"
            && receipt["call"] == document.call
            && receipt["run"] == document.run
            && receipt["iss"] == document.iss
            && receipt["seq"] == document.seq;
        if same { Ok(receipt) } else { Err(self.forged("its receipt is of another call")) }
    }

    /// The receipt's leaf leads to the root that the run's checkpoint signs.
    fn check_place(&self, document: &Document, trust: Option<&[u8]>) -> Result<(), Failure> {
        let note = self.file(CHECKPOINT, FILE_BYTES_MAX)?;
        let text = std::str::from_utf8(&note).ok();
        let checkpoint =
            text.and_then(Checkpoint::parse).ok_or_else(|| self.malformed("it has no checkpoint"))?;
        let origin = format!("{}/run/{}", document.iss, document.run);
        if (checkpoint.size, checkpoint.root) != (document.size, document.root) || checkpoint.origin != origin
        {
            return Err(self.forged("its checkpoint is of another run, or of another tree"));
        }
        let path: Option<Vec<[u8; 32]>> = document.path.iter().map(|node| hash::from_hex(node)).collect();
        let path = path.ok_or_else(|| self.malformed("a hash of its path is none"))?;
        if !tree::includes(document.leaf, document.seq, document.size, &path, document.root) {
            return Err(self.forged("its receipt does not lead to the root of its run"));
        }
        let Some(trust) = trust else { return Ok(()) };
        let report = verify_checkpoint(&note, &origin, Given::Trust(trust));
        let exit = report.exit_code();
        match report.finding {
            None => Ok(()),
            Some(finding) if exit == 6 => Err(Failure::input(finding.reason.code(), plain(&finding.detail))),
            Some(finding) => Err(self.forged(&format!("{}: {}", finding.reason.code(), finding.detail))),
        }
    }

    /// What is expected because the receipt says so is what the receipt says.
    fn check_expected(&self, expect: &Expected, receipt: &Value) -> Result<(), Failure> {
        let said = match expect.by {
            By::Receipt => Expected::of(receipt, Expect::Receipt),
            By::Verdict => Expected::of(receipt, Expect::Verdict),
            By::Author if expect.reason.is_none() => return Ok(()),
            By::Author => return Err(self.malformed("its author cannot expect a reason")),
        };
        if said.as_ref() == Some(expect) {
            Ok(())
        } else {
            Err(self.forged("its receipt says something else than it expects"))
        }
    }

    fn body(&self, file: &str, side: &Value, wanted: bool) -> Result<Option<(String, Vec<u8>)>, Failure> {
        let is_there = self.given.has(self.name, file);
        let has_body = side["bytes"].as_u64().unwrap_or_default() > 0;
        match side["sha256"].as_str().filter(|_| has_body) {
            None if is_there => Err(self.forged(&format!("`{file}` belongs to nothing in its receipt"))),
            Some(_) if !is_there && wanted => Err(self.forged(&format!("`{file}` is missing"))),
            None if has_body && wanted => Err(self.forged(&format!("`{file}` was never stored"))),
            Some(sha256) if is_there => {
                let body = self.file(file, BODY_BYTES_MAX)?;
                match Sha256::of(&body).to_string() == sha256 {
                    true => Ok(Some((sha256.to_owned(), body))),
                    false => {
                        Err(self
                            .forged(&format!("`{file}` does not have the digest that its receipt states")))
                    }
                }
            }
            _ => Ok(None),
        }
    }
}
