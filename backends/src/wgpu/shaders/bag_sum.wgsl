// Sum of the rows of each bag that lie in this part of the table. One thread per sample and column.
// words: samples, dim, result offset, result stride, offsets, rows, weights, first row, rows here, format, bytes per row, add

fn byte(at: u32) -> u32 { return (second[at / 4u] >> (8u * (at % 4u))) & 255u; }
fn half(at: u32) -> f32 { return unpack2x16float(byte(at) | (byte(at + 1u) << 8u)).x; }

fn value(row: u32, column: u32) -> f32 {
    let at = row * word(1u) + column;
    switch word(9u) {
        case 0u: { return bitcast<f32>(second[at]); }
        case 1u: { return unpack2x16float(second[at / 2u])[at % 2u]; }
        case 2u: { return bitcast<f32>((second[at / 2u] >> (16u * (at % 2u))) << 16u); }
        default: {
            let start = row * word(10u);
            let tail = start + word(10u) - 4u;
            var code = 0u;
            if (word(9u) == 3u) { code = byte(start + column); }
            else { code = (byte(start + column / 2u) >> (4u * (column % 2u))) & 15u; }
            return half(tail) * f32(code) + half(tail + 2u);
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = element(group, groups, local);
    let dim = word(1u);
    if (at >= word(0u) * dim) { return; }
    let sample = at / dim;
    let column = at % dim;
    let place = word(2u) + sample * word(3u) + column;
    var sum = 0.0;
    if (word(11u) == 1u) { sum = result[place]; }
    let end = batch[word(4u) + sample + 1u];
    for (var id = batch[word(4u) + sample]; id < end; id++) {
        let row = batch[word(5u) + id];
        if (row < word(7u) || row - word(7u) >= word(8u)) { continue; }
        var weight = 1.0;
        if (word(6u) != NONE) { weight = bitcast<f32>(batch[word(6u) + id]); }
        sum += weight * value(row - word(7u), column);
    }
    result[place] = sum;
}
