mod damage;
mod properties;
mod vectors;

use super::*;

fn profile(classes: impl IntoIterator<Item = Class>) -> Profile {
    let classes = classes.into_iter().fold(Classes::SAFE, Classes::with);
    Profile { classes, edits_max: EDITS_MOST, ..Profile::default() }
}

/// What the pass made of `bytes`, if it repaired them.
fn repaired(profile: &Profile, bytes: impl AsRef<[u8]>) -> Result<Repaired, Unrepairable> {
    match repair(profile, bytes.as_ref())? {
        Outcome::Repaired(repaired) => Ok(repaired),
        Outcome::Intact => panic!("{:?} is well formed", String::from_utf8_lossy(bytes.as_ref())),
    }
}
