// block_4x4: 4 x 4 cooperative matrices to a workgroup of four subgroups, for some dozens of
// rows, or few columns.
const ROW_TILES: u32 = 2u;   // matrices of a subgroup, down
const COL_TILES: u32 = 2u;   // and across
const ACROSS: u32 = 2u;      // subgroups side by side
const K_STEP: u32 = 32u;     // inner elements staged at a time
