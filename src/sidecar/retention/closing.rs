//! Chains of custody of bundles that were deleted: they stay, and their last entry says by what.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use estoppel_archive::custody::list_path;
use estoppel_archive::{Action, Custodian, Done};
use estoppel_evidence::Sha256;
use estoppel_evidence::envelope::from_base64;
use estoppel_journal::retention::{Object, Plan};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::custody;
use crate::output::{Colour, Failure, Output, plain};

/// A plan that was carried out.
pub struct Closing<'a> {
    pub dir: &'a Path,
    pub plan: &'a Plan,
    /// Of the plan's payload.
    pub digest: Sha256,
    /// The report as it was signed.
    pub report: &'a [u8],
}

/// What became of the lists.
#[derive(Default)]
pub struct Closed {
    closed: Vec<PathBuf>,
    /// Nobody was asked to sign.
    open: Vec<PathBuf>,
}

impl Closed {
    pub fn show(&self, output: Output) {
        for list in &self.closed {
            output.line(&plain(&format!("custody closed: {}", list.display())));
        }
        for list in &self.open {
            let line = plain(&format!("custody without a closing entry: {}", list.display()));
            output.line(&output.paint(Colour::Yellow, &line));
        }
    }

    pub fn with(&self, mut data: Value) -> Value {
        data["custody"] = json!({ "closed": self.closed, "open": self.open });
        data
    }
}

/// Refuses, before anything is deleted, what could not be told in the lists.
pub fn demand(dir: &Path, plan: &Plan, digest: Sha256, by: Option<&Custodian>) -> Result<(), Failure> {
    let Some(by) = by else { return Ok(()) };
    for (bundle, object) in listed(dir, plan) {
        custody::demand(&bundle, by, &deleted(object, digest, digest))?;
    }
    Ok(())
}

impl Closing<'_> {
    /// Adds the last entry to the list of each bundle that was deleted and has one. What has it is left as it is.
    pub fn close(&self, by: Option<&Custodian>, data: &Value) -> Result<Closed, Failure> {
        let kept = self.kept_back();
        let report = Sha256::of(self.report);
        let mut closed = Closed::default();
        for (bundle, object) in listed(self.dir, self.plan).filter(|(_, object)| !kept.contains(&object.path))
        {
            let list = list_path(&bundle);
            match by {
                None if custody::is_closed(&list) => {}
                None => closed.open.push(list),
                Some(by) => {
                    let told = custody::record(&bundle, by, &deleted(object, self.digest, report));
                    told.map_err(|error| {
                        custody::unrecorded("the files were deleted", data, &bundle, &error)
                            .hint("`estoppel retention apply --plan` with the same plan adds it when the cause is mended")
                    })?;
                    closed.closed.push(list);
                }
            }
        }
        Ok(closed)
    }

    /// Paths that the report says were not deleted.
    fn kept_back(&self) -> BTreeSet<String> {
        #[derive(Deserialize)]
        struct Envelope {
            payload: String,
        }
        #[derive(Deserialize)]
        struct Statement {
            predicate: Report,
        }
        #[derive(Deserialize)]
        struct Report {
            kept_back: Vec<KeptBack>,
        }
        #[derive(Deserialize)]
        struct KeptBack {
            path: String,
        }
        let envelope: Option<Envelope> = serde_json::from_slice(self.report).ok();
        let payload = envelope.and_then(|envelope| from_base64(&envelope.payload));
        let statement: Option<Statement> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        let kept = statement.map(|statement| statement.predicate.kept_back).unwrap_or_default();
        kept.into_iter().map(|kept| kept.path).collect()
    }
}

/// Bundles of a plan that have a list.
fn listed<'a>(dir: &'a Path, plan: &'a Plan) -> impl Iterator<Item = (PathBuf, &'a Object)> {
    let bundles = plan.objects.iter().filter(|object| object.bundle().is_some());
    let bundles = bundles.map(move |object| (dir.join(&object.path), object));
    bundles.filter(|(bundle, _)| list_path(bundle).symlink_metadata().is_ok())
}

fn deleted(object: &Object, plan: Sha256, report: Sha256) -> Done<'static> {
    Done { sha256: Some(object.sha256), ..custody::done(Action::Deleted { plan, report }) }
}
