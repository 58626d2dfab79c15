//! Table and DHE side by side: the interaction sees both vectors of a feature. They are trained
//! together, so a hybrid shares no weights with the table or the DHE variant.

use crate::{
    dhe::Dhe,
    error::ProgramError,
    program::ProgramBuilder,
    representation::{Cost, Representation, Vectors},
    table::Table,
};

/// A table and a DHE for the same ids.
#[derive(Debug)]
pub struct Hybrid {
    /// The stored half.
    pub table: Table,
    /// The computed half.
    pub dhe: Dhe,
}

impl Representation for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn cost(&self) -> Cost {
        self.table.cost() + self.dhe.cost()
    }

    fn lower(&self, feature: usize, program: &mut ProgramBuilder) -> Result<Vectors, ProgramError> {
        let Vectors { stored, .. } = self.table.lower(feature, program)?;
        let Vectors { computed, .. } = self.dhe.lower(feature, program)?;
        Ok(Vectors { stored, computed })
    }
}
