//! A policy in one layout: two spaces, keys in the order in which they are written, values on one line where they fit. Comments stay
//! where they stand: above what follows them, or behind what they follow.

use crate::document::PolicyDocument;
use crate::error::{Errors, PolicyError};
use crate::yaml::{self, Comment, Key, Kind, Node};

/// Most characters of a line that is not one long text.
const WIDTH: usize = 100;

impl PolicyDocument {
    /// The text of a policy in the one layout. Laying it out again changes nothing, and its hash is the same.
    ///
    /// # Errors
    /// It is no policy, with everything that is wrong with it.
    pub fn laid_out(text: &str) -> Result<String, Vec<PolicyError>> {
        let before = Self::parse(text)?;
        let mut out = text.to_owned();
        // A comment that leaves a value may let the value fit on one line.
        for _ in 0..PASSES_MAX {
            let once = lay_out(&out)?;
            if once == out {
                break;
            }
            out = once;
        }
        debug_assert_eq!(Self::parse(&out).map(|after| after.hash()).ok(), Some(before.hash()));
        Ok(out)
    }
}

/// Most times that a text is laid out until that changes nothing; each but the first follows a comment one level out.
const PASSES_MAX: usize = 20;

fn lay_out(text: &str) -> Result<String, Vec<PolicyError>> {
    let mut errors = Errors::default();
    let Some(Node { kind: Kind::Map(pairs), .. }) = yaml::parse(text, &mut errors) else {
        return Err(errors.into_list()); // a policy is a mapping
    };
    let mut layout = Layout { out: String::new(), comments: yaml::comments(text), next: 0, shared: 0 };
    layout.top(&pairs);
    layout.comments_before(usize::MAX, 0);
    Ok(layout.out)
}

struct Layout {
    out: String,
    comments: Vec<Comment>,
    /// The comment that comes next.
    next: usize,
    /// The line on which the next key stands.
    shared: usize,
}

impl Layout {
    fn top(&mut self, pairs: &[(Key, Node)]) {
        for (key, node) in pairs {
            let is_section = !is_scalar(node) && !is_empty(node);
            if is_section && !self.out.is_empty() {
                self.out.push('\n');
            }
            self.comments_before(key.place.line, 0);
            match (&node.kind, key.text.as_str()) {
                (Kind::List(items), "rules") if !items.is_empty() => {
                    self.key(key, node, 0);
                    for (at, item) in items.iter().enumerate() {
                        if at > 0 {
                            self.out.push('\n');
                        }
                        self.item(item, 0, true);
                    }
                }
                (Kind::Map(inner), _) if is_section => {
                    self.key(key, node, 0);
                    self.map(inner, 2);
                }
                _ => self.pair(key, node, 0),
            }
        }
    }

    fn map(&mut self, pairs: &[(Key, Node)], indent: usize) {
        for (at, (key, node)) in pairs.iter().enumerate() {
            self.comments_before(key.place.line, indent);
            // What is behind several on one line is behind the last of them.
            self.shared = pairs.get(at + 1).map_or(0, |(next, _)| next.place.line);
            self.pair(key, node, indent);
        }
    }

    /// One key with its value, on one line if that fits.
    fn pair(&mut self, key: &Key, node: &Node, indent: usize) {
        let name = scalar_key(&key.text);
        if let Some(value) = self.on_one_line(node, key.place.line, indent + name.len() + 2) {
            self.line(indent, &format!("{name}: {value}"));
            self.comment_behind(last_line(node).max(key.place.line));
            return;
        }
        match &node.kind {
            Kind::Map(inner) => {
                self.key(key, node, indent);
                self.map(inner, indent + 2);
            }
            Kind::List(items) => {
                self.key(key, node, indent);
                items.iter().for_each(|item| self.item(item, indent, false));
            }
            Kind::Text(text) if is_block(text) => {
                self.line(indent, &format!("{name}: |"));
                self.comment_behind(key.place.line);
                for line in text.lines() {
                    match line.is_empty() {
                        true => self.out.push('\n'),
                        false => self.line(indent + 2, line),
                    }
                }
            }
            Kind::Text(_) | Kind::Word(_) | Kind::Broken => {
                self.line(indent, &format!("{name}: {}", flow(node)));
                self.comment_behind(last_line(node));
            }
        }
    }

    /// A key whose value follows on lines of its own.
    fn key(&mut self, key: &Key, node: &Node, indent: usize) {
        self.line(indent, &format!("{}:", scalar_key(&key.text)));
        if first_line(node) > key.place.line {
            self.comment_behind(key.place.line);
        }
    }

    /// An element of a list; `open`: never on one line.
    fn item(&mut self, node: &Node, indent: usize, open: bool) {
        self.comments_before(node.place.line, indent);
        if let Some(value) = self.on_one_line(node, node.place.line, indent + 2).filter(|_| !open) {
            self.line(indent, &format!("- {value}"));
            self.comment_behind(last_line(node));
            return;
        }
        let from = self.out.len();
        match &node.kind {
            Kind::Map(pairs) if !pairs.is_empty() => {
                self.map(pairs, indent + 2);
                // The first line of the item that is no comment stands behind the dash.
                let first = self.out.get(from..).unwrap_or_default();
                let at: usize = first
                    .split_inclusive('\n')
                    .take_while(|line| line.trim_start().starts_with('#'))
                    .map(str::len)
                    .sum();
                self.out.replace_range(from + at + indent..from + at + indent + 1, "-");
            }
            _ => {
                self.line(indent, &format!("- {}", flow(node)));
                self.comment_behind(last_line(node));
            }
        }
    }

    /// The value in flow style, if it fits behind `before` characters and has no comments inside.
    fn on_one_line(&self, node: &Node, from: usize, before: usize) -> Option<String> {
        let last = last_line(node);
        let has_comments = self.comments.get(self.next..).unwrap_or_default().iter().any(|comment| {
            comment.line < last && comment.line >= from || comment.line == last && comment.alone
        });
        if has_lines(node) {
            return None;
        }
        let value = flow(node);
        let is_short = is_scalar(node) || is_empty(node);
        let fits = before + value.chars().count() <= WIDTH && !has_comments;
        (is_short || fits).then_some(value)
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Comments that stand before a line, each on a line of its own.
    fn comments_before(&mut self, line: usize, indent: usize) {
        while let Some(comment) = self.comments.get(self.next).filter(|comment| comment.line < line) {
            let text = format!("#{}", comment.text.trim_end());
            self.next += 1;
            self.line(indent, &text);
        }
    }

    /// The comment behind what ends on this line.
    fn comment_behind(&mut self, line: usize) {
        let shared = self.shared;
        if let Some(comment) = self
            .comments
            .get(self.next)
            .filter(|comment| comment.line == line && line != shared && !comment.alone)
        {
            let text = format!("  #{}", comment.text.trim_end());
            self.next += 1;
            let end = self.out.trim_end_matches('\n').len();
            self.out.insert_str(end, &text);
        }
    }
}

fn is_scalar(node: &Node) -> bool {
    matches!(node.kind, Kind::Text(_) | Kind::Word(_) | Kind::Broken)
}

fn is_empty(node: &Node) -> bool {
    match &node.kind {
        Kind::List(items) => items.is_empty(),
        Kind::Map(pairs) => pairs.is_empty(),
        Kind::Text(_) | Kind::Word(_) | Kind::Broken => false,
    }
}

fn first_line(node: &Node) -> usize {
    node.place.line
}

/// Where the last of its scalars begins.
fn last_line(node: &Node) -> usize {
    let below = match &node.kind {
        Kind::List(items) => items.last().map(last_line),
        Kind::Map(pairs) => pairs.last().map(|(key, node)| last_line(node).max(key.place.line)),
        Kind::Text(_) | Kind::Word(_) | Kind::Broken => None,
    };
    below.unwrap_or(0).max(node.place.line)
}

/// Whether a text in it is written over several lines.
fn has_lines(node: &Node) -> bool {
    match &node.kind {
        Kind::Text(text) => is_block(text),
        Kind::Word(_) | Kind::Broken => false,
        Kind::List(items) => items.iter().any(has_lines),
        Kind::Map(pairs) => pairs.iter().any(|(_, node)| has_lines(node)),
    }
}

/// Whether a text can be written as lines: it ends in one line feed, and no line has blanks at its ends.
fn is_block(text: &str) -> bool {
    let Some(body) = text.strip_suffix('\n') else { return false };
    let is_plain = |line: &str| {
        line.trim_matches([' ', '\t']).len() == line.len()
            && !line.chars().any(|c| c.is_control() || c == '\u{feff}')
    };
    !body.ends_with('\n')
        && !body.starts_with('\n')
        && !body.is_empty()
        && body.split('\n').all(|line| {
            is_plain(line) || line.trim_end().len() == line.len() && is_plain(line.trim_start_matches(' '))
        })
        && !body.starts_with(' ')
}

fn flow(node: &Node) -> String {
    match &node.kind {
        Kind::Word(word) => word.clone(),
        Kind::Text(text) => scalar(text),
        Kind::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Kind::Map(pairs) if pairs.is_empty() => "{}".into(),
        Kind::Map(pairs) => {
            let pair = |(key, node): &(Key, Node)| format!("{}: {}", scalar_key(&key.text), flow(node));
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Kind::Broken => String::new(),
    }
}

fn scalar_key(text: &str) -> String {
    scalar(text)
}

/// A text, in quotes where it needs them.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " ._-/*()+=;$^<>~".contains(c))
        && !text.ends_with(' ')
        && !yaml::is_ambiguous(text);
    if is_plain {
        return text.into();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_one_layout_and_keeps_its_comments() {
        let text = "# What it is for.\nversion:   1\nname: 'laid-out'   # by hand\n\ndefaults: {verdict: allow,\n  body_storage: hmac}\ncontracts:\n  order: { json: \"{}\\n\" }\nrules:\n    # Keeps shells out.\n  - {id: a, when: {tool: [\"shell*\", 'bash']}, verdict: block, reason: X} # names only\n  - id: b\n    when:\n      # why\n      route: llm\n    verdict: allow\n# the end\n";
        let expected = "# What it is for.
version: 1
name: laid-out  # by hand

defaults:
  verdict: allow
  body_storage: hmac

contracts:
  order:
    json: |
      {}

rules:
# Keeps shells out.
- id: a
  when: { tool: [shell*, bash] }
  verdict: block
  reason: X  # names only

- id: b
  when:
    # why
    route: llm
  verdict: allow
# the end
";
        assert_eq!(PolicyDocument::laid_out(text).unwrap(), expected);
        assert_eq!(PolicyDocument::laid_out(expected).unwrap(), expected);
    }
}
