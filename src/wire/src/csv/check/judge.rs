//! Fields against the columns of a contract.

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::{
    Contract, Field, Finding, FirstRow, Header, Misfit, Visitor,
    contract::{Bounds, Column, ExtraColumns, Formulas, IntegerBounds, Kind, Order},
    value::{Decimal, DecimalBuf, Formula, Instant, day, formula, is_integer, is_number, small_integer},
};
use super::unique::UniqueValues;
use crate::as_u64;

#[derive(Debug)]
pub(super) struct Judge {
    pub(super) contract: Arc<Contract>,
    /// For each column of the body, its index in the contract; [`EXTRA`] if the contract does not list it.
    plan: Vec<usize>,
    unique: UniqueValues,
}

const EXTRA: usize = usize::MAX;

impl Judge {
    pub(super) fn new(contract: Arc<Contract>) -> Self {
        let plan = match contract.form.first_row {
            FirstRow::Names => Vec::new(), // the header makes it
            FirstRow::Data => (0..contract.columns.len()).collect(),
        };
        let unique = UniqueValues::new(contract.unique_values_max);
        Self { contract, plan, unique }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        as_u64(self.plan.capacity() * size_of::<usize>() + self.unique.held_bytes())
    }

    /// Where a column that the header has stands in the contract.
    fn place(&self, name: &[u8]) -> usize {
        let same = |column: &Column| column.name.as_bytes() == name;
        self.contract.columns.iter().position(same).unwrap_or(EXTRA)
    }

    fn extra_is_denied(&self) -> bool {
        self.contract.extra_columns == ExtraColumns::Deny
    }
}

impl Visitor for Judge {
    fn header(&mut self, header: &Header) -> Result<(), Misfit> {
        self.plan = header.names().map(|name| self.place(name)).collect();
        if let Some(column) = header.names().position(|name| self.is_formula(name, None)) {
            return Err(misfit(Finding::Formula, column));
        }
        if self.extra_is_denied()
            && let Some(column) = self.plan.iter().position(|&place| place == EXTRA)
        {
            return Err(misfit(Finding::ColumnExtra, column));
        }
        if let Some(missing) = (0..self.contract.columns.len()).find(|place| !self.plan.contains(place)) {
            let name = self.contract.columns.get(missing).map(|column| column.name.clone());
            return Err(Misfit { finding: Finding::ColumnMissing, column: None, name });
        }
        if self.contract.order == Order::Exact {
            let listed = self.plan.iter().enumerate().filter(|(_, place)| **place != EXTRA);
            if let Some((_, (column, _))) =
                listed.enumerate().find(|(expected, (_, place))| *place != expected)
            {
                return Err(misfit(Finding::ColumnOrder, column));
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn field(&mut self, column: u32, field: Field<'_>) -> Result<(), Finding> {
        let index = column as usize; // 32 bits fit wherever this runs
        let place = self.plan.get(index).copied().unwrap_or(EXTRA);
        let Some(column) = self.contract.columns.get(place) else {
            return self.extra(index, field.value);
        };
        if self.is_formula(field.value, Some(&column.kind)) {
            return Err(Finding::Formula);
        }
        if field.value.is_empty() {
            return if column.required { Err(Finding::ValueRequired) } else { Ok(()) };
        }
        kind(&column.kind, field.value)?;
        if column.more {
            content(column, field)?;
            if column.unique {
                return unique(&mut self.unique, place, &column.kind, field.value);
            }
        }
        Ok(())
    }

    fn row_end(&mut self, columns: u32) -> Result<(), Misfit> {
        // A header was held against the contract; without one, the first row shows what is missing.
        match self.contract.columns.get(columns as usize) {
            Some(_) if self.contract.form.first_row == FirstRow::Data => {
                Err(Misfit { finding: Finding::ColumnMissing, column: Some(columns), name: None })
            }
            _ => Ok(()),
        }
    }
}

impl Judge {
    /// A value of a column that the contract does not list. Under a header such columns were judged there.
    fn extra(&self, column: usize, value: &[u8]) -> Result<(), Finding> {
        if column >= self.plan.len() && self.extra_is_denied() {
            return Err(Finding::ColumnExtra);
        }
        if self.is_formula(value, None) { Err(Finding::Formula) } else { Ok(()) }
    }

    #[inline(always)]
    fn is_formula(&self, value: &[u8], kind: Option<&Kind>) -> bool {
        match formula(value) {
            Formula::No => false,
            Formula::Signed if matches!(kind, Some(Kind::Integer(_) | Kind::Number(_))) => false,
            Formula::Signed | Formula::Yes => self.contract.formulas == Formulas::Block,
        }
    }
}

fn misfit(finding: Finding, column: usize) -> Misfit {
    Misfit { finding, column: u32::try_from(column).ok(), name: None }
}

/// The value is of its type, and within its bounds.
#[inline(always)]
fn kind(kind: &Kind, value: &[u8]) -> Result<(), Finding> {
    match kind {
        Kind::Text => Ok(()),
        Kind::Boolean if matches!(value, b"true" | b"false") => Ok(()),
        Kind::Boolean => Err(Finding::ValueType),
        Kind::Integer(bounds) => integer(value, bounds),
        Kind::Number(Bounds { min: None, max: None }) if is_number(value) => Ok(()),
        Kind::Number(bounds) => number(value, bounds),
        Kind::Date(bounds) => {
            let day = day(value).ok_or(Finding::ValueType)?;
            within(bounds.min.map(|min| day < min), bounds.max.map(|max| day > max))
        }
        Kind::DateTime(bounds) => moment(value, bounds),
    }
}

#[inline(always)]
fn integer(value: &[u8], bounds: &IntegerBounds) -> Result<(), Finding> {
    match small_integer(value) {
        Some(small) => within(Some(small < bounds.small_min), Some(small > bounds.small_max)),
        None if is_integer(value) => number(value, &bounds.exact),
        None => Err(Finding::ValueType),
    }
}

#[inline(never)]
fn number(value: &[u8], bounds: &Bounds<DecimalBuf>) -> Result<(), Finding> {
    let number = Decimal::parse(value).ok_or(Finding::ValueType)?;
    within(
        bounds.min.as_ref().map(|min| number < min.borrow()),
        bounds.max.as_ref().map(|max| number > max.borrow()),
    )
}

fn moment(value: &[u8], bounds: &Bounds<Box<[u8]>>) -> Result<(), Finding> {
    let moment = Instant::parse(value).ok_or(Finding::ValueType)?;
    let bound = |text: &Option<Box<[u8]>>| text.as_deref().and_then(Instant::parse).map(|at| moment.cmp(&at));
    within(bound(&bounds.min).map(Ordering::is_lt), bound(&bounds.max).map(Ordering::is_gt))
}

#[inline(always)]
fn within(below: Option<bool>, above: Option<bool>) -> Result<(), Finding> {
    match (below, above) {
        (Some(true), _) => Err(Finding::ValueMin),
        (_, Some(true)) => Err(Finding::ValueMax),
        _ => Ok(()),
    }
}

/// What a contract asks of a value's text.
#[inline(always)]
fn content(column: &Column, field: Field<'_>) -> Result<(), Finding> {
    if column.length_min.is_some() || column.length_max.is_some() {
        let length = as_u64(characters(field));
        if column.length_min.is_some_and(|min| length < min) {
            return Err(Finding::LengthMin);
        }
        if column.length_max.is_some_and(|max| length > max) {
            return Err(Finding::LengthMax);
        }
    }
    if column.allowed.as_ref().is_some_and(|allowed| !allowed.has(field.value)) {
        return Err(Finding::ValueEnum);
    }
    if column.pattern.as_ref().is_some_and(|pattern| !pattern.matches(field.value)) {
        return Err(Finding::ValuePattern);
    }
    Ok(())
}

/// Bytes that do not continue a character.
fn characters(field: Field<'_>) -> usize {
    if field.ascii {
        return field.value.len();
    }
    field.value.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

/// Numbers and moments are the same whatever their text.
fn unique(seen: &mut UniqueValues, column: usize, kind: &Kind, value: &[u8]) -> Result<(), Finding> {
    match kind {
        Kind::Integer(_) | Kind::Number(_) => seen.note(column, Decimal::parse(value)),
        Kind::DateTime(_) => seen.note(column, Instant::parse(value)),
        Kind::Text | Kind::Boolean | Kind::Date(_) => seen.note(column, value),
    }
}
