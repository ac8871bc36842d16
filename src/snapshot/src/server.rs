//! Which server and database it was.

use std::fmt;

/// What makes a database the same one, also after a change of address. Every physical copy of a server has its system
/// identifier, so that the timeline belongs to it: a promoted replica is on another.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Server {
    pub database: Box<str>,
    pub database_oid: u32,
    /// As `server_version_num` says: 150018 is 15.18.
    pub server_version: u32,
    /// As decimal digits, since it does not fit a double.
    pub system_identifier: Box<str>,
    /// `None` where the log could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    pub user: Box<str>,
}

impl Server {
    /// The first number of the version.
    pub fn major(&self) -> u32 {
        self.server_version / 10_000
    }

    /// Whether both are one database of one server. An unknown timeline agrees with each.
    pub fn is_same(&self, other: &Self) -> bool {
        let timelines_agree = match (self.timeline, other.timeline) {
            (Some(one), Some(another)) => one == another,
            _ => true,
        };
        timelines_agree
            && self.system_identifier == other.system_identifier
            && self.database_oid == other.database_oid
            && self.database == other.database
            && self.user == other.user
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "database `{}` ({}) of system {}",
            self.database, self.database_oid, self.system_identifier
        )?;
        match self.timeline {
            Some(timeline) => write!(f, ", timeline {timeline}"),
            None => Ok(()),
        }
    }
}
