use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use estoppel_policy::{Content, Earlier};
use serde_json::Value;

use super::{Missed, Together};
use crate::metrics::Metrics;

/// Most runs of which prints are kept. With more the one is dropped that was used least recently.
const RUNS_MAX: usize = 4_096;
/// Most prints of one run: some 800,000 letters and digits. Of a run with more it is not known what is new.
const RUN_PRINTS_MAX: usize = 262_144;
/// Most prints of all runs together. With more, runs are dropped.
const PRINTS_MAX: usize = 2_097_152;

/// The runs of which prints are kept.
pub(crate) struct Runs {
    key: [u8; 16],
    listens: AtomicBool,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A run that is not among `runs` is new if it was opened later than this; none: nobody listens.
    after_us: Option<u64>,
    /// What `after_us` is for a run that was dropped.
    dropped: bool,
    runs: HashMap<Together, Kept>,
    prints: usize,
    turn: u64,
}

struct Kept {
    /// Locked while the run's prints are read or added to, after and without the lock of all runs.
    earlier: Arc<Mutex<Earlier>>,
    /// When the last run of the name was opened.
    opened_us: u64,
    /// All that is missing of it is what its first run had before anybody listened.
    only_before: bool,
    prints: usize,
    used: u64,
}

impl Runs {
    /// `key`: what prints are made with.
    pub(crate) fn new(key: [u8; 16], metrics: Metrics) -> Self {
        Self { key, listens: AtomicBool::new(false), metrics, state: Mutex::default() }
    }

    /// A policy comes in force that asks for provenance, or one that does not.
    pub(crate) fn set(&self, listens: bool, now_us: u64) {
        let mut state = self.state();
        if listens != state.after_us.is_some() {
            *state = State { after_us: listens.then_some(now_us), ..State::default() };
        }
        self.listens.store(listens, Ordering::SeqCst);
    }

    /// A call goes by a policy that does not ask, while another does: nothing is known of runs that are open now.
    pub(crate) fn unheard(&self, now_us: u64) {
        if self.listens.load(Ordering::SeqCst) {
            let mut state = self.state();
            if state.after_us.is_some() {
                *state = State { after_us: Some(now_us), ..State::default() };
            }
        }
    }

    pub(super) fn tell(&self, together: &Together, opened_us: Option<u64>, content: Content) -> Content {
        match self.kept(together, opened_us) {
            None => content,
            Some(earlier) => content.with_earlier(&lock(&earlier)),
        }
    }

    pub(super) fn learn(
        &self,
        together: &Together,
        opened_us: Option<u64>,
        tool: Option<&str>,
        result: &Value,
    ) {
        let Some(kept) = self.kept(together, opened_us) else { return };
        let learned = {
            let mut earlier = lock(&kept);
            let room = RUN_PRINTS_MAX.saturating_sub(earlier.prints());
            earlier.learn(tool, result, room)
        };
        if !learned.is_whole {
            self.metrics.provenance_missed(Missed::Prints);
            self.stays_missed(together);
        }
        self.count(together, learned.added);
    }

    pub(super) fn miss(&self, together: &Together, opened_us: Option<u64>, why: Missed) {
        let Some(earlier) = self.kept(together, opened_us) else { return };
        lock(&earlier).miss();
        self.metrics.provenance_missed(why);
        self.stays_missed(together);
    }

    fn stays_missed(&self, together: &Together) {
        if let Some(kept) = self.state().runs.get_mut(together) {
            kept.only_before = false;
        }
    }

    /// The prints of a run; none where nobody listens.
    fn kept(&self, together: &Together, opened_us: Option<u64>) -> Option<Arc<Mutex<Earlier>>> {
        let mut state = self.state();
        let after_us = state.after_us?;
        state.turn += 1;
        let used = state.turn;
        if let Some(kept) = state.runs.get_mut(together) {
            kept.used = used;
            if let Some(opened_us) = opened_us.filter(|opened_us| *opened_us > kept.opened_us.max(after_us)) {
                kept.opened_us = opened_us;
                if std::mem::take(&mut kept.only_before) {
                    lock(&kept.earlier).begin_anew();
                }
            }
            return Some(kept.earlier.clone());
        }
        let mut earlier = Earlier::new(&self.key);
        let only_before = opened_us.is_none_or(|opened_us| opened_us <= after_us);
        if only_before {
            earlier.miss();
            self.metrics.provenance_missed(if state.dropped { Missed::Dropped } else { Missed::Before });
        }
        let earlier = Arc::new(Mutex::new(earlier));
        let opened_us = opened_us.unwrap_or_default();
        let kept = Kept { earlier: earlier.clone(), opened_us, only_before, prints: 0, used };
        state.runs.insert(together.clone(), kept);
        state.fit(together);
        Some(earlier)
    }

    fn count(&self, together: &Together, added: usize) {
        let mut state = self.state();
        let Some(kept) = state.runs.get_mut(together) else { return };
        kept.prints += added;
        state.prints += added;
        state.fit(together);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops runs, other than this one, until the rest is within the limits.
    fn fit(&mut self, but: &Together) {
        while self.runs.len() > RUNS_MAX || self.prints > PRINTS_MAX {
            let others = self.runs.iter().filter(|(together, _)| *together != but);
            let Some(least) = others.min_by_key(|(_, kept)| kept.used).map(|(together, _)| together.clone())
            else {
                return;
            };
            if let Some(kept) = self.runs.remove(&least) {
                self.prints -= kept.prints;
                self.dropped = true;
                // Of it, and of those that were opened before it, nobody can say any more whether they were here.
                self.after_us = self.after_us.map(|after_us| after_us.max(kept.opened_us));
            }
        }
    }
}

fn lock(earlier: &Mutex<Earlier>) -> MutexGuard<'_, Earlier> {
    earlier.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use estoppel_policy::{Call, Policy, PolicyDocument, RequestFacts, Tool, Verdict, Wanted};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "sk-live-4eC39HqLyjWDarjtT1zdp7dc";

    fn policy() -> Policy {
        let text = "version: 1\nname: nn\ndefaults: { verdict: allow }\n\
            rules:\n- { id: reused, when: { provenance: {} }, verdict: block, reason: REUSED }\n";
        PolicyDocument::parse(text).unwrap().compile()
    }

    fn run(number: u64) -> Together {
        Together { run: Some(number.to_string().into()), caller: None }
    }

    /// Why a call with `text` is refused.
    fn said(runs: &Runs, together: &Together, opened_us: Option<u64>, text: &str) -> Option<String> {
        let content = Content::read(json!([text]).to_string().as_bytes(), Wanted::default());
        let content = runs.tell(together, opened_us, content);
        let tools = [Tool { name: "send", call: Call::With(&content) }];
        let policy = policy();
        let decision = policy.request(&RequestFacts { tools: &tools, ..RequestFacts::default() });
        assert_eq!(decision.verdict == Verdict::Block, decision.reason.is_some());
        decision.reason.map(ToString::to_string)
    }

    fn runs() -> Runs {
        let runs = Runs::new([7; 16], Metrics::new());
        runs.set(true, 10);
        runs
    }

    #[test]
    fn what_a_tool_gave_is_known_in_its_run_and_in_no_other() {
        let runs = runs();
        runs.learn(&run(1), Some(11), Some("fetch"), &json!({ "a": SECRET }));
        assert_eq!(said(&runs, &run(1), Some(11), SECRET).as_deref(), Some("REUSED"));
        assert_eq!(said(&runs, &run(1), Some(11), "nothing of that kind is in here"), None);
        assert_eq!(said(&runs, &run(2), Some(12), SECRET), None);
        let (ann, bob) = (Some("ann".into()), Some("bob".into()));
        let of = |caller: &Option<Box<str>>| Together { caller: caller.clone(), ..run(3) };
        runs.learn(&of(&ann), Some(12), None, &json!(SECRET));
        assert_eq!(said(&runs, &of(&bob), Some(12), SECRET), None);
    }

    #[test]
    fn a_run_that_follows_another_of_its_name_knows_what_that_one_knew() {
        let runs = runs();
        runs.learn(&run(1), Some(11), None, &json!(SECRET));
        assert_eq!(said(&runs, &run(1), Some(99), SECRET).as_deref(), Some("REUSED"));
        // Of this one it is only not known what was before anybody listened, until another follows.
        runs.learn(&run(2), Some(9), None, &json!(SECRET));
        let other = "nothing of that kind is in here";
        assert_eq!(said(&runs, &run(2), Some(9), other).as_deref(), Some("NOT_EVALUATED"));
        assert_eq!(said(&runs, &run(2), Some(99), other), None);
        assert_eq!(said(&runs, &run(2), Some(99), SECRET).as_deref(), Some("REUSED"));
        runs.miss(&run(3), Some(11), Missed::Cut);
        assert_eq!(said(&runs, &run(3), Some(99), other).as_deref(), Some("NOT_EVALUATED"));
    }

    #[test]
    fn of_a_run_that_was_not_listened_to_from_its_start_only_what_is_found_is_known() {
        let runs = runs();
        for opened_us in [None, Some(9), Some(10)] {
            let together = run(opened_us.unwrap_or_default());
            assert_eq!(
                said(&runs, &together, opened_us, "anything at all").as_deref(),
                Some("NOT_EVALUATED")
            );
            runs.learn(&together, opened_us, None, &json!(SECRET));
            assert_eq!(said(&runs, &together, opened_us, SECRET).as_deref(), Some("REUSED"));
        }
        runs.miss(&run(20), Some(20), Missed::Unread);
        assert_eq!(said(&runs, &run(20), Some(20), "anything at all").as_deref(), Some("NOT_EVALUATED"));
    }

    #[test]
    fn a_call_that_nobody_listened_to_makes_every_open_run_unknown() {
        let runs = runs();
        assert_eq!(said(&runs, &run(1), Some(11), "anything at all"), None);
        runs.unheard(12);
        assert_eq!(said(&runs, &run(1), Some(11), "anything at all").as_deref(), Some("NOT_EVALUATED"));
        assert_eq!(said(&runs, &run(2), Some(13), "anything at all"), None);
        runs.set(false, 14);
        assert_eq!(said(&runs, &run(2), Some(13), "anything at all").as_deref(), Some("NOT_EVALUATED"));
        runs.unheard(15);
        runs.set(true, 16);
        assert_eq!(said(&runs, &run(3), Some(17), "anything at all"), None);
    }

    #[test]
    fn the_run_that_was_used_least_recently_is_dropped_and_unknown_when_it_comes_back() {
        let runs = runs();
        let opened = |number: u64| Some(10 + number);
        let most = RUNS_MAX as u64;
        for number in 1..=most {
            assert_eq!(said(&runs, &run(number), opened(number), SECRET), None);
        }
        assert_eq!(said(&runs, &run(1), opened(1), SECRET), None, "used again");
        assert_eq!(said(&runs, &run(most + 1), opened(most + 1), SECRET), None);
        assert_eq!(runs.state().runs.len(), RUNS_MAX);
        assert_eq!(said(&runs, &run(1), opened(1), SECRET), None);
        assert_eq!(said(&runs, &run(2), opened(2), SECRET).as_deref(), Some("NOT_EVALUATED"));
    }

    #[test]
    fn prints_of_all_runs_together_stay_within_their_limit() {
        let runs = runs();
        let text = |number: u64| {
            (0..40_000)
                .map(|word| format!("{:016x}", u64::wrapping_mul(word ^ number << 32, 0x9e37_79b9_7f4a_7c15)))
                .collect::<String>()
        };
        let mut number = 0;
        while !runs.state().dropped {
            number += 1;
            assert!(number < 40, "nothing is dropped");
            runs.learn(&run(number), Some(10 + number), None, &json!(text(number)));
        }
        let (kept, prints) = {
            let state = runs.state();
            (state.runs.len(), state.prints)
        };
        assert!(
            prints <= PRINTS_MAX && kept < usize::try_from(number).unwrap(),
            "{kept} of {number}, {prints}"
        );
        assert_eq!(said(&runs, &run(1), Some(11), "anything at all").as_deref(), Some("NOT_EVALUATED"));
        assert_eq!(
            said(&runs, &run(number), Some(10 + number), &text(number)[..64]).as_deref(),
            Some("REUSED")
        );
    }
}
