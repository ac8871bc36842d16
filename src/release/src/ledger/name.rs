//! Names of people. They are what "another person" goes by, so that two that look alike are not given to two people.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;

use crate::code::{Code, Refusal};

/// Characters that nobody sees, or that turn the direction of writing; controls are refused beside them.
const UNSEEN: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Scripts whose letters are taken for one another's.
const ALIKE: [(&str, &[(char, char)]); 5] = [
    ("Latin", &[('a', 'z'), ('\u{c0}', '\u{24f}'), ('\u{1e00}', '\u{1eff}')]),
    ("Greek", &[('\u{370}', '\u{3ff}'), ('\u{1f00}', '\u{1fff}')]),
    ("Cyrillic", &[('\u{400}', '\u{52f}'), ('\u{1c80}', '\u{1c8f}'), ('\u{a640}', '\u{a69f}')]),
    ("Armenian", &[('\u{530}', '\u{58f}')]),
    ("Cherokee", &[('\u{13a0}', '\u{13ff}'), ('\u{ab70}', '\u{abbf}')]),
];

/// Letters of Cyrillic and Greek, small, and the Latin ones that they or their capitals look like.
const LOOKS: [&str; 2] = ["авеёніјкмоӏрԛсѕтухһԁԝαβεηικμνοπρτυχζ", "abeehijkmolpqcstyxhdwabenikmvopptuxz"];

/// What two names that a person would take for one have in common.
pub(crate) fn folded(name: &str) -> String {
    let small: String = name.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    let spaced = small.split_whitespace().collect::<Vec<_>>().join(" ");
    let seen = spaced.chars().filter(|c| !is_unseen(*c));
    seen.map(|c| LOOKS[0].chars().position(|of| of == c).and_then(|at| LOOKS[1].chars().nth(at)).unwrap_or(c))
        .collect()
}

/// Says no to a name that could be taken for another person's, of those that `others` have.
pub(super) fn demand<'o>(name: &str, others: impl Iterator<Item = &'o str>) -> Result<(), Refusal> {
    let wrong = |why: String| Err(Refusal::new(Code::RolesInvalid, why));
    if name != name.trim() || name.contains("  ") {
        return wrong(format!("the name `{name}` begins or ends with a blank, or has two in a row"));
    }
    if let Some(c) = name.chars().find(|c| is_unseen(*c)) {
        return wrong(format!("the name has U+{:04X}, which nobody sees", u32::from(c)));
    }
    let scripts: BTreeSet<&str> = name.chars().flat_map(char::to_lowercase).filter_map(script).collect();
    if scripts.len() > 1 {
        let scripts = scripts.into_iter().collect::<Vec<_>>().join(" and ");
        return wrong(format!(
            "the name `{name}` mixes letters of {scripts}, which are taken for one another's"
        ));
    }
    let same = folded(name);
    match others.into_iter().find(|other| *other != name && folded(other) == same) {
        None => Ok(()),
        Some(other) => {
            let said = format!("the name `{name}` is taken for `{other}`, who has a key already");
            let hint = format!(
                "the keys of one person have one name: for a further key write `{other}` as it is there; another person needs a name that tells them apart"
            );
            Err(Refusal::new(Code::RolesInvalid, said).hint(hint))
        }
    }
}

fn is_unseen(c: char) -> bool {
    UNSEEN.iter().any(|(from, to)| (*from..=*to).contains(&c))
}

fn script(c: char) -> Option<&'static str> {
    let of =
        |(_, ranges): &&(&str, &[(char, char)])| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
    ALIKE.iter().find(of).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_for_another_persons_is_refused() {
        assert_eq!(LOOKS[0].chars().count(), LOOKS[1].chars().count());
        let given = |name: &str| demand(name, ["Ada", "Jörg Groß", "Сос"].into_iter());
        for name in ["Ada", "Adam", "Ada L", "Zoë", "Ольга", "李 明", "Jörg Groß", "Åsa", "Сос", "محمد"]
        {
            assert_eq!(given(name), Ok(()), "{name}");
        }
        for (name, why) in [
            ("Ada ", "blank"),
            ("\u{a0}Ada", "blank"),
            ("A  B", "blank"),
            ("ada", "`Ada`"),
            ("ADA", "`Ada`"),
            ("Ａｄａ", "`Ada`"),
            ("Jo\u{308}rg Groß", "`Jörg Groß`"),
            ("jörg\u{3000}groß", "`Jörg Groß`"),
            ("A\u{200b}da", "U+200B"),
            ("Ada\u{202e}", "U+202E"),
            ("Ad\u{430}", "Cyrillic and Latin"),
            ("Βert", "Greek and Latin"),
            ("Coc", "`Сос`"),
        ] {
            let refused = given(name).unwrap_err();
            assert_eq!(refused.code, Code::RolesInvalid);
            assert!(refused.detail.contains(why), "{name:?}: {refused}");
        }
    }
}
