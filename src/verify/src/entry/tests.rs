use proptest::prelude::*;

use super::*;
use crate::made::{MadeKeys, MadeRun, RUN};
use crate::reference::{Dice, EntrySchemas, Tree};

const KINDS: [&str; 14] = [
    "run.open",
    "call",
    "intent",
    "interrupted",
    "key.rotate",
    "journal.recover",
    "policy.load",
    "gap",
    "hold",
    "approval",
    "bypass",
    "act",
    "snapshot",
    "run.seal",
];

const PLACES: [(&str, Slot); 18] = [
    ("iss", Slot::Iss),
    ("kid", Slot::Kid),
    ("mono_us", Slot::MonoUs),
    ("prev", Slot::Prev),
    ("run", Slot::Run),
    ("seq", Slot::Seq),
    ("call", Slot::Call),
    ("claims", Slot::Claims),
    ("outcome.complete", Slot::Complete),
    ("policy.hash", Slot::Policy),
    ("request.sha256", Slot::RequestBody),
    ("response.client.sha256", Slot::ClientBody),
    ("response.upstream.sha256", Slot::UpstreamBody),
    ("sse", Slot::Sse),
    ("time.total_us", Slot::TotalUs),
    ("verdict.action", Slot::Action),
    ("approval", Slot::Approval),
    ("snapshot.post.code", Slot::PostCode),
];

/// Judges a line both ways; the answers must be equal, down to the members that are noted.
fn check(schemas: &EntrySchemas, line: &[u8]) -> Result<(), TestCaseError> {
    let expected = schemas.judge(line);
    let found = Entry::read(line);
    match (&expected, &found) {
        (Ok(tree), Ok(entry)) => {
            prop_assert_eq!(tree.member("kind"), Some(&Tree::Text(entry.kind.name().to_owned())));
            for (place, slot) in PLACES {
                let expected = tree.at(place).map(|tree| match tree {
                    Tree::Text(text) => serde_json::to_string(text).unwrap().trim_matches('"').to_owned(),
                    other => other.canonical(),
                });
                let found = entry.optional(slot).map(|raw| String::from_utf8(raw.to_vec()).unwrap());
                prop_assert_eq!(&found, &expected, "{} of {}", place, String::from_utf8_lossy(line));
                if let Some(Tree::Integer(number)) = tree.at(place) {
                    prop_assert_eq!(entry.count(slot) as i64, *number);
                }
            }
            Ok(())
        }
        (Err(reason), Err(finding)) => {
            prop_assert_eq!(*reason, finding.reason, "{}: {}", finding.detail, String::from_utf8_lossy(line));
            Ok(())
        }
        _ => Err(TestCaseError::fail(format!(
            "reference {:?}, found {:?}: {}",
            expected.err(),
            found.map(|_| ()),
            String::from_utf8_lossy(line)
        ))),
    }
}

fn members(tree: &mut Tree) -> &mut Vec<(String, Tree)> {
    match tree {
        Tree::Object(members) => members,
        _ => panic!("not an object"),
    }
}

/// The object to change: the outermost, or one inside.
fn pick<'t>(dice: &mut Dice, tree: &'t mut Tree) -> &'t mut Tree {
    let inner: Vec<usize> = members(tree)
        .iter()
        .enumerate()
        .filter(|(_, (_, value))| matches!(value, Tree::Object(members) if !members.is_empty()))
        .map(|(at, _)| at)
        .collect();
    if inner.is_empty() || dice.chance(50) {
        return tree;
    }
    let at = inner[dice.below(inner.len())];
    pick(dice, &mut members(tree)[at].1)
}

/// The document as text, with the members in another order or with space between them.
fn untidy(dice: &mut Dice, tree: &Tree) -> String {
    let space = |dice: &mut Dice| if dice.chance(3) { " " } else { "" };
    match tree {
        Tree::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.clone());
            if dice.chance(20) && members.len() > 1 {
                let at = dice.below(members.len() - 1);
                members.swap(at, at + 1);
            }
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| {
                    format!("{}:{}{}", serde_json::to_string(name).unwrap(), space(dice), untidy(dice, value))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Tree::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| untidy(dice, item)).collect();
            format!("[{}]", items.join(","))
        }
        other => other.canonical(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn one_pass_and_the_reference_agree_on_every_kind_and_every_change(seed: u64) {
        let schemas = EntrySchemas::get();
        let mut dice = Dice(seed);
        let kind = KINDS[dice.below(KINDS.len())];
        let (document, schema) = schemas.of_kind(kind).unwrap();
        let mut tree = dice.value(document, schema);
        let mut line = tree.canonical().into_bytes();
        if line.len() <= LINE_BYTES_MAX {
            prop_assert!(Entry::read(&line).is_ok(), "{}", String::from_utf8_lossy(&line));
        }
        check(schemas, &line)?;
        match dice.below(7) {
            0 => {
                let at = dice.below(line.len());
                line[at] ^= 1 << dice.below(8);
            }
            1 => {
                let at = dice.below(line.len());
                line.remove(at);
            }
            2 => {
                let at = dice.below(line.len());
                line.insert(at, b"0\"\\{}[],:x -e.\n"[dice.below(15)]);
            }
            3 => {
                let members = members(pick(&mut dice, &mut tree));
                let at = dice.below(members.len());
                members.remove(at);
                line = tree.canonical().into_bytes();
            }
            4 => {
                let name = ["zz", "a", "kindly", "", "\u{e9}", "ext", "prev"][dice.below(7)].to_owned();
                let value = Tree::Integer(dice.below(3) as i64);
                let members = members(pick(&mut dice, &mut tree));
                members.retain(|(other, _)| *other != name);
                members.push((name, value));
                line = tree.canonical().into_bytes();
            }
            5 => {
                let members = members(pick(&mut dice, &mut tree));
                let at = dice.below(members.len());
                members[at].1 = match dice.below(6) {
                    0 => Tree::Integer([-1, 0, 1, 9_007_199_254_740_991, 1001, 33][dice.below(6)]),
                    1 => Tree::Text(dice.text(0, 9)),
                    2 => Tree::Boolean(false),
                    3 => Tree::Array(Vec::new()),
                    4 => dice.anything(1),
                    _ => Tree::Text("x".repeat([0, 1, 127, 128, 129, 512, 513][dice.below(7)])),
                };
                line = tree.canonical().into_bytes();
            }
            _ => line = untidy(&mut dice, &tree).into_bytes(),
        }
        check(schemas, &line)?;
    }
}

fn reason(line: &[u8]) -> Option<Reason> {
    let found = Entry::read(line).err().map(|finding| finding.reason);
    let expected = EntrySchemas::get().judge(line).err();
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(line));
    found
}

fn run() -> MadeRun {
    let mut run = MadeRun::new(RUN, "each", MadeKeys::new().receipt);
    run.open().call("allow");
    run
}

#[test]
fn a_line_has_1_to_16384_bytes() {
    let mut entry = run().call_entry("allow");
    entry["ext"] = serde_json::json!({"pad": ""});
    let pad = LINE_BYTES_MAX - serde_json::to_vec(&entry).unwrap().len();
    for (extra, expected) in [(0, None), (1, Some(Reason::LineLength))] {
        entry["ext"] = serde_json::json!({"pad": "x".repeat(pad + extra)});
        assert_eq!(reason(&serde_json::to_vec(&entry).unwrap()), expected);
    }
    assert_eq!(reason(b""), Some(Reason::LineLength));
}

#[test]
fn the_earliest_step_decides() {
    let line = String::from_utf8(run().lines[1].clone()).unwrap();
    assert_eq!(reason(line.as_bytes()), None);
    let spaced = line.replacen(':', ": ", 1);
    assert_eq!(reason(spaced.as_bytes()), Some(Reason::LineNotCanonical));
    assert_eq!(reason(spaced.replace("\"attempt\"", "\"tries\"").as_bytes()), Some(Reason::LineNotCanonical));
    assert_eq!(reason(spaced.replace("\"POST\"", "null").as_bytes()), Some(Reason::LineMalformed));
    assert_eq!(reason(line.replace("\"POST\"", "\"post\"").as_bytes()), Some(Reason::LineSchema));
    assert_eq!(reason(line.replace("\"call\",", "\"calls\",").as_bytes()), Some(Reason::LineSchema));
    assert_eq!(reason(line.replace("\"call\",", "\"hold\",").as_bytes()), Some(Reason::LineSchema));
    assert_eq!(reason(b"{}"), Some(Reason::LineSchema));
    assert_eq!(reason(br#"{"kind":7}"#), Some(Reason::LineSchema));
}

#[test]
fn a_kind_inside_of_ext_does_not_mislead() {
    let mut entry = run().common("gap");
    entry["reason"] = serde_json::json!("DISK_FULL");
    entry["ext"] = serde_json::json!({"a": 1, "kind": "call", "x": "\",\"kind\":\"call\""});
    assert_eq!(reason(&serde_json::to_vec(&entry).unwrap()), None);
}

#[test]
fn an_unknown_kind_is_refused_with_a_hint_at_newer_verifiers() {
    let line = String::from_utf8(run().lines[1].clone()).unwrap();
    let finding = Entry::read(line.replace("\"call\",", "\"shadow\",").as_bytes()).err().unwrap();
    assert!(finding.detail.contains("`shadow` is no kind"), "{}", finding.detail);
}
