//! The statement as a page for people: one to three pages that cite the digest of the statement. The same statement gives the same bytes.

mod cited;
mod font;
mod sheet;

use serde_json::Value;

use crate::statement::Statement;
pub(crate) use sheet::Style;
use sheet::{Colour, Face, MARGIN, Sheet, WIDTH};

/// Most pages; what does not fit is counted and stands in the statement.
const PAGES_MAX: usize = 3;
/// Most bundles that are listed.
const BUNDLES_LISTED: usize = 5;

const INK: Colour = (0.10, 0.12, 0.16);
const GREY: Colour = (0.42, 0.45, 0.50);
const LINE: Colour = (0.86, 0.87, 0.89);
const PAPER: Colour = (0.96, 0.965, 0.97);
const ACCENT: Colour = (0.05, 0.29, 0.42);
const GREEN: Colour = (0.09, 0.45, 0.28);
const RED: Colour = (0.70, 0.13, 0.13);
const AMBER: Colour = (0.62, 0.38, 0.02);

const INNER: f32 = WIDTH - 2.0 * MARGIN;
const ABOUT_X: f32 = MARGIN + 104.0;
const WORD_X: f32 = MARGIN + 306.0;
const SHOWN_X: f32 = MARGIN + 384.0;

fn plain(size: f32, colour: Colour) -> Style {
    Style { face: Face::Plain, size, colour }
}

fn bold(size: f32, colour: Colour) -> Style {
    Style { face: Face::Bold, size, colour }
}

fn mono(size: f32, colour: Colour) -> Style {
    Style { face: Face::Mono, size, colour }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or("-")
}

fn rows<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Seconds are enough for people.
fn moment(time: &str) -> String {
    format!("{} {} UTC", time.get(..10).unwrap_or(time), time.get(11..19).unwrap_or_default())
}

fn word_colour(word: &str) -> Colour {
    match word {
        "pass" => GREEN,
        "evidence" => ACCENT,
        "fail" => RED,
        "not_assessed" => AMBER,
        _ => GREY,
    }
}

/// The pages.
pub fn pdf(statement: &Statement) -> Vec<u8> {
    let predicate = statement.predicate();
    let framework = &predicate["framework"];
    let title = format!("{}, {}", text(framework, "title"), text(framework, "edition"));
    let digest = statement.digest().to_string();
    let mut sheet = Sheet::new();
    head(&mut sheet, predicate, &digest);
    tiles(&mut sheet, predicate);
    cited::warning(&mut sheet, predicate);
    bundles(&mut sheet, predicate);
    cited::cited(&mut sheet, predicate);
    controls(&mut sheet, predicate);
    let foot = [
        (
            plain(7.0, GREY),
            format!("attestation {}: a copy of the statement with this digest", text(predicate, "id")),
        ),
        (mono(7.0, GREY), digest),
    ];
    sheet.finish(&format!("Attestation: {title}"), &foot, plain(8.0, GREY))
}

fn head(sheet: &mut Sheet, predicate: &Value, digest: &str) {
    let framework = &predicate["framework"];
    sheet.fill(0.0, 0.0, WIDTH, 6.0, ACCENT);
    sheet.text(MARGIN, 46.0, bold(8.5, ACCENT), "ATTESTATION OF EVIDENCE");
    sheet.y = 62.0;
    for line in bold(20.0, INK).wrap(text(framework, "title"), INNER) {
        sheet.y += 10.0;
        sheet.text(MARGIN, sheet.y, bold(20.0, INK), &line);
        sheet.y += 14.0;
    }
    sheet.y += 4.0;
    sheet.text(MARGIN, sheet.y, plain(11.0, GREY), text(framework, "edition"));
    sheet.y += 17.0;
    let says = match text(framework, "kind") {
        "assessment" => {
            "Controls pass or fail by named checks over verified evidence; all others are not assessed."
        }
        _ => "A mapping: it says which evidence answers a control. Nothing in it passes or fails.",
    };
    sheet.text(MARGIN, sheet.y, plain(9.0, INK), says);
    sheet.y += 10.0;

    let top = sheet.y;
    sheet.fill(MARGIN, top, INNER, 62.0, PAPER);
    sheet.fill(MARGIN, top, 2.5, 62.0, ACCENT);
    let told = [
        ("made", moment(text(predicate, "made"))),
        ("signed by", text(&predicate["key"], "kid").to_owned()),
        ("statement", digest.to_owned()),
        ("trust", text(predicate, "trust").to_owned()),
    ];
    for (row, (name, value)) in (0u8..).zip(told) {
        let y = top + 14.0 + 13.0 * f32::from(row);
        sheet.text(MARGIN + 12.0, y, plain(8.0, GREY), name);
        let style = if row == 0 { plain(8.0, INK) } else { mono(7.5, INK) };
        let value = if value == "-" { "no trust document: nobody has vouched for the keys" } else { &value };
        sheet.text(MARGIN + 66.0, y, style, value);
    }
    sheet.y = top + 78.0;
}

fn tiles(sheet: &mut Sheet, predicate: &Value) {
    let words: &[&str] = match text(&predicate["framework"], "kind") {
        "assessment" => &["pass", "fail", "not_assessed", "no_evidence"],
        _ => &["evidence", "no_evidence"],
    };
    let width = (INNER - 10.0 * 3.0) / 4.0;
    let mut x = MARGIN;
    for word in words {
        let count = predicate["counts"][*word].as_u64().unwrap_or_default();
        let colour = if count == 0 { GREY } else { word_colour(word) };
        sheet.fill(x, sheet.y, width, 44.0, PAPER);
        sheet.fill(x, sheet.y + 42.0, width, 2.0, colour);
        sheet.text(x + 10.0, sheet.y + 22.0, bold(17.0, colour), &count.to_string());
        sheet.text(x + 10.0, sheet.y + 35.0, plain(8.0, GREY), &word.replace('_', " "));
        x += width + 10.0;
    }
    sheet.y += 66.0;
}

fn heading(sheet: &mut Sheet, words: &str) {
    sheet.text(MARGIN, sheet.y, bold(10.0, ACCENT), words);
    sheet.y += 6.0;
    sheet.rule(LINE);
    sheet.y += 12.0;
}

fn bundles(sheet: &mut Sheet, predicate: &Value) {
    let bundles = rows(predicate, "bundles");
    heading(sheet, "Evidence");
    let sum =
        |name: &str| -> u64 { bundles.iter().filter_map(|bundle| bundle["counters"][name].as_u64()).sum() };
    let told = format!(
        "{}, verified when this was made: {}, of these {} blocked, {} repaired, {} held.",
        counted(bundles.len() as u64, "sealed bundle"), // widening
        counted(sum("calls"), "call"),
        sum("block"),
        sum("repair"),
        sum("hold")
    );
    sheet.text(MARGIN, sheet.y, plain(9.0, INK), &told);
    sheet.y += 14.0;
    for bundle in bundles.iter().take(BUNDLES_LISTED) {
        let verdicts = &bundle["verdicts"];
        let name = bundle["name"].as_str().unwrap_or(text(bundle, "run"));
        let calls = bundle["counters"]["calls"].as_u64().unwrap_or_default();
        let said = format!(
            "{name}: {} to {}, {}, {}, {}",
            moment(text(bundle, "opened")),
            moment(text(bundle, "sealed")),
            counted(calls, "call"),
            if text(verdicts, "authenticity") == "trusted" { "trusted keys" } else { "self-asserted keys" },
            if text(verdicts, "anchoring") == "anchored" { "anchored" } else { "not anchored" },
        );
        for line in plain(8.0, INK).wrap(&said, INNER).iter().take(2) {
            sheet.text(MARGIN, sheet.y, plain(8.0, INK), line);
            sheet.y += 10.0;
        }
        sheet.text(MARGIN, sheet.y, mono(7.0, GREY), text(bundle, "root"));
        sheet.y += 13.0;
    }
    if let Some(more) = bundles.len().checked_sub(BUNDLES_LISTED).filter(|more| *more > 0) {
        sheet.text(MARGIN, sheet.y, plain(8.0, GREY), &format!("and {more} more, in the statement"));
        sheet.y += 13.0;
    }
    sheet.y += 8.0;
}

/// A control, laid out.
struct Lines {
    id: Vec<String>,
    about: Vec<String>,
    faults: Vec<String>,
    shown: Vec<String>,
    word: String,
}

impl Lines {
    fn of(control: &Value) -> Self {
        let word = control["result"].as_str().unwrap_or(text(control, "state"));
        let shown = rows(control, "evidence").iter().map(|row| {
            let kind = text(row, "kind").split(':').next().unwrap_or_default();
            format!("{} {}", row["count"], kind.replace('_', " "))
        });
        let shown: Vec<String> = shown.collect();
        let faults = rows(control, "checks").iter().filter_map(|check| {
            let name = text(check, "check").replace('_', " ");
            let said = match (check["lacks"].as_str(), check["against"].as_str(), check["why"].as_str()) {
                (Some(kind), _, _) => format!("not shown: {name}; there are no {}", kind.replace('_', " ")),
                (_, Some(kind), _) => format!("not so: {name}; there are {}", kind.replace('_', " ")),
                (_, _, Some(why)) => format!("open: {name}; {why}"),
                _ => return None,
            };
            Some(said)
        });
        let faults: Vec<String> = faults.collect();
        Self {
            id: bold(8.5, INK).wrap(text(control, "id"), ABOUT_X - MARGIN - 8.0),
            about: plain(8.5, INK).wrap(text(control, "about"), WORD_X - ABOUT_X - 14.0),
            faults: faults
                .iter()
                .flat_map(|fault| plain(7.5, RED).wrap(fault, WORD_X - ABOUT_X - 14.0))
                .collect(),
            shown: plain(7.5, GREY).wrap(&shown.join(", "), WIDTH - MARGIN - SHOWN_X),
            word: word.to_owned(),
        }
    }

    fn height(&self) -> f32 {
        let tall = |count: usize, each: f32| count as f32 * each; // a few lines
        let about = tall(self.about.len(), 10.5) + tall(self.faults.len(), 9.5);
        about.max(tall(self.shown.len(), 9.5)).max(tall(self.id.len(), 10.5)) + 8.0
    }

    fn draw(&self, sheet: &mut Sheet) {
        let top = sheet.y;
        let column = |sheet: &mut Sheet, x: f32, mut y: f32, lines: &[String], style: Style| {
            for line in lines {
                sheet.text(x, y, style, line);
                y += style.size + 2.0;
            }
            y
        };
        column(sheet, MARGIN, top, &self.id, bold(8.5, INK));
        let below = column(sheet, ABOUT_X, top, &self.about, plain(8.5, INK));
        let colour = word_colour(&self.word);
        column(sheet, ABOUT_X, below, &self.faults, plain(7.5, colour));
        column(sheet, SHOWN_X, top, &self.shown, plain(7.5, GREY));
        let word = self.word.replace('_', " ");
        let style = bold(7.5, (1.0, 1.0, 1.0));
        sheet.fill(WORD_X, top - 8.5, style.width(&word) + 10.0, 12.0, colour);
        sheet.text(WORD_X + 5.0, top, style, &word);
        sheet.y = top + self.height() - 10.0;
        sheet.rule(LINE);
        sheet.y += 11.5;
    }
}

const OF_ASSESSMENTS: &str = "A control passes when the named checks hold over these bundles. That is not to say that whoever runs the \
    gateway complies with the framework, nor that these bundles are all that there are.";
const OF_MAPPINGS: &str = "Evidence beside a control says that there is something to look at, not that the control is met, nor that these \
    bundles are all that there are.";
const CLOSING: &str = "The statement, not this page, is signed: verify it with `estoppel attest verify`, which makes it again from the \
    bundles. Descriptions of controls are our own words.";

fn controls(sheet: &mut Sheet, predicate: &Value) {
    let controls: Vec<Lines> = rows(predicate, "controls").iter().map(Lines::of).collect();
    let is_assessment = text(&predicate["framework"], "kind") == "assessment";
    let first = if is_assessment { OF_ASSESSMENTS } else { OF_MAPPINGS };
    let closing = plain(8.0, GREY).wrap(&format!("{first} {CLOSING}"), INNER);
    let closing_height = closing.len() as f32 * 10.5 + 16.0; // a few lines
    heading(sheet, "Controls");
    for (index, lines) in controls.iter().enumerate() {
        let is_last_page = sheet.page_count() == PAGES_MAX;
        let reserve = if is_last_page { closing_height + 14.0 } else { 0.0 };
        if !sheet.has_room(lines.height() + reserve) {
            if is_last_page {
                let more = format!("and {} more controls, in the statement", controls.len() - index);
                sheet.text(MARGIN, sheet.y, plain(8.5, INK), &more);
                sheet.y += 14.0;
                break;
            }
            sheet.next_page();
            heading(sheet, "Controls");
        }
        lines.draw(sheet);
    }
    if !sheet.has_room(closing_height) {
        sheet.next_page();
    }
    sheet.y += 8.0;
    for line in closing {
        sheet.text(MARGIN, sheet.y, plain(8.0, GREY), &line);
        sheet.y += 10.5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::tests::{framework, signed};

    fn contains(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn pages(bytes: &[u8]) -> usize {
        let marks = bytes.windows(11).filter(|window| window == b"/Type /Page");
        marks.count() - 1 // that of the tree
    }

    #[test]
    fn every_page_cites_the_statement_and_the_same_statement_gives_the_same_bytes() {
        for name in crate::Framework::names() {
            let statement = signed(&crate::Framework::shipped(name).unwrap());
            let bytes = pdf(&statement);
            assert!(contains(&bytes, &statement.digest().to_string()), "{name}");
            assert!((1..=PAGES_MAX).contains(&pages(&bytes)), "{name}: {} pages", pages(&bytes));
            assert_eq!(bytes, pdf(&statement), "{name}");
        }
    }

    #[test]
    fn a_statement_of_hundreds_of_controls_has_three_pages_and_says_what_is_left_out() {
        let row = "\n[[control]]\nid = \"C-NUMBER\"\nabout = \"Some control with a text of some words that goes on\"\nevidence = [\"calls\"]\n";
        let rows: String = (0..300).map(|number| row.replace("NUMBER", &number.to_string())).collect();
        let bytes = pdf(&signed(&framework("mapping", &rows)));
        assert_eq!(pages(&bytes), PAGES_MAX);
        assert!(contains(&bytes, "more controls, in the statement"));
    }

    #[test]
    fn text_that_the_fonts_lack_and_words_without_an_end_stay_inside() {
        let long = "W".repeat(300);
        let style = plain(9.0, INK);
        for line in style.wrap(&format!("{long} \u{1f600}\u{e9} (\\) {long}"), 100.0) {
            assert!(style.width(&line) <= 100.0, "{line}");
        }
        let rows = format!(
            "\n[[control]]\nid = \"{}\"\nabout = \"\u{e9}()\\\\ {long}\"\nevidence = [\"calls\"]\n",
            "i".repeat(60)
        );
        assert_eq!(pages(&pdf(&signed(&framework("assessment", &rows)))), 1);
    }
}
