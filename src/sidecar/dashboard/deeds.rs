//! What can be done from the dashboard: commands of this very program, run as anybody would type them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::model::{Gate, Generation, Hold};
use super::words::Tone;
use crate::arguments::{Dashboard, InRepository};

/// Longest answer of a command that is kept, in bytes: its end is.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most changes that are named before a generation is sealed.
const CHANGES_MAX: usize = 8;

/// A command, and what it does in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// In a few words.
    pub name: String,
    /// What somebody agrees to.
    pub says: Vec<String>,
    /// The arguments of this program.
    pub words: Vec<String>,
}

/// Who acts, and where.
#[derive(Clone, Debug)]
pub struct Hands {
    pub repo: PathBuf,
    pub is_local: bool,
    pub key: Option<PathBuf>,
    pub approver_key: Option<PathBuf>,
}

impl Hands {
    pub fn of(asked: &Dashboard) -> Self {
        let InRepository { repo, local } = &asked.at;
        let approver_key = asked.approver_key.clone().or_else(|| asked.key.clone());
        Self { repo: repo.clone(), is_local: *local, key: asked.key.clone(), approver_key }
    }

    fn signed(&self, words: &[&str], key: Option<&Path>) -> Result<Vec<String>, String> {
        let key =
            key.ok_or("no key signs here: start the dashboard with --key FILE, or set ESTOPPEL_RELEASE_KEY")?;
        let key = key.to_str().ok_or("the path of the key is no text")?;
        let mut words = self.there(words)?;
        words.extend(["--key".to_owned(), key.to_owned()]);
        Ok(words)
    }

    fn there(&self, words: &[&str]) -> Result<Vec<String>, String> {
        let repo = self.repo.to_str().ok_or("the path of the repository is no text")?;
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["--repo".to_owned(), repo.to_owned()]);
        words.extend(self.is_local.then(|| "--local".to_owned()));
        Ok(words)
    }

    /// Runs every step of a generation on the commit that `HEAD` is now.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn start(&self, generation: &Generation, head: Option<&str>) -> Result<Deed, String> {
        let version = demand_sealed(generation, "has evolutions run")?;
        let commit = head.ok_or("the repository has no commit")?;
        let words = ["evolution", "start", &version, "--all", "--commit", commit];
        Ok(Deed {
            name: format!("evolution of {version}"),
            says: vec![
                format!("Run every step of {version} on commit {commit}."),
                format!("That is what HEAD is now; {} changes are to be proven.", generation.changes.len()),
            ],
            words: self.signed(&words, self.key.as_deref())?,
        })
    }

    /// Promotes the candidate that is shown under the contract that is shown, and no other: to the stage that is next, the
    /// release at last.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn promote(&self, generation: &Generation) -> Result<Deed, String> {
        let version = demand_sealed(generation, "is promoted")?;
        let candidate = demand_candidate(generation)?;
        let contract = demand_contract(generation)?;
        let mut words = vec!["promote", &version, "--candidate", candidate, "--contract", contract];
        let becomes = match &generation.next_stage {
            None => format!("becomes v{version}"),
            Some(stage) => {
                words.extend(["--stage", stage]);
                format!("comes to {stage}")
            }
        };
        Ok(Deed {
            name: format!("promotion of {version}"),
            says: vec![
                format!("Promote {version}: its candidate {candidate} {becomes} if every gate passes."),
                "The tag is not moved or removed any more; a promotion can only be rolled back.".into(),
            ],
            words: self.signed(&words, self.key.as_deref())?,
        })
    }

    /// Approves the candidate that is shown under the contract that is shown, and no other.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn approve(&self, generation: &Generation) -> Result<Deed, String> {
        let version = demand_sealed(generation, "is approved")?;
        let candidate = demand_candidate(generation)?;
        let contract = demand_contract(generation)?;
        let words = ["approve", &version, "--candidate", candidate, "--contract", contract, "--hours", "24"];
        Ok(Deed {
            name: format!("approval of {version}"),
            says: vec![
                format!("Sign that {candidate} may be promoted as {version}, for 24 hours."),
                format!("Its contract is {contract}."),
            ],
            words: self.signed(&words, self.key.as_deref())?,
        })
    }

    /// Puts the contract of the draft that is shown into the ledger, and no other.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn seal(&self, generation: &Generation) -> Result<Deed, String> {
        let version = generation.version.to_string();
        if generation.status != "draft" {
            return Err(format!("{version} is {}", generation.status.replace('_', " ")));
        }
        if let Some(why) = &generation.broken {
            return Err(format!("{version} cannot be sealed: {why}"));
        }
        let unread = || format!("the file of {version} is not read here, because there are many drafts");
        let contract = generation.contract.as_deref().ok_or_else(unread)?;
        let mut says =
            vec![format!("Seal {version}: its contract comes into the ledger, with these changes:")];
        let told = generation.changes.iter().take(CHANGES_MAX);
        says.extend(told.map(|change| format!("  {} {} {}", change.kind, change.id, change.title)));
        let more = generation.changes.len().saturating_sub(CHANGES_MAX);
        says.extend((more > 0).then(|| format!("  and {more} more")));
        says.push("From then on it counts, whatever becomes of the file; it can be amended or abandoned, not unsealed.".into());
        Ok(Deed {
            name: format!("seal of {version}"),
            says,
            words: self
                .signed(&["generation", "seal", &version, "--contract", contract], self.key.as_deref())?,
        })
    }

    /// What a waiver needs before anybody is asked for its reason.
    ///
    /// # Errors
    /// Why nothing can be waived.
    pub fn demand_waivable(&self, generation: &Generation) -> Result<(), String> {
        let version = demand_sealed(generation, "has gates waived")?;
        let (candidate, contract) = (demand_candidate(generation)?, demand_contract(generation)?);
        self.signed(&["waive", &version, candidate, contract], self.key.as_deref()).map(drop)
    }

    /// Waives a gate for the candidate that is shown under the contract that is shown, and no other.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn waive(
        &self,
        generation: &Generation,
        gate: &Gate,
        reason: &str,
        hours: u32,
    ) -> Result<Deed, String> {
        let version = demand_sealed(generation, "has gates waived")?;
        let candidate = demand_candidate(generation)?;
        let contract = demand_contract(generation)?;
        if gate.gate.starts_with('-') {
            return Err("the name of the gate looks like an option".into());
        }
        // One word, so that no reason is an option.
        let (why, hours) = (format!("--reason={reason}"), hours.to_string());
        let words = [
            "waive",
            &version,
            &gate.gate,
            &why,
            "--hours",
            &hours,
            "--candidate",
            candidate,
            "--contract",
            contract,
        ];
        Ok(Deed {
            name: format!("waiver of {} for {version}", gate.gate),
            says: vec![
                format!(
                    "Sign that {candidate} may be promoted as {version} though {} does not pass.",
                    gate.gate
                ),
                format!("It said: {} {}", gate.state, gate.why),
                format!("Why it is waived: {reason}"),
                format!("For {hours} hours from now on. Its contract is {contract}."),
            ],
            words: self.signed(&words, self.key.as_deref())?,
        })
    }

    /// Seals the run of a call at a gateway.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn seal_run(&self, run: &str, admin: &str) -> Result<Deed, String> {
        if run.is_empty() || run.starts_with('-') {
            return Err("the gateway does not say which run the call is of".into());
        }
        Ok(Deed {
            name: format!("seal of run {run}"),
            says: vec![
                format!("Seal run {run} of the gateway at {admin}: its bundle is written, and it takes no more calls."),
                "Calls that come later under its name open a new run. A run in which a call waits for people is not sealed.".into(),
            ],
            words: ["seal", run, "--admin", admin].map(ToOwned::to_owned).into(),
        })
    }

    /// Decides on the call that is shown: one of another payload is refused.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn decide(&self, hold: &Hold, admin: &str, approves: bool) -> Result<Deed, String> {
        let verb = if approves { "approve" } else { "deny" };
        let key = self.approver_key.as_deref();
        let key =
            key.ok_or("no key decides here: start the dashboard with --approver-key FILE or --key FILE")?;
        let key = key.to_str().ok_or("the path of the key is no text")?;
        let words = ["hold", verb, &hold.id, "--payload", &hold.payload, "--admin", admin, "--key", key];
        let target = hold.target.as_deref().unwrap_or("(path not known)");
        let mut says = vec![
            match approves {
                true => "Sign that this one call may pass:".into(),
                false => "Sign that this call may not pass; one denial ends the hold:".to_owned(),
            },
            format!("{} {target}", hold.method),
        ];
        says.extend(hold.tool.as_ref().map(|tool| format!("tool {tool}")));
        says.push(format!(
            "from {}, held by rule {}, {} bytes",
            hold.requester.as_deref().unwrap_or("somebody who did not say who"),
            hold.rule,
            hold.bytes
        ));
        says.push(format!("payload {}", hold.payload));
        Ok(Deed {
            name: format!("decision on hold {}", hold.id),
            says,
            words: words.map(ToOwned::to_owned).into(),
        })
    }

    /// Prints the logs of an evolution that has ended.
    ///
    /// # Errors
    /// Why that cannot be asked for.
    pub fn logs(&self, evolution: &str) -> Result<Deed, String> {
        Ok(Deed {
            name: format!("logs of {evolution}"),
            says: Vec::new(),
            words: self.there(&["evolution", "logs", evolution])?,
        })
    }
}

fn demand_sealed(generation: &Generation, what: &str) -> Result<String, String> {
    let version = generation.version.to_string();
    match generation.status {
        "sealed" => Ok(version),
        "draft" => Err(format!("{version} is a draft: e seals it, before it {what}")),
        status => Err(format!("{version} is {}", status.replace('_', " "))),
    }
}

fn demand_candidate(generation: &Generation) -> Result<&str, String> {
    let none = || format!("{} has no candidate yet: s runs its steps", generation.version);
    generation.tag.as_deref().ok_or_else(none)
}

fn demand_contract(generation: &Generation) -> Result<&str, String> {
    let none = || format!("{} has no contract", generation.version);
    generation.contract.as_deref().ok_or_else(none)
}

/// As one would type it.
pub fn typed(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let is_bare = !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=,+@".contains(&byte));
        if is_bare { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    });
    std::iter::once("estoppel".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub name: String,
    /// None where it could not be run, or was ended by a signal.
    pub exit: Option<i32>,
    pub lines: Vec<String>,
}

impl Outcome {
    /// In one word, as exit codes are documented.
    pub fn word(&self) -> (Tone, &'static str) {
        match self.exit {
            Some(0) => (Tone::Good, "done"),
            Some(3) => (Tone::Bad, "refused"),
            Some(4) => (Tone::Care, "approval required"),
            Some(8) => (Tone::Bad, "unsafe, refused"),
            Some(_) => (Tone::Bad, "failed"),
            None => (Tone::Bad, "cut off"),
        }
    }
}

/// Runs it to its end. It goes on when the dashboard ends: what it was asked for it does whole.
pub fn done(deed: &Deed) -> Outcome {
    use std::os::unix::process::CommandExt as _;

    let failed = |error: std::io::Error| Outcome {
        name: deed.name.clone(),
        exit: None,
        lines: vec![format!("the command could not be run: {error}")],
    };
    let here = match std::env::current_exe() {
        Ok(here) => here,
        Err(error) => return failed(error),
    };
    let mut command = Command::new(here);
    command.args(&deed.words).stdin(Stdio::null()).process_group(0);
    let ended = match command.output() {
        Ok(ended) => ended,
        Err(error) => return failed(error),
    };
    let lines = |bytes: &[u8]| -> Vec<String> {
        let end = bytes.get(bytes.len().saturating_sub(ANSWER_BYTES_MAX)..).unwrap_or_default();
        String::from_utf8_lossy(end).lines().map(ToOwned::to_owned).collect()
    };
    let lines = [lines(&ended.stdout), lines(&ended.stderr)].concat();
    Outcome { name: deed.name.clone(), exit: ended.status.code(), lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_can_be_typed() {
        let words = ["hold", "approve", "a b", "it's", "", "--key=x"].map(ToOwned::to_owned);
        assert_eq!(typed(&words), "estoppel hold approve 'a b' 'it'\\''s' '' --key=x");
    }
}
