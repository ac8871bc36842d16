//! `estoppel pack …`.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::Reason;
use estoppel_gateway::contract_errors;
use estoppel_gateway::offline::BodyContract;
use estoppel_gateway::packs::{Pack, PackError, Packs};
use estoppel_policy::{ContractText, Fixtures, PolicyDocument, file_digest};
use serde_json::{Value, json};

use crate::arguments::{PackCommand, PackFolder};
use crate::contract::{self, Folder, Ran};
use crate::output::{Colour, Failure, Output, plain};

const FIXTURES: &str = "fixtures";
const GOLDENS: &str = "goldens";

pub fn run(output: &Output, command: &PackCommand) -> Result<ExitCode, Failure> {
    match command {
        PackCommand::Lint(folder) => {
            let checked = Checked::new(*output, folder)?;
            let problems = checked.named(*output)?;
            if !problems.is_empty() {
                return Err(several(*output, &folder.dir, &problems));
            }
            let manifest = &checked.pack()?.manifest;
            let (name, version) = (&manifest.name, &manifest.version);
            output.line(&plain(&format!("{}: ok, {name} {version}", folder.dir.display())));
            Ok(output.data(&json!({ "name": name, "version": version, "fixtures": checked.fixtures.len() })))
        }
        PackCommand::Test { pack, update } => test(*output, pack, *update),
        PackCommand::Digest { dir } => digest(*output, dir),
    }
}

fn open(dir: &Path) -> Result<Pack, Failure> {
    Pack::open(dir).map_err(|error| match error {
        PackError::Unreadable { ref path, .. } if *path == dir.display().to_string() => {
            contract::unreadable(error)
        }
        PackError::Unreadable { .. } => {
            let message = plain(&format!("`{}`: {error}", dir.display()));
            Failure::reason(Reason::FileUnreadable, message)
        }
        error => invalid(dir, &[error.to_string()]),
    })
}

fn invalid(dir: &Path, problems: &[String]) -> Failure {
    let message = match problems {
        [one] => format!("`{}`: {one}", dir.display()),
        several => format!("`{}` has {} errors", dir.display(), several.len()),
    };
    Failure { data: Some(json!({ "errors": problems })), ..Failure::input("PACK_INVALID", message) }
}

/// The same; of several each is noted.
fn several(output: Output, dir: &Path, problems: &[String]) -> Failure {
    if problems.len() > 1 {
        problems.iter().for_each(|problem| output.note(&format!("{}: {problem}", dir.display())));
    }
    invalid(dir, problems)
}

/// A pack with nothing wrong in it.
struct Checked {
    name: String,
    packs: Packs,
    /// Names in the folder of fixtures, without their endings.
    fixtures: Vec<(String, Fixtures)>,
}

impl Checked {
    fn new(output: Output, folder: &PackFolder) -> Result<Self, Failure> {
        let pack = open(&folder.dir)?;
        let name = pack.manifest.name.clone();
        let packs = Packs::at(folder.packs.as_deref()).with(pack);
        let mut checked = Self { name, packs, fixtures: Vec::new() };
        let mut problems = Vec::new();
        let pack = checked.pack()?;
        contracts(pack, &mut problems);
        policies(pack, &checked.packs, &mut problems);
        let fixtures = fixtures(pack, &mut problems);
        checked.fixtures = fixtures;
        if problems.is_empty() { Ok(checked) } else { Err(several(output, &folder.dir, &problems)) }
    }

    /// What is wrong with what the fixtures name, each thing once.
    fn named(&self, output: Output) -> Result<Vec<String>, Failure> {
        let mut problems = Vec::new();
        for (stem, fixtures) in &self.fixtures {
            for error in contract::unready(output, &self.folder()?, fixtures) {
                let problem = format!("`{FIXTURES}/{stem}`: {}", error.message);
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        Ok(problems)
    }

    fn folder(&self) -> Result<Folder<'_>, Failure> {
        Ok(Folder::Pack { pack: self.pack()?, path: FIXTURES, packs: &self.packs })
    }

    fn pack(&self) -> Result<&Pack, Failure> {
        let lost = || Failure::runtime("INTERNAL", "the pack that was opened is not at hand");
        self.packs.own(&self.name).ok_or_else(lost)
    }
}

fn said<E: Display>(file: &str, errors: impl IntoIterator<Item = E>) -> impl Iterator<Item = String> {
    errors.into_iter().map(move |error| format!("`{file}`: {error}"))
}

fn contracts(pack: &Pack, problems: &mut Vec<String>) {
    for (name, file) in &pack.manifest.contracts {
        match contract_of(pack, name) {
            Ok(compiled) => problems.extend(said(file, compiled.err().unwrap_or_default())),
            Err(error) => problems.push(error.to_string()),
        }
    }
}

type Compiled = Result<BodyContract, Vec<String>>;

fn contract_of(pack: &Pack, name: &str) -> Result<Compiled, PackError> {
    let found = pack.contract(name)?;
    let text = String::from_utf8(found.bytes).map_err(|_| PackError::NotText { path: found.file })?;
    let compiled = BodyContract::compile(name, &ContractText { kind: found.kind, text });
    Ok(compiled.map_err(|errors| errors.into_iter().map(|error| error.problem).collect()))
}

fn policies(pack: &Pack, packs: &Packs, problems: &mut Vec<String>) {
    for file in &pack.manifest.policies {
        let text = match pack.text(file) {
            Ok(text) => text,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        let read = PolicyDocument::parse(&text)
            .and_then(|mut policy| packs.provide(&mut policy).map(|()| policy.compile()));
        match read {
            Ok(policy) => problems.extend(said(file, contract_errors(&policy))),
            Err(errors) => problems.extend(said(file, errors)),
        }
    }
}

fn fixtures(pack: &Pack, problems: &mut Vec<String>) -> Vec<(String, Fixtures)> {
    let names = match pack.list(FIXTURES) {
        Ok(names) => names,
        Err(error) => {
            problems.push(error.to_string());
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for name in names {
        let Some(stem) = [".fixtures.yaml", ".fixtures.json"].iter().find_map(|end| name.strip_suffix(end))
        else {
            continue; // a body that one of them names
        };
        let file = format!("{FIXTURES}/{name}");
        match pack.text(&file).map(|text| Fixtures::parse(&text)) {
            Ok(Ok(fixtures)) if read.iter().any(|(known, _)| known == stem) => {
                drop(fixtures);
                problems.push(format!(
                    "`{file}`: another file of fixtures has the golden `{GOLDENS}/{stem}.json`"
                ));
            }
            Ok(Ok(fixtures)) => read.push((stem.to_owned(), fixtures)),
            Ok(Err(errors)) => problems.extend(said(&file, errors)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if read.is_empty() && problems.is_empty() {
        problems.push(format!("`{FIXTURES}` has no file that ends with .fixtures.yaml or .fixtures.json"));
    }
    read
}

/// Exit code 5 when a case comes out otherwise than its fixtures or its golden say.
fn test(output: Output, folder: &PackFolder, update: bool) -> Result<ExitCode, Failure> {
    let checked = Checked::new(output, folder)?;
    let pack = checked.pack()?;
    let (mut passed, mut wrong, mut rows) = (0, Vec::new(), Vec::new());
    let mut goldens = Vec::new();
    for (stem, fixtures) in &checked.fixtures {
        output.line(&plain(&format!("{FIXTURES}/{stem}")));
        let ran = contract::run_all(output, &checked.folder()?, fixtures)?;
        let failed = ran.iter().filter(|ran| !ran.problems.is_empty()).count();
        passed += ran.len() - failed;
        if failed > 0 {
            wrong.push(format!("{FIXTURES}/{stem}: {failed} of {} cases failed", ran.len()));
        }
        let file = format!("{stem}.json");
        let golden = golden(&ran);
        let kept = pack.read(&format!("{GOLDENS}/{file}"));
        let is_same = kept.as_ref().is_ok_and(|kept| kept == golden.as_bytes());
        let otherwise = |what: &str| format!("{GOLDENS}/{file} {what}; --update writes what came out");
        match kept {
            Ok(_) if !is_same && !update => wrong.push(otherwise("says otherwise")),
            Ok(_) => {}
            Err(PackError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                wrong.extend((!update).then(|| otherwise("is not there")));
            }
            Err(error) => wrong.push(error.to_string()),
        }
        rows.push(json!({ "fixtures": stem, "cases": ran.len(), "failed": failed, "golden": is_same }));
        goldens.push((file, golden));
    }
    let listed = pack.list(GOLDENS).map_err(contract::unreadable)?;
    let left = listed.iter().filter(|name| !goldens.iter().any(|(file, _)| file == *name));
    wrong.extend(left.map(|name| format!("{GOLDENS}/{name} belongs to no file of fixtures")));
    if update && wrong.is_empty() {
        goldens.iter().try_for_each(|(file, text)| write(&folder.dir.join(GOLDENS), file, text))?;
    }
    wrong.iter().for_each(|problem| output.line(&output.paint(Colour::Red, &plain(problem))));
    output.line(&format!("{passed} passed, {} wrong", wrong.len()));
    let data = json!({ "name": checked.name, "files": rows, "passed": passed, "problems": wrong });
    Ok(output.answer(&data, if wrong.is_empty() { 0 } else { 5 }))
}

fn golden(ran: &[Ran]) -> String {
    let cases: Vec<Value> = ran.iter().map(Ran::golden).collect();
    format!("{:#}\n", json!({ "cases": cases }))
}

/// A reader sees a golden whole or not at all.
fn write(folder: &Path, file: &str, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::runtime("DISK_FAILED", plain(&format!("`{}`: {error}", folder.join(file).display())))
    };
    let is_link = std::fs::symlink_metadata(folder).is_ok_and(|found| found.is_symlink());
    if is_link {
        return Err(Failure::input("PACK_INVALID", plain(&format!("`{}` is a link", folder.display()))));
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut temporary = tempfile(folder, file).map_err(failed)?;
    io::Write::write_all(&mut temporary.1, text.as_bytes())
        .and_then(|()| temporary.1.sync_all())
        .and_then(|()| std::fs::rename(&temporary.0, folder.join(file)))
        .map_err(|error| {
            let _ = std::fs::remove_file(&temporary.0);
            failed(error)
        })
}

/// A new file beside the one that it will replace.
fn tempfile(folder: &Path, file: &str) -> io::Result<(std::path::PathBuf, std::fs::File)> {
    let path = folder.join(format!(".{file}.{}", std::process::id()));
    let opened = std::fs::File::create_new(&path)?;
    Ok((path, opened))
}

fn digest(output: Output, dir: &Path) -> Result<ExitCode, Failure> {
    let pack = open(dir)?;
    let manifest = &pack.manifest;
    let (mut lines, mut rows) = (vec!["contracts:".to_owned()], serde_json::Map::new());
    for name in manifest.contracts.keys() {
        let found = pack.contract(name).map_err(|error| invalid(dir, &[error.to_string()]))?;
        let sha256 = file_digest(&found.bytes);
        let pack = &manifest.name;
        lines.push(format!(
            "  \"{name}\": {{ pack: \"{pack}\", contract: \"{name}\", sha256: \"{sha256}\" }}"
        ));
        rows.insert(
            name.clone(),
            json!({ "file": found.file, "kind": found.kind.as_str(), "sha256": sha256 }),
        );
    }
    lines.iter().for_each(|line| output.line(line));
    Ok(output.data(&json!({ "name": manifest.name, "version": manifest.version, "contracts": rows })))
}
