//! Stored bodies that a bundle is still to be made of: whether the keys open them that are given.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use estoppel_evidence::{Reason, RunId, Sha256};

use crate::beginning::found;
use crate::bodies::{FileReader, encrypted_path, stores_encrypted};
use crate::bundled;
use crate::encryption::{BodyKeys, EncryptionError, KeyHook as _, wrapped_key};
use crate::entries::{Entries, ReadError};
use crate::layout::Layout;
use crate::storage::{FileSystem, Storage};

/// Most stored bodies that are looked at, the newest of each run first.
const BODIES_MAX: usize = 65_536;
/// Most keys that are tried to be had, and on how many bodies each: one alone may be damaged.
const KEYS_MAX: usize = 32;
const TRIES_MAX: usize = 3;

/// Why stored bodies cannot be put into a bundle.
#[derive(Debug, thiserror::Error)]
pub enum UnsealedError {
    #[error(
        "stored body {body} of run {run}, which has no bundle yet, is not opened by any key that is given"
    )]
    Key { run: RunId, body: Sha256, source: EncryptionError },
    #[error("the journal could not be read for stored bodies that have no bundle yet")]
    Read(#[from] ReadError),
}

impl UnsealedError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Key { source: EncryptionError::Hook { .. }, .. } => Reason::KeyHookFailed,
            Self::Key { .. } => Reason::EncryptionKey,
            Self::Read(error) => error.reason(),
        }
    }
}

/// Looks whether `keys` open the stored bodies of runs whose bundles are still to be written. Reads the log in `dir`, which another
/// process may be writing, and blocks on what holds the keys. A body that is missing or damaged is left to whoever seals its run.
///
/// # Errors
/// [`UnsealedError`].
pub fn check_unsealed(dir: &Path, keys: &BodyKeys) -> Result<(), UnsealedError> {
    if !stores_encrypted(dir) {
        return Ok(());
    }
    let storage = FileSystem;
    let layout = found(&storage, dir)?;
    let unsealed = unsealed(&storage, &layout)?;
    let bodies = unsealed.iter().flat_map(|(run, bodies)| bodies.iter().rev().map(|body| (*run, *body)));
    let mut tried: HashMap<String, Tried> = HashMap::new();
    for (run, body) in bodies.take(BODIES_MAX) {
        let Ok(file) = storage.open(&encrypted_path(&layout.bodies_dir(), body)) else { continue };
        let Ok(wrapped) = wrapped_key(&mut FileReader::new(file)) else { continue };
        if tried.len() >= KEYS_MAX && !tried.contains_key(&wrapped.id) {
            continue;
        }
        let tried = tried.entry(wrapped.id.clone()).or_default();
        if !tried.is_open && tried.failed.len() < TRIES_MAX {
            match keys.unwrap(&wrapped) {
                Ok(_) => tried.is_open = true,
                Err(source) => tried.failed.push(UnsealedError::Key { run, body, source }),
            }
        }
    }
    let mut failed = tried.into_values().filter(|tried| !tried.is_open).flat_map(|tried| tried.failed);
    failed.next().map_or(Ok(()), Err)
}

/// What came of one wrapping key.
#[derive(Default)]
struct Tried {
    is_open: bool,
    failed: Vec<UnsealedError>,
}

/// The stored bodies of each run that is not sealed, or whose bundle may not be written yet, in the order of their receipts.
fn unsealed(storage: &dyn Storage, layout: &Layout) -> Result<BTreeMap<RunId, Vec<Sha256>>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        run: RunId,
        request: Option<Side>,
        response: Option<Response>,
    }
    #[derive(Deserialize)]
    struct Response {
        client: Option<Side>,
        upstream: Option<Side>,
    }
    #[derive(Deserialize)]
    struct Side {
        sha256: Option<Sha256>,
    }
    let bundled = bundled::read(storage, layout);
    let mut unsealed: BTreeMap<RunId, Vec<Sha256>> = BTreeMap::new();
    Entries { storage, layout }.walk(None, |entry| {
        let line: Option<Line> =
            entry.note.is_none().then(|| serde_json::from_slice(entry.line).ok()).flatten();
        let Some(line) = line else { return Ok::<_, ReadError>(true) };
        match line.kind.as_str() {
            "call" => {
                let answer =
                    line.response.into_iter().flat_map(|response| [response.upstream, response.client]);
                let sides = answer.chain([line.request]).flatten();
                unsealed.entry(line.run).or_default().extend(sides.filter_map(|side| side.sha256));
            }
            "run.seal" if entry.index < bundled || storage.open(&layout.bundle(line.run)).is_ok() => {
                unsealed.remove(&line.run);
            }
            _ => {}
        }
        Ok(true)
    })?;
    Ok(unsealed)
}
