//! Lines as they are drawn and printed: whatever stands in them can neither move the cursor nor end the line.

use estoppel_evidence::time::UnixMicros;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::output::plain;

/// What a word means. It says so itself, too: colours are never all that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Care,
    Bad,
}

impl Tone {
    pub fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().add_modifier(Modifier::BOLD),
            Self::Dim => Style::new().add_modifier(Modifier::DIM),
            Self::Good => Style::new().fg(Color::Green),
            Self::Care => Style::new().fg(Color::Yellow),
            Self::Bad => Style::new().fg(Color::Red),
        }
    }

    /// Of a status, a result, the state of a step or of a gate, or a verdict.
    pub fn of(word: &str) -> Self {
        match word {
            "promoted" | "PASSED" | "passed" | "pass" | "proven" | "ok" | "allow" => Self::Good,
            "sealed" | "OPEN" | "running" | "missing" | "waived" | "open" | "hold" | "repair" | "opening"
            | "approved" => Self::Care,
            "draft" | "abandoned" | "wanted" | "skipped" | "-" => Self::Dim,
            _ => Self::Bad,
        }
    }
}

/// Builds a line. Every text that comes into one comes through here.
#[derive(Clone, Debug, Default)]
pub struct Words(Vec<Span<'static>>);

impl Words {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(mut self, tone: Tone, text: &str) -> Self {
        self.0.push(Span::styled(plain(text), tone.style()));
        self
    }

    /// In a column of so many characters, with one free at its end.
    pub fn cell(self, tone: Tone, text: &str, width: usize) -> Self {
        self.add(tone, &fitted(text, width))
    }

    pub fn line(self) -> Line<'static> {
        Line::from(self.0)
    }
}

/// A line of one text.
pub fn line(tone: Tone, text: &str) -> Line<'static> {
    Words::new().add(tone, text).line()
}

/// A heading over further lines.
pub fn heading(text: &str) -> Line<'static> {
    line(Tone::Strong, text)
}

/// A line as text, without blanks at its end.
pub fn printed(line: &Line<'_>) -> String {
    let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    text.trim_end().to_owned()
}

/// A line in so many columns: where there is no room for all of it, `…` stands for the rest.
pub fn clipped(line: &Line<'static>, columns: usize) -> Line<'static> {
    if width(&printed(line)) <= columns {
        return line.clone();
    }
    let (mut spans, mut room) = (Vec::new(), columns.saturating_sub(1));
    for span in &line.spans {
        let text = beginning(&span.content, room);
        let is_whole = text.len() == span.content.len();
        room -= width(text);
        spans.push(Span::styled(text.to_owned(), span.style));
        if !is_whole {
            break;
        }
    }
    if columns > 0 {
        let style = spans.last().map(|span| span.style).unwrap_or_default();
        spans.push(Span::styled("…", style));
    }
    Line::from(spans)
}

/// As many characters of it as there are columns for.
fn beginning(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += width(c.encode_utf8(&mut [0; 4]));
        if used > columns {
            return &text[..at];
        }
    }
    text
}

pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in exactly `width` columns: cut with `…`, or filled up; the last column stays free.
fn fitted(text: &str, columns: usize) -> String {
    let text = plain(text);
    let room = columns.saturating_sub(1);
    let mut out = text.clone();
    if width(&text) > room {
        out = beginning(&text, room.saturating_sub(1)).to_owned();
        if room > 0 {
            out.push('…');
        }
    }
    let missing = columns.saturating_sub(width(&out));
    out + &" ".repeat(missing)
}

/// `text` in lines of at most `columns`, broken between words where that can be.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    let mut put = |piece: &str, is_word: bool| {
        let last = lines.len() - 1;
        let gap = usize::from(is_word && !lines[last].is_empty());
        if width(&lines[last]) + gap + width(piece) <= columns {
            lines[last].push_str(&" ".repeat(gap));
            lines[last].push_str(piece);
        } else if lines[last].is_empty() {
            lines[last].push_str(piece);
        } else {
            lines.push(piece.to_owned());
        }
    };
    for word in plain(text).split(' ') {
        if width(word) <= columns {
            put(word, true);
            continue;
        }
        let mut is_first = true;
        for c in word.chars() {
            put(c.encode_utf8(&mut [0; 4]), is_first);
            is_first = false;
        }
    }
    lines
}

/// How far of all something is.
pub fn bar(done: usize, all: usize, columns: usize) -> String {
    let filled = (done * columns).checked_div(all).unwrap_or_default().min(columns);
    "█".repeat(filled) + &"░".repeat(columns - filled)
}

/// How long ago it was.
pub fn ago(now: UnixMicros, then: UnixMicros) -> String {
    let seconds = now.0.saturating_sub(then.0) / 1_000_000;
    match seconds {
        0..=1 => "now".into(),
        2..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `2026-11-21 04:00:00`, in UTC.
pub fn moment(at: UnixMicros) -> String {
    at.to_string().chars().take(19).collect::<String>().replace('T', " ")
}

pub fn took(ms: u64) -> String {
    match ms {
        0..=9_999 => format!("{ms} ms"),
        10_000..=119_999 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_as_wide_as_its_column_whatever_is_in_it() {
        for text in ["", "short", "much too long for it", "日本語の題名です", "a\u{1b}[31mb", "\u{202e}abc"]
        {
            let fitted = fitted(text, 10);
            assert_eq!(width(&fitted), 10, "{text:?}");
            assert!(fitted.ends_with(' '), "{fitted:?}");
        }
        assert_eq!(fitted("abcdefghijk", 6), "abcd… ");
    }

    #[test]
    fn what_of_a_line_has_no_room_is_marked() {
        let line = Words::new().cell(Tone::Strong, "one", 5).add(Tone::Plain, "two 日本語").line();
        let clipped = |columns| printed(&clipped(&line, columns));
        for (columns, shown) in [
            (15, "one  two 日本語"),
            (14, "one  two 日本…"),
            (13, "one  two 日…"),
            (6, "one  …"),
            (3, "on…"),
            (1, "…"),
            (0, ""),
        ] {
            assert_eq!(clipped(columns), shown, "{columns}");
        }
        assert_eq!(
            printed(&self::clipped(&Words::new().cell(Tone::Plain, "one", 9).line(), 3)),
            "one",
            "blanks are not missed"
        );
    }

    #[test]
    fn nothing_that_moves_the_cursor_comes_into_a_line() {
        let printed = printed(&Words::new().add(Tone::Plain, "a\u{1b}[2J\u{9b}1m\r\n\u{202e}b").line());
        assert_eq!(printed, "a\\u001b[2J\\u009b1m\\u000d\\u000a\\u202eb");
    }

    #[test]
    fn long_texts_are_broken_between_words_and_long_words_anywhere() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
