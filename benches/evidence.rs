//! What a receipt costs: canonical bytes, the line, chain and signature, and the trees.

mod fixture;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estoppel_evidence::entry::Link;
use estoppel_evidence::envelope::{ENTRY_TYPE, pae_into};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::{Frontier, includes, inclusion, root};
use estoppel_evidence::{CaptureKey, Leaf, RunCapture, RunId, canonical};

fn chat_json(bytes: usize) -> Vec<u8> {
    let text: String = "the receipt chain binds each request \\u20ac ".chars().cycle().take(bytes).collect();
    format!(
        r#"{{"usage":{{"total_tokens":221,"prompt_tokens":21}},"model":"gpt-4o-mini","created":1700000000,"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop","logprobs":null}}],"temperature":0.30000000000000004}}"#
    )
    .into_bytes()
}

fn canonicalization(c: &mut Criterion) {
    let mut group = c.benchmark_group("canonical");
    for bytes in [1_000, 50_000] {
        let json = chat_json(bytes);
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &json, |b, json| {
            b.iter(|| canonical::foreign(black_box(json)).expect("it has a canonical form"));
        });
    }
    group.finish();
}

/// The writer's state for one run.
struct Chain {
    capture: RunCapture,
    run: RunId,
    frontier: Frontier,
    head: Option<Leaf>,
    line: Vec<u8>,
    message: Vec<u8>,
}

impl Chain {
    fn new() -> Self {
        let run = RunId::new(1_795_233_600_000, [7; 10]);
        let capture = CaptureKey::new([9; 32]).run(run);
        Self {
            capture,
            run,
            frontier: Frontier::default(),
            head: None,
            line: Vec::new(),
            message: Vec::new(),
        }
    }
}

fn receipt(c: &mut Criterion) {
    let keys = fixture::keys();
    let record = fixture::record(1);
    let iss = fixture::instance();
    let kid = keys.receipt.public().id();
    let write = |chain: &mut Chain| {
        let (seq, prev) = (chain.frontier.size(), chain.head);
        let link = Link {
            iss: &iss,
            kid,
            run: chain.run,
            seq,
            prev,
            ts: UnixMicros(1_795_233_600_000_000),
            mono_us: seq,
        };
        record.write(&mut chain.line, &link, &chain.capture, None).expect("the line fits");
    };
    let advance = |chain: &mut Chain| {
        let leaf = Leaf::of(&chain.line);
        chain.frontier.push(leaf);
        chain.head = Some(leaf);
    };
    let mut chain = Chain::new();
    let mut group = c.benchmark_group("receipt");
    group.throughput(Throughput::Elements(1));
    group.bench_function("line", |b| b.iter(|| write(black_box(&mut chain))));
    group.bench_function("line and chain (sign: checkpoint)", |b| {
        b.iter(|| {
            write(&mut chain);
            advance(black_box(&mut chain));
        });
    });
    group.bench_function("line, chain and signature (sign: each)", |b| {
        b.iter(|| {
            write(&mut chain);
            advance(&mut chain);
            pae_into(&mut chain.message, ENTRY_TYPE, &chain.line);
            keys.receipt.sign(black_box(&chain.message)).expect("the key signs")
        });
    });
    group.finish();
}

fn tree(c: &mut Criterion) {
    let leaves: Vec<[u8; 32]> = (0..65_536u32).map(|n| Leaf::of(&n.to_be_bytes()).0).collect();
    let tree = root(&leaves);
    let path = inclusion(&leaves, 12_345).expect("there is such a leaf");
    let mut group = c.benchmark_group("tree");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append", |b| {
        let mut frontier = Frontier::default();
        b.iter(|| frontier.push_hash(black_box([7; 32])));
    });
    group.bench_function("check an inclusion proof of 65536", |b| {
        b.iter(|| {
            assert!(includes(Leaf(leaves[12_345]), 12_345, 65_536, black_box(&path), tree));
        });
    });
    group.throughput(Throughput::Elements(leaves.len() as u64));
    group.sample_size(20);
    group.bench_function("make an inclusion proof of 65536", |b| {
        b.iter_batched(|| &leaves, |leaves| inclusion(black_box(leaves), 12_345), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, canonicalization, receipt, tree);
criterion_main!(benches);
