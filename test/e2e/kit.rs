//! Kits: whole, altered in every way that an archive can be, and verified without our program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_attest::Kit;
use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_evidence::{Sha256, SoftKey};
use estoppel_kit::{require_real, require_real_with};
use serde_json::{Value, json};

use crate::attest::Recording;
use crate::support::{cli, path};

/// A kit of a run, with attestations of two frameworks.
struct Made {
    recording: Recording,
    kit: PathBuf,
}

impl Made {
    fn new() -> Self {
        let recording = Recording::new(true);
        for framework in ["pci-dss-4.0.1", "eu-ai-act"] {
            assert_eq!(recording.attest(framework, &recording.scratch.join(framework), &[]).0, 0);
        }
        let made = Self { kit: recording.scratch.join("a.kit.zip"), recording };
        let (code, answer) = made.build(&made.kit);
        assert_eq!(code, 0, "{answer}");
        made
    }

    fn build(&self, out: &Path) -> (i32, Value) {
        let (recording, trust) = (&self.recording, self.recording.trust());
        let (one, two) = (recording.scratch.join("pci-dss-4.0.1"), recording.scratch.join("eu-ai-act"));
        let words = ["kit", "build", "--bundle", path(&recording.bundle), "--trust", path(&trust)];
        let more = ["--attestation", path(&one), "--attestation", path(&two), "--key", path(&recording.key)];
        cli(&[&words[..], &more, &["--out", path(out)]].concat())
    }

    fn unpacked(&self, name: &str) -> PathBuf {
        let folder = self.recording.scratch.join(name);
        for (path, content) in files(&self.kit) {
            let to = folder.join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, content).unwrap();
        }
        folder
    }

    /// What both verifiers say of an archive: exit code and code.
    fn answers(&self, kit: &Path) -> [(i32, String); 2] {
        let (code, answer) = cli(&["kit", "verify", path(kit)]);
        let ours = (code, answer["error"]["code"].as_str().unwrap_or_default().to_owned());
        [ours, python(&self.recording.scratch.join("kit").join("verify.py"), &[path(kit)])]
    }
}

fn files(kit: &Path) -> BTreeMap<String, Vec<u8>> {
    Kit::from_zip(&std::fs::read(kit).unwrap()).unwrap().files
}

/// `verify.py`: exit code, and the code that it printed.
fn python(script: &Path, words: &[&str]) -> (i32, String) {
    let out = Command::new("python3").arg(script).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let code = text.strip_prefix("REFUSED ").and_then(|rest| rest.split(':').next());
    assert!(out.status.success() || code.is_some(), "{text}");
    (out.status.code().unwrap(), code.unwrap_or_default().to_owned())
}

#[test]
fn a_kit_verifies_by_both_programs_and_the_same_contents_give_the_same_bytes() {
    let made = Made::new();
    let folder = made.unpacked("kit");
    assert_eq!(made.answers(&made.kit), [(0, String::new()), (0, String::new())]);
    let again = made.recording.scratch.join("again.zip");
    assert_eq!(made.build(&again).0, 0);
    assert_eq!(std::fs::read(&made.kit).unwrap(), std::fs::read(&again).unwrap());
    let trust = made.recording.trust();
    let (code, answer) = cli(&["kit", "verify", path(&made.kit), "--trust", path(&trust)]);
    assert_eq!((code, &answer["data"]["summary"]["counters"]["block"]), (0, &json!(1)), "{answer}");
    assert_eq!(answer["data"]["verifiers"], "of this version");
    let other =
        made.recording.scratch.write("other.json", [&std::fs::read(&trust).unwrap()[..], b"\n"].concat());
    let (code, answer) = cli(&["kit", "verify", path(&made.kit), "--trust", path(&other)]);
    assert_eq!((code, &answer["error"]["code"]), (2, &json!("KIT_TRUST")));
    assert_eq!(python(&folder.join("verify.py"), &["--trust", path(&other)]), (2, "KIT_TRUST".into()));
}

#[test]
fn an_unpacked_kit_verifies_itself_without_a_network() {
    let made = Made::new();
    let folder = made.unpacked("kit");
    let script = folder.join("verify.py");
    let no_network = require_real_with("unshare -rn", || {
        let tried =
            Command::new("unshare").args(["-rn", "true"]).output().map_err(|error| error.to_string())?;
        if tried.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&tried.stderr).into_owned()) }
    });
    if no_network.is_some() {
        let out = Command::new("unshare").args(["-rn", "python3", path(&script)]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
    for _ in 0..2 {
        assert_eq!(python(&script, &[]), (0, String::new()), "and leaves nothing behind");
    }
    if let Some(node) = require_real("node") {
        let bundle = files(&made.kit).into_keys().find(|path| path.starts_with("bundles/")).unwrap();
        let verifier = folder.join("verifiers/javascript/pef-verify.mjs");
        let words =
            [path(&verifier), "--trust", path(&folder.join("trust.json")), path(&folder.join(bundle))]
                .map(str::to_owned);
        assert!(Command::new(node).args(words).status().unwrap().success());
    }
    if let Some(unzip) = require_real("unzip") {
        let to = made.recording.scratch.join("by-unzip");
        let done = Command::new(unzip).args(["-q", path(&made.kit), "-d", path(&to)]).status().unwrap();
        assert!(done.success());
        assert_eq!(python(&to.join("verify.py"), &[]), (0, String::new()));
    }
}

/// The same archive with a file changed, added or taken away.
fn rezip(made: &Made, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> PathBuf {
    let mut files = files(&made.kit);
    change(&mut files);
    made.recording.scratch.write("changed.zip", Kit { files }.to_zip().unwrap())
}

/// The same, and the one who signed it declares it so.
fn resigned(made: &Made, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>, &mut Value)) -> PathBuf {
    rezip(made, |files| {
        let envelope: Value = serde_json::from_slice(&files["kit.json"]).unwrap();
        let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        change(files, &mut statement);
        files.remove("kit.json");
        let subjects = files.iter().map(
            |(path, content)| json!({ "digest": { "sha256": Sha256::of(content).hex() }, "name": path }),
        );
        statement["subject"] = subjects.collect();
        let payload = estoppel_evidence::canonical::foreign(statement.to_string().as_bytes()).unwrap();
        let key = SoftKey::ed25519(&[11; 32]);
        files.insert("kit.json".into(), sign(STATEMENT_TYPE, &payload, &key).unwrap());
    })
}

#[test]
fn whatever_is_undeclared_missing_or_altered_is_refused_by_both() {
    let made = Made::new();
    made.unpacked("kit");
    let both =
        |kit: &Path, code: &str| assert_eq!(made.answers(kit), [(2, code.to_owned()), (2, code.to_owned())]);
    both(&rezip(&made, |files| drop(files.insert("more.txt".into(), b"x".to_vec()))), "KIT_UNDECLARED");
    both(&rezip(&made, |files| drop(files.remove("verify.md"))), "KIT_MISSING");
    both(&rezip(&made, |files| drop(files.remove("kit.json"))), "KIT_MISSING");
    let names: Vec<String> = files(&made.kit).into_keys().filter(|name| name != "kit.json").collect();
    for name in names.iter().step_by(3).chain(names.iter().filter(|name| name.ends_with(".pef.zip"))) {
        let altered = rezip(&made, |files| {
            let content = files.get_mut(name).unwrap();
            let at = content.len() / 2;
            content[at] ^= 1;
        });
        both(&altered, "KIT_ALTERED");
    }
    both(&rezip(&made, |files| files.get_mut("kit.json").unwrap()[40] ^= 1), "KIT_FORM");
}

#[test]
fn programs_in_a_kit_stand_in_for_nothing_and_are_told_where_they_are_not_ours() {
    let made = Made::new();
    let folder = made.unpacked("kit");
    let foreign = resigned(&made, |files, _| {
        drop(files.insert("verifiers/python/zlib.py".into(), b"print('ran')".to_vec()));
    });
    let (code, answer) = cli(&["kit", "verify", path(&foreign)]);
    assert_eq!((code, &answer["data"]["verifiers"]), (0, &json!("others")), "{answer}");
    for name in ["argparse.py", "json.py", "verifiers/python/zlib.py"] {
        std::fs::write(folder.join(name), "print('ran')\nraise SystemExit(0)\n").unwrap();
        assert_eq!(python(&folder.join("verify.py"), &[]), (2, "KIT_UNDECLARED".into()), "{name}");
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn an_entry_that_comes_twice_is_refused_by_both() {
    let made = Made::new();
    made.unpacked("kit");
    let twice = made.recording.scratch.join("twice.zip");
    let script = "import sys, warnings, zipfile\nwarnings.simplefilter('ignore')\n\
        a, b = zipfile.ZipFile(sys.argv[1]), zipfile.ZipFile(sys.argv[2], 'w')\n\
        for e in a.infolist() + [a.getinfo('verify.md')]: b.writestr(zipfile.ZipInfo(e.filename), a.read(e.filename))\nb.close()\n";
    let done = Command::new("python3").args(["-c", script, path(&made.kit), path(&twice)]).status().unwrap();
    assert!(done.success());
    assert_eq!(made.answers(&twice), [(2, "KIT_FORM".to_owned()), (2, "KIT_FORM".to_owned())]);
}

#[test]
fn what_the_signer_declares_is_recomputed() {
    let made = Made::new();
    made.unpacked("kit");
    let both =
        |kit: &Path, code: &str| assert_eq!(made.answers(kit), [(2, code.to_owned()), (2, code.to_owned())]);
    both(
        &resigned(&made, |_, kit| kit["predicate"]["summary"]["counters"]["block"] = json!(0)),
        "KIT_SUMMARY",
    );
    both(
        &resigned(&made, |_, kit| kit["predicate"]["summary"]["inventory"]["models"][0]["count"] = json!(7)),
        "KIT_SUMMARY",
    );
    both(&resigned(&made, |_, kit| kit["predicate"]["summary"]["attestations"] = json!([])), "KIT_SUMMARY");
    for (member, value) in [
        ("/predicate/summary/runs/0/counters/calls", json!(9999)),
        ("/predicate/summary/runs/0/root", json!(format!("root:{}", "0".repeat(64)))),
        ("/predicate/summary/counters/hold", json!(false)),
        ("/predicate/v", json!("kit/v9")),
    ] {
        both(&resigned(&made, |_, kit| *kit.pointer_mut(member).unwrap() = value), "KIT_SUMMARY");
    }
    for within in ["/predicate", "/predicate/summary"] {
        let said = |kit: &mut Value| kit.pointer_mut(within).unwrap()["certified"] = json!("PCI compliant");
        both(&resigned(&made, |_, kit| said(kit)), "KIT_SUMMARY");
    }
    let folder = files(&made.kit).into_keys().find_map(|path| {
        let path = path.strip_suffix("attestation.json")?;
        Some(path.to_owned())
    });
    let folder = folder.unwrap();
    for path in ["argparse.py".to_owned(), "bundles/x.txt".to_owned(), format!("{folder}extra.pdf")] {
        both(&resigned(&made, |files, _| drop(files.insert(path, b"x".to_vec()))), "KIT_FORM");
    }
    let file_and_folder = resigned(&made, |files, _| {
        files.extend(["verifiers/a", "verifiers/a/b"].map(|path| (path.to_owned(), b"x".to_vec())));
    });
    both(&file_and_folder, "KIT_FORM");
    let page = format!("{folder}attestation.pdf");
    both(&resigned(&made, |files, _| drop(files.remove(&page))), "KIT_MISSING");
    both(
        &resigned(&made, |files, _| drop(files.insert("frameworks/unused.toml".into(), b"x".to_vec()))),
        "KIT_MISSING",
    );
    let broken = resigned(&made, |files, _| {
        let bundle = files.iter_mut().find(|(name, _)| name.ends_with(".pef.zip")).unwrap().1;
        let at = bundle.len() / 3;
        bundle[at] ^= 1;
    });
    both(&broken, "ATTESTATION_BUNDLE");
    let page = resigned(&made, |files, _| {
        drop(files.insert("attestations/eu-ai-act/attestation.pdf".into(), b"%PDF-1.7 all is well".to_vec()));
    });
    both(&page, "ATTESTATION_COPY");
    for (name, from, to) in [
        ("attestation.pdf", "pass) Tj", "fail) Tj"),
        ("attestation.pdf", "(statement) Tj", "(statemen.) Tj"),
        ("attestation.pdf", "/Lang (en)", "/Lang (de)"),
        ("assessment-results.json", "\"value\":\"pass\"", "\"value\":\"fail\""),
        ("assessment-results.json", "\"state\":\"satisfied\"", "\"state\":\"not-satisfied\""),
    ] {
        let changed = resigned(&made, |files, _| {
            let copy = files.get_mut(&format!("attestations/pci-dss-4.0.1/{name}")).unwrap();
            let at = copy.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            drop(copy.splice(at..at + from.len(), to.bytes()));
        });
        both(&changed, "ATTESTATION_COPY");
    }
    let digest = Sha256::of(&files(&made.kit)["attestations/pci-dss-4.0.1/attestation.json"]).to_string();
    let another = Sha256::of(b"another statement").to_string();
    let cited = resigned(&made, |files, _| {
        let page = files.get_mut("attestations/pci-dss-4.0.1/attestation.pdf").unwrap();
        let at = page.windows(digest.len()).rposition(|window| window == digest.as_bytes()).unwrap();
        drop(page.splice(at..at + digest.len(), another.bytes()));
    });
    both(&cited, "ATTESTATION_COPY");
    let same = resigned(&made, |_, _| {});
    assert_eq!(made.answers(&same), [(0, String::new()), (0, String::new())], "what was not changed holds");
}

#[test]
fn a_framework_that_is_weaker_than_its_name_is_told() {
    let recording = Recording::new(false);
    let text = include_str!("../../policies/frameworks/pci-dss-4.0.1.toml");
    let weaker = text.replace("checks = [\"callers_are_known\"]", "checks = [\"evidence_is_intact\"]");
    let framework = recording.scratch.write("weaker.toml", weaker);
    let (out, kit, trust) =
        (recording.scratch.join("pci"), recording.scratch.join("a.zip"), recording.trust());
    assert_eq!(recording.attest(path(&framework), &out, &[]).0, 0);
    assert_eq!(recording.verify(&out), (2, "ATTESTATION_MISMATCH".into()), "by the framework of that name");
    let words = [
        "kit",
        "build",
        "--bundle",
        path(&recording.bundle),
        "--trust",
        path(&trust),
        "--attestation",
        path(&out),
    ];
    let more = ["--framework", path(&framework), "--key", path(&recording.key), "--out", path(&kit)];
    assert_eq!(cli(&[&words[..], &more].concat()).0, 0);
    let (code, answer) = cli(&["kit", "verify", path(&kit)]);
    assert_eq!((code, &answer["data"]["foreign_frameworks"]), (0, &json!(["pci-dss-4.0.1"])), "{answer}");
}
