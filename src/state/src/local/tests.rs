use estoppel_kit::Scratch;

use super::*;

const NOW: u64 = 1_800_000_000_000_000;

fn claim(name: &str, amount: u64, limit: u64) -> Claim {
    Claim { counter: CounterKey::of([name]), span: Span::Day, amount, limit, member: None }
}

/// Takes until nothing more is granted, and keeps all of it.
async fn take_all(store: &Local, claim: Claim) -> u64 {
    let mut granted = 0;
    while let Reserved::Granted(reservation) = store.reserve(NOW, &[claim]).await.unwrap() {
        reservation.settle(&[claim.amount]);
        granted += claim.amount;
    }
    granted
}

#[tokio::test]
async fn a_restart_after_a_clean_end_goes_on_to_the_unit() {
    let scratch = Scratch::new("state");
    let file = scratch.join("state.sqlite");
    let store = Local::open(&file, NOW).unwrap();
    for _ in 0..700 {
        let Reserved::Granted(reservation) = store.reserve(NOW, &[claim("a", 1, 1_000)]).await.unwrap()
        else {
            panic!("700 of 1000 are granted")
        };
        reservation.settle(&[1]);
    }
    store.close().await;
    drop(store);
    let store = Local::open(&file, NOW).unwrap();
    assert_eq!(take_all(&store, claim("a", 1, 1_000)).await, 300);
    store.close().await;
}

#[tokio::test]
async fn what_was_granted_before_a_crash_is_never_granted_again_and_little_is_lost() {
    let scratch = Scratch::new("state");
    for granted in [1, 3, 100, 700, 1_000] {
        let file = scratch.join(format!("{granted}.sqlite"));
        let store = Local::open(&file, NOW).unwrap();
        for _ in 0..granted {
            let Reserved::Granted(reservation) = store.reserve(NOW, &[claim("a", 1, 1_000)]).await.unwrap()
            else {
                panic!("{granted} of 1000 are granted")
            };
            reservation.settle(&[1]);
        }
        // A crash: what the file has now is what the next process finds, and nothing is closed.
        let copied = scratch.join(format!("{granted}-copy.sqlite"));
        for end in ["", "-wal"] {
            let from = format!("{}{end}", file.display());
            std::fs::copy(from, format!("{}{end}", copied.display())).unwrap();
        }
        let again = take_all(&Local::open(&copied, NOW).unwrap(), claim("a", 1, 1_000)).await;
        let left = 1_000 - granted;
        assert!(again <= left && again + 1_000 / BLOCKS >= left, "{granted}: {again}");
    }
}

#[tokio::test]
async fn a_small_limit_is_kept_to_the_unit_over_a_crash() {
    let scratch = Scratch::new("state");
    let (file, copied) = (scratch.join("a.sqlite"), scratch.join("b.sqlite"));
    let store = Local::open(&file, NOW).unwrap();
    for _ in 0..3 {
        let Reserved::Granted(reservation) = store.reserve(NOW, &[claim("a", 1, 5)]).await.unwrap() else {
            panic!("3 of 5 are granted")
        };
        reservation.settle(&[1]);
    }
    for end in ["", "-wal"] {
        std::fs::copy(format!("{}{end}", file.display()), format!("{}{end}", copied.display())).unwrap();
    }
    assert_eq!(take_all(&Local::open(&copied, NOW).unwrap(), claim("a", 1, 5)).await, 2);
}

#[tokio::test]
async fn no_member_is_forgotten_or_let_in_too_many_over_a_crash_or_a_restart() {
    let scratch = Scratch::new("state");
    let (file, copied) = (scratch.join("a.sqlite"), scratch.join("b.sqlite"));
    let member = |name: &str| {
        let counter = CounterKey::of(["set"]);
        let span = Span::Window { seconds: 3_600 };
        Claim { counter, span, amount: 1, limit: 4, member: Some(counter.member(name)) }
    };
    let store = Local::open(&file, NOW).unwrap();
    let later = NOW + 900_000_000;
    for (now_us, name) in [(NOW, "a"), (NOW, "b"), (NOW, "c"), (later, "a")] {
        let Reserved::Granted(reservation) = store.reserve(now_us, &[member(name)]).await.unwrap() else {
            panic!("there is room for `{name}`")
        };
        reservation.settle(&[1]);
    }
    for end in ["", "-wal"] {
        std::fs::copy(format!("{}{end}", file.display()), format!("{}{end}", copied.display())).unwrap();
    }
    store.close().await;
    drop(store);
    for (file, room) in [(&file, 1), (&copied, 0)] {
        let store = Local::open(file, later).unwrap();
        let mut grants = Vec::new();
        for name in ["a", "b", "c"] {
            let Reserved::Granted(reservation) = store.reserve(later, &[member(name)]).await.unwrap() else {
                panic!("`{name}` is known")
            };
            grants.push(reservation);
        }
        let mut new = 0;
        for name in ["d", "e"] {
            if let Reserved::Granted(reservation) = store.reserve(later, &[member(name)]).await.unwrap() {
                grants.push(reservation);
                new += 1;
            }
        }
        assert!((room..=1).contains(&new), "{new}");
        store.close().await;
    }
}

#[tokio::test]
async fn two_processes_do_not_use_one_file() {
    let scratch = Scratch::new("state");
    let file = scratch.join("state.sqlite");
    let first = Local::open(&file, NOW).unwrap();
    first.set_flag("kill", Some("why")).await.unwrap();
    assert!(matches!(Local::open(&file, NOW), Err(StoreError::Disk(_))));
    first.close().await;
}

#[tokio::test]
async fn flags_stay_over_a_restart() {
    let scratch = Scratch::new("state");
    let file = scratch.join("state.sqlite");
    let store = Local::open(&file, NOW).unwrap();
    store.set_flag("a", Some("1")).await.unwrap();
    store.set_flag("b", Some("2")).await.unwrap();
    store.set_flag("a", None).await.unwrap();
    store.close().await;
    drop(store);
    let flags = Local::open(&file, NOW).unwrap().flags();
    assert_eq!(*flags, Flags::from([("b".into(), "2".into())]));
}

#[tokio::test]
async fn a_disk_that_fails_grants_nothing_and_holds_nothing() {
    let scratch = Scratch::new("state");
    let store = Local::open(&scratch.join("no-folder/state.sqlite"), NOW).unwrap();
    assert!(matches!(store.reserve(NOW, &[claim("a", 5, 5)]).await, Err(StoreError::Unwritten)));
    assert_eq!(store.table().counters.values().map(Counter::used).sum::<u64>(), 0);
}

#[tokio::test]
async fn short_windows_need_no_disk() {
    let scratch = Scratch::new("state");
    let store = Local::open(&scratch.join("no-folder/state.sqlite"), NOW).unwrap();
    let short = Claim { span: Span::Window { seconds: DURABLE_SECONDS - 1 }, ..claim("a", 1, 3) };
    assert_eq!(take_all(&store, short).await, 3);
}

#[tokio::test]
async fn a_tally_grants_what_a_store_does_and_keeps_nothing() {
    let scratch = Scratch::new("state");
    let store = Local::open(&scratch.join("state.sqlite"), NOW).unwrap();
    let mut tally = Tally::default();
    for (amount, used) in [(3, 3), (4, 1), (5, 9), (2, 2), (1, 0), (90, 90), (80, 80)] {
        let claims = [claim("a", amount, 100), claim("b", 1, 6)];
        let kept = match store.reserve(NOW, &claims).await.unwrap() {
            Reserved::Granted(reservation) => {
                let left: Vec<u64> = reservation.grants().iter().map(|grant| grant.left).collect();
                reservation.settle(&[used]);
                Ok(left)
            }
            Reserved::Refused(refused) => Err(refused),
        };
        let told = tally.reserve(NOW, &claims).unwrap().map(|grants| {
            tally.settle(grants[0], used);
            grants.iter().map(|grant| grant.left).collect::<Vec<_>>()
        });
        assert_eq!(told, kept, "{amount}");
    }
}
