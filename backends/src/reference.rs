//! The reference backend: the interpreter that defines every operation, behind the same traits.
//!
//! It supports everything, on every machine, slowly. Tests hold other backends to it, and a user
//! can run `variant@reference` to see whether a doubtful score is a kernel's fault.

use mprec_representations::{Batch, Program};

use crate::{
    backend::{Backend, Executable, check},
    error::BackendError,
    path::BackendKind,
};

/// Executes programs with [`Program::interpret`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ReferenceBackend;

#[derive(Debug)]
struct Interpreted {
    program: Program,
}

impl Backend for ReferenceBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Reference
    }

    fn prepare(&self, program: &Program) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Interpreted { program: program.clone() }))
    }
}

impl Executable for Interpreted {
    fn run(&mut self, batch: &Batch, scores: &mut [f32]) -> Result<(), BackendError> {
        check(&self.program, batch, scores)?;
        scores.copy_from_slice(&self.program.interpret(batch)?);
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Executable>, BackendError> {
        Ok(Box::new(Self { program: self.program.clone() }))
    }

    fn bytes(&self) -> usize {
        self.program.bytes()
    }
}
