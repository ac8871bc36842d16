//! Where a journal begins once the segments of a plan are gone.

use std::path::Path;

use estoppel_evidence::Sha256;

use super::files::{Folder, Place};
use super::{Plan, RetentionError, Survey, instance};
use crate::beginning::{Beginning, DeletedSegment, put};
use crate::layout::Layout;
use crate::storage::FileSystem;

/// What is to be signed before the segments of a plan are deleted; none where it lists none that may go, or that was done before the
/// deletion was cut off. `digest` is that of the plan's payload.
///
/// # Errors
/// [`RetentionError`]; [`RetentionError::Stale`] where a segment is not what was planned.
pub fn beginning(
    dir: &Path,
    plan: &Plan,
    digest: Sha256,
    survey: &Survey,
) -> Result<Option<Vec<u8>>, RetentionError> {
    let layout = Layout::new(dir, None);
    let before = Beginning::read(&FileSystem, &layout)?;
    if before.is_some_and(|before| before.plan == digest) {
        return Ok(None);
    }
    let folder = Folder::open(dir)?;
    let mut deleted = Vec::new();
    for (object, (place, why)) in plan.objects.iter().zip(plan.reasons(survey)?) {
        let (Place::Segment { .. }, None, Some(segment)) = (&place, why, &object.segment) else { continue };
        if folder.digest(&place)? != (object.sha256, object.bytes) {
            return Err(RetentionError::Stale { path: object.path.clone(), why: "changed" });
        }
        deleted.push(DeletedSegment {
            bytes: object.bytes,
            copy: segment.copy.clone(),
            entries: segment.entries,
            first: segment.first,
            head: segment.head,
            plan: digest,
            sha256: object.sha256,
        });
    }
    deleted.sort_by_key(|segment| segment.first);
    let made = Beginning::after(&FileSystem, &layout, &instance(dir)?, digest, deleted)?;
    Ok(made.map(|made| made.statement()))
}

/// Puts it in place when it is signed. From now on the journal begins there, whatever files are left.
///
/// # Errors
/// [`RetentionError::Io`].
pub fn begin(dir: &Path, signed: &[u8]) -> Result<(), RetentionError> {
    let put = put(&FileSystem, &Layout::new(dir, None), signed);
    put.map_err(|(path, source)| RetentionError::io("write", path)(source))
}
