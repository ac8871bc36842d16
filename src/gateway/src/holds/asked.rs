//! What approvers are shown of a held call beside its body, and what of it has to be the same when the call comes again. In memory
//! only: a path may hold secrets, of which the journal has tags.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::headers::CREDENTIALS;

/// Longest target that is shown, in bytes.
const TARGET_BYTES_MAX: usize = 16 << 10;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

#[derive(Clone)]
pub(super) struct Asked {
    /// Path and query as they came; none if they are too long.
    pub(super) target: Option<Box<str>>,
    content_type: Box<[HeaderValue]>,
    session: Box<[HeaderValue]>,
    /// Digest of all that may be one.
    credential: Option<[u8; 32]>,
}

impl Asked {
    pub(super) fn of(head: &Parts) -> Self {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let all = |name| head.headers.get_all(name).iter().cloned().collect();
        Self {
            target: (target.len() <= TARGET_BYTES_MAX).then(|| target.into()),
            content_type: all(CONTENT_TYPE),
            session: all(SESSION),
            credential: credential(&head.headers),
        }
    }

    pub(super) fn content_type(&self) -> Option<String> {
        let lines = self.content_type.iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        (!self.content_type.is_empty()).then(|| lines.collect::<Vec<_>>().join(", "))
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// Whether `later` is of the same session, or neither is of any.
    pub(super) fn is_of_session(&self, later: &Self) -> bool {
        self.session == later.session
    }

    /// Whether `later` is the same call. A caller who is known may have got another credential meanwhile.
    pub(super) fn is_of(&self, later: &Self, is_caller_known: bool) -> bool {
        let credential = match is_caller_known {
            true => self.has_credential() == later.has_credential(),
            false => self.credential == later.credential,
        };
        credential
            && self.content_type == later.content_type
            && (later.session.is_empty() || self.session == later.session)
    }
}

fn credential(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut has_any = false;
    for name in &CREDENTIALS {
        for value in headers.get_all(name) {
            has_any = true;
            digest.update(name.as_str());
            digest.update((value.len() as u64).to_be_bytes()); // lengths fit
            digest.update(value.as_bytes());
        }
    }
    has_any.then(|| digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Asked {
        let mut request = http::Request::get("/users/7?a=b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Asked::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_known_caller_may_bring_another_credential_and_nobody_else() {
        let (one, other, none) =
            (asked(&[("authorization", "a")]), asked(&[("authorization", "b")]), asked(&[]));
        assert!(one.is_of(&other, true) && one.is_of(&one, false) && none.is_of(&none, false));
        assert!(!one.is_of(&other, false) && !one.is_of(&none, true) && !none.is_of(&one, true));
        assert!(!asked(&[("cookie", "a")]).is_of(&one, false));
    }

    #[test]
    fn the_session_is_the_same_or_none_and_the_content_type_the_same() {
        let session = |id| asked(&[("mcp-session-id", id)]);
        assert!(session("a").is_of(&session("a"), true) && session("a").is_of(&asked(&[]), true));
        assert!(!session("a").is_of(&session("b"), true) && !asked(&[]).is_of(&session("a"), true));
        let typed = |name| asked(&[("content-type", name)]);
        assert!(!typed("application/json").is_of(&typed("text/plain"), true));
        assert!(!typed("application/json").is_of(&asked(&[]), true));
    }

    #[test]
    fn a_target_is_shown_whole_or_not_at_all() {
        assert_eq!(asked(&[]).target.as_deref(), Some("/users/7?a=b"));
        let long = http::Request::get(format!("/{}", "x".repeat(TARGET_BYTES_MAX))).body(()).unwrap();
        assert_eq!(Asked::of(&long.into_parts().0).target, None);
    }
}
