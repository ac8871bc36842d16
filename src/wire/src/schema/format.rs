//! `format`, where it is asserted (Validation section 7.3). Every check is one pass over the text, or nearly.

mod host;
mod text;
mod time;
mod uri;

/// A format that can be asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Time,
    Duration,
    Email,
    IdnEmail,
    Hostname,
    Ipv4,
    Ipv6,
    Uri,
    UriReference,
    Uuid,
    JsonPointer,
    RelativeJsonPointer,
    Regex,
}

impl Format {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "date-time" => Self::DateTime,
            "date" => Self::Date,
            "time" => Self::Time,
            "duration" => Self::Duration,
            "email" => Self::Email,
            "idn-email" => Self::IdnEmail,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "uri" => Self::Uri,
            "uri-reference" => Self::UriReference,
            "uuid" => Self::Uuid,
            "json-pointer" => Self::JsonPointer,
            "relative-json-pointer" => Self::RelativeJsonPointer,
            "regex" => Self::Regex,
            _ => return None,
        })
    }

    /// `text`, which is UTF-8, is in this format.
    pub(super) fn admits(self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        match self {
            Self::DateTime => time::date_time(text),
            Self::Date => time::date(text),
            Self::Time => time::time(text),
            Self::Duration => time::duration(text),
            Self::Email => text.is_ascii() && host::email(text),
            Self::IdnEmail => host::email(text),
            Self::Hostname => host::hostname(text),
            Self::Ipv4 => host::ipv4(text),
            Self::Ipv6 => host::ipv6(text),
            Self::Uri => uri::uri(text),
            Self::UriReference => uri::reference(text),
            Self::Uuid => text::uuid(text),
            Self::JsonPointer => text::pointer(text),
            Self::RelativeJsonPointer => text::relative_pointer(text),
            Self::Regex => super::pattern::is_valid(text),
        }
    }
}
