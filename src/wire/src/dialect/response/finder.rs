//! Collects the facts of a response, document by document.

use crate::{
    Defect,
    dialect::{
        Dialect, anthropic_messages, gemini, mcp,
        names::{Clip, LIST_MAX, Names},
        openai_chat, openai_responses,
        response::{
            MarkKind, ResponseFacts, Usage,
            parts::{CallForm, Part, PartKind, Parts},
        },
        shape::{Readings, Shape},
    },
    json::{Capture, Container, Literal, Visitor},
};

/// A place in a response that leads to a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Place {
    Chat(openai_chat::Response),
    Responses(openai_responses::Response),
    Messages(anthropic_messages::Response),
    Gemini(gemini::Response),
    Mcp(mcp::Response),
    Leaf(Leaf),
}

/// A value that is a fact, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Leaf {
    Model,
    /// The type of an event.
    Kind,
    Status,
    Reason,
    Finish,
    ErrorCode,
    /// Stands in for the code if there is none.
    ErrorKind,
    CallName,
    CallKind,
    /// See [`Shape::Absent`].
    Misplaced,
    CallIndex,
    /// The type of a delta of a message.
    DeltaKind,
    /// The choice or the output item that a call belongs to.
    OuterIndex,
    /// The part of an output item.
    InnerIndex,
    /// The number of a candidate, which clients take for its position.
    CandidateIndex,
    /// The part of a candidate is no part of its text.
    Thought,
    /// See [`PartKind`].
    Arguments,
    ArgumentsAgain,
    Value,
    /// What a custom tool is called with.
    Input,
    InputAgain,
    /// What an interpreter is called with.
    CodeAgain,
    /// The same at the level of an event, where an error has its code.
    EventCode,
    /// What a tool of the provider's is called with, as a value.
    Action,
    /// A call of the interpreter, whole.
    ExecutableCode,
    Text,
    TextAgain,
    /// The text of a choice where a chat has none.
    LegacyText,
    /// All texts of the answer, beside its output.
    OutputText,
    /// See [`PartKind::Refusal`].
    Refusal,
    /// The next piece of something that the event's type names.
    Delta,
    Usage(Field),
    ToolFailed,
    /// The method of a message that is no answer.
    RpcMethod,
}

/// A field of [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Field {
    Input,
    Output,
    Total,
    CachedInput,
    Reasoning,
}

pub(super) fn root(dialect: Dialect) -> Option<Place> {
    Some(match dialect {
        Dialect::OpenAiChat => Place::Chat(openai_chat::Response::Root),
        Dialect::OpenAiResponses => Place::Responses(openai_responses::Response::Root),
        Dialect::AnthropicMessages => Place::Messages(anthropic_messages::Response::Root),
        Dialect::Gemini => Place::Gemini(gemini::Response::Root),
        Dialect::Mcp => Place::Mcp(mcp::Response::Root),
        Dialect::Json | Dialect::Bytes => return None,
    })
}

/// Objects at whose ends something is decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// A choice: its calls get its index.
    Choice,
    /// A call, or what may be one.
    Call,
    /// An element of the whole output: a call that its position identifies.
    OutputItem,
    /// The list of those.
    Output,
    Error,
}

impl Place {
    fn member(self, key: &[u8]) -> Option<Self> {
        match self {
            Self::Chat(at) => at.member(key),
            Self::Responses(at) => at.member(key),
            Self::Messages(at) => at.member(key),
            Self::Gemini(at) => at.member(key),
            Self::Mcp(at) => at.member(key),
            Self::Leaf(_) => None,
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Chat(at) => at.shape(),
            Self::Responses(at) => at.shape(),
            Self::Messages(at) => at.shape(),
            Self::Gemini(at) => at.shape(),
            Self::Mcp(_) => Shape::Free,
            Self::Leaf(
                Leaf::Kind
                | Leaf::Arguments
                | Leaf::ArgumentsAgain
                | Leaf::Value
                | Leaf::Input
                | Leaf::InputAgain
                | Leaf::CodeAgain
                | Leaf::EventCode
                | Leaf::Action
                | Leaf::ExecutableCode
                | Leaf::Text
                | Leaf::TextAgain
                | Leaf::LegacyText
                | Leaf::OutputText
                | Leaf::Delta
                | Leaf::DeltaKind
                | Leaf::Finish
                | Leaf::CallIndex
                | Leaf::OuterIndex
                | Leaf::InnerIndex
                | Leaf::CandidateIndex,
            ) => Shape::Any,
            Self::Leaf(Leaf::Thought) => Shape::Flag,
            Self::Leaf(Leaf::Model | Leaf::CallName | Leaf::CallKind | Leaf::RpcMethod) => Shape::Text,
            Self::Leaf(Leaf::Misplaced) => Shape::Absent,
            Self::Leaf(_) => Shape::Free,
        }
    }

    /// The member `key` leads to a name.
    fn leads(self, key: &[u8]) -> bool {
        self.member(key).is_some_and(|place| place.shape() != Shape::Free)
    }

    fn group(self) -> Option<Group> {
        use anthropic_messages::Response as Messages;
        use openai_chat::Response as Chat;
        use openai_responses::Response as Responses;
        Some(match self {
            Self::Chat(Chat::Choice) => Group::Choice,
            Self::Chat(Chat::ToolCall | Chat::FunctionCall) => Group::Call,
            Self::Responses(Responses::Item) => Group::Call,
            Self::Responses(Responses::OutputItem) => Group::OutputItem,
            Self::Responses(Responses::Output) => Group::Output,
            Self::Messages(Messages::Block) => Group::Call,
            Self::Gemini(gemini::Response::Call) => Group::Call,
            Self::Chat(Chat::Error)
            | Self::Responses(Responses::Error)
            | Self::Messages(Messages::Error)
            | Self::Gemini(gemini::Response::Error)
            | Self::Mcp(mcp::Response::Error) => Group::Error,
            _ => return None,
        })
    }
}

/// One call of a tool, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// Choice or output item.
    outer: u64,
    /// Which of the calls there; `None` if the dialect does not number them, so that none is a repetition.
    inner: Option<u64>,
    name: String,
    /// The client does not make it, or its arguments are none that a judge sees.
    foreign: bool,
}

/// Collects the facts.
#[derive(Debug)]
pub(super) struct Finder {
    dialect: Dialect,
    facts: ResponseFacts,
    /// At most [`LIST_MAX`].
    calls: Vec<Call>,
    more_calls: u64,
    document: Document,
    /// The string being read.
    text: Clip,
    readings: Readings,
    parts: Parts,
    /// The value whose span comes next is `null`.
    null: bool,
    /// Documents are events of a stream.
    streamed: bool,
}

/// What is known of the document being read: an event's data or the whole body.
#[derive(Debug, Default)]
struct Document {
    kind: Clip,
    status: Clip,
    reason: Clip,
    error: bool,
    error_code: Clip,
    error_kind: Clip,
    tool_failed: bool,
    outer: Option<u64>,
    inner: Option<u64>,
    /// Elements of the output, of the message's content, or of the candidates so far.
    position: u64,
    /// Calls of this choice so far, or parts of this output item, or of all of a stream's candidates.
    inner_position: u64,
    /// This choice says why it ended.
    ended: bool,
    delta_kind: Clip,
    /// The call is the one of `function_call`.
    alone: bool,
    /// It has what clients of its framing do not look at: `message` in a chunk, `delta` in a whole answer; or a candidate
    /// whose number is not its position.
    misplaced: bool,
    /// This part of a candidate is no part of its text.
    thought: bool,
    /// Where [`Leaf::OutputText`] stands.
    output_text: Option<(u64, u64)>,
    call_name: Clip,
    call_named: bool,
    call_kind: Clip,
    call_index: Option<u64>,
    /// What the call is of, where a member of its own says that.
    call_form: Option<CallForm>,
    /// Calls whose outer index may still come. At most [`LIST_MAX`].
    calls: Vec<Call>,
}

impl Document {
    fn clear(&mut self) {
        let texts =
            [&mut self.kind, &mut self.status, &mut self.reason, &mut self.error_code, &mut self.error_kind];
        texts.into_iter().for_each(Clip::clear);
        self.error = false;
        self.tool_failed = false;
        self.outer = None;
        self.inner = None;
        self.position = 0;
        self.ended = false;
        self.misplaced = false;
        self.output_text = None;
        self.delta_kind.clear();
        self.calls.clear();
    }
}

impl Finder {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            facts: ResponseFacts::default(),
            calls: Vec::new(),
            more_calls: 0,
            document: Document::default(),
            text: Clip::default(),
            readings: Readings::default(),
            parts: Parts::default(),
            null: false,
            streamed: false,
        }
    }

    /// Documents are the events of a stream.
    pub(super) fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    /// The parts of documents that ended since they were last cleared.
    pub(super) fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    pub(super) fn parts_found(&self) -> &[Part] {
        self.parts.found()
    }

    /// The model and the calls so far; a call that its document has not placed yet is not among them.
    pub(super) fn so_far(&self) -> (Option<&str>, impl ExactSizeIterator<Item = (&str, bool)>) {
        let calls = self.calls.iter().map(|call| (call.name.as_str(), call.foreign));
        (self.facts.model.as_deref(), calls)
    }

    /// Why the answer has ended so far: its reasons, and its error.
    pub(super) fn ended(&self) -> (Names, Option<String>) {
        (self.facts.finish.clone(), self.facts.error.clone())
    }

    /// What was read since then says nothing of that.
    pub(super) fn restore_end(&mut self, (finish, error): (Names, Option<String>)) {
        (self.facts.finish, self.facts.error) = (finish, error);
    }

    pub(super) fn is_cut_short(&self) -> bool {
        self.facts.finish.items.iter().any(|reason| super::is_cut_short(reason))
    }

    /// The first thing since the last call that can be read in two ways.
    pub(super) fn take_doubt(&mut self) -> Option<Defect> {
        self.readings.take_doubt()
    }

    /// Calls beyond those that are kept.
    pub(super) fn more_calls(&self) -> u64 {
        self.more_calls
    }

    /// Everything but what the framing knows.
    pub(super) fn take_facts(&mut self) -> ResponseFacts {
        let mut facts = std::mem::take(&mut self.facts);
        facts.usage = facts.usage.filter(|usage| *usage != Usage::default());
        let foreign = self.calls.iter().filter(|call| call.foreign);
        facts.foreign_called = foreign.map(|call| call.name.clone()).collect();
        facts.tools_called.items = self.calls.drain(..).map(|call| call.name).collect();
        facts.tools_called.more = std::mem::take(&mut self.more_calls);
        facts
    }

    /// A document is over, whole or not. Says what its event was.
    pub(super) fn end_document(&mut self, name: &[u8]) -> MarkKind {
        self.note_event(name);
        self.place_calls();
        self.settle_parts(name);
        let ends = self.ends_stream(name) || self.ends_stream(self.document.kind.as_bytes());
        let document = &mut self.document;
        document.error |= name == b"error";
        document.error |= self.dialect == Dialect::OpenAiResponses && document.kind.as_bytes() == b"error";
        let error = document.error;
        self.note_end();
        self.document.clear();
        self.readings.clear();
        match (ends, error) {
            (true, _) => MarkKind::Terminator,
            (false, true) => MarkKind::Error,
            (false, false) => MarkKind::Data,
        }
    }

    /// An event of a Responses stream is what its type says, so it must say one that is known.
    fn note_event(&mut self, name: &[u8]) {
        if self.dialect != Dialect::OpenAiResponses || !self.streamed {
            return;
        }
        let kind = self.document.kind.as_bytes();
        let is_doubtful = match kind {
            // Errors of proxies have none.
            b"" => {
                let is_error = self.document.error
                    && matches!(name, b"" | b"error")
                    && self.parts.of_document().is_empty();
                self.parts.is_on() && !is_error
            }
            _ => !openai_responses::is_known_event(kind) || !name.is_empty() && name != kind,
        };
        if is_doubtful {
            self.readings.doubt(Defect::NotEvaluated);
        }
        let called = openai_responses::called_by_event(kind);
        if let Some(called) = called.map(|called| String::from_utf8_lossy(called).into_owned()) {
            self.note_call(called, Some(1), false);
        }
    }

    /// What stands at the event's own level gets its place, once it is known what the event is.
    fn settle_parts(&mut self, name: &[u8]) {
        if !self.parts.of_document().is_empty() && self.is_for_us_alone(name) {
            self.readings.doubt(Defect::NotEvaluated);
        }
        let Document { kind, outer, inner, .. } = &self.document;
        let (kind, outer, inner) = (kind.as_bytes(), outer.unwrap_or(0), inner.unwrap_or(0));
        match self.dialect {
            Dialect::OpenAiResponses => openai_responses::settle(kind, inner, &mut self.parts),
            Dialect::AnthropicMessages => anthropic_messages::settle(kind, &mut self.parts),
            Dialect::OpenAiChat | Dialect::Gemini | Dialect::Mcp | Dialect::Json | Dialect::Bytes => {}
        }
        self.parts.place(outer);
        if let Some((from, to)) = self.document.output_text {
            self.parts.add(PartKind::TextAgain, None, 0, from, to);
            self.parts.place(OUTPUT_TEXT);
        }
        let closes = match self.dialect {
            Dialect::OpenAiResponses => kind == openai_responses::ITEM_DONE,
            Dialect::AnthropicMessages => kind == anthropic_messages::BLOCK_STOP,
            Dialect::OpenAiChat | Dialect::Gemini | Dialect::Mcp | Dialect::Json | Dialect::Bytes => false,
        };
        if closes {
            self.parts.close(outer);
        }
        self.parts.begin_document();
    }

    /// Whether clients would not see the parts of this document, or not as we do.
    fn is_for_us_alone(&self, name: &[u8]) -> bool {
        let document = &self.document;
        let kind = document.kind.as_bytes();
        match self.dialect {
            Dialect::OpenAiChat => document.misplaced || !name.is_empty(),
            Dialect::AnthropicMessages if self.streamed => {
                let delta = document.delta_kind.as_bytes();
                let fits = |part: &Part| {
                    kind != b"content_block_delta" || anthropic_messages::is_delta_of(delta, part.kind)
                };
                let parts = self.parts.of_document();
                name != kind || kind == b"message_start" || !parts.iter().all(fits)
            }
            Dialect::Gemini => document.misplaced,
            Dialect::OpenAiResponses
            | Dialect::AnthropicMessages
            | Dialect::Mcp
            | Dialect::Json
            | Dialect::Bytes => false,
        }
    }

    fn ends_stream(&self, kind: &[u8]) -> bool {
        match self.dialect {
            Dialect::OpenAiResponses => openai_responses::ends_stream(kind),
            Dialect::AnthropicMessages => anthropic_messages::ends_stream(kind),
            Dialect::OpenAiChat | Dialect::Gemini | Dialect::Mcp | Dialect::Json | Dialect::Bytes => false,
        }
    }

    /// Takes over what the document says of an error and of the end.
    fn note_end(&mut self) {
        let document = &self.document;
        if !document.reason.is_empty() {
            self.facts.finish.push_new(&document.reason);
        } else if !document.status.is_empty() && !openai_responses::is_under_way(document.status.as_bytes()) {
            self.facts.finish.push_new(&document.status);
        }
        if self.facts.error.is_some() {
            return;
        }
        if document.error {
            let code = document.error_code.to_some_name().or_else(|| document.error_kind.to_some_name());
            self.facts.error = Some(code.unwrap_or_else(|| "error".to_owned()));
        } else if document.tool_failed {
            self.facts.error = Some("isError".to_owned());
        }
    }

    /// A call is whole as far as this document goes.
    fn end_call(&mut self) {
        let document = &mut self.document;
        let kind = document.call_kind.as_bytes();
        let (is_call, built_in) = match self.dialect {
            Dialect::OpenAiResponses => (openai_responses::is_call(kind), openai_responses::built_in(kind)),
            Dialect::AnthropicMessages => (anthropic_messages::is_call(kind), None),
            Dialect::OpenAiChat => (true, openai_chat::built_in(kind)),
            Dialect::Gemini | Dialect::Mcp | Dialect::Json | Dialect::Bytes => (true, None),
        };
        let name = document.call_name.to_some_name();
        let form = match self.dialect {
            Dialect::OpenAiResponses => {
                let form = openai_responses::form(kind);
                openai_responses::fit(form, &mut self.parts);
                form
            }
            Dialect::AnthropicMessages => anthropic_messages::form(kind),
            Dialect::OpenAiChat => document.call_form,
            Dialect::Gemini | Dialect::Mcp | Dialect::Json | Dialect::Bytes => Some(CallForm::Function),
        };
        // In a whole answer calls are numbered as they stand, whatever they say.
        let said = document.call_index.filter(|_| self.streamed);
        let inner = match document.alone {
            true => ALONE,
            false => said.or(document.inner).unwrap_or(0),
        };
        let built_in = built_in.map(|built_in| String::from_utf8_lossy(built_in).into_owned());
        let called = built_in.clone().or_else(|| name.clone());
        let called = called.filter(|_| form.is_some() || is_call && self.dialect != Dialect::OpenAiChat);
        let told = called.clone().filter(|_| form.is_some());
        let is_doubtful = match self.dialect {
            Dialect::OpenAiChat => !openai_chat::fits(kind, form),
            // In other dialects a part that goes on with arguments has neither type nor name.
            _ => is_call && !kind.is_empty() && name.is_none() && built_in.is_none(),
        };
        self.parts.end_call(inner, form, called);
        if is_doubtful {
            self.readings.doubt(Defect::NotEvaluated);
        }
        let inner = if self.dialect == Dialect::OpenAiResponses { Some(0) } else { document.call_index };
        for (name, inner) in [(built_in, Some(1)), (name, inner)] {
            let Some(name) = name.filter(|_| is_call) else { continue };
            let is_told = told.as_ref() == Some(&name);
            self.note_call(name, inner, !is_told);
        }
    }

    /// `foreign`: no judge is told of a call of this name.
    fn note_call(&mut self, name: String, inner: Option<u64>, foreign: bool) {
        if self.document.calls.len() < LIST_MAX {
            self.document.calls.push(Call { outer: 0, inner, name, foreign });
        } else {
            self.more_calls += 1;
        }
    }

    /// The part of a candidate that is being read has code for the interpreter.
    fn call_interpreter(&mut self, from: u64, to: u64) {
        let inner = self.document.inner.unwrap_or(0);
        self.parts.begin_call();
        self.parts.add(PartKind::Value, None, 0, from, to);
        let [name, other] = gemini::CODE_EXECUTION;
        self.parts.end_call(inner, Some(CallForm::BuiltIn), Some(name.into()));
        self.note_call(name.into(), None, false);
        self.note_call(other.into(), None, true);
    }

    /// A member of the call that is being read says what it is of.
    fn form(&mut self, form: CallForm) {
        if self.document.call_form.replace(form).is_some_and(|known| known != form) {
            self.readings.doubt(Defect::DuplicateKey);
        }
    }

    /// The outer index of the calls found last is known now.
    fn place_calls(&mut self) {
        let outer = self.document.outer.unwrap_or(0);
        for call in self.document.calls.drain(..) {
            let call = Call { outer, ..call };
            if call.inner.is_some() && self.calls.contains(&call) {
                continue;
            }
            // Readers of chunks join the parts of a name.
            let slot = |other: &Call| other.outer == call.outer && other.inner == call.inner;
            if self.dialect == Dialect::OpenAiChat && call.inner.is_some() && self.calls.iter().any(slot) {
                self.readings.doubt(Defect::DuplicateKey);
            }
            if self.calls.len() < LIST_MAX {
                self.calls.push(call);
            } else {
                self.more_calls += 1;
            }
        }
    }
}

impl Visitor for Finder {
    type Place = Place;

    fn member(&mut self, of: Place, key: &[u8]) -> Option<Place> {
        let place = of.member(key);
        self.document.misplaced |= match key {
            b"message" => self.streamed && of == CHOICE,
            b"delta" => !self.streamed && of == CHOICE,
            _ => false,
        };
        match place {
            None => self.readings.other_member(key, |name| of.leads(name)),
            Some(place) if place.shape() != Shape::Free => self.readings.member(key),
            Some(_) => {}
        }
        if of == CANDIDATE_PART && !gemini::is_part_member(key) {
            self.readings.doubt(Defect::NotEvaluated); // it may be a call
        }
        if place == Some(Place::Leaf(Leaf::CallName))
            && std::mem::replace(&mut self.document.call_named, true)
        {
            self.readings.doubt(Defect::DuplicateKey);
        }
        place
    }

    fn element(&mut self, of: Place) -> Option<Place> {
        let place = match of {
            Place::Chat(at) => at.element(),
            Place::Responses(at) => at.element(),
            Place::Messages(at) => at.element(),
            Place::Gemini(at) => at.element(),
            Place::Mcp(at) => at.element(),
            Place::Leaf(_) => None,
        };
        let document = &mut self.document;
        match place {
            Some(MESSAGE_BLOCK) => {
                document.outer = Some(next(&mut document.position));
                document.inner_position = 0;
            }
            // Its parts are counted on: the next response has other calls.
            Some(CANDIDATE) => document.outer = Some(next(&mut document.position)),
            Some(TOOL_CALL | ITEM_CONTENT | CANDIDATE_PART) => {
                document.inner = Some(next(&mut document.inner_position));
            }
            _ => {}
        }
        place
    }

    fn begin(&mut self, at: Place, container: Container) {
        self.readings.begin(at.shape(), container);
        let document = &mut self.document;
        match at.group() {
            Some(Group::Choice) => {
                document.outer = None;
                document.inner = None;
                document.inner_position = 0;
                document.ended = false;
            }
            Some(Group::Call | Group::OutputItem) => {
                self.parts.begin_call();
                if matches!(at, Place::Responses(_)) {
                    document.inner = None;
                    document.inner_position = 0;
                }
                document.call_name.clear();
                document.call_named = false;
                document.call_kind.clear();
                document.call_index = None;
                document.alone = at == FUNCTION_CALL;
                document.call_form = document.alone.then_some(CallForm::Function);
            }
            Some(Group::Output) => document.position = 0,
            Some(Group::Error) => document.error = true,
            None if at == FUNCTION => self.form(CallForm::Function),
            None if at == CUSTOM => self.form(CallForm::Custom),
            None if at == CANDIDATES => document.position = 0,
            None if at == CANDIDATE_PART => {
                document.thought = false;
                self.parts.begin_part();
            }
            None => {}
        }
    }

    fn end(&mut self, at: Place, _: Container) {
        self.readings.end();
        match at.group() {
            Some(Group::Choice) => {
                self.place_calls();
                let outer = self.document.outer.unwrap_or(0);
                self.parts.place(outer);
                if self.document.ended {
                    self.parts.close(outer);
                }
            }
            Some(Group::Call) => {
                self.end_call();
                if at == MESSAGE_BLOCK && self.document.position > 0 {
                    self.parts.place(self.document.position - 1);
                }
            }
            Some(Group::OutputItem) => {
                let outer = next(&mut self.document.position);
                self.document.outer = Some(outer);
                self.end_call();
                self.place_calls();
                self.parts.place(outer);
            }
            Some(Group::Output | Group::Error) => {}
            None if at == CANDIDATE_PART && self.document.thought => self.parts.drop_texts(),
            None if at == CANDIDATE => {
                let outer = self.document.outer.unwrap_or(0);
                self.parts.place(outer);
                if std::mem::take(&mut self.document.ended) {
                    self.parts.close(outer);
                }
            }
            None => {}
        }
    }

    fn string(&mut self, at: Place) -> Capture {
        self.readings.string(at.shape());
        self.text.clear();
        match at {
            Place::Leaf(leaf) if leaf.part().is_some() && leaf != Leaf::EventCode => Capture::Pass,
            Place::Leaf(_) => Capture::Take,
            _ => {
                self.document.error |= at.group() == Some(Group::Error); // `"error":"text"`
                Capture::Pass
            }
        }
    }

    fn text(&mut self, _: Place, piece: &[u8]) {
        self.text.push(piece);
    }

    fn string_end(&mut self, at: Place) {
        let Place::Leaf(leaf) = at else { return };
        if at.shape() == Shape::Text {
            self.readings.name(&self.text);
        }
        let document = &mut self.document;
        let kept = match leaf {
            Leaf::Model => {
                match &self.facts.model {
                    None => self.facts.model = self.text.to_some_name(),
                    Some(model) if self.text.is_empty() || self.text.is(model) => {}
                    Some(_) => self.readings.doubt(Defect::DuplicateKey),
                }
                return;
            }
            Leaf::Finish => {
                document.ended = true;
                self.facts.finish.push_new(&self.text);
                return;
            }
            Leaf::Kind => &mut document.kind,
            Leaf::DeltaKind => &mut document.delta_kind,
            Leaf::Status => &mut document.status,
            Leaf::Reason => &mut document.reason,
            Leaf::ErrorCode | Leaf::EventCode => &mut document.error_code,
            Leaf::ErrorKind => &mut document.error_kind,
            Leaf::CallName => &mut document.call_name,
            Leaf::CallKind => &mut document.call_kind,
            Leaf::RpcMethod => {
                if mcp::asks_client(self.text.as_bytes()) {
                    self.readings.doubt(Defect::NotEvaluated);
                }
                return;
            }
            Leaf::CandidateIndex => {
                document.misplaced = true;
                return;
            }
            Leaf::Misplaced
            | Leaf::Thought
            | Leaf::CallIndex
            | Leaf::OuterIndex
            | Leaf::InnerIndex
            | Leaf::Usage(_)
            | Leaf::ToolFailed
            | Leaf::Arguments
            | Leaf::ArgumentsAgain
            | Leaf::Value
            | Leaf::Input
            | Leaf::InputAgain
            | Leaf::CodeAgain
            | Leaf::Action
            | Leaf::ExecutableCode
            | Leaf::Text
            | Leaf::TextAgain
            | Leaf::LegacyText
            | Leaf::OutputText
            | Leaf::Refusal
            | Leaf::Delta => return,
        };
        std::mem::swap(kept, &mut self.text);
    }

    fn number(&mut self, at: Place, text: &[u8]) {
        self.readings.number(at.shape());
        let Place::Leaf(leaf) = at else { return };
        match leaf {
            Leaf::CallIndex | Leaf::OuterIndex | Leaf::InnerIndex if count(text).is_none() => {
                self.readings.doubt(Defect::NotEvaluated); // clients count from the end, or fail
            }
            Leaf::CallIndex => self.document.call_index = count(text),
            Leaf::OuterIndex => self.document.outer = count(text),
            Leaf::InnerIndex => self.document.inner = count(text),
            Leaf::CandidateIndex => self.document.misplaced |= count(text) != self.document.outer,
            Leaf::ErrorCode | Leaf::EventCode => self.document.error_code.set(text),
            Leaf::ErrorKind => self.document.error_kind.set(text),
            Leaf::Usage(field) => {
                let usage = self.facts.usage.get_or_insert_default();
                let kept = match field {
                    Field::Input => &mut usage.input,
                    Field::Output => &mut usage.output,
                    Field::Total => &mut usage.total,
                    Field::CachedInput => &mut usage.cached_input,
                    Field::Reasoning => &mut usage.reasoning,
                };
                let said = count(text).filter(|count| *count <= Usage::MAX);
                self.facts.usage_unread |= said.is_none();
                *kept = said.or(*kept);
            }
            _ => {}
        }
    }

    fn literal(&mut self, at: Place, literal: Literal) {
        self.null = literal == Literal::Null;
        self.readings.literal(at.shape(), literal);
        self.document.thought |= at == Place::Leaf(Leaf::Thought) && literal == Literal::True;
        self.document.tool_failed |= at == Place::Leaf(Leaf::ToolFailed) && literal == Literal::True;
    }

    fn span(&mut self, at: Place, from: u64, to: u64) {
        let is_null = std::mem::take(&mut self.null);
        let Place::Leaf(leaf) = at else { return };
        if leaf == Leaf::ExecutableCode && !is_null && self.parts.has_room(LIST_MAX) {
            return self.call_interpreter(from, to);
        }
        let Some(kind) = leaf.part().filter(|_| !is_null) else { return };
        if leaf == Leaf::OutputText {
            if self.document.output_text.replace((from, to)).is_some() {
                self.readings.doubt(Defect::DuplicateKey);
            }
            return;
        }
        if !self.parts.has_room(LIST_MAX) {
            self.readings.doubt(Defect::NotEvaluated);
            return;
        }
        let inner = match self.dialect {
            Dialect::OpenAiResponses => self.document.inner.unwrap_or(0),
            _ if leaf == Leaf::LegacyText => 1, // clients read either text, not both
            _ => 0,
        };
        self.parts.add(kind, leaf.form(), inner, from, to);
    }
}

/// The place of all texts of the answer among those of its output.
const OUTPUT_TEXT: u64 = u64::MAX;
/// The place of the one call of `function_call` among those of `tool_calls`.
const ALONE: u64 = u64::MAX;
const CHOICE: Place = Place::Chat(openai_chat::Response::Choice);
const FUNCTION_CALL: Place = Place::Chat(openai_chat::Response::FunctionCall);
const TOOL_CALL: Place = Place::Chat(openai_chat::Response::ToolCall);
const FUNCTION: Place = Place::Chat(openai_chat::Response::Detail);
const CUSTOM: Place = Place::Chat(openai_chat::Response::Custom);
const ITEM_CONTENT: Place = Place::Responses(openai_responses::Response::Content);
const MESSAGE_BLOCK: Place = Place::Messages(anthropic_messages::Response::Block);
const CANDIDATES: Place = Place::Gemini(gemini::Response::Candidates);
const CANDIDATE: Place = Place::Gemini(gemini::Response::Candidate);
const CANDIDATE_PART: Place = Place::Gemini(gemini::Response::Part);

impl Leaf {
    /// What part of the answer such a value is, if it is one.
    fn part(self) -> Option<PartKind> {
        Some(match self {
            Self::Arguments | Self::Input => PartKind::Arguments,
            Self::ArgumentsAgain | Self::InputAgain | Self::CodeAgain | Self::EventCode => {
                PartKind::ArgumentsAgain
            }
            Self::Value | Self::ExecutableCode => PartKind::Value,
            Self::Action => PartKind::ValueAgain,
            Self::Text | Self::LegacyText | Self::Delta => PartKind::Text,
            Self::TextAgain | Self::OutputText => PartKind::TextAgain,
            Self::Refusal => PartKind::Refusal,
            _ => return None,
        })
    }

    /// The form of calls that such a value is for, if it is for one only.
    fn form(self) -> Option<CallForm> {
        match self {
            Self::Input | Self::InputAgain => Some(CallForm::Custom),
            Self::CodeAgain => Some(CallForm::Code),
            Self::Action => Some(CallForm::BuiltIn),
            _ => None,
        }
    }
}

/// The number of the next of its kind.
fn next(position: &mut u64) -> u64 {
    let this = *position;
    *position += 1;
    this
}

/// A whole number; others are no counts.
fn count(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
