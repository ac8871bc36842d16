use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use estoppel_evidence::entry::RunClass;

use super::*;
use crate::retention::{LegalHold, Rule, SurveyedRun};

const BODY: &[u8] = b"a stored body";
const DAY: u64 = 86_400_000_000;

/// A journal's folder with one stored body, which one sealed run names, and the plan to delete it.
struct Planned {
    dir: tempfile::TempDir,
    file: PathBuf,
    survey: Survey,
    plan: Plan,
}

fn run() -> RunId {
    "8c48415d-e3d2-4d08-a91c-03dd5ade6f06".parse().unwrap()
}

fn planned() -> Planned {
    let dir = tempfile::tempdir().unwrap();
    let digest = Sha256::of(BODY);
    let file = dir.path().join(Place::Body { digest, is_encrypted: false }.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("bundles")).unwrap();
    write(&file, BODY, 10);
    let mut survey = Survey::default();
    let (class, sealed) = (RunClass::Caller, Some(UnixMicros(DAY)));
    survey
        .runs
        .insert(run(), SurveyedRun { class, name: None, opened: UnixMicros(0), sealed, is_settled: true });
    survey.bodies.insert(digest, BTreeMap::from([(run(), UnixMicros(DAY))]));
    let rule = Rule { class: Class::Bodies, id: "a".into(), keep_days: 0, run_class: None };
    let plan = Plan::new(dir.path(), &survey, "host/name/1", &[rule], now()).unwrap();
    assert_eq!(plan.objects.len(), 1, "{plan:?}");
    Planned { dir, file, survey, plan }
}

fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMicros(u64::try_from(since.as_micros()).unwrap())
}

/// A file that was written so many days ago.
fn write(path: &Path, bytes: &[u8], days: u64) {
    drop(std::fs::remove_file(path));
    std::fs::write(path, bytes).unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

impl Planned {
    fn trash(&self) -> PathBuf {
        self.dir.path().join("retention/trash/0")
    }

    /// As a deletion leaves it that is killed between taking the file away and removing it.
    fn take_away(&self) {
        std::fs::create_dir_all(self.trash().parent().unwrap()).unwrap();
        std::fs::rename(&self.file, self.trash()).unwrap();
    }

    /// Deletes; whether the file is there then, and why.
    fn check(&self, expected: Option<&str>) {
        let kept = delete(self.dir.path(), &self.plan, &self.survey, true).unwrap();
        assert_eq!(kept.first().map(|kept| kept.why), expected);
        assert_eq!(self.file.exists(), expected.is_some());
        assert!(!self.trash().exists());
    }
}

#[test]
fn what_is_planned_is_deleted_once_or_again() {
    let planned = planned();
    planned.check(None);
    planned.check(None);
}

#[test]
fn what_somebody_else_took_away_is_not_counted_as_deleted() {
    let planned = planned();
    let check = |is_begun| check(planned.dir.path(), &planned.plan, is_begun);
    check(false).unwrap();
    std::fs::remove_file(&planned.file).unwrap();
    let path = planned.plan.objects[0].path.clone();
    assert!(
        matches!(check(false), Err(RetentionError::Stale { path: named, why: "absent" }) if named == path)
    );
    check(true).unwrap();
    let kept = delete(planned.dir.path(), &planned.plan, &planned.survey, false).unwrap();
    assert_eq!(kept, [Kept { path, why: "absent" }]);
    planned.check(None);
}

#[test]
fn nothing_of_a_plan_is_deleted_where_something_of_it_is_no_plain_file() {
    let mut planned = planned();
    let digest = Sha256::of(b"another");
    let place = Place::Body { digest, is_encrypted: false };
    let linked = planned.dir.path().join(place.path());
    std::fs::create_dir_all(linked.parent().unwrap()).unwrap();
    write(&linked, b"another", 10);
    planned.survey.bodies.insert(digest, BTreeMap::from([(run(), UnixMicros(DAY))]));
    planned.plan =
        Plan::new(planned.dir.path(), &planned.survey, "host/name/1", &planned.plan.rules, now()).unwrap();
    assert_eq!(planned.plan.objects.len(), 2);
    let files = planned.plan.objects.iter().map(|object| planned.dir.path().join(&object.path));
    let files: Vec<PathBuf> = files.collect();
    std::fs::remove_file(&files[1]).unwrap();
    std::os::unix::fs::symlink(&files[0], &files[1]).unwrap();
    for is_begun in [false, true] {
        let refused = delete(planned.dir.path(), &planned.plan, &planned.survey, is_begun);
        assert!(matches!(refused, Err(RetentionError::Path { path }) if path == files[1]));
        assert!(files[0].exists());
    }
}

#[test]
fn what_was_taken_away_when_it_was_killed_is_deleted() {
    let planned = planned();
    planned.take_away();
    planned.check(None);
}

#[test]
fn what_was_taken_away_and_is_held_since_gets_its_name_back() {
    let mut planned = planned();
    planned.take_away();
    let hold = LegalHold { comment: None, since: UnixMicros(0) };
    planned.survey.holds.insert((run(), "counsel".into()), hold);
    planned.check(Some("held"));
    assert_eq!(std::fs::read(&planned.file).unwrap(), BODY);
}

#[test]
fn a_newer_file_of_the_same_name_stays() {
    let planned = planned();
    planned.take_away();
    write(&planned.file, BODY, 0);
    assert_eq!(delete(planned.dir.path(), &planned.plan, &planned.survey, true).unwrap(), []);
    assert!(planned.file.exists() && !planned.trash().exists());
}

#[test]
fn other_bytes_and_a_body_that_was_stored_again_are_put_back() {
    let planned = planned();
    write(&planned.file, b"other bytes", 10);
    planned.check(Some("changed"));
    assert_eq!(std::fs::read(&planned.file).unwrap(), b"other bytes");
    let mut planned = self::planned();
    planned.plan.as_of = UnixMicros(planned.plan.as_of.0 - DAY);
    write(&planned.file, BODY, 0);
    planned.check(Some("written_again"));
}

#[test]
fn a_body_that_a_call_in_flight_has_stored_again_is_put_back() {
    let mut planned = planned();
    // Of a plan that was made for a moment to come: written before it, and no receipt names it yet.
    write(&planned.file, BODY, 0);
    planned.plan.as_of = UnixMicros(planned.plan.as_of.0 + DAY / 2);
    planned.check(Some("written_again"));
    assert_eq!(std::fs::read(&planned.file).unwrap(), BODY);
}

#[test]
fn only_places_of_bodies_and_bundles_are_paths() {
    let hex = Sha256::of(BODY).hex();
    let run = run();
    for path in [
        format!("bodies/{}/{hex}", &hex[..2]),
        format!("bodies/{}/{hex}.enc", &hex[..2]),
        format!("bundles/{run}.pef.zip"),
        format!("bundles/{run}.pef.zip.d/{hex}"),
    ] {
        assert_eq!(Place::parse(&path).map(|place| place.path()), Some(path));
    }
    for path in [
        "segments/0.seg".to_owned(),
        "segments/00000000000000000000.seg.tmp".to_owned(),
        "checkpoint".into(),
        format!("bodies/00/{hex}"),
        format!("bodies/../{hex}"),
        format!("bodies/{}/{}", &hex[..2], hex.to_uppercase()),
        format!("/bodies/{}/{hex}", &hex[..2]),
        format!("bodies/{}/{hex}/", &hex[..2]),
        format!("bodies/{}/{hex}.enc.enc", &hex[..2]),
        format!("bodies/{}/{hex}.tmp", &hex[..2]),
        format!("bundles/{}.pef.zip", run.to_string().to_uppercase()),
        format!("bundles/../bundles/{run}.pef.zip"),
        "keys/receipt.pem".into(),
    ] {
        assert_eq!(Place::parse(&path), None, "{path}");
    }
    let mut planned = planned();
    planned.plan.objects[0].path = "keys/receipt.pem".into();
    let refused = delete(planned.dir.path(), &planned.plan, &planned.survey, false);
    assert!(matches!(refused, Err(RetentionError::Path { .. })));
}

#[test]
fn of_many_files_that_nobody_understands_the_first_are_named_and_all_are_counted() {
    let Planned { dir, survey, .. } = planned();
    for number in 0..2_500 {
        std::fs::write(dir.path().join(format!("bundles/{number:04}.pef.zip")), "x").unwrap();
    }
    for ours in ["archive.ndjson", "archive.00.upload", "x.tmp", &format!("{}.pef.zip.custody.ndjson", run())]
    {
        std::fs::write(dir.path().join("bundles").join(ours), "x").unwrap();
    }
    let strangers = crate::retention::Strangers::of(dir.path(), &survey, now()).unwrap();
    assert_eq!((strangers.count, strangers.paths.len()), (2_500, 1_000));
    assert_eq!(strangers.paths.last().unwrap(), "bundles/0999.pef.zip");
}
