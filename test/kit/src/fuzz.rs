//! Fuzz targets as plain functions, so that their corpus also runs with the ordinary tests.
//!
//! Each takes any bytes, must not panic, and asserts what must hold for all input.

mod judged;

use std::sync::{Arc, LazyLock};

use estoppel_wire::csv::{Check, Contract, Delimiter, EDITS_MAX, Repair, Summary, Violation};
use estoppel_wire::dialect::mcp::Messages;
use estoppel_wire::dialect::{Dialect, EventMark, Framing, RequestScan, ResponseFacts, ResponseScan};
use estoppel_wire::repair::{self, Class, Classes, Outcome, Scalar, Want};
use estoppel_wire::schema::{self, CheckLimits, Formats, HashKey, Language, SchemaLimits};

pub use judged::{contract, judge};

/// Takes any bytes and must not panic.
pub type Target = fn(&[u8]);

/// Name and function of every target.
pub const TARGETS: &[(&str, Target)] = &[
    ("bundle", bundle),
    ("journal", journal),
    ("canonical", canonical),
    ("note", note),
    ("units", units),
    ("archive", archive),
    ("json", json),
    ("sse", sse),
    ("csv", csv),
    ("policy", policy),
    ("repair", repair),
    ("schema", schema),
    ("contract", judged::contract),
    ("judge", judged::judge),
    ("mcp", mcp),
    ("provider_log", provider_log),
    ("certificate", certificate),
    ("framework", framework),
    ("lists", lists),
];

/// The judge of bundles.
pub fn bundle(bytes: &[u8]) {
    estoppel_verify::fuzz_bundle(bytes);
}

/// The judge of journals.
pub fn journal(bytes: &[u8]) {
    estoppel_verify::fuzz_journal(bytes);
}

/// Admission and canonical form: the verifier's scanner and the writer's canonicalizer agree on what is canonical.
pub fn canonical(bytes: &[u8]) {
    estoppel_verify::fuzz_canonical(bytes);
    if let Ok(once) = estoppel_evidence::canonical::foreign(bytes) {
        let twice = estoppel_evidence::canonical::foreign(&once);
        assert_eq!(twice.ok(), Some(once), "canonical bytes are their own canonical form");
    }
}

/// Frameworks: what is read has controls that answer something, and a mapping never has a check.
pub fn framework(bytes: &[u8]) {
    let Ok(framework) = estoppel_attest::Framework::parse(bytes) else { return };
    assert_eq!(framework.digest, estoppel_evidence::Sha256::of(bytes));
    for control in &framework.controls {
        assert!(!control.evidence.is_empty() || !control.threats.is_empty(), "{}", control.id);
        assert!(framework.kind == estoppel_attest::FrameworkKind::Assessment || control.checks.is_empty());
    }
}

/// Indexes of archives and chains of custody.
pub fn lists(bytes: &[u8]) {
    estoppel_verify::fuzz_lists(bytes);
}

/// Replay Certificates, and what they sign.
pub fn certificate(bytes: &[u8]) {
    estoppel_verify::fuzz_certificate(bytes);
}

/// Signed notes and proofs.
pub fn note(bytes: &[u8]) {
    estoppel_verify::fuzz_note(bytes);
}

/// Event streams: the verifier cuts them where the gateway does, however the bytes came.
pub fn units(bytes: &[u8]) {
    let ends = estoppel_verify::fuzz_units(bytes);
    let mut of_bundle = estoppel_bundle::unit_ends(bytes);
    if ends.last() != Some(&bytes.len()) {
        of_bundle.pop(); // the rest, which is a unit of its own
    }
    assert_eq!(of_bundle, ends, "a replay cuts a stream as the verifier does");
    for size in [bytes.len().max(1), 3, 1] {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(response(Dialect::Bytes, Framing::Sse, &pieces).1, ends);
    }
}

/// The reader of archives.
pub fn archive(bytes: &[u8]) {
    estoppel_bundle::fuzz_open(bytes);
}

/// Dialects over JSON bodies: cutting the bytes changes nothing.
pub fn json(bytes: &[u8]) {
    let (dialect, body) = dialect(bytes);
    let whole = response(dialect, Framing::Json, &[body]);
    let pieces: Vec<&[u8]> = body.chunks(7).collect();
    assert_eq!(whole, response(dialect, Framing::Json, &pieces));
    let mut once = RequestScan::new(dialect, "/models/m:generateContent");
    once.push(body);
    let mut cut = RequestScan::new(dialect, "/models/m:generateContent");
    body.chunks(3).for_each(|piece| cut.push(piece));
    assert_eq!(once.finish(), cut.finish());
}

/// Dialects over event streams: cutting the bytes changes neither facts nor where events end.
pub fn sse(bytes: &[u8]) {
    let (dialect, body) = dialect(bytes);
    let whole = response(dialect, Framing::Sse, &[body]);
    for size in [1, 5] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(whole, response(dialect, Framing::Sse, &pieces));
    }
}

/// Messages of MCP: what is read is one JSON text, and so is every value in it.
pub fn mcp(bytes: &[u8]) {
    let Ok(messages) = Messages::read(bytes) else { return };
    let is_json = |text: &[u8]| {
        let read = response(Dialect::Json, Framing::Json, &[text]).0.evaluated;
        assert!(read.defect.is_none() && read.bytes > 0, "{}", text.escape_ascii());
    };
    is_json(bytes);
    for message in messages.list {
        let result = message.result.unwrap_or_default();
        let schemas =
            result.tools.into_iter().flat_map(|tool| [Some(tool.definition), tool.input, tool.output]);
        for span in schemas.chain([message.arguments, result.value]).flatten() {
            let [start, end] = [span.start, span.end].map(|at| usize::try_from(at).expect("within the text"));
            is_json(&bytes[start..end]);
        }
    }
}

/// CSV against a contract, which the first byte chooses, and its repair: cutting the bytes changes nothing, and
/// what was repaired needs no repair.
pub fn csv(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let contract = &CSV_CONTRACTS[usize::from(*first) % CSV_CONTRACTS.len()];
    let whole = judged(contract, &[body]);
    let repaired = repaired_csv(&[body]);
    for size in [1, 5] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(whole, judged(contract, &pieces));
        assert_eq!(repaired, repaired_csv(&pieces));
    }
    if let Some(once) = repaired {
        assert_eq!(repaired_csv(&[&once]).as_ref(), Some(&once));
    }
    if let Ok(text) = Contract::parse(body) {
        let _ = judged(&Arc::new(text), &[body]);
    }
}

static CSV_CONTRACTS: LazyLock<[Arc<Contract>; 4]> = LazyLock::new(|| {
    [
        r#"{"version":1,"header":"any-order","extra_columns":"allow","columns":[{"name":"id","type":"integer","unique":true}]}"#,
        r#"{"version":1,"header":"absent","extra_columns":"allow","columns":[{"name":"a","max_length":9},{"name":"b","type":"number","max":7}]}"#,
        r#"{"version":1,"header":"absent","formulas":"allow","columns":[{"name":"a","pattern":"[^x]*"},{"name":"b","required":true}]}"#,
        r#"{"version":1,"limits":{"field_bytes_max":7,"record_bytes_max":12},"columns":[{"name":"a","type":"date"},{"name":"b"}]}"#,
    ]
    .map(|text| Arc::new(Contract::parse(text.as_bytes()).expect("a contract")))
});

fn judged(contract: &Arc<Contract>, pieces: &[&[u8]]) -> Result<Summary, Violation> {
    let mut check = Check::new(Arc::clone(contract));
    pieces.iter().try_for_each(|piece| check.feed(piece))?;
    check.finish()
}

fn repaired_csv(pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut repair = Repair::new(Delimiter::Comma, EDITS_MAX);
    let mut out = Vec::new();
    let fed = pieces.iter().try_for_each(|piece| repair.feed(piece, &mut out));
    fed.and_then(|()| repair.finish(&mut out)).ok().map(|()| out)
}

/// A provider's log in every format, against two receipts: every row has one fate, and a receipt answers for one row.
pub fn provider_log(bytes: &[u8]) {
    use estoppel_reconcile::{Format, Mapping, Receipt, excesses, pair, read};

    let names = r#"{"request":"id","time":"at","model":"m","input":["i","/u/i"],"output":"o","time_unit":"milliseconds"}"#;
    let mapping: Mapping = serde_json::from_str(names).expect("a mapping");
    let receipt = |request: Option<&str>, ended_us| Receipt {
        call: "c".into(),
        upstream: None,
        request: request.map(Into::into),
        began_us: 0,
        ended_us,
        served: Some("m".into()),
        asked: Some("m-1".into()),
        tokens: None,
        answered: true,
        failed: false,
    };
    let receipts = [receipt(Some("req_1"), 2_000_000), receipt(None, u64::MAX)];
    for format in [Format::OpenAi, Format::Anthropic, Format::Csv(mapping.clone()), Format::Ndjson(mapping)] {
        let Ok(log) = read(&format, bytes) else { continue };
        let pairing = pair(&log.rows, &receipts, 60_000_000);
        assert_eq!(pairing.paired.len() + pairing.unpaired.len(), log.rows.len());
        let mut taken: Vec<usize> = pairing.paired.iter().map(|paired| paired.receipt).collect();
        taken.extend(&pairing.unnamed);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
        assert!(log.rows.iter().all(|row| row.request.is_some() || row.when.is_some()));
        assert!(excesses(&log.sums, &receipts, 0).len() <= log.sums.len());
    }
}

/// The policy parser: what it takes has one canonical form and compiles.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(document) = estoppel_policy::PolicyDocument::parse(text) {
        let policy = document.compile();
        assert_eq!(policy.hash().as_bytes(), document.hash().as_bytes());
        // The text itself is a body and a call, as hostile as any.
        let content = estoppel_policy::Content::read(bytes, estoppel_policy::Wanted { destinations: true });
        let tool = estoppel_policy::Tool { name: "fetch", call: estoppel_policy::Call::With(&content) };
        let facts = estoppel_policy::RequestFacts {
            route: "llm",
            tools: &[tool, "search".into()],
            body: Some(&content),
            ..estoppel_policy::RequestFacts::default()
        };
        assert_eq!(policy.explain_request(&facts).decision, policy.request(&facts));
    }
    if let Ok(fixtures) = estoppel_policy::Fixtures::parse(text) {
        assert!(!fixtures.cases.is_empty());
    }
}

/// Repair-once: edits replay, the result is well formed, and cut texts are lossy. The first two bytes grant classes.
pub fn repair(bytes: &[u8]) {
    let Some(([low, high], value)) = bytes.split_first_chunk() else { return };
    let granted = u16::from_le_bytes([*low, *high]);
    let classes = Class::ALL.into_iter().enumerate().filter(|(bit, _)| granted >> bit & 1 == 1);
    let classes: Classes = classes.map(|(_, class)| class).collect();
    let profile = repair::Profile { classes, edits_max: repair::EDITS_MOST, ..repair::Profile::default() };
    let Ok(outcome) = repair::repair(&profile, value) else { return };
    if let Outcome::Repaired(repaired) = &outcome {
        assert_eq!(repair::apply(value, &repaired.edits), Ok(repaired.bytes.clone()));
        assert_eq!(repair::repair(&profile, &repaired.bytes), Ok(Outcome::Intact));
        assert!(repaired.edits.iter().all(|edit| classes.has(edit.class)));
        assert_eq!(repaired.lossy, repaired.edits.iter().any(|edit| edit.class.is_lossy()));
    }
    let wants = [("/a", Scalar::Integer), ("/0/a", Scalar::Boolean)]
        .map(|(pointer, scalar)| Want { pointer: pointer.to_string(), scalar });
    for want in wants {
        if let Ok(Outcome::Repaired(coerced)) = repair::coerce(&profile, value, outcome.clone(), &[want]) {
            assert_eq!(repair::apply(value, &coerced.edits), Ok(coerced.bytes));
        }
    }
}

/// Schemas in each language and what they judge: the first line is a schema, the rest a text. Cutting the text changes nothing, and a
/// text that passes is one JSON text.
pub fn schema(bytes: &[u8]) {
    [Language::JsonSchema, Language::Gemini].into_iter().for_each(|language| schema_in(language, bytes));
}

fn schema_in(language: Language, bytes: &[u8]) {
    use estoppel_wire::schema::{Check, Schema};

    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (document, text) = bytes.split_at(end);
    let small =
        SchemaLimits { formats: Formats::Assert, pattern_bytes_max: 16 << 10, ..SchemaLimits::default() };
    let Ok(schema) = Schema::compile_in(language, document, &small) else { return };
    let mut check = Check::new(Arc::new(schema), CheckLimits::default(), HashKey([7, 11]));
    let mut judge = |size: usize| {
        check.reset();
        let fed = text.chunks(size).try_for_each(|chunk| check.feed(chunk));
        let finished = check.finish();
        assert!(fed.is_ok() || fed == finished, "a violation stays");
        finished
    };
    let whole = judge(text.len().max(1));
    for size in [1, 7] {
        assert_eq!(judge(size), whole);
    }
    if whole.is_ok() {
        let mut open = Check::new(anything(), CheckLimits::default(), HashKey([7, 11]));
        assert_eq!(open.feed(text).and_then(|()| open.finish()), Ok(()));
    }
}

/// The schema that every text without a member that comes twice passes.
fn anything() -> Arc<schema::Schema> {
    static ANYTHING: LazyLock<Arc<schema::Schema>> = LazyLock::new(|| {
        let compiled = schema::Schema::compile(b"true", &SchemaLimits::default());
        Arc::new(compiled.expect("`true` is a schema"))
    });
    ANYTHING.clone()
}

fn dialect(bytes: &[u8]) -> (Dialect, &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) => (Dialect::ALL[usize::from(*first) % Dialect::ALL.len()], rest),
        None => (Dialect::Bytes, bytes),
    }
}

/// Facts, and the end of each event counted from the start.
fn response(dialect: Dialect, framing: Framing, pieces: &[&[u8]]) -> (ResponseFacts, Vec<usize>) {
    let mut scan = ResponseScan::new(dialect, framing);
    let (mut before, mut ends) = (0, Vec::new());
    for piece in pieces {
        scan.push(piece, &mut |mark: EventMark| ends.push(before + mark.end));
        before += piece.len();
    }
    (scan.finish(), ends)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every committed input, and every one of them cut short, flipped and doubled.
    #[test]
    fn every_corpus_runs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for entry in
                std::fs::read_dir(folder.join(name)).unwrap_or_else(|error| panic!("corpus {name}: {error}"))
            {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                target(&bytes);
                target(&bytes[..bytes.len() / 2]);
                let mut flipped = bytes.clone();
                if let Some(byte) = flipped.get_mut(bytes.len() / 3) {
                    *byte ^= 0x20;
                }
                target(&flipped);
                target(&[bytes.as_slice(), &bytes].concat());
                inputs += 1;
            }
            assert!(inputs > 0, "corpus {name} is empty");
        }
    }

    /// SplitMix64.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap()
        }

        /// Some bytes changed, left out, put in, or taken from elsewhere in the corpus.
        fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
            const BYTES: &[u8] = b"{}[]\",:\\/\r\n \t0x1e-.=+@'`\xef\xbb\xbf\x00\xff";
            let mut bytes = inputs[self.below(inputs.len())].clone();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                let end = (at + self.below(16)).min(bytes.len());
                let other = &inputs[self.below(inputs.len())];
                let from = self.below(other.len() + 1);
                match self.below(4) {
                    0 => bytes.insert(at, BYTES[self.below(BYTES.len())]),
                    1 => drop(bytes.drain(at..end)),
                    2 => bytes[at..end].fill(BYTES[self.below(BYTES.len())]),
                    _ => drop(bytes.splice(at..end, other[from..].iter().copied().take(24))),
                }
            }
            bytes
        }
    }

    /// `FUZZ_ROUNDS` of them for each target, the same ones every time.
    #[test]
    fn seeded_changes_of_every_corpus_run() {
        let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
        let only = std::env::var("FUZZ_TARGET").ok();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
        {
            let mut paths: Vec<_> =
                std::fs::read_dir(folder.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            let inputs: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
            let mut seeded = Seeded(0);
            for _ in 0..rounds {
                let bytes = seeded.mutate(&inputs);
                let ran = std::panic::catch_unwind(|| target(&bytes));
                assert!(ran.is_ok(), "{name}: {}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn the_verifier_cuts_streams_where_the_gateway_does() {
        let mut state = 7u64;
        let mut roll = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let parts: [&[u8]; 8] = [b"\r", b"\n", b"\r\n", b"a", b":", b"data: 1", b"\xef\xbb\xbf", b"\n\n"];
        for _ in 0..5_000 {
            let count = roll(24);
            let bytes: Vec<u8> = (0..count).flat_map(|_| parts[roll(8) as usize].to_vec()).collect();
            units(&bytes);
        }
    }

    #[test]
    fn every_target_is_built_for_the_fuzzer() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}
