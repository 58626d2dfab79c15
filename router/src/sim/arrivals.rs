//! When queries arrive.

use std::{fmt, str::FromStr, time::Duration};

use crate::Time;

use super::{SpecError, process::Moments};

/// The most moments that a trace may hold.
pub const MAX_TRACE: usize = 10_000_000;

/// An arrival process, seeded where it is random.
///
/// As text, where RATE is the mean number of queries a second:
///
/// | text | process |
/// |---|---|
/// | `poisson:RATE` | exponential gaps |
/// | `fixed:RATE` | equal gaps |
/// | `bursty:RATE,TIMES,SHARE,SECONDS` | Poisson whose rate is TIMES the mean in bursts, which take SHARE of the time and last SECONDS on average (a Markov-modulated Poisson process of two states) |
/// | `diurnal:RATE,SWING,PERIOD` | Poisson whose rate swings by the share SWING around the mean, as a sine of PERIOD seconds that begins at the mean and rises |
/// | `deeprecsys:GAP` | gaps of whole milliseconds from a Poisson law of mean GAP, as DeepRecSys' load generator draws them: smoother than a Poisson process |
/// | `trace:FILE` | a file of one arrival per line in seconds from the start, in order |
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
    /// A Poisson process of two rates that alternate after exponential times.
    Bursty {
        /// Queries a second, over bursts and calm.
        rate: f64,
        /// The rate in bursts, as a multiple of `rate`; 1 or more, and `times · share` at most 1.
        times: f64,
        /// Share of the time that bursts take, in (0, 1).
        share: f64,
        /// How long a burst lasts on average, seconds.
        seconds: f64,
    },
    /// A Poisson process of rate `rate · (1 + swing · sin(2πt / period))`.
    Diurnal {
        /// Queries a second, over whole periods.
        rate: f64,
        /// How far the rate swings, as a share of the mean, in [0, 1].
        swing: f64,
        /// Seconds.
        period: f64,
    },
    /// Gaps of whole milliseconds, Poisson distributed.
    DeepRecSys {
        /// The mean gap, milliseconds.
        gap_ms: f64,
    },
    /// These moments, in order, once.
    Trace(Vec<Time>),
}

/// The forms that [`Arrivals::parse`] reads.
const KNOWN: &str = "`poisson:RATE`, `fixed:RATE`, `bursty:RATE,TIMES,SHARE,SECONDS`, \
    `diurnal:RATE,SWING,PERIOD`, `deeprecsys:GAP`, `trace:FILE`";

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
        let unknown = || SpecError::Unknown { text: text.to_owned(), known: KNOWN };
        let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "poisson" => Ok(Self::Poisson { rate: rate(value)? }),
            "fixed" => Ok(Self::Fixed { rate: rate(value)? }),
            "bursty" => {
                let [mean, times, share, seconds] = parts(value).ok_or_else(unknown)?;
                let (rate, share) = (rate(mean)?, number("share", share, SHARE)?);
                let most = Bounds { most: 1.0 / share, must: "be in [1, 1/SHARE]", ..TIMES };
                let times = number("burst", times, most)?;
                Ok(Self::Bursty { rate, times, share, seconds: number("burst", seconds, SPAN)? })
            }
            "diurnal" => {
                let [mean, swing, period] = parts(value).ok_or_else(unknown)?;
                let (rate, swing) = (rate(mean)?, number("swing", swing, SWING)?);
                Ok(Self::Diurnal { rate, swing, period: number("period", period, SPAN)? })
            }
            "deeprecsys" => Ok(Self::DeepRecSys { gap_ms: number("gap", value, GAP)? }),
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
        Moments::new(self, seed)
    }

    /// Average queries a second; `None` for a trace, which says so itself.
    pub fn rate(&self) -> Option<f64> {
        match *self {
            Self::Poisson { rate }
            | Self::Fixed { rate }
            | Self::Bursty { rate, .. }
            | Self::Diurnal { rate, .. } => Some(rate),
            Self::DeepRecSys { gap_ms } => Some(1e3 / gap_ms),
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
            Self::Bursty { rate, times, share, seconds } => {
                write!(formatter, "bursty:{rate},{times},{share},{seconds}")
            }
            Self::Diurnal { rate, swing, period } => {
                write!(formatter, "diurnal:{rate},{swing},{period}")
            }
            Self::DeepRecSys { gap_ms } => write!(formatter, "deeprecsys:{gap_ms}"),
            Self::Trace(times) => write!(formatter, "trace of {} arrivals", times.len()),
        }
    }
}

/// What a number may be: above or at `least`, and at most `most`.
#[derive(Clone, Copy)]
struct Bounds {
    least: f64,
    most: f64,
    must: &'static str,
}

const RATE: Bounds = Bounds {
    least: f64::MIN_POSITIVE,
    most: 1e9,
    must: "be a number of queries a second in (0, 1e9]",
};
const TIMES: Bounds = Bounds { least: 1.0, most: 1.0, must: "" };
// A burst of a shorter share of the time would be so much rarer that a trace hardly sees one.
const SHARE: Bounds = Bounds { least: 1e-4, most: 0.999, must: "be in [0.0001, 0.999]" };
const SWING: Bounds = Bounds { least: 0.0, most: 1.0, must: "be in [0, 1]" };
const SPAN: Bounds = Bounds { least: 1e-4, most: 1e7, must: "be in [0.0001, 1e7] seconds" };
const GAP: Bounds = Bounds { least: 1e-3, most: 1e6, must: "be in [0.001, 1e6] milliseconds" };

fn rate(text: &str) -> Result<f64, SpecError> {
    number("rate", text, RATE)
}

fn number(what: &'static str, text: &str, bounds: Bounds) -> Result<f64, SpecError> {
    match text.trim().parse::<f64>() {
        Ok(value) if (bounds.least..=bounds.most).contains(&value) => Ok(value),
        _ => Err(SpecError::Value { what, value: text.to_owned(), must: bounds.must }),
    }
}

/// The values between commas, if there are just as many.
fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split(',').collect::<Vec<_>>().try_into().ok()
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
        for text in ["poisson:3", "bursty:100,4,0.1,0.5", "diurnal:9,0.5,60", "deeprecsys:2.5"] {
            assert_eq!(text.parse::<Arrivals>().unwrap().to_string(), text);
        }
        for text in [
            "poisson",
            "poisson:0",
            "poisson:-1",
            "poisson:NaN",
            "fixed:x",
            "burst:3",
            "bursty:3",
            "bursty:100,11,0.1,1",
            "bursty:100,0.5,0.1,1",
            "bursty:100,2,0,1",
            "diurnal:100,1.5,60",
            "diurnal:100,0.5,0",
            "diurnal:100,0.5",
            "deeprecsys:0",
        ] {
            assert!(text.parse::<Arrivals>().is_err(), "{text}");
        }
        let error = "burst:3".parse::<Arrivals>().unwrap_err().to_string();
        assert!(error.contains("`poisson:RATE`"), "{error}");
        assert!("trace:a.txt".parse::<Arrivals>().is_err());
    }
}
