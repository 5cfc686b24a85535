//! What was left undone: roles that are noted and that no session has, whatever kept them from being cleaned up at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::clean::Fate;
use super::{CLEANING, Key, Roles};
use crate::state::NotedRole;
use crate::target::Target;

/// When a server that could not be swept is tried again.
struct Again {
    tries: u32,
    at: Instant,
}

impl Roles {
    /// Sweeps at once, whenever something was left undone, and from time to time. `target` finds targets by name. Never ends.
    pub(in super::super) async fn sweep(self, target: impl Fn(&str) -> Option<Arc<Target>>) {
        let mut again: HashMap<String, Again> = HashMap::new();
        loop {
            self.0.slots.lock().retain(|_, slot| !slot.sessions.is_empty() || Arc::strong_count(&slot.lock) > 1);
            let noted = match self.0.ledger.noted().await {
                Ok(noted) => noted,
                Err(error) => {
                    warn!(%error, "the roles that may have to be cleaned up could not be read");
                    Vec::new()
                }
            };
            let mut servers: HashMap<String, Vec<NotedRole>> = HashMap::new();
            for one in noted {
                servers.entry(one.target.clone()).or_default().push(one);
            }
            again.retain(|name, _| servers.contains_key(name));
            for (name, roles) in servers {
                if again.get(&name).is_some_and(|again| again.at > Instant::now()) {
                    continue;
                }
                match self.sweep_server(target(&name), roles).await {
                    Ok(true) => drop(again.remove(&name)),
                    Ok(false) => drop(again.insert(name, Again { tries: 0, at: Instant::now() + FIRST })),
                    Err(why) => {
                        let tries = again.get(&name).map_or(0, |again| again.tries);
                        let wait = FIRST.saturating_mul(1 << tries.min(10)).min(LONGEST);
                        warn!(target = %name, %why, again = ?wait, "roles that were made there could not be cleaned up");
                        again.insert(name, Again { tries: tries + 1, at: Instant::now() + wait });
                    }
                }
            }
            let next = again.values().map(|again| again.at).min().unwrap_or(Instant::now() + LONGEST);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.0.undone.notified() => {}
            }
        }
    }

    /// Cleans up what no session has on one server; says whether nothing is left to look after.
    async fn sweep_server(&self, target: Option<Arc<Target>>, roles: Vec<NotedRole>) -> Result<bool, String> {
        let idle: Vec<NotedRole> = roles.into_iter().filter(|one| !self.is_held(one)).collect();
        if idle.is_empty() {
            return Ok(true);
        }
        let Some(target) = target else {
            return Err(
                "the target is not registered any more: drop its roles by hand, or register it again".to_owned()
            );
        };
        let sweeping = async {
            let _place = self.place(&target.name).await.map_err(|failure| failure.to_string())?;
            let mut admin = self.cleaner(&target).await.map_err(|failure| failure.to_string())?;
            let (mut failed, mut settled) = (None, true);
            for one in idle {
                let key = Key { target: one.target.clone(), role: one.role.clone() };
                // Somebody who has it this moment makes it, or cleans it up.
                let Ok(turn) = self.turn(&key).try_lock_owned() else { continue };
                let cleaned = self.clean(&mut admin, &key).await;
                drop(turn);
                self.forget_slot(&key);
                match cleaned {
                    // Whoever was about to make it may be a crash away: it is looked for once more.
                    Ok(Fate::Absent) if self.is_young(&one) => settled = false,
                    Ok(Fate::Absent) => self.strike(&key).await?,
                    Ok(Fate::InUse) => {}
                    Ok(fate) => info!(target = %key.target, role = %key.role, ?fate, "a role was swept up"),
                    Err(why) => failed = Some(format!("{}: {why}", key.role)),
                }
            }
            failed.map_or(Ok(settled), Err)
        };
        timeout(CLEANING, sweeping).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
    }

    fn is_held(&self, one: &NotedRole) -> bool {
        let key = Key { target: one.target.clone(), role: one.role.clone() };
        self.0.slots.lock().get(&key).is_some_and(|slot| !slot.sessions.is_empty())
    }

    fn is_young(&self, one: &NotedRole) -> bool {
        self.0.clock.now().duration_since(one.noted) < YOUNG
    }
}

/// The first wait after a server could not be swept; it doubles.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(600);
/// How long a role that is not there may still come to be: longer than any statement of the gateway's lasts on a server.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);
