mod caps;
mod cases;
mod early;
mod gemini;
mod oracle;
mod refused;

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::splits::every_split;

const KEY: HashKey = HashKey([0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210]);

fn compiled(schema: &str) -> Arc<Schema> {
    compiled_with(schema, &SchemaLimits::default())
}

fn compiled_with(schema: &str, limits: &SchemaLimits) -> Arc<Schema> {
    let compiled = Schema::compile(schema.as_bytes(), limits);
    Arc::new(compiled.unwrap_or_else(|errors| panic!("{schema}: {}", errors[0])))
}

fn run(check: &mut Check, chunks: &[&[u8]]) -> Result<(), Violation> {
    check.reset();
    let fed = chunks.iter().try_for_each(|chunk| check.feed(chunk));
    let finished = check.finish();
    assert!(fed.is_ok() || fed == finished, "a violation stays");
    finished
}

/// The one answer for every split of `text`.
fn judge_with(schema: &Arc<Schema>, limits: CheckLimits, text: &[u8]) -> Result<(), Violation> {
    let mut check = Check::new(Arc::clone(schema), limits, KEY);
    let whole = run(&mut check, &[text]);
    every_split(text, |chunks| {
        assert_eq!(run(&mut check, chunks), whole, "{} in {chunks:?}", String::from_utf8_lossy(text));
    });
    whole
}

fn judge(schema: &Arc<Schema>, text: &[u8]) -> Result<(), Violation> {
    judge_with(schema, CheckLimits::default(), text)
}

/// What another implementation says.
fn oracle(schema: &Value) -> jsonschema::Validator {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(schema)
        .unwrap_or_else(|error| panic!("{schema}: {error}"))
}
