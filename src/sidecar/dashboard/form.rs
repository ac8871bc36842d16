//! What has to be said before a gate is waived: which one, why, and for how long.

use ratatui::crossterm::event::KeyCode;
use ratatui::text::Line;

use super::deeds::{Deed, Hands};
use super::model::{Gate, Generation};
use super::words::{Tone, Words, line};

/// Most characters of a reason that are taken.
const REASON_MAX: usize = 512;
/// Longest time that a waiver counts: a year.
const HOURS_MAX: u32 = 8_784;

/// What is filled in.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// As it was when the form was opened: what is waived is what was on the screen then.
    generation: Generation,
    /// Those that refused when they were last asked, and that can be waived.
    gates: Vec<Gate>,
    chosen: usize,
    reason: String,
    hours: String,
    field: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Gate,
    Reason,
    Hours,
}

/// What came of a key.
pub enum Filled {
    /// It goes on.
    More,
    /// It cannot be asked for yet, and why.
    Wrong(String),
    Done(Deed),
}

impl Waiver {
    /// # Errors
    /// Why nothing can be waived.
    pub fn of(generation: &Generation, hands: &Hands) -> Result<Self, String> {
        hands.demand_waivable(generation)?;
        let refusing: Vec<&str> =
            generation.gates.iter().filter(|gate| gate.refuses()).map(|gate| gate.gate.as_str()).collect();
        if refusing.is_empty() {
            return Err(format!("no gate is known to refuse {}: p asks them", generation.version));
        }
        if generation.waivable.is_empty() {
            let said =
                format!("what refuses {} cannot be waived: {}", generation.version, refusing.join(", "));
            return Err(said);
        }
        Ok(Self {
            generation: generation.clone(),
            gates: generation.waivable.clone(),
            chosen: 0,
            reason: String::new(),
            hours: "24".into(),
            field: Field::Gate,
        })
    }

    pub fn title(&self) -> String {
        format!("waiver for {}", self.generation.version)
    }

    /// Whether letters go into one of its fields.
    pub fn is_written(&self) -> bool {
        self.field != Field::Gate
    }

    pub fn press(&mut self, key: KeyCode, hands: &Hands) -> Filled {
        let (last, count) = (self.gates.len() - 1, self.gates.len());
        match (self.field, key) {
            (_, KeyCode::Tab | KeyCode::Down) => self.field = self.field.next(),
            (_, KeyCode::BackTab | KeyCode::Up) => self.field = self.field.next().next(),
            (Field::Hours, KeyCode::Enter) => return self.deed(hands),
            (_, KeyCode::Enter) => self.field = self.field.next(),
            (Field::Gate, KeyCode::Right | KeyCode::Char(' ' | 'l')) => {
                self.chosen = (self.chosen + 1) % count
            }
            (Field::Gate, KeyCode::Left | KeyCode::Char('h')) => {
                self.chosen = self.chosen.checked_sub(1).unwrap_or(last)
            }
            (Field::Reason, KeyCode::Char(c)) => self.type_in(c),
            (Field::Reason, KeyCode::Backspace) => drop(self.reason.pop()),
            (Field::Hours, KeyCode::Char(c)) if c.is_ascii_digit() && self.hours.len() < 4 => {
                self.hours.push(c)
            }
            (Field::Hours, KeyCode::Backspace) => drop(self.hours.pop()),
            _ => {}
        }
        Filled::More
    }

    /// Text that is pasted is a reason, where one is asked for, and nothing else.
    pub fn paste(&mut self, text: &str) {
        if self.field == Field::Reason {
            text.chars().for_each(|c| self.type_in(if c.is_whitespace() { ' ' } else { c }));
        }
    }

    fn type_in(&mut self, c: char) {
        if !c.is_control() && self.reason.chars().count() < REASON_MAX {
            self.reason.push(c);
        }
    }

    fn deed(&mut self, hands: &Hands) -> Filled {
        let hours = self.hours.parse().ok().filter(|hours| (1..=HOURS_MAX).contains(hours));
        let Some(hours) = hours else {
            return Filled::Wrong(format!("a waiver counts for 1 to {HOURS_MAX} hours"));
        };
        if self.reason.trim().is_empty() {
            self.field = Field::Reason;
            return Filled::Wrong("what is signed says why".into());
        }
        match hands.waive(&self.generation, &self.gates[self.chosen], self.reason.trim(), hours) {
            Ok(deed) => Filled::Done(deed),
            Err(why) => Filled::Wrong(why),
        }
    }

    pub fn lines(&self) -> Vec<Line<'static>> {
        let gate = &self.gates[self.chosen];
        let many = if self.gates.len() > 1 {
            format!("   ← → {} of {}", self.chosen + 1, self.gates.len())
        } else {
            String::new()
        };
        let row = |field: Field, name: &str, text: &str, after: &str| {
            let (mark, tone) = if field == self.field { ("> ", Tone::Strong) } else { ("  ", Tone::Plain) };
            let cursor = if field == self.field && field != Field::Gate { "_" } else { "" };
            Words::new()
                .cell(tone, &format!("{mark}{name}"), 10)
                .add(tone, &format!("{text}{cursor}{after}"))
                .line()
        };
        vec![
            row(Field::Gate, "gate", &gate.gate, &many),
            Words::new()
                .cell(Tone::Dim, "  it said", 10)
                .add(Tone::of(&gate.state), &format!("{}: {}", gate.state, gate.why))
                .line(),
            row(Field::Reason, "reason", &self.reason, ""),
            row(Field::Hours, "hours", &self.hours, ""),
            Line::default(),
            line(Tone::Dim, "Enter at the end asks, and signs nothing."),
        ]
    }
}

impl Field {
    fn next(self) -> Self {
        match self {
            Self::Gate => Self::Reason,
            Self::Reason => Self::Hours,
            Self::Hours => Self::Gate,
        }
    }
}
