//! What a request body asks for.

use super::{
    Dialect, anthropic_messages,
    body::{Evaluated, JsonBody},
    gemini, mcp,
    names::{Clip, Names},
    openai_chat, openai_responses, without_query,
};
use crate::{
    Defect,
    json::{Capture, Container, Literal, Visitor},
};

/// What was read from one request. Texts are as the client wrote them, bounded, and not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// What the call does, as a name: `openai.chat.completions`, `openai.responses`, `anthropic.messages`,
    /// `gemini.generate_content`, `gemini.stream_generate_content`, `mcp.` and a method, `mcp.response`,
    /// `mcp.batch`, `mcp.unknown`; or only the dialect, where no more could be read.
    pub operation: String,
    /// The model asked for. If it comes twice, the last one, with [`Defect::DuplicateKey`].
    pub model: Option<String>,
    /// Whether the client asks for a stream; absent if it does not say.
    pub stream: Option<bool>,
    /// Names of the tools offered to the model, in order; the type of those that have no name.
    pub tools: Names,
    /// The tool that an MCP `tools/call` calls.
    pub tool_called: Option<String>,
    /// The id of a JSON-RPC message: the number as written, or the text.
    pub rpc_id: Option<String>,
    /// The method of a JSON-RPC message.
    pub rpc_method: Option<String>,
    /// How much of the body was read.
    pub evaluated: Evaluated,
}

/// Reads one request body as it passes.
#[derive(Debug)]
pub struct RequestScan {
    dialect: Dialect,
    /// The model in the path and whether it streams: Gemini only.
    from_path: Option<(String, bool)>,
    body: JsonBody<Place>,
    finder: Finder,
}

impl RequestScan {
    /// For a request to `path`, which may have a query.
    pub fn new(dialect: Dialect, path: &str) -> Self {
        if dialect == Dialect::Bytes {
            return Self::unread(dialect, path, Defect::NotEvaluated);
        }
        Self::with_body(dialect, path, JsonBody::new(root(dialect)))
    }

    /// For a body that is only counted, for instance because of its content coding. Reads the path alone.
    pub fn unread(dialect: Dialect, path: &str, why: Defect) -> Self {
        Self::with_body(dialect, path, JsonBody::unread(why))
    }

    fn with_body(dialect: Dialect, path: &str, body: JsonBody<Place>) -> Self {
        let from_path = match dialect {
            Dialect::Gemini => gemini::model_and_stream(without_query(path)).map(|(model, stream)| {
                let mut clip = Clip::default();
                clip.push(model.as_bytes());
                (clip.to_name(), stream)
            }),
            _ => None,
        };
        Self { dialect, from_path, body, finder: Finder::default() }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        self.body.push(chunk, &mut self.finder);
    }

    /// The body is over. Facts are given once; calling again gives what is left.
    pub fn finish(&mut self) -> RequestFacts {
        let mut evaluated = self.body.finish(&mut self.finder);
        let found = std::mem::take(&mut self.finder);
        if found.twice {
            // It came first: the tokenizer takes nothing after a defect of its own.
            evaluated.defect = Some(Defect::DuplicateKey);
        }
        let operation = self.operation(&found);
        let (path_model, path_stream) = self.from_path.take().unzip();
        let called = found.rpc_method.as_deref() == Some(mcp::TOOLS_CALL);
        RequestFacts {
            operation,
            model: found.model.or(path_model).filter(|model| !model.is_empty()),
            stream: found.stream.or(path_stream),
            tools: found.tools,
            tool_called: found.called.filter(|_| called),
            rpc_id: found.rpc_id,
            rpc_method: found.rpc_method,
            evaluated,
        }
    }

    fn operation(&self, found: &Finder) -> String {
        let name = match self.dialect {
            Dialect::OpenAiChat => "openai.chat.completions",
            Dialect::OpenAiResponses => "openai.responses",
            Dialect::AnthropicMessages => "anthropic.messages",
            Dialect::Gemini => match self.from_path {
                Some((_, true)) => "gemini.stream_generate_content",
                Some((_, false)) => "gemini.generate_content",
                None => "gemini",
            },
            Dialect::Mcp if found.batch => "mcp.batch",
            Dialect::Mcp => match &found.rpc_method {
                Some(method) => return mcp::operation(method),
                None if found.rpc_outcome => "mcp.response",
                None => "mcp",
            },
            Dialect::Json => "json",
            Dialect::Bytes => "bytes",
        };
        name.to_owned()
    }
}

/// A place in a request that leads to a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Chat(openai_chat::Request),
    Responses(openai_responses::Request),
    Messages(anthropic_messages::Request),
    Gemini(gemini::Request),
    Mcp(mcp::Request),
    Leaf(Leaf),
}

/// A value that is a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Model,
    Stream,
    ToolName,
    ToolKind,
    RpcMethod,
    RpcId,
    /// `result` or `error`: the message answers one of the server's.
    RpcOutcome,
    CalledName,
}

fn root(dialect: Dialect) -> Option<Place> {
    Some(match dialect {
        Dialect::OpenAiChat => Place::Chat(openai_chat::Request::Root),
        Dialect::OpenAiResponses => Place::Responses(openai_responses::Request::Root),
        Dialect::AnthropicMessages => Place::Messages(anthropic_messages::Request::Root),
        Dialect::Gemini => Place::Gemini(gemini::Request::Root),
        Dialect::Mcp => Place::Mcp(mcp::Request::Root),
        Dialect::Json | Dialect::Bytes => return None,
    })
}

impl Place {
    /// An object that offers one tool.
    fn is_tool(self) -> bool {
        matches!(
            self,
            Self::Chat(openai_chat::Request::Tool | openai_chat::Request::Function)
                | Self::Responses(openai_responses::Request::Tool)
                | Self::Messages(anthropic_messages::Request::Tool)
                | Self::Gemini(gemini::Request::Function)
        )
    }
}

impl Leaf {
    /// One bit for each fact of which a request has one, so that a second one can be seen.
    fn single(self) -> u8 {
        match self {
            Self::Model => 1,
            Self::Stream => 1 << 1,
            Self::RpcMethod => 1 << 2,
            Self::RpcId => 1 << 3,
            Self::CalledName => 1 << 4,
            Self::ToolName | Self::ToolKind | Self::RpcOutcome => 0,
        }
    }
}

/// Collects the facts. Where a member comes twice the last one counts, as it does for most readers.
#[derive(Debug, Default)]
struct Finder {
    model: Option<String>,
    stream: Option<bool>,
    tools: Names,
    called: Option<String>,
    rpc_id: Option<String>,
    rpc_method: Option<String>,
    rpc_outcome: bool,
    batch: bool,
    /// The single facts seen so far, see [`Leaf::single`].
    seen: u8,
    twice: bool,
    /// The string being read.
    text: Clip,
    tool_name: Clip,
    tool_kind: Clip,
}

impl Finder {
    fn sight(&mut self, leaf: Leaf) {
        self.twice |= self.seen & leaf.single() != 0;
        self.seen |= leaf.single();
        self.rpc_outcome |= leaf == Leaf::RpcOutcome;
    }
}

impl Visitor for Finder {
    type Place = Place;

    fn member(&mut self, of: Place, key: &[u8]) -> Option<Place> {
        let place = match of {
            Place::Chat(at) => at.member(key),
            Place::Responses(at) => at.member(key),
            Place::Messages(at) => at.member(key),
            Place::Gemini(at) => at.member(key),
            Place::Mcp(at) => at.member(key),
            Place::Leaf(_) => None,
        };
        if let Some(Place::Leaf(leaf)) = place {
            self.sight(leaf);
        }
        if place.is_none() && of == Place::Gemini(gemini::Request::Kinds) {
            self.text.set(key); // `googleSearch`, `codeExecution`: the kind is all the name there is
            self.tools.push(self.text.to_name());
        }
        place
    }

    fn element(&mut self, of: Place) -> Option<Place> {
        match of {
            Place::Chat(at) => at.element(),
            Place::Responses(at) => at.element(),
            Place::Messages(at) => at.element(),
            Place::Gemini(at) => at.element(),
            Place::Mcp(_) | Place::Leaf(_) => None,
        }
    }

    fn begin(&mut self, at: Place, container: Container) {
        self.batch |= at == Place::Mcp(mcp::Request::Root) && container == Container::Array;
        if at.is_tool() {
            self.tool_name.clear();
            self.tool_kind.clear();
        }
    }

    fn end(&mut self, at: Place, _: Container) {
        if at.is_tool() {
            let named = !self.tool_name.is_empty();
            self.tools.push(if named { self.tool_name.to_name() } else { self.tool_kind.to_name() });
        }
    }

    fn string(&mut self, at: Place) -> Capture {
        self.text.clear();
        if matches!(at, Place::Leaf(_)) { Capture::Take } else { Capture::Pass }
    }

    fn text(&mut self, _: Place, piece: &[u8]) {
        self.text.push(piece);
    }

    fn string_end(&mut self, at: Place) {
        let Place::Leaf(leaf) = at else { return };
        match leaf {
            Leaf::Model => self.model = self.text.to_some_name(),
            Leaf::ToolName => std::mem::swap(&mut self.text, &mut self.tool_name),
            Leaf::ToolKind => std::mem::swap(&mut self.text, &mut self.tool_kind),
            Leaf::RpcMethod => self.rpc_method = self.text.to_some_name(),
            Leaf::RpcId => self.rpc_id = self.text.to_some_name(),
            Leaf::CalledName => self.called = self.text.to_some_name(),
            Leaf::Stream | Leaf::RpcOutcome => {}
        }
    }

    fn number(&mut self, at: Place, text: &[u8]) {
        if at == Place::Leaf(Leaf::RpcId) {
            self.text.set(text);
            self.rpc_id = self.text.to_some_name();
        }
    }

    fn literal(&mut self, at: Place, literal: Literal) {
        if at == Place::Leaf(Leaf::Stream) {
            self.stream = match literal {
                Literal::True => Some(true),
                Literal::False => Some(false),
                Literal::Null => None,
            };
        }
    }
}
