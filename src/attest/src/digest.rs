//! The digest of a run: a few numbers and its Merkle root, as a document and as a badge. The same bundle gives the same bytes.

use estoppel_evidence::Sha256;
use estoppel_verify::Report;
use serde_json::{Value, json};

use crate::error::AttestError;
use crate::pdf::Style;
use crate::statement::canonical;

/// What a Replay Certificate that holds says of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Of its file.
    pub certificate: Sha256,
    /// `success`, `partial` or `failed`.
    pub status: String,
}

/// A run in a few numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDigest(Value);

impl RunDigest {
    /// Of a bundle that verified; none for any other.
    pub fn new(report: &Report, replayed: Option<&Replayed>) -> Option<Self> {
        let (true, Some(root), Some(run)) = (report.passed(), &report.root, &report.run) else { return None };
        let counters = &report.counters;
        let mut digest = json!({
            "anchoring": report.verdicts.anchoring.name(),
            "authenticity": report.verdicts.authenticity.name(),
            "blocks": counters.block,
            "calls": counters.calls,
            "holds": counters.hold,
            "repairs": counters.repair,
            "replay": replayed.map_or("none", |replayed| &replayed.status),
            "root": format!("root:{}", root.hex()),
            "run": run,
            "v": "digest/v0",
        });
        if let Some(replayed) = replayed {
            digest["certificate"] = replayed.certificate.to_string().into();
        }
        Some(Self(digest))
    }

    pub fn document(&self) -> &Value {
        &self.0
    }

    /// Canonical JSON.
    ///
    /// # Errors
    /// [`AttestError::Form`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, AttestError> {
        canonical(&self.0)
    }

    /// A badge that shows the numbers and the beginning of the root, and carries all of it.
    pub fn badge(&self) -> String {
        let text = |name: &str| self.0[name].as_str().unwrap_or_default();
        let number = |name: &str| self.0[name].as_u64().unwrap_or_default();
        let root = text("root").trim_start_matches("root:");
        let short = root.get(..12).unwrap_or(root);
        let label = "estoppel";
        let calls = number("calls");
        let numbers = format!(
            "{calls} call{}, {} blocked, {} repaired | replay {}",
            if calls == 1 { "" } else { "s" },
            number("blocks"),
            number("repairs"),
            text("replay")
        );
        let colour = match (text("authenticity"), text("replay")) {
            (_, "failed") => "#b3261e",
            ("trusted", "success" | "none") => "#17734a",
            _ => "#9e6105",
        };
        let widths = [label, &numbers, short].map(|shown| Style::plain(11.0).width(shown).ceil() + 14.0);
        let [first, second, third] = widths;
        let (middle, total) = (first + second, first + second + third);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"20\" role=\"img\" aria-label=\"{label}: {numbers}\">\
             <title>{label}: {numbers}, root {root}, run {}</title>\
             <rect width=\"{total}\" height=\"20\" rx=\"3\" fill=\"#3b4048\"/>\
             <rect x=\"{first}\" width=\"{second}\" height=\"20\" fill=\"{colour}\"/>\
             <g fill=\"#fff\" font-family=\"Helvetica,Arial,sans-serif\" font-size=\"11\">",
            text("run")
        );
        for (at, width, shown) in
            [(0.0, first, label), (first, second, numbers.as_str()), (middle, third, short)]
        {
            let length = width - 14.0;
            svg.push_str(&format!(
                "<text x=\"{}\" y=\"14\" textLength=\"{length}\">{shown}</text>",
                at + 7.0
            ));
        }
        svg.push_str("</g></svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use estoppel_verify::{Input, NoExternals, Options, verify_bundle};

    use super::*;
    use crate::evidence::tests::BUNDLE;

    fn report(bytes: &[u8]) -> Report {
        verify_bundle(Input::Zip(bytes), &mut NoExternals, &Options::default()).unwrap()
    }

    #[test]
    fn a_badge_carries_the_root_and_the_numbers() {
        let report = report(BUNDLE);
        let replayed = Replayed { certificate: Sha256::of(b"c"), status: "success".into() };
        let digest = RunDigest::new(&report, Some(&replayed)).unwrap();
        let badge = digest.badge();
        assert!(badge.contains(&report.root.unwrap().hex()), "{badge}");
        assert!(badge.contains(">1 call, ") && badge.contains("replay success"));
        assert!(badge.contains("#9e6105"), "nobody vouched for the keys: {badge}");
        assert_eq!(digest.document()["certificate"], replayed.certificate.to_string());
        assert_eq!(badge, RunDigest::new(&report, Some(&replayed)).unwrap().badge());
    }

    #[test]
    fn a_bundle_that_does_not_verify_has_no_digest() {
        let mut broken = BUNDLE.to_vec();
        broken[BUNDLE.len() / 2] ^= 1;
        assert_eq!(RunDigest::new(&report(&broken), None), None);
    }
}
