//! The engine on executables whose behaviour the tests choose. Bounds on time are generous: what
//! must happen is tested, how fast is not.

mod failure;
mod fake;
mod groups;
mod lifecycle;
mod queueing;
mod recording;
mod recovery;
mod splitting;
mod statistics;
mod stress;
mod weights;
