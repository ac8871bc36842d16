//! Recorded SQL, run again in a scratch schema of which nothing stays.
//!
//! | file | |
//! |---|---|
//! | `denied.rs` | what a statement is, and why it is not run |
//! | `recorded.rs` | the statement of a call, and what it gave then |
//! | `rows.rs` | rows of then and now in one form |

mod denied;
mod recorded;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use estoppel_bundle::{Bundle, RecordedCall, Source};
use estoppel_evidence::entry::BodyMode;
use estoppel_evidence::{RunCapture, Sha256};
use estoppel_policy::Determinism;
use estoppel_snapshot::{Ran, Schema, Scratch, ScratchError, Server};
use serde::Serialize;

use crate::code::Code;
use crate::stored::{Stored, Verdict, absent, as_begun};
use crate::tolerance::Part;
use crate::{CALLED_MAX, Classes, Connections, Normalizers, ReplayError, Tally};
use denied::{Denial, Kind};
use recorded::{Outcome, Recorded, Said};
use rows::{Compared, Table};

pub use recorded::{SqlSource, SqlSourceError};

/// Most statements of one replay.
pub const STATEMENTS_MAX: usize = 10_000;

/// Where the scratch schema is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaFrom {
    /// The first snapshot that a step names.
    Bundle,
    /// A look at the database itself, for want of one.
    Database,
}

/// What a replay needs to know beside the bundle.
#[derive(Debug)]
pub struct Plan<'a> {
    pub sources: &'a [SqlSource],
    /// Values of rows that may differ.
    pub normalizers: Option<&'a Normalizers>,
    pub capture: Option<&'a RunCapture>,
    pub classes: &'a mut Classes,
}

#[derive(Clone, Debug, Serialize)]
struct DenialCount {
    code: Denial,
    count: u64,
}

#[derive(Clone, Debug, Serialize)]
struct PartCount {
    count: u64,
    part: &'static str,
}

/// Of how many statements that were sent something was held against what was recorded.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct ComparedCount {
    /// Numbers of rows.
    counts: u64,
    rows: u64,
}

/// The member `database` of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseReplay {
    compared: ComparedCount,
    denied: Vec<DenialCount>,
    /// The scratch schema was not there any more after the rollback.
    gone: bool,
    /// The transaction was one from beginning to end.
    kept: bool,
    namespace: String,
    not_recreated: Vec<PartCount>,
    schema: Sha256,
    schema_from: SchemaFrom,
    server: Server,
    sources: Vec<SqlSource>,
    statements: u64,
    #[serde(skip)]
    unfound: BTreeMap<String, u64>,
}

impl DatabaseReplay {
    /// Of how many calls nothing was decided because a pointer of `--sql` found nothing in them, by that pointer.
    pub fn unfound(&self) -> &BTreeMap<String, u64> {
        &self.unfound
    }
}

/// The scratch schema and what it was made of.
#[derive(Debug)]
pub struct Opened {
    pub scratch: Scratch,
    pub schema: Sha256,
    pub schema_from: SchemaFrom,
    pub namespace: String,
    pub server: Server,
}

/// The calls that a statement is taken from, in the order in which they began.
///
/// # Errors
/// The bundle cannot be read, there are more than [`STATEMENTS_MAX`], or no call is of one of the sources.
pub fn steps<S: Source>(bundle: &Bundle<S>, sources: &[SqlSource]) -> Result<Vec<RecordedCall>, ReplayError> {
    let (mut there, mut is_called) = (BTreeSet::new(), vec![false; sources.len()]);
    let is_step = |call: &RecordedCall| {
        let mut is_of_any = false;
        for (source, is_called) in sources.iter().zip(&mut is_called) {
            let is_of = source.is_of(&call.receipt);
            (*is_called, is_of_any) = (*is_called || is_of, is_of_any || is_of);
        }
        let names = recorded::names(&call.receipt);
        there.extend(names.take((CALLED_MAX + 1).saturating_sub(there.len())));
        call.upstream.is_some() && is_of_any
    };
    let steps = as_begun(bundle, STATEMENTS_MAX, is_step)?.ok_or(ReplayError::Statements)?;
    match sources.iter().zip(is_called).find(|(_, is_called)| !is_called) {
        Some((source, _)) => Err(ReplayError::Source { wanted: Box::new(source.clone()), there }),
        None => Ok(steps),
    }
}

/// The digest of the schema document that the database had before the first of these calls.
pub fn recorded_schema(steps: &[RecordedCall]) -> Option<Sha256> {
    steps.iter().find_map(|call| Sha256::parse(call.receipt["snapshot"]["pre"]["digest"].as_str()?))
}

/// Reads a schema document of the bundle.
///
/// # Errors
/// It is not there, or is none.
pub fn read_schema<S: Source>(bundle: &Bundle<S>, digest: Sha256) -> Result<Schema, ReplayError> {
    const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
    let path = estoppel_bundle::BundlePath::snapshot(digest);
    let bytes = bundle.read(&path, DOCUMENT_BYTES_MAX)?;
    Ok(Schema::parse(&bytes)?)
}

/// Runs the statements of `steps`, rolls back, and counts what became of each.
///
/// # Errors
/// [`ReplayError`]; what is wrong with a step is in the tally. The server has rolled back then, too.
pub async fn replay<S: Source>(
    bundle: &Bundle<S>,
    steps: &[RecordedCall],
    plan: Plan<'_>,
    opened: Opened,
    tally: &mut Tally,
    connections: &mut Connections,
) -> Result<DatabaseReplay, ReplayError> {
    let Opened { scratch, schema, schema_from, namespace, server } = opened;
    let not_recreated: Vec<PartCount> =
        scratch.not_recreated().iter().map(|(part, count)| PartCount { count: *count, part }).collect();
    let sources = plan.sources.to_vec();
    let mut again = Again {
        bundle,
        plan,
        scratch,
        denied: BTreeMap::new(),
        statements: 0,
        compared: ComparedCount::default(),
        unfound: BTreeMap::new(),
        has_escaped: false,
    };
    for call in steps {
        connections.look().map_err(ReplayError::Connections)?;
        again.step(call).await?.unwrap_or_else(|verdict| verdict).count(call, tally);
    }
    connections.look().map_err(ReplayError::Connections)?;
    let closed = again.scratch.close().await?;
    let kept = closed.kept && !again.has_escaped;
    if !kept {
        tally.whole(Code::TransactionEscape);
    }
    if !closed.gone {
        tally.whole(Code::ScratchLeft);
    }
    if !not_recreated.is_empty() {
        tally.whole(Code::SchemaPartial);
    }
    let denied = again.denied.into_iter().map(|(code, count)| DenialCount { code, count });
    Ok(DatabaseReplay {
        compared: again.compared,
        denied: denied.collect(),
        gone: closed.gone,
        kept,
        namespace,
        not_recreated,
        schema,
        schema_from,
        server,
        sources,
        statements: again.statements,
        unfound: again.unfound,
    })
}

struct Again<'a, S> {
    bundle: &'a Bundle<S>,
    plan: Plan<'a>,
    scratch: Scratch,
    denied: BTreeMap<Denial, u64>,
    statements: u64,
    compared: ComparedCount,
    unfound: BTreeMap<String, u64>,
    has_escaped: bool,
}

impl<'a, S: Source> Again<'a, S> {
    /// The inner `Err` ends the step early.
    async fn step(&mut self, call: &RecordedCall) -> Result<Result<Verdict, Verdict>, ScratchError> {
        let Recorded { statement, parameters, outcome } = match self.recorded(call) {
            Ok(recorded) => recorded,
            Err(verdict) => return Ok(Err(verdict)),
        };
        if self.has_escaped {
            return Ok(Err(Verdict::Skipped(Code::Undecided)));
        }
        let kind = match denied::kind(&statement) {
            Ok(kind) => kind,
            Err(denial) => return Ok(Err(self.deny(denial))),
        };
        let now = self.scratch.run(&statement, &parameters, kind.is_query).await?;
        self.statements += u64::from(now != Ran::Unbound);
        let class = self.plan.classes.of(self.bundle, &call.receipt);
        let is_unfound =
            matches!((&outcome, &now), (Outcome::Came { rows: Said::Nothing, .. }, Ran::Rows { .. }));
        if let Some(source) = self.source(call).filter(|_| is_unfound) {
            *self.unfound.entry(source.result()).or_default() += 1;
        }
        Ok(Ok(self.compare(kind, &outcome, &now, class.as_deref())))
    }

    fn deny(&mut self, denial: Denial) -> Verdict {
        *self.denied.entry(denial).or_default() += 1;
        Verdict::Skipped(Code::StatementDenied)
    }

    fn source(&self, call: &RecordedCall) -> Option<&'a SqlSource> {
        self.plan.sources.iter().find(|source| source.is_of(&call.receipt))
    }

    fn recorded(&mut self, call: &RecordedCall) -> Result<Recorded, Verdict> {
        let source = self.source(call).ok_or(Verdict::Skipped(Code::Undecided))?;
        if call.receipt["outcome"]["complete"] != true {
            return Err(Verdict::Truncated);
        }
        let stored = Stored::of(self.bundle, self.plan.capture, call)?;
        let (Some(request), Some(answer)) = (stored.request, stored.upstream) else {
            let is_full = call.mode == BodyMode::Full;
            return Err(Verdict::Skipped(if is_full { Code::BodyAbsent } else { absent(call) }));
        };
        let read = source.read(&call.receipt, &request, &answer);
        if read.is_none() && !source.finds_statement(&request) {
            *self.unfound.entry(source.argument()).or_default() += 1;
        }
        read.ok_or(Verdict::Skipped(Code::Undecided))
    }

    fn compare(&mut self, kind: Kind, then: &Outcome, now: &Ran, class: Option<&Determinism>) -> Verdict {
        let (rows, count) = match (then, now) {
            (_, Ran::Escaped) => {
                self.has_escaped = true;
                return Verdict::Skipped(Code::Undecided);
            }
            (_, Ran::Unbound) => return Verdict::Skipped(Code::Undecided),
            (_, Ran::TooMany) => return Verdict::Skipped(Code::StatementBound),
            (then, Ran::Refused { state, .. }) => {
                return match self.refused(state) {
                    None if *then == Outcome::Failed => Verdict::Matched,
                    None => Verdict::drifted(Code::DbDrift),
                    Some(verdict) => verdict,
                };
            }
            (Outcome::Failed, Ran::Done { .. } | Ran::Rows { .. }) => {
                return Verdict::drifted(Code::DbDrift);
            }
            (Outcome::Came { rows, count }, Ran::Done { .. } | Ran::Rows { .. }) => (rows, count),
        };
        let verdict = match self.compare_count(count, now) {
            Verdict::Matched => self.compare_rows(kind, rows, now, class),
            other => other,
        };
        match verdict {
            // It comes to something else each time.
            Verdict::Drifted(..) | Verdict::Beyond(..) if kind.is_volatile => {
                Verdict::Skipped(Code::Undecided)
            }
            verdict => verdict,
        }
    }

    /// Of what failed for what is so of the replay alone.
    fn refused(&mut self, state: &str) -> Option<Verdict> {
        match state {
            "57014" | "55P03" => Some(Verdict::Skipped(Code::StatementBound)),
            "42501" => Some(self.deny(Denial::Role)),
            // Something that is not there, and may only be missing here.
            "3F000" | "42704" | "42883" | "42P01" if !self.scratch.not_recreated().is_empty() => {
                Some(Verdict::Skipped(Code::Undecided))
            }
            _ => None,
        }
    }

    fn compare_count(&mut self, then: &Said, now: &Ran) -> Verdict {
        let now = match now {
            Ran::Done { count } => *count,
            Ran::Rows { rows, .. } => u64::try_from(rows.len()).ok(),
            _ => None,
        };
        match (then, now) {
            (Said::Unasked | Said::Nothing, _) | (_, None) => Verdict::Matched,
            (Said::This(then), Some(now)) => match rows::count(then) {
                None => Verdict::Skipped(Code::NotCompared),
                Some(then) => {
                    self.compared.counts += 1;
                    match then == now {
                        true => Verdict::Matched,
                        false => Verdict::Drifted(Code::DbDrift, vec!["/count".to_owned()]),
                    }
                }
            },
        }
    }

    fn compare_rows(&mut self, kind: Kind, then: &Said, now: &Ran, class: Option<&Determinism>) -> Verdict {
        let (then, columns, now) = match (then, now) {
            (Said::This(then), Ran::Rows { columns, rows }) => (then, columns, rows),
            (_, Ran::Rows { .. }) => return Verdict::Skipped(Code::NotCompared),
            (Said::This(then), _) => {
                self.compared.rows += 1;
                return match rows::has_none(then) {
                    true => Verdict::Matched,
                    false => Verdict::Drifted(Code::DbDrift, vec![String::new()]),
                };
            }
            (Said::Unasked | Said::Nothing, _) => return Verdict::Matched,
        };
        let table = Table { then, columns, now, is_ordered: kind.is_ordered };
        let compared = match class {
            Some(class) => rows::compare_by(class, &table)
                .map(|(found, compared)| (Verdict::of(Part::Rows, Code::DbDrift, found), compared)),
            None => rows::compare(&table, self.plan.normalizers).map(|(at, compared)| match at.is_empty() {
                true => (Verdict::Matched, compared),
                false => (Verdict::Drifted(Code::DbDrift, at), compared),
            }),
        };
        let Some((verdict, compared)) = compared else { return Verdict::Skipped(Code::NotCompared) };
        match (verdict, compared) {
            (Verdict::Matched | Verdict::Within(..), Compared::InPart) => Verdict::Skipped(Code::NotCompared),
            (verdict, _) => {
                self.compared.rows += 1;
                verdict
            }
        }
    }
}
