//! Policies that are asked and change nothing. Each is loaded by itself: one that cannot be is refused whole, and what was in
//! its file before stays, if there was something.

use std::sync::Arc;

use estoppel_evidence::{Reason, Sha256};
use estoppel_gateway::{Metrics, Shadow, Snapshot};
use estoppel_journal::Journal;

use crate::config::{self, Loaded, Refusal, ShadowConfig};

/// What became of the shadow policies of a configuration.
pub struct Shadows {
    pub ready: Vec<Arc<Shadow>>,
    pub refused: Vec<Refusal>,
    documents: Vec<(Sha256, Vec<u8>)>,
}

/// Reads them all. `before` has those that are asked until now.
pub fn load(loaded: &Loaded, before: Option<&Snapshot>) -> Shadows {
    let mut shadows = Shadows { ready: Vec::new(), refused: Vec::new(), documents: Vec::new() };
    for shadow in &loaded.config.shadow {
        if let Err(refusal) = shadows.take(loaded, shadow) {
            shadows.refused.push(refusal);
            shadows.keep(loaded, shadow, before);
        }
    }
    shadows
}

impl Shadows {
    fn take(&mut self, loaded: &Loaded, ShadowConfig { path }: &ShadowConfig) -> Result<(), Refusal> {
        let document = config::policy(path, loaded.config.packs.dir.as_deref())?;
        let invalid =
            |problem: String| Refusal::new(Reason::PolicyInvalid, format!("{}: {problem}", path.display()));
        let shadow = Shadow::build(path, Arc::new(document.compile()), &loaded.settings).map_err(invalid)?;
        if let Some(other) = self.ready.iter().find(|other| other.name() == shadow.name()) {
            let other = other.place().display();
            return Err(invalid(format!("the shadow policy `{other}` has the name `{}` too", shadow.name())));
        }
        self.documents.push((Sha256(*document.hash().as_bytes()), document.canonical()));
        self.ready.push(shadow);
        Ok(())
    }

    /// The one that was at this place before, if it can still be asked.
    fn keep(&mut self, loaded: &Loaded, ShadowConfig { path }: &ShadowConfig, before: Option<&Snapshot>) {
        let known = before.and_then(|before| before.shadows().iter().find(|shadow| shadow.place() == path));
        let Some(known) = known else { return };
        let is_taken = self.ready.iter().any(|other| other.name() == known.name());
        if let (false, Ok(shadow)) = (is_taken, Shadow::build(path, known.policy().clone(), &loaded.settings))
        {
            self.ready.push(shadow);
        }
    }

    /// Keeps their documents for bundles. Comes before the first receipt that names one.
    pub fn store(&self, journal: &Journal) -> Result<(), Refusal> {
        for (hash, canonical) in &self.documents {
            journal
                .store_policy(*hash, canonical)
                .map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
        }
        Ok(())
    }

    /// Tells operators of those that were refused.
    pub fn report(&self, metrics: &Metrics) {
        metrics.shadows_refused(self.refused.len());
        for refusal in &self.refused {
            for line in &refusal.lines {
                tracing::error!(code = %refusal.reason, "shadow policy refused: {line}");
            }
        }
    }

    /// All that is wrong with them, as one.
    pub fn check(self) -> Result<(), Refusal> {
        let lines = self.refused.iter().flat_map(|refusal| refusal.lines.clone()).collect();
        match self.refused.first() {
            None => Ok(()),
            Some(first) => Err(Refusal { reason: first.reason, lines }),
        }
    }
}
