//! Takes the name of a schema off what the server printed, so that it means the scratch schema.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

/// `text` without `namespace.` before names, also in what is cast to `regclass`. None where it cannot be read.
pub(super) fn unqualified(text: &str, namespace: &str) -> Option<String> {
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, text).with_unescape(false).tokenize().ok()?;
    let names =
        |token: Option<&Token>| matches!(token, Some(Token::Word(word)) if written(word) == namespace);
    let is_period = |token: Option<&Token>| matches!(token, Some(Token::Period));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let is_first = at == 0 || !is_period(tokens.get(at - 1));
        let is_qualifier = is_first
            && names(Some(token))
            && is_period(tokens.get(at + 1))
            && matches!(tokens.get(at + 2), Some(Token::Word(_)));
        match token {
            _ if is_qualifier => at += 1,
            // Written back it would be another text.
            Token::EscapedStringLiteral(_) | Token::UnicodeStringLiteral(_) => return None,
            Token::SingleQuotedString(name) if is_cast_to_class(&tokens, at) => {
                let name = unqualified(&name.replace("''", "'"), namespace)?;
                out.push_str(&format!("'{}'", name.replace('\'', "''")));
            }
            token => out.push_str(&token.to_string()),
        }
        at += 1;
    }
    Some(out)
}

fn is_cast_to_class(tokens: &[Token], at: usize) -> bool {
    matches!(tokens.get(at + 1), Some(Token::DoubleColon))
        && matches!(tokens.get(at + 2), Some(Token::Word(word)) if written(word) == "regclass")
}

/// A name as the server takes it.
fn written(word: &Word) -> String {
    match word.quote_style {
        None => word.value.to_lowercase(),
        Some(_) => word.value.replace("\"\"", "\""),
    }
}

#[cfg(test)]
mod tests {
    use super::unqualified;

    #[test]
    fn the_name_of_the_schema_is_taken_off_names_and_nothing_else() {
        for (text, expected) in [
            ("nextval('public.orders_id_seq'::regclass)", "nextval('orders_id_seq'::regclass)"),
            ("nextval('public.\"Odd ''one\"'::regclass)", "nextval('\"Odd ''one\"'::regclass)"),
            ("CHECK ((note <> 'public.orders'::text))", "CHECK ((note <> 'public.orders'::text))"),
            ("public.mood[]", "mood[]"),
            ("'happy'::public.\"Mood\"", "'happy'::\"Mood\""),
            (
                "SELECT o.id FROM (public.orders o JOIN other.public p ON p.x = o.y)",
                "SELECT o.id FROM (orders o JOIN other.public p ON p.x = o.y)",
            ),
            ("a ~ '^\\d+$'::text", "a ~ '^\\d+$'::text"),
            ("public", "public"),
        ] {
            assert_eq!(unqualified(text, "public").as_deref(), Some(expected));
        }
        assert_eq!(unqualified("\"My Shop\".t", "My Shop").as_deref(), Some("t"));
        assert_eq!(unqualified("E'a\\nb'", "public"), None);
    }
}
