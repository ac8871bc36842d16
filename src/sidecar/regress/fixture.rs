//! A fixture (spec/regress.md): one recorded call in a folder, with all that judging it again takes.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use estoppel_evidence::entry::VerdictAction;
use estoppel_evidence::{Leaf, Root, Sha256, canonical, hash, tree};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arguments::Expect;
use crate::output::{Failure, plain};
use crate::recorded::{self, StoredBodies};
use crate::show::{self, Line};

pub const FORMAT: &str = "estoppel-regress/1";
pub const DOCUMENT: &str = "fixture.json";
pub const RECEIPT: &str = "receipt.json";
pub const CHECKPOINT: &str = "checkpoint";
pub const POLICY: &str = "policy.json";
pub const REQUEST: &str = "request.body";
pub const ANSWER: &str = "answer.body";

/// What `fixture.json` says.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub call: String,
    pub expect: Expected,
    pub format: String,
    pub iss: String,
    pub leaf: Leaf,
    /// Of the leaf in the run's tree, in hexadecimal.
    pub path: Vec<String>,
    pub policy: Sha256,
    pub root: Root,
    pub run: String,
    pub seq: u64,
    pub size: u64,
}

/// What is to come out, and who says so.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub by: By,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub verdict: VerdictAction,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The receipt: verdict and reason.
    Receipt,
    /// The receipt, its verdict alone.
    Verdict,
    /// Whoever made the fixture.
    Author,
}

/// A fixture that is to be written: its files.
pub struct Fixture {
    pub document: Document,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Fixture {
    /// Makes it from a bundle that has been verified.
    pub fn of((path, bundle): (&Path, &show::Opened), which: &str, expect: Expect) -> Result<Self, Failure> {
        let (_, lines) = show::entries(path, bundle)?;
        Self::of_line(bundle, &lines, show::find_call(&lines, which)?, expect)
    }

    pub fn of_line(
        bundle: &show::Opened,
        lines: &[Line],
        line: &Line,
        expect: Expect,
    ) -> Result<Self, Failure> {
        let entry = &line.value;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let [request, answer] = bodies(bundle, entry, expect)?;
        let hash = text(&entry["policy"]["hash"]);
        let policy = recorded::policy_text(bundle, &hash);
        let checkpoint = bundle.read(&estoppel_bundle::BundlePath::checkpoint(), CHECKPOINT_BYTES_MAX);
        let leaves: Vec<[u8; 32]> = lines.iter().map(|line| Leaf::of(line.bytes()).0).collect();
        let seq = entry["seq"].as_u64().and_then(|seq| usize::try_from(seq).ok());
        let path = seq.and_then(|seq| tree::inclusion(&leaves, seq));
        let (Some(policy), Ok(checkpoint), Some(seq), Some(path), Some(digest), Some(expect)) =
            (policy, checkpoint, seq, path, Sha256::parse(&hash), Expected::of(entry, expect))
        else {
            let message = "the policy, the checkpoint, the verdict or the place of the call cannot be read";
            return Err(Failure { exit: 2, ..Failure::runtime("BUNDLE_INVALID", message) });
        };
        let document = Document {
            call: text(&entry["call"]),
            expect,
            format: FORMAT.into(),
            iss: text(&entry["iss"]),
            leaf: Leaf::of(line.bytes()),
            path: path.iter().map(|node| hash::hex(node)).collect(),
            policy: digest,
            root: tree::root(&leaves),
            run: text(&entry["run"]),
            seq: seq as u64, // a length fits
            size: leaves.len() as u64,
        };
        let mut files = vec![
            (DOCUMENT, document.to_bytes()?),
            (RECEIPT, line.bytes().to_vec()),
            (CHECKPOINT, checkpoint),
            (POLICY, policy.into_bytes()),
        ];
        files.extend(request.map(|body| (REQUEST, body)));
        files.extend(answer.map(|body| (ANSWER, body)));
        Ok(Self { document, files })
    }

    /// Writes it as a folder of `into`, whole or not at all. One that is there and says the same is left.
    pub fn write(&self, into: &Path, name: &str) -> Result<PathBuf, Failure> {
        let folder = into.join(name);
        if folder.symlink_metadata().is_ok() {
            return match self.is_in(&folder) {
                true => Ok(folder),
                false => Err(exists(&folder)),
            };
        }
        let aside = into.join(format!(".{name}.{}", std::process::id()));
        let written = fs::create_dir_all(into)
            .and_then(|()| fs::create_dir(&aside))
            .and_then(|()| self.files.iter().try_for_each(|(file, bytes)| put(&aside.join(file), bytes)))
            .and_then(|()| File::open(&aside)?.sync_all())
            .and_then(|()| fs::rename(&aside, &folder))
            .and_then(|()| File::open(into)?.sync_all());
        written.map(|()| folder.clone()).map_err(|error| {
            let _ = fs::remove_dir_all(&aside);
            match error.kind() {
                ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => exists(&folder),
                _ => {
                    let message = format!("cannot write `{}`: {error}", folder.display());
                    Failure::runtime("DISK_FAILED", plain(&message))
                }
            }
        })
    }

    fn is_in(&self, folder: &Path) -> bool {
        let same =
            |(file, bytes): &(&str, Vec<u8>)| fs::read(folder.join(file)).is_ok_and(|found| found == *bytes);
        let count = fs::read_dir(folder).map(Iterator::count);
        count.is_ok_and(|count| count == self.files.len()) && self.files.iter().all(same)
    }
}

impl Document {
    pub fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        let text = serde_json::to_vec(self).ok().and_then(|text| canonical::foreign(&text).ok());
        text.ok_or_else(|| Failure::runtime("INTERNAL", "the fixture has no canonical form"))
    }
}

impl Expected {
    /// None: the receipt has no verdict.
    pub fn of(entry: &Value, expect: Expect) -> Option<Self> {
        let reason = || entry["verdict"]["reason"].as_str().map(ToOwned::to_owned);
        let verdict = || VerdictAction::deserialize(&entry["verdict"]["action"]).ok();
        let stated = |verdict| Self { by: By::Author, reason: None, verdict };
        Some(match expect {
            Expect::Receipt => Self { by: By::Receipt, reason: reason(), verdict: verdict()? },
            Expect::Verdict => Self { by: By::Verdict, reason: None, verdict: verdict()? },
            Expect::Allow => stated(VerdictAction::Allow),
            Expect::Repair => stated(VerdictAction::Repair),
            Expect::Hold => stated(VerdictAction::Hold),
            Expect::Block => stated(VerdictAction::Block),
        })
    }
}

const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;

/// The recorded bytes. Whoever expects what the receipt says has to have all of them.
pub fn bodies(
    stored: &dyn StoredBodies,
    entry: &Value,
    expect: Expect,
) -> Result<[Option<Vec<u8>>; 2], Failure> {
    let is_full = entry["body"]["mode"] == "full";
    let body = |side: &Value, what: &str| {
        let body = side["sha256"].as_str().filter(|_| is_full).and_then(|sha256| stored.under(sha256));
        let has_body = side["bytes"].as_u64().unwrap_or_default() > 0;
        if has_body && body.is_none() && expect == Expect::Receipt {
            let message = format!(
                "the {what} of this call was not stored as it passed, so it cannot be judged again whole"
            );
            return Err(Failure::input("BODY_NOT_STORED", message).hint(
                "--expect verdict judges it by what its receipt says; `body_storage: { full: … }` stores bodies",
            ));
        }
        Ok(body.filter(|_| has_body))
    };
    Ok([body(&entry["request"], "request")?, body(&entry["response"]["upstream"], "answer")?])
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn exists(folder: &Path) -> Failure {
    let message = format!("`{}` is there already, and says something else", folder.display());
    Failure { exit: 8, ..Failure::runtime("OUTPUT_EXISTS", plain(&message)) }
}
