//! One table for every store: what somebody who comes with a key finds.

use std::time::Duration;

use estoppel_kit::{RedisServer, Scratch};

use super::*;
use crate::{Local, Redis, RedisSettings};

const NOW: u64 = 1_800_000_000_000_000;
const MINUTE_US: u64 = 60_000_000;

fn keyed(key: &str, payload: u8, call: &str) -> Keyed {
    let (run_us, keep_us) = (MINUTE_US, 10 * MINUTE_US);
    Keyed { key: CounterKey::of([key]), payload: [payload; 32], call: call.into(), run_us, keep_us }
}

async fn first(store: &Store, keyed: Keyed) -> Claimed {
    match store.begin(NOW, keyed).await.unwrap() {
        Began::First(claimed) => claimed,
        Began::Known(known) => panic!("{known:?}"),
    }
}

async fn progress(store: &Store, key: &str) -> Option<(String, Progress)> {
    let known = store.known(NOW, keyed(key, 9, "z")).await.unwrap()?;
    assert_eq!(known.payload, [1; 32]);
    Some((known.call, known.state))
}

async fn keeps_the_promises(store: &Store) {
    let one = first(store, keyed("a", 1, "one")).await;
    match store.begin(NOW, keyed("a", 2, "two")).await.unwrap() {
        Began::Known(Known { payload, call, state: Progress::Running { left_us } }) => {
            assert_eq!((payload, call.as_str()), ([1; 32], "one"));
            assert!((1..=MINUTE_US).contains(&left_us), "{left_us}");
        }
        other => panic!("{other:?}"),
    }
    one.answer(Bytes::from_static(b"\0answer\xff"));
    let answered = Progress::Answered(Bytes::from_static(b"\0answer\xff"));
    assert_eq!(progress(store, "a").await, Some(("one".to_owned(), answered)));

    drop(first(store, keyed("b", 1, "one")).await);
    assert_eq!(progress(store, "b").await, None, "nothing was sent");
    let mut two = first(store, keyed("b", 1, "two")).await;
    two.sent(true);
    drop(two);
    assert_eq!(progress(store, "b").await, Some(("two".to_owned(), Progress::Unanswered)));

    let mut refused = first(store, keyed("c", 1, "one")).await;
    refused.sent(true);
    refused.free();
    assert_eq!(progress(store, "c").await, None);
}

#[tokio::test]
async fn a_process_keeps_one_call_to_a_key() {
    let scratch = Scratch::new("keys");
    let store = Store::Local(Local::open(&scratch.join("state.sqlite"), NOW).unwrap());
    keeps_the_promises(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_redis_keeps_one_call_to_a_key() {
    let Some(server) = RedisServer::start() else { return };
    let timeout = Duration::from_secs(20);
    let (redis, task) =
        Redis::new(RedisSettings { url: server.url(), prefix: "keys".into(), timeout }).unwrap();
    tokio::spawn(task.run());
    keeps_the_promises(&Store::Redis(redis)).await;
}

#[tokio::test]
async fn what_was_on_its_way_in_a_crash_may_have_been_done_and_answers_are_found_again() {
    let scratch = Scratch::new("keys");
    let (file, copied) = (scratch.join("state.sqlite"), scratch.join("copy.sqlite"));
    let store = Store::Local(Local::open(&file, NOW).unwrap());
    let _running = first(&store, keyed("running", 1, "one")).await;
    first(&store, keyed("answered", 1, "two")).await.answer(Bytes::from_static(b"answer"));
    first(&store, keyed("freed", 1, "three")).await.free();
    // Written in its order: with this all before it is on disk.
    let _last = first(&store, keyed("last", 1, "four")).await;
    for end in ["", "-wal"] {
        std::fs::copy(format!("{}{end}", file.display()), format!("{}{end}", copied.display())).unwrap();
    }
    let again = Store::Local(Local::open(&copied, NOW + 1).unwrap());
    assert_eq!(progress(&again, "running").await, Some(("one".to_owned(), Progress::Unanswered)));
    let answered = Progress::Answered(Bytes::from_static(b"answer"));
    assert_eq!(progress(&again, "answered").await, Some(("two".to_owned(), answered)));
    assert_eq!(progress(&again, "freed").await, None);
    again.close().await;
    let later = Store::Local(Local::open(&copied, NOW + 11 * MINUTE_US).unwrap());
    assert!(matches!(
        later.begin(NOW + 11 * MINUTE_US, keyed("answered", 2, "five")).await,
        Ok(Began::First(_))
    ));
    later.close().await;
}

#[tokio::test]
async fn a_call_that_runs_too_long_stands_for_one_without_an_answer_and_keys_end() {
    let scratch = Scratch::new("keys");
    let store = Store::Local(Local::open(&scratch.join("state.sqlite"), NOW).unwrap());
    let late = first(&store, keyed("a", 1, "one")).await;
    let at = |us| store.known(NOW + us, keyed("a", 1, "z"));
    assert_eq!(at(MINUTE_US).await.unwrap().unwrap().state, Progress::Unanswered);
    late.answer(Bytes::from_static(b"late"));
    assert!(matches!(at(MINUTE_US).await.unwrap().unwrap().state, Progress::Answered(_)));
    assert_eq!(at(10 * MINUTE_US).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_room_is_not_kept() {
    let scratch = Scratch::new("keys");
    let store = Store::Local(Local::open(&scratch.join("state.sqlite"), NOW).unwrap());
    let large = Bytes::from(vec![0; ANSWERS_BYTES_MAX]);
    first(&store, keyed("large", 1, "one")).await.answer(large);
    first(&store, keyed("more", 1, "two")).await.answer(Bytes::from_static(b"x"));
    assert_eq!(progress(&store, "more").await, Some(("two".to_owned(), Progress::Unanswered)));
    store.close().await;
}

#[tokio::test]
async fn a_file_of_the_layout_before_keys_is_taken_up() {
    let scratch = Scratch::new("keys");
    let file = scratch.join("state.sqlite");
    let store = Local::open(&file, NOW).unwrap();
    store.set_flag("a", Some("b")).await.unwrap();
    store.close().await;
    let old = rusqlite::Connection::open(&file).unwrap();
    old.execute_batch("DROP TABLE keys; PRAGMA user_version = 1;").unwrap();
    drop(old);
    let store = Store::Local(Local::open(&file, NOW).unwrap());
    assert_eq!(store.flags().await.unwrap().get("a").map(String::as_str), Some("b"));
    first(&store, keyed("a", 1, "one")).await.answer(Bytes::from_static(b"x"));
    store.close().await;
}
