//! Whether the fixtures that changes name are in the commit that is to be proven.

use super::Change;
use crate::code::{Code, Refusal};
use crate::git::{Git, ObjectId};

/// Looks for every fixture of `changes` in a commit.
///
/// # Errors
/// `FIXTURE_MISSING`: the first that is not there.
pub(crate) fn fixtures_at(git: &Git, commit: &ObjectId, changes: &[&Change]) -> Result<(), Refusal> {
    for change in changes {
        for path in &change.fixtures {
            let listed = git.text(&[
                "ls-tree",
                "--name-only",
                "--full-tree",
                "--end-of-options",
                commit.as_str(),
                "--",
                path,
            ])?;
            if listed.is_empty() {
                let said = format!("`{path}`, a fixture of {}, is not in {commit}", change.id);
                return Err(Refusal::new(Code::FixtureMissing, said));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::code::Code;
    use crate::scene::{Scene, document};

    #[test]
    fn a_fix_whose_fixture_is_not_committed_is_not_run() {
        let scene = Scene::new();
        let mut wanted = document("1.0.0", "true", "true");
        wanted["changes"][0]["fixtures"] = json!(["fixtures/a"]);
        wanted["change_policies"] = json!({ "fix": { "fixtures_min": 1 } });
        scene.seal(wanted);
        let refused = scene.try_evolve("1.0.0", &[], &scene.head()).unwrap_err();
        assert_eq!((refused.code, refused.code.exit()), (Code::FixtureMissing, 3));
        assert_eq!(scene.store().read().unwrap().events().len(), 2, "nothing was begun");
        assert!(scene.try_evolve("1.0.0", &["B-2"], &scene.head()).is_ok());
        let commit = scene.commit("fixtures/a/case.yaml", "a\n");
        assert!(scene.try_evolve("1.0.0", &[], &commit).unwrap().tag.is_some());
    }
}
