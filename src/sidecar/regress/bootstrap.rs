//! `estoppel regress bootstrap`: a run into fixtures, and these judged again.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::fixture::Fixture;
use super::run::Judging;
use crate::arguments::RegressBootstrap;
use crate::output::{Failure, Output, plain};
use crate::show::{self, Line};
use crate::verify;

pub fn run(output: Output, wanted: &RegressBootstrap) -> Result<ExitCode, Failure> {
    let trust = wanted.vouched.trust.as_deref();
    let bundle = verify::demand(&wanted.bundle, trust)?;
    let (_, lines) = show::entries(&wanted.bundle, &bundle)?;
    let (mut names, mut left_out) = (Vec::new(), Vec::new());
    for line in chosen(wanted, &lines)? {
        let call = line.value["call"].as_str().unwrap_or_default().to_owned();
        match Fixture::of_line(&bundle, &lines, line, wanted.expect) {
            Ok(fixture) => {
                fixture.write(&wanted.into, &call)?;
                output.line(&plain(&format!("fixture    {}", wanted.into.join(&call).display())));
                names.push(call);
            }
            Err(failure) if failure.code == "BODY_NOT_STORED" => {
                output.line(&plain(&format!("left out   {call}  {}", failure.message)));
                left_out.push(json!({ "call": call, "code": failure.code, "cause": failure.message }));
            }
            Err(failure) => return Err(failure),
        }
    }
    if names.is_empty() {
        return Err(none_made(&left_out));
    }
    let judging = Judging { today: &wanted.today, fixtures: &wanted.into, trust };
    judging.judge(output, &names, &left_out)
}

fn none_made(left_out: &[Value]) -> Failure {
    let message = match left_out.first() {
        None => "no call of the bundle was blocked, held or repaired; --call names one".to_owned(),
        Some(first) => format!("no fixture could be made: {}", first["cause"].as_str().unwrap_or_default()),
    };
    let code = if left_out.is_empty() { "FIXTURES_MISSING" } else { "BODY_NOT_STORED" };
    Failure { data: Some(json!({ "left_out": left_out })), ..Failure::input(code, message) }
}

fn chosen<'l>(wanted: &RegressBootstrap, lines: &'l [Line]) -> Result<Vec<&'l Line>, Failure> {
    if !wanted.call.is_empty() {
        return wanted.call.iter().map(|which| show::find_call(lines, which)).collect();
    }
    let is_stopped = |line: &&Line| {
        let action = line.value["verdict"]["action"].as_str();
        line.value["kind"] == "call" && matches!(action, Some("block" | "hold" | "repair"))
    };
    Ok(lines.iter().filter(is_stopped).collect())
}
