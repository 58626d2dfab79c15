// Rows of inputs to 8-bit codes less that of zero, as `representations::quant` defines them. One workgroup per row.
// words: rows, inputs, source offset, source stride, result stride: inputs, then the step
var<workgroup> lows: array<f32, 64>;
var<workgroup> highs: array<f32, 64>;
var<workgroup> odd: array<u32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.y * groups.x + group.x;
    let width = word(1u);
    let start = word(2u) + row * word(3u);
    let known = row < word(0u);
    var low = 0.0;
    var high = 0.0;
    var strange = 0u;
    if (known) {
        for (var at = local; at < width; at += 64u) {
            let x = source[start + at];
            low = min(low, x);
            high = max(high, x);
            if ((bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u) { strange = 1u; }
        }
    }
    lows[local] = low;
    highs[local] = high;
    odd[local] = strange;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half /= 2u) {
        if (local < half) {
            lows[local] = min(lows[local], lows[local + half]);
            highs[local] = max(highs[local], highs[local + half]);
            odd[local] |= odd[local + half];
        }
        workgroupBarrier();
    }
    if (!known) { return; }
    low = lows[0];
    let range = highs[0] - low;
    var step = range / 255.0;
    var inverse = 0.0;
    let out = row * word(4u);
    if (step < 1.1754944e-38) { step = 0.0; } else { inverse = 1.0 / step; }
    let zero = clamp(round(-low * inverse), 0.0, 255.0);
    let broken = odd[0] != 0u || (bitcast<u32>(range) & 0x7f800000u) == 0x7f800000u;
    for (var at = local; at < width; at += 64u) {
        var code = clamp(round(source[start + at] * inverse) + zero, 0.0, 255.0) - zero;
        if (broken) { code = 0.0; }
        result[out + at] = code;
    }
    // An infinite step times a sum of 0 is NaN, as it should be, and so is what follows.
    if (local == 0u) { result[out + width] = select(step, bitcast<f32>(word(5u)), broken); }
}
