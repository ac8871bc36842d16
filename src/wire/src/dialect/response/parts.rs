//! The structured values of an answer, and where they stand in its documents.
//!
//! A document is the data of one event, or the whole body. A value that a stream gives in pieces has a *place*, which
//! every piece names, and is whole when a later document closes the place.

/// Which value of an answer: the choice, output item or content block, and the call in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    pub outer: u64,
    pub inner: u64,
}

/// What is called, and the form in which a call says with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// A function that the client runs: JSON text.
    Function,
    /// A custom tool that the client runs: free text.
    Custom,
    /// A tool of the provider's, or of a server that the provider asks: JSON text.
    Hosted,
    /// A tool that the provider has built in: a JSON value, or nothing.
    BuiltIn,
    /// Code for an interpreter of the provider's: free text.
    Code,
}

/// What a document says of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    pub at: At,
    /// Of a call, where this document says it.
    pub form: Option<CallForm>,
    /// Name of the tool that is called, where this document has it. At most
    /// [`super::super::NAME_BYTES_MAX`] bytes.
    pub name: Option<Box<str>>,
    /// Where the value stands in the document, quotes and brackets included; both 0 where there is none.
    pub from: u64,
    pub to: u64,
}

impl Part {
    /// Bytes of the value as written.
    pub fn len(&self) -> u64 {
        self.to - self.from
    }

    /// There is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartKind {
    /// A text of the answer, not of a call.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::TextAgain | Self::Refusal)
    }
}

/// What a [`Part`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// A call whose value comes later, or never.
    Call,
    /// A JSON string with the next piece of a call's arguments.
    Arguments,
    /// A JSON string that repeats all of a call's arguments.
    ArgumentsAgain,
    /// A call's arguments as a JSON value, whole.
    Value,
    /// The same, which may have been said before.
    ValueAgain,
    /// A JSON string with the next piece of the answer's text.
    Text,
    /// A JSON string that repeats all of a text.
    TextAgain,
    /// A JSON string with words in the place of the text that was asked for.
    Refusal,
    /// Nothing more comes of the calls and texts with this outer place.
    Close,
}

/// Collects the parts of a document whose places are known only later in it.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Parts {
    /// INVARIANT: those before `placed` are complete.
    found: Vec<Part>,
    placed: usize,
    /// Where the document that is being read began.
    document: usize,
    /// Where the call that is being read began.
    call: usize,
    /// Where the part of a candidate that is being read began.
    part: usize,
    on: bool,
}

impl Parts {
    pub(in crate::dialect) fn switch_on(&mut self) {
        self.on = true;
    }

    /// Whether somebody judges.
    pub(in crate::dialect) fn is_on(&self) -> bool {
        self.on
    }

    /// What the document that is being read has.
    pub(in crate::dialect) fn of_document(&self) -> &[Part] {
        self.found.get(self.document..).unwrap_or_default()
    }

    /// Another document begins.
    pub(in crate::dialect) fn begin_document(&mut self) {
        self.document = self.found.len();
    }

    pub(in crate::dialect) fn found(&self) -> &[Part] {
        &self.found
    }

    /// Forgets what was found before.
    pub(in crate::dialect) fn clear(&mut self) {
        self.found.clear();
        self.placed = 0;
        self.document = 0;
        self.call = 0;
        self.part = 0;
    }

    /// Whether another part can be kept; a body with more is not read.
    pub(in crate::dialect) fn has_room(&self, most: usize) -> bool {
        self.found.len() - self.placed < most
    }

    pub(in crate::dialect) fn add(
        &mut self,
        kind: PartKind,
        form: Option<CallForm>,
        inner: u64,
        from: u64,
        to: u64,
    ) {
        if self.on {
            self.found.push(Part { kind, at: At { outer: 0, inner }, form, name: None, from, to });
        }
    }

    /// Nothing more comes of `outer`.
    pub(in crate::dialect) fn close(&mut self, outer: u64) {
        self.add(PartKind::Close, None, 0, 0, 0);
        self.place(outer);
    }

    pub(in crate::dialect) fn begin_call(&mut self) {
        self.call = self.found.len();
    }

    /// What the call that is being read has.
    pub(in crate::dialect) fn of_call(&mut self) -> impl Iterator<Item = &mut Part> {
        self.found.get_mut(self.call..).unwrap_or_default().iter_mut()
    }

    /// Of what the call that is being read has, only some counts.
    pub(in crate::dialect) fn keep_of_call(&mut self, counts: impl Fn(&Part) -> bool) {
        let all = self.found.split_off(self.call.min(self.found.len()));
        self.found.extend(all.into_iter().filter(|part| part.kind.is_text() || counts(part)));
    }

    /// The call that is being read is over: it has this number, form and name.
    pub(in crate::dialect) fn end_call(&mut self, inner: u64, form: Option<CallForm>, name: Option<String>) {
        if !self.on {
            return;
        }
        let name = name.map(String::into_boxed_str);
        if self.found.len() == self.call && name.is_some() {
            self.add(PartKind::Call, form, inner, 0, 0);
        }
        for part in self.found.get_mut(self.call..).unwrap_or_default() {
            if !part.kind.is_text() {
                part.at.inner = inner;
                part.form = form.or(part.form);
                part.name.clone_from(&name);
            }
        }
        self.call = self.found.len();
    }

    pub(in crate::dialect) fn begin_part(&mut self) {
        self.part = self.found.len();
    }

    /// The part that is being read has no text of the answer.
    pub(in crate::dialect) fn drop_texts(&mut self) {
        let kept = self.found.split_off(self.part.min(self.found.len()));
        self.found.extend(kept.into_iter().filter(|part| !part.kind.is_text()));
    }

    /// What has no outer place yet has this one.
    pub(in crate::dialect) fn place(&mut self, outer: u64) {
        for part in self.found.get_mut(self.placed..).unwrap_or_default() {
            part.at.outer = outer;
        }
        self.placed = self.found.len();
    }

    /// What has no outer place yet, once it is known what the document was.
    pub(in crate::dialect) fn unplaced(&mut self) -> &mut [Part] {
        self.found.get_mut(self.placed..).unwrap_or_default()
    }

    /// What has no outer place yet is of no interest.
    pub(in crate::dialect) fn drop_unplaced(&mut self) {
        self.found.truncate(self.placed);
    }
}

#[cfg(test)]
mod tests;
