//! The headers in which a caller says what its call belongs to. They are recorded as claims and never believed; the
//! run header alone has an effect: it chooses the run that the receipt is chained in.

mod signature;

use estoppel_evidence::entry::Claims;
use http::HeaderMap;

pub(crate) use signature::ContextKey;

/// Names the run: 1 to 128 characters of `[A-Za-z0-9._:/-]`, but not `ambient` or `instance`.
pub(crate) const RUN: &str = "estoppel-run";

/// Header and the claim it fills.
const CLAIMS: [(&str, &str); 8] = [
    ("estoppel-agent", "agent"),
    ("estoppel-evolution-id", "evolution_id"),
    ("estoppel-job-id", "job_id"),
    ("estoppel-pipeline-id", "pipeline_id"),
    ("estoppel-runtime", "runtime"),
    ("estoppel-schema", "schema"),
    ("estoppel-service-id", "service_id"),
    ("idempotency-key", "idempotency_key"),
];

/// Longest value of a context header, in bytes.
const VALUE_BYTES_MAX: usize = 128;

/// What the caller said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// The run's name.
    pub(crate) run: Option<Box<str>>,
    /// Claims, if there are any.
    pub(crate) claims: Option<Box<Claims>>,
}

/// The header whose value is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadContext(pub(crate) &'static str);

impl Context {
    /// Reads the context headers.
    ///
    /// # Errors
    /// A header that occurs twice, is longer than [`VALUE_BYTES_MAX`] or is not visible ASCII.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, BadContext> {
        let mut context = Self { run: value(headers, RUN)?.map(Into::into), claims: None };
        if context.run.as_deref().is_some_and(|run| !is_run_name(run)) {
            return Err(BadContext(RUN));
        }
        for (header, claim) in CLAIMS {
            let read = value(headers, header);
            // Not ours to refuse: it is addressed to the upstream, we only note it.
            let read =
                if header.starts_with(crate::headers::OWN_PREFIX) { read? } else { read.unwrap_or(None) };
            if let Some(text) = read {
                let claims = context.claims.get_or_insert_default();
                if let Some(field) = claims.field_mut(claim) {
                    *field = Some(text.into());
                }
            }
        }
        Ok(context)
    }
}

/// The run's name alone, if it is usable: a bad claim beside it does not move a call to another run.
pub(crate) fn run_name(headers: &HeaderMap) -> Option<Box<str>> {
    value(headers, RUN).ok().flatten().filter(|run| is_run_name(run)).map(Into::into)
}

/// Names of the daemon's own runs.
const RESERVED: [&str; 2] = ["ambient", "instance"];

fn is_run_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte))
        && !RESERVED.contains(&name)
}

fn value<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, BadContext> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(text) if (1..=VALUE_BYTES_MAX).contains(&text.len()) && values.next().is_none() => Ok(Some(text)),
        _ => Err(BadContext(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn read(pairs: &[(&'static str, &str)]) -> Result<Context, BadContext> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Context::read(&headers)
    }

    #[test]
    fn context_is_read_from_headers() {
        let context = read(&[("estoppel-run", "nightly/42"), ("estoppel-job-id", "j1")]).unwrap();
        assert_eq!(context.run.as_deref(), Some("nightly/42"));
        assert_eq!(context.claims.unwrap().job_id.as_deref(), Some("j1"));
        assert_eq!(read(&[("x", "y")]), Ok(Context::default()));
    }

    #[test]
    fn values_that_could_mislead_are_refused() {
        for name in ["a b", "ambient", "instance"] {
            assert_eq!(read(&[("estoppel-run", name)]), Err(BadContext(RUN)), "{name}");
        }
        assert_eq!(read(&[("estoppel-run", "a"), ("estoppel-run", "b")]), Err(BadContext(RUN)));
        assert_eq!(read(&[("estoppel-job-id", &"x".repeat(129))]), Err(BadContext("estoppel-job-id")));
        assert_eq!(read(&[("estoppel-agent", "")]), Err(BadContext("estoppel-agent")));
    }
}
