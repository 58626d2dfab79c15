// Sum of the rows of each bag's ids. One thread per sample and column. The source has the rows of some ids only, those from
// `first id` on; the sums of earlier ones are in the result already.
// words: samples, width, result offset, result stride, offsets, source offset, source stride, weights, first id, ids here

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = element(group, groups, local);
    if (at >= word(0u) * word(1u)) { return; }
    let sample = at / word(1u);
    let column = at % word(1u);
    let place = word(2u) + sample * word(3u) + column;
    let first = word(8u);
    var sum = 0.0;
    if (first > 0u) { sum = result[place]; }
    let end = min(batch[word(4u) + sample + 1u], first + word(9u));
    for (var id = max(batch[word(4u) + sample], first); id < end; id++) {
        var weight = 1.0;
        if (word(7u) != NONE) { weight = bitcast<f32>(batch[word(7u) + id]); }
        sum += weight * source[word(5u) + (id - first) * word(6u) + column];
    }
    result[place] = sum;
}
