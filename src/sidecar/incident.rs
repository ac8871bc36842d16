//! `estoppel incident`: what happened around a run, as one file.

mod absent;
mod derived;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, RunId};
use estoppel_gateway::packs::Packs;
use estoppel_incident::{
    Absent, Asked, Checked, Format, Given, IncidentError, PACK_BYTES_MAX, Pack, WINDOW_S_MAX, assemble, check,
};
use serde_json::{Value, json};

use absent::Known;
use derived::Derived;

use crate::arguments::{Incident, IncidentCommand};
use crate::output::{Colour, Failure, Output, plain};
use crate::{bundles, input, policy, show, trial, verify};

/// Most bundles of a journal that are looked at.
const BUNDLES_MAX: usize = 10_000;
/// Most absent runs that a terminal gets.
const SHOWN_MAX: usize = 100;

pub fn run(output: &Output, asked: &Incident) -> Result<ExitCode, Failure> {
    if let Some(IncidentCommand::Verify { pack, trust }) = &asked.command {
        return judge(*output, pack, trust.as_deref());
    }
    let (Some(from), Some(out)) = (&asked.from, &asked.out) else {
        return Err(Failure::input("ARGUMENT_INVALID", "--from and --out are needed"));
    };
    let window_s = seconds(&asked.window)?;
    let Found { run, bundles: found, absent } = find(asked, from, window_s)?;
    let absent = absent.map(|absent| absent.bytes()).transpose().map_err(failure)?;
    let given = found.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let policy = match &asked.policy {
        None => None,
        Some(file) => {
            let packs = Packs::at(asked.packs.as_deref());
            let document = policy::parsed(*output, file, &input::text(file)?, &packs)?;
            let errors = estoppel_gateway::contract_errors(&document.compile());
            if !errors.is_empty() {
                return Err(trial::contract_failure(file, &errors));
            }
            Some(document.canonical())
        }
    };
    let (policy, absent) = (policy.as_deref(), absent.as_deref());
    let asked_of = Asked { format: Format::Second, run: &run, window_s, policy, absent };
    let pack = assemble(&asked_of, &given, &Derived).map_err(failure)?;
    drop(given);
    let checked = verify::with_options(asked.trust.as_deref(), |options| check(&pack, options, &Derived))?
        .map_err(failure)?;
    let zip = pack.to_zip().map_err(failure)?;
    drop(pack);
    input::write_new(out, &zip)?;
    print(*output, &checked);
    output.line(&format!("written     {}", plain(&out.display().to_string())));
    Ok(output.data(&data(&checked)))
}

fn judge(output: Output, path: &Path, trust: Option<&Path>) -> Result<ExitCode, Failure> {
    let bytes = input::limited(path, PACK_BYTES_MAX + (64 << 20))?;
    let pack = Pack::from_zip(&bytes).map_err(failure)?;
    drop(bytes);
    let checked = verify::with_options(trust, |options| check(&pack, options, &Derived))?.map_err(failure)?;
    print(output, &checked);
    Ok(output.data(&data(&checked)))
}

fn failure(error: IncidentError) -> Failure {
    let exit = if matches!(error, IncidentError::Limit) { 6 } else { 2 };
    Failure { exit, ..Failure::runtime(error.code(), plain(&error.to_string())) }
}

/// `30m`: a number and one of s, m, h, d.
fn seconds(text: &str) -> Result<u64, Failure> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let read = || {
        let (unit, by) = units.iter().find(|(unit, _)| text.ends_with(*unit))?;
        let number = text.strip_suffix(*unit)?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(*by)?;
        (seconds <= WINDOW_S_MAX).then_some(seconds)
    };
    read().ok_or_else(|| {
        let message = format!("`{text}` is no window, as 30m, 2h or 7d are; at most 31d");
        Failure::input("ARGUMENT_INVALID", plain(&message))
    })
}

/// A sealed bundle, by what its manifest says.
struct Sealed {
    path: PathBuf,
    manifest: Value,
}

impl Sealed {
    fn read(path: PathBuf) -> Result<Self, Failure> {
        let manifest = serde_json::from_slice(&show::open(&path)?.manifest().to_bytes()).unwrap_or_default();
        Ok(Self { path, manifest })
    }

    fn moment(&self, name: &str) -> u64 {
        self.manifest[name].as_str().and_then(UnixMicros::parse).unwrap_or_default().0
    }

    fn run(&self) -> Option<RunId> {
        self.manifest["run"].as_str()?.parse().ok()
    }

    fn is_called(&self, name: &str) -> bool {
        let is_class = self.manifest["name"].is_null() && self.manifest["class"] == name;
        self.manifest["run"] == name || self.manifest["name"] == name || is_class
    }
}

/// What of a window there is, and what is known not to be.
struct Found {
    /// Id of the subject.
    run: String,
    /// Its own first.
    bundles: Vec<PathBuf>,
    absent: Option<Absent>,
}

fn find(asked: &Incident, from: &Path, window_s: u64) -> Result<Found, Failure> {
    let journal = asked.journal.as_deref();
    let others = journal.map_or(Ok(Vec::new()), sealed)?;
    let known = journal.map(|journal| Known::of(journal, asked.trust.as_deref()));
    let subject = match from.is_file() {
        true => Sealed::read(from.to_owned())?,
        false => Sealed::read(one_of(&from.to_string_lossy(), &others, known.as_ref())?)?,
    };
    let run = subject.manifest["run"].as_str().unwrap_or_default().to_owned();
    let window_us = window_s * 1_000_000; // at most WINDOW_S_MAX
    let begin = subject.moment("opened").saturating_sub(window_us);
    let end = subject.moment("sealed").saturating_add(window_us);
    let is_within = |other: &&Sealed| {
        other.manifest["run"] != run.as_str()
            && other.moment("opened") <= end
            && other.moment("sealed") >= begin
    };
    let within: Vec<&Sealed> = others.iter().filter(is_within).collect();
    let ids = within.iter().map(|other| other.run()).chain([subject.run()]);
    let included: BTreeSet<RunId> = ids.flatten().collect();
    let absent = known.map(|known| known.absent((UnixMicros(begin), UnixMicros(end)), &included));
    let mut bundles: Vec<PathBuf> = within.iter().map(|other| other.path.clone()).collect();
    bundles.insert(0, subject.path);
    Ok(Found { run, bundles, absent })
}

/// The bundles of a journal.
fn sealed(journal: &Path) -> Result<Vec<Sealed>, Failure> {
    bundles::of_journal(journal, BUNDLES_MAX)?.into_iter().map(Sealed::read).collect()
}

fn one_of(name: &str, others: &[Sealed], known: Option<&Known>) -> Result<PathBuf, Failure> {
    let found: Vec<&Sealed> = others.iter().filter(|other| other.is_called(name)).collect();
    match found.as_slice() {
        [one] => Ok(one.path.clone()),
        [] => {
            if let Some(absent) = known.and_then(|known| known.named(name)) {
                let message = format!("there is no bundle of the run `{}`: {}", absent.run, absent.words());
                return Err(Failure::input("INCIDENT_ABSENT", plain(&message)));
            }
            Err(Failure::reason(Reason::RunUnknown, plain(&format!("no sealed bundle is of a run `{name}`")))
                .hint("`estoppel seal RUN` seals it; --journal names the folder of the journal"))
        }
        several => {
            let ids: Vec<&str> =
                several.iter().filter_map(|one| one.manifest["run"].as_str()).take(8).collect();
            let message = format!("{} runs are called `{name}`; name one by its id", several.len());
            Err(Failure::input("ARGUMENT_INVALID", plain(&message)).hint(ids.join(", ")))
        }
    }
}

/// A bundle and what its manifest says is beside it.
fn read(path: &Path) -> Result<Given, Failure> {
    let manifest = show::open(path)?.manifest().to_bytes();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let mut beside = BTreeMap::new();
    for row in manifest["externals"].as_array().into_iter().flatten() {
        let sha256 = row["sha256"].as_str().and_then(|text| text.strip_prefix("sha256:")).unwrap_or_default();
        let is_hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex {
            let content = input::limited(&input::Beside::of(path).path(sha256), PACK_BYTES_MAX)?;
            beside.insert(sha256.to_owned(), content);
        }
    }
    Ok(Given { bundle: input::limited(path, PACK_BYTES_MAX)?, beside })
}

fn print(output: Output, checked: &Checked) {
    let index = &checked.index;
    let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
    output.line(&format!("run         {}", text(&index["run"])));
    output.line(&format!("span        {} to {}", text(&index["span"]["from"]), text(&index["span"]["to"])));
    for (path, report) in &checked.reports {
        let verdicts = &report.verdicts;
        output.line(&format!(
            "bundle      {}  {}, {}, {}, {}",
            plain(path),
            verdicts.integrity.name(),
            verdicts.authenticity.name(),
            verdicts.completeness.name(),
            verdicts.anchoring.name()
        ));
    }
    for row in checked.absent.iter().flat_map(Absent::rows).take(SHOWN_MAX) {
        let name = row.name.as_deref().map(|name| format!("  {name}")).unwrap_or_default();
        let line = plain(&format!("ABSENT      {}{name}  {}", row.run, row.words()));
        output.line(&output.paint(Colour::Yellow, &line));
    }
    let absent = checked.absent.as_ref().map_or(0, |absent| absent.rows().len());
    if absent > SHOWN_MAX {
        output.line(&format!("            {} more are in absent.json", absent - SHOWN_MAX));
    }
    if let Some(code) = index["absent"]["unread"].as_str() {
        let line = format!("ABSENT      not known: {} in the log of the journal", plain(code));
        output.line(&output.paint(Colour::Yellow, &line));
    }
    let summary = &index["summary"];
    for name in ["kinds", "verdicts", "reasons", "findings", "policies"] {
        let counts = summary[name].as_object().into_iter().flatten();
        let counts: Vec<String> = counts.map(|(name, count)| plain(&format!("{count} {name}"))).collect();
        if !counts.is_empty() {
            output.line(&format!("{name:<11} {}", counts.join(", ")));
        }
    }
    if let Some(counts) = index["regress"]["counts"].as_object() {
        let counts: Vec<String> =
            counts.iter().map(|(state, count)| plain(&format!("{count} {state}"))).collect();
        let policy = text(&index["regress"]["policy"]);
        output.line(&format!("regress     {} by {policy}", counts.join(", ")));
    }
    output.line(&format!(
        "timeline    {} entries, {} notable; every reference leads to where it says, {} out of this file",
        summary["rows"], summary["notable"], summary["outside"]
    ));
}

fn data(checked: &Checked) -> Value {
    let reports =
        checked.reports.iter().map(|(path, report)| json!({ "path": path, "report": verify::data(report) }));
    let mut data = json!({ "index": checked.index, "bundles": reports.collect::<Vec<_>>() });
    if let Some(absent) = &checked.absent {
        data["absent"] = json!(absent.rows());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_number_and_a_unit() {
        for (text, expected) in [("30m", 1_800), ("0s", 0), ("2h", 7_200), ("31d", WINDOW_S_MAX)] {
            assert_eq!(seconds(text).unwrap(), expected);
        }
        for text in ["", "m", "30", "+3m", "-1s", "3.5h", "32d", "99999999999999999999d", "1m1s", "１m"] {
            assert_eq!(seconds(text).unwrap_err().exit, 6, "{text}");
        }
    }
}
