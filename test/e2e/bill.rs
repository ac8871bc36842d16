//! The bill of materials against what cargo itself says.

use std::collections::BTreeSet;
use std::process::Command;

use estoppel_kit::Scratch;
use serde_json::Value;

use crate::support::{cli, path};

fn cargo_metadata() -> Value {
    let done = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// `name@version` of each.
fn names<'a>(rows: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let name =
        |row: &Value| format!("{}@{}", row["name"].as_str().unwrap(), row["version"].as_str().unwrap());
    rows.into_iter().map(name).collect()
}

#[test]
fn the_bill_lists_what_cargo_resolves_and_how_it_hangs_together() {
    let (exit, answer) = cli(&["sbom"]);
    let bill = &answer["data"];
    assert_eq!((exit, &bill["bomFormat"], &bill["specVersion"]), (0, &"CycloneDX".into(), &"1.6".into()));
    let metadata = cargo_metadata();
    let components = bill["components"].as_array().unwrap().iter();
    let ours = names(components.chain([&bill["metadata"]["component"]]));
    assert_eq!(ours, names(metadata["packages"].as_array().unwrap()));

    let packages = metadata["packages"].as_array().unwrap();
    let purl = |id: &Value| {
        let package = packages.iter().find(|package| package["id"] == *id).unwrap();
        format!("pkg:cargo/{}", names([package]).first().unwrap())
    };
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let name = purl(&node["id"]);
        let row =
            bill["dependencies"].as_array().unwrap().iter().find(|row| row["ref"] == name.as_str()).unwrap();
        let locked: BTreeSet<String> =
            row["dependsOn"].as_array().unwrap().iter().map(|to| to.as_str().unwrap().to_owned()).collect();
        let resolved: BTreeSet<String> = node["dependencies"].as_array().unwrap().iter().map(purl).collect();
        assert!(resolved.is_subset(&locked), "{name}: {:?}", resolved.difference(&locked));
    }
}

#[test]
fn another_lock_file_gives_another_bill_and_none_is_refused() {
    let scratch = Scratch::new("bill");
    let lock = include_str!("../../Cargo.lock")
        .replace("name = \"memchr\"\nversion = \"2", "name = \"memchr\"\nversion = \"9");
    let lock = scratch.write("Cargo.lock", lock);
    let (_, answer) = cli(&["sbom", "--lockfile", path(&lock)]);
    let found = names(answer["data"]["components"].as_array().unwrap());
    assert!(found.iter().any(|name| name.starts_with("memchr@9")));
    let bad = scratch.write("bad.lock", "nothing");
    let (exit, answer) = cli(&["sbom", "--lockfile", path(&bad)]);
    assert_eq!((exit, answer["error"]["code"].as_str()), (6, Some("LOCKFILE_INVALID")));
}
