use std::collections::BTreeMap;
use std::path::Path;

use estoppel_evidence::time::UnixMicros;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::deeds::{Deed, Hands, Outcome};
use super::frame;
use super::keys::{Desk, Over, Wish};
use super::model::*;
use super::view::{self, VIEWS};
use crate::arguments::{Size, View};
use crate::output::plain;

/// 2026-11-22 06:30:00 UTC.
const NOW: UnixMicros = UnixMicros(1_795_329_000_000_000);
const CONTRACT: &str = "sha256:5a0c000000000000000000000000000000000000000000000000000000000000";
const COMMIT: &str = "3f1c0de4b8a7965142d0e8c7b6a5948372615040";

fn before(minutes: u64) -> UnixMicros {
    UnixMicros(NOW.0 - minutes * 60_000_000)
}

fn happened(minutes: u64, kind: &'static str, by: &str, says: &str) -> Happened {
    let commit = (!kind.starts_with("generation")).then_some(COMMIT).map(ToOwned::to_owned);
    Happened {
        at: before(minutes),
        kind,
        by: by.into(),
        says: says.into(),
        commit,
        evolution: None,
        gates: Vec::new(),
    }
}

fn step(id: &str, state: &'static str, duration_ms: Option<u64>) -> Step {
    Step { id: id.into(), state, duration_ms, exit: (state == "failed").then_some(1) }
}

fn change(id: &str, kind: &str, title: &str, proven: bool) -> Change {
    Change { id: id.into(), kind: kind.into(), title: title.into(), proven }
}

fn generation(version: &str, status: &'static str) -> Generation {
    Generation {
        version: version.parse().unwrap(),
        status,
        contract: Some(CONTRACT.into()),
        broken: None,
        changes: vec![change("PAY-001", "fix", "Round as banks do", true)],
        proven: 1,
        tag: Some(format!("v{version}")),
        passed: 2,
        failed: 0,
        gates: Vec::new(),
        waivable: Vec::new(),
        timeline: vec![happened(3_000, "promotion.finished", "Bert", &format!("promoted as v{version}"))],
        running: Vec::new(),
        stage: None,
        next_stage: None,
        environments: Vec::new(),
        next: None,
    }
}

fn gate(name: &str, state: &str, why: &str) -> Gate {
    Gate { gate: name.into(), state: state.into(), why: why.into() }
}

fn sealed() -> Generation {
    let gates = vec![
        gate("contract_sealed", "pass", "sha256:5a0c…"),
        gate("all_changes_proven", "fail", "PAY-002 is unproven"),
        gate("no_failed", "fail", "the latest evolution of PAY-002 failed"),
        gate("min_evolutions", "missing", "1 of 2 evolutions passed"),
        gate("approvals", "missing", "0 of 1, none of them an author"),
    ];
    let waivable = gates[2..4].to_vec();
    let run = |id: &str, result, steps| Evolution {
        id: id.into(),
        result,
        changes: vec!["PAY-002".into()],
        steps,
        why: None,
    };
    let failed = run(
        "01KB9T2M5H000000000000000A",
        "FAILED",
        vec![step("unit", "passed", Some(840)), step("e2e", "failed", Some(93_000))],
    );
    let refused = Happened {
        gates: gates.clone(),
        ..happened(
            20,
            "promotion.refused",
            "Ada",
            "promotion refused by all_changes_proven, no_failed, min_evolutions, approvals",
        )
    };
    let timeline = vec![
        happened(2, "evolution.started", "Ada", "evolution open: PAY-002"),
        refused,
        Happened { evolution: Some(failed), ..happened(31, "evolution.finished", "Ada", "evolution failed") },
        happened(90, "generation.sealed", "Ada", "sealed, 3 changes"),
    ];
    let timeline = timeline.into_iter().enumerate();
    let open = run("01KB9V8Q0C000000000000000B", "OPEN", Vec::new());
    let timeline = timeline
        .map(|(at, row)| if at == 0 { Happened { evolution: Some(open.clone()), ..row } } else { row });
    Generation {
        changes: vec![
            change("PAY-001", "fix", "Round as banks do", true),
            change("PAY-002", "add", "Pay by \u{1b}[2J\u{1b}]0;card\u{7} \u{202e}drac", false),
            change("PAY-003", "remove", "請求書の古い書式", true),
        ],
        proven: 2,
        tag: Some("v1.3.0-rc.2".into()),
        passed: 4,
        failed: 1,
        gates,
        waivable,
        timeline: timeline.collect(),
        running: vec![Running {
            evolution: "01KB9V8Q0C000000000000000B".into(),
            version: "1.3.0".parse().unwrap(),
            since: before(2),
            by: "Ada".into(),
            commit: COMMIT.into(),
            changes: vec!["PAY-002".into()],
            at: Whereabouts::Here,
            steps: vec![
                step("unit", "passed", Some(812)),
                step("e2e", "running", None),
                step("load", "wanted", None),
            ],
            log: Some(Log {
                step: "e2e".into(),
                lines: vec!["starting".into(), "\u{1b}[31mred\u{1b}[0m \r\u{9b}2J 41 of 97".into()],
            }),
        }],
        next: Some("estoppel evolution start 1.3.0 --change PAY-002".into()),
        ..generation("1.3.0", "sealed")
    }
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn hold() -> Hold {
    Hold {
        id: "01980000-0000-7000-8000-000000000000".into(),
        run: "01980000-0000-7000-8000-00000000a001".into(),
        state: "open".into(),
        method: "POST".into(),
        target: Some("/transfers?to=\u{1b}[8mACME".into()),
        content_type: Some("application/json".into()),
        credential: Some(true),
        body: Some("{\"amount\":90000,\"to\":\"ACME\"}\u{1b}[2J".into()),
        route: "bank".into(),
        operation: None,
        tool: None,
        requester: Some("agent.test".into()),
        rule: "large-transfer".into(),
        payload: "hmac-sha256:77aa".into(),
        bytes: 28,
        approved: 1,
        needs: 2,
        expires: "2026-11-22T06:45:00.000000Z".into(),
        approvers: vec!["ada (approved)".into(), "cem".into()],
    }
}

fn call(number: u8, verdict: &str, code: &str) -> Call {
    Call {
        call: format!("01980000-0000-7000-8000-0000000000{number:02}"),
        run: "01980000-0000-7000-8000-00000000a001".into(),
        ended: format!("2026-11-22T06:29:{number:02}.000000Z"),
        route: Some("model".into()),
        method: "POST".into(),
        operation: "chat.completions".into(),
        verdict: verdict.into(),
        code: code.into(),
        reason: Some(code.into()),
        rule: Some("no-shell".into()),
        identity: Some("agent.test".into()),
        ..Call::default()
    }
}

fn recent() -> Recent {
    let would = Would {
        policy: CONTRACT.into(),
        verdict: "block".into(),
        reason: Some("MODEL_DENIED".into()),
        rule: Some("no-large".into()),
    };
    let tool = Some("shell\u{1b}[2J".into());
    Recent {
        since: "2026-11-21T04:00:00.000000Z".into(),
        counted: counts(&[("allow", 40), ("repair", 31), ("hold", 2), ("block", 17)]),
        calls: vec![
            Call { tool, ..call(41, "block", "TOOL_DENIED") },
            Call { code: "POLICY_BLOCK".into(), reason: Some("NO_TRADES".into()), ..call(33, "block", "") },
            Call { would: Some(would), reason: None, rule: None, ..call(20, "allow", "OK") },
            Call { reason: None, rule: None, ..call(12, "repair", "OK") },
        ],
    }
}

fn model() -> Model {
    let traffic = Traffic {
        ready: "ok".into(),
        version: "0.1.0".into(),
        verdicts: counts(&[("allow", 1204), ("repair", 31), ("hold", 2), ("block", 17)]),
        outcomes: counts(&[("OK", 1204), ("TOOL_DENIED", 15), ("SECRET_FOUND", 2), ("APPROVAL_REQUIRED", 2)]),
        refused: counts(&[("RUNS_MAX", 4)]),
        in_flight: 3,
        runs_open: 5,
        lately: Some(Lately {
            window_ms: 60_000,
            verdicts: counts(&[("allow", 88), ("block", 2)]),
            outcomes: counts(&[("OK", 88), ("SECRET_FOUND", 2)]),
            refused: BTreeMap::new(),
        }),
        holds: vec![hold()],
        switches: vec!["tool:transfer by ada: drill".into()],
        recent: Some(recent()),
    };
    let at = |seconds: u64| Some(UnixMicros(NOW.0 - seconds * 1_000_000));
    let silent = Fault {
        code: "ADMIN_UNREACHABLE".into(),
        message: "no daemon answers at 10.0.0.9:9464: timed out".into(),
        exit: 7,
    };
    let draft = Generation {
        tag: None,
        changes: vec![change("PAY-004", "add", "Pay in \u{1b}[2Jparts", false)],
        proven: 0,
        passed: 0,
        timeline: Vec::new(),
        next: Some("estoppel generation seal 1.4.0".into()),
        ..generation("1.4.0", "draft")
    };
    let releases = Releases {
        commit: Some(COMMIT.into()),
        generations: vec![
            draft,
            sealed(),
            generation("1.2.0", "promoted"),
            generation("1.1.0", "rolled_back"),
        ],
        head: Some("sha256:00".into()),
        is_trusted: true,
        top: "/home/ada/pay".into(),
    };
    Model {
        releases: Seen { value: Some(releases), at: at(0), fault: None },
        gateways: vec![
            Gateway {
                admin: "127.0.0.1:9464".into(),
                seen: Seen { value: Some(traffic.clone()), at: at(1), fault: None },
            },
            Gateway {
                admin: "10.0.0.9:9464".into(),
                seen: Seen {
                    value: Some(Traffic { holds: Vec::new(), recent: None, ..traffic }),
                    at: at(43),
                    fault: Some(silent),
                },
            },
        ],
    }
}

fn hands() -> Hands {
    Hands {
        repo: "/home/ada/pay".into(),
        is_local: false,
        key: Some("ada.pem".into()),
        approver_key: Some("cem.pem".into()),
    }
}

fn press(desk: &mut Desk, model: &Model, keys: &str) -> Wish {
    let mut wish = Wish::Nothing;
    for key in keys.chars() {
        let code = match key {
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            '↵' => KeyCode::Enter,
            '⎋' => KeyCode::Esc,
            '→' => KeyCode::Right,
            '⇥' => KeyCode::Tab,
            '⌫' => KeyCode::Backspace,
            other => KeyCode::Char(other),
        };
        wish = desk.press(KeyEvent::new(code, KeyModifiers::NONE), model, &hands(), NOW);
    }
    wish
}

/// A desk on which `keys` were pressed.
fn desk(model: &Model, keys: &str) -> Desk {
    let mut desk = Desk::new(View::Releases, None);
    press(&mut desk, model, keys);
    desk
}

fn is_quiet(text: &str) -> bool {
    plain(text) == text
}

fn check_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sidecar/dashboard/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "UPDATE_GOLDEN=1 rewrites {name}");
}

#[test]
fn frames_are_as_somebody_has_looked_at_them() {
    let model = model();
    let shown = [
        ("releases", "↓"),
        ("evolutions", "↓2↓↓"),
        ("run", "3"),
        ("gateway", "4"),
        ("hold", "4↓"),
        ("call", "4↓↓"),
        ("help", "?"),
        ("promote", "↓p"),
        ("seal", "e"),
        ("waive", "↓w→⇥the race is lost"),
    ];
    for (name, keys) in shown {
        for (width, height) in [(40, 10), (80, 24), (120, 40)] {
            let lines = frame(&model, &mut desk(&model, keys), NOW, Size { width, height });
            check_golden(&format!("{name}-{width}x{height}.txt"), &(lines.join("\n") + "\n"));
        }
    }
    let lines: Vec<String> = VIEWS.iter().flat_map(|view| view::lines(*view, &model, None, NOW)).collect();
    check_golden("plain.txt", &(lines.join("\n") + "\n"));
}

#[test]
fn nothing_that_a_repository_or_a_gateway_says_reaches_the_terminal_as_a_command() {
    let model = model();
    for view in VIEWS {
        let lines = view::lines(view, &model, None, NOW);
        assert!(lines.iter().all(|line| is_quiet(line)), "{lines:?}");
    }
    for keys in ["↓", "↓↵", "2", "3", "3↵", "4", "4↓", "4↓↵", "4↓a", "4↓d", "4↓↓", "4↓↓↵", "4↓↓e", "e", "↓w"]
    {
        let lines = frame(&model, &mut desk(&model, keys), NOW, Size { width: 120, height: 40 });
        assert!(lines.iter().all(|line| is_quiet(line)), "{lines:?}");
    }
}

#[test]
fn every_size_is_drawn_with_and_without_anything_known() {
    for model in [model(), Model::default()] {
        for keys in ["", "↓", "2", "3", "4", "4↓", "4↓↓", "?", "↓p", "↓↵", "4↓a", "↓w", "e"]
        {
            for width in [1, 2, 7, 20, 40, 60, 200] {
                for height in [1, 2, 3, 5, 10, 14, 60] {
                    let lines = frame(&model, &mut desk(&model, keys), NOW, Size { width, height });
                    assert_eq!(lines.len(), usize::from(height));
                }
            }
        }
    }
}

#[test]
fn a_promotion_is_asked_about_and_is_of_the_candidate_that_is_shown() {
    let model = model();
    let mut desk = desk(&model, "↓p");
    let lines = frame(&model, &mut desk, NOW, Size { width: 80, height: 24 }).join("\n");
    assert!(lines.contains("candidate v1.3.0-rc.2 becomes v1.3.0"), "{lines}");
    for key in ["p", "↵", "Y", " "] {
        assert_eq!(press(&mut desk, &model, key), Wish::Nothing, "{key} is no yes");
        assert!(matches!(desk.over, Some(Over::Asked { .. })), "{key} is no no");
    }
    let Wish::Do(deed) = press(&mut desk, &model, "y") else { panic!("it is wished for") };
    let about = ["1.3.0", "--candidate", "v1.3.0-rc.2", "--contract", CONTRACT];
    let by = ["--repo", "/home/ada/pay", "--key", "ada.pem"];
    assert_eq!(deed.words, [&["promote"], &about[..], &by[..]].concat());
    let approved = hands().approve(&sealed()).unwrap();
    assert_eq!(approved.words, [&["approve"], &about[..], &["--hours", "24"], &by[..]].concat());
    assert!(approved.says.iter().any(|line| line.contains(CONTRACT)), "{:?}", approved.says);
    desk.begun(&deed);
    assert_eq!(press(&mut desk, &model, "py"), Wish::Nothing, "not twice at the same time");
    let about = self::desk(&model, "3p");
    assert!(
        matches!(&about.over, Some(Over::Asked { deed, .. }) if deed.words[1] == "1.3.0"),
        "of what is shown there"
    );
    for no in ["n", "⎋", "q"] {
        assert_eq!(press(&mut desk, &model, &format!("p{no}")), Wish::Nothing);
        assert!(desk.over.is_none());
    }
}

#[test]
fn a_promotion_goes_to_the_stage_that_is_next() {
    let staged = Generation {
        stage: Some("alpha as v1.4.0-alpha.1".into()),
        next_stage: Some("beta".into()),
        environments: vec!["qa".into()],
        ..sealed()
    };
    let lines: Vec<String> = view::releases::details(&staged).iter().map(ToString::to_string).collect();
    for told in ["alpha as v1.4.0-alpha.1", "qa"] {
        assert!(lines.iter().any(|line| line.trim_end().ends_with(told)), "{lines:#?}");
    }
    let deed = hands().promote(&staged).unwrap();
    assert!(deed.words.windows(2).any(|words| words == ["--stage", "beta"]), "{:?}", deed.words);
    assert!(deed.says[0].contains("comes to beta"), "{:?}", deed.says);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_asked() {
    let model = model();
    let nobody = Hands { key: None, approver_key: None, ..hands() };
    let said = |keys: &str, last: char, hands: &Hands| {
        let mut desk = desk(&model, keys);
        let wish = desk.press(KeyEvent::new(KeyCode::Char(last), KeyModifiers::NONE), &model, hands, NOW);
        assert_eq!((wish, desk.over.is_some()), (Wish::Nothing, false), "{keys}{last}");
        desk.said.map(|(_, text)| text).unwrap_or_default()
    };
    for key in ['s', 'p', 'a'] {
        assert!(said("↓", key, &nobody).contains("no key signs here"));
        assert!(said("", key, &hands()).contains("is a draft"), "{key}");
        assert_eq!(said("↓↓", key, &hands()), "1.2.0 is promoted");
    }
    assert!(said("4↓", 'a', &nobody).contains("no key decides here"));
    assert_eq!(said("4", 'd', &hands()), "choose a call that waits");
    assert_eq!(said("4↓↓", 'a', &hands()), "choose a call that waits");
    assert_eq!(said("4", 'e', &hands()), "choose a call, whose run is sealed");
    assert!(
        said("", 'e', &nobody).contains("no key signs here")
            && said("↓", 'w', &nobody).contains("no key signs here")
    );
    assert_eq!(
        (said("↓", 'e', &hands()), said("↓↓", 'w', &hands())),
        ("1.3.0 is sealed".into(), "1.2.0 is promoted".into())
    );
    assert!(said("↓2", 'l', &hands()).contains("has not ended"));
}

#[test]
fn an_evolution_is_started_on_the_commit_that_is_named_and_a_hold_decided_by_its_payload() {
    let model = model();
    let Wish::Do(start) = press(&mut desk(&model, "↓s"), &model, "y") else { panic!("it is wished for") };
    assert_eq!(start.words[..6], ["evolution", "start", "1.3.0", "--all", "--commit", COMMIT]);
    for (key, verb) in [('a', "approve"), ('d', "deny")] {
        let mut desk = desk(&model, &format!("4↓{key}"));
        let Wish::Do(deed) = press(&mut desk, &model, "y") else { panic!("it is wished for") };
        let hold = hold();
        let words = [
            "hold",
            verb,
            &hold.id,
            "--payload",
            &hold.payload,
            "--admin",
            "127.0.0.1:9464",
            "--key",
            "cem.pem",
        ];
        assert_eq!(deed.words, words);
    }
    let Wish::Do(logs) = press(&mut desk(&model, "↓2↓↓"), &model, "l") else {
        panic!("it is wished for")
    };
    assert_eq!(logs.words, ["evolution", "logs", "01KB9T2M5H000000000000000A", "--repo", "/home/ada/pay"]);
}

#[test]
fn a_draft_is_sealed_as_it_was_shown_or_not_at_all() {
    let mut model = model();
    let mut asked = desk(&model, "e");
    let lines = frame(&model, &mut asked, NOW, Size { width: 80, height: 24 }).join("\n");
    assert!(lines.contains("add PAY-004 Pay in \\u001b[2Jparts"), "{lines}");
    let Wish::Do(deed) = press(&mut asked, &model, "y") else { panic!("it is wished for") };
    let words = [
        "generation",
        "seal",
        "1.4.0",
        "--contract",
        CONTRACT,
        "--repo",
        "/home/ada/pay",
        "--key",
        "ada.pem",
    ];
    assert_eq!(deed.words, words);
    let draft = &mut model.releases.value.as_mut().unwrap().generations[0];
    (draft.contract, draft.broken) = (None, Some("line 3: STEP_MISSING".into()));
    let refused = desk(&model, "e");
    assert!(refused.over.is_none());
    assert_eq!(refused.said.unwrap().1, "1.4.0 cannot be sealed: line 3: STEP_MISSING");
}

#[test]
fn a_gate_is_waived_for_a_reason_and_a_time_and_asked_about_before() {
    let mut model = model();
    // The second of those that refuse and can be waived; no other is offered.
    let mut waiving = desk(&model, "↓w→⇥");
    press(&mut waiving, &model, "y↵");
    let Some(Over::Waiving(_)) = &waiving.over else {
        panic!("y is a letter of the reason: {:?}", waiving.over)
    };
    press(&mut waiving, &model, "⇥⇥⌫");
    waiving.paste("a race\n\u{1b}is lost");
    press(&mut waiving, &model, "⇥⌫⌫⌫0↵");
    assert!(matches!(waiving.over, Some(Over::Waiving(_))) && waiving.said.is_some(), "0 hours are none");
    assert_eq!(press(&mut waiving, &model, "⌫36↵"), Wish::Nothing);
    let lines = frame(&model, &mut waiving, NOW, Size { width: 120, height: 40 }).join("\n");
    for told in [
        "min_evolutions does not pass",
        "1 of 2 evolutions passed",
        "Why it is waived: a race is lost",
        "For 36 hours",
        CONTRACT,
    ] {
        assert!(lines.contains(told), "{told}: {lines}");
    }
    let Wish::Do(deed) = press(&mut waiving, &model, "y") else { panic!("it is wished for") };
    let words = [
        "waive",
        "1.3.0",
        "min_evolutions",
        "--reason=a race is lost",
        "--hours",
        "36",
        "--candidate",
        "v1.3.0-rc.2",
        "--contract",
        CONTRACT,
        "--repo",
        "/home/ada/pay",
        "--key",
        "ada.pem",
    ];
    assert_eq!(deed.words, words);

    let silent = desk(&model, "↓w↵↵↵");
    assert!(matches!(silent.over, Some(Over::Waiving(_))));
    assert_eq!(silent.said.unwrap().1, "what is signed says why");
    assert!(desk(&model, "↓w⎋").over.is_none());
    let offered = desk(&model, "↓w→→");
    let Some(Over::Waiving(form)) = &offered.over else { panic!("it is open") };
    assert!(form.lines().iter().any(|line| line.to_string().contains("no_failed")), "two are offered");
    model.releases.value.as_mut().unwrap().generations[1].waivable.clear();
    let refused = desk(&model, "↓w");
    assert_eq!(
        (refused.over.is_none(), refused.said.unwrap().1),
        (
            true,
            "what refuses 1.3.0 cannot be waived: all_changes_proven, no_failed, min_evolutions, approvals"
                .into()
        )
    );
    model.releases.value.as_mut().unwrap().generations[1].gates.clear();
    let unknown = desk(&model, "↓w");
    assert_eq!(
        (unknown.over.is_none(), unknown.said.unwrap().1),
        (true, "no gate is known to refuse 1.3.0: p asks them".into())
    );
}

#[test]
fn the_run_of_a_call_is_sealed_and_the_call_says_its_code_and_how_it_is_shown() {
    let model = model();
    let run = "01980000-0000-7000-8000-00000000a001";
    for keys in ["4↓e", "4↓↓e"] {
        let Wish::Do(deed) = press(&mut desk(&model, keys), &model, "y") else { panic!("it is wished for") };
        assert_eq!(deed.words, ["seal", run, "--admin", "127.0.0.1:9464"]);
    }
    let said = |keys: &str| {
        let lines = frame(&model, &mut desk(&model, keys), NOW, Size { width: 160, height: 50 });
        lines.join("\n")
    };
    let denied = said("4↓↓");
    let show = format!("estoppel show {run}.pef.zip --call 01980000-0000-7000-8000-000000000041");
    for told in ["TOOL_DENIED: a policy rule blocks this tool", "no-shell", "shell\\u001b[2J", &show] {
        assert!(denied.contains(told), "{told}: {denied}");
    }
    let own = said("4↓↓↓");
    assert!(
        own.contains("NO_TRADES: a code of the policy's own")
            && own.contains("POLICY_BLOCK: the policy blocks"),
        "{own}"
    );
    let shadowed = said("4↓↓↓↓");
    assert!(
        shadowed.contains("would block") && shadowed.contains("block by rule no-large of sha256:5a0c"),
        "{shadowed}"
    );
}

#[test]
fn what_was_cut_off_is_shown_nowhere_as_running() {
    let mut model = model();
    let sealed = &mut model.releases.value.as_mut().unwrap().generations[1];
    sealed.running[0].at = Whereabouts::CutOff;
    sealed.running[0].steps[1].state = "cut_off";
    sealed.timeline[0].says = "evolution cut off: PAY-002".into();
    sealed.timeline[0].evolution.as_mut().unwrap().result = "CUT_OFF";
    for keys in ["↓", "↓2", "3"] {
        let lines = frame(&model, &mut desk(&model, keys), NOW, Size { width: 120, height: 40 }).join("\n");
        assert!(lines.contains("cut off") && !lines.contains("running"), "{keys}: {lines}");
    }
    assert_eq!(desk(&model, "↓2l").said.unwrap().1, "it was cut off; 3 shows the end of its log");
}

#[test]
fn an_evolution_that_begins_is_not_told_to_be_missing() {
    let mut model = model();
    model.releases.value.as_mut().unwrap().generations[1].running.clear();
    let mut begun = desk(&model, "3");
    let shown = |desk: &mut Desk| frame(&model, desk, NOW, Size { width: 80, height: 24 }).join("\n");
    assert!(shown(&mut begun).contains("no evolution runs"));
    begun.running.push("evolution of 1.3.0".into());
    let lines = shown(&mut begun);
    assert!(lines.contains("evolution of 1.3.0 begins") && !lines.contains("no evolution runs"), "{lines}");
}

#[test]
fn a_small_screen_scrolls_what_it_asks_and_says_what_keys_do() {
    let model = model();
    let small = Size { width: 40, height: 10 };
    let shown = |desk: &mut Desk| frame(&model, desk, NOW, small).join("\n");
    let mut asked = desk(&model, "↓p");
    let top = shown(&mut asked);
    assert!(top.contains("Promote 1.3.0") && top.contains(" 1-") && top.contains("yes"), "{top}");
    press(&mut asked, &model, "G");
    assert!(shown(&mut asked).contains("--key ada.pem"), "{}", shown(&mut asked));
    let mut help = desk(&model, "?G");
    assert!(shown(&mut help).contains("ask first"), "{}", shown(&mut help));
    let mut waiving = desk(&model, "↓w⇥");
    waiving.paste(&"because ".repeat(40));
    assert!(shown(&mut waiving).contains("hours   24"), "{}", shown(&mut waiving));
    // What cannot be done is said whole.
    let nobody = Hands { key: None, ..hands() };
    let mut refused = desk(&model, "↓");
    refused.press(KeyEvent::new(KeyCode::Char('p'), KeyModifiers::NONE), &model, &nobody, NOW);
    assert!(shown(&mut refused).contains("ESTOPPEL_RELEASE_KEY"), "{}", shown(&mut refused));
}

#[test]
fn what_came_of_a_command_does_not_take_the_place_of_a_question() {
    let model = model();
    let mut desk = desk(&model, "↓p");
    desk.ended(Outcome { name: "other".into(), exit: Some(3), lines: vec!["REFUSED  GATE_REFUSED".into()] });
    assert!(
        matches!(&desk.over, Some(Over::Asked { deed: Deed { name, .. }, .. }) if name == "promotion of 1.3.0")
    );
    press(&mut desk, &model, "n");
    let lines = frame(&model, &mut desk, NOW, Size { width: 80, height: 24 }).join("\n");
    assert!(lines.contains("other: refused, exit code 3") && lines.contains("GATE_REFUSED"), "{lines}");
}

#[test]
fn what_is_chosen_stays_chosen_when_others_come_before_it() {
    let mut model = model();
    let mut desk = desk(&model, "↓↓");
    model.releases.value.as_mut().unwrap().generations.insert(0, generation("2.0.0", "sealed"));
    let chosen = view::generation(&model, &desk.chosen).unwrap().version.to_string();
    assert_eq!(chosen, "1.2.0");
    press(&mut desk, &model, "↑");
    assert_eq!(desk.chosen.generation.as_deref(), Some("1.3.0"));
}

#[test]
fn of_a_thousand_generations_each_can_be_reached() {
    let mut model = model();
    let generations = (0..1_000).rev().map(|patch| generation(&format!("1.0.{patch}"), "promoted"));
    model.releases.value.as_mut().unwrap().generations = generations.collect();
    let mut desk = desk(&model, "G");
    let lines = frame(&model, &mut desk, NOW, Size { width: 80, height: 24 }).join("\n");
    assert!(lines.contains("> 1.0.0 ") && lines.contains("of 1000"), "{lines}");
    press(&mut desk, &model, "↑↑");
    assert_eq!(desk.chosen.generation.as_deref(), Some("1.0.2"));
}

#[test]
fn it_does_not_end_unasked_while_commands_run() {
    let model = model();
    let mut desk = desk(&model, "");
    assert_eq!(press(&mut desk, &model, "q"), Wish::Quit);
    desk.running.push("evolution of 1.3.0".into());
    assert_eq!(press(&mut desk, &model, "q"), Wish::Nothing);
    assert_eq!(press(&mut desk, &model, "n"), Wish::Nothing);
    assert_eq!(press(&mut desk, &model, "qq"), Wish::Quit);
}
