//! What it costs to look into what passes. The policy's decision is in src/policy/benches.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estoppel_wire::dialect::{Dialect, Framing, RequestScan, ResponseScan};

const EVENTS: u64 = 200;

fn chat_stream() -> String {
    let mut out = String::new();
    for n in 0..EVENTS {
        write!(
            out,
            "data: {{\"id\":\"chatcmpl-bench0001\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {n:04} \"}},\"finish_reason\":null}}]}}\n\n"
        )
        .expect("a String takes every write");
    }
    out
}

fn stream(c: &mut Criterion) {
    let text = chat_stream();
    let mut group = c.benchmark_group("stream");
    group.throughput(Throughput::Elements(EVENTS));
    for chunk in [64, 1_400, 16_384] {
        group.bench_with_input(BenchmarkId::new("scan, in pieces of", chunk), &chunk, |b, chunk| {
            b.iter(|| {
                let mut scan = ResponseScan::new(Dialect::OpenAiChat, Framing::Sse);
                let mut seen = 0;
                for piece in text.as_bytes().chunks(*chunk) {
                    scan.push(black_box(piece), &mut |_| seen += 1);
                }
                assert_eq!((seen, scan.finish().events), (EVENTS, EVENTS));
            });
        });
    }
    group.finish();
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("body");
    for bytes in [1_000, 50_000, 1_000_000] {
        let text: String = "the receipt chain binds each call ".chars().cycle().take(bytes).collect();
        let request = format!(
            r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}],"tools":[{{"type":"function","function":{{"name":"get_weather"}}}}]}}"#
        );
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_with_input(BenchmarkId::new("scan a request", bytes), &request, |b, request| {
            b.iter(|| {
                let mut scan = RequestScan::new(Dialect::OpenAiChat, "/v1/chat/completions");
                scan.push(black_box(request.as_bytes()));
                assert_eq!(scan.finish().tools.items, ["get_weather"]);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stream, whole);
criterion_main!(benches);
