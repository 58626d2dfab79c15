//! A policy and the state it decides on.

use std::time::Duration;

use crate::{
    Batch, ConfigError, Decision, DeviceId, Next, Policy, PolicyError, PolicyName, Profiles, Query,
    Refusal, RefuseReason, RouterConfig, RouterState, Time,
};

/// A policy and its state: what a server's engine holds, and what the simulator runs.
///
/// See the crate documentation for the order of calls.
#[derive(Debug)]
pub struct Router {
    state: RouterState,
    policy: Box<dyn Policy>,
}

/// What makes a router impossible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy does not fit the profiles.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Router {
    /// A router over these paths.
    ///
    /// # Errors
    ///
    /// [`RouterError`] if a key of `config` is out of range or the policy names an unknown path.
    pub fn new(
        profiles: Profiles,
        policy: &PolicyName,
        config: RouterConfig,
    ) -> Result<Self, RouterError> {
        let policy = policy.build(&profiles)?;
        Ok(Self { state: RouterState::new(profiles, config)?, policy })
    }

    /// A router with a policy of the caller's own.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a key of `config` is out of range.
    pub fn with_policy(
        profiles: Profiles,
        policy: Box<dyn Policy>,
        config: RouterConfig,
    ) -> Result<Self, ConfigError> {
        Ok(Self { state: RouterState::new(profiles, config)?, policy })
    }

    /// Decides a query and, if it is admitted, queues it.
    ///
    /// The bound on waiting queries holds for every policy alike.
    pub fn submit(&mut self, query: &Query, now: Time) -> Decision {
        if self.state.queued() >= self.state.config().max_queued {
            let retry_after = Duration::from_millis(1).max(query.sla() / 2);
            return Decision::Refuse(Refusal { reason: RefuseReason::QueueFull, retry_after });
        }
        let decision = self.policy.decide(query, &self.state, now);
        if let Decision::Admit(admission) = &decision {
            self.state.admit(query, admission, now);
        }
        decision
    }

    /// See [`RouterState::next_batch`].
    pub fn next_batch(&mut self, device: DeviceId, now: Time, batch: &mut Batch) -> Next {
        self.state.next_batch(device, now, batch)
    }

    /// See [`RouterState::completed`].
    pub fn completed(&mut self, batch: &mut Batch, observed: Duration, now: Time) {
        self.state.completed(batch, observed, now);
    }

    /// What decisions are made on.
    pub fn state(&self) -> &RouterState {
        &self.state
    }

    /// What decisions are made on, for the rarer events: failure, cancellation, health.
    pub fn state_mut(&mut self) -> &mut RouterState {
        &mut self.state
    }

    /// The policy's name.
    pub fn policy(&self) -> PolicyName {
        self.policy.name()
    }
}
