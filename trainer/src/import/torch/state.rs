//! From a pickle to the tensors of a state dict, each checked against its storage.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::{
    super::{
        checkpoint::{Found, check_name, check_shape},
        error::{ImportError, shown},
    },
    archive::{Archive, Entry},
    pickle::{Elements, Pickle, Pickled, Value},
};

/// Keys under which training scripts put a state dict, beside what else they save.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The tensors of the state dict, and the entries of the archive that they lie in, each once.
pub(super) fn tensors<'a, 'f>(
    pickle: &Pickle<'f>,
    archive: &'a Archive<'f>,
) -> Result<(BTreeMap<String, Found>, Vec<&'a Entry<'f>>), ImportError> {
    let mut tensors = BTreeMap::new();
    let mut entries = BTreeMap::new();
    for &(key, value) in state_dict(pickle)? {
        let Value::Text(name) = key else {
            let what = format!("a key of it is {}", key.kind());
            return Err(ImportError::NoStateDict { what });
        };
        check_name(name, tensors.len())?;
        let fail = |what| ImportError::Tensor { tensor: shown(name), what };
        let Value::Tensor(at) = value else {
            return Err(fail(format!("is {}, not a tensor; remove it in Python", value.kind())));
        };
        let tensor = pickle.tensor(at);
        let key = tensor.storage.key;
        // A name of the archive, as any other: it reaches nothing outside.
        let entry = archive.find(&format!("data/{key}"));
        let entry = entry.ok_or_else(|| {
            fail(format!("lies in `data/{}`, which is not in the archive", shown(key)))
        })?;
        let found = locate(tensor, entry).map_err(fail)?;
        check_shape(name, &found.shape)?;
        entries.insert(entry.range.start, entry);
        if tensors.insert(name.to_owned(), found).is_some() {
            return Err(fail("is there twice".into()));
        }
    }
    Ok((tensors, entries.into_values().collect()))
}

/// The dict of tensors: the whole of what was saved, or one of its values.
fn state_dict<'p, 'f>(pickle: &'p Pickle<'f>) -> Result<&'p [(Value<'f>, Value<'f>)], ImportError> {
    let Value::Dict(root) = pickle.root() else {
        let what = format!("it is {}, not a dict", pickle.root().kind());
        return Err(ImportError::NoStateDict { what });
    };
    let root = pickle.dict(root);
    for wrapper in WRAPPERS {
        // As in Python, the last one counts.
        let found = root.iter().rev().find(|(key, _)| *key == Value::Text(wrapper));
        if let Some((_, Value::Dict(inner))) = found {
            return Ok(pickle.dict(*inner));
        }
    }
    if root.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
        return Ok(root);
    }
    let keys = root.iter().take(5).map(|(key, _)| match key {
        Value::Text(text) => format!("`{}`", shown(text)),
        other => other.kind().to_owned(),
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    Err(ImportError::NoStateDict {
        what: format!("it has no `state_dict` and no tensors, but {} keys: {keys}", root.len()),
    })
}

/// Where the elements of a tensor lie, or why they do not.
fn locate(tensor: &Pickled<'_>, entry: &Entry<'_>) -> Result<Found, String> {
    let (dtype, size) = dtype(tensor.storage.elements);
    let natural = |value: i64| usize::try_from(value).map_err(|_| "has a negative size".to_owned());
    let count = natural(tensor.storage.count)?;
    if count.checked_mul(size) != Some(entry.range.len()) {
        return Err(format!(
            "lies in a storage of {count} elements, but `{}` has {} bytes",
            shown(entry.name),
            entry.range.len()
        ));
    }
    let shape =
        tensor.shape.iter().map(|&length| natural(length)).collect::<Result<Vec<_>, _>>()?;
    if tensor.strides.len() != shape.len() {
        return Err("has another number of strides than dimensions".to_owned());
    }
    let too_large = || format!("of shape {shape:?} does not lie within its storage of {count}");
    let elements = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
    let elements = elements.ok_or_else(too_large)?;
    let mut expected = 1;
    for (&length, &stride) in shape.iter().zip(&tensor.strides).rev().filter(|_| elements > 0) {
        // The stride of a dimension of one is never used.
        if length > 1 && usize::try_from(stride) != Ok(expected) {
            return Err("is not stored row by row; save it as `tensor.contiguous()`".to_owned());
        }
        expected *= length;
    }
    let start = natural(tensor.offset)?;
    let end = start.checked_add(elements).filter(|&end| end <= count).ok_or_else(too_large)?;
    let range = entry.range.start + start * size..entry.range.start + end * size;
    Ok(Found { dtype, shape, range })
}

/// The element type, and its size in bytes.
fn dtype(elements: Elements) -> (Dtype, usize) {
    match elements {
        Elements::F64 => (Dtype::F64, 8),
        Elements::F32 => (Dtype::F32, 4),
        Elements::F16 => (Dtype::F16, 2),
        Elements::BF16 => (Dtype::BF16, 2),
        Elements::I64 => (Dtype::I64, 8),
        Elements::I32 => (Dtype::I32, 4),
        Elements::I16 => (Dtype::I16, 2),
        Elements::I8 => (Dtype::I8, 1),
        Elements::U8 => (Dtype::U8, 1),
        Elements::Bool => (Dtype::BOOL, 1),
    }
}
