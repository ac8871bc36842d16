//! `estoppel man`: the pages that the definitions of the command line give, and the reference in Markdown.

use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use serde_json::json;

use crate::arguments::Man;
use crate::output::{Failure, Output};
use crate::reference;

pub fn run(output: &Output, man: &Man, program: Command) -> Result<ExitCode, Failure> {
    if let Some(dir) = &man.all {
        return write(*output, dir, program);
    }
    if man.markdown {
        let page = reference::markdown(program);
        return output.text(&page, &json!({ "format": "markdown", "page": page }));
    }
    let wanted = std::iter::once("estoppel").chain(man.command.iter().map(String::as_str));
    let wanted = format!("{}.1", wanted.collect::<Vec<_>>().join("-"));
    let page = pages(program)?.into_iter().find_map(|(name, page)| (name == wanted).then_some(page));
    let page = page.ok_or_else(|| {
        let message = format!("there is no command `{}`", man.command.join(" "));
        Failure::input("ARGUMENT_INVALID", message).hint("estoppel --help")
    })?;
    output.text(&page, &json!({ "format": "roff", "page": page }))
}

fn write(output: Output, dir: &Path, program: Command) -> Result<ExitCode, Failure> {
    let failed =
        |error: std::io::Error| Failure::runtime("DISK_FAILED", format!("`{}`: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut names = Vec::new();
    for (name, page) in pages(program)? {
        std::fs::write(dir.join(&name), page).map_err(failed)?;
        output.line(&name);
        names.push(name);
    }
    Ok(output.data(&json!({ "pages": names })))
}

/// File name and text of every page.
fn pages(program: Command) -> Result<Vec<(String, String)>, Failure> {
    let mut program = program.disable_help_subcommand(true); // it would be named, and has no page
    program.build();
    let mut pages = Vec::new();
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().cloned());
        let page = clap_mangen::Man::new(command);
        let mut text = Vec::new();
        page.render(&mut text).map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
        pages.push((page.get_filename(), String::from_utf8_lossy(&text).into_owned()));
    }
    pages.sort();
    Ok(pages)
}
