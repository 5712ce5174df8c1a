// shuffle_block: the products of 8 GROUPS rows with four columns of each lane, for matmul_shuffle and lm_head_shuffle.
// Uses GROUPS (1, 2 or 4), `weights8` and `activations(i)`, four inner elements, of the kernel. Adds in order of k.
// @use shuffle

// The sums: row 8 g + r is block[g][r]. Here loops that drivers do not unroll may pick them.
var<private> block: array<Rows8, GROUPS>;

// `x_at`: where the rows begin that this lane reads, one of each group; `w_at`: where its columns begin.
fn multiply(x_at: vec4<u32>, w_at: vec4<u32>, k: u32, k8: u32) {
    var sums0: Rows8;
    var sums1: Rows8;
    var sums2: Rows8;
    var sums3: Rows8;
    for (var i = 0u; i < k8; i++) {
        let c0 = weights8(w_at.x, i, k);
        let c1 = weights8(w_at.y, i, k);
        let c2 = weights8(w_at.z, i, k);
        let c3 = weights8(w_at.w, i, k);
        let lo = transpose(mat4x4<f32>(c0.lo, c1.lo, c2.lo, c3.lo));
        let hi = transpose(mat4x4<f32>(c0.hi, c1.hi, c2.hi, c3.hi));
        add_products(&sums0, activations(x_at.x + 2u * i), lo);
        add_products(&sums0, activations(x_at.x + 2u * i + 1u), hi);
        if (GROUPS > 1u) {
            add_products(&sums1, activations(x_at.y + 2u * i), lo);
            add_products(&sums1, activations(x_at.y + 2u * i + 1u), hi);
        }
        if (GROUPS > 2u) {
            add_products(&sums2, activations(x_at.z + 2u * i), lo);
            add_products(&sums2, activations(x_at.z + 2u * i + 1u), hi);
            add_products(&sums3, activations(x_at.w + 2u * i), lo);
            add_products(&sums3, activations(x_at.w + 2u * i + 1u), hi);
        }
    }
    block[0] = sums0;
    if (GROUPS > 1u) { block[1u % GROUPS] = sums1; }
    if (GROUPS > 2u) {
        block[2u % GROUPS] = sums2;
        block[3u % GROUPS] = sums3;
    }
}
