//! What stands around the value: byte order mark, code fence, text, one closer too many.

use super::{
    Class, Unrepairable, check,
    edit::Mark,
    scan::{Kind, Scan},
    word::is_reserved,
};

/// Most bytes of the word after an opening fence.
const INFO_BYTES_MAX: usize = 32;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The code fence that was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fence {
    character: u8,
    length: usize,
}

/// Text before or after the value.
#[derive(Clone, Copy, Debug)]
struct Prose {
    mark: Mark,
    length: usize,
}

impl<'a> Scan<'a> {
    /// Everything.
    pub(super) fn text(&mut self) -> Result<(), Unrepairable> {
        if self.rest().starts_with(BYTE_ORDER_MARK) {
            self.edits.push(Class::ByteOrderMark, 0, BYTE_ORDER_MARK.len(), "")?;
            self.pos += BYTE_ORDER_MARK.len();
        }
        self.trivia()?;
        let before = self.candidate()?;
        if fence_run(self.rest()) > 0 {
            self.open_fence()?;
        }
        self.value()?;
        self.doubled_closer()?;
        if let Some(fence) = self.fence {
            self.close_fence(fence)?;
        }
        self.trivia()?;
        self.around(before)
    }

    /// Goes to the first byte of the value or its fence; gives the text before it.
    fn candidate(&mut self) -> Result<Option<Prose>, Unrepairable> {
        let rest = self.rest();
        match rest.first().ok_or(Unrepairable::NoCandidate)? {
            b'{' | b'[' | b'"' => return Ok(None),
            b'\'' if self.edits.grants(Class::SingleQuote) => return Ok(None),
            _ => {}
        }
        match first_candidate(rest) {
            None | Some(0) => Ok(None),
            Some(length) => {
                let mark = self.edits.mark(self.pos);
                self.pos += length;
                Ok(Some(Prose { mark, length }))
            }
        }
    }

    fn open_fence(&mut self) -> Result<(), Unrepairable> {
        let rest = self.rest();
        let length = fence_run(rest);
        let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let info = line.get(length..).unwrap_or_default();
        let Some(info) = info.strip_suffix(b"\n") else {
            return Err(if is_info(info) { Unrepairable::Truncated } else { Unrepairable::FenceAmbiguous });
        };
        if !is_info(info.strip_suffix(b"\r").unwrap_or(info)) || !self.at_line_start() {
            return Err(Unrepairable::FenceAmbiguous);
        }
        self.edits.push(Class::CodeFence, self.pos, line.len(), "")?;
        self.pos += line.len();
        self.fence = rest.first().map(|&character| Fence { character, length });
        Ok(())
    }

    fn at_line_start(&self) -> bool {
        let before = self.bytes.get(..self.pos).unwrap_or_default();
        let before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before);
        let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        line.iter().all(|byte| matches!(byte, b' ' | b'\t'))
    }

    /// The run that closes the fence comes next.
    pub(super) fn at_fence_end(&self) -> bool {
        self.fence.is_some_and(|fence| fence.is_closed_by(self.rest()))
    }

    /// Inside a string, after a raw LF.
    pub(super) fn line_looks_like_fence_end(&self) -> bool {
        let rest = self.rest();
        let indent = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.fence.is_some_and(|fence| fence.is_closed_by(rest.get(indent..).unwrap_or_default()))
    }

    /// There is no value where the outermost one must be.
    pub(super) fn nothing(&self) -> Unrepairable {
        let after = self.rest().get(fence_run(self.rest())..).unwrap_or_default();
        match (self.fence, after.trim_ascii()) {
            (None, _) => Unrepairable::NoCandidate,
            (Some(_), b"") if self.rest().is_empty() => Unrepairable::Truncated,
            (Some(_), b"") => Unrepairable::NoCandidate,
            (Some(_), _) => Unrepairable::FenceAmbiguous,
        }
    }

    fn doubled_closer(&mut self) -> Result<(), Unrepairable> {
        self.trivia()?;
        let Kind::Container(Some(closer)) = self.last else { return Ok(()) };
        if self.peek() == Some(closer) {
            self.edits.push(Class::DoubledCloser, self.pos, 1, "")?;
            self.pos += 1;
            self.trivia()?;
        }
        Ok(())
    }

    fn close_fence(&mut self, fence: Fence) -> Result<(), Unrepairable> {
        let rest = self.rest();
        if !fence.is_closed_by(rest) {
            return Err(match rest.first() {
                _ if rest.iter().all(|byte| *byte == fence.character) => Unrepairable::Truncated,
                Some(b'{' | b'[' | b'"' | b',' | b'0'..=b'9' | b'-') => Unrepairable::SeveralDocuments,
                Some(b'}' | b']') => Unrepairable::CloserUnmatched,
                _ => Unrepairable::FenceAmbiguous,
            });
        }
        let length = fence_run(rest);
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if !line.get(length..).unwrap_or_default().trim_ascii().is_empty() {
            return Err(Unrepairable::FenceAmbiguous);
        }
        self.edits.push(Class::CodeFence, self.pos, length, "")?;
        self.pos += length;
        Ok(())
    }

    /// Judges the text before the value, and what is left after it.
    fn around(&mut self, before: Option<Prose>) -> Result<(), Unrepairable> {
        let rest = self.rest();
        let after = Prose { mark: self.edits.mark(self.pos), length: rest.len() };
        if let Some(code) = self.left_over(rest, before.is_some()) {
            return Err(code);
        }
        for prose in before.iter().chain((!rest.is_empty()).then_some(&after)) {
            let end = prose.mark.offset + prose.length;
            let text = self.bytes.get(prose.mark.offset..end).unwrap_or_default();
            if text.iter().any(|byte| matches!(byte, b'}' | b']' | b'"')) {
                return Err(Unrepairable::ProseAmbiguous);
            }
            if check::strict(text.trim_ascii()).is_ok() {
                return Err(Unrepairable::SeveralDocuments);
            }
        }
        if !rest.is_empty() {
            self.edits.insert(after.mark, Class::Prose, after.length, "")?;
        }
        match before {
            Some(prose) => self.edits.insert(prose.mark, Class::Prose, prose.length, ""),
            None => Ok(()),
        }
    }

    /// The code of what is left after the value, unless it may be text.
    fn left_over(&self, rest: &[u8], text_before: bool) -> Option<Unrepairable> {
        let first = *rest.first()?;
        let bare = self.fence.is_none() && !matches!(self.last, Kind::Container(_));
        match first {
            b',' => Some(Unrepairable::SeveralDocuments),
            b'}' | b']' => Some(Unrepairable::CloserUnmatched),
            _ if bare && self.last == Kind::String => Some(Unrepairable::QuoteBroken),
            b'{' | b'[' | b'"' if !text_before => Some(Unrepairable::SeveralDocuments),
            _ if first_candidate(rest).is_some() => Some(Unrepairable::SeveralCandidates),
            _ if check::strict(rest.trim_ascii()).is_ok() => Some(Unrepairable::SeveralDocuments),
            _ if bare => Some(Unrepairable::NoCandidate),
            _ => None,
        }
    }
}

impl Fence {
    fn is_closed_by(self, bytes: &[u8]) -> bool {
        bytes.first() == Some(&self.character) && fence_run(bytes) >= self.length
    }
}

/// Where the first container or fence of `text` begins.
fn first_candidate(text: &[u8]) -> Option<usize> {
    (0..text.len()).find(|at| {
        let tail = text.get(*at..).unwrap_or_default();
        matches!(tail, [b'{' | b'[', ..] | [b'`', b'`', b'`', ..] | [b'~', b'~', b'~', ..])
    })
}

/// How many backticks or tildes `bytes` start with; 0 if fewer than three.
fn fence_run(bytes: &[u8]) -> usize {
    let Some(&character @ (b'`' | b'~')) = bytes.first() else { return 0 };
    let length = bytes.iter().take_while(|byte| **byte == character).count();
    if length >= 3 { length } else { 0 }
}

/// What may follow an opening fence on its line.
fn is_info(text: &[u8]) -> bool {
    let word = text.trim_ascii();
    let is_word = word.first().is_none_or(u8::is_ascii_alphabetic)
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_+./-".contains(byte));
    is_word && word.len() <= INFO_BYTES_MAX && !is_reserved(word) && !text.contains(&b'\r')
}
