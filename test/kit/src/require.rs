//! Real tools and peers that may be missing on a developer's machine, never on the build server.

use std::env;
use std::path::PathBuf;

/// Finds `tool` in `PATH`.
///
/// A missing tool prints `SKIPPED: …` and gives `None`, so that the test can return.
///
/// # Panics
/// When the tool is missing and `REQUIRE_REAL=1`: what the build server runs must not skip.
#[track_caller]
#[must_use]
pub fn require_real(tool: &str) -> Option<PathBuf> {
    require_real_with(tool, || find_in_path(tool).ok_or_else(|| "not found in PATH".to_owned()))
}

/// As [`require_real`], for what `PATH` cannot answer: a Python module, a server that must be reachable.
#[track_caller]
#[must_use]
pub fn require_real_with<T>(what: &str, probe: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let required = env::var("REQUIRE_REAL").is_ok_and(|value| value == "1");
    decide(what, required, probe())
}

#[track_caller]
#[allow(clippy::print_stderr)] // A skip that nobody sees would count as a pass.
fn decide<T>(what: &str, required: bool, probed: Result<T, String>) -> Option<T> {
    match probed {
        Ok(found) => Some(found),
        Err(why) if required => panic!("REQUIRE_REAL=1 and {what} is missing: {why}"),
        Err(why) => {
            eprintln!("SKIPPED: this test needs {what}: {why}");
            None
        }
    }
}

fn find_in_path(tool: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(tool)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_tool_that_is_there() {
        assert!(require_real("sh").unwrap().ends_with("sh"));
    }

    #[test]
    fn skips_when_the_tool_is_optional() {
        assert_eq!(decide::<()>("no-such-tool", false, Err("not found".to_owned())), None);
    }

    #[test]
    #[should_panic(expected = "REQUIRE_REAL=1 and no-such-tool is missing: not found")]
    fn panics_when_the_tool_is_required() {
        decide::<()>("no-such-tool", true, Err("not found".to_owned()));
    }
}
