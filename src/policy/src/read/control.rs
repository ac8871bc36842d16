//! Controls and prices.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Map, Reader};
use crate::control::{By, Control, ControlKind, Of, OnStoreDown, Per, Price, Unit, Weekday, Window};
use crate::document::{ReasonCode, Rule, RuleId, Severity, Verdict};
use crate::error::PolicyErrorCode;
use crate::yaml::{Kind, Node};

/// Most controls of a policy.
pub(crate) const CONTROLS_MAX: usize = 64;
/// Most prices of a policy.
pub(crate) const PRICES_MAX: usize = 1024;
/// What a control may let through; as large as a number can be that all readers take alike.
const LIMIT: RangeInclusive<u64> = 1..=(1 << 53) - 1;
/// Different targets that a control may let through.
const DISTINCT: RangeInclusive<u64> = 1..=4_096;
/// Length of a window; the longest month has so many.
const SECONDS: RangeInclusive<u64> = 1..=31 * 86_400;
/// Tokens that a call is taken to use.
const ESTIMATE: RangeInclusive<u64> = 0..=1_000_000_000;
/// Most windows of a freeze.
const WINDOWS_MAX: usize = 64;
/// Millionths for a million tokens.
const PRICE: RangeInclusive<u64> = 0..=1_000_000_000_000;
/// Bytes of an answer that is kept.
const ANSWER_BYTES: RangeInclusive<u64> = 1_024..=(16 << 20);
/// Longest name of a header.
const HEADER_BYTES_MAX: usize = 64;
/// Headers that say something else.
const HEADERS: [&str; 5] = ["authorization", "cookie", "content-type", "content-length", "host"];
/// Calls that are let through without a store.
const BUDGET: RangeInclusive<u64> = 1..=1_000_000_000;

const FREEZE_KEYS: [&str; 9] =
    ["id", "kind", "when", "unless", "windows", "reason", "message", "severity", "threat"];
const IDEMPOTENCY_KEYS: [&str; 10] = [
    "id",
    "kind",
    "when",
    "unless",
    "seconds",
    "header",
    "required",
    "answer_bytes_max",
    "severity",
    "threat",
];
const COMMON_KEYS: [&str; 10] =
    ["id", "kind", "when", "unless", "by", "on_store_down", "reason", "message", "severity", "threat"];
const WINDOW_KEYS: [&str; 2] = ["limit", "seconds"];
const DISTINCT_KEYS: [&str; 3] = ["of", "limit", "seconds"];
const CAP_KEYS: [&str; 4] = ["unit", "limit", "per", "estimate"];
const PRICE_KEYS: [&str; 5] = ["model", "from", "input", "output", "cached"];

impl Reader {
    /// `ids` are those of the rules.
    pub(super) fn controls(&mut self, node: &Node, ids: &[RuleId]) -> Option<Vec<Control>> {
        let items = self.list(node)?;
        self.at_most(node, items.len(), CONTROLS_MAX);
        let mut seen: BTreeMap<RuleId, String> =
            ids.iter().enumerate().map(|(index, id)| (id.clone(), format!("rules[{index}]"))).collect();
        let mut controls = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            controls.extend(self.at(index, |reader| {
                let control = reader.control(item)?;
                let here = format!("controls[{index}]");
                if let Some(first) = seen.insert(control.rule.id.clone(), here) {
                    let message = format!("{first} is `{}` as well", control.rule.id);
                    reader.add(PolicyErrorCode::DuplicateRule, item.place, message);
                }
                Some(control)
            }));
        }
        Some(controls)
    }

    fn control(&mut self, node: &Node) -> Option<Control> {
        let map = self.map(node)?;
        let kind =
            self.required(&map, "kind", |reader, node| reader.choice(node, ControlKind::KINDS, |kind| kind));
        match kind {
            Some("freeze") => self.known_keys(&map, &FREEZE_KEYS),
            Some("idempotency") => self.known_keys(&map, &IDEMPOTENCY_KEYS),
            Some("distinct") => self.known_keys(&map, &[&COMMON_KEYS[..], &DISTINCT_KEYS].concat()),
            Some("cap") => self.known_keys(&map, &[&COMMON_KEYS[..], &CAP_KEYS].concat()),
            Some(_) => self.known_keys(&map, &[&COMMON_KEYS[..], &WINDOW_KEYS].concat()),
            None => {}
        }
        let id = self.required(&map, "id", |reader, node| {
            let text = reader.slug(node)?;
            RuleId::parse(&text)
        });
        let when = self.required(&map, "when", Self::when);
        let unless = self.optional(&map, "unless", Self::unless);
        let kind = match kind? {
            "cap" => self.cap(&map),
            "freeze" => Some(ControlKind::Freeze),
            "idempotency" => self.idempotency(&map),
            "distinct" => self.distinct(&map),
            kind => self.window(&map, kind == "velocity"),
        };
        let of = match kind {
            Some(ControlKind::Distinct { .. }) => {
                let read = |reader: &mut Self, node: &Node| reader.parsed(node, Of::EXPECTED, Of::parse);
                self.required(&map, "of", read).map(Some)
            }
            _ => Some(None),
        };
        let windows = match kind {
            Some(ControlKind::Freeze) => self.required(&map, "windows", Self::windows),
            _ => Some(Vec::new()),
        };
        let header = self.optional(&map, "header", |reader, node| {
            reader.parsed(node, "the name of a header in small letters, such as `idempotency-key`", header)
        });
        let by = self.optional(&map, "by", Self::by);
        let on_store_down = self.optional(&map, "on_store_down", Self::on_store_down);
        let reason = self.optional(&map, "reason", |reader, node| {
            reader.parsed(node, "a code of `A-Z`, `0-9` and `_`, at most 64 and not `OK`", ReasonCode::parse)
        });
        let message = self.optional(&map, "message", Self::safe_text);
        let severity = self
            .optional(&map, "severity", |reader, node| reader.choice(node, Severity::ALL, Severity::as_str));
        let threat = self.optional(&map, "threat", Self::threat);
        let rule = Rule {
            id: id?,
            when: when?,
            unless,
            verdict: Verdict::Block,
            hold: None,
            reason,
            message,
            severity,
            threat: threat.unwrap_or_default(),
            body_storage: None,
        };
        Some(Control { rule, kind: kind?, by, on_store_down, windows: windows?, header, of: of? })
    }

    fn window(&mut self, map: &Map<'_>, velocity: bool) -> Option<ControlKind> {
        let limit = self.required(map, "limit", |reader, node| reader.integer(node, LIMIT));
        let seconds = self.required(map, "seconds", |reader, node| reader.integer(node, SECONDS));
        let seconds = u32::try_from(seconds?).ok()?;
        let limit = limit?;
        Some(match velocity {
            true => ControlKind::Velocity { limit, seconds },
            false => ControlKind::Rate { limit, seconds },
        })
    }

    fn distinct(&mut self, map: &Map<'_>) -> Option<ControlKind> {
        let limit = self.required(map, "limit", |reader, node| reader.integer(node, DISTINCT));
        let seconds = self.required(map, "seconds", |reader, node| reader.integer(node, SECONDS));
        Some(ControlKind::Distinct { limit: limit?, seconds: u32::try_from(seconds?).ok()? })
    }

    fn idempotency(&mut self, map: &Map<'_>) -> Option<ControlKind> {
        let seconds = self.required(map, "seconds", |reader, node| reader.integer(node, SECONDS));
        let required = self.optional(map, "required", Self::boolean);
        let answer_bytes_max =
            self.optional(map, "answer_bytes_max", |reader, node| reader.integer(node, ANSWER_BYTES));
        Some(ControlKind::Idempotency { seconds: u32::try_from(seconds?).ok()?, required, answer_bytes_max })
    }

    fn cap(&mut self, map: &Map<'_>) -> Option<ControlKind> {
        let unit = self.required(map, "unit", |reader, node| reader.choice(node, Unit::ALL, Unit::as_str));
        let limit = self.required(map, "limit", |reader, node| reader.integer(node, LIMIT));
        let per = self.required(map, "per", |reader, node| reader.choice(node, Per::ALL, Per::as_str));
        let estimate = self.optional(map, "estimate", |reader, node| {
            if unit == Some(Unit::Calls) {
                let message = "a call is one call: only `tokens` and `cost` are estimated";
                reader.add(PolicyErrorCode::Value, node.place, message.into());
            }
            reader.integer(node, ESTIMATE)
        });
        Some(ControlKind::Cap { unit: unit?, limit: limit?, per: per?, estimate })
    }

    fn windows(&mut self, node: &Node) -> Option<Vec<Window>> {
        let items = self.list(node)?;
        self.count(node, items.len(), WINDOWS_MAX);
        Some(self.each(items, Self::frozen))
    }

    fn frozen(&mut self, node: &Node) -> Option<Window> {
        let map = self.map(node)?;
        self.known_keys(&map, &["days", "from", "until"]);
        let days = self.optional(&map, "days", |reader, node| {
            let items = reader.list(node)?;
            reader.count(node, items.len(), Weekday::ALL.len());
            Some(reader.each(items, |reader, item| reader.choice(item, Weekday::ALL, Weekday::as_str)))
        });
        let weekly = map.get("days").is_some();
        let read = |reader: &mut Self, node: &Node| match weekly {
            true => reader.parsed(node, "a time of day as `\"22:30\"`, in quotes, UTC", |text| {
                Some((text.to_owned(), minute(text)?))
            }),
            false => reader.parsed(node, "a moment as `\"2026-12-24T00:00:00Z\"`, in quotes", |text| {
                Some((text.to_owned(), moment(text)?))
            }),
        };
        let from = self.required(&map, "from", read);
        let until = self.required(&map, "until", read);
        let (from, until) = (from?, until?);
        if from.1 >= until.1 {
            let message = "a window ends after it begins; one over midnight is two";
            self.add(PolicyErrorCode::Value, node.place, message.into());
        }
        Some(match weekly {
            true => Window::Weekly { days: days?, from, until },
            false => Window::Once { from, until },
        })
    }

    fn by(&mut self, node: &Node) -> Option<Vec<By>> {
        let items = self.list(node)?;
        self.at_most(node, items.len(), By::ALL.len());
        let by = self.each(items, |reader, item| reader.choice(item, By::ALL, By::as_str));
        if by.iter().enumerate().any(|(index, one)| by[..index].contains(one)) {
            self.add(PolicyErrorCode::Value, node.place, "the same stands in it twice".into());
        }
        Some(by)
    }

    fn on_store_down(&mut self, node: &Node) -> Option<OnStoreDown> {
        const EXPECTED: &str = "`closed` or `local_budget: …` in a mapping";
        match &node.kind {
            Kind::Text(text) if text == "closed" => Some(OnStoreDown::Closed),
            Kind::Text(text) => self.other_word(node, EXPECTED, text),
            Kind::Map(_) => {
                let map = self.map(node)?;
                self.known_keys(&map, &["local_budget"]);
                let read = |reader: &mut Self, node: &Node| reader.integer(node, BUDGET);
                self.required(&map, "local_budget", read).map(OnStoreDown::LocalBudget)
            }
            Kind::Word(_) | Kind::List(_) | Kind::Broken => {
                self.wrong_kind(node, EXPECTED);
                None
            }
        }
    }

    /// Costs are counted only by prices.
    pub(super) fn check_prices(&mut self, map: &Map<'_>, controls: &[Control], prices: &[Price]) {
        let costs = |control: &&Control| matches!(control.kind, ControlKind::Cap { unit: Unit::Cost, .. });
        if let Some(control) = controls.iter().find(costs).filter(|_| prices.is_empty()) {
            let message = format!("control `{}` counts costs, and there are no `prices`", control.rule.id);
            self.inside("controls", |reader| reader.add(PolicyErrorCode::MissingKey, map.place, message));
        }
    }

    pub(super) fn prices(&mut self, node: &Node) -> Option<Vec<Price>> {
        let items = self.list(node)?;
        self.at_most(node, items.len(), PRICES_MAX);
        let prices = self.each(items, Self::price);
        let same = |one: &Price, other: &Price| one.model == other.model && one.from == other.from;
        let twice = prices.iter().enumerate().find(|(at, one)| prices[..*at].iter().any(|o| same(o, one)));
        if let Some((_, price)) = twice {
            let message = format!("`{}` has two prices from {} on", price.model, price.from);
            self.add(PolicyErrorCode::Value, node.place, message);
        }
        Some(prices)
    }

    fn price(&mut self, node: &Node) -> Option<Price> {
        let map = self.map(node)?;
        self.known_keys(&map, &PRICE_KEYS);
        let model = self.required(&map, "model", Self::pattern);
        let from = self.required(&map, "from", |reader, node| {
            let expected = "a day as `\"2026-01-31\"`, in quotes";
            reader.parsed(node, expected, |text| Some((text.to_owned(), day(text)?)))
        });
        let mut price = |key| self.required(&map, key, |reader, node| reader.integer(node, PRICE));
        let [input, output] = ["input", "output"].map(&mut price);
        let cached = self.optional(&map, "cached", |reader, node| reader.integer(node, PRICE));
        let (from, from_day) = from?;
        Some(Price { model: model?, from, from_day, input: input?, output: output?, cached })
    }
}

fn header(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=HEADER_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
    (fits && !text.starts_with("estoppel-") && !HEADERS.contains(&text)).then(|| text.to_owned())
}

/// Minutes of the day of `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str, max: u64| {
        let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|number| plain && *number <= max)
    };
    let minute = number(hours, 24)? * 60 + number(minutes, 59)?;
    (minute <= 24 * 60).then_some(minute)
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SSZ`.
pub(crate) fn moment(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (minutes, seconds) = time.rsplit_once(':')?;
    let minute = minute(minutes).filter(|minute| *minute < 24 * 60)?;
    let plain = seconds.len() == 2 && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let second: u64 = seconds.parse().ok().filter(|second| plain && *second <= 59)?;
    Some(day(date)? * 86_400 + minute * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, written `YYYY-MM-DD`, not before it.
pub(crate) fn day(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        let part = &bytes[range];
        part.iter()
            .all(u8::is_ascii_digit)
            .then(|| part.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
    };
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, of_month) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !(1..=length).contains(&of_month) || year < 1970 {
        return None;
    }
    let years = year - 1;
    let leaps = |years: u64| years / 4 - years / 100 + years / 400;
    let before = (year - 1970) * 365 + leaps(years) - leaps(1969);
    let months: u64 = lengths.iter().take(usize::try_from(month - 1).ok()?).sum();
    Some(before + months + of_month - 1)
}

#[cfg(test)]
mod tests {
    use super::day;

    #[test]
    fn days_are_counted_from_1970() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("1970-12-31", 364),
            ("2000-02-29", 11_016),
            ("2026-11-21", 20_778),
            ("2100-03-01", 47_541),
        ] {
            assert_eq!(day(text), Some(number), "{text}");
        }
        for text in [
            "1969-12-31",
            "2026-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-1-01",
            "2026/01/01",
            "",
        ] {
            assert_eq!(day(text), None, "{text}");
        }
    }
}
