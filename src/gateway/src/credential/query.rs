//! Credentials that clients put into the query of a request target.

use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// `target` without the parameters of these names, letters in any case; what stays is as it was. None if nothing that is a
/// target stays. Parameters end at `&`, and at `;`, where some upstreams end them; `key[]` and `key[a]` are members of `key`.
pub(super) fn without(target: Uri, names: &[String]) -> Option<Uri> {
    let is_taken = |pair: &&str| {
        let pair = pair.trim_end_matches(ENDS);
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let name = percent_decode_str(name).decode_utf8_lossy();
        let name = name.split_once('[').map_or(&*name, |(name, _)| name);
        names.iter().any(|taken| taken.eq_ignore_ascii_case(name))
    };
    let query = target.query().unwrap_or("");
    if !query.split_inclusive(ENDS).any(|pair| is_taken(&pair)) {
        return Some(target);
    }
    let mut kept: String = query.split_inclusive(ENDS).filter(|pair| !is_taken(pair)).collect();
    if !query.ends_with(ENDS) {
        kept.truncate(kept.trim_end_matches(ENDS).len());
    }
    let path = target.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    let mut parts = target.into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

const ENDS: [char; 2] = ['&', ';'];

#[cfg(test)]
mod tests {
    use super::*;

    fn left(target: &str) -> String {
        let names = ["access_token".to_owned(), "key".to_owned()];
        without(target.parse().unwrap(), &names).unwrap().to_string()
    }

    #[test]
    fn what_credentials_are_sent_in_goes_and_all_else_stays_as_it_was() {
        for (sent, forwarded) in [
            ("/v1/models", "/v1/models"),
            ("/v1/models?alt=sse", "/v1/models?alt=sse"),
            ("/v1/models?key=AIza", "/v1/models"),
            ("/v1/models?alt=sse&key=AIza&a=%2f+&&b", "/v1/models?alt=sse&a=%2f+&&b"),
            ("/v1/models?%6bey=AIza&KEY=b&key&Access_Token=c", "/v1/models"),
            ("/v1/models?monkey=1&keys=2&x=key=3", "/v1/models?monkey=1&keys=2&x=key=3"),
            ("/v1/models?%zz=1&key=2", "/v1/models?%zz=1"),
            ("/v1/models?a=1;key=2;b=3&key=4", "/v1/models?a=1;b=3"),
            ("/v1/models?key[]=1&Key%5Ba%5D=2&keys[]=3", "/v1/models?keys[]=3"),
            ("/?", "/?"),
        ] {
            assert_eq!(left(sent), forwarded, "{sent}");
        }
        assert_eq!(left("http://host:1/a?key=b"), "http://host:1/a");
    }
}
