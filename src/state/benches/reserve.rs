//! What a call's counts cost: one rate and one cap, reserved and settled, in this process with its file on disk.

use criterion::{Criterion, criterion_group, criterion_main};
use estoppel_state::{Claim, CounterKey, Local, Reserved, Span, Store};

const NOW_US: u64 = 1_800_000_000_000_000;

fn claims(limit: u64) -> Vec<Claim> {
    let claim = |name, span| Claim { counter: CounterKey::of([name]), span, amount: 1, limit, member: None };
    vec![claim("rate", Span::Window { seconds: 1 }), claim("cap", Span::Month)]
}

fn reserve(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (name, limit) in [("rate_and_cap_of_1e12", 1_000_000_000_000), ("rate_and_cap_of_1e6", 1_000_000)] {
        let local = Local::open(&folder.path().join(name), NOW_US).expect("a store");
        let store = Store::Local(local);
        let mut now_us = NOW_US;
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                now_us += 1_000;
                runtime.block_on(async {
                    match store.reserve(now_us, claims(limit)).await {
                        Ok(Reserved::Granted(reservation)) => reservation.settle(&[1, 0]),
                        other => panic!("{other:?}"),
                    }
                });
            });
        });
        runtime.block_on(store.close());
    }
}

criterion_group!(benches, reserve);
criterion_main!(benches);
