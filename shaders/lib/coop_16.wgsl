// coop_16: cooperative matrices of 16 x 16, the size of NVIDIA's and AMD's matrix units.
// @needs cooperative_matrix_16
const EDGE: u32 = 16u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
