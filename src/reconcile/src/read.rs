//! Reading a provider's log.

use estoppel_evidence::{Sha256, text};
use serde_json::Value;

use crate::mapping::{Mapping, Names};
use crate::moment::moment;
use crate::row::{Row, Sum, Tokens};

/// Most calls of one log.
pub const ROWS_MAX: usize = 1_000_000;

/// How a log is written.
#[derive(Clone, Debug)]
pub enum Format {
    /// Lists of stored completions and responses, and the usage that OpenAI's administrators see, as its API gives them.
    OpenAi,
    /// Messages one by one, and the usage that Anthropic's administrators see, as its API gives them.
    Anthropic,
    /// With a line of columns first.
    Csv(Mapping),
    /// One JSON object on each line.
    Ndjson(Mapping),
}

/// A log that has been read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub rows: Vec<Row>,
    pub sums: Vec<Sum>,
    /// The log says that it goes on elsewhere.
    pub more: bool,
}

/// Why a log cannot be read. Nothing of it is used then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("the log is not UTF-8")]
    Utf8,
    #[error("the log is not well-formed: {0}")]
    Malformed(String),
    #[error("the log has no column `{0}`")]
    Column(String),
    #[error("row {place}: {what}")]
    Row { place: u64, what: String },
    #[error("the log has more than {ROWS_MAX} calls")]
    RowsMax,
    #[error("the mapping names neither `request` nor `time`, so that nothing could be compared")]
    Mapping,
}

/// Reads a log.
///
/// # Errors
/// [`ReadError`] for what is not whole or not understood, be it one row: that row could be the one that matters.
pub fn read(format: &Format, bytes: &[u8]) -> Result<Log, ReadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ReadError::Utf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::OpenAi => documents(text, &Mapping::openai()),
        Format::Anthropic => documents(text, &Mapping::anthropic()),
        Format::Ndjson(mapping) => {
            usable(mapping)?;
            let mut log = Log::default();
            for document in lines(text)? {
                add_call(&mut log, &document, mapping)?;
            }
            Ok(log)
        }
        Format::Csv(mapping) => {
            usable(mapping)?;
            table(text, mapping)
        }
    }
}

fn usable(mapping: &Mapping) -> Result<(), ReadError> {
    let is_named = |names: &Names| names.iter().next().is_some();
    (is_named(&mapping.request) || is_named(&mapping.time)).then_some(()).ok_or(ReadError::Mapping)
}

fn lines(text: &str) -> Result<Vec<Value>, ReadError> {
    let full = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    full.map(|(at, line)| {
        serde_json::from_str(line).map_err(|error| ReadError::Malformed(format!("line {}: {error}", at + 1)))
    })
    .collect()
}

/// One document, a list of them, pages of a list, or one on each line.
fn documents(text: &str, mapping: &Mapping) -> Result<Log, ReadError> {
    let pages = match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(pages)) => pages,
        Ok(page) => vec![page],
        Err(error) => lines(text).map_err(|_| ReadError::Malformed(error.to_string()))?,
    };
    let mut log = Log::default();
    for page in &pages {
        let Some(list) = page["data"].as_array() else {
            add_document(&mut log, page, mapping)?;
            continue;
        };
        for document in list {
            add_document(&mut log, document, mapping)?;
        }
    }
    // Of several pages only the last may go on.
    log.more = pages.last().is_some_and(|page| page["has_more"] == true);
    let named = log.sums.iter().filter(|sum| sum.model.is_some()).count();
    if named > 0 && named < log.sums.len() {
        let what = "some sums are of a model and some of all; ask for usage grouped by model".to_owned();
        return Err(ReadError::Row { place: log.sums.first().map_or(1, |sum| sum.place), what });
    }
    Ok(log)
}

fn add_document(log: &mut Log, document: &Value, mapping: &Mapping) -> Result<(), ReadError> {
    match document["results"].as_array() {
        None => add_call(log, document, mapping),
        Some(results) => results.iter().try_for_each(|result| add_usage(log, document, result)),
    }
}

fn add_call(log: &mut Log, document: &Value, mapping: &Mapping) -> Result<(), ReadError> {
    if !document.is_object() {
        return Err(wrong(log, "expected a JSON object"));
    }
    let find = |names: &Names| {
        let found = names.iter().find_map(|name| {
            let value = if name.starts_with('/') { document.pointer(name) } else { document.get(name) };
            value.filter(|value| !value.is_null() && *value != "")
        });
        found.map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
    };
    let row = row(log, mapping, &find, &document.to_string())?;
    push(log, row)
}

/// Calls that are counted, and tokens that are added up, of one model in a span of time.
fn add_usage(log: &mut Log, bucket: &Value, result: &Value) -> Result<(), ReadError> {
    let time = |names: [&str; 2]| {
        let value = names.iter().map(|name| &bucket[*name]).find(|value| !value.is_null())?;
        value.as_str().map_or_else(|| value.as_u64()?.checked_mul(1_000_000), moment)
    };
    let span = (time(["starting_at", "start_time"]), time(["ending_at", "end_time"]));
    let (Some(from), Some(to)) = span else { return Err(wrong(log, "the span of time cannot be read")) };
    let count = |names: [&str; 2]| {
        let value = names.iter().map(|name| &result[*name]).find(|value| !value.is_null());
        value.map_or(Some(0), Value::as_u64)
    };
    let tokens =
        (count(["uncached_input_tokens", "input_tokens"]), count(["output_tokens", "output_tokens"]));
    let (Some(input), Some(output)) = tokens else { return Err(wrong(log, "a count is not a whole number")) };
    let Some(calls) = count(["num_model_requests", "num_model_requests"]) else {
        return Err(wrong(log, "a count is not a whole number"));
    };
    let model = result["model"].as_str().map(ToOwned::to_owned);
    let place = log.next_place();
    let when = (from, to.saturating_sub(1).max(from));
    log.sums.push(Sum { place, when, model: model.clone(), tokens: Tokens { input, output } });
    let name = format!("row:{}", digest(&format!("{from} {result}")));
    let room = ROWS_MAX - log.rows.len().min(ROWS_MAX);
    if calls > room as u64 {
        return Err(ReadError::RowsMax);
    }
    for _ in 0..calls {
        push(
            log,
            Row {
                place,
                request: None,
                name: name.clone(),
                when: Some(when),
                model: model.clone(),
                tokens: None,
                counted: true,
            },
        )?;
    }
    Ok(())
}

fn table(text: &str, mapping: &Mapping) -> Result<Log, ReadError> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let malformed = |error: csv::Error| ReadError::Malformed(error.to_string());
    let columns = reader.headers().map_err(malformed)?.clone();
    let all =
        [&mapping.request, &mapping.name, &mapping.time, &mapping.model, &mapping.input, &mapping.output];
    for name in all.into_iter().flat_map(Names::iter) {
        match columns.iter().filter(|column| *column == name).count() {
            1 => {}
            _ => return Err(ReadError::Column(name.to_owned())),
        }
    }
    let mut log = Log::default();
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let find = |names: &Names| {
            let value = |name| record.get(columns.iter().position(|column| column == name)?);
            names.iter().filter_map(value).find(|value| !value.is_empty()).map(ToOwned::to_owned)
        };
        let whole = record.iter().collect::<Vec<_>>().join("\u{1f}");
        let row = row(&log, mapping, &find, &whole)?;
        push(&mut log, row)?;
    }
    Ok(log)
}

fn row(
    log: &Log,
    mapping: &Mapping,
    find: &impl Fn(&Names) -> Option<String>,
    whole: &str,
) -> Result<Row, ReadError> {
    let request = find(&mapping.request);
    let when = match find(&mapping.time) {
        None => None,
        Some(said) => {
            let at = number(&said, mapping.time_unit.micros()).or_else(|| moment(&said));
            Some(at.ok_or_else(|| wrong(log, "the time is neither RFC 3339 with a zone nor a number"))?)
        }
    };
    if request.is_none() && when.is_none() {
        return Err(wrong(log, "it has neither a request nor a time, so that nothing could be compared"));
    }
    let count = |names| match find(names) {
        None => Ok(None),
        Some(said) => said.parse::<u64>().map(Some).map_err(|_| wrong(log, "a count is not a whole number")),
    };
    let tokens = (count(&mapping.input)?, count(&mapping.output)?);
    let name = request.clone().or_else(|| find(&mapping.name));
    Ok(Row {
        place: log.next_place(),
        // As the receipt has it, which cuts what is too long.
        request: request.map(|request| text::name(&request).into_owned()),
        name: name.map_or_else(|| format!("row:{}", digest(whole)), |name| text::name(&name).into_owned()),
        when: when.map(|at| (at, at)),
        model: find(&mapping.model),
        tokens: match tokens {
            (Some(input), Some(output)) => Some(Tokens { input, output }),
            _ => None,
        },
        counted: false,
    })
}

/// A count of units since 1970 in microseconds; a fraction is taken as it is.
fn number(said: &str, unit: u64) -> Option<u64> {
    if let Ok(whole) = said.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let (whole, fraction) = said.split_once('.')?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit)?.checked_div(scale)?;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
}

fn digest(whole: &str) -> String {
    Sha256::of(whole.as_bytes()).hex()
}

fn wrong(log: &Log, what: &str) -> ReadError {
    ReadError::Row { place: log.next_place(), what: what.to_owned() }
}

fn push(log: &mut Log, row: Row) -> Result<(), ReadError> {
    if log.rows.len() == ROWS_MAX {
        return Err(ReadError::RowsMax);
    }
    log.rows.push(row);
    Ok(())
}

impl Log {
    fn next_place(&self) -> u64 {
        let rows = self.rows.last().map_or(0, |row| row.place);
        rows.max(self.sums.last().map_or(0, |sum| sum.place)) + 1
    }
}

#[cfg(test)]
mod tests;
