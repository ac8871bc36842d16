//! docs/cli.md is what the program says of itself, and every command in it does what the page says.

use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::{Process, Scratch, address_after};
use estoppel_stub::Script;

use crate::support::{PATIENCE, World, chat, cli_binary, path};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")
}

#[test]
fn the_page_is_what_the_program_prints() {
    let done = Command::new(cli_binary()).args(["man", "--markdown"]).output().unwrap();
    let printed = String::from_utf8(done.stdout).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(page(), &printed).unwrap();
    }
    let page = std::fs::read_to_string(page()).unwrap();
    assert_eq!(page, printed, "UPDATE_GOLDEN=1 cargo test --test e2e cli_reference writes docs/cli.md");
    for section in page.split("\n## ").skip(1) {
        assert!(section.contains("\n```sh\nestoppel "), "no example: {section}");
    }
}

/// The lines of every `sh` block.
fn lines(page: &str) -> Vec<&str> {
    page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).flat_map(str::lines).collect()
}

#[test]
fn every_command_of_the_page_runs_as_it_says() {
    let world = World::new(Script::model());
    let ask = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(world.send(&chat("nightly-42", ask)).status(), 200);
    let scratch = Scratch::new("reference");
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    std::os::unix::fs::symlink(policies, scratch.join("policies")).unwrap();
    let programs = Path::new(cli_binary()).parent().unwrap();
    let search = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(scratch.path());
        command.env("PATH", &search).env("ESTOPPEL_ADMIN", world.admin.to_string());
        command
    };
    let page = std::fs::read_to_string(page()).unwrap();
    let mut variables = String::new();
    let lines = lines(&page);
    assert!(lines.len() > 20, "{} commands", lines.len());
    for line in lines {
        let (command, code) = line.split_once(" # exit ").unwrap_or((line, "0"));
        if let Some(daemon) = command.strip_suffix(" &") {
            let mut running = Process::start("example", shell(&format!("exec {daemon}")), &scratch);
            running.wait_ready(PATIENCE, |running| {
                address_after("http://", &running.stderr()).filter(|address| address.port() != 0)
            });
            running.terminate();
            continue;
        }
        let done = shell(&format!("{variables}{command}")).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(
            done.status.code().map(|code| code.to_string()).as_deref(),
            Some(code),
            "{command}: {said}"
        );
        if command.starts_with("bundle=") {
            variables = format!("{command}\n");
        }
    }
    assert!(scratch.join("demo/journal").is_dir() && scratch.join("receipt.json").is_file());
    assert!(path(&scratch.join("cli.md")).ends_with("cli.md"));
    assert_eq!(String::from_utf8(scratch.read("cli.md")).unwrap(), page);
}
