use serde::Deserialize;

/// Where a log has what. Names are columns of CSV; in JSON they are members, or pointers (RFC 6901) where they begin with `/`.
/// Of several names the first that a row has a value for counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What the provider calls the request in the head of its answer (`x-request-id` and the like). Only this is compared with
    /// receipts.
    #[serde(default)]
    pub request: Names,
    /// Another id, by which findings are called.
    #[serde(default)]
    pub name: Names,
    /// When the call was: RFC 3339, or a number in `time_unit`.
    #[serde(default)]
    pub time: Names,
    #[serde(default)]
    pub time_unit: TimeUnit,
    #[serde(default)]
    pub model: Names,
    /// Tokens of the prompt, counted as the provider's answers count them.
    #[serde(default)]
    pub input: Names,
    #[serde(default)]
    pub output: Names,
}

/// One name or several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Names {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Names {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::None => (None, [].as_slice()),
            Self::One(name) => (Some(name.as_str()), [].as_slice()),
            Self::Several(names) => (None, names.as_slice()),
        };
        one.into_iter().chain(several.iter().map(String::as_str))
    }
}

/// What a number of a time counts since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    #[default]
    Seconds,
    Milliseconds,
    Microseconds,
}

impl TimeUnit {
    pub(crate) fn micros(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000,
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1,
        }
    }
}

impl Mapping {
    fn of(fields: [&[&str]; 6]) -> Self {
        let names = |list: &[&str]| Names::Several(list.iter().map(|name| (*name).to_owned()).collect());
        let [request, name, time, model, input, output] = fields.map(names);
        Self { request, name, time, time_unit: TimeUnit::Seconds, model, input, output }
    }

    /// Stored chat completions and responses, as OpenAI lists them.
    pub(crate) fn openai() -> Self {
        Self::of([
            &["request_id"],
            &["id"],
            &["created_at", "created"],
            &["model"],
            &["/usage/input_tokens", "/usage/prompt_tokens"],
            &["/usage/output_tokens", "/usage/completion_tokens"],
        ])
    }

    /// Messages, with what Anthropic's SDKs add to them.
    pub(crate) fn anthropic() -> Self {
        Self::of([
            &["request_id", "_request_id"],
            &["id"],
            &["created_at"],
            &["model"],
            &["/usage/input_tokens"],
            &["/usage/output_tokens"],
        ])
    }
}
