//! URI references resolved against a base (RFC 3986 section 5.2), to find schemas by name inside one document.

/// The parts of a URI reference (RFC 3986 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub scheme: Option<&'a str>,
    pub authority: Option<&'a str>,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub fragment: Option<&'a str>,
}

pub(super) fn split(uri: &str) -> Parts<'_> {
    let (rest, fragment) = cut(uri, '#');
    let (rest, query) = cut(rest, '?');
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => (Some(scheme), after),
        _ => (None, rest),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            (Some(authority), path)
        }
        None => (None, rest),
    };
    Parts { scheme, authority, path, query, fragment }
}

fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(head, tail)| (head, Some(tail)))
}

fn is_scheme(text: &str) -> bool {
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    rest && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
}

/// `reference` seen from `base`, without its fragment.
pub(super) fn resolve(base: &str, reference: &str) -> String {
    let (own, base) = (split(reference), split(base));
    if own.scheme.is_some() {
        return join(own.scheme, own.authority, &without_dots(own.path), own.query);
    }
    if own.authority.is_some() {
        return join(base.scheme, own.authority, &without_dots(own.path), own.query);
    }
    if own.path.is_empty() {
        return join(base.scheme, base.authority, base.path, own.query.or(base.query));
    }
    let path = if own.path.starts_with('/') {
        without_dots(own.path)
    } else if base.authority.is_some() && base.path.is_empty() {
        without_dots(&format!("/{}", own.path))
    } else {
        let folder = base.path.rfind('/').and_then(|at| base.path.get(..=at)).unwrap_or_default();
        without_dots(&format!("{folder}{}", own.path))
    };
    join(base.scheme, base.authority, &path, own.query)
}

fn join(scheme: Option<&str>, authority: Option<&str>, path: &str, query: Option<&str>) -> String {
    let mut uri = scheme.map_or_else(String::new, |scheme| format!("{scheme}:"));
    if let Some(authority) = authority {
        uri = uri + "//" + authority;
    }
    uri += path;
    if let Some(query) = query {
        uri = uri + "?" + query;
    }
    uri
}

/// RFC 3986 section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." && kept.len() > usize::from(path.starts_with('/')) {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    kept.join("/")
}

/// Undoes percent escapes; `None` if they are broken or not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? << 4 | digit()?;
        bytes.push(value as u8); // two hex digits
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986 section 5.4, without fragments.
    #[test]
    fn resolves_the_examples_of_the_standard() {
        for (reference, expected) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g/../h", "http://a/b/c/h"),
        ] {
            assert_eq!(resolve("http://a/b/c/d;p?q", reference), expected, "{reference}");
        }
        assert_eq!(resolve("urn:uuid:1-2", "#x"), "urn:uuid:1-2");
        assert_eq!(resolve("", "a/b.json"), "a/b.json");
        assert_eq!(resolve("http://host", "x"), "http://host/x");
    }

    #[test]
    fn undoes_percent_escapes() {
        assert_eq!(decoded("a%25b%C3%A9").as_deref(), Some("a%bé"));
        assert_eq!(decoded("%"), None);
        assert_eq!(decoded("%zz"), None);
        assert_eq!(decoded("%FF"), None);
    }
}
