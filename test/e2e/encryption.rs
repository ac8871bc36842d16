//! Files that are encrypted at rest, by the program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use estoppel_kit::Scratch;
use estoppel_stub::Script;
use serde_json::Value;

use crate::support::{World, chat, cli, path};

struct Sealed {
    scratch: Scratch,
    key: PathBuf,
    sealed: PathBuf,
    content: Vec<u8>,
}

fn encrypted(content: &[u8]) -> Sealed {
    let scratch = Scratch::new("encryption");
    let (key, sealed) = (scratch.join("key"), scratch.join("sealed"));
    let plain = scratch.write("plain", content);
    assert_eq!(cli(&["keys", "wrapping", "--out", path(&key)]).0, 0);
    let (exit, answer) = cli(&["encrypt", path(&plain), "--key", path(&key), "--out", path(&sealed)]);
    assert_eq!((exit, answer["data"]["bytes"].as_u64()), (0, Some(content.len() as u64)), "{answer}");
    Sealed { scratch, key, sealed, content: content.to_vec() }
}

impl Sealed {
    fn decrypt(&self, from: &std::path::Path, key: &std::path::Path) -> (i32, Value, Option<Vec<u8>>) {
        let out = self.scratch.join("back");
        drop(std::fs::remove_file(&out));
        let (exit, answer) = cli(&["decrypt", path(from), "--key", path(key), "--out", path(&out)]);
        (exit, answer, std::fs::read(out).ok())
    }

    /// Refused as a verification fails, and nothing is left of it.
    fn check_refused(&self, sealed: &[u8], code: &str) {
        let file = self.scratch.write("changed", sealed);
        let (exit, answer, found) = self.decrypt(&file, &self.key);
        assert_eq!((exit, answer["error"]["code"].as_str(), found), (2, Some(code), None), "{answer}");
    }
}

fn names(scratch: &Scratch) -> Vec<String> {
    let folder = std::fs::read_dir(scratch.join(".")).unwrap();
    let mut names: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_encrypted_comes_back_with_its_key_and_with_no_other() {
    let sealed = encrypted(&estoppel_stub::filler(0, 200_000));
    let (exit, answer, found) = sealed.decrypt(&sealed.sealed, &sealed.key);
    assert_eq!((exit, found.as_deref()), (0, Some(&sealed.content[..])), "{answer}");
    for file in [&sealed.sealed, &sealed.key, &sealed.scratch.join("back")] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let other = sealed.scratch.join("other");
    assert_eq!(cli(&["keys", "wrapping", "--out", path(&other)]).0, 0);
    let (exit, answer, found) = sealed.decrypt(&sealed.sealed, &other);
    assert_eq!(
        (exit, answer["error"]["code"].as_str(), found),
        (2, Some("ENCRYPTION_KEY"), None),
        "{answer}"
    );
}

#[test]
fn header_order_and_end_are_authenticated_and_nothing_half_written_is_left() {
    let sealed = encrypted(&estoppel_stub::filler(0, 200_000));
    let bytes = sealed.scratch.read("sealed");
    let start = 12 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let full = 65_536 + 16;
    for at in [0, 9, 40, start - 3, start, start + full, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        sealed.check_refused(&changed, "ENCRYPTION_DAMAGED");
    }
    let swapped = [
        &bytes[..start],
        &bytes[start + full..start + 2 * full],
        &bytes[start..start + full],
        &bytes[start + 2 * full..],
    ];
    sealed.check_refused(&swapped.concat(), "ENCRYPTION_DAMAGED");
    for end in [0, 5, start, start + full, start + 2 * full, bytes.len() - 1] {
        sealed.check_refused(&bytes[..end], "ENCRYPTION_DAMAGED");
    }
    sealed.check_refused(&[&bytes[..], b"x"].concat(), "ENCRYPTION_DAMAGED");
    assert_eq!(names(&sealed.scratch), ["changed", "key", "plain", "sealed"]);
}

#[test]
fn a_key_that_is_not_there_is_told_with_what_makes_one_of_its_kind() {
    let sealed = encrypted(b"x");
    let none = sealed.scratch.join("none.pem");
    let told = |words: &[&str]| {
        let (exit, answer) = cli(words);
        assert_eq!((exit, &answer["error"]["code"]), (6, &"KEY_INVALID".into()), "{answer}");
        format!("{} {}", answer["error"]["message"], answer["error"]["hint"])
    };
    let (from, out) = (path(&sealed.sealed), sealed.scratch.join("out"));
    let wrapping = told(&["decrypt", from, "--key", path(&none), "--out", path(&out)]);
    assert!(wrapping.contains("estoppel keys wrapping") && !wrapping.contains("keys init"), "{wrapping}");
    let program = told(&["decrypt", from, "--key-command", path(&none), "--out", path(&out)]);
    assert!(!program.contains("keys init"), "{program}");
    let world = World::new(Script::model());
    let ask = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(world.send(&chat("r", ask)).status(), 200);
    let bundle = world.seal("r");
    let (certifier, _) = crate::custody::custodian(&sealed.scratch, "certifier", 3);
    let replay = ["replay", "run", path(&bundle), "--out", path(&out)];
    let signs = told(&[&replay[..], &["--key", path(&none)]].concat());
    assert!(signs.contains("openssl genpkey") && !signs.contains("keys init"), "{signs}");
    let empty = path(sealed.scratch.path());
    let capture = told(&[&replay[..], &["--key", path(&certifier), "--keys", empty]].concat());
    assert!(capture.contains("gateway") && capture.contains("--disclosure"), "{capture}");
    assert!(!capture.contains("keys init"), "another key is none of this run: {capture}");
    let disclosed =
        told(&["keys", "disclose", path(&bundle), "--scope", "run", "--dir", empty, "--out", path(&out)]);
    assert!(disclosed.contains("--dir") && !disclosed.contains("keys init"), "{disclosed}");
}

#[test]
fn nothing_is_written_over() {
    let sealed = encrypted(b"content");
    let there = sealed.scratch.write("there", b"precious");
    for word in ["encrypt", "decrypt"] {
        let words = [word, path(&sealed.sealed), "--key", path(&sealed.key), "--out", path(&there)];
        let (exit, answer) = cli(&words);
        assert_eq!((exit, answer["error"]["code"].as_str()), (8, Some("OUTPUT_EXISTS")), "{answer}");
    }
    assert_eq!(sealed.scratch.read("there"), b"precious");
    let (exit, answer) = cli(&["keys", "wrapping", "--out", path(&sealed.key)]);
    assert_eq!((exit, answer["error"]["code"].as_str()), (8, Some("OUTPUT_EXISTS")), "{answer}");
}

#[test]
fn a_program_may_hold_the_key_and_where_it_fails_nothing_is_written() {
    let scratch = Scratch::new("encryption");
    let plain = scratch.write("plain", b"content");
    let script = r#"read line; case "$line" in
        *'"op":"wrap"'*) echo "$line" | sed 's/.*"key":"\([^"]*\)".*/{"id":"kms:7","wrapped":"\1"}/' ;;
        *) echo "$line" | sed 's/.*"wrapped":"\([^"]*\)".*/{"key":"\1"}/' ;; esac"#;
    let command = |name: &str, script: &str| {
        let file = scratch.write(name, serde_json::json!(["sh", "-c", script]).to_string());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    let (good, bad) = (command("good", script), command("bad", "exit 1"));
    let (sealed, back) = (scratch.join("sealed"), scratch.join("back"));
    let run = |word: &str, from: &PathBuf, hook: &PathBuf, out: &PathBuf| {
        let (exit, answer) = cli(&[word, path(from), "--key-command", path(hook), "--out", path(out)]);
        (exit, answer["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(run("encrypt", &plain, &bad, &sealed), (7, Some("KEY_HOOK_FAILED".into())));
    assert!(!sealed.exists());
    assert_eq!(run("encrypt", &plain, &good, &sealed), (0, None));
    assert_eq!(run("decrypt", &sealed, &bad, &back), (7, Some("KEY_HOOK_FAILED".into())));
    assert_eq!(run("decrypt", &sealed, &good, &back), (0, None));
    assert_eq!(scratch.read("back"), b"content");
    std::fs::set_permissions(&good, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run("encrypt", &plain, &good, &scratch.join("more")), (6, Some("KEY_PERMISSIONS".into())));
}

#[test]
fn a_bundle_verifies_after_it_was_encrypted_and_decrypted() {
    let world = World::new(Script::model());
    let request = chat("sealed", r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!(world.send(&request).status(), 200);
    let bundle = world.seal("sealed");
    let sealed = encrypted(&std::fs::read(bundle).unwrap());
    assert_eq!(sealed.decrypt(&sealed.sealed, &sealed.key).0, 0);
    let trust = world.journal().join("trust.json");
    let (exit, answer) = cli(&["verify", path(&sealed.scratch.join("back")), "--trust", path(&trust)]);
    assert_eq!(exit, 0, "{answer}");
}
