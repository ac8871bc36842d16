//! Where each destination stands.

use estoppel_release::git::Git;
use estoppel_release::ledger::Ledger;
use estoppel_release::notify::Told;
use serde_json::{Value, json};

use super::settings::{self, Destination};
use crate::output::{Colour, Failure, Output, plain};

/// What one destination was not told yet.
pub struct Standing {
    pub name: String,
    /// Nobody has begun with it in this clone.
    is_new: bool,
    /// The settings say another address or beginning of it than it began with: it is told nothing.
    is_moved: bool,
    pub waiting: usize,
    told: Told,
}

impl Standing {
    /// Whether somebody has to look at it: it failed, refused something, or is not what it began as.
    pub fn is_in_trouble(&self) -> bool {
        let state = &self.told.state;
        self.is_moved || (state.failed.is_some() && self.waiting > 0) || !state.refused.is_empty()
    }

    pub fn row(&self) -> Value {
        let state = &self.told.state;
        let failed = state.failed.as_ref().filter(|_| self.waiting > 0);
        let failed = failed.map(
            |failed| json!({ "tries": failed.tries, "not_before": failed.not_before, "why": failed.why }),
        );
        json!({
            "destination": self.name, "new": self.is_new, "moved": self.is_moved, "waiting": self.waiting, "failed": failed,
            "refused": state.refused,
        })
    }

    /// One line, and one more for each kind of trouble.
    pub fn lines(&self, output: Output) -> Vec<String> {
        let begun = if self.is_new { ", nothing was told yet" } else { "" };
        let name = &self.name;
        let mut said = Vec::new();
        if self.is_moved {
            said.push(format!(
                "nothing is sent: its address or `from` is not what it began with; `estoppel notify begin {name}` begins anew, \
                 with --go-on where it stands"
            ));
        }
        if let Some(failed) = self.told.state.failed.as_ref().filter(|_| self.waiting > 0) {
            said.push(format!(
                "failed {} times, again after {}: {}",
                failed.tries, failed.not_before, failed.why
            ));
        }
        if let Some(last) = self.told.state.refused.last() {
            let count = self.told.state.refused.len();
            let events = if count == 1 { "event" } else { "events" };
            said.push(format!("did not want {count} {events}, the last one {}: {}", last.event, last.why));
        }
        let mut lines = vec![format!("{name:<12} {} wait{begun}", self.waiting)];
        let indented = |said: String| output.paint(Colour::Red, &plain(&format!("{:<12} {said}", "")));
        lines.extend(said.into_iter().map(indented));
        lines
    }

    /// The figures of a text file for Prometheus.
    pub fn figures(&self) -> (String, usize, usize) {
        (format!("{{destination=\"{}\"}}", self.name), self.waiting, self.told.state.refused.len())
    }
}

/// Where each destination stands; none where nobody is told.
pub fn standings(git: &Git, ledger: Option<&Ledger>) -> Result<Vec<Standing>, Failure> {
    let Some(settings) = settings::read(git)? else { return Ok(Vec::new()) };
    let of = |destination: &Destination| {
        let told = Told::look(git, &destination.name)?;
        let (is_new, is_moved) = (told.is_new(), !told.is_of(&destination.bound()));
        let begins_now = is_new && destination.begins() == estoppel_feeds::Begin::Now;
        let waiting = ledger.filter(|_| !begins_now).map_or(0, |ledger| told.waiting(ledger).len());
        Ok(Standing { name: destination.name.clone(), is_new, is_moved, waiting, told })
    };
    settings.destinations.iter().map(of).collect()
}
