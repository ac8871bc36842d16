//! The one place that prints: plain words for people, one JSON envelope for machines.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

/// Name of the envelope's schema.
const SCHEMA: &str = "estoppel/cli/v1";

/// What went wrong, for people and machines.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    pub retryable: bool,
    pub exit: u8,
    /// Further facts.
    pub data: Option<Value>,
}

impl Failure {
    fn new(code: &str, message: impl Into<String>, exit: u8) -> Self {
        let message = message.into();
        Self { code: code.into(), message, hint: None, retryable: false, exit, data: None }
    }

    /// Something that was given cannot be used (exit 6).
    pub fn input(code: &str, message: impl Into<String>) -> Self {
        Self::new(code, message, 6)
    }

    /// Something failed while it ran (exit 1).
    pub fn runtime(code: &str, message: impl Into<String>) -> Self {
        Self::new(code, message, 1)
    }

    /// Something that is needed is missing (exit 7).
    pub fn dependency(code: &str, message: impl Into<String>) -> Self {
        Self::new(code, message, 7)
    }

    /// By a reason of the evidence crate.
    pub fn reason(reason: estoppel_evidence::Reason, message: impl Into<String>) -> Self {
        use estoppel_evidence::Reason as R;
        let exit = match reason {
            R::AdminUnreachable | R::DirectoryMissing | R::DependencyMissing => 7,
            R::FileUnreadable | R::ArgumentInvalid | R::ConfigInvalid | R::PolicyInvalid => 6,
            R::RunUnknown | R::RunSealed | R::EvidenceOff | R::ToolUnknown => 6,
            R::KeyInvalid | R::KeyPermissions => 6,
            R::JournalCorrupt | R::JournalRollback | R::JournalFork => 2,
            R::HoldUnknown => 6,
            R::ApprovalRequired | R::ApproversMissing | R::DecisionInvalid | R::HoldDecided => 4,
            R::HoldClosed | R::HoldDenied | R::HoldExpired | R::HoldPayload | R::HoldPolicy => 4,
            R::OutputExists | R::RetentionPath => 8,
            R::BodyDeleted | R::BundleDeleted | R::SegmentDeleted => 6,
            R::EncryptionKey | R::EncryptionDamaged => 2,
            R::KeyHookFailed => 7,
            R::RetentionStale => 5,
            _ => 1,
        };
        Self { retryable: reason.retryable(), ..Self::new(reason.code(), message, exit) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn category(&self) -> &'static str {
        match self.exit {
            1 => "runtime",
            2 => "verification",
            3 => "policy",
            4 => "approval",
            5 => "drift",
            6 => "input",
            7 => "dependency",
            _ => "unsafe",
        }
    }
}

/// `text` with what could move the cursor, end the line or turn the writing round written as JSON escapes.
pub fn plain(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match hidden(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// How answers are given.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
}

#[expect(clippy::print_stderr, reason = "this is the place that prints")]
impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether stderr is a terminal that may be drawn on.
    pub fn interactive(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Whether colours are wanted (no-color.org).
    pub fn colours(self) -> bool {
        !self.json
            && std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// `text` in a colour, if colours are wanted.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if self.colours() { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_string() }
    }

    /// A line of a running commentary. Not part of the answer with `--json`.
    pub fn line(self, text: &str) {
        if !self.json {
            // A closed pipe ends the commentary, not the work.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// An answer that is a text for another program, as it stands; `data` holds it for `--json`.
    pub fn text(self, text: &str, data: &Value) -> Result<ExitCode, Failure> {
        if self.json {
            return Ok(self.data(data));
        }
        let mut out = std::io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // A reader that has seen enough closes the pipe, and that is no failure.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::runtime("DISK_FAILED", error.to_string()))
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    /// A remark beside the answer.
    pub fn note(self, text: &str) {
        if !self.json {
            eprintln!("{}", plain(text));
        }
    }

    /// The answer's data; the plain form has been printed already.
    pub fn data(self, data: &Value) -> ExitCode {
        self.answer(data, 0)
    }

    /// The answer with an exit code of its own.
    pub fn answer(self, data: &Value, exit: u8) -> ExitCode {
        if self.json {
            let envelope = json!({ "schema": SCHEMA, "ok": exit == 0, "data": data });
            let _ = writeln!(std::io::stdout(), "{envelope}");
        }
        ExitCode::from(exit)
    }

    /// Explanation of a command.
    pub fn paragraph(self, text: &str) -> ExitCode {
        self.line(text);
        self.data(&json!({ "explain": text }))
    }

    /// One line that says what is wrong, one that says what to do.
    pub fn failure(self, failure: &Failure) -> ExitCode {
        if self.json {
            let mut error = json!({
                "code": failure.code,
                "category": failure.category(),
                "retryable": failure.retryable,
                "hint": failure.hint,
                "message": failure.message,
            });
            if let Some(data) = &failure.data {
                error["data"] = data.clone();
            }
            let envelope = json!({ "schema": SCHEMA, "ok": false, "error": error });
            let _ = writeln!(std::io::stdout(), "{envelope}");
        } else {
            eprintln!("estoppel: {}: {}", plain(&failure.code), plain(&failure.message));
            if let Some(hint) = &failure.hint {
                eprintln!("  {}", plain(hint));
            }
        }
        ExitCode::from(failure.exit)
    }
}

/// ANSI colours.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Dim = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_directions_of_writing_are_not_printed() {
        let bidi =
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in bidi.chars().chain("\u{0}\u{1b}\n\r\u{7f}\u{9b}\u{2028}\u{2029}".chars()) {
            assert_eq!(plain(&format!("a{c}b")), format!("a\\u{:04x}b", u32::from(c)));
        }
        assert_eq!(plain("é \u{1f600} \\"), "é \u{1f600} \\");
    }
}
