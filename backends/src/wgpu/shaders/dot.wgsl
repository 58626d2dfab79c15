// The first vector, then the products of all pairs below the diagonal, row by row. One thread per sample and value.
// words: samples, vectors, dim, source stride, result offset, result stride, width, with itself

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = element(group, groups, local);
    if (at >= word(0u) * word(6u)) { return; }
    let sample = at / word(6u);
    let column = at % word(6u);
    let dim = word(2u);
    let start = sample * word(3u);
    let place = word(4u) + sample * word(5u) + column;
    if (column < dim) {
        result[place] = source[start + column];
        return;
    }
    var pair = column - dim;
    var left = 0u;
    for (; left < word(1u); left++) {
        let here = left + word(7u);
        if (pair < here) { break; }
        pair -= here;
    }
    var sum = 0.0;
    for (var i = 0u; i < dim; i++) { sum += source[start + left * dim + i] * source[start + pair * dim + i]; }
    result[place] = sum;
}
