//! What it costs to read and judge CSV, beside the csv crate on the same bytes.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estoppel_wire::csv::{Check, Contract, Field, Finding, Form, Limits, Reader, Visitor};

/// Rows of short typed fields, none quoted.
fn records() -> String {
    let mut text = String::from("id,account,amount,currency,booked,settled\n");
    for n in 0..20_000_u64 {
        let (amount, cents, day) = (n * 7919 % 100_000, n % 100, n % 28 + 1);
        text.push_str(&format!("{n},AC-{:08},-{amount}.{cents:02},EUR,2026-03-{day:02},true\n", n * 7919));
    }
    text
}

/// Rows of quoted prose beside an id.
fn prose() -> String {
    let mut text = String::from("id,text\n");
    for n in 0..4_000 {
        text.push_str(&format!(
            "{n},\"the receipt chain binds each call, and the \"\"chain\"\" binds the run;\nso a line is {n} words or more, and nobody counts them\"\n"
        ));
    }
    text
}

#[derive(Default)]
struct Count {
    fields: u64,
    bytes: u64,
}

impl Visitor for Count {
    fn field(&mut self, _: u32, field: Field<'_>) -> Result<(), Finding> {
        self.fields += 1;
        self.bytes += field.value.len() as u64;
        Ok(())
    }
}

const RECORDS: &[u8] = br#"{
    "version": 1,
    "columns": [
        { "name": "id", "type": "integer", "required": true, "min": 0 },
        { "name": "account", "required": true, "pattern": "AC-[0-9]{8,12}" },
        { "name": "amount", "type": "number" },
        { "name": "currency", "enum": ["EUR", "USD", "GBP"] },
        { "name": "booked", "type": "date", "min": "2026-01-01" },
        { "name": "settled", "type": "boolean" }
    ]
}"#;

const PROSE: &[u8] = br#"{
    "version": 1,
    "columns": [{ "name": "id", "type": "integer", "required": true }, { "name": "text", "max_length": 1000 }]
}"#;

fn bench(c: &mut Criterion) {
    for (name, body, contract) in [("records", records(), RECORDS), ("prose", prose(), PROSE)] {
        let contract = Arc::new(Contract::parse(contract).expect("a contract"));
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("csv crate, ByteRecord", |b| {
            b.iter(|| {
                let mut reader = csv::ReaderBuilder::new().from_reader(body.as_bytes());
                let (mut record, mut fields) = (csv::ByteRecord::new(), 0);
                while reader.read_byte_record(black_box(&mut record)).expect("well-formed") {
                    fields += record.len();
                }
                fields
            });
        });
        for chunk in [1_400, 65_536] {
            group.bench_with_input(BenchmarkId::new("reader, in pieces of", chunk), &chunk, |b, chunk| {
                b.iter(|| {
                    let mut reader = Reader::new(Form::default(), Limits::default());
                    let mut count = Count::default();
                    for piece in body.as_bytes().chunks(*chunk) {
                        reader.feed(black_box(piece), &mut count).expect("well-formed");
                    }
                    reader.finish(&mut count).expect("well-formed");
                    count.fields + count.bytes
                });
            });
            group.bench_with_input(BenchmarkId::new("check, in pieces of", chunk), &chunk, |b, chunk| {
                b.iter(|| {
                    let mut check = Check::new(Arc::clone(&contract));
                    for piece in body.as_bytes().chunks(*chunk) {
                        check.feed(black_box(piece)).expect("keeps its contract");
                    }
                    check.finish().expect("keeps its contract")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
