//! What became of the steps and requests of a replay, and the status that follows.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::{CallId, Sha256};
use serde::Serialize;

use crate::code::Code;
use crate::tolerance::{Beyond, Found, Part};

/// Most divergences that a certificate lists.
pub const DIVERGENCES_MAX: usize = 64;
/// Most pointers of one divergence, and most characters of one.
pub const POINTERS_MAX: usize = 16;
pub const POINTER_CHARS_MAX: usize = 128;
/// Most tolerated differences that a certificate lists.
pub const TOLERATED_MAX: usize = 64;

/// What happens at a request that no step answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// The replay ends.
    #[default]
    Strict,
    /// It goes on, and can no longer succeed.
    Lenient,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Success,
    Partial,
    Failed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// Where a replay was not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<String>,
    /// How far numbers are out of a tolerance that is declared for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<Beyond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    pub code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Divergence {
    fn of(code: Code, step: Option<At>) -> Self {
        let (seq, call) = step.map_or((None, None), |(seq, call)| (Some(seq), Some(call)));
        Self { at: Vec::new(), beyond: Vec::new(), call, code, seq }
    }
}

/// A difference that a policy tolerates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Within {
    pub at: String,
    /// The kind of the tolerance.
    pub by: &'static str,
    pub call: CallId,
    /// Digest of the value; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Sha256>,
    pub part: Part,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Sha256>,
    pub seq: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct CodeCount {
    code: Code,
    count: u64,
}

/// The counts of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    pub drift: Vec<CodeCount>,
    pub matched: u64,
    pub miss: u64,
    pub missing: u64,
    pub recorded: u64,
    pub reordered: u64,
    pub skipped: Vec<CodeCount>,
    /// Steps of `matched` and `truncated` with differences that are tolerated.
    pub tolerated: u64,
    pub truncated: u64,
}

/// Counts each step once.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    matching: Matching,
    matched: u64,
    miss: u64,
    missing: u64,
    reordered: u64,
    truncated: u64,
    drift: BTreeMap<Code, u64>,
    skipped: BTreeMap<Code, u64>,
    divergences: Vec<Divergence>,
    divergences_more: u64,
    /// Steps with tolerated differences, the first of these, and how many there are.
    tolerated: u64,
    within: Vec<Within>,
    within_count: u64,
    first: Option<u64>,
    /// Why the bundle did not verify.
    bundle: Option<String>,
    /// What is so of the replay as a whole.
    whole: BTreeSet<Code>,
}

/// The step that something became of.
pub type At = (u64, CallId);

impl Tally {
    pub fn new(matching: Matching) -> Self {
        Self { matching, ..Self::default() }
    }

    pub fn matching(&self) -> Matching {
        self.matching
    }

    pub fn matched(&mut self) {
        self.matched += 1;
    }

    pub fn truncated(&mut self) {
        self.truncated += 1;
    }

    /// The step was not replayed, for a reason that is no divergence.
    pub fn skipped(&mut self, code: Code) {
        *self.skipped.entry(code).or_default() += 1;
    }

    pub fn drifted(&mut self, code: Code, step: At, at: Vec<String>) {
        *self.drift.entry(code).or_default() += 1;
        self.diverged(Divergence { at, ..Divergence::of(code, Some(step)) });
    }

    /// As [`Self::drifted`], where a tolerance is declared.
    pub(crate) fn drifted_beyond(&mut self, code: Code, step: At, found: Found) {
        *self.drift.entry(code).or_default() += 1;
        self.diverged(Divergence { at: found.at, beyond: found.beyond, ..Divergence::of(code, Some(step)) });
    }

    /// The step is counted as matched or truncated, and differs in what is tolerated.
    pub(crate) fn tolerated(&mut self, (seq, call): At, part: Part, found: Found) {
        self.tolerated += 1;
        self.within_count += found.tolerated_count;
        let room = TOLERATED_MAX - self.within.len();
        self.within.extend(found.tolerated.into_iter().take(room).map(|one| Within {
            at: one.at,
            by: one.by,
            call,
            found: one.found,
            part,
            recorded: one.recorded,
            seq,
        }));
    }

    /// The first differences that are tolerated, and how many there are.
    pub fn within(&self) -> (&[Within], u64) {
        (&self.within, self.within_count)
    }

    pub fn missing(&mut self, step: At) {
        self.missing += 1;
        self.diverged(Divergence::of(Code::Missing, Some(step)));
    }

    /// A request without a step.
    pub fn missed(&mut self) {
        self.miss += 1;
        self.diverged(Divergence::of(Code::Miss, None));
    }

    /// A step that matched came too early.
    pub fn reordered(&mut self, step: At) {
        self.reordered += 1;
        self.diverged(Divergence::of(Code::Reordered, Some(step)));
    }

    /// The bundle does not verify: the code of the verifier, and where it is.
    pub fn bundle_invalid(&mut self, reason: &str, seq: Option<u64>) {
        self.bundle = Some(reason.to_owned());
        self.diverged(Divergence { seq, ..Divergence::of(Code::BundleInvalid, None) });
    }

    /// Something that is so of the replay, and of no step.
    pub fn whole(&mut self, code: Code) {
        self.whole.insert(code);
    }

    fn diverged(&mut self, mut divergence: Divergence) {
        if let Some(seq) = divergence.seq {
            self.first = Some(self.first.map_or(seq, |first| first.min(seq)));
        }
        if self.divergences.len() == DIVERGENCES_MAX {
            self.divergences_more += 1;
            return;
        }
        divergence.at = shortened(divergence.at);
        let Divergence { at, beyond, .. } = &mut divergence;
        beyond.retain(|one| at.contains(&one.at));
        self.divergences.push(divergence);
    }

    pub fn bundle_reason(&self) -> Option<&str> {
        self.bundle.as_deref()
    }

    pub fn divergences(&self) -> (&[Divergence], u64) {
        (&self.divergences, self.divergences_more)
    }

    pub fn first_divergent_seq(&self) -> Option<u64> {
        self.first
    }

    pub fn counts(&self) -> Counts {
        let rows = |counts: &BTreeMap<Code, u64>| -> Vec<CodeCount> {
            counts.iter().map(|(code, count)| CodeCount { code: *code, count: *count }).collect()
        };
        Counts {
            drift: rows(&self.drift),
            matched: self.matched,
            miss: self.miss,
            missing: self.missing,
            recorded: self.recorded(),
            reordered: self.reordered,
            skipped: rows(&self.skipped),
            tolerated: self.tolerated,
            truncated: self.truncated,
        }
    }

    /// How many steps were counted.
    pub fn recorded(&self) -> u64 {
        let rows = self.drift.values().chain(self.skipped.values());
        self.matched + self.missing + self.truncated + rows.sum::<u64>()
    }

    /// Every code that follows, in byte order.
    pub fn reasons(&self, upstream_connections: u64) -> BTreeSet<Code> {
        let facts = [
            (Code::Miss, self.miss > 0),
            (Code::Missing, self.missing > 0),
            (Code::Reordered, self.reordered > 0),
            (Code::Truncated, self.truncated > 0),
            (Code::Tolerated, self.tolerated > 0),
            (Code::BundleInvalid, self.bundle.is_some()),
            (Code::NoSteps, self.recorded() == 0),
            (Code::UpstreamConnection, upstream_connections > 0),
        ];
        let facts = facts.into_iter().filter(|(_, holds)| *holds).map(|(code, _)| code);
        let whole = self.whole.iter().copied();
        facts.chain(whole).chain(self.drift.keys().copied()).chain(self.skipped.keys().copied()).collect()
    }

    pub fn status(&self, upstream_connections: u64) -> Status {
        let reasons = self.reasons(upstream_connections);
        let fails = |code: &Code| match code {
            Code::Reordered => self.matching == Matching::Strict,
            Code::Truncated | Code::BodyAbsent | Code::BodyRedacted | Code::Undecided => false,
            Code::SchemaPartial | Code::StatementBound | Code::StatementDenied => false,
            Code::OperationNotAllowed | Code::ToolNotAllowed => false,
            Code::NotCompared | Code::TagsOnly | Code::Tolerated => false,
            _ => true,
        };
        // A tolerated difference is a note.
        let is_note = |code: &Code| *code == Code::Tolerated;
        match reasons.iter().any(fails) {
            true => Status::Failed,
            false if reasons.iter().all(is_note) => Status::Success,
            false => Status::Partial,
        }
    }
}

/// As many pointers as are listed. One that is too long is cut to one above it, and not listed again.
fn shortened(pointers: Vec<String>) -> Vec<String> {
    let mut listed: Vec<String> = Vec::new();
    for mut pointer in pointers.into_iter().take(POINTERS_MAX) {
        if let Some((cut, _)) = pointer.char_indices().nth(POINTER_CHARS_MAX + 1) {
            pointer.truncate(cut);
        }
        if pointer.chars().count() > POINTER_CHARS_MAX {
            pointer.truncate(pointer.rfind('/').unwrap_or_default());
        }
        if !listed.contains(&pointer) {
            listed.push(pointer);
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_that_are_too_long_are_cut_between_names_and_told_once() {
        let long = |end: &str| format!("/{}{end}", "a".repeat(POINTER_CHARS_MAX - 2));
        let cases = [(long("b"), long("b")), (long("~0"), String::new()), (long("b/c"), long("b"))];
        for (pointer, expected) in cases {
            assert_eq!(shortened(vec![pointer.clone(), pointer]), [expected]);
        }
        let beside = shortened(vec![long("b/c"), long("b/d"), "/e".to_owned()]);
        assert_eq!(beside, [long("b"), "/e".to_owned()]);
        let mut tally = Tally::new(Matching::Strict);
        let beyond = ["/n", &long("b/c")].map(|at| Beyond {
            at: at.to_owned(),
            by: None,
            of: "absolute",
            within: "0".into(),
        });
        let found = Found { at: vec!["/n".into(), long("b/c")], beyond: beyond.to_vec(), ..Found::default() };
        tally.drifted_beyond(Code::ArgDrift, at(1), found);
        let listed = &tally.divergences().0[0];
        assert_eq!(
            (listed.at.len(), listed.beyond.len()),
            (2, 1),
            "no place of `beyond` was cut: {listed:?}"
        );
    }

    fn at(seq: u64) -> At {
        (seq, CallId::new(seq, [1; 10]))
    }

    fn check(matching: Matching, of: impl FnOnce(&mut Tally), status: Status, reasons: &[Code]) {
        let mut tally = Tally::new(matching);
        of(&mut tally);
        assert_eq!(tally.status(0), status, "{tally:?}");
        assert_eq!(tally.reasons(0).into_iter().collect::<Vec<_>>(), reasons);
    }

    #[test]
    fn the_status_follows_from_what_became_of_the_steps() {
        use Matching::{Lenient, Strict};
        use Status::{Failed, Partial, Success};
        check(Strict, |_| {}, Failed, &[Code::NoSteps]);
        check(Strict, Tally::matched, Success, &[]);
        let skip = |code| move |tally: &mut Tally| (tally.matched(), tally.skipped(code)).0;
        for code in [
            Code::BodyAbsent,
            Code::BodyRedacted,
            Code::NotCompared,
            Code::Undecided,
            Code::StatementBound,
            Code::StatementDenied,
            Code::OperationNotAllowed,
            Code::ToolNotAllowed,
        ] {
            check(Strict, skip(code), Partial, &[code]);
        }
        check(Strict, Tally::truncated, Partial, &[Code::Truncated]);
        let within = |tally: &mut Tally| {
            tally.matched();
            tally.tolerated(at(1), Part::Answer, Found::default());
        };
        check(Strict, within, Success, &[Code::Tolerated]);
        let early = |tally: &mut Tally| (tally.matched(), tally.reordered(at(2))).0;
        check(Strict, early, Failed, &[Code::Reordered]);
        check(Lenient, early, Partial, &[Code::Reordered]);
        check(Lenient, |tally| (tally.matched(), tally.missed()).0, Failed, &[Code::Miss]);
        check(Lenient, |tally| tally.missing(at(1)), Failed, &[Code::Missing]);
        for code in [
            Code::AnswerDrift,
            Code::ArgDrift,
            Code::BodyDrift,
            Code::DbDrift,
            Code::SchemaDrift,
            Code::StatusDrift,
        ] {
            check(Lenient, |tally| tally.drifted(code, at(1), Vec::new()), Failed, &[code]);
        }
        let whole = |code| move |tally: &mut Tally| (tally.matched(), tally.whole(code)).0;
        check(Strict, whole(Code::SchemaPartial), Partial, &[Code::SchemaPartial]);
        check(Strict, whole(Code::TagsOnly), Partial, &[Code::TagsOnly]);
        for code in [Code::ScratchLeft, Code::TransactionEscape] {
            check(Strict, whole(code), Failed, &[code]);
        }
        let invalid = |tally: &mut Tally| (tally.matched(), tally.bundle_invalid("FILE_DIGEST", None)).0;
        check(Lenient, invalid, Failed, &[Code::BundleInvalid]);
    }

    #[test]
    fn a_connection_fails_what_matched() {
        let mut tally = Tally::default();
        tally.matched();
        assert_eq!((tally.status(0), tally.status(1)), (Status::Success, Status::Failed));
    }

    #[test]
    fn each_step_is_counted_once_and_the_first_divergence_is_the_smallest() {
        let mut tally = Tally::default();
        tally.matched();
        tally.truncated();
        tally.skipped(Code::Undecided);
        let places = (0..40).map(|place| format!("/{place}{}", "/a".repeat(200)));
        tally.drifted(Code::ArgDrift, at(9), places.collect());
        tally.missing(at(4));
        tally.missed();
        assert_eq!((tally.recorded(), tally.first_divergent_seq()), (5, Some(4)));
        let at = &tally.divergences().0[0].at;
        assert_eq!((at.len(), at[0].len()), (POINTERS_MAX, POINTER_CHARS_MAX));
    }

    #[test]
    fn what_is_not_listed_is_counted_and_may_be_the_first() {
        let mut tally = Tally::default();
        (0..DIVERGENCES_MAX as u64).for_each(|seq| tally.missing(at(100 + seq)));
        tally.missing(at(3));
        assert_eq!((tally.divergences().0.len(), tally.divergences().1), (DIVERGENCES_MAX, 1));
        assert_eq!(tally.first_divergent_seq(), Some(3));
    }
}
