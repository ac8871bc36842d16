//! A full disk and a folder that cannot be written: 503 with the reason, and nothing unrecorded goes upstream.

use std::path::Path;
use std::process::Command;

use estoppel_kit::{Scratch, require_real_with, until};
use estoppel_stub::{Script, Stub};

use crate::support::{PATIENCE, Setup, World, chat, cli, path};

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;

/// A file system of its own, gone when dropped.
struct Mount {
    at: std::path::PathBuf,
}

impl Mount {
    /// A RAM file system of `mib` MiB; needs root, as CI has.
    fn tmpfs(at: &Path, mib: u32) -> Option<Self> {
        require_real_with("a tmpfs mount (root)", || {
            std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
            let done = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none", path(at)])
                .output()
                .map_err(|error| error.to_string())?;
            if done.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&done.stderr).into_owned())
            }
        })?;
        Some(Self { at: at.to_path_buf() })
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{options}"), path(&self.at)])
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", path(&self.at)]).status();
    }
}

fn world_on(scratch: &Scratch, mib: u32) -> Option<(Mount, World)> {
    let at = scratch.join("disk");
    let mount = Mount::tmpfs(&at, mib)?;
    let setup = Setup { journal: "segment_mib = 4\n".into(), ..Setup::default() };
    let mut world = World::with(Script::model(), &setup);
    world.stop();
    let config = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(path(&world.journal()), path(&at.join("journal")));
    std::fs::write(&config, text).unwrap();
    world.restart();
    Some((mount, world))
}

#[test]
fn a_full_disk_refuses_calls_before_anything_goes_unrecorded_and_goes_on_when_there_is_room() {
    let scratch = Scratch::new("full");
    let Some((mount, mut world)) = world_on(&scratch, 14) else { return };
    let filler = mount.at.join("filler");
    std::fs::write(&filler, vec![1; 3 << 20]).unwrap();
    let (mut ok, mut refused, mut code) = (0u64, 0u64, String::new());
    for _ in 0..30_000 {
        let answer = world.send(&chat("full", HELLO));
        match answer.status() {
            200 => ok += 1,
            503 => {
                refused += 1;
                code = answer.text();
                if refused == 20 {
                    break;
                }
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(refused, 20, "the disk never became full: {ok} calls");
    assert!(code.contains("EVIDENCE_F"), "{code}");
    let ready = estoppel_kit::http::get(world.admin, "/readyz").unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().contains("DISK_FULL") || ready.text().contains("EVIDENCE"), "{}", ready.text());
    assert_eq!(world.upstream.hits().total(), ok, "what was refused never went upstream");
    std::fs::remove_file(&filler).unwrap();
    until("room is found again", PATIENCE, || {
        (world.send(&chat("full", HELLO)).status() == 200).then_some(())
    });
    world.stop();
    let (code, report) = cli(&["verify", path(&mount.at.join("journal"))]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["data"]["counters"]["calls"].as_u64(), Some(world.upstream.hits().total()));
    println!(
        "full disk: {ok} calls recorded, {refused} refused with 503, {} upstream",
        world.upstream.hits().total()
    );
    drop(world);
    drop(mount);
}

#[test]
fn a_journal_that_cannot_be_written_does_not_start() {
    let scratch = Scratch::new("read-only");
    let at = scratch.join("disk");
    let Some(mount) = Mount::tmpfs(&at, 16) else { return };
    mount.remount("ro");
    let stub = Stub::spawn_thread(Script::model()).unwrap();
    crate::support::write_config(&scratch, stub.addr(), &Setup::default());
    let done = Command::new(crate::support::daemon_binary())
        .args(["--config", path(&scratch.join("estoppeld.toml"))])
        .args(["--set", &format!("journal.dir={}", path(&at.join("journal")))])
        .args(["--set", &format!("keys.dir={}", path(&scratch.join("keys")))])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success());
    assert!(said.contains("DIRECTORY_READ_ONLY"), "{said}");
}
