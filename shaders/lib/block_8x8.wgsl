// block_8x8: 8 x 8 cooperative matrices to a workgroup of four subgroups, for many rows: each
// staged element is used by four matrices of a subgroup.
const ROW_TILES: u32 = 4u;   // matrices of a subgroup, down
const COL_TILES: u32 = 4u;   // and across
const ACROSS: u32 = 2u;      // subgroups side by side
const K_STEP: u32 = 32u;     // inner elements staged at a time
