//! The thread that answers expired queries while every worker is busy.
//!
//! It sleeps until the earliest deadline in any queue has passed by a moment. Workers look for
//! expired queries whenever they take a batch, so it finds some only when all are busy for long:
//! a slow path, an overload, a device that hangs.

use std::time::Duration;

use mprec_router::{DeviceId, Time};

use super::{shared::Shared, state::Phase, ticket::post};

/// How long after a deadline it looks: workers usually were there first, and then it need not wake.
const GRACE: Duration = Duration::from_millis(1);

/// Works until the engine stops.
pub(super) fn keep_house(shared: &Shared) {
    let mut letters = Vec::new();
    let mut expired = Vec::new();
    let mut state = shared.state();
    while state.phase != Phase::Stopped {
        let now = shared.clock.now();
        state.forget_gone(&shared.gone, now);
        for device in 0..state.router.state().profiles().devices().len() {
            // There are at most as many devices as paths, which `PathId` numbers in 16 bits.
            state.router.take_expired(DeviceId(device as u16), now, &mut expired);
        }
        state.expire(&expired, now, &mut letters);
        expired.clear();
        shared.report_idle(&state);
        if !letters.is_empty() {
            drop(state);
            post(&mut letters);
            state = shared.state();
            continue;
        }
        let router = state.router.state();
        let heads = router.profiles().ids().filter_map(|path| router.path(path).queue.head());
        let next = heads.map(|head| head.deadline + GRACE).min();
        state.housekeeping = next.unwrap_or(Time::MAX);
        state = shared.await_chores(state);
    }
}
