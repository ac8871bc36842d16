//! Judging a pack: what it says is made again from its bundles, and compared.

use std::collections::BTreeMap;
use std::io::Read;

use estoppel_verify::{Externals, Input, Options, Report, verify_bundle};
use serde_json::Value;

use crate::absent::{ABSENT, Absent};
use crate::derive::{Derive, POLICY};
use crate::error::IncidentError;
use crate::pack::{Asked, Format, Given, INDEX, Pack, assemble};

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    /// The index, which was made again.
    pub index: Value,
    /// Which runs it says are absent. The bundles do not bear that out.
    pub absent: Option<Absent>,
    /// What `estoppel-verify` says of each bundle, by its path.
    pub reports: Vec<(String, Report)>,
}

/// Judges a pack.
///
/// # Errors
/// [`IncidentError`], the first that is wrong.
pub fn check(pack: &Pack, options: &Options<'_>, derive: &dyn Derive) -> Result<Checked, IncidentError> {
    let index: Value = serde_json::from_slice(pack.content(INDEX)?)
        .map_err(|error| IncidentError::Form(format!("{INDEX}: {error}")))?;
    let run = index["run"].as_str().ok_or_else(|| IncidentError::Form(format!("{INDEX} names no run")))?;
    let window_s =
        index["window_s"].as_u64().ok_or_else(|| IncidentError::Form(format!("{INDEX} has no window")))?;
    let format = index["format"].as_str().and_then(Format::parse);
    let format =
        format.ok_or_else(|| IncidentError::Form(format!("{INDEX} has a format that is not known")))?;
    let given = bundles(pack);
    let mut reports = Vec::new();
    for (path, given) in &given {
        reports.push((path.clone(), verified(path, given, options)?));
    }
    let given: Vec<Given> = given.into_values().collect();
    let (policy, absent) = (pack.content(POLICY).ok(), pack.content(ABSENT).ok());
    let again = assemble(&Asked { format, run, window_s, policy, absent }, &given, derive)?;
    for (path, content) in &again.files {
        match pack.files.get(path) {
            None => return Err(IncidentError::Missing { path: path.to_string() }),
            Some(found) if found != content => return Err(IncidentError::Altered { path: path.to_string() }),
            Some(_) => {}
        }
    }
    if let Some(path) = pack.files.keys().find(|path| !again.files.contains_key(*path)) {
        return Err(IncidentError::Undeclared { path: path.to_string() });
    }
    let absent = absent.map(Absent::parse).transpose()?;
    Ok(Checked { index, absent, reports })
}

/// The bundles of a pack with what is beside them. Where nothing belongs, it is found when the pack is made again.
fn bundles(pack: &Pack) -> BTreeMap<String, Given> {
    let mut bundles: BTreeMap<String, Given> = BTreeMap::new();
    for (path, content) in &pack.files {
        let path = path.as_str();
        if !path.starts_with("bundles/") {
            continue;
        }
        if let Some((bundle, sha256)) = path.split_once(".d/") {
            let beside = &mut bundles.entry(bundle.to_owned()).or_default().beside;
            beside.insert(sha256.to_owned(), content.clone());
        } else {
            bundles.entry(path.to_owned()).or_default().bundle.clone_from(content);
        }
    }
    bundles
}

struct Beside<'g>(&'g BTreeMap<String, Vec<u8>>);

impl Externals for Beside<'_> {
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.0.get(sha256).map(|content| Box::new(content.as_slice()) as Box<dyn Read>))
    }
}

fn verified(path: &str, given: &Given, options: &Options<'_>) -> Result<Report, IncidentError> {
    let report = verify_bundle(Input::Zip(&given.bundle), &mut Beside(&given.beside), options);
    let wrong = |reason: String| IncidentError::Bundle { path: path.to_owned(), reason };
    let report = report.map_err(|error| wrong(error.to_string()))?;
    match &report.finding {
        None => Ok(report),
        Some(finding) => Err(wrong(finding.reason.code().to_owned())),
    }
}
