//! `estoppel doctor`.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use crate::arguments::Doctor;
use crate::output::{Colour, Failure, Output};

/// How a thing was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Works, but something is worth doing.
    Warn,
    /// Does not work.
    Bad,
}

struct Finding {
    state: State,
    what: String,
    advice: Option<String>,
}

pub fn run(output: &Output, doctor: &Doctor) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    daemon_binary(&mut findings, doctor.config.as_deref());
    if let Some(admin) = &doctor.admin {
        findings.push(daemon(admin));
    }
    for (tool, use_) in [
        ("openssl", "checks signatures and keys without us"),
        ("sha256sum", "checks a bundle folder's SHA256SUMS"),
        ("python3", "runs the independent Python verifier"),
        ("node", "runs the independent JavaScript verifier"),
    ] {
        findings.push(installed(tool, use_));
    }
    for finding in &findings {
        let (word, colour) = match finding.state {
            State::Good => ("ok  ", Colour::Green),
            State::Warn => ("warn", Colour::Yellow),
            State::Bad => ("bad ", Colour::Red),
        };
        output.line(&format!("{}  {}", output.paint(colour, word), finding.what));
        if let Some(advice) = &finding.advice {
            output.line(&format!("      {advice}"));
        }
    }
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    let rows: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let state = match finding.state {
                State::Good => "ok",
                State::Warn => "warn",
                State::Bad => "bad",
            };
            json!({ "state": state, "what": finding.what, "advice": finding.advice })
        })
        .collect();
    Ok(output.answer(&json!({ "findings": rows }), if bad { 7 } else { 0 }))
}

fn good(what: String) -> Finding {
    Finding { state: State::Good, what, advice: None }
}

/// The daemon beside this program, and what it says of its configuration.
fn daemon_binary(findings: &mut Vec<Finding>, config: Option<&Path>) {
    let daemon = match crate::quickstart::daemon_binary() {
        Ok(path) => path,
        Err(failure) => {
            return findings.push(Finding { state: State::Bad, what: failure.message, advice: failure.hint });
        }
    };
    findings.push(good(format!("estoppeld is {}", daemon.display())));
    let Some(config) = config else { return };
    match Command::new(&daemon).arg("--check-config").arg("--config").arg(config).output() {
        Ok(done) if done.status.success() => {
            findings.push(good(format!("configuration {} is valid", config.display())))
        }
        Ok(done) => {
            for line in String::from_utf8_lossy(&done.stderr).lines() {
                findings.push(Finding { state: State::Bad, what: line.to_string(), advice: None });
            }
        }
        Err(error) => findings.push(Finding {
            state: State::Bad,
            what: format!("estoppeld does not start: {error}"),
            advice: None,
        }),
    }
}

fn daemon(admin: &str) -> Finding {
    match crate::admin::send(admin, "GET", "/readyz") {
        Ok((200, _)) => good(format!("the daemon at {admin} takes calls")),
        Ok((_, body)) => {
            let problem: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let code = problem["code"].as_str().unwrap_or("not ready").to_string();
            let title = problem["title"].as_str().unwrap_or_default().to_string();
            Finding {
                state: State::Bad,
                what: format!("the daemon at {admin} refuses calls: {code}, {title}"),
                advice: None,
            }
        }
        Err(failure) => Finding { state: State::Bad, what: failure.message, advice: failure.hint },
    }
}

fn installed(tool: &str, use_: &str) -> Finding {
    let runs = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let runs = runs
        .or_else(|_| Command::new(tool).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status());
    match runs {
        Ok(_) => good(format!("{tool} is installed ({use_})")),
        Err(_) => Finding {
            state: State::Warn,
            what: format!("{tool} is not installed ({use_})"),
            advice: Some(format!(
                "install it with your package manager, as in `apt-get install {}`",
                package(tool)
            )),
        },
    }
}

fn package(tool: &str) -> &str {
    match tool {
        "sha256sum" => "coreutils",
        "node" => "nodejs",
        other => other,
    }
}
