//! Generations and projects to begin with.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::{ChangeType, Folder, FolderError, Format, Generation};
use crate::Version;

/// What a project or a generation can be begun from.
#[derive(Debug)]
pub struct Template {
    /// On the command line.
    pub name: &'static str,
    /// Its name in the catalog, after `catalog:`.
    pub catalog: &'static str,
    /// What it is for.
    pub about: &'static str,
    generation: &'static str,
    /// Paths with their texts, beside the generation.
    files: &'static [(&'static str, &'static str)],
}

const POLICY: (&str, &str) = ("policy.yaml", include_str!("../../templates/policy.yaml"));

/// Every template.
pub const TEMPLATES: &[Template] = &[
    Template {
        name: "minimal",
        catalog: "minimal",
        about: "a generation whose one step has to be written",
        generation: include_str!("../../templates/minimal.yaml"),
        files: &[POLICY],
    },
    Template {
        name: "go-release",
        catalog: "go.release",
        about: "a Go module: build, vet, test",
        generation: include_str!("../../templates/go.yaml"),
        files: &[
            POLICY,
            ("go.mod", include_str!("../../templates/go.mod.txt")),
            ("project.go", include_str!("../../templates/project.go.txt")),
            ("project_test.go", include_str!("../../templates/project_test.go.txt")),
        ],
    },
    Template {
        name: "python-lib",
        catalog: "python.lib",
        about: "a Python package: compile, unittest",
        generation: include_str!("../../templates/python.yaml"),
        files: &[
            POLICY,
            ("src/project.py", include_str!("../../templates/project.py.txt")),
            ("tests/test_project.py", include_str!("../../templates/test_project.py.txt")),
        ],
    },
    Template {
        name: "node-lib",
        catalog: "node.lib",
        about: "a Node package: syntax, node --test",
        generation: include_str!("../../templates/node.yaml"),
        files: &[
            POLICY,
            ("index.mjs", include_str!("../../templates/index.mjs.txt")),
            ("index.test.mjs", include_str!("../../templates/index.test.mjs.txt")),
            ("package.json", include_str!("../../templates/package.json.txt")),
        ],
    },
    Template {
        name: "rust-release",
        catalog: "rust.release",
        about: "a Rust crate: build, clippy, test",
        generation: include_str!("../../templates/rust.yaml"),
        files: &[
            POLICY,
            ("Cargo.toml", include_str!("../../templates/Cargo.toml.txt")),
            ("src/lib.rs", include_str!("../../templates/lib.rs.txt")),
        ],
    },
    Template {
        name: "hotfix",
        catalog: "hotfix",
        about: "one fix of a promoted version",
        generation: include_str!("../../templates/hotfix.yaml"),
        files: &[POLICY],
    },
];

impl Template {
    /// The template with this name: `python-lib`, `python` or `catalog:python.lib`.
    pub fn find(name: &str) -> Option<&'static Self> {
        let is_it = |template: &&Self| match name.strip_prefix("catalog:") {
            Some(name) => template.catalog == name,
            None => template.name == name || template.name.split('-').next() == Some(name),
        };
        TEMPLATES.iter().find(is_it)
    }

    /// The text of a generation.
    pub fn generation(&self, beginning: &Beginning) -> String {
        let base = beginning.base.as_ref().map(ToString::to_string).unwrap_or_default();
        fill(
            self.generation,
            &[
                ("{version}", &quoted(&beginning.version.to_string())),
                ("{description}", &quoted(&beginning.description)),
                ("{author}", &quoted(&beginning.author)),
                ("{changes}", &rows(&beginning.changes)),
                ("{base}", &quoted(&base)),
            ],
        )
    }

    /// Makes a project in a folder that is not there or empty, whole or not at all.
    ///
    /// # Errors
    /// [`FolderError::Exists`], [`FolderError::Write`].
    pub fn project(&self, dir: &Path, beginning: &Beginning) -> Result<(), FolderError> {
        let shown = |path: &Path| path.display().to_string();
        let failed = |path: &Path, source| FolderError::Write { path: shown(path), source };
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let scratch = tempfile::Builder::new()
            .prefix(".estoppel-new-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir_in(above)
            .map_err(|error| failed(above, error))?;
        let root = scratch.path();
        let text = self.generation(beginning);
        Folder::of(root).write_new(&beginning.version, Format::Yaml, &text)?;
        for (path, text) in self.files() {
            let path = root.join(path);
            let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            written.and_then(|()| std::fs::write(&path, text)).map_err(|error| failed(&path, error))?;
        }
        // Takes the place of an empty folder, and of nothing else.
        std::fs::rename(root, dir).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                FolderError::Exists { path: shown(dir) }
            }
            _ => failed(dir, error),
        })?;
        // It is where it belongs, so there is nothing left to remove.
        let _ = scratch.keep();
        Ok(())
    }

    /// The other files of a project.
    pub fn files(&self) -> impl Iterator<Item = (&'static Path, &'static str)> {
        self.files.iter().map(|(path, text)| (Path::new(*path), *text))
    }
}

/// What is known of a generation when it is begun.
#[derive(Clone, Debug)]
pub struct Beginning {
    pub version: Version,
    pub description: String,
    pub author: String,
    pub changes: Vec<NewChange>,
    /// Of a hotfix.
    pub base: Option<Version>,
}

/// A change as it is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChange {
    pub id: String,
    pub kind: ChangeType,
    pub title: String,
}

impl Beginning {
    /// The text of a generation that asks for what another one does: its steps, gates, policies, hooks and stages.
    pub fn like(&self, other: &Generation) -> String {
        let mut text = format!(
            "# Begun from {}.\ngeneration: 1\nversion: {}\ndescription: {}\nauthor: {{ name: {} }}\n\nchanges:\n{}\n",
            other.version,
            quoted(&self.version.to_string()),
            quoted(&self.description),
            quoted(&self.author),
            rows(&self.changes),
        );
        for member in ["steps", "gates", "change_policies", "hooks", "stages"] {
            let Some(value) = other.document().get(member) else { continue };
            text.push_str(&format!("\n{member}:\n"));
            match value {
                Value::Array(items) => items.iter().for_each(|item| text.push_str(&format!("- {item}\n"))),
                Value::Object(members) => {
                    members.iter().for_each(|(name, value)| text.push_str(&format!("  {name}: {value}\n")));
                }
                other => text.push_str(&format!("  {other}\n")),
            }
        }
        text
    }
}

/// Puts words in the places of their names, without looking into what was put there.
fn fill(text: &str, words: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let next = words.iter().filter_map(|(name, word)| Some((rest.find(name)?, *name, *word))).min();
        let Some((at, name, word)) = next else { return out + rest };
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        out.push_str(word);
        rest = after.strip_prefix(name).unwrap_or(after);
    }
}

/// JSON strings are strings of YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn rows(changes: &[NewChange]) -> String {
    let row = |change: &NewChange| {
        format!("- {{ id: {}, type: {}, title: {} }}", quoted(&change.id), change.kind, quoted(&change.title))
    };
    changes.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(template: &Template) -> Beginning {
        let hotfix = template.name == "hotfix";
        let version = |text: &str| text.parse::<Version>().unwrap();
        Beginning {
            version: version(if hotfix { "0.1.1" } else { "0.1.0" }),
            description: "a \"{author}\": # {\\ \u{1f600}".into(),
            author: "{version}".into(),
            changes: vec![NewChange {
                id: "A-1".into(),
                kind: if hotfix { ChangeType::Fix } else { ChangeType::Add },
                title: "{changes} 'x'".into(),
            }],
            base: hotfix.then(|| version("0.1.0")),
        }
    }

    #[test]
    fn every_template_is_a_generation_whatever_it_is_given() {
        for template in TEMPLATES {
            let beginning = beginning(template);
            let text = template.generation(&beginning);
            let read =
                Generation::parse(&text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
            assert_eq!((&read.description, &read.author.name), (&beginning.description, &beginning.author));
            assert_eq!(
                read.changes.iter().map(|change| &change.title).collect::<Vec<_>>(),
                ["{changes} 'x'"]
            );
            let like = Beginning { version: "9.0.0".parse().unwrap(), ..beginning }.like(&read);
            let again =
                Generation::parse(&like, Format::Yaml).unwrap_or_else(|errors| panic!("{errors:?}\n{like}"));
            assert_eq!(again.steps, read.steps);
            assert_eq!(again.gates, read.gates);
        }
    }

    #[test]
    fn templates_are_found_by_each_of_their_names() {
        for name in ["go", "go-release", "catalog:go.release"] {
            assert_eq!(Template::find(name).map(|template| template.name), Some("go-release"));
        }
        for name in ["", "catalog:go-release", "cobol", "go.release"] {
            assert!(Template::find(name).is_none(), "{name}");
        }
        assert!(Template::find("catalog:rust.release").is_some());
    }
}
