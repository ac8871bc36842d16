//! Where in a document the text of a contract stands, so that what is wrong inside of it is told with a place in the file.

use crate::error::Place;
use crate::judging::ContractText;
use crate::read::Reader;
use crate::yaml;

/// A contract that is written in a document, whatever else is wrong there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenContract {
    /// Its name.
    pub name: String,
    /// Its language and its text.
    pub text: ContractText,
    pub(crate) place: Place,
}

impl WrittenContract {
    /// Every one that can be read in a policy.
    pub fn all(yaml: &str) -> Vec<Self> {
        let mut reader = Reader::default();
        if let Some(root) = yaml::parse(yaml, &mut reader.errors) {
            reader.read_contracts(&root);
        }
        reader.written
    }

    /// Line and column in the document `yaml`, both from 1, of a byte of the text; of the whole text where the way it is
    /// written does not let that be told.
    pub fn place_of(&self, yaml: &str, byte: usize) -> (usize, usize) {
        let Place { line, column } = self.place;
        self.inside(yaml, byte).unwrap_or((line, column))
    }

    fn inside(&self, yaml: &str, byte: usize) -> Option<(usize, usize)> {
        let Place { line, column } = self.place;
        let before = self.text.text.get(..byte)?;
        let lines: Vec<&str> = yaml.lines().collect();
        let first: Vec<char> = lines.get(line.checked_sub(1)?)?.chars().collect();
        let (ahead, first) = first.split_at_checked(column.checked_sub(1)?)?;
        if ahead.iter().all(|c| *c == ' ') {
            // The parser gives a block scalar the place of its first line, below its indicator.
            let above = lines.get(..line - 1)?.iter().rposition(|line| !line.trim().is_empty())?;
            let indicator = lines.get(above)?.split(" #").next()?.trim_end();
            if ["|", "|-", "|+"].iter().any(|end| indicator.ends_with(&format!(" {end}"))) {
                let content = lines.get(above + 1..)?;
                let indent = content.iter().find(|line| !line.trim().is_empty())?;
                let indent = indent.chars().take_while(|c| *c == ' ').count();
                let own = before.rsplit('\n').next()?.chars().count();
                return Some((above + 2 + before.matches('\n').count(), indent + own + 1));
            }
        }
        match first.first()? {
            quote @ ('"' | '\'') => in_quotes(&first[1..], *quote, before).map(|at| (line, column + 1 + at)),
            _ if first.starts_with(&before.chars().collect::<Vec<_>>()) => {
                Some((line, column + before.chars().count()))
            }
            _ => None,
        }
    }
}

/// Characters that `text` takes on one line of source after the quote.
fn in_quotes(source: &[char], quote: char, text: &str) -> Option<usize> {
    let mut at = 0;
    for _ in text.chars() {
        at += match (source.get(at)?, source.get(at + 1)) {
            ('\'', Some('\'')) if quote == '\'' => 2,
            ('\\', Some('x')) if quote == '"' => 4,
            ('\\', Some('u')) if quote == '"' => 6,
            ('\\', Some('U')) if quote == '"' => 10,
            ('\\', Some(_)) if quote == '"' => 2,
            _ => 1,
        };
    }
    (at <= source.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_a_contract_has_a_place_in_the_policy() {
        let yaml = "version: 1
name: a
unknown: key
contracts:
  block:
    json: |
      { \"é\": 1,

        \"!\": 2 }
  single: { json: '{ \"it''s\": \"!\" }' }
  double: { csv: \"{ \\\"\\u00e9\\\": \\\"!\\\" }\" }
  folded:
    json: >
      { \"!\": 3 }
  packed: { pack: a, contract: b }
";
        let all = WrittenContract::all(yaml);
        let place = |name: &str| {
            let written = all.iter().find(|written| written.name == name).unwrap();
            let (line, column) = written.place_of(yaml, written.text.text.find('!').unwrap());
            let text = yaml.lines().nth(line - 1).unwrap();
            (line, text.chars().skip(column - 1).take(1).collect::<String>())
        };
        assert_eq!(all.len(), 4);
        for (name, line) in [("block", 9), ("single", 10), ("double", 11)] {
            assert_eq!(place(name), (line, "!".into()), "{name}");
        }
        assert_eq!(place("folded").0, 14);
    }
}
