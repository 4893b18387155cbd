/* The arithmetic of `schemas.codecs.transform`: every sum is taken in one order, the one `transform_python` takes, and
 * no multiply-add is fused, so that every machine gets the same floats. Vectors run across results, never across the
 * terms of a sum. */
#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16 is about _Float16 alone */
#error "float operations here are rounded otherwise than to float; the Python code takes over"
#endif

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDER __attribute__((target_clones("avx2", "default")))
#define PART static inline __attribute__((always_inline)) /* or it would be compiled for the default alone */
#else
#define WIDER
#define PART static inline
#endif

enum { CHANNELS, HEIGHT, WIDTH, ROWS, COLUMNS, BANDS, COMPONENTS, SIZES };

typedef struct {
    ptrdiff_t size[SIZES];
    ptrdiff_t count;                           /* values coded: the sum of `kept` */
    float *mean, *rows, *columns;              /* [C], [U, ceil(H / 2)], [V, ceil(W / 2)] */
    float *forward, *inverse;                  /* [B, C, K], [B, K, C] */
    uint8_t *band;                             /* [U, V] */
    uint16_t *kept;                            /* [U, V] */
    float *grid, *middle, *frequency;          /* scratch: [H, W, C], [H, W, C], [U, V, C] */
    float *even, *odd;                         /* scratch: [ceil(H / 2), W, C] each, or a row of it */
    float *mixed;                              /* scratch: [K] */
    ptrdiff_t rows_used;                       /* up to the last row that keeps anything, */
    ptrdiff_t *columns_used;                   /* and in each row up to the last such column: [U] */
} Plan;

/* Eight floats at any address; a compiler without registers that wide takes two or eight. */
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

/* out[j] = sum over i of a[i * stride] * b[i, j], in the order of i, for 8 * EIGHTS neighbours j. */
#define DOT(EIGHTS)                                                                                                    \
    PART void dot_##EIGHTS(float *restrict out, const float *a, ptrdiff_t stride, const float *restrict b,             \
                           ptrdiff_t ldb, ptrdiff_t terms)                                                             \
    {                                                                                                                  \
        Eight sums[EIGHTS] = {{0}};                                                                                    \
        for (ptrdiff_t i = 0; i < terms; i++) {                                                                        \
            const Eight *row = (const Eight *)(b + i * ldb);                                                           \
            _Pragma("GCC unroll 4") for (int j = 0; j < EIGHTS; j++) sums[j] += a[i * stride] * row[j];                \
        }                                                                                                              \
        _Pragma("GCC unroll 4") for (int j = 0; j < EIGHTS; j++)((Eight *)out)[j] = sums[j];                           \
    }
DOT(4)
DOT(3)
DOT(2)
DOT(1)

PART float dot(const float *a, ptrdiff_t stride, const float *b, ptrdiff_t ldb, ptrdiff_t terms)
{
    float sum = 0;
    for (ptrdiff_t i = 0; i < terms; i++)
        sum += a[i * stride] * b[i * ldb];
    return sum;
}

/* The same for j below n, in pieces that keep several sums under way at once. */
PART void dot_row(float *restrict out, const float *a, ptrdiff_t stride, const float *restrict b, ptrdiff_t ldb,
                           ptrdiff_t terms, ptrdiff_t n)
{
    ptrdiff_t wide;
    for (ptrdiff_t j = 0; j < n; j += wide) {
        const ptrdiff_t eights = (n - j) / 8;
        wide = eights >= 7 || eights == 4 ? 32 : eights >= 3 ? 24 : eights ? 8 * eights : 1;
        if (wide == 32)
            dot_4(out + j, a, stride, b + j, ldb, terms);
        else if (wide == 24)
            dot_3(out + j, a, stride, b + j, ldb, terms);
        else if (wide == 16)
            dot_2(out + j, a, stride, b + j, ldb, terms);
        else if (wide == 8)
            dot_1(out + j, a, stride, b + j, ldb, terms);
        else
            out[j] = dot(a, stride, b + j, ldb, terms);
    }
}

/* even = front + back and odd = front - back, line by line, for lines of n values; the middle one of an odd number of
 * lines is even alone. */
PART void fold(float *restrict even, float *restrict odd, const float *restrict x, ptrdiff_t lines, ptrdiff_t n)
{
    for (ptrdiff_t line = 0; line < lines / 2; line++) {
        const float *front = x + line * n, *back = x + (lines - 1 - line) * n;
        for (ptrdiff_t j = 0; j < n; j++) {
            even[line * n + j] = front[j] + back[j];
            odd[line * n + j] = front[j] - back[j];
        }
    }
    if (lines % 2)
        memcpy(even + lines / 2 * n, x + lines / 2 * n, n * sizeof *x);
}

/* The inverse of `fold` up to a factor. */
PART void unfold(float *restrict x, const float *restrict even, const float *restrict odd, ptrdiff_t lines,
                          ptrdiff_t n)
{
    for (ptrdiff_t line = 0; line < lines / 2; line++) {
        float *front = x + line * n, *back = x + (lines - 1 - line) * n;
        for (ptrdiff_t j = 0; j < n; j++) {
            front[j] = even[line * n + j] + odd[line * n + j];
            back[j] = even[line * n + j] - odd[line * n + j];
        }
    }
    if (lines % 2)
        memcpy(x + lines / 2 * n, even + lines / 2 * n, n * sizeof *x);
}

/* DCT along the first axis of x [lines, n]: out [wanted, n], basis [wanted, half]. */
PART void analyse(const Plan *plan, float *out, const float *x, const float *basis, ptrdiff_t wanted,
                           ptrdiff_t lines, ptrdiff_t n)
{
    const ptrdiff_t half = (lines + 1) / 2;
    fold(plan->even, plan->odd, x, lines, n);
    for (ptrdiff_t u = 0; u < wanted; u++)
        dot_row(out + u * n, basis + u * half, 1, u % 2 ? plan->odd : plan->even, n, u % 2 ? lines / 2 : half, n);
}

/* Its inverse: y [wanted, n] to x [lines, n]. */
PART void synthesise(const Plan *plan, float *x, const float *y, const float *basis, ptrdiff_t wanted,
                              ptrdiff_t lines, ptrdiff_t n)
{
    const ptrdiff_t half = (lines + 1) / 2;
    for (ptrdiff_t line = 0; line < half; line++)
        dot_row(plan->even + line * n, basis + line, 2 * half, y, 2 * n, (wanted + 1) / 2, n);
    for (ptrdiff_t line = 0; line < lines / 2; line++)
        dot_row(plan->odd + line * n, basis + half + line, 2 * half, y + n, 2 * n, wanted / 2, n);
    unfold(x, plan->even, plan->odd, lines, n);
}

/* x [C, H, W] to y [count]. */
WIDER static void forward(const Plan *plan, const float *restrict x, float *restrict y)
{
    const ptrdiff_t *size = plan->size, channels = size[CHANNELS], places = size[HEIGHT] * size[WIDTH];
    const ptrdiff_t line = size[WIDTH] * channels, kept_line = size[COLUMNS] * channels;
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t place = 0; place < places; place++)
            plan->grid[place * channels + c] = x[c * places + place] - plan->mean[c];
    analyse(plan, plan->middle, plan->grid, plan->rows, plan->rows_used, size[HEIGHT], line);
    for (ptrdiff_t u = 0; u < plan->rows_used; u++)
        analyse(plan, plan->frequency + u * kept_line, plan->middle + u * line, plan->columns, plan->columns_used[u],
                size[WIDTH], channels);
    for (ptrdiff_t f = 0; f < size[ROWS] * size[COLUMNS]; f++) {
        const float *matrix = plan->forward + plan->band[f] * channels * size[COMPONENTS];
        const ptrdiff_t kept = plan->kept[f], eights = (kept + 7) / 8 * 8;
        const ptrdiff_t mixed = eights < size[COMPONENTS] ? eights : size[COMPONENTS];
        dot_row(plan->mixed, plan->frequency + f * channels, 1, matrix, size[COMPONENTS], channels, kept ? mixed : 0);
        memcpy(y, plan->mixed, kept * sizeof *y);
        y += kept;
    }
}

/* sums[j] += the kept components of one frequency; a component that is 0 adds nothing and costs nothing. */
PART void mix_back(float *restrict sums, const float *y, const float *matrix, ptrdiff_t kept, ptrdiff_t channels)
{
    memset(sums, 0, channels * sizeof *sums);
    for (ptrdiff_t k = 0; k < kept; k++) {
        const float scale = y[k], *restrict row = matrix + k * channels;
        if (scale != 0)
            for (ptrdiff_t c = 0; c < channels; c++)
                sums[c] += scale * row[c];
    }
}

/* y [count] to x [C, H, W]. */
WIDER static void inverse(const Plan *plan, const float *restrict y, float *restrict x)
{
    const ptrdiff_t *size = plan->size, channels = size[CHANNELS], places = size[HEIGHT] * size[WIDTH];
    const ptrdiff_t line = size[WIDTH] * channels, kept_line = size[COLUMNS] * channels;
    for (ptrdiff_t f = 0; f < size[ROWS] * size[COLUMNS]; f++) {
        const float *matrix = plan->inverse + plan->band[f] * size[COMPONENTS] * channels;
        mix_back(plan->frequency + f * channels, y, matrix, plan->kept[f], channels);
        y += plan->kept[f];
    }
    for (ptrdiff_t u = 0; u < plan->rows_used; u++)
        synthesise(plan, plan->middle + u * line, plan->frequency + u * kept_line, plan->columns, plan->columns_used[u],
                   size[WIDTH], channels);
    synthesise(plan, plan->grid, plan->middle, plan->rows, plan->rows_used, size[HEIGHT], line);
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t place = 0; place < places; place++)
            x[c * places + place] = plan->grid[place * channels + c] + plan->mean[c];
}
