//! Bundles that retention has deleted, or was about to: they do not come back.

use std::path::{Path, PathBuf};

use estoppel_evidence::entry::{Act, Event, SealReason};
use estoppel_evidence::envelope::{STATEMENT_TYPE, sign};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, RunId, Sha256};
use estoppel_journal::retention::{self, Class, Deletion, Kept, Plan, Rule, Survey};
use estoppel_journal::{Journal, SealError};

use crate::kit::*;

const LATER: &str = "2190-01-01T00:00:00.000000Z";

/// A journal with a sealed run, and the plan to delete its bundle, which is gone.
struct Planned {
    dir: tempfile::TempDir,
    journal: Journal,
    run: RunId,
    bundle: PathBuf,
    plan: Plan,
}

impl Planned {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        fill(&journal, Some("job"), 2);
        let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
        let rule = Rule { class: Class::Bundles, id: "now".into(), keep_days: 0, run_class: None };
        let survey = Survey::of(dir.path()).unwrap();
        let as_of = UnixMicros::parse(LATER).unwrap();
        let plan = Plan::new(dir.path(), &survey, INSTANCE, &[rule], as_of).unwrap();
        assert_eq!(plan.objects.len(), 1);
        std::fs::remove_file(&sealed.path).unwrap();
        Self { dir, journal, run: sealed.run, bundle: sealed.path, plan }
    }

    fn digest(&self) -> Sha256 {
        Sha256::of(&self.plan.statement())
    }

    fn path(&self, end: &str) -> PathBuf {
        self.dir.path().join("retention").join(format!("{}.{end}.json", self.digest().hex()))
    }

    fn note(&self, act: &'static str, comment: Option<String>) {
        let on = Some(self.digest().to_string());
        let act = Act { act, by: "operator".into(), comment, on, reason: None };
        self.journal.note(None, Event::Act(act)).wait().unwrap();
    }

    /// Keeps the plan and records that it is begun.
    fn begin(&self) {
        let signed = sign(STATEMENT_TYPE, &self.plan.statement(), &*keys().manifest).unwrap();
        keep(self.dir.path(), &self.path("planned"), &signed);
        self.note("retention_planned", None);
    }

    /// Records that it is completed and keeps the report.
    fn complete(&self, kept: &[Kept]) {
        let by = (UnixMicros(1), "operator");
        let report = self.plan.completed(self.digest(), by, kept, &retention::Strangers::default());
        let report = sign(STATEMENT_TYPE, &report, &*keys().manifest).unwrap();
        let comment = format!("1 files deleted, 0 kept back; report sha256 {}", Sha256::of(&report).hex());
        self.note("retention_completed", Some(comment));
        keep(self.dir.path(), &self.path("completed"), &report);
    }

    /// What is said when it is asked for.
    #[track_caller]
    fn refused(&self) -> (Reason, Deletion) {
        let exported = self.journal.export(self.run).wait().unwrap_err();
        let sealed = self.journal.seal_blocking("job", SealReason::Clean).unwrap_err();
        assert_eq!(exported.to_string(), sealed.to_string());
        assert!(!self.bundle.exists());
        let reason = sealed.reason();
        let SealError::BundleDeleted { run, deletion, copy: None } = sealed else { panic!("{sealed}") };
        assert_eq!((run, self.journal.stats().bundles_failed), (self.run, 0));
        (reason, deletion)
    }

    #[track_caller]
    fn written(&self) {
        self.journal.seal_blocking("job", SealReason::Clean).unwrap();
        check_bundle(&self.bundle);
    }
}

fn keep(dir: &Path, path: &Path, bytes: &[u8]) {
    retention::keep(dir, path.file_name().unwrap().to_str().unwrap(), bytes).unwrap();
}

#[test]
fn a_report_that_lists_a_bundle_keeps_it_from_being_written_again() {
    let planned = Planned::new();
    planned.begin();
    planned.complete(&[]);
    let report = planned.path("completed");
    let completed = (Reason::BundleDeleted, Deletion::Completed { report: report.clone() });
    assert_eq!(planned.refused(), completed);
    // Also where a start does not know which bundles are there.
    planned.journal.close(LONG).unwrap();
    std::fs::remove_file(planned.dir.path().join("bundled")).unwrap();
    let planned = Planned { journal: open(settings(planned.dir.path())).unwrap(), ..planned };
    assert_eq!(planned.refused(), completed);
    // Without the report the plan still says what may be gone, and without both nobody knows.
    let mut forged = std::fs::read(&report).unwrap();
    forged.push(b'\n');
    std::fs::write(&report, forged).unwrap();
    let begun = (Reason::BundleDeleted, Deletion::Begun { plan: planned.path("planned") });
    assert_eq!(planned.refused(), begun);
    std::fs::remove_file(planned.path("planned")).unwrap();
    let unknown = (Reason::JournalCorrupt, Deletion::Unknown { document: report });
    assert_eq!(planned.refused(), unknown);
}

#[test]
fn a_bundle_that_a_deletion_kept_back_is_written_again() {
    let planned = Planned::new();
    planned.begin();
    let path = planned.plan.objects[0].path.clone();
    planned.complete(&[Kept { path, why: "held" }]);
    planned.written();
}

#[test]
fn a_deletion_that_was_begun_keeps_what_it_lists_from_being_written_again() {
    let planned = Planned::new();
    planned.begin();
    let plan = planned.path("planned");
    assert_eq!(planned.refused(), (Reason::BundleDeleted, Deletion::Begun { plan: plan.clone() }));
    let text = std::fs::read(&plan).unwrap();
    std::fs::write(&plan, b"{}").unwrap();
    let unknown = Deletion::Unknown { document: plan.clone() };
    assert_eq!(planned.refused(), (Reason::JournalCorrupt, unknown));
    std::fs::write(&plan, text).unwrap();
    planned.complete(&[]);
    assert_eq!(planned.refused().1, Deletion::Completed { report: planned.path("completed") });
}

#[test]
fn a_plan_that_was_taken_back_and_one_that_no_entry_names_delete_nothing() {
    let planned = Planned::new();
    planned.begin();
    std::fs::remove_file(planned.path("planned")).unwrap();
    planned.written();
    let other = Planned::new();
    let signed = sign(STATEMENT_TYPE, &other.plan.statement(), &*keys().manifest).unwrap();
    keep(other.dir.path(), &other.path("planned"), &signed);
    keep(other.dir.path(), &other.path("completed"), &signed);
    other.written();
}

#[test]
fn what_was_deleted_before_a_run_was_sealed_was_not_its_bundle() {
    let planned = Planned::new();
    planned.begin();
    planned.complete(&[]);
    std::fs::remove_dir_all(planned.dir.path().join("retention")).unwrap();
    fill(&planned.journal, Some("later"), 1);
    let later = planned.journal.seal_blocking("later", SealReason::Clean).unwrap();
    std::fs::remove_file(&later.path).unwrap();
    assert_eq!(planned.journal.seal_blocking("later", SealReason::Clean).unwrap(), later);
    assert_eq!(planned.refused().0, Reason::JournalCorrupt);
}
