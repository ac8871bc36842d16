//! Where acts are recorded: in the journal itself, or by the daemon that has it open.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::entry::{Act, Event};
use estoppel_evidence::{Reason, text};
use estoppel_journal::{Journal, JournalError, SystemClock, retention};
use serde_json::json;

use crate::admin::tell;
use crate::arguments::Kept;
use crate::output::{Failure, plain};

const CLOSE: Duration = Duration::from_secs(30);

pub enum Recorder {
    Own(Box<Journal>),
    Daemon { admin: String },
}

/// Whether an entry holds this text.
pub fn check(word: &str) -> Result<(), Failure> {
    if (1..=128).contains(&word.chars().count()) && text::text(word) == word {
        return Ok(());
    }
    Err(Failure::input(
        "ARGUMENT_INVALID",
        "--by and --reason have 1 to 128 characters and no control characters",
    ))
}

fn failed(error: &JournalError) -> Failure {
    Failure::reason(error.reason(), plain(&error.to_string()))
}

impl Recorder {
    /// The instance whose journal it is.
    pub fn instance(dir: &Path) -> Result<String, Failure> {
        retention::instance(dir).map(|instance| instance.to_string()).map_err(|error| failed(&error))
    }

    /// Opens the journal, or finds that a daemon has.
    pub fn open(kept: &Kept) -> Result<Self, Failure> {
        let keys = kept.keys.clone().unwrap_or_else(|| kept.journal.join("keys"));
        let keys = estoppel_journal::keys::load(&keys)
            .map_err(|error| Failure::reason(error.reason(), plain(&error.to_string())))?;
        let body_keys = crate::encrypt::body_keys(&kept.body_keys)?.map(Arc::new);
        match Journal::open_offline(&kept.journal, keys, body_keys, None, Arc::new(SystemClock::new())) {
            Ok(journal) => Ok(Self::Own(Box::new(journal))),
            Err(JournalError::Locked { .. }) => Ok(Self::Daemon { admin: kept.admin.clone() }),
            Err(error) => Err(failed(&error)),
        }
    }

    pub fn note(&self, act: Act) -> Result<(), Failure> {
        match self {
            Self::Own(journal) => {
                let recorded = journal.note(None, Event::Act(act)).wait();
                recorded.map(drop).map_err(|error| Failure::reason(error.reason(), error.to_string()))
            }
            Self::Daemon { admin } => {
                let Act { act, by, comment, on, .. } = act;
                let told = tell(
                    admin,
                    "/retention",
                    &json!({ "act": act, "by": by, "comment": comment, "on": on }),
                )?;
                match told["receipt"].is_string() {
                    true => Ok(()),
                    false => Err(Failure::reason(
                        Reason::EvidenceOff,
                        "the daemon at that address keeps no evidence",
                    )),
                }
            }
        }
    }

    pub fn close(self) -> Result<(), Failure> {
        match self {
            Self::Own(journal) => {
                journal.close(CLOSE).map_err(|error| Failure::reason(error.reason(), error.to_string()))
            }
            Self::Daemon { .. } => Ok(()),
        }
    }
}
