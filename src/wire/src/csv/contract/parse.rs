//! The text of a contract, checked.

use std::collections::HashSet;

use super::{
    super::{
        Delimiter, FinalNewline, FirstRow, Form, Limits,
        value::{Decimal, DecimalBuf, Instant, day, is_integer},
    },
    Allowed, Bounds, CONTRACT_BYTES_MAX, Column, Contract, ContractError, ExtraColumns, Formulas,
    IntegerBounds, Kind, Order, Pattern,
    members::{Errors, Members},
    pattern::PATTERNS_BYTES_MAX,
    tree::{self, Node},
};

const COLUMNS_MAX: usize = 1024;
const NAME_CHARACTERS_MAX: usize = 1024;
const DESCRIPTION_CHARACTERS_MAX: usize = 1024;
const PATTERN_CHARACTERS_MAX: usize = 4096;
const ENUM_VALUES_MAX: usize = 4096;
/// Columns with errors that are looked at.
const ERRORS_MAX: usize = 64;
const FIELD_BYTES_MOST: u32 = 16 * 1024 * 1024;
const RECORD_BYTES_MOST: u32 = 64 * 1024 * 1024;
const COLUMNS_MOST: u32 = 16_384;
const UNIQUE_VALUES_MOST: u32 = 16 * 1024 * 1024;
const UNIQUE_VALUES_DEFAULT: u32 = 1_000_000;

/// How the header is judged, by its words in the contract.
const HEADERS: &[(&str, (FirstRow, Order))] = &[
    ("exact-order", (FirstRow::Names, Order::Exact)),
    ("any-order", (FirstRow::Names, Order::Any)),
    ("absent", (FirstRow::Data, Order::Exact)),
];
const DELIMITERS: &[(&str, Delimiter)] =
    &[(",", Delimiter::Comma), (";", Delimiter::Semicolon), ("\t", Delimiter::Tab), ("|", Delimiter::Bar)];
const FINAL_NEWLINES: &[(&str, FinalNewline)] =
    &[("optional", FinalNewline::Optional), ("required", FinalNewline::Required)];
const EXTRA_COLUMNS: &[(&str, ExtraColumns)] =
    &[("deny", ExtraColumns::Deny), ("allow", ExtraColumns::Allow)];
const FORMULAS: &[(&str, Formulas)] = &[("block", Formulas::Block), ("allow", Formulas::Allow)];

/// The names of the types.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
    DateTime,
}

const TYPES: &[(&str, Type)] = &[
    ("string", Type::Text),
    ("integer", Type::Integer),
    ("number", Type::Number),
    ("boolean", Type::Boolean),
    ("date", Type::Date),
    ("date-time", Type::DateTime),
];

pub(super) fn contract(text: &[u8]) -> Result<Contract, Vec<ContractError>> {
    if text.len() > CONTRACT_BYTES_MAX {
        let what = format!("is longer than {CONTRACT_BYTES_MAX} bytes");
        return Err(vec![ContractError { pointer: String::new(), what }]);
    }
    let mut errors = Errors::default();
    let mut members = Members::of(tree::parse(text)?, String::new(), &mut errors);
    version(&mut members, &mut errors);
    let delimiter = members.choice("delimiter", DELIMITERS, &mut errors).unwrap_or_default();
    let header = members.choice("header", HEADERS, &mut errors);
    let (first_row, order) = header.unwrap_or((FirstRow::Names, Order::Exact));
    let final_newline = members.choice("final_newline", FINAL_NEWLINES, &mut errors).unwrap_or_default();
    let extra = members.choice("extra_columns", EXTRA_COLUMNS, &mut errors);
    let formulas = members.choice("formulas", FORMULAS, &mut errors);
    let (rows_min, rows_max) = rows(&mut members, &mut errors);
    let (limits, unique_values_max) = limits(&mut members, &mut errors);
    let columns = columns(&mut members, &mut errors);
    let columns_max = usize::try_from(limits.columns_max).unwrap_or(usize::MAX);
    if columns.len() > columns_max {
        errors.add("/columns", format!("are more than `columns_max`, {columns_max}"));
    }
    members.refuse_rest(&mut errors);
    errors.or(Contract {
        form: Form { delimiter, first_row, final_newline },
        limits: Limits { rows_max, ..limits },
        order,
        extra_columns: extra.unwrap_or(ExtraColumns::Deny),
        formulas: formulas.unwrap_or(Formulas::Block),
        rows_min,
        unique_values_max,
        columns,
    })
}

fn version(members: &mut Members, errors: &mut Errors) {
    match members.take("version") {
        Some(Node::Number(version)) if version == "1" => {}
        Some(_) => errors.add("/version", "must be 1"),
        None => errors.add("/version", "is missing; it must be 1"),
    }
    let description = members.text("description", errors).unwrap_or_default();
    if description.chars().count() > DESCRIPTION_CHARACTERS_MAX {
        errors.add("/description", format!("is longer than {DESCRIPTION_CHARACTERS_MAX} characters"));
    }
}

fn rows(members: &mut Members, errors: &mut Errors) -> (u64, u64) {
    let most = Limits::default().rows_max;
    let Some(node) = members.take("rows") else { return (0, most) };
    let mut rows = Members::of(node, members.pointer("rows"), errors);
    let min = rows.count("min", 0, u64::MAX, errors).unwrap_or(0);
    let max = rows.count("max", 0, u64::MAX, errors).unwrap_or(most);
    if min > max {
        errors.add(&rows.pointer("min"), format!("is more than the most rows, {max}"));
    }
    rows.refuse_rest(errors);
    (min, max)
}

/// All but the rows, and the most unique values.
fn limits(members: &mut Members, errors: &mut Errors) -> (Limits, usize) {
    let defaults = Limits::default();
    let node = members.take("limits").unwrap_or(Node::Object(Vec::new()));
    let mut limits = Members::of(node, members.pointer("limits"), errors);
    let mut limit = |name: &str, most: u32, default: u32| {
        let count = limits.count(name, 1, u64::from(most), errors);
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
    };
    let field_bytes_max = limit("field_bytes_max", FIELD_BYTES_MOST, defaults.field_bytes_max);
    let record_bytes_max = limit("record_bytes_max", RECORD_BYTES_MOST, defaults.record_bytes_max);
    let columns_max = limit("columns_max", COLUMNS_MOST, defaults.columns_max);
    let unique_values_max = limit("unique_values_max", UNIQUE_VALUES_MOST, UNIQUE_VALUES_DEFAULT);
    limits.refuse_rest(errors);
    let unique_values_max = usize::try_from(unique_values_max).unwrap_or(usize::MAX);
    (Limits { field_bytes_max, record_bytes_max, columns_max, ..defaults }, unique_values_max)
}

fn columns(members: &mut Members, errors: &mut Errors) -> Vec<Column> {
    let list = match members.take("columns") {
        Some(Node::List(list)) if (1..=COLUMNS_MAX).contains(&list.len()) => list,
        _ => {
            errors.add("/columns", format!("must be a list of 1 to {COLUMNS_MAX} columns"));
            return Vec::new();
        }
    };
    let (mut columns, mut names, mut held) = (Vec::new(), HashSet::new(), 0);
    for (index, node) in list.into_iter().enumerate() {
        let at = format!("/columns/{index}");
        let column = column(node, &at, errors);
        if !column.name.is_empty() && !names.insert(column.name.clone()) {
            errors.add(&tree::pointer(&at, "name"), "is the name of another column");
        }
        held += column.pattern.as_ref().map_or(0, Pattern::held_bytes);
        if held > PATTERNS_BYTES_MAX {
            errors.add(&tree::pointer(&at, "pattern"), "is too large together with those before it");
            break; // the next ones need not be built
        }
        columns.push(column);
        if errors.count() >= ERRORS_MAX {
            break; // a pattern that is refused has cost time
        }
    }
    columns
}

fn column(node: Node, at: &str, errors: &mut Errors) -> Column {
    let mut members = Members::of(node, at.to_string(), errors);
    let name = members.text("name", errors).unwrap_or_default();
    if !(1..=NAME_CHARACTERS_MAX).contains(&name.chars().count()) {
        errors.add(&members.pointer("name"), format!("must be 1 to {NAME_CHARACTERS_MAX} characters"));
    }
    let kind = members.choice("type", TYPES, errors);
    let kind = bounded(kind.unwrap_or(Type::Text), &mut members, errors);
    let required = members.flag("required", errors);
    let unique = members.flag("unique", errors);
    let pattern = pattern(&mut members, errors);
    let allowed = allowed(&mut members, errors);
    let length_min = members.count("min_length", 0, u64::MAX, errors);
    let length_max = members.count("max_length", 0, u64::MAX, errors);
    if let (Some(min), Some(max)) = (length_min, length_max)
        && min > max
    {
        errors.add(&members.pointer("min_length"), "is more than `max_length`");
    }
    members.refuse_rest(errors);
    let more =
        unique || pattern.is_some() || allowed.is_some() || length_min.is_some() || length_max.is_some();
    Column { name: name.into(), kind, required, unique, more, pattern, allowed, length_min, length_max }
}

fn pattern(members: &mut Members, errors: &mut Errors) -> Option<Pattern> {
    let text = members.text("pattern", errors)?;
    let built = if text.chars().count() > PATTERN_CHARACTERS_MAX {
        Err(format!("is longer than {PATTERN_CHARACTERS_MAX} characters"))
    } else {
        Pattern::new(&text)
    };
    built.map_err(|what| errors.add(&members.pointer("pattern"), what)).ok()
}

fn allowed(members: &mut Members, errors: &mut Errors) -> Option<Allowed> {
    let at = members.pointer("enum");
    let list = match members.take("enum")? {
        Node::List(list) if (1..=ENUM_VALUES_MAX).contains(&list.len()) => list,
        _ => {
            errors.add(&at, format!("must be a list of 1 to {ENUM_VALUES_MAX} strings"));
            return None;
        }
    };
    let mut values = Vec::with_capacity(list.len());
    for (index, node) in list.into_iter().enumerate() {
        match node {
            Node::Text(text) if !text.is_empty() => values.push(text.into_bytes().into()),
            _ => errors.add(&format!("{at}/{index}"), "must be a string that is not empty"),
        }
    }
    Some(Allowed::new(values))
}

/// The type with its bounds.
fn bounded(kind: Type, members: &mut Members, errors: &mut Errors) -> Kind {
    match kind {
        Type::Text | Type::Boolean => {
            for name in ["min", "max"] {
                if members.take(name).is_some() {
                    errors.add(&members.pointer(name), "is for numbers and times");
                }
            }
            if matches!(kind, Type::Text) { Kind::Text } else { Kind::Boolean }
        }
        Type::Integer => integers(members, errors),
        Type::Number => Kind::Number(bounds(members, errors, "must be a number", decimal)),
        Type::Date => Kind::Date(bounds(members, errors, "must be a date like \"2026-11-21\"", |node| {
            if let Node::Text(text) = node { day(text.as_bytes()) } else { None }
        })),
        Type::DateTime => moments(members, errors),
    }
}

fn integers(members: &mut Members, errors: &mut Errors) -> Kind {
    let exact = bounds(members, errors, "must be an integer", |node| {
        decimal(node).filter(|_| matches!(node, Node::Number(text) if is_integer(text.as_bytes())))
    });
    let small = |bound: &Option<DecimalBuf>, none: i64| match bound {
        Some(bound) => bound.borrow().to_i64_saturating(),
        None => none,
    };
    let (small_min, small_max) = (small(&exact.min, i64::MIN), small(&exact.max, i64::MAX));
    Kind::Integer(IntegerBounds { exact, small_min, small_max })
}

fn decimal(node: &Node) -> Option<DecimalBuf> {
    let Node::Number(text) = node else { return None };
    Decimal::parse(text.as_bytes()).map(DecimalBuf::from)
}

fn moments(members: &mut Members, errors: &mut Errors) -> Kind {
    let what = "must be a time like \"2026-11-21T10:00:00Z\"";
    Kind::DateTime(bounds(members, errors, what, |node| match node {
        Node::Text(text) => Instant::parse(text.as_bytes()).map(|_| text.as_bytes().into()),
        _ => None,
    }))
}

fn bounds<T: Bound>(
    members: &mut Members,
    errors: &mut Errors,
    what: &str,
    read: impl Fn(&Node) -> Option<T>,
) -> Bounds<T> {
    let mut bound = |name: &str| {
        let read = read(&members.take(name)?);
        if read.is_none() {
            errors.add(&members.pointer(name), what);
        }
        read
    };
    let (min, max) = (bound("min"), bound("max"));
    if let (Some(min), Some(max)) = (&min, &max)
        && min.is_over(max)
    {
        errors.add(&members.pointer("min"), "is more than `max`");
    }
    Bounds { min, max }
}

trait Bound {
    fn is_over(&self, other: &Self) -> bool;
}

impl Bound for DecimalBuf {
    fn is_over(&self, other: &Self) -> bool {
        self.borrow() > other.borrow()
    }
}

impl Bound for i64 {
    fn is_over(&self, other: &Self) -> bool {
        self > other
    }
}

impl Bound for Box<[u8]> {
    fn is_over(&self, other: &Self) -> bool {
        Instant::parse(self) > Instant::parse(other)
    }
}
