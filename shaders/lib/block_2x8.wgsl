// block_2x8: 2 x 8 cooperative matrices to a workgroup of four subgroups, for the few rows of
// a block step: many weights are under way, each used twice.
const ROW_TILES: u32 = 2u;   // matrices of a subgroup, down
const COL_TILES: u32 = 2u;   // and across
const ACROSS: u32 = 4u;      // subgroups side by side
const K_STEP: u32 = 64u;     // inner elements staged at a time
