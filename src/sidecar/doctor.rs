//! `estoppel doctor`.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use estoppel_evidence::Reason;
use estoppel_snapshot::{Dsn, Hint, RowSettings, Settings, Stamp, Tls, Written};
use serde_json::{Value, json};

use crate::arguments::Doctor;
use crate::output::{Colour, Failure, Output};

/// How a thing was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Works, but something is worth doing.
    Warn,
    /// Works, but nobody promises that it does.
    Unpromised,
    /// Does not work.
    Bad,
}

struct Finding {
    state: State,
    what: String,
    advice: Option<String>,
    /// SQL that would mend it.
    fix: Option<String>,
}

/// `schema.table=column`, and perhaps the hint that the database writes there: `:setting`, `:comment:trigger`.
pub fn written(text: &str) -> Result<Written, String> {
    let (table, key) = text.rsplit_once('=').ok_or("say it as `public.orders=call_id`")?;
    let hinted = |key: &str, stamp| {
        let (key, hint) = key.rsplit_once(':')?;
        Some((key.to_owned(), hint.parse::<Hint>().ok()?, stamp))
    };
    let found = match key.strip_suffix(":trigger") {
        Some(key) => hinted(key, Stamp::Trigger),
        None => hinted(key, Stamp::Default),
    };
    let written = |key: &str| Written::new(table, key).map_err(|error| error.to_string());
    match found {
        Some((key, hint, stamp)) => written(&key).map(|table| table.hinted(hint, stamp)),
        None => written(key),
    }
}

pub fn run(output: &Output, doctor: &Doctor) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    daemon_binary(&mut findings, doctor.config.as_deref());
    if let Some(admin) = &doctor.admin {
        findings.push(daemon(admin));
    }
    if let Some(url) = &doctor.pg {
        findings.extend(database(url, doctor)?);
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
            State::Warn | State::Unpromised => ("warn", Colour::Yellow),
            State::Bad => ("bad ", Colour::Red),
        };
        output.line(&format!("{}  {}", output.paint(colour, word), finding.what));
        if let Some(advice) = &finding.advice {
            output.line(&format!("      {advice}"));
        }
        if let Some(sql) = finding.fix.as_ref().filter(|_| doctor.suggest_fixes) {
            output.line(&format!("      {sql}"));
        }
    }
    let bad = findings.iter().any(|finding| matches!(finding.state, State::Bad | State::Unpromised));
    let rows: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let state = match finding.state {
                State::Good => "ok",
                State::Warn | State::Unpromised => "warn",
                State::Bad => "bad",
            };
            json!({ "state": state, "what": finding.what, "advice": finding.advice, "fix": finding.fix })
        })
        .collect();
    Ok(output.answer(&json!({ "findings": rows }), if bad { 7 } else { 0 }))
}

fn good(what: String) -> Finding {
    Finding { state: State::Good, what, advice: None, fix: None }
}

/// The daemon beside this program, and what it says of its configuration.
fn daemon_binary(findings: &mut Vec<Finding>, config: Option<&Path>) {
    let daemon = match crate::quickstart::daemon_binary() {
        Ok(path) => path,
        Err(failure) => {
            return findings.push(Finding {
                state: State::Bad,
                what: failure.message,
                advice: failure.hint,
                fix: None,
            });
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
                findings.push(Finding { state: State::Bad, what: line.to_string(), advice: None, fix: None });
            }
        }
        Err(error) => findings.push(Finding {
            state: State::Bad,
            what: format!("estoppeld does not start: {error}"),
            advice: None,
            fix: None,
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
                fix: None,
            }
        }
        Err(failure) => Finding { state: State::Bad, what: failure.message, advice: failure.hint, fix: None },
    }
}

/// What stands in the way of recording what calls write there. Changes nothing in it.
fn database(url: &str, doctor: &Doctor) -> Result<Vec<Finding>, Failure> {
    let dsn = Dsn::parse(url).map_err(|error| Failure::reason(Reason::ArgumentInvalid, error.to_string()))?;
    let tls = Tls::trusting(doctor.pg_ca.as_deref())
        .map_err(|error| Failure::reason(Reason::FileUnreadable, error.to_string()))?;
    // A first look may be slow: it is no call's.
    let patience = Duration::from_secs(10);
    let rows = RowSettings { tables: doctor.rows.clone(), time_max: patience, ..RowSettings::default() };
    let deadline = if doctor.rows.is_empty() { patience } else { patience + rows.time_max };
    let settings = Settings { deadline, statement: patience, tls: Some(tls), rows, ..Settings::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::reason(Reason::Internal, error.to_string()))?;
    let checks = runtime.block_on(estoppel_snapshot::examine(&dsn, &settings, &doctor.written));
    Ok(checks
        .into_iter()
        .map(|check| Finding {
            state: match check.state {
                estoppel_snapshot::State::Good => State::Good,
                estoppel_snapshot::State::Warn => State::Warn,
                estoppel_snapshot::State::BestEffort if doctor.allow_best_effort => State::Warn,
                estoppel_snapshot::State::BestEffort => State::Unpromised,
                estoppel_snapshot::State::Bad => State::Bad,
            },
            what: check.what,
            advice: check.advice.map(str::to_owned),
            fix: check.fix,
        })
        .collect())
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
            fix: None,
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
