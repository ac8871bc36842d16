//! `estoppel sbom`: what the programs were locked to, as CycloneDX 1.6.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::Sbom;
use crate::input;
use crate::output::{Failure, Output};

/// The lock file that this program was built from.
const BUILT_FROM: &str = include_str!("../../Cargo.lock");
/// The package whose bill it is.
const ROOT: &str = "estoppel";

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Package {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    fn component(&self) -> Value {
        let mut component = json!({
            "type": "library", "bom-ref": self.purl(), "name": self.name, "version": self.version,
        });
        if self.source.is_some() {
            component["purl"] = self.purl().into();
        }
        if let Some(checksum) = &self.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    }
}

pub fn run(output: &Output, sbom: &Sbom) -> Result<ExitCode, Failure> {
    let text = sbom.lockfile.as_deref().map(input::text).transpose()?;
    let bill =
        bill(text.as_deref().unwrap_or(BUILT_FROM)).map_err(|why| Failure::input("LOCKFILE_INVALID", why))?;
    output.line(&format!("{bill:#}"));
    Ok(output.data(&bill))
}

fn bill(text: &str) -> Result<Value, String> {
    let lock: Lock =
        toml::from_str(text).map_err(|error| format!("not a Cargo.lock: {}", error.message()))?;
    let mut named: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &lock.package {
        named.entry(&package.name).or_default().push(package);
    }
    let root = named.get(ROOT).and_then(|found| found.first());
    let root = root.ok_or_else(|| format!("the lock file has no package `{ROOT}`"))?;
    let dependencies: Result<Vec<Value>, String> = lock
        .package
        .iter()
        .map(|package| {
            let on: Result<Vec<String>, String> =
                package.dependencies.iter().map(|wanted| resolve(&named, wanted)).collect();
            Ok(json!({ "ref": package.purl(), "dependsOn": on? }))
        })
        .collect();
    let others = lock.package.iter().filter(|package| package.name != ROOT);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "bom-ref": root.purl(), "name": root.name, "version": root.version },
        },
        "components": others.map(Package::component).collect::<Vec<_>>(),
        "dependencies": dependencies?,
    }))
}

/// `name`, or `name version` where there are several, or with the source behind it.
fn resolve(named: &BTreeMap<&str, Vec<&Package>>, wanted: &str) -> Result<String, String> {
    let mut words = wanted.split(' ');
    let (name, version) = (words.next().unwrap_or_default(), words.next());
    let found = named.get(name).into_iter().flatten();
    let found = found.copied().find(|package| version.is_none_or(|version| package.version == version));
    found.map(Package::purl).ok_or_else(|| format!("the lock file has no package `{wanted}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_leads_to_the_version_that_it_names() {
        let lock = "[[package]]\nname = \"estoppel\"\nversion = \"1.0.0\"\ndependencies = [\"a 2.0.0\", \"b\"]\n\
                    [[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n\
                    [[package]]\nname = \"b\"\nversion = \"0.1.0\"\nsource = \"x\"\nchecksum = \"ab\"\n";
        let bill = bill(lock).unwrap();
        assert_eq!(bill["dependencies"][0]["dependsOn"], json!(["pkg:cargo/a@2.0.0", "pkg:cargo/b@0.1.0"]));
        assert_eq!(bill["components"][2]["hashes"][0]["content"], "ab");
    }

    #[test]
    fn what_is_no_lock_file_of_ours_is_refused() {
        for text in ["", "x", "[[package]]\nname = \"a\"\nversion = \"1\"", "package = 1"] {
            assert!(bill(text).is_err(), "{text}");
        }
        let dangling = "[[package]]\nname = \"estoppel\"\nversion = \"1.0.0\"\ndependencies = [\"gone\"]\n";
        assert!(bill(dangling).unwrap_err().contains("gone"));
    }
}
