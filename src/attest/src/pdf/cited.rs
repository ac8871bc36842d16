//! The part of the page about what stands beside the bundles: chains of custody, copies in an archive, the ledger of releases.

use serde_json::Value;

use super::sheet::Sheet;
use super::{GREY, INK, INNER, LINE, MARGIN, counted, heading, moment, mono, plain, rows, text};

/// Most rows of a kind that are shown.
const ROWS_SHOWN: usize = 3;
const SAID_X: f32 = MARGIN + 66.0;
const SAID: f32 = INNER - 66.0;

/// What a row says, and the digest below it.
struct Row {
    name: &'static str,
    said: String,
    digest: String,
}

/// Nothing where a statement cites none of it.
pub(super) fn cited(sheet: &mut Sheet, predicate: &Value) {
    let (custody, copies) = (rows(predicate, "custody"), rows(&predicate["archive"], "copies"));
    let ledger = &predicate["ledger"];
    if custody.is_empty() && !predicate["archive"].is_object() && !ledger.is_object() {
        return;
    }
    heading(sheet, "Custody, copies and releases");
    let is_vouched = predicate["custodians"].is_array();
    custody.iter().take(ROWS_SHOWN).for_each(|list| chain(list, is_vouched).draw(sheet));
    more(sheet, custody.len(), "lists of custody");
    if predicate["archive"].is_object() && copies.is_empty() {
        Row { name: "copies", said: "the archive has none of these bundles".into(), digest: String::new() }
            .draw(sheet);
    }
    copies.iter().take(ROWS_SHOWN).for_each(|copy| self::copy(copy).draw(sheet));
    more(sheet, copies.len(), "copies");
    if ledger.is_object() {
        let events = ledger["events"].as_u64().unwrap_or_default();
        let said =
            format!("{}, verified from the first; as it was at this digest:", counted(events, "event"));
        Row { name: "releases", said, digest: text(ledger, "head").to_owned() }.draw(sheet);
    }
    sheet.y += 10.0;
}

fn chain(list: &Value, is_vouched: bool) -> Row {
    let actions = list["actions"].as_object().into_iter().flatten();
    let actions: Vec<String> = actions.map(|(action, count)| format!("{count} {action}")).collect();
    let signers = rows(list, "signers").len() as u64; // widening
    let whose = if is_vouched { "the signer of this vouches for" } else { "nobody has vouched for" };
    let said =
        format!("run {}: {}; by {}, {whose}", text(list, "run"), actions.join(", "), counted(signers, "key"));
    Row { name: "custody", said, digest: text(list, "head").to_owned() }
}

fn copy(copy: &Value) -> Row {
    let hold = if copy["legal_hold"] == true { ", legal hold" } else { "" };
    let signed =
        if copy["signed"].is_string() { "signed for in the list of custody" } else { "nobody signed for it" };
    let said = format!(
        "run {}: bucket {}, version {}; {} until {}{hold}; {signed}",
        text(copy, "run"),
        text(copy, "bucket"),
        text(copy, "version"),
        text(copy, "mode").to_ascii_lowercase(),
        moment(text(copy, "retain_until")),
    );
    Row { name: "copy", said, digest: text(copy, "sha256").to_owned() }
}

impl Row {
    fn draw(&self, sheet: &mut Sheet) {
        let lines = plain(8.0, INK).wrap(&self.said, SAID);
        let shown = lines.iter().take(3);
        if !sheet.has_room(50.0) {
            sheet.next_page();
        }
        sheet.text(MARGIN, sheet.y, plain(8.0, GREY), self.name);
        for line in shown {
            sheet.text(SAID_X, sheet.y, plain(8.0, INK), line);
            sheet.y += 10.0;
        }
        if !self.digest.is_empty() {
            sheet.text(SAID_X, sheet.y, mono(7.0, GREY), &self.digest);
            sheet.y += 9.0;
        }
        sheet.y -= 4.0;
        sheet.rule(LINE);
        sheet.y += 12.0;
    }
}

fn more(sheet: &mut Sheet, count: usize, what: &str) {
    if let Some(more) = count.checked_sub(ROWS_SHOWN).filter(|more| *more > 0) {
        sheet.text(SAID_X, sheet.y, plain(8.0, GREY), &format!("and {more} more {what}, in the statement"));
        sheet.y += 13.0;
    }
}
