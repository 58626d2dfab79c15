//! Whose names a checkpoint's tensors have, and what they are called in a bundle.

use std::{collections::BTreeMap, fmt};

use super::{
    arch::Arch,
    checkpoint::{Checkpoint, Found},
    error::{ImportError, shown},
};

/// Whose names the tensors of a checkpoint have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `emb_l.0.weight`, `dhe_l.…`, `bot_l.…`, `top_l.…`: `facebookresearch/dlrm` and MP-Rec's artifact.
    Dlrm,
    /// `sparse_arch.…`, `dense_arch.…`, `inter_arch.…`, `over_arch.…`: torchrec.
    Torchrec,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dlrm => "facebookresearch/dlrm",
            Self::Torchrec => "torchrec",
        })
    }
}

/// The parts of a model in each layout.
const DLRM: [&str; 5] = ["emb_l.", "dhe_l.", "bot_l.", "top_l.", "v_W_l."];
const TORCHREC: [&str; 4] = ["sparse_arch.", "dense_arch.", "inter_arch.", "over_arch."];

const KNOWN: &str = "names are those of facebookresearch/dlrm (`emb_l.0.weight`), MP-Rec's artifact (`dhe_l.…`) or \
                     torchrec (`sparse_arch.…`), all behind the same prefix or none";

/// A tensor under its name in the bundle, and its name in the checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'c> {
    pub(super) theirs: &'c str,
    pub(super) found: &'c Found,
}

/// The checkpoint's tensors under their names in a bundle.
///
/// Tables and DHEs are numbered as the checkpoint does: features of a select are not numbered yet. In torchrec's names,
/// numbers of tables are those of the architecture's features.
pub(super) fn rename<'c>(
    checkpoint: &'c Checkpoint,
    arch: &Arch,
) -> Result<(Layout, BTreeMap<String, Named<'c>>), ImportError> {
    let mut names = checkpoint.names();
    let first = names
        .next()
        .ok_or_else(|| ImportError::NoStateDict { what: "it has no tensors".to_owned() })?;
    let (layout, prefix) = layout(first)?;
    let over = last_layer(checkpoint, prefix);
    let mut renamed = BTreeMap::new();
    for (theirs, found) in checkpoint.tensors() {
        let refused = |what| ImportError::Names { tensor: shown(theirs), what };
        // Wrappers such as `DistributedDataParallel` put one name before all: another one would be another model.
        if self::layout(theirs)? != (layout, prefix) {
            return Err(refused(KNOWN));
        }
        let name = &theirs[prefix.len()..];
        let ours = match layout {
            Layout::Dlrm if name.starts_with("v_W_l.") => {
                return Err(refused(
                    "learned weights of ids are not supported; multiply them into the rows in Python",
                ));
            }
            Layout::Dlrm => name.to_owned(),
            Layout::Torchrec => torchrec(name, arch, over).ok_or_else(|| refused(KNOWN))?,
        };
        let named = Named { theirs, found };
        if let Some(other) = renamed.insert(ours, named) {
            let tensor = shown(theirs);
            let what = format!("and `{}` are the same part of the model", shown(other.theirs));
            return Err(ImportError::Tensor { tensor, what });
        }
    }
    Ok((layout, renamed))
}

/// The layout that a name belongs to, and what stands before it.
fn layout(name: &str) -> Result<(Layout, &str), ImportError> {
    let candidates = DLRM
        .iter()
        .map(|part| (Layout::Dlrm, part))
        .chain(TORCHREC.iter().map(|part| (Layout::Torchrec, part)));
    let found = candidates.filter_map(|(layout, part)| {
        let at = name.find(part)?;
        (at == 0 || name[..at].ends_with('.')).then_some((at, layout))
    });
    let (at, layout) = found
        .min_by_key(|(at, _)| *at)
        .ok_or_else(|| ImportError::Names { tensor: shown(name), what: KNOWN })?;
    Ok((layout, &name[..at]))
}

/// How many hidden layers torchrec's top net has: its last layer is numbered apart from them.
fn last_layer(checkpoint: &Checkpoint, prefix: &str) -> usize {
    let hidden = format!("{prefix}over_arch.model.0._mlp.");
    let numbers = checkpoint.names().filter_map(|name| {
        let (number, _) = name.strip_prefix(&hidden)?.split_once('.')?;
        Some(number.parse::<usize>().ok()?.saturating_add(1))
    });
    numbers.max().unwrap_or(0)
}

/// A name of torchrec's in the bundle.
fn torchrec(name: &str, arch: &Arch, last: usize) -> Option<String> {
    let layer = |net: &str, rest: &str| {
        let (number, part) = rest.split_once("._linear.")?;
        let number: usize = number.parse().ok()?;
        Some(format!("{net}.{}.{part}", number.checked_mul(2)?))
    };
    if let Some(rest) = name.strip_prefix("sparse_arch.embedding_bag_collection.embedding_bags.") {
        let table = rest.strip_suffix(".weight")?;
        return Some(format!("emb_l.{}.weight", feature(table, arch)?));
    }
    if let Some(rest) = name.strip_prefix("dense_arch.model._mlp.") {
        return layer("bot_l", rest);
    }
    if let Some(rest) = name.strip_prefix("over_arch.model.0._mlp.") {
        return layer("top_l", rest);
    }
    if let Some(part) = name.strip_prefix("over_arch.model.1.") {
        return Some(format!("top_l.{}.{part}", last.checked_mul(2)?));
    }
    let (kind, number) = name.strip_prefix("inter_arch.crossnet.")?.split_once('.')?;
    let part = match kind {
        "V_kernels" => "v.weight",
        "W_kernels" => "w.weight",
        "bias" => "w.bias",
        _ => return None,
    };
    Some(format!("cross_l.{}.{part}", number.parse::<usize>().ok()?))
}

/// The feature of one of torchrec's tables: as the architecture says, or by the feature's name or number in it.
fn feature(table: &str, arch: &Arch) -> Option<usize> {
    let stated = |feature: &super::arch::Sparse| match &feature.table {
        Some(name) => name == table,
        None => table.strip_prefix("t_") == Some(&feature.name),
    };
    if let Some(at) = arch.sparse.iter().position(stated) {
        return Some(at);
    }
    let at: usize = table.strip_prefix("t_cat_")?.parse().ok()?;
    arch.sparse.get(at).filter(|feature| feature.table.is_none()).map(|_| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_wrappers_are_seen() {
        assert_eq!(layout("emb_l.0.weight").unwrap(), (Layout::Dlrm, ""));
        assert_eq!(layout("module.bot_l.0.bias").unwrap(), (Layout::Dlrm, "module."));
        let name =
            "module.model.sparse_arch.embedding_bag_collection.embedding_bags.t_cat_0.weight";
        assert_eq!(layout(name).unwrap(), (Layout::Torchrec, "module.model."));
        assert!(layout("xemb_l.0.weight").is_err());
        assert!(layout("classifier.weight").is_err());
    }

    #[test]
    fn torchrec_names_have_one_meaning_each() {
        let mut arch = Arch::kaggle();
        arch.sparse[3].table = Some("odd".into());
        let bag = |table: &str| {
            let name =
                format!("sparse_arch.embedding_bag_collection.embedding_bags.{table}.weight");
            torchrec(&name, &arch, 2)
        };
        assert_eq!(bag("t_cat_0").as_deref(), Some("emb_l.0.weight"));
        assert_eq!(bag("t_C2").as_deref(), Some("emb_l.1.weight"));
        assert_eq!(bag("odd").as_deref(), Some("emb_l.3.weight"));
        assert_eq!((bag("t_cat_3"), bag("t_cat_26"), bag("t_C27")), (None, None, None));
        let name = |name: &str| torchrec(name, &arch, 2);
        assert_eq!(name("dense_arch.model._mlp.1._linear.bias").as_deref(), Some("bot_l.2.bias"));
        assert_eq!(
            name("over_arch.model.0._mlp.1._linear.weight").as_deref(),
            Some("top_l.2.weight")
        );
        assert_eq!(name("over_arch.model.1.weight").as_deref(), Some("top_l.4.weight"));
        let cross = "inter_arch.crossnet.";
        assert_eq!(name(&format!("{cross}V_kernels.2")).as_deref(), Some("cross_l.2.v.weight"));
        assert_eq!(name(&format!("{cross}bias.0")).as_deref(), Some("cross_l.0.w.bias"));
        assert_eq!(name(&format!("{cross}kernels.0")), None);
        assert_eq!(name("dense_arch.model._mlp.99999999999999999999._linear.bias"), None);
    }
}
