//! Releases in clones and environments that somebody else has a hand in.

use super::*;

#[test]
fn what_the_environment_tells_git_changes_nothing_of_what_is_promoted() {
    let repository = Repository::new("git-environment");
    repository.seal("1.0.0", "test -z \"$GIT_DIR\"", &json!({}), &json!({}));
    let head = git(&repository.dir, &["rev-parse", "HEAD"]);
    let shallow = repository.scratch.join("shallow");
    std::fs::write(&shallow, format!("{head}\n")).unwrap();
    let evil = repository.scratch.join("evil");
    std::fs::create_dir_all(&evil).unwrap();
    let (shallow, evil) = (path(&shallow), path(&evil));
    let told = [
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", evil),
        ("GIT_CEILING_DIRECTORIES", "/"),
        ("GIT_COMMON_DIR", evil),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "core.bare"),
        ("GIT_CONFIG_PARAMETERS", "'estoppel.genesis=none'"),
        ("GIT_CONFIG_VALUE_0", "true"),
        ("GIT_DEFAULT_HASH", "sha256"),
        ("GIT_DIR", evil),
        ("GIT_EXEC_PATH", evil),
        ("GIT_EXTERNAL_DIFF", "false"),
        ("GIT_GRAFT_FILE", shallow),
        ("GIT_INDEX_FILE", evil),
        ("GIT_LITERAL_PATHSPECS", "0"),
        ("GIT_NAMESPACE", "evil"),
        ("GIT_OBJECT_DIRECTORY", evil),
        ("GIT_REPLACE_REF_BASE", "refs/heads/"),
        ("GIT_SHALLOW_FILE", shallow),
        ("GIT_TEMPLATE_DIR", evil),
        ("GIT_WORK_TREE", evil),
    ];
    for words in [["evolution", "start", "1.0.0", "--all"].as_slice(), &["promote", "1.0.0"]] {
        let mut command = Command::new(cli_binary());
        command.arg("--json").args(words).args(["--repo", path(&repository.dir), "--key"]);
        let done = command.arg(repository.key("owner")).envs(told).output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stdout));
    }
    assert_eq!(git(&repository.dir, &["rev-parse", "v1.0.0^{commit}"]), head);
    assert_eq!(std::fs::read_dir(evil).unwrap().count(), 0);
}
