//! Sealed bundles that were named, or that a journal has.

use std::path::{Path, PathBuf};

use estoppel_attest::{AttestError, BUNDLES_MAX, Evidence, Given};

use crate::arguments::Bundles;
use crate::input::{self, Beside};
use crate::output::{Failure, plain};
use crate::verify;

/// The bundles of a journal, by name; none where nothing was sealed yet.
pub fn of_journal(journal: &Path, most: usize) -> Result<Vec<PathBuf>, Failure> {
    let folder = journal.join("bundles");
    let mut paths = Vec::new();
    let unreadable = |error: std::io::Error| input::unreadable(&folder, &error);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && journal.is_dir() => return Ok(paths),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(".pef.zip") {
            paths.push(path);
        }
        if paths.len() > most {
            let message =
                format!("`{}` has more than {most} bundles; name those that are meant", folder.display());
            return Err(Failure::input("ARGUMENT_INVALID", plain(&message)));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Those that were named, and those of the journal.
pub fn paths(of: &Bundles) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = of.bundles.clone();
    if let Some(journal) = &of.journal {
        paths.extend(of_journal(journal, BUNDLES_MAX)?);
    }
    Ok(paths)
}

/// All of them, verified now.
pub fn evidence(of: &Bundles) -> Result<Evidence, Failure> {
    let paths = paths(of)?;
    verify::with_options(of.trust.as_deref(), |options| {
        let mut evidence = Evidence::default();
        for path in &paths {
            let bytes = input::evidence(path)?;
            let name = path.display().to_string();
            let given = Given { name, bytes: &bytes, beside: &mut Beside::of(path) };
            evidence.add(given, options).map_err(|error| failure(&error))?;
        }
        Ok(evidence)
    })?
}

/// Why there is no attestation, for whoever asked.
pub fn failure(error: &AttestError) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let failure = Failure { exit: error.exit_code(), ..Failure::runtime(error.code(), plain(&message)) };
    match error {
        AttestError::Empty => {
            failure.hint("--bundle names a sealed bundle, --journal the folder of a journal that has some")
        }
        _ => failure,
    }
}
