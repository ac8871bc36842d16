//! Hosts that a call leads to, and patterns of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a call leads, as far as its text says. Names are not resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// In lower case, without a dot at its end.
    Name(Box<str>),
    /// An address of IPv6 that stands for one of IPv4 is that one.
    Address(IpAddr),
}

/// Most bytes of a host's name (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

impl Host {
    /// Reads a host without port, of IPv6 without brackets. None where readers could take it for another, or for none:
    /// escapes, letters beyond ASCII, numbers that are an address only for some.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(plain(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_letter);
        let fits = name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label);
        (fits && !is_numeric(name)).then(|| Self::Name(name.to_ascii_lowercase().into()))
    }

    fn is_local_name(&self) -> bool {
        matches!(self, Self::Name(name) if **name == *"localhost" || name.ends_with(".localhost"))
    }
}

/// Some readers take `1.2`, `0x7f.1` and `017.0.0.1` for addresses: what ends in a number is none of our names.
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The address of IPv4 that one of IPv6 carries (mapped, compatible, RFC 6052), or itself.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let [a, b, c, d, e, f, high, low] = six.segments();
    let carries = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => true,
        [0, 0, 0, 0, 0, 0] => high != 0, // `::1` and `::` are not
        _ => false,
    };
    let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
    if carries { Ipv4Addr::new(a, b, c, d).into() } else { address }
}

/// A pattern of `destination` and `destination_not`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HostPattern {
    Any,
    Name(Box<str>),
    /// Ends so, dot included.
    Below(Box<str>),
    Net {
        address: IpAddr,
        bits: u8,
    },
    Class(AddressClass),
}

/// Kinds of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AddressClass {
    /// Any address written as one.
    Any,
    /// This machine: 127.0.0.0/8, ::1, 0.0.0.0/8, :: and the name `localhost`.
    Loopback,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7.
    Private,
    /// 169.254.0.0/16 and fe80::/10: where clouds keep their metadata.
    LinkLocal,
}

impl HostPattern {
    pub const EXPECTED: &str = "a host, `*.` and a host, an address, a net as `10.0.0.0/8`, `ip:any`, `ip:loopback`, \
                                `ip:private`, `ip:link_local` or `*`";

    pub fn parse(text: &str) -> Option<Self> {
        let class = |class| Some(Self::Class(class));
        match text {
            "*" => return Some(Self::Any),
            "ip:any" => return class(AddressClass::Any),
            "ip:loopback" => return class(AddressClass::Loopback),
            "ip:private" => return class(AddressClass::Private),
            "ip:link_local" => return class(AddressClass::LinkLocal),
            _ => {}
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address = address.parse::<IpAddr>().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let plainly = !bits.starts_with('0') || bits == "0";
            let bits = bits.parse().ok().filter(|bits| *bits <= most && plainly)?;
            let first = masked(address, bits) == address && plain(address) == address;
            return first.then_some(Self::Net { address, bits });
        }
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        match (below, Host::parse(rest)?) {
            (false, Host::Address(address)) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                Some(Self::Net { address, bits })
            }
            (true, Host::Address(_)) => None,
            (false, Host::Name(name)) => Some(Self::Name(name)),
            (true, Host::Name(name)) => Some(Self::Below(format!(".{name}").into())),
        }
    }

    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(ending), Host::Name(host)) => host.ends_with(&**ending),
            (Self::Net { address, bits }, Host::Address(host)) => {
                address.is_ipv4() == host.is_ipv4() && masked(*host, *bits) == *address
            }
            (Self::Class(AddressClass::Loopback), host) if host.is_local_name() => true,
            (Self::Class(class), Host::Address(host)) => class.has(*host),
            (Self::Name(_) | Self::Below(_), Host::Address(_))
            | (Self::Net { .. } | Self::Class(_), Host::Name(_)) => false,
        }
    }
}

impl AddressClass {
    fn has(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::Loopback, IpAddr::V4(four)) => matches!(four.octets()[0], 0 | 127),
            (Self::Loopback, IpAddr::V6(six)) => six.is_loopback() || six.is_unspecified(),
            (Self::Private, IpAddr::V4(four)) => {
                four.is_private() || matches!(four.octets(), [100, 64..=127, ..])
            }
            (Self::Private, IpAddr::V6(six)) => six.segments()[0] & 0xfe00 == 0xfc00,
            (Self::LinkLocal, IpAddr::V4(four)) => four.is_link_local(),
            (Self::LinkLocal, IpAddr::V6(six)) => six.segments()[0] & 0xffc0 == 0xfe80,
        }
    }
}

/// The first `bits` of an address.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(four.to_bits() & mask).into()
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(six.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).unwrap().matches(&Host::parse(host).unwrap())
    }

    #[test]
    fn a_pattern_takes_hosts_nets_and_kinds_of_addresses() {
        for (pattern, yes, no) in [
            ("api.example.com", vec!["api.example.com", "API.Example.com."], vec!["x.api.example.com"]),
            ("*.example.com", vec!["a.example.com", "a.b.example.com"], vec!["example.com", "aexample.com"]),
            ("10.0.0.0/8", vec!["10.1.2.3", "::ffff:10.1.2.3"], vec!["11.0.0.1", "example.com", "a00::"]),
            ("fd00::/8", vec!["fd12::1"], vec!["fe80::1", "10.0.0.1"]),
            ("0.0.0.0/0", vec!["1.2.3.4"], vec!["2001:db8::1"]),
            ("192.0.2.7", vec!["192.0.2.7", "64:ff9b::192.0.2.7"], vec!["192.0.2.8"]),
            (
                "ip:loopback",
                vec!["127.9.9.9", "::1", "0.0.0.0", "::", "localhost", "a.LOCALHOST"],
                vec!["10.0.0.1", "notlocalhost"],
            ),
            (
                "ip:private",
                vec!["10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"],
                vec!["172.32.0.1", "8.8.8.8"],
            ),
            ("ip:link_local", vec!["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"], vec!["10.0.0.1"]),
            ("ip:any", vec!["8.8.8.8", "2001:db8::1"], vec!["example.com", "localhost"]),
            ("*", vec!["8.8.8.8", "example.com"], vec![]),
        ] {
            yes.iter().for_each(|host| assert!(matches(pattern, host), "{pattern} {host}"));
            no.iter().for_each(|host| assert!(!matches(pattern, host), "{pattern} {host}"));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "*.",
            "*.*",
            "a*b",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/08",
            "http://a",
            "a:80",
            "ip:x",
            "*.1.2.3.4",
            "a b",
            "é.com",
        ] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_readers_disagree_about_is_no_host() {
        for text in [
            "",
            ".",
            "a..b",
            "127.1",
            "0x7f.1",
            "2130706433",
            "017.0.0.1",
            "1.2.3.4.5",
            "é",
            "%65vil",
            "a b",
            "-\u{0}",
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }
}
