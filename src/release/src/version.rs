//! Versions and the names that are made of them (semver.org 2.0.0).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest version, in bytes.
const BYTES_MAX: usize = 64;

/// The version of a generation: strict SemVer without build metadata, because two versions that differ in nothing else
/// have one precedence. Written without `v`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(semver::Version);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version like 1.4.0 or 1.4.0-beta.1")]
pub struct NotAVersion {
    text: String,
}

impl Version {
    /// `v1.4.0`: the tag of a promotion.
    pub fn tag(&self) -> String {
        format!("v{self}")
    }

    /// `v1.4.0-rc.2`: the tag of the second candidate. A candidate of a pre-release extends it: `v1.4.0-beta.1.rc.2`.
    pub fn candidate_tag(&self, number: u64) -> String {
        self.numbered_tag("rc", number)
    }

    /// The number of a candidate of this version, if the tag names one.
    pub fn candidate_number(&self, tag: &str) -> Option<u64> {
        self.tag_number("rc", tag)
    }

    /// `v1.4.0-alpha.2`: the second tag of this word. The words of the ladder sort as its stages do.
    pub fn numbered_tag(&self, word: &str, number: u64) -> String {
        let joint = if self.0.pre.is_empty() { '-' } else { '.' };
        format!("v{self}{joint}{word}.{number}")
    }

    /// The number in a tag of this word, if the tag is one of this version.
    pub fn tag_number(&self, word: &str, tag: &str) -> Option<u64> {
        let number: u64 = tag.rsplit('.').next()?.parse().ok()?;
        (self.numbered_tag(word, number) == tag).then_some(number)
    }

    /// The version that a tag of a promotion names.
    pub fn of_tag(tag: &str) -> Option<Self> {
        tag.strip_prefix('v')?.parse().ok()
    }

    /// The next patch version; none at the end of numbers.
    pub fn next_patch(&self) -> Option<Self> {
        let patch = self.0.patch.checked_add(1)?;
        Some(Self(semver::Version::new(self.0.major, self.0.minor, patch)))
    }

    /// Major, minor and patch.
    pub fn core(&self) -> (u64, u64, u64) {
        (self.0.major, self.0.minor, self.0.patch)
    }

    /// Whether it is what a hotfix of that version is called: of the same minor version, later, and none a pre-release.
    pub fn is_later_patch_of(&self, base: &Self) -> bool {
        let (own, of) = (&self.0, &base.0);
        let is_of_line = (own.major, own.minor) == (of.major, of.minor);
        is_of_line && own.patch > of.patch && own.pre.is_empty() && of.pre.is_empty()
    }

    /// What follows the hyphen; empty for a final version.
    pub fn prerelease(&self) -> &str {
        self.0.pre.as_str()
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let wrong = || NotAVersion { text: text.chars().take(BYTES_MAX).collect() };
        if text.len() > BYTES_MAX {
            return Err(wrong());
        }
        let version = semver::Version::parse(text).map_err(|_| wrong())?;
        if version.build.is_empty() { Ok(Self(version)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "1",
            "1.2",
            "v1.2.3",
            "01.2.3",
            "1.2.3+build",
            "1.2.3 ",
            "-x",
            "1.2.3-",
            "1.2.3-a;b",
            "1.2.3/4",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!(format!("1.2.3-{}", "a".repeat(64)).parse::<Version>().is_err());
    }

    #[test]
    fn versions_are_ordered_by_number_and_not_by_text() {
        assert!(version("1.2.9") < version("1.2.10"));
        assert!(version("1.2.3-rc.9") < version("1.2.3-rc.10"));
        assert!(version("1.2.3-rc.1") < version("1.2.3"));
        assert_eq!(version("1.2.9").next_patch(), Some(version("1.2.10")));
    }

    #[test]
    fn tags_of_a_ladder_sort_as_its_stages_do() {
        let released = version("1.4.0");
        let tags = [("alpha", 2), ("alpha", 10), ("beta", 1), ("rc", 1)];
        let mut climbed: Vec<Version> = Vec::new();
        for (word, number) in tags {
            let tag = released.numbered_tag(word, number);
            assert_eq!(released.tag_number(word, &tag), Some(number));
            climbed.push(Version::of_tag(&tag).unwrap());
        }
        climbed.push(released.clone());
        assert!(climbed.is_sorted_by(|low, high| low < high), "{climbed:?}");
        assert_eq!(released.tag_number("alpha", "v1.4.0-beta.1"), None);
        assert_eq!(released.tag_number("alpha", "v1.4.0-alpha.01"), None);
    }

    #[test]
    fn candidates_are_known_by_their_tags() {
        let released = version("1.4.0");
        assert_eq!(released.candidate_tag(2), "v1.4.0-rc.2");
        assert_eq!(released.candidate_number("v1.4.0-rc.2"), Some(2));
        for other in ["v1.4.0-rc.02", "v1.4.0-rc.", "v1.4.1-rc.2", "v1.4.0", "1.4.0-rc.2", "v1.4.0-rc.2.2"] {
            assert_eq!(released.candidate_number(other), None, "{other}");
        }
        let beta = version("1.4.0-beta.1");
        assert_eq!(beta.candidate_tag(1), "v1.4.0-beta.1.rc.1");
        assert_eq!(beta.candidate_number("v1.4.0-beta.1.rc.1"), Some(1));
        assert_eq!(Version::of_tag("v1.4.0"), Some(released));
    }
}
