//! `estoppel contract …`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_evidence::Reason;
use estoppel_gateway::language;
use estoppel_gateway::offline::{BodyContract, Setting};
use estoppel_gateway::packs::{Pack, PackError, Packs};
use estoppel_policy::{
    BodyFormat, ContractKind, ContractText, Fixture, FixtureSubject, Fixtures, Policy, Source,
};
use estoppel_wire::contract::Format;
use estoppel_wire::dialect::Framing;
use serde_json::{Value, json};

use crate::arguments::{ContractCommand, Language};
use crate::output::{Colour, Failure, Output, plain};
use crate::trial::{Against, Outcome, Trial, contract_failure};
use crate::{input, judge, policy};

pub fn run(output: &Output, command: &ContractCommand) -> Result<ExitCode, Failure> {
    match command {
        ContractCommand::Lint { file, kind, tool } => {
            lint(*output, file, kind.map(Into::into), tool.as_deref())
        }
        ContractCommand::Test { files, packs } => test(*output, files, &Packs::at(packs.as_deref())),
    }
}

impl From<Language> for ContractKind {
    fn from(language: Language) -> Self {
        match language {
            Language::Json => Self::Json,
            Language::Csv => Self::Csv,
        }
    }
}

fn lint(
    output: Output,
    file: &Path,
    kind: Option<ContractKind>,
    tool: Option<&str>,
) -> Result<ExitCode, Failure> {
    let text = input::text(file)?;
    let kind = kind.unwrap_or_else(|| language(&text));
    let contract = BodyContract::compile("", &ContractText { kind, text }).map_err(|errors| {
        let row = |problem: &str| output.note(&format!("{}: {problem}", file.display()));
        errors.iter().for_each(|error| row(&error.problem));
        contract_failure(file, &errors)
    })?;
    let digest = contract.digest().to_string();
    output.line(&plain(&format!("{}: ok, {} {digest}", file.display(), kind.as_str())));
    let of_values = |tool| contract.digest_of_values(tool).map(|digest| digest.to_string());
    let (of_text, of_tool) = (of_values(None), tool.and_then(|tool| of_values(Some(tool))));
    for (place, digest) in [("an answer's text", &of_text), ("calls of the tool", &of_tool)] {
        if let Some(digest) = digest {
            output.line(&format!("  {digest} where receipts name it for {place}"));
        }
    }
    Ok(output.data(&json!({
        "kind": kind.as_str(), "digest": digest, "digest_of_text": of_text, "digest_of_tool": of_tool,
    })))
}

/// Exit code 5 when a case comes out otherwise.
fn test(output: Output, files: &[PathBuf], packs: &Packs) -> Result<ExitCode, Failure> {
    let (mut passed, mut failed, mut rows) = (0, 0, Vec::new());
    for file in files {
        let fixtures = read(output, file, &input::text(file)?)?;
        let folder = Folder::Disk { path: file.parent().unwrap_or(Path::new("")), packs };
        output.line(&plain(&file.display().to_string()));
        let ran = run_all(output, &folder, &fixtures)?;
        let wrong = ran.iter().filter(|ran| !ran.problems.is_empty()).count();
        passed += ran.len() - wrong;
        failed += wrong;
        let cases: Vec<Value> = ran.iter().map(Ran::data).collect();
        rows.push(json!({ "file": file.display().to_string(), "cases": cases }));
    }
    output.line(&format!("{passed} passed, {failed} failed"));
    let data = json!({ "files": rows, "passed": passed, "failed": failed });
    Ok(output.answer(&data, if failed == 0 { 0 } else { 5 }))
}

/// Runs every case of a file of fixtures, and prints what came of it.
pub fn run_all(output: Output, folder: &Folder<'_>, fixtures: &Fixtures) -> Result<Vec<Ran>, Failure> {
    let mut all = Vec::new();
    for fixture in &fixtures.cases {
        let ran = Ran::new(output, folder, fixtures, fixture)?;
        ran.print(output);
        all.push(ran);
    }
    Ok(all)
}

/// What keeps cases of a file of fixtures from being run.
pub fn unready(output: Output, folder: &Folder<'_>, fixtures: &Fixtures) -> Vec<Failure> {
    let ready = |fixture: &Fixture| {
        trial(output, folder, fixtures, fixture)?;
        bytes(folder, &fixture.body)?;
        fixture.out.as_ref().map(|source| bytes(folder, source)).transpose().map(drop)
    };
    fixtures.cases.iter().filter_map(|fixture| ready(fixture).err()).collect()
}

/// Where a file of fixtures lies, and where the packs are that its policies name.
pub enum Folder<'f> {
    Disk {
        path: &'f Path,
        packs: &'f Packs,
    },
    /// A folder of this pack, which nothing leads out of.
    Pack {
        pack: &'f Pack,
        path: &'f str,
        packs: &'f Packs,
    },
}

impl Folder<'_> {
    fn bytes(&self, file: &str) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Disk { path, .. } => input::file(&path.join(file)),
            Self::Pack { pack, path, .. } => pack.read(&format!("{path}/{file}")).map_err(unreadable),
        }
    }

    fn text(&self, file: &str) -> Result<String, Failure> {
        match self {
            Self::Disk { path, .. } => input::text(&path.join(file)),
            Self::Pack { pack, path, .. } => pack.text(&format!("{path}/{file}")).map_err(unreadable),
        }
    }

    fn policy(&self, output: Output, file: &str) -> Result<Policy, Failure> {
        let (Self::Disk { packs, .. } | Self::Pack { packs, .. }) = self;
        policy::parsed(output, Path::new(file), &self.text(file)?, packs).map(|document| document.compile())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
pub fn unreadable(error: PackError) -> Failure {
    Failure::reason(Reason::FileUnreadable, plain(&error.to_string()))
}

pub fn read(output: Output, file: &Path, text: &str) -> Result<Fixtures, Failure> {
    Fixtures::parse(text).map_err(|errors| {
        errors.iter().for_each(|error| output.note(&format!("{}: {error}", file.display())));
        Failure {
            data: Some(json!({ "errors": errors.iter().map(policy::row).collect::<Vec<_>>() })),
            ..Failure::input("FIXTURES_INVALID", format!("`{}` cannot be read", file.display()))
        }
    })
}

/// What a case came to, judged whole.
pub struct Ran {
    name: String,
    outcome: Outcome,
    out: Vec<u8>,
    /// How it came out otherwise, whole or byte by byte. Empty: it did not.
    pub problems: Vec<String>,
}

impl Ran {
    fn new(
        output: Output,
        folder: &Folder<'_>,
        fixtures: &Fixtures,
        fixture: &Fixture,
    ) -> Result<Self, Failure> {
        let trial = trial(output, folder, fixtures, fixture)?;
        let body = bytes(folder, &fixture.body)?;
        let expected = fixture.out.as_ref().map(|source| bytes(folder, source)).transpose()?;
        let judged = |chunk: usize| -> Result<(Outcome, Vec<u8>, Vec<String>), Failure> {
            let mut out = Vec::new();
            let keep = &mut |piece: &[u8]| {
                out.extend_from_slice(piece);
                Ok(())
            };
            let outcome = trial.run(&mut body.as_slice(), chunk, keep);
            let outcome = outcome.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
            let problems = problems(fixture, &outcome, expected.as_deref(), &out);
            Ok((outcome, out, problems))
        };
        let (outcome, out, mut problems) = judged(body.len().max(1))?;
        let in_bytes = judged(1)?.2;
        if in_bytes != problems {
            problems.extend(in_bytes.iter().map(|problem| format!("byte by byte: {problem}")));
            if in_bytes.is_empty() {
                problems.push("byte by byte: it comes out as expected".into());
            }
        }
        Ok(Self { name: fixture.name.clone(), outcome, out, problems })
    }

    fn print(&self, output: Output) {
        let (colour, word) =
            if self.problems.is_empty() { (Colour::Green, "ok  ") } else { (Colour::Red, "FAIL") };
        let found = self.outcome.found().map(|found| format!(" {}", found.reason.code())).unwrap_or_default();
        let place = self.outcome.place().map(|place| format!(", {place}")).unwrap_or_default();
        let got = format!("{}{found}{place}", self.outcome.verdict());
        output.line(&format!("  {} {}: {}", output.paint(colour, word), plain(&self.name), plain(&got)));
        self.problems.iter().for_each(|problem| output.line(&plain(&format!("       {problem}"))));
    }

    fn data(&self) -> Value {
        json!({
            "name": self.name,
            "ok": self.problems.is_empty(),
            "problems": self.problems,
            "got": self.outcome.data(),
        })
    }

    /// What came of it, but for what another machine or another wording would say otherwise.
    pub fn golden(&self) -> Value {
        let mut got = self.outcome.data();
        let mut kept = |key: &str| got[key].take();
        let out = match std::str::from_utf8(&self.out) {
            Ok(text) => json!(text),
            Err(_) => json!({ "sha256": estoppel_policy::file_digest(&self.out) }),
        };
        json!({
            "edits": kept("edits"),
            "lossy": kept("lossy"),
            "name": self.name,
            "out": out,
            "place": kept("place"),
            "reason": kept("reason"),
            "units": kept("units"),
            "verdict": kept("verdict"),
        })
    }
}

fn trial(
    output: Output,
    folder: &Folder<'_>,
    fixtures: &Fixtures,
    fixture: &Fixture,
) -> Result<Trial, Failure> {
    let compiled = |file: &str| folder.policy(output, file);
    let mut setting = Setting::default();
    let against = match &fixtures.subject {
        FixtureSubject::Contract(text) => {
            let contract = BodyContract::compile("", text)
                .map_err(|errors| contract_failure(Path::new(&fixture.name), &errors))?;
            in_format(contract, fixtures, fixture)
        }
        FixtureSubject::File(file) => {
            let as_csv = fixtures.format == Some(BodyFormat::Csv);
            let kind = as_csv.then_some(ContractKind::Csv);
            in_format(judge::of_text(Path::new(file), folder.text(file)?, kind)?, fixtures, fixture)
        }
        FixtureSubject::Named { policy, contract } => {
            let compiled = compiled(policy)?;
            setting = Setting::of_policy(&compiled);
            let contract = judge::named(&compiled, Path::new(policy), contract)?;
            in_format(contract, fixtures, fixture)
        }
        FixtureSubject::Answers { dialect, request, route } => {
            if let Some((policy, route)) = route {
                setting = judge::setting(&compiled(policy)?, Path::new(policy), route)?;
            }
            let dialect = judge::dialect(dialect).ok_or_else(|| {
                let message = format!("`{dialect}` is no dialect of a model's answers");
                Failure::input("FIXTURES_INVALID", message)
            })?;
            let request = request.as_ref().map(|request| bytes(folder, request)).transpose()?;
            Against::Request { dialect, framing: framing(fixtures.format)?, request: request.map(Into::into) }
        }
    };
    if let Some(repair) = &fixtures.repair {
        setting = setting.with_repair(repair.clone());
    }
    Ok(Trial { setting, against })
}

fn framing(format: Option<BodyFormat>) -> Result<Option<Framing>, Failure> {
    match format {
        None => Ok(None),
        Some(BodyFormat::Json) => Ok(Some(Framing::Json)),
        Some(BodyFormat::Sse) => Ok(Some(Framing::Sse)),
        Some(BodyFormat::Ndjson | BodyFormat::Csv) => {
            Err(Failure::input("FIXTURES_INVALID", "a model's answer is `json` or `sse`"))
        }
    }
}

fn in_format(contract: BodyContract, fixtures: &Fixtures, fixture: &Fixture) -> Against {
    let of_name = || match &fixture.body {
        Source::File(file) => judge::written(Path::new(file)).map(Format::from),
        Source::Text(_) => None,
    };
    let stated = fixtures.format.map(|format| match format {
        BodyFormat::Json => Format::Json,
        BodyFormat::Ndjson => Format::Lines,
        BodyFormat::Sse => Format::Events,
        BodyFormat::Csv => Format::Csv,
    });
    let usual = if contract.is_csv() { Format::Csv } else { Format::Json };
    let format = stated.or_else(of_name).unwrap_or(usual);
    Against::Contract { contract, format }
}

fn bytes(folder: &Folder<'_>, source: &Source) -> Result<Vec<u8>, Failure> {
    match source {
        Source::Text(text) => Ok(text.as_bytes().to_vec()),
        Source::File(file) => folder.bytes(file),
    }
}

/// How a body came out otherwise than expected.
fn problems(fixture: &Fixture, outcome: &Outcome, expected: Option<&[u8]>, out: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut differ = |what: &str, wanted: &str, got: Option<&str>| {
        problems.push(format!("{what}: expected `{wanted}`, got `{}`", got.unwrap_or("nothing")));
    };
    if outcome.verdict() != fixture.expect.as_str() {
        differ("verdict", fixture.expect.as_str(), Some(outcome.verdict()));
    }
    let reason = outcome.found().map(|found| found.reason.code());
    if let Some(wanted) = fixture.reason.as_deref().filter(|wanted| Some(*wanted) != reason) {
        differ("reason", wanted, reason);
    }
    let place = outcome.place().map(ToString::to_string);
    if let Some(wanted) = fixture.place.as_deref()
        && !place.as_deref().is_some_and(|place| begins(place, wanted))
    {
        differ("place", wanted, place.as_deref());
    }
    if let Some(wanted) = expected.filter(|wanted| *wanted != out) {
        differ("out", &String::from_utf8_lossy(wanted), Some(&String::from_utf8_lossy(out)));
    }
    problems
}

/// Whether `place` is `beginning`, or that and something more exact.
fn begins(place: &str, beginning: &str) -> bool {
    place.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
}
