//! Which receipt answers for which row, and how sure that is.

use std::collections::{BTreeMap, HashMap};

use crate::receipt::Receipt;
use crate::row::{Row, Tokens};
use crate::sweep::{Overlaps, Span, pairs};

/// How sure it is that a receipt is that of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sure {
    /// Both name the same request.
    Certain,
    /// Model, tokens and time are the same, and of no other row or receipt.
    Likely,
    /// Model, tokens and time are the same, and there are others; how many rows have a receipt is sure, which is not.
    Ambiguous,
    /// Model and time fit, and one of them says nothing of tokens.
    Possible,
}

impl Sure {
    pub const ALL: [Self; 4] = [Self::Certain, Self::Likely, Self::Ambiguous, Self::Possible];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Ambiguous => "ambiguous",
            Self::Possible => "possible",
        }
    }
}

/// A row and its receipt, by their places in what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paired {
    pub row: usize,
    pub receipt: usize,
    pub sure: Sure,
}

/// Why a row has no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No receipt fits.
    NoReceipt,
    /// Some fit, and there are more such rows than receipts. Which of the rows went round the gateway cannot be told.
    TooFewReceipts,
    /// The only receipt of this request is that of an earlier row.
    RequestAgain,
    /// A model worked for the row, and the receipt of this request says that the upstream refused it.
    ReceiptDiffers,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoReceipt => "no_receipt",
            Self::TooFewReceipts => "too_few_receipts",
            Self::RequestAgain => "request_again",
            Self::ReceiptDiffers => "receipt_differs",
        }
    }
}

/// A row without a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpaired {
    pub row: usize,
    pub cause: Cause,
}

/// What became of every row and receipt; in the order of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    pub paired: Vec<Paired>,
    pub unpaired: Vec<Unpaired>,
    /// Receipts of answered calls that no row names.
    pub unnamed: Vec<usize>,
}

/// Pairs rows with receipts, the surest first. `window_us` is how far the clocks of the two may be apart.
pub fn pair(rows: &[Row], receipts: &[Receipt], window_us: u64) -> Pairing {
    let mut state = State::new(rows, receipts, window_us);
    state.by_request();
    state.certain.clone_from(&state.taken);
    for pass in Pass::all() {
        state.by_looks(pass);
    }
    state.outcome()
}

struct State<'a> {
    rows: &'a [Row],
    receipts: &'a [Receipt],
    window_us: u64,
    of_row: Vec<Option<(usize, Sure)>>,
    taken: Vec<bool>,
    /// Receipts of rows that name their request.
    certain: Vec<bool>,
    causes: Vec<Cause>,
}

impl<'a> State<'a> {
    fn new(rows: &'a [Row], receipts: &'a [Receipt], window_us: u64) -> Self {
        Self {
            rows,
            receipts,
            window_us,
            of_row: vec![None; rows.len()],
            taken: vec![false; receipts.len()],
            certain: Vec::new(),
            causes: vec![Cause::NoReceipt; rows.len()],
        }
    }

    fn take(&mut self, row: usize, receipt: usize, sure: Sure) {
        if let (Some(of_row), Some(taken)) = (self.of_row.get_mut(row), self.taken.get_mut(receipt)) {
            *of_row = Some((receipt, sure));
            *taken = true;
        }
    }

    fn by_request(&mut self) {
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, receipt) in self.receipts.iter().enumerate().rev() {
            if let Some(request) = &receipt.request {
                named.entry(request).or_default().push(at);
            }
        }
        for (at, row) in self.rows.iter().enumerate() {
            let Some(left) = row.request.as_deref().and_then(|request| named.get_mut(request)) else {
                continue;
            };
            let differs =
                |of: &usize| self.receipts.get(*of).is_some_and(|receipt| receipt.failed && row.is_use());
            let cause = match left.pop_if(|of| !differs(of)) {
                Some(receipt) => {
                    self.take(at, receipt, Sure::Certain);
                    continue;
                }
                None if left.is_empty() => Cause::RequestAgain,
                None => Cause::ReceiptDiffers,
            };
            if let Some(said) = self.causes.get_mut(at) {
                *said = cause;
            }
        }
    }

    /// Pairs what is left by time, within classes of rows and receipts that look alike.
    fn by_looks(&mut self, pass: Pass) {
        let mut classes: BTreeMap<Looks<'a>, (Vec<Span>, Vec<Span>)> = BTreeMap::new();
        for (of, row) in self.rows.iter().enumerate() {
            let settled = matches!(self.causes.get(of), Some(Cause::RequestAgain | Cause::ReceiptDiffers));
            let is_open = !settled && !self.is_certain(of);
            if let (true, Some((from, to)), Some(looks)) = (is_open, row.when, pass.of_row(row)) {
                let (from, to) = (from.saturating_sub(self.window_us), to.saturating_add(self.window_us));
                classes.entry(looks).or_default().0.push(Span { from, to, of });
            }
        }
        for (of, receipt) in self.receipts.iter().enumerate() {
            if let Some(looks) = pass.of_receipt(receipt)
                && let Some((_, receipts)) = classes.get_mut(&looks)
                && self.certain.get(of) == Some(&false)
            {
                receipts.push(Span { from: receipt.began_us, to: receipt.ended_us, of });
            }
        }
        for (rows, receipts) in classes.values() {
            self.by_span(pass, rows, receipts);
        }
    }

    fn by_span(&mut self, pass: Pass, rows: &[Span], receipts: &[Span]) {
        let (fitting_rows, fitting) = (Overlaps::of(rows), Overlaps::of(receipts));
        for row in rows.iter().filter(|row| fitting.with(row) > 0) {
            if let Some(cause) = self.causes.get_mut(row.of) {
                *cause = Cause::TooFewReceipts;
            }
        }
        let free_rows: Vec<Span> =
            rows.iter().filter(|row| self.of_row.get(row.of) == Some(&None)).copied().collect();
        let free: Vec<Span> =
            receipts.iter().filter(|span| self.taken.get(span.of) == Some(&false)).copied().collect();
        let by_place = |spans: &[Span]| spans.iter().map(|span| (span.of, *span)).collect::<HashMap<_, _>>();
        let (spans_of_rows, spans) = (by_place(&free_rows), by_place(&free));
        for (row, receipt) in pairs(&free_rows, &free) {
            let alone = spans_of_rows.get(&row).is_some_and(|span| fitting.with(span) == 1)
                && spans.get(&receipt).is_some_and(|span| fitting_rows.with(span) == 1);
            let sure = match (pass.tokens, alone) {
                (Compare::Same, true) => Sure::Likely,
                (Compare::Same, false) => Sure::Ambiguous,
                (Compare::RowsOnly | Compare::Unsaid, _) => Sure::Possible,
            };
            self.take(row, receipt, sure);
        }
    }

    fn is_certain(&self, row: usize) -> bool {
        matches!(self.of_row.get(row), Some(Some((_, Sure::Certain))))
    }

    fn outcome(self) -> Pairing {
        let mut pairing = Pairing::default();
        for (row, (found, cause)) in self.of_row.iter().zip(&self.causes).enumerate() {
            match found {
                Some((receipt, sure)) => pairing.paired.push(Paired { row, receipt: *receipt, sure: *sure }),
                None => pairing.unpaired.push(Unpaired { row, cause: *cause }),
            }
        }
        let unnamed = self.receipts.iter().zip(&self.taken).enumerate();
        let unnamed = unnamed.filter(|(_, (receipt, taken))| receipt.answered && !**taken);
        pairing.unnamed = unnamed.map(|(at, _)| at).collect();
        pairing
    }
}

/// What rows and receipts of one class have in common beside the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Looks<'a> {
    model: Option<&'a str>,
    tokens: Option<Tokens>,
}

/// Which model of a receipt a row's is compared with.
#[derive(Clone, Copy)]
enum Model {
    Served,
    Asked,
    /// The row names none.
    Unsaid,
}

/// How tokens are compared.
#[derive(Clone, Copy)]
enum Compare {
    Same,
    /// The row states them, the receipt does not.
    RowsOnly,
    /// The row does not state them.
    Unsaid,
}

#[derive(Clone, Copy)]
struct Pass {
    model: Model,
    tokens: Compare,
    /// Whether it is for rows that name their request. Those have no receipt that names another.
    by_name: bool,
    /// Whether it is for rows that a model worked for. Those have no receipt of an error.
    used: bool,
}

impl Pass {
    /// Every pass, the surest first.
    fn all() -> impl Iterator<Item = Self> {
        let compared = [Compare::Same, Compare::RowsOnly, Compare::Unsaid];
        let models = [Model::Served, Model::Asked, Model::Unsaid];
        compared.into_iter().flat_map(move |tokens| {
            models.into_iter().flat_map(move |model| {
                let rows = [(true, true), (true, false), (false, true), (false, false)];
                rows.into_iter().map(move |(by_name, used)| Self { model, tokens, by_name, used })
            })
        })
    }

    fn of_row(self, row: &Row) -> Option<Looks<'_>> {
        if row.request.is_some() != self.by_name || row.is_use() != self.used {
            return None;
        }
        let model = match (self.model, row.model.as_deref()) {
            (Model::Unsaid, Some(_)) | (Model::Served | Model::Asked, None) => return None,
            (_, model) => model,
        };
        let tokens = match (self.tokens, row.tokens) {
            (Compare::Same, Some(tokens)) => Some(tokens),
            (Compare::RowsOnly, Some(_)) | (Compare::Unsaid, None) => None,
            (Compare::Same | Compare::RowsOnly, None) | (Compare::Unsaid, Some(_)) => return None,
        };
        Some(Looks { model, tokens })
    }

    fn of_receipt(self, receipt: &Receipt) -> Option<Looks<'_>> {
        if self.by_name && receipt.request.is_some() || self.used && receipt.failed {
            return None;
        }
        let model = match self.model {
            Model::Served => Some(receipt.served.as_deref()?),
            Model::Asked => Some(receipt.asked.as_deref()?),
            Model::Unsaid => None,
        };
        let tokens = match (self.tokens, receipt.tokens) {
            (Compare::Same, tokens) => Some(tokens?),
            (Compare::RowsOnly, Some(_)) => return None,
            (Compare::RowsOnly, None) | (Compare::Unsaid, _) => None,
        };
        Some(Looks { model, tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn row(request: Option<&str>, at: u64, model: &str, tokens: Option<(u64, u64)>) -> Row {
        Row {
            place: 1,
            request: request.map(Into::into),
            name: "n".into(),
            when: Some((at * SECOND, at * SECOND)),
            model: Some(model.into()),
            tokens: tokens.map(|(input, output)| Tokens { input, output }),
            counted: false,
        }
    }

    fn receipt(request: Option<&str>, at: u64, tokens: Option<(u64, u64)>) -> Receipt {
        Receipt {
            call: "c".into(),
            upstream: None,
            request: request.map(Into::into),
            began_us: at * SECOND,
            ended_us: (at + 1) * SECOND,
            served: Some("m-1".into()),
            asked: Some("m".into()),
            tokens: tokens.map(|(input, output)| Tokens { input, output }),
            answered: true,
            failed: false,
        }
    }

    /// What became of each row: how sure, or why not.
    fn said(rows: &[Row], receipts: &[Receipt]) -> Vec<&'static str> {
        let pairing = pair(rows, receipts, 5 * SECOND);
        let mut said = vec![""; rows.len()];
        let mut taken = vec![false; receipts.len()];
        for Paired { row, receipt, sure } in pairing.paired {
            assert!(!std::mem::replace(&mut taken[receipt], true), "one receipt answers for one row");
            said[row] = sure.as_str();
        }
        for Unpaired { row, cause } in pairing.unpaired {
            said[row] = cause.as_str();
        }
        said
    }

    const SAME: Option<(u64, u64)> = Some((3, 4));

    #[test]
    fn a_request_that_both_name_is_certain_whatever_else_they_say() {
        let rows = [row(Some("a"), 900, "other", None), row(Some("b"), 1, "m", SAME)];
        let receipts = [receipt(Some("b"), 1, None), receipt(Some("a"), 1, SAME)];
        assert_eq!(said(&rows, &receipts), ["certain", "certain"]);
    }

    #[test]
    fn a_row_of_another_request_never_takes_a_receipt_that_looks_alike() {
        let rows = [row(Some("direct"), 1, "m", SAME)];
        assert_eq!(said(&rows, &[receipt(Some("ours"), 1, SAME)]), ["no_receipt"]);
        assert_eq!(said(&rows, &[receipt(None, 1, SAME)]), ["likely"]);
    }

    #[test]
    fn a_request_that_is_named_twice_has_one_receipt() {
        let rows = [row(Some("a"), 1, "m", SAME), row(Some("a"), 1, "m", SAME)];
        assert_eq!(
            said(&rows, &[receipt(Some("a"), 1, SAME), receipt(None, 1, SAME)]),
            ["certain", "request_again"]
        );
    }

    #[test]
    fn a_call_that_the_upstream_refused_answers_for_no_use_of_a_model() {
        let refused = |request| Receipt { failed: true, ..receipt(request, 1, None) };
        let counted = Row { counted: true, ..row(None, 1, "m", None) };
        let rows = [row(None, 1, "m", SAME), counted, row(None, 1, "m", None)];
        let receipts = [refused(None), refused(None), refused(None)];
        assert_eq!(said(&rows, &receipts), ["no_receipt", "no_receipt", "possible"]);
        let named = [row(Some("a"), 1, "m", SAME), row(Some("a"), 1, "m", None)];
        assert_eq!(said(&named, &[refused(Some("a"))]), ["receipt_differs", "certain"]);
    }

    #[test]
    fn more_rows_than_receipts_that_look_alike_are_told() {
        let rows: Vec<Row> = (0..3).map(|_| row(None, 1, "m", SAME)).collect();
        let receipts = [receipt(None, 1, SAME), receipt(None, 2, SAME)];
        let mut found = said(&rows, &receipts);
        found.sort_unstable();
        assert_eq!(found, ["ambiguous", "ambiguous", "too_few_receipts"]);
    }

    #[test]
    fn model_tokens_and_time_have_to_fit() {
        let receipts = [receipt(None, 100, SAME)];
        for (row, expected) in [
            (row(None, 100, "m", SAME), "likely"),
            (row(None, 100, "m-1", SAME), "likely"),
            (row(None, 95, "m", SAME), "likely"),
            (row(None, 106, "m", SAME), "likely"),
            (row(None, 94, "m", SAME), "no_receipt"),
            (row(None, 107, "m", SAME), "no_receipt"),
            (row(None, 100, "m-2", SAME), "no_receipt"),
            (row(None, 100, "m", Some((3, 5))), "no_receipt"),
            (row(None, 100, "m", None), "possible"),
            (Row { model: None, ..row(None, 100, "m", SAME) }, "likely"),
            (Row { when: None, ..row(None, 100, "m", SAME) }, "no_receipt"),
        ] {
            assert_eq!(said(std::slice::from_ref(&row), &receipts), [expected], "{row:?}");
        }
        assert_eq!(said(&[row(None, 1, "m", SAME)], &[receipt(None, 1, None)]), ["possible"]);
    }

    #[test]
    fn surer_pairs_come_first() {
        let rows = [row(None, 1, "m", None), row(None, 1, "m", SAME)];
        let receipts = [receipt(None, 1, SAME), receipt(None, 1, None)];
        assert_eq!(said(&rows, &receipts), ["possible", "likely"]);
    }

    #[test]
    fn receipts_of_answered_calls_that_no_row_names_are_told() {
        let lost = Receipt { answered: false, ..receipt(None, 1, None) };
        let pairing = pair(&[], &[receipt(None, 1, SAME), lost], 0);
        assert_eq!(pairing.unnamed, [0]);
    }
}
