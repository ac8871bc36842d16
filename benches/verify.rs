//! How fast evidence is verified: receipts a second, by hashes and checkpoint, and with every signature.

mod fixture;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estoppel_evidence::Sha256;
use estoppel_evidence::entry::{Durability, SealReason, Sign};
use estoppel_journal::{Ack, Journal, SealedRun, Settings, SystemClock};
use estoppel_verify::{
    Check, Executor, Input, JournalFiles, NoExternals, Options, Report, Sequential, Signatures,
    verify_bundle, verify_journal,
};

const CALLS: u64 = 20_000;
const RUN: &str = "bench";
const LONG: Duration = Duration::from_secs(60);

/// A closed journal in `dir` with [`CALLS`] receipts of one sealed run, and where that run's bundle is.
fn write_journal(dir: &Path, sign: Sign) -> SealedRun {
    let settings = Settings {
        durability: Durability::Memory,
        sign,
        policy: Sha256::of(fixture::POLICY),
        ..Settings::new(dir.into(), fixture::instance())
    };
    let journal =
        Journal::open(settings, fixture::keys(), Arc::new(SystemClock::new())).expect("the journal opens");
    journal.store_policy(Sha256::of(fixture::POLICY), fixture::POLICY).expect("the policy is stored");
    let run = journal.run(Some(RUN)).expect("the run opens");
    let mut acks = Vec::new();
    for number in 0..CALLS {
        acks.push(journal.admit().expect("a slot is free").commit(&run, fixture::record(number)));
        if acks.len() == 1_000 {
            wait(&mut acks);
        }
    }
    wait(&mut acks);
    drop(run);
    let sealed = journal.seal_blocking(RUN, SealReason::Clean).expect("the run is sealed");
    journal.close(LONG).expect("the journal closes");
    sealed
}

fn wait(acks: &mut Vec<Ack>) {
    for ack in acks.drain(..) {
        ack.wait().expect("the record is kept");
    }
}

/// One part of the checks on each core, as `estoppel verify` does it.
struct Cores;

impl Executor for Cores {
    fn run(&self, checks: &mut [Check<'_>]) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = checks.len().div_ceil(cores).max(1);
        std::thread::scope(|scope| {
            for part in checks.chunks_mut(share) {
                scope.spawn(|| part.iter_mut().for_each(Check::run));
            }
        });
    }
}

struct Written {
    segments: Vec<(String, Vec<u8>)>,
    checkpoint: Vec<u8>,
    trust: Vec<u8>,
    bundle: Vec<u8>,
}

impl Written {
    fn new(sign: Sign) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let sealed = write_journal(dir.path(), sign);
        let file = |path: &Path| std::fs::read(path).expect("the file is there");
        let segments = std::fs::read_dir(dir.path().join("segments"))
            .expect("the folder is there")
            .map(|entry| entry.expect("the folder is read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .map(|path| {
                let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
                (name, file(&path))
            })
            .collect();
        Self {
            segments,
            checkpoint: file(&dir.path().join("checkpoint")),
            trust: file(&dir.path().join("trust.json")),
            bundle: file(&sealed.path),
        }
    }

    fn verify(&mut self, options: &Options<'_>) -> Report {
        let files = JournalFiles {
            checkpoint: Some(&self.checkpoint),
            trust: Some(&self.trust),
            ..JournalFiles::default()
        };
        verify_journal(&mut self.segments, files, options).expect("segments in memory are readable")
    }

    fn verify_bundle(&self, options: &Options<'_>) -> Report {
        verify_bundle(Input::Zip(&self.bundle), &mut NoExternals, options)
            .expect("bytes in memory are readable")
    }
}

/// A figure of a verification that refused, or that skipped what it should have done, is none.
fn good(report: &Report, signatures: u64) {
    assert!(report.passed(), "{:?}", report.finding);
    assert_eq!(report.counters.calls, CALLS);
    assert!(report.signatures_verified >= signatures, "{} signatures", report.signatures_verified);
}

fn verify(c: &mut Criterion) {
    let mut each = Written::new(Sign::Each);
    let mut checkpoint = Written::new(Sign::Checkpoint);
    let ways: [(&str, Signatures, &dyn Executor); 3] = [
        ("hashes and checkpoint", Signatures::CheckpointOnly, &Sequential),
        ("every signature, one core", Signatures::Each, &Sequential),
        ("every signature, all cores", Signatures::Each, &Cores),
    ];
    let mut group = c.benchmark_group("verify");
    group.sample_size(10);
    group.throughput(Throughput::Elements(CALLS));
    group.bench_function("journal signed by checkpoint", |b| {
        b.iter(|| good(&checkpoint.verify(&Options::default()), 0));
    });
    for (name, signatures, executor) in ways {
        let options = Options { signatures, executor, ..Options::default() };
        let wanted = if signatures == Signatures::Each { CALLS } else { 0 };
        group.bench_function(format!("journal, {name}"), |b| {
            b.iter(|| good(&each.verify(&options), wanted));
        });
        group.bench_function(format!("bundle, {name}"), |b| {
            b.iter(|| good(&each.verify_bundle(&options), wanted));
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
