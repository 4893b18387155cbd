/* Quantiser and rANS of one tensor, without Python: what `_rans.c` wraps, and what a fuzzer can call by itself.
 *
 * Range asymmetric numeral systems (Duda, arXiv:1311.2540) with byte-wise renormalisation, after Giesen's public-domain
 * ryg_rans. `rans_python.py` is the same, to read first. Only IEEE single operations touch the levels, each rounded by
 * itself: compile with -ffp-contract=off. Every array of a Coder is as its comment says, or memory is not safe. */
#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16 is about _Float16 alone */
#error "float operations here are rounded otherwise than to float; the Python code takes over"
#endif

#define PRECISION 15
#define TOTAL (1u << PRECISION)
#define LOWER (1u << 24)
#define START (1u << 16)
#define CELLS 256 /* equal parts of [0, TOTAL), each with the first symbol that reaches into it */
#define MIX 40503u
#define TOP 32767.0f
#define SPARE 4 /* bytes of a payload beyond four a value: the state after the last one */

typedef struct {
    uint64_t reciprocal; /* ceil(2**(32 + PRECISION) / frequency): exact for every state below `limit` */
    uint32_t limit;      /* states from here on give a byte away first */
    uint16_t start, gap; /* gap = TOTAL - frequency */
} Symbol;

typedef struct {
    uint32_t first, escape; /* index of the first symbol; number of the escape, the last one */
    int32_t low;            /* value of the first symbol */
} Table;

typedef struct {
    ptrdiff_t count, table_count;
    uint16_t *index;                             /* [count], each < table_count */
    Table *tables;                               /* [table_count] */
    Symbol *symbols;                             /* of each table by number, and one whose start is TOTAL */
    uint16_t *cells;                             /* [table_count][CELLS] */
    float *inverse_step, *offset, *step, *shift; /* [count]; offset in [0, 1) */
    int16_t *levels;                             /* [count], scratch */
    uint8_t *payload;                            /* [4 * count + SPARE], scratch */
} Coder;

/* ---- levels ---- */

static void quantise(Coder *coder, const char *values)
{
    int16_t *restrict levels = coder->levels;
    const float *restrict inverse_step = coder->inverse_step, *restrict offset = coder->offset;
    for (ptrdiff_t i = 0; i < coder->count; i++) {
        float value;
        memcpy(&value, values + 4 * i, 4);
        float scaled = value * inverse_step[i];
        float size = (scaled < 0 ? -scaled : scaled) + offset[i];
        int32_t level = (int32_t)(size < TOP ? size : TOP);
        level = scaled == scaled ? level : 0;
        levels[i] = (int16_t)(scaled < 0 ? -level : level);
    }
}

static void clip(Coder *coder, const char *values)
{
    int16_t *restrict levels = coder->levels;
    for (ptrdiff_t i = 0; i < coder->count; i++) {
        int32_t value;
        memcpy(&value, values + 4 * i, 4);
        value = value < -32768 ? -32768 : value;
        levels[i] = (int16_t)(value > 32767 ? 32767 : value);
    }
}

static void reconstruct(const Coder *coder, float *restrict values)
{
    const float *restrict step = coder->step, *restrict shift = coder->shift;
    for (ptrdiff_t i = 0; i < coder->count; i++) {
        float level = coder->levels[i];
        float sign = level > 0 ? 1.0f : level < 0 ? -1.0f : 0.0f;
        values[i] = (level + sign * shift[i]) * step[i];
    }
}

static void widen(const Coder *coder, int32_t *restrict values)
{
    for (ptrdiff_t i = 0; i < coder->count; i++)
        values[i] = coder->levels[i];
}

static uint32_t checksum(const int16_t *levels, ptrdiff_t count)
{
    uint16_t sum = 0;
    for (ptrdiff_t i = 0; i < count; i++)
        sum = (uint16_t)(sum + (uint16_t)((uint32_t)(uint16_t)levels[i] * (uint16_t)((2 * (uint32_t)i + 1) * MIX)));
    return sum;
}

/* ---- rANS ---- */

/* Writes backwards from `out`, at most four bytes a value and SPARE; returns the first byte. */
static uint8_t *put(const Coder *coder, uint8_t *out)
{
    uint32_t state = START + checksum(coder->levels, coder->count);
    for (ptrdiff_t i = coder->count; i-- > 0;) {
        int32_t level = coder->levels[i];
        const Table *table = coder->tables + coder->index[i];
        uint32_t number = (uint32_t)(level - table->low);
        if (number >= table->escape) {
            uint32_t code = level < 0 ? ~((uint32_t)level << 1) : (uint32_t)level << 1;
            number = table->escape;
            for (int part = 8; part >= 0; part -= 8) {
                if (state >= LOWER) {
                    *--out = (uint8_t)state;
                    state >>= 8;
                }
                state = state << 8 | (code >> part & 255);
            }
        }
        const Symbol *symbol = coder->symbols + table->first + number;
        while (state >= symbol->limit) {
            *--out = (uint8_t)state;
            state >>= 8;
        }
        state += symbol->start + (uint32_t)(state * symbol->reciprocal >> (32 + PRECISION)) * symbol->gap;
    }
    for (; state; state >>= 8)
        *--out = (uint8_t)state;
    return out;
}

typedef struct {
    uint32_t state;
    const uint8_t *next, *end;
} Source;

static inline void refill(Source *source)
{
    while (source->state < LOWER && source->next < source->end)
        source->state = source->state << 8 | *source->next++;
}

/* The level behind an escape; one that has a symbol of its own is refused by a state that no encoder ends in. */
static int32_t take_escaped(Source *source, const Table *table)
{
    uint32_t code = 0;
    for (int part = 0; part <= 8; part += 8) {
        code |= (source->state & 255) << part;
        source->state >>= 8;
        refill(source);
    }
    int32_t level = code & 1 ? -(int32_t)(code >> 1) - 1 : (int32_t)(code >> 1);
    if ((uint32_t)(level - table->low) < table->escape)
        *source = (Source){0};
    return level;
}

/* Number of values until the payload ran dry: `count` when it holds them all. Fails later for a wrong last state. */
static ptrdiff_t take(Coder *coder, Source *source)
{
    refill(source);
    for (ptrdiff_t i = 0; i < coder->count; i++) {
        if (source->state < START)
            return i;
        uint32_t which = coder->index[i];
        uint32_t slot = source->state & (TOTAL - 1);
        const Table *table = coder->tables + which;
        const Symbol *first = coder->symbols + table->first;
        const Symbol *symbol = first + coder->cells[which * CELLS + slot / (TOTAL / CELLS)];
        while (slot >= symbol[1].start)
            symbol++;
        source->state = (TOTAL - symbol->gap) * (source->state >> PRECISION) + slot - symbol->start;
        refill(source);
        uint32_t number = (uint32_t)(symbol - first);
        int32_t level = number == table->escape ? take_escaped(source, table) : table->low + (int32_t)number;
        coder->levels[i] = (int16_t)level;
    }
    return coder->count;
}
