//! Programs that a generation has told of what happens, as JSON on their standard input.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::evolution::allowed_env;
use crate::generation::{Change, Generation, Hook, HookEvent};
use crate::ledger::HookResult;
use crate::process::{self, Limits, Taking};

/// Most bytes that a hook may write. What it writes is not kept.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// The hooks of a generation, where they run and what they are told beside the event.
pub(crate) struct Hooks<'a> {
    pub generation: &'a Generation,
    /// The changes that are concerned.
    pub changes: Vec<&'a Change>,
    pub tree: &'a Path,
    pub told: &'a [(&'static str, String)],
}

impl Hooks<'_> {
    /// Runs the hooks of an event, one after the other, and says which passed.
    pub(crate) fn tell(&self, event: HookEvent, facts: &Value) -> Vec<HookResult> {
        let is_concerned = |hook: &&Hook| {
            hook.event == event
                && (hook.types.is_empty()
                    || self.changes.iter().any(|change| hook.types.contains(&change.kind)))
        };
        let hooks = self.generation.hooks.iter().filter(is_concerned);
        hooks.map(|hook| self.run(hook, facts)).collect()
    }

    fn run(&self, hook: &Hook, facts: &Value) -> HookResult {
        let changes = self.changes.iter().map(|change| json!({ "id": change.id, "type": change.kind }));
        let told =
            |name: &str| self.told.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let said = json!({
            "event": hook.event, "version": self.generation.version, "changes": changes.collect::<Vec<_>>(),
            "commit": told("ESTOPPEL_COMMIT"), "evolution": told("ESTOPPEL_EVOLUTION"), "facts": facts,
        });
        let result = |passed| HookResult { id: hook.id.to_string(), on: hook.event.to_string(), passed };
        let Some((program, arguments)) = hook.run.split_first() else { return result(false) };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.tree).env_clear().envs(allowed_env(&hook.env));
        command.envs(self.told.iter().map(|(name, value)| (name, value)));
        let time = Duration::from_secs(hook.timeout_s.into());
        let limits = Limits { time, output_bytes_max: OUTPUT_BYTES_MAX };
        let taking = Taking::begin();
        let done = process::run_kept(command, said.to_string().as_bytes(), limits);
        result(taking.end_all() && done.is_ok_and(|done| done.exit == Some(0)))
    }
}
