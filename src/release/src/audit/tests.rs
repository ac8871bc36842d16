use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;

use super::*;
use crate::ledger::{Body, GenerationAbandoned};
use crate::scene::{Scene, document};

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
