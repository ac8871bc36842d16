//! Objects in a pack of another repository, where each of them is named by its own content.
//!
//! Git believes the name under which an object lies: whoever writes into the folder of a repository can put other bytes
//! there. `index-pack` computes every name anew. What was asked for and is not there afterwards was altered.

use std::fs;
use std::io;

use super::{Git, ObjectId};
use crate::code::{Code, Refusal};

impl Git {
    /// Gives `own`, which has no objects yet, those of `commit`: itself, its trees and its files, without its history.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`: one of them is not what its name says.
    pub(super) fn give(&self, own: &Self, commit: &ObjectId) -> Result<(), Refusal> {
        let listed = ["rev-list", "--objects", "--no-object-names", "--no-walk", commit.as_str()];
        let ids = self.text(&listed)? + "\n";
        self.name_anew(own, &ids)
    }

    /// Packs these objects into `own` under names that are computed there.
    pub(super) fn name_anew(&self, own: &Self, ids: &str) -> Result<(), Refusal> {
        let packs = own.path_of("objects/pack")?;
        let failed = |error: io::Error| {
            Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", packs.display()))
        };
        fs::create_dir_all(&packs).map_err(failed)?;
        let base = packs.join("given");
        let base = base.to_string_lossy();
        let said = self.bytes(&["pack-objects", "--quiet", "--window=0", &base], ids.as_bytes())?;
        let name = format!("{base}-{}", String::from_utf8_lossy(&said).trim_end());
        // Indexes that were made here name the objects as they were asked for.
        for made in ["idx", "rev"] {
            match fs::remove_file(format!("{name}.{made}")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        own.bytes(&["index-pack", &format!("{name}.pack")], &[])?;
        let found = own.bytes(&["cat-file", "--batch-check"], ids.as_bytes())?;
        let found = String::from_utf8_lossy(&found);
        match found.lines().find_map(|line| line.strip_suffix(" missing")) {
            None => Ok(()),
            Some(id) => {
                let said = format!("object {id} is not what its name says");
                Err(Refusal::new(Code::LedgerAltered, said))
            }
        }
    }
}
