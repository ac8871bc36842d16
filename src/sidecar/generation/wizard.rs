//! The questions of `estoppel generation new` on a terminal.

use std::io::{self, BufRead, Read as _, Write};

use estoppel_release::Version;
use estoppel_release::generation::{Beginning, ChangeType, NewChange};

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Most changes that are asked for; the file takes more.
const CHANGES_MAX: usize = 32;

/// Asks for what a generation begins with. The end of the input before the last answer is an error.
pub fn ask(
    input: &mut impl BufRead,
    out: &mut impl Write,
    version: &Version,
    author: &str,
) -> io::Result<Beginning> {
    let mut dialog = Dialog { input, out };
    writeln!(dialog.out, "Begins generation {version}. An empty answer takes what stands in brackets.")?;
    let description = dialog.needed("What is it for?")?;
    let author =
        dialog.answer(&format!("Who answers for it? [{author}]"))?.unwrap_or_else(|| author.to_owned());
    let mut changes = Vec::new();
    while changes.len() < CHANGES_MAX {
        let number = changes.len() + 1;
        let question = match number {
            1 => "Change 1: id?".to_owned(),
            number => format!("Change {number}: id? [no more]"),
        };
        let id = if number == 1 { Some(dialog.needed(&question)?) } else { dialog.answer(&question)? };
        let Some(id) = id else { break };
        let kind = dialog.kind()?;
        let title = dialog.needed("  In one line?")?;
        changes.push(NewChange { id, kind, title });
    }
    Ok(Beginning { version: version.clone(), description, author, changes, base: None })
}

struct Dialog<'a, I, O> {
    input: &'a mut I,
    out: &'a mut O,
}

impl<I: BufRead, O: Write> Dialog<'_, I, O> {
    /// None for an empty answer.
    fn answer(&mut self, question: &str) -> io::Result<Option<String>> {
        write!(self.out, "{question} ")?;
        self.out.flush()?;
        let mut line = String::new();
        let read = self.input.by_ref().take(ANSWER_BYTES_MAX).read_line(&mut line)?;
        if !line.ends_with('\n') {
            let long = u64::try_from(read).is_ok_and(|read| read == ANSWER_BYTES_MAX);
            let said = if long { "the answer is too long" } else { "the input ended" };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, said));
        }
        let answer = line.trim();
        Ok((!answer.is_empty()).then(|| answer.to_owned()))
    }

    fn needed(&mut self, question: &str) -> io::Result<String> {
        loop {
            if let Some(answer) = self.answer(question)? {
                return Ok(answer);
            }
        }
    }

    fn kind(&mut self) -> io::Result<ChangeType> {
        let words: Vec<&str> = ChangeType::ALL.iter().map(|kind| kind.as_str()).collect();
        let question = format!("  Type, one of {}?", words.join(", "));
        loop {
            let answer = self.needed(&question)?;
            if let Some(kind) = ChangeType::ALL.iter().copied().find(|kind| kind.as_str() == answer) {
                return Ok(kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> (io::Result<Beginning>, String) {
        let mut out = Vec::new();
        let beginning = ask(&mut text.as_bytes(), &mut out, &"1.2.0".parse().unwrap(), "Ada");
        (beginning, String::from_utf8(out).unwrap())
    }

    #[test]
    fn questions_are_asked_until_they_are_answered() {
        let (beginning, asked) =
            answered("\nInvoices\n\nPAY-1\nbreak\nadd\nPay by invoice\nPAY-2\nfix\nRound\n\n");
        let beginning = beginning.unwrap();
        assert_eq!((beginning.description.as_str(), beginning.author.as_str()), ("Invoices", "Ada"));
        let changes: Vec<_> =
            beginning.changes.iter().map(|change| (change.id.as_str(), change.kind)).collect();
        assert_eq!(changes, [("PAY-1", ChangeType::Add), ("PAY-2", ChangeType::Fix)]);
        assert_eq!(asked.matches("What is it for?").count(), 2);
        assert_eq!(asked.matches("fix, refine, add, remove").count(), 3);
    }

    #[test]
    fn an_end_before_the_last_answer_begins_nothing() {
        for text in ["", "Invoices\n", "Invoices\n\nPAY-1\nadd\nTitle", "Invoices\n\nPAY-1\nadd\nTitle\n"] {
            assert!(answered(text).0.is_err(), "{text:?}");
        }
        assert!(answered(&"x".repeat(5000)).0.is_err());
    }
}
