//! What can become of a step or a request, by the codes of `spec/replay.md`.

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($name:ident $code:literal $text:literal;)*) => {
        /// A code of a certificate. In byte order of the codes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code { $(#[doc = $text] $name,)* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As the specification writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// One sentence for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    AnswerDrift "ANSWER_DRIFT" "judged again, the client would get other bytes";
    ArgDrift "ARG_DRIFT" "the request for the step came with other values";
    BodyAbsent "BODY_ABSENT" "a body that is needed is not in the bundle";
    BodyDrift "BODY_DRIFT" "a stored body is not the one that was recorded";
    BodyRedacted "BODY_REDACTED" "a body that is needed is there only with values taken out";
    BundleInvalid "BUNDLE_INVALID" "the bundle does not verify";
    DbDrift "DB_DRIFT" "run again, the statement of the step came to something else";
    Miss "MISS" "no recorded call is left for the request";
    Missing "MISSING" "nobody asked for the step";
    NotCompared "NOT_COMPARED" "the statement of the step gave what nothing recorded could be held against";
    NoSteps "NO_STEPS" "there was nothing to replay";
    OperationNotAllowed "OPERATION_NOT_ALLOWED" "the operation of the step was not allowed to be called";
    Reordered "REORDERED" "the step was asked for before one that was over when it began";
    SchemaDrift "SCHEMA_DRIFT" "the request for the step came in another shape";
    SchemaPartial "SCHEMA_PARTIAL" "parts of the recorded schema are not in the scratch schema";
    ScratchLeft "SCRATCH_LEFT" "the scratch schema was still there after the rollback";
    StatementBound "STATEMENT_BOUND" "the statement of the step reached a bound of the replay";
    StatementDenied "STATEMENT_DENIED" "the statement of the step is none that may run in a scratch schema";
    StatusDrift "STATUS_DRIFT" "judged again, the step has another verdict, rule or reason";
    TagsOnly "TAGS_ONLY" "no body of the run was there: receipts and tags alone were compared";
    Tolerated "TOLERATED" "differences were found that the policy tolerates";
    ToolNotAllowed "TOOL_NOT_ALLOWED" "the tool of the step was not allowed to be called";
    TransactionEscape "TRANSACTION_ESCAPE" "a statement left the transaction of the replay";
    Truncated "TRUNCATED" "the answer of the step was not complete when it was recorded";
    Undecided "UNDECIDED" "what the step is judged by is not in the evidence";
    UpstreamConnection "UPSTREAM_CONNECTION" "the process was connected to something that is no client of its own";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification_and_in_order() {
        let spec = include_str!("../../../spec/replay.md");
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../../spec/replay.schema.json")).unwrap();
        let listed = &schema["properties"]["predicate"]["properties"]["reasons"]["items"]["enum"];
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(*listed, serde_json::json!(codes));
        assert!(codes.is_sorted());
        for code in codes {
            assert!(spec.contains(&format!("| `{code}` |")), "{code}");
        }
    }
}
