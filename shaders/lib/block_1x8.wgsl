// block_1x8: 1 x 8 cooperative matrices to a workgroup of four subgroups, for rows up to one
// matrix: all time goes into reading weights, of which many are under way.
const ROW_TILES: u32 = 1u;   // matrices of a subgroup, down
const COL_TILES: u32 = 2u;   // and across
const ACROSS: u32 = 4u;      // subgroups side by side
const K_STEP: u32 = 64u;     // inner elements staged at a time
