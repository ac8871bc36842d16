//! `estoppel notify …`: who is told of releases, and what they were not told yet.

mod deliver;
mod settings;
mod standing;
mod tried;

use std::process::ExitCode;
use std::time::Duration;

use estoppel_release::git::Git;
use estoppel_release::notify::Told;
use estoppel_release::{Code, Refusal};
use serde_json::{Value, json};

use crate::arguments::{InRepository, NotifyBegin, NotifyCommand, NotifySend, NotifyTest};
use crate::ledger::{alone, now};
use crate::output::{Failure, Output};
use deliver::Delivery;
use settings::Settings;
pub use standing::{Standing, standings};

/// Longest that a command goes on after its answer to tell destinations.
const AFTERWARDS: Duration = Duration::from_secs(5);

pub fn run(output: &Output, command: &NotifyCommand) -> Result<ExitCode, Failure> {
    match command {
        NotifyCommand::Status { at } => status(*output, at),
        NotifyCommand::Send(send) => self::send(*output, send),
        NotifyCommand::Test(test) => self::test(*output, test),
        NotifyCommand::Begin(begin) => self::begin(*output, begin),
    }
}

fn settings(git: &Git) -> Result<Settings, Failure> {
    let none = || {
        let said = format!("nobody is told: `{}` is not set in git's configuration", settings::SETTING);
        Failure::input("CONFIG_INVALID", said)
            .hint(format!("git config {} .estoppel/notify.toml", settings::SETTING))
    };
    settings::read(git)?.ok_or_else(none)
}

fn status(output: Output, at: &InRepository) -> Result<ExitCode, Failure> {
    let store = alone(&at.repo)?;
    settings(store.git())?;
    let standings = standings(store.git(), Some(&store.read()?))?;
    let lines = standings.iter().flat_map(|standing| standing.lines(output));
    lines.for_each(|line| output.line(&line));
    let rows: Vec<Value> = standings.iter().map(Standing::row).collect();
    let exit = if standings.iter().any(Standing::is_in_trouble) { 5 } else { 0 };
    Ok(output.answer(&json!({ "destinations": rows }), exit))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))
}

fn send(output: Output, send: &NotifySend) -> Result<ExitCode, Failure> {
    let store = alone(&send.at.repo)?;
    let (settings, ledger, runtime) = (settings(store.git())?, store.read()?, runtime()?);
    let mut left = if send.wait { send.tries } else { 1 };
    let mut again = send.refused;
    loop {
        left -= 1;
        let delivery = Delivery {
            git: store.git(),
            ledger: &ledger,
            settings: &settings,
            at_once: send.now,
            again,
            patience: None,
        };
        let mut wait = None;
        for destination in &settings.destinations {
            let delivered = runtime.block_on(delivery.to(destination))?;
            let state = if delivered.is_taken { ", another process tells it" } else { "" };
            output.line(&format!("{:<12} told of {} events{state}", destination.name, delivered.told));
            wait = wait.max(delivered.wait).max(delivered.is_taken.then_some(1_000_000));
        }
        again = false;
        let Some(wait) = wait.filter(|_| left > 0) else { break };
        std::thread::sleep(Duration::from_micros(wait));
    }
    let standings = standings(store.git(), Some(&ledger))?;
    let troubled = standings.iter().filter(|standing| standing.is_in_trouble());
    troubled.flat_map(|standing| standing.lines(output)).for_each(|line| output.line(&line));
    let rows: Vec<Value> = standings.iter().map(Standing::row).collect();
    let is_left = standings.iter().any(|standing| standing.waiting > 0 || standing.is_in_trouble());
    Ok(output.answer(&json!({ "destinations": rows }), u8::from(is_left)))
}

fn test(output: Output, test: &NotifyTest) -> Result<ExitCode, Failure> {
    let store = alone(&test.at.repo)?;
    let settings = settings(store.git())?;
    let chosen = match &test.destination {
        None => settings.destinations.iter().collect(),
        Some(name) => vec![settings.named(name)?],
    };
    let runtime = runtime()?;
    let mut tried = Vec::new();
    for destination in chosen {
        let answered = runtime.block_on(tried::ask(&settings, destination));
        output.line(&answered.line(output));
        tried.push(answered);
    }
    let rows: Vec<Value> = tried.iter().map(tried::Tried::row).collect();
    Ok(output.answer(&json!({ "destinations": rows }), tried::exit(&tried)))
}

fn begin(output: Output, begin: &NotifyBegin) -> Result<ExitCode, Failure> {
    let store = alone(&begin.at.repo)?;
    let settings = settings(store.git())?;
    let destination = settings.named(&begin.destination)?;
    let ledger = store.read()?;
    let Some(mut told) = Told::take(store.git(), &destination.name)? else {
        let said = format!("another process of this clone tells `{}` now", destination.name);
        return Err(Failure::runtime("NOTIFY_STATE", said).hint("try again when it has ended"));
    };
    match begin.go_on {
        true => deliver::begin(destination, &mut told, Some(&ledger))?,
        false => deliver::begin_anew(destination, &mut told, Some(&ledger))?,
    }
    drop(told);
    let standings = standings(store.git(), Some(&ledger))?;
    let standings: Vec<_> = standings.iter().filter(|standing| standing.name == destination.name).collect();
    standings.iter().flat_map(|standing| standing.lines(output)).for_each(|line| output.line(&line));
    let rows: Vec<Value> = standings.iter().map(|standing| standing.row()).collect();
    Ok(output.data(&json!({ "destinations": rows })))
}

/// Before a command that may write to the ledger: destinations that are new in this clone begin here, so that they are told what
/// it writes. What goes wrong is said by `after`.
pub fn before(at: &InRepository) {
    let begin = || {
        let store = alone(&at.repo).ok()?;
        let settings = settings::read(store.git()).ok()??;
        let is_new = |destination: &&settings::Destination| {
            Told::look(store.git(), &destination.name).is_ok_and(|told| told.is_new())
        };
        let new: Vec<&settings::Destination> = settings.destinations.iter().filter(is_new).collect();
        let ledger = if new.is_empty() { None } else { store.read().ok() };
        for destination in new {
            let ledger = ledger.as_ref()?;
            let mut told = Told::take(store.git(), &destination.name).ok()??;
            deliver::begin(destination, &mut told, Some(ledger)).ok()?;
        }
        Some(())
    };
    begin();
}

/// After such a command has answered: destinations are told once, and not for long. Nothing of it changes what the command
/// ends with.
pub fn after(output: Output, at: &InRepository) {
    if let Err(failure) = told_afterwards(output, at) {
        output.note(&format!("nobody was told: {}: {}", failure.code, failure.message));
    }
}

fn told_afterwards(output: Output, at: &InRepository) -> Result<(), Failure> {
    let store = match alone(&at.repo) {
        Ok(store) => store,
        Err(_) => return Ok(()), // the command has said so
    };
    let Some(settings) = settings::read(store.git())? else { return Ok(()) };
    let ledger = match store.read() {
        Ok(ledger) => ledger,
        Err(Refusal { code: Code::LedgerMissing, .. }) => return Ok(()),
        Err(refusal) => return Err(refusal.into()),
    };
    let by = now().0.saturating_add(u64::try_from(AFTERWARDS.as_micros()).unwrap_or(u64::MAX));
    let runtime = runtime()?;
    for destination in &settings.destinations {
        let left = Duration::from_micros(by.saturating_sub(now().0)).min(AFTERWARDS);
        let delivery = Delivery {
            git: store.git(),
            ledger: &ledger,
            settings: &settings,
            at_once: false,
            again: false,
            patience: Some(left),
        };
        if left > Duration::ZERO {
            runtime.block_on(delivery.to(destination))?;
        }
    }
    // A name that is being looked up would be waited for.
    runtime.shutdown_background();
    let troubled = standings(store.git(), Some(&ledger))?;
    for standing in troubled.iter().filter(|standing| standing.waiting > 0 && standing.is_in_trouble()) {
        output.note(&format!(
            "{} was not told yet; `estoppel notify status` says why, `estoppel notify send` tells it",
            standing.name
        ));
    }
    Ok(())
}
