//! `estoppel custody …`: who had a bundle in hand.

mod record;

use std::path::Path;
use std::process::ExitCode;

use estoppel_archive::custody::{Described, is_deletion, list_path};
use estoppel_archive::{Action, Custodian, CustodyError, CustodySettings, Disclosed, Done};
use estoppel_evidence::{Reason, Sha256};
use estoppel_verify::{
    CUSTODY_BYTES_MAX, CustodyEntry, CustodyFault, CustodyOf, Hash, PublicKey, verify_custody,
};
use serde_json::{Value, json};

use crate::arguments::{CustodyAction, CustodyAdd, CustodyCommand, CustodyVerify, Disclosure};
use crate::output::{Colour, Failure, Output, plain};
use crate::{input, show, verify};

pub use record::{
    add as record, another, custodian, demand, done, giver, settings, told, unrecorded, verdicts,
};

pub fn run(output: &Output, command: &CustodyCommand) -> Result<ExitCode, Failure> {
    match command {
        CustodyCommand::Add(asked) => add(*output, asked),
        CustodyCommand::Show { bundle } => judge(*output, bundle, &[], &[]),
        CustodyCommand::Verify(CustodyVerify { bundle, signer, head }) => {
            judge(*output, bundle, signer, head)
        }
    }
}

fn failure(error: &CustodyError) -> Failure {
    let why = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let message = plain(&format!("{error}{why}"));
    Failure { exit: error.exit_code(), ..Failure::runtime(error.code(), message) }
}

fn add(output: Output, asked: &CustodyAdd) -> Result<ExitCode, Failure> {
    let by = CustodySettings { key: asked.key.clone(), actor: asked.actor.clone() };
    let by = Custodian::load(&by).map_err(|error| failure(&error))?;
    let said = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let (from, to) = (said(&asked.from), said(&asked.to));
    let (report, given);
    let (mut refused, mut sha256) = (None, None);
    let action = match asked.action {
        CustodyAction::Moved => Action::Moved { from: &from, to: &to },
        CustodyAction::Disclosed => {
            given = asked.file.as_deref().map(|file| disclosed_file(asked, file)).transpose()?;
            Action::Disclosed { to: &to, what: disclosed(asked.what), sha256: given }
        }
        CustodyAction::Verified => {
            let bytes = input::evidence(&asked.bundle)?;
            sha256 = Some(Sha256::of(&bytes));
            report = verify::judged_bytes((&asked.bundle, &bytes), asked.trust.as_deref())?;
            refused = report.finding.as_ref();
            if let Some(finding) = refused.filter(|_| report.exit_code() == 6) {
                return Err(Failure::input(finding.reason.code(), plain(&finding.detail)));
            }
            Action::Verified(verdicts(&report))
        }
    };
    let done = Done { note: asked.note.as_deref(), sha256, ..done(action) };
    let added = record(&asked.bundle, &by, &done).map_err(|error| failure(&error))?;
    let list = list_path(&asked.bundle).display().to_string();
    output.line(&plain(&format!("added to    {list}")));
    output.line(&format!("head        {}", added.head));
    let data = json!({ "list": list, "head": added.head });
    match (refused, added.found) {
        (None, None) => Ok(output.data(&data)),
        (None, Some(found)) => Err(another(found, data)),
        (Some(finding), _) => {
            let message = format!("what was added says that the bundle does not verify: {}", finding.detail);
            let failure = Failure::runtime(finding.reason.code(), plain(&message));
            Err(Failure { exit: finding.reason.exit_code(), data: Some(data), ..failure })
        }
    }
}

/// The digest of what was given away: a disclosed key has to be of this run, and of the scope that is said.
fn disclosed_file(asked: &CustodyAdd, file: &Path) -> Result<Sha256, Failure> {
    let bytes = input::file(file)?;
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if document["v"] == "pef-disclosure/v0" {
        let other = |of: &str| {
            let message = format!("`{}` is the key of {of}", file.display());
            Failure::reason(Reason::KeyInvalid, plain(&message))
        };
        let run = show::open(&asked.bundle).ok().map(|bundle| bundle.manifest().run.to_string());
        if run.is_some_and(|run| document["run"] != run) {
            return Err(other("another run"));
        }
        let scope = document["scope"].as_str().unwrap_or_default();
        if json!(disclosed(asked.what)) != scope {
            return Err(other(&format!("the scope `{scope}`, which --what has to say")));
        }
    }
    Ok(Sha256::of(&bytes))
}

fn disclosed(what: Disclosure) -> Disclosed {
    match what {
        Disclosure::Bundle => Disclosed::Bundle,
        Disclosure::Run => Disclosed::Run,
        Disclosure::Call => Disclosed::Call,
        Disclosure::Events => Disclosed::Events,
    }
}

fn judge(
    output: Output,
    bundle: &Path,
    signers: &[std::path::PathBuf],
    heads: &[String],
) -> Result<ExitCode, Failure> {
    let signers = signers.iter().map(|path| signer(path)).collect::<Result<Vec<_>, _>>()?;
    let heads = heads.iter().map(|text| head(text)).collect::<Result<Vec<_>, _>>()?;
    let path = list_path(bundle);
    let list = input::limited(&path, CUSTODY_BYTES_MAX)?;
    let described = match Described::of(bundle) {
        Ok(described) => Some(described),
        // What its list says then is all there is.
        Err(error) if error.is_absent() && has_closing(&list) => None,
        Err(error) => return Err(failure(&error)),
    };
    let archived = archived(&path)?;
    let of = CustodyOf {
        signers: &signers,
        bundle: described.as_ref().map(|of| (Hash(of.sha256.0), of.manifest.as_slice())),
        heads: &heads,
        archived: &archived,
    };
    match verify_custody(&list, &of) {
        Ok(entries) => {
            if described.is_none() {
                let name = plain(&bundle.display().to_string());
                output.line(
                    &output.paint(
                        Colour::Yellow,
                        &format!("deleted     {name}: its list was not held against it"),
                    ),
                );
            }
            Ok(shown(output, &path, &entries, !signers.is_empty(), archived.len()))
        }
        Err(fault) => Err(refused(&fault)),
    }
}

/// Whether a list says that its bundle was deleted.
fn has_closing(list: &[u8]) -> bool {
    let entries = verify_custody(list, &CustodyOf::default()).unwrap_or_default();
    entries.iter().any(|entry| is_deletion(entry, None))
}

/// The same of the list in a file; one that does not hold is not closed.
pub fn is_closed(list: &Path) -> bool {
    input::limited(list, CUSTODY_BYTES_MAX).is_ok_and(|list| has_closing(&list))
}

fn refused(fault: &CustodyFault) -> Failure {
    let message = format!("{}: {fault}", fault.reason.meaning());
    Failure {
        exit: fault.reason.exit_code(),
        data: Some(json!({ "entry": fault.entry })),
        ..Failure::runtime(fault.reason.code(), plain(&message))
    }
}

fn signer(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::of_spki(&verify::spki(path)?)
        .ok_or_else(|| Failure::input("KEY_INVALID", "--signer: neither an Ed25519 nor a P-256 key"))
}

fn head(text: &str) -> Result<Hash, Failure> {
    estoppel_evidence::Leaf::parse(text).map(|leaf| Hash(leaf.0)).ok_or_else(|| {
        Failure::input(
            "ARGUMENT_INVALID",
            plain(&format!("`{text}` is no entry hash, as leaf:<64 hex digits> is")),
        )
    })
}

/// What the index beside the bundle says of the list.
fn archived(list: &Path) -> Result<Vec<(u64, Hash)>, Failure> {
    let folder = list.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = list.file_name().unwrap_or_default().to_string_lossy();
    let entries =
        estoppel_archive::read_entries(folder).map_err(|error| crate::archive::failure(&error))?.into_iter();
    let of_list = entries.filter(|entry| entry.kind == "custody" && entry.name == name);
    Ok(of_list.filter_map(|entry| Some((entry.at.bytes, Hash(Sha256::parse(&entry.at.sha256)?.0)))).collect())
}

fn shown(output: Output, path: &Path, entries: &[CustodyEntry], trusted: bool, archived: usize) -> ExitCode {
    let standing = if trusted { "trusted" } else { "self_asserted" };
    output.line(&plain(&format!("list        {}", path.display())));
    let mut rows = Vec::new();
    for entry in entries {
        let statement: Value = serde_json::from_slice(&entry.statement).unwrap_or_default();
        let said = &statement["predicate"];
        let action = said["action"].as_str().unwrap_or("-");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let note = said["note"].as_str().map(|note| format!(" ({note})")).unwrap_or_default();
        let line = format!(
            "{:<11} {} by {}{}{note}",
            action,
            text(&said["ts"]),
            text(&said["actor"]),
            brief(&said[action])
        );
        output.line(&plain(&line));
        rows.push(
            json!({ "entry": said, "key": entry.key.hex(), "leaf": format!("leaf:{}", entry.leaf.hex()) }),
        );
    }
    let head = entries.last().map(|last| format!("leaf:{}", last.leaf.hex()));
    output.line(&format!("head        {}", head.as_deref().unwrap_or("-")));
    let colour = if trusted { Colour::Green } else { Colour::Yellow };
    output.line(&format!("signers     {}", output.paint(colour, standing)));
    let anchored = if archived > 0 { "begins with what is archived" } else { "not held against an archive" };
    output.line(&format!("archive     {anchored}"));
    output.data(&json!({ "entries": rows, "head": head, "signers": standing, "archived": archived }))
}

/// The facts of an action, on one line.
fn brief(facts: &Value) -> String {
    let facts = facts.as_object().into_iter().flatten();
    let words: Vec<String> = facts
        .map(|(name, value)| {
            format!("{name} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}
