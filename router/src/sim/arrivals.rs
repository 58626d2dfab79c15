//! When queries arrive.

use std::{fmt, str::FromStr, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp};

use crate::Time;

use super::SpecError;

/// The most moments that a trace may hold.
pub const MAX_TRACE: usize = 10_000_000;

/// An arrival process, seeded where it is random.
///
/// As text: `poisson:RATE` (exponential gaps, RATE queries a second), `fixed:RATE` (equal gaps), or
/// `trace:FILE`, a file of one arrival per line in seconds from the start, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrivals {
    /// Exponential gaps: `rate` queries a second on average.
    Poisson {
        /// Queries a second.
        rate: f64,
    },
    /// Equal gaps: `rate` queries a second.
    Fixed {
        /// Queries a second.
        rate: f64,
    },
    /// These moments, in order, once.
    Trace(Vec<Time>),
}

impl Arrivals {
    /// Reads the textual form; `read` is given the name of a `trace:` file and returns its text.
    ///
    /// # Errors
    ///
    /// [`SpecError`] that says what is wrong; the text of an error of `read` is kept in it.
    pub fn parse(
        text: &str,
        read: impl FnOnce(&str) -> std::io::Result<String>,
    ) -> Result<Self, SpecError> {
        let unknown = || SpecError::Unknown {
            text: text.to_owned(),
            known: "`poisson:RATE`, `fixed:RATE`, `trace:FILE`",
        };
        let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "poisson" => Ok(Self::Poisson { rate: rate(value)? }),
            "fixed" => Ok(Self::Fixed { rate: rate(value)? }),
            "trace" => {
                let text = read(value).map_err(|error| SpecError::Read {
                    file: value.to_owned(),
                    reason: error.to_string(),
                })?;
                Self::from_trace(&text)
            }
            _ => Err(unknown()),
        }
    }

    /// Reads a trace: one arrival per line, in seconds from the start and in order. Empty lines
    /// and lines that begin with `#` are skipped.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with the number of the line.
    pub fn from_trace(text: &str) -> Result<Self, SpecError> {
        let mut times: Vec<Time> = Vec::new();
        for (line, value) in super::lines(text) {
            let wrong = |reason| SpecError::Line { line, reason };
            let seconds: f64 = value.parse().map_err(|_| wrong("not a number of seconds"))?;
            if !(0.0..1e9).contains(&seconds) {
                return Err(wrong("seconds lie in [0, 1e9)"));
            }
            let time = Time::from_secs_f64(seconds);
            if times.last().is_some_and(|&last| time < last) {
                return Err(wrong("earlier than the line before; sort the trace"));
            }
            if times.len() == MAX_TRACE {
                return Err(wrong("the trace is too long; 10,000,000 arrivals are the limit"));
            }
            times.push(time);
        }
        if times.is_empty() {
            return Err(SpecError::Empty { what: "trace" });
        }
        Ok(Self::Trace(times))
    }

    /// The moments of arrival. Random processes go on for ever, a trace ends.
    pub fn times(&self, seed: u64) -> impl Iterator<Item = Time> + '_ {
        let mut random = StdRng::seed_from_u64(seed ^ 0xA221_7A15);
        let (gaps, rate) = match *self {
            Self::Poisson { rate } => (Exp::new(rate).ok(), rate),
            Self::Fixed { rate } => (None, rate),
            Self::Trace(_) => (None, 0.0),
        };
        let mut count = 0u64;
        let mut seconds = 0.0;
        std::iter::from_fn(move || {
            count += 1;
            match self {
                Self::Trace(times) => times.get(count as usize - 1).copied(),
                Self::Fixed { .. } => Some(Time::from_secs_f64(count as f64 / rate)),
                Self::Poisson { .. } => {
                    seconds += gaps.map_or(1.0 / rate, |gaps| gaps.sample(&mut random));
                    Some(Time::from_secs_f64(seconds))
                }
            }
        })
    }

    /// Average queries a second; `None` for a trace, which says so itself.
    pub fn rate(&self) -> Option<f64> {
        match *self {
            Self::Poisson { rate } | Self::Fixed { rate } => Some(rate),
            Self::Trace(_) => None,
        }
    }

    /// The gap between arrivals on average; `None` for a trace.
    pub fn mean_gap(&self) -> Option<Duration> {
        self.rate().map(|rate| Duration::from_secs_f64(1.0 / rate))
    }
}

impl FromStr for Arrivals {
    type Err = SpecError;

    /// As [`Arrivals::parse`], without files.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text, super::no_files)
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisson { rate } => write!(formatter, "poisson:{rate}"),
            Self::Fixed { rate } => write!(formatter, "fixed:{rate}"),
            Self::Trace(times) => write!(formatter, "trace of {} arrivals", times.len()),
        }
    }
}

fn rate(text: &str) -> Result<f64, SpecError> {
    let wrong = SpecError::Value {
        what: "rate",
        value: text.to_owned(),
        must: "be a number of queries a second in (0, 1e9]",
    };
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_gaps_have_the_mean_and_the_variation_of_an_exponential() {
        let arrivals: Arrivals = "poisson:1000".parse().unwrap();
        let times: Vec<_> = arrivals.times(7).take(200_001).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1].nanos_from(pair[0])).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = gaps.iter().map(|gap| gap * gap).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 1e6 - 1.0).abs() < 0.01, "{mean}");
        assert!((square / (mean * mean) - 2.0).abs() < 0.05, "{square}");
    }

    #[test]
    fn a_seed_gives_the_same_moments_and_another_seed_others() {
        let arrivals = Arrivals::Poisson { rate: 10.0 };
        let first: Vec<_> = arrivals.times(1).take(5).collect();
        assert_eq!(first, arrivals.times(1).take(5).collect::<Vec<_>>());
        assert_ne!(first, arrivals.times(2).take(5).collect::<Vec<_>>());
    }

    #[test]
    fn fixed_gaps_do_not_drift() {
        let last = Arrivals::Fixed { rate: 3_000.0 }.times(0).nth(2_999_999).unwrap();
        assert_eq!(last, Time::from_secs_f64(1_000.0));
    }

    #[test]
    fn a_trace_is_read_and_its_errors_have_line_numbers() {
        let arrivals = Arrivals::parse("trace:a.txt", |name| {
            assert_eq!(name, "a.txt");
            Ok("# recorded\n0.5\n\n0.75\n".into())
        });
        let times: Vec<_> = arrivals.unwrap().times(0).collect();
        assert_eq!(times, [Time::from_millis(500), Time::from_millis(750)]);
        let error = Arrivals::from_trace("1\n0.5\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(Arrivals::from_trace("").is_err());
        assert!(Arrivals::from_trace("inf").is_err());
    }

    #[test]
    fn wrong_texts_say_what_is_known() {
        for text in ["poisson", "poisson:0", "poisson:-1", "poisson:NaN", "fixed:x", "burst:3"] {
            assert!(text.parse::<Arrivals>().is_err(), "{text}");
        }
        let error = "burst:3".parse::<Arrivals>().unwrap_err().to_string();
        assert!(error.contains("`poisson:RATE`"), "{error}");
        assert!("trace:a.txt".parse::<Arrivals>().is_err());
    }
}
