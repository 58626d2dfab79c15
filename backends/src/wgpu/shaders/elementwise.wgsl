// One value from one or two. One thread per row and column.
// words: rows, width, source offset, source stride, result offset, result stride, kind, other offset, other stride, count

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = element(group, groups, local);
    let width = word(1u);
    if (at >= word(0u) * width) { return; }
    let row = at / width;
    let column = at % width;
    let x = source[word(2u) + row * word(3u) + column];
    let place = word(4u) + row * word(5u) + column;
    let other = word(7u) + row * word(8u) + column;
    var value = x;
    switch word(6u) {
        case 1u: { value = x * bitcast<f32>(second[other]); }
        case 2u: { value = x + bitcast<f32>(second[other]); }
        // A scale and a shift per column.
        case 3u: { value = x * bitcast<f32>(third[column]) + bitcast<f32>(third[width + column]); }
        case 4u: { value = result[place] + x; }
        case 5u: { value = result[place] / f32(word(9u)); }
        case 6u: { value = sigmoid(x); }
        default: {}
    }
    result[place] = value;
}
