//! Events to rows.

use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use super::standing::standings;
use crate::audit::Row;
use crate::generation::StageName;
use crate::ledger::{Body, Event, EvolutionFinished, Ledger};

pub(super) fn all(db: &mut Connection, ledger: &Ledger) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    let genesis = ledger.genesis().map(|genesis| genesis.to_string()).unwrap_or_default();
    tx.execute(
        "INSERT INTO ledger VALUES (?1, ?2, ?3)",
        params![ledger.head().to_string(), genesis, ledger.events().len() as i64], // at most EVENTS_MAX
    )?;
    generations(&tx, ledger)?;
    for event in ledger.events() {
        self::event(&tx, ledger, event)?;
    }
    tx.commit()
}

fn generations(tx: &Transaction<'_>, ledger: &Ledger) -> rusqlite::Result<()> {
    for standing in standings(ledger) {
        let version = standing.version.to_string();
        tx.execute(
            "INSERT INTO generations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                version,
                standing.status.as_str(),
                standing.contract.to_string(),
                count(standing.changes.len()),
                count(standing.proven()),
                standing.sealed_at.to_string(),
                standing.promoted_at.map(|at| at.to_string()),
                standing.tag,
            ],
        )?;
        for change in &standing.changes {
            tx.execute(
                "INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    version,
                    change.id,
                    change.kind,
                    change.title,
                    change.digest.to_string(),
                    change.proven,
                    change.evolution,
                ],
            )?;
        }
    }
    Ok(())
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn event(tx: &Transaction<'_>, ledger: &Ledger, event: &Event) -> rusqlite::Result<()> {
    let Row { actor, at, commit, event: id, host, kind, name, previous, version, .. } =
        Row::of(ledger, event);
    let body = event.document().get("body").map(Value::to_string).unwrap_or_default();
    let some = |text: String| (!text.is_empty()).then_some(text);
    let (actor, at, id) = (actor.to_string(), at.to_string(), id.to_string());
    tx.execute(
        "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![id, at, kind, actor, name, host, some(version), some(commit), previous, body],
    )?;
    let promotion = |result: &str,
                     version: String,
                     promotion: String,
                     commit: String,
                     stage: StageName,
                     tag: Option<&str>| {
        tx.execute(
            "INSERT INTO promotions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![id, version, at, result, promotion, commit, tag, stage.as_str()],
        )
    };
    let stage_of = |stage: Option<StageName>| stage.unwrap_or(StageName::Final);
    match &event.body {
        Body::EvolutionStarted(run) => {
            let (version, commit) = (run.version.to_string(), run.commit.to_string());
            tx.execute(
                "INSERT INTO evolutions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, NULL, NULL)",
                params![run.evolution, version, commit, run.contract.to_string(), run.nonce, actor, at],
            )?;
        }
        Body::EvolutionFinished(run) => finished(tx, run, &at)?,
        Body::PromotionStarted(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            promotion("STARTED", version, body.promotion.to_string(), commit, stage_of(body.stage), None)?;
        }
        Body::PromotionRefused(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            promotion("REFUSED", version, body.promotion.to_string(), commit, stage_of(body.stage), None)?;
            gates(tx, &id, &body.gates)?;
        }
        Body::PromotionFinished(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            promotion(
                "FINISHED",
                version,
                body.promotion.to_string(),
                commit,
                StageName::Final,
                Some(&body.tag),
            )?;
            gates(tx, &id, &body.gates)?;
        }
        Body::StagePromoted(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            let (own, tag) = (body.promotion.to_string(), Some(&*body.tag));
            promotion("FINISHED", version, own, commit, body.stage, tag)?;
            gates(tx, &id, &body.gates)?;
        }
        Body::Approved(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            let (contract, expires) = (body.contract.to_string(), body.expires.to_string());
            tx.execute(
                "INSERT INTO approvals VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)",
                params![id, version, at, actor, contract, commit, expires],
            )?;
        }
        Body::Waived(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            let (contract, expires) = (body.contract.to_string(), body.expires.to_string());
            tx.execute(
                "INSERT INTO approvals VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![id, version, at, actor, contract, commit, expires, body.gate],
            )?;
        }
        Body::EnvironmentSet(body) => {
            let (version, commit) = (body.version.to_string(), body.commit.to_string());
            tx.execute(
                "INSERT INTO environments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id, body.environment, at, actor, version, commit, body.tag],
            )?;
        }
        Body::RolledBack(body) => {
            let released = ledger.promoted(&body.to).map(|(_, released)| released.commit.to_string());
            for environment in body.environments.keys() {
                let (version, tag) = (body.to.to_string(), body.to.tag());
                tx.execute(
                    "INSERT INTO environments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![id, environment, at, actor, version, released, tag],
                )?;
            }
        }
        Body::GenerationAbandoned(_)
        | Body::GenerationAmended(_)
        | Body::GenerationSealed(_)
        | Body::RolesSet(_) => {}
    }
    Ok(())
}

fn finished(tx: &Transaction<'_>, run: &EvolutionFinished, at: &str) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE evolutions SET finished_at = ?2, result = ?3, tag = ?4 WHERE id = ?1",
        params![run.evolution, at, run.result.as_str(), run.tag],
    )?;
    for (change, digest) in &run.changes {
        let digest = digest.to_string();
        tx.execute(
            "INSERT INTO evolution_changes VALUES (?1, ?2, ?3)",
            params![run.evolution, change, digest],
        )?;
    }
    for (name, content) in &run.evidence {
        let (digest, bytes) = (content.sha256.to_string(), i64::try_from(content.bytes).unwrap_or(i64::MAX));
        tx.execute(
            "INSERT INTO evidence VALUES (?1, ?2, ?3, ?4)",
            params![run.evolution, name, digest, bytes],
        )?;
    }
    for step in &run.steps {
        let outcome = serde_json::to_value(step.outcome).ok();
        tx.execute(
            "INSERT INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                run.evolution,
                step.id,
                step.kind,
                outcome.as_ref().and_then(Value::as_str).unwrap_or_default(),
                step.exit,
                i64::try_from(step.duration_ms).unwrap_or(i64::MAX),
                step.log.as_ref().map(|log| log.sha256.to_string()),
            ],
        )?;
    }
    Ok(())
}

fn gates(tx: &Transaction<'_>, event: &str, gates: &[Value]) -> rusqlite::Result<()> {
    for gate in gates {
        let text = |name: &str| gate.get(name).and_then(Value::as_str).unwrap_or_default();
        tx.execute(
            "INSERT INTO gates VALUES (?1, ?2, ?3, ?4)",
            params![event, text("gate"), text("state"), text("why")],
        )?;
    }
    Ok(())
}
