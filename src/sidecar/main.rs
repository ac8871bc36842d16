//! `estoppel`: the sidecar CLI. Takes sealed bundles and verifies, shows and explains them; keeps keys; asks the daemon to
//! seal. It never writes into a bundle.

mod admin;
mod archive;
mod arguments;
mod attest;
mod audit;
mod bundles;
mod compliance;
mod contract;
mod custody;
mod dashboard;
mod database;
mod detect;
mod diff;
mod disclose;
mod doctor;
mod encrypt;
mod environment;
mod evolution;
mod explain;
mod further;
mod generation;
mod hold;
mod identity;
mod incident;
mod input;
mod judge;
mod junit;
mod keys;
mod kit;
mod ledger;
mod man;
mod mcp;
mod notify;
mod output;
mod pack;
mod policy;
mod promote;
mod quickstart;
mod reconcile;
mod recorded;
mod reduce;
mod reference;
mod regress;
mod replay;
mod report;
mod retention;
mod run;
mod sbom;
mod scope;
mod show;
mod snapshot;
mod status;
mod stub;
mod switch;
mod sync;
mod trial;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use serde_json::json;

use arguments::{Arguments, Command};
use output::{Failure, Output};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(text) = explain::asked(&words) {
        return Output::new(words.iter().any(|word| word == "--json")).paragraph(text);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error, words.iter().any(|word| word == "--json")),
    };
    let output = Output::new(arguments.json);
    let written = arguments.command.adds_to().filter(|_| !arguments.explain).cloned();
    written.iter().for_each(notify::before);
    let done = match arguments.command {
        Command::Verify(verify) => verify::run(&output, &verify, arguments.explain),
        Command::Show(show) => show::run(&output, &show),
        Command::Diff(asked) => diff::run(&output, &asked),
        Command::Incident(asked) => incident::run(&output, &asked),
        Command::Attest(asked) => attest::run(&output, &asked),
        Command::Compliance(command) => compliance::run(&output, &command),
        Command::Report(asked) => report::run(&output, &asked),
        Command::Kit(command) => kit::run(&output, &command),
        Command::Snapshot(command) => snapshot::run(&output, &command),
        Command::Seal(seal) => run::seal(&output, &seal),
        Command::Encrypt(asked) => encrypt::encrypt(&output, &asked),
        Command::Decrypt(asked) => encrypt::decrypt(&output, &asked),
        Command::Retention(command) => retention::run(&output, &command),
        Command::Archive(command) => archive::run(&output, &command),
        Command::Custody(command) => custody::run(&output, &command),
        Command::Hold(command) => hold::run(&output, &command),
        Command::Reconcile(reconcile) => reconcile::run(&output, &reconcile),
        Command::Kill(switch) => switch::set(&output, "kill", &switch),
        Command::Resume(switch) => switch::set(&output, "resume", &switch),
        Command::Switches(admin) => switch::list(&output, &admin),
        Command::Run(command) => run::run(&output, &command),
        Command::Replay(command) => replay::run(&output, &command),
        Command::Keys(command) => keys::run(&output, &command),
        Command::Identity(command) => identity::run(&output, &command),
        Command::Mcp(command) => mcp::run(&output, &command),
        Command::Policy(command) => policy::run(&output, &command),
        Command::Evolution(command) => evolution::run(&output, &command),
        Command::Promote(wanted) => promote::run(&output, &wanted, arguments.explain),
        Command::Approve(wanted) => promote::approve(&output, &wanted),
        Command::Waive(wanted) => promote::waive(&output, &wanted),
        Command::Rollback(wanted) => promote::rollback(&output, &wanted),
        Command::Environment(command) => environment::run(&output, &command),
        Command::New(new) => generation::project(&output, &new),
        Command::Generation(command) => generation::run(&output, &command),
        Command::Ledger(command) => ledger::run(&output, &command),
        Command::Status(status) => status::run(&output, &status),
        Command::Dashboard(asked) => dashboard::run(&output, &asked),
        Command::Sync(command) => sync::run(&output, &command),
        Command::Notify(command) => notify::run(&output, &command),
        Command::Db(command) => database::run(&output, &command),
        Command::Audit(command) => audit::run(&output, &command),
        Command::Roles(command) => ledger::roles(&output, &command),
        Command::Regress(command) => regress::run(&output, &command),
        Command::Reduce(reduce) => reduce::run(output, &reduce),
        Command::Quickstart(quickstart) => quickstart::run(&output, &quickstart),
        Command::Judge(judge) => judge::run(&output, &judge),
        Command::Contract(command) => contract::run(&output, &command),
        Command::Detect(detect) => detect::run(&output, &detect),
        Command::Pack(command) => pack::run(&output, &command),
        Command::Doctor(doctor) => doctor::run(&output, &doctor),
        Command::Stub(stub) => stub::run(&output, &stub),
        Command::Sbom(sbom) => sbom::run(&output, &sbom),
        Command::Completions { shell } => completions(&output, shell),
        Command::Man(man) => man::run(&output, &man, Arguments::command()),
    };
    let code = match done {
        Ok(code) => code,
        Err(failure) => output.failure(&failure),
    };
    written.iter().for_each(|at| notify::after(output, at));
    code
}

/// Help and version are answers; anything else is input that cannot be used.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let output = Output::new(json);
    let text = error.to_string();
    match (error.use_stderr(), json) {
        (false, true) => output.data(&json!({ "text": text })),
        (true, true) => {
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            output.failure(&Failure::input("ARGUMENT_INVALID", line))
        }
        (is_wrong, false) => {
            let _ = error.print();
            if is_wrong { ExitCode::from(6) } else { ExitCode::SUCCESS }
        }
    }
}

fn completions(output: &Output, shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "estoppel", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.text(&script, &json!({ "shell": shell.to_string(), "script": script }))
}
