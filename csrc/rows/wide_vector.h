/* Several vectors that take each step together, where a chain of operations would wait for itself; included by
   rows_vector.h. The file that defines `floats` defines WIDE, how many there are. */
typedef struct {
    floats v[WIDE];
} wide;

/* For i = 0 .. WIDE - 1. */
#define EACH(expression)                                                                                               \
    do {                                                                                                               \
        UNROLL                                                                                                         \
        for (size_t i = 0; i < WIDE; i++)                                                                              \
            expression;                                                                                                \
    } while (0)

/* The row that vector i belongs to; where rows are fewer, the last stands in, which must then do no harm. */
INLINE size_t row_together(size_t rows, size_t first, size_t i)
{
    return first + i < rows ? first + i : rows - 1;
}
