//! Scripts written in Rust: short ways to say what tests say often.

use super::{
    Body, Delays, Dialect, Fault, Framing, LineEnd, ModelReply, PathBody, Reply, Rule, Script, Split,
    SseEvent, ToolCall, Writes,
};

impl Script {
    /// Adds a rule after the ones that are there.
    #[must_use]
    pub fn on(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// One reply to everything.
    #[must_use]
    pub fn always(reply: Reply) -> Self {
        Self { otherwise: reply, ..Self::default() }
    }

    /// A small deterministic model behind the paths that the official OpenAI, Anthropic and Gemini clients
    /// use, with any prefix; and `/json/{n}`, `/sse/{events}/{gap_us}`, `/bytes/{n}`.
    #[must_use]
    pub fn model() -> Self {
        let model = |path: &str, dialect| Rule::new("POST", path, Reply::model(ModelReply::new(dialect)));
        let sized = |path: &str, body| Rule::any(path, Reply::new(Body::FromPath(body)));
        Self::default()
            .on(sized("/json/*", PathBody::Json))
            .on(sized("/sse/*", PathBody::Sse))
            .on(sized("/bytes/*", PathBody::Bytes))
            .on(model("*/chat/completions", Dialect::ChatCompletions))
            .on(model("*/responses", Dialect::Responses))
            .on(model("*/messages", Dialect::Messages))
            .on(model("*:generateContent", Dialect::Gemini))
            .on(model("*:streamGenerateContent", Dialect::Gemini))
            .on(Rule::new("GET", "*/models", Reply::new(Body::ModelList)))
    }
}

impl Rule {
    #[must_use]
    pub fn new(method: &str, path: &str, reply: Reply) -> Self {
        Self { method: Some(method.to_owned()), ..Self::any(path, reply) }
    }

    /// Any method.
    #[must_use]
    pub fn any(path: &str, reply: Reply) -> Self {
        Self { path: path.to_owned(), reply, ..Self::default() }
    }

    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

impl Reply {
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self { body, ..Self::default() }
    }

    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(Body::Text(text.to_owned()))
    }

    /// `text` with content type `application/json`.
    #[must_use]
    pub fn json(text: &str) -> Self {
        Self::text(text).header("content-type", "application/json")
    }

    /// One event with `data` for each.
    #[must_use]
    pub fn sse(data: &[&str]) -> Self {
        let event = |data: &&str| SseEvent { data: Some((*data).to_owned()), ..SseEvent::default() };
        Self::new(Body::Sse { events: data.iter().map(event).collect(), line_end: LineEnd::Lf })
    }

    #[must_use]
    pub fn model(model: ModelReply) -> Self {
        Self::new(Body::Model(model))
    }

    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = Some(framing);
        self
    }

    #[must_use]
    pub fn split(mut self, split: Split) -> Self {
        self.split = split;
        self
    }

    #[must_use]
    pub fn writes(mut self, writes: Writes) -> Self {
        self.writes = writes;
        self
    }

    #[must_use]
    pub fn delay_ms(mut self, delays: Delays) -> Self {
        self.delay_ms = delays;
        self
    }

    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

impl ModelReply {
    /// What follows from the request.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, text: None, calls: None, finish: None, fragment_bytes: None }
    }

    /// Always this text.
    #[must_use]
    pub fn saying(dialect: Dialect, text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::new(dialect) }
    }

    /// Always this one call.
    #[must_use]
    pub fn calling(dialect: Dialect, name: &str, arguments: &str) -> Self {
        let call = ToolCall { name: name.to_owned(), arguments: arguments.to_owned() };
        Self { calls: Some(vec![call]), ..Self::new(dialect) }
    }
}
