//! Who is told: the file that `estoppel.notify` of git's configuration names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use estoppel_archive::ArchiveSettings;
use estoppel_evidence::Sha256;
use estoppel_feeds::{Begin, HookTo, is_name};
use estoppel_journal::storage::read_plain;
use estoppel_release::git::Git;
use estoppel_release::notify::{Bound, DESTINATIONS_MAX, is_beginning, names};
use estoppel_release::{Code, Refusal};
use serde::Deserialize;

use crate::input;
use crate::output::{Failure, plain};

/// The setting that names the file. Where it is not set nobody is told.
pub const SETTING: &str = "estoppel.notify";
/// Longest name of a repository, in characters.
const REPOSITORY_CHARS_MAX: usize = 128;
/// Largest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file. Whoever edits it decides who is told what the ledger says, and where secrets are read from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the repository is called in messages.
    pub repository: String,
    /// Tells an alert when fewer of a hundred evolutions of a version passed, 1 to 100. None by default.
    pub pass_rate_min: Option<u32>,
    pub destinations: Vec<Destination>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Of what was told; a destination with another name begins anew.
    pub name: String,
    /// Types of messages that it is told. Default: all but beginnings. Not of `s3`, which gets every event.
    events: Option<Vec<String>>,
    /// Where a destination begins that was told nothing in this clone. Default: `now`, and `start` of `s3`.
    from: Option<Begin>,
    pub to: To,
    /// What names the receiver, before paths are resolved: a clone can be moved.
    #[serde(skip)]
    address: String,
}

/// Exactly one of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct To {
    pub webhook: Option<HookTo>,
    pub slack: Option<HookTo>,
    pub s3: Option<ArchiveSettings>,
}

impl Destination {
    pub fn wants(&self, name: &str) -> bool {
        self.events.as_ref().map_or_else(|| !is_beginning(name), |events| events.iter().any(|of| of == name))
    }

    pub fn begins(&self) -> Begin {
        let usual = if self.to.s3.is_some() { Begin::Start } else { Begin::Now };
        self.from.unwrap_or(usual)
    }

    /// What is kept of it when it begins.
    pub fn bound(&self) -> Bound {
        Bound { address: Sha256::of(self.address.as_bytes()), start: self.begins() == Begin::Start }
    }
}

impl To {
    /// What kind of receiver it is.
    pub fn kind(&self) -> &'static str {
        match (&self.webhook, &self.slack) {
            (Some(_), _) => "webhook",
            (None, Some(_)) => "slack",
            (None, None) => "s3",
        }
    }

    fn address(&self) -> String {
        let hook = self.webhook.as_ref().or(self.slack.as_ref()).map(|hook| hook.address().to_string());
        let s3 = self.s3.as_ref().map(|s3| format!("{}\n{}\n{}", s3.endpoint, s3.bucket, s3.prefix));
        format!("{}\n{}", self.kind(), hook.or(s3).unwrap_or_default())
    }
}

/// What the clone says; none where it says nothing.
pub fn read(git: &Git) -> Result<Option<Settings>, Failure> {
    let Some(named) = git.config(SETTING)? else { return Ok(None) };
    let file = git.top().join(named);
    let wrong = |why: &str| {
        let failure = Failure::input("CONFIG_INVALID", plain(&format!("{}: {why}", file.display())));
        failure.hint(format!("`git config --unset {SETTING}` tells nobody"))
    };
    demand_own(git.top(), &file).map_err(|why| wrong(&why))?;
    let bytes = read_plain(&file, FILE_BYTES_MAX).map_err(|error| input::unreadable(&file, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text"))?;
    let mut settings: Settings = toml::from_str(&text).map_err(|error| wrong(error.message()))?;
    let problems = settings.problems();
    if !problems.is_empty() {
        return Err(wrong(&problems.join("; ")));
    }
    for destination in &mut settings.destinations {
        destination.address = destination.to.address();
    }
    settings.resolve(file.parent().unwrap_or(Path::new("")));
    settings.files().try_for_each(|named| demand_own(git.top(), named)).map_err(|why| wrong(&why))?;
    Ok(Some(settings))
}

/// Whoever writes to the repository does not choose which file outside of it is read: nothing in it is a link.
fn demand_own(top: &Path, file: &Path) -> Result<(), String> {
    let mut here = PathBuf::new();
    for part in file.components() {
        match part {
            Component::ParentDir => {
                here.pop();
            }
            part => here.push(part),
        }
        if here.starts_with(top) && here != top && here.is_symlink() {
            return Err(format!(
                "`{}` is a link, and links in the repository are not followed",
                here.display()
            ));
        }
    }
    Ok(())
}

impl Settings {
    /// The destination of a name.
    ///
    /// # Errors
    /// `DESTINATION_UNKNOWN`.
    pub fn named(&self, name: &str) -> Result<&Destination, Refusal> {
        let is_named = |destination: &&Destination| destination.name == name;
        self.destinations.iter().find(is_named).ok_or_else(|| {
            let known: Vec<&str> = self.destinations.iter().map(|known| known.name.as_str()).collect();
            let said = format!("`{}` is none of the destinations: {}", plain(name), known.join(", "));
            Refusal::new(Code::DestinationUnknown, said)
        })
    }

    /// Every error, each with its key.
    fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let length = self.repository.chars().count();
        if !(1..=REPOSITORY_CHARS_MAX).contains(&length) || self.repository.chars().any(char::is_control) {
            wrong
                .push(format!("repository: must be 1 to {REPOSITORY_CHARS_MAX} characters without controls"));
        }
        if self.pass_rate_min.is_some_and(|min| !(1..=100).contains(&min)) {
            wrong.push("pass_rate_min: must be between 1 and 100".into());
        }
        if self.destinations.len() > DESTINATIONS_MAX {
            wrong.push(format!("destinations: at most {DESTINATIONS_MAX} are allowed"));
        }
        let mut seen = BTreeSet::new();
        for (at, destination) in self.destinations.iter().enumerate() {
            let mut say =
                |key: &str, problem: &str| wrong.push(format!("destinations[{at}].{key}: {problem}"));
            if !is_name(&destination.name) {
                say("name", "must be 1 to 64 characters of a-z, 0-9, `-` and `_`");
            }
            if !seen.insert(&destination.name) {
                say("name", "is the name of an earlier destination");
            }
            destination.problems(&mut say);
        }
        wrong
    }

    /// The files that it names.
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.destinations.iter().flat_map(|Destination { to: To { webhook, slack, s3 }, .. }| {
            let hooks = [webhook, slack].into_iter().flatten();
            let hooks = hooks.flat_map(|hook| [&hook.url_file, &hook.secret_file, &hook.ca]);
            let s3 = s3.iter().flat_map(|s3| [&s3.credentials.file, &s3.ca]);
            hooks.chain(s3).flatten()
        })
    }

    /// Paths are relative to the folder of the file.
    fn resolve(&mut self, folder: &Path) {
        let resolve = |path: &mut Option<PathBuf>| *path = path.take().map(|path| folder.join(path));
        for To { webhook, slack, s3 } in self.destinations.iter_mut().map(|destination| &mut destination.to) {
            for hook in [webhook, slack].into_iter().flatten() {
                resolve(&mut hook.url_file);
                resolve(&mut hook.secret_file);
                resolve(&mut hook.ca);
            }
            if let Some(s3) = s3 {
                resolve(&mut s3.credentials.file);
                resolve(&mut s3.ca);
            }
        }
    }
}

impl Destination {
    fn problems(&self, say: &mut dyn FnMut(&str, &str)) {
        let known: BTreeSet<&str> = names().collect();
        let events = self.events.iter().flatten();
        for unknown in events.filter(|name| !known.contains(name.as_str())) {
            let known: Vec<&str> = known.iter().copied().collect();
            say("events", &format!("`{unknown}` is none of {}", known.join(", ")));
        }
        let To { webhook, slack, s3 } = &self.to;
        let given = [webhook.is_some(), slack.is_some(), s3.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            say("to", "must have exactly one of `webhook`, `slack`, `s3`");
        }
        for (key, hook) in [("to.webhook", webhook), ("to.slack", slack)] {
            if let Some(problem) = hook.as_ref().and_then(|hook| hook.problem(key == "to.webhook")) {
                say(key, &problem);
            }
        }
        let Some(s3) = s3 else { return };
        for problem in s3.check() {
            say("to.s3", problem.trim_start_matches("archive."));
        }
        if s3.credentials.command.is_some() {
            // Who can write to the repository would have a program run by whoever promotes.
            say("to.s3.credentials", "are from a file or the environment here, not from a command");
        }
        if s3.custody.is_some() {
            say("to.s3.custody", "has no effect on events");
        }
        if self.events.is_some() {
            say("events", "have no effect on `s3`, which gets every event");
        }
    }
}
