//! Waiting for a moment, more exactly than a sleep does.

use std::{
    hint::spin_loop,
    thread,
    time::{Duration, Instant},
};

/// How much too long a sleep usually takes on Linux (its timer slack): the rest is spun away.
const SLACK: Duration = Duration::from_micros(60);

/// Returns at `moment`, or at once if it has passed.
pub(super) fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if left > SLACK {
        thread::sleep(left - SLACK);
    }
    while Instant::now() < moment {
        spin_loop();
    }
}
