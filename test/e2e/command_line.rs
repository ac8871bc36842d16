use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::Script;
use serde_json::Value;

use crate::support::{World, chat, cli, cli_binary, path};

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
    fn below(words: &[String]) -> Vec<Vec<String>> {
        let subs = listed(words);
        if subs.is_empty() && !words.is_empty() {
            return vec![words.to_vec()];
        }
        subs.into_iter().flat_map(|sub| below(&[words, &[sub]].concat())).collect()
    }
    below(&[])
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

/// Names and contents below a folder.
fn contents(dir: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.push((path.display().to_string(), path.is_file().then(|| std::fs::read(&path).unwrap())));
        if path.is_dir() {
            found.extend(contents(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn explaining_does_nothing_whatever_else_is_asked() {
    let world = World::new(Script::model());
    let ask = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;
    for run in ["sealed", "open"] {
        assert_eq!(world.send(&chat(run, ask)).status(), 200);
    }
    let bundle = world.seal("sealed");
    let scratch = Scratch::new("explain");
    let keys = scratch.join("keys");
    assert_eq!(cli(&["keys", "init", "--dir", path(&keys)]).0, 0);
    let policy = scratch.write("policy.yaml", "version: 1\nname: a\n");
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/packs/contracts");
    let (new, export) = (scratch.join("new"), scratch.join("receipt.json"));
    let admin = world.admin.to_string();
    let given = |verb: &[String]| -> Vec<String> {
        let words: Vec<&str> = verb.iter().map(String::as_str).collect();
        let rest: &[&str] = match words[..] {
            ["quickstart"] => &["--dir", path(&new)],
            ["verify"] => &[path(&bundle)],
            ["show"] => &[path(&bundle), "--call", "1", "--export", path(&export)],
            ["incident", "verify"] => &[path(&policy)],
            ["diff"] => &[path(&bundle), path(&bundle), "--out", path(&new)],
            ["snapshot", "diff"] => &[path(&bundle), "--call", "1"],
            ["snapshot", "take"] => &["--pg", "postgresql:///shop", "--out", path(&new)],
            ["attest"] => &[
                "--framework",
                "hipaa-security-rule",
                "--bundle",
                path(&bundle),
                "--key",
                path(&keys),
                "--out",
                path(&new),
            ],
            ["attest", "verify"] => &[path(&new), "--bundle", path(&bundle)],
            ["compliance", _] => &[],
            ["report"] => &["--digest", path(&bundle), "--svg", path(&new)],
            ["kit", "build"] => &["--bundle", path(&bundle), "--key", path(&keys), "--out", path(&new)],
            ["kit", "verify"] => &[path(&new)],
            ["archive", _] => &[path(&keys)],
            ["custody", "add"] => {
                &[path(&bundle), "--action", "verified", "--key", path(&keys), "--actor", "ada"]
            }
            ["custody", _] => &[path(&bundle)],
            ["seal"] => &["open", "--admin", &admin],
            ["run", "list"] => &["--admin", &admin],
            ["run", "show"] => &["open", "--admin", &admin],
            ["keys", "init"] => &["--dir", path(&new)],
            ["keys", "rotate"] => &["--dir", path(&keys), "--use", "receipt"],
            ["keys", "disclose"] => {
                &[path(&bundle), "--call", "1", "--dir", path(&keys), "--out", path(&export)]
            }
            ["keys", "wrapping"] => &["--out", path(&new)],
            ["encrypt" | "decrypt"] => &[path(&bundle), "--key", path(&keys), "--out", path(&new)],
            ["retention", "plan"] => {
                &["--journal", path(&keys), "--rules", path(&policy), "--out", path(&new)]
            }
            ["retention", "apply"] => &["--journal", path(&keys), "--rules", path(&policy), "--by", "ada"],
            ["retention", "verify"] => &[path(&policy), "--trust", path(&policy)],
            ["retention", "hold", "list"] => &["--journal", path(&keys)],
            ["retention", "hold", _] => {
                &["open", "--journal", path(&keys), "--by", "ada", "--reason", "drill"]
            }
            ["keys", "list"] => &["--dir", path(&keys)],
            ["identity", "key", "new"] => &["--subject", "a", "--file", path(&new)],
            ["identity", "key", "list"] => &["--file", path(&new)],
            ["identity", "key", _] => &["0000000000000000", "--file", path(&new)],
            ["kill" | "resume"] => &["all", "--by", "ada", "--reason", "drill", "--admin", &admin],
            ["switches"] | ["hold", "list"] | ["mcp", "pins", "list"] => &["--admin", &admin],
            ["hold", "show"] => &["1", "--admin", &admin],
            ["hold", _] => &["1", "--admin", &admin, "--key", path(&keys)],
            ["mcp", "bridge"] => &[],
            ["mcp", "pins", _] => &["a", "--route", "stub", "--admin", &admin],
            ["detect"] => &[path(&policy)],
            ["policy", _] => &[path(&policy)],
            ["reduce"] => {
                &[path(&bundle), "--predicate", "final-blocked", "--self-asserted", "--out", path(&new)]
            }
            ["regress", "add"] => {
                &["--from", path(&bundle), "--call", "1", "--self-asserted", "--into", path(&new)]
            }
            ["regress", "run"] => &["--policy", path(&policy), "--fixtures", path(&new)],
            ["regress", "bootstrap"] => &[path(&bundle), "--self-asserted", "--into", path(&new)],
            ["pack", _] => &[path(&pack)],
            ["judge"] => &["-", "--out", path(&new)],
            ["contract", _] => &[path(&policy)],
            ["doctor"] => &["--admin", &admin],
            ["reconcile"] => &[
                "--provider-log",
                path(&policy),
                "--format",
                "openai",
                "--bundle",
                path(&bundle),
                "--record",
            ],
            ["stub"] => &["--listen", "127.0.0.1:0"],
            ["replay", "verify-certificate"] => &[path(&new), "--bundle", path(&bundle)],
            ["replay", "compare"] => &[path(&bundle), path(&bundle), "--out", path(&new)],
            ["replay", _] => &[path(&bundle), "--key", path(&keys), "--out", path(&new)],
            ["completions"] => &["bash"],
            ["notify", "begin"] => &["pager"],
            ["new" | "status" | "dashboard" | "approve" | "waive" | "promote" | "rollback"] => &[],
            [
                "generation" | "evolution" | "environment" | "ledger" | "roles" | "sync" | "notify" | "db"
                | "audit",
                _,
            ] => &[],
            ["sbom" | "man"] => &[],
            _ => panic!("say how {verb:?} is called"),
        };
        [&words[..], rest, &["--explain"]].concat().into_iter().map(str::to_owned).collect()
    };
    let runs = || -> Value { cli(&["run", "list", "--admin", &admin]).1["data"]["runs"].clone() };
    let (files, before) = (contents(scratch.path()), runs());
    for verb in verbs().iter().filter(|verb| **verb != ["verify"]) {
        let words = given(verb);
        let (code, answer) = cli(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(code, 0, "{words:?} {answer}");
        assert!(answer["data"]["explain"].as_str().unwrap().len() > 60, "{words:?}");
        assert!(contents(scratch.path()) == files, "{words:?} wrote");
    }
    let states = |runs: &Value| -> Vec<String> {
        runs.as_array().unwrap().iter().map(|run| format!("{} {}", run["id"], run["state"])).collect()
    };
    assert_eq!(states(&runs()), states(&before));
}

#[test]
fn two_paths_to_verify_are_told_what_a_second_word_is_for() {
    let (code, answer) = cli(&["verify", "a.pef.zip", "b.pef.zip"]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")));
    let (message, hint) = (answer["error"]["message"].to_string(), answer["error"]["hint"].to_string());
    assert!(message.contains("one path") && message.contains("b.pef.zip"), "{message}");
    assert!(hint.contains("verify tag") && hint.contains("estoppel diff"), "{hint}");
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
fn bundles_from_before_a_rotation_are_trusted_by_the_listed_keys() {
    let world = World::new(Script::model());
    let ask = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(world.send(&chat("before", ask)).status(), 200);
    let bundle = world.seal("before");
    let keys = world.scratch.join("keys");
    let keys = if keys.is_dir() { keys } else { world.journal().join("keys") };
    for use_ in ["receipt", "checkpoint", "manifest"] {
        assert_eq!(cli(&["keys", "rotate", "--dir", path(&keys), "--use", use_]).0, 0);
    }
    let document: Value =
        serde_json::from_slice(&std::fs::read(world.journal().join("trust.json")).unwrap()).unwrap();
    let instance = document["keys"][0]["iss"].as_str().unwrap();
    let done = Command::new(cli_binary())
        .args(["keys", "list", "--dir", path(&keys), "--trust", instance])
        .output()
        .unwrap();
    let trust = world.scratch.join("listed.json");
    std::fs::write(&trust, done.stdout).unwrap();
    let (code, answer) = cli(&["verify", path(&bundle), "--trust", path(&trust)]);
    assert_eq!((code, &answer["data"]["verdicts"]["authenticity"]), (0, &"trusted".into()), "{answer}");
}

#[test]
fn a_checkpoint_key_of_another_algorithm_is_refused() {
    let scratch = Scratch::new("checkpoint");
    let dir = scratch.join("keys");
    assert_eq!(cli(&["keys", "init", "--dir", path(&dir)]).0, 0);
    let before = contents(&dir);
    let (code, answer) =
        cli(&["keys", "rotate", "--dir", path(&dir), "--use", "checkpoint", "--alg", "p256"]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")));
    assert!(contents(&dir) == before);
}

#[test]
fn a_journal_with_keys_elsewhere_asks_for_them() {
    let scratch = Scratch::new("elsewhere");
    let (code, answer) = cli(&["run", "list", "--journal", path(scratch.path())]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("KEY_INVALID")));
    assert!(answer["error"]["hint"].as_str().unwrap().contains("--keys"), "{answer}");
}

#[test]
fn the_admin_address_may_be_a_url() {
    let world = World::new(Script::model());
    assert_eq!(cli(&["run", "list", "--admin", &format!("http://{}", world.admin)]).0, 0);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for words in [&["completions", "bash"][..], &["man"], &["man", "--markdown"], &["sbom"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut running =
            Command::new(cli_binary()).args(words).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        running.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((running.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{words:?}");
    }
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
    let ends = |at: usize| &answer["data"]["calls"][at];
    assert_eq!(
        (&ends(3)["code"], &ends(3)["arguments"]),
        (&"".into(), &r#"{"city": "Oslo"}"#.into()),
        "{answer}"
    );
    assert_eq!((&ends(4)["code"], &ends(4)["arguments"]), (&"VALUE_TRUNCATED".into(), &"".into()));
    assert_eq!((&ends(5)["code"], &ends(5)["arguments"]), (&"CONTRACT_VIOLATED".into(), &"".into()));
    let verdicts = &answer["data"]["verdicts"];
    assert_eq!(verdicts["authenticity"], "trusted");
    assert_eq!(verdicts["completeness"], "complete");
    let bundle = answer["data"]["bundle"].as_str().unwrap();
    assert_eq!(cli(&["verify", bundle]).0, 0);
    let (code, refused) = cli(&["quickstart", "--dir", path(&dir)]);
    assert_eq!((code, refused["error"]["code"].as_str()), (8, Some("OUTPUT_EXISTS")));
}

#[test]
fn what_is_printed_for_other_programs_has_the_envelope_too() {
    for (words, member) in [
        (&["completions", "bash"][..], "script"),
        (&["man"], "page"),
        (&["man", "run", "show"], "page"),
        (&["man", "--markdown"], "page"),
        (&["--version"], "text"),
        (&["verify", "--help"], "text"),
    ] {
        let plain = Command::new(cli_binary()).args(words).output().unwrap();
        assert!(plain.status.success() && !plain.stdout.starts_with(b"{"), "{words:?}");
        let (code, answer) = cli(words);
        assert_eq!((code, &answer["schema"]), (0, &"estoppel/cli/v1".into()), "{words:?}");
        let printed = String::from_utf8(plain.stdout).unwrap();
        assert!(printed.len() > 10);
        assert_eq!(answer["data"][member], printed.as_str(), "{words:?}");
    }
}

#[test]
fn every_manual_page_that_a_page_names_is_made() {
    let scratch = Scratch::new("man");
    let dir = scratch.join("man1");
    let (code, answer) = cli(&["man", "--all", path(&dir)]);
    assert_eq!(code, 0, "{answer}");
    let pages = contents(&dir);
    assert!(pages.len() > verbs().len(), "{answer}");
    let mut named = 0;
    for (file, page) in &pages {
        let page = String::from_utf8(page.clone().unwrap()).unwrap().replace("\\-", "-");
        for other in page.lines().filter_map(|line| line.strip_suffix("(1)")) {
            named += 1;
            assert!(dir.join(format!("{other}.1")).is_file(), "{file} names {other}(1)");
        }
    }
    assert!(named >= verbs().len());
    let one = Command::new(cli_binary()).args(["man", "run", "show"]).output().unwrap();
    assert_eq!(one.stdout, std::fs::read(dir.join("estoppel-run-show.1")).unwrap());
    let (code, answer) = cli(&["man", "nonsense"]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")));
    assert_eq!(cli(&["man", "run", "--all", path(&dir)]).0, 6);
}

#[test]
fn a_stub_for_all_the_world_is_refused_as_an_argument() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let (code, answer) = cli(&["stub", "--listen", listen]);
        assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")), "{answer}");
        assert_eq!(answer["error"]["category"], "input");
    }
}

#[test]
fn a_stub_says_where_it_listens_in_the_envelope() {
    let mut running = Command::new(cli_binary());
    running.args(["--json", "stub", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut running = running.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut said).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert!(answer["data"]["listening"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{answer}");
}

#[test]
fn the_script_on_the_page_of_the_stub_answers_as_it_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stub.md")).unwrap();
    let script = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let stub = estoppel_stub::Stub::spawn_thread(serde_json::from_str(script).unwrap()).unwrap();
    let ask = |path: &str, body: &str| {
        let request = Request::new("POST", path).header("content-type", "application/json").body(body);
        estoppel_kit::http::send(stub.addr(), &request).unwrap()
    };
    let body = r#"{"model":"m","messages":[{"role":"user","content":"the weather?"}]}"#;
    assert_eq!(ask("/v1/chat/completions", body).status(), 503);
    let answer = ask("/v1/chat/completions", body);
    assert_eq!(answer.status(), 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("get_weather"));
    assert_eq!(ask("/elsewhere", "{}").status(), 404);
}
