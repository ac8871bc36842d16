//! Bytes a second through the engine: prose, code-like text, and text that is all anchors.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estoppel_detect::{Detector, Engine, Scanner};

const SIZE: usize = 1 << 20;
const CHUNK: usize = 1400;

fn repeated(text: &str) -> Vec<u8> {
    text.bytes().cycle().take(SIZE).collect()
}

fn scan(engine: &Engine, text: &[u8]) -> u64 {
    let (mut scanner, mut count) = (Scanner::default(), 0);
    for chunk in text.chunks(CHUNK) {
        scanner.push(engine, chunk, &mut |_| count += 1);
    }
    scanner.finish(engine, &mut |_| count += 1);
    count
}

fn benches(criterion: &mut Criterion) {
    let texts = [
        (
            "prose",
            repeated(
                "The committee met on Tuesday and agreed that the report would be ready before spring. ",
            ),
        ),
        (
            "records",
            repeated(
                r#"{"id": 84213, "name": "alpha-beta", "url": "https://example.com/a/b?c=d", "n": 3.14}, "#,
            ),
        ),
        ("anchors", repeated("+1 4 https://a @b eyJ sk- ghp_ ")),
    ];
    let engines =
        [("secrets", Engine::new(|rule| rule.detector == Detector::Secrets)), ("all", Engine::new(|_| true))];
    for (name, engine) in engines {
        let engine = engine.expect("the rules that are compiled in compile");
        let mut group = criterion.benchmark_group(format!("detect/{name}"));
        for (text, bytes) in &texts {
            group.throughput(Throughput::Bytes(SIZE as u64));
            group
                .bench_function(*text, |bencher| bencher.iter(|| scan(black_box(&engine), black_box(bytes))));
        }
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
