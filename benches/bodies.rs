//! What storing a body costs, in clear and encrypted: made, written and durable, as the gateway's threads do it.

#[expect(dead_code, reason = "bodies are stored without receipts")]
mod fixture;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estoppel_journal::encryption::{BodyKeys, FileHook, KeyHook, OnKeyFailure};
use estoppel_journal::{Journal, Settings, SystemClock, keys};

const HOUR: Duration = Duration::from_secs(3_600);
/// How the gateway is given large bodies.
const PIECE_BYTES: usize = 16 << 10;

fn journal(dir: &Path, body_keys: Option<Arc<BodyKeys>>) -> Journal {
    let settings = Settings { body_keys, ..Settings::new(dir.into(), fixture::instance()) };
    Journal::open(settings, fixture::keys(), Arc::new(SystemClock::new())).expect("the journal opens")
}

fn body_keys() -> Arc<BodyKeys> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("key");
    keys::init_secret(&file).expect("the key is written");
    let hook = FileHook::new(keys::load_secret(&file).expect("the key is read"));
    let hooks: Vec<Box<dyn KeyHook>> = vec![Box::new(hook)];
    let keys = BodyKeys::new(hooks, OnKeyFailure::Refuse, HOUR, Arc::new(SystemClock::new()));
    keys.renew().expect("a key in memory wraps");
    Arc::new(keys)
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("bodies");
    for (name, keys) in [("clear", None), ("encrypted", Some(body_keys()))] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let journal = journal(dir.path(), keys.clone());
        for bytes in [4 << 10, 1 << 20] {
            let content = vec![7; bytes];
            group.throughput(Throughput::Bytes(bytes as u64)); // usize fits
            group.bench_with_input(BenchmarkId::new(name, bytes), &content, |b, content| {
                b.iter(|| {
                    let key = keys.as_ref().and_then(|keys| keys.current());
                    let mut writer = journal.bodies().create(key.as_deref()).expect("a body begins");
                    for piece in content.chunks(PIECE_BYTES) {
                        writer.write(piece).expect("the disk takes it");
                    }
                    writer.finish().expect("it is durable")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bodies);
criterion_main!(benches);
