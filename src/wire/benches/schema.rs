//! A schema judged while the text streams by, beside the ways that need a tree or judge nothing.
//!
//! All in one run, because the ratio is the claim: a check in chunks as a network brings them, against parsing with
//! serde_json and validating the tree with jsonschema.

use std::{fmt::Write as _, hint::black_box, sync::Arc, time::Duration};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use estoppel_wire::{
    json::{Limits, Tokenizer, Visitor},
    schema::{Check, CheckLimits, HashKey, Schema, SchemaLimits},
    sse::{self, Framer, Step},
};
use serde_json::Value;
use struson::reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, ValueType};

const CHUNK: usize = 1_400;

/// Small typed records, the densest in tokens.
fn records() -> (String, &'static str) {
    let mut text = String::from("[");
    for n in 0..10_000_u64 {
        let comma = if n == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{"id":{n},"sku":"SKU-{:05}","price":{}.{:02},"stock":{},"active":{},"tags":["a{}","b"],"unit":"kg"}}"#,
            n * 7 % 99_999,
            n % 1_000,
            n % 100,
            n % 50,
            n % 3 == 0,
            n % 10,
        )
        .expect("a String takes every write");
    }
    text.push(']');
    let schema = r#"{
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "id": {"type": "integer", "minimum": 0},
                "sku": {"type": "string", "minLength": 1, "maxLength": 16},
                "price": {"type": "number", "minimum": 0},
                "stock": {"type": "integer", "minimum": 0, "maximum": 10000},
                "active": {"type": "boolean"},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
                "unit": {"enum": ["kg", "l", "piece"]}
            },
            "required": ["id", "sku", "price", "stock", "active", "tags", "unit"],
            "additionalProperties": false
        }
    }"#;
    (text, schema)
}

/// A long chat request: mostly strings of prose and code.
fn chat() -> (String, &'static str) {
    let prose = "The receipt chain binds each call to the one before it, so that a gap shows. \\\"Quoted\\\" words and\\nline \
                 breaks come now and then; most of it is plain text that goes on and on, as answers do. "
        .repeat(4);
    let mut text = String::from(r#"{"model":"gpt-4o-mini","temperature":0.2,"stream":true,"messages":["#);
    for n in 0..1_200 {
        let (comma, role) = (if n == 0 { "" } else { "," }, if n % 2 == 0 { "user" } else { "assistant" });
        write!(text, r#"{comma}{{"role":"{role}","content":"{n}: {prose}"}}"#)
            .expect("a String takes every write");
    }
    text.push_str("]}");
    let schema = r#"{
        "type": "object",
        "properties": {
            "model": {"type": "string", "minLength": 1},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "stream": {"type": "boolean"},
            "messages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"enum": ["system", "user", "assistant", "tool"]},
                        "content": {"type": "string"}
                    },
                    "required": ["role", "content"],
                    "additionalProperties": false
                }
            }
        },
        "required": ["model", "messages"]
    }"#;
    (text, schema)
}

/// Arguments of a union: each element is one of four shapes.
fn union() -> (String, &'static str) {
    let mut text = String::from("[");
    for n in 0..8_000_u64 {
        let comma = if n == 0 { "" } else { "," };
        let shape = match n % 4 {
            0 => format!(r#"{{"type":"circle","r":{n}}}"#),
            1 => format!(r#"{{"type":"box","w":{n},"h":2.5}}"#),
            2 => format!(r#"{{"type":"text","text":"label {n}","at":{{"x":1,"y":{n}}}}}"#),
            _ => format!(r#"{{"type":"group","name":"g{n}","of":["a","b"]}}"#),
        };
        write!(text, "{comma}{shape}").expect("a String takes every write");
    }
    text.push(']');
    let schema = r#"{"type":"array","items":{"oneOf":[
        {"type":"object","properties":{"type":{"const":"circle"},"r":{"type":"number"}},"required":["type","r"]},
        {"type":"object","properties":{"type":{"const":"box"},"w":{"type":"number"},"h":{"type":"number"}},"required":["type","w","h"]},
        {"type":"object","properties":{"type":{"const":"text"},"text":{"type":"string"},
            "at":{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"integer"}}}},"required":["type","text"]},
        {"type":"object","properties":{"type":{"const":"group"},"name":{"type":"string","pattern":"^g[0-9]+$"},
            "of":{"type":"array","items":{"type":"string"}}},"required":["type","of"]}]}}"#;
    (text, schema)
}

/// Wants nothing: the price of the tokenizer alone.
struct Nothing;

impl Visitor for Nothing {
    type Place = ();

    fn member(&mut self, (): (), _: &[u8]) -> Option<()> {
        None
    }

    fn element(&mut self, (): ()) -> Option<()> {
        None
    }
}

/// Every name and value as struson gives them, without a copy where it can.
fn walk(reader: &mut impl JsonReader) -> Result<(), ReaderError> {
    match reader.peek()? {
        ValueType::Array => {
            reader.begin_array()?;
            while reader.has_next()? {
                walk(reader)?;
            }
            reader.end_array()?;
        }
        ValueType::Object => {
            reader.begin_object()?;
            while reader.has_next()? {
                black_box(reader.next_name()?);
                walk(reader)?;
            }
            reader.end_object()?;
        }
        ValueType::String => {
            black_box(reader.next_str()?);
        }
        ValueType::Number => {
            black_box(reader.next_number_as_str()?);
        }
        ValueType::Boolean => {
            black_box(reader.next_bool()?);
        }
        ValueType::Null => reader.next_null()?,
    }
    Ok(())
}

/// What others take to read the text and judge nothing; all but struson need it whole.
fn parsers(group: &mut BenchmarkGroup<'_, WallTime>, text: &[u8]) {
    group.bench_function("serde_json, IgnoredAny", |b| {
        b.iter(|| serde_json::from_slice::<serde::de::IgnoredAny>(black_box(text)).expect("well-formed"));
    });
    group.bench_function("serde_json, Value", |b| {
        b.iter(|| serde_json::from_slice::<Value>(black_box(text)).expect("well-formed"));
    });
    group.bench_function("sonic-rs, Value", |b| {
        b.iter(|| sonic_rs::from_slice::<sonic_rs::Value>(black_box(text)).expect("well-formed"));
    });
    group.bench_function("simd-json, tape", |b| {
        let mut copy = Vec::new(); // it writes into its input
        let mut buffers = simd_json::Buffers::new(text.len());
        b.iter(|| {
            copy.clear();
            copy.extend_from_slice(black_box(text));
            black_box(simd_json::to_tape_with_buffers(&mut copy, &mut buffers).expect("well-formed"));
        });
    });
    group.bench_function("jiter, Value", |b| {
        b.iter(|| jiter::JsonValue::parse(black_box(text), false).expect("well-formed"));
    });
    let struson = || {
        let settings = ReaderSettings { track_path: false, ..ReaderSettings::default() };
        JsonStreamReader::new_custom(black_box(text), settings)
    };
    group.bench_function("struson, skipping", |b| {
        b.iter(|| {
            let mut reader = struson();
            reader.skip_value().expect("well-formed");
            reader.consume_trailing_whitespace().expect("nothing follows");
        });
    });
    group.bench_function("struson, each token", |b| {
        b.iter(|| {
            let mut reader = struson();
            walk(&mut reader).expect("well-formed");
            reader.consume_trailing_whitespace().expect("nothing follows");
        });
    });
}

fn schema(c: &mut Criterion) {
    for (name, (text, source)) in [("records", records()), ("chat", chat()), ("union", union())] {
        let mut group = c.benchmark_group(format!("schema/{name}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        let compiled =
            Schema::compile(source.as_bytes(), &SchemaLimits::default()).expect("the schema is supported");
        let mut check = Check::new(Arc::new(compiled), CheckLimits::default(), HashKey([1, 2]));
        for chunk in [CHUNK, 16_384] {
            group.bench_function(BenchmarkId::new("check, in chunks of", chunk), |b| {
                b.iter(|| {
                    check.reset();
                    for piece in text.as_bytes().chunks(chunk) {
                        check.feed(black_box(piece)).expect("valid");
                    }
                    check.finish().expect("valid");
                });
            });
        }
        let mut tokenizer = Tokenizer::new(Limits::default(), None);
        group.bench_function(BenchmarkId::new("tokenizer alone, in chunks of", CHUNK), |b| {
            b.iter(|| {
                tokenizer.reset(None);
                for piece in text.as_bytes().chunks(CHUNK) {
                    tokenizer.feed(black_box(piece), &mut Nothing).expect("well-formed");
                }
                tokenizer.finish(&mut Nothing).expect("well-formed");
            });
        });
        parsers(&mut group, text.as_bytes());
        let document: Value = serde_json::from_str(source).expect("the schema is JSON");
        let validator = jsonschema::options()
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&document)
            .expect("the schema is supported");
        group.bench_function("serde_json, Value, then jsonschema", |b| {
            b.iter(|| {
                let value: Value = serde_json::from_slice(black_box(text.as_bytes())).expect("well-formed");
                assert!(validator.is_valid(&value));
            });
        });
        group.finish();
    }
}

/// Events of a chat stream, of about 300 bytes each.
fn deltas() -> (Vec<String>, &'static str) {
    let event = |n: u64| {
        format!(
            r#"{{"id":"chatcmpl-BdXhR3nYqT7kMv2cLwZ8sJf0","object":"chat.completion.chunk","created":{},"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_34a54ae93c","choices":[{{"index":0,"delta":{{"content":" word{n:02}"}},"logprobs":null,"finish_reason":null}}],"usage":null}}"#,
            1_732_190_000 + n / 50,
        )
    };
    let schema = r#"{
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1},
            "object": {"const": "chat.completion.chunk"},
            "created": {"type": "integer", "minimum": 0},
            "model": {"type": "string"},
            "service_tier": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "system_fingerprint": {"type": ["string", "null"]},
            "choices": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer", "minimum": 0},
                    "delta": {"type": "object", "properties": {"content": {"type": ["string", "null"]}}},
                    "logprobs": {"type": ["object", "null"]},
                    "finish_reason": {"enum": ["stop", "length", "tool_calls", null]}
                },
                "required": ["index", "delta", "finish_reason"]
            }},
            "usage": {"anyOf": [{"type": "object"}, {"type": "null"}]}
        },
        "required": ["id", "object", "created", "model", "choices"]
    }"#;
    ((0..200).map(event).collect(), schema)
}

/// One event at a time, each a text of its own; and the framing around them.
fn stream(c: &mut Criterion) {
    let (events, source) = deltas();
    let mut group = c.benchmark_group("schema/deltas");
    group.throughput(Throughput::Bytes(events.iter().map(|event| event.len() as u64).sum()));
    let compiled =
        Schema::compile(source.as_bytes(), &SchemaLimits::default()).expect("the schema is supported");
    let mut check = Check::new(Arc::new(compiled), CheckLimits::default(), HashKey([1, 2]));
    group.bench_function("check, each event", |b| {
        b.iter(|| {
            for event in &events {
                check.reset();
                check.feed(black_box(event.as_bytes())).expect("valid");
                check.finish().expect("valid");
            }
        });
    });
    group.bench_function("serde_json, Value, each event", |b| {
        b.iter(|| {
            for event in &events {
                black_box(serde_json::from_str::<Value>(black_box(event)).expect("well-formed"));
            }
        });
    });
    group.finish();
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let mut group = c.benchmark_group("sse/framing");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function(BenchmarkId::new("in chunks of", CHUNK), |b| {
        b.iter(|| {
            let mut framer = Framer::new(sse::Limits::default());
            let mut found = 0;
            for mut piece in stream.as_bytes().chunks(CHUNK) {
                loop {
                    let (step, taken) = framer.feed(black_box(piece));
                    piece = piece.get(taken..).unwrap_or_default();
                    match step {
                        Step::NeedMore => break,
                        Step::Event(_) => found += 1,
                        step => panic!("{step:?} is not in the stream"),
                    }
                }
            }
            assert_eq!(found, events.len());
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500));
    targets = schema, stream
}
criterion_main!(benches);
