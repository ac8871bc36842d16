//! Figures, each with what it was counted from.

use serde::Serialize;

use super::{Cell, Index};
use crate::code::{Code, Refusal};
use crate::version::Version;

/// The names of figures, what they count and out of what.
pub const METRICS: &[(&str, &str, &str)] = &[
    (
        "pass_rate",
        "evolutions that passed, of those that ended",
        "SELECT count(*) FILTER (WHERE result = 'PASSED'), count(result) FROM evolutions WHERE $",
    ),
    ("proven_rate", "changes that are proven, of all", "SELECT sum(proven), count(*) FROM changes WHERE $"),
    (
        "refusal_rate",
        "attempts to promote that were refused, of those that ended",
        "SELECT count(*) FILTER (WHERE result = 'REFUSED'), count(*) FROM promotions WHERE result <> 'STARTED' AND $",
    ),
    (
        "step_fail_rate",
        "steps that failed, of those that were run",
        "SELECT count(*) FILTER (WHERE outcome <> 'passed'), count(*) FROM steps JOIN evolutions ON evolutions.id = evolution \
         WHERE outcome <> 'skipped' AND $",
    ),
];

/// A share, and what it is of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    pub metric: &'static str,
    /// None for all versions.
    pub version: Option<Version>,
    pub part: i64,
    pub whole: i64,
    /// None where there is nothing to have a share of.
    pub value: Option<f64>,
}

impl Index {
    /// Counts a figure, of one version or of all.
    ///
    /// # Errors
    /// `METRIC_UNKNOWN`.
    pub fn metric(&self, name: &str, version: Option<&Version>) -> Result<Metric, Refusal> {
        let known = METRICS.iter().find(|(known, _, _)| *known == name);
        let (metric, _, sql) = known.ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|(name, _, _)| *name).collect();
            Refusal::new(Code::MetricUnknown, format!("there is no `{name}`; there is {}", names.join(", ")))
        })?;
        // A version is made of digits, letters, dots and hyphens.
        let condition = version.map_or_else(|| "1".to_owned(), |version| format!("version = '{version}'"));
        let table = self.query(&sql.replace('$', &condition))?;
        let counts = table.rows.first().map(|row| {
            row.iter().map(|cell| match cell {
                Cell::Whole(count) => *count,
                _ => 0,
            })
        });
        let counts: Vec<i64> = counts.into_iter().flatten().collect();
        let (part, whole) = (counts.first().copied().unwrap_or(0), counts.get(1).copied().unwrap_or(0));
        // Counts of events are far below what a double holds exactly.
        let value = (whole > 0).then(|| part as f64 / whole as f64);
        Ok(Metric { metric, version: version.cloned(), part, whole, value })
    }
}
