//! Checkpoints that other projects' code made, against the scores of that code.

use std::{collections::BTreeSet, fs};

use mprec_representations::{
    BatchShape, Bundle, BundleWriter, Dlrm, Interaction, Jagged, WeightsError,
};
use mprec_trainer::import::{Arch, ImportError, Imported, Layout};

use super::{arch, data, read};

/// How far a score may be from PyTorch's.
const TOLERANCE: f32 = 1e-5;

#[derive(serde::Deserialize)]
struct Case {
    made_by: String,
    dense: Vec<f32>,
    ids: Vec<Vec<i64>>,
    lengths: Vec<Vec<u32>>,
    scores: Vec<f32>,
}

fn checkpoint(name: &str) -> std::path::PathBuf {
    let torch = data().join(format!("{name}.pt"));
    if torch.exists() { torch } else { data().join(format!("{name}.safetensors")) }
}

fn imported(name: &str) -> Imported {
    read(&checkpoint(name), &arch(name)).unwrap_or_else(|error| panic!("{name}: {error}")).1
}

fn case(name: &str) -> Case {
    serde_json::from_slice(&fs::read(data().join(format!("{name}.json"))).unwrap()).unwrap()
}

fn names() -> BTreeSet<String> {
    let files = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path());
    let cases = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    cases.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn checkpoints_score_as_the_code_that_made_them() {
    let names = names();
    assert_eq!(names.len(), 11, "cases are missing: {names:?}");
    for name in names {
        let (case, imported) = (case(&name), imported(&name));
        // By way of a bundle, as they are served.
        let folder = tempfile::tempdir().unwrap();
        let schema = imported.schema.clone();
        let mut writer = BundleWriter::create(folder.path(), "model", "1", schema, None).unwrap();
        let mut written = 0;
        writer
            .add_reporting("v", &imported.spec, &imported.weights, None, &mut |bytes| {
                written += bytes;
            })
            .unwrap();
        writer.finish().unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        bundle.verify().unwrap();
        let bytes = bundle.manifest().variants[0].bytes + 2 * imported.weights.bytes() as u64;
        assert_eq!(written, bytes, "{name}: progress is told of everything");

        let jagged =
            Jagged { ids: case.ids.concat(), lengths: case.lengths.concat(), ..Jagged::default() };
        let shape = BatchShape::new(&imported.schema);
        let batch = shape.from_jagged(case.dense, &jagged).unwrap();
        let scores = bundle.program("v").unwrap().interpret(&batch).unwrap();
        assert_eq!(scores.len(), case.scores.len(), "{name}");
        let spread = case
            .scores
            .iter()
            .fold(0.0_f32, |most, score| most.max((score - case.scores[0]).abs()));
        assert!(spread > 1e-3, "{name}: scores that are all the same show nothing");
        for (got, expected) in scores.iter().zip(&case.scores) {
            let difference = (got - expected).abs();
            assert!(difference <= TOLERANCE, "{name} of {}: {got}, not {expected}", case.made_by);
        }
    }
}

#[test]
fn representations_and_interactions_are_recognised() {
    let dot = Interaction::Dot { itself: false };
    for (name, representation, interaction, cross) in [
        ("dlrm-dot", "table", dot, false),
        ("dlrm-itself", "table", Interaction::Dot { itself: true }, false),
        ("dlrm-cat", "table", Interaction::Cat, false),
        ("qr-mult", "select", dot, false),
        ("mprec-table", "table", Interaction::Cat, false),
        ("mprec-dhe", "dhe", Interaction::Cat, false),
        ("mprec-dhe-mish", "dhe", dot, false),
        ("mprec-hybrid", "hybrid", dot, false),
        ("mprec-select", "select", Interaction::Cat, false),
        ("torchrec-dot", "table", dot, false),
        ("torchrec-dcn", "table", Interaction::Cat, true),
    ] {
        let imported = imported(name);
        assert_eq!(imported.representation(), representation, "{name}");
        assert_eq!(imported.spec.interaction, interaction, "{name}");
        assert_eq!(imported.spec.cross.is_some(), cross, "{name}");
        let torchrec = name.starts_with("torchrec");
        assert_eq!(imported.layout == Layout::Torchrec, torchrec, "{name}");
        Dlrm::load(&imported.schema, &imported.spec, &imported.weights).unwrap();
    }
}

/// Tables stay in the checkpoint's file until they are written: 12 GB are not held twice, nor once.
#[test]
fn tensors_stay_in_their_file() {
    for name in ["dlrm-dot", "mprec-hybrid", "torchrec-dcn"] {
        let imported = imported(name);
        assert!(imported.weights.iter().all(|(_, tensor)| tensor.is_mapped()), "{name}");
    }
}

/// An architecture file with one line replaced.
fn changed(name: &str, from: &str, to: &str) -> Arch {
    let text = fs::read_to_string(data().join(format!("{name}.toml"))).unwrap();
    let new = text.replace(from, to);
    assert_ne!(new, text, "{from}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arch.toml");
    fs::write(&path, new).unwrap();
    Arch::open(path).unwrap()
}

#[test]
fn what_contradicts_the_architecture_is_refused_by_name() {
    let refused = |name: &str, arch: Arch| read(&checkpoint(name), &arch).unwrap_err();
    let of = |name: &str, from: &str, to: &str| refused(name, changed(name, from, to));
    let rows = of("dlrm-dot", "cardinality = 40", "cardinality = 41");
    assert!(
        matches!(&rows, ImportError::Weights(WeightsError::Shape { tensor, got, expected })
            if tensor == "emb_l.1.weight" && got == &[40, 4] && expected == &[41, 4]),
        "{rows}"
    );
    // Names are those of the checkpoint.
    let table = "sparse_arch.embedding_bag_collection.embedding_bags.t_cat_1.weight";
    let rows = of("torchrec-dot", "\"cat_1\"", "\"cat_1\", cardinality = 9").to_string();
    assert!(rows.contains(table), "{rows}");
    for (name, from, to, part) in [
        (
            "dlrm-dot",
            "dense = 3",
            "dense = 4",
            "`bot_l.0.weight` has shape [6, 3], expected [6, 4]",
        ),
        ("dlrm-dot", "dense = 3", "dense = 3\nbottom = [3, 5, 4]", "`bot_l.0."),
        ("dlrm-dot", "dense = 3", "dense = 3\nbottom = [3, 6, 5, 4]", "`bot_l.2.weight`"),
        ("dlrm-dot", "dense = 3", "dense = 3\ntop = [1]", "`top_l.2.bias` belongs to no part"),
        ("dlrm-dot", "dense = 3", "dense = 3\ndim = 5", "`emb_l.0.weight`"),
        ("dlrm-dot", "dense = 3", "dense = 3\ninteraction = \"cat\"", "`top_l.0.weight`"),
        ("dlrm-dot", "dense = 3", "dense = 3\ninteraction = \"cross\"", "states a cross net"),
        ("torchrec-dcn", "\"cross\"", "\"dot\"", "has a cross net"),
        ("torchrec-dot", "dense = 3", "dense = 3\ninteraction = \"cat\"", "torchrec"),
        ("dlrm-dot", "    { name = \"s2\", cardinality = 25 },\n", "", "3 tables and 0 DHEs for 2"),
        ("mprec-select", "[dhe]\nfeatures = [\"s1\"]\n", "", "`dhe.features`"),
        ("mprec-select", "[\"s1\"]", "[\"s0\", \"s1\"]", "`dhe.features`"),
        ("mprec-dhe", ", cardinality = 7", "", "cardinality of `s0`"),
        ("dlrm-dot", "dense = 3", "dense = 3\n[dhe]\nfeatures = [\"s1\"]\n#", "`dhe.features`"),
    ] {
        let name_and_change = format!("{name}, {to}");
        // A table in TOML takes all that follows it, so it goes to the end.
        let arch = if to.contains("[dhe]") && !from.contains("[dhe]") {
            changed(name, "]\n", "]\n[dhe]\nfeatures = [\"s1\"]\n")
        } else {
            changed(name, from, to)
        };
        let error = refused(name, arch).to_string();
        assert!(error.contains(part), "{name_and_change}: {error}");
    }
    let kaggle = refused("dlrm-dot", Arch::kaggle()).to_string();
    assert!(kaggle.contains("3 tables and 0 DHEs for 26 sparse features"), "{kaggle}");
}
