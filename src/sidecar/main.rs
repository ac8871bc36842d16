//! `estoppel`: the sidecar CLI. Takes sealed bundles and verifies, shows and explains them; keeps keys; asks the daemon to
//! seal. It never writes into a bundle.

mod admin;
mod arguments;
mod doctor;
mod explain;
mod input;
mod keys;
mod output;
mod policy;
mod quickstart;
mod reference;
mod run;
mod sbom;
mod show;
mod stub;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

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
    let done = match arguments.command {
        Command::Verify(verify) => verify::run(&output, &verify, arguments.explain),
        Command::Show(show) => show::run(&output, &show),
        Command::Seal(seal) => run::seal(&output, &seal),
        Command::Run(command) => run::run(&output, &command),
        Command::Keys(command) => keys::run(&output, &command),
        Command::Policy(command) => policy::run(&output, &command),
        Command::Quickstart(quickstart) => quickstart::run(&output, &quickstart),
        Command::Doctor(doctor) => doctor::run(&output, &doctor),
        Command::Stub(stub) => stub::run(&output, &stub),
        Command::Sbom(sbom) => sbom::run(&output, &sbom),
        Command::Completions { shell } => completions(shell),
        Command::Man { markdown } => man(markdown),
    };
    match done {
        Ok(code) => code,
        Err(failure) => output.failure(&failure),
    }
}

/// Help and version are answers; anything else is input that cannot be used.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
        return Output::new(true).failure(&Failure::input("ARGUMENT_INVALID", line));
    }
    let _ = error.print();
    ExitCode::from(6)
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "estoppel", &mut script);
    print(&script)
}

fn man(markdown: bool) -> Result<ExitCode, Failure> {
    if markdown {
        return print(reference::markdown(Arguments::command()).as_bytes());
    }
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
    rendered.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
    print(&page)
}

/// A reader that has seen enough closes the pipe, and that is no failure.
fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime("DISK_FAILED", error.to_string()))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
