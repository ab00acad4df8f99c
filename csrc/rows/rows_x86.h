/* How 256 bits end a row: f_low and f_high are lanes 0..7 and 8..15. */

INLINE float tree_sum(floats v)
{
    const __m256 eight = _mm256_add_ps(f_low(v), f_high(v));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float tree_max(floats v)
{
    const __m256 eight = _mm256_max_ps(f_low(v), f_high(v));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
