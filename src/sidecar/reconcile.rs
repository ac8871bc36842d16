//! `estoppel reconcile`: a provider's own log against receipts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::time::UnixMicros;
use estoppel_reconcile::{Excess, Format, Log, Mapping, Pairing, Receipt, Row, Sure, moment};
use serde_json::{Value, json};

use crate::admin::tell;
use crate::arguments::{self, LogFormat, Sureness};
use crate::output::{Colour, Failure, Output, plain};
use crate::{input, show, verify};

/// Largest log that is read, in bytes.
const LOG_BYTES_MAX: u64 = 256 << 20;
/// Most receipts that are held in memory.
const RECEIPTS_MAX: usize = 5_000_000;
/// Most findings that are recorded one by one; the rest is one entry with their number.
const RECORDED_MAX: usize = 1_000;
/// Most findings that are shown on a terminal.
const SHOWN_MAX: usize = 100;

/// Calls of one row that have no receipt.
struct Finding {
    place: u64,
    name: String,
    at: Option<u64>,
    model: Option<String>,
    cause: &'static str,
    count: u64,
    recorded: bool,
}

/// No earlier and no later receipts, microseconds since 1970.
type Bounds = (Option<u64>, Option<u64>);

/// What the evidence says.
#[derive(Default)]
struct Evidence {
    bounds: Bounds,
    receipts: Vec<Receipt>,
    /// Calls and attempts that were read already, where a run is in the journal and in a bundle.
    calls: BTreeSet<String>,
    /// How often each finding was recorded already.
    recorded: BTreeMap<String, u64>,
    /// Entries of bypasses that were counted.
    entries: BTreeSet<(String, u64)>,
}

pub fn run(output: &Output, asked: &arguments::Reconcile) -> Result<ExitCode, Failure> {
    let (from, to) = (time(asked.from.as_deref())?, time(asked.to.as_deref())?);
    let mut log = read_log(asked)?;
    let window_us = u64::from(asked.window_s) * 1_000_000;
    let bounds = (from.map(|from| from.saturating_sub(window_us)), to.map(|to| to.saturating_add(window_us)));
    let mut evidence = read_evidence(asked, bounds)?;
    let upstream = narrow(&mut evidence.receipts, asked.upstream.as_deref())?;
    let all = log.rows.len();
    let is_within =
        |(begin, end): (u64, u64)| from.is_none_or(|from| end >= from) && to.is_none_or(|to| begin <= to);
    log.rows.retain(|row| row.when.is_none_or(is_within));
    log.sums.retain(|sum| is_within(sum.when));
    let pairing = estoppel_reconcile::pair(&log.rows, &evidence.receipts, window_us);
    let mut findings = findings(&log.rows, &pairing, asked.sure, &mut evidence.recorded);
    let excesses = estoppel_reconcile::excesses(&log.sums, &evidence.receipts, window_us);
    let outside = all - log.rows.len();
    let found = Found { log: &log, pairing: &pairing, findings: &findings, excesses: &excesses, outside };
    let unnamed = found.unnamed(&evidence.receipts, window_us);
    found.print(*output, asked, unnamed);
    let mut data = found.data(unnamed, upstream.as_deref());
    if asked.record {
        let told = record(asked, upstream.as_deref(), &mut findings, &excesses, &mut evidence.recorded);
        let told = told.map_err(|failure| Failure { data: Some(data.clone()), ..failure })?;
        output.line(&format!("recorded   {told} in the journal of {}", plain(&asked.admin.admin)));
        data["recorded"] = json!(told);
    }
    let is_clean = findings.is_empty() && excesses.is_empty();
    Ok(output.answer(&data, if is_clean { 0 } else { 5 }))
}

fn invalid(message: &str) -> Failure {
    Failure::input("ARGUMENT_INVALID", plain(message))
}

pub fn time(said: Option<&str>) -> Result<Option<u64>, Failure> {
    let read = |said| {
        moment(said).ok_or_else(|| invalid(&format!("`{said}` is not a time, as 2026-11-21T04:00:00Z is")))
    };
    said.map(read).transpose()
}

fn read_log(asked: &arguments::Reconcile) -> Result<Log, Failure> {
    let path = &asked.provider_log;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LOG_BYTES_MAX + 1).read_to_end(&mut bytes));
    if read.map_err(|error| input::unreadable(path, &error))? as u64 > LOG_BYTES_MAX {
        return Err(invalid(&format!("`{}` has more than {LOG_BYTES_MAX} bytes", path.display())));
    }
    let mapping = asked.mapping.as_deref().map(mapping).transpose()?;
    let format = match (asked.format, mapping) {
        (LogFormat::Openai, None) => Format::OpenAi,
        (LogFormat::Anthropic, None) => Format::Anthropic,
        (LogFormat::Csv, Some(mapping)) => Format::Csv(mapping),
        (LogFormat::Ndjson, Some(mapping)) => Format::Ndjson(mapping),
        (LogFormat::Openai | LogFormat::Anthropic, Some(_)) => {
            return Err(invalid("--mapping goes with --format csv or ndjson"));
        }
        (LogFormat::Csv | LogFormat::Ndjson, None) => {
            return Err(invalid("--format csv and ndjson need --mapping"));
        }
    };
    estoppel_reconcile::read(&format, &bytes)
        .map_err(|error| invalid(&format!("`{}`: {error}", path.display())))
}

fn mapping(path: &Path) -> Result<Mapping, Failure> {
    toml::from_str(&input::text(path)?).map_err(|error| {
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        invalid(&format!("`{}`: {message}", path.display()))
    })
}

fn read_evidence(asked: &arguments::Reconcile, bounds: Bounds) -> Result<Evidence, Failure> {
    let mut evidence = Evidence { bounds, ..Evidence::default() };
    let refused = |path: &Path| {
        let message = format!("`{}` does not verify, so nothing is read from it", path.display());
        Failure { exit: 2, ..Failure::runtime("EVIDENCE_INVALID", plain(&message)) }
            .hint("`estoppel verify` says what is wrong with it")
    };
    if let Some(journal) = &asked.journal {
        let (code, entries) = verify::journal_exit_code(journal, asked.trust.as_deref())?;
        if code != 0 {
            return Err(refused(journal));
        }
        estoppel_journal::read_lines(journal, entries, |line| {
            evidence.take(&serde_json::from_slice(line).unwrap_or(Value::Null));
        })
        .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))?;
    }
    for bundle in &asked.bundle {
        let (report, bytes) = verify::read(bundle, asked.trust.as_deref())?;
        if report.exit_code() != 0 {
            return Err(refused(bundle));
        }
        let (_, lines) = show::entries(bundle, &show::opened(bundle, bytes)?)?;
        lines.iter().for_each(|line| evidence.take(&line.value));
    }
    if evidence.receipts.len() > RECEIPTS_MAX {
        return Err(invalid(&format!(
            "there are more than {RECEIPTS_MAX} receipts; narrow it with --from and --to"
        )));
    }
    Ok(evidence)
}

impl Evidence {
    fn take(&mut self, entry: &Value) {
        if entry["kind"] == "bypass" && entry["source"] == "provider_log" {
            let place = (entry["run"].to_string(), entry["seq"].as_u64().unwrap_or_default());
            if let (Some(name), true) = (entry["ref"].as_str(), self.entries.insert(place)) {
                *self.recorded.entry(name.to_owned()).or_default() += entry["count"].as_u64().unwrap_or(1);
            }
            return;
        }
        // Each attempt of a call is one at the provider, too.
        let Some(receipt) = Receipt::read(entry) else { return };
        let (from, to) = self.bounds;
        let is_within =
            from.is_none_or(|from| receipt.ended_us >= from) && to.is_none_or(|to| receipt.began_us <= to);
        // One too many is enough to tell.
        if !is_within || self.receipts.len() > RECEIPTS_MAX {
            return;
        }
        if self.calls.insert(format!("{} {}", receipt.call, entry["attempt"])) {
            self.receipts.push(receipt);
        }
    }
}

/// Keeps the receipts of the upstream that the log is of, and gives its name.
fn narrow(receipts: &mut Vec<Receipt>, named: Option<&str>) -> Result<Option<String>, Failure> {
    let known: BTreeSet<&str> = receipts.iter().filter_map(|receipt| receipt.upstream.as_deref()).collect();
    let upstream = match (named, known.len()) {
        (Some(named), 0) => Some(named.to_owned()),
        (Some(named), _) if known.contains(named) => Some(named.to_owned()),
        (None, 0 | 1) => known.first().map(|name| (*name).to_owned()),
        (named, _) => {
            let names = known.into_iter().collect::<Vec<_>>().join("`, `");
            let message = match named {
                Some(named) => format!("no receipt is of an upstream `{named}`; there are `{names}`"),
                None => format!("receipts are of several upstreams; say which with --upstream: `{names}`"),
            };
            return Err(invalid(&message));
        }
    };
    receipts.retain(|receipt| receipt.upstream == upstream);
    Ok(upstream)
}

fn is_enough(sure: Sure, least: Sureness) -> bool {
    let least = match least {
        Sureness::Certain => Sure::Certain,
        Sureness::Likely => Sure::Likely,
        Sureness::Ambiguous => Sure::Ambiguous,
        Sureness::Possible => Sure::Possible,
    };
    sure <= least
}

fn findings(
    rows: &[Row],
    pairing: &Pairing,
    least: Sureness,
    recorded: &mut BTreeMap<String, u64>,
) -> Vec<Finding> {
    let without = pairing.unpaired.iter().map(|unpaired| (unpaired.row, unpaired.cause.as_str()));
    let unsure = pairing.paired.iter().filter(|paired| !is_enough(paired.sure, least));
    let mut found: Vec<(usize, &'static str)> =
        without.chain(unsure.map(|paired| (paired.row, "unsure"))).collect();
    found.sort_unstable();
    let mut findings: Vec<Finding> = Vec::new();
    for (row, cause) in found.into_iter().filter_map(|(at, cause)| Some((rows.get(at)?, cause))) {
        if let Some(last) = findings.last_mut().filter(|last| last.place == row.place && last.cause == cause)
        {
            last.count += 1;
            continue;
        }
        findings.push(Finding {
            place: row.place,
            name: row.name.clone(),
            at: row.when.map(|(from, _)| from),
            model: row.model.clone(),
            cause,
            count: 1,
            recorded: false,
        });
    }
    for finding in &mut findings {
        finding.recorded = take(recorded, &finding.name, finding.count);
    }
    findings
}

/// Whether so many of that name were recorded, which then are used up.
fn take(recorded: &mut BTreeMap<String, u64>, name: &str, count: u64) -> bool {
    let Some(left) = recorded.get_mut(name).filter(|left| **left >= count) else { return false };
    *left -= count;
    true
}

/// What came of a comparison.
struct Found<'a> {
    log: &'a Log,
    pairing: &'a Pairing,
    findings: &'a [Finding],
    excesses: &'a [Excess],
    outside: usize,
}

impl Found<'_> {
    fn by_sureness(&self) -> Vec<(&'static str, usize)> {
        let count = |sure| self.pairing.paired.iter().filter(|paired| paired.sure == sure).count();
        Sure::ALL.iter().map(|sure| (sure.as_str(), count(*sure))).collect()
    }

    /// Receipts of the time of the log that no row names.
    fn unnamed(&self, receipts: &[Receipt], window_us: u64) -> usize {
        let times = || self.log.rows.iter().filter_map(|row| row.when);
        let (Some(from), Some(to)) = (times().map(|when| when.0).min(), times().map(|when| when.1).max())
        else {
            return 0;
        };
        let (from, to) = (from.saturating_sub(window_us), to.saturating_add(window_us));
        let unnamed = self.pairing.unnamed.iter().filter_map(|at| receipts.get(*at));
        unnamed.filter(|receipt| receipt.began_us <= to && receipt.ended_us >= from).count()
    }

    fn print(&self, output: Output, asked: &arguments::Reconcile, unnamed: usize) {
        let shown = |text: &Option<String>| text.as_deref().map_or_else(|| "-".into(), plain);
        for finding in self.findings.iter().take(SHOWN_MAX) {
            let at = finding.at.map_or_else(|| "-".into(), |at| UnixMicros(at).to_string());
            let line = format!(
                "row {:<6} {}  {}  {} call{} of {}, {}{}",
                finding.place,
                at,
                plain(&finding.name),
                finding.count,
                if finding.count == 1 { "" } else { "s" },
                shown(&finding.model),
                finding.cause,
                if finding.recorded { ", recorded already" } else { "" },
            );
            output.line(&format!("{}     {line}", output.paint(Colour::Red, "BYPASS")));
        }
        if self.findings.len() > SHOWN_MAX {
            output.line(&format!(
                "           and {} more rows; --json has them all",
                self.findings.len() - SHOWN_MAX
            ));
        }
        for excess in self.excesses {
            let line = format!(
                "tokens of {}: {}+{} at the provider, {}+{} in receipts, {} receipts do not say",
                shown(&excess.model),
                excess.log.input,
                excess.log.output,
                excess.receipts.input,
                excess.receipts.output,
                excess.silent
            );
            output.line(&format!("{}     {line}", output.paint(Colour::Red, "BYPASS")));
        }
        let pairs: Vec<String> =
            self.by_sureness().into_iter().map(|(sure, count)| format!("{count} {sure}")).collect();
        output.line(&format!(
            "calls      {} in {}",
            self.log.rows.len(),
            plain(&asked.provider_log.display().to_string())
        ));
        output.line(&format!("receipts   {} ({})", self.pairing.paired.len(), pairs.join(", ")));
        output.line(&format!(
            "unnamed    {unnamed} receipts of that time are of calls that the log does not name"
        ));
        if self.outside > 0 {
            output.line(&format!("outside    {} calls of another time were passed over", self.outside));
        }
        if self.log.more {
            output.note("the log says that it goes on; what is not in the file was not compared");
        }
    }

    fn data(&self, unnamed: usize, upstream: Option<&str>) -> Value {
        let at = |at: u64| UnixMicros(at).to_string();
        let findings = self.findings.iter().map(|finding| {
            json!({
                "row": finding.place, "ref": finding.name, "at": finding.at.map(at), "model": finding.model,
                "cause": finding.cause, "count": finding.count, "recorded": finding.recorded,
            })
        });
        let tokens =
            |tokens: estoppel_reconcile::Tokens| json!({ "input": tokens.input, "output": tokens.output });
        let excesses = self.excesses.iter().map(|excess| {
            json!({
                "model": excess.model, "from": at(excess.when.0), "to": at(excess.when.1), "log": tokens(excess.log),
                "receipts": tokens(excess.receipts), "silent": excess.silent,
            })
        });
        let pairs: BTreeMap<&str, usize> = self.by_sureness().into_iter().collect();
        json!({
            "upstream": upstream,
            "calls": self.log.rows.len(),
            "pairs": pairs,
            "findings": findings.collect::<Vec<_>>(),
            "excesses": excesses.collect::<Vec<_>>(),
            "unnamed": unnamed,
            "outside": self.outside,
            "more": self.log.more,
        })
    }
}

/// Has the daemon record what is not recorded yet; gives how many entries that were.
fn record(
    asked: &arguments::Reconcile,
    upstream: Option<&str>,
    findings: &mut [Finding],
    excesses: &[Excess],
    recorded: &mut BTreeMap<String, u64>,
) -> Result<usize, Failure> {
    let file = asked.provider_log.file_name().map(|name| name.to_string_lossy().into_owned());
    let file: String = plain(&file.unwrap_or_default()).chars().take(64).collect();
    let report = |name: &str, at: Option<u64>, count: u64, comment: String| {
        let comment: String = plain(&comment).chars().take(256).collect();
        let mut said = json!({ "source": "provider_log", "ref": name, "comment": comment });
        if let Some(at) = at {
            said["at"] = json!(UnixMicros(at).to_string());
        }
        if count > 1 {
            said["count"] = json!(count);
        }
        if let Some(upstream) = upstream {
            said["upstream"] = json!(upstream);
        }
        tell(&asked.admin.admin, "/bypasses", &said).map(drop)
    };
    let mut told = 0;
    let mut rest = 0;
    for finding in findings.iter_mut().filter(|finding| !finding.recorded) {
        if told == RECORDED_MAX {
            rest += finding.count;
            continue;
        }
        let model = finding.model.as_deref().unwrap_or("-");
        let comment = format!("row {} of {file}: {model}, {}", finding.place, finding.cause);
        report(&finding.name, finding.at, finding.count, comment)?;
        finding.recorded = true;
        told += 1;
    }
    if rest > 0 {
        report("rest", None, rest, format!("further rows of {file}"))?;
        told += 1;
    }
    // Where calls were found one by one, their tokens are theirs.
    for excess in excesses.iter().filter(|_| findings.is_empty()) {
        let model = excess.model.as_deref().unwrap_or("-");
        let over = |log: u64, receipts: u64| log.saturating_sub(receipts);
        let (input, output) =
            (over(excess.log.input, excess.receipts.input), over(excess.log.output, excess.receipts.output));
        let name: String = plain(&format!("tokens:{model}:{}:{input}+{output}", UnixMicros(excess.when.0)))
            .chars()
            .take(128)
            .collect();
        if take(recorded, &name, 1) {
            continue;
        }
        let comment =
            format!("{file}: {input} tokens of input and {output} of output more than receipts have");
        report(&name, Some(excess.when.0), 1, comment)?;
        told += 1;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(upstream: &str) -> Receipt {
        Receipt {
            call: "c".into(),
            upstream: Some(upstream.into()),
            request: None,
            began_us: 0,
            ended_us: 0,
            served: None,
            asked: None,
            tokens: None,
            answered: true,
            failed: false,
        }
    }

    #[test]
    fn receipts_of_another_upstream_answer_for_nothing() {
        let mut two = vec![receipt("a"), receipt("b")];
        assert!(narrow(&mut two.clone(), None).unwrap_err().message.contains("--upstream: `a`, `b`"));
        assert!(narrow(&mut two.clone(), Some("c")).is_err());
        assert_eq!(narrow(&mut two, Some("b")).unwrap().as_deref(), Some("b"));
        assert_eq!(two, [receipt("b")]);
        assert_eq!(narrow(&mut two, None).unwrap().as_deref(), Some("b"));
        assert_eq!(narrow(&mut Vec::new(), Some("b")).unwrap().as_deref(), Some("b"));
        assert_eq!(narrow(&mut Vec::new(), None).unwrap(), None);
    }

    #[test]
    fn what_was_recorded_is_used_up() {
        let mut recorded = BTreeMap::from([("a".to_owned(), 2)]);
        assert!(take(&mut recorded, "a", 1) && take(&mut recorded, "a", 1));
        assert!(!take(&mut recorded, "a", 1) && !take(&mut recorded, "b", 1));
    }

    #[test]
    fn pairs_that_are_not_sure_enough_are_findings() {
        assert!(is_enough(Sure::Certain, Sureness::Certain) && !is_enough(Sure::Likely, Sureness::Certain));
        assert!(
            is_enough(Sure::Possible, Sureness::Possible) && !is_enough(Sure::Possible, Sureness::Ambiguous)
        );
    }
}
