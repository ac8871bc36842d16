//! SQL in a value: whether it keeps to terms. It is read as PostgreSQL reads it.
//!
//! What cannot be read, or may be read in two ways, is unknown. What a function does when it is called cannot be seen.

mod selector;

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Fetch, LimitClause, ObjectName, Query, Select, SetExpr, Statement, TableFactor, Value, Visit,
    Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use self::selector::selects;
use crate::pattern::{Case, Patterns};
use crate::predicate::Truth;

/// Longest SQL that is read, in bytes.
pub(crate) const SQL_BYTES_MAX: usize = 64 << 10;
/// Most tokens of it, without space and comments. Chains of operators nest as deep as they are long, so this bounds the stack.
pub(crate) const TOKENS_MAX: usize = 2_048;
/// How deep it may nest otherwise.
pub(crate) const DEPTH_MAX: usize = 32;

/// The server cuts longer names.
const NAME_BYTES_MAX: usize = 63;

/// What SQL has to keep to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SqlTerms {
    pub statements: Vec<SqlStatement>,
    pub require_selector: Option<bool>,
    pub rows_max: Option<u64>,
    pub tables: Option<Vec<String>>,
    pub tables_not: Option<Vec<String>>,
    pub functions: Option<Vec<String>>,
}

/// A statement that terms can allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SqlStatement {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
}

impl SqlStatement {
    pub const ALL: [Self; 5] = [Self::Select, Self::Insert, Self::Update, Self::Delete, Self::Merge];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
        }
    }
}

/// Terms, ready.
#[derive(Debug)]
pub(crate) struct SqlCheck {
    terms: SqlTerms,
    tables: Option<Patterns>,
    tables_not: Option<Patterns>,
    functions: Option<Patterns>,
}

impl SqlCheck {
    pub fn new(terms: &SqlTerms) -> Self {
        let patterns = |list: &Option<Vec<String>>, case| list.as_ref().map(|list| Patterns::new(list, case));
        Self {
            tables: patterns(&terms.tables, Case::Exact),
            tables_not: patterns(&terms.tables_not, Case::Ignore),
            functions: patterns(&terms.functions, Case::Exact),
            terms: terms.clone(),
        }
    }

    /// Whether `text` is one statement that keeps to the terms.
    pub fn keeps(&self, text: &str) -> Truth {
        let Some(statements) = parse(text) else { return Truth::Unknown };
        let [statement] = statements.as_slice() else {
            return if statements.is_empty() { Truth::Unknown } else { Truth::False };
        };
        let statement = explained(statement);
        let mut walk = Walk { check: self, truth: Truth::True };
        // It never breaks off.
        let _ = statement.visit(&mut walk);
        match (statement, self.terms.rows_max) {
            (Statement::Query(query), Some(max)) if is_read(&query.body) => {
                walk.note(Truth::of(rows(query).is_some_and(|rows| rows <= max)));
            }
            _ => {}
        }
        walk.truth
    }
}

/// None of what is too much, what is no SQL, and what other databases would read in another way.
fn parse(text: &str) -> Option<Vec<Statement>> {
    if text.len() > SQL_BYTES_MAX {
        return None;
    }
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().ok()?;
    let counted = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if counted > TOKENS_MAX || tokens.iter().any(is_read_in_two_ways) || has_unicode_name(&tokens) {
        return None;
    }
    Parser::new(&dialect).with_recursion_limit(DEPTH_MAX).with_tokens(tokens).parse_statements().ok()
}

/// A comment that MySQL runs, a backslash that it and older servers take for an escape, and what is no token.
fn is_read_in_two_ways(token: &Token) -> bool {
    match token {
        Token::Whitespace(Whitespace::MultiLineComment(comment)) => comment.starts_with(['!', 'M', '+']),
        Token::SingleQuotedString(text) | Token::NationalStringLiteral(text) => text.contains('\\'),
        Token::Char(_) | Token::Placeholder(_) => true,
        _ => false,
    }
}

/// `U&"d\0061ta"`, of which the parser makes something else.
fn has_unicode_name(tokens: &[Token]) -> bool {
    let is_u = |token: &Token| matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case("u"));
    let is_quoted = |token: &Token| match token {
        Token::Word(word) => word.quote_style.is_some(),
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => true,
        _ => false,
    };
    tokens.windows(3).any(|three| is_u(&three[0]) && three[1] == Token::Ampersand && is_quoted(&three[2]))
}

/// What is explained may be run (`ANALYZE`), so it is looked at as if it were.
fn explained(statement: &Statement) -> &Statement {
    match statement {
        Statement::Explain { statement, .. } => explained(statement),
        statement => statement,
    }
}

/// Whether it only reads, itself.
fn is_read(body: &SetExpr) -> bool {
    !matches!(body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_))
}

/// How many rows a query gives at most, where it says so with a number.
fn rows(query: &Query) -> Option<u64> {
    let limit = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit: Some(limit), .. }) => Some(limit),
        _ => None,
    };
    let fetch = match &query.fetch {
        Some(Fetch { with_ties: false, percent: false, quantity }) => quantity.as_ref(),
        _ => None,
    };
    match (limit, fetch) {
        (Some(Expr::Value(value)), _) | (None, Some(Expr::Value(value))) => match &value.value {
            Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Looks at everything in a statement; once a term is broken it stays so.
struct Walk<'c> {
    check: &'c SqlCheck,
    truth: Truth,
}

impl Walk<'_> {
    /// What is known of one more thing that has to hold.
    fn note(&mut self, truth: Truth) {
        self.truth = match (self.truth, truth) {
            (Truth::False, _) | (_, Truth::False) => Truth::False,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::True, Truth::True) => Truth::True,
        };
    }

    fn kind(&mut self, kind: SqlStatement) {
        self.note(Truth::of(self.check.terms.statements.contains(&kind)));
    }

    fn selector(&mut self, selection: Option<&Expr>) {
        if self.check.terms.require_selector == Some(true) {
            self.note(selection.map_or(Truth::False, selects));
        }
    }

    fn table(&mut self, name: &str) {
        let last = name.rsplit('.').next().unwrap_or(name);
        if let Some(tables) = &self.check.tables {
            self.note(Truth::of(tables.take(name)));
        }
        if let Some(tables) = &self.check.tables_not {
            self.note(Truth::of(!tables.take(name) && !tables.take(last)));
        }
    }

    fn function(&mut self, name: &ObjectName) {
        if let Some(functions) = &self.check.functions {
            self.note(Truth::of(written(name).is_some_and(|name| functions.take(&name))));
        }
    }

    fn select(&mut self, select: &Select) {
        // It makes a table.
        if select.into.is_some() {
            self.note(Truth::False);
        }
    }
}

impl Visitor for Walk<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Query(query) if is_read(&query.body) => self.kind(SqlStatement::Select),
            // What it does is a statement inside of it.
            Statement::Query(_) => {}
            Statement::Insert(_) => self.kind(SqlStatement::Insert),
            Statement::Update(update) => {
                self.kind(SqlStatement::Update);
                self.selector(update.selection.as_ref());
            }
            Statement::Delete(delete) => {
                self.kind(SqlStatement::Delete);
                self.selector(delete.selection.as_ref());
            }
            Statement::Merge(_) => self.kind(SqlStatement::Merge),
            _ => self.note(Truth::False),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
                SetExpr::Select(select) => self.select(select),
                // Nobody is told of its name.
                SetExpr::Table(_) => self.note(Truth::Unknown),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match written(relation) {
            Some(name) => self.table(&name),
            None => self.note(Truth::Unknown),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::UNNEST { .. } => {}
            TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => self.function(name),
            _ => self.note(Truth::Unknown),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.function(&function.name);
        }
        ControlFlow::Continue(())
    }
}

/// A name as the server takes it: small letters but in quotes. None where a part is no plain name, has a dot in it, or is
/// longer than the server takes.
fn written(name: &ObjectName) -> Option<String> {
    let part = |part: &sqlparser::ast::ObjectNamePart| {
        let ident = part.as_ident()?;
        let text = match ident.quote_style {
            None => ident.value.to_lowercase(),
            Some(_) => ident.value.clone(),
        };
        (text.len() <= NAME_BYTES_MAX && !text.contains('.')).then_some(text)
    };
    Some(name.0.iter().map(part).collect::<Option<Vec<_>>>()?.join("."))
}

#[cfg(test)]
mod tests;
