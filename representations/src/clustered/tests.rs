use super::{
    k_means::{Clusters, steps},
    *,
};
use crate::{BatchShape, Jagged, ProgramBuilder, Schema, SparseFeature};

/// Codes, by id from 0: (-1, -1), (0, 1), (1, 0), (-1, -1), …
fn family() -> HashFamily {
    HashFamily::new(Tensor::new(&[2, 4], vec![1, 0, 101, 3, 2, 0, 101, 3])).unwrap()
}

fn schema(cardinality: u64) -> Schema {
    let sparse = vec![SparseFeature { name: "s".into(), cardinality }];
    Schema::new(vec!["d".into()], sparse, Default::default()).unwrap()
}

fn clustered(centroids: [f32; 6]) -> Clustered {
    Clustered {
        table: None,
        family: family(),
        transform: Transform::Uniform,
        centroids: Tensor::new(&[3, 2], centroids.to_vec()).into(),
        vectors: Tensor::new(&[3, 1], vec![10.0, 20.0, 30.0]),
    }
}

#[test]
fn an_id_gets_the_vector_of_the_nearest_and_the_first_of_equals() {
    let schema = schema(6);
    let mut program = ProgramBuilder::new(&schema);
    let vectors = clustered([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]).lower(0, &mut program).unwrap();
    assert_eq!(vectors.stored, None);
    let program = program.finish(vectors.computed.unwrap()).unwrap();
    let weights = Some(vec![1.0, 1.0, 1.0, 1.0, 0.5]);
    // Products of id 0 are -1 each, those of id 1 are 1, 0, 0, and those of id 2 are 0, 1, 1.
    let jagged = Jagged { ids: vec![0, 1, 2, 3, 2], lengths: vec![1, 1, 1, 2, 0], weights };
    let batch = BatchShape::new(&schema).from_jagged(vec![0.0; 5], &jagged).unwrap();
    let values = program.interpret_all(&batch).unwrap();
    assert_eq!(values.get(program.logit()), [10.0, 10.0, 20.0, 10.0 + 0.5 * 20.0, 0.0]);
}

#[test]
fn choices_must_be_as_many_as_there_are_to_pick_from() {
    let mut program = ProgramBuilder::new(&schema(6));
    let code = program.hash_encode(0, family(), Transform::Uniform).unwrap();
    for shape in [&[3, 4][..], &[1, 4], &[2], &[2, 2, 1], &[2, 0]] {
        let choices = Tensor::new(shape, vec![0.0; shape.iter().product()]);
        assert!(program.pick_largest(code, choices).is_err(), "{shape:?}");
    }
    assert!(program.pick_largest(code, Tensor::new(&[2, 4], vec![0.0; 8])).is_ok());
}

#[test]
fn it_costs_a_product_with_every_centroid() {
    let cost = clustered([0.0; 6]).cost();
    // Hashes [2, 4] of 8 bytes, centroids [3, 2] and vectors [3, 1] of 4; encoding, products, and the largest of 3.
    assert_eq!(cost, Cost { bytes: 64 + 24 + 12, flops_per_id: 2 * 8 + 2 * 6 + 3 });
}

fn cluster(ids: &[(u64, u64)], centroids: usize) -> Clusters {
    let told = std::sync::atomic::AtomicU64::new(0);
    let tell = |steps| {
        told.fetch_add(steps, std::sync::atomic::Ordering::Relaxed);
    };
    let clusters = Clusters::new(&family(), Transform::Uniform, ids, centroids, &tell);
    assert_eq!(told.into_inner(), steps(ids.len(), centroids));
    clusters
}

#[test]
fn as_many_centroids_as_ids_are_the_ids_codes() {
    let root = 0.5_f32.sqrt();
    let clusters = cluster(&[(1, 9), (0, 2), (2, 0)], 3);
    assert_eq!(clusters.directions().as_slice(), [0.0, 1.0, -root, -root, 1.0, 0.0]);
    let vectors = Tensor::new(&[3, 1], vec![5.0, 6.0, 7.0]);
    assert_eq!(clusters.means(&vectors).as_slice(), [5.0, 6.0, 7.0]);
}

#[test]
fn ids_of_one_code_share_a_centroid_and_count_as_often_as_they_occur() {
    // The first two are the first centroids and have the same code: one of them is left without ids.
    let clusters = cluster(&[(0, 6), (3, 2), (1, 1), (2, 1)], 2);
    let vectors = Tensor::new(&[4, 1], vec![1.0, 5.0, 100.0, 300.0]);
    assert_eq!(clusters.len(), 1, "{clusters:?}");
    let mean = (6.0 * 1.0 + 2.0 * 5.0 + 100.0 + 300.0) / 10.0;
    assert_eq!(clusters.means(&vectors).as_slice(), [mean]);

    // Ids 1 and 2 are nearer to each other than to ids 0 and 3.
    let clusters = cluster(&[(0, 6), (1, 2), (3, 2), (2, 2)], 2);
    let root = 0.5_f32.sqrt();
    let expected = [-root, -root, root, root];
    let directions = clusters.directions();
    let off =
        directions.as_slice().iter().zip(expected).map(|(got, expected)| (got - expected).abs());
    assert!(off.fold(0.0, f32::max) < 1e-6, "{clusters:?}");
    let vectors = Tensor::new(&[4, 1], vec![1.0, 100.0, 5.0, 300.0]);
    assert_eq!(clusters.means(&vectors).as_slice(), [(6.0 + 10.0) / 8.0, 200.0]);
}
