//! What a request body asks for.

use super::{
    Dialect, anthropic_messages,
    body::{Evaluated, JsonBody},
    gemini::{self, FromPath},
    mcp,
    names::{Clip, ELLIPSIS, LIST_MAX, Names},
    openai_chat, openai_responses,
    shape::{Readings, Shape},
    without_query,
};
use crate::{
    Defect,
    json::{Capture, Container, Literal, Visitor},
    schema::Language,
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
    /// The most tokens that the answer may have, where the request says; of several the largest.
    pub output_max: Option<u64>,
    /// Names of the tools offered to the model, in order, and the types of those that have no name, or a type that
    /// says more than that they have one. Includes those of a namespace and those allowed of an MCP server. A
    /// server that offers whatever it has is [`Defect::NotEvaluated`].
    pub tools: Names,
    /// The tool that an MCP `tools/call` calls.
    pub tool_called: Option<String>,
    /// The id of a JSON-RPC message: the number as written, or the text.
    pub rpc_id: Option<String>,
    /// It is a text.
    pub rpc_id_is_text: bool,
    /// The method of a JSON-RPC message.
    pub rpc_method: Option<String>,
    /// How much of the body was read.
    pub evaluated: Evaluated,
    /// What it asks answers to be.
    pub contracts: Contracts,
}

/// What a request says of the values in its answer, as offsets in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contracts {
    /// Name of each tool with what it is called with, in order; as many as [`RequestFacts::tools`] has at most.
    pub tools: Vec<(String, ToolContract)>,
    /// What the answer's text must be, if it was asked for as JSON or as one of a list.
    pub text: Option<TextContract>,
}

/// What a tool is called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolContract {
    /// Arguments of this schema.
    Schema(SchemaAt),
    /// A text, whatever it is.
    AnyText,
    /// A text; the request does not say more.
    Custom,
    /// A text of a grammar, or of another format that is not read here.
    Grammar,
}

/// A schema in the body, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaAt {
    pub language: Language,
    pub span: Span,
}

/// Where a value stands: its first byte, and the byte after its last.
pub type Span = std::ops::Range<u64>;

/// What the answer's text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextContract {
    /// Any JSON object.
    Json,
    /// Any JSON value.
    AnyJson,
    /// A value of this schema.
    Schema(SchemaAt),
    /// No JSON text, but itself a string of this schema; none if the request does not say which.
    Bare(Option<SchemaAt>),
}

/// Reads one request body as it passes.
#[derive(Debug)]
pub struct RequestScan {
    dialect: Dialect,
    /// Gemini only.
    from_path: Option<FromPath>,
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
        let from_path = (dialect == Dialect::Gemini).then(|| FromPath::new(without_query(path)));
        let has_custom = matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
        Self { dialect, from_path, body, finder: Finder { has_custom, ..Finder::default() } }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        self.body.push(chunk, &mut self.finder);
    }

    /// The body is over. Facts are given once; calling again gives what is left.
    pub fn finish(&mut self) -> RequestFacts {
        let mut evaluated = self.body.finish(&mut self.finder);
        let mut found = std::mem::take(&mut self.finder);
        // A doubt came first: the tokenizer takes nothing after a defect of its own.
        evaluated.defect = found.take_doubt().or(evaluated.defect);
        let contracts = found.take_contracts();
        let operation = self.operation(&found);
        let from_path = self.from_path.take().unwrap_or_default();
        if from_path.is_in_doubt {
            evaluated.defect.get_or_insert(Defect::NotEvaluated);
        }
        let (path_model, path_stream) = from_path.model.unzip();
        let called = found.rpc_method.as_deref() == Some(mcp::TOOLS_CALL);
        RequestFacts {
            operation,
            model: found.model.or(path_model).filter(|model| !model.is_empty()),
            stream: found.stream.or(path_stream),
            output_max: found.output_max,
            tools: found.tools,
            tool_called: found.called.filter(|_| called),
            rpc_id: found.rpc_id,
            rpc_id_is_text: found.rpc_id_is_text,
            rpc_method: found.rpc_method,
            contracts,
            evaluated,
        }
    }

    fn operation(&self, found: &Finder) -> String {
        let name = match self.dialect {
            Dialect::OpenAiChat => "openai.chat.completions",
            Dialect::OpenAiResponses => "openai.responses",
            Dialect::AnthropicMessages => "anthropic.messages",
            Dialect::Gemini => match self.from_path.as_ref().and_then(|path| path.model.as_ref()) {
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
    /// How many tokens the answer may have.
    OutputMax,
    ToolName,
    ToolKind,
    /// The type of what a custom tool takes.
    CustomFormat,
    /// A name in the list of those allowed of a server.
    AllowedTool,
    /// The name of an MCP server.
    ServerName,
    /// `enabled` of its `tool_configuration`.
    ServerEnabled,
    /// The name of the MCP server whose tools an `mcp_toolset` offers.
    ToolsetServer,
    /// `enabled` of all tools of a toolset that have no `enabled` of their own.
    DefaultEnabled,
    ConfigEnabled,
    /// See [`Shape::Absent`].
    Misplaced,
    RpcMethod,
    RpcId,
    /// `result` or `error`: the message answers one of the server's.
    RpcOutcome,
    CalledName,
    /// The schema of a tool's arguments.
    Contract(Language),
    /// The schema of the answer's text.
    TextContract(Language),
    /// What the answer's text is asked for as.
    FormatKind,
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
                | Self::Responses(openai_responses::Request::Tool | openai_responses::Request::NestedTool)
                | Self::Messages(anthropic_messages::Request::Tool)
                | Self::Gemini(gemini::Request::Function)
        )
    }

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

    fn element(self) -> Option<Self> {
        match self {
            Self::Chat(at) => at.element(),
            Self::Responses(at) => at.element(),
            Self::Messages(at) => at.element(),
            Self::Gemini(at) => at.element(),
            Self::Mcp(_) | Self::Leaf(_) => None,
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::Leaf(Leaf::Stream | Leaf::OutputMax | Leaf::RpcId | Leaf::RpcOutcome) => Shape::Free,
            Self::Leaf(Leaf::Contract(_) | Leaf::TextContract(_)) => Shape::Any,
            Self::Leaf(Leaf::Misplaced) => Shape::Absent,
            Self::Leaf(Leaf::ServerEnabled | Leaf::DefaultEnabled | Leaf::ConfigEnabled) => Shape::Flag,
            Self::Leaf(_) => Shape::Text,
            Self::Responses(openai_responses::Request::Allowed) => Shape::Container,
            _ if self.element().is_some() => Shape::Array,
            _ => Shape::Object,
        }
    }
}

/// What a format of this type has as the answer's text. With a schema that says more, the schema counts.
fn text_format(kind: &[u8]) -> Option<TextContract> {
    match kind {
        b"json_object" | b"json_schema" => Some(TextContract::Json),
        _ if kind.eq_ignore_ascii_case(gemini::JSON) => Some(TextContract::AnyJson),
        _ if kind.eq_ignore_ascii_case(gemini::ENUM) => Some(TextContract::Bare(None)),
        _ => None,
    }
}

/// Nothing, or a date.
fn is_version(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b'_', date @ ..] => date.len() == 8 && date.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

const NESTED: Place = Place::Responses(openai_responses::Request::Nested);
const SERVER: Place = Place::Messages(anthropic_messages::Request::Server);
const CONFIG: Place = Place::Messages(anthropic_messages::Request::Config);

/// One tool while it is read.
#[derive(Debug, Default)]
struct Tool {
    named: bool,
    /// All that an MCP server offers through it has a name in the request.
    bounded: bool,
    name: Clip,
    kind: Clip,
    /// The MCP server of a toolset.
    server: Clip,
    contract: Option<SchemaAt>,
    /// The type of what it takes, if it is a custom one.
    format: Clip,
}

impl Tool {
    fn clear(&mut self) {
        self.named = false;
        self.bounded = false;
        self.name.clear();
        self.kind.clear();
        self.server.clear();
        self.contract = None;
        self.format.clear();
    }

    /// What a custom tool is called with.
    fn custom(&self) -> ToolContract {
        match self.format.as_bytes() {
            b"" => ToolContract::Custom,
            b"text" => ToolContract::AnyText,
            _ => ToolContract::Grammar,
        }
    }

    /// Whether the type says no more than that the tool has a name: `function`, or Anthropic's `bash_20250124`.
    fn is_by_name(&self) -> bool {
        let kind = self.kind.as_bytes();
        matches!(kind, b"" | b"function" | b"custom" | b"namespace")
            || kind.strip_prefix(self.name.as_bytes()).is_some_and(is_version)
    }
}

/// An MCP server of a Messages request while it is read.
#[derive(Debug, Default)]
struct Server {
    name: Clip,
    disabled: bool,
    /// Its tools have names in the request.
    bounded: bool,
}

/// Collects the facts. Where a member comes twice the last one counts, as it does for most readers.
#[derive(Debug, Default)]
struct Finder {
    model: Option<String>,
    stream: Option<bool>,
    output_max: Option<u64>,
    tools: Names,
    called: Option<String>,
    rpc_id: Option<String>,
    rpc_id_is_text: bool,
    rpc_method: Option<String>,
    rpc_outcome: bool,
    batch: bool,
    readings: Readings,
    /// The string being read.
    text: Clip,
    tool: Tool,
    /// The namespace whose tools are being read.
    around: Tool,
    server: Server,
    /// Servers all of whose tools are offered, unless a toolset says which.
    whole_servers: Names,
    /// Servers of toolsets.
    toolset_servers: Names,
    /// The tool whose configuration is being read.
    config: Clip,
    config_disabled: bool,
    contracts: Contracts,
    /// The answer's text is not JSON, see [`TextContract::Bare`].
    bare_text: bool,
    /// The value whose span comes next is `null`.
    null: bool,
    /// Tools of the type `custom` take free text.
    has_custom: bool,
}

impl Finder {
    fn take_contracts(&mut self) -> Contracts {
        let mut contracts = std::mem::take(&mut self.contracts);
        if self.bare_text {
            contracts.text = Some(TextContract::Bare(match contracts.text {
                Some(TextContract::Schema(schema)) => Some(schema),
                _ => None,
            }));
        }
        contracts
    }

    fn take_doubt(&mut self) -> Option<Defect> {
        let Names { items, more } = &self.whole_servers;
        let is_whole = |server: &String| {
            server.ends_with(ELLIPSIS) || !self.toolset_servers.items.contains(server) // a cut name could be any
        };
        if *more > 0 || items.iter().any(is_whole) {
            self.readings.doubt(Defect::NotEvaluated);
        }
        self.readings.take_doubt()
    }

    fn end_tool(&mut self) {
        let schema = self.tool.contract.take().map(ToolContract::Schema);
        let tool = &self.tool;
        let is_custom = self.has_custom && tool.kind.as_bytes() == b"custom";
        for contract in [schema, is_custom.then(|| tool.custom())].into_iter().flatten() {
            if self.contracts.tools.len() < LIST_MAX {
                self.contracts.tools.push((tool.name.to_name(), contract));
            }
        }
        self.tools.push(tool.name.to_name());
        if tool.name.is_empty() || !tool.is_by_name() {
            self.tools.push(tool.kind.to_name());
        }
        let kind = tool.kind.as_bytes();
        if kind.starts_with(b"mcp") && !tool.bounded {
            self.readings.doubt(Defect::NotEvaluated);
        }
        if kind.starts_with(b"mcp_toolset") {
            self.toolset_servers.push(tool.server.to_name());
        }
    }

    fn end_server(&mut self) {
        let Server { name, disabled, bounded } = std::mem::take(&mut self.server);
        if disabled || bounded {
            return;
        }
        match name.is_empty() {
            true => self.readings.doubt(Defect::NotEvaluated),
            false => self.whole_servers.push(name.to_name()),
        }
    }

    fn end_config(&mut self) {
        if !self.config_disabled {
            self.tools.push(self.config.to_name());
        }
    }

    fn sight(&mut self, leaf: Leaf) {
        self.rpc_outcome |= leaf == Leaf::RpcOutcome;
        if leaf == Leaf::ToolName && std::mem::replace(&mut self.tool.named, true) {
            self.readings.doubt(Defect::DuplicateKey);
        }
    }
}

impl Visitor for Finder {
    type Place = Place;

    fn member(&mut self, of: Place, key: &[u8]) -> Option<Place> {
        let place = of.member(key);
        match place {
            Some(CONFIG) => {
                self.config.set(key);
                self.readings.name(&self.config);
            }
            Some(_) => self.readings.member(key),
            None => self.readings.other_member(key, |name| of.member(name).is_some()),
        }
        if let Some(Place::Leaf(leaf)) = place {
            self.sight(leaf);
        }
        if place.is_none() && of == Place::Gemini(gemini::Request::Kinds) {
            self.text.set(key); // `googleSearch`, `codeExecution`: the kind is all the name there is
            self.readings.name(&self.text);
            let name = self.text.to_name();
            let other = gemini::other_spelling(&name);
            self.tools.push(name);
            self.tools.push(other);
            if gemini::is_server(key) {
                self.readings.doubt(Defect::NotEvaluated);
            }
        }
        place
    }

    fn element(&mut self, of: Place) -> Option<Place> {
        of.element()
    }

    fn begin(&mut self, at: Place, container: Container) {
        self.batch |= at == Place::Mcp(mcp::Request::Root) && container == Container::Array;
        self.readings.begin(at.shape(), container);
        if at == NESTED {
            std::mem::swap(&mut self.tool, &mut self.around);
        } else if at.is_tool() {
            self.tool.clear();
        } else if at == CONFIG {
            self.config_disabled = false;
        }
    }

    fn end(&mut self, at: Place, _: Container) {
        self.readings.end();
        if at == NESTED {
            std::mem::swap(&mut self.tool, &mut self.around);
        } else if at.is_tool() {
            self.end_tool();
        } else if at == SERVER {
            self.end_server();
        } else if at == CONFIG {
            self.end_config();
        }
    }

    fn string(&mut self, at: Place) -> Capture {
        self.readings.string(at.shape());
        self.text.clear();
        if matches!(at, Place::Leaf(_)) { Capture::Take } else { Capture::Pass }
    }

    fn text(&mut self, _: Place, piece: &[u8]) {
        self.text.push(piece);
    }

    fn string_end(&mut self, at: Place) {
        let Place::Leaf(leaf) = at else { return };
        if at.shape() == Shape::Text {
            self.readings.name(&self.text);
        }
        match leaf {
            Leaf::Model => self.model = self.text.to_some_name(),
            Leaf::ToolName => std::mem::swap(&mut self.text, &mut self.tool.name),
            Leaf::ToolKind => std::mem::swap(&mut self.text, &mut self.tool.kind),
            Leaf::CustomFormat => std::mem::swap(&mut self.text, &mut self.tool.format),
            Leaf::AllowedTool => {
                self.tool.bounded |= !self.text.is_empty();
                self.server.bounded |= !self.text.is_empty();
                self.tools.push(self.text.to_name());
            }
            Leaf::ServerName => std::mem::swap(&mut self.text, &mut self.server.name),
            Leaf::ToolsetServer => std::mem::swap(&mut self.text, &mut self.tool.server),
            Leaf::RpcMethod => self.rpc_method = self.text.to_some_name(),
            Leaf::RpcId => {
                self.rpc_id = self.text.to_some_name();
                self.rpc_id_is_text = true;
            }
            Leaf::CalledName => self.called = self.text.to_some_name(),
            Leaf::Stream
            | Leaf::OutputMax
            | Leaf::RpcOutcome
            | Leaf::Misplaced
            | Leaf::Contract(_)
            | Leaf::TextContract(_) => {}
            Leaf::FormatKind => match text_format(self.text.as_bytes()) {
                Some(TextContract::Bare(_)) => self.bare_text = true,
                Some(json) => _ = self.contracts.text.get_or_insert(json),
                None => {}
            },
            Leaf::ServerEnabled | Leaf::DefaultEnabled | Leaf::ConfigEnabled => {}
        }
    }

    fn number(&mut self, at: Place, text: &[u8]) {
        self.readings.number(at.shape());
        if at == Place::Leaf(Leaf::OutputMax) {
            let said = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            self.output_max = self.output_max.max(said);
        }
        if at == Place::Leaf(Leaf::RpcId) {
            self.text.set(text);
            self.rpc_id = self.text.to_some_name();
            self.rpc_id_is_text = false;
        }
    }

    fn span(&mut self, at: Place, from: u64, to: u64) {
        match at {
            _ if std::mem::take(&mut self.null) => {}
            Place::Leaf(Leaf::Contract(language)) => {
                let schema = SchemaAt { language, span: from..to };
                if self.tool.contract.replace(schema).is_some() {
                    self.readings.doubt(Defect::DuplicateKey);
                }
            }
            Place::Leaf(Leaf::TextContract(language)) => {
                let schema = TextContract::Schema(SchemaAt { language, span: from..to });
                if let Some(TextContract::Schema(_)) = self.contracts.text.replace(schema) {
                    self.readings.doubt(Defect::DuplicateKey);
                }
            }
            _ => {}
        }
    }

    fn literal(&mut self, at: Place, literal: Literal) {
        self.readings.literal(at.shape(), literal);
        let value = match literal {
            Literal::True => Some(true),
            Literal::False => Some(false),
            Literal::Null => None,
        };
        self.null = literal == Literal::Null;
        let disabled = value == Some(false);
        match at {
            Place::Leaf(Leaf::Stream) => self.stream = value,
            Place::Leaf(Leaf::ServerEnabled) => self.server.disabled = disabled,
            Place::Leaf(Leaf::DefaultEnabled) => self.tool.bounded = disabled,
            Place::Leaf(Leaf::ConfigEnabled) => self.config_disabled = disabled,
            CONFIG => {
                self.config_disabled = false;
                self.end_config();
            }
            _ => {}
        }
    }
}
