// activation(source · weightᵀ + bias), in tiles of 16 rows and 16 outputs.
// words: rows, inputs, outputs, source offset, source stride, result offset, result stride, activation, bits of weights
var<workgroup> inputs: array<array<f32, 17>, 16>;
var<workgroup> weights: array<array<f32, 17>, 16>;

// To the nearest bf16, ties to even; what is not finite stays so.
fn rounded(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) { return x; }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row = group.y * 16u + local.y;
    let output = group.x * 16u + local.x;
    let width = word(1u);
    let narrow = word(8u) == 16u;
    var sum = 0.0;
    for (var tile = 0u; tile < width; tile += 16u) {
        let input = tile + local.x;
        var x = 0.0;
        if (row < word(0u) && input < width) { x = source[word(3u) + row * word(4u) + input]; }
        if (narrow) { x = rounded(x); }
        inputs[local.y][local.x] = x;
        // Neighbours in x read neighbours of one output's weights.
        let mine = group.x * 16u + local.y;
        var w = 0.0;
        if (mine < word(2u) && input < width) {
            let at = mine * width + input;
            if (narrow) { w = bitcast<f32>((second[at / 2u] >> (16u * (at % 2u))) << 16u); }
            else { w = bitcast<f32>(second[at]); }
        }
        weights[local.y][local.x] = w;
        workgroupBarrier();
        let most = min(16u, width - tile);
        for (var at = 0u; at < most; at++) { sum += inputs[local.y][at] * weights[local.x][at]; }
        workgroupBarrier();
    }
    if (row < word(0u) && output < word(2u)) {
        let value = sum + bitcast<f32>(third[output]);
        result[word(5u) + row * word(6u) + output] = activate(value, word(7u));
    }
}
