//! What is verified is what is used: each file is opened once, so that nobody can exchange it in between.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use serde_json::Value;

use crate::attest::Recording;
use crate::custody::{custodian, list_of};
use crate::support::{cli, path};

/// Counts how often a file is opened. That it is read and closed is watched too, as equal events in a row would count as one.
struct Opens<'p> {
    file: &'p Path,
    queue: OwnedFd,
}

impl<'p> Opens<'p> {
    fn of(file: &'p Path) -> Self {
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        add_watch(&queue, file, WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::CLOSE_NOWRITE).unwrap();
        Self { file, queue }
    }

    fn count(&self) -> usize {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut count = 0;
        while let Ok(event) = reader.next() {
            count += usize::from(event.events().contains(ReadFlags::OPEN));
        }
        count
    }
}

fn each_opened_once(files: &[&Path], words: &[&str]) -> Value {
    let watched: Vec<Opens<'_>> = files.iter().map(|file| Opens::of(file)).collect();
    let (exit, answer) = cli(words);
    assert_eq!(exit, 0, "{answer}");
    for opens in &watched {
        assert_eq!(opens.count(), 1, "{}", opens.file.display());
    }
    answer
}

#[test]
fn attest_kit_build_disclose_and_reconcile_open_each_file_that_they_judge_once() {
    let recording = Recording::new(true);
    let Recording { bundle, scratch, key, .. } = &recording;
    let trust = recording.trust();
    let (custodian, public) = custodian(scratch, "ada", 61);
    let act = ["custody", "add", path(bundle), "--key", path(&custodian), "--actor", "ada"];
    let (exit, answer) = cli(&[&act[..], &["--action", "moved", "--from", "a", "--to", "b"]].concat());
    assert_eq!(exit, 0, "{answer}");
    let list = list_of(bundle);
    let framework = scratch.write("f.toml", include_str!("../../policies/frameworks/pci-dss-4.0.1.toml"));
    let out = scratch.join("pci");
    let of = ["--bundle", path(bundle), "--trust", path(&trust), "--custody", path(&list)];

    let attest = ["attest", "--framework", path(&framework), "--key", path(key), "--out", path(&out)];
    let judged = [bundle, &trust, &list, &framework, &public].map(|file| file.as_path());
    each_opened_once(&judged, &[&attest[..], &of, &["--custodian", path(&public)]].concat());

    let (statement, kit) = (out.join("attestation.json"), scratch.join("a.kit.zip"));
    let build = ["kit", "build", "--attestation", path(&out), "--framework", path(&framework)];
    let more = ["--key", path(key), "--out", path(&kit)];
    let judged = [bundle, &trust, &list, &framework, &statement].map(|file| file.as_path());
    each_opened_once(&judged, &[&build[..], &of, &more].concat());

    let keys = recording.world.journal().join("keys");
    let opened = scratch.join("run.key");
    let disclose = ["keys", "disclose", path(bundle), "--scope", "run", "--dir", path(&keys)];
    each_opened_once(&[bundle], &[&disclose[..], &["--out", path(&opened)]].concat());

    let log = scratch.write("log.json", r#"{"object":"page","data":[]}"#);
    let reconcile = ["reconcile", "--provider-log", path(&log), "--format", "openai"];
    each_opened_once(&[bundle, &trust], &[&reconcile[..], &of[..4]].concat());
}
