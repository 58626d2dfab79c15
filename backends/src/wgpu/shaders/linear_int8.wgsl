// Layers of 8-bit weights over rows that `quantise` made: sums of integers, exact. In tiles of 16 rows and 16 outputs.
// words: rows, inputs, outputs, source stride, result offset, result stride, activation
// second: codes, four to a word; third: scales, then biases
var<workgroup> inputs: array<array<i32, 17>, 16>;
var<workgroup> weights: array<array<i32, 17>, 16>;

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row = group.y * 16u + local.y;
    let output = group.x * 16u + local.x;
    let width = word(1u);
    var sum = 0;
    for (var tile = 0u; tile < width; tile += 16u) {
        let input = tile + local.x;
        var x = 0;
        if (row < word(0u) && input < width) { x = i32(source[row * word(3u) + input]); }
        inputs[local.y][local.x] = x;
        let mine = group.x * 16u + local.y;
        var w = 0;
        if (mine < word(2u) && input < width) {
            let at = mine * width + input;
            w = extractBits(bitcast<i32>(second[at / 4u]), 8u * (at % 4u), 8u);
        }
        weights[local.y][local.x] = w;
        workgroupBarrier();
        let most = min(16u, width - tile);
        for (var at = 0u; at < most; at++) { sum += inputs[local.y][at] * weights[local.x][at]; }
        workgroupBarrier();
    }
    if (row < word(0u) && output < word(2u)) {
        let step = source[row * word(3u) + width];
        let factor = step * bitcast<f32>(third[output]);
        let value = f32(sum) * factor + bitcast<f32>(third[word(2u) + output]);
        result[word(4u) + row * word(5u) + output] = activate(value, word(6u));
    }
}
