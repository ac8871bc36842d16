//! `estoppel replay run --live`: recorded calls of allowed tools and operations, made again for real.
//!
//! Two things have to be said that nobody says by accident: the tools or operations by name, and in the environment the run.

mod place;
mod server;

use std::process::ExitCode;

use estoppel_evidence::Sha256;
use estoppel_replay::certificate::{BodiesBy, Mode};
use estoppel_replay::live::{Allowed, Operations, Plan, Request, replay};
use estoppel_replay::{Connections, Matching, Normalizers, Tally};

use self::place::Place;
use self::server::Server;
use super::{Prepared, Said, capture_missing, classes, conclude, normalizers, unread};
use crate::arguments::{ReplayLive, ReplayRun};
use crate::output::{Failure, Output, plain};

/// Has to be the id of the run that is replayed.
const INTERLOCK: &str = "ESTOPPEL_REPLAY_LIVE";
/// Most of `--allow-tool`, and of `--allow-operation`, as a certificate has them.
const ALLOWED_MAX: usize = 256;
/// Most of `--target`.
const TARGETS_MAX: usize = 10_000;

pub(super) fn run(output: Output, run: &ReplayRun, prepared: &Prepared) -> Result<ExitCode, Failure> {
    let wanted = &run.live;
    let id = prepared.bundle.manifest().run.to_string();
    if wanted.allow_tool.is_empty() && wanted.allow_operation.is_empty() {
        return Err(refused("no tool and no operation is allowed to be called")
            .hint("--allow-tool NAME, or --allow-operation NAME, for each"));
    }
    if !std::env::var(INTERLOCK).is_ok_and(|said| said == id) {
        return Err(refused(&format!("`{INTERLOCK}` does not name this run"))
            .hint(format!("what is called is real: if that is meant, say {INTERLOCK}={id}")));
    }
    let allowed = allowed(wanted, prepared)?;
    let place = Place::of(wanted)?;
    let mut targets =
        wanted.target.iter().chain(wanted.allow_operation.iter().filter_map(|one| one.target()));
    targets.try_for_each(|target| place.url(target).map(drop))?;
    let normalizers = run.normalizers.as_deref().map(normalizers).transpose()?;
    let mut classes = classes(output, run.policy.as_deref())?;
    let mut connections = Connections::default();
    connections.allow([place.address()]);
    let mut tally = Tally::new(Matching::Strict);
    let plan = Plan {
        allowed,
        upstream: place.origin().to_owned(),
        normalizers: normalizers.as_ref(),
        capture: prepared.capture.as_ref(),
        classes: &mut classes,
    };
    let mut server = Server::new(place);
    let operations = wanted.allow_operation.iter().map(ToString::to_string);
    let names: Vec<String> = wanted.allow_tool.iter().cloned().chain(operations).collect();
    output.note(&plain(&format!("calls of {} are made for real", names.join(", "))));
    let mut ask = |request: &Request| server.ask(request);
    let replayed = replay(&prepared.bundle, plan, &mut ask, &mut tally, &mut connections);
    let replayed = replayed.map_err(|error| unread(&error))?;
    let bodies_by = if prepared.capture.is_some() { BodiesBy::Tag } else { BodiesBy::Digest };
    let digest: Option<Sha256> = normalizers.as_ref().map(Normalizers::digest);
    let said = Said {
        connections: connections.count(),
        normalizers: digest,
        live: Some(replayed),
        policy: classes.policy(),
        ..Said::of(Mode::Live, bodies_by)
    };
    conclude(output, &run.of, &prepared.bundle, &prepared.key, prepared.started, &tally, said)
}

fn allowed(wanted: &ReplayLive, prepared: &Prepared) -> Result<Allowed, Failure> {
    let invalid = |message: String| Err(Failure::input("ARGUMENT_INVALID", message));
    if wanted.allow_tool.len() > ALLOWED_MAX || wanted.allow_operation.len() > ALLOWED_MAX {
        return invalid(format!("--allow-tool and --allow-operation: at most {ALLOWED_MAX}"));
    }
    if wanted.target.len() > TARGETS_MAX {
        return invalid(format!("--target: at most {TARGETS_MAX}"));
    }
    if wanted.allow_operation.is_empty() {
        return Ok(Allowed::Tools(wanted.allow_tool.iter().cloned().collect()));
    }
    let capture = prepared.capture.as_ref().ok_or_else(|| {
        capture_missing(
            "targets of requests are known by their tags, for which the run's capture key is needed",
        )
    })?;
    Ok(Allowed::Operations(Operations::new(capture, &wanted.allow_operation, &wanted.target)))
}

fn refused(message: &str) -> Failure {
    Failure { exit: 8, ..Failure::runtime("LIVE_REFUSED", plain(message)) }
}
