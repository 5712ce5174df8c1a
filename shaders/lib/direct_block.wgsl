// direct_block: the products of MR rows with NR columns of each lane in registers, for matmul_direct and lm_head.
// Every weight vector is reused MR times and every activation vector, the same for all lanes, NR times. Uses MR, NR,
// BARRIER, `weights8` and `activations(i)`, four inner elements, of the kernel. Adds in order of k.

// The sums. Loops that drivers do not unroll may pick from these, but not from the ones of the loop over k: an array
// that is indexed by a variable anywhere lives in memory everywhere.
var<private> block: array<array<f32, NR>, MR>;

// `x_at`: where the rows begin, in fours of elements; `w_at`: where the columns of this lane begin.
fn multiply(x_at: array<u32, MR>, w_at: array<u32, NR>, k: u32, k8: u32) {
    var acc: array<array<f32, NR>, MR>;
    for (var i = 0u; i < k8; i++) {
        var wk: array<Weights8, NR>;
        for (var c = 0u; c < NR; c++) { // @unroll
            wk[c] = weights8(w_at[c], i, k);
        }
        for (var r = 0u; r < MR; r++) { // @unroll
            let lo = activations(x_at[r] + 2u * i);
            let hi = activations(x_at[r] + 2u * i + 1u);
            for (var c = 0u; c < NR; c++) { // @unroll
                var sum = acc[r][c];
                sum = fma(lo.x, wk[c].lo.x, sum);
                sum = fma(lo.y, wk[c].lo.y, sum);
                sum = fma(lo.z, wk[c].lo.z, sum);
                sum = fma(lo.w, wk[c].lo.w, sum);
                sum = fma(hi.x, wk[c].hi.x, sum);
                sum = fma(hi.y, wk[c].hi.y, sum);
                sum = fma(hi.z, wk[c].hi.z, sum);
                sum = fma(hi.w, wk[c].hi.w, sum);
                acc[r][c] = sum;
            }
        }
    }
    // Not needed; but with it recent Mesas keep the sums of a tall block in registers.
    if (BARRIER == 1u) { workgroupBarrier(); }
    for (var r = 0u; r < MR; r++) { // @unroll
        for (var c = 0u; c < NR; c++) { // @unroll
            block[r][c] = acc[r][c];
        }
    }
}
