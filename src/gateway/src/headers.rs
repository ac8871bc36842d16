//! Which headers cross the gateway (RFC 9110 section 7.6.1, RFC 9112 section 9.6).

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{StatusCode, Uri};

use estoppel_evidence::text;

/// Hop-by-hop: meant for this connection only.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers in which clients send what upstreams know them by.
pub(crate) const CREDENTIALS: [HeaderName; 5] = [
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The prefix of headers that are addressed to the gateway and never forwarded.
pub(crate) const OWN_PREFIX: &str = "estoppel-";

/// Whether two readers could take a request's path for two paths: it has dot segments, or encodes what needs no encoding
/// (RFC 3986 sections 2.3 and 5.2.4). Routes and dialects go by the path, and an upstream may normalize it.
pub(crate) fn is_path_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    let encoded = |at: usize| {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())
    };
    let needless = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    path.split('/').any(|segment| segment == "." || segment == "..")
        || (0..bytes.len()).filter(|at| bytes[*at] == b'%').any(|at| encoded(at).is_none_or(needless))
}

/// Headers by which some upstreams take another method or path than those of the request's first line.
const OVERRIDES: [&str; 8] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-uri",
    "x-envoy-original-path",
];

/// Whether an upstream may take the request for another operation than its method and path say.
pub(crate) fn names_another_operation(headers: &HeaderMap) -> bool {
    headers.keys().any(is_override)
}

fn is_override(name: &HeaderName) -> bool {
    OVERRIDES.iter().any(|known| is_read_as(name, known))
}

/// Whether an upstream may read one name as the other: CGI and what follows it reads every mark in a name as `_`.
fn is_read_as(name: &HeaderName, known: &str) -> bool {
    let name = name.as_str().as_bytes();
    let same = |a: u8, b: u8| a == b || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric();
    known.len() == name.len() && known.bytes().zip(name).all(|(known, byte)| same(known, *byte))
}

/// Takes off what an upstream may read as a header of one of these names.
pub(crate) fn remove_named(headers: &mut HeaderMap, names: &[HeaderName]) {
    remove(headers, |name| names.iter().any(|known| is_read_as(name, known.as_str())));
}

/// Removes from a request's trailers what no trailer may say (RFC 9110 section 6.5.1), because a reader may merge them into the
/// headers: framing, routing, and what is the gateway's own.
pub(crate) fn for_upstream_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    let framing = [CONTENT_LENGTH, EXPECT, HOST];
    remove(trailers, |name| is_own(name) || is_override(name) || framing.contains(name));
}

/// Bytes of header lines as HTTP/1.1 would have them.
pub(crate) fn head_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

/// Why a request's framing cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambiguity {
    LengthAndEncoding,
    SeveralLengths,
    Host,
}

/// Refuses what two parsers could read in two ways. The HTTP parser has refused the rest already.
pub(crate) fn refuse_ambiguous(uri: &Uri, headers: &HeaderMap, http1: bool) -> Result<(), Ambiguity> {
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(Ambiguity::LengthAndEncoding);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next()
        && (first.as_bytes().contains(&b',') || lengths.next().is_some())
    {
        return Err(Ambiguity::SeveralLengths);
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (http1 && hosts == 0) {
        return Err(Ambiguity::Host);
    }
    match (uri.authority(), headers.get(HOST)) {
        (Some(authority), Some(host)) if !is_same_host(uri, authority.as_str(), host.as_bytes()) => {
            Err(Ambiguity::Host)
        }
        _ => Ok(()),
    }
}

/// Where upstreams say what they call a request. The first that is there counts.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"];

/// What the upstream calls the request that it answers, fit for a receipt.
pub(crate) fn upstream_request(headers: &HeaderMap) -> Option<Box<str>> {
    let said = REQUEST_IDS.iter().find_map(|name| headers.get(*name))?.to_str().ok()?;
    (!said.is_empty()).then(|| text::name(said).into())
}

/// Whether an answer's head says what no upstream may say to a gateway: two ends of its body, a transfer coding that
/// was not undone, or another protocol.
pub(crate) fn is_ambiguous_answer(status: StatusCode, headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let odd_coding = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => {
            !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || headers.contains_key(CONTENT_LENGTH)
        }
        _ => true,
    };
    odd_coding || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether the target's authority and the `host` header name the same, be it once with the scheme's own port.
fn is_same_host(uri: &Uri, authority: &str, host: &[u8]) -> bool {
    let port: &[u8] = if uri.scheme_str() == Some("https") { b":443" } else { b":80" };
    let bare = |text: &[u8]| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    bare(authority.as_bytes()) == bare(host)
}

/// Removes what belongs to the connection, `Connection`-named headers included.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(CONNECTION) {
        let several = headers.get_all(CONNECTION).iter().count() > 1;
        let plain = matches!(named.as_bytes(), b"keep-alive" | b"close" | b"Keep-Alive" | b"Close");
        if several || !plain {
            let names: Vec<HeaderName> = headers
                .get_all(CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|b| *b == b','))
                .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
                .collect();
            for name in names {
                headers.remove(name);
            }
        }
    }
    remove(headers, |name| HOP_BY_HOP.contains(name));
}

/// Removes the headers whose name is `doomed`. Looks at each name once, because mostly there is none.
fn remove(headers: &mut HeaderMap, doomed: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| doomed(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn is_own(name: &HeaderName) -> bool {
    name.as_str().starts_with(OWN_PREFIX)
}

/// Makes a request's headers fit for the upstream: no hop-by-hop headers, none of ours, the upstream's own host.
pub(crate) fn for_upstream(headers: &mut HeaderMap, authority: &HeaderValue, identity_encoding: bool) {
    strip_hop_by_hop(headers);
    remove(headers, |name| is_own(name) || name == EXPECT);
    headers.insert(HOST, authority.clone());
    if identity_encoding {
        headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Makes a response's headers, or its trailers, fit for the client. Trailers that are announced stay so, because HTTP/1.1
/// clients get no others.
pub(crate) fn for_client(headers: &mut HeaderMap) {
    let announced: Vec<HeaderName> = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_own(name) && !HOP_BY_HOP.contains(name))
        .collect();
    strip_hop_by_hop(headers);
    remove(headers, is_own);
    for name in announced {
        headers.append(TRAILER, name.into());
    }
}

/// Whether the client said `TE: trailers`.
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|value| value.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn appended(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn paths_that_two_readers_could_take_for_two_are_told() {
        for path in ["/a/../b", "/./a", "/a/..", "/%61", "/%6Cocked/a", "/a%2e%2e/b", "/a%2", "/%zz", "/%5F"]
        {
            assert!(is_path_ambiguous(path), "{path}");
        }
        for path in
            ["/", "/v1/a.b/..c/...", "/a%2Fb", "/models/x%3Ay", "/caf%C3%A9", "/a%20b", "/~%7E", "//a"]
        {
            assert!(!is_path_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn headers_that_name_another_operation_are_told_by_any_spelling() {
        for name in
            ["x-http-method-override", "x_http_method_override", "x-http_method-override", "x.http.method"]
        {
            assert!(names_another_operation(&map(&[("host", "a"), (name, "DELETE")])), "{name}");
        }
        for name in ["x-http-method-overrides", "http-method-override", "xxhttp-method", "x-original-id"] {
            assert!(!names_another_operation(&map(&[(name, "DELETE")])), "{name}");
        }
    }

    #[test]
    fn trailers_do_not_steer_the_upstream() {
        let mut trailers = map(&[
            ("x_original_url", "/admin"),
            ("content-length", "9"),
            ("host", "a"),
            ("transfer-encoding", "chunked"),
            ("estoppel-run", "r"),
            ("x-sum", "1"),
        ]);
        for_upstream_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("x-sum", "1")]));
    }

    #[test]
    fn connection_named_headers_do_not_cross() {
        let mut headers = appended(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let check = |headers: &HeaderMap, http1| refuse_ambiguous(&Uri::from_static("/a"), headers, http1);
        let both = map(&[("host", "a"), ("transfer-encoding", "chunked"), ("content-length", "3")]);
        assert_eq!(check(&both, true), Err(Ambiguity::LengthAndEncoding));
        let two = appended(&[("host", "a"), ("content-length", "3"), ("content-length", "3")]);
        assert_eq!(check(&two, true), Err(Ambiguity::SeveralLengths));
        assert_eq!(check(&map(&[]), true), Err(Ambiguity::Host));
        assert_eq!(check(&map(&[]), false), Ok(()));
    }

    #[test]
    fn answers_with_two_ends_odd_codings_or_another_protocol_are_ambiguous() {
        let check = |status, pairs: &[(&'static str, &'static str)]| {
            is_ambiguous_answer(StatusCode::from_u16(status).unwrap(), &appended(pairs))
        };
        assert!(!check(200, &[("content-length", "3")]) && !check(200, &[("transfer-encoding", "Chunked")]));
        assert!(check(200, &[("transfer-encoding", "chunked"), ("content-length", "3")]));
        assert!(check(200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
        assert!(check(200, &[("transfer-encoding", "gzip, chunked")]));
        assert!(check(101, &[]));
    }

    #[test]
    fn a_host_that_differs_from_the_target_is_refused() {
        let check = |uri: &'static str, host: &'static str| {
            refuse_ambiguous(&Uri::from_static(uri), &map(&[("host", host)]), true).is_ok()
        };
        assert!(check("http://a.test/x", "A.test") && check("http://a.test:80/x", "a.test"));
        assert!(check("https://a.test/x", "a.test:443") && check("/x", "any.test"));
        assert!(!check("http://a.test/x", "b.test") && !check("http://a.test:81/x", "a.test"));
        assert!(!check("https://a.test/x", "a.test:80"));
    }

    #[test]
    fn our_own_headers_are_not_forwarded() {
        let mut headers = map(&[
            ("estoppel-run", "r"),
            ("host", "us"),
            ("accept-encoding", "gzip"),
            ("expect", "100-continue"),
        ]);
        for_upstream(&mut headers, &HeaderValue::from_static("them"), true);
        assert_eq!(headers, map(&[("host", "them"), ("accept-encoding", "identity")]));
    }
}
