// Universal hashes of ids, exact: 64 bits are two words. One thread per id and hash.
// words: ids, hashes, result offset, result stride, where ids are, transform

// x·y, low word first.
fn product(x: u32, y: u32) -> vec2<u32> {
    let low = (x & 0xffffu) * (y & 0xffffu);
    let cross = (x >> 16u) * (y & 0xffffu) + (low >> 16u);
    let other = (x & 0xffffu) * (y >> 16u) + (cross & 0xffffu);
    let high = (x >> 16u) * (y >> 16u) + (cross >> 16u) + (other >> 16u);
    return vec2(x * y, high);
}

fn sum(x: vec2<u32>, y: u32) -> vec2<u32> {
    let low = x.x + y;
    return vec2(low, x.y + select(0u, 1u, low < y));
}

// x mod p for 1 <= p <= 2^31: the remainder is below 2^31, so that it can be doubled.
fn remainder(x: vec2<u32>, p: u32) -> u32 {
    var rest = x.y % p;
    if (rest == 0u) { return x.x % p; }
    for (var bit = 32u; bit > 0u; bit--) {
        rest = (rest << 1u) | ((x.x >> (bit - 1u)) & 1u);
        if (rest >= p) { rest -= p; }
    }
    return rest;
}

fn hash(id: vec2<u32>, at: u32) -> u32 {
    let p = third[4u * at + 2u];
    let residue = remainder(id, p);
    return remainder(sum(product(residue, third[4u * at]), third[4u * at + 1u]), p) % third[4u * at + 3u];
}

fn unit(id: vec2<u32>, at: u32) -> f32 { return f32(hash(id, at) + 1u) / f32(third[4u * at + 3u]); }

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let thread = element(group, groups, local);
    if (thread >= word(0u) * word(1u)) { return; }
    let row = thread / word(1u);
    let at = thread % word(1u);
    let id = vec2(batch[word(4u) + 2u * row], batch[word(4u) + 2u * row + 1u]);
    let place = word(2u) + row * word(3u) + at;
    if (word(5u) == 0u) {
        result[place] = f32(hash(id, at)) / f32(third[4u * at + 3u] - 1u) * 2.0 - 1.0;
        return;
    }
    // Box and Muller: the first of a pair gives the radius, the second the angle.
    let pair = at - at % 2u;
    let radius = sqrt(-2.0 * log(unit(id, pair)));
    let angle = 6.283185307179586 * unit(id, pair + 1u);
    result[place] = radius * select(sin(angle), cos(angle), at % 2u == 0u);
}
