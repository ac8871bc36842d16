//! Every store against one plain reference, on random sequences and with a clock that moves.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use estoppel_kit::{RedisServer, Scratch};
use proptest::prelude::*;

use super::*;

/// Every grant with the time at which it ends, in a list. Nothing else.
#[derive(Default)]
struct Reference {
    held: BTreeMap<usize, Vec<(u64, u64, u64)>>,
    grants: u64,
}

impl Reference {
    fn used(&self, counter: usize, now_us: u64) -> u64 {
        let held = self.held.get(&counter).into_iter().flatten();
        held.filter(|(_, end_us, _)| *end_us > now_us).map(|(_, _, amount)| amount).sum()
    }

    /// The number of the grant of each claim, or the index of the claim that is refused.
    fn reserve(&mut self, now_us: u64, claims: &[Wanted]) -> Result<Vec<u64>, (usize, u64)> {
        for (index, claim) in claims.iter().enumerate() {
            let used = self.used(claim.counter, now_us);
            if used + claim.amount > claim.limit() {
                return Err((index, claim.limit().saturating_sub(used)));
            }
        }
        let grant = |claim: &Wanted| {
            self.grants += 1;
            let end_us = claim.span().end_us(claim.span().slot(now_us));
            self.held.entry(claim.counter).or_default().push((self.grants, end_us, claim.amount));
            self.grants
        };
        Ok(claims.iter().map(grant).collect())
    }

    fn settle(&mut self, grant: u64, used: u64) {
        for (_, _, amount) in self.held.values_mut().flatten().filter(|(number, _, _)| *number == grant) {
            *amount = used;
        }
    }
}

/// Counter 0 counts days, 1 months, the others windows.
#[derive(Clone, Debug)]
struct Wanted {
    counter: usize,
    amount: u64,
}

const COUNTERS: usize = 4;

impl Wanted {
    fn span(&self) -> Span {
        [Span::Day, Span::Month, Span::Window { seconds: 40 }, Span::Window { seconds: 7_200 }][self.counter]
    }

    fn limit(&self) -> u64 {
        [10, 25, 4, 12][self.counter]
    }

    fn claim(&self, name: &str) -> Claim {
        let counter = CounterKey::of([name, &self.counter.to_string()]);
        Claim { counter, span: self.span(), amount: self.amount, limit: self.limit(), member: None }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Reserve(Vec<Wanted>),
    /// The one that was made so many before; then what it used.
    Settle(usize, Vec<u64>),
    Drop(usize),
    Pass(Duration),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let wanted = proptest::sample::subsequence((0..COUNTERS).collect::<Vec<_>>(), 1..=COUNTERS);
    let reserve = (wanted, proptest::collection::vec(0..5_u64, COUNTERS)).prop_map(|(counters, amounts)| {
        let claims = counters.into_iter().zip(amounts);
        Action::Reserve(claims.map(|(counter, amount)| Wanted { counter, amount }).collect())
    });
    let settle = (0..4_usize, proptest::collection::vec(0..7_u64, 0..=COUNTERS))
        .prop_map(|(which, used)| Action::Settle(which, used));
    let pass = prop_oneof![0..3_000_000_u64, 0..90_000_000_000_u64];
    let action = prop_oneof![
        6 => reserve,
        2 => settle,
        2 => (0..4_usize).prop_map(Action::Drop),
        3 => pass.prop_map(|us| Action::Pass(Duration::from_micros(us))),
    ];
    proptest::collection::vec(action, 1..60)
}

/// Runs `actions` on a store and on the reference; `settled` waits until what was said last has been done.
async fn agrees(
    name: &str,
    mut now_us: u64,
    actions: Vec<Action>,
    mut reserve: impl AsyncFnMut(u64, Vec<Claim>) -> Reserved,
    mut settled: impl AsyncFnMut(),
) {
    let mut reference = Reference::default();
    let mut open: Vec<(Reservation, Vec<u64>)> = Vec::new();
    for action in actions {
        match action {
            Action::Pass(time) => now_us += time.as_micros() as u64,
            Action::Reserve(wanted) => {
                let claims: Vec<_> = wanted.iter().map(|claim| claim.claim(name)).collect();
                match (reserve(now_us, claims).await, reference.reserve(now_us, &wanted)) {
                    (Reserved::Granted(reservation), Ok(numbers)) => {
                        for (grant, claim) in reservation.grants().iter().zip(&wanted) {
                            let left = claim.limit() - reference.used(claim.counter, now_us);
                            assert_eq!((grant.amount, grant.left), (claim.amount, left), "{claim:?}");
                        }
                        open.push((reservation, numbers));
                    }
                    (Reserved::Refused(refused), Err((claim, left))) => {
                        assert_eq!((refused.claim, refused.left), (claim, left), "{wanted:?}");
                        let Wanted { counter, amount } = wanted[claim];
                        let limit = wanted[claim].limit();
                        match refused.wait_us {
                            None => assert!(amount > limit, "{wanted:?}"),
                            // Then it fits, and the moment before it does not.
                            Some(wait_us) => {
                                let fits = |at_us| reference.used(counter, at_us) + amount <= limit;
                                assert!(fits(now_us + wait_us) && !fits(now_us + wait_us - 1), "{refused:?}");
                            }
                        }
                    }
                    (store, reference) => panic!("{wanted:?}: {store:?}, the reference says {reference:?}"),
                }
            }
            Action::Settle(which, used) if !open.is_empty() => {
                let (reservation, numbers) = open.remove(which % open.len());
                numbers.iter().zip(&used).for_each(|(number, used)| reference.settle(*number, *used));
                reservation.settle(&used);
                settled().await;
            }
            Action::Drop(which) if !open.is_empty() => {
                let (reservation, numbers) = open.remove(which % open.len());
                numbers.iter().for_each(|number| reference.settle(*number, 0));
                drop(reservation);
                settled().await;
            }
            Action::Settle(..) | Action::Drop(_) => {}
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_this_process_is_what_the_reference_is(actions in actions()) {
        let scratch = Scratch::new("state");
        runtime().block_on(async {
            let local = Local::open(&scratch.join("state.sqlite"), now_us()).unwrap();
            let store = Store::Local(local);
            let reserve = async |now_us, claims| store.reserve(now_us, claims).await.unwrap();
            agrees("a", now_us(), actions, reserve, async || {}).await;
            store.close().await;
        });
    }
}

/// The script goes by the time of its Redis, so here the time is written into it.
#[test]
fn a_redis_is_what_the_reference_is() {
    let Some(server) = RedisServer::start() else { return };
    let cases = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&actions(), |actions| {
            cases.set(cases.get() + 1);
            runtime().block_on(async {
                let settings = RedisSettings {
                    url: server.url(),
                    prefix: format!("case-{}", cases.get()),
                    timeout: Duration::from_secs(20),
                };
                let (redis, task) = Redis::new(settings).unwrap();
                let link = task.link();
                tokio::spawn(task.run());
                let store = Store::Redis(redis.clone());
                let reserve = async |now_us, claims: Vec<Claim>| {
                    link.clone().reserve_at(now_us, &claims, redis.clone()).await
                };
                // What it is asked later it does later.
                let settled = async || drop(store.flags().await.unwrap());
                agrees("a", now_us(), actions, reserve, settled).await;
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_redis_that_is_gone_is_down_at_once_and_taken_up_again() {
    let Some(mut server) = RedisServer::start() else { return };
    runtime().block_on(async {
        let timeout = Duration::from_secs(20);
        let settings = RedisSettings { url: server.url(), prefix: "p".into(), timeout };
        let (redis, task) = Redis::new(settings).unwrap();
        tokio::spawn(task.run());
        let store = Store::Redis(redis);
        let claim = || vec![Wanted { counter: 1, amount: 1 }.claim("a")];
        assert!(matches!(store.reserve(0, claim()).await, Ok(Reserved::Granted(_))));
        server.kill_9();
        for _ in 0..3 {
            assert!(store.reserve(0, claim()).await.is_err());
        }
        server.restart();
        while store.reserve(0, claim()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn what_was_reserved_for_somebody_who_left_is_given_back() {
    let Some(server) = RedisServer::start() else { return };
    runtime().block_on(async {
        let timeout = Duration::from_secs(20);
        let settings = RedisSettings { url: server.url(), prefix: "p".into(), timeout };
        let (redis, task) = Redis::new(settings).unwrap();
        tokio::spawn(task.run());
        let store = Store::Redis(redis);
        let all = || vec![Wanted { counter: 1, amount: 25 }.claim("a")];
        for _ in 0..20 {
            let mut asked = Box::pin(store.reserve(0, all()));
            // Asked once and dropped: the request is in the queue or on its way.
            let pending = poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await;
            assert!(pending, "a Redis takes its time");
            drop(asked);
            store.flags().await.unwrap();
        }
        while !matches!(store.reserve(0, all()).await, Ok(Reserved::Granted(_))) {
            tokio::task::yield_now().await;
        }
    });
}

/// Members of counters, each with the end of its last use and its uses. Nothing else.
#[derive(Default)]
struct Members(BTreeMap<usize, (u64, u64, u64)>);

const MEMBERS: usize = 6;
const MEMBERS_MAX: u64 = 3;

impl Members {
    fn alive(&self, now_us: u64) -> u64 {
        self.0.values().filter(|(_, end_us, _)| *end_us > now_us).count() as u64
    }

    fn is_new(&self, member: usize, now_us: u64) -> bool {
        self.0.get(&member).is_none_or(|(_, end_us, _)| *end_us <= now_us)
    }

    /// The part in which they were used, or which is refused and what is left.
    fn reserve(&mut self, now_us: u64, members: &[usize]) -> Result<u64, (usize, u64)> {
        let mut new = 0;
        for (index, member) in members.iter().enumerate().filter(|(_, member)| self.is_new(**member, now_us))
        {
            new += 1;
            let alive = self.alive(now_us);
            if alive + new > MEMBERS_MAX {
                return Err((index, MEMBERS_MAX.saturating_sub(alive + new - 1)));
            }
            debug_assert!(*member < MEMBERS);
        }
        let slot = SPAN.slot(now_us);
        for member in members {
            let uses = if self.is_new(*member, now_us) { 0 } else { self.0[member].2 };
            self.0.insert(*member, (slot, SPAN.end_us(slot), uses + 1));
        }
        Ok(slot)
    }

    /// A call that used them in `slot` reached nobody.
    fn release(&mut self, slot: u64, members: &[usize]) {
        for member in members {
            let Some((used, _, uses)) = self.0.get_mut(member) else { continue };
            if SPAN.is_over_by(slot, *used) {
                continue;
            }
            *uses -= 1;
            if *uses == 0 {
                self.0.remove(member);
            }
        }
    }
}

const SPAN: Span = Span::Window { seconds: 7_200 };

#[derive(Clone, Debug)]
enum Use {
    Of(Vec<usize>),
    /// The one that was made so many before; whether it reached anybody.
    End(usize, bool),
    Pass(Duration),
}

fn uses() -> impl Strategy<Value = Vec<Use>> {
    let of = proptest::sample::subsequence((0..MEMBERS).collect::<Vec<_>>(), 1..=MEMBERS_MAX as usize + 1);
    let pass = prop_oneof![0..600_000_000_u64, 0..9_000_000_000_u64];
    let one = prop_oneof![
        5 => of.prop_map(Use::Of),
        3 => (0..4_usize, proptest::bool::ANY).prop_map(|(which, sent)| Use::End(which, sent)),
        3 => pass.prop_map(|us| Use::Pass(Duration::from_micros(us))),
    ];
    proptest::collection::vec(one, 1..60)
}

async fn members_agree(
    name: &str,
    mut now_us: u64,
    uses: Vec<Use>,
    mut reserve: impl AsyncFnMut(u64, Vec<Claim>) -> Reserved,
    mut settled: impl AsyncFnMut(),
) {
    let mut reference = Members::default();
    let mut open: Vec<(Reservation, u64, Vec<usize>)> = Vec::new();
    let counter = CounterKey::of([name, "set"]);
    for one in uses {
        match one {
            Use::Pass(time) => now_us += time.as_micros() as u64,
            Use::Of(members) => {
                let member = |number: &usize| Some(counter.member(&number.to_string()));
                let claim = |number| Claim {
                    counter,
                    span: SPAN,
                    amount: 1,
                    limit: MEMBERS_MAX,
                    member: member(number),
                };
                let claims = members.iter().map(claim).collect();
                match (reserve(now_us, claims).await, reference.reserve(now_us, &members)) {
                    (Reserved::Granted(reservation), Ok(slot)) => {
                        let left = reservation.grants().last().map(|grant| grant.left);
                        assert_eq!(left, Some(MEMBERS_MAX - reference.alive(now_us)), "{members:?}");
                        open.push((reservation, slot, members));
                    }
                    (Reserved::Refused(refused), Err((claim, left))) => {
                        assert_eq!((refused.claim, refused.left), (claim, left), "{members:?}");
                    }
                    (store, reference) => panic!("{members:?}: {store:?}, the reference says {reference:?}"),
                }
            }
            Use::End(which, sent) if !open.is_empty() => {
                let (reservation, slot, members) = open.remove(which % open.len());
                if sent {
                    reservation.settle(&vec![1; members.len()]);
                } else {
                    reference.release(slot, &members);
                    drop(reservation);
                }
                settled().await;
            }
            Use::End(..) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn members_in_this_process_are_what_the_reference_says(uses in uses()) {
        let scratch = Scratch::new("state");
        runtime().block_on(async {
            let store = Store::Local(Local::open(&scratch.join("state.sqlite"), now_us()).unwrap());
            let reserve = async |now_us, claims| store.reserve(now_us, claims).await.unwrap();
            members_agree("a", now_us(), uses, reserve, async || {}).await;
            store.close().await;
        });
    }
}

#[test]
fn members_in_a_redis_are_what_the_reference_says() {
    let Some(server) = RedisServer::start() else { return };
    let cases = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&uses(), |uses| {
            cases.set(cases.get() + 1);
            runtime().block_on(async {
                let settings = RedisSettings {
                    url: server.url(),
                    prefix: format!("members-{}", cases.get()),
                    timeout: Duration::from_secs(20),
                };
                let (redis, task) = Redis::new(settings).unwrap();
                let link = task.link();
                tokio::spawn(task.run());
                let store = Store::Redis(redis.clone());
                let reserve = async |now_us, claims: Vec<Claim>| {
                    link.clone().reserve_at(now_us, &claims, redis.clone()).await
                };
                let settled = async || drop(store.flags().await.unwrap());
                members_agree("a", now_us(), uses, reserve, settled).await;
            });
            Ok(())
        })
        .unwrap();
}
