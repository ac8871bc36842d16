//! Bodies with the verdict that is expected of them: what a file of fixtures beside a contract holds.
//!
//! Only the file is read here. Whoever judges bodies runs the cases; paths in it are relative to the file's own folder.

use crate::error::{PolicyError, PolicyErrorCode};
use crate::judging::{ContractText, Repair};
use crate::read::{Map, Reader};
use crate::yaml::{self, Node};

/// A file of fixtures, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixtures {
    /// What bodies are held against.
    pub subject: Subject,
    /// How bodies are written, if the subject does not say.
    pub format: Option<BodyFormat>,
    /// Instead of what the route says.
    pub repair: Option<Repair>,
    /// In the order of the file.
    pub cases: Vec<Fixture>,
}

/// What the bodies of a file of fixtures are held against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A contract in the file.
    Contract(ContractText),
    /// A contract in a file of its own.
    File(String),
    /// A contract of a policy.
    Named {
        /// File of the policy.
        policy: String,
        /// Its name there.
        contract: String,
    },
    /// What a model was asked for, and what a route of a policy has in its place.
    Answers {
        /// Name of the dialect.
        dialect: String,
        /// What was asked.
        request: Option<Source>,
        /// File of the policy, and the route.
        route: Option<(String, String)>,
    },
}

/// A text in the file, or in one of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The text.
    Text(String),
    /// Its path.
    File(String),
}

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFormat {
    /// One JSON text.
    Json,
    /// A JSON text a line.
    Ndjson,
    /// An event stream.
    Sse,
    /// Rows.
    Csv,
}

impl BodyFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Sse, Self::Csv];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Sse => "sse",
            Self::Csv => "csv",
        }
    }
}

/// A body, and what is expected of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixture {
    /// What the case claims.
    pub name: String,
    /// The body.
    pub body: Source,
    /// What should become of it.
    pub expect: Expected,
    /// The code of the refusal.
    pub reason: Option<String>,
    /// Where the refusal is, or the beginning of that.
    pub place: Option<String>,
    /// What should leave.
    pub out: Option<Source>,
}

/// What becomes of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It leaves as it came.
    Pass,
    /// It leaves repaired.
    Repair,
    /// It is refused.
    Block,
}

impl Expected {
    const ALL: [Self; 3] = [Self::Pass, Self::Repair, Self::Block];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Repair => "repair",
            Self::Block => "block",
        }
    }
}

impl Fixtures {
    /// Reads a file of fixtures. All errors come at once, in the order of the text.
    pub fn parse(yaml: &str) -> Result<Self, Vec<PolicyError>> {
        let mut reader = Reader::default();
        let fixtures = yaml::parse(yaml, &mut reader.errors).and_then(|root| reader.fixtures(&root));
        match fixtures {
            Some(fixtures) if reader.errors.is_empty() => Ok(fixtures),
            _ => Err(reader.errors.into_list()),
        }
    }
}

const KEYS: [&str; 9] =
    ["version", "contract", "policy", "dialect", "request", "request_file", "as", "repair", "cases"];
const CASE_KEYS: [&str; 8] = ["name", "body", "body_file", "expect", "reason", "place", "out", "out_file"];

impl Reader {
    fn fixtures(&mut self, root: &Node) -> Option<Fixtures> {
        let map = self.map(root)?;
        self.version(&map)?;
        self.known_keys(&map, &KEYS);
        let subject = self.subject(&map, root);
        let format = self
            .optional(&map, "as", |reader, node| reader.choice(node, BodyFormat::ALL, BodyFormat::as_str));
        let repair = self.optional(&map, "repair", Self::repair);
        let cases = self.required(&map, "cases", |reader, node| {
            let items = reader.list(node)?;
            if items.is_empty() {
                reader.add(PolicyErrorCode::Value, node.place, "there are no cases".into());
            }
            Some(reader.each(items, Self::fixture))
        });
        Some(Fixtures { subject: subject?, format, repair, cases: cases? })
    }

    fn subject(&mut self, map: &Map<'_>, root: &Node) -> Option<Subject> {
        let dialect = self.optional(map, "dialect", Self::owned);
        let contract = self.optional(map, "contract", Self::subject_contract);
        let policy = self.optional(map, "policy", Self::subject_policy);
        let request = self.either(map, "request", "request_file");
        let wrong = |reader: &mut Self, message: &str| {
            reader.add(PolicyErrorCode::Value, root.place, message.into());
            None
        };
        match (dialect, contract, policy) {
            (Some(dialect), None, None) => Some(Subject::Answers { dialect, request, route: None }),
            (Some(dialect), None, Some((file, None, Some(route)))) => {
                Some(Subject::Answers { dialect, request, route: Some((file, route)) })
            }
            (None, _, _) if request.is_some() => wrong(self, "`request` belongs to a `dialect`"),
            (None, Some(subject), None) => Some(subject),
            (None, None, Some((policy, Some(contract), None))) => Some(Subject::Named { policy, contract }),
            (Some(_), ..) => {
                wrong(self, "with a `dialect`, a policy has a `route`, and there is no `contract`")
            }
            (None, ..) if self.errors.is_empty() => {
                wrong(self, "there is either a `contract`, a `policy` with one, or a `dialect`")
            }
            (None, ..) => None,
        }
    }

    fn subject_contract(&mut self, node: &Node) -> Option<Subject> {
        let map = self.map(node)?;
        if map.get("file").is_none() {
            return self.contract(node).map(Subject::Contract);
        }
        self.known_keys(&map, &["file"]);
        self.required(&map, "file", Self::owned).map(Subject::File)
    }

    /// File, contract, route.
    fn subject_policy(&mut self, node: &Node) -> Option<(String, Option<String>, Option<String>)> {
        let map = self.map(node)?;
        self.known_keys(&map, &["file", "contract", "route"]);
        let file = self.required(&map, "file", Self::owned);
        let [contract, route] = ["contract", "route"].map(|key| self.optional(&map, key, Self::owned));
        Some((file?, contract, route))
    }

    fn fixture(&mut self, node: &Node) -> Option<Fixture> {
        let map = self.map(node)?;
        self.known_keys(&map, &CASE_KEYS);
        let name = self.required(&map, "name", Self::owned);
        let body = self.either(&map, "body", "body_file");
        if body.is_none() && map.get("body").or(map.get("body_file")).is_none() {
            self.missing(&map, "body");
        }
        let expect = self
            .required(&map, "expect", |reader, node| reader.choice(node, Expected::ALL, Expected::as_str));
        let [reason, place] = ["reason", "place"].map(|key| self.optional(&map, key, Self::owned));
        let out = self.either(&map, "out", "out_file");
        Some(Fixture { name: name?, body: body?, expect: expect?, reason, place, out })
    }

    /// The text, or the file that has it.
    fn either(&mut self, map: &Map<'_>, text: &str, file: &str) -> Option<Source> {
        let inline = self.optional(map, text, Self::owned).map(Source::Text);
        let outside = self.optional(map, file, Self::owned).map(Source::File);
        if let (Some(_), Some(_), Some(node)) = (&inline, &outside, map.get(file)) {
            let message = format!("there is either `{text}` or `{file}`");
            self.add(PolicyErrorCode::Value, node.place, message);
        }
        inline.or(outside)
    }

    fn owned(&mut self, node: &Node) -> Option<String> {
        self.text(node).map(String::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_subject_and_its_cases() {
        let text = "version: 1
contract: { json: '{}' }
as: ndjson
repair: { r1: [missing_closer] }
cases:
- { name: a, body: '{}', expect: pass, out: '{}' }
- { name: b, body_file: b.json, expect: block, reason: CONTRACT_VIOLATED, place: text 2 }
";
        let fixtures = Fixtures::parse(text).unwrap();
        assert!(matches!(&fixtures.subject, Subject::Contract(contract) if contract.text == "{}"));
        assert_eq!((fixtures.format, fixtures.cases.len()), (Some(BodyFormat::Ndjson), 2));
        assert_eq!(fixtures.cases[1].body, Source::File("b.json".into()));
        assert!(matches!(fixtures.repair, Some(Repair::R1(classes)) if classes.len() == 1));
        let as_json = r#"{
  "version": 1,
  "policy": { "file": "p.yaml", "route": "llm" },
  "dialect": "gemini",
  "request_file": "r.json",
  "cases": [
    { "name": "a", "body": "{\"a\":\n1}", "expect": "repair" }
  ]
}"#;
        let fixtures = Fixtures::parse(as_json).unwrap();
        assert_eq!(fixtures.cases[0].body, Source::Text("{\"a\":\n1}".into()));
        assert!(matches!(fixtures.subject, Subject::Answers { route: Some(_), request: Some(_), .. }));
    }

    #[test]
    fn a_file_is_refused_whole_with_the_place_of_every_error() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let errors = Fixtures::parse(&format!("version: 1\n{text}")).unwrap_err();
            let got: Vec<_> = errors.iter().map(|error| (error.code.as_str(), error.path.as_str())).collect();
            assert_eq!(got, expected, "{text}: {errors:?}");
        };
        check("cases: [{ name: a, body: b, expect: pass }]", &[("POLICY_VALUE", "")]);
        check(
            "contract: { file: a, json: b }\ncases: [{ name: a, body: b, expect: pass }]",
            &[("POLICY_UNKNOWN_KEY", "contract.json")],
        );
        check(
            "contract: { file: a }\nrequest: b\ncases: [{ name: a, body: b, expect: pass }]",
            &[("POLICY_VALUE", "")],
        );
        check(
            "dialect: gemini\npolicy: { file: a, contract: b }\ncases: [{ name: a, body: b, expect: pass }]",
            &[("POLICY_VALUE", "")],
        );
        check("contract: { file: a }", &[("POLICY_MISSING_KEY", "")]);
        check(
            "contract: { file: a }\ncases:\n- { name: a, expect: pass }",
            &[("POLICY_MISSING_KEY", "cases[0]")],
        );
        check(
            "contract: { file: a }\nas: xml\ncases:\n- { name: a, body: b, body_file: c, expect: maybe }",
            &[("POLICY_VALUE", "as"), ("POLICY_VALUE", "cases[0]"), ("POLICY_VALUE", "cases[0].expect")],
        );
    }
}
