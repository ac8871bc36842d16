use std::process::Command;

use estoppel_kit::Scratch;

use crate::support::{cli, cli_binary, path};

/// Every command with its subcommands, as `--help` lists them.
fn verbs() -> Vec<Vec<String>> {
    fn listed(words: &[String]) -> Vec<String> {
        let done = Command::new(cli_binary()).args(words).arg("--help").output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let Some((_, rest)) = text.split_once("Commands:\n") else { return Vec::new() };
        rest.lines()
            .take_while(|line| line.starts_with("  "))
            .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
            .filter_map(|line| line.split_whitespace().next().map(str::to_string))
            .filter(|word| word != "help")
            .collect()
    }
    let mut out = Vec::new();
    for verb in listed(&[]) {
        let below = listed(std::slice::from_ref(&verb));
        if below.is_empty() {
            out.push(vec![verb]);
        } else {
            out.extend(below.into_iter().map(|sub| vec![verb.clone(), sub]));
        }
    }
    out
}

#[test]
fn every_verb_explains_itself_with_flags_before_or_after() {
    let verbs = verbs();
    assert!(verbs.len() >= 12, "{verbs:?}");
    for verb in verbs {
        for before in [true, false] {
            let mut words: Vec<&str> = verb.iter().map(String::as_str).collect();
            words.insert(if before { 0 } else { words.len() }, "--explain");
            let (code, answer) = cli(&words);
            assert_eq!(code, 0, "{words:?}");
            assert!(answer["data"]["explain"].as_str().unwrap().len() > 60, "{words:?}");
        }
    }
}

#[test]
fn failures_have_one_envelope_with_code_category_and_hint() {
    let (code, answer) = cli(&["verify", "/no/such/bundle"]);
    assert_eq!(code, 6);
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["error"]["code"], "FILE_UNREADABLE");
    assert_eq!(answer["error"]["category"], "input");
    let (code, answer) = cli(&["run", "list", "--admin", "127.0.0.1:1"]);
    assert_eq!((code, answer["error"]["code"].as_str()), (7, Some("ADMIN_UNREACHABLE")));
    assert!(answer["error"]["hint"].as_str().unwrap().contains("--admin"));
    let (code, answer) = cli(&["nonsense"]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")));
}

#[test]
fn keys_are_never_overwritten_and_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("keys");
    let dir = scratch.join("keys");
    let (code, made) = cli(&["keys", "init", "--dir", path(&dir), "--alg", "p256"]);
    assert_eq!(code, 0);
    let algs: Vec<&str> =
        made["data"]["keys"].as_array().unwrap().iter().map(|key| key["alg"].as_str().unwrap()).collect();
    assert_eq!(algs, ["ecdsa-p256-sha256", "ed25519", "ecdsa-p256-sha256"]);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    let (code, refused) = cli(&["keys", "init", "--dir", path(&dir)]);
    assert_eq!((code, refused["error"]["code"].as_str()), (8, Some("OUTPUT_EXISTS")));
    let (code, trust) = cli(&["keys", "list", "--dir", path(&dir), "--trust", "localhost/main/1"]);
    assert_eq!(code, 0);
    assert_eq!(trust["data"]["keys"].as_array().unwrap().len(), 3);
}

#[test]
fn a_policy_is_linted_hashed_and_explained() {
    let scratch = Scratch::new("policy");
    let one = scratch.write("one.yaml", "version: 1\nname: a # note\ndefaults: { verdict: allow }\nrules:\n  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n");
    let two = scratch.write("two.yaml", "name: a\nversion: 1\nrules:\n  - { verdict: block, reason: TOOL_DENIED, id: no-shell, when: { tool: shell } }\ndefaults: { verdict: allow }\n");
    let hash = |file: &std::path::Path| cli(&["policy", "hash", path(file)]).1["data"]["policy_hash"].clone();
    assert_eq!(hash(&one), hash(&two));
    let (code, answer) = cli(&["policy", "explain", path(&one), "--tool", "Shell", "--route", "r"]);
    assert_eq!((code, answer["data"]["rule"].as_str()), (3, Some("no-shell")));
    let bad =
        scratch.write("bad.yaml", "version: 1\nname: a\nrules:\n  - { id: x, verdict: maybe }\nunknown: 1\n");
    let (code, answer) = cli(&["policy", "lint", path(&bad)]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("POLICY_INVALID")));
    assert!(answer["error"]["data"]["errors"].as_array().unwrap().len() >= 2, "all at once: {answer}");
}

#[test]
fn the_quickstart_ends_with_a_verified_bundle() {
    let scratch = Scratch::new("quickstart");
    let dir = scratch.join("here");
    let (code, answer) = cli(&["quickstart", "--dir", path(&dir)]);
    assert_eq!(code, 0, "{answer}");
    let verdicts = &answer["data"]["verdicts"];
    assert_eq!(verdicts["authenticity"], "trusted");
    assert_eq!(verdicts["completeness"], "complete");
    let bundle = answer["data"]["bundle"].as_str().unwrap();
    assert_eq!(cli(&["verify", bundle]).0, 0);
    let (code, refused) = cli(&["quickstart", "--dir", path(&dir)]);
    assert_eq!((code, refused["error"]["code"].as_str()), (8, Some("OUTPUT_EXISTS")));
}

#[test]
fn completions_and_the_manual_page_are_made() {
    for words in [&["completions", "bash"][..], &["man"]] {
        let done = Command::new(cli_binary()).args(words).output().unwrap();
        assert!(done.status.success() && done.stdout.len() > 500, "{words:?}");
    }
}
