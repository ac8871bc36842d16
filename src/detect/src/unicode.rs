//! Characters that people do not see: tags, directions, nothing at all, and variations of nothing.
//!
//! Each rule is about runs, and tells each run once, where it begins, and at most 512 bytes of it.

use crate::catalogue::{Anchors, Code, Look, View};
use crate::finding::{Class, Confidence, Detector, RuleInfo, Severity};

const fn info(id: &'static str, confidence: Confidence, severity: Severity) -> RuleInfo {
    RuleInfo { id, detector: Detector::Unicode, class: Class::Unicode, confidence, severity }
}

const fn hidden(look: fn(&View<'_>) -> Look) -> Code {
    Code { anchors: Anchors::Hidden, before: 0, reach: 512, look }
}

pub(crate) const RULES: &[(RuleInfo, Code)] = &[
    (info("unicode.tags", Confidence::High, Severity::High), hidden(tags)),
    (info("unicode.bidi", Confidence::High, Severity::High), hidden(bidi)),
    (info("unicode.zero_width", Confidence::High, Severity::Medium), hidden(zero_width)),
    (info("unicode.variation", Confidence::High, Severity::High), hidden(variation)),
];

/// The characters at the front that are of a kind: how many, and in how many bytes; none if more may come.
fn length(view: &View<'_>, is_kind: fn(char) -> bool) -> Option<(usize, usize)> {
    let text = view.ahead();
    let (mut count, mut bytes) = (0, 0);
    loop {
        let rest = text.get(bytes..).unwrap_or_default();
        match first(rest) {
            Some(one) if is_kind(one) => (count, bytes) = (count + 1, bytes + one.len_utf8()),
            Some(_) => return Some((count, bytes)),
            None if view.is_whole || is_broken(rest) => return Some((count, bytes)),
            None => return None,
        }
    }
}

fn first(text: &[u8]) -> Option<char> {
    let text = text.get(..text.len().min(4)).unwrap_or_default();
    match std::str::from_utf8(text) {
        Ok(text) => text.chars().next(),
        Err(error) => std::str::from_utf8(text.get(..error.valid_up_to())?).ok()?.chars().next(),
    }
}

/// Whether no later byte makes a character of it.
fn is_broken(text: &[u8]) -> bool {
    let text = text.get(..text.len().min(4)).unwrap_or_default();
    matches!(std::str::from_utf8(text), Err(error) if error.error_len().is_some())
}

fn before(view: &View<'_>) -> Option<char> {
    let text = view.behind();
    let from = text.iter().rposition(|byte| byte & 0xC0 != 0x80)?;
    std::str::from_utf8(text.get(from..)?).ok()?.chars().next()
}

/// A run of at least `least` characters of a kind that begins here.
fn run_of(view: &View<'_>, is_kind: fn(char) -> bool, least: usize) -> Look {
    if before(view).is_some_and(is_kind) {
        return Look::Nothing;
    }
    match length(view, is_kind) {
        None => Look::Wait,
        Some((count, bytes)) if count >= least => {
            Look::Found { from: view.at, to: view.at + bytes, confidence: Confidence::High }
        }
        Some(_) => Look::Nothing,
    }
}

fn is_tag(one: char) -> bool {
    matches!(one, '\u{E0000}'..='\u{E007F}')
}

/// Tags spell ASCII out of sight. Flags of regions are written with them too, after a black flag.
fn tags(view: &View<'_>) -> Look {
    if before(view) == Some('\u{1F3F4}') {
        return match length(view, is_tag) {
            None => Look::Wait,
            Some((count, bytes)) if count > 8 => {
                Look::Found { from: view.at, to: view.at + bytes, confidence: Confidence::High }
            }
            Some(_) => Look::Nothing,
        };
    }
    run_of(view, is_tag, 1)
}

/// Unicode Technical Report 36 section 3.1.4 and "Trojan Source": text that is shown in another order than it is read.
fn bidi(view: &View<'_>) -> Look {
    run_of(view, |one| matches!(one, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'), 1)
}

/// One joiner is how emoji and many scripts are written; three characters without width in a row are not.
fn zero_width(view: &View<'_>) -> Look {
    run_of(view, |one| matches!(one, '\u{200B}'..='\u{200D}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}'), 3)
}

/// One variation selector chooses a glyph; in a row they carry bytes.
fn variation(view: &View<'_>) -> Look {
    run_of(view, |one| matches!(one, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}'), 2)
}
