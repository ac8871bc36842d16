//! Whether a `WHERE` picks rows, or is true of all of them.

use sqlparser::ast::{BinaryOperator, Expr, Ident, UnaryOperator, Value};

use crate::predicate::Truth;

/// True if it compares a column with something else, on every way through its `OR`s; false if it looks at no column or compares
/// one with itself; and unknown where that depends on what a query or a function gives.
///
/// Whether rows fit that are not meant nobody can see: `id > 0` picks rows.
pub(super) fn selects(condition: &Expr) -> Truth {
    picks(condition, false)
}

fn picks(condition: &Expr, negated: bool) -> Truth {
    match condition {
        Expr::Nested(inner) => picks(inner, negated),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => picks(expr, !negated),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => joined(left, right, negated, negated),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => joined(left, right, negated, !negated),
        Expr::BinaryOp { left, op, right } if compares(op) => compared(left, right),
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => compared(left, right),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Truth::True,
        Expr::IsNull(inner) if !negated => has_column(inner),
        Expr::IsNotNull(inner) if negated => has_column(inner),
        Expr::IsNull(_) | Expr::IsNotNull(_) => Truth::False, // most rows have a value
        Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => picks(inner, negated),
        Expr::IsFalse(inner) | Expr::IsNotTrue(inner) => picks(inner, !negated),
        Expr::InList { expr, list, .. } => {
            list.iter().map(|item| compared(expr, item)).fold(has_column(expr), worse)
        }
        Expr::Between { expr, low, high, .. } => worse(compared(expr, low), compared(expr, high)),
        Expr::Like { expr, pattern, .. }
        | Expr::ILike { expr, pattern, .. }
        | Expr::SimilarTo { expr, pattern, .. } => match pattern.as_ref() {
            Expr::Value(value) if takes_all(&value.value) => Truth::False,
            pattern => compared(expr, pattern),
        },
        Expr::Value(_) => Truth::False,
        _ => Truth::Unknown,
    }
}

/// Of two conditions of which both have to hold, one that picks is enough; `either`: it is not.
fn joined(left: &Expr, right: &Expr, negated: bool, either: bool) -> Truth {
    let (left, right) = (picks(left, negated), picks(right, negated));
    if either { worse(left, right) } else { left.or(right) }
}

fn worse(first: Truth, second: Truth) -> Truth {
    match (first, second) {
        (Truth::False, _) | (_, Truth::False) => Truth::False,
        (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
        (Truth::True, Truth::True) => Truth::True,
    }
}

fn compares(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
    )
}

/// A column on one side, and on the other something that does not go by it.
fn compared(left: &Expr, right: &Expr) -> Truth {
    let (mut of_left, mut of_right) = (Columns::default(), Columns::default());
    of_left.gather(left);
    of_right.gather(right);
    if of_left.unknown || of_right.unknown {
        return Truth::Unknown;
    }
    match (of_left.names.is_empty() && of_right.names.is_empty(), of_left.meets(&of_right)) {
        (true, _) => Truth::False,
        (false, false) => Truth::True,
        // A column with itself, whatever is added to it.
        (false, true) if of_left.plain && of_right.plain => Truth::False,
        (false, true) => Truth::Unknown,
    }
}

fn has_column(expr: &Expr) -> Truth {
    let mut columns = Columns::default();
    columns.gather(expr);
    if columns.unknown { Truth::Unknown } else { Truth::of(!columns.names.is_empty()) }
}

/// The columns that a value goes by.
struct Columns {
    /// Without their tables: which table a name without one is of is not known here.
    names: Vec<String>,
    /// There are others.
    unknown: bool,
    /// It is a column, and nothing is done with it.
    plain: bool,
}

impl Default for Columns {
    fn default() -> Self {
        Self { names: Vec::new(), unknown: false, plain: true }
    }
}

impl Columns {
    fn gather(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(name) => self.name(name),
            Expr::CompoundIdentifier(names) => match names.last() {
                Some(name) => self.name(name),
                None => self.unknown = true,
            },
            Expr::Nested(inner) => self.gather(inner),
            Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => self.plain = false,
            Expr::UnaryOp { expr, .. } | Expr::Cast { expr, .. } => {
                self.plain = false;
                self.gather(expr);
            }
            Expr::BinaryOp { left, right, .. } => {
                self.plain = false;
                self.gather(left);
                self.gather(right);
            }
            Expr::Tuple(items) => {
                self.plain = false;
                items.iter().for_each(|item| self.gather(item));
            }
            Expr::Array(array) => {
                self.plain = false;
                array.elem.iter().for_each(|item| self.gather(item));
            }
            _ => self.unknown = true,
        }
    }

    fn name(&mut self, name: &Ident) {
        // In quotes or not: that two are the same column is the more careful guess.
        self.names.push(name.value.to_lowercase());
    }

    fn meets(&self, other: &Self) -> bool {
        self.names.iter().any(|name| other.names.contains(name))
    }
}

/// A pattern of `%` alone.
fn takes_all(pattern: &Value) -> bool {
    match pattern {
        Value::SingleQuotedString(text) => !text.is_empty() && text.bytes().all(|byte| byte == b'%'),
        _ => false,
    }
}
