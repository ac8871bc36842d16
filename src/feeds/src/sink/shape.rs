//! What collectors expect of a batch, and what their answers say of it.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Delivery, SinkError};
use crate::document::{Document, Format};
use crate::otlp::request;
use crate::settings::{Encoding, Shape};

/// Most characters of a collector's answer that are quoted.
const QUOTE_CHARS_MAX: usize = 200;

impl Shape {
    pub(crate) fn content_type(self, encoding: Encoding) -> &'static str {
        match self {
            Self::Otlp => request::content_type(encoding),
            Self::SplunkHec | Self::Datadog => "application/json",
            Self::ElasticBulk | Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The header that carries the token.
    pub(crate) fn authorization(self, token: &str) -> (&'static str, String) {
        match self {
            Self::SplunkHec => ("authorization", format!("Splunk {token}")),
            Self::Datadog => ("dd-api-key", token.to_owned()),
            Self::ElasticBulk => ("authorization", format!("ApiKey {token}")),
            Self::Ndjson | Self::Otlp => ("authorization", format!("Bearer {token}")),
        }
    }

    /// The body of a request.
    pub(crate) fn body(
        self,
        encoding: Encoding,
        format: Format,
        documents: &[Document],
    ) -> Result<Vec<u8>, SinkError> {
        if self == Self::Otlp {
            return request::body(format, encoding, documents).map_err(SinkError::Encode);
        }
        let mut body = Vec::new();
        let name = format.name();
        for (at, document) in documents.iter().enumerate() {
            let json = &document.json;
            match self {
                Self::SplunkHec => {
                    let (seconds, micros) = (document.time_us / 1_000_000, document.time_us % 1_000_000);
                    let host = Value::from(document.instance.as_str());
                    let head = format!(
                        r#"{{"time":{seconds}.{micros:06},"host":{host},"source":"estoppel","sourcetype":"estoppel:{name}","event":"#
                    );
                    body.extend_from_slice(head.as_bytes());
                    body.extend_from_slice(json);
                    body.extend_from_slice(b"}\n");
                }
                Self::Datadog => {
                    let log = json!({
                        "ddsource": "estoppel",
                        "ddtags": format!("format:{name}"),
                        "hostname": document.instance,
                        "message": String::from_utf8_lossy(json),
                        "service": "estoppeld",
                    });
                    body.push(if at == 0 { b'[' } else { b',' });
                    body.extend_from_slice(log.to_string().as_bytes());
                }
                Self::ElasticBulk => {
                    let action = json!({ "create": { "_id": elastic_id(&document.uid) } });
                    body.extend_from_slice(action.to_string().as_bytes());
                    body.push(b'\n');
                    body.extend_from_slice(json);
                    body.push(b'\n');
                }
                Self::Ndjson | Self::Otlp => {
                    body.extend_from_slice(json);
                    body.push(b'\n');
                }
            }
        }
        if self == Self::Datadog {
            body.push(b']');
        }
        Ok(body)
    }

    /// What a successful answer says of the documents. What a collector of OTLP rejects in part must not be sent again.
    pub(crate) fn taken(self, sent: usize, content_type: Option<&str>, answer: &[u8]) -> Delivery {
        match self {
            Self::SplunkHec => splunk(sent, answer),
            Self::ElasticBulk => elastic(sent, answer),
            Self::Otlp => {
                Delivery { unnamed: request::rejected(content_type, answer), ..Delivery::default() }
            }
            Self::Datadog | Self::Ndjson => Delivery::default(),
        }
    }
}

/// At most 512 bytes, which a key never reaches; without `#`, which URLs would cut off.
fn elastic_id(uid: &str) -> String {
    match uid.split_once('#') {
        None => uid.trim_start_matches("leaf:").to_owned(),
        Some((leaf, rest)) => {
            let rest = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rest);
            format!("{}.{rest}", leaf.trim_start_matches("leaf:"))
        }
    }
}

fn splunk(sent: usize, answer: &[u8]) -> Delivery {
    #[derive(Deserialize)]
    struct Answer {
        code: i64,
    }
    match serde_json::from_slice::<Answer>(answer) {
        Ok(Answer { code: 0 }) => Delivery::default(),
        _ => Delivery::failed(sent, SinkError::Partial { refused: sent, sent, text: quote(answer) }),
    }
}

/// One item for each action, in order. 409 is a copy, which is there already.
fn elastic(sent: usize, answer: &[u8]) -> Delivery {
    #[derive(Deserialize)]
    struct Answer {
        items: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        create: Created,
    }
    #[derive(Deserialize)]
    struct Created {
        status: u16,
        #[serde(default)]
        error: Value,
    }
    let items = match serde_json::from_slice::<Answer>(answer) {
        Ok(answer) if answer.items.len() == sent => answer.items,
        _ => return Delivery::failed(sent, SinkError::Partial { refused: sent, sent, text: quote(answer) }),
    };
    let mut delivery = Delivery::default();
    let mut first = None;
    for (at, Item { create }) in items.into_iter().enumerate() {
        match create.status {
            200..=299 | 409 => {}
            400 | 413 | 422 => delivery.refused.push((at, quote(create.error.to_string().as_bytes()))),
            status => {
                first.get_or_insert_with(|| {
                    format!("{status} {}", quote(create.error.to_string().as_bytes()))
                });
                delivery.left.push(at);
            }
        }
    }
    if let Some(text) = first {
        delivery.error = Some(SinkError::Partial { refused: delivery.left.len(), sent, text });
    }
    delivery
}

/// The start of an answer, fit for a log.
pub(crate) fn quote(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.chars().filter(|c| !c.is_control()).take(QUOTE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Document> {
        let one = |uid: &str| Document {
            uid: uid.into(),
            instance: "gw/main/1".into(),
            time_us: 1_795_233_600_000_007,
            severity: 1,
            json: format!(r#"{{"uid":"{uid}"}}"#).into_bytes(),
        };
        vec![one("leaf:aa"), one("leaf:aa#threat")]
    }

    #[test]
    fn bodies_look_as_the_collectors_say() {
        let text = |shape: Shape| {
            let body = shape.body(Encoding::default(), Format::Ocsf, &documents()).unwrap();
            String::from_utf8(body).unwrap()
        };
        assert_eq!(
            text(Shape::SplunkHec).lines().next().unwrap(),
            r#"{"time":1795233600.000007,"host":"gw/main/1","source":"estoppel","sourcetype":"estoppel:ocsf","event":{"uid":"leaf:aa"}}"#
        );
        let logs: Vec<Value> = serde_json::from_str(&text(Shape::Datadog)).unwrap();
        assert_eq!(logs[1]["message"], r#"{"uid":"leaf:aa#threat"}"#);
        let bulk = text(Shape::ElasticBulk);
        let lines: Vec<&str> = bulk.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], r#"{"create":{"_id":"aa"}}"#);
        assert_eq!(lines[2], r#"{"create":{"_id":"aa.dGhyZWF0"}}"#);
        assert_eq!(text(Shape::Ndjson), "{\"uid\":\"leaf:aa\"}\n{\"uid\":\"leaf:aa#threat\"}\n");
    }

    #[test]
    fn an_answer_that_is_not_understood_is_no_success() {
        for shape in [Shape::SplunkHec, Shape::ElasticBulk] {
            for answer in ["", "ok", "{}", r#"{"code":9}"#, r#"{"items":[]}"#] {
                assert_eq!(shape.taken(2, None, answer.as_bytes()).left, [0, 1], "{shape:?} {answer}");
            }
        }
        assert!(Shape::SplunkHec.taken(2, None, br#"{"text":"Success","code":0}"#).left.is_empty());
    }

    #[test]
    fn each_document_of_a_bulk_has_its_own_fate() {
        let answer = json!({ "errors": true, "items": [
            { "create": { "status": 201 } },
            { "create": { "status": 429, "error": { "type": "es_rejected_execution_exception" } } },
            { "create": { "status": 409 } },
            { "create": { "status": 400, "error": { "type": "mapper_parsing_exception" } } },
            { "create": { "status": 503 } },
        ] });
        let delivery = Shape::ElasticBulk.taken(5, None, answer.to_string().as_bytes());
        assert_eq!(delivery.left, [1, 4]);
        assert_eq!(delivery.refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3]);
        assert!(delivery.error.unwrap().to_string().starts_with("2 of 5 documents were not taken: 429"));
    }
}
