//! What programs leave running behind them: it becomes a child of this program, whatever sessions and groups it makes, and is ended.
//!
//! Linux alone gives orphans to another process than the first one. Elsewhere what leaves its group is not reached.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this program asked for it.
static ASKED: AtomicBool = AtomicBool::new(false);

/// From here on what steps, hooks and programs of gates leave is ended after them. Only for a program that waits for no child of its own meanwhile:
/// each one that it has then is ended, but those that it has already, as a shell that became this program leaves them.
pub fn end_what_is_left() {
    here::spare();
    ASKED.store(true, Ordering::Relaxed);
}

/// As long as it lives, what others leave is taken.
pub(crate) struct Taking(());

impl Taking {
    pub(crate) fn begin() -> Self {
        if ASKED.load(Ordering::Relaxed) {
            here::take(true);
        }
        Self(())
    }

    /// Ends everything that was left, and says whether nothing remains. No program that is waited for may run.
    pub(crate) fn end_all(&self) -> bool {
        !ASKED.load(Ordering::Relaxed) || here::end_all()
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if ASKED.load(Ordering::Relaxed) {
            here::end_all();
            here::take(false);
        }
    }
}

#[cfg(target_os = "linux")]
mod here {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

    /// How long is waited for what was told to end: the kernel may be busy with it.
    const PATIENCE: Duration = Duration::from_secs(30);
    const LOOK: Duration = Duration::from_millis(2);

    /// Children that this program did not start. They are not waited for, so that their numbers stay theirs.
    static SPARED: OnceLock<Vec<Pid>> = OnceLock::new();

    pub(super) fn spare() {
        SPARED.get_or_init(|| children().unwrap_or_default());
    }

    pub(super) fn take(is_taken: bool) {
        // A kernel without it leaves orphans to the first process.
        let _ = set_child_subreaper(is_taken.then(getpid));
    }

    /// What a child leaves when it ends is a child of ours then, and ended in the next round.
    pub(super) fn end_all() -> bool {
        let began = Instant::now();
        loop {
            let spared = SPARED.get().map(Vec::as_slice).unwrap_or_default();
            let Some(mut left) = children() else { return false };
            left.retain(|child| !spared.contains(child));
            // Where none is spared the kernel says itself whether there is one.
            let is_none =
                || !spared.is_empty() || matches!(waitpid(None, WaitOptions::NOHANG), Err(Errno::CHILD));
            if left.is_empty() && is_none() {
                return true;
            }
            for child in left {
                // What is gone already is what was wanted.
                let _ = kill_process(child, Signal::KILL);
                let _ = waitpid(Some(child), WaitOptions::NOHANG);
            }
            if began.elapsed() >= PATIENCE {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// None where nobody tells.
    fn children() -> Option<Vec<Pid>> {
        let own = getpid().as_raw_nonzero().get();
        let entries = std::fs::read_dir("/proc").ok()?.flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_own = |id: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // The name may have anything in it, and ends with the last parenthesis.
            let parent =
                stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<i32>().ok());
            parent == Some(own)
        };
        Some(ids.filter(is_own).filter_map(Pid::from_raw).collect())
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    pub(super) fn spare() {}

    pub(super) fn take(_: bool) {}

    pub(super) fn end_all() -> bool {
        true
    }
}
