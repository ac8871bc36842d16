//! What is held back until it is judged: bodies against a contract, and the values of models' streams.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use estoppel_wire::contract::{Body, Contract, Edit, Format, Refused, Terms, Verdict, judge_value};
use estoppel_wire::csv;
use estoppel_wire::dialect::{CallForm, Dialect, Framing, MarkKind, ResponseScan};
use estoppel_wire::judge::{self, Blocks, Judge, Outcome, Stream};
use estoppel_wire::repair::Profile;
use estoppel_wire::schema::{HashKey, Schema, SchemaLimits, Violation};

const KEY: HashKey = HashKey([3, 5]);
const SCHEMA: &str = r#"{"type":"object","required":["a"],"properties":{"a":{"type":["integer","string"],"maximum":9,"maxLength":9}}}"#;
const COLUMNS: &str =
    r#"{"version":1,"columns":[{"name":"a","type":"integer"},{"name":"b","type":"string","unique":true}]}"#;

static OBJECT: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let schema = Schema::compile(SCHEMA.as_bytes(), &SchemaLimits::default());
    Arc::new(schema.expect("a schema of four keywords"))
});
static ROWS: LazyLock<Arc<csv::Contract>> =
    LazyLock::new(|| Arc::new(csv::Contract::parse(COLUMNS.as_bytes()).expect("a contract of two columns")));

/// Bodies against a contract; the first byte says in which format, and whether they are repaired. Cutting the bytes changes
/// neither what leaves nor the verdict; without edits what passes is what came; what was repaired passes as it is.
pub fn contract(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let format = [Format::Json, Format::Lines, Format::Events, Format::Csv][usize::from(first % 4)];
    let repair = (first & 4 != 0).then(Profile::default);
    let whole = held(format, repair, &[body]);
    for size in [1, 5] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(held(format, repair, &pieces), whole, "in pieces of {size}");
    }
    let (left, edits, end) = whole;
    assert!(repair.is_some() || body.starts_with(&left), "only what came may leave");
    if end.is_ok() && edits.is_empty() {
        assert_eq!(left, body);
    }
    if end.is_ok() {
        assert_eq!(held(format, None, &[&left]), (left.clone(), Vec::new(), Ok(())), "what leaves is valid");
    }
}

type Told = (Vec<u8>, Vec<Edit>, Result<(), Refused>);

fn held(format: Format, repair: Option<Profile>, pieces: &[&[u8]]) -> Told {
    let contract = match format {
        Format::Csv => Contract::Csv(ROWS.clone()),
        Format::Json | Format::Lines | Format::Events => Contract::Json(OBJECT.clone()),
    };
    let terms = Terms { holds: true, held_bytes_max: 4096, repair, key: KEY };
    let mut body = Body::new(&contract, format, terms).expect("the contract is of the format");
    let mut out = Vec::new();
    let mut pieces = pieces.iter();
    let fed = pieces.try_for_each(|piece| body.feed(&Bytes::copy_from_slice(piece), &mut out));
    let end = fed.and_then(|()| body.finish(&mut out));
    (out.concat(), body.edits(64), end)
}

struct Values;

impl Values {
    fn judge(text: &[u8]) -> Outcome<(), Violation> {
        match judge_value(&OBJECT, KEY, Some(&Profile::default()), text) {
            Verdict::Valid => Outcome::Pass,
            Verdict::Repaired(repaired) => Outcome::Repaired(repaired.bytes, ()),
            Verdict::Refused(violation) => Outcome::Refused(violation),
        }
    }
}

impl Judge for Values {
    type Repair = ();
    type Finding = Violation;

    fn wants_call(&mut self, form: CallForm, _: &str) -> Result<bool, Violation> {
        Ok(form != CallForm::Code)
    }

    fn call(&mut self, form: CallForm, _: &str, arguments: &[u8]) -> Outcome<(), Violation> {
        if form == CallForm::Code { Outcome::Pass } else { Self::judge(arguments) }
    }

    fn wants_text(&self) -> bool {
        true
    }

    fn text(&mut self, text: &[u8]) -> Outcome<(), Violation> {
        Self::judge(text)
    }
}

/// Streams of models; the first byte names the dialect. Cutting the bytes changes neither what leaves nor how it ends, and
/// without a repair what leaves is a beginning of what came.
pub fn judge(bytes: &[u8]) {
    let (dialect, body) = super::dialect(bytes);
    let whole = streamed(dialect, &[body]);
    for size in [1, 5] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(streamed(dialect, &pieces), whole, "in pieces of {size}");
    }
    let (left, repaired, _) = whole;
    let in_order = dialect != Dialect::OpenAiChat; // there text goes on beside calls
    assert!(repaired || !in_order || body.starts_with(&left), "only what came may leave");
}

type Streamed = (Vec<u8>, bool, Option<judge::Refused<Violation>>);

fn streamed(dialect: Dialect, pieces: &[&[u8]]) -> Streamed {
    let mut scan = ResponseScan::new(dialect, Framing::Sse).with_parts();
    let mut stream = Stream::new(dialect, Values, 1 << 16);
    let (mut blocks, mut out) = (Blocks::default(), Vec::new());
    let end = pieces.iter().try_for_each(|piece| {
        let chunk = Bytes::copy_from_slice(piece);
        let (mut marks, mut from, mut before) = (Vec::new(), 0, 0);
        scan.push(&chunk, &mut |mark| marks.push(mark));
        if let Some(line_feed) = blocks.line_feed(&chunk) {
            from = line_feed.len();
            stream.line_feed(line_feed, &mut out)?;
        }
        for mark in marks {
            let (block, next) = blocks.end(&chunk, from, mark.end);
            let parts = scan.parts().get(before..mark.parts).unwrap_or_default();
            stream.event(block, parts, mark.kind == MarkKind::Terminator, &mut out)?;
            (from, before) = (next, mark.parts);
        }
        blocks.keep(&chunk, from);
        Ok(())
    });
    let end = end.and_then(|()| stream.finish());
    let repaired = stream.verdicts().iter().any(|verdict| verdict.repair.is_some());
    (out.concat(), repaired, end.err())
}
