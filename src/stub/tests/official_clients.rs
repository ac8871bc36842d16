//! The official OpenAI and Anthropic clients, unmodified, against `Script::model()`.
//!
//! `official_clients.py` holds the claims; it runs with the Python of `.venv` (which `make setup` fills), or
//! with the one in `PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::{require_real, require_real_with};
use estoppel_stub::{Script, Stub};

fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    if own.is_file() { Some(own) } else { require_real("python3") }
}

#[test]
fn the_official_clients_accept_every_answer_of_the_model() {
    let Some(python) = python() else { return };
    let imported = || {
        let tried = Command::new(&python).args(["-c", "import anthropic, openai"]).output();
        let tried = tried.map_err(|error| error.to_string())?;
        let why = String::from_utf8_lossy(&tried.stderr).lines().last().unwrap_or_default().to_owned();
        tried.status.success().then_some(()).ok_or(why)
    };
    if require_real_with("the Python packages openai and anthropic", imported).is_none() {
        return;
    }
    let stub = Stub::spawn_thread(Script::model()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_clients.py");
    let run = Command::new(&python).arg(script).arg(format!("http://{}", stub.addr())).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(stub.hits().refused(), 0, "the clients sent nothing that the stub could not read");
    assert_eq!(stub.hits().count("/v1/chat/completions"), 5);
}
