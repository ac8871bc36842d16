//! How long it takes to say what differs between two runs of 20,000 calls: read anew, and from digests that are there.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estoppel_diff::{Kind, NoBodies, Normalizers, Reader, Side, diff};

const CALLS: u64 = 20_000;
/// One of so many calls is blocked in the other run.
const CHANGED_EVERY: u64 = 100;

/// Receipts as a plain chat call has them, about 1,650 bytes each.
fn lines(run: u64) -> Vec<Vec<u8>> {
    (1..=CALLS).map(|seq| line(run, seq, run > 0 && seq % CHANGED_EVERY == 0).into_bytes()).collect()
}

fn line(run: u64, seq: u64, is_blocked: bool) -> String {
    let hex =
        |salt: u64| format!("{:064x}", u128::from(run) << 96 | u128::from(salt) << 64 | u128::from(seq));
    let side = |bytes: u64, salt: u64| {
        format!(
            r#""bytes":{bytes},"commit":"commit:{}","tag":"hmac-sha256:{run:016x}:{}""#,
            hex(salt),
            hex(salt + 1)
        )
    };
    let action = if is_blocked { "block" } else { "allow" };
    format!(
        r#"{{"attempt":1,"body":{{"mode":"hmac"}},"call":"01980000-0000-7000-8000-{:012x}","dialect":"openai_chat","evaluated":{{"request":{{"bytes":172,"skipped":0,"state":"recognized"}},"response":{{"bytes":1000,"skipped":0,"state":"recognized"}}}},"facts":{{"finish":["stop"],"model":"gpt-4o-mini","model_served":"gpt-4o-mini-2024-07-18","usage":{{"input":21,"output":200,"total":221}}}},"identity":{{"kind":"none"}},"iss":"bench.test/main/{run}","kid":"{}","kind":"call","mono_us":{},"operation":"openai.chat.completions","outcome":{{"client":"handed_over","code":"OK","complete":true}},"policy":{{"hash":"sha256:{}"}},"prev":"leaf:{}","request":{{{},"method":"POST","route":"openai","target_tag":"hmac-sha256:{run:016x}:{}","version":"1.1"}},"response":{{"client":{{{},"status":200}},"upstream":{{{},"status":200}}}},"run":"01980000-0000-7000-9000-{run:012x}","seq":{seq},"time":{{"connect_us":0,"first_byte_us":{},"queue_us":3,"total_us":{},"upstream_us":{}}},"ts":"2026-11-21T04:00:00.{:06}Z","upstream":"openai","v":"pef/v0","verdict":{{"action":"{action}","mode":"enforce"}}}}"#,
        run << 32 | seq,
        hex(1),
        seq * 50,
        "a".repeat(64),
        hex(2),
        side(172, 3),
        hex(5),
        side(1000, 6),
        side(1000, 6),
        seq % 977,
        seq % 1_999,
        seq % 877,
        seq
    )
}

fn side(lines: &[Vec<u8>], normalizers: &Normalizers) -> Side {
    let mut reader = Reader::new(Kind::Run, normalizers);
    lines.iter().for_each(|line| reader.line(line).expect("a receipt"));
    reader.finish().expect("fewer entries than the limit")
}

fn benches(criterion: &mut Criterion) {
    let normalizers = Normalizers::new(None).expect("the default ones");
    let (one, other) = (lines(0), lines(1));
    let between =
        |from: &Side, to: &Side| diff(from, to, &normalizers, (&NoBodies, &NoBodies)).expect("two runs");
    let (from, to) = (side(&one, &normalizers), side(&other, &normalizers));
    assert_eq!(between(&from, &to).counts.changed, CALLS / CHANGED_EVERY);
    let mut group = criterion.benchmark_group("diff");
    group.sample_size(10).throughput(Throughput::Elements(CALLS));
    group.bench_function("read both and compare", |bencher| {
        bencher.iter(|| between(&side(&one, &normalizers), &side(&other, &normalizers)).bytes());
    });
    group.bench_function("compare from digests", |bencher| bencher.iter(|| between(&from, &to)));
    group.bench_function("compare from digests, write", |bencher| {
        bencher.iter(|| between(&from, &to).bytes())
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
