//! `estoppel regress run`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use estoppel_gateway::contract_errors;
use estoppel_gateway::packs::Packs;
use estoppel_gateway::recorded::{Rejudged, Retrial};
use estoppel_policy::Policy;
use serde_json::{Value, json};

use super::checked::{Checked, Fixtures, Folder};
use super::fixture::{self, By, Expected};
use crate::arguments::{Expect, RegressRun, Today};
use crate::junit::{self, Case, Outcome};
use crate::output::{Colour, Failure, Output, plain};
use crate::recorded::{self, StoredBodies, call_of};
use crate::{input, policy, show, trial, verify};

/// What fixtures are judged by, and how that is told.
pub struct Judging<'a> {
    pub today: &'a Today,
    pub fixtures: &'a Path,
    pub trust: Option<&'a Path>,
}

/// What came of one fixture.
pub(super) struct Row {
    name: String,
    call: String,
    seq: u64,
    expected: Expected,
    /// The rule that decided then.
    rule: Option<String>,
    came: Came,
}

enum Came {
    Same(Rejudged),
    Changed(Rejudged, Because),
    Undecided(String),
}

/// What made the difference.
#[derive(Clone, Copy)]
enum Because {
    /// The policy of then still says what was recorded.
    Policy,
    /// It does not: contracts, detectors or rules are read otherwise than then.
    Program,
    /// Nothing did: the author wants another verdict than there ever was.
    Author,
    Unknown,
}

pub fn run(output: Output, run: &RegressRun) -> Result<ExitCode, Failure> {
    junit::check_new(run.today.junit.as_deref())?;
    let judging = Judging { today: &run.today, fixtures: &run.fixtures, trust: run.trust.as_deref() };
    match &run.bundle {
        Some(bundle) => judging.judge_bundle(output, bundle),
        None => judging.judge(output, &Folder(&run.fixtures).names()?, &[]),
    }
}

/// How many fixtures came out how.
pub struct Counts {
    pub same: usize,
    pub changed: usize,
    pub undecided: usize,
    /// The first that did not come out as expected.
    pub first: Option<String>,
}

/// Judges all fixtures, and prints nothing.
pub fn counted(
    (file, policy): (&Path, Policy),
    fixtures: &dyn Fixtures,
    trust: Option<&[u8]>,
) -> Result<Counts, Failure> {
    let current = current(file, policy)?;
    let rows = rows(&current, fixtures, &fixtures.names()?, trust)?;
    let [same, changed, undecided] = numbers(&rows);
    let other = rows.iter().find(|row| !matches!(row.came, Came::Same(_)));
    Ok(Counts { same, changed, undecided, first: other.map(|row| row.name.clone()) })
}

/// How many came out the same, otherwise and undecided.
fn numbers(rows: &[Row]) -> [usize; 3] {
    let count = |is: fn(&Came) -> bool| rows.iter().filter(|row| is(&row.came)).count();
    [
        count(|came| matches!(came, Came::Same(_))),
        count(|came| matches!(came, Came::Changed(..))),
        count(|came| matches!(came, Came::Undecided(_))),
    ]
}

/// Where a bundle first came out otherwise.
fn first<'r>((of, rows): (&str, &'r [Row])) -> Option<(&'r Row, Because)> {
    rows.iter().filter(|_| of == "calls").find_map(|row| match &row.came {
        Came::Changed(_, because) => Some((row, *because)),
        _ => None,
    })
}

/// What is answered. `of` is what the rows are of: `calls` of a bundle, or `fixtures`.
pub(super) fn data(
    policy: &Retrial,
    checkpoints: &str,
    (of, rows): (&str, &[Row]),
    left_out: &[Value],
) -> Value {
    let [same, changed, undecided] = numbers(rows);
    let mut data = json!({
        "policy_hash": policy.policy().hash().to_string(),
        "checkpoints": checkpoints,
        "same": same, "changed": changed, "undecided": undecided, "left_out": left_out,
    });
    data[of] = rows.iter().map(Row::data).collect();
    if let Some((row, because)) = first((of, rows)) {
        data["first"] = json!({ "call": row.call, "seq": row.seq, "because": because.word() });
    }
    data
}

/// A policy from this file, ready to judge again.
fn current(file: &Path, policy: Policy) -> Result<Retrial, Failure> {
    let errors = contract_errors(&policy);
    if !errors.is_empty() {
        return Err(trial::contract_failure(file, &errors));
    }
    recorded::again(policy)
}

fn demand_some(fixtures: &dyn Fixtures, names: &[String]) -> Result<(), Failure> {
    if !names.is_empty() {
        return Ok(());
    }
    let message = format!("there is no fixture in `{}`, so nothing was judged", fixtures.at().display());
    Err(Failure::input("FIXTURES_MISSING", plain(&message)).hint("`estoppel regress add` makes one"))
}

fn rows(
    current: &Retrial,
    fixtures: &dyn Fixtures,
    names: &[String],
    trust: Option<&[u8]>,
) -> Result<Vec<Row>, Failure> {
    demand_some(fixtures, names)?;
    let mut policies = BTreeMap::new();
    let mut rows = Vec::new();
    for name in names {
        let fixture = Checked::read(fixtures, name, trust)?;
        let hash = fixture.document.policy.to_string();
        if !policies.contains_key(&hash) {
            policies.insert(hash.clone(), recorded::retrial(Some(fixture.policy.clone()), &hash)?);
        }
        let (document, own) = (&fixture.document, policies.get(&hash));
        rows.extend(own.and_then(|own| {
            let called = (fixture.name.clone(), document.expect.clone());
            Row::of(called, &fixture.receipt, &fixture, (current, own))
        }));
    }
    Ok(rows)
}

impl Judging<'_> {
    /// Judges the fixtures of these names. `left_out` are calls of which none was made, each with the cause.
    pub fn judge(&self, output: Output, names: &[String], left_out: &[Value]) -> Result<ExitCode, Failure> {
        let (current, rows) = self.rows(output, names)?;
        self.tell(output, &current, ("fixtures", &rows), left_out)
    }

    fn rows(&self, output: Output, names: &[String]) -> Result<(Retrial, Vec<Row>), Failure> {
        let fixtures = Folder(self.fixtures);
        demand_some(&fixtures, names)?;
        let current = self.current(output)?;
        let trust = self.trust.map(input::file).transpose()?;
        let rows = rows(&current, &fixtures, names, trust.as_deref())?;
        Ok((current, rows))
    }

    /// Judges every call of a bundle, in the order in which they were recorded.
    fn judge_bundle(&self, output: Output, path: &Path) -> Result<ExitCode, Failure> {
        let current = self.current(output)?;
        let bundle = verify::demand(path, self.trust)?;
        let (_, lines) = show::entries(path, &bundle)?;
        let mut policies = BTreeMap::new();
        let mut rows = Vec::new();
        for line in lines.iter().filter(|line| line.value["kind"] == "call") {
            let hash = line.value["policy"]["hash"].as_str().unwrap_or_default().to_owned();
            if !policies.contains_key(&hash) {
                let own = recorded::retrial(recorded::policy_text(&bundle, &hash), &hash)?;
                policies.insert(hash.clone(), own);
            }
            rows.extend(
                policies.get(&hash).and_then(|own| Row::of_call(&line.value, &bundle, (&current, own))),
            );
        }
        if rows.is_empty() {
            let message = format!("`{}` has no calls, so nothing was judged", path.display());
            return Err(Failure::input("FIXTURES_MISSING", plain(&message)));
        }
        self.tell(output, &current, ("calls", &rows), &[])
    }

    fn current(&self, output: Output) -> Result<Retrial, Failure> {
        let policy = policy::compiled(output, &self.today.policy, &Packs::at(self.today.packs.as_deref()))?;
        current(&self.today.policy, policy)
    }

    fn tell(
        &self,
        output: Output,
        current: &Retrial,
        (of, rows): (&str, &[Row]),
        left_out: &[Value],
    ) -> Result<ExitCode, Failure> {
        rows.iter().for_each(|row| row.print(output));
        let [same, changed, undecided] = numbers(rows);
        output.line(&format!("{same} as expected, {changed} otherwise, {undecided} undecided"));
        if let Some((row, because)) = first((of, rows)) {
            output.line(&plain(&format!("first at seq {}, call {}: {}", row.seq, row.call, because.text())));
        }
        if self.trust.is_none() {
            output.line(
                "note: nobody has vouched for what was recorded; --trust holds it against keys that you know",
            );
        }
        if let Some(file) = &self.today.junit {
            let cases: Vec<Case> = rows.iter().map(|row| row.case(self.today.strict)).collect();
            junit::write(file, "estoppel regress", &cases)?;
        }
        // Where nothing was decided nothing was shown.
        let differs = changed > 0 || same == 0 || self.today.strict && undecided + left_out.len() > 0;
        let checkpoints = if self.trust.is_some() { "trusted" } else { "unchecked" };
        let data = data(current, checkpoints, (of, rows), left_out);
        Ok(output.answer(&data, if differs { 5 } else { 0 }))
    }
}

impl Row {
    /// A call with what is expected of it. None: the receipt has no place.
    pub(super) fn of(
        (name, expected): (String, Expected),
        receipt: &Value,
        bodies: &dyn StoredBodies,
        policies: (&Retrial, &Retrial),
    ) -> Option<Self> {
        let came = Came::of(receipt, bodies, &expected, policies);
        Some(Self {
            name,
            call: receipt["call"].as_str()?.to_owned(),
            seq: receipt["seq"].as_u64()?,
            expected,
            rule: receipt["policy"]["rule"].as_str().map(ToOwned::to_owned),
            came,
        })
    }

    /// A call of a bundle. None: the entry has no verdict.
    pub(super) fn of_call(
        entry: &Value,
        bodies: &dyn StoredBodies,
        policies: (&Retrial, &Retrial),
    ) -> Option<Self> {
        // Without all of its bytes the reason may be another for want of them.
        let is_whole = fixture::bodies(bodies, entry, Expect::Receipt).is_ok();
        let expected = Expected::of(entry, if is_whole { Expect::Receipt } else { Expect::Verdict })?;
        Self::of((format!("seq {}", entry["seq"]), expected), entry, bodies, policies)
    }

    fn before(&self) -> String {
        let Expected { reason, verdict, .. } = &self.expected;
        said(
            verdict.as_str(),
            self.rule.as_deref().filter(|_| self.expected.by != By::Author),
            reason.as_deref(),
        )
    }

    fn print(&self, output: Output) {
        let (colour, word, text) = match &self.came {
            Came::Same(now) => (Colour::Green, "ok        ", format!("{}{}", now.said(), self.by_author())),
            Came::Changed(now, because) => {
                let text = format!("{} -> {}, {}", self.before(), now.said(), because.text());
                (Colour::Red, "CHANGED   ", text)
            }
            Came::Undecided(cause) => (Colour::Yellow, "undecided ", cause.clone()),
        };
        let place = plain(&format!("{}  call {}: {text}", self.name, self.call));
        output.line(&format!("{}{place}", output.paint(colour, word)));
    }

    /// That the receipt says something else, or nothing, of what is expected.
    fn by_author(&self) -> &'static str {
        if self.expected.by == By::Author { ", as the author of the fixture wants it" } else { "" }
    }

    fn case(&self, strict: bool) -> Case {
        let outcome = match &self.came {
            Came::Same(_) => Outcome::Passed,
            Came::Changed(now, because) => {
                let message = format!("call {}: {} -> {}", self.call, self.before(), now.said());
                Outcome::failed(&message, because.text())
            }
            Came::Undecided(cause) if strict => Outcome::failed("undecided", cause),
            Came::Undecided(cause) => Outcome::Skipped(cause.clone()),
        };
        let name = format!("{} (call {}, seq {}){}", self.name, self.call, self.seq, self.by_author());
        Case { name, outcome }
    }

    fn data(&self) -> Value {
        let mut row = json!({
            "name": self.name, "call": self.call, "seq": self.seq,
            "expected": { "by": self.expected.by, "verdict": self.expected.verdict, "reason": self.expected.reason, "rule": self.rule },
        });
        self.came.tell(&mut row);
        row
    }
}

/// What a recorded call comes to by the policy of today, beside what its receipt states.
pub fn again(receipt: &Value, bodies: &dyn StoredBodies, policies: (&Retrial, &Retrial)) -> Option<Value> {
    let expected = Expected::of(receipt, Expect::Receipt)?;
    let rule = &receipt["policy"]["rule"];
    let mut row = json!({
        "call": receipt["call"], "seq": receipt["seq"],
        "recorded": { "reason": expected.reason, "rule": rule, "verdict": expected.verdict },
    });
    Came::of(receipt, bodies, &expected, policies).tell(&mut row);
    Some(row)
}

impl Came {
    fn tell(&self, row: &mut Value) {
        match self {
            Came::Same(now) => {
                row["state"] = "same".into();
                row["now"] = now.data();
            }
            Came::Changed(now, because) => {
                row["state"] = "changed".into();
                row["now"] = now.data();
                row["because"] = because.word().into();
            }
            Came::Undecided(cause) => {
                row["state"] = "undecided".into();
                row["cause"] = cause.as_str().into();
            }
        }
    }

    /// What a call comes to by the policy of today and, where that is something else, by the one of then.
    fn of(
        receipt: &Value,
        bodies: &dyn StoredBodies,
        expected: &Expected,
        (current, own): (&Retrial, &Retrial),
    ) -> Self {
        let of_receipt = expected.by != By::Author;
        if let Some(cause) = recorded::state(receipt).filter(|_| of_receipt) {
            return Self::Undecided(cause);
        }
        let call = call_of(bodies, (receipt, None), own);
        let now = match current.judge(&call) {
            Ok(now) => now,
            Err(undecided) => match undecided.either.map(|either| *either) {
                Some([now, other]) if !expected.is(&now) && !expected.is(&other) => now,
                _ => return Self::Undecided(undecided.cause),
            },
        };
        if expected.is(&now) {
            return Self::Same(now);
        }
        let then = own.judge(&call).ok();
        let is_cut = call.answer.is_some_and(|answer| !answer.is_whole);
        match then.map(|then| expected.is(&then)) {
            _ if !of_receipt => Self::Changed(now, Because::Author),
            Some(true) => Self::Changed(now, Because::Policy),
            Some(false) | None if is_cut => {
                Self::Undecided("its answer was cut, and what it was cut for was not stored".into())
            }
            Some(false) => Self::Changed(now, Because::Program),
            None => Self::Changed(now, Because::Unknown),
        }
    }
}

impl Expected {
    fn is(&self, now: &Rejudged) -> bool {
        self.verdict == now.action && (self.by != By::Receipt || self.reason == now.reason)
    }
}

impl Because {
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Policy => Some("policy"),
            Self::Program => Some("program"),
            Self::Author => Some("author"),
            Self::Unknown => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Policy => "because of the policy: that of then still says what was recorded",
            Self::Program => {
                "not because of the policy: that of then does not say what was recorded any more"
            }
            Self::Author => "the author of the fixture wants it so",
            Self::Unknown => "what the policy of then would say is not known",
        }
    }
}

/// What was said of a call, in words and as data.
trait Said {
    fn said(&self) -> String;
    fn data(&self) -> Value;
}

impl Said for Rejudged {
    fn said(&self) -> String {
        said(self.action.as_str(), self.rule.as_deref(), self.reason.as_deref())
    }

    fn data(&self) -> Value {
        json!({
            "verdict": self.action.as_str(), "rule": self.rule, "reason": self.reason, "not_asked": self.not_asked,
        })
    }
}

fn said(verdict: &str, rule: Option<&str>, reason: Option<&str>) -> String {
    let by = rule.map(|rule| format!(" by `{rule}`")).unwrap_or_default();
    let with = reason.map(|reason| format!(" with {reason}")).unwrap_or_default();
    format!("{verdict}{by}{with}")
}
