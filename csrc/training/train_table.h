/* The table of one target's training kernels, TABLE. */
const struct train_kernels TABLE = {
    gelu,          multiply, add_bias,     softmax_rows, softmax_backward, layernorm_rows, layernorm_backward,
    fake_quantize, round_to, ternary_rows, products,     adamw,            lamb,           sum_of_squares,
};
