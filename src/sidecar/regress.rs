//! `estoppel regress …`: recorded calls kept as fixtures, and judged again by the policy of today.

mod add;
mod bootstrap;
mod checked;
mod fixture;
mod remade;
mod run;

use std::process::ExitCode;

use crate::arguments::RegressCommand;
use crate::output::{Failure, Output};

pub use checked::Fixtures;
pub use remade::Recordings;
pub use run::{again, counted};

pub fn run(output: &Output, command: &RegressCommand) -> Result<ExitCode, Failure> {
    match command {
        RegressCommand::Add(add) => add::run(*output, add),
        RegressCommand::Run(run) => run::run(*output, run),
        RegressCommand::Bootstrap(bootstrap) => bootstrap::run(*output, bootstrap),
    }
}

/// Most characters of a fixture's name.
const NAME_CHARS_MAX: usize = 80;

/// A fixture's name, which is the name of its folder.
pub fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = !text.is_empty() && text.len() <= NAME_CHARS_MAX && !text.starts_with('.');
    match is_name && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("1 to {NAME_CHARS_MAX} letters, digits, `.`, `_` and `-`, and no `.` in front")),
    }
}
