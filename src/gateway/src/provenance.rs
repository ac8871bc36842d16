//! What tools gave earlier in a run, for rules that ask where the arguments of a call come from.
//!
//! | file | |
//! |---|---|
//! | `runs.rs` | prints of each run, as far as there is room |
//! | `heard.rs` | results in an answer of an MCP server, as it passes |
//!
//! Prints are in memory only, and their key is this process's own. Of a run of which something was not listened to, is not
//! kept, or came before this process, rules know what they find and nothing else: they leave other calls not evaluated.

mod heard;
mod runs;

use std::sync::Arc;

use estoppel_policy::{Content, read_json};
use estoppel_wire::dialect::Dialect;
use serde_json::Value;

pub(crate) use heard::{Asked, Heard};
pub(crate) use runs::Runs;

use crate::judging;

/// Most bytes of a request to a model that are looked through for results of tools.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Whose results belong together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Together {
    /// The name of their run, which others of that name follow once it is sealed.
    pub(crate) run: Option<Box<str>>,
    /// Where calls name no run: who calls.
    pub(crate) caller: Option<Box<str>>,
}

/// Why something that a tool gave is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missed {
    /// The run, or the part of it that could be known, began before the gateway listened.
    Before,
    /// The run was dropped for others.
    Dropped,
    /// The run has as many prints as one may have.
    Prints,
    /// A message is too large, or there was no memory for it.
    Bytes,
    /// It could not be read.
    Unread,
    /// It broke off after a part of it had left.
    Cut,
}

impl Missed {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Dropped => "dropped",
            Self::Prints => "prints",
            Self::Bytes => "bytes",
            Self::Unread => "unread",
            Self::Cut => "cut",
        }
    }
}

/// What one call knows of its run, and adds to it.
#[derive(Clone)]
pub(crate) struct Listening {
    runs: Arc<Runs>,
    together: Together,
    opened_us: Option<u64>,
}

impl Listening {
    /// `opened_us`: when the run was opened, if that was in this process.
    pub(crate) fn new(runs: Arc<Runs>, together: Together, opened_us: Option<u64>) -> Self {
        Self { runs, together, opened_us }
    }

    /// Says of the arguments of a call what of them stood in earlier results.
    pub(crate) fn tell(&self, content: Content) -> Content {
        self.runs.tell(&self.together, self.opened_us, content)
    }

    /// A tool gave this; `tool`: which, if that is known.
    pub(crate) fn learn(&self, tool: Option<&str>, result: &Value) {
        self.runs.learn(&self.together, self.opened_us, tool, result);
    }

    pub(crate) fn miss(&self, why: Missed) {
        self.runs.miss(&self.together, self.opened_us, why);
    }

    /// A request to a model brings results of tools along.
    pub(crate) fn learn_request(&self, dialect: Dialect, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        if body.len() > REQUEST_BYTES_MAX {
            return self.miss(Missed::Bytes);
        }
        match read_json(body) {
            None => self.miss(Missed::Unread),
            Some(request) => {
                judging::given(dialect, &request)
                    .into_iter()
                    .for_each(|(tool, result)| self.learn(tool, result));
            }
        }
    }
}
