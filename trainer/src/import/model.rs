//! From renamed tensors and an architecture to a variant: what names and shapes tell.

use std::collections::{BTreeMap, BTreeSet};

use mprec_representations::{
    CrossSpec, DheSpec, Dlrm, DlrmSpec, Interaction, MAX_LAYERS, Precision, RepresentationSpec,
    Schema, SparseFeature, Weights, WeightsError, bundle::Preprocessing,
};

use super::{
    arch::{Arch, Meeting},
    checkpoint::{Checkpoint, Storage},
    error::ImportError,
    layout::{Layout, Named, rename},
    weights,
};

/// A model out of a checkpoint, its tensors still in the checkpoint's file.
#[derive(Debug)]
pub struct Imported {
    /// Whose names the checkpoint uses.
    pub layout: Layout,
    /// The features.
    pub schema: Schema,
    /// How raw values became features, as the architecture declares it.
    pub preprocessing: Option<Preprocessing>,
    /// The architecture.
    pub spec: DlrmSpec,
    /// The parameters, named as in a bundle.
    pub weights: Weights,
    /// What they are called in the checkpoint.
    pub(super) names: BTreeMap<String, String>,
    /// What holds them, where there are checksums.
    pub(super) storages: Vec<Storage>,
}

impl Imported {
    /// A word for the variant: its features' representation, or `select` if they differ.
    pub fn representation(&self) -> &'static str {
        let mut names = self.spec.features.iter().map(RepresentationSpec::name);
        let first = names.next().unwrap_or("table");
        if names.all(|name| name == first) { first } else { "select" }
    }
}

/// The model of `arch` whose parameters `checkpoint` holds. Reads descriptions only: see [`Imported::verify`].
///
/// # Errors
///
/// [`ImportError`], which names the tensor that is missing, left over, or of another type or shape.
pub fn import(checkpoint: &Checkpoint, arch: &Arch) -> Result<Imported, ImportError> {
    let (layout, tensors) = rename(checkpoint, arch)?;
    let mut model = Model { arch, layout, tensors };
    let normalised = model.renumber()?;
    let schema = model.schema()?;
    let spec = model.spec(&normalised)?;
    spec.check(&schema)?;
    let imported = weights::take(checkpoint, model.tensors, &normalised, layout, &spec, &schema)?;
    Dlrm::load(&schema, &spec, &imported.weights)
        .and_then(|model| model.lower())
        .map_err(ImportError::from)?;
    Ok(Imported {
        layout,
        preprocessing: arch.preprocessing.clone(),
        schema,
        spec,
        weights: imported.weights,
        names: imported.names,
        storages: imported.storages,
    })
}

/// What a checkpoint holds, tensors under the names of a bundle.
struct Model<'a> {
    arch: &'a Arch,
    layout: Layout,
    tensors: BTreeMap<String, Named<'a>>,
}

/// Number of the layer after the last one of a decoder, by feature: where its batch normalisation is.
pub(super) type Normalised = BTreeMap<usize, usize>;

const TABLE: &str = "emb_l.";
const DHES: [&str; 2] = ["dhe_l.hash_params.", "dhe_l.dhe_mlps."];

impl Model<'_> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.found.shape[..])
    }

    /// A length of a matrix, if it is there.
    fn length(&self, name: &str, dimension: usize) -> Option<usize> {
        self.shape(name)?.get(dimension).copied()
    }

    /// Numbers that follow a prefix in names.
    fn numbers(&self, prefix: &str) -> BTreeSet<usize> {
        let from = self.tensors.range(prefix.to_owned()..);
        let names = from.map_while(|(name, _)| name.strip_prefix(prefix));
        names.filter_map(|rest| rest.split('.').next()?.parse().ok()).collect()
    }

    /// Gives the tables and DHEs of a select the numbers of their features: a checkpoint counts each kind by itself. Returns
    /// the decoders that end in a batch normalisation.
    fn renumber(&mut self) -> Result<Normalised, ImportError> {
        let features = self.arch.sparse.len();
        let (tables, dhes) = (self.numbers(TABLE).len(), self.numbers(DHES[0]).len());
        let whole = |count| count == features || count == 0;
        let select = !whole(tables) || !whole(dhes);
        let fail = |hint| Err(ImportError::Features { tables, dhes, features, hint });
        if select {
            if tables + dhes != features {
                return fail("; correct the list of features");
            }
            let Some(chosen) = &self.arch.dhe.features else {
                return fail("; name those with a DHE in `dhe.features` of an architecture file");
            };
            let (dhe, table): (Vec<usize>, Vec<usize>) = (0..features)
                .partition(|&feature| chosen.contains(&self.arch.sparse[feature].name));
            if dhe.len() != dhes {
                return fail("; `dhe.features` names another number of them");
            }
            let tensors = std::mem::take(&mut self.tensors);
            let renumbered = tensors.into_iter().map(|(name, tensor)| {
                let kinds = [(TABLE, &table), (DHES[0], &dhe), (DHES[1], &dhe)];
                let new = kinds.iter().find_map(|(prefix, features)| {
                    let rest = name.strip_prefix(prefix)?;
                    let (number, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                    let feature = features.get(number.parse::<usize>().ok()?)?;
                    Some(format!("{prefix}{feature}{after}"))
                });
                (new.unwrap_or(name), tensor)
            });
            self.tensors = renumbered.collect();
        } else if tables == 0 && dhes == 0 {
            return fail("; correct the list of features");
        } else if let Some(chosen) = &self.arch.dhe.features
            && (tables == features || chosen.len() != features)
        {
            return fail("; `dhe.features` names another number of them");
        }
        let mut normalised = Normalised::new();
        for feature in self.numbers(DHES[1]) {
            let layer = 2 * self.layers(&format!("{}{feature}", DHES[1])).len();
            let mean = format!("{}{feature}.{layer}.running_mean", DHES[1]);
            if self.tensors.contains_key(&mean) {
                normalised.insert(feature, layer);
            }
        }
        Ok(normalised)
    }

    /// Outputs of the layers of a net: its matrices, every other number as activations lie between them.
    fn layers(&self, net: &str) -> Vec<usize> {
        let weight = |at: usize| self.shape(&format!("{net}.{}.weight", 2 * at));
        (0..=MAX_LAYERS)
            .map_while(|at| weight(at).filter(|shape| shape.len() == 2))
            .map(|shape| shape[0])
            .collect()
    }

    fn schema(&self) -> Result<Schema, ImportError> {
        let sparse = self.arch.sparse.iter().enumerate().map(|(at, feature)| {
            let rows = || self.length(&format!("emb_l.{at}.weight"), 0).map(|rows| rows as u64);
            let cardinality = feature.cardinality.or_else(rows).ok_or_else(|| {
                let why = "it has no table whose rows would tell".to_owned();
                ImportError::Unstated { key: format!("the cardinality of `{}`", feature.name), why }
            })?;
            Ok(SparseFeature { name: feature.name.clone(), cardinality })
        });
        let sparse = sparse.collect::<Result<_, ImportError>>()?;
        Ok(Schema::new(self.arch.dense.clone(), sparse, self.arch.out_of_vocabulary)?)
    }

    fn spec(&self, normalised: &Normalised) -> Result<DlrmSpec, ImportError> {
        for net in ["bot_l", "top_l"] {
            if self.layers(net).is_empty() {
                let expected = "a matrix [outputs, inputs]".to_owned();
                let tensor = format!("{net}.0.weight");
                return Err(WeightsError::Missing { tensor, expected }.into());
            }
        }
        let features = 0..self.arch.sparse.len();
        let features: Vec<_> = features.map(|feature| self.feature(feature, normalised)).collect();
        let bottom = self.arch.bottom.clone().unwrap_or_else(|| {
            let mut bottom = vec![self.arch.dense.len()];
            bottom.extend(self.layers("bot_l"));
            bottom
        });
        let mut spec = DlrmSpec {
            bottom,
            top: Vec::new(),
            interaction: Interaction::Cat,
            cross: self.cross()?,
            features,
            precision: Precision::default(),
        };
        spec.interaction = self.interaction(&spec)?;
        spec.top = vec![spec.interaction_width()];
        match &self.arch.top {
            Some(top) => spec.top.extend(top),
            None => {
                let mut layers = self.layers("top_l");
                // A score is one number: a net with more outputs is refused by the shape of its last layer.
                layers.pop();
                spec.top.extend(layers);
                spec.top.push(1);
            }
        }
        Ok(spec)
    }

    fn feature(&self, feature: usize, normalised: &Normalised) -> RepresentationSpec {
        let table = format!("emb_l.{feature}.weight");
        let (quotients, remainders) = (format!("{table}_q"), format!("{table}_r"));
        if let Some(dim) = self.length(&quotients, 1) {
            return RepresentationSpec::QuotientRemainder {
                dim,
                collisions: self.length(&remainders, 0).unwrap_or(1).max(1) as u64,
                combination: self.arch.quotient_remainder,
            };
        }
        let dim = self.arch.dim.or_else(|| self.length(&table, 1)).unwrap_or(1);
        let hashes = self.length(&format!("dhe_l.hash_params.{feature}"), 0);
        let Some(hashes) = hashes else {
            return RepresentationSpec::Table { dim };
        };
        let mut hidden = self.layers(&format!("dhe_l.dhe_mlps.{feature}"));
        let dhe = DheSpec {
            hashes,
            transform: self.arch.dhe.transform,
            dim: hidden.pop().unwrap_or(dim),
            hidden,
            activation: self.arch.dhe.activation,
            normalised: normalised.contains_key(&feature),
        };
        if self.numbers(TABLE).contains(&feature) {
            RepresentationSpec::Hybrid { dim, dhe }
        } else {
            RepresentationSpec::Dhe(dhe)
        }
    }

    /// The cross net, if the checkpoint has one and the architecture does not say otherwise.
    fn cross(&self) -> Result<Option<CrossSpec>, ImportError> {
        let layers = self.numbers("cross_l.").len();
        let contradiction = |stated: &str, found: &str| {
            Err(ImportError::Contradiction { stated: stated.to_owned(), found: found.to_owned() })
        };
        match (layers, self.arch.interaction) {
            (0, Some(Meeting::Cross)) => contradiction("a cross net", "none"),
            (0, _) => Ok(None),
            (_, Some(Meeting::Dot | Meeting::Cat)) => contradiction("none", "a cross net"),
            (_, None | Some(Meeting::Cross)) => {
                let rank = self.length("cross_l.0.v.weight", 0).unwrap_or(1);
                Ok(Some(CrossSpec { layers, rank }))
            }
        }
    }

    /// The interaction: as stated, or that whose width the top net has.
    fn interaction(&self, spec: &DlrmSpec) -> Result<Interaction, ImportError> {
        if spec.cross.is_some() {
            return Ok(Interaction::Cat);
        }
        let dots = match self.arch.self_interaction {
            Some(itself) => vec![Interaction::Dot { itself }],
            None => vec![Interaction::Dot { itself: false }, Interaction::Dot { itself: true }],
        };
        let torchrec = self.layout == Layout::Torchrec;
        let candidates = match self.arch.interaction {
            Some(Meeting::Cat) if torchrec => {
                let stated = "interaction `cat`".to_owned();
                let found =
                    "torchrec's names, whose models meet by `dot` or a cross net".to_owned();
                return Err(ImportError::Contradiction { stated, found });
            }
            Some(Meeting::Cat) => vec![Interaction::Cat],
            Some(_) => dots,
            None if torchrec => dots,
            None => [dots, vec![Interaction::Cat]].concat(),
        };
        if torchrec && self.arch.self_interaction == Some(true) {
            let stated = "interaction of vectors with themselves".to_owned();
            let found = "torchrec's names, whose models have none".to_owned();
            return Err(ImportError::Contradiction { stated, found });
        }
        let width = self.length("top_l.0.weight", 1);
        let equal = spec.bottom.last();
        let dims = spec.features.iter().map(RepresentationSpec::widths);
        let same = dims.flat_map(|(a, b)| [a, b]).flatten().all(|dim| Some(&dim) == equal);
        let fits = candidates.iter().copied().filter(|&interaction| {
            let possible = same || interaction == Interaction::Cat;
            let spec = DlrmSpec { interaction, ..spec.clone() };
            possible && Some(spec.interaction_width()) == width
        });
        match fits.collect::<Vec<_>>()[..] {
            [fit] => Ok(fit),
            // The shape of the top net's first layer then says what is wrong.
            [] => Ok(candidates[0]),
            _ => Err(ImportError::Unstated {
                key: "`interaction`".to_owned(),
                why: format!(
                    "several give the {} values that the top net takes; state it and `self_interaction`",
                    width.unwrap_or(0)
                ),
            }),
        }
    }
}

/// Where torchrec's dot has the product of vectors `row` and `column`, `column < row`, among all of `vectors`: it goes
/// through the upper triangle of the products, (0,1), (0,2), …, while a bundle's goes through the lower one.
pub(super) fn upper(vectors: usize, row: usize, column: usize) -> usize {
    let before = column * (2 * vectors - column - 1) / 2;
    before + row - column - 1
}

/// Whether a torchrec model's products have to change places.
pub(super) fn reordered(layout: Layout, spec: &DlrmSpec) -> bool {
    layout == Layout::Torchrec && matches!(spec.interaction, Interaction::Dot { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_torchrec_are_found_by_their_vectors() {
        for vectors in 1..9 {
            let mut place = 0;
            for column in 0..vectors {
                for row in column + 1..vectors {
                    assert_eq!(upper(vectors, row, column), place);
                    place += 1;
                }
            }
        }
    }
}
