//! As the container runs it: not root, no capability, a root file system that cannot be written.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use estoppel_kit::{Process, Scratch, require_real_with};
use estoppel_stub::{Script, Stub};
use serde_json::Value;

use crate::support::{PATIENCE, Setup, chat, cli, daemon_binary, path, write_config};

const USER: u32 = 65532;
/// `$0` is the only folder that stays writable; `$1` a file that must not come to be; then the program.
const CONFINE: &str = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro / && ! touch "$1" 2>/dev/null && shift &&
    exec setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set=-all "$@""#;

fn namespaces() -> Option<()> {
    require_real_with("mount namespaces (root)", || {
        let done = Command::new("unshare").args(["--mount", "mount", "-o", "remount,bind,ro", "/"]).output();
        let done = done.map_err(|error| error.to_string())?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    })
}

#[test]
fn calls_are_recorded_without_root_and_with_only_the_state_folder_writable() {
    let Some(()) = namespaces() else { return };
    let scratch = Scratch::new("confined");
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = scratch.join("journal");
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(USER), Some(USER)).unwrap();
    let upstream = Stub::spawn_thread(Script::model()).unwrap();
    let config = write_config(&scratch, upstream.addr(), &Setup::default());
    let ready = state.join("ready.json");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", CONFINE, path(&state)]);
    command.args([path(&scratch.join("outside")), daemon_binary(), "--config", path(&config)]);
    command.args(["--ready-file", path(&ready)]);
    let mut daemon = Process::start("estoppeld", command, &scratch);
    let text = daemon.wait_ready(PATIENCE, |_| std::fs::read(&ready).ok());
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    assert!(
        status.contains("Uid:\t65532\t65532\t65532\t65532") && status.contains("CapEff:\t0000000000000000"),
        "{status}"
    );

    let started: Value = serde_json::from_slice(&text).unwrap();
    let gateway = started["listeners"]["main"].as_str().unwrap().parse().unwrap();
    let ask = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(estoppel_kit::http::send(gateway, &chat("confined", ask)).unwrap().status(), 200);
    let sealed = cli(&["seal", "confined", "--admin", started["admin"].as_str().unwrap()]);
    assert_eq!(sealed.0, 0, "{}", sealed.1);
    assert_eq!(cli(&["verify", sealed.1["data"]["path"].as_str().unwrap()]).0, 0);
    daemon.terminate();
    assert_eq!(daemon.wait_exit(PATIENCE), estoppel_kit::Exit::Code(0), "{}", daemon.stderr());
}
