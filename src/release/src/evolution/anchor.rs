//! What the ledger and its trust were when a run began, kept where its steps do not reach: they run as whoever started them.

use estoppel_evidence::Sha256;

use crate::code::{Code, Refusal};
use crate::ledger::{Ledger, Store};

pub(super) struct Anchor {
    genesis: Option<Sha256>,
    /// Follows every event that was known, so that a ledger that has it has those.
    begun: Sha256,
}

impl Anchor {
    pub(super) fn set(store: &Store, begun: Sha256) -> Result<Self, Refusal> {
        Ok(Self { genesis: store.trusted()?, begun })
    }

    /// Whether this clone trusts what it trusted.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`
    pub(super) fn is_trusted(&self, store: &Store) -> Result<(), Refusal> {
        let said = |genesis: Option<Sha256>| genesis.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let trusted = store.trusted().map_err(|refusal| altered(&refusal.detail))?;
        if trusted == self.genesis {
            return Ok(());
        }
        Err(altered(&format!("the clone trusted {} and now trusts {}", said(self.genesis), said(trusted))))
    }

    /// Whether the ledger has only grown.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`
    pub(super) fn holds(&self, ledger: &Ledger) -> Result<(), Refusal> {
        if ledger.events().iter().any(|event| event.id == self.begun) {
            return Ok(());
        }
        Err(altered(&format!("event {} is gone", self.begun)))
    }
}

fn altered(what: &str) -> Refusal {
    Refusal::new(
        Code::LedgerAltered,
        format!(
            "while the steps ran, the ledger of this clone was replaced, and nothing is recorded: {what}"
        ),
    )
}
