use proptest::prelude::*;

use super::*;
use crate::bundle::NoExternals;

const BUNDLE: &[u8] = include_bytes!("../../../../spec/pef/vectors/valid-event-whole/bundle.pef.zip");
const DISCLOSURE: &[u8] = include_bytes!("../../../../spec/pef/vectors/valid-event-whole/disclosure.json");
const EVENTS: &[u8] = include_bytes!("../../../../spec/pef/vectors/valid-event-whole/events");
/// The call of [`EVENTS`] by its sequence number.
const CALL: &str = "1";

fn ask(events: &[u8], place: Option<u64>) -> Report {
    let question = Question { call: CALL, disclosure: DISCLOSURE, events, place };
    verify_events(Input::Zip(BUNDLE), &mut NoExternals, &Options::default(), &question).unwrap()
}

fn verdict(report: &Report) -> Proof {
    report.stream.as_ref().unwrap().verdict
}

fn units() -> Vec<&'static [u8]> {
    Units::of(EVENTS, Before::Start).collect()
}

#[test]
fn units_are_proven_at_their_place_and_at_no_other() {
    let units = units();
    for from in 0..units.len() {
        for to in from + 1..=units.len() {
            for place in 0..units.len() as u64 + 2 {
                let report = ask(&units[from..to].concat(), Some(place));
                let proven = verdict(&report) == Proof::Proven;
                assert_eq!(proven, place == from as u64, "{from}..{to} at {place}: {:?}", report.finding);
                assert_eq!(report.passed(), proven);
                assert_eq!(report.verdicts.integrity.name(), "ok");
            }
        }
    }
}

#[test]
fn a_proven_unit_comes_with_its_audit_path() {
    let units = units();
    for (place, unit) in (0..).zip(&units) {
        let stream = ask(unit, Some(place)).stream.unwrap();
        let path = stream.path.unwrap();
        assert_eq!((path.index, path.size), (place, units.len() as u64));
        let root = crate::tree::root_of_path(path.node, path.index, path.size, &path.path);
        assert_eq!(root, stream.root);
    }
    assert_eq!(ask(EVENTS, None).stream.unwrap().path, None);
}

#[test]
fn the_call_is_found_by_its_id_or_its_sequence_number() {
    for (call, reason) in [
        ("1", None),
        ("444c9a19-7385-4e5e-a1db-d41e800c0a49", None),
        ("0", Some(Reason::CallUnknown)),
        ("2", Some(Reason::StreamAbsent)),
        ("3", Some(Reason::DisclosureMismatch)),
        ("", Some(Reason::CallUnknown)),
        ("444C9A19-7385-4E5E-A1DB-D41E800C0A49", Some(Reason::CallUnknown)),
    ] {
        let question = Question { call, disclosure: DISCLOSURE, events: EVENTS, place: None };
        let report =
            verify_events(Input::Zip(BUNDLE), &mut NoExternals, &Options::default(), &question).unwrap();
        assert_eq!(report.finding.map(|finding| finding.reason), reason, "{call}");
    }
}

#[test]
fn a_bundle_that_does_not_pass_proves_no_event() {
    let mut bundle = BUNDLE.to_vec();
    let middle = bundle.len() / 2;
    bundle[middle] ^= 1;
    let question = Question { call: CALL, disclosure: DISCLOSURE, events: EVENTS, place: None };
    let report =
        verify_events(Input::Zip(&bundle), &mut NoExternals, &Options::default(), &question).unwrap();
    assert_eq!((report.exit_code(), verdict(&report)), (2, Proof::Unchecked));
}

proptest! {
    #[test]
    fn no_other_bytes_are_the_stream(at in 0usize..EVENTS.len(), bit in 0u32..8, cut in 0usize..EVENTS.len()) {
        let mut changed = EVENTS.to_vec();
        changed[at] ^= 1 << bit;
        prop_assert_eq!(verdict(&ask(&changed, None)), Proof::Failed);
        prop_assert_eq!(verdict(&ask(&EVENTS[..cut], None)), Proof::Failed);
        let mut longer = EVENTS.to_vec();
        longer.insert(cut, EVENTS[at]);
        prop_assert_eq!(verdict(&ask(&longer, None)), Proof::Failed);
    }

    #[test]
    fn any_question_has_an_answer(
        disclosure in proptest::collection::vec(any::<u8>(), 0..80),
        events in proptest::collection::vec(proptest::sample::select(b"\r\n:a\xef\xbb\xbf".to_vec()), 0..40),
        place in proptest::option::of(any::<u64>()),
    ) {
        let question = Question { call: CALL, disclosure: &disclosure, events: &events, place };
        let report = verify_events(Input::Zip(BUNDLE), &mut NoExternals, &Options::default(), &question).unwrap();
        prop_assert_eq!(report.exit_code(), 6);
        prop_assert!(!report.passed() && verdict(&report) == Proof::Unchecked);
        prop_assert_ne!(verdict(&ask(&events, place)), Proof::Proven);
    }
}
