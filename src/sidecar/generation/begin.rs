//! `estoppel generation new` and `estoppel new`: what is not there yet.

use std::io::{IsTerminal as _, stderr, stdin};
use std::path::Path;
use std::process::ExitCode;

use estoppel_release::Version;
use estoppel_release::generation::{
    Beginning, ChangeType, FOLDER, Format, Generation, NewChange, TEMPLATES, Template,
};
use estoppel_release::git::Git;
use serde_json::json;

use super::{failed, folder, open, refused, wizard};
use crate::arguments::{GenerationNew, New};
use crate::output::{Failure, Output, plain};

pub fn generation(output: Output, new: &GenerationNew) -> Result<ExitCode, Failure> {
    let folder = folder(&new.at)?;
    let like = new.like.as_ref().map(|like| open(output, &folder, like)).transpose()?;
    let template = template(new.template.as_deref())?;
    let base = base(new, template)?;
    let is_hotfix = base.is_some() || like.as_ref().is_some_and(|like| like.hotfix.is_some());
    let author = || author(&new.at.repo);
    let asked = new.description.is_none() && new.change.is_empty();
    let beginning = if asked && !output.json && stdin().is_terminal() && stderr().is_terminal() {
        let author = new.author.clone().unwrap_or_else(author);
        wizard::ask(&mut stdin().lock(), &mut stderr(), &new.version, &author).map_err(|error| {
            Failure::input("ARGUMENT_INVALID", plain(&format!("nothing was begun: {error}")))
        })?
    } else {
        Beginning {
            version: new.version.clone(),
            description: new.description.clone().unwrap_or_else(|| format!("Version {}", new.version)),
            author: new.author.clone().unwrap_or_else(author),
            changes: if new.change.is_empty() { vec![placeholder(is_hotfix)] } else { new.change.clone() },
            base: None,
        }
    };
    let beginning = Beginning { base, ..beginning };
    let text = like.as_ref().map_or_else(|| template.generation(&beginning), |like| beginning.like(like));
    let read = Generation::parse(&text, Format::Yaml)
        .map_err(|errors| refused(output, Path::new("the new generation"), &errors))?;
    let path = folder.write_new(&new.version, Format::Yaml, &text).map_err(|error| failed(output, error))?;
    output.line(&plain(&format!("begun       {}", path.display())));
    output.line(
        "next        write what changes and what shows it, then `estoppel generation lint` and `… seal`",
    );
    let data = json!({
        "version": new.version, "file": path.display().to_string(), "contract": read.digest(),
        "changes": read.changes.len(),
    });
    Ok(output.data(&data))
}

/// What a generation has where nobody said what changes.
fn placeholder(is_hotfix: bool) -> NewChange {
    let kind = if is_hotfix { ChangeType::Fix } else { ChangeType::Add };
    NewChange { id: "CHANGE-1".into(), kind, title: "Say what changes".into() }
}

fn template(name: Option<&str>) -> Result<&'static Template, Failure> {
    let name = name.unwrap_or("minimal");
    Template::find(name).ok_or_else(|| {
        let names: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
        let message = format!("there is no template `{name}`; there is {}", names.join(", "));
        Failure::input("ARGUMENT_INVALID", plain(&message))
    })
}

fn base(new: &GenerationNew, template: &Template) -> Result<Option<Version>, Failure> {
    match (&new.base, template.name) {
        (None, "hotfix") => {
            let message = "a hotfix needs `--base`, the promoted version that it mends";
            Err(Failure::input("ARGUMENT_INVALID", message))
        }
        (Some(_), name) if name != "hotfix" => {
            Err(Failure::input("ARGUMENT_INVALID", "`--base` belongs to `--template hotfix`"))
        }
        (base, _) => Ok(base.clone()),
    }
}

/// Who git says that works here.
fn author(repo: &Path) -> String {
    let name = Git::open(repo).and_then(|git| git.config("user.name"));
    name.ok().flatten().filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into())
}

/// `estoppel new`.
pub fn project(output: &Output, new: &New) -> Result<ExitCode, Failure> {
    if let Some(from) = new.from.as_deref().filter(|from| !from.starts_with("catalog:")) {
        let message = format!("expected `catalog:` and a name, as `catalog:rust.release`, found `{from}`");
        return Err(Failure::input("ARGUMENT_INVALID", plain(&message)));
    }
    let template = template(new.from.as_deref().or(new.template.as_deref()))?;
    let is_hotfix = template.name == "hotfix";
    let version = |patch: u64| format!("0.1.{patch}").parse::<Version>();
    let invalid = |error: estoppel_release::NotAVersion| Failure::runtime("INTERNAL", error.to_string());
    let beginning = Beginning {
        version: version(u64::from(is_hotfix)).map_err(invalid)?,
        description: if is_hotfix { "Say why it cannot wait".into() } else { "The first version".into() },
        author: new.author.clone().unwrap_or_else(|| author(Path::new("."))),
        changes: vec![placeholder(is_hotfix)],
        base: if is_hotfix { Some(version(0).map_err(invalid)?) } else { None },
    };
    let text = template.generation(&beginning);
    Generation::parse(&text, Format::Yaml)
        .map_err(|errors| refused(*output, Path::new("the new generation"), &errors))?;
    let made = template.project(&new.dir, &beginning);
    made.map_err(|error| failed(*output, error))?;
    let (dir, name) = (new.dir.display().to_string(), template.name);
    output.line(&plain(&format!("made        {dir} from {name}: {}", template.about)));
    output.line("next        `git init`, then `estoppel generation lint` and `estoppel policy lint` in it");
    let mut files = vec![format!("{FOLDER}/{}.yaml", beginning.version.tag())];
    files.extend(template.files().map(|(path, _)| path.display().to_string()));
    Ok(output.data(&json!({ "dir": dir, "template": name, "files": files })))
}
