use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script, filler};
use serde_json::Value;

use crate::support::{Setup, World, cli, path};

const POLICY: &str = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: test } } }\n";

fn judged(bundle: &Path) -> (i32, Value) {
    let (exit, answer) = cli(&["verify", path(bundle)]);
    (exit, answer["data"].clone())
}

/// Verifiers that share no code with the writer.
fn others(bundle: &Path) -> Vec<Option<i32>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers");
    [("python3", "python/pef_verify.py"), ("node", "javascript/pef-verify.mjs")]
        .map(|(program, script)| {
            let mut command = std::process::Command::new(program);
            command.arg(folder.join(script)).arg(bundle).output().unwrap().status.code()
        })
        .to_vec()
}

#[test]
fn a_body_over_25_mib_is_beside_the_bundle_and_missed_when_it_is_gone() {
    const BYTES: usize = 26 << 20;
    let script = Script::always(Reply::new(Body::Size { bytes: BYTES as u64 }));
    let world = World::with(script, &Setup { policy: POLICY.into(), ..Setup::default() });
    let answer = world.send(&Request::new("GET", "/large").header("estoppel-run", "large"));
    let expected = filler(0, BYTES);
    assert!(answer.body == expected, "the body differs");
    let bundle = world.seal("large");
    assert!(std::fs::metadata(&bundle).unwrap().len() < 1 << 20, "the body is inside");

    let digest = Sha256::of(&expected).hex();
    let shown = cli(&["show", path(&bundle)]).1["data"].clone();
    let row = &shown["manifest"]["externals"][0];
    assert_eq!((&row["sha256"], &row["bytes"]), (&format!("sha256:{digest}").into(), &BYTES.into()));
    assert_eq!(shown["manifest"]["externals"].as_array().unwrap().len(), 1);
    let beside = PathBuf::from(format!("{}.d", path(&bundle))).join(digest);
    assert_eq!(judged(&bundle).0, 0);
    assert_eq!(others(&bundle), [Some(0); 2]);

    let mut bytes = std::fs::read(&beside).unwrap();
    assert!(bytes == expected, "what is beside the bundle is another body");
    bytes[BYTES / 2] ^= 1;
    std::fs::remove_file(&beside).unwrap();
    let (exit, report) = judged(&bundle);
    assert_eq!((exit, &report["reason"]), (2, &"MISSING_EXTERNAL".into()), "{report}");
    assert_eq!(others(&bundle), [Some(2); 2]);
    std::fs::write(&beside, bytes).unwrap();
    assert_eq!(judged(&bundle).0, 2, "another body under that name");
}
