//! When a call arrived, how much time its headers give it, and what let it in.

use std::time::{Duration, Instant};

use hyper::{HeaderMap, header::HeaderValue};

use crate::{
    endpoint::{ApiError, budget_of, only},
    security::Pass,
};

const TIMEOUT: &str = "grpc-timeout";

/// What the headers of a call say. It travels with the request to the handler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// When the headers arrived.
    pub(super) arrival: Instant,
    /// The budget of each request, as metadata states it.
    budget: Option<Duration>,
    /// gRPC's deadline, which is that of the whole call.
    deadline: Option<Instant>,
    /// What let it in, where keys are needed.
    pub(super) pass: Option<Pass>,
}

impl Call {
    /// Reads the headers of a call that arrived at `arrival` and was let in by `pass`.
    pub(super) fn of(
        headers: &HeaderMap,
        arrival: Instant,
        pass: Option<Pass>,
    ) -> Result<Self, ApiError> {
        let timeout = only(headers, TIMEOUT)?.map(timeout).transpose()?;
        Ok(Self {
            arrival,
            budget: budget_of(headers)?,
            // One that no clock can hold is none.
            deadline: timeout.and_then(|timeout| arrival.checked_add(timeout)),
            pass,
        })
    }

    /// The smaller of the two, for a request that arrived at `arrival` on this call.
    pub(super) fn budget(&self, arrival: Instant) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(arrival));
        self.budget.into_iter().chain(left).min()
    }
}

/// A time of the protocol: one to eight digits and a unit.
fn timeout(value: &HeaderValue) -> Result<Duration, ApiError> {
    let read = || {
        let (unit, digits) = value.as_bytes().split_last()?;
        if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(match unit {
            b'H' => Duration::from_secs(number * 3600),
            b'M' => Duration::from_secs(number * 60),
            b'S' => Duration::from_secs(number),
            b'm' => Duration::from_millis(number),
            b'u' => Duration::from_micros(number),
            b'n' => Duration::from_nanos(number),
            _ => return None,
        })
    };
    read().ok_or(ApiError::BadHeader {
        name: TIMEOUT,
        problem: "must be one to eight digits and one of `H M S m u n`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)], arrival: Instant) -> Result<Call, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Call::of(&headers, arrival, None)
    }

    #[test]
    fn the_smaller_of_deadline_and_metadata_is_the_budget() {
        let now = Instant::now();
        for (pairs, budget) in [
            (&[][..], None),
            (&[("grpc-timeout", "20m")], Some(20_000)),
            (&[("grpc-timeout", "7u")], Some(7)),
            (&[("grpc-timeout", "3S"), ("mprec-sla-ms", "2.5")], Some(2_500)),
            (&[("grpc-timeout", "1000000n"), ("mprec-sla-ms", "2.5")], Some(1_000)),
            (&[("grpc-timeout", "0n")], Some(0)),
        ] {
            let budget = budget.map(Duration::from_micros);
            assert_eq!(read(pairs, now).unwrap().budget(now), budget, "{pairs:?}");
        }
        // A deadline is of the call: later requests on it have less.
        let call = read(&[("grpc-timeout", "20m")], now).unwrap();
        let later = now + Duration::from_millis(15);
        assert_eq!(call.budget(later), Some(Duration::from_millis(5)));
        assert_eq!(call.budget(now + Duration::from_secs(1)), Some(Duration::ZERO));
        assert!(read(&[("grpc-timeout", "99999999H")], now).is_ok());
    }

    #[test]
    fn other_forms_are_refused() {
        let now = Instant::now();
        for text in ["", "m", "5", "5s", "123456789m", "-5m", "+5m", "5.0S", " 5S"] {
            assert!(read(&[("grpc-timeout", text)], now).is_err(), "{text}");
        }
        assert!(read(&[("grpc-timeout", "5S"), ("grpc-timeout", "6S")], now).is_err());
        assert!(read(&[("mprec-sla-ms", "soon")], now).is_err());
    }
}
