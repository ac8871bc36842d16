//! `estoppel judge`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use estoppel_evidence::Reason;
use estoppel_gateway::language;
use estoppel_gateway::offline::{BodyContract, Setting};
use estoppel_gateway::packs::Packs;
use estoppel_policy::{ContractKind, ContractText, Policy, Release, Repair, RepairClass};
use estoppel_wire::contract::Format;
use estoppel_wire::dialect::{Dialect, Framing};
use serde_json::{Value, json};

use crate::arguments::{Judge, ModelDialect, ReleaseMode, Written};
use crate::output::{Colour, Failure, Output, plain};
use crate::trial::{Against, Outcome, Trial, contract_failure};
use crate::{input, policy};

/// Exit code 3 when it is refused.
pub fn run(output: &Output, judge: &Judge) -> Result<ExitCode, Failure> {
    let trial = trial(*output, judge)?;
    let mut from: Box<dyn Read> = match judge.file.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(&judge.file).map_err(|error| input::unreadable(&judge.file, &error))?),
    };
    let mut to = judge.out.as_deref().map(create).transpose()?;
    let started = Instant::now();
    let mut written = Ok(());
    let outcome = trial.run(&mut from, judge.chunk as usize, &mut |piece| {
        written = to.as_mut().map_or(Ok(()), |file| file.write_all(piece));
        written.as_ref().map(drop).map_err(|error| error.kind().into())
    });
    let total = started.elapsed();
    let named = |error: &io::Error| match &judge.out {
        Some(path) if written.is_err() => {
            Failure::runtime("DISK_FAILED", format!("`{}`: {error}", path.display()))
        }
        _ => input::unreadable(&judge.file, error),
    };
    let outcome = outcome.map_err(|error| named(&error))?;
    print(*output, judge, &outcome, total);
    let mut data = outcome.data();
    data["release"] = trial.setting.release().as_str().into();
    data["total_ms"] = millis(total);
    data["judging_ms"] = millis(outcome.time);
    data["mb_per_s"] = rate(&outcome).map_or(Value::Null, |rate| json!(rate));
    Ok(output.answer(&data, if outcome.refusal.is_some() { 3 } else { 0 }))
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create_new(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::reason(Reason::OutputExists, format!("`{}` exists already", path.display()))
        }
        _ => Failure::runtime("DISK_FAILED", format!("`{}`: {error}", path.display())),
    })
}

fn trial(output: Output, judge: &Judge) -> Result<Trial, Failure> {
    let policy = judge.policy.as_deref();
    let packs = Packs::at(judge.packs.as_deref());
    let policy = policy.map(|path| policy::compiled(output, path, &packs)).transpose()?;
    let of_route = match (&policy, &judge.route, &judge.policy) {
        (Some(policy), Some(route), Some(path)) => match &judge.operation {
            Some(id) => Some(of_operation(policy, path, route, id)?),
            None => Some(setting(policy, path, route)?),
        },
        _ => None,
    };
    let has_route = of_route.is_some();
    if judge.dialect.is_some() && policy.is_some() && !has_route {
        let message = "a policy says of models' answers what its routes say: --policy needs --route";
        return Err(Failure::input("ARGUMENT_INVALID", message));
    }
    let of_policy = || policy.as_ref().map(Setting::of_policy);
    let mut setting = of_route.or_else(of_policy).unwrap_or_default();
    if let Some(repair) = &judge.repair {
        setting = setting.with_repair(repair.clone());
    }
    if let Some(bytes) = judge.held_bytes_max {
        setting = setting.with_held_bytes_max(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let against = match judge.dialect {
        Some(dialect) => answer(judge, dialect)?,
        None => body(judge, policy.as_ref(), &setting)?,
    };
    if let (Some(policy), Some(path), Some(route)) = (&policy, &judge.policy, &judge.route)
        && judge.operation.is_none()
        && policy.route_names().all(|name| name != route)
    {
        output.note(&format!("`{}` has no route `{route}`: its `defaults` hold", path.display()));
    }
    let is_one_text = matches!(against, Against::Contract { format: Format::Json, .. });
    let release = match judge.release {
        Some(mode) => Some(mode.into()),
        None if is_one_text && !has_route && !setting.repairs() => Some(Release::StreamAndCut),
        None => None,
    };
    let setting = release.into_iter().fold(setting, Setting::with_release);
    Ok(Trial { setting, against })
}

/// What a route of a policy says of values.
pub fn setting(policy: &Policy, path: &Path, route: &str) -> Result<Setting, Failure> {
    Setting::of_route(policy, route).map_err(|errors| contract_failure(path, &errors))?.ok_or_else(|| {
        let message = match routeless(policy, path, route) {
            Some(message) => format!("{message} judges no values"),
            None => {
                format!("route `{route}` of `{}` judges no values: its `judge` is `none`", path.display())
            }
        };
        Failure::input("ARGUMENT_INVALID", message)
    })
}

/// What to say of a route that the policy has no word on, so that its `defaults` hold.
fn routeless(policy: &Policy, path: &Path, route: &str) -> Option<String> {
    let is_named = policy.route_names().any(|name| name == route);
    (!is_named)
        .then(|| format!("`{}` has no route `{route}`: what holds is `defaults`, which", path.display()))
}

/// What an operation says of values.
fn of_operation(policy: &Policy, path: &Path, route: &str, id: &str) -> Result<Setting, Failure> {
    let said = Setting::of_operation(policy, route, id).map_err(|errors| contract_failure(path, &errors))?;
    said.ok_or_else(|| {
        let message = match policy.route(route).operations.get(id) {
            Some(_) => format!("operation `{id}` judges no values: its `judge` is `none`"),
            None if policy.route_names().all(|name| name != route) => {
                format!("`{}` has no route `{route}`", path.display())
            }
            None => format!("route `{route}` of `{}` lists no operation `{id}`", path.display()),
        };
        Failure::input("ARGUMENT_INVALID", message)
    })
}

fn answer(judge: &Judge, dialect: ModelDialect) -> Result<Against, Failure> {
    let framing = match judge.format {
        None => None,
        Some(Written::Json) => Some(Framing::Json),
        Some(Written::Sse) => Some(Framing::Sse),
        Some(Written::Ndjson | Written::Csv) => {
            return Err(Failure::input("ARGUMENT_INVALID", "a model's answer is `json` or `sse`"));
        }
    };
    let request = judge.request.as_deref().map(input::file).transpose()?.map(Into::into);
    Ok(Against::Request { dialect: dialect.into(), framing, request })
}

fn body(judge: &Judge, policy: Option<&Policy>, setting: &Setting) -> Result<Against, Failure> {
    let contract = match (&judge.contract, policy, &judge.policy) {
        (Some(name), Some(policy), Some(path)) => named(policy, path, name)?,
        (Some(file), ..) => {
            let as_csv = judge.format == Some(Written::Csv);
            compiled(Path::new(file), as_csv.then_some(ContractKind::Csv))?
        }
        (None, ..) => setting.answer().ok_or_else(|| no_contract(judge, policy))?,
    };
    let format = judge.format.or_else(|| written(&judge.file)).map(Format::from);
    let format = format.or(contract.is_csv().then_some(Format::Csv)).ok_or_else(|| {
        let message = format!("the name `{}` does not say how it is written", judge.file.display());
        Failure::input("ARGUMENT_INVALID", message).hint("--as json, ndjson, sse or csv")
    })?;
    Ok(Against::Contract { contract, format })
}

/// Nothing says what a body has to be.
fn no_contract(judge: &Judge, policy: Option<&Policy>) -> Failure {
    let (Some(policy), Some(path), Some(route)) = (policy, &judge.policy, &judge.route) else {
        return Failure::input("ARGUMENT_INVALID", "nothing says what the file has to be")
            .hint("--contract, --policy with --route or --contract, or --dialect");
    };
    let of_route = || format!("route `{route}` of `{}`", path.display());
    let who = routeless(policy, path, route).unwrap_or_else(of_route);
    let message =
        format!("{who} has no contract for the file; if it is a model's answer, --dialect says whose");
    Failure::input("ARGUMENT_INVALID", message)
        .hint("--dialect openai_chat, openai_responses, anthropic_messages or gemini")
}

/// A contract of a policy.
pub fn named(policy: &Policy, path: &Path, name: &str) -> Result<BodyContract, Failure> {
    let text = policy.contracts().get(name).ok_or_else(|| {
        Failure::input("ARGUMENT_INVALID", format!("`{}` has no contract `{name}`", path.display()))
    })?;
    BodyContract::compile(name, text).map_err(|errors| contract_failure(path, &errors))
}

/// A contract in a file of its own.
pub fn compiled(path: &Path, kind: Option<ContractKind>) -> Result<BodyContract, Failure> {
    of_text(path, input::text(path)?, kind)
}

/// A contract from the text of its file.
pub fn of_text(path: &Path, text: String, kind: Option<ContractKind>) -> Result<BodyContract, Failure> {
    let kind = kind.unwrap_or_else(|| language(&text));
    BodyContract::compile("", &ContractText { kind, text }).map_err(|errors| contract_failure(path, &errors))
}

/// How a file is written, by the ending of its name.
pub fn written(path: &Path) -> Option<Written> {
    match path.extension()?.to_str()? {
        "json" => Some(Written::Json),
        "ndjson" | "jsonl" => Some(Written::Ndjson),
        "sse" => Some(Written::Sse),
        "csv" => Some(Written::Csv),
        _ => None,
    }
}

/// `none`, `r1`, or `r1+CLASS,CLASS`.
pub fn repair(text: &str) -> Result<Repair, String> {
    let class = |name: &str| RepairClass::ALL.into_iter().find(|class| class.as_str() == name);
    match text.split_once('+') {
        None if text == "none" => Ok(Repair::None),
        None if text == "r1" => Ok(Repair::R1(BTreeSet::new())),
        Some(("r1", names)) => names
            .split(',')
            .map(|name| class(name).ok_or_else(|| format!("`{name}` is no class that can be granted")))
            .collect::<Result<_, _>>()
            .map(Repair::R1),
        _ => Err("expected `none`, `r1` or `r1+CLASS,CLASS`".into()),
    }
}

/// A dialect that models answer in.
pub fn dialect(name: &str) -> Option<Dialect> {
    ModelDialect::from_str(name, false).ok().map(Dialect::from)
}

impl From<Written> for Format {
    fn from(written: Written) -> Self {
        match written {
            Written::Json => Self::Json,
            Written::Ndjson => Self::Lines,
            Written::Sse => Self::Events,
            Written::Csv => Self::Csv,
        }
    }
}

impl From<ModelDialect> for Dialect {
    fn from(dialect: ModelDialect) -> Self {
        match dialect {
            ModelDialect::OpenaiChat => Self::OpenAiChat,
            ModelDialect::OpenaiResponses => Self::OpenAiResponses,
            ModelDialect::AnthropicMessages => Self::AnthropicMessages,
            ModelDialect::Gemini => Self::Gemini,
        }
    }
}

impl From<ReleaseMode> for Release {
    fn from(mode: ReleaseMode) -> Self {
        match mode {
            ReleaseMode::HoldStructured => Self::HoldStructured,
            ReleaseMode::HoldAll => Self::HoldAll,
            ReleaseMode::StreamAndCut => Self::StreamAndCut,
            ReleaseMode::Observe => Self::Observe,
        }
    }
}

fn print(output: Output, judge: &Judge, outcome: &Outcome, total: Duration) {
    let verdict = outcome.verdict();
    let colour = match verdict {
        "pass" => Colour::Green,
        "repair" => Colour::Yellow,
        _ => Colour::Red,
    };
    let name = plain(&judge.file.display().to_string());
    output.line(&format!("{name}: {}", output.paint(colour, verdict)));
    if let Some(found) = outcome.found() {
        let only = if outcome.observed.is_some() { " (observed)" } else { "" };
        output.line(&format!("reason        {}{only}: {}", found.reason.code(), plain(&found.detail)));
    }
    if let Some(place) = outcome.place() {
        output.line(&format!("place         {}", plain(&place.to_string())));
    }
    for edit in &outcome.edits {
        let tool =
            edit.tool.as_deref().map(|tool| format!(" in call of `{}`", plain(tool))).unwrap_or_default();
        output.line(&format!(
            "edit          {} at byte {}, {} deleted{tool}",
            edit.class, edit.at, edit.deleted
        ));
    }
    if outcome.lossy {
        output.line("note          what had been cut was closed; more may be missing");
    }
    output.line(&format!("judged        {} in {} bytes", outcome.units, outcome.bytes));
    if outcome.units == 0 && outcome.refusal.is_none() {
        output.line("note          nothing in it had to be judged");
    }
    output.line(&format!("held back     {} bytes at most", outcome.held_bytes_most));
    let rate = rate(outcome).map(|rate| format!(", {rate:.1} MB/s")).unwrap_or_default();
    output.line(&format!(
        "time          {} ms, of them {} judging{rate}",
        millis(total),
        millis(outcome.time)
    ));
}

fn millis(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1e6).round() / 1e3)
}

/// Megabytes a second.
fn rate(outcome: &Outcome) -> Option<f64> {
    let seconds = outcome.time.as_secs_f64();
    let megabytes = outcome.bytes as f64 / 1e6; // exact enough for a rate
    (seconds > 0.0 && outcome.bytes > 0).then(|| (megabytes / seconds * 10.0).round() / 10.0)
}
