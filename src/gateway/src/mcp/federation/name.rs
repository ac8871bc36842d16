//! Names of tools where several servers are one: `<server>__<tool>`. A server's name has no underscore, so that the first two
//! end it, whatever the tool is called; two servers' tools never have one name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// What stands between the two.
pub(crate) const SEPARATOR: &str = "__";
/// Longest name of a server, bytes.
const SERVER_BYTES_MAX: usize = 32;

/// Whether a server may be called so.
pub(crate) fn is_server(name: &str) -> bool {
    (1..=SERVER_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

pub(crate) fn joined(server: &str, tool: &str) -> String {
    format!("{server}{SEPARATOR}{tool}")
}

/// The server and its own name for the tool.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(SEPARATOR).filter(|(_, tool)| !tool.is_empty())
}

/// A name as `mcp-name` has it (2026-07-28, "Value Encoding").
pub(crate) fn header(name: &str) -> Option<HeaderValue> {
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim() == name
        && !(name.starts_with("=?base64?") && name.ends_with("?="));
    let text = if is_plain { name.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(name)) };
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_split_whatever_the_tool_is_called() {
        for tool in ["read", "_read", "__x", "a__b", "r-1"] {
            assert_eq!(split(&joined("files", tool)), Some(("files", tool)));
        }
        for name in ["read", "files__", "files_read", ""] {
            assert_eq!(split(name), None, "{name}");
        }
        assert!(is_server("files-2") && !is_server("a_b") && !is_server("") && !is_server("A"));
        assert!(!is_server(&"x".repeat(SERVER_BYTES_MAX + 1)));
    }

    #[test]
    fn a_name_that_fits_into_no_header_is_wrapped() {
        assert_eq!(header("read").unwrap(), "read");
        assert_eq!(header("l\u{e9}").unwrap(), "=?base64?bMOp?=");
        assert_eq!(header("=?base64?x?=").unwrap(), "=?base64?PT9iYXNlNjQ/eD89?=");
        assert_eq!(header(" a").unwrap(), "=?base64?IGE=?=");
    }
}
