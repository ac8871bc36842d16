use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Sha256, Signer as _};
use serde_json::json;

use super::*;
use crate::generation::StageName;
use crate::ledger::{GenerationAbandoned, PromotionRefused, Role, promotion_id};
use crate::scene::{Scene, document, key};

const FORMATS: [Format; 3] = [Format::Json, Format::Csv, Format::Html];

fn ledger() -> Ledger {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    let reason = "=cmd|'/c calc'!A1 <script>alert(1)</script> \"x\", y\nz \u{202e}";
    let abandoned = GenerationAbandoned { reason: reason.into(), version: "1.0.0".parse().unwrap() };
    scene.write(2, Body::GenerationAbandoned(abandoned)).unwrap();
    scene.store().read().unwrap()
}

#[test]
fn an_export_is_a_function_of_the_ledger_and_any_changed_byte_is_found() {
    let ledger = ledger();
    for format in FORMATS {
        let text = export(&ledger, Span::default(), format);
        assert_eq!(text, export(&ledger, Span::default(), format));
        let verified = verify(text.as_bytes(), Some(&ledger), ledger.genesis()).unwrap();
        assert_eq!((verified.format, verified.events, verified.head), (format, 5, ledger.head()));
        let step = text.len() / 97 + 1;
        let places = (0..text.len()).step_by(step).chain([0, 1, text.len() - 2, text.len() - 1]);
        for at in places {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let refused = verify(&bytes, Some(&ledger), None).unwrap_err();
            assert_eq!(refused.code.exit(), 2, "{format:?} {at}: {refused}");
        }
        let cut = text.get(..text.len() - 3).unwrap();
        assert_eq!(verify(cut.as_bytes(), Some(&ledger), None).unwrap_err().code, Code::AuditAltered);
    }
}

#[test]
fn the_document_is_judged_without_the_ledger_and_by_whom_it_is_trusted() {
    let ledger = ledger();
    let text = export(&ledger, Span::default(), Format::Json);
    assert!(!needs_ledger(text.as_bytes()));
    assert_eq!(verify(text.as_bytes(), None, ledger.genesis()).unwrap().events, 5);
    let other = verify(text.as_bytes(), None, Some(Sha256::of(b"other"))).unwrap_err();
    assert_eq!(other.code, Code::LedgerGenesis);
    for format in [Format::Csv, Format::Html] {
        let text = export(&ledger, Span::default(), format);
        assert!(needs_ledger(text.as_bytes()));
        assert_eq!(verify(text.as_bytes(), None, None).unwrap_err().code, Code::LedgerMissing);
    }
}

#[test]
fn an_export_is_still_good_when_the_ledger_has_grown_and_not_for_another_ledger() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let before = scene.store().read().unwrap();
    let exports = FORMATS.map(|format| export(&before, Span::default(), format));
    scene.seal(document("2.0.0", "true", "true"));
    let after = scene.store().read().unwrap();
    let other = Scene::new().store().read().unwrap();
    for text in exports {
        assert_eq!(verify(text.as_bytes(), Some(&after), None).unwrap().events, 2);
        if needs_ledger(text.as_bytes()) {
            assert_eq!(verify(text.as_bytes(), Some(&other), None).unwrap_err().code, Code::AuditAltered);
        }
    }
}

#[test]
fn the_document_keeps_its_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../../spec/audit.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for span in [Span::default(), Span { from: Some(UnixMicros(1)), to: Some(UnixMicros(2)) }] {
        let document = serde_json::from_str(&export(&ledger(), span, Format::Json)).unwrap();
        assert!(schema.is_valid(&document), "{:?}", schema.validate(&document).err());
    }
}

#[test]
fn a_span_takes_rows_away_and_leaves_the_chain() {
    let ledger = ledger();
    let last = ledger.last();
    let span = Span { from: Some(last), to: None };
    for format in FORMATS {
        let text = export(&ledger, span, format);
        let verified = verify(text.as_bytes(), Some(&ledger), None).unwrap();
        assert_eq!((verified.span, verified.events), (span, 5));
        if needs_ledger(text.as_bytes()) {
            assert!(!text.contains("evolution.started"), "{format:?}");
        }
        let all = Span { from: Some(UnixMicros(0)), to: Some(UnixMicros(last.0 + 1)) };
        assert!(export(&ledger, all, format).len() > text.len());
    }
    let none = Span { from: None, to: Some(UnixMicros(0)) };
    let empty = export(&ledger, none, Format::Csv);
    assert_eq!(empty.lines().count(), 2);
    assert!(verify(empty.as_bytes(), Some(&ledger), None).is_ok());
}

#[test]
fn nothing_that_an_event_says_is_a_formula_a_cell_or_markup() {
    let ledger = ledger();
    let table = export(&ledger, Span::default(), Format::Csv);
    assert_eq!(table.lines().count(), ledger.events().len() + 2);
    for line in table.lines() {
        for cell in line.split("\",\"") {
            let cell = cell.trim_start_matches('"');
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
        }
    }
    assert!(table.contains("reason =cmd") && table.contains("\\n"), "{table}");
    let page = export(&ledger, Span::default(), Format::Html);
    assert!(!page.contains("<script") && !page.contains('\u{202e}') && page.contains("&lt;script&gt;"));
}

#[test]
fn each_row_says_who_did_it_where_and_what_came_before() {
    let ledger = ledger();
    for (index, event) in ledger.events().iter().enumerate() {
        let row = Row::of(&ledger, event);
        assert!(!row.name.is_empty() && !row.host.is_empty(), "{row:?}");
        assert_eq!(row.previous.is_empty(), index == 0);
        let about = event.document()["body"]["commit"].as_str().map(ToOwned::to_owned);
        let stood_at = event.stood_at.as_ref().map(ToString::to_string);
        assert_eq!(about.is_some(), row.kind.starts_with("evolution."), "{row:?}");
        assert_eq!(Some(&row.commit), about.as_ref().or(stood_at.as_ref()), "{row:?}");
        assert!(row.said.contains(&format!("stood_at {}", stood_at.unwrap())), "{row:?}");
    }
}

#[test]
fn who_got_which_role_and_which_gates_refused_is_told_and_what_was_told_without_it_verifies() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "false"));
    scene.evolve("1.0.0", &[]);
    let version = "1.0.0".parse().unwrap();
    let commit = scene.head();
    let contract = scene.store().read().unwrap().contract(&version).unwrap().1.contract;
    let gate = |gate: &str, state: &str| json!({ "evidence": [], "gate": gate, "state": state, "why": "w" });
    let gates = vec![gate("candidate", "missing"), gate("soak", "pass"), gate("no_failed", "fail")];
    let promotion = promotion_id(&version, contract, &commit, StageName::Final);
    let refused = PromotionRefused { commit, contract, gates, promotion, stage: None, version };
    scene.write(5, Body::PromotionRefused(refused)).unwrap();
    let mut roles = scene.store().read().unwrap().roles().clone();
    roles.grant(key(9).public(), "Zoe", [Role::Approver, Role::Auditor].into()).unwrap();
    roles.revoke(key(3).public().id()).unwrap();
    roles.bind("staging", StageName::Beta).unwrap();
    scene.write(1, Body::RolesSet(roles)).unwrap();
    let ledger = scene.store().read().unwrap();
    let (new, gone) = (key(9).public().id(), key(3).public().id());
    for format in FORMATS {
        let text = export(&ledger, Span::default(), format);
        for said in [
            "refused by candidate, no_failed",
            &format!("Zoe {new} is auditor, approver"),
            &format!("person 3 {gone} has no role any more"),
            "staging takes beta",
            "person 2",
        ] {
            assert!(text.contains(said), "{format:?}: {said}");
        }
        assert!(!text.contains(&format!("Zoe {new} is auditor, approver; person 4")), "{format:?}");
        // As it was written before.
        let earlier = write(&ledger, Span::default(), format, Wording::Texts);
        assert!(!earlier.contains("refused by") && !earlier.contains("has no role any more"));
        assert_eq!(verify(earlier.as_bytes(), Some(&ledger), None).unwrap().head, ledger.head());
        let mixed = earlier.replacen("stood_at", "refused by nobody; stood_at", 1);
        assert_eq!(verify(mixed.as_bytes(), Some(&ledger), None).unwrap_err().code, Code::AuditAltered);
    }
}
