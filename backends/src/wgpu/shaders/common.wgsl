// What every shader is bound to, and how threads find their element. Words of `step` are named by each shader.
struct Step { words: array<vec4<u32>, 4> }

@group(0) @binding(0) var<uniform> step_words: Step;
// A value of the program.
@group(0) @binding(1) var<storage, read> source: array<f32>;
// Parameters, or a second value of the program.
@group(0) @binding(2) var<storage, read> second: array<u32>;
@group(0) @binding(3) var<storage, read> third: array<u32>;
// The batch: dense values, and of each feature offsets, ids, rows and weights.
@group(0) @binding(4) var<storage, read> batch: array<u32>;
@group(0) @binding(5) var<storage, read_write> result: array<f32>;

const NONE = 0xffffffffu;

fn word(at: u32) -> u32 { return step_words.words[at / 4u][at % 4u]; }

// Workgroups beyond one dimension's limit go on in the next.
fn element(group: vec3<u32>, groups: vec3<u32>, local: u32) -> u32 {
    return (group.y * groups.x + group.x) * 64u + local;
}

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }

fn activate(x: f32, kind: u32) -> f32 {
    switch kind {
        // max() may drop a NaN.
        case 1u: { return select(x, 0.0, x < 0.0); }
        case 2u: { return sigmoid(x); }
        case 3u: {
            if (x > 20.0) { return x; }
            // tanh(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2)
            let e = exp(x);
            let both = e * (e + 2.0);
            return x * (both / (both + 2.0));
        }
        default: { return x; }
    }
}
