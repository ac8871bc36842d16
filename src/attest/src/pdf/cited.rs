//! The part of the page about what stands beside the bundles: chains of custody, copies in an archive, the ledger of releases.

use serde_json::Value;

use super::sheet::Sheet;
use super::{
    Colour, GREY, INK, INNER, LINE, MARGIN, PAPER, RED, bold, counted, heading, moment, mono, plain, rows,
    text,
};

/// Most rows of a kind that are shown.
const ROWS_SHOWN: usize = 3;
const SAID_X: f32 = MARGIN + 66.0;
const SAID: f32 = INNER - 66.0;

/// What a row says, and the digest below it.
struct Row {
    name: &'static str,
    said: String,
    digest: String,
    /// Of the text, where it is not that of the others.
    colour: Option<Colour>,
}

/// Lists of custody in which a verification failed, with what they say of it.
fn failed(predicate: &Value) -> Vec<(&Value, &Value)> {
    let lists = rows(predicate, "custody").iter().map(|list| (list, &list["failed"]));
    lists.filter(|(_, failed)| failed.is_object()).collect()
}

/// Above the evidence, where a chain of custody says that a verification failed.
pub(super) fn warning(sheet: &mut Sheet, predicate: &Value) {
    let lists = failed(predicate);
    if lists.is_empty() {
        return;
    }
    let sum = |of: &dyn Fn(&Value, &Value) -> Option<u64>| -> u64 {
        lists.iter().filter_map(|(list, failed)| of(list, failed)).sum()
    };
    let count = sum(&|_, failed| failed["count"].as_u64());
    let all = sum(&|list, _| list["actions"]["verified"].as_u64());
    let last = lists.iter().filter(|(_, failed)| failed["last"] == "failed").count() as u64; // widening
    let said = format!(
        "By the chains of custody of {}, {count} of {all} verifications failed; of {} it was the last. The bundles as they are \
         here verified when this was made.",
        counted(lists.len() as u64, "bundle"), // widening
        counted(last, "bundle"),
    );
    let lines = plain(8.5, INK).wrap(&said, INNER - 24.0);
    let height = 26.0 + lines.len() as f32 * 11.0; // a few lines
    sheet.fill(MARGIN, sheet.y, INNER, height, PAPER);
    sheet.fill(MARGIN, sheet.y, 2.5, height, RED);
    sheet.text(MARGIN + 12.0, sheet.y + 15.0, bold(8.5, RED), "VERIFICATION FAILED");
    for (row, line) in (0u8..).zip(&lines) {
        sheet.text(MARGIN + 12.0, sheet.y + 28.0 + 11.0 * f32::from(row), plain(8.5, INK), line);
    }
    sheet.y += height + 20.0;
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
    let lists = failed(predicate);
    lists.iter().take(ROWS_SHOWN).for_each(|(list, failed)| failure(list, failed).draw(sheet));
    more(sheet, lists.len(), "lists with failed verifications");
    custody.iter().take(ROWS_SHOWN).for_each(|list| chain(list, is_vouched).draw(sheet));
    more(sheet, custody.len(), "lists of custody");
    if predicate["archive"].is_object() && copies.is_empty() {
        Row::new("copies", "the archive has none of these bundles".into(), "").draw(sheet);
    }
    copies.iter().take(ROWS_SHOWN).for_each(|copy| self::copy(copy).draw(sheet));
    more(sheet, copies.len(), "copies");
    if ledger.is_object() {
        let events = ledger["events"].as_u64().unwrap_or_default();
        let said =
            format!("{}, verified from the first; as it was at this digest:", counted(events, "event"));
        Row::new("releases", said, text(ledger, "head")).draw(sheet);
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
    Row::new("custody", said, text(list, "head"))
}

/// The last of the failed verifications of a list.
fn failure(list: &Value, failed: &Value) -> Row {
    let none = Value::Null;
    let last = rows(failed, "listed").last().unwrap_or(&none);
    let words: Vec<String> = ["integrity", "authenticity", "completeness", "anchoring"]
        .iter()
        .map(|name| format!("{name} {}", text(last, name).replace('_', " ")))
        .collect();
    let reason = last["reason"].as_str().map(|reason| format!(", {reason}")).unwrap_or_default();
    let found =
        last["found"].as_str().map(|found| format!("; it was another file, {found}")).unwrap_or_default();
    let said = format!(
        "run {}: {} failed, last on {}: {}{reason}{found}",
        text(list, "run"),
        counted(failed["count"].as_u64().unwrap_or_default(), "verification"),
        moment(text(last, "ts")),
        words.join(", "),
    );
    Row { colour: Some(RED), ..Row::new("failed", said, text(last, "entry")) }
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
    Row::new("copy", said, text(copy, "sha256"))
}

impl Row {
    fn new(name: &'static str, said: String, digest: &str) -> Self {
        Self { name, said, digest: digest.to_owned(), colour: None }
    }

    fn draw(&self, sheet: &mut Sheet) {
        let style = plain(8.0, self.colour.unwrap_or(INK));
        let lines = style.wrap(&self.said, SAID);
        let shown = lines.iter().take(3);
        if !sheet.has_room(50.0) {
            sheet.next_page();
        }
        sheet.text(MARGIN, sheet.y, plain(8.0, self.colour.unwrap_or(GREY)), self.name);
        for line in shown {
            sheet.text(SAID_X, sheet.y, style, line);
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
