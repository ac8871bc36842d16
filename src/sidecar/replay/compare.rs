//! `estoppel replay compare`: two runs of one scenario, with another model, prompt or policy.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use estoppel_diff::{Cause, Parting, compare_runs};
use estoppel_evidence::capture::Label;
use estoppel_evidence::{Reason, Sha256};
use serde_json::Value;

use super::capture;
use crate::arguments::ReplayCompare;
use crate::diff::{normalizers, side};
use crate::output::{Colour, Failure, Output, plain};
use crate::{input, show};

/// Most of `--target`, and most bytes of one.
const TARGETS_MAX: usize = 256;
const TARGET_BYTES_MAX: usize = 65_536;

/// Exit code 5 unless every call was found the same.
pub(super) fn run(output: Output, wanted: &ReplayCompare) -> Result<ExitCode, Failure> {
    let normalizers = normalizers(wanted.normalizers.as_deref())?;
    for path in [&wanted.from, &wanted.to] {
        if path.is_dir() {
            return Err(Failure::input("ARGUMENT_INVALID", "expected the `.pef.zip`, not a folder"));
        }
    }
    let read = |path| side::scenario(path, wanted.trust.as_deref(), &normalizers);
    let ((mut from, ones), (mut to, others)) = (read(&wanted.from)?, read(&wanted.to)?);
    if !wanted.target.is_empty() {
        from.targets = targets(wanted, &wanted.from, 0)?;
        to.targets = targets(wanted, &wanted.to, 1)?;
    }
    let compared = compare_runs(&from, &to, &normalizers, (&*ones, &*others))
        .map_err(|error| Failure::input("ARGUMENT_INVALID", plain(&error.to_string())))?;
    let document = compared.document();
    if let Some(path) = &wanted.out {
        input::write_new(path, document.to_string().as_bytes())?;
    }
    let result = compared.result();
    let colour = match result {
        "equal" => Colour::Green,
        "parted" => Colour::Red,
        _ => Colour::Yellow,
    };
    output.line(&format!("runs        {}", output.paint(colour, result)));
    let calls = &document["calls"];
    output.line(&format!(
        "calls       {} equal, {} parted, {} undecided",
        calls["equal"], calls["parted"], calls["undecided"]
    ));
    if compared.targets_not_compared > 0 {
        output.line(&format!(
            "targets     not compared in {} of them: nobody can say which path and query were asked for",
            compared.targets_not_compared
        ));
    }
    if !compared.same_policies {
        output.line("policies    other ones");
    }
    if let Some(first) = &compared.first {
        print_first(output, first);
    }
    if let Some(place) = &compared.first_undecided {
        output.line(&format!(
            "undecided   first at {}: nobody can say whether it is the same",
            place_of(place)
        ));
    }
    if wanted.trust.is_none() {
        output.line(
            "note        nobody has vouched for the keys; give --trust to bind both runs to keys you know",
        );
    }
    let causes: Vec<String> =
        compared.causes.iter().map(|(cause, count)| format!("{} {count}", cause.as_str())).collect();
    if !causes.is_empty() {
        output.line(&format!("causes      {}", causes.join(", ")));
    }
    Ok(output.answer(&document, if result == "equal" { 0 } else { 5 }))
}

/// The tags of the targets that are asked about, in the first run or the second.
fn targets(wanted: &ReplayCompare, path: &Path, place: usize) -> Result<HashMap<String, String>, Failure> {
    let invalid = |message: &str| Err(Failure::reason(Reason::ArgumentInvalid, plain(message)));
    let is_target = |target: &String| target.starts_with('/') && target.len() <= TARGET_BYTES_MAX;
    if wanted.target.len() > TARGETS_MAX || !wanted.target.iter().all(is_target) {
        return invalid(&format!("--target: at most {TARGETS_MAX}, and each begins with `/`"));
    }
    let (keys, disclosure) = match (wanted.keys.as_slice(), wanted.disclosure.as_slice()) {
        ([one], []) => (Some(one), None),
        ([_, _], []) => (wanted.keys.get(place), None),
        ([], [_, _]) => (None, wanted.disclosure.get(place)),
        _ => return invalid("--target needs --keys once or twice, or --disclosure twice"),
    };
    let bundle = show::open(path)?;
    let capture = capture(keys.map(AsRef::as_ref), disclosure.map(AsRef::as_ref), &bundle)?;
    let tagged = |target: &String| {
        let digest = Sha256::of(target.as_bytes());
        Some((capture.as_ref()?.tag(Label::RequestTarget, &digest.0).to_string(), target.clone()))
    };
    Ok(wanted.target.iter().filter_map(tagged).collect())
}

fn print_first(output: Output, first: &Parting) {
    let cause = first.cause();
    let place = [("from", &first.from), ("to", &first.to)]
        .into_iter()
        .filter_map(|(name, side)| Some(format!("{name} {}", place_of(side.as_ref()?))))
        .collect::<Vec<_>>()
        .join(", ");
    output.line(&plain(&format!("first       {}: {}", cause.as_str(), cause.text())));
    output.line(&plain(&format!("            {place}")));
    let others: Vec<&str> = first.causes.iter().skip(1).copied().map(Cause::as_str).collect();
    if !others.is_empty() {
        output.line(&format!("            then {}", others.join(", ")));
    }
    for at in &first.at {
        output.line(&plain(&format!("            {at}")));
    }
}

fn place_of((place, of): &(usize, Value)) -> String {
    format!("call {} at seq {}", place + 1, of["seq"])
}
