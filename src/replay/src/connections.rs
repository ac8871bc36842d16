//! Counts the sockets of this process that lead anywhere but to clients of its own listener, or to where it is meant to lead.
//!
//! Nothing in a replay opens one, but to a database that was named, and this looks whether that is so: the kernel lists each socket with
//! the process' descriptors and, by inode, in its tables. What opens and closes between two looks is not seen.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Most bytes of one of the kernel's tables that are read.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// State of a socket that listens.
const LISTEN: &str = "0A";

#[derive(Clone, Debug, Default)]
pub struct Connections {
    listener_port: Option<u16>,
    /// Where the replay itself is meant to lead.
    peers: BTreeSet<SocketAddr>,
    seen: BTreeSet<u64>,
}

impl Connections {
    /// With a listener whose clients are not counted.
    pub fn beside(listener_port: u16) -> Self {
        Self { listener_port: Some(listener_port), ..Self::default() }
    }

    /// Clients of this listener are not counted from now on.
    pub(crate) fn leave_out(&mut self, listener_port: u16) {
        self.listener_port = Some(listener_port);
    }

    /// Where a replay leads on purpose is not counted.
    pub fn allow(&mut self, peers: impl IntoIterator<Item = SocketAddr>) {
        self.peers
            .extend(peers.into_iter().map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port())));
    }

    /// Looks now.
    ///
    /// # Errors
    /// The kernel does not list sockets here.
    pub fn look(&mut self) -> io::Result<()> {
        let own = own_sockets()?;
        if own.is_empty() {
            return Ok(());
        }
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let Some(text) = read(&format!("/proc/self/net/{table}"))? else { continue };
            let rows = text.lines().skip(1).filter_map(Row::read);
            let leads_away = |row: &Row| own.contains(&row.inode) && self.leads_away(row);
            let found: Vec<u64> = rows.filter(leads_away).map(|row| row.inode).collect();
            self.seen.extend(found);
        }
        Ok(())
    }

    /// How many were seen so far.
    pub fn count(&self) -> u64 {
        self.seen.len() as u64 // usize fits
    }

    fn leads_away(&self, row: &Row) -> bool {
        let is_meant = row.peer.is_some_and(|peer| self.peers.contains(&peer));
        row.has_peer && !row.listens && !is_meant && Some(row.local_port) != self.listener_port
    }
}

struct Row {
    local_port: u16,
    has_peer: bool,
    peer: Option<SocketAddr>,
    listens: bool,
    inode: u64,
}

impl Row {
    /// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, peer, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
        let (_, port) = local.rsplit_once(':')?;
        Some(Self {
            local_port: u16::from_str_radix(port, 16).ok()?,
            peer: address(peer),
            has_peer: peer.bytes().any(|byte| !matches!(byte, b'0' | b':')),
            listens: *state == LISTEN,
            inode: inode.parse().ok()?,
        })
    }
}

/// `0100007F:1F90`: the address as words of the machine's own order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (hex, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = hex.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let ip: IpAddr = match words.collect::<Option<Vec<_>>>()?.as_flattened() {
        bytes @ [_, _, _, _] => <[u8; 4]>::try_from(bytes).ok()?.into(),
        bytes => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn own_sockets() -> io::Result<BTreeSet<u64>> {
    let mut own = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Ok(target) = entry.and_then(|entry| std::fs::read_link(entry.path())) else { continue };
        let name = target.to_string_lossy();
        let inode = name.strip_prefix("socket:[").and_then(|name| name.strip_suffix(']'));
        own.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(own)
}

/// None where the kernel has no such table.
fn read(path: &str) -> io::Result<Option<String>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(TABLE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn connections_are_counted_once_and_clients_of_the_listener_not() {
        let (ours, upstream) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap(),
        );
        let mut connections = Connections::beside(ours.local_addr().unwrap().port());
        connections.look().unwrap();
        assert_eq!(connections.count(), 0, "listening is no connection");

        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        connections.look().unwrap();
        assert_eq!(connections.count(), 0, "nor is a socket without a peer");
        datagrams.connect("127.0.0.1:9").unwrap();
        let opened = TcpStream::connect(upstream.local_addr().unwrap()).unwrap();
        connections.look().unwrap();
        connections.look().unwrap();
        assert_eq!(connections.count(), 2);
        drop((opened, datagrams));
        connections.look().unwrap();
        assert_eq!(connections.count(), 2, "what was seen stays seen");

        // The accepting end is a client's; the other end, in this same process, leads away.
        let mut beside = Connections::beside(ours.local_addr().unwrap().port());
        let client = TcpStream::connect(ours.local_addr().unwrap()).unwrap();
        let accepted = ours.accept().unwrap();
        beside.look().unwrap();
        assert_eq!(beside.count(), 1);
        drop((client, accepted));

        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut meant = Connections::default();
        meant.allow([upstream.local_addr().unwrap()]);
        let _there = TcpStream::connect(upstream.local_addr().unwrap()).unwrap();
        meant.look().unwrap();
        assert_eq!(meant.count(), 0, "where the replay is meant to lead");
        let _elsewhere = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
        meant.look().unwrap();
        assert_eq!(meant.count(), 1);
    }
}
