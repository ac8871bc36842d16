use proptest::prelude::*;

use super::*;
use crate::made::{MadeFiles, zip, zip_of};

fn made() -> MadeFiles {
    [("a", "one"), ("b/c.json", "{}"), ("b/d", "")]
        .map(|(path, bytes)| (path.to_owned(), bytes.as_bytes().to_vec()))
        .into()
}

fn reason(zip: &[u8]) -> Option<Reason> {
    match Files::read(Input::Zip(zip)) {
        Ok(files) => files.check_crcs().err().map(|finding| finding.reason),
        Err(finding) => Some(finding.reason),
    }
}

#[test]
fn a_zip_is_read() {
    let zip = zip(&made());
    let files = Files::read(Input::Zip(&zip)).unwrap();
    assert_eq!(files.get("b/c.json").unwrap().bytes, b"{}");
    assert_eq!(files.iter().count(), 3);
    assert!(files.get("b").is_none());
    assert!(files.check_crcs().is_ok());
}

#[test]
fn an_empty_zip_is_a_zip() {
    assert_eq!(reason(&zip(&MadeFiles::new())), None);
    assert_eq!(reason(b""), Some(Reason::ContainerMalformed));
}

#[test]
fn every_byte_of_a_zip_matters() {
    let good = zip(&made());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(reason(&bad).is_some(), "bit {bit} of byte {at}");
        }
        assert!(reason(&good[..at]).is_some(), "cut at {at}");
        let mut bad = good.clone();
        bad.remove(at);
        assert!(reason(&bad).is_some(), "without byte {at}");
        let mut bad = good.clone();
        bad.insert(at, good[at]);
        assert!(reason(&bad).is_some(), "byte {at} twice");
    }
    assert!(reason(&[&good[..], &[0]].concat()).is_some());
}

#[test]
fn each_step_has_its_reason() {
    for (entries, expected) in [
        (&[("a", "1"), ("a", "1")][..], Some(Reason::EntryDuplicate)),
        (&[("b", "1"), ("a", "1")], Some(Reason::ContainerMalformed)),
        (&[("b", "1"), ("a", "1"), ("b", "1")], Some(Reason::EntryDuplicate)),
        (&[("../a", "1")], Some(Reason::PathForbidden)),
        (&[("a", "1"), ("SHA256SUMS", "1")], Some(Reason::ContainerMalformed)),
        (&[("SHA256SUMS", "1"), ("a", "1")], None),
    ] {
        let entries: Vec<_> = entries.iter().map(|(path, bytes)| (*path, bytes.as_bytes())).collect();
        assert_eq!(reason(&zip_of(&entries)), expected, "{entries:?}");
    }
    let mut compressed = zip(&made());
    compressed[8] = 8;
    assert_eq!(reason(&compressed), Some(Reason::EntryCompressed));
    let mut crc = zip(&made());
    let central = crc.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    crc[14] ^= 1;
    crc[central + 16] ^= 1;
    assert_eq!(reason(&crc), Some(Reason::CrcMismatch));
}

#[test]
fn a_zip_has_at_most_65534_entries() {
    for (count, expected) in [(65_534, None), (65_535, Some(Reason::ContainerLimit))] {
        let names: Vec<String> = (0..count).map(|n| format!("{n:05}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert_eq!(reason(&zip_of(&entries)), expected);
    }
}

#[test]
fn a_path_is_plain() {
    let long = "a".repeat(200);
    for good in ["a", "a/b", "a.b-c_0/...", "SHA256SUMS", &long] {
        assert!(check_path(good.as_bytes()).is_ok(), "{good}");
    }
    let longer = "a".repeat(201);
    for bad in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/..",
        "../a",
        "./a",
        "a/./b",
        "A",
        "a b",
        "a\\b",
        "\u{e9}",
        "a\0",
        "C:a",
        "a/SHA256SUMS",
        &longer,
    ] {
        assert!(check_path(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(check_path(b"\xff").is_err());
}

#[test]
fn a_directory_is_sorted_and_has_only_regular_files() {
    let file = |path: &'static str, bytes| DirectoryFile { path: path.as_bytes(), bytes };
    let found =
        [file("b", Some(&b"2"[..])), file("a", Some(b"1")), file("a-b", Some(b"3")), file("a/b", Some(b"4"))];
    let files = Files::read(Input::Directory(&found)).unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path).collect();
    assert_eq!(paths, ["a", "a-b", "a/b", "b"]);
    assert_eq!(files.get("a/b").unwrap().bytes, b"4");
    let reason = |found: &[DirectoryFile<'_>]| Files::read(Input::Directory(found)).err().unwrap().reason;
    assert_eq!(reason(&[file("a", None)]), Reason::PathForbidden);
    assert_eq!(reason(&[file("A", Some(b""))]), Reason::PathForbidden);
    assert_eq!(reason(&[file("a", Some(b"")), file("a", Some(b""))]), Reason::EntryDuplicate);
    assert_eq!(reason(&vec![file("a", Some(b"")); 65_535]), Reason::ContainerLimit);
}

proptest! {
    #[test]
    fn any_bytes_are_a_zip_or_not(bytes: Vec<u8>, header: bool) {
        let bytes = if header { [b"PK\x03\x04", &bytes[..]].concat() } else { bytes };
        _ = reason(&bytes);
    }
}
