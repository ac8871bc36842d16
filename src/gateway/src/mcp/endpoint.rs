//! The URL that the first event of a stream tells its client to post to (HTTP+SSE, 2024-11-05). Clients resolve it against the
//! URL at which they asked the gateway, so it is held against the upstream's origin and given to them as a path of the gateway's.

use estoppel_evidence::Reason;

use crate::headers::is_path_ambiguous;
use crate::judging::Objection;
use crate::settings::Origin;

/// Longest endpoint, bytes.
const BYTES_MAX: usize = 2_048;

/// The path and query at the upstream that `said` means in an answer to `asked`, its own path and query.
///
/// # Errors
/// It is another origin's, or two readers could take it for two URLs.
pub(crate) fn resolve(said: &[u8], origin: &Origin, asked: &str) -> Result<String, Objection> {
    let said = std::str::from_utf8(said).ok().filter(|said| is_plain(said));
    let said = said.ok_or_else(|| refused("it is not a plain URL"))?;
    let (path, query) = said.split_once('?').map_or((said, None), |(path, query)| (path, Some(query)));
    let path = match path.split_once("//") {
        Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
            let authority = rest.split('/').next().unwrap_or_default();
            if !is_origin(scheme, authority, origin) {
                return Err(refused("it is at another origin"));
            }
            let path = &rest[authority.len()..];
            if path.is_empty() { "/".to_owned() } else { path.to_owned() }
        }
        _ if path.starts_with('/') => path.to_owned(),
        _ if path.split('/').next().is_some_and(|first| first.contains(':')) => {
            return Err(refused("it is at another origin"));
        }
        _ => {
            let asked = asked.split('?').next().unwrap_or_default();
            match path {
                "" => asked.to_owned(),
                _ => format!("{}/{path}", asked.rsplit_once('/').map_or("", |(folder, _)| folder)),
            }
        }
    };
    if is_path_ambiguous(&path) || path.starts_with("//") {
        return Err(refused("its path can be read in two ways"));
    }
    Ok(query.map_or(path.clone(), |query| format!("{path}?{query}")))
}

/// Whether scheme and authority of a URL, or its authority alone, are the upstream's.
fn is_origin(scheme: &str, authority: &str, origin: &Origin) -> bool {
    let own = if origin.tls { "https:" } else { "http:" };
    let port = if origin.tls { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    (scheme.is_empty() || scheme.eq_ignore_ascii_case(own)) && bare(authority) == bare(&origin.authority)
}

/// Only what every reader takes for itself: no white space, no fragment, no backslash.
fn is_plain(said: &str) -> bool {
    (1..=BYTES_MAX).contains(&said.len())
        && said.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>^`{|}'".contains(&byte))
}

pub(crate) fn refused(what: &str) -> Objection {
    Objection::new(Reason::ValueAmbiguous, &format!("the endpoint that the stream names: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(said: &str) -> Option<String> {
        let origin = crate::settings::origin("http://up.test:9000/base").unwrap();
        resolve(said.as_bytes(), &origin, "/base/sse?x=1").ok()
    }

    #[test]
    fn an_endpoint_is_resolved_as_clients_do() {
        for (said, meant) in [
            ("/messages/?session_id=1", "/messages/?session_id=1"),
            ("messages", "/base/messages"),
            ("messages?a=b//c", "/base/messages?a=b//c"),
            ("?s=1", "/base/sse?s=1"),
            ("http://up.test:9000/base/m?s=1", "/base/m?s=1"),
            ("HTTP://UP.test:9000", "/"),
            ("//up.test:9000/m", "/m"),
        ] {
            assert_eq!(resolved(said).as_deref(), Some(meant), "{said}");
        }
    }

    #[test]
    fn another_origin_or_an_ambiguous_url_is_refused() {
        for said in [
            "",
            "https://up.test:9000/m",
            "http://up.test/m",
            "http://evil.test:9000/m",
            "http://up.test:9000@evil.test/m",
            "//evil.test/m",
            "javascript:alert(1)",
            "mailto:x",
            "\\\\evil.test/m",
            "/\\evil.test",
            "/a/../b",
            "../m",
            "/m#x",
            "/m m",
            "/\u{e9}",
            "http://up.test:9000//evil.test/m",
        ] {
            assert_eq!(resolved(said), None, "{said}");
        }
        assert_eq!(resolved(&format!("/{}", "x".repeat(BYTES_MAX))), None);
    }
}
