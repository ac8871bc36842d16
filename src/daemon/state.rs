//! The store that the configuration asks for.

use std::time::Duration;

use estoppel_evidence::Reason;
use estoppel_state::{Local, Redis, RedisSettings, Store, StoreError};
use tokio::runtime::Runtime;

use crate::config::{Loaded, Refusal, StoreKind};

/// Opens it. A Redis is not waited for: until it is there, controls do what they say for that.
pub fn open(loaded: &Loaded, now_us: u64, runtime: &Runtime) -> Result<Store, Refusal> {
    let state = &loaded.config.state;
    match state.store {
        StoreKind::Local => {
            let file = loaded.state_file();
            let local = Local::open(&file, now_us).map_err(|error| {
                refused(Reason::DiskFailed, &format!("cannot open `{}`", file.display()), &error)
            })?;
            Ok(Store::Local(local))
        }
        StoreKind::Redis => {
            let settings = RedisSettings {
                url: state.url.clone().unwrap_or_default(),
                prefix: state.prefix.clone(),
                timeout: Duration::from_millis(state.timeout_ms),
            };
            let made = Redis::new(settings);
            let (redis, task) =
                made.map_err(|error| refused(Reason::ConfigInvalid, "state.url cannot be used", &error))?;
            runtime.spawn(task.run());
            Ok(Store::Redis(redis))
        }
    }
}

fn refused(reason: Reason, what: &str, error: &StoreError) -> Refusal {
    let mut line = format!("{what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    Refusal::new(reason, line)
}
