// coop_8: cooperative matrices of 8 x 8, the size of Apple's and of Mesa's software adapter.
// @needs cooperative_matrix_8
const EDGE: u32 = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
