//! What a key does: to what is shown, or as a wish that somebody else fulfils.

use estoppel_evidence::time::UnixMicros;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::text::Line;

use super::deeds::{Deed, Hands, Outcome, typed};
use super::form::{Filled, Waiver};
use super::model::Model;
use super::view::{self, Chosen, Row, VIEWS};
use super::words::{Tone, Words, line};
use crate::arguments::View;

/// Lines that the keys for long ways move.
const FAR: usize = 10;

/// What is shown, beside what is known.
#[derive(Clone, Debug)]
pub struct Desk {
    pub view: View,
    pub chosen: Chosen,
    /// First line of the details that is shown.
    pub top: usize,
    pub over: Option<Over>,
    /// What was said last.
    pub said: Option<(Tone, String)>,
    /// Commands that run.
    pub running: Vec<String>,
    /// What came of commands while something else was in front.
    pub unseen: Vec<Outcome>,
}

/// Something in front of the views.
#[derive(Clone, Debug)]
pub enum Over {
    /// Shall this be done? From its line `top` on.
    Asked {
        deed: Deed,
        top: usize,
    },
    /// Which gate, why, and for how long?
    Waiving(Box<Waiver>),
    /// Shall the dashboard end, though commands run?
    Leaving,
    Text {
        title: String,
        tone: Tone,
        lines: Vec<Line<'static>>,
        top: usize,
    },
}

/// What somebody else has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Quit,
    Suspend,
    Redraw,
    /// Runs a command that somebody agreed to, or that changes nothing.
    Do(Deed),
}

impl Desk {
    pub fn new(view: View, generation: Option<String>) -> Self {
        Self {
            view,
            chosen: Chosen { generation, ..Chosen::default() },
            top: 0,
            over: None,
            said: None,
            running: Vec::new(),
            unseen: Vec::new(),
        }
    }

    pub fn press(&mut self, key: KeyEvent, model: &Model, hands: &Hands, now: UnixMicros) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => self.leave(),
                KeyCode::Char('z') => Wish::Suspend,
                KeyCode::Char('l') => Wish::Redraw,
                _ => Wish::Nothing,
            };
        }
        self.said = None;
        match self.over.take() {
            Some(over) => self.press_over(over, key.code, hands),
            None => self.press_view(key.code, model, hands, now),
        }
    }

    fn leave(&mut self) -> Wish {
        if self.running.is_empty() || matches!(self.over, Some(Over::Leaving)) {
            return Wish::Quit;
        }
        self.over = Some(Over::Leaving);
        Wish::Nothing
    }

    /// Text that is pasted is no keys.
    pub fn paste(&mut self, text: &str) {
        if let Some(Over::Waiving(form)) = &mut self.over {
            form.paste(text);
        }
    }

    fn press_over(&mut self, over: Over, key: KeyCode, hands: &Hands) -> Wish {
        let wish = match (over, key) {
            (Over::Waiving(_), KeyCode::Esc) => {
                self.say(Tone::Plain, "nothing is waived");
                Wish::Nothing
            }
            (Over::Waiving(mut form), key) => {
                self.over = Some(match form.press(key, hands) {
                    Filled::Done(deed) => Over::Asked { deed, top: 0 },
                    Filled::More => Over::Waiving(form),
                    Filled::Wrong(why) => {
                        self.say(Tone::Care, &why);
                        Over::Waiving(form)
                    }
                });
                Wish::Nothing
            }
            (Over::Asked { deed, .. }, KeyCode::Char('y')) if self.running.contains(&deed.name) => {
                self.say(Tone::Care, &format!("{} runs already", deed.name));
                Wish::Nothing
            }
            (Over::Asked { deed, .. }, KeyCode::Char('y')) => {
                self.say(Tone::Care, &format!("{} has begun", deed.name));
                return Wish::Do(deed);
            }
            (Over::Asked { deed, .. }, KeyCode::Char('n' | 'q') | KeyCode::Esc) => {
                self.say(Tone::Plain, &format!("{}: nothing was done", deed.name));
                Wish::Nothing
            }
            (Over::Leaving, KeyCode::Char('y' | 'q')) => return Wish::Quit,
            (Over::Leaving, KeyCode::Char('n') | KeyCode::Esc) => Wish::Nothing,
            // Neither yes nor no: it is asked again.
            (Over::Asked { deed, top }, key) => {
                let top = scrolled(top, key).unwrap_or(top);
                self.over = Some(Over::Asked { deed, top });
                Wish::Nothing
            }
            (Over::Leaving, _) => {
                self.over = Some(Over::Leaving);
                Wish::Nothing
            }
            (Over::Text { title, tone, lines, top }, key) => {
                self.over = scrolled(top, key).map(|top| Over::Text { title, tone, lines, top });
                Wish::Nothing
            }
        };
        if self.over.is_none() {
            self.show_unseen();
        }
        wish
    }

    fn press_view(&mut self, key: KeyCode, model: &Model, hands: &Hands, now: UnixMicros) -> Wish {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return self.leave(),
            KeyCode::Char('?' | 'h') => {
                let (title, lines) = ("keys".to_owned(), super::screen::help());
                self.over = Some(Over::Text { title, tone: Tone::Plain, lines, top: 0 });
            }
            KeyCode::Char(number @ '1'..='4') => {
                let at = number.to_digit(10).unwrap_or(1) as usize - 1; // one of four
                self.turn_to(VIEWS[at]);
            }
            KeyCode::Tab => self.turn_by(1),
            KeyCode::BackTab => self.turn_by(VIEWS.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(model, now, |at, _| at.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.step(model, now, |at, _| at.saturating_sub(1)),
            KeyCode::Home | KeyCode::Char('g') => self.step(model, now, |_, _| 0),
            KeyCode::End | KeyCode::Char('G') => self.step(model, now, |_, last| last),
            KeyCode::Right => self.step_generation(model, now, |at| at.saturating_add(1)),
            KeyCode::Left => self.step_generation(model, now, |at| at.saturating_sub(1)),
            KeyCode::PageDown | KeyCode::Char(' ') => self.top = self.top.saturating_add(FAR),
            KeyCode::PageUp => self.top = self.top.saturating_sub(FAR),
            KeyCode::Enter => self.open(model, now),
            KeyCode::Char('l') => return self.logs(model, hands, now),
            KeyCode::Char('s') if self.view != View::Gateway => {
                let head = model.releases.value.as_ref().and_then(|releases| releases.commit.as_deref());
                let deed =
                    view::subject(self.view, model, &self.chosen).map(|found| hands.start(found, head));
                self.ask(deed, "no generation is chosen");
            }
            KeyCode::Char('p') if self.view != View::Gateway => {
                let deed = view::subject(self.view, model, &self.chosen).map(|found| hands.promote(found));
                self.ask(deed, "no generation is chosen");
            }
            KeyCode::Char('a') if self.view != View::Gateway => {
                let deed = view::subject(self.view, model, &self.chosen).map(|found| hands.approve(found));
                self.ask(deed, "no generation is chosen");
            }
            KeyCode::Char('e') if self.view != View::Gateway => {
                let deed = view::subject(self.view, model, &self.chosen).map(|found| hands.seal(found));
                self.ask(deed, "no generation is chosen");
            }
            KeyCode::Char('w') if self.view != View::Gateway => {
                let form =
                    view::subject(self.view, model, &self.chosen).map(|found| Waiver::of(found, hands));
                match form {
                    Some(Ok(form)) => self.over = Some(Over::Waiving(Box::new(form))),
                    Some(Err(why)) => self.say(Tone::Care, &why),
                    None => self.say(Tone::Care, "no generation is chosen"),
                }
            }
            KeyCode::Char(key @ ('a' | 'd')) if self.view == View::Gateway => {
                let deed = match view::at_gateway(model, &self.chosen) {
                    Some((admin, Row::Hold(hold))) => Some(hands.decide(hold, admin, key == 'a')),
                    _ => None,
                };
                self.ask(deed, "choose a call that waits");
            }
            KeyCode::Char('e') => {
                let deed = match view::at_gateway(model, &self.chosen) {
                    Some((admin, Row::Hold(hold))) => Some(hands.seal_run(&hold.run, admin)),
                    Some((admin, Row::Call(call))) => Some(hands.seal_run(&call.run, admin)),
                    _ => None,
                };
                self.ask(deed, "choose a call, whose run is sealed");
            }
            _ => {}
        }
        Wish::Nothing
    }

    fn say(&mut self, tone: Tone, text: &str) {
        self.said = Some((tone, text.to_owned()));
    }

    /// Asks whether it shall be done, or says why it cannot.
    fn ask(&mut self, deed: Option<Result<Deed, String>>, without: &str) {
        match deed {
            Some(Ok(deed)) => self.over = Some(Over::Asked { deed, top: 0 }),
            Some(Err(why)) => self.say(Tone::Care, &why),
            None => self.say(Tone::Care, without),
        }
    }

    fn turn_to(&mut self, view: View) {
        self.view = view;
        self.top = 0;
    }

    fn turn_by(&mut self, by: usize) {
        let at = VIEWS.iter().position(|view| *view == self.view).unwrap_or_default();
        self.turn_to(VIEWS[(at + by) % VIEWS.len()]);
    }

    /// The keys of the rows, and which of them is chosen.
    pub fn rows(&self, model: &Model, now: UnixMicros) -> (Vec<String>, usize) {
        let page = view::page(self.view, model, &self.chosen, now, 0);
        let keys: Vec<String> = page.rows.into_iter().map(|(key, _)| key).collect();
        let chosen = match self.view {
            View::Releases => &self.chosen.generation,
            View::Evolutions => &self.chosen.happened,
            View::Run => &self.chosen.running,
            View::Gateway => &self.chosen.gateway,
        };
        let at = keys.iter().position(|key| Some(key) == chosen.as_ref()).unwrap_or_default();
        (keys, at)
    }

    fn step(&mut self, model: &Model, now: UnixMicros, to: impl Fn(usize, usize) -> usize) {
        let (mut keys, at) = self.rows(model, now);
        let Some(last) = keys.len().checked_sub(1) else { return };
        let key = Some(keys.swap_remove(to(at, last).min(last)));
        match self.view {
            View::Releases => self.chosen = Chosen { generation: key, happened: None, ..self.chosen.clone() },
            View::Evolutions => self.chosen.happened = key,
            View::Run => self.chosen.running = key,
            View::Gateway => self.chosen.gateway = key,
        }
        self.top = 0;
    }

    /// Another generation, whatever view of it is shown.
    fn step_generation(&mut self, model: &Model, now: UnixMicros, to: impl Fn(usize) -> usize) {
        if !matches!(self.view, View::Releases | View::Evolutions) {
            return;
        }
        let view = std::mem::replace(&mut self.view, View::Releases);
        self.step(model, now, |at, _| to(at));
        self.view = view;
    }

    /// The details, with the whole screen for themselves.
    fn open(&mut self, model: &Model, now: UnixMicros) {
        let lines = view::details(self.view, model, &self.chosen, now, usize::MAX);
        if !lines.is_empty() && !self.rows(model, now).0.is_empty() {
            let (mut keys, at) = self.rows(model, now);
            let title = keys.swap_remove(at);
            // Of a log the end counts.
            let top = if self.view == View::Run { usize::MAX } else { 0 };
            self.over = Some(Over::Text { title, tone: Tone::Plain, lines, top });
        }
    }

    fn logs(&mut self, model: &Model, hands: &Hands, now: UnixMicros) -> Wish {
        let evolution = match self.view {
            View::Gateway => None,
            View::Run => {
                self.open(model, now);
                return Wish::Nothing;
            }
            View::Evolutions => view::happened(model, &self.chosen).and_then(|row| row.evolution.as_ref()),
            View::Releases => {
                let rows =
                    view::generation(model, &self.chosen).into_iter().flat_map(|found| &found.timeline);
                rows.filter_map(|row| row.evolution.as_ref()).next()
            }
        };
        match evolution {
            None => self.say(Tone::Care, "choose an evolution"),
            Some(open) if open.result == "OPEN" => {
                self.say(Tone::Care, "it has not ended; 3 shows the end of its log, if it runs here");
            }
            Some(cut) if cut.result == "CUT_OFF" => {
                self.say(Tone::Care, "it was cut off; 3 shows the end of its log");
            }
            Some(ended) => match hands.logs(&ended.id) {
                Ok(deed) => return Wish::Do(deed),
                Err(why) => self.say(Tone::Care, &why),
            },
        }
        Wish::Nothing
    }

    pub fn begun(&mut self, deed: &Deed) {
        self.running.push(deed.name.clone());
        if deed.words.starts_with(&["evolution".into(), "start".into()]) {
            self.turn_to(View::Run);
        }
    }

    /// A command has ended. What somebody is being asked stays in front.
    pub fn ended(&mut self, outcome: Outcome) {
        if let Some(at) = self.running.iter().position(|name| *name == outcome.name) {
            self.running.remove(at);
        }
        let (tone, word) = outcome.word();
        self.say(tone, &format!("{}: {word}", outcome.name));
        self.unseen.push(outcome);
        if self.over.is_none() {
            self.show_unseen();
        }
    }

    fn show_unseen(&mut self) {
        if self.unseen.is_empty() {
            return;
        }
        let outcome = self.unseen.remove(0);
        let (tone, word) = outcome.word();
        let exit = outcome.exit.map(|exit| format!(", exit code {exit}")).unwrap_or_default();
        let lines = outcome.lines.iter().map(|text| line(Tone::Plain, text)).collect();
        self.over =
            Some(Over::Text { title: format!("{}: {word}{exit}", outcome.name), tone, lines, top: 0 });
    }
}

/// Where a key leads that scrolls; None of others.
fn scrolled(top: usize, key: KeyCode) -> Option<usize> {
    Some(match key {
        KeyCode::Down | KeyCode::Char('j') => top.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => top.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => top.saturating_add(FAR),
        KeyCode::PageUp => top.saturating_sub(FAR),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => usize::MAX,
        _ => return None,
    })
}

/// What is asked before a command runs.
pub fn question(deed: &Deed) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = deed.says.iter().map(|says| line(Tone::Plain, says)).collect();
    lines.push(Line::default());
    lines.push(Words::new().add(Tone::Dim, "runs: ").add(Tone::Plain, &typed(&deed.words)).line());
    lines.push(Line::default());
    lines.push(
        Words::new()
            .add(Tone::Strong, "y")
            .add(Tone::Plain, " yes   ")
            .add(Tone::Strong, "n")
            .add(Tone::Plain, " no")
            .line(),
    );
    lines
}
