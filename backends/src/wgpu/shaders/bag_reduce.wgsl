// Sum of the rows of each bag's ids. One thread per sample and column.
// words: samples, width, result offset, result stride, offsets, source offset, source stride, weights

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
    var sum = 0.0;
    let end = batch[word(4u) + sample + 1u];
    for (var id = batch[word(4u) + sample]; id < end; id++) {
        var weight = 1.0;
        if (word(7u) != NONE) { weight = bitcast<f32>(batch[word(7u) + id]); }
        sum += weight * source[word(5u) + id * word(6u) + column];
    }
    result[word(2u) + sample * word(3u) + column] = sum;
}
