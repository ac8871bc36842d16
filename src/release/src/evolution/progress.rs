//! How far a run is, for whoever looks on in the clone that runs it: a file among its logs, locked for as long as it runs.
//!
//! It is a running commentary and no evidence: steps run as whoever starts them and could write it. Each line is a word and the
//! id of a step: `want` of each at the beginning, `run` when it begins, then how it ended and the milliseconds that it took.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use super::steps::{Watch, log_path};
use crate::generation::Step;
use crate::ledger::{StepOutcome, StepResult};

/// Name of the file. Logs of steps end with `.log`.
const NAME: &str = "progress";
/// Most bytes of it that are read.
const BYTES_MAX: u64 = 256 << 10;

/// Tells it while it runs, and passes on to whoever else looks on.
pub(super) struct Telling<'a> {
    /// None where it could not be made: a run does not fail because nobody can look on.
    file: Option<Mutex<File>>,
    also: &'a dyn Watch,
}

impl<'a> Telling<'a> {
    /// From here on it is known that the run is alive.
    pub(super) fn begin(logs: &Path, also: &'a dyn Watch) -> Self {
        let path = logs.join(NAME);
        let mut file = File::create_new(&path).ok();
        if file.as_ref().is_some_and(|file| file.lock().is_err()) {
            // Without a lock it would say that nobody runs it.
            let _ = std::fs::remove_file(&path);
            file = None;
        }
        Self { file: file.map(Mutex::new), also }
    }

    pub(super) fn wanted(&self, steps: &[&Step]) {
        for step in steps {
            self.tell(&format!("want {}\n", step.id));
        }
    }

    fn tell(&self, line: &str) {
        if let Some(mut file) = self.file.as_ref().and_then(|file| file.lock().ok()) {
            // A full disk ends the commentary, not the run.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Watch for Telling<'_> {
    fn begun(&self, step: &Step) {
        self.tell(&format!("run {}\n", step.id));
        self.also.begun(step);
    }

    fn ended(&self, result: &StepResult) {
        self.tell(&format!("{} {} {}\n", result.outcome.as_str(), result.id, result.duration_ms));
        self.also.ended(result);
    }
}

/// Where a step of a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Far {
    pub step: String,
    pub standing: Standing,
}

/// What is known of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not begun.
    Wanted,
    Running,
    Ended {
        outcome: StepOutcome,
        duration_ms: u64,
    },
}

/// What can be seen of a run that has not been recorded as ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether the program that runs it still does.
    pub is_alive: bool,
    /// In the order of the steps.
    pub steps: Vec<Far>,
}

/// Whether this clone began the run whose logs are in this folder, and the program that ran it is gone. Of what others run
/// nothing is known.
pub fn is_cut_off(logs: &Path) -> bool {
    seen(logs).is_some_and(|seen| !seen.is_alive)
}

/// Looks at the run whose logs are in this folder; none where this clone does not run it.
pub fn seen(logs: &Path) -> Option<Seen> {
    let mut file = regular(&logs.join(NAME)).ok()?;
    let mut bytes = Vec::new();
    io::Read::by_ref(&mut file).take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let is_alive = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    Some(Seen { is_alive, steps: read(&String::from_utf8_lossy(&bytes)) })
}

fn read(text: &str) -> Vec<Far> {
    let mut steps: Vec<Far> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(word), Some(id)) = (words.next(), words.next()) else { continue };
        let standing = match word {
            "want" => Standing::Wanted,
            "run" => Standing::Running,
            _ => {
                let Some(outcome) = StepOutcome::parse(word) else { continue };
                let duration_ms = words.next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
                Standing::Ended { outcome, duration_ms }
            }
        };
        match steps.iter_mut().find(|far| far.step == id) {
            Some(far) => far.standing = standing,
            None => steps.push(Far { step: id.to_owned(), standing }),
        }
    }
    steps
}

/// The end of the log of a step that need not have ended, as it is now.
///
/// # Errors
/// It is not there, or no regular file.
pub fn tail(logs: &Path, step: &str, bytes_max: u64) -> io::Result<String> {
    let mut file = regular(&log_path(logs, step))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file that is none of another kind, so that reading it neither waits nor follows.
fn regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unwatched;
    use super::*;

    #[test]
    fn whoever_looks_on_sees_how_far_it_is_and_whether_it_still_runs() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(seen(folder.path()), None);
        let telling = Telling::begin(folder.path(), &Unwatched);
        telling.tell("want unit\nwant e2e\nrun unit\n");
        let Seen { is_alive, steps } = seen(folder.path()).unwrap();
        let shown: Vec<_> = steps.iter().map(|far| (far.step.as_str(), far.standing)).collect();
        assert_eq!((is_alive, shown), (true, vec![("unit", Standing::Running), ("e2e", Standing::Wanted)]));
        telling.tell("failed unit 12\nskipped e2e 0\nnonsense\n");
        drop(telling);
        let Seen { is_alive, steps } = seen(folder.path()).unwrap();
        let ended = |outcome, duration_ms| Standing::Ended { outcome, duration_ms };
        let shown: Vec<_> = steps.iter().map(|far| far.standing).collect();
        let expected = vec![ended(StepOutcome::Failed, 12), ended(StepOutcome::Skipped, 0)];
        assert_eq!((is_alive, shown), (false, expected));
    }

    #[test]
    fn what_a_step_puts_in_the_place_of_a_file_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("long.log"), "begin\nend\n").unwrap();
        assert_eq!(tail(folder.path(), "long", 4).unwrap(), "end\n");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("led.log")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join(NAME)).unwrap();
        assert!(
            std::process::Command::new("mkfifo")
                .arg(folder.path().join("pipe.log"))
                .status()
                .unwrap()
                .success()
        );
        assert!(tail(folder.path(), "led", 4).is_err());
        assert!(tail(folder.path(), "pipe", 4).is_err());
        assert_eq!(seen(folder.path()), None);
    }
}
