//! The dashboard on a terminal and without one: what is shown, what is done from it, and that the terminal is given back.

use std::path::Path;
use std::process::Command;

use estoppel_kit::{Terminal, until};
use estoppel_stub::{Reply, Script};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::holds::{People, policy};
use crate::releases::Repository;
use crate::support::{PATIENCE, Setup, World, cli, cli_binary, path};

fn dashboard(repository: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(cli_binary());
    command.args(["dashboard", "--repo", path(repository)]).args(more);
    for name in ["ESTOPPEL_ADMIN", "ESTOPPEL_RELEASE_KEY", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

fn on_a_terminal(repository: &Path, more: &[&str]) -> Terminal {
    Terminal::start(dashboard(repository, more), 100, 30)
}

/// What it prints without a terminal.
fn printed(repository: &Path, more: &[&str]) -> (i32, String) {
    let done = dashboard(repository, more).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
}

/// What a program wrote at its end may still be on its way to the screen.
#[track_caller]
fn given_back(terminal: &Terminal) {
    until("the terminal is given back", PATIENCE, || terminal.is_given_back().then_some(()));
}

fn verify_tag(repository: &Path, tag: &str) -> i32 {
    let mut command = Command::new(cli_binary());
    command.args(["verify", "tag", tag]).current_dir(repository);
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn p_and_yes_promote_a_proven_generation() {
    let repository = Repository::new("dashboard-promote");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.0.0").0, 0);
    let key = repository.key("owner");
    let mut terminal = on_a_terminal(&repository.dir, &["--key", path(&key)]);
    terminal.wait_for("1/1", PATIENCE);
    terminal.press("p");
    terminal.wait_for("candidate v1.0.0-rc.1 becomes v1.0.0", PATIENCE);
    terminal.press("n");
    terminal.wait_for("nothing was done", PATIENCE);
    assert_eq!(repository.events("promotion.started"), 0);
    terminal.press("p");
    terminal.wait_for("yes", PATIENCE);
    terminal.press("y");
    terminal.wait_for("promotion of 1.0.0: done, exit code 0", PATIENCE);
    terminal.press("q2");
    terminal.wait_for("promoted as v1.0.0", PATIENCE);
    assert_eq!((verify_tag(&repository.dir, "v1.0.0"), repository.events("promotion.finished")), (0, 1));
    terminal.press("q");
    assert!(terminal.wait_exit(PATIENCE).success());
    given_back(&terminal);
}

#[test]
fn a_refusal_is_shown_with_its_code_and_its_gates_and_an_evolution_as_it_runs() {
    let repository = Repository::new("dashboard-refused");
    let release = repository.scratch.join("go");
    let run =
        format!("echo waiting for it; until test -e {}; do sleep 0.05; done; exit 1", release.display());
    repository.seal("1.0.0", &run, &json!({}), &json!({}));
    let key = repository.key("owner");
    let mut terminal = on_a_terminal(&repository.dir, &["--key", path(&key)]);
    terminal.wait_for("0/1", PATIENCE);
    terminal.press("s");
    let head = repository.commit_now();
    terminal.wait_for(&head[..20], PATIENCE);
    terminal.press("y");
    terminal.wait_for("waiting for it", PATIENCE);
    terminal.wait_for("running unit", PATIENCE);
    let seen = printed(&repository.dir, &["--view", "run", "--json"]).1;
    let seen: Value = serde_json::from_str(&seen).unwrap();
    let running = &seen["data"]["releases"]["value"]["generations"][0]["running"][0];
    assert_eq!(
        (&running["at"], &running["steps"][0]["state"]),
        (&json!("here"), &json!("running")),
        "{running}"
    );
    std::fs::write(&release, "").unwrap();
    terminal.wait_for("evolution of 1.0.0: refused, exit code 3", PATIENCE);
    terminal.press("q1p");
    terminal.wait_for("has no candidate yet", PATIENCE);
    assert_eq!(repository.sign("owner", &["promote", "1.0.0"]).0, 3);
    terminal.wait_for("promotion refused by", PATIENCE);
    terminal.press("2l");
    terminal.wait_for("choose an evolution", PATIENCE);
    terminal.press("jl");
    terminal.wait_for("logs of", PATIENCE);
    terminal.wait_for("waiting for it", PATIENCE);
}

#[test]
fn an_evolution_whose_program_was_killed_is_not_shown_as_running() {
    let repository = Repository::new("dashboard-cut");
    repository.seal("1.0.0", "exec sleep 600", &json!({}), &json!({}));
    let mut command = Command::new(cli_binary());
    command.args(["evolution", "start", "1.0.0", "--all", "--repo", path(&repository.dir)]);
    let mut runner = command.arg("--key").arg(repository.key("owner")).spawn().unwrap();
    let at = || {
        let seen: Value = serde_json::from_str(&printed(&repository.dir, &["--json"]).1).unwrap();
        seen["data"]["releases"]["value"]["generations"][0]["running"][0]["at"]
            .as_str()
            .map(ToOwned::to_owned)
    };
    until("it runs here", PATIENCE, || (at().as_deref() == Some("here")).then_some(()));
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert_eq!(at().as_deref(), Some("cut_off"));
    for view in ["releases", "evolutions", "run"] {
        let (_, lines) = printed(&repository.dir, &["--view", view]);
        assert!(lines.contains("cut off") && !lines.contains("running"), "{view}: {lines}");
    }
}

#[test]
fn e_seals_a_draft_as_it_was_shown_and_w_waives_a_gate_with_its_reason() {
    let repository = Repository::new("dashboard-seal");
    let file = ".estoppel/generations/v1.0.0.yaml";
    let draft = |title: &str| {
        json!({
            "generation": 1, "version": "1.0.0", "description": "Invoices", "author": { "name": "Cem" },
            "changes": [
                { "id": "PAY-001", "type": "fix", "title": title },
                { "id": "PAY-002", "type": "add", "title": "Pay by card" },
            ],
            "steps": [
                { "id": "unit", "kind": "unit", "run": ["true"], "proves": "all" },
            ],
            "gates": { "approvals": { "count": 1 }, "min_evolutions": { "count": 3 } },
        })
        .to_string()
    };
    repository.commit(&[(file, &draft("Round as banks do"))]);
    let key = repository.key("owner");
    let mut terminal = on_a_terminal(&repository.dir, &["--key", path(&key)]);
    terminal.wait_for("draft", PATIENCE);
    terminal.press("e");
    terminal.wait_for("fix PAY-001 Round as banks do", PATIENCE);
    // Somebody else is quicker: what is sealed is what was shown, or nothing.
    repository.commit(&[(file, &draft("Round up"))]);
    terminal.press("y");
    terminal.wait_for("STATE_INVALID", PATIENCE);
    assert_eq!(repository.events("generation.sealed"), 0);
    terminal.press("q");
    terminal.wait_for("Round up", PATIENCE);
    terminal.press("e");
    terminal.wait_for("fix PAY-001 Round up", PATIENCE);
    terminal.press("y");
    terminal.wait_for("seal of 1.0.0: done, exit code 0", PATIENCE);
    assert_eq!(repository.events("generation.sealed"), 1);

    assert_eq!(repository.evolve("1.0.0").0, 0);
    assert_eq!(repository.sign("owner", &["promote", "1.0.0"]).0, 3);
    terminal.press("qq");
    assert!(terminal.wait_exit(PATIENCE).success());
    // Not by whoever sealed it.
    let mut terminal = on_a_terminal(&repository.dir, &["--key", path(&repository.key("other"))]);
    terminal.wait_for("min_evolutions", PATIENCE);
    terminal.press("w");
    let form = terminal.wait_for("waiver for 1.0.0", PATIENCE);
    assert!(!form.contains("← → 1 of"), "approvals cannot be waived: {form}");
    terminal.press("\t");
    terminal.press("the first one");
    terminal.press("\t");
    terminal.press("\u{7f}\u{7f}12\r");
    let asked = terminal.wait_for("Why it is waived: the first one", PATIENCE);
    assert!(asked.contains("For 12 hours") && asked.contains("min_evolutions"), "{asked}");
    assert_eq!(repository.events("approval.waiver"), 0);
    terminal.press("y");
    terminal.wait_for("waiver of min_evolutions for 1.0.0: done, exit code 0", PATIENCE);
    let shown = repository.ask(&["ledger", "show", "--local"]).1;
    let events = shown["data"]["events"].as_array().unwrap().clone();
    let waived = events.last().unwrap().to_string();
    assert!(waived.contains("min_evolutions") && waived.contains("the first one"), "{waived}");
    repository.done("other", &["approve", "1.0.0"]);
    assert_eq!(repository.sign("other", &["promote", "1.0.0"]).0, 0);
}

#[test]
fn a_blocked_call_is_shown_with_its_code_and_its_run_is_sealed() {
    let rule = "- { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
    let policy = format!("{}rules:\n{rule}", crate::support::OPEN);
    let world = World::with(Script::model(), &Setup { policy, ..Setup::default() });
    let body = json!({
        "model": "m", "messages": [{ "role": "user", "content": "hi" }],
        "tools": [{ "type": "function", "function": { "name": "shell" } }],
    });
    let answer = world.send(&crate::support::chat("nightly", &body.to_string()));
    let call = answer.header("estoppel-call").unwrap().to_owned();
    world.wait_until_idle();
    let repository = Repository::new("dashboard-blocked");
    let admin = world.admin.to_string();
    let seen: Value = serde_json::from_str(
        &printed(&repository.dir, &["--view", "gateway", "--admin", &admin, "--json"]).1,
    )
    .unwrap();
    let row = &seen["data"]["gateways"][0]["value"]["recent"]["calls"][0];
    assert_eq!(
        (&row["call"], &row["reason"], &row["rule"]),
        (&json!(call), &json!("TOOL_DENIED"), &json!("no-shell"))
    );
    let (_, lines) = printed(&repository.dir, &["--view", "gateway", "--admin", &admin, "--plain"]);
    assert!(lines.contains("TOOL_DENIED: a policy rule blocks this tool"), "{lines}");
    let mut terminal = on_a_terminal(&repository.dir, &["--view", "gateway", "--admin", &admin]);
    terminal.wait_for("TOOL_DENIED", PATIENCE);
    terminal.press("j");
    terminal.wait_for(&call, PATIENCE);
    terminal.press("e");
    terminal.wait_for("it takes no more calls", PATIENCE);
    terminal.press("y");
    terminal.wait_for("exit code 0", PATIENCE);
    let runs = cli(&["run", "list", "--admin", &admin]).1;
    let runs = runs["data"]["runs"].as_array().unwrap().clone();
    let sealed = runs.iter().find(|run| run["name"] == "nightly").unwrap();
    assert_eq!(sealed["state"], "sealed", "{sealed}");
    let bundle = world.journal().join("bundles").join(format!("{}.pef.zip", row["run"].as_str().unwrap()));
    let (exit, shown) = cli(&["show", path(&bundle), "--call", &call]);
    assert_eq!(exit, 0, "{shown}");
}

#[test]
fn forty_columns_and_ten_rows_are_enough_to_see_what_is_the_matter() {
    let repository = Repository::new("dashboard-small");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let mut terminal = Terminal::start(dashboard(&repository.dir, &[]), 40, 10);
    let screen = terminal.wait_for("estoppel evolution start", PATIENCE);
    assert!(screen.contains("> 1.0.0") && screen.contains("sealed") && screen.contains("0/1"), "{screen}");
    terminal.press("s");
    let screen = terminal.wait_for("ESTOPPEL_RELEASE_KEY", PATIENCE);
    assert!(screen.contains("no key signs here"), "{screen}");
    terminal.press("?");
    terminal.wait_for("another view", PATIENCE);
    terminal.press("G");
    terminal.wait_for("ask first", PATIENCE);
}

#[test]
fn a_held_call_is_approved_and_another_one_denied() {
    let policy = policy("approvers: [ada, cem], needs: 1", "");
    let world =
        World::with(Script::always(Reply::json(r#"{"done":true}"#)), &Setup { policy, ..Setup::default() });
    let people = People::new(&world);
    let repository = Repository::new("dashboard-held");
    let (key, admin) = (people.key("ada"), world.admin.to_string());
    let first = crate::holds::held(&world, r#"{"amount":90000,"to":"ACME"}"#);
    let mut terminal = on_a_terminal(
        &repository.dir,
        &["--view", "gateway", "--admin", &admin, "--approver-key", path(&key)],
    );
    terminal.wait_for("POST /transfers", PATIENCE);
    terminal.press("ja");
    let asked = terminal.wait_for("this one call may pass", PATIENCE);
    assert!(asked.contains(&first) && asked.contains("POST /transfers"), "{asked}");
    terminal.press("y");
    terminal.wait_for("decision on hold", PATIENCE);
    terminal.wait_for("exit code 0", PATIENCE);
    let state = |hold: &str| cli(&["hold", "show", hold, "--admin", &admin]).1["data"]["state"].clone();
    assert_eq!(state(&first), "approved");
    terminal.press("q");
    let second = crate::holds::held(&world, r#"{"amount":80000,"to":"ACME"}"#);
    until("both are shown", PATIENCE, || (terminal.screen().matches("waits").count() >= 2).then_some(()));
    terminal.press("gjj");
    terminal.wait_for(&second, PATIENCE);
    terminal.press("d");
    terminal.wait_for("may not pass", PATIENCE);
    terminal.press("y");
    until("it is denied", PATIENCE, || (state(&second) == "denied").then_some(()));
    terminal.wait_for("denied by ada", PATIENCE);
    terminal.press("q");
    drop(world);
    terminal.wait_for("silent", PATIENCE);
}

#[test]
fn the_terminal_is_given_back_whatever_ends_or_stops_it() {
    let repository = Repository::new("dashboard-ends");
    let begin = || {
        let terminal = on_a_terminal(&repository.dir, &[]);
        terminal.wait_for("no generations", PATIENCE);
        assert!(!terminal.is_given_back());
        terminal
    };
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut terminal = begin();
        terminal.signal(signal);
        assert!(terminal.wait_exit(PATIENCE).success(), "{signal:?}");
        given_back(&terminal);
    }
    let mut terminal = begin();
    terminal.hang_up();
    terminal.wait_exit(PATIENCE);

    let mut terminal = begin();
    terminal.press("\u{3}");
    assert!(terminal.wait_exit(PATIENCE).success());
    given_back(&terminal);

    let mut terminal = begin();
    for by_key in [true, false] {
        if by_key {
            terminal.press("\u{1a}")
        } else {
            terminal.signal(Signal::TSTP)
        }
        until("it stops", PATIENCE, || terminal.is_stopped().then_some(()));
        given_back(&terminal);
        terminal.signal(Signal::CONT);
        until("it is there again", PATIENCE, || (!terminal.is_given_back()).then_some(()));
        terminal.wait_for("no generations", PATIENCE);
    }
    terminal.resize(44, 12);
    until("it has another size", PATIENCE, || {
        let screen = terminal.screen();
        (screen.contains("no generations") && screen.lines().count() <= 12).then_some(())
    });
    // What is pasted is no key.
    terminal.press("\u{1b}[200~q\u{1b}[201~?");
    terminal.wait_for("another view", PATIENCE);
}

#[test]
fn without_a_terminal_it_prints_lines_or_json_and_never_a_colour() {
    let repository = Repository::new("dashboard-lines");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let (exit, lines) = printed(&repository.dir, &[]);
    assert_eq!(exit, 0);
    for text in
        ["== releases ==", "== gateway ==", "1.0.0", "0/1", "PAY-001", "no gateway is named", "--admin"]
    {
        assert!(lines.contains(text), "{text}: {lines}");
    }
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = Command::new("env");
        command.arg(format!("{name}={value}")).arg(cli_binary());
        command.args(["dashboard", "--repo", path(&repository.dir)]);
        let mut terminal = Terminal::start(command, 100, 60);
        assert!(terminal.wait_exit(PATIENCE).success());
        terminal.wait_for("== gateway ==", PATIENCE);
        given_back(&terminal);
    }
    for more in [&["--json"][..], &["--plain"], &["--snapshot", "80x24"], &["--view", "evolutions"]] {
        let mut command = dashboard(&repository.dir, more);
        command.env("CLICOLOR_FORCE", "1");
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(text.len() > 60 && !text.contains('\u{1b}'), "{more:?}: {text}");
    }
    let (exit, frame) = printed(&repository.dir, &["--snapshot", "80x24"]);
    assert_eq!((exit, frame.lines().count()), (0, 24));
    assert!(frame.lines().all(|line| line.chars().count() <= 80) && frame.contains("> 1.0.0"), "{frame}");
    let snapshot: Value =
        serde_json::from_str(&printed(&repository.dir, &["--snapshot", "80x24", "--json"]).1).unwrap();
    assert_eq!(snapshot["data"]["frame"].as_array().unwrap().len(), 24);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let repository = Repository::new("dashboard-colours");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let status = |more: &[&str], no_colour: &str| {
        let mut command = Command::new("env");
        command.arg(format!("NO_COLOR={no_colour}")).arg(cli_binary());
        command.args(["status", "--repo", path(&repository.dir)]).args(more);
        let mut terminal = Terminal::start(command, 200, 30);
        terminal.wait_for("1.0.0", PATIENCE);
        assert!(terminal.wait_exit(PATIENCE).success());
        terminal.is_coloured()
    };
    assert!(status(&[], ""), "an empty value wants colours");
    assert!(!status(&[], "1"));
    assert!(!status(&["--json"], ""));
}

#[test]
fn what_cannot_be_read_is_told_in_its_place_and_by_the_exit_code() {
    let scratch = estoppel_kit::Scratch::new("dashboard-nothing");
    let folder = scratch.join("empty");
    std::fs::create_dir_all(&folder).unwrap();
    let (exit, lines) = printed(&folder, &["--view", "releases"]);
    assert_eq!(exit, 6, "{lines}");
    assert!(lines.contains("NOT_A_REPOSITORY"), "{lines}");
    // Nothing listens on a port that was just given back.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (exit, lines) = printed(&folder, &["--view", "gateway", "--admin", &gone]);
    assert_eq!(exit, 7, "{lines}");
    assert!(lines.contains("ADMIN_UNREACHABLE"), "{lines}");
    let repository = Repository::new("dashboard-unknown");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let (exit, answer) = cli(&["dashboard", "--repo", path(&repository.dir), "--generation", "9.9.9"]);
    assert_eq!((exit, &answer["error"]["code"]), (6, &json!("GENERATION_UNKNOWN")));
    for size in ["80", "80x", "1x1", "9999x24", "80x24x2"] {
        let (exit, answer) = cli(&["dashboard", "--repo", path(&repository.dir), "--snapshot", size]);
        assert_eq!((exit, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{size}");
    }
}

#[test]
fn a_gateway_that_never_answers_does_not_keep_the_screen_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = silent.local_addr().unwrap().to_string();
    let repository = Repository::new("dashboard-silent");
    let mut terminal = on_a_terminal(&repository.dir, &["--admin", &admin]);
    terminal.wait_for("no generations", PATIENCE);
    terminal.press("4");
    terminal.wait_for("is being asked", PATIENCE);
    terminal.press("1");
    terminal.wait_for("no generations", PATIENCE);
    terminal.press("q");
    assert!(terminal.wait_exit(PATIENCE).success());
    given_back(&terminal);
}
