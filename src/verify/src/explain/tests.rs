use super::*;
use crate::report::Finding;

#[test]
fn self_asserted_says_that_nobody_vouched() {
    let mut report = Report::new(Subject::Bundle);
    report.verdicts.authenticity = Authenticity::SelfAsserted;
    let text = explain(&report).join("\n");
    assert!(text.contains("nobody vouched for the keys"), "{text}");
    assert!(text.contains("Next: obtain the instance's trust document"), "{text}");
}

#[test]
fn every_reason_is_explained_for_every_subject() {
    for subject in [Subject::Bundle, Subject::Journal, Subject::Receipt, Subject::Checkpoint] {
        for reason in Reason::ALL {
            let mut report = Report::new(subject);
            report.refuse(Finding::new(*reason, "the detail").at(3));
            let text = explain(&report).join("\n");
            assert!(text.contains(reason.code()) && text.contains("the detail"), "{text}");
            assert!(text.contains("Next: "), "{text}");
            assert!(!text.contains("..") && !text.contains("  "), "{text}");
        }
    }
}
