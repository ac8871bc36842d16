//! How often detectors are right: precision and recall on a corpus that is made here, by the formats and check digits that
//! issuers publish, and on texts of `test/detectors`. Its table stands in docs/detectors.md.
//!
//! `make detectors-report` writes it; without `UPDATE_GOLDEN` the test holds the page against what comes out.

#![allow(
    clippy::disallowed_methods,
    reason = "the crate touches no files; this test reads and writes a page"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use estoppel_detect::{Confidence, Detector, Engine, Scanner};

const EACH: usize = 200;
const BEGIN: &str = "<!-- detectors-report: begin -->\n";
const END: &str = "<!-- detectors-report: end -->\n";

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize // below `end`
    }

    fn of(&mut self, letters: &str, length: usize) -> String {
        let letters: Vec<char> = letters.chars().collect();
        (0..length).map(|_| letters[self.below(letters.len())]).collect()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// `text` in a sentence.
    fn said(&mut self, text: &str) -> String {
        let before = self.one(&["see ", "it is ", "{\"value\": \"", "use (", "\n", "note: "]);
        let after = self.one(&[" today", ", and more", "\"}", ")", "\n", "."]);
        format!("{before}{text}{after}")
    }
}

const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base62(mut number: u32) -> String {
    let letters: Vec<char> =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".chars().collect();
    let mut out = ['0'; 6];
    for place in out.iter_mut().rev() {
        *place = letters[(number % 62) as usize];
        number /= 62;
    }
    out.iter().collect()
}

/// CRC-32, bit by bit, so that the corpus does not share code with what it tests.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
        sum
    })
}

fn luhn_digit(digits: &str) -> char {
    let sum: u32 = digits
        .chars()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = digit.to_digit(10).unwrap_or_default();
            let digit = if at % 2 == 0 { digit * 2 } else { digit };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    char::from_digit((10 - sum % 10) % 10, 10).unwrap_or('0')
}

fn iban(chance: &mut Chance) -> String {
    let body = chance.of(DIGITS, 18);
    let value = format!("{body}131400"); // D is 13, E is 14
    let rest = value.chars().fold(0, |sum, digit| (sum * 10 + digit.to_digit(10).unwrap_or_default()) % 97);
    format!("DE{:02}{body}", 98 - rest)
}

/// Texts that have something of a rule in them.
fn positives(chance: &mut Chance) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for _ in 0..EACH {
        let random = chance.of(LETTERS, 30);
        let token = format!(
            "{}{random}{}",
            chance.one(&["ghp_", "gho_", "ghs_", "npm_"]),
            base62(crc32(random.as_bytes()))
        );
        let rule = if token.starts_with("npm") { "secret.npm_token" } else { "secret.github_token" };
        out.push((rule, token));
        out.push(("secret.aws_key", format!("AKIA{}", chance.of(BASE32, 16))));
        out.push(("secret.gcp_api_key", format!("AIza{}", chance.of(LETTERS, 35))));
        out.push(("secret.stripe_key", format!("sk_live_{}", chance.of(LETTERS, 24))));
        out.push((
            "secret.slack_token",
            format!("xoxb-{}-{}", chance.of(DIGITS, 12), chance.of(LETTERS, 24)),
        ));
        out.push(("secret.gitlab_token", format!("glpat-{}", chance.of(LETTERS, 20))));
        out.push(("secret.anthropic_key", format!("sk-ant-api03-{}", chance.of(LETTERS, 93))));
        out.push((
            "secret.sendgrid_key",
            format!("SG.{}.{}", chance.of(LETTERS, 22), chance.of(LETTERS, 43)),
        ));
        out.push(("secret.database_url", format!("postgres://app:{}@db/orders", chance.of(LETTERS, 14))));
        let digits = format!("{}{}", chance.one(&["4", "51", "2221", "6011"]), chance.of(DIGITS, 15));
        let digits = digits.get(..15).unwrap_or_default().to_owned();
        let card = format!("{digits}{}", luhn_digit(&digits));
        let parts: Vec<&str> = (0..4).filter_map(|at| card.get(at * 4..at * 4 + 4)).collect();
        let join = chance.one(&["", " ", "-"]);
        out.push(("pii.card", parts.join(join)));
        out.push(("pii.iban", iban(chance)));
        out.push(("pii.email", format!("{}@{}.example", chance.of("abcdefgh", 6), chance.of("klmnop", 5))));
        out.push(("pii.phone", format!("+49 {} {}", chance.of("123456789", 3), chance.of(DIGITS, 7))));
        out.push((
            "pii.us_ssn",
            format!(
                "SSN {}-{}-{}",
                100 + chance.below(500),
                10 + chance.below(89),
                1000 + chance.below(8999)
            ),
        ));
        let hidden: String =
            chance.of("abc", 6).chars().filter_map(|c| char::from_u32(0xE0000 + c as u32)).collect();
        out.push(("unicode.tags", format!("a{hidden}b")));
        out.push((
            "ssrf.metadata",
            chance
                .one(&["http://169.254.169.254/", "http://0xA9FEA9FE/a", "http://[::ffff:a9fe:a9fe]/"])
                .into(),
        ));
        out.push(("ssrf.private", format!("http://10.{}.0.{}/", chance.below(255), chance.below(255))));
    }
    out.into_iter().map(|(rule, text)| (rule, chance.said(&text))).collect()
}

/// Texts that look like something and are nothing.
fn negatives(chance: &mut Chance) -> Vec<String> {
    let prose = "The committee met on Tuesday and agreed that the report about the harbour would be ready before spring begins";
    let words: Vec<&str> = prose.split(' ').collect();
    let mut out = Vec::new();
    for _ in 0..EACH {
        let hex = chance.of(HEX, 32);
        out.push(format!(
            "{}-{}-4{}-a{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..15],
            &hex[15..18],
            &hex[18..30]
        ));
        out.push(format!("sha256:{}", chance.of(HEX, 64)));
        out.push(chance.of(HEX, 40));
        out.push(format!("order {}", chance.of(DIGITS, 12)));
        out.push(format!("tracking {}", chance.of(DIGITS, 16)));
        out.push(format!(
            "2026-{:02}-{:02}T{:02}:00:00.{}Z",
            1 + chance.below(12),
            1 + chance.below(28),
            chance.below(24),
            chance.of(DIGITS, 6)
        ));
        out.push(format!("0.{}", chance.of(DIGITS, 16)));
        out.push(format!(
            "v{}.{}.{}-rc{}",
            chance.below(9),
            chance.below(99),
            chance.below(99),
            chance.below(9)
        ));
        out.push(format!("ISBN 978-{}-{}", chance.of(DIGITS, 6), chance.of(DIGITS, 4)));
        out.push(format!("https://example.com/{}?page={}", chance.of("abcdef", 8), chance.below(99)));
        out.push(format!("data-{}", chance.of(LETTERS, 20)));
        out.push((0..12).map(|_| words[chance.below(words.len())]).collect::<Vec<_>>().join(" "));
        out.push(format!("SKU{} {}", chance.of(DIGITS, 9), chance.of("ABCDEF", 6)));
        out.push(format!("token_count = {}", chance.of(DIGITS, 5)));
        out.push("family 👩\u{200D}👩\u{200D}👧, שלום and مرحبا".into());
    }
    out.into_iter().map(|text| chance.said(&text)).collect()
}

/// How sure the surest finding of each detector is.
fn surest(engine: &Engine, text: &str) -> Vec<(Detector, &'static str, Confidence)> {
    let (mut scanner, mut found) = (Scanner::default(), Vec::new());
    let mut keep =
        |one: estoppel_detect::Found<'_>| found.push((one.rule.detector, one.rule.id, one.confidence));
    scanner.push(engine, text.as_bytes(), &mut keep);
    scanner.finish(engine, &mut keep);
    found
}

#[derive(Default)]
struct Tally {
    right: usize,
    missed: usize,
    wrong: usize,
    clear: usize,
}

impl Tally {
    fn row(&self, name: &str, least: Confidence) -> String {
        let share = |part: usize, all: usize| match all {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", 100.0 * part as f64 / all as f64), // small counts
        };
        format!(
            "| `{name}` | {least} | {} | {} | {} | {} |\n",
            self.right + self.missed,
            share(self.right, self.right + self.missed),
            self.wrong + self.clear,
            share(self.wrong, self.wrong + self.clear),
        )
    }
}

fn report() -> String {
    let engine = Engine::new(|_| true).expect("the rules that are compiled in compile");
    let mut chance = Chance(2026);
    let (positives, negatives) = (positives(&mut chance), negatives(&mut chance));
    let injection =
        std::fs::read_to_string(root().join("test/detectors/injection.txt")).expect("it is there");
    let mut table = String::from(
        "| detector | counts from | positives | found | negatives | found wrongly |\n|---|---|---|---|---|---|\n",
    );
    for detector in [Detector::Secrets, Detector::Pii, Detector::Unicode, Detector::Ssrf, Detector::Injection]
    {
        for least in [Confidence::High, Confidence::Medium, Confidence::Low] {
            let mut tally = Tally::default();
            let has = |text: &str, rule: Option<&str>| {
                let is_it = |one: &(Detector, &str, Confidence)| {
                    one.0 == detector && one.2 >= least && rule.is_none_or(|rule| rule == one.1)
                };
                surest(&engine, text).iter().any(is_it)
            };
            if detector == Detector::Injection {
                for line in injection.lines().filter(|line| !line.starts_with('#')) {
                    let (sign, text) = line.split_at(1);
                    match (sign, has(text, None)) {
                        ("+", true) => tally.right += 1,
                        ("+", false) => tally.missed += 1,
                        (_, true) => tally.wrong += 1,
                        (_, false) => tally.clear += 1,
                    }
                }
            } else {
                let class = match detector {
                    Detector::Secrets => "secret.",
                    Detector::Pii => "pii.",
                    Detector::Unicode => "unicode.",
                    _ => "ssrf.",
                };
                for (rule, text) in positives.iter().filter(|(rule, _)| rule.starts_with(class)) {
                    if has(text, Some(rule)) { tally.right += 1 } else { tally.missed += 1 }
                }
                for text in &negatives {
                    if has(text, None) { tally.wrong += 1 } else { tally.clear += 1 }
                }
            }
            table.push_str(&tally.row(detector.as_str(), least));
        }
    }
    let _ = writeln!(
        table,
        "\n{} rules; `make detectors-report` writes this table.",
        estoppel_detect::RULES.len()
    );
    table
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_page_has_what_the_corpus_says() {
    let path = root().join("docs/detectors.md");
    let page = std::fs::read_to_string(&path).expect("it is there");
    let (head, rest) = page.split_once(BEGIN).expect("the table's beginning is marked");
    let (table, tail) = rest.split_once(END).expect("the table's end is marked");
    let now = report();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{now}{END}{tail}")).expect("it can be written");
    } else {
        assert_eq!(table, now, "make detectors-report writes docs/detectors.md");
    }
}

/// What enforcement stands on.
#[test]
fn structure_that_is_sure_is_found_and_hardly_ever_wrong() {
    let engine = Engine::new(|_| true).expect("the rules that are compiled in compile");
    let mut chance = Chance(7);
    let sure = |text: &str| {
        surest(&engine, text)
            .into_iter()
            .filter(|one| one.2 == Confidence::High)
            .map(|one| one.1)
            .collect::<Vec<_>>()
    };
    for (rule, text) in
        positives(&mut chance).iter().filter(|(rule, _)| !matches!(*rule, "pii.email" | "pii.phone"))
    {
        assert!(sure(text).contains(rule), "{rule}: {text:?}");
    }
    let negatives = negatives(&mut chance);
    let wrong = negatives.iter().filter(|text| !sure(text).is_empty()).count();
    assert!(wrong * 200 <= negatives.len(), "{wrong} of {}", negatives.len());
}
