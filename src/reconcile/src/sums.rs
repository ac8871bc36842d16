//! Tokens that a log only adds up, held against those of receipts.

use std::collections::BTreeMap;

use crate::receipt::Receipt;
use crate::row::{Sum, Tokens};

/// More tokens than receipts have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Of this model; none: of all together.
    pub model: Option<String>,
    /// From the first sum to the last.
    pub when: (u64, u64),
    /// What the log says.
    pub log: Tokens,
    /// What the receipts of that time say together.
    pub receipts: Tokens,
    /// Receipts of that time that do not say it.
    pub silent: u64,
}

/// Where the sums of a log are more than receipts account for, by model. A receipt counts wherever it may belong, so what is
/// told here is the least that went round the gateway.
pub fn excesses(sums: &[Sum], receipts: &[Receipt], window_us: u64) -> Vec<Excess> {
    let mut by_model: BTreeMap<Option<&str>, Excess> = BTreeMap::new();
    for sum in sums {
        let total = by_model.entry(sum.model.as_deref()).or_insert_with(|| Excess {
            model: sum.model.clone(),
            when: sum.when,
            log: Tokens::default(),
            receipts: Tokens::default(),
            silent: 0,
        });
        total.when = (total.when.0.min(sum.when.0), total.when.1.max(sum.when.1));
        add(&mut total.log, sum.tokens);
    }
    let mut found: Vec<Excess> = by_model.into_values().collect();
    for total in &mut found {
        let (from, to) = (total.when.0.saturating_sub(window_us), total.when.1.saturating_add(window_us));
        for receipt in receipts.iter().filter(|receipt| receipt.began_us <= to && receipt.ended_us >= from) {
            let own = receipt.served.as_deref().or(receipt.asked.as_deref());
            if total.model.is_some() && total.model.as_deref() != own {
                continue;
            }
            match receipt.tokens {
                Some(tokens) => add(&mut total.receipts, tokens),
                None => total.silent += 1,
            }
        }
    }
    found.retain(|total| total.log.input > total.receipts.input || total.log.output > total.receipts.output);
    found
}

fn add(to: &mut Tokens, more: Tokens) {
    to.input = to.input.saturating_add(more.input);
    to.output = to.output.saturating_add(more.output);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(model: Option<&str>, when: (u64, u64), input: u64, output: u64) -> Sum {
        Sum { place: 1, when, model: model.map(Into::into), tokens: Tokens { input, output } }
    }

    fn receipt(model: &str, at: u64, tokens: Option<(u64, u64)>) -> Receipt {
        Receipt {
            call: "c".into(),
            upstream: None,
            request: None,
            began_us: at,
            ended_us: at,
            served: Some(model.into()),
            asked: Some("alias".into()),
            tokens: tokens.map(|(input, output)| Tokens { input, output }),
            answered: true,
            failed: false,
        }
    }

    #[test]
    fn what_receipts_do_not_account_for_is_told_by_model() {
        let sums =
            [sum(Some("a"), (0, 9), 10, 5), sum(Some("a"), (10, 19), 10, 5), sum(Some("b"), (0, 9), 1, 1)];
        let receipts = [
            receipt("a", 5, Some((15, 10))),
            receipt("b", 5, Some((1, 1))),
            receipt("a", 90, Some((99, 99))),
        ];
        let found = excesses(&sums, &receipts, 0);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].model.as_deref(), found[0].when), (Some("a"), (0, 19)));
        assert_eq!((found[0].log.input, found[0].receipts.input, found[0].silent), (20, 15, 0));
        assert_eq!(excesses(&sums, &receipts, 71), []);
    }

    #[test]
    fn sums_without_a_model_are_of_all_and_silent_receipts_are_counted() {
        let receipts = [receipt("a", 5, Some((3, 3))), receipt("b", 5, None)];
        let found = excesses(&[sum(None, (0, 9), 4, 3)], &receipts, 0);
        assert_eq!((found.len(), found[0].silent), (1, 1));
        assert_eq!(excesses(&[sum(None, (0, 9), 3, 3)], &receipts, 0), []);
    }
}
