//! `estoppel kill`, `estoppel resume` and `estoppel switches`.

use std::process::ExitCode;

use estoppel_evidence::time::UnixMicros;
use serde_json::Value;

use crate::admin::{ask, encoded};
use crate::arguments::{Admin, Switch};
use crate::output::{Failure, Output, plain};

/// Asks the daemon to `kill` or `resume`, and shows what is stopped then.
pub fn set(output: &Output, action: &str, switch: &Switch) -> Result<ExitCode, Failure> {
    let Switch { target, reason, by, admin } = switch;
    let path = format!("/switches/{}/{action}/{}/{}", encoded(target), encoded(by), encoded(reason));
    show(*output, &ask(&admin.admin, "POST", &path)?)
}

pub fn list(output: &Output, admin: &Admin) -> Result<ExitCode, Failure> {
    show(*output, &ask(&admin.admin, "GET", "/switches")?)
}

fn show(output: Output, answer: &Value) -> Result<ExitCode, Failure> {
    let switches = answer["switches"].as_array().cloned().unwrap_or_default();
    if switches.is_empty() {
        output.line("nothing is stopped");
    }
    for switch in &switches {
        let text = |name: &str| switch[name].as_str().unwrap_or("-").to_owned();
        let since = UnixMicros(switch["since_us"].as_u64().unwrap_or_default());
        let line = format!("{:<32} since {since} by {}: {}", text("target"), text("by"), text("reason"));
        output.line(&plain(&line));
        if switch["stopped"] == 0 {
            output.line("  no call stopped yet at this gateway: look whether the name is right");
        }
    }
    if let Some(lost_us) = answer["store_lost_us"].as_u64() {
        let at = UnixMicros(lost_us);
        output.line(&format!("the store was found without what it had at {at}: counts began anew"));
    }
    Ok(output.data(answer))
}
